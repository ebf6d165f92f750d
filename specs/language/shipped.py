"""Lists of texts: those that are shipped in ``specs/prompts/``, and those in a file of the user's."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from specs.language.errors import Origin, Problem, SpecError
from specs.language.text import ScalarNode, SequenceNode, parse_yaml, read_yaml

__all__ = ["NAMES", "PLACEHOLDERS", "TEMPLATES", "TEXTS", "read_list", "shipped_list"]

TEMPLATES = ("attributes",)
"""Shipped templates, with `{{ entity }}` at their end."""
TEXTS = ("generic", "neutral")
"""Shipped texts about nobody."""
PLACEHOLDERS = ("strangers", "dummies")
"""Shipped names that stand for nobody."""
NAMES = TEMPLATES + TEXTS + PLACEHOLDERS


@cache
def shipped_list(name: str) -> tuple[str, ...]:
    """Give a shipped list by its name; raises KeyError for a name that is not in NAMES."""
    if name not in NAMES:
        raise KeyError(name)
    file = f"specs/prompts/{name}.yaml"
    text = files("specs").joinpath("prompts", f"{name}.yaml").read_text(encoding="utf-8")
    return tuple(_texts(parse_yaml(text, file), file))


def read_list(path: str | Path, base: str | Path = ".") -> list[str]:
    """Read a YAML list of texts, a relative path counting from ``base``; raises SpecError."""
    place = Path(base) / Path(path).expanduser()
    return _texts(read_yaml(place, str(path)), str(path))


def _texts(node: object, file: str) -> list[str]:
    if not isinstance(node, SequenceNode) or not node.items:
        origin = getattr(node, "origin", Origin(file))
        raise SpecError([Problem("a file of texts is a YAML list: `- one text` on each line", origin=origin)])
    texts: list[str] = []
    problems: list[Problem] = []
    for item in node.items:
        if not isinstance(item, ScalarNode):
            problems.append(Problem("one text stands here; a text that holds ': ' must be quoted", origin=item.origin))
        elif not item.text.strip():
            problems.append(Problem("this text is empty", origin=item.origin))
        else:
            texts.append(item.text)
    if problems:
        raise SpecError(problems)
    return texts
