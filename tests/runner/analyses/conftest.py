"""Rankings and results with only what an analysis reads."""

from __future__ import annotations

import pytest

from runner.analyses import Findings
from specs.language.experiment import Experiment
from specs.language.references import parse_address
from specs.language.results import ModelFacts, RankedNeuron, Ranking, RankingGroup, Results


class Whole:
    """A whole ranking as ``{group: {address: score}}``."""

    site = "mlp.neurons"

    def __init__(self, scores, top):
        self.scores, self.top = scores, top
        self.groups = scores

    def rank_of(self, key, address):
        own = self.scores[key][str(address)]
        return sum(score > own for score in self.scores[key].values()) + 1, own

    def widths(self):
        return {("mlp.neurons", layer): 16 for layer in range(4)}


def make(scores, top=1, entities=None):
    """Give the results and the whole rankings of one localisation called ``cell``."""
    groups = {}
    for key, found in scores.items():
        entity, _, variant = key.partition("/")
        order = sorted(found, key=lambda address: -found[address])
        places = [parse_address(address) for address in order]
        groups[key] = RankingGroup(
            key=key,
            label=f"the name {key}",
            entity=entity,
            variant=variant or None,
            n_prompts=100,
            n_candidates=len(found),
            neurons=[
                RankedNeuron(rank=i, address=str(p), site=p.site, layer=p.layer, neuron=p.neuron, score=found[str(p)])
                for i, p in enumerate(places, start=1)
            ],
            chosen=order[:top],
        )
    ranking = Ranking(
        name="cell",
        metric="stability",
        site="mlp.neurons",
        position="entity.last",
        by=["entity", "variant"],
        prompts="forms",
        groups=groups,
    )
    model = ModelFacts(
        id="m",
        family="llama",
        n_layers=4,
        d_model=8,
        d_mlp=16,
        vocabulary=99,
        dtype="float32",
        device="cpu",
        attention="sdpa",
        adds_bos=False,
    )
    results = Results(
        name="x",
        hash="0",
        status="complete",
        started="2026-01-01",
        seconds=1,
        model=model,
        rankings={"cell": ranking},
    )
    return (Findings(experiment(entities), results, {"cell": Whole(scores, top)}),)


def experiment(entities=None):
    """Give an experiment that declares these entities, with their attributes."""
    described = {key: {"name": key, "attributes": values} for key, values in (entities or {}).items()}
    return Experiment.model_validate({"version": 1, "name": "x", "model": "m", "entities": described})


@pytest.fixture(scope="session")
def ranked():
    return make
