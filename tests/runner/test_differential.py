"""The engine against plain torch hooks, one prompt at a time: every family, every activation, every edited score."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from runner.execute import Engine
from runner.program import Held, Job, Limits, NeuronEdit, Resolved, TokenSequence
from tests.oracle import DOWN, Edit, projections, run_alone
from tests.tiny import TINY, VOCABULARY, tiny_model

LIMIT = 2e-5
PROMPTS = (
    (3, 9, 14, 7, 21, 33, 8),
    (3, 9, 14, 7, 40, 12),
    (3, 9, 14, 50, 6, 6, 2, 19, 44),
    (3, 30, 31),
)
ANSWERS = ((11, 5), (11, 9), (60,))
AT = 2
NEURONS = (1, 7, 20)
DOSES = (30.0, -30.0, 30.0)


def conditions(layer):
    """Condition -> (engine's edits, oracle's edits at a position)."""
    return {
        "negative": NeuronEdit("scale", "mlp.neurons", layer, NEURONS, (-3.0,) * 3),
        "zero": NeuronEdit("scale", "mlp.neurons", layer, NEURONS[:1], (0.0,)),
        "set": NeuronEdit("set", "mlp.neurons", layer, NEURONS, (2.5, -4.0, 1.5)),
    }


def oracle_edits(edit):
    return [
        Edit(edit.layer, neuron, edit.op, amount, AT) for neuron, amount in zip(edit.neurons, edit.amounts, strict=True)
    ]


def same_width(engine):
    """The layers that have as many neurons as the middle one; gemma4 doubles some."""
    width = engine.place("mlp.neurons", engine.n_layers // 2).width
    return tuple(n for n in range(engine.n_layers) if engine.place("mlp.neurons", n).width == width)


def build(layer, layers):
    edits = conditions(layer)
    sequences = []
    for group, prompt in enumerate(PROMPTS):
        for condition in (None, *edits):
            for answer in ANSWERS:
                ids = prompt + answer[:-1]
                last = len(prompt) - 1
                sequences.append(
                    TokenSequence(
                        group,
                        ids,
                        condition,
                        branch_at=AT if condition else 1 << 30,
                        edits=((AT,),) if condition else (),
                        read=tuple(range(len(ids))),
                        score=tuple((last + k, token) for k, token in enumerate(answer)),
                    )
                )
    return Job(tuple(sequences), ("mlp.neurons",), tuple(layers)), edits


@pytest.mark.parametrize("family", sorted(TINY))
@pytest.mark.parametrize("mode", ["trees", "padded", "one by one"])
def test_packed_equals_plain_hooks(family, mode):
    torch.manual_seed(0)
    model = tiny_model(family)
    engine = Engine(model, limits=Limits(row_nodes=48, pass_nodes=96, rows=4), mode=mode)
    job, edits = build(engine.n_layers // 2, same_width(engine))
    values = {}

    def keep(reading):
        table = torch.stack(reading.values["mlp.neurons"]).cpu().numpy()
        for k, (s, p) in enumerate(zip(reading.sequence, reading.position, strict=True)):
            values[int(s), int(p)] = table[:, k]

    outcome = engine.run(job, lambda c: Resolved(((edits[c],),)), on_values=keep)
    scale, worst, moved, changed = 0.0, 0.0, 0.0, 0.0
    for i, sequence in enumerate(job.sequences):
        own = oracle_edits(edits[sequence.condition]) if sequence.condition else []
        seen, logps = run_alone(model, sequence.ids, own)
        expected = np.stack([seen[layer].numpy() for layer in job.layers])
        for p in sequence.read:
            worst = max(worst, float(abs(values[i, p] - expected[:, p]).max()))
        scale = max(scale, float(abs(expected).max()))
        wanted = np.array([float(logps[p, t]) for p, t in sequence.score])
        moved = max(moved, float(abs(outcome.logps[i] - wanted).max()))
        ranks = [int((logps[p] >= logps[p, t]).sum()) for p, t in sequence.score]
        assert max(abs(a - b) for a, b in zip(ranks, outcome.ranks[i], strict=True)) <= 1
        if sequence.condition:
            clean = next(k for k, s in enumerate(job.sequences) if s.condition is None and s.ids == sequence.ids)
            changed = max(changed, float(abs(outcome.logps[i] - outcome.logps[clean]).max()))
    limit = LIMIT if family not in ("youtu", "minicpm3") else 2e-4
    assert worst / scale < limit
    assert moved < 2e-4
    assert changed > 1e-3, "the edits must show, or the comparison could not fail"


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "gemma3", "opt", "falcon_alibi", "gpt_neox"])
def test_memory_budgets_change_no_digit_that_is_shown(family):
    model = tiny_model(family)
    job, edits = build(1, range(3))
    results = []
    for limits in (Limits(16, 16, 1), Limits(64, 128, 4), Limits(10_000, 10_000, 8)):
        outcome = Engine(model, limits=limits).run(job, lambda c: Resolved(((edits[c],),)))
        results.append(np.concatenate(outcome.logps))
    assert abs(results[0] - results[1]).max() < 2e-4
    assert abs(results[0] - results[2]).max() < 2e-4


@pytest.mark.parametrize("family", sorted(TINY))
def test_a_frozen_branch_equals_two_hook_runs(family):
    """Freeze the attention output at the last token to the clean run while an earlier neuron is edited."""
    model = tiny_model(family)
    engine = Engine(model)
    prompt, answer = PROMPTS[0], 11
    last = len(prompt) - 1
    edit = NeuronEdit("set", "mlp.neurons", 0, NEURONS, (3.0, -3.0, 3.0))
    held = Held({("mlp.neurons", layer): ("last",) for layer in range(engine.n_layers)})
    job = Job(
        (
            TokenSequence(0, prompt, score=((last, answer),)),
            TokenSequence(
                0,
                prompt,
                "x",
                branch_at=AT,
                edits=((AT,),),
                score=((last, answer),),
                twin=0,
                frozen=(("last", last),),
            ),
        )
    )
    outcome = engine.run(job, lambda _: Resolved(((edit,),), held))
    clean, _ = run_alone(model, prompt)
    edits = oracle_edits(edit) + [
        Edit(layer, neuron, "set", float(clean[layer][last, neuron]), last)
        for layer in clean
        for neuron in range(clean[layer].shape[1])
    ]
    _, logps = run_alone(model, prompt, edits)
    assert abs(outcome.logps[1][0] - float(logps[last, answer])) < 2e-4


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "bloom", "falcon_alibi", "gpt_neo", "mpt", "opt"])
def test_text_after_a_packed_pass_is_the_text_of_a_hooked_prompt(family):
    model = tiny_model(family)
    engine = Engine(model)
    edit = NeuronEdit("set", "mlp.neurons", 1, NEURONS, (6.0, -6.0, 6.0))
    job = Job(
        tuple(
            TokenSequence(g, p, c, branch_at=AT if c else 1 << 30, edits=((AT,),) if c else (), generate=6)
            for g, p in enumerate(PROMPTS)
            for c in (None, "x")
        )
    )
    outcome = engine.run(job, lambda _: Resolved(((edit,),)))
    ends = {2}
    for i, sequence in enumerate(job.sequences):
        ids = list(sequence.ids)
        for _ in range(6):
            _, logps = run_alone(model, ids, oracle_edits(edit) if sequence.condition else [])
            token = int(logps[-1].argmax())
            if token in ends:
                break
            ids.append(token)
        assert outcome.generated[i] == tuple(ids[len(sequence.ids) :])


@pytest.mark.parametrize("site", ["mlp.neurons", "mlp.out"])
@pytest.mark.parametrize(
    "family", ["llama", "qwen2_window", "gpt2", "bloom", "falcon_alibi", "gpt_neo", "mpt", "opt", "phi"]
)
def test_an_edit_at_every_token_edits_what_is_generated_too(family, site):
    """Beside it an edit of the prompt alone, by another neuron, and a clean branch that must stay what it is."""
    if site == "mlp.out" and family != "llama":
        pytest.skip("one family is enough for a site at the end of a module")
    model = tiny_model(family)
    engine = Engine(model, limits=Limits(row_nodes=48, pass_nodes=96, rows=4))
    everywhere = NeuronEdit("set", site, 1, NEURONS, DOSES)
    once = NeuronEdit("scale", "mlp.neurons", 0, (3,), (-4.0,))
    edits = {"both": ((everywhere,), (once,)), "once": ((once,),)}

    def sequence(group, prompt, condition):
        every = tuple(range(len(prompt)))
        acting = {"both": (every, (AT,)), "once": ((AT,),), None: ()}[condition]
        branch = {"both": 0, "once": AT, None: 1 << 30}[condition]
        onward = (0,) if condition == "both" else ()
        return TokenSequence(
            group, prompt, condition, branch_at=branch, edits=acting, generate=6 + group, onward=onward
        )

    job = Job(tuple(sequence(g, p, c) for g, p in enumerate(PROMPTS) for c in (None, "both", "once")))
    outcome = engine.run(job, lambda c: Resolved(edits[c]))
    texts = {}
    for i, asked in enumerate(job.sequences):
        for onward in (True, False):
            ids = list(asked.ids)
            for _ in range(asked.generate):
                at_every = range(len(ids) if onward else len(asked.ids)) if asked.condition == "both" else ()
                own = [Edit(1, n, "set", a, p) for p in at_every for n, a in zip(NEURONS, DOSES, strict=True)]
                if asked.condition:
                    own.append(Edit(0, 3, "scale", -4.0, AT))
                logps = _hooked(model, ids, own, site)
                token = int(logps[-1].argmax())
                if token == 2:
                    break
                ids.append(token)
            texts[i, onward] = tuple(ids[len(asked.ids) :])
        assert outcome.generated[i] == texts[i, True]
    changed = [i for i, s in enumerate(job.sequences) if texts[i, True] != texts[i, False]]
    assert changed, "what is edited in generated tokens must show, or the comparison could not fail"


def _hooked(model, ids, edits, site):
    """Log probabilities by plain hooks; where ``mlp.out`` is meant, edits above layer 0 at the projection's output."""
    if site == "mlp.neurons":
        return run_alone(model, ids, edits)[1]

    def hook(_, __, output):
        changed = output.clone()
        for edit in edits:
            if edit.layer:
                changed[0, edit.position, edit.neuron] = edit.amount
        return changed

    handle = projections(model, DOWN)[1].register_forward_hook(hook)
    try:
        return run_alone(model, ids, [edit for edit in edits if not edit.layer])[1]
    finally:
        handle.remove()


def test_a_branch_with_nan_does_not_poison_its_row():
    model = tiny_model("llama")
    engine = Engine(model)
    last = len(PROMPTS[0]) - 1
    bad = NeuronEdit("set", "mlp.neurons", 1, (1,), (float("nan"),))
    job = Job(
        (
            TokenSequence(0, PROMPTS[0], score=((last, 5),)),
            TokenSequence(0, PROMPTS[0], "bad", branch_at=AT, edits=((AT,),), score=((last, 5),)),
            TokenSequence(0, PROMPTS[1], score=((len(PROMPTS[1]) - 1, 5),)),
        )
    )
    outcome = engine.run(job, lambda _: Resolved(((bad,),)))
    assert outcome.finite == [True, False, True]
    _, logps = run_alone(model, PROMPTS[0])
    assert abs(outcome.logps[0][0] - float(logps[last, 5])) < 2e-5


def test_out_of_memory_halves_the_pass_and_says_so(monkeypatch):
    model = tiny_model("llama")
    job, edits = build(1, range(3))
    expected = Engine(model).run(job, lambda c: Resolved(((edits[c],),)))
    engine = Engine(model, limits=Limits(1000, 1000, 8))
    real = engine._forward

    def tight(rows, *rest):
        if rows.ids.size > 60:
            raise torch.OutOfMemoryError("planted")
        return real(rows, *rest)

    monkeypatch.setattr(engine, "_forward", tight)
    outcome = engine.run(job, lambda c: Resolved(((edits[c],),)))
    assert any("out of memory" in note for note in outcome.notes)
    assert abs(np.concatenate(outcome.logps) - np.concatenate(expected.logps)).max() < 2e-4


def test_the_vocabulary_of_the_tiny_models_holds_the_prompts():
    assert max(max(p) for p in (*PROMPTS, *ANSWERS)) < VOCABULARY
