"""Say what an error of the YAML parser means for the writer of a spec."""

from __future__ import annotations

import bisect
import re

import yaml

from specs.language.errors import Origin

__all__ = ["Source", "explain"]


class Source:
    """A text with its lines, so that an index becomes a place."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.starts = [0, *(match.end() for match in re.finditer(r"\n", text))]

    def origin(self, start: int, end: int | None = None) -> Origin:
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


def explain(error: yaml.MarkedYAMLError, source: Source) -> tuple[str, int]:
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
    same_line = "\n" not in source.text[begun:index]
    if context.startswith("while parsing a flow") and "got ':'" in problem and (same_line or ": " in before):
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
