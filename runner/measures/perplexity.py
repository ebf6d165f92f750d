"""``perplexity``: how surprising a text is; ``relative_perplexity``: beside the clean model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runner.measures.probability import LogProbability
from runner.measures.protocol import HAS_ANSWERS, Input, NumberRule, Value
from runner.measures.relative_probability import LARGEST_LOG
from runner.observe import Observation, Row

__all__ = ["Perplexity", "RelativePerplexity", "surprise"]


def surprise(observation: Observation, whose: str = "the edited model") -> LogProbability:
    """Give the mean negative log probability of a text's tokens after its first, in nats: log perplexity."""
    if not observation.finite:
        return None, f"{whose} gave values that are not finite"
    if observation.answers or observation.tokens is None:
        return None, HAS_ANSWERS
    if not observation.tokens:
        return None, "a text of one token has no perplexity"
    total = -math.fsum(observation.tokens)
    if not math.isfinite(total):
        return None, f"a token of the text has the probability 0 in the number format of {whose}"
    return max(0.0, total / len(observation.tokens)), ""


@dataclass(frozen=True)
class Perplexity:
    """Measure exp(mean over tokens of -log p(token | those before it)), of one text without an answer; at least 1.

    Over the text's tokens after its first, which nothing but a beginning-of-text token could predict: so models with
    and without one are measured on the same tokens. Source: Jelinek et al. 1977; as a side effect of edits, on neutral
    sentences, arXiv 2502.17355.
    """

    name: str = "perplexity"
    unit: str = "perplexity"
    needs: frozenset[Input] = frozenset({"tokens"})
    number: NumberRule = "none"

    def value(self, row: Row, n: int | None) -> Value:
        """Give a number of at least 1."""
        log, reason = surprise(row.observation)
        if log is None:
            return None, reason
        if log > LARGEST_LOG:
            return None, f"the perplexity is above the largest float (e^{log:.0f})"
        return math.exp(log), ""


@dataclass(frozen=True)
class RelativePerplexity:
    """Measure perplexity / perplexity of the same text in the clean model: 1 = unchanged, 1.01 = one percent more.

    A ratio for each text, so that a mean of them is not that of the one text with the largest perplexity.
    """

    name: str = "relative_perplexity"
    unit: str = "ratio to clean"
    needs: frozenset[Input] = frozenset({"tokens", "clean"})
    number: NumberRule = "none"

    def value(self, row: Row, n: int | None) -> Value:
        """Give a ratio above 0."""
        edited, reason = surprise(row.observation)
        if edited is None:
            return None, reason
        if row.clean is None:
            return None, "the text was not put to the clean model"
        clean, reason = surprise(row.clean, "the clean model")
        if clean is None:
            return None, reason
        if edited - clean > LARGEST_LOG:
            return None, f"the ratio to the clean model is above the largest float (e^{edited - clean:.0f})"
        return math.exp(edited - clean), ""
