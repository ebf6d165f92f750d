"""Templates: sandboxed Jinja in which only `{{ entity }}` may stand (in a frame, `{{ prompt }}`).

A template is parsed once into its texts and the places of its slot; rendering joins them and knows, without
looking for it, where the name came to stand. The name is a value and is never read as a template.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from specs.language.scalars import suggest

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["Span", "check", "frame", "render", "substitute"]

Span = tuple[int, int]
"""First character and the one after the last."""


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    # Jinja takes longer to import than most specs take to check, and some specs have no template
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, newline_sequence="\n"
    )


def _only(slot: str) -> str:
    return f"only {{{{ {slot} }}}} may stand in a {'template' if slot == 'entity' else 'frame'}"


@lru_cache(maxsize=65536)
def _pieces(template: str, slot: str) -> tuple[str, ...]:
    """Split a template at its slot; raises ValueError with what is wrong with it."""
    from jinja2 import TemplateError, nodes

    environment = _environment()
    # statements, comments and whitespace control are not parsed at all: none of them belongs in a text
    if re.search(r"\{%|\{#|\{\{[-+]|[-+]\}\}", template):
        raise ValueError(_only(slot))
    try:
        body = environment.parse(template).body
    except TemplateError as error:
        if "{{" not in template:
            raise ValueError(f"this is not a template: {error.message}") from None
        raise ValueError(_only(slot)) from None
    pieces = [""]
    for node in body:
        if not isinstance(node, nodes.Output):
            raise ValueError(_only(slot))
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                pieces[-1] += child.data
            elif isinstance(child, nodes.Name):
                if child.name != slot:
                    near = suggest(child.name, [slot])
                    kind = "template" if slot == "entity" else "frame"
                    raise ValueError(f"'{child.name}' is not defined here; a {kind} knows {{{{ {slot} }}}}{near}")
                pieces.append("")
            else:
                raise ValueError(_only(slot))
    return tuple(pieces)


def check(template: str, slot: str = "entity") -> list[str]:
    """List what is wrong with a template: nothing, or one sentence."""
    try:
        pieces = _pieces(template, slot)
    except ValueError as error:
        return [str(error)]
    if len(pieces) == 1:
        if slot == "entity":
            return ["no {{ entity }} in this template: a text about nobody goes under `texts:`"]
        return [f"no {{{{ {slot} }}}} in this frame, so every prompt would be the same text"]
    if slot == "prompt" and len(pieces) > 2:
        return ["{{ prompt }} stands twice in this frame"]
    return []


def render(template: str, entity: str) -> tuple[str, tuple[Span, ...]]:
    """Put a name into a template: the text, and the span of every mention of the name.

    ``text[start:end] == entity`` for every span. Raises ValueError for a template that :func:`check` refuses.
    """
    pieces = _pieces(template, "entity")
    if len(pieces) == 1:
        raise ValueError(check(template)[0])
    return _join(pieces, entity)


def _join(pieces: Sequence[str], name: str) -> tuple[str, tuple[Span, ...]]:
    spans: list[Span] = []
    end = 0
    for piece in pieces[:-1]:
        start = end + len(piece)
        end = start + len(name)
        spans.append((start, end))
    return name.join(pieces), tuple(spans)


def frame(wrap: str, text: str, spans: Sequence[Span]) -> tuple[str, tuple[Span, ...]]:
    """Put a rendered prompt into a frame with `{{ prompt }}`; its spans move along.

    Raises ValueError for a frame that :func:`check` refuses.
    """
    problems = check(wrap, "prompt")
    if problems:
        raise ValueError(problems[0])
    before, after = _pieces(wrap, "prompt")
    moved = tuple((start + len(before), end + len(before)) for start, end in spans)
    return before + text + after, moved


def substitute(text: str, spans: Sequence[Span], name: str) -> tuple[str, tuple[Span, ...]]:
    """Put another name at every span of a rendered text: the text, and the new spans."""
    bounds = [0, *(place for span in spans for place in span), len(text)]
    pieces = [text[bounds[i] : bounds[i + 1]] for i in range(0, len(bounds), 2)]
    return _join(pieces, name)
