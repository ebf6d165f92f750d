"""What each command does, from a loaded spec to files and words; the command line only parses and prints."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from runner.terminal import Quiet, reporter_for
from specs.language.errors import DiskFull, ModelError, Problem, RunError, RunSpecError, SpecError
from specs.language.load import Cell, Loaded
from specs.language.results import MatrixCell, MatrixResults, Results

if TYPE_CHECKING:
    from runner.model import Machine
    from runner.tracking import Tracked

__all__ = [
    "Ended",
    "check_deep",
    "list_models",
    "open_ui",
    "pull_models",
    "remake_report",
    "run_all",
    "show_plan",
]


@dataclass
class Ended:
    """What became of the cells of a spec."""

    summaries: list[tuple[Callable[[Console], None], dict[str, Any]]] = field(default_factory=list)
    """Of every finished cell: how to print its end, and the same as data."""
    troubles: list[RunSpecError] = field(default_factory=list)
    """Cells that could not be run, and runs that MLflow could not be shown."""
    matrix: MatrixResults | None = None
    """The runs of a matrix side by side."""
    cells: list[MatrixCell] = field(default_factory=list)
    tracked: list[str] = field(default_factory=list)
    """Ids of the runs in MLflow."""
    first: Results | None = None
    """Of the first run that finished."""
    tell_matrix: Callable[[Console], None] | None = None
    """How to print what the comparison found."""


def run_all(
    loaded: Loaded,
    *,
    out: Path,
    tracking_uri: str | None,
    track: bool,
    quiet: bool,
    memory: int | None = None,
) -> Ended:
    """Run every cell of a spec, write its folder and report, and mirror it in MLflow.

    ``memory``: bytes to use beside the weights; None for what suits the device.

    The folder is written before MLflow is asked: a store that does not answer costs no result. In a matrix a cell
    that cannot be run does not keep the others from it. Raises what is wrong with the spec, its model or the disk.
    """
    ended = Ended()
    started = datetime.now(UTC)
    machine: Machine | None = None
    several = len(loaded.cells) > 1
    with reporter_for(Console(stderr=True), quiet=quiet) as reporter, _told(reporter):
        if several:
            _require_addresses(loaded)  # a matrix must not run for hours up to a mistake in its last cell
        for n, cell in enumerate(loaded.cells, start=1):
            if several:
                reporter.heading(f"[{n}/{len(loaded.cells)}] {cell.label}")
            try:
                if machine is None or machine.spec != cell.experiment.model:
                    machine = None  # the old weights go before the new ones come
                    machine = _machine(cell, reporter, memory=memory)
                if not several:
                    _require_addresses(loaded, machine)
                following = loaded.cells[n].experiment.model if n < len(loaded.cells) else None
                again = following == machine.spec
                _run_one(loaded, cell, machine, reporter, out, tracking_uri, track, ended, again=again)
            except DiskFull:
                raise
            except (ModelError, RunError) as error:
                if not several:
                    raise
                from runner.matrix import failed_cell

                if machine is not None:
                    machine.rest()  # the error that is kept holds on to it
                ended.cells.append(failed_cell(cell, str(error.cause)))
                error.cause = f"[{n}/{len(loaded.cells)}] {cell.label}: {error.cause}"
                ended.troubles.append(error)
        if several:
            _side_by_side(loaded, out, tracking_uri, track, ended, started, reporter)
    return ended


def _side_by_side(
    loaded: Loaded,
    out: Path,
    tracking_uri: str | None,
    track: bool,
    ended: Ended,
    started: datetime,
    reporter: Quiet,
) -> None:
    """Compare the runs of a matrix, write the comparison and its page, and mirror it as the parent of the runs."""
    from reports.matrix import render_matrix
    from runner.matrix import compare, shown, write_matrix

    reporter.stage("matrix", None)
    matrix = compare(loaded, ended.cells, out, started, [ended.first] if ended.first is not None else [])
    folder = write_matrix(out, matrix)
    paths = {"folder": str(folder), "report": str(render_matrix(folder))}
    if track:
        from runner.tracking import mirror_matrix

        try:
            paths["mlflow"] = (
                f"{mirror_matrix(folder, matrix, ended.tracked, tracking_uri=tracking_uri).uri} (run-spec ui)"
            )
        except RunSpecError as error:
            ended.troubles.append(error)
    reporter.done("matrix")
    ended.matrix = matrix
    for _, data in ended.summaries:
        data["paths"]["matrix"] = str(folder)
    sentences = shown(matrix)

    def tell(console: Console) -> None:
        console.print()
        console.rule("all runs of the matrix")
        for name, sentence in sentences.items():
            console.print(Text(f"{name}: {sentence}" if name else sentence, style="" if name else "bold"))
        for label, path in paths.items():
            console.print(f"{label:>8}  {path}", highlight=False, soft_wrap=True)

    ended.tell_matrix = tell


class _Teller(logging.Handler):
    """Passes what the model code has to say (a repair, another source) on to the user."""

    def __init__(self, reporter: Quiet) -> None:
        super().__init__(logging.WARNING)
        self.reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Say one message."""
        self.reporter.say(record.getMessage())


@contextmanager
def _told(reporter: Quiet) -> Iterator[None]:
    log = logging.getLogger("run_spec")
    teller = _Teller(reporter)
    log.addHandler(teller)
    try:
        yield
    finally:
        log.removeHandler(teller)


def _require_addresses(loaded: Loaded, machine: Machine | None = None) -> None:
    """Refuse layers, neurons and sites that a model of the spec does not have, before anything is run."""
    from runner.deep import check_addresses

    problems: list[Problem] = []
    for cell in loaded.cells:
        if machine is None or machine.spec != cell.experiment.model:
            machine = _machine(cell, Quiet(), weights=False)
        problems += (p for p in check_addresses(cell.experiment, machine, cell.origins) if p not in problems)
    if problems:
        raise SpecError(problems)


def _machine(cell: Cell, reporter: Quiet, *, weights: bool = True, memory: int | None = None) -> Machine:
    """Make the machine of a cell; what is wrong with its model is told with its place in the spec."""
    from runner.model import Machine

    try:
        return Machine(cell.experiment.model, reporter, weights=weights, memory=memory)
    except ModelError as error:
        origin = cell.origins.at("model")
        raise type(error)(Problem(error.cause, "model", origin).headline(), remedy=error.remedy) from error


def _run_one(
    loaded: Loaded,
    cell: Cell,
    machine: Machine,
    reporter: Quiet,
    out: Path,
    tracking_uri: str | None,
    track: bool,
    ended: Ended,
    *,
    again: bool,
) -> None:
    """Run a cell; the weights are let go before the report, unless they are wanted ``again``."""
    from reports.render import render
    from runner.matrix import finished_cell
    from runner.run import run_cell
    from runner.summary import as_json, print_summary

    started = time.time()
    try:
        finished = run_cell(loaded, cell, machine, reporter, out)
    except BaseException:
        _say_partial(out, cell, reporter, started)
        raise
    if not again:
        machine.rest()
    reporter.stage("report", None)
    report = render(finished.folder)
    reporter.done("report")
    paths = {"folder": str(finished.folder), "report": str(report)}
    if track:
        reporter.stage("MLflow", None)
        try:
            tracked = _mirror(finished.folder, finished.results, tracking_uri)
            ended.tracked.append(tracked.run_id)
            paths["mlflow"] = f"{tracked.uri} (run-spec ui)"
            reporter.done("MLflow")
        except RunSpecError as error:
            ended.troubles.append(error)
    results = finished.results
    if len(loaded.cells) > 1:
        ended.cells.append(finished_cell(cell, finished.folder, results))
        ended.first = ended.first or results
    ended.summaries.append((lambda console: print_summary(console, results, paths), as_json(results, paths)))


def _say_partial(out: Path, cell: Cell, reporter: Quiet, started: float) -> None:
    """Say where the finished part of a run is, if this run has come so far as to finish one."""
    from runner.store import HASH_LENGTH, load, slug

    place = out / f"{slug(cell.experiment.name)}-{cell.hash[:HASH_LENGTH]}"
    for candidate in (place.with_name(place.name + ".partial"), place):
        try:
            results = load(candidate)
            new = (candidate / "results.json").stat().st_mtime >= started - 1
        except (OSError, RunError):
            continue
        if new and results.status == "partial":
            if results.rankings or results.interventions:
                reporter.say(f"what was finished is in {candidate}; its report: run-spec report {candidate}")
            return


def _mirror(folder: Path, results: Results, tracking_uri: str | None) -> Tracked:
    from reports.charts import figures
    from runner.tracking import mirror

    return mirror(folder, results, tracking_uri=tracking_uri, figures=figures(results))


def check_deep(loaded: Loaded) -> list[Problem]:
    """Bind a spec to its model's tokenizer and shape: what this accepts reaches the first forward pass.

    Layers, neurons and sites are compared with the model; prompts that cannot be bound are warnings, unless
    none is left.
    """
    from runner.bind import Binder
    from runner.compile import compile_plan
    from runner.deep import check_addresses
    from runner.localization.metrics import least_prompts
    from runner.model import Machine

    problems: list[Problem] = []
    machine: Machine | None = None
    for cell in loaded.cells:
        experiment = cell.experiment
        where = f"{cell.label}: " if cell.label else ""
        try:
            if machine is None or machine.spec != experiment.model:
                machine = Machine(experiment.model, Quiet(), weights=False)
            found = check_addresses(experiment, machine, cell.origins)
            problems += found
            if found:
                continue
            plan = compile_plan(experiment, Binder(machine.tokenizer), machine.shape.n_layers)
        except ModelError as error:
            origin = cell.origins.at("model")
            text = where + error.cause + (f"; {error.remedy}" if error.remedy else "")
            problems.append(Problem(text, "model", origin, level="model"))
            continue
        items = [*plan.left_out, *(i for s in plan.localize for i in s.left_out)]
        items += [i for s in plan.ask for i in s.left_out]
        for item in items:
            origin = cell.origins.at(*item.where.split("."))
            problems.append(Problem(f"{where}{item.what}: {item.reason}", item.where, origin, "model", "warning"))
        for stage in plan.localize:
            least = least_prompts(stage.spec)
            for owner, members in stage.groups.items():
                if stage.spec.metric != "random" and len(members) < least:
                    problems.append(
                        Problem(
                            f"{where}{owner} has {len(members)} prompts left; {stage.spec.metric} needs {least}",
                            f"localize.{stage.name}",
                            cell.origins.at("localize", stage.name),
                            level="model",
                        )
                    )
        for ask in plan.ask:
            parts = ((ask, "to ask"), *([] if ask.tuning is None else [(ask.tuning, "to tune on")]))
            for part, use in parts:
                if any(row.condition == "edit" for row in part.rows):
                    continue
                problems.append(
                    Problem(
                        f"{where}no question is left {use}",
                        f"interventions.{ask.name}",
                        cell.origins.at("interventions", ask.name),
                        level="model",
                    )
                )
    return problems


def show_plan(loaded: Loaded, console: Console, *, n_prompts: int, as_json: bool, memory: int | None = None) -> None:
    """Print what a spec would run and cost; no weights are loaded."""
    from runner.bind import Binder
    from runner.compile import compile_plan
    from runner.show import candidates, estimate, plan_costs, print_plan

    _require_addresses(loaded)
    documents: list[dict[str, Any]] = []
    machine: Machine | None = None
    for cell in loaded.cells:
        if machine is None or machine.spec != cell.experiment.model:
            machine = _machine(cell, Quiet(), weights=False, memory=memory)
        plan = compile_plan(cell.experiment, Binder(machine.tokenizer), machine.shape.n_layers)
        costs = plan_costs(plan, machine.cost)
        expected = estimate(machine, costs)
        if as_json:
            documents.append(
                {
                    "cell": cell.label,
                    "hash": cell.hash,
                    "stages": [{"name": name, **vars(c)} for name, c in costs],
                    "candidates": {stage.name: candidates(stage, machine.width) for stage in plan.localize},
                    "seconds": expected.seconds,
                    "bytes": expected.bytes,
                }
            )
        else:
            if cell.label:
                console.rule(cell.label)
            print_plan(console, plan, costs, expected, machine, n_prompts)
    if as_json:
        print(json.dumps(documents[0] if len(documents) == 1 else documents, ensure_ascii=False))


def list_models(console: Console, *, as_json: bool) -> None:
    """Print the card table: each model, its family, and whether its files are on this machine."""
    from runner.models import cards, local_state, resolve
    from runner.tables import print_rows

    rows = []
    for name, card in cards().items():
        state = local_state(resolve(name))
        rows.append(
            {
                "name": name,
                "hub": card.hub_id,
                "family": card.family,
                "wheels": card.wheels is not None,
                "status": state.status,
                "origin": state.origin,
                "megabytes": round((state.bytes_here or state.bytes_to_fetch or 0) / 1e6) or None,
            }
        )
    if as_json:
        print(json.dumps(rows))
        return
    listed = []
    for row in rows:
        size = f"{row['megabytes']:,} MB" if row["megabytes"] else ""
        here = f"yes, {size} ({row['origin']})" if row["status"] == "cached" else str(row["status"])
        if row["status"] != "cached" and row["wheels"]:
            here += f", also as wheels{f' ({size} to fetch)' if size else ''}"
        listed.append([str(row["name"]), str(row["family"]), str(row["hub"]), here])
    print_rows(console, ["model", "family", "hub id", "here"], listed, texts=True)
    console.print("also: any hub id (org/name), a local folder, a GGUF file", style="dim")


def pull_models(names: Sequence[str], origin: str, console: Console) -> None:
    """Fetch models and check their files against their checksums."""
    from runner.model import progress_of
    from runner.models import pull, resolve

    sources = [resolve(name) for name in names]
    with reporter_for(console, quiet=False) as reporter, _told(reporter):
        for source in sources:
            path = pull(source, progress_of(reporter), origin=origin)  # type: ignore[arg-type]
            reporter.done(source.name, note=str(path))


def remake_report(folder: Path, *, track: bool, tracking_uri: str | None) -> dict[str, str]:
    """Render a run's report again from its folder, and mirror the run again if asked."""
    from reports.matrix import MATRIX, render_matrix
    from reports.render import load, render

    if folder.name in ("results.json", MATRIX):
        folder = folder.parent
    if (folder / MATRIX).is_file():
        if track:
            raise RunError(
                f"{folder} compares the runs of a matrix, and is mirrored when they are run",
                remedy="run the spec again: what is unchanged is reused",
            )
        return {"folder": str(folder), "report": str(render_matrix(folder))}
    paths = {"folder": str(folder), "report": str(render(folder))}
    if track:
        paths["mlflow"] = f"{_mirror(folder, load(folder), tracking_uri).uri} (run-spec ui)"
    return paths


def open_ui(tracking_uri: str | None, port: int, console: Console) -> int:
    """Serve the MLflow UI on the store that runs are mirrored in, until interrupted."""
    import subprocess

    from runner.tracking import ui_command

    command = ui_command(tracking_uri, port)
    console.print(f"{command.url}  (Ctrl-C to stop)", highlight=False, soft_wrap=True)
    if command.note:
        console.print(command.note, style="dim", highlight=False)
    try:
        return subprocess.call(command.arguments, env={**os.environ, **command.environment})
    except KeyboardInterrupt:
        return 0
