"""Which neurons were chosen by what editing them did, where the others failed, and what random neurons would pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports import charts, formats
from reports.drawing import to_svg
from reports.sections.section import Cell, Column, Figure, Section, Table
from specs.language.results import Candidate, NeuronSetResult, OwnerChoice, Results

MOST_ROWS = 300
"""Owners in one table; the rest are in results.json."""


@dataclass(frozen=True)
class ChosenView:
    """One filtered set: in a sentence, as a funnel, what was chosen, and what failed where."""

    name: str
    how: str
    sentence: str
    nobody: bool
    funnel: Figure
    placebo_note: str
    chosen: Table | None
    failures: Table | None
    candidates: Table | None
    note: str


def build(results: Results) -> Section | None:
    """Show every set that was filtered; None where none was."""
    filtered = [chosen for chosen in results.neurons.values() if chosen.conditions]
    if not filtered:
        return None
    return Section("chosen", "Neurons chosen", {"sets": [_set(chosen) for chosen in filtered]})


def _set(chosen: NeuronSetResult) -> ChosenView:
    with_one = [o for o in chosen.owners.values() if o.neurons]
    without = [o for o in chosen.owners.values() if not o.neurons]
    return ChosenView(
        chosen.name,
        f"Taken from {chosen.of}: every candidate of an owner is judged by {_conditions(chosen)}; the first that "
        "passes is kept, as far as the set is cut.",
        _sentence(chosen, with_one),
        not with_one,
        _funnel(chosen),
        _placebo_note(chosen),
        _chosen(chosen, with_one) if with_one else None,
        _failures(chosen, without) if without else None,
        _candidates(chosen),
        _only(max(len(with_one), len(without))),
    )


def _conditions(chosen: NeuronSetResult) -> str:
    return "; ".join(chosen.conditions)


def _sentence(chosen: NeuronSetResult, with_one: Sequence[OwnerChoice]) -> str:
    n = formats.counted(len(chosen.owners), "owner")
    text = f"{len(with_one)} of {n} {'has' if len(with_one) == 1 else 'have'} a neuron that meets all conditions"
    placebo = chosen.placebo
    if placebo is not None and placebo.size is not None:
        mean = sum(placebo.owners) / len(placebo.owners)
        text += f"; with random neurons of the same layers in their place, {_rate(mean)}"
        if len(placebo.owners) > 1:
            text += f" (from {min(placebo.owners)} to {max(placebo.owners)} in {len(placebo.owners)} draws)"
    return text + "."


def _placebo_note(chosen: NeuronSetResult) -> str:
    placebo = chosen.placebo
    if placebo is None:
        return ""
    if placebo.size is None:
        return f"No placebo: {placebo.reason}."
    return (
        f"Placebo: {placebo.intervention} edits, beside each candidate, random neurons of its layer. They take the "
        "candidate's place: conditions on the ranking are the candidate's, results are their own. What passes of them "
        "is what this filter lets through by chance."
    )


def _steps(chosen: NeuronSetResult) -> list[tuple[str, int, float | None]]:
    """List each step with the owners that are left, really and with random neurons (mean over draws)."""
    placebo = chosen.placebo
    by_chance: list[float | None] = [None] * len(chosen.conditions)
    if placebo is not None and placebo.size is not None:
        by_chance = list(placebo.left)
    begun = chosen.funnel[0] if chosen.funnel else 0
    return [
        ("candidates", begun, None if by_chance[:1] in ([], [None]) else float(begun)),
        *zip(chosen.conditions, chosen.funnel[1:], by_chance, strict=True),
    ]


def _rate(owners: float) -> str:
    """Write a mean number of owners, whole ones as such."""
    return f"{owners:.3g}"


def _funnel(chosen: NeuronSetResult) -> Figure:
    steps = _steps(chosen)
    total = len(chosen.owners)
    rows = [
        {
            "step": f"{n}. {name}" if n else "with candidates",
            "owners": owners,
            "chance": chance,
            "tip": f"{name}: {owners} of {total} owners"
            + ("" if chance is None else f"; random neurons {_rate(chance)}"),
        }
        for n, (name, owners, chance) in enumerate(steps)
    ]
    title = "Owners that are left after each condition"
    description = "; ".join(str(row["tip"]) for row in rows) + "."
    ident = f"funnel-{chosen.name}"
    columns = [
        Column("condition"),
        Column("owners left", "number"),
        Column("candidates left", "number"),
        Column("with random neurons", "number", "owners, mean over draws"),
    ]
    left = [
        sum(o.n_candidates for o in chosen.owners.values()),
        *(sum(o.left[n] for o in chosen.owners.values()) for n in range(len(chosen.conditions))),
    ]
    table = [
        [
            Cell(name),
            Cell(formats.whole(owners)),
            Cell(formats.whole(n)),
            Cell(_rate(chance) if chance is not None else formats.MISSING),
        ]
        for (name, owners, chance), n in zip(steps, left, strict=True)
    ]
    return Figure(
        title,
        to_svg(charts.funnel(rows, total, charts.WIDE), f"{ident}-w", title, description),
        to_svg(charts.funnel(rows, total, charts.NARROW), f"{ident}-n", title, description),
        Table(columns, table),
        "Bars: owners with at least one candidate that meets this condition and all above it. Diamonds: the same for "
        "random neurons."
        if chosen.placebo is not None and chosen.placebo.size is not None
        else "Bars: owners with at least one candidate that meets this condition and all above it.",
    )


def _columns(chosen: NeuronSetResult) -> list[int]:
    """Number the conditions that have a column: two on one figure (from, to) share theirs; rank and layer have one."""
    seen: dict[str, int] = {}
    for n, quantity in enumerate(chosen.quantities):
        seen.setdefault(quantity, n)
    return [n for quantity, n in seen.items() if quantity not in ("dominance", "layer", "rank", "score", "neuron")]


def _head(chosen: NeuronSetResult) -> list[Column]:
    return [
        Column("owner"),
        Column("neuron", "code"),
        Column("layer", "number"),
        Column("rank", "number"),
        Column("dominance", "number"),
        *(Column(_short(chosen.quantities[n]), "number", _threshold(chosen, n)) for n in _columns(chosen)),
        *(Column(_short(path), "number", "of texts about nobody") for path in _side_effects(chosen)),
    ]


def _side_effects(chosen: NeuronSetResult) -> list[str]:
    return list(dict.fromkeys(path for o in chosen.owners.values() for c in o.candidates for path in c.side_effects))


def _short(quantity: str) -> str:
    """Name a figure in a table's head: the measure, and whose it is."""
    parts = quantity.split("/")
    words = [part for part in parts[1:] if "=" not in part]
    if not words:
        return quantity
    measure = words[-1].replace("_", " ")
    return f"{measure}, {' '.join(words[:-1]).replace('_', ' ')}" if len(words) > 1 else measure


def _described(chosen: NeuronSetResult, label: str, key: str, candidate: Candidate) -> list[Cell]:
    return [
        Cell(formats.visible(label), key),
        Cell(candidate.address),
        Cell(str(candidate.layer)),
        Cell(formats.MISSING if candidate.rank is None else formats.whole(candidate.rank)),
        Cell(formats.number(candidate.dominance)),
        *(_figure(candidate, n) for n in _columns(chosen)),
        *(Cell(formats.number(candidate.side_effects.get(path))) for path in _side_effects(chosen)),
    ]


def _figure(candidate: Candidate, n: int) -> Cell:
    if n >= len(candidate.figures):
        return Cell(formats.MISSING)
    value = candidate.figures[n]
    if value is None:
        return Cell(formats.MISSING, candidate.reasons[n])
    text = value if isinstance(value, str) else formats.number(value)
    rests_on = formats.counted(candidate.n[n], "question") if candidate.n[n] else ""
    return Cell(text, rests_on, "bad" if candidate.failed == n else "")


def _chosen(chosen: NeuronSetResult, owners: Sequence[OwnerChoice]) -> Table:
    rows = []
    for owner in owners[:MOST_ROWS]:
        for address in owner.neurons:
            candidate = next((c for c in owner.candidates if c.address == address), None)
            if candidate is not None:
                rows.append([*_described(chosen, owner.label, owner.owner, candidate), Cell("passed", tone="good")])
    return Table([*_head(chosen), Column("verdict")], rows, "Neurons that passed")


def _failures(chosen: NeuronSetResult, owners: Sequence[OwnerChoice]) -> Table:
    """Show of each owner without a neuron the candidate that came furthest, and where it ended."""
    rows = []
    for owner in owners[:MOST_ROWS]:
        name = Cell(formats.visible(owner.label), owner.owner)
        best = furthest(chosen, owner)
        if best is None:
            rows.append([name, Cell(formats.MISSING), Cell("no candidate"), Cell(""), Cell(""), Cell("")])
            continue
        if best.failed is None:
            rows.append([name, Cell(best.address), Cell("taken out by the set"), Cell(""), Cell(""), Cell("")])
            continue
        n = best.failed
        value = best.figures[n]
        said = formats.MISSING if value is None else value if isinstance(value, str) else formats.number(value)
        wanted = best.wanted[n]
        rows.append(
            [
                name,
                Cell(best.address, f"rank {best.rank}" if best.rank is not None else ""),
                Cell(f"{n + 1} of {len(chosen.conditions)}"),
                Cell(chosen.conditions[n]),
                Cell(said, best.reasons[n] or (formats.counted(best.n[n], "question") if best.n[n] else ""), "bad"),
                Cell(_threshold(chosen, n) if wanted is None else formats.number(wanted)),
            ]
        )
    columns = [
        Column("owner"),
        Column("came furthest", "code"),
        Column("failed", "text", "condition"),
        Column("which asks", "code"),
        Column("figure", "number"),
        Column("threshold", "number"),
    ]
    return Table(columns, rows, "Owners without a neuron, and the condition their best candidate failed")


def _threshold(chosen: NeuronSetResult, n: int) -> str:
    """Give what follows the quantity in a condition: its op and number."""
    return chosen.conditions[n].removeprefix(chosen.quantities[n]).strip()


def furthest(chosen: NeuronSetResult, owner: OwnerChoice) -> Candidate | None:
    """Find the candidate that met most conditions in their order, the best ranked of equals."""
    last = len(chosen.conditions)
    return max(owner.candidates, key=lambda c: last if c.failed is None else c.failed, default=None)


def _candidates(chosen: NeuronSetResult) -> Table | None:
    rows = []
    for owner in list(chosen.owners.values())[:MOST_ROWS]:
        for candidate in owner.candidates:
            if candidate.address in owner.neurons:
                verdict = Cell("chosen", tone="good")
            elif candidate.failed is None:
                verdict = Cell("passed", "beyond the cut")
            else:
                verdict = Cell("failed", chosen.conditions[candidate.failed])
            rows.append([*_described(chosen, owner.label, owner.owner, candidate), verdict])
    return Table([*_head(chosen), Column("verdict")], rows) if rows else None


def _only(n: int) -> str:
    return f"The first {MOST_ROWS} owners are shown; all are in results.json." if n > MOST_ROWS else ""
