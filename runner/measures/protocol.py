"""The shape of a measure: one question about one row, answered by a number, a text, or a reason."""

from __future__ import annotations

from typing import Literal, Protocol

from runner.observe import Row

__all__ = ["HAS_ANSWERS", "INAPPLICABLE", "NO_ANSWER", "Input", "Measure", "NumberRule", "Value"]

Input = Literal["answers", "rivals", "tokens", "clean", "unknown", "generated", "logits"]
"""What a measure reads of a row; the plan computes nothing that no measure needs."""
NumberRule = Literal["none", "optional", "required"]
Value = tuple[float | str | None, str]
"""The value and an empty reason, or None and the reason."""
NO_ANSWER = "the prompt has no answer"
HAS_ANSWERS = "it is a measure of texts without answers"
INAPPLICABLE = frozenset({NO_ANSWER, HAS_ANSWERS})
"""Reasons why a measure is not taken of a kind of prompt: nothing is missing there, and nothing is left out."""


class Measure(Protocol):
    """A measure of the language.

    ``value`` gives a finite number or a text with an empty reason, or None with a reason that a reader
    understands without the code. It never raises for what a model did, and never gives NaN or an infinity.
    """

    @property
    def name(self) -> str:
        """The word of the language, without ``@n``."""
        ...

    @property
    def unit(self) -> str:
        """Such as ``probability`` or ``rank``; what stands at a chart's axis."""
        ...

    @property
    def needs(self) -> frozenset[Input]:
        """What it reads of a row."""
        ...

    @property
    def number(self) -> NumberRule:
        """Whether it takes the n of ``@n``."""
        ...

    def value(self, row: Row, n: int | None) -> Value:
        """Measure one row."""
        ...
