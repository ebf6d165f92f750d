"""Whether numbers depend on how the work was packed: ``python -m benchmarks.packing``.

Runs specs from their prompts to every measure of every row as prompt trees, as padded rows and one prompt at a time,
and as trees under several amounts of memory; prints the largest differences, and how many figures differ in their
first four digits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from runner.ask import rows_of
from runner.bind import Binder
from runner.cache import StageCache
from runner.compile import compile_plan
from runner.localization.localize import localize
from runner.model import Machine
from runner.plan import Condition
from runner.program import Mode
from runner.resolve import Resolver
from runner.run import rule_of
from runner.sizes import parse_size, size_text
from runner.sources import as_stored, reading_at, stored_values
from runner.terminal import Quiet
from specs.language.experiment import Experiment
from specs.language.load import load

HERE = Path(__file__).parent
SPECS: Mapping[str, Sequence[str]] = {
    str(HERE.parent / "specs" / "first.yaml"): (),
    str(HERE.parent / "specs" / "trump.yaml"): (
        # One prompt at a time would take hours with twenty-one factors and a hundred times four presidents.
        "interventions.amnesia.edit.scale=[1, 0, -1, -3]",
        "interventions.amnesia.controls={random_neurons: 1}",
        "interventions.injection.edit.set.times=[1, 5]",
        "interventions.injection.controls={random_neurons: 1}",
    ),
    str(HERE / "specs" / "frozen.yaml"): (),
}
Figures = dict[tuple[str, ...], float]


def figures(experiment: Experiment, machine: Machine, mode: Mode) -> Figures:
    """Run everything and give every figure: scores of the best neurons, and every measure of every row."""
    machine.mode = mode
    engine = machine.engine(Quiet())
    engine.mode = mode
    plan = compile_plan(experiment, Binder(machine.tokenizer), machine.shape.n_layers)
    found: Figures = {}
    rankings: dict[str, Any] = {}
    for stage in plan.localize:
        rankings[stage.name], _ = localize(engine, stage)
        for owner, group in rankings[stage.name].groups.items():
            for flat in group.best(20).tolist():
                for name, values in group.arrays().items():
                    found[(stage.name, owner, str(flat), name)] = float(values.reshape(-1)[flat])
    for ask in plan.ask:
        resolver = Resolver(experiment, ask, rankings, machine.shape.n_layers)
        resolver.widths_of = machine.widths()
        conditions = {s.condition for s in ask.job.sequences if isinstance(s.condition, Condition)}
        for index, planned in enumerate(ask.means):
            means = reading_at(planned, resolver.read_at(index, conditions))
            resolver.stored.append(as_stored(means, stored_values(engine, means)[0]))
        outcome = engine.run(ask.job, resolver)
        for number, row in enumerate(rows_of(ask, outcome, machine.tokenizer, rule_of(experiment, ask))):
            for measure, value in row.values.items():
                if isinstance(value, int | float) and math.isfinite(value):
                    found[(ask.name, str(number), row.asked.prompt, measure)] = float(value)
    return found


def difference(a: Figures, b: Figures) -> tuple[float, str, int]:
    """Give the largest relative difference, where it is, and how many differ when rounded to four digits."""
    worst, where, moved = 0.0, "", len(set(a) ^ set(b))
    for key in set(a) & set(b):
        x, y = a[key], b[key]
        relative = abs(x - y) / max(abs(x), abs(y), 1e-30)
        moved += f"{x:.4g}" != f"{y:.4g}"
        if relative > worst:
            worst, where = relative, " ".join(key)
    return worst, where, moved


@click.command()
@click.option("--model", default="smollm2-135m", show_default=True)
@click.option("--dtype", default="float32", show_default=True)
@click.option("--memory", default="160MB,300MB,2GB", show_default=True, help="Amounts of memory, with commas.")
@click.option("--modes", default="padded,one by one", show_default=True, help="Other ways of packing, with commas.")
def main(model: str, dtype: str, memory: str, modes: str) -> None:
    """Compare the figures of three specs under every way of packing and several amounts of memory."""
    console = Console(width=None if Console().is_terminal else 160)
    table = Table(title=f"{model}, {dtype}: against prompt trees with the default memory")
    for name in ("spec", "packed", "figures", "largest relative difference", "of", "differ in four digits", "seconds"):
        table.add_column(name, overflow="fold")
    for path, sets in SPECS.items():
        chosen = [f"model={{id: {model}, dtype: {dtype}}}", *sets]
        only = ["amnesia", "injection"] if path.endswith("trump.yaml") else None
        experiment = load(Path(path), sets=chosen, only=only).cells[0].experiment
        ways: list[tuple[str, Mode, int | None]] = [("trees", "trees", None)]
        ways += [(f"trees, {size_text(parse_size(m) or 0)}", "trees", parse_size(m)) for m in memory.split(",") if m]
        ways += [(m, m, None) for m in modes.split(",") if m]  # type: ignore[misc]
        reference: Figures = {}
        for title, mode, bytes_given in ways:
            machine = Machine(experiment.model, Quiet(), cache=StageCache(limit=0), memory=bytes_given)
            started = time.perf_counter()
            found = figures(experiment, machine, mode)
            seconds = f"{time.perf_counter() - started:.0f}"
            if not reference:
                reference = found
                table.add_row(experiment.name, title, f"{len(found):,}", "", "", "", seconds)
                continue
            worst, where, moved = difference(reference, found)
            table.add_row("", title, f"{len(found):,}", f"{worst:.1e}", where, f"{moved:,}", seconds)
            Console(stderr=True).print(f"{experiment.name}: {title}: {worst:.1e}, {moved} moved", style="dim")
    console.print(table)


if __name__ == "__main__":
    main()
