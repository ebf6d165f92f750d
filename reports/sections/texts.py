"""What the model writes: the continuations under each condition, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports import formats, view
from reports.curves import key_values, sweep_axis
from reports.sections.section import Cell, Column, Section, Table
from specs.language.results import EVERYBODY, InjectedText, InterventionResult, Results
from specs.language.words import ConditionName

MOST_VALUES = 8
MOST_LISTED = 1500
_ORDER: tuple[ConditionName, ...] = ("clean", "no_edit", "edit", "wrong_cell", "random_neurons")
_CONTROLS = ("wrong_cell", "random_neurons")
_WORDS = {
    "clean": "real name",
    "no_edit": "no edit",
    "edit": "cell",
    "wrong_cell": "wrong cell",
    "random_neurons": "random neurons",
}


@dataclass(frozen=True)
class Written:
    """One continuation, and whether it begins with an accepted answer."""

    text: str
    hit: bool
    prompt: str


@dataclass(frozen=True)
class TextRow:
    """One relation: its answers, and what was written under each condition."""

    relation: str
    answers: str
    cells: list[list[Written]]


@dataclass(frozen=True)
class OwnerTexts:
    """The texts of one owner, side by side, and how many hit."""

    label: str
    columns: list[Column]
    rows: list[TextRow]
    hits: Table
    shown_at: str
    everything: Table
    everything_note: str
    open: bool


@dataclass(frozen=True)
class InterventionTexts:
    """The texts of one intervention."""

    name: str
    title: str
    placeholder: str
    owners: list[OwnerTexts]


def build(results: Results) -> Section | None:
    """Show for each owner a row for each relation and a column for each condition; None without texts."""
    shown = [_intervention(results, i) for i in results.interventions.values() if i.texts]
    return Section("texts", "What the model writes", {"interventions": shown}) if shown else None


def _intervention(results: Results, result: InterventionResult) -> InterventionTexts:
    by_owner: dict[str, list[InjectedText]] = {}
    for text in result.texts:
        by_owner.setdefault(text.edited, []).append(text)
    order = [o for o in result.owners if o in by_owner] + [o for o in by_owner if o not in result.owners]
    return InterventionTexts(
        result.name,
        result.title or result.name,
        formats.visible(result.placeholder or ""),
        [_owner(results, result, o, by_owner[o], i == 0) for i, o in enumerate(order) if o != EVERYBODY],
    )


def _owner(
    results: Results, result: InterventionResult, owner: str, texts: Sequence[InjectedText], first: bool
) -> OwnerTexts:
    target = [t for t in texts if t.role == "target"]
    places = list(dict.fromkeys(_axes(t) for t in target if t.condition == "edit"))
    best = max(
        places,
        key=lambda at: sum(t.hit for t in target if t.condition == "edit" and _axes(t) == at),
        default="",
    )
    kept = _kept(result, target, places)
    columns: list[tuple[ConditionName, str, int]] = []
    for condition in _ORDER:
        mine = [t for t in target if t.condition == condition]
        found = list(dict.fromkeys(_axes(t) for t in mine))
        if condition == "edit":
            found = [at for at in found if at in kept]
        elif condition in _CONTROLS and found:
            found = [best if best in found else found[0]]
        for at in found:
            columns.append((condition, at, min(t.draw for t in mine if _axes(t) == at)))
    rows = []
    for relation in dict.fromkeys(t.relation or t.prompt for t in target):
        mine = [t for t in target if (t.relation or t.prompt) == relation]
        answers = dict.fromkeys(answer for t in mine for answer in t.answers)
        cells = [[_written(t) for t in mine if (t.condition, _axes(t), t.draw) == column] for column in columns]
        rows.append(TextRow(formats.visible(relation), " / ".join(map(formats.visible, answers)), cells))
    listed = texts[:MOST_LISTED]
    note = "" if len(listed) == len(texts) else f"The first {MOST_LISTED} of {formats.whole(len(texts))} texts."
    heads = [_head(condition, at, draw, target) for condition, at, draw in columns]
    several = len(places) > 1 and any(condition in _CONTROLS for condition, _, _ in columns)
    return OwnerTexts(
        view.label(results, owner),
        heads,
        rows,
        _hits(target, places),
        f"The controls are shown at {best}, where the cell has most hits; all other values are listed below."
        if several
        else "",
        _everything(listed),
        note,
        first,
    )


def _kept(result: InterventionResult, target: Sequence[InjectedText], places: list[str]) -> list[str]:
    if len(places) <= MOST_VALUES:
        return places
    axis = sweep_axis(result)
    values = key_values(result)
    return list(
        dict.fromkeys(_axes(t) for t in target if t.condition == "edit" and axis and t.axes.get(axis) in values)
    )[:MOST_VALUES]


def _axes(text: InjectedText) -> str:
    return formats.axes(text.axes)


def _written(text: InjectedText) -> Written:
    return Written(formats.visible(text.text), text.hit, formats.visible(text.prompt))


def _head(condition: ConditionName, at: str, draw: int, target: Sequence[InjectedText]) -> Column:
    note = at
    draws = {t.draw for t in target if t.condition == condition}
    if len(draws) > 1:
        note += f"{', ' if at else ''}draw {sorted(draws).index(draw) + 1} of {len(draws)}"
    return Column(_WORDS[condition], note=note)


def _hits(target: Sequence[InjectedText], places: Sequence[str]) -> Table:
    rows = []
    for condition in _ORDER:
        mine = [t for t in target if t.condition == condition]
        if not mine:
            continue
        unswept = [t for t in mine if _axes(t) not in places]
        row = [Cell(_WORDS[condition], _draws(mine)), _share(unswept)]
        row += [_share([t for t in mine if _axes(t) == at]) for at in places]
        rows.append(row)
    columns = [Column("texts that begin with the answer"), Column("not swept", "number")]
    columns += [Column(at or "edited", "number") for at in places]
    # A column without any text says nothing.
    filled = [i for i in range(len(columns)) if i == 0 or any(row[i].text for row in rows)]
    return Table([columns[i] for i in filled], [[row[i] for i in filled] for row in rows])


def _draws(texts: Sequence[InjectedText]) -> str:
    draws = {t.draw for t in texts}
    return f"{len(draws)} draws together" if len(draws) > 1 else ""


def _share(texts: Sequence[InjectedText]) -> Cell:
    return Cell(f"{sum(t.hit for t in texts)} of {len(texts)}") if texts else Cell("")


def _everything(texts: Sequence[InjectedText]) -> Table:
    columns = [Column(name) for name in ("condition", "at", "role", "entity", "prompt", "text", "hit")]
    rows = []
    for t in texts:
        draw = f", draw {t.draw + 1}" if t.condition == "random_neurons" else ""
        rows.append(
            [
                Cell(_WORDS[t.condition] + draw),
                Cell(_axes(t)),
                Cell(t.role),
                Cell(formats.visible(t.entity or "")),
                Cell(formats.visible(t.prompt)),
                Cell(formats.visible(t.text)),
                Cell("✓ hit" if t.hit else "", tone="hit" if t.hit else ""),
            ]
        )
    return Table(columns, rows)
