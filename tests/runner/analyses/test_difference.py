from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from runner.analyses import ANALYSES
from runner.analyses.difference import outcome_of, relative_difference
from specs.language.errors import RunError
from specs.language.experiment import Analysis
from tests.runner.analyses.relation_rows import findings, row

OUTCOMES = {"sensitive": (1, 0), "resilient": (1, 1), "gained": (0, 1), "never": (0, 0)}


def facts(by_relation):
    """Rows of ``{relation: [(outcome, frequency), ...]}``."""
    rows = []
    for relation, listed in by_relation.items():
        for n, (outcome, frequency) in enumerate(listed):
            columns = {} if frequency is None else {"frequency": frequency}
            for condition, hit in zip(("clean", "edit"), OUTCOMES[outcome], strict=True):
                rows.append(row(relation, n, {"accuracy@2": float(hit)}, condition=condition, **columns))
    return rows


def difference(by_relation, between=("sensitive", "resilient"), entities=None, more=(), **fields):
    found = findings({"ablation": [*facts(by_relation), *more]}, entities=entities)
    spec = Analysis(difference="frequency", between=list(between), of="ablation", **fields)
    return found, ANALYSES["difference"]("freq", spec, found)


FACTS = {
    "mother": [("sensitive", 10), ("sensitive", 20), ("resilient", 30), ("resilient", 60), ("never", 999)],
    "father": [("sensitive", 5), ("resilient", 15)],
    "ceo": [("sensitive", 8), ("resilient", 4)],
    "capital": [("resilient", 4), ("never", 1)],
}


def test_relations_are_compared_one_by_one_and_tested_over_all():
    found, result = difference(FACTS, per="relation", test="wilcoxon")
    differences = [2 * (15 - 45) / 60, 2 * (5 - 15) / 20, 2 * (8 - 4) / 12]
    assert result.rows == [
        ["mother", 2, 2, 15.0, 45.0, pytest.approx(-1.0)],
        ["father", 1, 1, 5.0, 15.0, pytest.approx(-1.0)],
        ["ceo", 1, 1, 8.0, 4.0, pytest.approx(2 / 3)],
    ]
    assert [(item.what, item.reason) for item in found.left_out] == [
        ("capital", "no sensitive question of it has a frequency")
    ]
    assert result.figures["n"] == 3
    assert result.figures["p"] == pytest.approx(float(stats.wilcoxon(differences).pvalue))
    # Ranks of the absolute differences: 2.5, 2.5 and 1; the only positive one has rank 1 of 6.
    assert result.figures["effect"] == pytest.approx(1 / 6 - 5 / 6)
    assert result.figures["difference"] == pytest.approx(sum(differences) / 3)
    assert "higher for sensitive than for resilient questions in 1 of 3 groups" in result.sentence
    assert "with 3 groups p cannot be below 0.25" in result.sentence and "1 groups lack one" in result.sentence


def test_wilcoxon_is_the_default_over_groups_and_mann_whitney_over_questions():
    assert "Wilcoxon" in difference(FACTS, per="relation")[1].sentence
    _, result = difference(FACTS)
    a, b = [10, 20, 5, 8], [30, 60, 15, 4, 4]
    expected = stats.mannwhitneyu(a, b, alternative="two-sided")
    assert result.figures["p"] == pytest.approx(float(expected.pvalue)) and result.figures["n"] == 9
    assert result.figures["effect"] == pytest.approx(2 * float(expected.statistic) / 20 - 1)
    assert result.rows[0][:3] == ["all", 4, 5]


def test_t_over_groups_is_of_their_differences_and_over_questions_welch():
    _, over_groups = difference(FACTS, per="relation", test="t")
    assert over_groups.figures["p"] == pytest.approx(float(stats.ttest_1samp([-1, -1, 2 / 3], 0).pvalue))
    _, over_questions = difference(FACTS, test="t")
    expected = stats.ttest_ind([10, 20, 5, 8], [30, 60, 15, 4, 4], equal_var=False).pvalue
    assert over_questions.figures["p"] == pytest.approx(float(expected))


def test_mann_whitney_within_groups_has_a_p_for_each_and_none_for_all():
    _, result = difference(FACTS, per="relation", test="mannwhitney")
    assert result.columns[-1] == "p" and "p" not in result.figures
    expected = stats.mannwhitneyu([10, 20], [30, 60], alternative="two-sided").pvalue
    assert result.figures["mother/p"] == pytest.approx(float(expected))
    assert result.rows[1][-1] is None, "one fact of each outcome is too few"


def test_a_number_may_be_the_entity_s_and_what_has_none_is_counted():
    entities = {f"person{n}": {"frequency": n + 1} for n in range(2)}
    by_relation = {"mother": [("sensitive", None), ("resilient", None), ("resilient", None)]}
    found, result = difference(by_relation, entities=entities)
    assert result.rows == [["all", 1, 1, 1.0, 2.0, pytest.approx(-2 / 3)]]
    assert [item.what for item in found.left_out] == ["1 questions of ablation"]


def test_negative_numbers_have_plain_differences():
    _, result = difference({"a": [("sensitive", -5), ("resilient", 3)]})
    assert result.columns[-1] == "difference" and result.rows[0][-1] == -8


def test_the_edit_of_another_relation_decides_no_outcome():
    other = [
        row("mother", 1, {"accuracy@2": 0.0}, edited="father", frequency=1e9),
        row("mother", 1, {"accuracy@2": 1.0}, edited="father", condition="clean", frequency=1e9),
    ]
    assert difference(FACTS, more=other)[1].rows == difference(FACTS)[1].rows


def test_what_the_clean_model_does_not_know_has_no_outcome():
    unknown = [
        row("mother", 77, {"accuracy@2": float(hit)}, condition=condition, known=False, frequency=1e9)
        for condition, hit in (("clean", 1), ("edit", 0))
    ]
    assert difference(FACTS, more=unknown)[1].rows == difference(FACTS)[1].rows


def test_outcomes_that_nothing_has_are_an_error():
    with pytest.raises(RunError, match="no relation has both gained and resilient facts with a frequency"):
        difference(FACTS, between=("gained", "resilient"), per="relation")


def test_outcomes_are_named_by_both_runs():
    assert {outcome_of(*hits): name for name, hits in OUTCOMES.items()} == {name: name for name in OUTCOMES}


amounts = st.floats(0, 1e9, allow_nan=False)


@given(amounts, amounts)
def test_exchanging_the_outcomes_changes_the_sign_alone(a, b):
    value = relative_difference(a, b)
    if a + b == 0:
        assert value is None
        return
    assert value == -relative_difference(b, a) and -2 <= value <= 2


lists = st.lists(st.tuples(st.sampled_from(["sensitive", "resilient"]), st.integers(0, 50)), min_size=2, max_size=6)


@given(st.dictionaries(st.sampled_from("abcde"), lists, min_size=1))
@settings(max_examples=40, deadline=None)
def test_p_does_not_depend_on_which_outcome_is_named_first(by_relation):
    for test, per in (("wilcoxon", "relation"), ("t", "relation"), ("mannwhitney", None), ("t", None)):
        try:
            one = difference(by_relation, test=test, per=per)[1].figures
        except RunError:
            continue
        other = difference(by_relation, ("resilient", "sensitive"), test=test, per=per)[1].figures
        assert one.get("p") == (pytest.approx(other["p"]) if "p" in other else None)
        assert one["difference"] == pytest.approx(-other["difference"])
