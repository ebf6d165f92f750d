"""Edits in the weights: the same numbers as at every token, every bit put back, and a checkpoint that keeps them."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from runner.execute import Engine
from runner.program import Job, NeuronEdit, Resolved, TokenSequence
from runner.weights import edited_weights, run_with_weights
from specs.language.errors import RunError
from tests.tiny import tiny_model

PROMPTS = ((3, 9, 14, 7, 21, 33, 8), (3, 9, 14, 7, 40, 12))
FACTORS = {"one": ((1, 7), (-1.0, 3.0)), "another": ((20,), (-2.0,))}
FAMILIES = ["llama", "gpt2", "gpt_bigcode", "opt", "phi3", "gpt_neox", "bloom", "gemma3", "falcon_grouped"]


def edit_of(condition: Any, *, weights: bool, site: str = "mlp.neurons") -> Resolved:
    name = str(condition).removesuffix(" in activations")
    neurons, amounts = FACTORS[name]
    return Resolved(((NeuronEdit("scale", site, 1, neurons, amounts, weights=weights),),))


def job(*, weights: bool) -> Job:
    sequences = []
    for group, prompt in enumerate(PROMPTS):
        score = ((len(prompt) - 1, 5), (len(prompt) - 2, 11))
        sequences.append(TokenSequence(group, prompt, score=score))
        for name in FACTORS:
            every = () if weights else tuple(range(len(prompt)))
            sequences.append(TokenSequence(group, prompt, name, branch_at=0, edits=(every,), score=score, generate=3))
    return Job(tuple(sequences))


def bits(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name].view(torch.uint8), b[name].view(torch.uint8)) for name in a)


@pytest.mark.parametrize("site", ["mlp.neurons", "attn.heads"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_column_times_a_factor_is_the_neuron_times_it_at_every_token(family: str, site: str) -> None:
    engine = Engine(tiny_model(family))
    before = bits(engine.model)
    in_weights = engine.blank(job(weights=True))
    run_with_weights(
        engine, job(weights=True), lambda c: edit_of(c, weights=True, site=site), progress=None, outcome=in_weights
    )
    assert same_bits(before, bits(engine.model))
    in_run = engine.run(job(weights=False), lambda c: edit_of(c, weights=False, site=site))
    moved = 0.0
    for i, (a, b) in enumerate(zip(in_weights.logps, in_run.logps, strict=True)):
        assert abs(a - b).max() < 1e-5 * max(1.0, abs(b).max())
        moved = max(moved, float(abs(b - in_run.logps[i - i % 3]).max()))
    assert moved > 1e-3, "the edit must show, or the comparison could not fail"
    assert all(in_weights.done) and in_weights.nodes > 0


def test_generated_text_is_that_of_the_edited_model() -> None:
    engine = Engine(tiny_model("llama"))
    resolve = lambda c: edit_of(c, weights=True)  # noqa: E731
    outcome = engine.blank(job(weights=True))
    run_with_weights(engine, job(weights=True), resolve, progress=None, outcome=outcome)
    with edited_weights(engine, resolve("one").in_weights()), torch.inference_mode():
        ids = list(PROMPTS[0])
        for _ in range(3):
            ids.append(int(engine.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    assert list(outcome.generated[1]) == ids[len(PROMPTS[0]) :][: len(outcome.generated[1])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_bit_is_put_back_after_an_interrupt(dtype: torch.dtype) -> None:
    engine = Engine(tiny_model("llama", dtype=dtype))
    before = bits(engine.model)
    seen = []

    def interrupt(_: int) -> None:
        seen.append(same_bits(before, bits(engine.model)))
        if len(seen) == 2:
            raise KeyboardInterrupt

    outcome = engine.blank(job(weights=True))
    with pytest.raises(KeyboardInterrupt):
        run_with_weights(
            engine, job(weights=True), lambda c: edit_of(c, weights=True), progress=interrupt, outcome=outcome
        )
    assert seen == [True, False], "the second model is run with other weights"
    assert same_bits(before, bits(engine.model))
    assert outcome.done[0] and outcome.done[1] and not outcome.done[2], "what was finished is kept"


def test_weights_that_two_modules_share_are_refused() -> None:
    model = tiny_model("llama")
    model.model.layers[1].mlp.down_proj.weight = model.model.layers[0].mlp.down_proj.weight
    engine = Engine(model)
    with (
        pytest.raises(RunError, match="are the same weights"),
        edited_weights(engine, edit_of("one", weights=True).in_weights()),
    ):
        pass


# -- the whole program ------------------------------------------------------------------------------------------

MORE = """\
  forget:
    edit: {scale: -1, neurons: cell/trump, in: weights}
    ask: questions
    unknown: nobody
    measure: answer_probability
    save_model: without-trump
  by_activation:
    edit: {scale: -1, neurons: cell/trump, position: all}
    ask: questions
    unknown: nobody
    measure: answer_probability
only: [forget, by_activation]
"""


@pytest.fixture
def forgetting(write_spec: Callable[..., Path], tiny_checkpoint: Path) -> Path:
    path = write_spec(more=MORE)
    model = f"{{id: {tiny_checkpoint}, dtype: float32}}"
    path.write_text(path.read_text(encoding="utf-8").replace(f"model: {tiny_checkpoint}", f"model: {model}"))
    return path


def folder_of(workplace: Path, runs: str = "runs") -> Path:
    (found,) = [p for p in (workplace / runs).iterdir() if p.name.startswith("tiny-")]
    return found


def rows(folder: Path, intervention: str, condition: str) -> dict[tuple[str, str], float]:
    found = parquet.read_table(folder / "results.parquet").to_pylist()
    return {
        (row["entity"], row["relation"]): row["answer_probability"]
        for row in found
        if row["intervention"] == intervention and row["condition"] == condition and row["role"] != "unknown"
    }


def test_the_saved_model_gives_the_numbers_of_the_edit_at_every_token(
    forgetting: Path, command: Callable[..., Any], workplace: Path
) -> None:
    answer = command(forgetting, "--no-track")
    assert answer.code == 0, answer.all
    assert "saved model: models/without-trump" in answer.all
    folder = folder_of(workplace)
    edited = rows(folder, "forget", "edit")
    by_activation = rows(folder, "by_activation", "edit")
    clean = rows(folder, "forget", "clean")
    assert edited.keys() == by_activation.keys() and len(edited) == 4
    for key, value in edited.items():
        assert value == pytest.approx(by_activation[key], rel=1e-5)
    assert any(abs(edited[key] / clean[key] - 1) > 1e-4 for key in edited)
    saved = folder / "models" / "without-trump"
    model = f"model={{id: {saved}, dtype: float32}}"
    again = command(forgetting, "--no-track", "--set", model, "--only", "by_activation", "--out", "again")
    assert again.code == 0, again.all
    reloaded = rows(folder_of(workplace, "again"), "by_activation", "clean")
    assert reloaded.keys() == by_activation.keys()
    for key, value in reloaded.items():
        assert value == pytest.approx(by_activation[key], rel=1e-5)


def test_the_saved_checkpoint_is_whole_and_says_what_was_done(
    forgetting: Path, command: Callable[..., Any], workplace: Path, tiny_checkpoint: Path
) -> None:
    assert command(forgetting, "--no-track").code == 0
    saved = folder_of(workplace) / "models" / "without-trump"
    names = {p.name for p in saved.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "README.md"} <= names
    assert not [p for p in saved.parent.iterdir() if p.name.startswith(".")]
    results = json.loads((folder_of(workplace) / "results.json").read_text())
    (address,) = results["interventions"]["forget"]["neurons"]["trump"]
    layer, neuron = (int(part[1:]) for part in address.split("."))
    card = (saved / "README.md").read_text(encoding="utf-8")
    for said in (address, "| -1 |", results["hash"], "trump", "Licence", str(tiny_checkpoint)):
        assert said in card
    old, new = load_file(tiny_checkpoint / "model.safetensors"), load_file(saved / "model.safetensors")
    assert old.keys() == new.keys()
    changed = {name: (old[name] != new[name]).nonzero() for name in old if not torch.equal(old[name], new[name])}
    (only,) = changed.items()
    assert only[0] == f"model.layers.{layer}.mlp.down_proj.weight" and set(only[1][:, 1].tolist()) == {neuron}
    assert torch.equal(old[only[0]][:, neuron], -new[only[0]][:, neuron])


def test_a_second_run_keeps_the_saved_model_and_never_overwrites_another(
    forgetting: Path, command: Callable[..., Any], workplace: Path
) -> None:
    assert command(forgetting, "--no-track").code == 0
    saved = folder_of(workplace) / "models" / "without-trump"
    (saved / "mine.txt").write_text("a note of the user")
    before = (saved / "model.safetensors").stat().st_mtime_ns
    again = command(forgetting, "--no-track")
    assert again.code == 0, again.all
    assert (saved / "mine.txt").exists() and (saved / "model.safetensors").stat().st_mtime_ns == before
    record = json.loads((saved / "run-spec.json").read_text())
    (saved / "run-spec.json").write_text(json.dumps({**record, "key": "another"}))
    refused = command(forgetting, "--no-track")
    assert refused.code == 4 and "is not overwritten" in refused.all
    assert (saved / "mine.txt").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_leaves_nothing_half_written(
    error: Exception,
    forgetting: Path,
    command: Callable[..., Any],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import PreTrainedModel

    def full(self: Any, place: Path, **_: Any) -> None:
        (Path(place) / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    answer = command(forgetting, "--no-track")
    assert answer.code == 5 and "is full" in answer.all
    assert not list(workplace.rglob("model.safetensors"))


def test_tied_embeddings_and_number_format_survive(tmp_path: Path) -> None:
    model = tiny_model("gpt2", dtype=torch.bfloat16)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    engine = Engine(model)
    with edited_weights(engine, edit_of("one", weights=True).in_weights()):
        model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert loaded.dtype == torch.bfloat16
    assert loaded.get_output_embeddings().weight.data_ptr() == loaded.get_input_embeddings().weight.data_ptr()
    weight, own = loaded.transformer.h[1].mlp.c_proj.weight, model.transformer.h[1].mlp.c_proj.weight
    assert torch.equal(weight[1], -own[1]) and torch.equal(weight[2], own[2])


def test_a_saved_model_is_not_copied_into_the_store_of_mlflow(tmp_path: Path) -> None:
    from runner.tracking import _is_kept

    for name in ("models/one/model.safetensors", "vectors/v.safetensors", "results.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    kept = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if _is_kept(p, tmp_path)}
    assert kept == {"vectors/v.safetensors", "results.json"}
