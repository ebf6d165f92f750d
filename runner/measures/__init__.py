"""Measures: one per file, and one table of them.

A new measure is one file with a class of the shape in :mod:`runner.measures.protocol` and one row in
:mod:`runner.measures.table`.
"""

from __future__ import annotations

from runner.measures.protocol import INAPPLICABLE, Input, Measure, Value
from runner.measures.table import MEASURES, NOT_BUILT, generated_tokens, measured, needs, parse, text_lengths

__all__ = [
    "INAPPLICABLE",
    "MEASURES",
    "NOT_BUILT",
    "Input",
    "Measure",
    "Value",
    "generated_tokens",
    "measured",
    "needs",
    "parse",
    "text_lengths",
]
