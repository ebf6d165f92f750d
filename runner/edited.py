"""What an intervention edited, as its record says it: addresses of few neurons; of many, counts and a hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from runner.figures import cut_point
from runner.members import Members
from runner.narrow import narrowed
from runner.neurons import NoneLeft
from runner.plan import AskStage, Axes, Condition
from runner.resolve import Resolver
from specs.language.results import EditedSet, LeftOut

__all__ = ["LISTED", "crowded", "drawable", "edited_members", "edited_record", "shared_with_wrong"]

MOST = 64
"""Neurons of an owner that are written out with those of every draw."""
LISTED = 20
"""The first of more."""
MOST_NOTES = 3
"""Warnings of one kind that are said one by one."""


def edited_members(stage: AskStage, resolver: Resolver, owner: str, draw: int | None = None) -> Members:
    """Give the neurons an owner's edit touches (or a control's draw), over all points of the sweep."""
    kind: Literal["edit", "random_neurons"] = "edit" if draw is None else "random_neurons"
    points = sorted(stage.points.get((owner, kind, draw or 0), ()), key=repr)
    parts = [
        resolver.members(number, Condition(stage.name, kind, owner, draw or 0, point))
        for point in points
        for number in range(len(stage.spec.edit))
    ]
    return Members.of([]).and_then(*parts)


def edited_record(stage: AskStage, resolver: Resolver) -> dict[str, Any]:
    """Give the fields of a record that say which neurons were edited for each owner and drawn for each control."""
    neurons: dict[str, list[str]] = {}
    random: dict[str, list[list[str]]] = {}
    sets: dict[str, EditedSet] = {}
    for owner in stage.owners:
        own = edited_members(stage, resolver, owner)
        draws = [edited_members(stage, resolver, owner, n) for n in range(stage.spec.controls.random_neurons)]
        if len(own) <= MOST:
            neurons[owner] = _written(own)
            random[owner] = [_written(draw) for draw in draws]
            continue
        neurons[owner], random[owner] = _written(own[:LISTED]), []
        sets[owner] = EditedSet(
            n=len(own),
            places={f"{site} L{layer}": n for (site, layer), n in sorted(own.counts().items())},
            digest=own.digest(),
            draws=[draw.digest() for draw in draws],
            elsewhere=_elsewhere(stage, resolver, owner),
        )
    n_neurons = {owner: edited.n for owner, edited in sets.items()}
    return {"neurons": neurons, "n_neurons": n_neurons, "random_neurons": random, "sets": sets}


def drawable(stage: AskStage, resolver: Resolver) -> tuple[AskStage, list[LeftOut]]:
    """Take random neurons out of a stage where a set leaves too few to draw as many from; say of which sets that is."""
    found: dict[tuple[str, Axes], str] = {}
    for owner in stage.owners:
        for point in stage.points.get((owner, "random_neurons", 0), ()):
            try:
                for number in range(len(stage.spec.edit)):
                    resolver.members(number, Condition(stage.name, "random_neurons", owner, 0, point))
            except NoneLeft as error:
                found[owner, point] = str(error)
    if not found:
        return stage, []
    kept, _ = narrowed(stage, lambda row: row.condition != "random_neurons" or (row.edited, row.axes) not in found)
    where = f"interventions.{stage.name}"
    left_out = []
    for (owner, point), why in found.items():
        cut = [
            f"{axis}={value:g}" if isinstance(value, float) else f"{axis}={value}" for axis, value in cut_point(point)
        ]
        left_out.append(LeftOut(what=" ".join(["random neurons beside", owner, *cut]), reason=why, where=where))
    return kept, left_out


def _written(members: Members) -> list[str]:
    return [str(address) for address in members.addresses()]


def _elsewhere(stage: AskStage, resolver: Resolver, owner: str) -> int:
    """Count the random neurons of one condition that are not in the layer of those they stand for, at most."""
    most = 0
    for draw in range(stage.spec.controls.random_neurons):
        for point in stage.points.get((owner, "random_neurons", draw), ()):
            for number in range(len(stage.spec.edit)):
                own = resolver.members(number, Condition(stage.name, "edit", owner, 0, point)).counts()
                drawn = resolver.members(number, Condition(stage.name, "random_neurons", owner, draw, point)).counts()
                most = max(most, sum(max(0, n - own.get(place, 0)) for place, n in drawn.items()))
    return most


def crowded(sets: Mapping[str, EditedSet]) -> list[str]:
    """Warn of random sets that could not be of the same layers throughout."""
    found = {owner: edited for owner, edited in sets.items() if edited.elsewhere}
    if not found:
        return []
    most = max(edited.elsewhere for edited in found.values())
    named = ", ".join(list(found)[:MOST_NOTES]) + (" ..." if len(found) > MOST_NOTES else "")
    return [
        f"the sets of {len(found)} of {len(sets)} owners ({named}) leave too few neurons in some layers: up to "
        f"{most:,} random neurons of a draw stand in the nearest other layers of the same site"
    ]


def shared_with_wrong(stage: AskStage, resolver: Resolver) -> list[str]:
    """Warn of a wrong cell that holds neurons of the right one: it is then no control."""
    notes: list[str] = []
    shared: list[str] = []
    for owner, other in stage.wrong.items():
        own, wrong = edited_members(stage, resolver, owner), edited_members(stage, resolver, other)
        both = own.common(wrong)
        if len(both):
            notes.append(
                f"the wrong cell of {owner} (that of {other}) shares {len(both):,} of {len(own):,} neurons with its "
                f"own ({', '.join(_written(both[:MOST_NOTES]))}): it is no control there"
            )
            shared.append(owner)
    if len(notes) > MOST_NOTES:
        return [_for_many(shared, stage.owners)]
    return notes


def _for_many(shared: Sequence[str], owners: Sequence[str]) -> str:
    named = ", ".join(shared[:MOST_NOTES])
    return (
        f"the wrong cells of {len(shared)} of {len(owners)} owners share neurons with their own "
        f"({named} ...): they are no control there"
    )
