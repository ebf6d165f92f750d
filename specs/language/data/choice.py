"""Choose rows: `relations`, then `where`, `order` and `unique`, in this order; `limit` counts entities.

`unique` is within each relation: a person who is asked for a mother and for a father is no duplicate.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from specs.language.conditions import holds
from specs.language.data.tables import OURS, Row, Table
from specs.language.experiment import DataFile
from specs.language.scalars import looks_like_number, suggest

__all__ = ["choose"]

QUESTIONS = "questions"
"""A column that every table has: how many relations its entity is asked."""
Tell = Callable[..., None]


def choose(tables: Sequence[Table], spec: DataFile, tell: Tell) -> list[Row]:
    """Give the chosen rows in order; ``tell(message, *path)`` takes what is wrong with the choice."""
    rows = [row for table in tables for row in table.rows]
    known = dict.fromkeys((*OURS, *(c for table in tables for c in table.columns), QUESTIONS))
    if spec.relations is not None:
        there = dict.fromkeys(row.relation for row in rows if row.relation is not None)
        for n, name in enumerate(spec.relations):
            if name not in there:
                near = suggest(name, there) or f"; there are {_some(list(there))}"
                tell(f"'{name}' is not a relation of this table{near}", "relations", n)
        rows = [row for row in rows if row.relation is None or row.relation in spec.relations]
    asked: dict[Hashable, set[str]] = {}
    for row in rows:
        if row.relation is not None:
            asked.setdefault(row.identity, set()).add(row.relation)

    def value(row: Row, column: str) -> Any:
        if column == QUESTIONS and QUESTIONS not in row.values:
            return len(asked.get(row.identity, ()))
        return row.identity if column == "entity" else row.value(column)

    def fine(column: str, *path: str | int) -> bool:
        if column in known:
            return True
        near = suggest(column, known) or f"; there are {', '.join(known)}"
        tell(f"'{column}' is not a column of this table{near}", *path)
        return False

    for n, condition in enumerate(spec.where):
        if not fine(condition.quantity, "where", n):
            continue
        column = condition.quantity
        try:
            kept = []
            for row in rows:
                found = value(row, column) if column != "entity" else row.value("entity")
                if holds(condition, found):
                    kept.append(row)
            rows = kept
        except ValueError as error:
            tell(f"{error} ({row.origin})", "where", n)
    if spec.order is not None and fine(spec.order.removeprefix("-"), "order"):
        rows = _ordered(rows, spec.order, value, tell)
    if spec.unique is not None and fine(spec.unique, "unique"):
        first: dict[Any, Row] = {}
        for row in rows:
            found = value(row, spec.unique)
            first.setdefault((row.relation, tuple(found) if isinstance(found, list) else found), row)
        rows = list(first.values())
    return rows


def _ordered(rows: list[Row], order: str, value: Callable[[Row, str], Any], tell: Tell) -> list[Row]:
    """Sort by a column, numbers as numbers; rows that are equal in it keep their order in the file."""
    column = order.removeprefix("-")
    keyed: list[tuple[tuple[bool, float, str], Row]] = []
    for row in rows:
        found = row.name if column == "entity" else value(row, column)
        if isinstance(found, list):
            found = ", ".join(found)
        if found is None:
            tell(f"a row has no '{column}' to be ordered by ({row.origin})", "order")
            return rows
        number = isinstance(found, (int, float)) or looks_like_number(str(found))
        keyed.append(((not number, float(found) if number else 0.0, "" if number else str(found)), row))
    keyed.sort(key=lambda pair: pair[0], reverse=order.startswith("-"))
    return [row for _, row in keyed]


def _some(names: list[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
