from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

logs = st.floats(-60, -1e-3)


def test_it_is_the_share_of_the_log_span_that_is_left(build, value):
    row = build.row(build.p(0.1), build.p(0.9), build.p(0.001))
    expected = (math.log(0.1) - math.log(0.001)) / (math.log(0.9) - math.log(0.001))
    assert value("knowledge_score", row) == (pytest.approx(expected), "")


@given(clean=logs, unknown=st.lists(logs, min_size=1, max_size=5))
def test_the_clean_model_scores_one(build, value, clean, unknown):
    assume(clean - sum(unknown) / len(unknown) > math.log(2) + 1e-9)
    row = build.row(build.logp(clean), build.logp(clean), *map(build.logp, unknown))
    assert value("knowledge_score", row)[0] == pytest.approx(1, abs=1e-9)


@given(clean=logs, unknown=st.lists(logs, min_size=1, max_size=5))
def test_the_strangers_score_zero_on_average(build, value, clean, unknown):
    assume(clean - sum(unknown) / len(unknown) > math.log(2) + 1e-9)
    strangers = [build.logp(log) for log in unknown]
    scores = [value("knowledge_score", build.row(s, build.logp(clean), *strangers))[0] for s in strangers]
    assert sum(scores) / len(scores) == pytest.approx(0, abs=1e-9)


@given(less=logs, more=logs)
def test_a_likelier_answer_never_scores_lower(build, value, less, more):
    less, more = sorted((less, more))
    scores = [value("knowledge_score", build.row(build.logp(x), build.p(0.9), build.p(0.01)))[0] for x in (less, more)]
    assert scores[0] <= scores[1]


def test_below_the_strangers_it_is_negative_and_above_clean_it_is_more_than_one(build, value):
    assert value("knowledge_score", build.row(build.p(0.001), build.p(0.5), build.p(0.01)))[0] < 0
    assert value("knowledge_score", build.row(build.p(0.99), build.p(0.5), build.p(0.01)))[0] > 1


def test_a_question_a_stranger_answers_as_well_is_undefined(build, value):
    found, reason = value("knowledge_score", build.row(build.p(0.3), build.p(0.5), build.p(0.26)))
    assert found is None and "twice as readily" in reason
    assert value("knowledge_score", build.row(build.p(0.3), build.p(0.5), build.p(0.24)))[0] is not None


def test_without_strangers_it_is_undefined(build, value):
    assert value("knowledge_score", build.row(build.p(0.3), build.p(0.5))) == (None, "no stranger was asked")


def test_an_answer_that_became_impossible_has_a_reason_and_no_infinity(build, value):
    found, reason = value("knowledge_score", build.row(build.p(0.0), build.p(0.5), build.p(0.01)))
    assert found is None and "infinite" in reason


def test_an_answer_impossible_for_a_stranger_has_a_reason(build, value):
    found, reason = value("knowledge_score", build.row(build.p(0.3), build.p(0.5), build.p(0.01), build.p(0.0)))
    assert found is None and "stranger is 0" in reason


def test_the_reason_names_whose_values_were_not_finite(build, value):
    broken = build.seen(build.score(0.5), finite=False)
    for row, whose in (
        (build.row(broken, build.p(0.5), build.p(0.1)), "the edited model"),
        (build.row(build.p(0.5), broken, build.p(0.1)), "the clean model gave"),
        (build.row(build.p(0.5), build.p(0.5), broken), "stranger"),
    ):
        found, reason = value("knowledge_score", row)
        assert found is None and whose in reason
