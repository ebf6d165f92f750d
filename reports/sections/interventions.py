"""What was edited, what it did to the target, and what it did to everybody and everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports import charts, formats, view
from reports.curves import (
    MOST_COLUMNS,
    SERIES_WORDS,
    Curve,
    Panel,
    Point,
    key_values,
    numeric_measures,
    owners,
    panels,
    relations,
)
from reports.drawing import COLOURS, DASHES, SHAPES, to_svg
from reports.measures import words
from reports.sections.section import Cell, Column, Figure, LegendEntry, Section, Table
from reports.tuning import TuningView, tuning_view
from specs.language.results import EVERYBODY, EditedSet, InterventionResult, Results

MOST_PANELS = 10
MOST_SMALL = 48
"""Charts of single relations that are drawn for one intervention; beyond them the tables remain."""
_MEANINGS = {
    ("edit", "target"): "questions about the one whose neurons are edited",
    ("edit", "others"): "questions about everybody else, under the same edit",
    ("edit", "unknown"): "the same questions about names nobody knows",
    ("edit", "texts"): "texts that ask nothing, edited at every token",
    ("random_neurons", "target"): "placebo: as many neurons of the same layers; the band spans the draws",
    ("wrong_cell", "target"): "placebo: another owner's neurons, with their own values",
    ("no_edit", "target"): "everything but the edit",
    ("clean", "target"): "the untouched model",
}


@dataclass(frozen=True)
class MeasureView:
    """One measure of an intervention: a chart for each owner."""

    title: str
    meaning: str
    figures: list[Figure]
    note: str
    small: bool
    """Whether the charts are small ones, four in a row."""


@dataclass(frozen=True)
class RelationsView:
    """One owner's figures by relation: as small charts, or as a short table for a sweep of few values."""

    label: str
    figures: list[Figure]
    short: Table | None
    tables: list[tuple[str, Table]]
    """Every figure by relation, one table for each measure."""
    open: bool


@dataclass(frozen=True)
class InterventionView:
    """One intervention as the page shows it."""

    name: str
    title: str
    facts: list[tuple[str, str]]
    glance: Table | None
    legend: list[LegendEntry]
    measures: list[MeasureView]
    by_relation: list[RelationsView]
    relations_title: str
    relations_note: str
    neurons: Table
    tuning: TuningView | None = None
    majority: Table | None = None
    """Clean accuracy by relation beside that of always giving the same answer."""


def build(results: Results) -> Section:
    """Show every intervention: the effect at a glance, the curves for each owner, and the relations."""
    return Section(
        "interventions",
        "Interventions",
        {"interventions": [_intervention(results, i) for i in results.interventions.values()]},
    )


def _intervention(results: Results, result: InterventionResult) -> InterventionView:
    main = view.main_measure(result)
    measures = numeric_measures(result)
    ordered = [m for m in [main] if m] + [m for m in measures if m != main]
    views = [_measure(results, result, measure, main=measure == main) for measure in ordered]
    by_relation = _by_relation(results, result, ordered) if main else []
    all_owners = len([o for o in owners(result) if o != EVERYBODY])
    return InterventionView(
        result.name,
        result.title or result.name,
        _facts(result),
        _glance(results, result, main) if main else None,
        _legend(result, measures),
        views,
        by_relation,
        f"{words(main).title[:1].upper()}{words(main).title[1:]} by relation" if main else "",
        _only(len(by_relation), all_owners),
        _neurons(results, result),
        tuning_view(results, result, lambda panel: numbers([panel])),
        _majority(result),
    )


def _majority(result: InterventionResult) -> Table | None:
    """Set out for each relation what always saying its most frequent answer gets right, and the clean model.

    None where no accuracy was measured.
    """
    accuracies = [m for m in numeric_measures(result) if m.partition("@")[0] == "accuracy"]
    if not accuracies or not result.majority:
        return None
    clean: dict[tuple[str | None, str], Point] = {}
    for s in result.summaries:
        if s.condition != "clean" or s.role not in ("target", "others") or s.mean is None:
            continue
        # The summary over most questions: as somebody's own, all those of a relation are asked.
        before = clean.get((s.relation, s.measure))
        if before is None or s.n > before.n:
            clean[s.relation, s.measure] = Point(None, s.n, s.mean, s.se, s.low, s.high)
    rows = []
    for found in result.majority:
        points = [clean.get((found.relation, measure)) for measure in accuracies]
        own = [p.mean for p in points if p is not None and p.mean is not None]
        rows.append(
            [
                Cell(formats.visible(found.relation)),
                Cell(formats.whole(found.n)),
                Cell(formats.visible(found.answer)),
                Cell(formats.number(found.share, 2), tone="bad" if own and max(own) <= found.share else ""),
                *(_short(point, 2) if point is not None else Cell(formats.MISSING) for point in points),
            ]
        )
    columns = [
        Column("relation"),
        Column("n", "number"),
        Column("most frequent answer"),
        Column("always saying it", "number", "share right"),
        *(Column(words(measure).title, "number", "clean model") for measure in accuracies),
    ]
    return Table(columns, rows, "Clean accuracy beside that of always giving one answer")


def _facts(result: InterventionResult) -> list[tuple[str, str]]:
    if result.not_applicable:
        return [("edit", "; ".join(result.edits)), ("not run", result.not_applicable)]
    asked = []
    if result.n_asked or not result.n_texts:
        rule = f" ({result.known_rule})" if result.known_rule else ""
        if result.known_rule == "any":
            known = "all of them scored, whether the clean model knows the answer or not"
        elif result.n_known == result.n_asked:
            known = f"all of them answered by the clean model{rule}"
        else:
            known = f"{formats.whole(result.n_known)} of them answered by the clean model{rule}, the others left out"
        asked.append(f"{formats.counted(result.n_asked, 'question')} ({', '.join(result.ask)}), {known}")
    if result.n_texts:
        where = "those about nobody are edited at every token"
        asked.append(f"{formats.counted(result.n_texts, 'text')} without answers; {where}")
    facts = [("edit", "; ".join(result.edits)), ("asked", "; ".join(asked))]
    if result.tuning is not None:
        chosen = f"each condition at the one that it chose on {formats.visible(result.tuning.on)}, listed below"
        facts.append(("value", chosen))
    if result.placeholder is not None:
        facts.append(("placeholder", f"the entity's name is replaced by “{formats.visible(result.placeholder)}”"))
    if result.freeze:
        held = (
            f"; largest deviation {formats.number(result.frozen_deviation)}"
            if result.frozen_deviation is not None
            else ""
        )
        facts.append(("frozen", result.freeze + held))
    if result.saved_model is not None:
        saved = result.saved_model
        done = ", ".join(f"{neuron} by {formats.number(factor)}" for neuron, factor in saved.neurons.items())
        facts.append(("saved model", f"{saved.path} in the run folder: output columns multiplied, {done}"))
    facts += [(control.replace("_", " "), said) for control, said in result.controls.items()]
    return facts


def _glance(results: Results, result: InterventionResult, measure: str) -> Table | None:
    """Make one row for each owner."""
    found = [p for owner in owners(result) for p in panels(result, measure, owner)]
    rows = [(Cell(charts.panel_title(results, p), tone="quiet" if p.owner == EVERYBODY else ""), p) for p in found]
    return _short_table("owner", rows, key_values(result))


def _short_table(head: str, rows: Sequence[tuple[Cell, Panel]], values: Sequence[float | str]) -> Table | None:
    """Set out target at some values of the sweep, others and placebos at the last of them."""
    if not rows:
        return None
    said = words(rows[0][1].measure)
    at = [f"{rows[0][1].axis} {formats.axis_value(v)}" for v in values]
    end = at[-1] if at else ""
    role = "target" if any(panel.curve("edit", "target") for _, panel in rows) else "texts"
    columns = [Column(head), Column("n", "number", role), *(Column(role, "number", x) for x in at or [""])]
    columns += [Column(name, "number", end) for name in ("others", "random neurons", "wrong cell")]
    lines = []
    for label, panel in rows:
        effects = [view.effect(panel, value) for value in (values or (None,))]
        last = effects[-1]
        lines.append(
            [
                label,
                Cell(str(last.target.n) if last.target else ""),
                *(_short(effect.target, said.decimals) for effect in effects),
                _short(last.others, said.decimals, n=True),
                _short(last.random_neurons, said.decimals, placebo=True),
                _short(last.wrong_cell, said.decimals),
            ]
        )
    # A control that was not made has no column.
    kept = [i for i in range(len(columns)) if i <= 2 or any(line[i].text != formats.MISSING for line in lines)]
    caption = f"{said.title}, mean ± standard error"
    return Table([columns[i] for i in kept], [[line[i] for i in kept] for line in lines], caption)


def _short(point: Point | None, decimals: int, *, placebo: bool = False, n: bool = False) -> Cell:
    if point is None or point.mean is None:
        return Cell(formats.MISSING)
    if placebo and point.placebo:
        return Cell(formats.interval(*point.placebo, decimals), f"{len(point.draws)} draws")
    spread = [f"± {formats.number(point.se, decimals)}"] if point.se is not None else []
    return Cell(formats.number(point.mean, decimals), ", ".join(spread + [f"n {point.n}"] * n))


def _legend(result: InterventionResult, measures: Sequence[str]) -> list[LegendEntry]:
    drawn: dict[tuple[str, str], None] = {}
    for measure in measures:
        for owner in owners(result)[:MOST_PANELS]:
            for panel in panels(result, measure, owner):
                drawn.update(dict.fromkeys(curve.key for curve in panel.drawn))
    return [
        LegendEntry(COLOURS[key], " ".join(map(str, DASHES[key])), SHAPES[key], SERIES_WORDS[key], _MEANINGS[key])
        for key in SERIES_WORDS
        if key in drawn
    ]


def _measure(results: Results, result: InterventionResult, measure: str, *, main: bool) -> MeasureView:
    said = words(measure)
    found = [panel for owner in owners(result) for panel in panels(result, measure, owner)]
    drawn = found[:MOST_PANELS]
    whole = [panel for panel in found if panel.owner == EVERYBODY]
    if len(found) > len(drawn) and whole and len(whole) < MOST_PANELS:
        # The mean over all owners comes last, and is the one that must not be missing.
        drawn = [*found[: MOST_PANELS - len(whole)], *whole]
    domain = charts.shared_domain(drawn)
    ident = f"{result.name}-{measure.replace('@', '-')}"
    names = [charts.panel_title(results, panel) for panel in drawn]
    described = [charts.describe(panel, name) for panel, name in zip(drawn, names, strict=True)]
    figures = []
    if drawn and all(len(panel.values) <= 1 for panel in drawn):
        short = [formats.shorten(name, 24) for name in names]
        svg = to_svg(charts.dots(drawn, short, domain), ident, said.title, " ".join(described))
        figures.append(Figure("", svg, table=numbers(drawn, names)))
    else:
        for i, (panel, name) in enumerate(zip(drawn, names, strict=True)):
            small = not main and len(drawn) > 2 and charts.swept(panel)
            chart = charts.small_sweep(panel, domain) if small else charts.sweep(panel, domain)
            svg = to_svg(chart, f"{ident}-{i}", f"{said.title}, {name}", described[i])
            figures.append(Figure(name, svg, table=numbers([panel])))
    note = "" if found else "No figure could be had; the reasons are under “What was left out”."
    if len(found) > len(drawn):
        note = f"{len(drawn)} of {len(found)} are drawn; all figures are in results.json."
    small = not main and len(drawn) > 2 and all(map(charts.swept, drawn))
    return MeasureView(said.title, said.meaning, figures, note, small)


def _by_relation(results: Results, result: InterventionResult, measures: Sequence[str]) -> list[RelationsView]:
    """Show the first measure by relation, and set out the figures of all of them."""
    names = relations(result)
    measure = measures[0]
    views: list[RelationsView] = []
    room = MOST_SMALL
    for i, owner in enumerate(o for o in owners(result)[: charts.MOST_OWNERS] if o != EVERYBODY):
        found = [p for relation in names for p in panels(result, measure, owner, relation)]
        if not found:
            continue
        titles = [_relation_title(panel) for panel in found]
        # A sweep of few values is read better as a table.
        curved = [
            (charts.only(p, ("edit", "target"), ("edit", "others")), title)
            for p, title in zip(found, titles, strict=True)
            if len(p.values) > MOST_COLUMNS and charts.swept(p)
        ]
        domain = charts.shared_domain([p for p, _ in curved])
        figures = []
        for j, (panel, title) in enumerate(curved if len(curved) <= room else []):
            ident = f"{result.name}-relation-{i}-{j}"
            svg = to_svg(charts.small_sweep(panel, domain), ident, title, charts.describe(panel, title))
            figures.append(Figure(title, svg))
        room -= len(figures)
        rows = [(Cell(title), panel) for title, panel in zip(titles, found, strict=True)]
        short = None if figures else _short_table("relation", rows, key_values(result))
        tables = []
        for each in measures:
            of_measure = [p for relation in names for p in panels(result, each, owner, relation)]
            if of_measure:
                of_names = [_relation_title(panel) for panel in of_measure]
                tables.append((words(each).title, numbers(of_measure, of_names, "relation")))
        views.append(RelationsView(view.label(results, owner), figures, short, tables, not views))
    return views


def _relation_title(panel: Panel) -> str:
    held = f" ({formats.axes(panel.fixed)})" if panel.fixed else ""
    return formats.visible(panel.relation or "") + held


def numbers(found: Sequence[Panel], names: Sequence[str] = (), head: str = "owner") -> Table:
    """Set out every figure of some panels: mean ± standard error, interval, number of prompts, and draws.

    ``names`` says which panel a row belongs to, in a column called ``head``.
    """
    keys = list(dict.fromkeys(curve.key for panel in found for curve in panel.curves))
    measure = words(found[0].measure)
    columns = ([Column(head)] if names else []) + [Column(found[0].axis or "sweep", "number")]
    columns += [Column(SERIES_WORDS.get(key, " / ".join(key)), "number") for key in keys]
    rows = []
    for i, panel in enumerate(found):
        unswept = any(not curve.swept for curve in panel.curves)
        lines: list[float | str | None] = [*([None] if unswept or not panel.values else []), *panel.values]
        for x in lines:
            row = [Cell(names[i])] if names else []
            row.append(Cell(formats.axis_value(x) if x is not None else "not swept"))
            row += [_full(panel.curve(*key), x, measure.decimals) for key in keys]
            rows.append(row)
    return Table(columns, rows)


def _full(curve: Curve | None, x: float | str | None, decimals: int) -> Cell:
    point = curve.at(x) if curve and (x is None) != curve.swept else None
    if point is None:
        return Cell("")
    if point.mean is None:
        return Cell(formats.MISSING, f"n {point.n}")
    between = formats.interval(point.low, point.high, decimals)
    parts = [between, f"n {point.n}"]
    if point.placebo:
        parts.append(f"{len(point.draws)} draws {formats.interval(*point.placebo, decimals)}")
    return Cell(formats.spread(point.mean, point.se, decimals), ", ".join(part for part in parts if part))


def _neurons(results: Results, result: InterventionResult) -> Table:
    rows = []
    for owner in result.owners:
        wrong = result.wrong_owner.get(owner)
        draws = result.random_neurons.get(owner, [])
        edited = result.sets.get(owner)
        own = _addresses(result.neurons.get(owner, []), result.size(owner))
        rows.append(
            [
                Cell(view.label(results, owner)),
                Cell(own, "" if edited is None else _profile(edited)),
                Cell(view.label(results, wrong) if wrong else formats.MISSING),
                Cell("; ".join(_addresses(draw, len(draw)) for draw in draws) or _drawn(edited)),
            ]
        )
    columns = [
        Column("owner"),
        Column("edited", "code"),
        Column("wrong cell of"),
        Column("random neurons, by draw", "code"),
    ]
    return Table(columns, rows, wide_cells=True)


def _profile(edited: EditedSet) -> str:
    """Say how many neurons of a set each site has, and in which layer most are."""
    sites: dict[str, int] = {}
    layers: dict[str, int] = {}
    for place, n in edited.places.items():
        site, _, layer = place.rpartition(" ")
        sites[site] = sites.get(site, 0) + n
        layers[layer] = layers.get(layer, 0) + n
    shares = ", ".join(f"{site} {formats.whole(n)}" for site, n in sites.items())
    most = max(layers, key=lambda layer: layers[layer])
    spread = f"in {len(layers)} layers, most in {most} ({formats.whole(layers[most])})"
    return f"{shares}; {spread}; sha256 {edited.digest[:12]}"


def _drawn(edited: EditedSet | None) -> str:
    if edited is None or not edited.draws:
        return formats.MISSING
    hashes = ", ".join(digest[:8] for digest in edited.draws)
    return f"{len(edited.draws)} sets of as many in each site and layer ({hashes})"


def _addresses(addresses: Sequence[str], n: int, most: int = 12) -> str:
    """List the first of ``n`` addresses, some of which the document leaves out."""
    shown = ", ".join(addresses[:most])
    return f"{shown} and {formats.whole(n - most)} more" if n > most else shown


def _only(drawn: int, n: int) -> str:
    return f"The first {drawn} of {n} owners are drawn; all figures are in results.json." if 0 < drawn < n else ""
