"""What `only` leaves: the definitions that are run, and what those need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from specs.language.experiment import Experiment

__all__ = ["mentions", "needed"]

BLOCKS = ("placeholders", "prompts", "localize", "neurons", "vectors", "interventions", "analyses")


def needed(experiment: Experiment) -> frozenset[tuple[str, str]]:
    """List the definitions that are run, as (block, name): all, or those `only` names and what they need.

    A name stands for one thing in a whole spec, so what a definition mentions is what it needs.
    """
    defined = {name: block for block in BLOCKS for name in getattr(experiment, block)}
    if experiment.only is None:
        return frozenset((block, name) for name, block in defined.items())
    found: set[str] = set()
    waiting = [name for name in experiment.only if name in defined]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        definition = getattr(experiment, defined[name])[name]
        waiting.extend(word for word in mentions(definition) if word in defined)
    return frozenset((defined[name], name) for name in found)


def mentions(value: Any) -> Iterator[str]:
    """Give every name a part of an experiment may mention: the first part of each reference in it."""
    if isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from mentions(getattr(value, field))
    elif isinstance(value, dict):
        for item in value.values():
            yield from mentions(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from mentions(item)
    elif isinstance(value, str):
        yield re.split(r"[/\s]", value, maxsplit=1)[0]
