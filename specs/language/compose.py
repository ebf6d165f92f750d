"""Put a spec together from its files: `extends` of files, `--set`, `matrix`, `extends` between interventions.

Everything happens on nodes, before anything is typed, so that every value keeps the place where it was written.

Three levels and no deeper. A child adds names to a block (`entities`, `localize`, ...), replaces fields of a named
definition, and null removes a name or a field; what a field holds is replaced whole. `model` is one such field: what
a base says about its model does not follow another one. `name`, `description`, `only` and `expect` are not inherited.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from specs.language.errors import Origin, Problem, SpecError
from specs.language.experiment import Experiment
from specs.language.origins import join_path, split_path
from specs.language.scalars import nearest, suggest
from specs.language.text import MappingNode, Node, ScalarNode, SequenceNode, parse_yaml, plain, read_yaml

__all__ = ["NAMED", "Combination", "Files", "combinations", "inherit", "parse_set", "read_files", "set_path"]

MAIN = {"model": "id", "data": "from", "entities": "name", "localize": "metric", "placeholders": "from"}
"""Block: the field a scalar stands for there."""
NAMED = (
    "data",
    "entities",
    "placeholders",
    "relations",
    "prompts",
    "localize",
    "neurons",
    "vectors",
    "interventions",
    "analyses",
)
"""Blocks that hold named definitions."""
NOT_INHERITED = ("name", "description", "only", "expect", "extends", "version")
NO_AXIS = ("version", "name", "description", "only", "expect", "extends", "matrix")
MOST_COMBINATIONS = 1000


@dataclass
class Files:
    """A spec merged with its bases, and the files it came from."""

    root: MappingNode
    own: MappingNode
    """The file itself, without its bases."""
    sources: list[Path] = field(default_factory=list)


def read_files(path: Path, named: str) -> Files:
    """Read a spec and the files it extends; raises SpecError with the problems of all of them."""
    problems: list[Problem] = []
    sources: list[Path] = []
    root, own = _read(path, named, (), sources, problems)
    if problems:
        raise SpecError(problems)
    return Files(_with(root, "extends", None), own, sources)


def _mapping(node: Node, named: str) -> MappingNode:
    if isinstance(node, MappingNode):
        return node
    what = "a list" if isinstance(node, SequenceNode) else "one text"
    message = f"a spec is a block of keys, such as `version: 1`, and this file is {what}"
    raise SpecError([Problem(message, origin=node.origin, level="schema")])


def _read(
    path: Path, named: str, chain: tuple[Path, ...], sources: list[Path], problems: list[Problem]
) -> tuple[MappingNode, MappingNode]:
    own = _mapping(read_yaml(path, named), named)
    here = path.resolve()
    if here not in sources:
        sources.append(here)
    bases: list[MappingNode] = []
    for item in _extended(own, problems):
        found = (path.parent / item.text).resolve()
        called = str(Path(named).parent / item.text)
        if found in (*chain, here):
            circle = " -> ".join(p.name for p in (*chain, here, found)[(*chain, here).index(found) :])
            problems.append(Problem(f"these files extend each other: {circle}", "extends", item.origin))
            continue
        try:
            bases.append(_read(found, called, (*chain, here), sources, problems)[0])
        except SpecError as error:
            problems.extend(_placed(p, called, item.origin) for p in error.problems)
    base = _join_bases(bases, own, problems)
    return _over(base, own, problems) if bases else own, own


def _placed(problem: Problem, called: str, origin: Origin) -> Problem:
    """Show a base file that cannot be read where it is named."""
    if problem.origin is not None and problem.origin.file == called and not problem.origin.line:
        return Problem(problem.message, "extends", origin, "text")
    return problem


def _extended(own: MappingNode, problems: list[Problem]) -> list[ScalarNode]:
    node = own.entries.get("extends")
    if node is None or (isinstance(node, ScalarNode) and node.is_null):
        return []
    items = node.items if isinstance(node, SequenceNode) else (node,)
    files = []
    for item in items:
        if isinstance(item, ScalarNode) and not item.is_null:
            files.append(item)
        else:
            problems.append(Problem("`extends` is a file or a list of files", "extends", item.origin))
    return files


def _long(block: str, node: Node) -> Node:
    """Give a definition in its long form: a scalar stands for the block's main field."""
    if isinstance(node, ScalarNode) and not node.is_null and block in MAIN:
        return _mapping_of({MAIN[block]: (node, node.origin)}, node.origin)
    return node


def _mapping_of(entries: Mapping[str, tuple[Node, Origin]], origin: Origin) -> MappingNode:
    return MappingNode(
        {key: node for key, (node, _) in entries.items()},
        {key: ScalarNode(key, False, place) for key, (_, place) in entries.items()},
        origin,
    )


def _null(node: Node | None) -> bool:
    return isinstance(node, ScalarNode) and node.is_null


def _with(parent: MappingNode, key: str, value: Node | None, key_node: ScalarNode | None = None) -> MappingNode:
    """Put a value under a key, or take the key away."""
    entries, keys = dict(parent.entries), dict(parent.keys)
    if value is None:
        entries.pop(key, None)
        keys.pop(key, None)
    else:
        entries[key] = value
        keys[key] = key_node or keys.get(key) or ScalarNode(key, False, value.origin)
    return MappingNode(entries, keys, parent.origin)


def _overlay(base: MappingNode, over: MappingNode) -> MappingNode:
    """Replace fields of a definition; null removes one."""
    merged = base
    for key, value in over.entries.items():
        removed = _null(value) and key in base.entries
        merged = _with(merged, key, None if removed else value, over.keys[key])
    return MappingNode(merged.entries, merged.keys, over.origin)


def _over(base: MappingNode, child: MappingNode, problems: list[Problem]) -> MappingNode:
    """Put a child over its bases."""
    merged = base
    for key, value in child.entries.items():
        below = base.entries.get(key)
        if key in (*NAMED, "matrix") and isinstance(below, MappingNode) and isinstance(value, MappingNode):
            value = _over_block(key, below, value, problems)
        elif _null(value) and below is not None:
            merged = _with(merged, key, None)
            continue
        elif isinstance(value, MappingNode) and below is None and key in (*NAMED, "matrix"):
            value = _over_block(key, MappingNode({}, {}, value.origin), value, problems)
        merged = _with(merged, key, value, child.keys[key])
    return MappingNode(merged.entries, merged.keys, child.origin)


def _over_block(
    block: str, base: MappingNode, child: MappingNode, problems: list[Problem]
) -> MappingNode:
    merged = base
    for name, value in child.entries.items():
        below = base.entries.get(name)
        if _null(value):
            if below is None:
                near = suggest(name, base.entries)
                problems.append(
                    Problem(
                        f"the files extended here have no '{name}' to remove{near}",
                        join_path([block, name]),
                        child.keys[name].origin,
                    )
                )
            merged = _with(merged, name, None)
            continue
        if below is not None and block != "matrix":
            lower, upper = _long(block, below), _long(block, value)
            if isinstance(lower, MappingNode) and isinstance(upper, MappingNode):
                value = _overlay(lower, upper)
        merged = _with(merged, name, value, child.keys[name])
    return MappingNode(merged.entries, merged.keys, child.origin)


def _join_bases(bases: Sequence[MappingNode], own: MappingNode, problems: list[Problem]) -> MappingNode:
    """Join the bases of one file; what two of them define differently is refused unless the file defines it."""
    joined = MappingNode({}, {}, own.origin)
    for base in bases:
        for key, value in base.entries.items():
            if key in NOT_INHERITED and key != "version":
                continue
            before = joined.entries.get(key)
            if key in (*NAMED, "matrix") and isinstance(value, MappingNode) and isinstance(before, MappingNode):
                mine = own.entries.get(key)
                for name, definition in value.entries.items():
                    if isinstance(mine, MappingNode) and name in mine.entries and name in before.entries:
                        # the file's own definition stands alone: there is no telling which one it would change
                        if _differ(key, before.entries[name], definition) and not _null(mine.entries[name]):
                            before = _with(before, name, None)
                            continue
                    elif name in before.entries and not _null(mine):
                        if _differ(key, before.entries[name], definition):
                            problems.append(_conflict(own, join_path([key, name])))
                            continue
                    before = _with(before, name, definition, value.keys[name])
                joined = _with(joined, key, before, base.keys[key])
            elif before is not None and _differ(key, before, value) and key not in own.entries:
                problems.append(_conflict(own, key))
            else:
                joined = _with(joined, key, value, base.keys[key])
    return joined


def _differ(block: str, one: Node, other: Node) -> bool:
    return bool(plain(_long(block, one)) != plain(_long(block, other)))


def _conflict(own: MappingNode, path: str) -> Problem:
    return Problem(
        f"two of the files extended here define {path} differently; define it in this file, or rename one",
        "extends",
        own.entries["extends"].origin,
    )


# --- paths --------------------------------------------------------------------------------------------------


def parse_set(text: str) -> tuple[list[str], Node]:
    """Read `a.b=c`: the path, and the value as YAML; raises SpecError."""
    origin = Origin(f"--set {text}")
    found = re.match(r'((?:"(?:[^"\\]|\\.)*"|[^"=])+)=(.*)', text, re.DOTALL)
    if found is None:
        raise SpecError([Problem("write PATH=VALUE, such as localize.cell.top=3", origin=origin, level="text")])
    path, value = found[1].strip(), found[2]
    origin = Origin(f"--set {path}")
    try:
        steps = split_path(path)
    except ValueError as error:
        raise SpecError([Problem(str(error), origin=origin, level="text")]) from None
    if not value.strip():
        return steps, ScalarNode("", False, origin)
    try:
        return steps, _moved(parse_yaml(value, origin.file), origin)
    except SpecError as error:
        moved = [Problem(f"{p.message}, in {value.strip()}", origin=origin, level="text") for p in error.problems]
        raise SpecError(moved) from None


def _moved(node: Node, origin: Origin) -> Node:
    """Give every node of a tree the same place."""
    if isinstance(node, ScalarNode):
        return ScalarNode(node.text, node.quoted, origin)
    if isinstance(node, SequenceNode):
        return SequenceNode(tuple(_moved(item, origin) for item in node.items), origin)
    return _mapping_of({k: (_moved(v, origin), origin) for k, v in node.entries.items()}, origin)


def set_path(root: MappingNode, steps: Sequence[str], value: Node) -> MappingNode:
    """Put a value at a dotted path, replacing what is there whole; raises ValueError for a path that leads nowhere.

    Fields that a definition may have can be set, but names are not invented: a name must be in the spec.
    """
    spelled = join_path(list(steps))
    known = [name for name in Experiment.model_fields if name != "version"]
    if steps[0] not in known:
        raise ValueError(f"'{spelled}': '{steps[0]}' is not a key here{suggest(steps[0], known)}")
    if len(steps) > 1 and steps[0] in NAMED:
        block = root.entries.get(steps[0])
        names = list(block.entries) if isinstance(block, MappingNode) else []
        if steps[1] not in names:
            near = nearest(steps[1], names)
            listing = f"; it has {', '.join(names)}" if names else ""
            hint = f"; did you mean '{near}'?" if near else listing
            raise ValueError(f"'{spelled}': {steps[0]} has no '{steps[1]}'{hint}")
        if steps[0] == "interventions" and len(steps) > 3 and isinstance(block, MappingNode):
            root = _own_field(root, block, steps[1], steps[2])
    found = _set(root, list(steps), value, (), spelled)
    assert isinstance(found, MappingNode)
    return found


def _own_field(root: MappingNode, block: MappingNode, name: str, key: str) -> MappingNode:
    """Copy an inherited field into an intervention, so that a part of it can be changed."""
    seen = {name}
    node = block.entries[name]
    heir = node
    while isinstance(node, MappingNode) and key not in node.entries:
        base = node.entries.get("extends")
        if not isinstance(base, ScalarNode) or base.text in seen or base.text not in block.entries:
            return root
        seen.add(base.text)
        node = block.entries[base.text]
    if node is heir or not isinstance(node, MappingNode) or not isinstance(heir, MappingNode):
        return root
    changed = _with(heir, key, node.entries[key], node.keys[key])
    return _with(root, "interventions", _with(block, name, changed))


def _set(node: Node | None, steps: list[str], value: Node, done: tuple[str, ...], spelled: str) -> Node:
    if not steps:
        return value
    step = steps[0]
    if isinstance(node, ScalarNode) and not node.is_null:
        node = _opened(node, done, spelled)
    if isinstance(node, SequenceNode):
        if not step.isdecimal() or int(step) >= len(node.items):
            last = len(node.items) - 1
            raise ValueError(f"'{spelled}': {join_path(done)} is a list; say which of them, 0 to {last}")
        items = list(node.items)
        items[int(step)] = _set(items[int(step)], steps[1:], value, (*done, step), spelled)
        return SequenceNode(tuple(items), node.origin)
    if node is None or isinstance(node, ScalarNode):
        node = MappingNode({}, {}, value.origin)
    key = ScalarNode(step, False, value.origin)
    below = node.entries.get(step)
    if len(steps) == 1 and _null(value):
        return _with(node, step, None)
    made = _set(below, steps[1:], value, (*done, step), spelled)
    return _with(node, step, made, key if len(steps) == 1 or below is None else None)


def _opened(node: ScalarNode, done: tuple[str, ...], spelled: str) -> Node:
    """Give the block a scalar stands for, when a path leads into it."""
    block = done[0] if len(done) == 2 or done == ("model",) else ""
    if block in MAIN:
        return _long(block, node)
    if done and done[-1] == "controls" and node.text == "none":
        zero = ScalarNode("0", False, node.origin)
        names = ("random_neurons", "wrong_cell", "no_edit") if done[0] == "interventions" else ()
        return _mapping_of({name: (zero, node.origin) for name in names}, node.origin)
    raise ValueError(f"'{spelled}': {join_path(done)} holds one value ({node.text}) and has no parts")


# --- interventions that extend each other ---------------------------------------------------------------------


def inherit(root: MappingNode) -> tuple[MappingNode, list[Problem]]:
    """Resolve `extends` between interventions; the fields of the heir replace those of its base."""
    block = root.entries.get("interventions")
    if not isinstance(block, MappingNode):
        return root, []
    problems: list[Problem] = []
    done: dict[str, Node] = {}

    def resolve(name: str, chain: tuple[str, ...]) -> Node:
        node = block.entries[name]
        if name in done or not isinstance(node, MappingNode) or "extends" not in node.entries:
            return done.setdefault(name, node)
        base = node.entries["extends"]
        alone = _with(node, "extends", None)
        path = join_path(["interventions", name, "extends"])
        if _null(base):
            return done.setdefault(name, alone)
        if not isinstance(base, ScalarNode):
            problems.append(Problem("`extends` names one other intervention", path, base.origin))
        elif base.text not in block.entries:
            others = [other for other in block.entries if other != name]
            near = suggest(base.text, others) or (f"; there are {', '.join(others)}" if others else "")
            problems.append(Problem(f"'{base.text}' is not an intervention{near}", path, base.origin))
        elif base.text in (*chain, name):
            circle = (*chain, name)
            names = " -> ".join((*circle[circle.index(base.text) :], base.text))
            if base.text == name or not any("extend each other" in p.message for p in problems):
                what = "extends itself" if base.text == name else f"extend each other: {names}"
                opening = f"'{name}' {what}" if base.text == name else f"these interventions {what}"
                problems.append(Problem(opening, path, base.origin))
        else:
            below = resolve(base.text, (*chain, name))
            if isinstance(below, MappingNode):
                return done.setdefault(name, _overlay(below, alone))
        return done.setdefault(name, alone)

    resolved = block
    for name in block.entries:
        resolved = _with(resolved, name, resolve(name, ()))
    return _with(root, "interventions", resolved), problems


# --- matrix ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Combination:
    """One choice of a value for every axis of the matrix."""

    label: str
    axes: Mapping[str, str]
    root: MappingNode


def combinations(root: MappingNode) -> Iterator[Combination]:
    """Give one tree for each combination of the matrix's values; raises SpecError for axes that lead nowhere."""
    matrix = root.entries.get("matrix")
    if matrix is None or _null(matrix):
        yield Combination("", {}, root)
        return
    if not isinstance(matrix, MappingNode):
        message = "`matrix` is a block of dotted paths, each with its values: `localize.cell.top: [1, 5]`"
        raise SpecError([Problem(message, "matrix", matrix.origin)])
    problems: list[Problem] = []
    axes: list[tuple[str, list[str], list[Node]]] = []
    for axis, node in matrix.entries.items():
        values = list(node.items) if isinstance(node, SequenceNode) else [node]
        path = join_path(["matrix", axis])
        place = matrix.keys[axis].origin
        if _null(node):
            continue
        if not values:
            problems.append(Problem("this axis has no values", path, place))
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
        for (axis, steps, values), index in sorted(
            zip(axes, choice, strict=True), key=lambda pair: len(pair[0][1])
        ):
            made = set_path(made, steps, values[index])
        for (axis, _, values), index in zip(axes, choice, strict=True):
            value = values[index]
            chosen[axis] = (SequenceNode((value,), value.origin), matrix.keys[axis].origin)
            labels[axis] = names[axis][index]
        made = _with(made, "matrix", _mapping_of(chosen, matrix.origin) if chosen else None)
        yield Combination(", ".join(f"{a}={v}" for a, v in labels.items()), labels, made)


def _labels(values: Sequence[Node]) -> list[str]:
    """Name the values of an axis: a block by its main field where that is enough, else in full."""
    short = []
    for value in values:
        main = None
        if isinstance(value, MappingNode):
            main = next((value.entries[k] for k in ("id", "metric", "name", "from") if k in value.entries), None)
        short.append(main.text if isinstance(main, ScalarNode) else in_flow(value))
    return [
        in_flow(value) if short.count(label) > 1 else label for value, label in zip(values, short, strict=True)
    ]


def in_flow(node: Node) -> str:
    """Write a node on one line, for labels."""
    if isinstance(node, ScalarNode):
        return node.text if not node.is_null else "null"
    if isinstance(node, SequenceNode):
        return f"[{', '.join(in_flow(item) for item in node.items)}]"
    return "{" + ", ".join(f"{k}: {in_flow(v)}" for k, v in node.entries.items()) + "}"
