"""Rankings against plain numpy: the formulas, the floor, the guards, dominance and the random null."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.bind import Binder
from runner.compile import compile_plan
from runner.execute import Engine
from runner.localization.columns import Columns
from runner.localization.localize import KEPT, localize, rank_randomly
from runner.localization.metrics import EPSILON, METRICS, Statistics
from runner.localization.ranking import GroupData, RankingData
from runner.plan import LocalizeStage
from runner.run import ranking_result
from specs.language.errors import RunError
from specs.language.load import load
from specs.language.references import Address
from tests.oracle import run_alone
from tests.runner.conftest import SPEC, Answer
from tests.runner.test_compile import tokenizer
from tests.tiny import tiny_model

N_LAYERS, WIDTH = 3, 48
Staged = Callable[..., LocalizeStage]


@lru_cache
def model() -> Any:
    return tiny_model("llama", vocab_size=len(tokenizer()), max_position_embeddings=256)


@pytest.fixture
def staged(tmp_path: Path) -> Staged:
    """The only ranking of the spec after replacing some of its text."""

    def make(*changes: tuple[str, str]) -> LocalizeStage:
        text = SPEC.replace("{MODEL}", "smollm2-135m")
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "spec.yaml"
        path.write_text(text, encoding="utf-8")
        experiment = load(path).cells[0].experiment
        return compile_plan(experiment, Binder(tokenizer()), N_LAYERS).localize[0]

    return make


def scored(metric: str, *statistics: np.ndarray, floor: float = 0.1) -> np.ndarray:
    return METRICS[metric](Statistics(*map(torch.from_numpy, statistics), std_floor=floor)).numpy()


def read_alone(stage: LocalizeStage, members: Sequence[int]) -> np.ndarray:
    """Read the site with plain hooks, one prompt at a time: ``[n_prompts, n_layers, width]`` in float64."""
    rows = []
    for i in members:
        sequence = stage.job.sequences[i]
        seen, _ = run_alone(model(), sequence.ids)
        rows.append(np.stack([seen[layer][sequence.read[0]].double().numpy() for layer in stage.layers]))
    return np.stack(rows)


def expected(metric: str, values: np.ndarray, baseline: np.ndarray, floor: float) -> np.ndarray:
    """Write the published formulas down once more."""
    if metric == "mean_activation":
        return np.asarray(np.abs(values.mean(0)))
    z = (values - baseline.mean(0)) / (baseline.std(0) + EPSILON)
    if metric == "z_score":
        return np.asarray(np.abs(z.mean(0)))
    return np.asarray(z.mean(0) ** 2 / np.maximum(z.std(0), floor))


@pytest.mark.parametrize("metric", ["stability", "z_score", "mean_activation"])
@pytest.mark.parametrize("floor", [0.1, 0.7])
def test_scores_are_the_published_formula_on_activations_read_with_plain_hooks(
    staged: Staged, metric: str, floor: float
) -> None:
    against = "" if metric == "mean_activation" else ", against: neutral"
    floored = f", std_floor: {floor}" if metric == "stability" else ""
    stage = staged(
        (
            "{metric: stability, prompts: names, against: neutral}",
            f"{{metric: {metric}, prompts: names{against}{floored}}}",
        )
    )
    data, _ = localize(Engine(model()), stage)
    baseline = read_alone(stage, stage.baseline) if stage.baseline else np.zeros((1, N_LAYERS, WIDTH))
    for owner, members in stage.groups.items():
        values = read_alone(stage, members)
        wanted = expected(metric, values, baseline, floor)
        group = data.groups[owner]
        np.testing.assert_allclose(group.score, wanted, rtol=2e-3, atol=1e-4 * wanted.max())
        assert group.mean is not None and group.std is not None
        np.testing.assert_allclose(group.mean, values.mean(0), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(group.std, values.std(0), rtol=1e-3, atol=1e-5)
        assert int(group.order()[0]) == int(wanted.argmax())


def test_values_per_prompt_are_kept_for_the_best_neurons(staged: Staged) -> None:
    stage = staged()
    data, _ = localize(Engine(model()), stage)
    values = read_alone(stage, stage.groups["obama"])
    group = data.groups["obama"]
    assert len(group.values) == KEPT
    assert next(iter(group.values)) == divmod(int(group.order()[0]), WIDTH)
    for (layer, neuron), kept in group.values.items():
        np.testing.assert_allclose(kept, values[:, layer, neuron], rtol=1e-3, atol=1e-5)
    assert group.prompts == [stage.prompts[i].text.text for i in stage.groups["obama"]]


def test_layers_that_are_left_out_are_not_ranked(staged: Staged) -> None:
    whole, _ = localize(Engine(model()), staged())
    part, _ = localize(Engine(model()), staged(("against: neutral}", "against: neutral, layers: 1-2}")))
    assert part.layers == (1, 2)
    np.testing.assert_allclose(part.groups["trump"].score, whole.groups["trump"].score[1:], rtol=1e-4)
    assert part.chosen("trump")[0].layer in (1, 2)


# -- metrics ------------------------------------------------------------------------------------------------------

numbers = st.floats(-50, 50, allow_nan=False, width=32)
arrays = st.lists(numbers, min_size=4, max_size=4).map(lambda v: np.array([v], dtype=np.float64))
positive = st.lists(st.floats(0, 20, width=32), min_size=4, max_size=4).map(lambda v: np.array([v], dtype=np.float64))


@settings(max_examples=200, deadline=None)
@given(mean=arrays, std=positive, base=arrays, base_std=positive, metric=st.sampled_from(sorted(METRICS)))
def test_scores_are_finite_not_negative_and_blind_to_the_sign(
    mean: np.ndarray, std: np.ndarray, base: np.ndarray, base_std: np.ndarray, metric: str
) -> None:
    score = scored(metric, mean, std, base, base_std)
    turned = scored(metric, -mean, std, -base, base_std)
    assert np.isfinite(score).all() and (score >= 0).all()
    np.testing.assert_array_equal(score, turned)


def test_the_floor_keeps_a_constant_neuron_from_winning() -> None:
    """Neuron 0 stands 2 stds out and never moves; neuron 1 stands 10 stds out and moves a little."""
    mean, std = np.array([[2.0, 10.0]]), np.array([[1e-6, 0.5]])
    base, base_std = np.zeros((1, 2)), np.ones((1, 2))
    floored = scored("stability", mean, std, base, base_std, floor=0.1)
    bare = scored("stability", mean, std, base, base_std, floor=0.0)
    assert floored.argmax() == 1 and bare.argmax() == 0
    np.testing.assert_allclose(floored, [[4 / 0.1, 100 / 0.5]], rtol=1e-5)


def test_a_neuron_that_never_moves_has_no_score() -> None:
    zero = np.zeros((1, 3))
    assert (scored("stability", zero, zero, zero, zero) == 0).all()


# -- guards -------------------------------------------------------------------------------------------------------


def test_fewer_prompts_than_the_metric_needs_are_refused_after_binding(staged: Staged) -> None:
    """All eight are written; one cannot be bound, and seven are not enough."""
    stage = staged(
        ("trump: Donald Trump", "trump: Donald Tru"), ("The age of {{ entity }}", "The age of {{ entity }}mp")
    )
    with pytest.raises(RunError, match=r"'cell' has 7 prompts about trump; stability needs 8") as caught:
        localize(Engine(model()), stage)
    assert "near-constant neurons win" in caught.value.remedy


def test_a_run_with_too_few_prompts_left_is_partial_with_its_reason(
    command: Callable[..., Answer], write_spec: Callable[..., Path], workplace: Path
) -> None:
    spec = write_spec(
        ("trump: Donald Trump", "trump: Donald Tru"), ("The age of {{ entity }}", "The age of {{ entity }}mp")
    )
    answer = command(spec, "--no-track")
    assert answer.code == 4 and "has 7 prompts" in answer.err and "Traceback" not in answer.all


# -- dominance ----------------------------------------------------------------------------------------------------


def ranking_of(*rows: Sequence[float]) -> RankingData:
    score = np.array(rows, dtype=np.float32)
    return RankingData(
        "cell",
        "stability",
        Columns(("mlp.neurons",), (len(rows[0]),)),
        tuple(range(len(rows))),
        1,
        {"x": GroupData.of(score)},
    )


def test_dominance_is_the_score_over_the_mean_of_the_next_five_of_the_layer() -> None:
    data = ranking_of([60, 5, 4, 3, 2, 1, 0.5], [50, 50, 50, 50, 50, 50, 50])
    assert data.dominance("x", Address("mlp.neurons", 0, 0)) == pytest.approx(60 / 3)
    assert data.dominance("x", Address("mlp.neurons", 1, 3)) == pytest.approx(1)


def test_dominance_of_a_lower_rank_looks_at_those_below_it() -> None:
    data = ranking_of([60, 30, 5, 4, 3, 2, 1])
    assert data.dominance("x", Address("mlp.neurons", 0, 1)) == pytest.approx(30 / 3)


def test_dominance_has_no_value_without_five_others_or_over_nothing() -> None:
    assert ranking_of([9, 1, 1, 1, 1]).dominance("x", Address("mlp.neurons", 0, 0)) is None
    assert ranking_of([9, 0, 0, 0, 0, 0]).dominance("x", Address("mlp.neurons", 0, 0)) is None


def test_equal_scores_keep_the_order_of_layer_and_neuron() -> None:
    assert [str(a) for a in ranking_of([1, 2, 2], [2, 1, 3]).slice("x", 1, 4)] == ["L1.N2", "L0.N1", "L0.N2", "L1.N0"]


def test_ranks_count_from_either_end_and_address_the_layers_that_were_ranked() -> None:
    data = ranking_of([1, 2, 3], [6, 5, 4])
    data.layers = (4, 9)
    assert [str(a) for a in data.slice("x", 1, 2)] == ["L9.N0", "L9.N1"]
    assert [str(a) for a in data.slice("x", -2, -1)] == ["L4.N1", "L4.N0"]
    assert data.rank_of("x", Address("mlp.neurons", 4, 2)) == (4, 3.0)


# -- the random null and shared winners -----------------------------------------------------------------------------


def test_the_random_metric_depends_on_seed_name_and_owner_alone(staged: Staged) -> None:
    stage = staged(("{metric: stability, prompts: names, against: neutral}", "{metric: random, prompts: names}"))
    first, again, other = (rank_randomly(WIDTH, stage, seed) for seed in (0, 0, 1))
    assert first["trump"].score.shape == (N_LAYERS, WIDTH)
    np.testing.assert_array_equal(first["trump"].score, again["trump"].score)
    assert (first["trump"].score != first["obama"].score).all()
    assert (first["trump"].score != other["trump"].score).all()


def test_a_run_with_the_random_metric_works_from_end_to_end(
    command: Callable[..., Answer], write_spec: Callable[..., Path]
) -> None:
    spec = write_spec(("{metric: stability, prompts: names, against: neutral}", "{metric: random, prompts: names}"))
    answer = command(spec, "--no-track", "--json", "--only", "amnesia")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert set(found["cells"]["cell"]) == {"trump", "obama"}


def test_a_neuron_that_wins_for_two_entities_is_no_cell_and_warned_of(staged: Staged) -> None:
    stage = staged()
    score = np.zeros((N_LAYERS, WIDTH), dtype=np.float32)
    score[1, 7], score[0, :6] = 9, 1
    data = RankingData(
        "cell",
        "stability",
        Columns(("mlp.neurons",), (WIDTH,)),
        (0, 1, 2),
        1,
        {o: GroupData.of(score) for o in stage.groups},
    )
    made = ranking_result(stage, data)
    assert made.shared_winners == {"L1.N7": ["trump", "obama"]}
    (warning,) = made.warnings
    assert warning == "L1.N7 wins for 2 of 2 entities (trump, obama): it is not a cell of any of them"
    other = np.zeros_like(score)
    other[2, 2] = 9
    data.groups["obama"] = GroupData.of(other)
    assert ranking_result(stage, data).warnings == []
