"""Read pairs of a clean prompt and its patch twin, of YAML, JSON or JSON lines, as nodes with their places.

In the files of the feature-circuits data (``clean_prefix``, ``patch_prefix``, ``clean_answer``, ``patch_answer``) an
answer begins with the space that joins it, which is the runner's business here; a column ``noun`` is derived: the
word in which the two prompts differ, in the singular, so that no noun need be in two parts of a split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from specs.language.errors import Origin, Problem, SpecError
from specs.language.nodes import MappingNode, ScalarNode, SequenceNode
from specs.language.text import decode, read_bytes, read_yaml

__all__ = ["FOREIGN", "noun_of", "read_pairs"]

FOREIGN: dict[str, str] = {
    "clean_prefix": "clean",
    "patch_prefix": "patch",
    "clean_answer": "answer",
    "patch_answer": "patch_answer",
}
"""Columns of the feature-circuits data, and our words for them."""
MOST_TOLD = 10


def read_pairs(path: Path, called: str) -> SequenceNode:
    """Read a file of pairs; raises SpecError with every bad line of it, up to ten."""
    if path.suffix in (".yaml", ".yml"):
        node = read_yaml(path, called)
        if not isinstance(node, SequenceNode) or not node.items:
            raise SpecError([Problem("a file of pairs is a YAML list of {clean, patch, answer, patch_answer}")])
        return node
    items: list[MappingNode] = []
    problems: list[Problem] = []
    for line, row, trouble in _rows(path, called):
        origin = Origin(called, line, 1)
        found = trouble or _pair(row)
        if isinstance(found, str):
            problems.append(Problem(found, origin=origin))
            continue
        entries = {key: ScalarNode(value, True, origin) for key, value in found.items()}
        items.append(MappingNode(dict(entries), {key: ScalarNode(key, False, origin) for key in entries}, origin))
    if problems:
        more = [Problem(f"and {len(problems) - MOST_TOLD} more lines", origin=problems[-1].origin)]
        raise SpecError(problems[:MOST_TOLD] + (more if len(problems) > MOST_TOLD else []))
    if not items:
        raise SpecError([Problem("this file holds no pairs", origin=Origin(called, 1, 1))])
    return SequenceNode(tuple(items), Origin(called, 1, 1))


def _rows(path: Path, called: str) -> Iterator[tuple[int, Any, str]]:
    """Give line, row, and what is wrong with it: of a JSON list or of JSON lines."""
    text = decode(read_bytes(path, called), called)
    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            yield error.lineno, None, f"this is not JSON: {error.msg}"
            return
        for row in found:
            yield 1, row, ""
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield number, json.loads(line), ""
            except json.JSONDecodeError as error:
                yield number, None, f"this is not JSON: {error.msg}"


def _pair(row: Any) -> dict[str, str] | str:
    """Give a row under our words, or say what is wrong with it."""
    if not isinstance(row, dict) or not all(
        isinstance(k, str) and isinstance(v, (str, int, float)) for k, v in row.items()
    ):
        return "a pair is a block of texts: {clean, patch, answer, patch_answer}"
    foreign = "clean_prefix" in row
    given = {str(key): str(value) for key, value in row.items()}
    found = {FOREIGN.get(key, key) if foreign else key: value for key, value in given.items()}
    if not foreign:
        return found
    for key in ("answer", "patch_answer"):
        if key in found:
            if not found[key].startswith(" ") or found[key][1:] != found[key].strip():
                return f"{key} '{found[key]}' does not begin with the one space that joins it to its prompt"
            found[key] = found[key][1:]
    noun = noun_of(found.get("clean", ""), found.get("patch", ""))
    return found if noun is None or "noun" in found else {**found, "noun": noun}


def noun_of(clean: str, patch: str) -> str | None:
    """Give the word in which two prompts differ, in its shorter form (an English singular); None for several."""
    ours, theirs = clean.split(), patch.split()
    apart = [pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]]
    if len(ours) != len(theirs) or len(apart) != 1:
        return None
    return min(apart[0], key=lambda word: (len(word), word))
