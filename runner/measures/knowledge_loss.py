"""``knowledge_loss``: the share of the answer's probability that an edit takes away."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runner.measures.protocol import Input, NumberRule, Value
from runner.measures.relative_probability import LARGEST_LOG, log_ratio
from runner.observe import Row


@dataclass(frozen=True)
class KnowledgeLoss:
    """Measure 1 - p / p_clean, a fraction: 0 = nothing lost, 1 = all lost, negative = the edit helped.

    Source: the signed loss of arXiv 2604.01404 (zero ablation: mean 0.010), taken per question and then
    averaged, as in the published code. The other reading, 1 - knowledge_score, is the same order but another
    scale: the published threshold of 0.10 would then ask for a fall of a tenth of the log span instead of a
    tenth of the probability, and it would depend on which strangers were named. A reader who wants it has
    knowledge_score.
    """

    name: str = "knowledge_loss"
    unit: str = "fraction of clean"
    needs: frozenset[Input] = frozenset({"answers", "clean"})
    number: NumberRule = "none"

    def value(self, row: Row, n: int | None) -> Value:
        """Give a fraction of at most 1; expm1 keeps the digits of a small loss."""
        log, reason = log_ratio(row)
        if log is None:
            return None, reason
        if log > LARGEST_LOG:
            return None, f"the ratio to the clean model is above the largest float (e^{log:.0f})"
        return -math.expm1(log) + 0.0, ""
