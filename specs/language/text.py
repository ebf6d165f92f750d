"""Read YAML strictly: plain data, every scalar as it was written, every node with its place in the file.

Nothing is typed here. A scalar keeps its source text, because the field it fills decides what it is:
`NO`, `1946` and `010` are texts in a text field. What YAML has beyond plain data (tags, anchors, merge
keys, several documents) is refused, and so is a key that is given twice.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from specs.language.errors import Origin, Problem, SpecError
from specs.language.nodes import MappingNode, Node, Raw, ScalarNode, SequenceNode, document_name, plain
from specs.language.yaml_errors import Source, explain

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


def read_yaml(path: str | Path, named: str | None = None) -> Node:
    """Read one YAML file; ``named`` is how messages call it (the path as given).

    Raises SpecError, with every problem the parser permits to see, for a file that is missing, a folder, not
    UTF-8, empty, or not plain YAML.
    """
    file = named or str(path)
    return parse_yaml(decode(read_bytes(Path(path), file), file), file)


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
            raise SpecError([Problem(f"this file is {encoding}; save it as UTF-8", origin=Origin(file), level="text")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace").removeprefix("\ufeff")
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        shown = data.split(b"\n")[line - 1].decode("utf-8", "replace").rstrip("\r").removeprefix("\ufeff")
        message = f"this file is not UTF-8: byte 0x{data[error.start]:02x} stands here; save it as UTF-8"
        raise SpecError([Problem(message, origin=Origin(file, line, column, 1, shown), level="text")]) from None


def parse_yaml(text: str, file: str) -> Node:
    """Parse one YAML document into nodes, or raise SpecError with every problem found."""
    source = Source(text.replace("\r\n", "\n"), file)
    lines = _list_of_lines(source)
    if lines is not None:
        return lines
    reader = _Reader(source)
    node = reader.read()
    if reader.problems:
        raise SpecError(sorted(reader.problems, key=lambda p: p.origin or Origin(file)))
    if node is None:
        message = "the file is empty" if not text.strip() else "the file holds nothing but comments"
        raise SpecError([Problem(message, origin=Origin(file), level="text")])
    return node


PLAIN_LINE = re.compile(r"- (\w(?:[\w ,.;()!?'{}-]*[\w,.;()!?'{}-])?)\n?", re.ASCII)


def _list_of_lines(source: Source) -> SequenceNode | None:
    """Read a list that has one simple text on each line, or comments; None for any other file.

    The parser gives the same at forty times the cost, which the shipped lists would add to every command.
    """
    items = []
    for line, start in zip(source.text.splitlines(keepends=True), source.starts, strict=False):
        found = PLAIN_LINE.fullmatch(line)
        if found is not None:
            first = start + 2
            items.append(ScalarNode(found[1], False, source.origin(first, first + len(found[1]))))
        elif not line.startswith("#") and line != "\n":
            return None
    return SequenceNode(tuple(items), items[0].origin) if items else None


class _Reader:
    """Turn parser events into nodes, collecting problems."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.anchored: set[str] = set()
        self.last_flow: int | None = None
        self.braces: int | None = None

    def problem(self, message: str, start: int, end: int | None = None) -> None:
        origin = self.source.origin(start, end)
        self.problems.append(Problem(message, origin=origin, level="text"))

    def events(self) -> Iterator[Any]:
        loader: Any = yaml.SafeLoader(self.source.text)
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
                start, end = _span(event)
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents == 2:
                        self.problem("a second document begins here; a spec is one document", start, end)
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
        start, end = _span(event)
        if depth > DEEPEST:
            raise _TooDeep(start)
        self.refuse(event, start)
        if isinstance(event, yaml.AliasEvent):
            return ScalarNode("", True, self.source.origin(start, end))
        if isinstance(event, yaml.ScalarEvent):
            return ScalarNode(event.value, event.style is not None, self.source.origin(start, end))
        if isinstance(event, yaml.SequenceStartEvent):
            self.last_flow = None
            items: list[Node] = []
            for item in events:
                if isinstance(item, yaml.SequenceEndEvent):
                    end = _span(item)[1] if event.flow_style else start + 1
                    break
                items.append(self.node(item, events, depth + 1))
            return SequenceNode(tuple(items), self.source.origin(start, end))
        return self.mapping(event, events, depth)

    def mapping(self, event: Any, events: Iterator[Any], depth: int) -> MappingNode:
        start, end = _span(event)[0], _span(event)[0] + 1
        if event.flow_style:
            if self.last_flow is not None and self.last_flow == start - 1 and self.braces is None:
                self.braces = start
                self.problem("a text that starts with {{ must be quoted", start - 1, start + 1)
            self.last_flow = start
        entries: dict[str, Node] = {}
        keys: dict[str, ScalarNode] = {}
        for item in events:
            if isinstance(item, yaml.MappingEndEvent):
                end = _span(item)[1] if event.flow_style else end
                break
            key = self.node(item, events, depth + 1)
            self.last_flow = None
            value = self.node(next(events), events, depth + 1)
            if not isinstance(key, ScalarNode):
                if self.braces is None:
                    self.problem(f"a key is one word or text, and this is {document_name(key)}", _span(item)[0])
                continue
            self.enter(key, value, entries, keys)
        self.last_flow = None
        return MappingNode(entries, keys, self.source.origin(start, end))

    def enter(self, key: ScalarNode, value: Node, entries: dict[str, Node], keys: dict[str, ScalarNode]) -> None:
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


def _span(event: Any) -> tuple[int, int]:
    """Give where an event begins and ends in the text."""
    return event.start_mark.index, event.end_mark.index


class _TooDeep(Exception):
    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index
