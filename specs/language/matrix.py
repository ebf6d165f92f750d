"""One experiment for each combination of the matrix's values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from specs.language.errors import Origin, Problem, SpecError
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
from specs.language.paths import set_path

__all__ = ["Combination", "combinations"]

NO_AXIS = ("version", "name", "description", "only", "expect", "extends", "matrix")
MOST_COMBINATIONS = 1000


@dataclass(frozen=True)
class Combination:
    """One choice of a value for every axis of the matrix."""

    label: str
    axes: Mapping[str, str]
    root: MappingNode


def combinations(root: MappingNode) -> Iterator[Combination]:
    """Give one tree for each combination of the matrix's values; raises SpecError for axes that lead
    nowhere.
    """
    matrix = root.entries.get("matrix")
    if matrix is None or is_null(matrix):
        yield Combination("", {}, root)
        return
    if not isinstance(matrix, MappingNode):
        message = "`matrix` is a block of dotted paths, each with its values: `localize.cell.top: [1, 5]`"
        raise SpecError([Problem(message, "matrix", matrix.origin)])
    problems: list[Problem] = []
    axes: list[tuple[str, list[str], list[Node]]] = []
    for axis, node in matrix.entries.items():
        values: list[Node] = list(node.items) if isinstance(node, SequenceNode) else [node]
        path = join_path(["matrix", axis])
        place = matrix.keys[axis].origin
        if is_null(node):
            continue
        if not values:
            problems.append(Problem("this axis has no values", path, place))
            continue
        twice = next((v for n, v in enumerate(values) if plain(v) in [plain(w) for w in values[:n]]), None)
        if twice is not None:
            problems.append(Problem(f"this axis has {in_flow(twice)} twice", path, twice.origin))
            continue
        try:
            steps = split_path(axis)
            if steps[0] in NO_AXIS:
                raise ValueError(f"'{steps[0]}' cannot be an axis of the matrix")
            set_path(root, steps, values[0])
        except ValueError as error:
            problems.append(Problem(str(error), path, place))
            continue
        axes.append((axis, steps, values))
    count = 1
    for _, _, values in axes:
        count *= len(values)
    if count > MOST_COMBINATIONS:
        message = f"this matrix makes {count:,} experiments; the most is {MOST_COMBINATIONS:,}"
        problems.append(Problem(message, "matrix", root.keys["matrix"].origin))
    if problems:
        raise SpecError(problems)
    names = {axis: _labels(values) for axis, _, values in axes}
    for choice in itertools.product(*(range(len(values)) for _, _, values in axes)):
        made = root
        chosen: dict[str, tuple[Node, Origin]] = {}
        labels: dict[str, str] = {}
        # an axis inside what another axis replaces is set after it
        for (_, steps, values), index in sorted(
            zip(axes, choice, strict=True), key=lambda pair: len(pair[0][1])
        ):
            made = set_path(made, steps, values[index])
        for (axis, _, values), index in zip(axes, choice, strict=True):
            value = values[index]
            chosen[axis] = (SequenceNode((value,), value.origin), matrix.keys[axis].origin)
            labels[axis] = names[axis][index]
        made = with_entry(made, "matrix", mapping_of(chosen, matrix.origin) if chosen else None)
        yield Combination(", ".join(f"{a}={v}" for a, v in labels.items()), labels, made)


def _labels(values: Sequence[Node]) -> list[str]:
    """Name the values of an axis: a block by its main field where that is enough, else in full."""
    short = []
    for value in values:
        main = None
        if isinstance(value, MappingNode):
            main = next(
                (value.entries[k] for k in ("id", "metric", "name", "from") if k in value.entries), None
            )
        short.append(main.text if isinstance(main, ScalarNode) else in_flow(value))
    return [
        in_flow(value) if short.count(label) > 1 else label
        for value, label in zip(values, short, strict=True)
    ]
