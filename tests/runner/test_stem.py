"""Layers before the first edit, run once for all conditions: the same scores, in every family."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from runner.execute import Engine
from runner.program import Held, Job, Limits, NeuronEdit, Resolved, TokenSequence, pack
from runner.selfcheck import check
from runner.stem import layers_before_edits
from tests.oracle import Edit, run_alone
from tests.tiny import TINY, tiny_model

PROMPTS = ((3, 9, 14, 7, 21, 33, 8), (3, 9, 14, 7, 40, 12), (22, 9, 14, 7, 21, 33, 8, 5, 6))
FACTORS = (0.0, -1.0, -3.0, 4.0, 2.0, -2.0)
ANSWER = 11


def sweep(*, read: bool = False) -> Job:
    """Each prompt clean and under every factor at its last token: what follows the last layer's edit is the head."""
    sequences = []
    for group, ids in enumerate(PROMPTS):
        at = len(ids) - 1
        score = ((len(ids) - 1, ANSWER),)
        sequences.append(TokenSequence(group, ids, score=score, read=(at,) if read else ()))
        for factor in FACTORS:
            sequences.append(TokenSequence(group, ids, factor, at, ((at,),), score=score))
    return Job(tuple(sequences), ("mlp.neurons",) if read else (), (0,) if read else ())


def edits_of(layer: int):
    return lambda factor: Resolved(((NeuronEdit("scale", "mlp.neurons", layer, (1, 2, 5), (factor,) * 3),),))


@pytest.fixture
def stems(monkeypatch) -> list[int]:
    """How many blocks each stem has had."""
    found: list[int] = []
    whole = Engine._stem
    monkeypatch.setattr(
        Engine, "_stem", lambda self, stem, shape: found.append(stem.layers) or whole(self, stem, shape)
    )
    return found


@pytest.mark.parametrize("family", sorted(TINY))
def test_a_stem_gives_the_scores_of_plain_hooks(family, stems):
    torch.manual_seed(0)
    model = tiny_model(family)
    layer = model.config.get_text_config().num_hidden_layers - 1
    job = sweep()
    outcome = Engine(model, limits=Limits(48, 96, 4)).run(job, edits_of(layer))
    # Later layers of these use the keys of earlier ones, or several streams: no stem.
    assert set(stems) == (set() if family in ("gemma3n", "gemma4", "gemma4_wide") else {layer})
    stems.clear()
    whole = Engine(model, limits=Limits(48, 96, 4), stems=False).run(job, edits_of(layer))
    assert stems == [] and max(abs(np.concatenate(whole.logps) - np.concatenate(outcome.logps))) < 2e-4
    moved = 0.0
    for i, sequence in enumerate(job.sequences):
        own = []
        if sequence.condition is not None:
            factor = sequence.condition
            own = [Edit(layer, neuron, "scale", factor, sequence.branch_at) for neuron in (1, 2, 5)]
        _, logps = run_alone(model, sequence.ids, own)
        assert abs(float(logps[len(sequence.ids) - 1, ANSWER]) - outcome.logps[i][0]) < 2e-4
        clean = outcome.logps[i - i % (len(FACTORS) + 1)][0]
        moved = max(moved, abs(outcome.logps[i][0] - clean))
    assert moved > 1e-4, "the edits must show, or the comparison could not fail"


def test_a_stem_is_left_out_where_it_would_change_what_is_asked(stems):
    """Values read or edits in the first layer, and text, which needs the keys of every layer."""
    model = tiny_model("llama")
    engine = Engine(model)
    engine.run(sweep(read=True), edits_of(2), on_values=lambda _: None)
    engine.run(sweep(), edits_of(0))
    job = sweep()
    sequences = [s if i else TokenSequence(s.group, s.ids, generate=3) for i, s in enumerate(job.sequences)]
    engine.run(Job(tuple(sequences)), edits_of(2))
    engine.run(job, edits_of(2), mode="padded")
    assert stems == []
    few = Job(job.sequences[:1] + job.sequences[8:9])
    saved = layers_before_edits(few, edits_of(1), pack(few, engine.limits), 100, lambda _, layer: layer)
    assert saved == 0, "nothing much would be saved"


def test_a_freeze_counts_as_an_edit(stems):
    model = tiny_model("llama")
    n_layers = model.config.num_hidden_layers
    ids = PROMPTS[0]
    last = len(ids) - 1
    edit = NeuronEdit("set", "mlp.neurons", n_layers - 1, (1, 2), (9.0, -9.0))

    def resolve_from(first: int):
        held = Held({("attn.out", layer): ("last",) for layer in range(first, n_layers)})
        return lambda condition: Resolved(((edit,),) if condition == "edit" else (), held)

    def job() -> Job:
        frozen = (("last", last),)
        score = ((last, ANSWER),)
        sequences = [TokenSequence(0, ids, score=score)]
        for condition in ("edit", "no edit", *range(8)):
            edits = ((last,),) if condition == "edit" else ()
            sequences.append(TokenSequence(0, ids, condition, last, edits, score=score, twin=0, frozen=frozen))
        return Job(tuple(sequences))

    for first in (0, n_layers - 1):
        with_stem = Engine(model).run(job(), resolve_from(first))
        without = Engine(model, stems=False).run(job(), resolve_from(first))
        np.testing.assert_allclose(np.concatenate(with_stem.logps), np.concatenate(without.logps), atol=2e-5)
        assert abs(with_stem.logps[1][0] - with_stem.logps[0][0]) > 1e-4
    assert stems == [n_layers - 1]


def test_rows_with_a_stem_have_the_bits_of_rows_alone():
    for dtype in (torch.float32, torch.bfloat16):
        model = tiny_model("llama", dtype=dtype)
        one = Engine(model, limits=Limits(32, 32, 1)).run(sweep(), edits_of(2))
        many = Engine(model, limits=Limits(32, 1024, 64)).run(sweep(), edits_of(2))
        np.testing.assert_array_equal(np.concatenate(one.logps), np.concatenate(many.logps))


def test_an_edit_before_all_blocks_leaves_no_stem(stems):
    """The nominal layer of a module named by its path says nothing about where it is."""
    model = tiny_model("llama")

    def resolve(factor):
        return Resolved(((NeuronEdit("scale", "path:model.embed_tokens", 2, (1, 2, 5), (factor,) * 3),),))

    with_stem = Engine(model).run(sweep(), resolve)
    without = Engine(model, stems=False).run(sweep(), resolve)
    np.testing.assert_array_equal(np.concatenate(with_stem.logps), np.concatenate(without.logps))
    assert stems == []


def test_a_model_that_a_stem_would_change_is_run_without(monkeypatch):
    prompts = [(3, 9, 14, 7, 21, 33, 8), (3, 9, 14, 7, 40, 12)]
    engine = Engine(tiny_model("llama"))
    assert next(t for t in check(engine, prompts) if t.name == "stem").figure < 1e-4 and engine.stems
    whole = Engine._stem
    monkeypatch.setattr(Engine, "_stem", lambda self, stem, shape: whole(self, stem, shape) * 1.5)
    test = next(t for t in check(engine, prompts) if t.name == "stem")
    assert not engine.stems and "not used" in test.detail and test.figure > test.limit
