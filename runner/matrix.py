"""What the runs of a matrix are side by side: made from their folders when all of them have ended."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from runner.analyses.across import agreement_across
from runner.atomic import refusals, write_text
from runner.claims import evaluate
from runner.localization.columns import Columns
from runner.sentence import effects
from runner.store import HASH_LENGTH, locate, read_scores, slug
from specs.language.errors import RunError
from specs.language.experiment import Analysis, Experiment
from specs.language.load import Cell, Loaded
from specs.language.results import AnalysisResult, ClaimResult, Effect, MatrixCell, MatrixResults, RankedNeuron, Results
from specs.language.shortened import MOST_LISTED, shortened

__all__ = ["MATRIX", "compare", "failed_cell", "finished_cell", "write_matrix"]

MATRIX = "matrix.json"


def _listed(effect: Effect) -> Effect:
    """Cut the list of a large set to its first neurons."""
    if len(effect.neurons) <= MOST_LISTED:
        return effect
    return effect.model_copy(update={"neurons": effect.neurons[:MOST_LISTED], "n_neurons": effect.size})


def finished_cell(cell: Cell, folder: Path, results: Results) -> MatrixCell:
    """Take from a finished run what the comparison shows: winners, means over all relations, effects, outcomes."""
    whole, results = results, shortened(results)
    rankings = {
        name: ranking.model_copy(
            update={
                "groups": {
                    key: group.model_copy(update={"neurons": group.neurons[:1], "values": {}, "prompts": []})
                    for key, group in ranking.groups.items()
                }
            }
        )
        for name, ranking in results.rankings.items()
    }
    interventions = {
        name: done.model_copy(
            update={
                "summaries": [s for s in done.summaries if s.relation is None],
                "texts": [],
                "random_neurons": {},
            }
        )
        for name, done in results.interventions.items()
    }
    outcomes = [claim.outcome for claim in results.claims]
    return MatrixCell(
        label=cell.label,
        axes=dict(cell.axes),
        hash=cell.hash,
        folder=folder.name,
        status=results.status,
        reason=results.reason,
        answer=results.answer,
        seconds=results.seconds,
        model=results.model,
        rankings=rankings,
        interventions=interventions,
        effects=[_listed(effect) for effect in effects(whole)],
        claims={outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)},
    )


def failed_cell(cell: Cell, reason: str) -> MatrixCell:
    """Record a run that could not be made, with its reason."""
    return MatrixCell(label=cell.label, axes=dict(cell.axes), hash=cell.hash, status="failed", reason=reason)


def compare(
    loaded: Loaded, cells: Sequence[MatrixCell], out: Path, started: datetime, results: Sequence[Results] = ()
) -> MatrixResults:
    """Put the runs of a matrix side by side and make the analyses across its axes. ``results``: of finished runs."""
    first = loaded.cells[0].experiment
    axes = {axis: list(dict.fromkeys(cell.axes[axis] for cell in loaded.cells)) for axis in loaded.cells[0].axes}
    complete = [cell for cell in cells if cell.status == "complete"]
    matrix = MatrixResults(
        name=first.name,
        description=first.description or "",
        hash=_hash(cells),
        axes=axes,
        status="complete" if len(complete) == len(cells) else "partial" if complete else "failed",
        reason="; ".join(f"{cell.label}: {cell.reason}" for cell in cells if cell.status != "complete"),
        started=started.astimezone(UTC).isoformat(timespec="seconds"),
        seconds=round((datetime.now(UTC) - started).total_seconds(), 1),
        cells=list(cells),
    )
    for name, spec in _across(first).items():
        matrix.analyses[name] = _agreement(name, spec, matrix, out)
    matrix.claims = _claims(first, matrix, results)
    matrix.answer = _answer(matrix)
    return matrix


def write_matrix(out: Path, matrix: MatrixResults) -> Path:
    """Write the document into a folder of its own, beside those of the runs; give the folder. Raises DiskFull."""
    folder = out / f"{slug(matrix.name)}-matrix-{matrix.hash}"
    with refusals(folder, "make room and run again; the runs themselves are kept"):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / MATRIX, matrix.model_dump_json(indent=1))
    return folder


def _hash(cells: Sequence[MatrixCell]) -> str:
    """Name the matrix by the runs in it, whatever their order."""
    return hashlib.sha256(" ".join(sorted(cell.hash for cell in cells)).encode()).hexdigest()[:HASH_LENGTH]


def _across(experiment: Experiment) -> dict[str, Analysis]:
    """List the analyses of a spec that compare the runs of its matrix, and are wanted."""
    wanted = experiment.analyses if experiment.only is None else experiment.only
    return {
        name: spec
        for name, spec in experiment.analyses.items()
        if name in wanted and spec.across is not None and spec.across in experiment.matrix
    }


def _agreement(name: str, spec: Analysis, matrix: MatrixResults, out: Path) -> AnalysisResult:
    def rank(cell: MatrixCell, ranking: str, owner: str, neuron: RankedNeuron) -> tuple[int, float]:
        layers, score = read_scores(locate(out / cell.folder), ranking, owner)
        place = list(layers).index(neuron.layer) if neuron.layer in layers else None
        if place is None:
            return int(score.size) + 1, 0.0  # a layer that the run does not rank is behind all that it does
        widths = cell.rankings[ranking].widths  # none where layers are ranked, which are one column
        column = Columns(tuple(widths), tuple(widths.values())).column(neuron.site, neuron.neuron or 0) if widths else 0
        assert column is not None
        own = float(score[place, column])
        return int((score > own).sum()) + 1, own

    try:
        return agreement_across(name, spec, matrix.cells, matrix.axes, rank)
    except RunError as error:
        return AnalysisResult(
            name=name, verb="agreement", of=spec.agreement or "", columns=[], rows=[], sentence=f"{error.cause}."
        )


def _claims(experiment: Experiment, matrix: MatrixResults, results: Sequence[Results]) -> list[ClaimResult]:
    """Judge the claims on analyses across the matrix; each run has judged its own."""
    if not results or not matrix.analyses:
        return []
    about = [
        expectation.model_copy(
            update={"claims": [c for c in expectation.claims if c.quantity.partition("/")[0] in matrix.analyses]}
        )
        for expectation in experiment.expect
    ]
    whole = results[0].model_copy(update={"analyses": matrix.analyses})
    # Without the matrix: the claims are on the comparison, and here it has been made.
    return evaluate(experiment.model_copy(update={"expect": about, "matrix": {}}), whole)


def _answer(matrix: MatrixResults) -> str:
    """Say which runs had a specific effect, intervention by intervention, and what the analyses found."""
    parts = []
    for name in dict.fromkeys(effect.intervention for cell in matrix.cells for effect in cell.effects):
        counted = []
        for cell in matrix.cells:
            mine = [e for e in cell.effects if e.intervention == name and "/" not in e.edited]
            if mine:
                specific = sum(effect.verdict == "specific" for effect in mine)
                counted.append(f"{', '.join(cell.axes.values())} for {specific} of {len(mine)}")
        parts.append(f"{name} has a specific effect with {'; '.join(counted)}")
    measured = {effect.intervention for cell in matrix.cells for effect in cell.effects}
    done = {name: one for cell in matrix.cells for name, one in cell.interventions.items()}
    for name, one in done.items():
        if name not in measured:
            known = f"the clean model knows {one.n_known} of {one.n_asked} answers"
            parts.append(f"{name} has no figure in any run ({known})")
    failed = [cell.label for cell in matrix.cells if cell.status != "complete"]
    if failed:
        parts.append(f"not finished: {', '.join(failed)}")
    text = ". ".join(part[0].upper() + part[1:] for part in parts)
    return f"{text}." if text else "Nothing was edited in any run of the matrix."


def shown(matrix: MatrixResults) -> Mapping[str, str]:
    """Give the sentences of a comparison for the terminal: the answer, then each analysis by its name."""
    return {"": matrix.answer, **{name: found.sentence for name, found in matrix.analyses.items()}}
