from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from runner.observe import AnswerScore, Asked, Observation, Row
from runner.summaries import count_asked, left_out, summarise

KS = "knowledge_score"
numbers = st.lists(st.floats(-5, 5), min_size=2, max_size=12)


def row(
    value,
    prompt=0,
    *,
    edited="trump",
    condition="edit",
    role="target",
    draw=0,
    known=True,
    measure=KS,
    **asked,
):
    """One row about one prompt; prompts of different numbers have different texts."""
    settings = {"axes": {"scale": -1.0}, "entity": "trump", "relation": "wife"} | asked
    about = Asked(
        intervention="amnesia",
        edited=edited,
        condition=condition,
        draw=draw,
        role=role,
        prompt_id=prompt,
        prompt=f"question {prompt:05d}",
        **settings,
    )
    reasons = {measure: "no stranger was asked"} if value is None else {}
    return Row(about, Observation(), known=known, values={measure: value}, reasons=reasons)


def rows_of(values, **asked):
    return [row(value, i, **asked) for i, value in enumerate(values)]


def one(rows, *, edited="trump", relation=None, condition="edit", role="target", seed=0, measure=KS, **axes):
    """Find the one summary that is meant."""
    found = [
        s
        for s in summarise(rows, [measure], ["scale"], seed)
        if (s.edited, s.relation, s.condition, s.role, s.axes)
        == (edited, relation, condition, role, axes or {"scale": -1.0})
    ]
    assert len(found) == 1
    return found[0]


def figures(summary):
    return summary.n, summary.mean, summary.se, summary.low, summary.high


def test_mean_and_standard_error_are_those_of_the_prompts():
    values = [0.1, 0.4, 0.7, 1.1]
    summary = one(rows_of(values))
    assert (summary.n, summary.mean) == (4, pytest.approx(np.mean(values)))
    assert summary.se == pytest.approx(np.std(values, ddof=1) / 2)
    assert summary.draws == []


def test_one_prompt_has_a_mean_and_no_spread():
    summary = one([row(0.3)])
    assert (summary.n, summary.mean, summary.se, summary.low, summary.high) == (1, 0.3, None, None, None)


def test_equal_values_have_a_mean_and_an_interval_of_exactly_that_value():
    summary = one(rows_of([0.1] * 7))
    assert (summary.mean, summary.low, summary.high) == (0.1, 0.1, 0.1) and summary.se == pytest.approx(0, abs=1e-15)


@given(numbers)
def test_the_interval_holds_the_mean_and_stays_within_the_values(values):
    summary = one(rows_of(values))
    slack = 1e-9
    assert min(values) - slack <= summary.low <= summary.mean + slack
    assert summary.mean - slack <= summary.high <= max(values) + slack


@given(numbers, st.floats(-3, 3), st.floats(0.1, 3))
def test_the_interval_moves_and_stretches_with_the_values(values, shift, factor):
    before, after = one(rows_of(values)), one(rows_of([factor * v + shift for v in values]))
    for field in ("mean", "low", "high"):
        assert getattr(after, field) == pytest.approx(factor * getattr(before, field) + shift, abs=1e-9)


def test_the_interval_is_the_percentile_bootstrap():
    """Compared with scipy's, on values skewed enough that a normal interval would be off."""
    values = np.random.default_rng(1).exponential(size=40)
    ours = one(rows_of(values.tolist()))
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.04)
    assert ours.high - ours.mean > ours.mean - ours.low


def test_more_prompts_than_fit_in_memory_at_once_give_an_interval():
    values = np.random.default_rng(1).normal(size=5_000)
    summary = one(rows_of(values.tolist()))
    assert summary.high - summary.low == pytest.approx(2 * 1.96 / np.sqrt(5_000), rel=0.1)


def test_the_order_of_work_changes_no_digit():
    rows = [
        row(
            random.Random(f"{edited}{draw}{i}").random(),
            i,
            edited=edited,
            condition="random_neurons",
            draw=draw,
        )
        for edited in ("trump", "obama")
        for draw in range(3)
        for i in range(6)
    ]
    shuffled = random.Random(0).sample(rows, len(rows))
    assert summarise(rows, [KS], ["scale"], 0) == summarise(shuffled, [KS], ["scale"], 0)


def test_the_seed_decides_the_resamples():
    values = np.random.default_rng(0).normal(size=30).tolist()
    assert one(rows_of(values), seed=1) == one(rows_of(values), seed=1)
    assert one(rows_of(values), seed=1).low != one(rows_of(values), seed=2).low


def test_every_sweep_value_condition_and_role_has_its_own_mean():
    rows = [
        *rows_of([1.0, 0.8], axes={"scale": 1.0}),
        *rows_of([0.2, 0.4]),
        *rows_of([0.9, 1.1], role="others"),
        *rows_of([1.0, 0.6], condition="no_edit"),
    ]
    assert one(rows, scale=1.0).mean == pytest.approx(0.9)
    assert one(rows).mean == pytest.approx(0.3)
    assert one(rows, role="others").mean == pytest.approx(1.0)
    assert one(rows, condition="no_edit").mean == pytest.approx(0.8)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.floats(-5, 5), min_size=1, max_size=5), min_size=1))
def test_the_relations_make_up_the_whole(relations):
    """Split = whole: the mean over all prompts is that of the relations' means, weighted by their n."""
    rows = [
        row(v, 100 * i + j, relation=name)
        for i, (name, values) in enumerate(relations.items())
        for j, v in enumerate(values)
    ]
    whole, parts = one(rows), [one(rows, relation=name) for name in relations]
    assert whole.n == sum(part.n for part in parts)
    assert whole.mean == pytest.approx(sum(part.n * part.mean for part in parts) / whole.n, abs=1e-9)


def test_what_the_model_does_not_know_is_in_no_mean():
    rows = [row(0.2, 0), row(0.4, 1), row(-9.0, 2, known=False), row(0.6, 3, known=None)]
    assert (one(rows).n, one(rows).mean) == (3, pytest.approx(0.4))
    assert count_asked([*rows, row(0.0, 9, role="unknown")]) == (4, 3)


def test_a_question_asked_with_a_placeholder_is_one_question():
    rows = [row(1.0, 0, condition="clean"), row(0.2, 7), row(1.0, 1, condition="clean", known=False)]
    assert count_asked(rows) == (2, 1)


def test_undefined_values_are_in_no_mean_and_in_no_count():
    summary = one([row(0.2, 0), row(None, 1), row(0.4, 2)])
    assert (summary.n, summary.mean) == (2, pytest.approx(0.3))


def test_a_cell_in_which_nothing_is_known_is_there_with_no_prompts():
    summary = one([row(0.2, 0, known=False), row(None, 1)])
    assert (summary.n, summary.mean, summary.se, summary.low) == (0, None, None, None)
    assert one([row(0.2, 0, known=False)], edited="*", relation="wife").n == 0


def test_draws_of_a_control_count_as_one_observation_of_a_prompt():
    """Two prompts and three draws are two observations; the draws' own means stand beside them."""
    values = {0: [0.9, 1.0, 1.1], 1: [0.5, 0.6, 0.7]}
    rows = [row(values[p][d], p, condition="random_neurons", draw=d) for p in values for d in range(3)]
    summary = one(rows, condition="random_neurons")
    assert summary.n == 2
    assert summary.mean == pytest.approx(0.8)
    assert summary.se == pytest.approx(np.std([1.0, 0.6], ddof=1) / np.sqrt(2))
    assert summary.draws == pytest.approx([0.7, 0.8, 0.9])
    assert one(rows, condition="random_neurons", relation="wife").draws == pytest.approx([0.7, 0.8, 0.9])


def test_copies_of_a_draw_do_not_make_the_interval_shorter():
    values = [0.1, 0.5, 0.2, 0.9, 0.4]
    once = one(rows_of(values, condition="random_neurons"), condition="random_neurons")
    copies = [row(v, i, condition="random_neurons", draw=d) for d in range(5) for i, v in enumerate(values)]
    often = one(copies, condition="random_neurons")
    assert figures(often) == pytest.approx(figures(once))


def test_in_the_mean_over_owners_every_owner_counts_the_same():
    rows = [*rows_of([0.0, 0.2], edited="trump"), *(row(1.0, 10 + i, edited="obama") for i in range(6))]
    star = one(rows, edited="*")
    assert star.mean == pytest.approx((0.1 + 1.0) / 2)
    assert star.n == 8
    assert star.low <= star.mean <= star.high


def test_over_one_owner_the_star_is_the_owner():
    rows = rows_of([0.1, 0.5, 0.2, 0.9])
    mine, star = one(rows), one(rows, edited="*")
    assert figures(star) == pytest.approx(figures(mine))


def test_a_prompt_asked_under_several_owners_is_one_prompt():
    """Controls are shared: asking the same four others under ten edits does not make forty prompts."""
    values = [0.9, 1.0, 1.0, 1.2]
    rows = [row(v, i, edited=f"owner{k}", role="others") for k in range(10) for i, v in enumerate(values)]
    star, mine = one(rows, edited="*", role="others"), one(rows, edited="owner3", role="others")
    assert star.n == mine.n == 4
    assert (star.se, star.low, star.high) == pytest.approx((mine.se, mine.low, mine.high))


def test_owners_with_unequal_numbers_of_prompts_add_no_spread_of_their_own():
    rows = [*rows_of([0.7], edited="trump"), *(row(0.7, 10 + i, edited="obama") for i in range(6))]
    star = one(rows, edited="*")
    assert (star.mean, star.low, star.high) == (0.7, 0.7, 0.7)


def test_another_form_of_a_name_is_not_another_owner():
    """trump/typo is Trump again; wife/trump beside no owner called wife is not a form of anything."""
    rows = [
        *rows_of([0.2, 0.4]),
        *rows_of([0.9, 0.9], edited="trump/typo"),
        *rows_of([1.0, 1.0], edited="obama"),
    ]
    assert one(rows, edited="*").mean == pytest.approx((0.3 + 1.0) / 2)
    assert one(rows, edited="trump/typo").mean == pytest.approx(0.9)
    facts = [*rows_of([0.2], edited="wife/trump"), *rows_of([0.6], edited="wife/obama")]
    assert one(facts, edited="*").mean == pytest.approx(0.4)


def test_a_star_without_any_value_is_empty():
    rows = [*rows_of([None, None]), *rows_of([0.9, 0.8], edited="trump/typo")]
    assert one(rows, edited="*").n == 0


def test_an_interval_does_not_leave_the_values_by_rounding():
    rows = [row(v, 10 * k + i, edited=f"o{k}") for k in range(3) for i, v in enumerate([0.0, 0.0, 0.0, 1.0][: k + 2])]
    star = one(rows, edited="*")
    assert star.low >= 0 and star.high <= 1


def test_the_star_has_the_mean_of_the_owners_draws():
    rows = [
        row(10 * k + d, p, edited=edited, condition="random_neurons", draw=d)
        for k, edited in enumerate(("trump", "obama"))
        for d in range(2)
        for p in (2 * k, 2 * k + 1)
    ]
    assert one(rows, edited="*", condition="random_neurons").draws == pytest.approx([5.0, 6.0])


def test_texts_have_no_mean():
    rows = [replace(row(0.5), values={KS: 0.5, "text@3": " Melania"})]
    assert {s.measure for s in summarise(rows, [KS, "text@3"], ["scale"], 0)} == {KS}


def test_texts_about_nobody_have_no_relation():
    rows = rows_of([1.0, 2.0], relation=None, entity=None)
    assert {s.relation for s in summarise(rows, [KS], ["scale"], 0)} == {None}


def test_a_mean_beyond_the_largest_float_is_absent_and_not_infinite():
    summary = one(rows_of([1.7e308, 1.7e308, 1.6e308], measure="relative_probability"), measure="relative_probability")
    assert summary.n == 3 and summary.se is None and summary.low is None


def test_no_rows_give_no_summaries():
    assert summarise([], [KS], ["scale"], 0) == []


def test_a_sweep_that_was_not_announced_is_refused():
    with pytest.raises(ValueError, match="the sweep times"):
        summarise([row(0.1, axes={"scale": 1.0, "times": 2.0})], [KS], ["scale"], 0)


def test_summaries_come_in_the_order_of_owners_conditions_sweep_and_relations():
    rows = [
        row(0.5, 1, edited=edited, condition=condition, axes={"scale": scale})
        for edited in ("trump", "obama")
        for condition in ("random_neurons", "clean")
        for scale in (1.0, -1.0)
    ]
    found = [(s.edited, s.condition, s.axes["scale"], s.relation) for s in summarise(rows, [KS], ["scale"], 0)]
    assert found[:3] == [
        ("obama", "clean", -1.0, None),
        ("obama", "clean", -1.0, "wife"),
        ("obama", "clean", 1.0, None),
    ]
    assert found[-1] == ("*", "random_neurons", 1.0, "wife")


def test_what_no_mean_holds_is_listed_with_its_reason():
    clean = Observation((AnswerScore(" Melania", (-1.0, -1.0), (2, 9)),))
    rows = [
        replace(row(0.5, 0, known=False), clean=clean),
        row(None, 1, relation="child"),
        row(None, 1, relation="child", condition="clean"),
        row(None, 2, entity=None, relation=None),
    ]
    rows = [replace(one, values={"text@3": None} | one.values) for one in rows]
    assert [(entry.what, entry.reason, entry.where) for entry in left_out(rows, [KS, "text@3"])] == [
        ("wife/trump", "the clean model does not know the answer (rank 9)", "amnesia"),
        ("knowledge_score of child/trump", "no stranger was asked (2 rows)", "amnesia"),
        ("knowledge_score of question 00002", "no stranger was asked (1 row)", "amnesia"),
    ]


def test_questions_that_share_a_name_are_told_apart():
    rows = [row(0.1, i, template=str(i), known=False) for i in range(2)]
    rows.append(row(0.1, 5, template="0", variant="typo", known=False))
    assert [entry.what for entry in left_out(rows, [KS])] == [
        "wife/trump (template 0)",
        "wife/trump (template 1)",
        "wife/trump (typo)",
    ]


def test_a_hundred_thousand_rows_take_less_than_three_seconds():
    draw = random.Random(0)
    rows = [
        row(
            draw.random(),
            p,
            axes={"scale": float(s)},
            relation=f"r{p % 8}",
            condition="random_neurons",
            draw=d,
        )
        for s in range(100)
        for d in range(5)
        for p in range(200)
    ]
    begin = time.process_time()
    summaries = summarise(rows, [KS], ["scale"], 0)
    assert len(summaries) == 100 * 9 * 2 and time.process_time() - begin < 3
