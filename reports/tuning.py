"""Values chosen on other questions: who chose what, what it gave there and where it is scored, and the whole curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reports import charts, formats, view
from reports.curves import SERIES_WORDS, Panel, owners, panels
from reports.drawing import to_svg
from reports.measures import words
from reports.sections.section import Cell, Column, Figure, Table
from specs.language.results import EVERYBODY, InterventionResult, Results, TunedValue
from specs.language.words import ConditionName

__all__ = ["TuningView", "tuning_view"]

MOST_PANELS = 10
CONDITIONS: tuple[ConditionName, ...] = ("edit", "random_neurons", "wrong_cell")


@dataclass(frozen=True)
class TuningView:
    """How the values of a sweep were chosen."""

    title: str
    note: str
    table: Table
    figures: list[Figure]


def tuning_view(results: Results, result: InterventionResult, numbers: Callable[[Panel], Table]) -> TuningView | None:
    """Show the choice of every owner and condition, and the curves it was made by; None without one.

    ``numbers`` sets out the figures of a chart.
    """
    tuning = result.tuning
    if tuning is None:
        return None
    said = words(tuning.measure)
    asked = formats.counted(tuning.n_asked, "question")
    known = "all of them used" if tuning.known_rule == "any" else f"{tuning.n_known} known to the clean model"
    best = "largest" if tuning.aim == "maximize" else "smallest"
    note = (
        f"Each owner, and each control, takes the value at which the mean {said.title} is {best} over {asked} that are "
        f"not scored ({known}); {tuning.ties}. What is scored elsewhere on this page was run at these values alone."
    )
    return TuningView(
        f"Values chosen on {formats.visible(tuning.on)}",
        note,
        _table(results, result),
        _figures(results, result, numbers),
    )


def _table(results: Results, result: InterventionResult) -> Table:
    tuning = result.tuning
    assert tuning is not None
    said = words(tuning.measure)
    rows = []
    for owner in dict.fromkeys(value.edited for value in tuning.chosen):
        for condition in CONDITIONS:
            mine = [v for v in tuning.chosen if (v.edited, v.condition) == (owner, condition)]
            if not mine:
                continue
            name = "cell" if condition == "edit" else SERIES_WORDS[condition, "target"]
            rows.append(
                [
                    Cell(view.label(results, owner)),
                    Cell(name, f"{len(mine)} draws" if len(mine) > 1 else ""),
                    Cell("; ".join(_value(value) for value in mine)),
                    _figure([v.figure for v in mine], mine[0].n, said.decimals),
                    _figure([v.score for v in mine], max(v.n_scored for v in mine), said.decimals),
                ]
            )
    columns = [
        Column("owner"),
        Column("condition"),
        Column("value chosen", note=", ".join(tuning.axes)),
        Column(said.title, "number", f"on {formats.visible(tuning.on)}"),
        Column(said.title, "number", f"on {formats.visible(', '.join(result.ask))}"),
    ]
    return Table(columns, rows)


def _value(value: TunedValue) -> str:
    if len(value.axes) == 1:
        return formats.axis_value(next(iter(value.axes.values())))
    return formats.axes(value.axes)


def _figure(figures: Sequence[float | None], n: int, decimals: int) -> Cell:
    known = [figure for figure in figures if figure is not None]
    if not known:
        return Cell(formats.MISSING)
    if len(known) > 1 and min(known) != max(known):
        return Cell(formats.interval(min(known), max(known), decimals), f"n {n}")
    return Cell(formats.number(known[0], decimals), f"n {n}")


def _figures(results: Results, result: InterventionResult, numbers: Callable[[Panel], Table]) -> list[Figure]:
    """Draw the curve of every owner on the questions that were tuned on."""
    tuning = result.tuning
    assert tuning is not None
    tried = result.model_copy(
        update={"axes": tuning.axes, "summaries": tuning.summaries, "measures": [tuning.measure], "tuning": None}
    )
    found = [p for owner in owners(tried) if owner != EVERYBODY for p in panels(tried, tuning.measure, owner)]
    drawn = found[:MOST_PANELS]
    domain = charts.shared_domain(drawn)
    figures = []
    for i, panel in enumerate(drawn):
        title = charts.panel_title(results, panel)
        own = [v for v in tuning.chosen if v.edited == panel.owner and v.condition == "edit"]
        if own:
            title += f": {_value(own[0])} is chosen"
        what = f"{words(panel.measure).title} on {tuning.on}, {title}"
        svg = to_svg(charts.sweep(panel, domain), f"{result.name}-tuning-{i}", what, charts.describe(panel, title))
        figures.append(Figure(title, svg, table=numbers(panel)))
    return figures
