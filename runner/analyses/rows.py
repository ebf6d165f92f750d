"""What analyses read of an intervention's rows: columns, questions, and the same question without the edit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from runner.analyses.protocol import Findings
from runner.neurons import owners_of
from runner.observe import Asked, Row
from specs.language.conditions import number_text
from specs.language.errors import RunError
from specs.language.experiment import Experiment

__all__ = [
    "Question",
    "asked_columns",
    "clean_values",
    "hit_measure",
    "in_order",
    "question_of",
    "reader",
    "rows_of",
    "rows_read",
    "value_reader",
]

Question = tuple[str | None, ...]
HITS = ("accuracy", "pass")
"""Measures that are 1 for a right answer and 0 for a wrong one, the first one that was taken."""
DEFAULT_PHRASING = "default"
"""How a relation's own wording is called beside its phrasings."""


def rows_read(experiment: Experiment) -> frozenset[str]:
    """Name the interventions whose rows an analysis of this run reads; those of others need not be kept."""
    found: set[str] = set()
    for name, spec in experiment.analyses.items():
        if experiment.only is None or name in experiment.only:
            own = (spec.pivot, spec.cumulativity, spec.slices, spec.errors, spec.of if spec.difference else None)
            found.update(of for of in own if of is not None)
    return frozenset(found)


def rows_of(name: str, of: str, found: Findings) -> Sequence[Row]:
    """Give the rows of an intervention. Raises RunError, in the name of analysis ``name``, if it was not done."""
    if of not in found.rows:
        raise RunError(f"'{name}': '{of}' was not done")
    return found.rows[of]


def question_of(asked: Asked) -> Question:
    """Give what tells one question from another, the same in every intervention that asks it."""
    wording = (asked.variant, asked.phrasing, asked.language, asked.template)
    return asked.prompt, asked.relation, asked.entity, *wording


def asked_columns(found: Findings, of: str) -> tuple[str, ...]:
    """Name the columns by which a question belongs to an owner: what the edited neurons were ranked by.

    ``relation`` where owners are relations, ``entity`` where they are entities (other forms of a name are the entity's)
    or nobody.
    """
    experiment = found.experiment
    done = found.results.interventions.get(of)
    owners = done.owners if done is not None else []
    if owners and all(owner in experiment.relations for owner in owners):
        return ("relation",)
    spec = experiment.interventions.get(of)
    for edit in spec.edit if spec is not None else ():
        for ranking, _ in owners_of(experiment, edit.neurons or edit.outside).rankings:
            columns = tuple(str(column) for column in experiment.localize[ranking].by or () if column != "variant")
            if columns:
                return columns
    return ("entity",)


def value_reader(found: Findings, of: str) -> Callable[[Asked, str], Any]:
    """Give the function from what was asked and a column to its value, None where it has none.

    Columns are those of a prompt, the sweeps, ``asked`` and ``edited``, ``condition``, ``role``, and the attributes of
    the fact and of its entity.
    """
    owner = asked_columns(found, of)
    entities = found.experiment.entities

    def read(asked: Asked, column: str) -> Any:
        if column in asked.axes:
            return asked.axes[column]
        if column == "asked":
            parts = [read(asked, name) for name in owner]
            return None if None in parts else "/".join(_shown(part) for part in parts)
        if column in ("prompt", "text"):
            return asked.prompt
        if column == "phrasing" and asked.phrasing is None and asked.relation is not None:
            return DEFAULT_PHRASING
        if column in asked.columns:
            return asked.columns[column]
        if hasattr(asked, column):
            return getattr(asked, column)
        return entities[asked.entity].attributes.get(column) if asked.entity in entities else None

    return read


def reader(column: str, found: Findings, of: str) -> Callable[[Row], str | None]:
    """Give the function from a row of an intervention to its value of a column, as text; None where it has none."""
    read = value_reader(found, of)

    def text(row: Row) -> str | None:
        value = read(row.asked, column)
        return None if value is None else _shown(value)

    return text


def _shown(value: Any) -> str:
    return number_text(value) if isinstance(value, int | float) else str(value)


def clean_values(rows: Iterable[Row], measure: str) -> Mapping[tuple[str, int], float]:
    """Give (owner, number of the prompt): the value of a measure in the clean run, where it has one."""
    found: dict[tuple[str, int], float] = {}
    for row in rows:
        value = row.values.get(measure)
        if row.asked.condition == "clean" and isinstance(value, int | float):
            found[row.asked.edited, row.asked.prompt_id] = float(value)
    return found


def hit_measure(name: str, found: Findings, *interventions: str) -> str:
    """Choose the measure that says of a question whether it is answered right: one that all interventions took.

    Raises RunError, in the name of analysis ``name``, if there is none.
    """
    taken = [found.experiment.interventions[of].measure for of in interventions]
    for word in HITS:
        for measure in taken[0]:
            if measure.partition("@")[0] == word and all(measure in others for others in taken):
                return measure
    raise RunError(
        f"'{name}': {' and '.join(interventions)} took no measure that says whether an answer is right",
        remedy="add accuracy@2 to `measure`",
    )


def in_order(values: Iterable[str]) -> list[str]:
    """List different values as they come; numbers by size."""
    different = list(dict.fromkeys(values))
    try:
        return sorted(different, key=float)
    except ValueError:
        return different
