"""The store of values: what was put in comes out, from memory and from a file, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.localization.prompt_values import PromptValues, values_bytes
from specs.language.errors import DiskFull, RunError


@given(
    st.integers(1, 40),
    st.lists(st.integers(0, 7), min_size=1, max_size=4),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_file_and_memory_give_back_what_came_in_any_order(tmp_path_factory, n_prompts, widths, dtype, seed) -> None:
    folder = tmp_path_factory.mktemp("values")
    random = np.random.default_rng(seed)
    whole = [torch.from_numpy(random.normal(size=(n_prompts, width))) for width in widths]
    in_memory, in_file = (PromptValues(n_prompts, widths, dtype, budget=b, scratch=folder) for b in (1 << 30, -1))
    assert not in_memory.in_file and in_file.in_file
    with in_memory, in_file:
        for row, values in enumerate(whole):
            for store in (in_memory, in_file):
                order = random.permutation(n_prompts)
                for part in np.split(order, np.sort(random.integers(0, n_prompts + 1, 3))):
                    store.add(row, part, values[torch.from_numpy(part)])
        for store in (in_memory, in_file):
            store.require_complete()
            for row, values in enumerate(whole):
                assert store.layer(row).dtype == dtype
                assert torch.equal(store.layer(row), values.to(dtype))
    assert list(folder.iterdir()) == []


def test_what_is_larger_than_the_budget_goes_into_a_file(tmp_path: Path) -> None:
    size = values_bytes(10, [3, 4], torch.bfloat16)
    assert size == 10 * 7 * 2
    assert not PromptValues(10, [3, 4], torch.bfloat16, budget=size, scratch=tmp_path).in_file
    assert PromptValues(10, [3, 4], torch.bfloat16, budget=size - 1, scratch=tmp_path).in_file


@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_a_prompt_comes_once_and_none_is_missing(tmp_path: Path, budget: int) -> None:
    with PromptValues(3, [2, 2], budget=budget, scratch=tmp_path) as store:
        store.add(0, np.array([2, 0]), torch.ones(2, 2))
        with pytest.raises(RunError, match=r"1 of 3 prompts have no value in row 0 .*prompt 1"):
            store.layer(0)
        for prompts in ([0], [1, 1]):
            with pytest.raises(RunError, match="read twice in row 0"):
                store.add(0, np.array(prompts), torch.ones(len(prompts), 2))
        store.add(0, np.array([1]), torch.ones(1, 2))
        assert store.layer(0).tolist() == [[1.0, 1.0]] * 3
        with pytest.raises(RunError, match="3 of 3 prompts have no value in row 1"):
            store.require_complete()
        with pytest.raises(ValueError, match="neurons"):
            store.add(1, np.array([0]), torch.ones(1, 3))


@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_values_are_taken_within_a_pass_and_outside(tmp_path: Path, budget: int) -> None:
    with torch.inference_mode():
        read = torch.ones(1, 2)
        store = PromptValues(2, [2], budget=budget, scratch=tmp_path).__enter__()
        store.add(0, np.array([0]), read)
    store.add(0, np.array([1]), torch.full((1, 2), 2.0, requires_grad=True))
    assert store.layer(0).tolist() == [[1.0, 1.0], [2.0, 2.0]]
    store.__exit__(None, None, None)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RunError])
def test_the_file_is_gone_after_an_interrupt_and_an_error(tmp_path: Path, error: Any) -> None:
    folder = tmp_path / "scratch"
    with pytest.raises(error), PromptValues(3, [2], budget=0, scratch=folder) as store:
        store.add(0, np.array([1]), torch.ones(1, 2))
        raise error("stopped")
    assert list(folder.iterdir()) == []


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: Any) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000_000))
    store = PromptValues(1_000, [20_000, 20_000], budget=1 << 20, scratch=tmp_path)
    with (
        pytest.raises(DiskFull, match=r"40,000 neurons on 1,000 prompts take 160 MB.* has 100 MB free") as found,
        store,
    ):
        raise AssertionError("it has begun")
    assert str(tmp_path) in found.value.cause and "--memory" in found.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write to"), PromptValues(3, [2], budget=0, scratch=tmp_path / "file"):
        raise AssertionError("it has begun")
