from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.analyses import ANALYSES
from specs.language.errors import RunError
from specs.language.experiment import Analysis
from tests.runner.analyses.relation_rows import findings, row

SPEC = Analysis(cumulativity="more", slices="slices")


def asked(hits, cuts, alone):
    """Rows of two interventions; ``hits``: owner -> questions -> hit at each cut, ``alone``: the same for slices."""
    rows = {"more": [], "slices": []}
    for owner, questions in hits.items():
        for n, by_cut in enumerate(questions):
            for k, hit in zip(cuts, by_cut, strict=True):
                rows["more"].append(row(owner, n, {"accuracy@2": float(hit)}, of="more", axes={"top": float(k)}))
    between = [f"{a + 1}-{b}" for a, b in itertools.pairwise(cuts)]
    for owner, questions in alone.items():
        for n, by_slice in enumerate(questions):
            for ranks, hit in zip(between, by_slice, strict=True):
                rows["slices"].append(row(owner, n, {"accuracy@2": float(hit)}, of="slices", axes={"rank": ranks}))
    return rows


def cumulativity(rows):
    found = findings(rows)
    return found, ANALYSES["cumulativity"]("adds_up", SPEC, found)


def test_what_is_lost_to_the_larger_set_and_not_to_its_last_neurons_alone():
    # mother: questions 0-2 are lost between 10 and 50, of which the difference alone loses question 0; none after.
    # father: question 0 is lost between 50 and 200, and the difference alone loses it.
    hits = {"mother": [(1, 0, 0), (1, 0, 0), (1, 0, 0), (0, 0, 0)], "father": [(1, 1, 0), (1, 1, 1)]}
    alone = {"mother": [(0, 1), (1, 1), (1, 0), (0, 0)], "father": [(1, 0), (1, 1)]}
    _, result = cumulativity(asked(hits, (10, 50, 200), alone))
    assert result.columns == ["owner", "neurons", "total", "affected", "cumulativity"]
    assert result.rows == [
        ["mother", "11-50", 3, 1, pytest.approx(2 / 3)],
        ["mother", "51-200", 0, 0, None],
        ["father", "11-50", 0, 0, None],
        ["father", "51-200", 1, 1, 0.0],
        ["mean over owners (macro)", "11-50", 3, 1, pytest.approx(2 / 3)],
        ["all questions together (micro)", "11-50", 3, 1, pytest.approx(2 / 3)],
        ["mean over owners (macro)", "51-200", 1, 1, 0.0],
        ["all questions together (micro)", "51-200", 1, 1, 0.0],
    ]
    assert result.figures["macro"] == pytest.approx((2 / 3 + 0) / 2)
    assert result.figures["micro"] == pytest.approx(1 - 2 / 4)
    assert result.figures["mother/51-200/total"] == 0 and "mother/51-200" not in result.figures
    assert result.sentence == (
        "By accuracy@2 4 questions are lost between two cut-offs, 2 of them when only the neurons in between are "
        "edited: cumulativity 0.50 over all (micro), 0.33 over owners (macro, 2 of 2), from 0.67 at 11-50 to 0.00 at "
        "51-200. Where no question is lost it is undefined."
    )


def test_where_nothing_is_lost_there_is_none():
    _, result = cumulativity(asked({"mother": [(1, 1)]}, (10, 50), {"mother": [(1,)]}))
    assert "macro" not in result.figures and "no question is lost" in result.sentence


def test_a_lost_question_that_the_slices_did_not_ask_is_left_out_and_said():
    rows = asked({"mother": [(1, 0), (1, 0)]}, (10, 50), {"mother": [(0,)]})
    found, result = cumulativity(rows)
    assert result.rows[0][2:4] == [1, 1]
    assert [(item.what, item.reason) for item in found.left_out] == [("1 lost questions", "'slices' did not ask them")]


def test_unknown_questions_others_and_controls_do_not_count():
    rows = asked({"mother": [(1, 0)]}, (10, 50), {"mother": [(0,)]})
    lost = {"accuracy@2": 0.0}
    won = {"accuracy@2": 1.0}
    for n, more in enumerate(({"known": False}, {"edited": "father"}, {"condition": "random_neurons"}), start=5):
        rows["more"] += [
            row("mother", n, won, of="more", axes={"top": 10.0}, **more),
            row("mother", n, lost, of="more", axes={"top": 50.0}, **more),
        ]
        rows["slices"].append(row("mother", n, lost, of="slices", axes={"rank": "11-50"}, **more))
    _, result = cumulativity(rows)
    assert result.rows[0][2:4] == [1, 1] and result.figures["total"] == 1


def test_without_a_measure_of_right_answers_there_is_nothing_to_count():
    found = findings({"more": [], "slices": []}, measure=("answer_probability",))
    with pytest.raises(RunError, match="took no measure that says whether an answer is right"):
        ANALYSES["cumulativity"]("adds_up", SPEC, found)


@st.composite
def ablations(draw):
    """Hits of some owners' questions at three cut-offs, and under the two slices between them."""
    hits, alone = {}, {}
    for owner in draw(st.sets(st.sampled_from("abc"), min_size=1)):
        n = draw(st.integers(1, 6))
        hits[owner] = [draw(st.tuples(*[st.booleans()] * 3)) for _ in range(n)]
        alone[owner] = [draw(st.tuples(*[st.booleans()] * 2)) for _ in range(n)]
    return hits, alone


@given(ablations())
@settings(max_examples=60, deadline=None)
def test_cumulativity_is_that_of_counting_one_by_one(drawn):
    hits, alone = drawn
    _, result = cumulativity(asked(hits, (10, 50, 200), alone))
    sums, per_owner = [0, 0], []
    for owner, questions in hits.items():
        own = [0, 0]
        for by_cut, by_slice in zip(questions, alone[owner], strict=True):
            for k in (0, 1):
                if by_cut[k] and not by_cut[k + 1]:
                    own[0] += 1
                    own[1] += not by_slice[k]
        sums = [sums[0] + own[0], sums[1] + own[1]]
        per_owner += [1 - own[1] / own[0]] if own[0] else []
    assert (result.figures["total"], result.figures["affected"]) == tuple(sums)
    assert result.figures.get("micro") == (pytest.approx(1 - sums[1] / sums[0]) if sums[0] else None)
    assert result.figures.get("macro") == (pytest.approx(sum(per_owner) / len(per_owner)) if per_owner else None)
    assert all(line[4] is None or 0 <= line[4] <= 1 for line in result.rows)
