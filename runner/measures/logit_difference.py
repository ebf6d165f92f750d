"""``logit_difference``: how much rather the answer comes than that of the patch twin."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from runner.measures.probability import log_probability
from runner.measures.protocol import Input, NumberRule, Value
from runner.observe import Row


@dataclass(frozen=True)
class LogitDifference:
    """Measure log p(answer) - log p(answer of the patch twin), both behind the same prompt, in nats.

    For answers of one token each this is the difference of their two logits, for what both are divided by cancels.
    Answers of several tokens are scored whole, aliases are added up. 0: both are as likely. Source: Wang et al., arXiv
    2211.00593; on subject-verb agreement Marks et al., arXiv 2403.19647.
    """

    name: str = "logit_difference"
    unit: str = "nats"
    needs: frozenset[Input] = frozenset({"answers", "rivals"})
    number: NumberRule = "none"

    def value(self, row: Row, n: int | None) -> Value:
        """Give a number of nats; above 0 where the prompt's own answer is the likelier one."""
        own, reason = log_probability(row.observation)
        if own is None:
            return None, reason
        if not row.observation.rivals:
            return None, "the prompt has no patch twin with another answer that can be scored behind it"
        other, reason = log_probability(replace(row.observation, answers=row.observation.rivals))
        if other is None:
            return None, reason
        if not math.isfinite(own - other):
            return None, "an answer's probability is 0 in the model's number format, its logarithm infinite"
        return own - other, ""
