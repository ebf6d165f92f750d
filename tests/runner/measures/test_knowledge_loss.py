from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

MEASURES = ["knowledge_loss", "knowledge_loss_clipped"]


@pytest.mark.parametrize("word", MEASURES)
def test_it_is_the_share_of_probability_that_is_gone(build, value, word):
    assert value(word, build.row(build.p(0.1), build.p(0.4))) == (pytest.approx(0.75), "")


@pytest.mark.parametrize("word", MEASURES)
def test_nothing_changed_is_exactly_zero(build, value, word):
    assert value(word, build.row(build.p(0.37), build.p(0.37))) == (0.0, "")


@pytest.mark.parametrize("word", MEASURES)
def test_all_gone_is_one(build, value, word):
    assert value(word, build.row(build.p(0.0), build.p(0.4))) == (1.0, "")


def test_a_gain_is_a_negative_loss(build, value):
    assert value("knowledge_loss", build.row(build.p(0.8), build.p(0.4))) == (pytest.approx(-1), "")


def test_a_gain_is_no_loss_when_clipped(build, value):
    assert value("knowledge_loss_clipped", build.row(build.p(0.8), build.p(0.4))) == (0.0, "")
    assert value("knowledge_loss_clipped", build.row(build.p(1.0), build.logp(-1000.0))) == (0.0, "")


def test_a_gain_beyond_the_largest_float_is_no_infinity(build, value):
    found, reason = value("knowledge_loss", build.row(build.p(1.0), build.logp(-1000.0)))
    assert found is None and "largest float" in reason


@pytest.mark.parametrize("word", MEASURES)
def test_without_a_clean_run_there_is_a_reason(build, value, word):
    found, reason = value(word, build.row(build.p(0.1)))
    assert found is None and "clean" in reason


@given(edited=st.floats(-300, 0), clean=st.floats(-300, 0))
def test_loss_and_relative_probability_add_up_to_one(build, value, edited, clean):
    row = build.row(build.logp(edited), build.logp(clean))
    loss, ratio = value("knowledge_loss", row)[0], value("relative_probability", row)[0]
    assert loss == pytest.approx(1 - ratio, rel=1e-9, abs=1e-9)
    assert value("knowledge_loss_clipped", row)[0] == pytest.approx(max(0, loss), abs=1e-12)
