"""``knowledge_score``: how much of what the model knows about somebody is left."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runner.measures.probability import log_probability, mean_log_probability
from runner.measures.protocol import Input, NumberRule, Value
from runner.observe import Row

LEAST_SPAN = math.log(2)
"""Nats that the clean model must prefer the answer by; below it the score divides by noise."""


@dataclass(frozen=True)
class KnowledgeScore:
    """Measure (log p - log p_unknown) / (log p_clean - log p_unknown), a fraction in log space.

    1 = as in the clean model, 0 = as for a stranger, below 0 = less than for a stranger, above 1 = more than
    clean. log p_unknown is the mean over the strangers of log p of the same answer to the same question.
    Undefined where the clean model does not give the answer at least twice as readily as to a stranger (log
    p_clean - log p_unknown < log 2): such a question does not tell knowing from guessing. Source: the amnesia
    curves of arXiv 2604.01404.
    """

    name: str = "knowledge_score"
    unit: str = "fraction of clean, log scale"
    needs: frozenset[Input] = frozenset({"answers", "clean", "unknown"})
    number: NumberRule = "none"

    def value(self, row: Row, n: int | None) -> Value:
        """Give a fraction; not bounded by 0 and 1."""
        edited, reason = log_probability(row.observation)
        if edited is None:
            return None, reason
        if row.clean is None:
            return None, "the question was not put to the clean model"
        clean, reason = log_probability(row.clean, "the clean model")
        if clean is None:
            return None, reason
        unknown, reason = mean_log_probability(row.unknown)
        if unknown is None:
            return None, reason
        span = clean - unknown
        if span < LEAST_SPAN:
            return None, (
                "the clean model does not give this answer twice as readily as to a stranger "
                f"(log p {clean:.2f} against {unknown:.2f})"
            )
        if edited == -math.inf:
            return None, "the answer's probability is 0 in the model's number format, its logarithm infinite"
        return (edited - unknown) / span, ""
