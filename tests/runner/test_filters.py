"""Filters of neurons: properties, conditions, candidates joined with their own results, and the placebo."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.bind import Binder
from runner.chosen import Chosen, dropped
from runner.compile import compile_ask, compile_plan
from runner.figures import Figures
from runner.filters import interventions_read, judge
from runner.localization.columns import Columns
from runner.localization.ranking import GroupData, RankingData, dominance_of
from runner.neurons import NeuronSets
from runner.observe import Asked, Observation, Row
from runner.plan import AskStage, Condition
from runner.properties import Properties, meets
from runner.resolve import Resolver
from specs.language.conditions import holds, parse_condition
from specs.language.experiment import Experiment, NeuronSet
from specs.language.load import load
from specs.language.references import Address, is_measure, parse_result_path
from tests.runner.conftest import SPEC
from tests.runner.test_compile import tokenizer

N_LAYERS, WIDTH = 3, 48
WIDTHS = {("mlp.neurons", layer): WIDTH for layer in range(N_LAYERS)}
TRUMP = {(1, 5): 90.0, (0, 3): 80.0, (2, 7): 70.0}
OBAMA = {(2, 9): 60.0, (1, 11): 50.0, (0, 12): 40.0}
"""(layer, neuron): score of the three best; all others score about 1."""


def planted(best: Mapping[tuple[int, int], float], seed: int) -> GroupData:
    random = np.random.default_rng(seed)
    score = random.uniform(0.9, 1.1, (N_LAYERS, WIDTH)).astype(np.float32)
    for place, value in best.items():
        score[place] = value
    mean = random.normal(size=(N_LAYERS, WIDTH)).astype(np.float32)
    return GroupData.of(score, mean, np.abs(mean))


def ranking(top: int = 1) -> RankingData:
    groups = {"trump": planted(TRUMP, 0), "obama": planted(OBAMA, 1)}
    shape = (N_LAYERS, WIDTH)
    return RankingData(
        "cell",
        "stability",
        Columns(("mlp.neurons",), (WIDTH,)),
        (0, 1, 2),
        top,
        groups,
        baseline_mean=np.zeros(shape, dtype=np.float32),
        baseline_std=np.full(shape, 0.5, dtype=np.float32),
    )


# -- properties ---------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0, 3.5, 40.0]) | st.floats(0, 100, width=32), min_size=4),
)
def test_dominance_of_all_neurons_is_that_of_each(values: list[float]) -> None:
    score = np.array([values], dtype=np.float32)
    data = RankingData("r", "stability", Columns(("mlp.neurons",), (len(values),)), (4,), 1, {"a": GroupData.of(score)})
    found = Properties(data, "a").of("dominance")
    for neuron in range(len(values)):
        wanted = dominance_of(score[0], neuron)
        if wanted is None:
            assert math.isnan(found[0, neuron])
        else:
            assert found[0, neuron] == pytest.approx(wanted, rel=1e-5)


def test_every_property_is_what_the_ranking_says_of_the_neuron() -> None:
    data = ranking()
    p = Properties(data, "trump")
    address = Address("mlp.neurons", 2, 7)
    place = (2, 7)
    assert p.of("rank")[place] == data.rank_of("trump", address)[0] == 3
    assert p.of("score")[place] == 70.0
    assert (p.of("layer")[place], p.of("neuron")[place]) == (2.0, 7.0)
    mean_z, std_z = data.z(data.groups["trump"], 2, 7)
    assert p.of("mean_z")[place] == pytest.approx(mean_z)
    assert p.of("std_z")[place] == pytest.approx(std_z)
    assert p.of("share").sum() == pytest.approx(1.0)
    assert p.of("share")[place] == pytest.approx(70.0 / data.groups["trump"].score.sum(), rel=1e-6)


CONDITIONS = [
    "x >= 2",
    "x > 2",
    "x <= 2",
    "x < 2",
    "x = 2",
    "x != 2",
    "x in 1-2, 4",
    "x in 2",
    "x in -1-0.5",
    "x within 1 of 2",
    "x within 0.1 of 0.3",
    "x = 0.3",
]


@settings(max_examples=200, deadline=None)
@given(
    text=st.sampled_from(CONDITIONS),
    values=st.lists(
        st.sampled_from([0.0, -1.0, 0.2, 0.1 + 0.2, 0.3, 0.4, 1.0, 2.0, 2.0000000001, 3.0, 4.0, float("nan")])
        | st.floats(-5, 5),
        min_size=1,
    ),
)
def test_many_numbers_meet_a_condition_as_each_does(text: str, values: list[float]) -> None:
    condition = parse_condition(text)
    found = meets(condition, np.array(values))
    assert found.tolist() == [holds(condition, None if math.isnan(v) else v) for v in values]


# -- filters on the ranking ----------------------------------------------------------------------------------------


def conditions(*texts: str) -> NeuronSet:
    return NeuronSet.model_validate({"of": "cell", "where": list(texts)})


def test_all_neurons_of_a_ranking_are_candidates_best_first() -> None:
    judgement = judge(conditions("dominance >= 10", "layer in 0-1"), "trump", None, Properties(ranking(), "trump"), {})
    assert [str(a) for a in judgement.passed] == ["L1.N5", "L0.N3"]
    assert judgement.candidates == N_LAYERS * WIDTH and judgement.left == (3, 2)
    assert [(str(j.address), j.failed) for j in judgement.judged[:4]] == [
        ("L1.N5", None),
        ("L0.N3", None),
        ("L2.N7", 1),
        (str(judgement.judged[3].address), 0),
    ]
    assert judgement.judged[2].figures[1].value == 2.0


def test_nothing_passes_an_impossible_filter() -> None:
    judgement = judge(conditions("score > 1000"), "trump", None, Properties(ranking(), "trump"), {})
    assert judgement.passed == () and judgement.left == (0,)
    assert all(j.failed == 0 for j in judgement.judged)


# -- filters on results --------------------------------------------------------------------------------------------

Value = Callable[[str, str, int, str, str], dict[str, float]]
"""(owner, condition, draw, role, rank) -> measures of a row."""

VERIFY = """\
interventions:
  verify:
    edit: {scale: -1, neurons: {of: cell, rank: [1, 2, 3]}}
    ask: questions
    unknown: nobody
    measure: [knowledge_loss_clipped, answer_probability]
    controls: {random_neurons: 4}
"""
CHECKED = """\
neurons:
  verified:
    of: cell
    where:
      - dominance >= 10
      - verify/knowledge_loss_clipped >= 0.10
      - verify/others/knowledge_loss_clipped <= 0.05
"""
LATER = """\
  later:
    edit: {scale: [0, -2], neurons: verified}
    ask: questions
    unknown: nobody
    measure: [answer_probability]
"""


def loss(owner: str, condition: str, draw: int, role: str, rank: str) -> dict[str, float]:
    """Trump: rank 1 hurts nobody, rank 2 hurts others too, rank 3 hurts him alone. Obama: nothing hurts him."""
    own = {"trump": {"1": 0.02, "2": 0.6, "3": 0.4}, "obama": {"1": 0.05, "2": 0.01, "3": 0.09}}
    on_others = {"trump": {"1": 0.0, "2": 0.3, "3": 0.01}, "obama": {"1": 0.0, "2": 0.0, "3": 0.0}}
    if condition == "random_neurons":
        # Draw 2 at Obama's rank 2 hurts him and nobody else; draw 3 at Trump's rank 1 hurts others too.
        value = 0.5 if (owner, draw, rank) in {("obama", 2, "2"), ("trump", 3, "1")} else 0.0
        if role == "others":
            value = 0.4 if owner == "trump" else 0.0
    elif condition == "edit":
        value = (own if role == "target" else on_others)[owner][rank]
    else:
        value = 0.0
    return {"knowledge_loss_clipped": value, "answer_probability": 0.5}


@pytest.fixture
def experiment_of(tmp_path: Path) -> Callable[..., Experiment]:
    def make(neurons: str = CHECKED, later: str = LATER, verify: str = VERIFY, top: int = 1) -> Experiment:
        text = SPEC.replace("{MODEL}", "smollm2-135m").replace("against: neutral}", f"against: neutral, top: {top}}}")
        text = text[: text.index("interventions:")] + neurons + verify + later
        path = tmp_path / "spec.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path).cells[0].experiment

    return make


def observed(stage: AskStage, value: Value = loss) -> list[Row]:
    """Rows with planted measures, as a run would have found them."""
    rows = []
    numbers: dict[Any, int] = {}
    for planned in stage.rows:
        rank = str(dict(planned.axes).get("rank", ""))
        question = planned.question.text
        values: dict[str, float | str | None] = dict(
            value(planned.edited, planned.condition, planned.draw, planned.role, rank)
        )
        asked = Asked(
            intervention=stage.name,
            edited=planned.edited,
            condition=planned.condition,
            draw=planned.draw,
            role=planned.role,
            axes=dict(planned.axes),
            prompt_id=numbers.setdefault((question, planned.prompt.text.text), len(numbers)),
            prompt=planned.prompt.text.text,
            entity=question.entity,
            relation=question.relation,
        )
        rows.append(Row(asked, Observation(), values=values))
    return rows


def chosen_of(experiment: Experiment, value: Value = loss, top: int = 1) -> tuple[Chosen, AskStage]:
    """What is known once ``verify`` has been run with planted results."""
    data = {"cell": ranking(top)}
    stage = compile_ask(experiment, "verify", Binder(tokenizer()), N_LAYERS)
    resolver = Resolver(experiment, stage, data, N_LAYERS, widths_of=WIDTHS)
    chosen = Chosen(experiment, data, {"trump": "Donald Trump"}, WIDTHS)
    chosen.figures["verify"] = Figures.of(experiment, stage, resolver, observed(stage, value))
    return chosen, stage


def test_a_candidate_passes_when_its_own_numbers_meet_all_conditions(
    experiment_of: Callable[..., Experiment],
) -> None:
    chosen, _ = chosen_of(experiment_of())
    record = chosen.records()["verified"]
    assert {owner: c.neurons for owner, c in record.owners.items()} == {"trump": ["L2.N7"], "obama": []}
    assert record.size == 1 and record.interventions == ["verify"]
    verdicts = {(c.address): (c.rank, c.failed) for c in record.owners["trump"].candidates}
    assert verdicts == {"L1.N5": (1, 1), "L0.N3": (2, 2), "L2.N7": (3, None)}
    figures = {c.address: c.figures for c in record.owners["trump"].candidates}
    assert figures["L0.N3"][1:] == pytest.approx([0.6, 0.3])
    assert record.owners["trump"].left == [3, 2, 1] and record.owners["obama"].left == [3, 0, 0]
    assert record.funnel == [2, 2, 1, 1]


def test_first_the_filter_then_the_cut_of_the_ranking(experiment_of: Callable[..., Experiment]) -> None:
    def everything(*_: object) -> dict[str, float]:
        return {"knowledge_loss_clipped": 0.5, "answer_probability": 0.5}

    easy = CHECKED.replace("<= 0.05", "<= 0.9")
    for top, wanted in ((1, ["L1.N5"]), (2, ["L1.N5", "L0.N3"])):
        chosen, _ = chosen_of(experiment_of(easy, top=top), everything, top)
        assert chosen.records()["verified"].owners["trump"].neurons == wanted
    own = easy.replace("of: cell\n", "of: cell\n    rank: 2-3\n")
    chosen, _ = chosen_of(experiment_of(own), everything)
    assert chosen.records()["verified"].owners["trump"].neurons == ["L0.N3", "L2.N7"]


def test_the_placebo_is_the_same_filter_on_each_draw(experiment_of: Callable[..., Experiment]) -> None:
    chosen, _ = chosen_of(experiment_of())
    placebo = chosen.records()["verified"].placebo
    assert placebo is not None and placebo.intervention == "verify"
    # Draw 2 verifies a random neuron of Obama's; draw 3 of Trump's hurts others and is refused.
    assert placebo.sizes == [0, 0, 1, 0] and placebo.owners == [0, 0, 1, 0]
    assert placebo.size == 0.25
    assert placebo.left == pytest.approx([2.0, 0.5, 0.25])


def test_random_neurons_keep_the_place_of_the_candidate_they_stand_for(
    experiment_of: Callable[..., Experiment],
) -> None:
    # Were their own dominance asked for, none could ever pass.
    chosen, _ = chosen_of(experiment_of(CHECKED.replace(">= 10", ">= 70")))
    record = chosen.records()["verified"]
    assert record.placebo is not None
    assert record.owners["trump"].left[0] == 2  # 90 and 80 over about 1.1
    assert record.placebo.sizes == [0, 0, 0, 0]  # Obama's candidates have 60, 50, 40


def test_only_random_neurons_that_hurt_their_target_are_asked_about_others(
    experiment_of: Callable[..., Experiment],
) -> None:
    chosen, stage = chosen_of(experiment_of())
    assert stage.deferred == {"others"}
    # owners, questions about the other, ranks, draws
    assert sum(row.deferred for row in stage.rows) == 2 * 2 * 3 * 4
    figures = chosen.figures.pop("verify")
    survivors = chosen.survivors(figures)
    assert survivors == {("obama", 2, (("rank", "2"),)), ("trump", 3, (("rank", "1"),))}


def test_no_random_neuron_is_asked_about_others_where_no_filter_wants_it(
    experiment_of: Callable[..., Experiment],
) -> None:
    without = "".join(line for line in CHECKED.splitlines(keepends=True) if "others" not in line)
    _, stage = chosen_of(experiment_of(without))
    assert stage.deferred == frozenset()
    assert not any(row.condition == "random_neurons" and row.role == "others" for row in stage.rows)


def test_texts_are_asked_of_random_neurons_where_a_filter_reads_them_and_not_for_nothing(
    experiment_of: Callable[..., Experiment],
) -> None:
    verify = VERIFY.replace("ask: questions", "ask: [questions, neutral]").replace(
        "probability]", "probability, perplexity]"
    )

    def on_texts(experiment: Experiment, name: str = "verify") -> set[tuple[str, bool]]:
        stage = compile_ask(experiment, name, Binder(tokenizer()), N_LAYERS)
        return {(row.condition, row.deferred) for row in stage.rows if row.role == "texts"}

    plain = {("clean", False), ("edit", False)}
    assert on_texts(experiment_of(verify=verify)) == plain
    read = CHECKED + "      - verify/texts/perplexity <= 100\n"
    assert on_texts(experiment_of(read, verify=verify)) == {*plain, ("random_neurons", True)}
    # By a perplexity the texts are meant, named or not.
    unnamed = CHECKED + "      - verify/perplexity <= 100\n"
    assert on_texts(experiment_of(unnamed, verify=verify)) == {*plain, ("random_neurons", True)}


def test_what_a_candidate_does_to_texts_stands_beside_its_figures(experiment_of: Callable[..., Experiment]) -> None:
    verify = VERIFY.replace("ask: questions", "ask: [questions, neutral]").replace(
        "probability]", "probability, perplexity]"
    )

    def value(owner: str, condition: str, draw: int, role: str, rank: str) -> dict[str, float]:
        if role == "texts":
            return {"perplexity": 20.0 + (int(rank) if condition == "edit" else 0)}
        return loss(owner, condition, draw, role, rank)

    chosen, _ = chosen_of(experiment_of(verify=verify), value)
    record = chosen.records()["verified"].owners["trump"]
    assert [c.side_effects for c in record.candidates] == [{"verify/perplexity": 20.0 + r} for r in (1, 2, 3)]


def test_owners_for_whom_nothing_passed_are_taken_out_with_the_step_that_failed(
    experiment_of: Callable[..., Experiment],
) -> None:
    experiment = experiment_of()
    chosen, _ = chosen_of(experiment)
    binder = Binder(tokenizer())
    plan = compile_plan(experiment, binder, N_LAYERS)
    assert [stage.name for stage in plan.ask] == ["verify", "later"]
    planned = plan.ask[1]
    assert planned.owners == ("trump", "obama") and planned.after == ("verify",)
    resolver = Resolver(experiment, planned, chosen.rankings, N_LAYERS, figures=chosen.figures, widths_of=WIDTHS)
    kept = compile_ask(experiment, "later", binder, N_LAYERS, resolver.has_neurons)
    assert kept.owners == ("trump",) and kept.wrong == {}
    assert {row.edited for row in kept.rows} == {"trump"}
    (left,) = dropped(chosen, planned, resolver, kept)
    assert left.what == "obama" and left.where == "interventions.later"
    assert "`verify/knowledge_loss_clipped >= 0.1`: 0.05" in left.reason and "L2.N9" in left.reason


def test_an_owner_whose_layers_would_be_held_and_has_none_is_taken_out_too(
    experiment_of: Callable[..., Experiment],
) -> None:
    later = LATER.replace(
        "neurons: verified}", "neurons: cell}\n    freeze: {site: attn.out, layers: verified, position: last}"
    )
    experiment = experiment_of(later=later)
    chosen, _ = chosen_of(experiment)
    planned = compile_ask(experiment, "later", Binder(tokenizer()), N_LAYERS)
    assert planned.after == ("verify",)
    resolver = Resolver(experiment, planned, chosen.rankings, N_LAYERS, figures=chosen.figures, widths_of=WIDTHS)
    kept = compile_ask(experiment, "later", Binder(tokenizer()), N_LAYERS, resolver.has_neurons)
    assert kept.owners == ("trump",)
    (left,) = dropped(chosen, planned, resolver, kept)
    assert left.what == "obama" and "`verify/knowledge_loss_clipped >= 0.1`" in left.reason
    held, _ = resolver.held_places(Condition("later", "edit", "trump", 0, (("scale", 0.0),), "trump"))
    assert held == {("attn.out", 2): ("last",)}


def test_the_order_of_a_run_follows_from_what_is_chosen_by_what(
    experiment_of: Callable[..., Experiment],
) -> None:
    # `later` stands first in the spec.
    later_first = "interventions:\n" + LATER + VERIFY.removeprefix("interventions:\n")
    experiment = experiment_of(later="", verify=later_first)
    plan = compile_plan(experiment, Binder(tokenizer()), N_LAYERS)
    assert [stage.name for stage in plan.ask] == ["verify", "later"]


def test_own_mean_of_a_filtered_set_is_the_mean_of_the_neuron_that_passed(
    experiment_of: Callable[..., Experiment],
) -> None:
    later = LATER.replace("{scale: [0, -2], neurons", "{set: {times: 3, of: own_mean}, neurons")
    experiment = experiment_of(later=later + "    placeholder: nobody\n")
    chosen, _ = chosen_of(experiment)
    stage = compile_ask(experiment, "later", Binder(tokenizer()), N_LAYERS)
    resolver = Resolver(experiment, stage, chosen.rankings, N_LAYERS, figures=chosen.figures, widths_of=WIDTHS)
    ((edit,),) = resolver(Condition("later", "edit", "trump", 0, (("times", 3.0),))).edits
    mean = chosen.rankings["cell"].groups["trump"].mean
    assert mean is not None
    assert (edit.layer, edit.neurons) == (2, (7,))
    assert edit.amounts == pytest.approx([3 * float(mean[2, 7])])


def test_a_neuron_edited_with_others_has_no_figure_of_its_own(experiment_of: Callable[..., Experiment]) -> None:
    experiment = experiment_of(verify=VERIFY.replace("rank: [1, 2, 3]", "top: [1, 3]"))
    chosen, _ = chosen_of(experiment, lambda *_: {"knowledge_loss_clipped": 0.5, "answer_probability": 0.5})
    assert list(chosen.figures["verify"].alone["trump"]) == [Address("mlp.neurons", 1, 5)]
    assert len(chosen.figures["verify"].together["trump"]) == 3


def test_the_interventions_that_a_filter_reads_are_those_of_both_sides() -> None:
    ref = conditions("layer >= 1", "a/knowledge_loss > a/random_neurons/knowledge_loss", "b/others/kl <= 1")
    assert interventions_read(ref) == ("a", "b")


def test_a_result_may_be_compared_with_a_result(experiment_of: Callable[..., Experiment]) -> None:
    text = "neurons:\n  better:\n    of: cell\n    where: verify/knowledge_loss_clipped > "
    text += "verify/random_neurons/knowledge_loss_clipped\n"
    chosen, _ = chosen_of(experiment_of(text, LATER.replace("verified", "better")))
    record = chosen.records()["better"]
    # Trump's rank 1: 0.02 against a mean of 0.125 over draws; rank 2: 0.6 against 0.
    assert record.owners["trump"].neurons == ["L0.N3"]
    assert record.owners["trump"].candidates[0].wanted == [pytest.approx(0.125)]


# -- other ways to make a set --------------------------------------------------------------------------------------


def resolved(experiment: Experiment, ref: NeuronSet, owner: str) -> list[str]:
    found = NeuronSets(experiment, {"cell": ranking()}, WIDTHS).resolve(ref, owner)
    return [str(a) for a in found]


def test_mass_takes_the_fewest_with_that_share_of_all_scores(experiment_of: Callable[..., Experiment]) -> None:
    experiment = experiment_of()
    score = ranking().groups["trump"].score
    total = float(score.sum())
    share = (90 + 80 - 1) / total
    ref = NeuronSet.model_validate({"of": "cell", "mass": share})
    assert resolved(experiment, ref, "trump") == ["L1.N5", "L0.N3"]
    whole = NeuronSet.model_validate({"of": "cell", "mass": 1.0})
    assert len(resolved(experiment, whole, "trump")) == score.size


def test_minus_and_common_compare_sets_of_one_owner_or_of_all(experiment_of: Callable[..., Experiment]) -> None:
    experiment = experiment_of(
        "neurons:\n  a: {of: cell, top: 3}\n  b: [L0.N3, L2.N9]\n" + CHECKED.removeprefix("neurons:\n")
    )

    def made(**fields: Any) -> list[str]:
        return resolved(experiment, NeuronSet.model_validate({"of": "a", **fields}), "trump")

    assert made(minus="b") == ["L1.N5", "L2.N7"]
    assert made(common="b") == ["L0.N3"]
    assert made(minus=["b", "L1.N5"]) == ["L2.N7"]
    assert made(minus="others") == ["L1.N5", "L0.N3", "L2.N7"]
    data = ranking()
    data.groups["obama"] = data.groups["trump"]
    same = NeuronSet.model_validate({"of": "cell", "top": 2, "minus": "others"})
    assert NeuronSets(experiment, {"cell": data}, WIDTHS).resolve(same, "trump") == []


def test_a_drop_in_accuracy_is_that_of_the_neuron_and_its_own_questions() -> None:
    address = Address("mlp.neurons", 1, 5)
    stage: Any = SimpleNamespace(name="verify", axes={})

    def rows(condition: str, *values: float) -> list[Row]:
        asked = [Asked("verify", "a", condition, 0, "target", {}, n, "?") for n in range(len(values))]  # type: ignore[arg-type]
        return [Row(a, Observation(), values={"accuracy@2": v}) for a, v in zip(asked, values, strict=True)]

    figures = Figures(experiment=None, stage=stage, alone={"a": {address: ()}})  # type: ignore[arg-type]
    figures.add([*rows("clean", 1.0, 1.0, 0.0, 0.0), *rows("edit", 1.0, 0.0, 0.0, 0.0)])
    path = parse_result_path("verify/accuracy_drop@2", is_measure)
    assert figures.value(path, "a", address).value == pytest.approx(0.5)
    assert figures.value(path, "a", Address("mlp.neurons", 1, 6)).reason == "it was not edited by verify"
    nothing = Figures(experiment=None, stage=stage, alone={"a": {address: ()}})  # type: ignore[arg-type]
    nothing.add([*rows("clean", 0.0), *rows("edit", 0.0)])
    assert nothing.value(path, "a", address).reason == "the clean model's accuracy@2 is 0, so it has no drop"
