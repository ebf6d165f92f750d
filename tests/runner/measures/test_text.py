from __future__ import annotations

import pytest

from runner.measures.text import begins_with
from runner.observe import Observation


def test_it_is_the_greedy_continuation(build, value):
    assert value("text@3", build.row(Observation(generated=(5, 6, 7), text=" a b c"))) == (" a b c", "")


def test_a_model_that_stopped_early_gives_what_it_said(build, value):
    assert value("text@9", build.row(Observation(generated=(5,), text=" a"))) == (" a", "")


def test_a_shorter_text_is_used_where_it_was_kept(build, value):
    seen = Observation(generated=(5, 6, 7), text=" a b c", shorter={2: " a b"})
    assert value("text@2", build.row(seen)) == (" a b", "")
    found, reason = value("text@1", build.row(seen))
    assert found is None and "not kept" in reason


def test_without_generation_there_is_a_reason(build, value):
    assert value("text@3", build.row(Observation())) == (None, "nothing was generated")


@pytest.mark.parametrize(
    ("text", "answers", "hit"),
    [
        (" Melania Trump, née Knauss", ["Melania"], True),
        ("\n melania", ["Melania"], True),
        (" Melanias", ["Melania"], False),
        (" Parisian", ["Paris"], False),
        (" Paris.", ["Paris"], True),
        (" Honolulu, Hawaii", ["Hawaii"], False),
        (" Hawai'i", ["Hawaii", "Hawai'i"], True),
        ("巴黎是法国的首都", ["巴黎"], True),
        (" 19461", ["1946"], False),
        ("", ["Paris"], False),
        (" Paris", [], False),
        (" Paris", [""], False),
    ],
)
def test_a_hit_begins_with_an_answer_as_words(text, answers, hit):
    assert begins_with(text, answers) is hit
