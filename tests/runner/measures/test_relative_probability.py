from __future__ import annotations

import pytest


def test_it_is_the_ratio_to_the_clean_model(build, value):
    assert value("relative_probability", build.row(build.p(0.1), build.p(0.4))) == (pytest.approx(0.25), "")


def test_two_underflowed_probabilities_still_have_a_ratio(build, value):
    found, _ = value("relative_probability", build.row(build.logp(-1000.0), build.logp(-999.0)))
    assert found == pytest.approx(0.36787944)


def test_without_a_clean_run_there_is_a_reason(build, value):
    assert value("relative_probability", build.row(build.p(0.1))) == (
        None,
        "the question was not put to the clean model",
    )


def test_a_clean_probability_of_zero_has_no_ratio(build, value):
    found, reason = value("relative_probability", build.row(build.p(0.1), build.p(0.0)))
    assert found is None and "probability of 0" in reason


def test_a_ratio_above_the_largest_float_is_no_infinity(build, value):
    found, reason = value("relative_probability", build.row(build.p(1.0), build.logp(-1000.0)))
    assert found is None and "largest float" in reason
