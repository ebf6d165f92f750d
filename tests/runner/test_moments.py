"""Streamed means and standard deviations against numpy on all values at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.bind import Binder
from runner.compile import compile_plan
from runner.execute import Engine
from runner.localization.localize import localize
from runner.localization.moments import BYTES_PER_VALUE, Moments
from runner.plan import LocalizeStage
from runner.program import Limits
from specs.language.load import load
from tests.runner.conftest import SPEC
from tests.runner.test_compile import tokenizer
from tests.runner.test_localize import N_LAYERS, WIDTH, model


@given(
    st.integers(1, 5),
    st.integers(1, 60),
    st.sampled_from([0.0, 1.0, 1e3, -1e6]),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_streamed_moments_are_those_of_all_values(n_owners, n_passes, offset, dtype, seed) -> None:
    random = np.random.default_rng(seed)
    moments = Moments(n_owners, 2)
    owners = [np.arange(n_owners), *(random.integers(0, n_owners, random.integers(1, 9)) for _ in range(n_passes))]
    passes = [(o, [torch.from_numpy(offset + random.normal(size=(len(o), 3))).to(dtype) for _ in "ab"]) for o in owners]
    for owner, values in passes:
        moments.add(owner, values)
    every = np.concatenate(owners)
    for layer in range(2):
        values = np.concatenate([v[layer].double().numpy() for _, v in passes])
        for owner in range(n_owners):
            mean, std = (m[layer].numpy() for m in moments.of(owner))
            mine = values[every == owner]
            np.testing.assert_allclose(mean, mine.mean(axis=0), rtol=1e-13, atol=1e-12)
            np.testing.assert_allclose(std, mine.std(axis=0), rtol=1e-9, atol=1e-12)


def test_a_mean_far_above_the_spread_keeps_its_digits() -> None:
    """The sum of squares without a shift would leave nothing of a spread of 1e-3 around 1e7."""
    random = np.random.default_rng(0)
    values = 1e7 + 1e-3 * random.normal(size=(500, 4))
    moments = Moments(1, 1)
    for part in np.array_split(values, 50):
        # float64 values: float32 has no such numbers, and the sums must not be what loses them
        moments.add(np.zeros(len(part), dtype=np.int64), [torch.from_numpy(part)])
    mean, std = moments.of(0)
    np.testing.assert_allclose(std[0], values.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(mean[0], values.mean(axis=0), rtol=1e-15)


def test_a_value_that_is_not_finite_shows() -> None:
    moments = Moments(2, 1)
    moments.add(np.array([0, 1, 1]), [torch.tensor([[1.0], [2.0], [float("inf")]])])
    assert torch.isfinite(moments.of(0)[0]).all() and not torch.isfinite(moments.of(1)[0]).all()


@pytest.fixture
def stage(tmp_path) -> LocalizeStage:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.replace("{MODEL}", "smollm2-135m"), encoding="utf-8")
    return compile_plan(load(path).cells[0].experiment, Binder(tokenizer()), N_LAYERS).localize[0]


def test_memory_for_reading_decides_no_number(stage: LocalizeStage) -> None:
    """All owners at once, one at a time, and owners too large to be kept, which are read twice."""
    whole = localize(Engine(model()), stage)[0]
    largest = max(len(m) for m in stage.groups.values())
    one_owner = N_LAYERS * WIDTH * (BYTES_PER_VALUE + largest * 4)
    for reading in (one_owner, 1):
        engine = Engine(model(), reading_bytes=reading)
        ranking, outcomes = localize(engine, stage)
        assert len(outcomes) == 1 + len(stage.groups)
        for owner, group in whole.groups.items():
            other = ranking.groups[owner]
            for name, values in group.arrays().items():
                np.testing.assert_allclose(other.arrays()[name], values, rtol=2e-5, atol=1e-7)
            assert list(other.values) == list(group.values)
            for place, column in group.values.items():
                np.testing.assert_allclose(other.values[place], column, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_together_have_the_bits_of_rows_alone(stage: LocalizeStage, dtype: torch.dtype) -> None:
    """The same rows in passes of one, of some and of all: every bit of every statistic."""
    engine = Engine(replace_dtype(dtype), limits=Limits(64, 64, 1))
    one = localize(engine, stage)[0]
    for nodes in (128, 100_000):
        many = localize(Engine(engine.model, limits=replace(engine.limits, pass_nodes=nodes, rows=1000)), stage)[0]
        for owner, group in one.groups.items():
            for name, values in group.arrays().items():
                np.testing.assert_array_equal(many.groups[owner].arrays()[name], values)


def replace_dtype(dtype: torch.dtype):
    from tests.tiny import tiny_model

    return tiny_model("llama", vocab_size=len(tokenizer()), max_position_embeddings=256, dtype=dtype)
