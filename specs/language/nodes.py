"""The tree a YAML text stands for: every scalar as it was written, every node with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from specs.language.errors import Origin

__all__ = [
    "MappingNode",
    "Node",
    "Raw",
    "ScalarNode",
    "SequenceNode",
    "document_name",
    "in_flow",
    "is_null",
    "mapping_of",
    "plain",
    "with_entry",
]

NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class Raw(str):
    """The text of a scalar as written, remembering whether it stood in quotes (or in a block)."""

    quoted: bool

    def __new__(cls, text: str, quoted: bool = False) -> Raw:
        raw = super().__new__(cls, text)
        raw.quoted = quoted
        return raw


@dataclass(frozen=True)
class ScalarNode:
    """One word, number or text."""

    text: str
    quoted: bool
    origin: Origin = field(compare=False)

    @property
    def is_null(self) -> bool:
        """Say whether this is YAML's null: nothing, `~` or `null`, without quotes."""
        return not self.quoted and self.text in NULLS


@dataclass(frozen=True)
class SequenceNode:
    """A list."""

    items: tuple[Node, ...]
    origin: Origin = field(compare=False)


@dataclass(frozen=True)
class MappingNode:
    """A block of keys; ``keys`` holds the key scalars, whose places problems with a key are shown at."""

    entries: dict[str, Node]
    keys: dict[str, ScalarNode] = field(compare=False)
    origin: Origin = field(compare=False)

    def __hash__(self) -> int:
        return id(self)


Node = ScalarNode | SequenceNode | MappingNode


def plain(node: Node) -> Any:
    """Turn a tree of nodes into dicts, lists, ``Raw`` texts and None."""
    if isinstance(node, ScalarNode):
        return None if node.is_null else Raw(node.text, node.quoted)
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.items]
    return {key: plain(value) for key, value in node.entries.items()}


def document_name(node: Node) -> str:
    """Name the shape of a node for messages."""
    return {ScalarNode: "one text", SequenceNode: "a list", MappingNode: "a block of keys"}[type(node)]


def mapping_of(entries: Mapping[str, tuple[Node, Origin]], origin: Origin) -> MappingNode:
    return MappingNode(
        {key: node for key, (node, _) in entries.items()},
        {key: ScalarNode(key, False, place) for key, (_, place) in entries.items()},
        origin,
    )


def is_null(node: Node | None) -> bool:
    return isinstance(node, ScalarNode) and node.is_null


def with_entry(parent: MappingNode, key: str, value: Node | None, key_node: ScalarNode | None = None) -> MappingNode:
    """Put a value under a key, or take the key away."""
    entries, keys = dict(parent.entries), dict(parent.keys)
    if value is None:
        entries.pop(key, None)
        keys.pop(key, None)
    else:
        entries[key] = value
        keys[key] = key_node or keys.get(key) or ScalarNode(key, False, value.origin)
    return MappingNode(entries, keys, parent.origin)


def in_flow(node: Node) -> str:
    """Write a node on one line, for labels."""
    if isinstance(node, ScalarNode):
        return node.text if not node.is_null else "null"
    if isinstance(node, SequenceNode):
        return f"[{', '.join(in_flow(item) for item in node.items)}]"
    return "{" + ", ".join(f"{k}: {in_flow(v)}" for k, v in node.entries.items()) + "}"
