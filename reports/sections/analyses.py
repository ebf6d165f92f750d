"""What the analyses derived from the results."""

from __future__ import annotations

from dataclasses import dataclass

from reports import formats
from reports.sections.section import Cell, Column, Section, Table
from specs.language.results import AnalysisResult, Results


@dataclass(frozen=True)
class AnalysisView:
    """One analysis: its sentence, its figures and its table."""

    name: str
    how: str
    sentence: str
    figures: list[tuple[str, str]]
    table: Table


def build(results: Results) -> Section | None:
    """Show every analysis as the table it is; None when there is none."""
    shown = [_analysis(analysis) for analysis in results.analyses.values()]
    return Section("analyses", "Analyses", {"analyses": shown}) if shown else None


def _analysis(analysis: AnalysisResult) -> AnalysisView:
    columns = []
    for i, name in enumerate(analysis.columns):
        values = [row[i] for row in analysis.rows if row[i] is not None]
        counts = bool(values) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        columns.append(Column(name.replace("_", " "), "number" if counts else "text"))
    rows = [[_cell(value) for value in row] for row in analysis.rows]
    figures = [(name.replace("_", " "), _figure(value)) for name, value in analysis.figures.items()]
    return AnalysisView(
        analysis.name, f"{analysis.verb} of {analysis.of}", analysis.sentence, figures, Table(columns, rows)
    )


def _cell(value: str | float | int | bool | None) -> Cell:
    if value is None:
        return Cell(formats.MISSING)
    if isinstance(value, bool):
        return Cell("✓ yes" if value else "✗ no", tone="good" if value else "bad")
    if isinstance(value, int):
        return Cell(formats.whole(value))
    if isinstance(value, float):
        return Cell(_figure(value))
    return Cell(formats.visible(value))


def _figure(value: float) -> str:
    """Give a count as a whole number."""
    return formats.whole(value) if value.is_integer() and abs(value) < 1e9 else formats.number(value)
