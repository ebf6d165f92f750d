"""Dotted paths into a spec: `--set a.b=c`, and what stands at a path that a value is put at."""

from __future__ import annotations

import re
from collections.abc import Sequence

from specs.language.errors import Origin, Problem, SpecError
from specs.language.experiment import Experiment
from specs.language.nodes import (
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    is_null,
    mapping_of,
    with_entry,
)
from specs.language.origins import join_path, split_path
from specs.language.scalars import nearest, suggest
from specs.language.text import parse_yaml

__all__ = ["MAIN", "NAMED", "long_definition", "parse_set", "set_path"]

MAIN = {"model": "id", "data": "from", "entities": "name", "localize": "metric", "placeholders": "from"}
"""Block: the field a scalar stands for there."""
ONE_OR_MORE = ("edit", "except", "expect")
"""Fields in which one block may stand for a list."""
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


def long_definition(block: str, node: Node) -> Node:
    """Give a definition in its long form: a scalar stands for the block's main field."""
    if isinstance(node, ScalarNode) and not node.is_null and block in MAIN:
        return mapping_of({MAIN[block]: (node, node.origin)}, node.origin)
    return node


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
    return mapping_of({k: (_moved(v, origin), origin) for k, v in node.entries.items()}, origin)


def set_path(root: MappingNode, steps: Sequence[str], value: Node) -> MappingNode:
    """Put a value at a dotted path, replacing what is there whole; raises ValueError for a path that
    leads nowhere.

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
    changed = with_entry(heir, key, node.entries[key], node.keys[key])
    return with_entry(root, "interventions", with_entry(block, name, changed))


def _set(node: Node | None, steps: list[str], value: Node, done: tuple[str, ...], spelled: str) -> Node:
    if not steps:
        return value
    step = steps[0]
    if step == "0" and done and done[-1] in ONE_OR_MORE and isinstance(node, MappingNode):
        return _set(node, steps[1:], value, (*done, step), spelled)
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
    if len(steps) == 1 and is_null(value):
        return with_entry(node, step, None)
    made = _set(below, steps[1:], value, (*done, step), spelled)
    return with_entry(node, step, made, key if len(steps) == 1 or below is None else None)


def _opened(node: ScalarNode, done: tuple[str, ...], spelled: str) -> Node:
    """Give the block a scalar stands for, when a path leads into it."""
    block = done[0] if len(done) == 2 or done == ("model",) else ""
    if block in MAIN:
        return long_definition(block, node)
    if done and done[-1] == "controls" and node.text == "none":
        zero = ScalarNode("0", False, node.origin)
        names = ("random_neurons", "wrong_cell", "no_edit") if done[0] == "interventions" else ()
        return mapping_of({name: (zero, node.origin) for name in names}, node.origin)
    raise ValueError(f"'{spelled}': {join_path(done)} holds one value ({node.text}) and has no parts")
