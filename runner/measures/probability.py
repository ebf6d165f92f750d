"""The probability of an answer, in nats: what several measures begin with."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runner.measures.protocol import NO_ANSWER
from runner.observe import AnswerScore, Observation

__all__ = ["LogProbability", "log_probability", "mean_log_probability", "prefix_free"]

LogProbability = tuple[float | None, str]
"""Nats (``-inf`` for a probability of 0) and an empty reason, or None and the reason."""


def prefix_free(answers: Sequence[AnswerScore]) -> tuple[AnswerScore, ...]:
    """Drop every alias that another alias begins, so that no continuation is counted twice.

    What begins with "New York City" begins with "New York": the shorter alias has it already. Aliases that
    are left exclude each other, since one token sequence that began another would spell a text that begins
    the other's. Where the longer alias is written with other tokens than the shorter one ("Hawaii",
    "Hawaiian") dropping it makes the sum a little too small, never more than 1.
    """
    kept: list[AnswerScore] = []
    for answer in sorted(answers, key=lambda a: (len(a.text), a.text)):
        if not any(answer.text.startswith(shorter.text) for shorter in kept):
            kept.append(answer)
    return tuple(kept)


def log_probability(observation: Observation, whose: str = "the edited model") -> LogProbability:
    """Give log p of the whole answer: log sum over aliases of exp(sum over tokens of log p), in nats.

    Sums in log space, so that a probability below the smallest float keeps its logarithm. A sum that rounding
    puts above 0 is 0.
    """
    if not observation.finite:
        return None, f"{whose} gave values that are not finite"
    if not observation.answers:
        return None, NO_ANSWER
    sums = [math.fsum(answer.logps) for answer in prefix_free(observation.answers)]
    if any(math.isnan(total) for total in sums):
        return None, f"{whose} gave values that are not finite"
    largest = max(sums)
    if largest == -math.inf:
        return -math.inf, ""
    return min(0.0, largest + math.log(math.fsum(math.exp(total - largest) for total in sums))), ""


def mean_log_probability(observations: Sequence[Observation]) -> LogProbability:
    """Give the mean of log p over the strangers, in nats: the logarithm of a geometric mean.

    A mean of logarithms and not of probabilities, because the knowledge score is linear in log p: with it the
    score of the strangers themselves is 0 on average.
    """
    if not observations:
        return None, "no stranger was asked"
    logs: list[float] = []
    for observation in observations:
        log, reason = log_probability(observation, "the clean model, asked about a stranger,")
        if log is None:
            return None, reason
        if log == -math.inf:
            return None, "the probability of the answer for a stranger is 0 in the model's number format"
        logs.append(log)
    return math.fsum(logs) / len(logs), ""
