"""What the analyses derived from the results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reports import charts, derived, formats
from reports.drawing import ACCENT, PALE, to_svg
from reports.sections.section import Cell, Column, Figure, Section, Table
from specs.language.errors_of_answers import SHIPPED
from specs.language.results import AnalysisResult, CellFigure, Results

MANY_ROWS = 24
"""From so many rows on, a table that has a chart is folded away below it."""
MOST_ROWS = 200
"""Rows of a table that the page shows."""


@dataclass(frozen=True)
class AnalysisView:
    """One analysis: its sentence, its figures and its table."""

    name: str
    how: str
    sentence: str
    figures: list[tuple[str, str]]
    table: Table | None
    """None where it stands below the chart, to be unfolded."""
    note: str
    chart: Figure | None
    examples: Table | None = None


def build(results: Results) -> Section | None:
    """Show every analysis as the table it is; None when there is none."""
    return of_all(results.analyses.values())


def of_all(analyses: Iterable[AnalysisResult]) -> Section | None:
    """Show some analyses, of a run or of a matrix; None when there is none."""
    shown = [_analysis(analysis) for analysis in analyses]
    return Section("analyses", "Analyses", {"analyses": shown}) if shown else None


def _analysis(analysis: AnalysisResult) -> AnalysisView:
    columns = []
    for i, name in enumerate(analysis.columns):
        values = [row[i] for row in analysis.rows if row[i] is not None]
        counts = bool(values) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        # The columns of a pivot are names, which stay as they are.
        shown = formats.visible(name) if analysis.cells else name.replace("_", " ")
        columns.append(Column(shown, "number" if counts else "text"))
    rows = _pivot_rows(analysis) if analysis.cells else [[_cell(value) for value in row] for row in analysis.rows]
    # What names a pair or a layer stands in the table; claims find it under that name all the same.
    plain = {name: value for name, value in analysis.figures.items() if _is_whole(name)}
    figures = [(name.replace("_", " "), _figure(value)) for name, value in plain.items()]
    table, drawn = Table(columns, rows[:MOST_ROWS]), chart(analysis)
    # The cells of a pivot stand in the chart; what they rest on makes a table too wide to come first.
    folded = drawn is not None and (len(rows) >= MANY_ROWS or bool(analysis.cells))
    if drawn is not None and folded:
        drawn = replace(drawn, table=table)
    return AnalysisView(
        analysis.name,
        f"{analysis.verb} of {analysis.of}",
        analysis.sentence,
        figures,
        None if folded else table,
        f"The first {MOST_ROWS} of {len(rows):,} rows; all are in results.json." if len(rows) > MOST_ROWS else "",
        drawn,
        _examples(analysis),
    )


def _is_whole(name: str) -> bool:
    """Tell a figure of the whole analysis from one of a cell of its table."""
    return "/" not in name and re.fullmatch(r"L\d+", name) is None


def chart(analysis: AnalysisResult) -> Figure | None:
    """Draw an analysis; None where there is nothing to draw, or no chart for its verb."""
    draw = {
        "profile": _profile,
        "correlation": _correlation,
        "pivot": _pivot,
        "overlap": _overlap,
        "agreement": _agreement,
        "cumulativity": _cumulativity,
        "difference": _difference,
        "errors": _errors,
    }.get(analysis.verb)
    return draw(analysis) if draw is not None and analysis.rows else None


def _drawn(analysis: AnalysisResult, title: str, picture: Callable[[int], Any], note: str = "") -> Figure:
    ident = f"analysis-{analysis.name}"
    return Figure(
        title,
        to_svg(picture(derived.WIDTH + 160), f"{ident}-w", title, analysis.sentence),
        to_svg(picture(charts.NARROW), f"{ident}-n", title, analysis.sentence),
        note=note,
    )


def _profile(analysis: AnalysisResult) -> Figure:
    counts = [(str(site), int(layer or 0), float(n or 0)) for site, layer, n, _ in analysis.rows]
    note = "Neurons of all owners; one that several of them share counts for each."
    return _drawn(analysis, "Neurons by layer", lambda width: derived.bars(counts, width=width), note)


def _correlation(analysis: AnalysisResult) -> Figure:
    first, second = analysis.columns[1:3]
    points = []
    for owner, x, y in analysis.rows:
        tip = f"{formats.visible(str(owner))}: {formats.number(_float(x))}, {formats.number(_float(y))}"
        points.append({"x": _float(y), "y": _float(x), "tip": tip})
    note = "One dot for each owner. An axis that spans a factor of 100 or more is logarithmic."
    return _drawn(analysis, f"{first} by {second}", lambda width: derived.cloud(points, (second, first), width), note)


def _pivot(analysis: AnalysisResult) -> Figure | None:
    columns = analysis.columns[1:]
    rests_on = {(cell.row, cell.column): cell for cell in analysis.cells}
    cells = []
    for row in analysis.rows:
        for column, value in zip(columns, row[1:], strict=True):
            number = None if value is None else _float(value)
            shown = "" if number is None else formats.number(number)
            found = rests_on.get((str(row[0]), column))
            tip = f"{row[0]}, {column}: {shown}" + (f" ({_rests_on(found)})" if found is not None else "")
            cells.append({"line": str(row[0]), "column": column, "value": number, "text": shown, "tip": tip})
    values = [_float(value) for row in analysis.rows for value in row[1:] if value is not None]
    lines = [str(row[0]) for row in analysis.rows]
    titles = analysis.columns[0].split(" \\ ")
    if _is_drop(analysis):
        note = "1: no right answer is left; 0: as many as without the edit; blue: more. "
        note += "An empty cell: the clean model has no right answer that could be lost, or nothing was asked."
        for cell in cells:
            cell["text"] = "" if cell["value"] is None else f"{cell['value']:.2f}".replace("-", formats.MINUS)
        title = "Share of right answers that the edit takes away"
        return _matrix(analysis, title, cells, lines, columns, (-1, 1), titles, note, both_ways=True)
    domain = (min(0.0, *values), max(values) if len(set(values)) > 1 else max(values) + 1)
    return _matrix(analysis, "Means", cells, lines, columns, domain, titles)


def _is_drop(analysis: AnalysisResult) -> bool:
    return any(cell.clean is not None for cell in analysis.cells)


def _pivot_rows(analysis: AnalysisResult) -> list[list[Cell]]:
    """Set out a matrix with what each of its cells rests on."""
    rests_on = {(cell.row, cell.column): cell for cell in analysis.cells}
    rows = []
    for row in analysis.rows:
        line = [_cell(row[0])]
        for column, value in zip(analysis.columns[1:], row[1:], strict=True):
            found = rests_on.get((str(row[0]), column))
            shown = formats.MISSING if value is None else formats.number(_float(value), 3)
            line.append(Cell(shown, "" if found is None else _rests_on(found)))
        rows.append(line)
    return rows


def _rests_on(cell: CellFigure) -> str:
    """Say what a mean or a drop rests on: its interval, both means of a drop, and the number of questions."""
    parts = [formats.interval(cell.low, cell.high, 2)]
    if cell.clean is not None and cell.edited is not None:
        parts.append(f"from {formats.number(cell.clean, 2)} to {formats.number(cell.edited, 2)}")
    return ", ".join(part for part in (*parts, f"n {cell.n}") if part)


def _overlap(analysis: AnalysisResult) -> Figure | None:
    names = list(dict.fromkeys(str(name) for row in analysis.rows for name in row[:2]))
    lines, columns = names, names
    blocks = list(dict.fromkeys(name.partition("/")[0] for name in names))
    if analysis.of == ", ".join(blocks) and len(blocks) == 2:
        # Of two rankings it is what they have in common that is asked; each by itself stands in the table.
        lines, columns = ([n for n in names if n.partition("/")[0] == block] for block in blocks)
    cells = []
    for row in analysis.rows:
        one, other, size, other_size, shared, jaccard, chance = row[:7]
        value = None if jaccard is None else _float(jaccard)
        tip = f"{one} ({size}) and {other} ({other_size}): {shared} shared, Jaccard {formats.number(value)}, "
        tip += f"{formats.number(_float(chance))} by chance"
        for line, column in ((str(one), str(other)), (str(other), str(one))):
            if line in lines and column in columns:
                text = formats.whole(_float(shared))
                cells.append({"line": line, "column": column, "value": value, "text": text, "tip": tip})
    most = max((float(str(cell["value"] or 0)) for cell in cells), default=0.0)
    titles = ["", ""]
    note = "In the cells: neurons that both have. Colour: over all different neurons of both (Jaccard), "
    note += f"from 0 to {formats.number(most)}, the largest."
    if lines is not columns:
        titles = blocks
        cut = {name: name.partition("/")[2] for name in names}
        cells = [cell | {"line": cut[str(cell["line"])], "column": cut[str(cell["column"])]} for cell in cells]
        lines, columns = ([cut[name] for name in side] for side in (lines, columns))
    return _matrix(analysis, "Shared neurons", cells, lines, columns, (0, most or 1), titles, note)


MEANS = (("mean over owners (macro)", ACCENT), ("all questions together (micro)", "#0068a8"))
"""What the lines of cumulativity over all owners are called in its table, and their colours."""


def _cumulativity(analysis: AnalysisResult) -> Figure | None:
    rows = []
    for owner, step, total, affected, value in analysis.rows:
        if value is not None:
            tip = f"{owner}, {step}: {formats.number(_float(value))} ({affected} of {total} affected)"
            rows.append({"series": str(owner), "step": str(step), "value": _float(value), "tip": tip})
    steps = list(dict.fromkeys(str(row[1]) for row in analysis.rows))
    if not rows:
        return None
    note = (
        "Of the questions that are lost at the larger cut-off and not at the smaller one, the share that the neurons "
        "in between do not lose by themselves. Grey: single owners; where an owner loses no question it has no point."
    )
    title = "Lost only to all of the neurons together"
    return _drawn(analysis, title, lambda width: derived.rising(rows, steps, MEANS, width), note)


def _difference(analysis: AnalysisResult) -> Figure | None:
    if len(analysis.rows) < 2:
        return None
    kind = analysis.columns[5]
    one, other = (name.removesuffix(", n") for name in analysis.columns[1:3])
    rows = []
    for group, n_one, n_other, mean_one, mean_other, value, *_ in analysis.rows:
        tip = f"{group}: {one} {formats.number(_float(mean_one))} (n {n_one}), "
        tip += f"{other} {formats.number(_float(mean_other))} (n {n_other})"
        rows.append({"group": str(group), "value": _float(value), "tip": tip})
    rows.sort(key=lambda row: -float(str(row["value"])))
    title = f"{kind[:1].upper()}{kind[1:]} of {analysis.of.partition(' between ')[0]}: above 0, {one} facts have more"
    return _drawn(analysis, title, lambda width: derived.departures(rows, kind, width))


KINDS = {
    "right": "#007a5a",
    "same relation": ACCENT,
    "another relation": "#d9924f",
    "article": "#0068a8",
    "repeats": "#8a3b7c",
    "option": "#3f37a5",
    "empty": "#4f6d7a",
    "other": PALE,
}
OWN_KINDS = ("#7a5c00", "#b3a25e", "#a05a7c", "#5b8f3a")
"""Colours of the classes that a spec gives, one after another."""
MOST_BARS = 40


def _errors(analysis: AnalysisResult) -> Figure | None:
    kinds = analysis.columns[3:]
    own = [kind for kind in kinds if kind not in KINDS]
    colours = KINDS | {kind: OWN_KINDS[n % len(OWN_KINDS)] for n, kind in enumerate(own)}
    rows, lines = [], []
    for relation, condition, n, *found in analysis.rows[-MOST_BARS:]:
        line = f"{str(condition).replace('_', ' ')}: {relation}"
        lines.append(line)
        for at, (kind, share) in enumerate(zip(kinds, found, strict=True)):
            if share:
                tip = f"{line}: {kind} {_float(share):.0%} of {n}"
                rows.append({"line": line, "kind": kind, "at": at, "share": _float(share), "tip": tip})
    note = "Shares of all questions. " + "; ".join(f"{kind}: {SHIPPED[kind]}" for kind in kinds if kind in SHIPPED)
    if len(analysis.rows) > MOST_BARS:
        note += f". The last {MOST_BARS} of {len(analysis.rows)} rows are drawn; the table has all"
    pairs = [(kind, colours[kind]) for kind in kinds]
    return _drawn(analysis, "What is said", lambda width: derived.shares(rows, lines, pairs, width), note + ".")


def _examples(analysis: AnalysisResult) -> Table | None:
    """Set out some texts of each class."""
    if not analysis.examples:
        return None
    order = {kind: n for n, kind in enumerate(analysis.columns)}
    listed = sorted(analysis.examples, key=lambda example: order.get(example.kind, len(order)))
    rows = [
        [
            Cell(example.kind),
            Cell(example.condition.replace("_", " ")),
            Cell(formats.visible(example.prompt)),
            Cell(formats.visible(example.text)),
            Cell(formats.visible(", ".join(example.answers[:3]))),
        ]
        for example in listed
    ]
    columns = [Column("class"), Column("condition"), Column("prompt"), Column("what was said"), Column("answer")]
    return Table(columns, rows, "Examples of each class", wide_cells=True)


def _agreement(analysis: AnalysisResult) -> Figure | None:
    if analysis.columns[:3] != ["entity", "reference", "variant"]:
        return _across(analysis)
    cells: list[dict[str, Any]] = []
    for entity, reference, variant, form, winner, _, rank, relative in analysis.rows:
        shown = formats.number(_float(relative)) if relative is not None else ""
        tip = f"{form}: {winner}; {reference} has rank {rank}, {shown} of the best score"
        text = formats.whole(int(rank or 0))
        # Several texts under one label are several forms, and have a column each.
        label, n = str(variant), 2
        while any(c["line"] == str(entity) and c["column"] == label for c in cells):
            label, n = f"{variant} {n}", n + 1
        value = None if relative is None else _float(relative)
        cells.append({"line": str(entity), "column": label, "value": value, "text": text, "tip": tip})
    lines = list(dict.fromkeys(cell["line"] for cell in cells))
    columns = list(dict.fromkeys(cell["column"] for cell in cells))
    note = (
        "Colour: the score of the name's own winner in the ranking of the form, over the best score there (1 where it "
        "wins). In the cells: its rank."
    )
    return _matrix(
        analysis, "The name's neuron in other forms of the name", cells, lines, columns, (0, 1), ["", ""], note
    )


def _across(analysis: AnalysisResult) -> Figure | None:
    """Draw agreement across an axis of a matrix: owners down, values of the axis across."""
    if not {"winner", "rank of reference", "relative score"} <= set(analysis.columns):
        return None
    at = analysis.columns.index("winner") - 1
    axis = analysis.columns[at]
    cells = []
    for row in analysis.rows:
        found = dict(zip(analysis.columns, row, strict=True))
        relative, rank = found["relative score"], found["rank of reference"]
        shown = "no neuron in common" if rank is None else f"{found['reference']} has rank {rank}"
        cells.append(
            {
                "line": ", ".join(str(part) for part in row[:at]),
                "column": str(row[at]),
                "value": None if relative is None else _float(relative),
                "text": "" if rank is None else formats.whole(int(rank)),
                "tip": f"{row[0]}, {row[at]}: {found['winner']}; {shown}",
            }
        )
    lines = list(dict.fromkeys(str(cell["line"]) for cell in cells))
    columns = list(dict.fromkeys(str(cell["column"]) for cell in cells))
    # results of an earlier version do not say it
    compared = analysis.columns.index("compared with") if "compared with" in analysis.columns else None
    runs = dict.fromkeys("the first run" if compared is None else str(row[compared]) for row in analysis.rows)
    winner = f"winner of {' or '.join(runs)}"
    note = (
        f"Colour: the score of the {winner} in the ranking of this run, over the best score there (1 where it wins). "
        f"In the cells: its rank. Runs along {axis} with no neuron in common have no cell."
    )
    title = f"The {winner} in the other runs"
    return _matrix(analysis, title, cells, lines, columns, (0, 1), ["", ""], note)


def _matrix(
    analysis: AnalysisResult,
    title: str,
    cells: Sequence[dict[str, Any]],
    lines: Sequence[str],
    columns: Sequence[str],
    domain: tuple[float, float],
    titles: Sequence[str],
    note: str = "",
    *,
    both_ways: bool = False,
) -> Figure:
    lines_drawn, columns_drawn = list(lines[: derived.MOST_LINES]), list(columns[: derived.MOST_LINES])
    if len(lines_drawn) < len(lines) or len(columns_drawn) < len(columns):
        note += f" The first {derived.MOST_LINES} rows and columns are drawn; the table has all."
    kept = [cell for cell in cells if cell["line"] in lines_drawn and cell["column"] in columns_drawn]
    shown = (titles[1], titles[0]) if len(titles) == 2 else ("", "")

    def picture(width: int) -> Any:
        return derived.heat(
            kept, lines_drawn, columns_drawn, domain=domain, titles=shown, width=width, both_ways=both_ways
        )

    return _drawn(analysis, title, picture, note)


def _float(value: str | float | int | bool | None) -> float:
    assert value is not None and not isinstance(value, str)
    return float(value)


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
