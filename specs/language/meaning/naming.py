"""The names of a spec and the problems found with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from specs.language.conditions import holds, number_text
from specs.language.errors import Origin, Problem
from specs.language.experiment import Condition, Experiment
from specs.language.facts import COLUMNS, placeholder_names
from specs.language.scalars import nearest, suggest
from specs.language.shipped import PLACEHOLDERS

__all__ = ["KINDS", "HasOrigins", "Naming", "Path", "choose", "values_text"]

Path = tuple[str | int, ...]
KINDS: dict[str, str] = {
    "data": "a data file",
    "entities": "an entity",
    "placeholders": "a list of placeholders",
    "relations": "a relation",
    "prompts": "a prompt set",
    "localize": "a ranking",
    "neurons": "a neuron set",
    "vectors": "a vector",
    "interventions": "an intervention",
    "analyses": "an analysis",
}
"""Block: what one of its names is."""


class HasOrigins(Protocol):
    """The places of a spec's parts."""

    def at(self, *path: str | int) -> Origin | None: ...

    def key(self, *path: str | int) -> Origin | None: ...

    def written(self, *path: str | int) -> str: ...


class Naming:
    """Which names an experiment has, and what is told about names it has not."""

    def __init__(self, experiment: Experiment, origins: HasOrigins) -> None:
        self.experiment = experiment
        self.origins = origins
        self.problems: list[Problem] = []
        self.of_facts = dict.fromkeys(name for r in experiment.relations.values() for name in r.attributes)
        of_entities = dict.fromkeys(name for e in experiment.entities.values() for name in e.attributes)
        self.attributes = (*of_entities, *(name for name in self.of_facts if name not in of_entities))
        self._told: set[tuple[str, Path]] = set()
        self._places: dict[str, list[Origin | None]] = {}
        self._unknown: dict[int, str] = {}

    def tell(
        self, message: str, *path: str | int, key: bool = False, severity: str = "error", unknown: str = ""
    ) -> None:
        """Note a problem at a place (``key``: at the key that leads there), once.

        ``unknown``: a name that is given nowhere. It is told where it first stands, with the lines it stands
        on too: a definition that is misspelt is one mistake, however often it is referred to.
        """
        if (message, path) in self._told:
            return
        self._told.add((message, path))
        origin = self.origins.key(*path) if key else self.origins.at(*path)
        if unknown and self.kind(unknown) is None:
            self._places.setdefault(unknown, []).append(origin)
            if len(self._places[unknown]) > 1:
                return
            self._unknown[len(self.problems)] = unknown
        self.problems.append(
            Problem(message, self.origins.written(*path), origin, "meaning", severity)  # type: ignore[arg-type]
        )

    def found(self) -> list[Problem]:
        """Give the problems, each name that is given nowhere with all its lines."""
        return [
            replace(problem, message=problem.message + _also(self._places[self._unknown[n]]))
            if n in self._unknown
            else problem
            for n, problem in enumerate(self.problems)
        ]

    def warn(self, message: str, *path: str | int, key: bool = False) -> None:
        """Note something that does not stop a run."""
        self.tell(message, *path, key=key, severity="warning")

    def kind(self, name: str) -> str | None:
        """Say what a name is: `a relation`; None for a name that is not given in the spec."""
        return next((what for block, what in KINDS.items() if name in getattr(self.experiment, block)), None)

    def entity(self, name: str, *path: str | int, key: bool = False) -> bool:
        """Say whether a name is an entity's; if not, tell."""
        if name in self.experiment.entities:
            return True
        near = suggest(name, self.experiment.entities)
        self.tell(f"'{name}' is not an entity{near}", *path, key=key, unknown=name)
        return False

    def relation(self, name: str, *path: str | int) -> bool:
        """Say whether a name is a relation's; if not, tell."""
        if name in self.experiment.relations:
            return True
        near = suggest(name, self.experiment.relations)
        self.tell(f"'{name}' is not a relation{near}", *path, unknown=name)
        return False

    def fact(self, text: str, *path: str | int) -> bool:
        """Say whether a text is relation/entity; if not, tell."""
        relation, _, entity = text.partition("/")
        if relation in self.experiment.entities and entity in (*self.experiment.relations, ""):
            first = next(iter(self.experiment.relations), "wife")
            example = f"{entity or first}/{relation}"
            self.tell(f"'{text}' is not a fact; write relation/entity, for example {example}", *path)
            return False
        if not entity or "/" in entity:
            self.tell(f"'{text}' is not a fact; write relation/entity, for example wife/obama", *path)
            return False
        if not (self.relation(relation, *path) and self.entity(entity, *path)):
            return False
        known = self.experiment.relations.get(relation)
        if known is not None and entity not in known.answers:
            self.tell(f"'{relation}' has no answer for '{entity}'", *path)
            return False
        return True

    def intervention(self, name: str, *path: str | int) -> bool:
        """Say whether a name is an intervention's; if not, tell."""
        if name in self.experiment.interventions:
            return True
        near = suggest(name, self.experiment.interventions)
        self.tell(f"'{name}' is not an intervention{near or self._is(name)}", *path, unknown=name)
        return False

    def _is(self, name: str) -> str:
        kind = self.kind(name)
        return f"; it is {kind}" if kind else ""

    def column(self, name: str, *path: str | int, also: Iterable[str] = ()) -> bool:
        """Say whether a name is a column of prompts or an attribute; if not, tell."""
        known = dict.fromkeys((*COLUMNS, *self.attributes, *also))
        if name in known:
            return True
        self.tell(f"'{name}' is not a column{choose(name, known)}", *path)
        return False

    def conditions(self, conditions: Sequence[Condition], *path: str | int, also: Iterable[str] = ()) -> bool:
        """Check conditions on columns: that the columns exist, and that numbers meet numbers."""
        fine = True
        for n, condition in enumerate(conditions):
            if not self.column(condition.quantity, *path, n, also=also):
                fine = False
                continue
            for name, value in self._values(condition.quantity):
                try:
                    holds(condition, value)
                except ValueError as error:
                    self.tell(f"{error} ('{name}')", *path, n)
                    fine = False
                    break
        return fine

    def _values(self, attribute: str) -> Iterator[tuple[str, str | float | None]]:
        """Give every value of an attribute with whose it is: an entity's or a fact's."""
        for name, entity in self.experiment.entities.items():
            yield name, entity.attributes.get(attribute)
        for name, relation in self.experiment.relations.items():
            for entity_name, value in relation.attributes.get(attribute, {}).items():
                yield f"{name}/{entity_name}", value

    def placeholders(self, ref: str | list[str], *path: str | int) -> tuple[str, ...] | None:
        """Give the names that stand for nobody; None, told, for what is no list of them."""
        if isinstance(ref, str) and ref not in (*self.experiment.placeholders, *PLACEHOLDERS):
            near = nearest(ref, [*self.experiment.placeholders, *PLACEHOLDERS])
            hint = f"did you mean '{near}'? To use the text itself write [{ref}]" if near else ""
            message = f"'{ref}' is not a list of placeholders; {hint or f'to use the text itself write [{ref}]'}"
            self.tell(message, *path)
            return None
        return placeholder_names(self.experiment, ref)


MOST_LINES = 4


def _also(places: Sequence[Origin | None]) -> str:
    """Say where else a name stands, after its first place."""
    first, *rest = places
    seen = dict.fromkeys(
        str(p.line) if first is not None and p.file == first.file else f"{p.line} of {p.file}"
        for p in rest
        if p is not None and (first is None or (p.file, p.line) != (first.file, first.line))
    )
    lines = list(seen)
    if not lines:
        return ""
    if len(lines) > MOST_LINES:
        return f" (also on {len(lines)} other lines)"
    listed = lines[0] if len(lines) == 1 else f"{', '.join(lines[:-1])} and {lines[-1]}"
    return f" (also on line{'' if len(lines) == 1 else 's'} {listed})"


def choose(name: str, known: Iterable[str]) -> str:
    """End a message about an unknown name: the nearest known one, or all of them."""
    names = list(known)
    near = suggest(name, names)
    return near or (f"; choose from {', '.join(names)}" if names else "; there are none")


def values_text(values: Sequence[float | str], most: int) -> str:
    """List the values of a sweep, the first of them if they are many."""
    shown = ", ".join(v if isinstance(v, str) else number_text(v) for v in values[:most])
    return shown + (" ..." if len(values) > most else "")
