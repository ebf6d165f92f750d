from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.observe import AnswerScore, Observation


@pytest.mark.parametrize(
    ("word", "ranks", "hit"),
    [
        ("accuracy", (1, 1, 1), 1.0),
        ("accuracy", (1, 1, 2), 0.0),
        ("accuracy@2", (1, 1, 2), 1.0),
        ("accuracy@2", (1, 2, 1), 0.0),
        ("accuracy@1", (1, 9), 1.0),
        ("accuracy@5", (1,), 1.0),
        ("accuracy@5", (1, 3), 0.0),
    ],
)
def test_the_first_n_greedy_tokens_must_be_the_answers_first(build, value, word, ranks, hit):
    row = build.row(build.seen(AnswerScore("x", (-1.0,) * len(ranks), ranks)))
    assert value(word, row) == (hit, "")


def test_any_alias_will_do(build, value):
    row = build.row(build.seen(build.score(0.1, text=" a", ranks=(4,)), build.score(0.5, text=" b", ranks=(1,))))
    assert value("accuracy", row) == (1.0, "")


def test_a_first_token_shared_with_another_answer_is_never_a_hit(build, value):
    """' New' is the first token of New York and of New Jersey, so the second must be right too."""
    row = build.row(build.seen(build.score(0.9, 0.1, text=" New York", ranks=(1, 4), shared=1)))
    assert value("accuracy@1", row) == (0.0, "")
    row = build.row(build.seen(build.score(0.9, 0.6, text=" New York", ranks=(1, 1), shared=1)))
    assert value("accuracy@1", row) == (1.0, "")


@given(ranks=st.lists(st.integers(1, 3), min_size=1, max_size=5), greedy_at=st.integers(1, 6))
def test_it_equals_comparing_the_greedy_tokens_with_the_answers(build, value, ranks, greedy_at):
    """An independent reading: spell out the greedy tokens and compare."""
    answer = list(range(len(ranks)))
    greedy = []
    for token, rank in zip(answer, ranks, strict=True):
        greedy.append(token if rank == 1 else -1)
        if rank != 1:
            break
    said = greedy[:greedy_at]
    expected = said == answer[: len(said)] and len(said) == min(greedy_at, len(answer))
    row = build.row(Observation((AnswerScore("x", (-1.0,) * len(ranks), tuple(ranks)),)))
    assert value(f"accuracy@{greedy_at}", row)[0] == float(expected)
