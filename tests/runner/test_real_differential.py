"""A sample of trump.yaml on real checkpoints: every activation and every edited probability against plain hooks.

float32, one prompt at a time, unpacked, with the library's own attention and mask. Activations agree to 1e-4 of the
largest, and so does every probability, run one by one or packed. How the prompts were packed matters less still.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from runner.bind import Binder
from runner.compile import compile_plan
from runner.localization.localize import columns_of, localize
from runner.localization.rank_precision import rank_by_precision
from runner.model import Machine
from runner.plan import LocalizeStage
from runner.program import Job
from runner.resolve import Resolver
from runner.terminal import Quiet
from specs.language.load import load
from tests.capture import capture
from tests.oracle import Edit, run_alone

SPEC = Path(__file__).parents[2] / "specs" / "trump.yaml"
LIMIT = 1e-4
PACKING = 2e-5
"""What packing may change of a probability."""


def sampled(stage: LocalizeStage, owners, per_owner) -> LocalizeStage:
    """A ranking over fewer prompts and sentences; the numbers stay checkable and the test short."""
    groups = {o: stage.groups[o][:: len(stage.groups[o]) // per_owner][:per_owner] for o in owners}
    return replace(stage, groups=groups, baseline=stage.baseline[::25])


@pytest.fixture(scope="module", params=["smollm2-135m", "gemma3-270m", "qwen2.5-coder-1.5b"])
def bench(request):
    sets = [f"model={{id: {request.param}, dtype: float32}}", "only=[cell, amnesia, injection]"]
    loaded = load(SPEC, sets=sets)
    experiment = loaded.cells[0].experiment
    machine = Machine(experiment.model, Quiet())
    binder = Binder(machine.tokenizer)
    plan = compile_plan(experiment, binder, machine.shape.n_layers)
    engine = machine.engine(Quiet())
    stage = sampled(plan.localize[0], ("trump", "obama", "kennedy", "reagan"), 8)
    ranking, _ = localize(engine, stage)
    return experiment, plan, engine, ranking, stage, binder


@pytest.mark.real
def test_every_activation_equals_a_plain_hook(bench):
    _, _, engine, _, stage, _ = bench
    values = {}

    def keep(reading):
        table = torch.stack(reading.values["mlp.neurons"]).cpu().numpy()
        for k, s in enumerate(reading.sequence):
            values[int(s)] = table[:, k]

    members = [i for o in ("trump", "kennedy") for i in stage.groups[o][:3]] + list(stage.baseline[:2])
    job = Job(tuple(stage.job.sequences[i] for i in members), stage.job.sites, stage.job.layers)
    engine.run(job, on_values=keep)
    for k, i in enumerate(members):
        # The whole prompt, though the engine stops at the token that is read.
        seen, _ = run_alone(engine.model, stage.prompts[i].ids)
        at = stage.job.sequences[i].read[0]
        expected = np.stack([seen[layer][at].cpu().numpy() for layer in stage.job.layers])
        assert abs(values[k] - expected).max() / abs(expected).max() < LIMIT


@pytest.mark.real
def test_the_entity_is_read_at_its_own_last_token(bench):
    """Also where a beginning-of-text token shifts every position by one."""
    _, _, engine, _, stage, binder = bench
    for i in stage.groups["trump"][:3]:
        bound, at = stage.prompts[i], stage.job.sequences[i].read[0]
        assert binder.tokenizer.decode([bound.ids[at]]).strip().endswith("ump")
    assert binder.adds_bos == (engine.family.model_type.startswith("gemma"))


@pytest.mark.real
@pytest.mark.parametrize("name", ["amnesia", "injection"])
def test_every_edited_probability_equals_a_plain_hook(bench, name):
    experiment, plan, engine, ranking, _, _ = bench
    stage = next(s for s in plan.ask if s.name == name)
    resolver = Resolver(experiment, stage, {"cell": ranking}, engine.n_layers)
    random = np.random.default_rng(0)
    edited = [i for i, s in enumerate(stage.job.sequences) if s.condition is not None and s.score]
    clean = [i for i, s in enumerate(stage.job.sequences) if s.condition is None and s.score]
    chosen = sorted({*random.choice(edited, 14, replace=False), *random.choice(clean, 4, replace=False)})
    job = Job(tuple(replace(stage.job.sequences[i], generate=0) for i in chosen))
    packed, alone = engine.run(job, resolver), engine.run(job, resolver, mode="one by one")
    worst = {"packed": 0.0, "one by one": 0.0, "packing": 0.0}
    for k, sequence in enumerate(job.sequences):
        edits = []
        if sequence.condition is not None:
            for neuron_edits, positions in zip(resolver(sequence.condition).edits, sequence.edits, strict=True):
                edits += [
                    Edit(e.layer, neuron, e.op, amount, p)
                    for e in neuron_edits
                    for neuron, amount in zip(e.neurons, e.amounts, strict=True)
                    for p in positions
                ]
        _, logps = run_alone(engine.model, sequence.ids, edits)
        for n, (p, token) in enumerate(sequence.score):
            expected = float(logps[p, token])
            together, single = packed.logps[k][n], alone.logps[k][n]
            for way, difference in (
                ("packed", together - expected),
                ("one by one", single - expected),
                ("packing", together - single),
            ):
                # The relative difference of a probability is the difference of its logarithm.
                worst[way] = max(worst[way], abs(float(np.expm1(difference))))
    print(f"{engine.family.model_type} {name}: largest relative difference of a probability {worst}")
    assert worst["one by one"] < LIMIT
    assert worst["packed"] < LIMIT
    assert worst["packing"] < PACKING


RELATIONS = """\
version: 1
name: relations
model: {id: smollm2-135m, dtype: float32}
entities: {france: France, japan: Japan, italy: Italy, germany: Germany, spain: Spain, egypt: Egypt, china: China,
  canada: Canada, brazil: Brazil}
relations:
  capital: {prompt: "The capital of {{ entity }} is", answers: ANY}
  language: {prompt: "The language of {{ entity }} is", answers: ANY}
localize: {relation: {metric: average_precision, top: 100, site: [mlp.gate, mlp.out, attn.k]}}
"""


@pytest.mark.real
def test_average_precision_of_real_activations_is_scikit_learns(tmp_path):
    """Prompts that differ in one word, so that scores are spread; neurons whose order hangs on 1e-4 are left out."""
    path = tmp_path / "spec.yaml"
    names = ("france", "japan", "italy", "germany", "spain", "egypt", "china", "canada", "brazil")
    path.write_text(RELATIONS.replace("ANY", f"{{{', '.join(f'{name}: a' for name in names)}}}"))
    experiment = load(path).cells[0].experiment
    machine = Machine(experiment.model, Quiet())
    (stage,) = compile_plan(experiment, Binder(machine.tokenizer), machine.shape.n_layers).localize
    engine = machine.engine(Quiet())
    columns = columns_of(stage, machine.width)
    found, _ = rank_by_precision(engine, stage, list(stage.groups), columns, tmp_path)
    places = [engine.place(site, layer) for layer in stage.layers for site in stage.job.sites]
    rows = []
    for sequence in stage.job.sequences:
        seen = capture(engine.model, places, input_ids=torch.tensor([sequence.ids]))
        mean = {key: values[list(sequence.read)].double().mean(dim=0) for key, values in seen.values.items()}
        rows.append(torch.stack([torch.cat([mean[site, k] for site in stage.job.sites]) for k in stage.layers]).numpy())
    values = np.stack(rows)
    gaps = np.diff(np.sort(values, axis=0), axis=0) / np.abs(values).max(axis=0)
    sure = ~(gaps < 1e-4).any(axis=0)
    assert sure.mean() > 0.9
    random = np.random.default_rng(0)
    checked = random.choice(np.flatnonzero(sure), 3000, replace=False)
    for owner, own in stage.groups.items():
        negatives = stage.contrasts[owner].negatives
        told = values.reshape(len(values), -1)[[*own, *negatives]]
        labels = [1] * len(own) + [0] * len(negatives)
        wanted = [average_precision_score(labels, told[:, k]) for k in checked]
        np.testing.assert_allclose(found[owner].score.reshape(-1)[checked], wanted, atol=1e-6, rtol=0)
