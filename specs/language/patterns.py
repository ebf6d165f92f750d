"""Regular expressions of a spec: read once, and none that could take for ever."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

__all__ = ["LONGEST", "compiled", "trouble"]

LONGEST = 160
"""Characters of a text that are searched; what a class is told by stands at its beginning."""
MOST_WAYS = 16.0
"""Bits: a pattern may try 2^16 ways from each character of such a text, which takes a second or two at worst."""
OPEN = 5.3
"""Bits of a repetition without an end: so that three of them, one after another, are accepted."""


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern that :func:`trouble` finds nothing wrong with. Raises re.error for what is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return re.compile(pattern)


def trouble(pattern: str) -> str:
    """Say why a pattern is refused: it is none, or could try too many ways through a text; empty if it is fine.

    Python's matcher cannot be stopped, so what could take exponential time is refused before anything is run: a
    repetition or a choice within a repetition, a reference back, and too many of all these one after another.
    """
    if not pattern:
        return "it is empty, and fits every text"
    try:
        compiled(pattern)
    except re.error as error:
        where = f" at character {error.pos + 1}" if error.pos is not None else ""
        return f"{error.msg}{where}"
    except (OverflowError, RecursionError):
        return "it is too large"
    tree = re._parser.parse(pattern)  # type: ignore[attr-defined]
    try:
        ways = sum(_ways(tree, repeated=False))
    except ValueError as error:
        return str(error)
    return "it has too many repetitions and choices, one after another" if ways > MOST_WAYS else ""


def _ways(tree: Any, *, repeated: bool) -> Iterator[float]:
    """Give the bits of freedom of each part. Raises ValueError for a part that is refused by itself."""
    for op, argument in tree:
        kind = str(op)
        if kind.startswith("GROUPREF"):
            raise ValueError("it refers back to a group, which can take exponential time")
        if kind.endswith("_REPEAT"):
            low, high, body = argument
            if repeated and high > 1:
                raise ValueError("it repeats a repetition, which can take exponential time")
            yield min(OPEN, math.log2(min(int(high), LONGEST) - min(int(low), LONGEST) + 1))
            yield from _ways(body, repeated=repeated or high > 1)
        elif kind == "BRANCH":
            if repeated:
                raise ValueError(
                    "it repeats a choice, which can take exponential time; [abc] is a choice of characters"
                )
            yield math.log2(len(argument[1]))
            for part in argument[1]:
                yield from _ways(part, repeated=False)
        elif kind == "SUBPATTERN":
            yield from _ways(argument[-1], repeated=repeated)
        elif kind == "ATOMIC_GROUP":
            yield from _ways(argument, repeated=repeated)
        elif kind in ("ASSERT", "ASSERT_NOT"):
            yield from _ways(argument[1], repeated=repeated)
