"""Perplexity and relative perplexity: of texts without answers alone, over the tokens after the first."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.measures import INAPPLICABLE
from runner.observe import Observation


def text(*probabilities: float, finite: bool = True) -> Observation:
    return Observation(tokens=tuple(math.log(p) if p else -math.inf for p in probabilities), finite=finite)


def test_it_is_the_inverse_of_the_geometric_mean_of_the_probabilities(build, value):
    assert value("perplexity", build.row(text(0.5, 0.125))) == (pytest.approx(4.0), "")
    assert value("perplexity", build.row(text(1.0, 1.0))) == (1.0, "")


def test_beside_the_clean_model_it_is_a_ratio(build, value):
    row = build.row(text(0.5, 0.125), text(0.5, 0.5))
    assert value("relative_perplexity", row) == (pytest.approx(2.0), "")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=8), st.floats(0.1, 10.0))
def test_one_factor_on_every_probability_is_the_ratio(probabilities, factor):
    from runner.measures import parse
    from tests.runner.measures.conftest import row_of

    scaled = Observation(tokens=tuple(math.log(p) - math.log(factor) for p in probabilities))
    found, _ = parse("relative_perplexity")[0].value(row_of(scaled, text(*probabilities)), None)
    least = sum(map(math.log, probabilities)) / len(probabilities) - math.log(factor)
    if least <= 0:  # a probability above 1 is none
        assert found == pytest.approx(factor)


@pytest.mark.parametrize(
    ("observation", "reason"),
    [
        (text(), "a text of one token has no perplexity"),
        (text(0.5, 0.0), "a token of the text has the probability 0 in the number format of the edited model"),
        (text(0.5, finite=False), "the edited model gave values that are not finite"),
        (Observation(tokens=(-800.0,)), "the perplexity is above the largest float (e^800)"),
    ],
)
def test_what_has_no_value_has_a_reason(build, value, observation, reason):
    assert value("perplexity", build.row(observation)) == (None, reason)
    assert reason not in INAPPLICABLE


def test_a_question_with_an_answer_has_none_and_a_text_has_no_answer(build, value):
    for word in ("perplexity", "relative_perplexity"):
        found, reason = value(word, build.row(build.p(0.5), build.p(0.5)))
        assert found is None and reason in INAPPLICABLE
    for word in ("answer_probability", "knowledge_score", "relative_probability", "answer_rank", "pass@5", "accuracy"):
        found, reason = value(word, build.row(text(0.5), text(0.5)))
        assert found is None and reason in INAPPLICABLE, word
