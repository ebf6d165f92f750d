"""What the benchmark of average precision compares and counts, at a small size."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ranking import labels, loop, whole


def test_each_owner_compares_its_own_with_four_others_for_each() -> None:
    given = labels(60, 6)
    assert given.positive.sum(dim=1).tolist() == [10] * 6
    assert given.members.sum(dim=1).tolist() == [50] * 6
    assert bool((given.members | ~given.positive).all())


def test_both_sides_give_the_same_scores_and_the_scaled_one_says_so() -> None:
    found = loop(n_prompts=60, n_owners=3, width=12, sample=4, repeats=2)
    assert found["largest_difference"] < 1e-12
    assert found["scikit_learn_scaled_from_neurons"] == 4 and len(found["ratios"]) == 2
    assert min(found["ratios"]) <= found["ratio"] <= max(found["ratios"])


@pytest.mark.parametrize(("budget", "in_file"), [(0, True), (1 << 30, False)])
def test_a_whole_model_is_ranked_from_memory_and_from_a_file(tmp_path: Path, budget: int, in_file: bool) -> None:
    found = whole(n_prompts=120, n_owners=4, layers=3, width=40, budget=budget, scratch=tmp_path)
    assert found["in_file"] is in_file and found["stored_bytes"] == 120 * 3 * 40 * 4
    assert found["chosen"] == [120] * 4
    # Random neurons have about the base rate, a little more on average.
    assert 0 < found["mean_precision"] - found["base_rate"] < 0.05
    assert list(tmp_path.iterdir()) == []
