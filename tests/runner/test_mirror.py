"""What MLflow shall show of a run, before there is any MLflow."""

from __future__ import annotations

import copy

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from runner.mirror import (
    LONGEST_PARAM,
    fingerprint,
    in_thousandths,
    metric_key,
    one_line,
    pages,
    params,
    steps,
)
from specs.language.results import Summary
from tests.runner.sample_results import OWNERS, SWEEP, sample

WHOLE, PARTS = pages(sample())
CELL, AMNESIA, INJECTION, SAME = PARTS


def by_key(page) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for metric in page.metrics:
        at = found.setdefault(metric.key, {})
        assert metric.step not in at or at[metric.step] == metric.value, f"{metric} is there twice"
        at[metric.step] = metric.value
    return found


def test_there_is_a_page_for_the_spec_and_one_for_each_of_its_parts() -> None:
    assert WHOLE.name == "trump · tiny" and WHOLE.kind == "spec"
    assert [(part.name, part.kind) for part in PARTS] == [
        ("cell: stability", "localisation"),
        ("amnesia: negative ablation", "intervention"),
        ("injection: injection", "intervention"),
        ("same: agreement of cell", "analysis"),
    ]


def test_a_cell_of_a_matrix_is_named_by_its_label() -> None:
    whole, _ = pages(sample(cell="model=tiny, seed=1"))
    assert whole.name == "trump · model=tiny, seed=1" and whole.tags["matrix"] == "model=tiny, seed=1"


def test_every_mean_is_a_metric_under_its_result_path_with_the_factor_in_thousandths_as_step() -> None:
    metrics = by_key(AMNESIA)
    result = sample().interventions["amnesia"]
    wanted = {
        round(s.axes["scale"] * 1000): s.mean
        for s in result.summaries
        if (s.edited, s.condition, s.role, s.relation, s.measure)
        == ("obama", "edit", "others", None, "knowledge_score")
    }
    assert len(wanted) == 21 and min(wanted) == -3000
    assert metrics["amnesia/obama/others/knowledge_score"] == wanted
    assert metrics["amnesia/scale"] == {round(v * 1000): v for v in SWEEP}
    assert metrics["amnesia/clean/knowledge_score"] == {0: 1.0}
    assert {
        "amnesia/knowledge_score",
        "amnesia/trump/random_neurons/others/answer_probability",
    } <= metrics.keys()
    assert by_key(INJECTION)["injection/trump/accuracy_at_2"] == {1000: 0.2, 2000: 0.4, 4000: 0.8}


def test_a_mean_that_could_not_be_had_is_no_metric_and_stays_in_the_table() -> None:
    assert "injection/wrong_cell/accuracy_at_2" not in by_key(INJECTION)
    table = INJECTION.tables["summaries"]
    assert None in table["mean"] and len(table["mean"]) == len(sample().interventions["injection"].summaries)


def test_the_page_of_the_spec_has_means_over_owners_cells_claims_and_the_key_values() -> None:
    metrics = by_key(WHOLE)
    assert metrics["cell/trump/dominance"] == {0: 14.5}
    assert (metrics["claims/met"], metrics["claims/not_met"], metrics["claims/not_applicable"]) == (
        {0: 1},
        {0: 1},
        {0: 1},
    )
    assert metrics["amnesia/knowledge_score/scale -1"][0] == metrics["amnesia/knowledge_score"][-1000]
    assert metrics["amnesia/others/knowledge_score/scale -3"][0] == metrics["amnesia/others/knowledge_score"][-3000]
    assert not any("/trump/" in key for key in metrics if key.startswith("amnesia/"))
    assert WHOLE.tags["cell/trump"] == "L1.N11948"
    assert WHOLE.tags["interventions"] == "negative ablation; injection"


def test_an_intervention_on_one_owner_shows_it_on_the_page_of_the_spec() -> None:
    results = sample()
    result = results.interventions["amnesia"]
    result.summaries = [s for s in result.summaries if s.edited == "trump"]
    assert "amnesia/trump/others/knowledge_score" in by_key(pages(results)[0])


def test_a_second_sweep_is_part_of_the_key_and_not_of_the_step() -> None:
    results = sample()
    result = results.interventions["injection"]
    result.axes = {"times": [1.0, 2.0, 4.0], "top": [5.0, 10.0]}
    result.summaries = [
        Summary(
            edited="trump",
            condition="edit",
            role="target",
            axes={"times": times, "top": top},
            measure="accuracy@2",
            n=3,
            mean=times * top,
        )
        for times in (1.0, 2.0, 4.0)
        for top in (5.0, 10.0)
    ]
    metrics = by_key(pages(results)[1][2])
    assert metrics["injection/trump/accuracy_at_2/top 5"] == {1000: 5, 2000: 10, 4000: 20}
    assert metrics["injection/trump/accuracy_at_2/top 10"] == {1000: 10, 2000: 20, 4000: 40}


def test_with_many_owners_metrics_are_of_the_first_and_this_is_said() -> None:
    results = sample()
    result = results.interventions["injection"]
    result.summaries = [
        Summary(
            edited=owner,
            condition="edit",
            role="target",
            measure="accuracy@2",
            n=1,
            mean=0.5,
            axes={"times": 1.0},
        )
        for owner in (*(f"owner{i}" for i in range(60)), "*")
    ]
    page = pages(results)[1][2]
    assert len({key for key in by_key(page) if key.endswith("accuracy_at_2")}) == 21
    assert "first 20 of 60 owners" in page.note and len(page.tables["summaries"]["mean"]) == 61


@pytest.mark.parametrize(
    "values, wanted",
    [
        ([1.0, 0.2, -3.0], [1000, 200, -3000]),
        ([10.0, 50_000.0], [10_000, 50_000_000]),
        ([1e-5, 2e-5], [1, 2]),
        (["1-10", "11-50"], [1, 2]),
        ([1.0, "own_mean"], [1, 2]),
    ],
)
def test_steps_are_thousandths_or_numbers_from_one(values: list[float | str], wanted: list[int]) -> None:
    assert list(steps(values).values()) == wanted
    assert in_thousandths(values) == (wanted != [1, 2])


@given(st.lists(st.floats(-1e6, 1e6) | st.text(max_size=3), unique=True, min_size=1))
def test_no_two_values_of_a_sweep_share_a_step(values: list[float | str]) -> None:
    assert len(set(steps(values).values())) == len(values)


def test_the_note_says_what_a_step_is() -> None:
    assert "Step −1000 of a metric is scale −1: steps are thousandths." in AMNESIA.note
    assert "choose `amnesia/scale` as its x axis" in AMNESIA.note
    results = sample()
    results.interventions["injection"].axes = {"rank": ["1-10", "11-50"]}
    results.interventions["injection"].summaries = []
    assert "Steps number the values: 1 is rank 1-10, 2 is rank 11-50" in pages(results)[1][2].note


def test_parameters_are_the_spec_at_most_three_names_deep() -> None:
    assert WHOLE.params["model.id"] == "tiny"
    assert WHOLE.params["localize.cell.metric"] == "stability"
    assert WHOLE.params["interventions.amnesia.edit"] == "{scale: {first: 1, last: -3, count: 21}, neurons: cell}"
    assert WHOLE.params["relations.wife.answers"] == "{trump: [Melania], obama: [Michelle]}"
    assert WHOLE.params["interventions.injection.measure"] == "[accuracy@2, text@12]"
    assert CELL.params == {
        "metric": "stability",
        "top": "1",
        "site": "mlp.neurons",
        "position": "entity.last",
    }


def test_a_value_too_long_to_read_is_its_beginning_and_hash() -> None:
    templates = WHOLE.params["prompts.attributes.templates"]
    assert templates.startswith('["Template 000') and "100 entries, whole in spec.yaml; sha256 " in templates
    assert all(len(value) <= LONGEST_PARAM for value in WHOLE.params.values())
    a, b = (params({"x": "y" * 1000 + end})["x"] for end in "ab")
    assert a != b and "1,001 characters" in a


def test_names_that_mlflow_cannot_tell_apart_stay_apart() -> None:
    assert params({"a*b": "1", "a+b": "2", "a_b": "3"}) == {"a_b": "1", "a_b_": "2", "a_b__": "3"}


@given(st.recursive(st.text(), lambda t: st.lists(t) | st.dictionaries(st.text(), t), max_leaves=8))
@example(["0?"])
def test_a_value_in_one_line_reads_back_as_it_was(value: object) -> None:
    if isinstance(value, str):
        assert one_line(value) == value
        return
    text = one_line(value)
    printable = text.isprintable()
    assert "\n" not in text
    if printable:
        assert yaml.load(text, Loader=yaml.BaseLoader) == value


def test_the_description_gives_question_answer_cells_effects_and_claims() -> None:
    for line in (
        "**Question.** Which neuron holds Donald Trump, and what happens when it is silenced?",
        "**Answer.** L1.N11948 holds Donald Trump",
        "| Donald Trump | L1.N11948 | 14.50 | stands out |",
        "| scale | target | others | random neurons | wrong cell |",
        "| −1 | 0.302 | 0.960 | 0.995 | 0.980 |",
        "| `cell/trump/dominance >= 20` | not met | 14.5 |",
    ):
        assert line in WHOLE.note


def test_texts_cannot_break_the_description() -> None:
    results = sample()
    results.answer = "<script>alert(1)</script> | *bold* [x](javascript:y)\n# head"
    note = pages(results)[0].note
    written = r"**Answer.** \<script\>alert(1)\</script\> \| \*bold\* \[x\](javascript:y) \# head"
    assert f"\n{written}\n" in note


def test_a_long_description_ends_at_a_line_and_says_where_the_rest_is() -> None:
    results = sample()
    results.claims = [results.claims[0]] * 500
    note = pages(results)[0].note
    assert len(note) < 5200 and note.endswith("More of it is in `report.html` under *Artifacts*.")


def test_a_run_that_is_not_complete_says_so_first() -> None:
    note = pages(sample().model_copy(update={"status": "partial", "reason": "interrupted"}))[0].note
    assert note.startswith("**This run is partial.** interrupted")


def test_results_with_nothing_in_them_have_a_page() -> None:
    empty = sample().model_copy(
        update={
            "rankings": {},
            "interventions": {},
            "analyses": {},
            "claims": [],
            "spec": "",
            "provenance": {},
        }
    )
    whole, parts = pages(empty)
    assert parts == [] and whole.params == {} and [m.key for m in whole.metrics] == ["left_out", "seconds"]


def test_tables_hold_every_row_with_the_sweep_as_columns() -> None:
    texts, cells = INJECTION.tables["texts"], CELL.tables["cells"]
    assert list(texts)[:4] == ["edited", "times", "prompt", "text"]
    assert texts["times"] == [1.0, 2.0, 4.0] * 3 and texts["answers"][0] == "Melania"
    assert len(cells["address"]) == 20 * len(OWNERS) and WHOLE.tables["cells"]["address"][0] == "L1.N11948"
    assert SAME.tables["same"] == {
        "owner": ["trump", "trump"],
        "variant": ["surname", "korean"],
        "same winner": [True, False],
        "relative score": [0.93, None],
    }


def test_the_fingerprint_is_of_what_was_found_and_not_of_when() -> None:
    one = sample()
    other = copy.deepcopy(one)
    other.started, other.seconds, other.provenance = "2027-01-01T00:00:00+00:00", 1.0, {"machine": "another"}
    other.stages[0].reused = True
    other.self_tests[0].milliseconds = 3.0
    assert fingerprint(one) == fingerprint(other)
    other.interventions["amnesia"].summaries[3].mean = 0.123
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) != fingerprint(sample(hash="b" * 16))


def test_keys_are_written_without_what_mlflow_refuses() -> None:
    assert metric_key("ablation/트럼프/accuracy@2") == "ablation/트럼프/accuracy_at_2"
    assert metric_key("a/../b*c//d") == "a/_/b_c/_/d"
    long = metric_key("x" * 300 + "/knowledge_score")
    assert len(long) == 250 and long.endswith("/knowledge_score")
