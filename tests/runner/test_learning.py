"""Learned vectors against plain hooks and an optimiser of their own; differences of means; vectors from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from runner.execute import Engine
from runner.learning import WEIGHT_DECAY, learn
from runner.program import Job, Lesson, NeuronEdit, Resolved, TokenSequence
from runner.store import load
from tests.tiny import tiny_model

SITES = {"mlp.out": "mlp.down_proj", "attn.out": "self_attn.o_proj", "resid": ""}
ATTACK = [Lesson((3, 9, 14, 7, 5), (2,), ((3, 5), (4, 11)))]
KEEP = [
    Lesson((3, 30, 14, 7), (1, 2), ((3, 12),)),
    Lesson((3, 9, 40), (1,), ((2, None),)),
    Lesson((3, 8, 14, 7, 21, 40), (2,), ((3, 21), (4, 40), (5, 6))),
]
WEIGHTS = {"attack": 10.0, "preserve": 0.5, "norm": 0.01}


def alone(model: Any, path: str, lesson: Lesson, vector: torch.Tensor | None) -> torch.Tensor:
    """Log probabilities of one prompt, with the vector added by a hook of one line."""

    def add(_: Any, __: Any, output: Any) -> Any:
        value = output[0] if isinstance(output, tuple) else output
        bump = torch.zeros_like(value)
        for p in lesson.at:
            bump[0, p] = 1
        changed = value + bump * vector
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = model.get_submodule(path).register_forward_hook(add) if vector is not None else None
    try:
        return torch.log_softmax(model(input_ids=torch.tensor([lesson.ids])).logits[0].float(), -1)
    finally:
        if handle is not None:
            handle.remove()


def by_hand(model: Any, path: str, width: int, steps: int, lr: float) -> tuple[np.ndarray, list[dict[str, float]]]:
    """The same lesson, prompt by prompt, written down as the loss is in the documentation."""
    vector = torch.zeros(width, requires_grad=True)
    optimiser = torch.optim.AdamW([vector], lr=lr, weight_decay=WEIGHT_DECAY)
    curve = []
    for step in range(steps + 1):
        attack = torch.stack([-sum(alone(model, path, x, vector)[p, t] for p, t in x.scored) for x in ATTACK]).mean()
        divergences = []
        for x in KEEP:
            clean, edited = alone(model, path, x, None).detach(), alone(model, path, x, vector)
            each = [(clean[p].exp() * (clean[p] - edited[p])).sum() for p, _ in x.scored]
            divergences.append(torch.stack(each).mean())
        preserve, norm = torch.stack(divergences).mean(), (vector**2).sum()
        curve.append({"attack": float(attack), "preserve": float(preserve), "norm": float(norm)})
        if step < steps:
            optimiser.zero_grad()
            (WEIGHTS["attack"] * attack + WEIGHTS["preserve"] * preserve + WEIGHTS["norm"] * norm).backward()
            optimiser.step()
    return vector.detach().numpy(), curve


@pytest.mark.parametrize("site", list(SITES))
def test_a_vector_is_that_of_plain_hooks(site: str) -> None:
    model = tiny_model("llama")
    path = f"model.layers.1.{SITES[site]}".rstrip(".")
    engine = Engine(model)
    done = learn(engine, engine.place(site, 1), ATTACK, KEEP, WEIGHTS, steps=6, lr=0.4)
    wanted, curve = by_hand(model, path, 32, 6, 0.4)
    assert abs(done.vector - wanted).max() < 2e-4 * abs(wanted).max()
    for step, own in zip(done.steps, curve, strict=True):
        for term, value in own.items():
            assert getattr(step, term) == pytest.approx(value, rel=1e-3, abs=1e-5)
    assert done.steps[-1].p_new > 1.3 * done.steps[0].p_new, "something was learned"
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


def test_parts_that_fit_into_memory_change_no_figure() -> None:
    whole, parts = Engine(tiny_model("llama")), Engine(tiny_model("llama"))
    parts.limits = type(parts.limits)(16, 16, 1)
    parts.reading_bytes = 1  # and nothing of the clean run is kept
    a, b = (learn(e, e.place("mlp.out", 1), ATTACK, KEEP, WEIGHTS, steps=4, lr=0.05) for e in (whole, parts))
    assert abs(a.vector - b.vector).max() < 1e-4 * abs(a.vector).max()


def test_the_same_lessons_give_the_same_bits() -> None:
    vectors = []
    for _ in range(2):
        engine = Engine(tiny_model("llama"))
        vectors.append(learn(engine, engine.place("mlp.out", 1), ATTACK, KEEP, WEIGHTS, steps=4, lr=0.05).vector)
    assert (vectors[0] == vectors[1]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_engine_adds_what_was_learned(dtype: torch.dtype) -> None:
    engine = Engine(tiny_model("llama", dtype=dtype))
    done = learn(engine, engine.place("mlp.out", 1), ATTACK, KEEP, WEIGHTS, steps=6, lr=0.05)
    assert done.vector.dtype == np.float32
    (lesson,) = ATTACK
    edit = NeuronEdit("add", "mlp.out", 1, tuple(range(32)), tuple(done.vector.tolist()))
    score = tuple((p, t) for p, t in lesson.scored if t is not None)
    job = Job((TokenSequence(0, lesson.ids, "x", 2, (lesson.at,), score=score),))
    outcome = engine.run(job, lambda _: Resolved(((edit,),)))
    limit = 1e-4 if dtype == torch.float32 else 0.1
    assert float(np.exp(outcome.logps[0].sum())) == pytest.approx(done.steps[-1].p_new, rel=limit)


def test_kept_answers_are_compared_with_the_clean_run() -> None:
    model = tiny_model("llama")
    engine = Engine(model)
    done = learn(engine, engine.place("mlp.out", 1), ATTACK, KEEP, WEIGHTS, steps=3, lr=0.5)
    wanted = []
    for lesson in sorted((x for x in KEEP if x.scored[-1][1] is not None), key=lambda x: (len(x.ids), x.ids)):
        own = [
            sum(float(logps[p, t]) for p, t in lesson.scored)
            for logps in (
                alone(model, "model.layers.1.mlp.down_proj", lesson, v) for v in (None, torch.tensor(done.vector))
            )
        ]
        wanted.append(np.exp(own[1] - own[0]))
    assert done.kept == pytest.approx(wanted, rel=1e-4)


# -- the whole program ------------------------------------------------------------------------------------------

LEARNT = """\
  rewrite:
    edit: {add: florence}
    ask: questions
    unknown: nobody
    measure: [answer_probability, relative_probability]
    controls: {random_neurons: 2}
vectors:
  florence:
    site: mlp.out
    layers: 1
    position: entity.last
    learn:
      {fact: wife/obama, becomes: Florida, keep: questions, weights: {attack: 10, preserve: 0.5}, steps: 20, lr: 0.2}
only: rewrite
"""


def finished(workplace: Path, runs: str = "runs") -> tuple[Any, Path]:
    (folder,) = [p for p in (workplace / runs).iterdir() if p.name.startswith("tiny-")]
    return load(folder), folder


def figure(results: Any, name: str, condition: str, role: str, measure: str) -> float:
    (found,) = [
        s.mean
        for s in results.interventions[name].summaries
        if (s.edited, s.condition, s.role, s.measure, s.relation) == ("*", condition, role, measure, None)
    ]
    return float(found)


def test_a_learned_vector_rewrites_one_fact(
    write_spec: Callable[..., Path], command: Callable[..., Any], workplace: Path
) -> None:
    spec = write_spec(more=LEARNT)
    answer = command(spec, "--no-track")
    assert answer.code == 0, answer.all
    results, folder = finished(workplace)
    vector = results.vectors["florence"]
    assert len(vector.steps) == 21 and vector.n_kept == 3 and vector.n_prompts == 1
    edited = figure(results, "rewrite", "edit", "target", "answer_probability")
    clean = figure(results, "rewrite", "clean", "target", "answer_probability")
    assert clean == pytest.approx(vector.steps[0].p_new, rel=0.02)
    assert edited == pytest.approx(vector.steps[-1].p_new, rel=0.05) and edited > 2 * clean
    rewrite = results.interventions["rewrite"]
    assert rewrite.owners == ["florence"] and rewrite.vectors == ["florence"]
    assert "a random direction as long as the vector" in rewrite.controls["random_neurons"]
    others = {s.n for s in rewrite.summaries if s.role == "others" and s.relation is None and s.condition == "edit"}
    assert others == {3}, "every other fact of both people"
    with safe_open(folder / vector.path, framework="np") as file:
        values, said = file.get_tensor("vector"), file.metadata()
    assert values.dtype == np.float32 and np.linalg.norm(values) == pytest.approx(vector.norm, rel=1e-6)
    assert (said["site"], said["layer"], said["position"]) == ("mlp.out", "1", "entity.last")
    assert "florence" in (folder / "report.html").read_text(encoding="utf-8")
    again = command(spec, "--no-track")
    assert again.code == 0 and "reused from earlier runs: florence, rewrite" in again.all


def test_a_vector_from_a_file_is_the_one_that_was_saved(
    write_spec: Callable[..., Path], command: Callable[..., Any], workplace: Path
) -> None:
    assert command(write_spec(more=LEARNT), "--no-track").code == 0
    results, folder = finished(workplace)
    learnt = LEARNT[LEARNT.index("    site:") : LEARNT.index("only:")]
    from_file = LEARNT.replace(learnt, f"    from: {folder / results.vectors['florence'].path}\n")
    from_file = from_file.replace("    ask: questions\n", "    ask: questions\n    target: wife/obama\n")
    answer = command(write_spec(more=from_file), "--no-track", "--out", "again")
    assert answer.code == 0, answer.all
    again, _ = finished(workplace, "again")
    assert again.vectors["florence"].kind == "from" and again.vectors["florence"].layer == 1
    for condition in ("edit", "random_neurons"):
        first = figure(results, "rewrite", condition, "others", "answer_probability") if condition == "edit" else None
        if first is not None:
            assert figure(again, "rewrite", condition, "others", "answer_probability") == pytest.approx(first, rel=1e-6)


DIFFERENCE = """\
  push:
    edit: {add: direction}
    ask: questions
    target: trump
    unknown: nobody
    measure: answer_probability
    controls: none
vectors:
  direction: {site: resid, layers: 1, position: entity.last, mean: of_trump, minus: of_obama}
only: push
"""


def test_a_difference_of_means_is_that_of_plain_hooks(
    write_spec: Callable[..., Path], command: Callable[..., Any], workplace: Path, tiny_checkpoint: Path
) -> None:
    from transformers import AutoModelForCausalLM

    from tests.checkpoint import tiny_tokenizer

    sets = "prompts:\n  of_trump: {of: names, entities: [trump]}\n  of_obama: {of: names, entities: [obama]}\n"
    spec = write_spec(
        ("prompts:\n", sets),
        (f"model: {tiny_checkpoint}", f"model: {{id: {tiny_checkpoint}, dtype: float32}}"),
        more=DIFFERENCE,
    )
    answer = command(spec, "--no-track")
    assert answer.code == 0, answer.all
    results, folder = finished(workplace)
    with safe_open(folder / results.vectors["direction"].path, framework="np") as file:
        values = file.get_tensor("vector")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_checkpoint).eval(), tiny_tokenizer()
    means = []
    for name in ("Donald Trump", "Barack Obama"):
        seen = []
        for word in ("age", "voice", "house", "job", "city", "wife", "home", "mother"):
            ids = torch.tensor([tokenizer(f"The {word} of {name}")["input_ids"]])
            with torch.no_grad():
                seen.append(model(ids, output_hidden_states=True).hidden_states[2][0, -1])
        means.append(torch.stack(seen).mean(0).numpy())
    assert abs(values - (means[0] - means[1])).max() < 1e-5
    assert results.vectors["direction"].n_prompts == results.vectors["direction"].n_minus == 8


LAST = "site: mlp.out, layers: 1, position: last, "


@pytest.mark.parametrize(
    ("array", "place", "message"),
    [
        (
            np.zeros(31, np.float32),
            LAST,
            "has 31 numbers, and mlp.out of layer 1",
        ),
        (np.zeros((2, 16), np.float32), LAST, "array of shape [2, 16]"),
        (np.full(32, np.nan, np.float32), LAST, "not finite"),
        (np.zeros(32, np.float32), "site: mlp.out, ", "does not say layers and position"),
    ],
)
def test_files_that_are_no_vector_for_this_place_are_refused(
    array: Any, place: str, message: str, write_spec: Callable[..., Path], command: Callable[..., Any], workplace: Path
) -> None:
    save_file({"v": array}, workplace / "v.safetensors")
    more = DIFFERENCE[: DIFFERENCE.index("  direction:")] + f"  direction: {{{place}from: v.safetensors}}\nonly: push\n"
    answer = command(write_spec(more=more), "--no-track")
    assert answer.code in (2, 4) and message in " ".join(answer.all.split()), answer.all
    assert "Traceback" not in answer.all


def test_a_plain_array_needs_its_place_and_is_then_taken(
    write_spec: Callable[..., Path], command: Callable[..., Any], workplace: Path
) -> None:
    np.save(workplace / "v.npy", np.ones(32, np.float32))
    place = "site: mlp.out, layers: 1, position: entity.last, "
    more = DIFFERENCE[: DIFFERENCE.index("  direction:")] + f"  direction: {{{place}from: v.npy}}\nonly: push\n"
    answer = command(write_spec(more=more), "--no-track")
    assert answer.code == 0, answer.all
    results, _ = finished(workplace)
    assert results.vectors["direction"].norm == pytest.approx(32**0.5)
