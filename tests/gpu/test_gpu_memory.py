"""Memory and choices on a CUDA device: what does not fit is halved, estimates hold, device and format are found."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runner.budget import default_limits, fitted_limits, pass_bytes
from runner.execute import Engine, Outcome
from runner.families import shape_of
from runner.models import load, pick_device, pick_dtype
from runner.program import Job, Limits, TokenSequence, pack
from specs.language.errors import ModelError
from tests.checkpoint import save_checkpoint
from tests.gpu.place import CARD, DEVICE, card_only, needs_device
from tests.tiny import VOCABULARY, tiny_model

pytestmark = [pytest.mark.gpu, needs_device]

MIB = 1 << 20


def many(count: int, length: int = 12, *, score: bool = True, seed: int = 0) -> Job:
    """Prompts that part at their first tokens, so that nearly every token is a node."""
    table = np.random.default_rng(seed).integers(3, VOCABULARY, (count, length)).tolist()
    last = length - 1
    scored = ((last, 5),) if score else ()
    sequences = tuple(TokenSequence(g, tuple(ids), read=(last,), score=scored) for g, ids in enumerate(table))
    return Job(sequences, ("mlp.neurons",), (0, 1, 2))


@contextmanager
def memory_above_now(mib: int) -> Iterator[None]:
    """Let this process allocate so much more than it holds now, and no more."""
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved() + mib * MIB
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.get_device_properties(0).total_memory)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def compared(outcome: Outcome, expected: Outcome) -> float:
    return float(abs(np.concatenate(outcome.logps) - np.concatenate(expected.logps)).max())


@card_only
@pytest.mark.parametrize(
    ("mib", "count", "wide", "limits"),
    [
        pytest.param(96, 600, 48, Limits(100_000, 100_000, 1), id="masks of one long row"),
        pytest.param(96, 600, 16384, Limits(64, 100_000, 10_000), id="activations of many rows"),
    ],
)
def test_a_pass_that_does_not_fit_is_halved(mib: int, count: int, wide: int, limits: Limits) -> None:
    model = tiny_model("llama", intermediate_size=wide).to(DEVICE)
    job = many(count)
    read: set[int] = set()
    expected = Engine(model, limits=Limits(64, 256, 8)).run(job, on_values=lambda _: None)
    engine = Engine(model, limits=limits)
    assert len(pack(job, limits)) == 1
    with memory_above_now(mib):
        outcome = engine.run(job, on_values=lambda reading: read.update(int(s) for s in reading.sequence))
    assert any("out of memory" in note for note in outcome.notes)
    assert read == set(range(count)), "every prompt is read in the end"
    assert compared(outcome, expected) < 2e-4


def test_memory_that_runs_out_inside_the_model_is_noticed() -> None:
    """The error is raised below the trace, in a layer, and only for large passes."""
    model = tiny_model("llama").to(DEVICE)
    job = many(40)
    expected = Engine(model).run(job, on_values=lambda _: None)

    def full(_: Any, args: tuple[torch.Tensor, ...]) -> None:
        if args[0].shape[:-1].numel() > 200:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")

    model.model.layers[1].mlp.down_proj.register_forward_pre_hook(full)
    outcome = Engine(model, limits=Limits(1000, 1000, 8)).run(job, on_values=lambda _: None)
    assert any("out of memory" in note for note in outcome.notes)
    assert compared(outcome, expected) < 2e-4


@card_only
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama", "gemma3", "bloom", "gpt_neo"])
def test_a_pass_stays_within_its_estimate(family: str, attention: str, dtype: torch.dtype) -> None:
    """A model wide enough that its neurons, not its bookkeeping, fill the memory."""
    implementation = "eager" if family in ("bloom", "gpt_neo") else attention
    if implementation != attention:
        pytest.skip("eager alone")
    sizes = {"hidden_size": 128, **({} if family == "bloom" else {"intermediate_size": 4096})}
    if family != "bloom":
        sizes |= {"max_position_embeddings": 64}
    model = tiny_model(family, dtype=dtype, attention=attention, **sizes).to(DEVICE)
    limits = Limits(1024, 8192, 256)
    engine = Engine(model, limits=limits)
    job = many(700, score=False)
    engine.run(many(20), on_values=lambda _: None)  # what is allocated once and kept
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    engine.run(job, on_values=lambda _: None)
    torch.cuda.synchronize()
    taken = torch.cuda.max_memory_allocated() - before
    estimate = pass_bytes(limits, model.config, shape_of(model), dtype, DEVICE, attention)
    print(f"{family} {attention} {dtype}: {taken / MIB:.0f} of an estimated {estimate / MIB:.0f} MiB")
    assert taken <= estimate


def test_the_first_card_and_its_format_are_chosen() -> None:
    chosen = pick_device("auto")
    assert chosen.device.type == ("cuda" if CARD else "cpu")
    if CARD:
        assert chosen.device == torch.device("cuda:0")
        assert torch.cuda.get_device_name(0) in chosen.reason
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        assert pick_dtype("auto", chosen.device).dtype is (torch.bfloat16 if native else torch.float32)
    for word in ("float32", "bfloat16", "float16"):
        assert str(pick_dtype(word, chosen.device).dtype) == f"torch.{word}"
    with pytest.raises(ModelError, match="there is no device"):
        pick_device(f"cuda:{torch.cuda.device_count()}")


def test_limits_of_a_card_fit_it() -> None:
    model = tiny_model("llama").to(DEVICE)
    limits = fitted_limits(model.config, shape_of(model), torch.float32, DEVICE, "sdpa")
    assert limits == default_limits(DEVICE) == Engine(model).limits


def test_a_checkpoint_is_loaded_onto_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_SPEC_CACHE", str(tmp_path / "cache"))
    folder = save_checkpoint(tmp_path / "tiny")
    loaded = load(str(folder), device=str(DEVICE))
    parameters = list(loaded.model.parameters())
    assert {p.device.type for p in parameters} == {DEVICE.type}
    assert {p.dtype for p in parameters} == {loaded.dtype}
    engine = Engine(loaded.model)
    ids = tuple(loaded.tokenizer("Fact: the home of Donald Trump").input_ids)
    outcome = engine.run(Job((TokenSequence(0, ids, score=((len(ids) - 1, 7),), generate=4),)))
    assert np.isfinite(outcome.logps[0]).all()
    assert len(outcome.generated[0]) <= 4
