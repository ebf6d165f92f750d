"""One experiment for each combination of the matrix's values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specs.language.errors import Origin, Problem
from specs.language.nodes import (
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    in_flow,
    is_null,
    mapping_of,
    plain,
    with_entry,
)
from specs.language.origins import join_path, split_path
from specs.language.paths import NAMED, set_path

__all__ = ["Combination", "combinations"]

NO_AXIS = ("version", "name", "description", "only", "expect", "extends", "matrix")
MOST_COMBINATIONS = 1000


@dataclass(frozen=True)
class Combination:
    """One choice of a value for every axis of the matrix."""

    label: str
    axes: Mapping[str, str]
    root: MappingNode


@dataclass(frozen=True)
class Axis:
    """One axis: its dotted path as written and in steps, its values with their labels, its place."""

    path: str
    steps: list[str]
    values: list[Node]
    labels: list[str]
    origin: Origin


def combinations(root: MappingNode) -> tuple[list[Combination], list[Problem]]:
    """Give one tree for each combination of the values, and the problems of axes that lead nowhere."""
    matrix = root.entries.get("matrix")
    if matrix is None or is_null(matrix):
        return [Combination("", {}, root)], []
    if not isinstance(matrix, MappingNode):
        message = "`matrix` is a block of dotted paths, each with its values: `localize.cell.top: [1, 5]`"
        without = with_entry(root, "matrix", None)
        return [Combination("", {}, without)], [Problem(message, "matrix", matrix.origin)]
    problems: list[Problem] = []
    axes: list[Axis] = []
    for path, node in matrix.entries.items():
        if is_null(node):
            continue
        try:
            axes.append(_axis(root, path, node, matrix.keys[path].origin))
        except _Wrong as wrong:
            problems.append(Problem(wrong.message, join_path(["matrix", path]), wrong.origin))
    count = math.prod(len(axis.values) for axis in axes)
    if count > MOST_COMBINATIONS:
        message = f"this matrix makes {count:,} experiments; the most is {MOST_COMBINATIONS:,}"
        problems.append(Problem(message, "matrix", root.keys["matrix"].origin))
        axes = []
    found: list[Combination] = []
    for choice in itertools.product(*(range(len(axis.values)) for axis in axes)):
        chosen = list(zip(axes, choice, strict=True))
        try:
            made = _made(root, chosen)
        except _Wrong as wrong:
            problems.append(Problem(wrong.message, "matrix", wrong.origin))
            continue
        held = {axis.path: (SequenceNode((axis.values[n],), axis.values[n].origin), axis.origin) for axis, n in chosen}
        labels = {axis.path: axis.labels[n] for axis, n in chosen}
        made = with_entry(made, "matrix", mapping_of(held, matrix.origin) if held else None)
        found.append(Combination(", ".join(f"{a}={v}" for a, v in labels.items()), labels, made))
    return found, problems


class _Wrong(Exception):
    def __init__(self, message: str, origin: Origin) -> None:
        super().__init__(message)
        self.message = message
        self.origin = origin


def _axis(root: MappingNode, path: str, node: Node, origin: Origin) -> Axis:
    values: list[Node] = list(node.items) if isinstance(node, SequenceNode) else [node]
    if not values:
        raise _Wrong("this axis has no values", origin)
    for n, value in enumerate(values):
        if plain(value) in [plain(before) for before in values[:n]]:
            raise _Wrong(f"this axis has {in_flow(value)} twice", value.origin)
    try:
        steps = split_path(path)
        if steps[0] in NO_AXIS:
            raise ValueError(f"'{steps[0]}' cannot be an axis of the matrix")
        set_path(root, steps, values[0])
    except ValueError as error:
        raise _Wrong(str(error), origin) from None
    if len(steps) == 2 and steps[0] in NAMED:
        for value in values:
            if is_null(value):
                raise _Wrong("an axis cannot remove a name; leave it out with `only:`", value.origin)
    return Axis(path, steps, values, _labels(values), origin)


def _made(root: MappingNode, chosen: Sequence[tuple[Axis, int]]) -> MappingNode:
    """Put one value of each axis at its path; an axis inside what another one replaces comes after it."""
    made = root
    for axis, n in sorted(chosen, key=lambda pair: len(pair[0].steps)):
        try:
            made = set_path(made, axis.steps, axis.values[n])
        except ValueError as error:
            raise _Wrong(str(error), axis.origin) from None
    return made


def _labels(values: Sequence[Node]) -> list[str]:
    """Name the values of an axis: a block by its main field where that is enough, else in full."""
    short = []
    for value in values:
        main = None
        if isinstance(value, MappingNode):
            main = next((value.entries[k] for k in ("id", "metric", "name", "from") if k in value.entries), None)
        short.append(main.text if isinstance(main, ScalarNode) else in_flow(value))
    return [in_flow(value) if short.count(label) > 1 else label for value, label in zip(values, short, strict=True)]
