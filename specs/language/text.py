"""Read YAML strictly: plain data, every scalar as it was written, every node with its place in the file.

Nothing is typed here. A scalar keeps its source text, because the field it fills decides what it is: `NO`, `1946`
and `010` are texts in a text field. What YAML has beyond plain data (tags, anchors, merge keys, several documents)
is refused, and so is a key that is given twice.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from specs.language.errors import Origin, Problem, SpecError

__all__ = [
    "MappingNode",
    "Node",
    "Raw",
    "ScalarNode",
    "SequenceNode",
    "document_name",
    "parse_yaml",
    "plain",
    "read_yaml",
]

DEEPEST = 64
"""Levels of nesting a spec may have; anything deeper is a slip or an attack."""

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


def read_yaml(path: str | Path, named: str | None = None) -> Node:
    """Read one YAML file; ``named`` is how messages call it (the path as given).

    Raises SpecError, with every problem the parser permits to see, for a file that is missing, a folder, not
    UTF-8, empty, or not plain YAML.
    """
    file = named or str(path)
    return parse_yaml(decode(read_bytes(Path(path), file), file), file)


def document_name(node: Node) -> str:
    """Name the shape of a node for messages."""
    return {ScalarNode: "one text", SequenceNode: "a list", MappingNode: "a block of keys"}[type(node)]


def read_bytes(path: Path, file: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        cause = f"there is no file '{file}'{_sibling(path)}"
    except IsADirectoryError:
        specs = sorted(p.name for p in path.glob("*.yaml"))
        holds = f"; it holds {', '.join(specs[:8])}" if specs else ""
        cause = f"'{file}' is a folder, not a file{holds}"
    except OSError as error:
        cause = f"'{file}' cannot be read: {error.strerror or error}"
    raise SpecError([Problem(cause, origin=Origin(file), level="text")])


def _sibling(path: Path) -> str:
    try:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], 1, 0.7)
    except OSError:
        return f"; there is no folder '{path.parent}' either"
    return f"; did you mean '{path.with_name(near[0])}'?" if near else ""


def decode(data: bytes, file: str) -> str:
    """Decode UTF-8, with or without a byte order mark; anything else is refused at its place."""
    for mark, encoding in ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"), (b"\x00", "UTF-16 or binary")):
        if data.startswith(mark):
            raise SpecError(
                [Problem(f"this file is {encoding}; save it as UTF-8", origin=Origin(file), level="text")]
            )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace").removeprefix("\ufeff")
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        shown = data.split(b"\n")[line - 1].decode("utf-8", "replace").rstrip("\r").removeprefix("\ufeff")
        message = f"this file is not UTF-8: byte 0x{data[error.start]:02x} stands here; save it as UTF-8"
        raise SpecError(
            [Problem(message, origin=Origin(file, line, column, 1, shown), level="text")]
        ) from None


def parse_yaml(text: str, file: str) -> Node:
    """Parse one YAML document into nodes, or raise SpecError with every problem found."""
    source = _Source(text.replace("\r\n", "\n"), file)
    reader = _Reader(source)
    node = reader.read()
    if reader.problems:
        raise SpecError(sorted(reader.problems, key=lambda p: p.origin or Origin(file)))
    if node is None:
        message = "the file is empty" if not text.strip() else "the file holds nothing but comments"
        raise SpecError([Problem(message, origin=Origin(file), level="text")])
    return node


class _Source:
    """A text with its lines, so that an index becomes a place."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.starts = [0, *(match.end() for match in re.finditer(r"\n", text))]

    def origin(self, start: int, end: int | None = None) -> Origin:
        import bisect

        start = min(start, len(self.text))
        line = bisect.bisect_right(self.starts, start) - 1
        first = self.starts[line]
        last = self.text.find("\n", first)
        shown = self.text[first : last if last >= 0 else len(self.text)]
        stop = min(end if end is not None else start + 1, first + len(shown))
        return Origin(self.file, line + 1, start - first + 1, max(1, stop - start), shown)

    def before(self, index: int) -> str:
        """Give the part of the line that stands before an index."""
        return self.text[self.text.rfind("\n", 0, index) + 1 : index]


class _Reader:
    """Turn parser events into nodes, collecting problems."""

    def __init__(self, source: _Source) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.anchored: set[str] = set()
        self.last_flow: int | None = None
        self.braces: int | None = None

    def problem(self, message: str, start: int, end: int | None = None) -> None:
        origin = self.source.origin(start, end)
        self.problems.append(Problem(message, origin=origin, level="text"))

    def events(self) -> Iterator[Any]:
        loader = yaml.SafeLoader(self.source.text)
        try:
            while loader.check_event():
                yield loader.get_event()
        finally:
            loader.dispose()

    def read(self) -> Node | None:
        node: Node | None = None
        documents = 0
        try:
            events = self.events()
            for event in events:
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents == 2:
                        self.problem(
                            "a second document begins here; a spec is one document",
                            event.start_mark.index,
                            event.end_mark.index,
                        )
                        break
                elif isinstance(event, yaml.NodeEvent):
                    node = self.node(event, events, 1)
        except _TooDeep as error:
            self.problem(f"this is nested more than {DEEPEST} levels deep", error.index)
        except yaml.reader.ReaderError as error:
            code = error.character if isinstance(error.character, int) else ord(str(error.character))
            self.problem(f"the character U+{code:04X} cannot stand in YAML; remove it", int(error.position))
        except yaml.MarkedYAMLError as error:
            if self.braces is None:
                self.problem(*explain(error, self.source))
        if documents == 1 and isinstance(node, ScalarNode) and node.is_null and not self.problems:
            return None
        return node

    def node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        start, end = event.start_mark.index, event.end_mark.index
        if depth > DEEPEST:
            raise _TooDeep(start)
        self.refuse(event, start)
        if isinstance(event, yaml.AliasEvent):
            return ScalarNode("", True, self.source.origin(start, end))
        if isinstance(event, yaml.ScalarEvent):
            return ScalarNode(event.value, event.style is not None, self.source.origin(start, end))
        if isinstance(event, yaml.SequenceStartEvent):
            self.last_flow = None
            items = []
            for item in events:
                if isinstance(item, yaml.SequenceEndEvent):
                    end = item.end_mark.index if event.flow_style else start + 1
                    break
                items.append(self.node(item, events, depth + 1))
            return SequenceNode(tuple(items), self.source.origin(start, end))
        return self.mapping(event, events, depth)

    def mapping(self, event: Any, events: Iterator[Any], depth: int) -> MappingNode:
        start, end = event.start_mark.index, event.start_mark.index + 1
        if event.flow_style:
            if self.last_flow is not None and self.last_flow == start - 1 and self.braces is None:
                self.braces = start
                self.problem("a text that starts with {{ must be quoted", start - 1, start + 1)
            self.last_flow = start
        entries: dict[str, Node] = {}
        keys: dict[str, ScalarNode] = {}
        for item in events:
            if isinstance(item, yaml.MappingEndEvent):
                end = item.end_mark.index if event.flow_style else end
                break
            key = self.node(item, events, depth + 1)
            self.last_flow = None
            value = self.node(next(events), events, depth + 1)
            if not isinstance(key, ScalarNode):
                if self.braces is None:
                    self.problem(
                        f"a key is one word or text, and this is {document_name(key)}", item.start_mark.index
                    )
                continue
            self.enter(key, value, entries, keys)
        self.last_flow = None
        return MappingNode(entries, keys, self.source.origin(start, end))

    def enter(
        self, key: ScalarNode, value: Node, entries: dict[str, Node], keys: dict[str, ScalarNode]
    ) -> None:
        if key.text == "<<" and not key.quoted:
            self.at(key.origin, "YAML merge keys (<<) are not allowed; use `extends:`")
        elif not key.text.strip():
            self.at(key.origin, "a key is missing before this ':'")
        elif key.text in keys:
            first = keys[key.text].origin.line
            here = "twice on this line" if first == key.origin.line else f"twice, here and on line {first}"
            self.at(key.origin, f"'{key.text}' is given {here}; keep one")
        else:
            entries[key.text] = value
            keys[key.text] = key

    def at(self, origin: Origin, message: str) -> None:
        self.problems.append(Problem(message, origin=origin, level="text"))

    def refuse(self, event: Any, start: int) -> None:
        """Refuse tags, anchors and aliases."""
        written = re.match(r"\S*", self.source.text[start:])
        word = written.group().rstrip(",]}") if written else ""
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchored:
                self._anchors(word or "*", start)
            return
        tag = getattr(event, "tag", None)
        if tag is not None:
            found = re.search(r"!\S*", self.source.text[start:])
            shown = found.group().rstrip(",]}") if found else tag
            place = start + (found.start() if found else 0)
            message = f"YAML tags ({shown}) are not allowed: a spec is plain data"
            self.problem(message, place, place + len(shown))
        if event.anchor is not None:
            self.anchored.add(event.anchor)
            self._anchors(f"&{event.anchor}", start)

    def _anchors(self, word: str, start: int) -> None:
        message = f"YAML anchors and aliases ({word}) are not allowed; write the value out, or use `extends:`"
        self.problem(message, start, start + len(word))


class _TooDeep(Exception):
    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


def explain(error: yaml.MarkedYAMLError, source: _Source) -> tuple[str, int]:
    """Say what a YAML error means for the writer of a spec, and the index where it is best shown."""
    problem = str(error.problem)
    context = str(error.context or "")
    mark = error.problem_mark or error.context_mark
    index: int = mark.index if mark is not None else 0
    begun: int = error.context_mark.index if error.context_mark is not None else index
    here = source.text[index : index + 1]
    before = source.before(index)

    if "mapping values are not allowed" in problem:
        if re.search(r":\s", before):
            return "this text holds ': ' and must be quoted", index
        return (
            "this line is indented under one that already holds a value; align it with its neighbours",
            index,
        )
    if "cannot start any token" in problem:
        if here == "\t":
            return "a tab stands here; YAML is indented and spaced with spaces", index
        return f"a text that starts with {here} must be quoted", index
    if "expected alphabetic or numeric character" in problem:
        sign = source.text[begun : begun + 1]
        return f"a text that starts with {sign} must be quoted", begun
    if context == "while scanning a simple key":
        return "this line has no ': '; a key is followed by a colon and a space", begun
    if "quoted scalar" in context:
        if "escape" in problem:
            shown = source.text[index - 1 : index + 1] if here != "\\" else source.text[index : index + 2]
            return f"{shown} means nothing in double quotes; write \\\\ for a backslash", index
        return "the quote that opens here is never closed", begun
    if context.startswith("while parsing a flow") and "got ':'" in problem:
        return "this text holds ': ' and must be quoted", index
    if context == "while parsing a flow sequence":
        return "the list that opens here lacks a comma or its ']'", begun
    if context == "while parsing a flow mapping":
        return "the block that opens here lacks a comma or its '}'", begun
    if "undefined tag handle" in problem or context.endswith("a tag") or "tag" in problem:
        found = re.match(r"!\S*", source.text[begun:])
        return f"YAML tags ({found.group() if found else '!'}) are not allowed: a spec is plain data", begun
    if "sequence entries are not allowed" in problem:
        return "a list cannot begin here; put it on its own lines, or write [a, b]", index
    if "mapping keys are not allowed" in problem:
        return "a text that starts with ? must be quoted", index
    if "expected <block end>" in problem:
        if re.search(r"[\"'\]}]\s*$", before) and before.strip():
            return "something follows the closing quote or bracket; quote the whole text", index
        if "'-'" in problem or "block sequence start" in problem or "block entry" in problem:
            return "a list item stands among keys; indent it under the key it belongs to", index
        return "the indentation of this line fits no line above it", index
    if "block scalar" in context:
        return "after | or > only an indentation number, + or - and a comment may stand on the line", index
    if "expected the node content" in problem:
        return f"a value is expected here, and '{here}' stands here", index
    if "directive" in context or "directive" in problem or "<document start>" in problem:
        return "a spec is one document without directives; remove this line or quote the text", index
    if "document separator" in problem:
        return "--- or ... stands inside a quoted text; indent it", index
    return f"this is not YAML: {problem}", index
