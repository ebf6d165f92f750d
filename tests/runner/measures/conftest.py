"""Builders of observations and rows, so that a test shows only the numbers that matter to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from runner.observe import AnswerScore, Asked, Observation, Row


def score(*probabilities: float, text: str = " Melania", ranks: Sequence[int] = (), shared: int = 0) -> AnswerScore:
    """Score an answer by the probability of each token."""
    logps = tuple(math.log(p) if p > 0 else -math.inf for p in probabilities)
    return AnswerScore(text, logps, tuple(ranks) or (1,) * len(logps), shared)


def seen(*answers: AnswerScore, finite: bool = True) -> Observation:
    return Observation(answers=answers, finite=finite)


def row_of(observation: Observation, clean: Observation | None = None, *unknown: Observation) -> Row:
    asked = Asked(
        intervention="amnesia",
        edited="trump",
        condition="edit",
        draw=0,
        role="target",
        axes={"scale": -1.0},
        prompt_id=0,
        prompt="the wife of Donald Trump:",
    )
    return Row(asked=asked, observation=observation, clean=clean, unknown=unknown)


class Builders:
    score = staticmethod(score)
    seen = staticmethod(seen)
    row = staticmethod(row_of)

    @staticmethod
    def p(probability: float) -> Observation:
        """Observe one answer of one token."""
        return seen(score(probability))

    @staticmethod
    def logp(*logps: float) -> Observation:
        return seen(AnswerScore(" Melania", tuple(logps), (1,) * len(logps)))


@pytest.fixture(scope="session")
def build() -> type[Builders]:
    return Builders


@pytest.fixture(scope="session")
def value() -> Callable[..., tuple[float | str | None, str]]:
    """Measure a row by the measure as written."""
    from runner.measures import parse

    def measure(word: str, row: Row) -> tuple[float | str | None, str]:
        found, n = parse(word)
        return found.value(row, n)

    return measure
