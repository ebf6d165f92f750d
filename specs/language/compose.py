"""Merge a spec with the files it extends, and interventions with those they extend.

Everything happens on nodes, before anything is typed, so that every value keeps the place where it was
written.

Three levels and no deeper. A child adds names to a block (`entities`, `localize`, ...), replaces fields
of a named definition, and null removes a name or a field; what a field holds is replaced whole. `model`
is one such field: what a base says about its model does not follow another one. `name`, `description`,
`only` and `expect` are not inherited.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from specs.language.errors import Origin, Problem, SpecError
from specs.language.nodes import (
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    is_null,
    plain,
    with_entry,
)
from specs.language.origins import join_path
from specs.language.paths import NAMED, long_definition
from specs.language.scalars import suggest
from specs.language.text import read_yaml

__all__ = ["Files", "inherit", "read_files"]

NOT_INHERITED = ("name", "description", "only", "expect", "extends", "version")


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
    return Files(with_entry(root, "extends", None), own, sources)


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
        called = os.path.normpath(Path(named).parent / item.text)
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


def _overlay(base: MappingNode, over: MappingNode) -> MappingNode:
    """Replace fields of a definition; null removes one."""
    merged = base
    for key, value in over.entries.items():
        removed = is_null(value) and key in base.entries
        merged = with_entry(merged, key, None if removed else value, over.keys[key])
    return MappingNode(merged.entries, merged.keys, over.origin)


def _over(base: MappingNode, child: MappingNode, problems: list[Problem]) -> MappingNode:
    """Put a child over its bases."""
    merged = base
    for key, value in child.entries.items():
        below = base.entries.get(key)
        if key in (*NAMED, "matrix") and isinstance(below, MappingNode) and isinstance(value, MappingNode):
            value = _over_block(key, below, value, problems)
        elif is_null(value) and below is not None:
            merged = with_entry(merged, key, None)
            continue
        elif isinstance(value, MappingNode) and below is None and key in (*NAMED, "matrix"):
            value = _over_block(key, MappingNode({}, {}, value.origin), value, problems)
        merged = with_entry(merged, key, value, child.keys[key])
    return MappingNode(merged.entries, merged.keys, child.origin)


def _over_block(block: str, base: MappingNode, child: MappingNode, problems: list[Problem]) -> MappingNode:
    merged = base
    for name, value in child.entries.items():
        below = base.entries.get(name)
        if is_null(value):
            if below is None:
                near = suggest(name, base.entries)
                problems.append(
                    Problem(
                        f"the files extended here have no '{name}' to remove{near}",
                        join_path([block, name]),
                        child.keys[name].origin,
                    )
                )
            merged = with_entry(merged, name, None)
            continue
        if below is not None and block != "matrix":
            lower, upper = long_definition(block, below), long_definition(block, value)
            if isinstance(lower, MappingNode) and isinstance(upper, MappingNode):
                value = _overlay(lower, upper)
        merged = with_entry(merged, name, value, child.keys[name])
    return MappingNode(merged.entries, merged.keys, child.origin)


def _join_bases(bases: Sequence[MappingNode], own: MappingNode, problems: list[Problem]) -> MappingNode:
    """Join the bases of one file; what two of them define differently is for the file itself to define."""
    joined = MappingNode({}, {}, own.origin)
    for key in dict.fromkeys(key for base in bases for key in base.entries):
        if key in NOT_INHERITED and key != "version":
            continue
        having = [base for base in bases if key in base.entries]
        values = [base.entries[key] for base in having]
        blocks = [value for value in values if isinstance(value, MappingNode)]
        if key in (*NAMED, "matrix") and len(blocks) == len(values):
            value: Node = _join_blocks(key, blocks, own, problems)
        else:
            value = values[0]
            if key not in own.entries and any(_differ(key, value, other) for other in values[1:]):
                problems.append(_conflict(own, key))
        joined = with_entry(joined, key, value, having[0].keys[key])
    return joined


def _join_blocks(block: str, bases: Sequence[MappingNode], own: MappingNode, problems: list[Problem]) -> MappingNode:
    """Join one block of several bases by name."""
    mine = own.entries.get(block)
    defined = mine.entries if isinstance(mine, MappingNode) else {}
    joined = MappingNode({}, {}, bases[0].origin)
    for name in dict.fromkeys(name for base in bases for name in base.entries):
        having = [base for base in bases if name in base.entries]
        definitions = [base.entries[name] for base in having]
        if any(_differ(block, definitions[0], other) for other in definitions[1:]):
            if name not in defined and not is_null(mine):
                problems.append(_conflict(own, join_path([block, name])))
            if name in defined and not is_null(defined[name]):
                # the file's own definition stands alone: there is no telling which one it would change
                continue
        joined = with_entry(joined, name, definitions[0], having[0].keys[name])
    return joined


def _differ(block: str, one: Node, other: Node) -> bool:
    return bool(plain(long_definition(block, one)) != plain(long_definition(block, other)))


def _conflict(own: MappingNode, path: str) -> Problem:
    return Problem(
        f"two of the files extended here define {path} differently; define it in this file, or rename one",
        "extends",
        own.entries["extends"].origin,
    )


def inherit(root: MappingNode) -> tuple[MappingNode, list[Problem], set[str]]:
    """Resolve `extends` between interventions; the fields of the heir replace those of its base.

    Gives the tree, the problems, and the names whose base could not be found.
    """
    block = root.entries.get("interventions")
    if not isinstance(block, MappingNode):
        return root, [], set()
    problems: list[Problem] = []
    done: dict[str, Node] = {}
    orphans: set[str] = set()

    def resolve(name: str, chain: tuple[str, ...]) -> Node:
        node = block.entries[name]
        if name in done or not isinstance(node, MappingNode) or "extends" not in node.entries:
            return done.setdefault(name, node)
        base = node.entries["extends"]
        alone = with_entry(node, "extends", None)
        if is_null(base):
            return done.setdefault(name, alone)
        wrong = _wrong_base(base, block, (*chain, name))
        if wrong is None:
            assert isinstance(base, ScalarNode)
            below = resolve(base.text, (*chain, name))
            if base.text in orphans:
                orphans.add(name)
            if isinstance(below, MappingNode):
                return done.setdefault(name, _overlay(below, alone))
        else:
            orphans.add(name)
            problems.append(Problem(wrong, join_path(["interventions", name, "extends"]), base.origin))
        return done.setdefault(name, alone)

    resolved = block
    for name in block.entries:
        resolved = with_entry(resolved, name, resolve(name, ()))
    return with_entry(root, "interventions", resolved), problems, orphans


def _wrong_base(base: Node, block: MappingNode, chain: tuple[str, ...]) -> str | None:
    """Say what is wrong with the intervention that another one extends."""
    if not isinstance(base, ScalarNode):
        return "`extends` names one other intervention"
    if base.text == chain[-1]:
        return f"'{base.text}' extends itself"
    if base.text in chain:
        circle = (*chain[chain.index(base.text) :], base.text)
        return f"these interventions extend each other: {' -> '.join(circle)}"
    if base.text in block.entries:
        return None
    others = [other for other in block.entries if other != chain[-1]]
    near = suggest(base.text, others) or (f"; there are {', '.join(others)}" if others else "")
    return f"'{base.text}' is not an intervention{near}"
