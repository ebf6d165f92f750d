"""``relative_probability``: the answer's probability beside that of the clean model."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from runner.measures.probability import LogProbability, log_probability
from runner.measures.protocol import Input, NumberRule, Value
from runner.observe import Row

LARGEST_LOG = math.log(sys.float_info.max)


def log_ratio(row: Row) -> LogProbability:
    """Give log(p / p_clean) in nats; ``-inf`` where p is 0."""
    edited, reason = log_probability(row.observation)
    if edited is None:
        return None, reason
    if row.clean is None:
        return None, "the question was not put to the clean model"
    clean, reason = log_probability(row.clean, "the clean model")
    if clean is None:
        return None, reason
    if clean == -math.inf:
        return None, "the clean model gives the answer a probability of 0"
    return edited - clean, ""


@dataclass(frozen=True)
class RelativeProbability:
    """Measure p / p_clean, a ratio: 1 = as probable as in the clean model, with the real name.

    Source: arXiv 2604.01404, whose filter keeps cells with a mean ratio of at most 2. Computed as
    exp(log p - log p_clean), without the published floor of 1e-12 under both probabilities, which makes two
    impossible answers look unchanged.
    """

    name: str = "relative_probability"
    unit: str = "ratio to clean"
    needs: frozenset[Input] = frozenset({"answers", "clean"})
    number: NumberRule = "none"

    def value(self, row: Row, n: int | None) -> Value:
        """Give a ratio of at least 0."""
        log, reason = log_ratio(row)
        if log is None:
            return None, reason
        if log > LARGEST_LOG:
            return None, f"the ratio to the clean model is above the largest float (e^{log:.0f})"
        return math.exp(log), ""
