from __future__ import annotations

from typing import get_args

import pytest

from runner.measures import MEASURES, NOT_BUILT, generated_tokens, measured, needs, parse, text_lengths
from runner.observe import Observation
from specs.language import words
from specs.language.errors import SpecError


def test_every_word_of_the_language_is_a_measure_or_is_said_not_to_be_built():
    assert set(MEASURES) | set(NOT_BUILT) == set(get_args(words.Measure))
    assert not set(MEASURES) & set(NOT_BUILT)


def test_every_measure_stands_under_its_own_name_with_its_unit():
    for name, measure in MEASURES.items():
        assert measure.name == name and measure.unit and measure.needs


def test_a_measure_is_split_from_its_number():
    assert parse("pass@5") == (MEASURES["pass"], 5)
    assert parse("accuracy") == (MEASURES["accuracy"], None)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("answer_probabilty", "'answer_probabilty' is not a measure; did you mean 'answer_probability'?"),
        ("zzz", "'zzz' is not a measure"),
        ("pass", "'pass' needs a number: `pass@5`"),
        ("text", "'text' needs a number: `text@12`"),
        ("answer_rank@2", "'answer_rank' takes no number; write `answer_rank`"),
        ("pass@0", "'pass@0': the number after @ is a whole number from 1, such as `pass@5`"),
        ("pass@", "'pass@': the number after @ is a whole number from 1, such as `pass@5`"),
        ("kl", "'kl' is not built yet: it needs the whole distribution"),
    ],
)
def test_a_word_that_cannot_be_measured_says_why(word, message):
    with pytest.raises(SpecError) as caught:
        parse(word)
    assert [problem.message for problem in caught.value.problems] == [message]


def test_only_texts_need_generated_tokens():
    assert generated_tokens(["accuracy@20", "pass@5"]) == 0
    assert generated_tokens(["text@5", "text@12", "answer_rank"]) == 12
    assert text_lengths(["text@5", "text@12"]) == {5, 12}


def test_needs_are_collected_over_the_measures():
    assert needs(["answer_rank"]) == {"answers"}
    assert needs(["knowledge_score", "text@3"]) == {"answers", "clean", "unknown", "generated"}


def test_a_measured_row_has_a_value_or_a_reason_for_every_measure(build):
    row = measured(build.row(build.p(0.5)), ["answer_probability", "knowledge_score", "pass@5"])
    assert row.values == {"answer_probability": pytest.approx(0.5), "knowledge_score": None, "pass@5": 1.0}
    assert set(row.reasons) == {"knowledge_score"}


@pytest.mark.parametrize(
    "word",
    ["text@3" if name == "text" else f"{name}@2" if m.number == "required" else name for name, m in MEASURES.items()],
)
def test_a_row_with_nothing_in_it_gives_a_reason_and_no_error(build, word):
    row = measured(build.row(Observation()), [word])
    assert row.values[word] is None and row.reasons[word]
