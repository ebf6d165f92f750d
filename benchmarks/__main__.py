"""The command ``python -m benchmarks``: ratios of run-spec and other ways, in one table."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import table
from benchmarks.driver import Row, run_model
from benchmarks.environments import interpreter
from benchmarks.machine import describe
from benchmarks.ways import REFERENCE, WAYS, Loading
from benchmarks.work import Difference, Work
from benchmarks.works import WORKS, Cells, probe

OTHERS = ("tracing", "trump")
"""Works that are not a comparison of ways on the same numbers."""


def some(text: str, known: list[str], what: str) -> list[str]:
    """Read a list of names with commas; a word that begins several names stands for all of them."""
    found: list[str] = []
    for word in text.split(","):
        meant = [word] if word in known else [name for name in known if name.startswith(word + "-")]
        if not meant:
            raise click.BadParameter(f"there is no {what} {word!r}; there are: {', '.join(known)}")
        found += [name for name in meant if name not in found]
    return found


@click.command()
@click.option("--models", default="smollm2-135m:float32", show_default=True, help="Models, with commas.")
@click.option("--works", "wanted", default=",".join(WORKS), show_default=True, help="Works; also: tracing, trump.")
@click.option("--ways", default=",".join(n for n in WAYS if n != REFERENCE), show_default=True, help="Ways compared.")
@click.option("--threads", default=os.cpu_count() or 1, show_default=True, help="Threads of torch, for every side.")
@click.option("--repeats", default=3, show_default=True, help="Runs of each side.")
@click.option("--budget", default=20.0, show_default=True, help="Seconds for one run of a way; a longer one is scaled.")
@click.option("--full", is_flag=True, help="Scale nothing.")
@click.option("--keep-freed", is_flag=True, help="Let the other ways keep freed memory, as run-spec does.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for benchmarks.json and benchmarks.md.")
def main(
    models: str,
    wanted: str,
    ways: str,
    threads: int,
    repeats: int,
    budget: float,
    full: bool,
    keep_freed: bool,
    out: Path | None,
) -> None:
    """Measure run-spec beside other ways to the same numbers."""
    names = some(wanted, [*WORKS, *OTHERS], "work")
    chosen = [n for n in some(ways, list(WAYS), "way") if n != REFERENCE]
    errors = Console(stderr=True)
    rows: list[Row] = []
    machine = describe(threads)

    def keep(row: Row) -> None:
        rows.append(row)
        if out is not None:  # at once, for a whole table takes long
            table.write(rows, machine, out)

    with tempfile.TemporaryDirectory(prefix="run-spec-benchmarks-") as scratch:
        for model in models.split(","):
            loading, tokenizer = located(model)
            if works := [WORKS[n] for n in names if n in WORKS]:
                found = run_model(
                    loading,
                    [made_by(maker, tokenizer) for maker in works],
                    [(n, interpreter(WAYS[n].environment)) for n in chosen],
                    Path(scratch),
                    probe(tokenizer),
                    threads=threads,
                    repeats=repeats,
                    budget=float("inf") if full else budget,
                    keep_freed=keep_freed,
                    say=lambda text: errors.print(text, style="dim", highlight=False),
                )
                for row in found:
                    keep(row)
            if "tracing" in names:
                keep(tracing_row(loading, tokenizer, threads))
            if "trump" in names:
                keep(trump_row(loading, threads, repeats))
    console = Console()
    table.show(rows, console if console.is_terminal else Console(width=180))
    if wrong := [row for row in rows if row.disagrees]:
        errors.print(f"{len(wrong)} of {len(rows)} comparisons disagree in their numbers", style="bold red")
        sys.exit(1)


def made_by(maker: Callable[[Any, Cells], Work], tokenizer: Any) -> Callable[[Cells], Work]:
    """Bind a work's maker to a tokenizer."""
    return lambda cells: maker(tokenizer, cells)


def tracing_row(loading: Loading, tokenizer: Any, threads: int) -> Row:
    """Measure what a trace costs over plain hooks on one packed row."""
    import torch

    from benchmarks.tracing import overhead
    from benchmarks.ways.plain import load_plain

    torch.set_num_threads(threads)
    found = overhead(load_plain(loading), probe(tokenizer))
    title = f"one packed row of {found.nodes} nodes, every neuron read"
    row = Row(loading.model, loading.dtype, "tracing", title, "tracing", "nnsight trace", "plain hooks")
    row.seconds, row.reference = list(found.traced), list(found.hooked)
    row.difference = Difference(found.difference, 0.0, "absolute")
    row.note = f"ratio of the medians {found.ratio:.2f}; {found.per_trace:.1f} ms per trace whatever its length"
    return row


def trump_row(loading: Loading, threads: int, repeats: int) -> Row:
    """Measure the shipped spec as a whole, without and with what an earlier run left in the cache."""
    from benchmarks.trump import whole_run

    found = whole_run(f"{{id: {loading.model}, dtype: {loading.dtype}}}", threads, repeats)
    title = "run-spec specs/trump.yaml"
    row = Row(loading.model, loading.dtype, "trump", title, "trump", "nothing in the cache", "everything in the cache")
    row.seconds, row.reference = list(found.cold), list(found.warm)
    return row


def located(text: str) -> tuple[Loading, Any]:
    """Fetch a model if need be, choose its number format as a run does, and load its tokenizer."""
    from runner.models import load_tokenizer, obtain, pick_device, pick_dtype, resolve

    name, _, dtype = text.partition(":")
    files = obtain(resolve(name))
    chosen = pick_dtype(dtype or "auto", pick_device("cpu").device).dtype
    return Loading(files.path, str(chosen).removeprefix("torch."), name), load_tokenizer(files.path)


if __name__ == "__main__":
    main()
