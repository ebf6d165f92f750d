"""The run folder: what a run found, written so that a crash never costs an earlier result.

    runs/<name>-<hash>/           spec.yaml  plan.txt  results.json  results.parquet  provenance.json
                                  rankings/<name>.npz  neurons/<name>.json  models/<name>/  report.html
                                  vectors/<name>.safetensors
    runs/<name>-<hash>.partial/   the next run of the same spec, while an earlier result stands under the name
    runs/.<name>-<hash>.lock      held by the process that writes
    runs/.<name>-<hash>.old/      for a moment, while one result takes the place of another

Every file is written whole or not at all. A new run replaces an earlier one when it is complete, or when the
earlier one is not. A run that was killed leaves its last whole files: under the name if nothing better stood
there. Reading goes through :func:`load`, which knows all of these places.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from runner.atomic import refusals, whole, write_text
from runner.long_table import LongTable
from specs.language.errors import RunError
from specs.language.results import FORMAT, Results
from specs.language.shortened import shortened

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["RankingFile", "RunFolder", "load", "locate"]

RESULTS = "results.json"
RUNNING = "running.json"
HASH_LENGTH = 12
"""Characters of the spec's hash that name the folder: 48 bits."""
REMEDY = "make room and run again; stages that were computed are kept in the cache"


class RankingFile:
    """A whole ranking as an npz file: arrays ``<owner>/score``, written owner by owner and read back one by one.

    So a ranking of a thousand owners never has to be in memory. In a ``with`` block; the file has its name at the
    block's end, and is gone after an error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = contextlib.ExitStack()
        self._archive: zipfile.ZipFile | None = None
        self._names: dict[str, list[str]] = {}

    def __enter__(self) -> RankingFile:
        """Begin the file. Raises DiskFull."""
        with refusals(self.path, REMEDY), contextlib.ExitStack() as stack:
            self.path.parent.mkdir(exist_ok=True)
            scratch = stack.enter_context(whole(self.path))
            self._archive = stack.enter_context(zipfile.ZipFile(scratch, "w"))
            self._stack = stack.pop_all()
        return self

    def add(self, owner: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the arrays of one owner, or with an empty name those of the ranking. Raises DiskFull."""
        import numpy as np

        assert self._archive is not None
        with refusals(self.path, REMEDY):
            for name, array in arrays.items():
                place = f"{owner}/{name}.npy" if owner else f"{name}.npy"
                with self._archive.open(place, "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
        self._names[owner] = list(arrays)

    def load(self, owner: str) -> dict[str, npt.NDArray[Any]]:
        """Read the arrays of one owner, while the file is being written or after that."""
        if self._archive is not None:
            return self._read(self._archive, owner)
        with zipfile.ZipFile(self.path) as archive:
            return self._read(archive, owner)

    def _read(self, archive: zipfile.ZipFile, owner: str) -> dict[str, npt.NDArray[Any]]:
        import numpy as np

        found = {}
        for name in self._names[owner]:
            with archive.open(f"{owner}/{name}.npy") as entry:
                found[name] = np.lib.format.read_array(entry, allow_pickle=False)
        return found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the file its name, or remove it after an error."""
        self._archive = None
        with refusals(self.path, REMEDY):  # closing the archive writes, after an error too
            self._stack.__exit__(kind, error, trace)


class RunFolder:
    """One run's folder, held by this process until ``finish`` or ``close``."""

    def __init__(self, path: Path, final: Path, lock: Any) -> None:
        self.path = path
        """Where the files are now."""
        self.final = final
        """Where they will be."""
        self._lock = lock
        self._table: LongTable | None = None
        self._complete = False

    @classmethod
    def create(cls, root: Path, name: str, hash: str, cell_label: str = "") -> RunFolder:
        """Take the folder of a run and empty it, leaving an earlier result there until a better one is.

        ``hash`` is that of the resolved spec, of the cell's spec in a matrix. Raises RunError when another
        process is running the same spec or the folder cannot be made, DiskFull when there is no room.
        """
        from filelock import FileLock, Timeout

        final = root / f"{slug(name)}-{hash[:HASH_LENGTH]}"
        with refusals(root, REMEDY):
            root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(_beside(final, "lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                which = f"this spec ({cell_label})" if cell_label else "this spec"
                raise RunError(
                    f"{which} is already being run{_by_whom(final)}",
                    remedy="wait for it or stop it; a changed spec (`--set seed=1`) is a run of its own",
                ) from None
            try:
                _settle(final)
                path = final if _status(final) is None else _partial(final)
                if path.exists():
                    shutil.rmtree(path)
                path.mkdir()
                mine = {"process": os.getpid(), "started": datetime.now(UTC).isoformat(timespec="seconds")}
                write_text(path / RUNNING, json.dumps(mine))
            except BaseException:
                lock.release()
                raise
        return cls(path, final, lock)

    def write(self, name: str, text: str) -> Path:
        """Write a text file of the folder, such as ``report.html``. Raises DiskFull."""
        with refusals(self.path, REMEDY):
            write_text(self.path / name, text)
        return self.path / name

    def write_spec(self, resolved: str) -> None:
        """Write the resolved spec."""
        self.write("spec.yaml", resolved)

    def write_plan(self, plan: str) -> None:
        """Write the plan as it was printed."""
        self.write("plan.txt", plan)

    def write_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Write what the figures depend on. Raises ValueError for a number that is not finite."""
        self.write("provenance.json", json.dumps(provenance, indent=2, ensure_ascii=False, allow_nan=False))

    def write_results(self, results: Results) -> None:
        """Write the result document as it stands. Raises ValueError for a number that is not finite."""
        self.write(RESULTS, dump(shortened(results)))
        self._complete = results.status == "complete"

    def write_set(self, name: str, saved: str) -> None:
        """Write a set of neurons, ``neurons/<name>.json``, for ``from:`` in later specs."""
        with refusals(self.path, REMEDY):
            (self.path / "neurons").mkdir(exist_ok=True)
        self.write(f"neurons/{ranking_name(name).removesuffix('.npz')}.json", saved)

    def ranking(self, name: str) -> RankingFile:
        """Begin ``rankings/<name>.npz``, to be used in a ``with`` block that ends when it is written."""
        return RankingFile(self.path / "rankings" / ranking_name(name))

    def table(self, axes: Mapping[str, Sequence[float | str]], measures: Sequence[str]) -> LongTable:
        """Begin the long table of the run, with a column for every sweep and measure of all interventions."""
        if self._table is not None:
            raise ValueError("the long table of this run has been begun already")
        self._table = LongTable(self.path, axes, measures)
        return self._table

    def finish(self, results: Results) -> Path:
        """Write the last word of the run, put the folder under its name, and give that place.

        The document comes last: where it says complete, everything else is there.
        """
        if self._table is not None:
            self._table.close()
        self.write_results(results)
        self.close()
        return self.path

    def close(self) -> None:
        """Let go of the folder; what it holds stays under its name unless a better result stands there."""
        if not self._lock.is_locked:
            return
        try:
            with refusals(self.path, REMEDY):
                if self._table is not None:
                    self._table.close()
                (self.path / RUNNING).unlink(missing_ok=True)
                if self.path != self.final and (self._complete or _status(self.final) != "complete"):
                    _replace(self.final, self.path)
                    self.path = self.final
        finally:
            self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def slug(name: str) -> str:
    """Make a name that every file system takes: letters and digits of any script, ``.``, ``-`` and ``_``."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"


def ranking_name(name: str) -> str:
    """Name a ranking's file: no two names have one file, on file systems that know no capitals either."""
    plain = slug(name)
    if plain.lower() == name:
        return f"{plain}.npz"
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.npz"


def dump(results: Results) -> str:
    """Write the document as JSON. Raises ValueError, with the place, for a number that is not finite."""
    for place, number in _numbers(results.model_dump(), ""):
        if not math.isfinite(number):
            raise ValueError(f"the result is not finite at {place}: {number}")
    return results.model_dump_json(indent=1)


def load(folder: Path) -> Results:
    """Read the result document of a run folder (or of its ``results.json``).

    Raises RunError when there is none, when it was written by another version, or when it is damaged.
    """
    place = locate(folder.parent if folder.name == RESULTS else folder)
    path = place / RESULTS
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if not place.exists():
            raise RunError(f"there is no run folder {folder}", remedy="see what is in runs/") from None
        raise RunError(
            f"{folder} holds no result", remedy="the run stopped before the model was loaded; run it again"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    try:
        document = json.loads(text)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}", remedy="run the spec again") from error
    version = document.get("format") if isinstance(document, dict) else None
    if version != FORMAT:
        raise RunError(
            f"{path} has format {version!r}, and this run-spec reads format {FORMAT}",
            remedy="read it with the run-spec that wrote it (see its provenance.json), or run again",
        )
    try:
        return Results.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise RunError(f"{path} is damaged at {at}: {first['msg']}", remedy="run the spec again") from error


def locate(folder: Path) -> Path:
    """Find where the files of a run are: under its name, or where a crash left them."""
    for place in (folder, _beside(folder, "old"), _partial(folder)):
        if place.exists():
            return place
    return folder


def read_ranking(folder: Path, name: str) -> dict[str, npt.NDArray[np.generic]]:
    """Read the arrays of a ranking. Raises RunError when there is none, or when it is damaged."""
    import zipfile

    import numpy as np

    path = locate(folder) / "rankings" / ranking_name(name)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except FileNotFoundError:
        raise RunError(f"{folder} holds no ranking '{name}'") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} cannot be read: {error}", remedy="run the spec again") from error


def read_scores(folder: Path, name: str, owner: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Read the layers of a ranking, and one owner's scores ``[n_layers, width]``, without the other owners'.

    Raises RunError when there is none, or when it is damaged.
    """
    import zipfile

    import numpy as np

    path = locate(folder) / "rankings" / ranking_name(name)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["layers"], arrays[f"{owner}/score"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} cannot be read: {error}", remedy="run the spec again") from error


def _beside(final: Path, what: str) -> Path:
    return final.with_name(f".{final.name}.{what}")


def _partial(final: Path) -> Path:
    return final.with_name(f"{final.name}.partial")


def _status(folder: Path) -> str | None:
    """Give what the document says of itself; None where there is none that can be read."""
    try:
        document = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        return str(document["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _replace(final: Path, new: Path) -> None:
    """Put a folder under a name that another one has; ``locate`` finds one of the two at every moment."""
    old = _beside(final, "old")
    if final.exists():
        os.rename(final, old)
    os.rename(new, final)
    _keep_models(old, final)
    shutil.rmtree(old, ignore_errors=True)


def _keep_models(old: Path, final: Path) -> None:
    """Carry saved models over to the result that takes the place of another: they are not thrown away."""
    for model in sorted((old / "models").glob("[!.]*")):
        place = final / "models" / model.name
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            os.rename(model, place)


def _settle(final: Path) -> None:
    """Clear up after a process that was killed; called with the lock held."""
    old, partial = _beside(final, "old"), _partial(final)
    if not final.exists():
        better = partial if _status(partial) == "complete" or not old.exists() else old
        if better.exists():
            os.rename(better, final)
    for left in (old, partial):
        if left.exists():
            if final.exists():
                _keep_models(left, final)
            shutil.rmtree(left)


def _by_whom(final: Path) -> str:
    for place in (_partial(final), final):
        try:
            running = json.loads((place / RUNNING).read_text(encoding="utf-8"))
            return f" by process {running['process']}, since {running['started']}"
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return ""


def _numbers(value: Any, place: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _numbers(inner, f"{place}[{i}]")
