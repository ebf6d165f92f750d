"""Average precision of every column against scikit-learn, one column at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from runner.localization.precision import average_precision, average_precision_many, precision_of_owners
from specs.language.errors import RunError

FORMATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def drawn(random: np.random.Generator, n: int, width: int, kind: str) -> np.ndarray:
    """Draw values that are all different, heavily tied, all equal, or with infinities and both zeros."""
    match kind:
        case "different":
            return random.normal(size=(n, width))
        case "tied":
            return random.integers(-2, 3, size=(n, width)).astype(np.float64)
        case "equal":
            return np.repeat(random.normal(size=(1, width)), n, axis=0)
        case "extreme":
            return random.choice([-np.inf, np.inf, 0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, 1.5], size=(n, width))
    raise AssertionError(kind)


def labels(random: np.random.Generator, n: int, n_positive: int) -> np.ndarray:
    positive = np.zeros(n, dtype=bool)
    positive[random.choice(n, n_positive, replace=False)] = True
    return positive


def by_scikit_learn(values: torch.Tensor, positive: np.ndarray) -> np.ndarray:
    # scikit-learn takes finite scores alone: ranks keep order and ties.
    ranks = [np.unique(column, return_inverse=True)[1] for column in values.double().numpy().T]
    return np.array([average_precision_score(positive, rank) for rank in ranks])


CASE = {
    "n": st.integers(2, 70),
    "width": st.integers(1, 12),
    "kind": st.sampled_from(["different", "tied", "equal", "extreme"]),
    "dtype": st.sampled_from(FORMATS),
    "seed": st.integers(0, 2**32 - 1),
    "data": st.data(),
}


@given(**CASE)
@settings(max_examples=150, deadline=None)
def test_average_precision_is_that_of_scikit_learn(n, width, kind, dtype, seed, data) -> None:
    random = np.random.default_rng(seed)
    n_positive = data.draw(st.one_of(st.just(1), st.just(n - 1), st.integers(1, n - 1)))
    values = torch.from_numpy(drawn(random, n, width, kind)).to(dtype)
    positive = labels(random, n, n_positive)
    block_bytes = data.draw(st.one_of(st.none(), st.integers(1, 100_000)))
    found = average_precision(values, torch.from_numpy(positive), block_bytes=block_bytes)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), by_scikit_learn(values, positive), rtol=0, atol=1e-12)


def test_raw_values_give_what_scikit_learn_gives_for_them_without_ranks_between() -> None:
    random = np.random.default_rng(1)
    for values in (random.normal(size=(400, 30)), np.round(random.normal(size=(400, 30)), 1)):
        values = values.astype(np.float32)
        positive = labels(random, 400, 70)
        expected = [average_precision_score(positive, column) for column in values.T]
        found = average_precision(torch.from_numpy(values), torch.from_numpy(positive)).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@given(**CASE)
@settings(max_examples=60, deadline=None)
def test_owners_that_share_a_sort_are_each_as_if_alone(n, width, kind, dtype, seed, data) -> None:
    random = np.random.default_rng(seed)
    values = torch.from_numpy(drawn(random, n, width, kind)).to(dtype)
    members, positive = [], []
    for _ in range(data.draw(st.integers(1, 9))):
        size = int(random.integers(2, n + 1))
        chosen = random.choice(n, size, replace=False)
        members.append(np.isin(np.arange(n), chosen))
        positive.append(np.isin(np.arange(n), chosen[: int(random.integers(1, size))]))
    found = precision_of_owners(
        values,
        torch.from_numpy(np.array(members)),
        torch.from_numpy(np.array(positive)),
        block_bytes=data.draw(st.integers(1, 50_000)),
    ).numpy()
    for row, member, own in zip(found, members, positive, strict=True):
        alone = by_scikit_learn(values[torch.from_numpy(member)], own[member])
        np.testing.assert_allclose(row, alone, rtol=0, atol=1e-12)


@given(**CASE)
@settings(max_examples=40, deadline=None)
def test_neither_the_order_of_prompts_nor_the_scale_of_values_matters(n, width, kind, dtype, seed, data) -> None:
    random = np.random.default_rng(seed)
    values = torch.from_numpy(drawn(random, n, width, kind)).to(dtype)
    positive = torch.from_numpy(labels(random, n, data.draw(st.integers(1, n - 1))))
    found = average_precision(values, positive)
    shuffled = torch.from_numpy(random.permutation(n))
    torch.testing.assert_close(average_precision(values[shuffled], positive[shuffled]), found, rtol=0, atol=1e-14)
    # Strictly rising, and it rounds nothing together: a power of two, and ranks.
    halved = torch.where(values.abs() < 1e30, values.double() * 2 + 0, values.double() * 2)
    torch.testing.assert_close(average_precision(halved, positive), found, rtol=0, atol=1e-14)
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in values.double().numpy().T], axis=1)
    ranked = average_precision(torch.from_numpy(ranks.astype(np.float32)), positive)
    torch.testing.assert_close(ranked, found, rtol=0, atol=1e-14)


def test_labellings_share_a_sort_and_a_shuffled_one_has_about_the_base_rate() -> None:
    random = np.random.default_rng(0)
    own = labels(random, 500, 100)
    values = torch.from_numpy(random.normal(size=(500, 40)) + 2 * own[:, None]).float()
    shuffled = np.array([own, *(random.permutation(own) for _ in range(8))])
    found = average_precision_many(values, torch.from_numpy(shuffled))
    assert torch.equal(found[0], average_precision(values, torch.from_numpy(own)))
    assert float(found[0].min()) > 0.7
    assert abs(float(found[1:].mean()) - 0.2) < 0.02


def test_columns_may_be_a_part_of_a_table_which_is_left_as_it_is() -> None:
    table = torch.tensor([[-0.0, 1.0], [0.0, 2.0], [-1.0, 3.0]])
    kept = table.clone()
    positive = torch.tensor([True, False, False])
    assert average_precision(table[:, :1], positive).tolist() == [0.5]
    assert torch.equal(torch.signbit(table), torch.signbit(kept))


def test_values_of_a_pass_and_values_with_a_gradient_are_taken_as_they_are() -> None:
    positive = torch.tensor([True, False, False])
    for values in (torch.rand(3, 5), torch.rand(3, 5, requires_grad=True)):
        expected = average_precision(values.detach(), positive)
        with torch.inference_mode():
            read = values * 1
            assert torch.equal(average_precision(read, positive), expected)
        assert torch.equal(average_precision(read, positive), expected)
        assert not average_precision(values, positive).requires_grad


def test_no_columns_give_no_scores() -> None:
    assert average_precision(torch.empty(3, 0), torch.tensor([True, False, False])).shape == (0,)


def test_threads_of_torch_are_as_many_afterwards_as_before() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RunError):
        average_precision(torch.full((3, 4), torch.nan), torch.tensor([True, False, False]))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("dtype", FORMATS)
def test_what_is_not_a_number_is_refused_at_its_place(dtype: torch.dtype) -> None:
    values = torch.zeros(4, 9, dtype=dtype)
    values[2, 7] = torch.nan
    with pytest.raises(RunError, match=r"not a number \(prompt 2, neuron 7 of its layer\)"):
        average_precision(values, torch.tensor([True, False, False, False]), block_bytes=300)


@pytest.mark.parametrize("own", [[False, False, False], [True, True, True]])
def test_prompts_of_one_kind_are_refused_by_owner(own: list[bool]) -> None:
    positive = torch.tensor([[True, False, False], own])
    with pytest.raises(RunError, match=f"for capital {sum(own)} of 3 prompts are positive"):
        precision_of_owners(torch.zeros(3, 2), torch.ones_like(positive), positive, names=["wife", "capital"])


def test_a_positive_that_is_not_compared_and_shapes_that_do_not_fit_are_mistakes_of_the_caller() -> None:
    positive = torch.tensor([[True, False, False]])
    with pytest.raises(ValueError, match="not among the prompts"):
        precision_of_owners(torch.zeros(3, 2), ~positive, positive)
    with pytest.raises(ValueError, match="n_prompts"):
        average_precision(torch.zeros(4, 2), positive[0])
    with pytest.raises(TypeError):
        average_precision(torch.zeros(3, 2), positive[0].long())
