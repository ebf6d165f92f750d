from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.measures.probability import log_probability, prefix_free
from runner.observe import AnswerScore, Observation


def test_the_whole_answer_counts_and_not_its_first_token(build, value):
    assert value("answer_probability", build.row(build.seen(build.score(0.5, 0.1)))) == (
        pytest.approx(0.05),
        "",
    )


def test_aliases_that_exclude_each_other_add_up(build, value):
    row = build.row(build.seen(build.score(0.3, text=" Hawaii"), build.score(0.2, text=" Hawaiʻi")))
    assert value("answer_probability", row)[0] == pytest.approx(0.5)


def test_an_alias_that_extends_another_is_already_counted(build, value):
    row = build.row(build.seen(build.score(0.6, 0.5, text=" New York"), build.score(0.6, text=" New")))
    assert value("answer_probability", row)[0] == pytest.approx(0.6)


def test_an_alias_given_twice_counts_once(build):
    twice = (build.score(0.6, text=" Paris"), build.score(0.6, text=" Paris"))
    assert len(prefix_free(twice)) == 1


def test_underflow_gives_zero_and_keeps_its_logarithm(build, value):
    assert value("answer_probability", build.row(build.logp(-600.0, -600.0))) == (0.0, "")
    assert log_probability(build.logp(-600.0, -600.0)) == (-1200.0, "")


def test_a_probability_of_zero_is_a_value(build, value):
    assert value("answer_probability", build.row(build.p(0.0))) == (0.0, "")


def test_a_text_without_answers_has_a_reason(build, value):
    assert value("answer_probability", build.row(Observation())) == (None, "the prompt has no answer")


def test_a_pass_that_was_not_finite_has_a_reason(build, value):
    for row in (build.row(build.seen(build.score(0.5), finite=False)), build.row(build.logp(math.nan))):
        found, reason = value("answer_probability", row)
        assert found is None and "not finite" in reason


@pytest.mark.parametrize(
    ("logps", "ranks", "shared"),
    [((), (), 0), ((-1.0,), (), 0), ((0.1,), (1,), 0), ((-1.0,), (0,), 0), ((-1.0,), (1,), 2)],
)
def test_a_score_that_no_model_gives_is_refused(logps, ranks, shared):
    with pytest.raises(ValueError, match="'x'"):
        AnswerScore("x", logps, ranks, shared)


@given(
    st.dictionaries(
        st.text("ab ", min_size=1, max_size=4),
        st.lists(st.floats(-800, 0), min_size=1, max_size=4),
        min_size=1,
    )
)
def test_no_alias_left_begins_another_and_none_is_lost(aliases):
    answers = [AnswerScore(text, tuple(logps), (1,) * len(logps)) for text, logps in aliases.items()]
    kept = prefix_free(answers)
    for one in kept:
        assert not any(one is not two and one.text.startswith(two.text) for two in kept)
    for answer in answers:
        assert any(answer.text.startswith(one.text) for one in kept)


@given(st.lists(st.floats(-900, 0), min_size=1, max_size=6))
def test_the_order_of_aliases_does_not_matter(logps):
    answers = [AnswerScore(f"{i}x", (logp,), (1,)) for i, logp in enumerate(logps)]
    there, _ = log_probability(Observation(answers=tuple(answers)))
    back, _ = log_probability(Observation(answers=tuple(reversed(answers))))
    assert there == back and there is not None and max(logps) <= there + 1e-12 and there <= 0
