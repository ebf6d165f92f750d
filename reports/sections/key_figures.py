"""The few figures a hurried reader takes away."""

from __future__ import annotations

from dataclasses import dataclass

from reports import formats, view
from reports.curves import REFERENCE_WORDS, Point
from reports.measures import words
from reports.sections.section import Cell, Column, Section, Table, Tone
from specs.language.groups import ranking_of_groups, together
from specs.language.results import MANY, STANDS_OUT, TRUSTED, Results


@dataclass(frozen=True)
class KeyFigure:
    """One figure in large letters, with what it is and what it rests on."""

    name: str
    value: str
    note: str = ""
    tone: Tone = ""
    meter: float | None = None
    """Place on the dominance bar, from 0 to 1."""


def build(results: Results) -> Section | None:
    """Show the first owner's cell, its dominance, and what editing it did beside the controls.

    Of more owners than anybody reads one by one: how many have a cell, and how many pass each filter.
    """
    head = view.headline(results)
    if head is None:
        return None
    many = _of_groups(results, head) or _of_many(results)
    if many:
        return Section("key_figures", "", {"owner": head.label, "figures": many, "effects": None})
    return Section(
        "key_figures",
        "",
        {"owner": head.label, "figures": _figures(results, head), "effects": _effects(head)},
    )


def _of_groups(results: Results, head: view.Headline) -> list[KeyFigure]:
    """Say what editing the neurons of each group of questions did, to its own, to others and by chance."""
    ranking = ranking_of_groups(results, head.intervention)
    found = together(head.intervention) if ranking is not None and head.intervention is not None else None
    if ranking is None or head.intervention is None or found is None:
        return []
    noun = ranking.by[0] if ranking.by else "group"
    title = words(found.measure).title
    at = f" ({formats.axes(found.axes)})" if found.axes else ""
    between = formats.interval(found.own.low, found.own.high, 2)
    note = f"{title} of the questions of the edited {noun}{at}, mean of {found.n} {noun}s; {between}, n {found.own.n}"
    figures = [KeyFigure(f"Own {noun}", _from_to(found.base, found.own.mean), note)]
    if found.others is not None:
        between = formats.interval(found.others.low, found.others.high, 2)
        note = f"{title} of the questions of other {noun}s under the same edit; {between}, n {found.others.n}"
        figures.append(KeyFigure(f"Other {noun}s", _from_to(found.others_base, found.others.mean), note))
    if found.random:
        ends = [formats.number(end, 2) for end in dict.fromkeys((min(found.random), max(found.random)))]
        note = f"{title} of the own questions when as many random neurons of the same layers are edited, "
        note += formats.counted(len(found.random), "draw")
        figures.append(KeyFigure("Random neurons", " to ".join(dict.fromkeys(ends)), note, "quiet"))
    if found.beyond_random is not None:
        note = f"{noun}s lose more to their own neurons than to any random draw"
        if found.beyond_others is not None:
            note += f"; {found.beyond_others} lose more than the others do"
        figures.append(KeyFigure("More than by chance", f"{found.beyond_random} of {found.n}", note))
    return figures


def _from_to(base: float | None, value: float | None) -> str:
    return f"{formats.number(base, 2)}\u00a0→\u00a0{formats.number(value, 2)}"


def _of_many(results: Results) -> list[KeyFigure]:
    """Count the owners whose neuron stands out, and those that a filter leaves one; empty for few owners."""
    figures = []
    for ranking in results.rankings.values():
        own, clear = ranking.names_themselves(), ranking.standing_out()
        if ranking.unit == "layer" or len(own) <= MANY:
            continue
        note = f"have a neuron of dominance {TRUSTED:g} or more that ranks first for nobody else"
        figures.append(KeyFigure(f"Stand out in {ranking.name}", f"{len(clear)} of {len(own)}", note))
    for chosen in results.neurons.values() if figures else ():
        if not chosen.conditions:
            continue
        passed = sum(bool(owner.neurons) for owner in chosen.owners.values())
        note = "owners have a neuron that passes the filter"
        if chosen.placebo is not None and chosen.placebo.owners:
            mean = sum(chosen.placebo.owners) / len(chosen.placebo.owners)
            note += f"; with random neurons in their place {formats.number(mean)}"
        figures.append(KeyFigure(chosen.name.capitalize(), f"{passed} of {len(chosen.owners)}", note))
    return figures


def _figures(results: Results, head: view.Headline) -> list[KeyFigure]:
    figures = []
    best = head.winner
    if best is not None and best.neuron is not None:
        weak = best.stands_out is False
        note = f"best of {formats.whole(best.group.n_candidates)} neurons over "
        note += formats.counted(best.group.n_prompts, "prompt")
        figures.append(
            KeyFigure(
                f"{_standing(best)} {head.label}",
                best.neuron.address,
                note,
                "quiet" if weak else "",
            )
        )
        figures.append(
            KeyFigure(
                "Dominance",
                formats.number(best.dominance),
                _dominance_note(best),
                "bad" if weak else "",
                view.meter(best.dominance),
            )
        )
    elif head.neurons:
        figures.append(
            KeyFigure(
                f"Edited for {head.label}",
                head.neurons[0] if head.n_neurons == 1 else formats.counted(head.n_neurons, "neuron"),
                "given, not localised",
            )
        )
    else:
        figures.append(KeyFigure(f"Cell of {head.label}", formats.MISSING, "nothing was ranked", "quiet"))
    hits = _hits(results, head.owner)
    if hits:
        figures.append(hits)
    return figures


def _standing(best: view.Winner) -> str:
    """Say no more of the best neuron than its dominance allows."""
    if best.trusted:
        return "Cell of"
    return "Likely cell of" if best.stands_out else "Highest score for"


def _dominance_note(best: view.Winner) -> str:
    if best.dominance is None:
        return "could not be had: nothing of its layer to compare with"
    layer = f"layer\u00a0{best.neuron.layer}" if best.neuron else "its layer"
    against = f"its score over the mean of the next five of {layer}"
    return f"no cell stands out (below {STANDS_OUT:g}): {against}" if best.stands_out is False else against


def _hits(results: Results, owner: str) -> KeyFigure | None:
    """Count injected texts that begin with the answer, at the sweep value where most do."""
    for result in results.interventions.values():
        mine = [t for t in result.texts if t.edited == owner and t.role == "target"]
        edited = [t for t in mine if t.condition == "edit"]
        if result.placeholder is None or not edited:
            continue
        counts: dict[str, tuple[int, int]] = {}
        for text in edited:
            hits, n = counts.get(formats.axes(text.axes), (0, 0))
            counts[formats.axes(text.axes)] = hits + text.hit, n + 1
        best = max(counts, key=lambda at: counts[at][0])
        without = [t for t in mine if t.condition == "no_edit"]
        note = f"texts at {best or 'the one value'} that begin with the answer, at “{result.placeholder}”"
        if without:
            note += f"; {sum(t.hit for t in without)} of {len(without)} without the edit"
        if len(counts) > 1:
            note += f"; the best of {len(counts)} values"
        return KeyFigure("Injection", "{} of {}".format(*counts[best]), note)
    return None


def _effects(head: view.Headline) -> Table | None:
    if head.measure is None or head.intervention is None or not head.effects:
        return None
    measure = words(head.measure)
    axis = head.effects[0].axis
    rows = []
    for effect in head.effects:
        word = ""
        if axis is not None and isinstance(effect.x, float):
            word = REFERENCE_WORDS.get(axis, {}).get(effect.x, "")
        at = f"{_axis_word(axis)} {formats.axis_value(effect.x)}" if effect.x is not None else "edited"
        rows.append(
            [
                Cell(at, word),
                _cell(effect.target, measure.decimals),
                _cell(effect.others, measure.decimals),
                _placebo(effect.random_neurons, measure.decimals),
                _cell(effect.wrong_cell, measure.decimals),
            ]
        )
    columns = [
        Column(measure.title),
        Column("target", "number", head.label),
        Column("others", "number", "same edit"),
        Column("random neurons", "number", "range of draws"),
        Column("wrong cell", "number", "another owner's"),
    ]
    kept = [i for i in range(5) if i < 2 or any(row[i].text != formats.MISSING for row in rows)]
    table_rows = [[row[i] for i in kept] for row in rows]
    return Table([columns[i] for i in kept], table_rows, f"{head.intervention.title or head.intervention.name}")


def _axis_word(axis: str | None) -> str:
    return {"scale": "factor", "set": "set to", "times": "times"}.get(axis or "", axis or "")


def _cell(point: Point | None, decimals: int) -> Cell:
    if point is None or point.mean is None:
        return Cell(formats.MISSING)
    between = formats.interval(point.low, point.high, 2 if decimals > 2 else decimals)
    return Cell(formats.number(point.mean, decimals), f"{between}{', ' if between else ''}n {point.n}")


def _placebo(point: Point | None, decimals: int) -> Cell:
    if point is None or point.placebo is None:
        return _cell(point, decimals)
    low, high = point.placebo
    return Cell(formats.interval(low, high, decimals), f"{len(point.draws)} draws, n {point.n}")
