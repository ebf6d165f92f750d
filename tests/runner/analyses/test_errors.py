from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.analyses import ANALYSES
from runner.analyses.errors import kind_of
from specs.language.errors import RunError
from specs.language.errors_of_answers import RIGHT, SHIPPED
from specs.language.experiment import Analysis
from tests.runner.analyses.relation_rows import findings, row

ANSWERS = {"mother": ["Anna Smith", "Maria"], "city": ["Paris", "Rome"]}
PROMPT = "The mother of the old king is named? Answer:"
CLASSES = {"hedge": r"^I (do not|don't) know", "year": r"\d{4}"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (" Anna Smith, who", "right"),
        (" anna smith", "right"),
        (" Anna Smithson", "other"),
        ("  \n ", "empty"),
        (" I don't know.", "hedge"),
        (" in 1946", "year"),
        (" A. Maria", "option"),
        (" (b) Maria", "option"),
        (" A man", "article"),
        (" Maria of Spain", "same relation"),
        (" Paris", "another relation"),
        (" The answer", "article"),
        (" Theodora", "other"),
        (" and so the MOTHER of the old king", "repeats"),
        (" the mother of the old", "article"),
        (" mother of the queen", "other"),
    ],
)
def test_a_text_falls_into_the_first_class_that_fits(text, kind):
    assert kind_of(text, PROMPT, "mother", ("Anna Smith",), ANSWERS, CLASSES) == kind


def texts(condition, listed, relation="mother", **more):
    return [
        row(relation, n, {"text@5": text}, condition=condition, answers=(answer,), **more)
        for n, (text, answer) in enumerate(listed)
    ]


ROWS = [
    *texts("clean", [(" Anna", "Anna"), (" Maria", "Maria"), (" The", "Eva"), (" Anna", "Anna")]),
    *texts("edit", [(" The", "Anna"), (" The", "Maria"), (" Anna", "Eva"), (" Anna", "Anna")]),
    *texts("edit", [(" x", "Paris"), (" Rome", "Rome")], relation="city"),
]


def errors(rows=ROWS, classes=None, measure=("text@5", "accuracy@2")):
    relations = {"mother": {"a": "Anna", "b": "Maria", "c": "Eva"}, "city": {"d": "Paris", "e": "Rome"}}
    entities = {key: {} for key in "abcde"}
    found = findings({"answers": rows}, measure=measure, relations=relations, entities=entities)
    return ANALYSES["errors"]("said", Analysis(errors="answers", classes=classes), found)


def test_shares_are_of_all_questions_by_relation_and_condition():
    result = errors()
    assert result.columns == ["relation", "condition", "n", "right", "same relation", "article", "other"]
    assert result.rows == [
        ["mother", "clean", 4, 0.75, 0.0, 0.25, 0.0],
        ["mother", "edit", 4, 0.25, 0.25, 0.5, 0.0],
        ["city", "edit", 2, 0.5, 0.0, 0.0, 0.5],
        ["all relations", "clean", 4, 0.75, 0.0, 0.25, 0.0],
        [
            "all relations",
            "edit",
            6,
            pytest.approx(2 / 6),
            pytest.approx(1 / 6),
            pytest.approx(2 / 6),
            pytest.approx(1 / 6),
        ],
    ]
    assert result.figures["edit/article"] == pytest.approx(2 / 6) and result.figures["edit/city/other"] == 0.5
    assert (
        result.sentence == "Wrong are: clean 1 of 4, most often “article” (1); edit 4 of 6, most often “article” (2)."
    )


def test_each_class_has_examples_with_what_would_have_been_right():
    listed = [(e.condition, e.kind, e.text, e.answers) for e in errors().examples]
    assert ("edit", "same relation", " Anna", ["Eva"]) in listed
    assert listed.count(("edit", "article", " The", ["Anna"])) == 1, "a text is an example once"


def test_own_classes_come_first_and_keep_their_column():
    result = errors(classes={"just the": "^The$", "never seen": "qqq"})
    assert result.columns[3:] == ["right", "just the", "never seen", "same relation", "other"]
    assert result.figures["edit/just the"] == pytest.approx(2 / 6) and result.figures["edit/never seen"] == 0


def test_a_sweep_of_several_values_names_each_of_them():
    rows = [r for top in (10.0, 20.0) for r in texts("edit", [(" The", "Anna")], axes={"top": top, "set": 0.0})]
    assert [line[:2] for line in errors(rows).rows[:2]] == [["mother", "edit (top 10)"], ["mother", "edit (top 20)"]]
    assert errors(rows[:1]).rows[0][:2] == ["mother", "edit"]


def test_unknown_questions_and_others_do_not_count():
    more = texts("edit", [(" zz", "Anna")], known=False) + texts("edit", [(" zz", "Anna")], edited="city")
    assert errors(ROWS + more).rows == errors().rows


def test_without_texts_there_is_nothing_to_sort():
    with pytest.raises(RunError, match="measures no text"):
        errors(measure=("accuracy@2",))


@given(st.text(max_size=60), st.text(max_size=60))
@settings(deadline=None)
def test_every_text_has_one_class(text, prompt):
    kind = kind_of(text, prompt, "mother", ("Anna",), ANSWERS, CLASSES)
    assert kind in {RIGHT, *CLASSES, *SHIPPED}
