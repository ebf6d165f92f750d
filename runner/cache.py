"""The stage cache: what a stage of a plan computed, under a key of what determines it.

    <cache>/stages/<first two of key>/<key>.stage     a line of magic, a line of sha256, an npz archive

An entry is one file, put in place by one rename: readers and any number of writers need no lock. It is
checked on reading; one that is damaged is a miss, is said in ``notes`` and removed. The cache is a help and
never a condition: what cannot be kept is said in ``notes`` and the run goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from runner.atomic import refusals, whole
from specs.language.errors import RunError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.generic]

__all__ = ["LIMIT", "Kept", "StageCache", "key"]

LIMIT = 4 << 30
"""Bytes the cache may take by default; what was used longest ago goes first."""
MAGIC = b"run-spec stage 1\n"
META = "meta.json"
STALE = 24 * 3600
"""Seconds after which a scratch file belongs to a process that was killed."""
_BLOCK = 1 << 22
_HEADER = len(MAGIC) + 65


@dataclass(frozen=True)
class Kept:
    """What was kept of a stage: named arrays, and a JSON document."""

    arrays: dict[str, Array]
    meta: dict[str, Any]


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


class StageCache:
    """Stages on disk, no more than ``limit`` bytes of them."""

    def __init__(self, root: Path | None = None, *, limit: int = LIMIT) -> None:
        """Take ``root``, or ``stages`` in the cache folder of run-spec (RUN_SPEC_CACHE)."""
        if root is None:
            from runner.models.cache import cache_root

            root = cache_root() / "stages"
        self.root = root
        self.limit = limit
        self.notes: list[str] = []
        """What went wrong, each said once."""

    def path(self, key: str) -> Path:
        """Give the place of an entry."""
        return self.root / key[:2] / f"{key}.stage"

    def get(self, key: str) -> Kept | None:
        """Read an entry and mark it as used; None if there is none, or if it is damaged."""
        import numpy as np

        path = self.path(key)
        try:
            with path.open("rb") as file:
                head = file.read(_HEADER)
                if not head.startswith(MAGIC) or _digest(file) != head[len(MAGIC) : -1]:
                    raise ValueError("its checksum is not that of its contents")
                file.seek(_HEADER)
                with np.load(file, allow_pickle=False) as archive:
                    arrays = {name: archive[name] for name in archive.files}
                meta = json.loads(arrays.pop(META).tobytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            self._note(f"a stage in the cache was damaged and is computed again ({path.name[:12]}: {error})")
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):  # a cache that may only be read is of use too
            os.utime(path)
        return Kept(arrays, meta)

    def put(self, key: str, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> bool:
        """Keep a stage; False, with a note, where there is no room or no right to.

        Raises ValueError for an array of Python objects, and for a meta document that JSON does not have.
        """
        import numpy as np

        text = json.dumps(meta, ensure_ascii=False, allow_nan=False).encode()
        if META in arrays:
            raise ValueError(f"an array of a stage cannot be called {META}")
        size = sum(array.nbytes for array in arrays.values()) + len(text)
        if size > self.limit:
            self._note(f"a stage of {size / 1e6:,.0f} MB was not kept: the cache takes {self.limit / 1e6:,.0f} MB")
            return False
        path = self.path(key)
        try:
            with refusals(self.root, "make room"):
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole(path) as scratch, scratch.open("wb+") as file:
                    file.write(MAGIC + b"0" * 64 + b"\n")
                    packed: dict[str, Any] = {**arrays, META: np.frombuffer(text, dtype=np.uint8)}
                    np.savez(file, allow_pickle=False, **packed)
                    file.seek(_HEADER)
                    digest = _digest(file)
                    file.seek(len(MAGIC))
                    file.write(digest)
        except RunError as error:
            self._note(f"a stage was not kept in the cache: {error.cause}")
            return False
        self._trim(path)
        return True

    def _trim(self, newest: Path) -> None:
        """Remove what was used longest ago until the rest fits; another process may be doing the same."""
        entries: list[tuple[float, int, Path]] = []
        for path in self.root.glob("??/*"):
            with contextlib.suppress(OSError):
                found = path.stat()
                if path.suffix == ".stage":
                    entries.append((found.st_mtime, found.st_size, path))
                elif path.suffix == ".tmp" and time.time() - found.st_mtime > STALE:
                    path.unlink()
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit:
                break
            if path != newest:
                with contextlib.suppress(OSError):
                    path.unlink()
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
