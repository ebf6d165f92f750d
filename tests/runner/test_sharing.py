"""How many entities a neuron serves, counted over all owners of a ranking."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.localization.columns import Columns
from runner.localization.ranking import GroupData, RankingData
from runner.properties import Properties, meets
from runner.sharing import CONSIDERED, shared_by
from specs.language.conditions import parse_condition

N_LAYERS, WIDTH = 3, 40


def ranking(scores: dict[str, np.ndarray]) -> RankingData:
    groups = {owner: GroupData.of(score.astype(np.float32)) for owner, score in scores.items()}
    return RankingData("cell", "stability", Columns(("mlp.neurons",), (WIDTH,)), tuple(range(N_LAYERS)), 1, groups)


def drawn(seed: int, owners: tuple[str, ...]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {owner: random.exponential(1.0, (N_LAYERS, WIDTH)) for owner in owners}


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**16), st.integers(2, 6))
def test_it_is_the_count_by_definition(seed: int, n_owners: int) -> None:
    scores = {o: s.astype(np.float32) for o, s in drawn(seed, tuple(f"o{n}" for n in range(n_owners))).items()}
    counts = shared_by(ranking(scores))
    for owner, own in scores.items():
        flat = own.reshape(-1)
        assert set(counts[owner]) == set(np.argsort(-flat, kind="stable")[:CONSIDERED].tolist())
        for i, n in counts[owner].items():
            assert n == sum(float(other.reshape(-1)[i]) >= 0.5 * float(flat[i]) for other in scores.values())


def test_a_neuron_of_two_is_seen_where_it_ranks_third_for_one_of_them() -> None:
    scores = drawn(0, ("a", "b", "c"))
    scores["a"][0, 1], scores["a"][1, 2] = 900, 500  # its own, and the shared one
    scores["b"][1, 2], scores["b"][2, 3] = 600, 300
    scores["c"][2, 5] = 800
    data = ranking(scores)
    assert [shared_by(data)[o][i] for o, i in (("a", 1), ("a", WIDTH + 2), ("b", WIDTH + 2), ("c", 2 * WIDTH + 5))] == [
        *(1, 2, 2, 1)
    ]
    found = Properties(data, "a").of("shared_by")
    kept = meets(parse_condition("shared_by <= 1"), found)
    assert kept[0, 1] and not kept[1, 2]
    assert np.isnan(found).sum() == N_LAYERS * WIDTH - CONSIDERED  # what ranks lower is not counted, and meets nothing


def test_forms_of_one_name_are_one_entity() -> None:
    scores = drawn(1, ("a/", "a/typo", "b/"))
    for owner in ("a/", "a/typo"):
        scores[owner][0, 7] = 700
    counts = shared_by(ranking(scores))
    assert counts["a/"][7] == counts["a/typo"][7] == 1
    scores["b/"][0, 7] = 400
    assert shared_by(ranking(scores))["a/typo"][7] == 2
