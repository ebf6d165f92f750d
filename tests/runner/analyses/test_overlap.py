from __future__ import annotations

import math

import pytest

from runner.analyses import ANALYSES
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
