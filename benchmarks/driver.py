"""Runs two ways side by side: one process each, one active at a time, taking turns; checks that they agree."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import IO, Any

import numpy as np

from benchmarks.ways import REFERENCE, WAYS, Loading
from benchmarks.work import Arrays, Difference, Work, difference
from benchmarks.works import Cells

PARTS = (1, 2, 4, 5, 10, 20, 50, 100)
"""A slow side may be given one in so many units, and is scaled up; the table says so."""
KEEP_FREED = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "536870912"}
"""Lets glibc keep freed memory, as run-spec does in its own process (``runner/allocator.py``)."""
ROOT = Path(__file__).resolve().parents[1]
Say = Callable[[str], None]


class WayFailed(Exception):
    """A way could not be run; the message is the reason."""


class Worker:
    """The process of one way."""

    def __init__(self, name: str, loading: Loading, python: Path, threads: int, *, keep_freed: bool = False) -> None:
        self.name = name
        places = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in places if p),
            "OMP_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **(KEEP_FREED if keep_freed else {}),
        }
        command = [str(python), "-m", "benchmarks.worker", name, "--folder", str(loading.folder)]
        command += ["--dtype", loading.dtype, "--model", loading.model, "--threads", str(threads)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        self.failed = False
        self.errors: deque[str] = deque(maxlen=30)
        self._reader = Thread(target=self._collect, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        try:
            self._answer()
        except WayFailed:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def load(self, path: Path) -> None:
        """Give the worker a work."""
        self._ask({"load": str(path)})

    def tune(self, k: int) -> tuple[float, str]:
        """Warm up on every k-th unit; give the seconds it took and what was chosen."""
        found = self._ask({"tune": k})
        return float(found["seconds"]), str(found["note"])

    def go(self, k: int = 1, out: Path | None = None) -> float:
        """Do the work once and give the seconds it took."""
        return float(self._ask({"go": k, "out": None if out is None else str(out)})["seconds"])

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise WayFailed(f"its process ended: {self._last_words()}") from error
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.failed = not line or '"error"' in line
        if not line:
            raise WayFailed(f"its process ended: {self._last_words()}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise WayFailed(str(found["error"]))
        return found

    def _collect(self, errors: IO[str]) -> None:
        for line in errors:
            self.errors.append(line.rstrip())

    def _last_words(self) -> str:
        self._reader.join(timeout=5)
        return next((line for line in reversed(self.errors) if line.strip()), "it said nothing")


@dataclass
class Row:
    """One line of the table: a work, one side, and how long it takes beside the other side."""

    model: str
    dtype: str
    work: str
    title: str
    way: str
    side: str
    beside: str = WAYS[REFERENCE].title
    seconds: list[float] = field(default_factory=list)
    """Of the side, scaled to the whole work."""
    reference: list[float] = field(default_factory=list)
    """Of the other side, taken in turns with it."""
    scaled: str = ""
    """What part of the work the side did, in words; empty for the whole."""
    difference: Difference | None = None
    note: str = ""
    failed: str = ""

    @property
    def ratios(self) -> list[float]:
        """Give the ratio of each pair of neighbouring runs."""
        return [a / b for a, b in zip(self.seconds, self.reference, strict=True)]

    @property
    def ratio(self) -> float:
        """Give the median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def disagrees(self) -> bool:
        """Say whether the two sides computed different numbers."""
        return self.difference is not None and not self.difference.agrees

    def document(self) -> dict[str, Any]:
        """Give the row as JSON."""
        found: dict[str, Any] = {
            "model": self.model,
            "dtype": self.dtype,
            "work": self.work,
            "title": self.title,
            "way": self.way,
            "side": self.side,
            "beside": self.beside,
            "note": self.note,
            "failed": self.failed or None,
        }
        if self.seconds:
            found |= {
                "seconds": self.seconds,
                "beside_seconds": self.reference,
                "ratio": self.ratio,
                "ratio_min": min(self.ratios),
                "ratio_max": max(self.ratios),
                "scaled_from": self.scaled or None,
            }
        if self.difference is not None:
            found["difference"] = {
                "figure": self.difference.figure,
                "limit": self.difference.limit,
                "words": self.difference.words,
            }
        return found


def compare(
    way: Worker, ours: Worker, work: Work, folder: Path, loading: Loading, repeats: int, budget: float, say: Say
) -> Row:
    """Run both sides of a work in turns; every other time the other one begins."""
    row = row_of(loading, work, way.name)
    path = folder / f"{work.name}.json"
    work.save(path)
    for worker in (way, ours):
        worker.load(path)
    try:
        part, row.note = chosen_part(way, work, budget)
        if part > 1:
            row.scaled = f"{len(work.part(part).prompts):,} of {len(work.prompts):,} prompts"
        ours.tune(1)
        own, theirs = folder / "ours.npz", folder / "theirs.npz"
        for n in range(repeats):
            sides: list[tuple[Worker, int, Path, list[float]]] = [
                (way, part, theirs, row.seconds),
                (ours, 1, own, row.reference),
            ]
            for worker, k, out, times in sides if n % 2 == 0 else reversed(sides):
                times.append(worker.go(k, out if n == 0 else None) * scale(work, k))
            say(f"{work.name}: {way.name} {row.seconds[-1]:.2f} s, {ours.name} {row.reference[-1]:.2f} s")
        rows = work.rows_of_part(part)
        wanted = {name: array[rows] for name, array in read(own).items()}
        row.difference = difference(work.kind, wanted, read(theirs), loading.dtype)
    except WayFailed as error:
        row.failed = str(error)
        row.seconds, row.reference = [], []
    return row


def row_of(loading: Loading, work: Work, way: str) -> Row:
    """Give the empty line of a way and a work."""
    return Row(loading.model, loading.dtype, work.name, work.title, way, WAYS[way].title)


def scale(work: Work, k: int) -> float:
    """Say how many times the whole is a part of every k-th unit."""
    return len(work.prompts) / len(work.part(k).prompts)


def chosen_part(way: Worker, work: Work, budget: float) -> tuple[int, str]:
    """Warm a way up on a small part, and choose the largest part that one run does within the budget."""
    least = WAYS[way.name].least
    possible = [k for k in PARTS if k == 1 or (k <= work.n_units and len(work.part(k).prompts) >= least)]
    smallest = possible[-1]
    _, note = way.tune(smallest)
    whole = way.go(smallest) * scale(work, smallest)
    return next((k for k in possible if whole / scale(work, k) <= budget), smallest), note


def read(path: Path) -> Arrays:
    """Read the results of a run."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def mean_of(ours: Worker, work: Work, folder: Path) -> Any:
    """Do a localisation and give the means ``[owner, layer, neuron]``."""
    path, out = folder / "probe.json", folder / "probe.npz"
    work.save(path)
    ours.load(path)
    ours.go(1, out)
    return read(out)["mean"]


def run_model(
    loading: Loading,
    works: Sequence[Callable[[Cells], Work]],
    ways: Sequence[tuple[str, Path | str]],
    folder: Path,
    probe: Work,
    *,
    threads: int,
    repeats: int,
    budget: float,
    say: Say,
    keep_freed: bool = False,
) -> Iterator[Row]:
    """Compare every way with the reference on every work; a way that cannot be run is a row with its reason.

    ``works`` are made from the cells that ``probe``, a small localisation, finds; ``ways`` come with their
    interpreter, or with the reason why there is none.
    """
    with Worker(REFERENCE, loading, Path(sys.executable), threads) as ours:
        cells = Cells(mean_of(ours, probe, folder))
        made = [work(cells) for work in works]
        for name, python in ways:
            left = {work.name: row_of(loading, work, name) for work in made}
            try:
                if isinstance(python, str):
                    raise WayFailed(python)
                say(f"loading {loading.model} for {name}")
                with Worker(name, loading, python, threads, keep_freed=keep_freed) as way:
                    for work in made:
                        row = compare(way, ours, work, folder, loading, repeats, budget, say)
                        if ours.failed:
                            raise RuntimeError(f"the reference failed: {row.failed}")
                        del left[work.name]
                        yield row
                        if way.failed:  # its process has ended
                            raise WayFailed(row.failed)
            except WayFailed as error:
                say(f"{name}: {error}")
                for row in left.values():
                    row.failed = str(error)
                    yield row
