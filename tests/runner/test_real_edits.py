"""Edits in the weights and learned vectors on a real checkpoint, small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.execute import Engine
from runner.models import load
from runner.program import Job, NeuronEdit, Resolved, TokenSequence
from runner.weights import edited_weights, run_with_weights

pytestmark = pytest.mark.real

TEXTS = ("The wife of Barack Obama is", "The capital of France is", "Fact: the year of birth of Donald Trump:")
NEURONS = {2: ((10, 400, 1200), (-1.0, 3.0, 0.0)), 20: ((7,), (-5.0,))}


@pytest.fixture(scope="module")
def smollm() -> Any:
    return load("smollm2-135m", dtype="float32", device="cpu")


def job_of(tokenizer: Any, *, edited: bool, everywhere: bool) -> Job:
    sequences = []
    for group, text in enumerate(TEXTS):
        ids = tuple(tokenizer(text)["input_ids"])
        at = tuple(range(len(ids))) if everywhere else ()
        score = ((len(ids) - 1, 338), (len(ids) - 2, 260))
        condition = "x" if edited else None
        sequences.append(TokenSequence(group, ids, condition, 0 if edited else 1 << 30, (at, at), score=score))
    return Job(tuple(sequences))


def edit(*, weights: bool) -> Resolved:
    return Resolved(tuple((NeuronEdit("scale", "mlp.neurons", n, *of, weights=weights),) for n, of in NEURONS.items()))


def test_a_saved_model_gives_the_numbers_of_the_edit_at_every_token(smollm: Any, tmp_path: Path) -> None:
    engine = Engine(smollm.model)
    before = {name: value.clone() for name, value in smollm.model.state_dict().items() if "down_proj" in name}
    by_activation = engine.run(job_of(smollm.tokenizer, edited=True, everywhere=True), lambda _: edit(weights=False))
    job = job_of(smollm.tokenizer, edited=True, everywhere=False)
    in_weights = engine.blank(job)
    run_with_weights(engine, job, lambda _: edit(weights=True), progress=None, outcome=in_weights)
    with edited_weights(engine, edit(weights=True).in_weights()):
        smollm.model.save_pretrained(tmp_path / "edited")
    smollm.tokenizer.save_pretrained(tmp_path / "edited")
    assert all((before[name] == smollm.model.state_dict()[name]).all() for name in before)
    reloaded = load(str(tmp_path / "edited"), dtype="float32", device="cpu")
    assert reloaded.model.get_output_embeddings().weight is reloaded.model.get_input_embeddings().weight
    clean_job = job_of(reloaded.tokenizer, edited=False, everywhere=False)
    saved = Engine(reloaded.model).run(clean_job)
    clean = engine.run(clean_job)
    moved = 0.0
    for a, b, c, plain in zip(by_activation.logps, in_weights.logps, saved.logps, clean.logps, strict=True):
        assert abs(b / a - 1).max() < 1e-5 and abs(c / a - 1).max() < 1e-5
        moved = max(moved, float(abs(a - plain).max()))
    assert moved > 0.01
