from __future__ import annotations

import pytest

from runner.analyses import ANALYSES
from specs.language.errors import RunError
from specs.language.experiment import Analysis

SCORES = {
    "trump": {"L1.N1": 9.0, "L2.N2": 3.0, "L3.N3": 1.0},
    "trump/surname": {"L1.N1": 8.0, "L2.N2": 2.0, "L3.N3": 1.0},
    "trump/korean": {"L1.N1": 1.0, "L2.N2": 4.0, "L3.N3": 2.0},
    "paris": {"L2.N2": 5.0, "L1.N1": 1.0},
    "paris/hebrew": {"L2.N2": 3.0, "L1.N1": 6.0},
}


def agree(ranked, scores, across="variant"):
    return ANALYSES["agreement"]("same_cell", Analysis(agreement="cell", across=across), *ranked(scores))


def test_every_other_form_is_compared_with_the_name_itself(ranked):
    found = agree(ranked, SCORES)
    assert [dict(zip(found.columns, row, strict=True)) for row in found.rows] == [
        {
            "entity": "trump",
            "reference": "L1.N1",
            "variant": "surname",
            "form": "the name trump/surname",
            "winner": "L1.N1",
            "same": True,
            "rank of reference": 1,
            "relative score": 1.0,
        },
        {
            "entity": "trump",
            "reference": "L1.N1",
            "variant": "korean",
            "form": "the name trump/korean",
            "winner": "L2.N2",
            "same": False,
            "rank of reference": 3,
            "relative score": 0.25,
        },
        {
            "entity": "paris",
            "reference": "L2.N2",
            "variant": "hebrew",
            "form": "the name paris/hebrew",
            "winner": "L1.N1",
            "same": False,
            "rank of reference": 2,
            "relative score": 0.5,
        },
    ]


def test_the_figures_count_the_forms(ranked):
    found = agree(ranked, SCORES)
    assert found.figures == {"same": 1.0, "of": 3.0, "relative_score": pytest.approx(1.75 / 3)}
    assert found.sentence == (
        "1 of 3 other forms finds the same neuron as the name itself; it is furthest down for the name "
        "trump/korean, at rank 3."
    )


def test_full_agreement_names_no_exception(ranked):
    scores = {"a": {"L1.N1": 2.0}, "a/x": {"L1.N1": 2.0}, "a/y": {"L1.N1": 1.0}}
    assert agree(ranked, scores).sentence == "2 of 2 other forms find the same neuron as the name itself."


def test_one_form_is_told_by_name(ranked):
    same = {"a": {"L1.N1": 2.0}, "a/x": {"L1.N1": 2.0}}
    other = {"a": {"L1.N1": 2.0}, "a/x": {"L1.N1": 2.0, "L0.N5": 3.0}}
    assert agree(ranked, same).sentence == "the name a/x finds the same neuron as the name itself, L1.N1."
    assert agree(ranked, other).sentence == "the name a/x finds L0.N5 and not L1.N1, which is at rank 2 there."


def test_a_best_score_of_zero_has_no_ratio(ranked):
    found = agree(ranked, {"a": {"L1.N1": 2.0}, "a/x": {"L1.N1": 0.0}})
    assert found.rows[0][-1] is None and "relative_score" not in found.figures


def test_without_variants_there_is_nothing_to_compare(ranked):
    with pytest.raises(RunError, match="ranks one form of each name"):
        agree(ranked, {"a": {"L1.N1": 2.0}})


def test_without_a_ranking_of_the_name_itself_it_says_so(ranked):
    with pytest.raises(RunError, match="needs a ranking of the name of a itself"):
        agree(ranked, {"a/x": {"L1.N1": 2.0}})


def test_agreement_across_models_is_not_built_yet(ranked):
    with pytest.raises(RunError, match="across model is not built yet"):
        agree(ranked, SCORES, across="model")
