from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from runner.analyses import ANALYSES
from specs.language.errors import RunError
from specs.language.experiment import Analysis
from tests.runner.analyses.conftest import make


def correlate(columns, scores, entities, method="spearman"):
    (found,) = make(scores, entities=entities)
    return found, ANALYSES["correlation"]("depth", Analysis(correlation=columns, method=method), found)


def layers_of(layers):
    return {f"e{i}": {f"L{layer}.N1": 2.0, "L0.N9": 1.0} for i, layer in enumerate(layers)}


def slow_spearman(x, y):
    def ranks(values):
        return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]

    a, b = np.array(ranks(x)), np.array(ranks(y))
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(1, 1e6)), min_size=3, max_size=30))
@settings(max_examples=50, deadline=None)
def test_layer_and_an_attribute_of_every_owner(pairs):
    layers, populars = zip(*pairs, strict=True)
    entities = {f"e{i}": {"popularity": p} for i, p in enumerate(populars)}
    for method, test in [("spearman", stats.spearmanr), ("pearson", stats.pearsonr), ("kendall", stats.kendalltau)]:
        found, result = correlate(["cell/layer", "popularity"], layers_of(layers), entities, method)
        assert result.figures["n"] == len(pairs) and not found.left_out
        assert [row[1:] for row in result.rows] == [[float(a), b] for a, b in zip(layers, populars, strict=True)]
        if len(set(layers)) == 1 or len(set(populars)) == 1:
            assert set(result.figures) == {"n"} and "is the same for all" in result.sentence
            continue
        rho, p = test(layers, populars)
        if not np.isfinite(rho):
            continue
        assert (result.figures["rho"], result.figures["p"]) == pytest.approx((rho, p))
        if method == "spearman":
            assert result.figures["rho"] == pytest.approx(slow_spearman(layers, populars))


def test_an_owner_without_the_attribute_is_left_out_with_the_reason():
    entities = {"e0": {"popularity": 5}, "e1": {"popularity": 7}, "e2": {"popularity": "much"}, "e3": {}}
    found, result = correlate(["cell/layer", "popularity"], layers_of([1, 2, 3, 3]), entities)
    assert result.figures == {"n": 2} and "a correlation needs 3" in result.sentence
    assert "2 owners lack one of them" in result.sentence
    assert [(item.what, item.reason, item.where) for item in found.left_out] == [
        ("e2", "popularity: 'much' is no number", "analyses.depth"),
        ("e3", "popularity: it has none", "analyses.depth"),
    ]


def test_other_forms_of_a_name_are_not_counted():
    scores = {**layers_of([1, 2, 3]), "e0/typo": {"L3.N1": 1.0}}
    entities = {f"e{i}": {"popularity": i} for i in range(3)}
    _, result = correlate(["popularity", "cell/layer"], scores, entities)
    assert result.figures["n"] == 3 and result.figures["rho"] == pytest.approx(1)
    assert result.columns == ["owner", "popularity", "cell/layer"]
    assert "rho = 1.00" in result.sentence


def test_two_attributes_are_over_all_entities():
    entities = {f"e{i}": {"a": i, "b": -i} for i in range(5)}
    _, result = correlate(["a", "b"], layers_of([1]), entities)
    assert result.figures["rho"] == pytest.approx(-1) and result.figures["n"] == 5


def test_one_number_is_no_column():
    with pytest.raises(RunError, match="'cell/e0/layer' is one number"):
        correlate(["cell/e0/layer", "popularity"], layers_of([1, 2, 3]), {})
