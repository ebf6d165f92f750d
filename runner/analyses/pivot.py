"""``pivot``: a measure of an intervention as a matrix of two columns of its rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from runner.analyses.protocol import Findings
from runner.observe import Row
from specs.language.conditions import number_text
from specs.language.errors import RunError
from specs.language.experiment import Analysis as AnalysisSpec
from specs.language.results import AnalysisResult

__all__ = ["pivot"]


def pivot(name: str, spec: AnalysisSpec, found: Findings) -> AnalysisResult:
    """Average a measure over the questions of each cell of a matrix.

    Taken are the rows under the edit, about the owner and about others, that the clean model knows and whose value is
    defined; with ``condition`` or ``role`` as a column, all of those. Draws count one by one. One row of the table for
    each value of ``rows``; a cell without a question is empty. Figures: ``<row>/<column>``.
    """
    assert spec.pivot is not None and spec.rows is not None and spec.columns is not None and spec.value is not None
    if spec.pivot not in found.rows:
        raise RunError(f"'{name}': '{spec.pivot}' was not done")
    attributes = {key: entity.attributes for key, entity in found.experiment.entities.items()}
    of_row, of_column = _reader(spec.rows, attributes), _reader(spec.columns, attributes)
    cells: dict[tuple[str, str], list[float]] = {}
    lacking = 0
    for row in found.rows[spec.pivot]:
        if "condition" not in (spec.rows, spec.columns) and row.asked.condition != "edit":
            continue
        if "role" not in (spec.rows, spec.columns) and row.asked.role == "unknown":
            continue
        value = row.values.get(spec.value)
        if row.known is False or value is None:
            continue
        place = of_row(row), of_column(row)
        if place[0] is None or place[1] is None:
            lacking += 1
            continue
        cells.setdefault((place[0], place[1]), []).append(float(value))
    if lacking:
        found.leave_out(name, f"{lacking} rows of {spec.pivot}", f"they have no {spec.rows} or no {spec.columns}")
    if not cells:
        raise RunError(f"'{name}': no row of '{spec.pivot}' has {spec.value}, {spec.rows} and {spec.columns}")
    lines, columns = _in_order(row for row, _ in cells), _in_order(column for _, column in cells)
    means = {place: math.fsum(values) / len(values) for place, values in cells.items()}
    return AnalysisResult(
        name=name,
        verb="pivot",
        of=spec.pivot,
        columns=[f"{spec.rows} \\ {spec.columns}", *columns],
        rows=[[line, *(means.get((line, column)) for column in columns)] for line in lines],
        sentence=_sentence(spec, means, cells),
        figures={f"{line}/{column}": mean for (line, column), mean in means.items()},
    )


def _reader(column: str, attributes: dict[str, dict[str, str | float]]) -> Callable[[Row], str | None]:
    """Give the function from a row to its value of a column, as text; None where it has none."""

    def read(row: Row) -> str | None:
        asked = row.asked
        value: object
        if column in asked.axes:
            value = asked.axes[column]
        elif column in ("asked", "prompt", "text"):
            value = asked.entity if column == "asked" else asked.prompt
        elif hasattr(asked, column):
            value = getattr(asked, column)
        else:
            value = attributes.get(asked.entity or "", {}).get(column)
        return number_text(value) if isinstance(value, int | float) else None if value is None else str(value)

    return read


def _in_order(values: Iterable[str]) -> list[str]:
    """List different values as they come; numbers by size."""
    different = list(dict.fromkeys(values))
    try:
        return sorted(different, key=float)
    except ValueError:
        return different


def _sentence(
    spec: AnalysisSpec, means: dict[tuple[str, str], float], cells: dict[tuple[str, str], list[float]]
) -> str:
    low, high = min(means, key=lambda place: means[place]), max(means, key=lambda place: means[place])
    n = sum(map(len, cells.values()))
    text = f"{spec.value} over {n} rows: lowest at {low[0]} and {low[1]} ({means[low]:.3g}), "
    return text + f"highest at {high[0]} and {high[1]} ({means[high]:.3g})."
