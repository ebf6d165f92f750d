"""Average precision of real activations, pooled over the tokens of real prompts, against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from runner.execute import Engine, Reading
from runner.localization.precision import precision_of_owners
from runner.localization.prompt_values import PromptValues
from runner.models import load
from runner.program import Job, TokenSequence
from tests.oracle import run_alone

COUNTRIES = (
    *("France", "Spain", "Italy", "Germany", "Poland", "Norway", "Sweden", "Finland", "Japan", "China"),
    *("India", "Brazil", "Peru", "Chile", "Egypt", "Kenya", "Ghana", "Cuba", "Greece", "Turkey"),
)
RELATIONS = {
    "capital": "The capital of {} is the city of",
    "language": "People in {} mostly speak",
    "currency": "In shops all over {} one pays with the",
}
LAYERS = (2, 17)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[tuple[int, ...]], list[torch.Tensor]]:
    """The model, 60 prompts, and the mean over their tokens of every neuron of two layers, from a scratch file."""
    loaded = load("smollm2-135m", dtype="float32", device="cpu")
    engine = Engine(loaded.model)
    prompts = [tuple(loaded.tokenizer(text.format(c))["input_ids"]) for text in RELATIONS.values() for c in COUNTRIES]
    sequences = tuple(TokenSequence(i, ids, read=tuple(range(len(ids)))) for i, ids in enumerate(prompts))
    width = engine.place("mlp.neurons", 0).width
    scratch = tmp_path_factory.mktemp("values")
    with PromptValues(len(prompts), [width] * len(LAYERS), budget=0, scratch=scratch) as store:

        def keep(reading: Reading) -> None:
            for layer, value in enumerate(reading.values["mlp.neurons"]):
                store.add(layer, reading.sequence, value)

        engine.run(Job(sequences, ("mlp.neurons",), LAYERS, pool="mean"), on_values=keep)
        store.require_complete()
        return engine.model, prompts, [store.layer(row) for row in range(len(LAYERS))]


@pytest.mark.real
def test_pooled_values_are_those_of_plain_hooks(pooled: Any) -> None:
    model, prompts, layers = pooled
    for i in (0, 25, 59):
        seen, _ = run_alone(model, prompts[i])
        for layer, values in zip(LAYERS, layers, strict=True):
            expected = seen[layer].double().mean(dim=0)
            assert float((values[i] - expected).abs().max() / expected.abs().max()) < 1e-4


@pytest.mark.real
def test_every_neuron_has_the_average_precision_of_scikit_learn(pooled: Any) -> None:
    _, prompts, layers = pooled
    owner = np.arange(len(prompts)) // len(COUNTRIES)
    positive = owner == np.arange(len(RELATIONS))[:, None]
    # A quarter of the others is left out for each owner.
    members = positive | (np.arange(len(prompts)) % 4 != np.arange(len(RELATIONS))[:, None])
    for values in layers:
        found = precision_of_owners(values, torch.from_numpy(members), torch.from_numpy(positive)).numpy()
        for row, member, own in zip(found, members, positive, strict=True):
            table = values.numpy()[member]
            expected = [average_precision_score(own[member], column) for column in table.T]
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-6)
        # Prompts of three wordings are told apart by some neuron, and by most a little.
        assert found.max() > 0.99 and np.median(found) > positive.mean()
