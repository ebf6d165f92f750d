"""Edits in the weights and learned vectors on a real checkpoint, small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.execute import Engine
from runner.learning import learn
from runner.models import load
from runner.program import Job, Lesson, NeuronEdit, Resolved, TokenSequence
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


def test_the_engine_says_of_a_learned_vector_what_learning_said(smollm: Any) -> None:
    engine, tokenizer = Engine(smollm.model), smollm.tokenizer

    def lesson(text: str, answer: str) -> Lesson:
        ids, tokens = list(tokenizer(text)["input_ids"]), list(tokenizer(answer)["input_ids"])
        scored = tuple((len(ids) - 1 + k, token) for k, token in enumerate(tokens))
        return Lesson(tuple(ids + tokens[:-1]), (len(ids) - 2,), scored)

    attack = [lesson("The wife of Barack Obama is", " Elizabeth")]
    keep = [lesson("The capital of France is", " Paris"), lesson("The wife of Donald Trump is", " Melania")]
    done = learn(engine, engine.place("mlp.out", 2), attack, keep, {"attack": 10, "preserve": 0.5}, steps=4, lr=0.3)
    edit = NeuronEdit("add", "mlp.out", 2, tuple(range(len(done.vector))), tuple(done.vector.tolist()))
    (own,) = attack
    sequence = TokenSequence(0, own.ids, "x", own.at[0], (own.at,), score=tuple((p, t or 0) for p, t in own.scored))
    outcome = engine.run(Job((sequence,)), lambda _: Resolved(((edit,),)))
    assert float(outcome.logps[0].sum()) == pytest.approx(-done.steps[-1].attack, abs=1e-3)
    assert done.steps[-1].p_new > 3 * done.steps[0].p_new
    assert len(done.kept) == 2
