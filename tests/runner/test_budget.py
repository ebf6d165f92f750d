"""Limits of a pass: they fit the budget, and depend on nothing but model and device."""

from __future__ import annotations

import pytest
import torch

from runner.budget import CPU_BYTES, LEAST_NODES, fitted_limits, pass_bytes
from runner.families import shape_of
from tests.tiny import tiny_model

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", ["llama", "gemma2", "mpt", "gpt2"])
def test_a_small_model_gets_full_passes(family):
    model = tiny_model(family)
    limits = fitted_limits(model.config, shape_of(model), torch.float32, CPU, "sdpa")
    assert limits.pass_nodes == (512 if family == "mpt" else 1024)


@pytest.mark.parametrize(("d_mlp", "layers"), [(18_944, 28), (28_672, 80), (200_000, 100)])
def test_a_wide_model_gets_passes_that_fit(d_mlp, layers):
    model = tiny_model("llama")
    shape = shape_of(model)
    wide = type(shape)(**{**vars(shape), "d_mlp": (d_mlp,) * layers})
    limits = fitted_limits(model.config, wide, torch.float32, CPU, "eager")
    fits = pass_bytes(limits, model.config, wide, torch.float32, CPU, "eager") <= CPU_BYTES
    assert fits or limits.pass_nodes == LEAST_NODES
    assert limits.row_nodes <= limits.pass_nodes
