"""Self-tests: they pass on every family, and each is seen to fail when the fault it looks for is planted."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch

import runner.blocks
import runner.execute
import runner.selfcheck
from runner.execute import Engine
from runner.model import sample_prompts
from runner.plan import Plan
from runner.program import Job, TokenSequence
from runner.selfcheck import check, require
from specs.language.errors import ModelError
from tests.tiny import TINY, TINY_UNTREELIKE, tiny_model

PROMPTS = [(3, 9, 14, 7, 21, 33), (3, 9, 14, 7, 40, 12), (3, 30, 31, 5)]


def failed(engine):
    return {t.name for t in check(engine, PROMPTS) if not t.passed}


@pytest.mark.parametrize("family", sorted(TINY))
def test_every_family_passes(family):
    tests = check(Engine(tiny_model(family)), PROMPTS)
    tolerant = {"packing"} if family == "youtu" else set()
    assert {t.name for t in tests if not t.passed} <= tolerant
    assert len(tests) == 9


@pytest.mark.parametrize("mode", ["trees", "padded", "one by one"])
def test_large_keys_whose_products_cancel_fail_nothing(mode):
    """Float32 attention would differ here by more than is allowed from the engine's wider one."""
    model = tiny_model("qwen2", head_dim=8)
    with torch.no_grad():
        for layer in model.model.layers:
            # Components 3 and 7 of a head are the pair that turns slowest with the position.
            query, key = (p.bias.view(-1, 8) for p in (layer.self_attn.q_proj, layer.self_attn.k_proj))
            key[:, 3] += 1000
            key[:, 7] -= 1000
            query[:, (3, 7)] += 100
    prompts = [(3, 4, 5, 6, 7, 8, 9, 10), (3, 4, 5, 6, 7, 8, 11, 12), (3, 4, 5, 6, 20, 21, 22)]
    assert all(t.passed for t in check(Engine(model, mode=mode), prompts))


def test_a_planted_leak_is_caught():
    """A hook that lets an edit reach another branch: the mean over the row is added to every node."""
    model = tiny_model("llama")
    module = model.model.layers[2].mlp.down_proj
    module.register_forward_hook(lambda _, args, out: out + 1e-3 * args[0].mean())
    assert "leak" in failed(Engine(model))


def test_a_planted_wrong_site_is_caught(monkeypatch):
    """A family row that names the output projection of attention instead of the down projection."""
    model = tiny_model("llama", intermediate_size=32)
    engine = Engine(model)
    real = engine.place

    def wrong(site, layer):
        place = real(site, layer)
        if site == "mlp.neurons":
            return dataclasses.replace(place, path=place.path.replace("down_proj", "gate_proj"))
        return place

    plain = {layer: real("mlp.neurons", layer).path for layer in range(engine.n_layers)}
    monkeypatch.setattr(engine, "place", wrong)
    # The independent hook of the test looks where the family table says; the engine is led elsewhere.
    monkeypatch.setattr(runner.selfcheck, "down_projection", lambda e, n: e.model.get_submodule(plain[n]))
    assert "site" in failed(engine)


def test_a_site_of_another_width_than_the_projection_is_caught(monkeypatch):
    engine = Engine(tiny_model("llama"))
    real = engine.place
    monkeypatch.setattr(
        engine,
        "place",
        lambda site, layer: (
            dataclasses.replace(real(site, layer), width=16, block=16) if site == "mlp.neurons" else real(site, layer)
        ),
    )
    assert "site" in failed(engine)


@pytest.mark.parametrize("broken", ["attn.out", "mlp.neurons"])
def test_a_planted_broken_freeze_is_caught(broken, monkeypatch):
    """The copy is skipped at one site: what is said to be held is not."""
    real = runner.execute._Step.apply

    def apply(step, flat):
        if step.copies is not None and step.place.site == broken:
            step.copies = None
        return real(step, flat)

    monkeypatch.setattr(runner.execute._Step, "apply", apply)
    assert "freeze" in failed(Engine(tiny_model("llama")))


def test_an_edit_that_does_nothing_is_caught(monkeypatch):
    monkeypatch.setattr(runner.execute._Step, "apply", lambda step, flat: flat)
    assert "extreme" in failed(Engine(tiny_model("llama")))


@pytest.mark.parametrize("wrong", ["set", "scale"])
def test_an_add_that_does_something_else_is_caught(wrong, monkeypatch):
    real = dict(runner.blocks.VERBS)
    monkeypatch.setattr(runner.blocks, "VERBS", {**real, "add": real[wrong]})
    found = failed(Engine(tiny_model("llama")))
    assert found == {"adding"}


def test_an_identity_that_changes_something_is_caught(monkeypatch):
    real = dict(runner.blocks.VERBS)
    wrong = {**real, "scale": lambda values, nodes, neurons, by: real["scale"](values, nodes, neurons, by * 1.5)}
    monkeypatch.setattr(runner.blocks, "VERBS", wrong)
    assert "identity" in failed(Engine(tiny_model("llama")))


def test_a_model_that_ignores_the_tree_mask_is_caught(monkeypatch):
    from contextlib import contextmanager

    @contextmanager
    def causal(model, ids, depth, end, **_):
        yield {"input_ids": ids, "position_ids": depth, "attention_mask": torch.ones_like(ids)}

    monkeypatch.setattr(runner.execute, "tree_attention", causal)
    assert "packing" in failed(Engine(tiny_model("llama")))


def test_a_value_that_is_not_finite_is_caught():
    model = tiny_model("llama")
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    assert "finite" in failed(Engine(model))


def test_a_failure_stops_the_run_with_its_reason():
    model = tiny_model("llama")
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match="finite"):
        require(check(Engine(model), PROMPTS))


@pytest.mark.parametrize("family", sorted(TINY_UNTREELIKE))
def test_a_family_that_takes_a_tree_mask_in_silence_fails_the_packing_test_alone(family):
    """Convolution, state spaces and linear attention mix tokens around the mask; padded rows are right."""
    model = tiny_model(family)
    if family in ("mamba", "recurrent_gemma"):
        with pytest.raises(ModelError, match="attention alone"):
            Engine(model)
        return
    engine = Engine(model)
    assert "packing" in failed(engine)
    engine.mode = "padded"
    assert "packing" not in failed(engine)


def test_the_prompts_of_the_sample_part_from_each_other():
    """A prompt that is the beginning of the other would make a chain and test no branch."""
    with pytest.raises(ModelError, match="part"):
        check(Engine(tiny_model("llama")), [(3, 9, 14), (3, 9, 14, 7), (3, 9, 14, 7, 40)])


def test_prompts_of_two_tokens_are_enough():
    """Such as "The uncle" of agreement data: each is said three times, and the tests have their branches."""
    short = [(3, 9), (3, 14), (7, 21)]
    job = Job(tuple(TokenSequence(n, ids, score=((len(ids) - 1, 5),)) for n, ids in enumerate([*short, (3, 9, 4)])))
    prompts = sample_prompts(Plan((), (SimpleNamespace(job=job),)))
    assert prompts == [ids * 3 for ids in (*short, (3, 9, 4))]
    assert all(t.passed for t in check(Engine(tiny_model("llama")), prompts))
