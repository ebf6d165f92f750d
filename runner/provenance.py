"""Provenance: everything besides the spec that a run's figures depend on, or that finds it again.

Nothing here says who ran it: no host name, no user name, paths as seen from the working folder or from ``~``.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from specs.language.results import ModelFacts

__all__ = ["collect", "git_state", "machine", "shown", "shown_path", "versions"]

LIBRARIES = (
    "run-spec",
    "torch",
    "transformers",
    "nnsight",
    "tokenizers",
    "safetensors",
    "gguf",
    "numpy",
    "scipy",
    "pyarrow",
    "mlflow",
    "altair",
    "pydantic",
    "jinja2",
)
SOURCE = Path(__file__).resolve().parents[1]
_GIT_SECONDS = 20


def collect(
    *,
    spec_files: Sequence[Path],
    spec_hash: str,
    overrides: Sequence[str],
    seed: int,
    started: datetime,
    finished: datetime | None = None,
    model: ModelFacts | None = None,
    device_reason: str = "",
    file_hashes: Mapping[str, str] | None = None,
    tokenizer_hash: str = "",
    remarks: Sequence[str] = (),
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Gather the provenance of a run as a JSON document.

    ``spec_files``: the spec first, then what it extends and reads. ``overrides``: as given to ``--set``.
    ``file_hashes``: sha256 of the model's files, by name. ``command``: the command line (default: this
    process's). ``started`` and ``finished`` (default: now) must know their time zone; UTC is written.
    """
    finished = finished or datetime.now(UTC)
    document: dict[str, Any] = {
        "started": _utc(started),
        "finished": _utc(finished),
        "command": _command(sys.argv if command is None else command),
        "spec": {
            "hash": spec_hash,
            "files": {shown_path(path): _sha256(path) for path in spec_files},
            "overrides": [shown(text) for text in overrides],
        },
        "seed": seed,
        "git": {"spec": git_state(spec_files[0]) if spec_files else {"reason": "the spec is no file"}}
        | {"run-spec": git_state(Path(__file__))},
        "versions": versions(),
        "machine": machine(),
    }
    if model is not None:
        document["model"] = {
            "id": shown(model.id),
            "card": model.card,
            "revision": model.revision,
            "weights": shown(model.weights_origin),
            "files": dict(sorted((file_hashes or {}).items())),
            "tokenizer": tokenizer_hash or None,
            "device": model.device,
            "device_reason": device_reason,
            "dtype": model.dtype,
            "dtype_reason": model.dtype_reason,
            "attention": model.attention,
            "remarks": [shown(remark) for remark in remarks],
        }
    return document


def versions() -> dict[str, str]:
    """Give the version of Python and of every library that touches a number or a picture."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """Describe the operating system, the processor, its usable cores, and the GPUs that torch sees."""
    found: dict[str, Any] = {
        "os": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpu": _cpu(),
        "cores": _cores(),
    }
    # Importing torch takes seconds; where nobody has, nothing was computed with it.
    torch = sys.modules.get("torch")
    if torch is None:
        found["gpu"] = "not looked for: torch was not loaded"
    else:
        found["threads"] = torch.get_num_threads()
        found["gpu"] = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] or "none"
    return found


def git_state(file: Path) -> dict[str, Any]:
    """Describe the git checkout that holds a file: commit, whether it is dirty, whether the file is in it.

    ``dirty`` is about tracked files, since a results folder is no change of the code. Where there is no
    checkout, ``commit`` is None and ``reason`` says why.
    """
    if shutil.which("git") is None:
        return {"commit": None, "reason": "git is not installed"}
    file = file.resolve()
    try:
        head = _git(file.parent, "rev-parse", "--verify", "HEAD")
        if head.returncode:
            return {"commit": None, "reason": _why_not(head.stderr)}
        tracked = _git(file.parent, "ls-files", "--error-unmatch", "--", file.name).returncode == 0
        if not tracked and SOURCE in file.parents:
            return {"commit": None, "reason": "installed as a package, not a checkout"}
        status = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"commit": None, "reason": f"git did not answer ({type(error).__name__})"}
    return {
        "commit": head.stdout.strip(),
        "dirty": bool(status.stdout.strip()) if status.returncode == 0 else None,
        "tracked": tracked,
    }


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A checkout may name programs to run on `status`; somebody else's checkout is only to be read.
    return subprocess.run(
        ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_GIT_SECONDS,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
    )


def _why_not(stderr: str) -> str:
    if "not a git repository" in stderr:
        return "not in a git checkout"
    if "dubious ownership" in stderr:
        return "the git checkout belongs to another user (see git's safe.directory)"
    if "Needed a single revision" in stderr:
        return "the git checkout has no commit yet"
    return shown(stderr.strip().partition("\n")[0]) or "git gave no reason"


def shown(text: str) -> str:
    """Write a text for others to read: home as ``~``, no user name in a path, no password in a URL."""
    text = re.sub(r"(?<=://)[^/\s@]+@", "", text)
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    with contextlib.suppress(OSError, KeyError):
        user = getpass.getuser()
        text = re.sub(rf"(?<=[/\\]){re.escape(user)}(?=[/\\]|$)", "USER", text)
    return text


def shown_path(path: Path) -> str:
    """Write a path as seen from the working folder if it lies in it, else from ``~``, else whole."""
    with contextlib.suppress(ValueError):
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    return shown(str(path.resolve()))


def _command(arguments: Sequence[str]) -> str:
    if not arguments:
        return ""
    program = Path(arguments[0]).name
    if program == "__main__.py":
        program = f"python -m {Path(arguments[0]).parent.name}"
    return " ".join([program, *(shlex.quote(shown(argument)) for argument in arguments[1:])])


def _utc(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} does not know its time zone")
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"could not be read again ({error.strerror})"


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return value.strip()
    if platform.system() == "Darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
            answered = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=True)
            return answered.stdout.strip()
    return platform.processor() or "unknown"


def _cores() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count()
