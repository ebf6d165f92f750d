"""Sets of neurons in several sites, silenced at every token: against plain torch hooks, with answers and with text."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch

from runner.execute import Engine
from runner.program import Job, Limits, NeuronEdit, Resolved, TokenSequence
from tests.tiny import tiny_model

PROMPTS = ((3, 9, 14, 7, 21, 33, 8), (3, 9, 14, 7, 40, 12), (3, 9, 14, 50, 6, 6, 2, 19, 44))
ANSWERS = ((11, 5), (11, 9), (60,))

LLAMA = {
    "mlp.gate": ("model.layers.{}.mlp.gate_proj", "output", 0),
    "mlp.up": ("model.layers.{}.mlp.up_proj", "output", 0),
    "mlp.out": ("model.layers.{}.mlp.down_proj", "output", 0),
    "mlp.neurons": ("model.layers.{}.mlp.down_proj", "input", 0),
    "attn.q": ("model.layers.{}.self_attn.q_proj", "output", 0),
    "attn.k": ("model.layers.{}.self_attn.k_proj", "output", 0),
    "attn.v": ("model.layers.{}.self_attn.v_proj", "output", 0),
    "attn.heads": ("model.layers.{}.self_attn.o_proj", "input", 0),
    "attn.out": ("model.layers.{}.self_attn.o_proj", "output", 0),
}
MODULES = {
    "llama": LLAMA,  # grouped queries: two heads of keys for four of queries
    "qwen2": LLAMA,
    "gemma3": LLAMA,
    "gpt2": {  # no gate, and one matrix for queries, keys and values
        "mlp.neurons": ("transformer.h.{}.mlp.c_proj", "input", 0),
        "mlp.out": ("transformer.h.{}.mlp.c_proj", "output", 0),
        "attn.q": ("transformer.h.{}.attn.c_attn", "output", 0),
        "attn.k": ("transformer.h.{}.attn.c_attn", "output", 32),
        "attn.v": ("transformer.h.{}.attn.c_attn", "output", 64),
        "attn.heads": ("transformer.h.{}.attn.c_proj", "input", 0),
        "attn.out": ("transformer.h.{}.attn.c_proj", "output", 0),
    },
    "phi3": {  # gate and up are one matrix, and so are queries, keys and values
        "mlp.gate": ("model.layers.{}.mlp.gate_up_proj", "output", 0),
        "mlp.up": ("model.layers.{}.mlp.gate_up_proj", "output", 48),
        "mlp.out": ("model.layers.{}.mlp.down_proj", "output", 0),
        "attn.q": ("model.layers.{}.self_attn.qkv_proj", "output", 0),
        "attn.k": ("model.layers.{}.self_attn.qkv_proj", "output", 32),
        "attn.v": ("model.layers.{}.self_attn.qkv_proj", "output", 48),
    },
}
"""Family: site -> where its tensor is, which end of the module, and its first column in the tensor. By hand."""


def a_set(engine, sites, seed, share=0.3):
    """Neurons of every site and layer, as {(site, layer): neurons}."""
    random = np.random.default_rng(seed)
    return {
        (site, layer): np.sort(random.permutation(width)[: max(1, int(share * width))])
        for site in sites
        for layer in range(engine.n_layers)
        for width in [engine.place(site, layer).width]
    }


def hooked(model, family, chosen, ids):
    """Log probabilities of a prompt with a set at 0 at every token, by hooks on named modules."""

    def silence(tensor, columns):
        changed = tensor.clone()
        changed[..., columns] = 0
        return changed

    with ExitStack() as stack:
        for (site, layer), neurons in chosen.items():
            path, end, first = MODULES[family][site]
            module = model.get_submodule(path.format(layer))
            columns = torch.from_numpy(neurons + first)
            if end == "input":
                hook = module.register_forward_pre_hook(lambda _, args, c=columns: (silence(args[0], c), *args[1:]))
            else:
                hook = module.register_forward_hook(lambda _, __, out, c=columns: silence(out, c))
            stack.callback(hook.remove)
        with torch.inference_mode():
            return torch.log_softmax(model(torch.tensor([list(ids)])).logits[0].float(), -1)


@pytest.mark.parametrize("family", sorted(MODULES))
def test_a_set_in_all_sites_at_every_token_is_what_hooks_do(family):
    model = tiny_model(family)
    engine = Engine(model, limits=Limits(row_nodes=64, pass_nodes=160, rows=4))
    sets = {name: a_set(engine, MODULES[family], seed) for seed, name in enumerate(("a", "b"))}
    edits = {
        name: tuple(NeuronEdit("set", *place, neurons, np.zeros(len(neurons))) for place, neurons in chosen.items())
        for name, chosen in sets.items()
    }
    sequences = []
    for group, prompt in enumerate(PROMPTS):
        for name in (None, *sets):
            for answer in ANSWERS:
                ids = prompt + answer[:-1]
                every = (tuple(range(len(ids))),) if name else ()
                score = tuple((len(prompt) - 1 + k, token) for k, token in enumerate(answer))
                sequences.append(
                    TokenSequence(group, ids, name, branch_at=0 if name else 1 << 30, edits=every, score=score)
                )
            every = (tuple(range(len(prompt))),) if name else ()
            sequences.append(
                TokenSequence(
                    group,
                    prompt,
                    name,
                    branch_at=0 if name else 1 << 30,
                    edits=every,
                    generate=5,
                    onward=(0,) if name else (),
                )
            )
    job = Job(tuple(sequences))
    outcome = engine.run(job, lambda condition: Resolved((edits[condition],)))
    changed = 0.0
    for i, sequence in enumerate(sequences):
        chosen = sets[sequence.condition] if sequence.condition else {}
        if sequence.generate:
            ids = list(sequence.ids)
            for _ in range(sequence.generate):
                token = int(hooked(model, family, chosen, ids)[-1].argmax())
                if token == 2:
                    break
                ids.append(token)
            assert outcome.generated[i] == tuple(ids[len(sequence.ids) :])
            continue
        logps = hooked(model, family, chosen, sequence.ids)
        wanted = np.array([float(logps[p, t]) for p, t in sequence.score])
        assert abs(outcome.logps[i] - wanted).max() < 2e-4
        clean = next(k for k, s in enumerate(sequences) if s.condition is None and s.ids == sequence.ids and s.score)
        changed = max(changed, float(abs(outcome.logps[i] - outcome.logps[clean]).max()) if sequence.condition else 0)
    assert changed > 0.1, "the sets must show, or the comparison could not fail"


@pytest.mark.real
def test_three_thousand_neurons_of_a_real_model_at_every_token_are_what_hooks_do():
    from runner.models import load

    loaded = load("smollm2-135m", dtype="float32", device="cpu")
    engine, model = Engine(loaded.model), loaded.model
    chosen = a_set(engine, ("mlp.gate", "mlp.up", "mlp.out"), 0, share=0.027)
    assert 2900 < sum(map(len, chosen.values())) < 3000
    edits = tuple(NeuronEdit("set", *place, neurons, np.zeros(len(neurons))) for place, neurons in chosen.items())
    texts = ("The capital of France is Paris", "The capital of Italy, a country in Europe, is Rome", "The sun")
    sequences = []
    for group, text in enumerate(texts):
        ids = tuple(loaded.tokenizer(text)["input_ids"])
        every = (tuple(range(len(ids) - 1)),)
        score = tuple((p, ids[p + 1]) for p in range(len(ids) - 1))
        sequences.append(TokenSequence(group, ids[:-1], score=score))
        sequences.append(TokenSequence(group, ids[:-1], "x", branch_at=0, edits=every, score=score))
    outcome = engine.run(Job(tuple(sequences)), lambda _: Resolved((edits,)))
    for i, sequence in enumerate(sequences):
        logps = hooked(model, "llama", chosen if sequence.condition else {}, sequence.ids)
        wanted = np.array([float(logps[p, t]) for p, t in sequence.score])
        assert abs(np.expm1(outcome.logps[i] - wanted)).max() < 1e-4
    assert max(float(abs(outcome.logps[k] - outcome.logps[k + 1]).max()) for k in (0, 2, 4)) > 0.1
