"""``knowledge_loss_clipped``: the loss, with gains counted as no loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runner.measures.protocol import Input, NumberRule, Value
from runner.measures.relative_probability import log_ratio
from runner.observe import Row


@dataclass(frozen=True)
class KnowledgeLossClipped:
    """Measure max(0, 1 - p / p_clean), a fraction in [0, 1].

    Source: the clipped loss of arXiv 2604.01404 (a trusted cell has 0.10 or more at factor -1). Clipped on
    every question before the mean is taken, as in the published code: clipping the mean instead would let one
    question that became likelier hide those that were lost. Being one-sided it is above 0 for an edit that
    only adds noise, so it means something only beside the same figure for random neurons.
    """

    name: str = "knowledge_loss_clipped"
    unit: str = "fraction of clean"
    needs: frozenset[Input] = frozenset({"answers", "clean"})
    number: NumberRule = "none"

    def value(self, row: Row, n: int | None) -> Value:
        """Give a fraction in [0, 1]."""
        log, reason = log_ratio(row)
        if log is None:
            return None, reason
        return (-math.expm1(log) if log < 0 else 0.0), ""
