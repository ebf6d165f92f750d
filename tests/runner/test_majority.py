"""The answer that is right most often, and how often."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.majority import majority_answers
from tests.runner.analyses.relation_rows import row


def asked(relation, *answers, **more):
    return [
        row(relation, n, {"accuracy": 1.0}, condition="clean", answers=(a,) if isinstance(a, str) else a, **more)
        for n, a in enumerate(answers)
    ]


def test_the_most_frequent_answer_of_each_relation_and_its_share():
    rows = asked("continent", "Asia", "Africa", "Asia", ("Europe", "Asia")) + asked("city", "Rome", "Paris")
    found = {m.relation: (m.answer, m.n, m.share) for m in majority_answers(rows)}
    assert found == {"continent": ("Asia", 4, 0.75), "city": ("Paris", 2, 0.5)}


def test_a_question_counts_once_and_only_if_it_is_known_and_clean():
    rows = asked("city", "Rome") + asked("city", "Rome", edited="continent")
    rows += [row("city", 7, {"accuracy": 1.0}, condition="edit", answers=("Paris",))]
    rows += [row("city", 8, {"accuracy": 0.0}, condition="clean", answers=("Paris",), known=False)]
    assert [(m.answer, m.n) for m in majority_answers(rows)] == [("Rome", 1)]


def test_every_language_has_its_own_most_frequent_answer():
    """The word of one language is no answer in another, and would make the baseline look lower than it is."""
    english, german = ("Africa", "Africa", "Asia"), ("Afrika", "Afrika", "Asien")
    rows = asked("continent", *english)
    for n, answer in enumerate(german, start=10):
        one = row("continent", n, {"accuracy": 1.0}, condition="clean", answers=(answer,))
        rows.append(replace(one, asked=replace(one.asked, language="de")))
    (found,) = majority_answers(rows)
    assert (found.answer, found.n, found.share) == ("Africa / Afrika", 6, 4 / 6)
    named = [replace(one, asked=replace(one.asked, language="en")) for one in asked("continent", *english)]
    assert majority_answers(named) == majority_answers(asked("continent", *english))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=9))
@settings(deadline=None)
def test_no_answer_is_right_more_often(answers):
    (found,) = majority_answers(asked("r", *answers))
    assert found.share == max(answers.count(a) for a in answers) / len(answers)
