"""Where each part of a resolved spec was written, and how its dotted path is spelled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from specs.language.errors import Origin, Problem
from specs.language.text import MappingNode, Node, ScalarNode, SequenceNode

__all__ = ["Origins", "join_path", "split_path"]

Step = str | int


def join_path(steps: Sequence[Step]) -> str:
    """Spell a dotted path; a name that holds a dot, a quote, a space or an = sign is put in double quotes."""
    return ".".join(_spell(str(step)) for step in steps)


def _spell(step: str) -> str:
    if step and not re.search(r'[."=\s]', step):
        return step
    return '"' + step.replace("\\", "\\\\").replace('"', '\\"') + '"'


PATH_STEP = re.compile(r'"((?:[^"\\]|\\.)*)"|([^."=]+)')


def split_path(path: str) -> list[str]:
    """Split a dotted path, the inverse of :func:`join_path`; raises ValueError saying what is wrong with
    it.
    """
    steps = []
    at = 0
    while True:
        found = PATH_STEP.match(path, at)
        if found is None:
            raise ValueError(
                f"'{path}' is not a dotted path such as localize.cell.top; "
                'a name that holds a dot is put in double quotes: entities."Dr. John".name'
            )
        quoted, bare = found.groups()
        steps.append(re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare.strip())
        at = found.end()
        if at == len(path):
            return steps
        if path[at] != ".":
            raise ValueError(f"'{path}' is not a dotted path: a dot is missing before {path[at:]}")
        at += 1


@dataclass(frozen=True)
class Origins:
    """The tree a resolved spec was read from; every node keeps its place through merging.

    Paths are those of the resolved long form: keys (`from_` means `from`) and indices of lists. A short
    form holds the paths of its long form: `localize.cell.metric` of `cell: stability` is the place of
    `stability`.
    """

    root: Node

    def at(self, *path: Step) -> Origin | None:
        """Give the place of a value, or of its nearest known ancestor."""
        origin, _, _ = self._walk(path)
        return origin

    def key(self, *path: Step) -> Origin | None:
        """Give the place of the key that leads to a value; that of the value where it has no key."""
        _, key, depth = self._walk(path)
        return key if key is not None and depth == len(path) else self.at(*path)

    def written(self, *path: Step) -> str:
        """Spell the dotted path as the text has it: without an index where one value stands for a list."""
        node: Node | None = self.root
        steps: list[Step] = []
        for step in path:
            follow = _step(node, step) if node is not None else None
            if isinstance(node, ScalarNode):
                continue
            if follow is node and node is not None:
                continue
            steps.append(_name(step, node))
            node = follow
        return join_path(steps)

    def problem(self, message: str, *path: Step, level: str = "meaning", severity: str = "error") -> Problem:
        """Make a problem at a path."""
        return Problem(
            message,
            path=self.written(*path),
            origin=self.at(*path),
            level=level,  # type: ignore[arg-type]
            severity=severity,  # type: ignore[arg-type]
        )

    def _walk(self, path: tuple[Step, ...]) -> tuple[Origin | None, Origin | None, int]:
        """Follow a path: the place reached, that of the key last taken, and how many steps were followed."""
        node = self.root
        place: Origin | None = node.origin
        key: Origin | None = None
        for depth, step in enumerate(path):
            follow = _step(node, step)
            if follow is None:
                return place, key, depth
            if follow is not node:
                key = node.keys[_name(step, node)].origin if isinstance(node, MappingNode) else None
                place = _place(follow, key)
                node = follow
        return place, key, len(path)


def _name(step: Step, node: Node | None) -> str:
    """Give the key of a field: Python's `from_` is `from`, unless the text has `from_`."""
    if step in ("from_", "in_", "except_") and not (isinstance(node, MappingNode) and step in node.entries):
        return str(step).rstrip("_")
    return str(step)


def _step(node: Node, step: Step) -> Node | None:
    if isinstance(node, MappingNode) and _name(step, node) in node.entries:
        return node.entries[_name(step, node)]
    if isinstance(node, SequenceNode):
        index = int(step) if str(step).isdecimal() else -1
        return node.items[index] if 0 <= index < len(node.items) else None
    # one value stands where a list may stand, and a scalar for a whole block
    if str(step) == "0" or isinstance(node, ScalarNode):
        return node
    return None


def _place(node: Node, key: Origin | None) -> Origin:
    """Show a scalar or a `{...}` itself, and a block on several lines by its key."""
    if isinstance(node, ScalarNode):
        return key if node.is_null and node.text == "" and key is not None else node.origin
    return node.origin if node.origin.length > 1 or key is None else key
