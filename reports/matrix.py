"""The page of a matrix: its runs side by side, from the comparison's own document and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from reports import charts, formats
from reports.curves import DRAWN, SERIES_WORDS, SeriesKey, numeric_measures, panels
from reports.drawing import COLOURS, DASHES, SHAPES, to_svg, unchecked
from reports.measures import words
from reports.render import page_of, write_page
from reports.sections import analyses, claims
from reports.sections.question import moment
from reports.sections.section import Cell, Column, Figure, LegendEntry, Section, Table, Tone
from reports.view import HEADLINE_MEASURES
from specs.language.errors import RunError
from specs.language.results import Effect, MatrixCell, MatrixResults

__all__ = ["MATRIX", "load_matrix", "matrix_html", "render_matrix"]

MATRIX = "matrix.json"
VERDICTS: dict[str, tuple[str, Tone]] = {
    "specific": ("✓ specific", "good"),
    "none": ("○ no effect", "quiet"),
    "raised": ("✗ raises it", "bad"),
    "unspecific": ("✗ others lose too", "bad"),
    "placebo": ("✗ as a placebo", "bad"),
    "single": ("○ one question", "quiet"),
    "shared": ("✗ nobody's own", "bad"),
}


@dataclass(frozen=True)
class RunRow:
    """One run of the matrix, with the link to its own page."""

    label: str
    href: str
    status: str
    seconds: str
    answer: str


@dataclass(frozen=True)
class Sweeps:
    """The curves of one owner in every run, on the same axes."""

    title: str
    figures: list[Figure]


@dataclass(frozen=True)
class Beside:
    """One intervention in every run: a table of effects, and the sweeps where there are some."""

    name: str
    title: str
    note: str
    table: Table
    legend: list[LegendEntry]
    sweeps: list[Sweeps]


def render_matrix(folder: Path) -> Path:
    """Write ``report.html`` beside the ``matrix.json`` of a folder; give its path. Raises RunError and DiskFull."""
    return write_page(folder, matrix_html(load_matrix(folder)))


def load_matrix(folder: Path) -> MatrixResults:
    """Read the comparison in a folder. Raises RunError when there is none, or of another version."""
    path = folder / MATRIX
    try:
        return MatrixResults.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}", remedy="name the folder of a matrix") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise RunError(
            f"{path} is not a comparison of this version: {place}: {first['msg']}", remedy="run the spec again"
        ) from error


def matrix_html(matrix: MatrixResults) -> str:
    """Give the page as text; like a run's page it loads nothing."""
    with unchecked():
        built = [
            _question(matrix),
            _runs(matrix),
            _effects(matrix),
            analyses.of_all(matrix.analyses.values()),
            claims.of_all(matrix.claims),
        ]
        return page_of(matrix, [section for section in built if section is not None])


def _question(matrix: MatrixResults) -> Section:
    facts = [
        f"matrix of {formats.counted(len(matrix.cells), 'run')}",
        *(f"{axis}: {', '.join(values)}" for axis, values in matrix.axes.items()),
        moment(matrix.started),
        formats.duration(matrix.seconds),
        matrix.hash,
    ]
    return Section(
        "question",
        "",
        {
            "name": matrix.name,
            "title": matrix.title,
            "status": matrix.status,
            "reason": matrix.reason,
            "description": matrix.description,
            "answer": matrix.answer,
            "facts": facts,
        },
    )


def _runs(matrix: MatrixResults) -> Section:
    rows = []
    for cell in matrix.cells:
        counts = ", ".join(f"{n} {outcome}" for outcome, n in cell.claims.items())
        answer = cell.answer or cell.reason
        rows.append(
            RunRow(
                formats.visible(_name(cell)),
                f"../{cell.folder}/report.html" if cell.folder else "",
                cell.status,
                formats.duration(cell.seconds),
                formats.visible(answer + (f" Claims: {counts}." if counts else "")),
            )
        )
    return Section("matrix_runs", "Runs", {"rows": rows, "winners": _winners(matrix)})


def _winners(matrix: MatrixResults) -> list[Table]:
    """Make a table for each ranking: owners down, runs across."""
    tables = []
    for name in dict.fromkeys(name for cell in matrix.cells for name in cell.rankings):
        having = [cell for cell in matrix.cells if name in cell.rankings]
        owners = {
            key: group.label
            for cell in having
            for key, group in cell.rankings[name].groups.items()
            if group.variant is None
        }
        rows = []
        for key, label in owners.items():
            row = [Cell(formats.visible(label), key)]
            for cell in having:
                group = cell.rankings[name].groups.get(key)
                best = group.neurons[0] if group is not None and group.neurons else None
                shared = best is not None and best.address in cell.rankings[name].shared_winners
                note = "" if best is None else f"dominance {formats.number(best.dominance)}"
                note += ", wins for others too" if shared else ""
                row.append(Cell(formats.MISSING if best is None else best.address, note))
            rows.append(row)
        columns = [Column("owner"), *(Column(formats.visible(_name(cell)), "code") for cell in having)]
        tables.append(Table(columns, rows, f"best of {name}"))
    return tables


def _effects(matrix: MatrixResults) -> Section | None:
    names = dict.fromkeys(effect.intervention for cell in matrix.cells for effect in cell.effects)
    shown = [_beside(matrix, name) for name in names]
    return Section("matrix_effects", "Effects", {"interventions": shown}) if shown else None


def _beside(matrix: MatrixResults, name: str) -> Beside:
    found = [(cell, e) for cell in matrix.cells for e in cell.effects if e.intervention == name]
    first = found[0][1]
    title = next(c.interventions[name].title for c in matrix.cells if name in c.interventions)
    owners = list(dict.fromkeys(e.edited for _, e in found))
    order = {owner: n for n, owner in enumerate(owners)}
    rows = [_row(cell, e) for cell, e in sorted(found, key=lambda pair: order[pair[1].edited])]
    measure = words(first.measure)
    columns = [
        Column("owner"),
        Column("run"),
        Column("neurons", "code"),
        Column("verdict"),
        Column("without", "number"),
        Column("target", "number", measure.title),
        Column("others", "number", "same edit"),
        Column("random neurons", "number", "range of draws"),
        Column("wrong cell", "number", "another owner's"),
    ]
    note = (
        "Specific: the figure of the owner moves by at least 5 percent and its interval leaves the clean value; that "
    )
    note += "of others moves by less than half as much, and so does every control. Nobody's own: all that, but the "
    note += "neuron ranks first for somebody else too."
    if any(e.picked for _, e in found):
        note += (
            " Of each run the value of the sweep is shown at which most is brought back; controls are at their best."
        )
    sweeps, drawn = _sweeps(matrix, name, owners)
    return Beside(name, title or name, note, Table(columns, rows), _legend(drawn), sweeps)


def _row(cell: MatrixCell, effect: Effect) -> list[Cell]:
    decimals = words(effect.measure).decimals
    mark, tone = VERDICTS[effect.verdict]
    target, others = effect.target, effect.others
    between = formats.interval(target.low, target.high, decimals)
    random = effect.random_neurons
    return [
        Cell(formats.visible(effect.label), effect.edited),
        Cell(formats.visible(_name(cell)), formats.axes(effect.axes)),
        Cell(effect.neurons[0] if effect.size == 1 else formats.counted(effect.size, "neuron")),
        Cell(mark, tone=tone),
        Cell(formats.number(effect.base, decimals)),
        Cell(formats.number(target.mean, decimals), f"{between}{', ' if between else ''}n {target.n}"),
        Cell(formats.number(None if others is None else others.mean, decimals)),
        Cell(formats.interval(min(random), max(random), decimals) if random else formats.MISSING),
        Cell(formats.number(effect.wrong_cell, decimals)),
    ]


def _sweeps(matrix: MatrixResults, name: str, owners: Sequence[str]) -> tuple[list[Sweeps], set[SeriesKey]]:
    """Draw the curves of each owner in every run, on axes they share, and say which series there are.

    Nothing where nothing is swept.
    """
    shown: list[Sweeps] = []
    drawn: set[SeriesKey] = set()
    for n, owner in enumerate([o for o in owners if "/" not in o][: charts.MOST_OWNERS]):
        pairs = []
        for cell in matrix.cells:
            done = cell.interventions.get(name)
            measured = numeric_measures(done) if done is not None else []
            measure = next((m for m in HEADLINE_MEASURES if m in measured), measured[0] if measured else None)
            found = panels(done, measure, owner) if done is not None and measure is not None else []
            pairs += [(cell, panel) for panel in found if charts.swept(panel)]
        if not pairs:
            continue
        drawn.update(curve.key for _, panel in pairs for curve in panel.drawn)
        domain = charts.shared_domain([panel for _, panel in pairs])
        label = next(e.label for cell in matrix.cells for e in cell.effects if e.edited == owner)
        figures = [
            Figure(
                formats.visible(_name(cell)),
                to_svg(
                    charts.small_sweep(panel, domain),
                    f"matrix-{name}-{n}-{k}",
                    f"{label}: {_name(cell)}",
                    charts.describe(panel, label),
                ),
            )
            for k, (cell, panel) in enumerate(pairs)
        ]
        shown.append(Sweeps(f"{formats.visible(label)}: {words(pairs[0][1].measure).title}", figures))
    return shown, drawn


def _legend(drawn: Collection[SeriesKey]) -> list[LegendEntry]:
    return [
        LegendEntry(COLOURS[key], " ".join(map(str, DASHES[key])), SHAPES[key], SERIES_WORDS[key], "")
        for key in DRAWN
        if key in drawn
    ]


def _name(cell: MatrixCell) -> str:
    return ", ".join(cell.axes.values()) or cell.label
