"""``answer_probability``: how probable the whole answer is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runner.measures.probability import log_probability
from runner.measures.protocol import Input, NumberRule, Value
from runner.observe import Row


@dataclass(frozen=True)
class AnswerProbability:
    """Measure p(answer) = sum over accepted aliases of exp(sum over tokens of log p), a probability.

    Teacher-forced over all tokens of an alias; aliases are made prefix-free first. Source: the answer
    probability of the entity-cell experiments (arXiv 2604.01404), which takes the best alias's first token; a
    first token such as " The" or " New" is nobody's answer, so the whole answer is scored here.
    """

    name: str = "answer_probability"
    unit: str = "probability"
    needs: frozenset[Input] = frozenset({"answers"})
    number: NumberRule = "none"

    def value(self, row: Row, n: int | None) -> Value:
        """Give a probability in [0, 1]; 0 where the logarithm is below the smallest float."""
        log, reason = log_probability(row.observation)
        return (None, reason) if log is None else (math.exp(log), "")
