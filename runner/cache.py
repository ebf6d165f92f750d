"""The stage cache: what a stage of a plan computed, under a key of what determines it.

    <cache>/stages/<first two of key>/<key>.stage     a line of magic, a line with the sha256 of all that follows,
                                                      a line of JSON that says what it is, an npz archive

An entry is one file, put in place by one rename: readers and any number of writers need no lock. It is
checked on reading; one that is damaged is a miss, is said in ``notes`` and removed; one of another format is a
miss and removed. The cache is a help and never a condition: what cannot be kept is said in ``notes`` and the run
goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from runner.atomic import refusals, whole
from runner.sizes import parse_size, size_text
from specs.language.errors import CommandError, RunError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.generic]

__all__ = ["LIMIT", "LIMIT_VARIABLE", "Entry", "Kept", "Removed", "StageCache", "key", "limit_asked"]

LIMIT = 4 << 30
"""Bytes the cache may take by default; what was used longest ago goes first."""
LIMIT_VARIABLE = "RUN_SPEC_CACHE_LIMIT"
SLACK = 64
"""A process looks through the cache at its first entry, then whenever it has written this fraction of the limit.

It makes as much room at once, so that one process never exceeds the limit; each further one that writes at the same
time may exceed it by that fraction. A larger one would scan less and overshoot more.
"""
MAGIC = b"run-spec stage 2\n"
LABEL = 2048
"""The most bytes of the line that says what an entry is."""
META = "meta.json"
PAUSE = 3600
"""Seconds without a change after which a scratch file is not being written, if its process is not seen here."""
STALE = 24 * 3600
"""Seconds after which a scratch file belongs to a process that was killed."""
_FORMATS = re.compile(rb"run-spec stage \d+\n")
_BLOCK = 1 << 22
_HEADER = len(MAGIC) + 65


@dataclass(frozen=True)
class Kept:
    """What was kept of a stage: named arrays, and a JSON document."""

    arrays: dict[str, Array]
    meta: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One file of the cache, as it was found: nothing of it is read but its beginning."""

    path: Path
    bytes: int
    used_ns: int
    """When it was last used, in nanoseconds since 1970."""
    about: dict[str, str] | None
    """What it was labelled with; None if it is of another format, which is never read again."""

    @property
    def used(self) -> float:
        """When it was last used, in seconds since 1970."""
        return self.used_ns / 1e9


@dataclass
class Removed:
    """What a removal did."""

    entries: int = 0
    bytes: int = 0
    in_use: int = 0
    """Left, since they were used after they had been found."""
    refused: list[OSError] = field(default_factory=list)


def key(parts: Mapping[str, Any]) -> str:
    """Hash what determines a stage's numbers: model revision, dtype, token ids, sites, edits, versions.

    Canonical JSON: the order of keys does not matter, that of lists does; tuples are lists, and a whole
    number is the same written as a float. Raises TypeError for anything JSON does not have, since its hash
    would change from run to run, and ValueError for a number that is not finite.
    """
    text = json.dumps(_canonical(parts), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        if strange := [name for name in value if not isinstance(name, str)]:
            raise TypeError(f"a key is made of texts, not of {strange[0]!r}")
        return {name: _canonical(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    return value


def limit_asked() -> int:
    """Give the bytes that the cache may take: RUN_SPEC_CACHE_LIMIT, or the default where it is not set.

    Raises CommandError for what is no size.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return LIMIT
    size = parse_size(text)
    if size is None:
        raise CommandError(
            f"the environment variable {LIMIT_VARIABLE} is '{text}', which is no size",
            remedy="write a number with a unit, like 10GB or 512MiB; 0 keeps nothing",
        )
    return size


class StageCache:
    """Stages on disk, no more than ``limit`` bytes of them."""

    def __init__(self, root: Path | None = None, *, limit: int | None = None) -> None:
        """Take ``root``, or ``stages`` in the cache folder of run-spec (RUN_SPEC_CACHE).

        The limit is that of RUN_SPEC_CACHE_LIMIT if none is given. With 0 nothing is kept, and what was kept before
        is still read.
        """
        if root is None:
            from runner.models.cache import cache_root

            root = cache_root() / "stages"
        self.root = root
        self.limit = limit_asked() if limit is None else limit
        self.notes: list[str] = []
        """What went wrong, each said once."""
        self._since: int | None = None
        """Bytes written since the cache was last looked through; None before the first time."""

    def path(self, key: str) -> Path:
        """Give the place of an entry."""
        return self.root / key[:2] / f"{key}.stage"

    def has(self, key: str) -> bool:
        """Say whether there is an entry, from its first bytes; it is not marked as used, and may be damaged."""
        try:
            with self.path(key).open("rb") as file:
                return file.read(len(MAGIC)) == MAGIC
        except OSError:
            return False

    def get(self, key: str, *, only: Collection[str] | None = None) -> Kept | None:
        """Read an entry, or ``only`` some of its arrays, and mark it as used.

        None if there is none, or if it is damaged; it is checked as a whole in either case.
        """
        import numpy as np

        path = self.path(key)
        try:
            with path.open("rb") as file:
                head = file.read(_HEADER)
                if not head.startswith(MAGIC) and _FORMATS.match(head):
                    raise _OtherFormat
                if not head.startswith(MAGIC) or _digest(file) != head[len(MAGIC) : -1]:
                    raise ValueError("its checksum is not that of its contents")
                file.seek(_HEADER)
                file.readline(LABEL + 1)
                with np.load(file, allow_pickle=False) as archive:
                    wanted = [n for n in archive.files if n != META and (only is None or n in only)]
                    arrays = {name: archive[name] for name in wanted}
                    meta = json.loads(archive[META].tobytes())
        except FileNotFoundError:
            return None
        except _OtherFormat:
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            self._note(f"a stage in the cache was damaged and is computed again ({path.name[:12]}: {error})")
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):  # a cache that may only be read is of use too
            os.utime(path)
        return Kept(arrays, meta)

    def put(
        self,
        key: str,
        arrays: Mapping[str, Array],
        meta: Mapping[str, Any],
        *,
        about: Mapping[str, str] | None = None,
    ) -> bool:
        """Keep a stage; False, with a note, where there is no room or no right to.

        ``about`` is a label for people and no part of the key: ``model``, ``kind`` of stage, and what it is ``of``;
        long texts are cut. Raises ValueError for an array of Python objects, for a meta document that JSON does not
        have, and for a label of too many texts.
        """
        import numpy as np

        text = json.dumps(meta, ensure_ascii=False, allow_nan=False).encode()
        label = _label(about or {})
        if META in arrays:
            raise ValueError(f"an array of a stage cannot be called {META}")
        if not self.limit:  # as asked for, and nothing to be told about
            return False
        size = sum(array.nbytes for array in arrays.values()) + len(text)
        if size > self.limit:
            self._note(
                f"a stage of {size_text(size)} was not kept: the cache takes {size_text(self.limit)} "
                f"({LIMIT_VARIABLE} sets how much)"
            )
            return False
        path = self.path(key)
        try:
            with refusals(self.root, "make room"):
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole(path, lasting=False) as scratch, scratch.open("wb+") as file:
                    file.write(MAGIC + b"0" * 64 + b"\n" + label)
                    packed: dict[str, Any] = {**arrays, META: np.frombuffer(text, dtype=np.uint8)}
                    np.savez(file, allow_pickle=False, **packed)
                    file.seek(_HEADER)
                    digest = _digest(file)
                    size = file.tell()
                    if size > self.limit:
                        raise RunError(f"it takes {size_text(size)}, and the cache {size_text(self.limit)}")
                    file.seek(len(MAGIC))
                    file.write(digest)
        except RunError as error:
            self._note(f"a stage was not kept in the cache: {error.cause}")
            return False
        self._since = None if self._since is None else self._since + size
        if self._since is None or self._since > self.limit // SLACK:
            self._since = 0
            self._trim(path)
        return True

    def entries(self) -> list[Entry]:
        """List what is kept, from the beginning of each file; raises RunError where the folder cannot be read."""
        found = []
        with _readable(self.root):
            for path, state in _files(self.root, ".stage"):
                with contextlib.suppress(OSError):  # removed meanwhile, or not for us to read
                    with open(path, "rb") as file:
                        about = _read_label(file.read(_HEADER + LABEL + 1))
                    found.append(Entry(Path(path), state.st_size, state.st_mtime_ns, about))
        return found

    def abandoned(self) -> list[Entry]:
        """List the scratch files of processes that were killed; those of living ones are not among them."""
        now = time.time()
        with _readable(self.root):
            return [
                Entry(Path(path), state.st_size, state.st_mtime_ns, None)
                for path, state in _files(self.root, ".tmp")
                if _is_abandoned(path, now - state.st_mtime)
            ]

    def remove(self, entries: Iterable[Entry], *, unless_used: bool = False) -> Removed:
        """Remove entries while others read and write; those that another process has removed are not counted.

        A reader that has opened one reads it to its end. ``unless_used`` leaves those used since they were listed.
        """
        done = Removed()
        for entry in entries:
            try:
                if unless_used and entry.path.stat().st_mtime_ns != entry.used_ns:
                    done.in_use += 1
                    continue
                entry.path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                done.refused.append(error)
                continue
            done.entries += 1
            done.bytes += entry.bytes
        return done

    def _trim(self, newest: Path) -> None:
        """Remove what was used longest ago until there is room again; other processes may be doing the same."""
        now = time.time()
        kept: list[tuple[int, int, str]] = []
        with contextlib.suppress(OSError):
            kept = [(state.st_mtime_ns, state.st_size, path) for path, state in _files(self.root, ".stage")]
            for path, state in _files(self.root, ".tmp"):
                if _is_abandoned(path, now - state.st_mtime):
                    with contextlib.suppress(OSError):
                        os.unlink(path)
        room = self.limit - self.limit // SLACK
        total = sum(size for _, size, _ in kept)
        if total <= room:
            return
        for used, size, path in sorted(kept):
            if total <= room:
                break
            if path == str(newest):
                continue
            try:
                if os.stat(path).st_mtime_ns != used:  # used since it was looked at
                    continue
                os.unlink(path)
            except FileNotFoundError:  # another process made this room
                pass
            except OSError:
                continue
            total -= size

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _digest(file: IO[bytes]) -> bytes:
    """Hash a file from where it stands to its end: sha256 in hex."""
    state = hashlib.sha256()
    while block := file.read(_BLOCK):
        state.update(block)
    return state.hexdigest().encode()


class _OtherFormat(Exception):
    """An entry of a version that wrote entries otherwise."""


def _label(about: Mapping[str, str]) -> bytes:
    """Write what an entry is as one line of bounded length."""
    for width in (200, 60, 20):
        cut = {name: _short(text, width) for name, text in about.items()}
        line = json.dumps(cut, ensure_ascii=False).encode()
        if len(line) <= LABEL:
            return line + b"\n"
    raise ValueError(f"a stage is labelled with a few short texts, not with {len(about)}")


def _short(text: str, width: int) -> str:
    """Make a text one line of so many characters that any terminal can show."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"


def _read_label(head: bytes) -> dict[str, str] | None:
    """Read what an entry is from its first bytes; None if they are not of this format."""
    line, end, _ = head[_HEADER:].partition(b"\n")
    if not head.startswith(MAGIC) or not end:
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return {str(name): str(text) for name, text in found.items()} if isinstance(found, dict) else None


def _files(root: Path, suffix: str) -> Iterator[tuple[str, os.stat_result]]:
    """Give the files of a cache by the end of their name; those that vanish meanwhile are left out."""
    try:
        with os.scandir(root) as found:
            folders = [folder.path for folder in found if len(folder.name) == 2]
    except FileNotFoundError:
        return
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder) as inside:
            for file in inside:
                if file.name.endswith(suffix):
                    with contextlib.suppress(FileNotFoundError):
                        yield file.path, file.stat()


def _is_abandoned(scratch: str, age: float) -> bool:
    """Say whether a scratch file was left by a process that was killed, from its age in seconds and its name.

    A process on another machine, or in another container, is not seen here: it is believed to live for a while.
    """
    if age <= PAUSE or age > STALE:
        return age > STALE
    import psutil  # type: ignore[import-untyped,unused-ignore]

    named = re.search(r"\.(\d+)-[0-9a-f]+\.tmp$", scratch)
    return named is None or not psutil.pid_exists(int(named[1]))


@contextlib.contextmanager
def _readable(root: Path) -> Iterator[None]:
    """Turn a refusal to read the cache into RunError."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot read {error.filename or root} ({error.strerror})",
            remedy="set RUN_SPEC_CACHE to a folder of yours",
        ) from error
