"""What an edit does to a tensor: the chosen coordinates and no others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interventions import VERBS, copy_nodes, hold

N_NODES, WIDTH = 5, 7
coordinates = st.lists(
    st.tuples(st.integers(0, N_NODES - 1), st.integers(0, WIDTH - 1), st.floats(-100, 100, width=32)),
    min_size=1,
    max_size=10,
    unique_by=lambda edit: edit[:2],
)


def values(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(N_NODES, WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)


def apply(verb: str, before: torch.Tensor, edits: list[tuple[int, int, float]]) -> torch.Tensor:
    nodes, neurons, amounts = zip(*edits, strict=True)
    return VERBS[verb](before.clone(), torch.tensor(nodes), torch.tensor(neurons), torch.tensor(amounts))


@settings(max_examples=100, deadline=None)
@given(edits=coordinates)
def test_scale_multiplies_the_chosen_coordinates_and_no_others(edits: list[tuple[int, int, float]]) -> None:
    before, after = values(), apply("scale", values(), edits)
    wanted = before.clone()
    for node, neuron, amount in edits:
        wanted[node, neuron] *= amount
    assert torch.equal(after, wanted)


@settings(max_examples=100, deadline=None)
@given(edits=coordinates)
def test_set_writes_the_chosen_coordinates_and_no_others(edits: list[tuple[int, int, float]]) -> None:
    after = apply("set", values(), edits)
    wanted = values()
    for node, neuron, amount in edits:
        wanted[node, neuron] = amount
    assert torch.equal(after, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_factor_of_one_is_the_identity_in_every_number_format(dtype: torch.dtype) -> None:
    every = [(node, neuron, 1.0) for node in range(N_NODES) for neuron in range(WIDTH)]
    after = apply("scale", values(dtype), every)
    assert after.dtype == dtype and torch.equal(after, values(dtype))


def test_a_factor_that_bfloat16_does_not_have_is_applied_before_rounding() -> None:
    """-0.6 is no bfloat16; rounding it first would give another product."""
    before = values(torch.bfloat16)
    after = apply("scale", before, [(2, 3, -0.6)])
    assert after[2, 3] == (before[2, 3].float() * -0.6).to(torch.bfloat16)


def test_zero_ablation_is_the_same_by_scale_and_by_set() -> None:
    edits = [(1, 2, 0.0), (4, 6, 0.0)]
    assert torch.equal(apply("scale", values(), edits), apply("set", values(), edits))


def test_two_factors_one_after_another_are_their_product() -> None:
    twice = apply("scale", apply("scale", values(), [(1, 2, -2.0)]), [(1, 2, 4.0)])
    assert torch.equal(twice, apply("scale", values(), [(1, 2, -8.0)]))


@pytest.mark.parametrize("columns", [None, torch.tensor([1, 4])])
def test_a_copied_node_is_that_of_its_twin_in_the_site_alone(columns: torch.Tensor | None) -> None:
    before = values()
    after = copy_nodes(before.clone(), torch.tensor([3, 4]), torch.tensor([0, 1]), columns)
    wanted = before.clone()
    for to, source in ((3, 0), (4, 1)):
        if columns is None:
            wanted[to] = before[source]
        else:
            wanted[to, columns] = before[source, columns]
    assert torch.equal(after, wanted)


@pytest.mark.parametrize("columns", [None, torch.tensor([1, 4])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_held_node_has_the_stored_values_in_the_model_s_format(
    columns: torch.Tensor | None, dtype: torch.dtype
) -> None:
    width = WIDTH if columns is None else 2
    held = torch.arange(2 * width, dtype=torch.float32).reshape(2, width) / 3
    after = hold(values(dtype), torch.tensor([0, 2]), held, columns)
    assert after.dtype == dtype
    where = slice(None) if columns is None else columns
    assert torch.equal(after[[0, 2]][:, where], held.to(dtype))
    assert torch.equal(after[[1, 3, 4]], values(dtype)[[1, 3, 4]])
    if columns is not None:
        rest = [c for c in range(WIDTH) if c not in columns.tolist()]
        assert torch.equal(after[:, rest], values(dtype)[:, rest])
