from __future__ import annotations

import itertools
import math
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.analyses import ANALYSES
from runner.analyses.overlap import COLUMNS, by_layers
from specs.language.errors import RunError
from specs.language.experiment import Analysis
from tests.runner.analyses.conftest import make

SCORES = {
    "a": {"L0.N1": 9.0, "L1.N2": 8.0, "L2.N3": 7.0, "L3.N4": 1.0},
    "b": {"L0.N1": 9.0, "L1.N2": 8.0, "L3.N4": 7.0, "L2.N3": 1.0},
    "c": {"L0.N7": 9.0, "L1.N7": 8.0, "L2.N7": 7.0},
}
N = 4 * 16


def shared(of="cell", top=3, scores=SCORES):
    (found,) = make(scores, top)
    return ANALYSES["overlap"]("o", Analysis(overlap=of), found)


def test_every_two_groups_are_compared_with_chance():
    result = shared()
    rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    assert [(row["one"], row["other"], row["shared"]) for row in rows] == [
        ("the name a", "the name b", 2),
        ("the name a", "the name c", 0),
        ("the name b", "the name c", 0),
    ]
    assert rows[0]["jaccard"] == pytest.approx(2 / 4) and rows[1]["jaccard"] == 0
    assert rows[0]["by chance"] == pytest.approx(3 * 3 / N)
    wanted = sum(math.comb(3, k) * math.comb(N - 3, 3 - k) for k in (2, 3)) / math.comb(N, 3)
    assert rows[0]["p"] == pytest.approx(wanted) and rows[1]["p"] == 1
    assert result.figures["a/b/shared"] == result.figures["b/a/shared"] == 2
    assert result.figures["a/b/jaccard"] == 0.5 and result.figures["a/c/chance"] == pytest.approx(9 / N)
    assert result.figures["jaccard"] == pytest.approx(0.5 / 3)
    assert result.sentence.startswith("1 of 3 pairs share neurons; most the name a and the name b, 2 of 3 and 3")


def test_sets_that_share_nothing_say_so():
    result = shared(top=1, scores={k: SCORES[k] for k in ("a", "c")})
    assert result.sentence == "They share no neuron." and result.figures["a/c/shared"] == 0


def test_groups_of_several_sets_are_told_apart():
    result = shared(["cell/a", "cell/b"])
    assert [row[:2] for row in result.rows] == [["cell/a", "cell/b"]]
    assert result.figures["cell/a/cell/b/shared"] == 2


def test_one_set_has_nothing_to_be_compared_with():
    with pytest.raises(RunError, match="nothing to compare it with"):
        shared("cell/a")


# -- many neurons, several sites


def test_what_is_shared_because_of_the_layers_counts_as_chance():
    """Two sets of one layer of 16: by chance they share 3 * 3 / 16, and not 3 * 3 / 64."""
    scores = {
        "a": {"L0.N1": 9.0, "L0.N2": 8.0, "L0.N3": 7.0, "L3.N4": 1.0},
        "b": {"L0.N1": 9.0, "L0.N2": 8.0, "L0.N9": 7.0, "L2.N3": 1.0},
    }
    row = dict(zip(COLUMNS, shared(scores=scores).rows[0], strict=True))
    assert row["shared"] == 2 and row["by chance"] == pytest.approx(9 / 64)
    assert row["by chance in layers"] == pytest.approx(9 / 16)
    wanted = sum(math.comb(3, k) * math.comb(13, 3 - k) for k in (2, 3)) / math.comb(16, 3)
    assert row["p in layers"] == pytest.approx(wanted) and row["p"] < wanted


strata = st.dictionaries(st.tuples(st.sampled_from(["mlp.up", "mlp.gate"]), st.integers(0, 2)), st.integers(1, 4))


@given(strata, strata, st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_the_chance_by_layers_is_that_of_drawing_every_set(one, other, n):
    """Against all ways of drawing the sets within layers of five neurons."""
    sizes = dict.fromkeys([*one, *other], 5)
    chances = {0: 1.0}
    for place in set(one) & set(other):
        fixed = set(range(one[place]))
        ways = [len(fixed & set(drawn)) for drawn in itertools.combinations(range(5), other[place])]
        chances = {
            total: sum(p / len(ways) for k, p in chances.items() for w in ways if k + w == total) for total in range(40)
        }
    expected, p = by_layers(one, other, sizes, n)
    assert expected == pytest.approx(sum(k * p for k, p in chances.items()))
    assert p == pytest.approx(sum(p for k, p in chances.items() if k >= n))


def test_two_rankings_are_compared_with_each_other():
    (found,) = make(SCORES, 3)
    other = found.results.rankings["cell"].model_copy(update={"name": "concept"})
    found.results.rankings["concept"] = other
    result = ANALYSES["overlap"]("o", Analysis(overlap=["cell", "concept"]), found)
    between = [float(row[5]) for row in result.rows if row[0].startswith("cell/") and row[1].startswith("concept/")]
    assert len(between) == 9
    assert result.figures["cell/concept/jaccard"] == pytest.approx(sum(between) / 9)
    assert "between cell and concept" in result.sentence


def test_twelve_sets_of_three_thousand_are_quick():
    scores = {}
    for owner in range(12):
        draw = random.Random(owner)
        layers = [(site, layer) for site in ("gate", "up") for layer in range(24)]
        places = [f"{site}:L{layer}.N{n}" for site, layer in layers for n in draw.sample(range(9000), 63)]
        scores[str(owner)] = {place: 1.0 for place in places}
    (found,) = make(scores, 3024)
    found.rankings["cell"].widths = lambda: {(s, n): 9000 for s in ("mlp.gate", "mlp.up") for n in range(24)}
    start = time.perf_counter()
    result = ANALYSES["overlap"]("o", Analysis(overlap="cell"), found)
    assert time.perf_counter() - start < 20
    assert len(result.rows) == 66
    mean = sum(row[4] for row in result.rows) / 66
    assert mean == pytest.approx(result.rows[0][8], rel=0.15), "random sets share what chance says"
    assert result.rows[0][8] == pytest.approx(48 * 63 * 63 / 9000)
