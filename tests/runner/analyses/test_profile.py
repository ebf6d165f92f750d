from __future__ import annotations

import pytest

from runner.analyses import ANALYSES
from specs.language.errors import RunError
from specs.language.experiment import Analysis

SCORES = {
    "trump": {"L1.N1": 9.0, "L2.N2": 3.0},
    "trump/korean": {"L3.N3": 4.0, "L2.N2": 2.0},
    "paris": {"L1.N1": 5.0, "L3.N7": 1.0},
    "obama": {"L2.N2": 5.0, "L1.N1": 1.0},
}


def profile(ranked, of="cell", top=1, scores=SCORES):
    return ANALYSES["profile"]("layers", Analysis(profile=of), *ranked(scores, top))


def test_the_neurons_are_counted_by_layer_once_for_every_owner(ranked):
    found = profile(ranked)
    assert found.rows == [
        ["mlp.neurons", 0, 0, 0],
        ["mlp.neurons", 1, 2, 1],
        ["mlp.neurons", 2, 1, 1],
        ["mlp.neurons", 3, 0, 0],
    ]
    assert found.figures == {"L0": 0, "L1": 2, "L2": 1, "L3": 0, "neurons": 3, "different": 2}
    assert found.sentence == (
        "The 3 neurons (2 different ones, for 3 names) lie in layers 1 to 2, most of them (2) in layer 1."
    )


def test_other_forms_of_a_name_are_not_counted(ranked):
    assert profile(ranked).figures["L3"] == 0


def test_one_group_can_be_asked_for(ranked):
    assert profile(ranked, of="cell/trump/korean").figures["L3"] == 1
    assert profile(ranked, of="cell/trump", top=2).sentence == "The 2 neurons lie in layers 1 to 2."


def test_sites_are_counted_apart_and_summed_in_the_figures(ranked):
    scores = {"a": {"gate:L1.N1": 2.0}, "b": {"L1.N1": 2.0}}
    found = profile(ranked, scores=scores)
    assert [row for row in found.rows if row[2]] == [["mlp.gate", 1, 1, 1], ["mlp.neurons", 1, 1, 1]]
    assert found.figures["L1"] == 2
    assert found.sentence == "The 2 neurons all lie in layer 1. 50% at mlp.gate, 50% at mlp.neurons."
    assert found.figures["mlp.gate/L1"] == found.figures["mlp.gate/neurons"] == 1


def test_a_single_neuron_is_told_by_its_layer(ranked):
    assert profile(ranked, of="cell/obama").sentence == "The one neuron lies in layer 2."


def test_a_set_that_was_not_ranked_is_refused(ranked):
    with pytest.raises(RunError, match="'verified' names no set of neurons of this run"):
        profile(ranked, of="verified")
    with pytest.raises(RunError, match="no ranking of 'merkel'"):
        profile(ranked, of="cell/merkel")
