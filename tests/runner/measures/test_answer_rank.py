from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.observe import AnswerScore, Observation

rank_lists = st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=4), min_size=1, max_size=3)


def observation(ranks):
    return Observation(tuple(AnswerScore(f"{i}", (-1.0,) * len(r), tuple(r)) for i, r in enumerate(ranks)))


def test_the_worst_token_counts(build, value):
    assert value("answer_rank", build.row(observation([[1, 7, 2]]))) == (7.0, "")


def test_the_best_alias_counts(build, value):
    assert value("answer_rank", build.row(observation([[1, 7], [3]]))) == (3.0, "")


def test_a_shared_first_token_is_no_hit(build, value):
    """' New' first for New Jersey does not make New York a hit."""
    row = build.row(build.seen(build.score(0.9, 0.01, text=" New York", ranks=(1, 9))))
    assert value("pass@5", row) == (0.0, "")
    assert value("pass@9", row) == (1.0, "")


@given(ranks=rank_lists, k=st.integers(1, 50))
def test_pass_at_k_is_rank_within_k(build, value, ranks, k):
    row = build.row(observation(ranks))
    assert value(f"pass@{k}", row)[0] == float(value("answer_rank", row)[0] <= k)


@given(ranks=rank_lists)
def test_rank_one_is_greedy_accuracy(build, value, ranks):
    row = build.row(observation(ranks))
    assert (value("answer_rank", row)[0] == 1) == (value("accuracy", row)[0] == 1.0) == (value("pass@1", row)[0] == 1.0)


def test_without_an_answer_there_is_a_reason(build, value):
    for word in ("answer_rank", "pass@5", "accuracy", "accuracy@2"):
        assert value(word, build.row(Observation())) == (None, "the prompt has no answer")


def test_a_pass_that_was_not_finite_has_a_reason(build, value):
    for word in ("answer_rank", "pass@5", "accuracy", "accuracy@2"):
        found, reason = value(word, build.row(build.seen(build.score(0.5), finite=False)))
        assert found is None and "not finite" in reason
