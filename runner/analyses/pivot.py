"""``pivot``: a measure of an intervention as a matrix of two columns of its rows."""

from __future__ import annotations

import math

import numpy as np

from runner.analyses.protocol import Findings
from runner.analyses.rows import clean_values, in_order, reader, rows_of
from runner.summaries import TAILS, resamples
from specs.language.errors import RunError
from specs.language.experiment import Analysis as AnalysisSpec
from specs.language.references import accuracy_of
from specs.language.results import AnalysisResult, CellFigure

__all__ = ["pivot", "ratio_interval"]

UNDEFINED = 0.05
"""Share of the resamples without a ratio from which on a ratio has no interval."""
Place = tuple[str, str]
Units = dict[tuple[str, str, int], list[tuple[float, float]]]
"""Of one cell, question by question: (value, value in the clean run; 0 where that is not asked for)."""


def pivot(name: str, spec: AnalysisSpec, found: Findings) -> AnalysisResult:
    """Average a measure over the questions of each cell of a matrix.

    Taken are the rows under the edit, about the owner and about others, that the clean model knows and whose value is
    defined; with ``condition`` or ``role`` as a column, all of those. What was observed of one question (the draws of a
    control, several owners) is averaged first. One row of the table for each value of ``rows``; a cell without a
    question is empty. Intervals are 95 percent percentile bootstraps over questions.

    ``accuracy_drop@n`` is (clean - edited) / clean of the means of ``accuracy@n`` over the questions of the cell, both
    resampled together; where the clean mean is 0 it is undefined, and said to be. Source: accuracy drop between
    relations, arXiv 2502.17355. Figures: ``<row>/<column>``; of a matrix of ``asked`` and ``edited`` also ``same`` and
    ``different``, the means over the cells in which both are the same, and over the others.
    """
    assert spec.pivot is not None and spec.rows is not None and spec.columns is not None and spec.value is not None
    rows = rows_of(name, spec.pivot, found)
    of_row, of_column = (reader(column, found, spec.pivot) for column in (spec.rows, spec.columns))
    dropped = accuracy_of(spec.value)
    measure = dropped or spec.value
    clean = clean_values(rows, measure) if dropped else {}
    cells: dict[Place, Units] = {}
    counted, lacking = 0, 0
    for row in rows:
        asked = row.asked
        if "condition" not in (spec.rows, spec.columns) and asked.condition != "edit":
            continue
        if "role" not in (spec.rows, spec.columns) and asked.role == "unknown":
            continue
        value = row.values.get(measure)
        before = clean.get((asked.edited, asked.prompt_id)) if dropped else 0.0
        if row.known is False or value is None or before is None:
            continue
        line, column = of_row(row), of_column(row)
        if line is None or column is None:
            lacking += 1
            continue
        counted += 1
        unit = (asked.prompt, asked.relation or "", asked.prompt_id)
        cells.setdefault((line, column), {}).setdefault(unit, []).append((float(value), before))
    if lacking:
        found.leave_out(name, f"{lacking} rows of {spec.pivot}", f"they have no {spec.rows} or no {spec.columns}")
    if not cells:
        raise RunError(f"'{name}': no row of '{spec.pivot}' has {spec.value}, {spec.rows} and {spec.columns}")
    lines, columns = in_order(line for line, _ in cells), in_order(column for _, column in cells)
    seed = found.experiment.seed
    figures = [
        _figure(place, cells[place], seed, drop=bool(dropped))
        for place in ((line, column) for line in lines for column in columns)
        if place in cells
    ]
    for cell in figures:
        if cell.reason:
            found.leave_out(name, f"{cell.row}/{cell.column}", cell.reason)
    means = {(cell.row, cell.column): cell.value for cell in figures if cell.value is not None}
    if not means:
        raise RunError(f"'{name}': the clean model answers none of the questions of {spec.pivot}: there is no drop")
    square = _square(means) if {spec.rows, spec.columns} == {"asked", "edited"} else {}
    return AnalysisResult(
        name=name,
        verb="pivot",
        of=spec.pivot,
        columns=[f"{spec.rows} \\ {spec.columns}", *columns],
        rows=[[line, *(means.get((line, column)) for column in columns)] for line in lines],
        sentence=_of_square(spec, means, square) if len(square) == 2 else _sentence(spec, means, counted),
        figures={f"{line}/{column}": mean for (line, column), mean in means.items()} | square,
        cells=figures,
    )


def _figure(place: Place, units: Units, seed: int, *, drop: bool) -> CellFigure:
    # In the order of the texts, so that the order of work changes no digit of an interval.
    pairs = np.array([[math.fsum(v) / len(v) for v in zip(*units[unit], strict=True)] for unit in sorted(units)])
    edited, clean = (math.fsum(column) / len(pairs) for column in pairs.T)
    if not drop:
        low, high = ratio_interval(pairs[:, 0], np.ones(len(pairs)), seed)
        return CellFigure(row=place[0], column=place[1], n=len(pairs), value=edited, low=low, high=high)
    if clean == 0:
        reason = f"the clean model answers none of its {len(pairs)} questions, so nothing can drop"
        return CellFigure(row=place[0], column=place[1], n=len(pairs), clean=clean, edited=edited, reason=reason)
    low, high = ratio_interval(pairs[:, 1] - pairs[:, 0], pairs[:, 1], seed)
    value = (clean - edited) / clean
    return CellFigure(
        row=place[0], column=place[1], n=len(pairs), value=value, low=low, high=high, clean=clean, edited=edited
    )


def ratio_interval(above: np.ndarray, below: np.ndarray, seed: int) -> tuple[float | None, float | None]:
    """Give the 95 percent bootstrap interval of sum(above) / sum(below), over the same ``n`` units of ``[n]`` each.

    (None, None) for fewer than two units, and where more than one resample in twenty has no ratio.
    """
    n = len(above)
    if n < 2:
        return None, None
    parts = []
    for counts in resamples(n, seed):
        total = counts @ below
        parts.append((counts @ above)[total > 0] / total[total > 0])
    ratios = np.concatenate(parts)
    if len(ratios) < (1 - UNDEFINED) * sum(len(counts) for counts in resamples(n, seed)):
        return None, None
    low, high = np.quantile(ratios, TAILS)
    return float(low), float(high)


def _square(means: dict[Place, float]) -> dict[str, float]:
    """Average the cells of a matrix of asked and edited in which both are the same, and the others."""
    parts = {
        "same": [mean for (line, column), mean in means.items() if line == column],
        "different": [mean for (line, column), mean in means.items() if line != column],
    }
    return {part: math.fsum(values) / len(values) for part, values in parts.items() if values}


def _of_square(spec: AnalysisSpec, means: dict[Place, float], square: dict[str, float]) -> str:
    other = [place for place in means if place[0] != place[1]]
    extreme = max if accuracy_of(spec.value) or "loss" in str(spec.value) else min
    most = extreme(other, key=lambda place: means[place])
    asked, edited = most if spec.rows == "asked" else most[::-1]
    return (
        f"{spec.value} is {square['same']:.3g} on average where what is asked is what is edited "
        f"({len(means) - len(other)} cells), and {square['different']:.3g} elsewhere ({len(other)}); there it is "
        f"{'highest' if extreme is max else 'lowest'} for {asked} under the edit of {edited} ({means[most]:.3g})."
    )


def _sentence(spec: AnalysisSpec, means: dict[Place, float], n: int) -> str:
    low, high = min(means, key=lambda place: means[place]), max(means, key=lambda place: means[place])
    text = f"{spec.value} over {n} rows: lowest at {low[0]} and {low[1]} ({means[low]:.3g}), "
    return text + f"highest at {high[0]} and {high[1]} ({means[high]:.3g})."
