"""What the engine makes of a GPU at hand: its speed beside the card's own limit and beside other ways, and its bits.

    python -m benchmarks.card --shape 7b --out card.json
    python -m benchmarks.card --parts card,limits --minutes 2

The weights are random, in the shape of a real model: speed and memory do not depend on them, and what is said about
rounding holds for values of ordinary size. Every part is guarded: one that fails says so and the next is run. The
result is written after every part.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import io
import itertools
import json
import os
import pstats
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nnsight
import numpy as np
import torch
from torch import Tensor

from runner.attention import tree_attention
from runner.budget import default_limits, fitted_limits, pass_bytes
from runner.execute import Engine, Outcome, Reading
from runner.families import shape_of
from runner.program import Job, Limits, Mode, NeuronEdit, Pass, Resolved, TokenSequence, cost, pack
from runner.tree import stack_rows

SITE = "mlp.neurons"
SHAPES: Mapping[str, Mapping[str, int | bool]] = {
    "7b": {
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
    "1.5b": {
        "hidden_size": 1536,
        "num_hidden_layers": 28,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 8192,
        "tie_word_embeddings": False,
    },
}
"""The shapes of Qwen2.5, and one to try this script with."""
ROWS = (256, 512, 1024, 2048)
PASSES = (2048, 4096, 8192, 16384, 32768)
BATCHES = (64, 128, 256, 512)
FACTORS = tuple(1.0 - 0.2 * k for k in range(21))
CONDITIONS = (("own cell", 2, 11), ("wrong cell", 3, 23), ("random 0", 7, 31), ("random 1", 19, 47))
"""Name, layer and neuron; layers are taken modulo the model's."""
GIB = 1 << 30
Ids = tuple[int, ...]


# -- work ---------------------------------------------------------------------------------------------------


def templates(n: int, random: np.random.Generator) -> list[Ids]:
    """Openings of 5 to 9 tokens; like real ones, many begin alike."""
    found: dict[Ids, None] = {}
    while len(found) < n:
        length = int(random.integers(5, 10))
        ids = [1000 + int(random.integers(12) * random.random())]
        while len(ids) < length:
            # Few ways on at the beginning, many later, as in "The history of", "The wife of", "Tell me about".
            choices = (6, 8, 12, 40, 200, 400, 400, 400)[len(ids) - 1]
            ids.append(1100 + 500 * len(ids) + (int(random.integers(choices)) + 7 * ids[-1]) % 450)
        found[tuple(ids)] = None
    return list(found)


def names(n: int, random: np.random.Generator) -> list[Ids]:
    """Names of 2 to 4 tokens; some share their first."""
    found: dict[Ids, None] = {}
    while len(found) < n:
        rest = int(random.choice((1, 2, 3), p=(0.6, 0.3, 0.1)))
        first = 6000 + int(random.integers(max(8, n)))
        found[(first, *(7000 + int(t) for t in random.integers(0, 1000, rest)))] = None
    return list(found)


@dataclass(frozen=True)
class Localisation:
    """Prompts that end in a name; ``owner[i]``: the name of prompt ``i``."""

    prompts: tuple[Ids, ...]
    owner: np.ndarray
    n_names: int

    def job(self, layers: Sequence[int], *, score: bool = False) -> Job:
        """Read every neuron at the last token; with ``score``, also ask for a log probability there."""
        sequences = tuple(
            TokenSequence(i, p, read=(len(p) - 1,), score=((len(p) - 1, 5000),) if score else ())
            for i, p in enumerate(self.prompts)
        )
        return Job(sequences, (SITE,), tuple(layers))

    def part(self, k: int) -> Localisation:
        """Every k-th prompt."""
        return Localisation(self.prompts[::k], self.owner[::k], self.n_names)


def localisation(n_names: int, n_templates: int = 100, seed: int = 0) -> Localisation:
    """Every opening with every name."""
    random = np.random.default_rng(seed)
    openings, people = templates(n_templates, random), names(n_names, random)
    prompts = tuple(opening + person for person in people for opening in openings)
    return Localisation(prompts, np.repeat(np.arange(n_names), n_templates), n_names)


@dataclass(frozen=True)
class Asked:
    """A fact under one condition: ``ids`` hold the first token of the answer, two tokens are scored."""

    fact: int
    ids: Ids
    at: int
    last: int
    answer: tuple[int, int]
    condition: tuple[str, int, int, float] | None

    def edit(self, n_layers: int) -> NeuronEdit:
        """Give the neuron edit of the condition."""
        assert self.condition is not None
        _, layer, neuron, factor = self.condition
        return NeuronEdit("scale", SITE, layer % n_layers, (neuron,), (factor,))

    def sequence(self, generate: int = 0) -> TokenSequence:
        """Give the sequence of the engine; generation starts after the question, without the answer."""
        ids = self.ids[: self.last + 1] if generate else self.ids
        score = () if generate else tuple((self.last + k, t) for k, t in enumerate(self.answer))
        branch: dict[str, Any] = {}
        if self.condition is not None:
            branch = {"condition": self.condition, "branch_at": self.at, "edits": ((self.at,),)}
        return TokenSequence(self.fact, ids, score=score, generate=generate, **branch)


def sweep(n_facts: int = 8, factors: Sequence[float] = FACTORS, seed: int = 1) -> list[Asked]:
    """Ask every fact clean and under every condition and factor; three tokens follow the name."""
    random = np.random.default_rng(seed)
    asked: list[Asked] = []
    people = names(n_facts, random)
    for fact, opening in enumerate(templates(n_facts, random)):
        question = opening + people[fact] + (9, 10, 11)
        answer = (int(random.integers(2000, 4000)), int(random.integers(2000, 4000)))
        last = len(question) - 1
        changes: list[tuple[str, int, int, float] | None] = [None]
        changes += [(*c, f) for c, f in itertools.product(CONDITIONS, factors)]
        asked += [Asked(fact, (*question, answer[0]), last - 3, last, answer, c) for c in changes]
    return asked


# -- model --------------------------------------------------------------------------------------------------


def build(shape: str, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Any:
    """Make a model without weights, then draw them on the device."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    config = Qwen2Config(**SHAPES[shape], max_position_embeddings=4096)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model = model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.fill_(1.0)
            else:
                weight.normal_(0.0, 0.02, generator=generator)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    _fresh_rotary(model, device)
    return model.eval().requires_grad_(False)


def cast(model: Any, dtype: torch.dtype) -> Any:
    """Change the number format in place, all but the rotary frequencies."""
    model.to(dtype)
    _fresh_rotary(model, next(model.parameters()).device)
    return model


def _fresh_rotary(model: Any, device: torch.device) -> None:
    # Its frequencies are buffers that no checkpoint holds.
    with device:
        model.model.rotary_emb = type(model.model.rotary_emb)(config=model.config)


def body_parameters(model: Any) -> int:
    """Count the weights that every token is multiplied by in a pass without the head."""
    return sum(p.numel() for n, p in model.model.layers.named_parameters() if p.ndim == 2)


# -- measuring ----------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """The model at hand, what to measure it with, and the figures so far."""

    device: torch.device
    shape: str
    repeats: int
    n_names: int
    out: Path | None
    figures: dict[str, Any] = field(default_factory=dict)
    deadline: float = float("inf")
    _held: tuple[str, Any] | None = None

    @property
    def cuda(self) -> bool:
        """Say whether this is a card."""
        return self.device.type == "cuda"

    @property
    def small(self) -> bool:
        """Say whether the script is only tried."""
        return self.shape == "tiny"

    def model(self, shape: str | None = None) -> Any:
        """Give the model of a shape in bfloat16; one is held at a time."""
        shape = shape or self.shape
        if self._held is None or self._held[0] != shape:
            self.drop()
            self._held = (shape, build(shape, torch.bfloat16, self.device))
        return self._held[1]

    def drop(self) -> None:
        """Free the model."""
        self._held = None
        self.free()

    def free(self) -> None:
        """Give back what is held for nothing."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    def sync(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], repeats: int | None = None, warm: int = 1) -> float:
        """Give the median time of some repeats after a first run."""
        for _ in range(warm):
            work()
        times = []
        for _ in range(repeats or self.repeats):
            self.sync()
            started = time.perf_counter()
            work()
            self.sync()
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    def peak(self, work: Callable[[], Any]) -> int | None:
        """Give the most memory that a work takes beside what was held before, in bytes."""
        if not self.cuda:
            work()
            return None
        self.free()
        self.sync()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        self.sync()
        return torch.cuda.max_memory_allocated() - before

    def save(self) -> None:
        """Write the figures so far."""
        if self.out is not None:
            self.out.write_text(json.dumps(self.figures, indent=1), encoding="utf-8")


def say(text: str = "") -> None:
    """Print at once."""
    print(text, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; numbers are shown with four figures."""
    cells = [[f"{c:.4g}" if isinstance(c, float) else "-" if c is None else str(c) for c in row] for row in rows]
    widths = [max(len(r[k]) for r in [list(head), *cells]) for k in range(len(head))]
    for row in [list(head), *cells]:
        say("  " + "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)))


class Sums:
    """Sums and sums of squares of every neuron over the prompts of each owner, on the device, in float32."""

    def __init__(self, model: Any, owner: np.ndarray, n_owners: int) -> None:
        config, device = model.config, model.device
        shape = (config.num_hidden_layers, n_owners, config.intermediate_size)
        self.owner = torch.from_numpy(owner).to(device)
        self.total = torch.zeros(shape, device=device)
        self.squares = torch.zeros(shape, device=device)

    def add(self, values: Sequence[Tensor] | Tensor, prompts: Tensor) -> None:
        """Add values of some prompts: for each layer ``[n_prompts, width]``."""
        owner = self.owner[prompts]
        for layer, part in enumerate(values):
            exact = part.float()
            self.total[layer].index_add_(0, owner, exact)
            self.squares[layer].index_add_(0, owner, exact * exact)

    def read(self, reading: Reading) -> None:
        """Add the values of one pass of the engine."""
        self.add(reading.values[SITE], torch.from_numpy(reading.sequence).to(self.owner.device))


def localise_packed(engine: Engine, work: Localisation) -> tuple[Outcome, Sums]:
    """Localise with the engine, up to sums for each name."""
    sums = Sums(engine.model, work.owner, work.n_names)
    return engine.run(work.job(range(engine.n_layers)), on_values=sums.read), sums


def nothing(_: Reading) -> None:
    """Let the values of a pass go."""


@torch.inference_mode()
def localise_padded(model: Any, work: Localisation, size: int) -> Sums:
    """Localise with padded batches of similar length and plain hooks; the body alone is run."""
    sums = Sums(model, work.owner, work.n_names)
    order = sorted(range(len(work.prompts)), key=lambda i: len(work.prompts[i]))
    for first in range(0, len(order), size):
        members = order[first : first + size]
        ids, mask, last = padded([work.prompts[i] for i in members], model.device)
        rows = torch.arange(len(members), device=model.device)
        with hooked(model, lambda value, r=rows, at=last: value[r, at]) as found:  # type: ignore[misc]
            model.model(input_ids=ids, attention_mask=mask, use_cache=False)
        sums.add(found, torch.tensor(members, device=model.device))
    return sums


@torch.inference_mode()
def localise_single(model: Any, work: Localisation) -> Sums:
    """Localise with nnsight, one prompt per trace, stopped after the last neurons."""
    sums = Sums(model, work.owner, work.n_names)
    traced: Any = nnsight.NNsight(model)
    held: list[Tensor] = []
    for i, ids in enumerate(work.prompts):
        with traced.trace(input_ids=torch.tensor([ids], device=model.device), use_cache=False) as tracer:
            values = nnsight.save([])
            for layer in traced.model.layers:
                values.append(layer.mlp.down_proj.input[0, -1])
            tracer.stop()
        held.append(torch.stack(list(values)))
        if len(held) == 64 or i + 1 == len(work.prompts):
            sums.add(torch.stack(held, dim=1), torch.arange(i + 1 - len(held), i + 1, device=model.device))
            held = []
    return sums


def padded(prompts: Sequence[Ids], device: torch.device, *, left: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Pad prompts: ids, mask, and the last position of each."""
    width = max(len(p) for p in prompts)
    ids = np.zeros((len(prompts), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, p in enumerate(prompts):
        where = slice(width - len(p), width) if left else slice(0, len(p))
        ids[row, where], mask[row, where] = p, 1
    last = np.array([width - 1 if left else len(p) - 1 for p in prompts])
    return tuple(torch.from_numpy(a).to(device) for a in (ids, mask, last))  # type: ignore[return-value]


@contextmanager
def hooked(model: Any, take: Callable[[Tensor], Tensor]) -> Iterator[list[Tensor]]:
    """Keep a part of the input of every down projection, layer by layer."""
    found: list[Tensor] = []
    with ExitStack() as hooks:
        for layer in model.model.layers:
            handle = layer.mlp.down_proj.register_forward_pre_hook(lambda _, args: found.append(take(args[0])))
            hooks.callback(handle.remove)
        yield found


# -- parts --------------------------------------------------------------------------------------------------


def part_card(bench: Bench) -> dict[str, Any]:
    """The card's own limits: all linear maps of the model back to back, one large product, and copies."""
    model = bench.model()
    found: dict[str, Any] = {"linear_maps": [], "parameters": body_parameters(model)}
    hidden = model.config.hidden_size
    sizes = (64, 128) if bench.small else (2048, 4096, 8192, 16384)
    with torch.inference_mode():
        for m in sizes:
            x = torch.randn(m, hidden, device=bench.device, dtype=torch.bfloat16)
            wide = torch.randn(m, model.config.intermediate_size, device=bench.device, dtype=torch.bfloat16)

            def every(x: Tensor = x, wide: Tensor = wide) -> None:
                for layer in model.model.layers:
                    attention = layer.self_attn
                    for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj):
                        linear(x)
                    layer.mlp.gate_proj(x)
                    layer.mlp.up_proj(x)
                    layer.mlp.down_proj(wide)

            seconds = bench.seconds(every)
            rate = 2 * found["parameters"] * m / seconds / 1e12
            found["linear_maps"].append({"rows": m, "ms": 1000 * seconds, "tflops": rate})
        n = 256 if bench.small else 8192
        a, b = (torch.randn(n, n, device=bench.device, dtype=torch.bfloat16) for _ in "ab")
        seconds = bench.seconds(lambda: [a @ b for _ in range(10)]) / 10
        found["square"] = {"n": n, "tflops": 2 * n**3 / seconds / 1e12}
        block = torch.empty((1 if bench.small else 2048) << 20, dtype=torch.uint8, device=bench.device)
        other = torch.empty_like(block)
        seconds = bench.seconds(lambda: [other.copy_(block) for _ in range(5)]) / 5
        found["copy_gb_per_s"] = 2 * block.numel() / seconds / 1e9
        if bench.cuda:
            part = block[: 1 << 30]
            pinned = torch.empty(part.shape, dtype=torch.uint8, pin_memory=True)
            found["to_host_gb_per_s"] = part.numel() / bench.seconds(lambda: part.cpu()) / 1e9
            found["to_pinned_gb_per_s"] = part.numel() / bench.seconds(lambda: pinned.copy_(part)) / 1e9
    found["limit_tflops"] = max(row["tflops"] for row in found["linear_maps"])
    table(("rows", "ms", "TFLOP/s"), [tuple(row.values()) for row in found["linear_maps"]])
    say(f"  square {found['square']['n']}: {found['square']['tflops']:.4g} TFLOP/s")
    say(f"  GB/s: copy on the device {found['copy_gb_per_s']:.4g} (read and written)")
    say(f"  GB/s: to the host {found.get('to_host_gb_per_s')}, to pinned memory {found.get('to_pinned_gb_per_s')}")
    return found


def limit_tflops(bench: Bench) -> float | None:
    """Give the measured limit of the card."""
    found = bench.figures.get("card") or {}
    return found.get("limit_tflops")


def part_limits(bench: Bench) -> dict[str, Any]:
    """Localise under every limit: tokens per second, share of the card's limit, and memory beside its estimate."""
    model = bench.model()
    work = localisation(bench.n_names)
    job = work.job(range(len(model.model.layers)))
    rows_tried = (64, 128) if bench.small else ROWS
    passes_tried = (256, 512) if bench.small else PASSES
    localise_packed(Engine(model, limits=Limits(rows_tried[0], passes_tried[0], 256)), work.part(8))
    found: list[dict[str, Any]] = []
    # The pass stops before the last down projection.
    needed = body_parameters(model) - model.model.layers[-1].mlp.down_proj.weight.numel()
    for row_nodes, pass_nodes in itertools.product(rows_tried, passes_tried):
        if time.perf_counter() > bench.deadline:
            say("  out of time: the rest of the limits is left out")
            break
        limits = Limits(row_nodes, pass_nodes, 256)
        engine = Engine(model, limits=limits)
        outcomes: list[Outcome] = []
        peak = bench.peak(lambda e=engine: e.run(job, on_values=nothing))  # type: ignore[misc]
        seconds = bench.seconds(lambda e=engine, to=outcomes: to.append(localise_packed(e, work)[0]), warm=0)  # type: ignore[misc]
        nodes, notes = outcomes[-1].nodes, outcomes[-1].notes
        rate = nodes / seconds
        limit = limit_tflops(bench)
        estimate = pass_bytes(limits, model.config, shape_of(model), model.dtype, bench.device, "sdpa")
        found.append(
            {
                "row_nodes": row_nodes,
                "pass_nodes": pass_nodes,
                "passes": outcomes[-1].passes,
                "nodes": nodes,
                "seconds": seconds,
                "tokens_per_s": rate,
                "prompts_per_s": len(job) / seconds,
                "share": None if not limit else 2 * needed * rate / 1e12 / limit,
                "peak_gib": None if peak is None else peak / GIB,
                "estimate_gib": estimate / GIB,
                "halved": len(notes),
            }
        )
    count = cost(job, pack(job, Limits(1024, 16384, 256)))
    say(f"  {len(job)} prompts, {count.tokens} tokens, {count.padded_tokens} padded, {count.distinct_tokens} distinct")
    table(
        ("row", "pass", "passes", "nodes", "s", "nodes/s", "prompts/s", "share", "peak GiB", "estimate", "halved"),
        [tuple(row.values()) for row in found],
    )
    best = max(found, key=lambda row: row["prompts_per_s"])
    near = [row for row in found if row["prompts_per_s"] >= 0.97 * best["prompts_per_s"]]
    least = min(near, key=lambda row: (row["pass_nodes"], row["row_nodes"]))
    now, fitted = (
        default_limits(bench.device),
        fitted_limits(model.config, shape_of(model), model.dtype, bench.device, "sdpa"),
    )
    say(f"  best {best['row_nodes']}/{best['pass_nodes']}; within 3 % with the smallest pass:")
    say(f"  {least['row_nodes']}/{least['pass_nodes']}; default {now}, fitted to this model {fitted}")
    return {
        "prompts": len(job),
        "tokens": count.tokens,
        "padded": count.padded_tokens,
        "rows": found,
        "best": best,
        "smallest_within_3_percent": least,
        "default": str(now),
        "fitted": str(fitted),
    }


def best_limits(bench: Bench) -> Limits:
    """Give the limits found best, or those the engine would take."""
    best = (bench.figures.get("limits") or {}).get("smallest_within_3_percent")
    if best:
        return Limits(best["row_nodes"], best["pass_nodes"], 256)
    return Limits(128, 512, 64) if bench.small else Limits(512, 8192, 256)


def part_localise(bench: Bench) -> dict[str, Any]:
    """Localise in three ways: packed, in padded batches with hooks, and with one prompt per trace."""
    model = bench.model()
    work = localisation(bench.n_names)
    limits = best_limits(bench)
    engine = Engine(model, limits=limits)
    seconds = bench.seconds(lambda: localise_packed(engine, work))
    found: dict[str, Any] = {"prompts": len(work.prompts), "limits": str(limits), "packed_s": seconds, "padded": []}
    k = max(1, len(work.prompts) // (64 if bench.small else 4096))
    some = work.part(k)
    for size in (16, 32) if bench.small else BATCHES:
        scaled = bench.seconds(lambda size=size: localise_padded(model, some, size)) * len(work.prompts)  # type: ignore[misc]
        found["padded"].append({"batch": size, "seconds_scaled": scaled / len(some.prompts)})
    best = min(found["padded"], key=lambda row: row["seconds_scaled"])
    one = work.part(max(1, len(work.prompts) // (4 if bench.small else 48)))
    single = bench.seconds(lambda: localise_single(model, one)) / len(one.prompts)
    found |= {
        "padded_prompts_run": len(some.prompts),
        "single_prompts_run": len(one.prompts),
        "padded_best": best,
        "single_s_per_prompt": single,
        "single_s_scaled": single * len(work.prompts),
        "times_padded": best["seconds_scaled"] / seconds,
        "times_single": single * len(work.prompts) / seconds,
    }
    ours, theirs = localise_packed(engine, some)[1], localise_padded(model, some, best["batch"])
    layers = (ours.total - theirs.total).abs().amax(dim=(1, 2)) / theirs.total.abs().amax(dim=(1, 2))
    found["means_differ_relative"] = float(layers.max())
    say(f"  {len(work.prompts)} prompts packed: {seconds:.3f} s")
    for row in found["padded"]:
        say(f"  padded, batches of {row['batch']}: {row['seconds_scaled']:.3f} s (scaled from {len(some.prompts)})")
    say(f"  one per trace: {found['single_s_scaled']:.1f} s, {1000 * single:.1f} ms each (from {len(one.prompts)})")
    say(
        f"  packed is {found['times_padded']:.2f} times the padded way, {found['times_single']:.1f} times one per trace"
    )
    say(f"  means differ from the padded way's by {found['means_differ_relative']:.2g}, relative")
    return found


def part_sweep(bench: Bench) -> dict[str, Any]:
    """A sweep of 21 factors x 4 conditions x 8 facts: as branches, in padded batches, and one per trace."""
    model = bench.model()
    asked = sweep(*((2, FACTORS[:3]) if bench.small else ()))
    job = Job(tuple(a.sequence() for a in asked))
    by_condition = {a.condition: a for a in asked if a.condition is not None}
    n_layers = len(model.model.layers)

    def resolve(condition: Hashable) -> Resolved:
        return Resolved(((by_condition[condition].edit(n_layers),),))  # type: ignore[index]

    limits = best_limits(bench)
    outcomes: list[Outcome] = []
    engine = Engine(model, limits=limits)
    seconds = bench.seconds(lambda: outcomes.append(engine.run(job, resolve)))
    ours = np.stack(outcomes[-1].logps)
    found: dict[str, Any] = {
        "sequences": len(job),
        "nodes": outcomes[-1].nodes,
        "passes": outcomes[-1].passes,
        "packed_s": seconds,
        "padded": [],
    }
    found["rows"] = []
    for row_nodes in (64,) if bench.small else ROWS:
        other = Engine(model, limits=Limits(row_nodes, 16384, 256))
        took = bench.seconds(lambda e=other: e.run(job, resolve))  # type: ignore[misc]
        found["rows"].append({"row_nodes": row_nodes, "seconds": took})
    for size in (16,) if bench.small else (64, 128, 256, 680):
        theirs: list[np.ndarray] = []
        padded_s = bench.seconds(lambda size=size, to=theirs: to.append(sweep_padded(model, asked, size)))  # type: ignore[misc]
        found["padded"].append(
            {"batch": size, "seconds": padded_s, "differs_nats": float(abs(theirs[-1] - ours).max())}
        )
    few = asked[:: max(1, len(asked) // (4 if bench.small else 34))]
    alone: list[np.ndarray] = []
    single = bench.seconds(lambda: alone.append(sweep_single(model, few))) / len(few)
    places = [asked.index(a) for a in few]
    best = min(row["seconds"] for row in found["padded"])
    found |= {
        "single_run": len(few),
        "single_s_scaled": single * len(asked),
        "single_differs_nats": float(abs(alone[-1] - ours[places]).max()),
        "times_padded": best / seconds,
        "times_single": single * len(asked) / seconds,
    }
    say(f"  {len(job)} sequences, {found['nodes']} nodes in {found['passes']} passes: {1000 * seconds:.1f} ms")
    say("  in rows of " + ", ".join(f"{row['row_nodes']}: {1000 * row['seconds']:.1f} ms" for row in found["rows"]))
    for row in found["padded"]:
        say(
            f"  padded, batches of {row['batch']}: {1000 * row['seconds']:.1f} ms, {row['differs_nats']:.2g} nats apart"
        )
    say(f"  one per trace: {found['single_s_scaled']:.2f} s (scaled from {len(few)})")
    say(
        f"  packed is {found['times_padded']:.2f} times the padded way, {found['times_single']:.1f} times one per trace"
    )
    return found


@torch.inference_mode()
def sweep_padded(model: Any, asked: Sequence[Asked], size: int) -> np.ndarray:
    """Ask in padded batches, edits by hooks; the head runs at the scored positions alone."""
    found = np.zeros((len(asked), 2))
    order = sorted(range(len(asked)), key=lambda i: len(asked[i].ids))
    for first in range(0, len(order), size):
        members = order[first : first + size]
        batch = [asked[i] for i in members]
        ids, mask, _ = padded([a.ids for a in batch], model.device)
        with editing(model, batch, [a.at for a in batch]):
            hidden = model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        rows = torch.arange(len(batch), device=model.device)
        last = torch.tensor([a.last for a in batch], device=model.device)
        for k in (0, 1):
            tokens = torch.tensor([a.answer[k] for a in batch], device=model.device)
            ends = hidden[rows, last + k]
            parts = [
                torch.log_softmax(model.lm_head(e).float(), dim=-1).gather(1, t[:, None])[:, 0]
                for e, t in zip(torch.split(ends, 128), torch.split(tokens, 128), strict=True)
            ]
            found[members, k] = torch.cat(parts).cpu().numpy()
    return found


@contextmanager
def editing(model: Any, batch: Sequence[Asked], at: Sequence[int]) -> Iterator[None]:
    """Multiply each row's neuron at its position, one hook for each edited layer; decoding steps pass by."""
    n_layers = len(model.model.layers)
    by_layer: dict[int, list[tuple[int, int, int, float]]] = {}
    for row, a in enumerate(batch):
        if a.condition is not None:
            edit = a.edit(n_layers)
            by_layer.setdefault(edit.layer, []).append((row, at[row], edit.neurons[0], edit.amounts[0]))
    with ExitStack() as hooks:
        for layer, edits in by_layer.items():
            rows, places, neurons = (torch.tensor([e[k] for e in edits], device=model.device) for k in range(3))
            amounts = torch.tensor([e[3] for e in edits], device=model.device)

            def change(
                _: Any,
                args: tuple[Tensor],
                where: tuple[Tensor, Tensor, Tensor] = (rows, places, neurons),
                amounts: Tensor = amounts,
            ) -> None:
                if args[0].shape[1] > 1:
                    args[0][where] = (args[0][where].float() * amounts).to(args[0].dtype)

            hooks.callback(model.model.layers[layer].mlp.down_proj.register_forward_pre_hook(change).remove)
        yield


@torch.inference_mode()
def sweep_single(model: Any, asked: Sequence[Asked]) -> np.ndarray:
    """Ask with nnsight, one condition and factor per trace."""
    traced: Any = nnsight.NNsight(model)
    n_layers = len(model.model.layers)
    found = np.zeros((len(asked), 2))
    for i, a in enumerate(asked):
        with traced.trace(input_ids=torch.tensor([a.ids], device=model.device), use_cache=False):
            if a.condition is not None:
                edit = a.edit(n_layers)
                neurons = traced.model.layers[edit.layer].mlp.down_proj.input
                neurons[0, a.at, edit.neurons[0]] = neurons[0, a.at, edit.neurons[0]] * edit.amounts[0]
            logits = traced.output.logits[0, a.last :].save()
        logps = torch.log_softmax(logits.float(), dim=-1)
        found[i] = [float(logps[0, a.answer[0]]), float(logps[1, a.answer[1]])]
    return found


def part_generate(bench: Bench) -> dict[str, Any]:
    """80 branches x 16 greedy tokens: from one packed pass, in one left-padded batch, and one by one."""
    model = bench.model()
    factors = (0.0, -3.0, 8.0)[: 1 if bench.small else 3]
    asked = [a for a in sweep(2 if bench.small else 8, factors) if a.condition is None or a.condition[0] != "random 1"]
    by_condition = {a.condition: a for a in asked if a.condition is not None}
    n_layers = len(model.model.layers)
    job = Job(tuple(a.sequence(generate=16) for a in asked))

    def resolve(condition: Hashable) -> Resolved:
        return Resolved(((by_condition[condition].edit(n_layers),),))  # type: ignore[index]

    engine = Engine(model, limits=best_limits(bench))
    outcomes: list[Outcome] = []
    seconds = bench.seconds(lambda: outcomes.append(engine.run(job, resolve)))
    texts = [outcomes[-1].generated[i] for i in range(len(asked))]
    few = asked[:: max(1, len(asked) // 4)]

    def one_by_one() -> list[Ids]:
        return [text for a in few for text in generated(model, [a])]

    batch: list[list[Ids]] = []
    together = bench.seconds(lambda: batch.append(generated(model, asked)))
    alone: list[list[Ids]] = []
    single = bench.seconds(lambda: alone.append(one_by_one())) / len(few)
    found = {
        "branches": len(asked),
        "tokens": 16,
        "packed_s": seconds,
        "batch_s": together,
        "single_run": len(few),
        "single_s_scaled": single * len(asked),
        "times_batch": together / seconds,
        "times_single": single * len(asked) / seconds,
        "equal_to_batch": sum(a == b for a, b in zip(texts, batch[-1], strict=True)),
        "equal_to_single": sum(texts[asked.index(a)] == b for a, b in zip(few, alone[-1], strict=True)),
    }
    say(f"  {len(asked)} branches x 16 tokens: packed {seconds:.3f} s, one padded batch {together:.3f} s,")
    say(f"  one by one {found['single_s_scaled']:.1f} s (scaled from {len(few)})")
    say(f"  packed is {found['times_batch']:.2f} times the batch, {found['times_single']:.1f} times one by one")
    say(f"  equal texts: {found['equal_to_batch']} of {len(asked)} (batch), {found['equal_to_single']} of {len(few)}")
    return found


@torch.inference_mode()
def generated(model: Any, batch: Sequence[Asked], n_new: int = 16) -> list[Ids]:
    """Continue by the library's own ``generate`` with hooks on the prompt."""
    prompts = [a.ids[: a.last + 1] for a in batch]
    ids, mask, _ = padded(prompts, model.device, left=True)
    shift = [ids.shape[1] - len(p) for p in prompts]
    with editing(model, batch, [a.at + s for a, s in zip(batch, shift, strict=True)]):
        result = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=n_new, do_sample=False, pad_token_id=0
        )
    return [tuple(row) for row in result[:, ids.shape[1] :].tolist()]


def part_overhead(bench: Bench) -> dict[str, Any]:
    """The same packed rows by plain hooks, by a bare nnsight trace, and by the engine."""
    model = bench.model()
    work = localisation(bench.n_names)
    job = work.job(range(len(model.model.layers)))
    found: list[dict[str, Any]] = []
    tried = ((64, 128), (128, 512)) if bench.small else ((256, 512), (512, 2048), (512, 8192), (1024, 16384))
    for row_nodes, pass_nodes in tried:
        limits = Limits(row_nodes, pass_nodes, 256)
        batch = max(pack(job, limits), key=lambda b: b.n_nodes)
        members = [i for row in batch.members for i in row]
        own = Job(tuple(replace(job.sequences[i], group=n) for n, i in enumerate(members)), job.sites, job.layers)
        engine = Engine(model, limits=limits)
        mask_s, plain_s, trace_s = rows_by_hand(bench, model, job, batch)
        outcomes: list[Outcome] = []
        engine_s = bench.seconds(lambda e=engine, o=own, to=outcomes: to.append(e.run(o, on_values=nothing)))  # type: ignore[misc]
        found.append(
            {
                "row_nodes": row_nodes,
                "nodes": batch.n_nodes,
                "prompts": len(members),
                "mask_ms": 1000 * mask_s,
                "hooks_ms": 1000 * plain_s,
                "trace_ms": 1000 * trace_s,
                "engine_ms": 1000 * engine_s,
                "passes": outcomes[-1].passes,
                "trace_over_hooks": trace_s / plain_s - 1,
                "engine_over_trace": engine_s / outcomes[-1].passes / trace_s - 1,
            }
        )
    head = ("row", "nodes", "prompts", "mask", "hooks", "trace", "engine", "passes", "trace/hooks-1", "engine/trace-1")
    table(head, [tuple(row.values()) for row in found])
    say("  milliseconds; the engine's include packing, the masks and what it does around a trace")
    return {"rows": found}


@torch.inference_mode()
def rows_by_hand(bench: Bench, model: Any, job: Job, batch: Pass) -> tuple[float, float, float]:
    """Time one pass without the engine: its masks, the pass under plain hooks, and the pass in a trace."""
    rows = stack_rows(batch.trees, align=True)
    width = rows.ids.shape[1]
    ids, depth, end = (torch.from_numpy(a).to(bench.device) for a in (rows.ids, rows.depth, rows.end))
    last = [int(path[-1]) + r * width for r, tree in enumerate(batch.trees) for path in tree.paths]
    reads = torch.tensor(last, device=bench.device)
    traced: Any = nnsight.NNsight(model)

    def masks() -> None:
        with tree_attention(model, ids, depth, end):
            pass

    def take(value: Tensor) -> Tensor:
        return value.reshape(-1, value.shape[-1])[reads]

    with tree_attention(model, ids, depth, end) as kwargs:

        def plain() -> None:
            with hooked(model, take):
                model.model(**kwargs, use_cache=False)

        def trace() -> None:
            with traced.trace(**kwargs, use_cache=False) as tracer:
                values = nnsight.save([])
                for layer in traced.model.layers:
                    value = layer.mlp.down_proj.input
                    values.append(value.reshape(-1, value.shape[-1])[reads])
                tracer.stop()

        return bench.seconds(masks), bench.seconds(plain, 5), bench.seconds(trace, 5)


def part_numbers(bench: Bench) -> dict[str, Any]:
    """Packed, padded and one by one: how far apart, in which format; and whether pass sizes move bits."""
    shape = "tiny" if bench.small else "1.5b"
    model = bench.model(shape)
    some = localisation(6 if bench.small else 24)
    few = Localisation(*_every(some, max(1, len(some.prompts) // (24 if bench.small else 96))), some.n_names)
    found: dict[str, Any] = {"shape": shape, "prompts": len(few.prompts), "pairs": [], "passes": []}
    found["default_matmul_precision"] = torch.get_float32_matmul_precision()
    found["allow_tf32"] = torch.backends.cuda.matmul.allow_tf32
    runs: dict[tuple[str, str], tuple[np.ndarray, Tensor]] = {}
    formats = (
        ("bfloat16", torch.bfloat16, "highest"),
        ("float32", torch.float32, "highest"),
        ("float32, TF32 on", torch.float32, "high"),
    )
    for name, dtype, precision in formats:
        cast(model, dtype)
        torch.set_float32_matmul_precision(precision)
        modes: tuple[Mode, ...] = ("trees", "padded", "one by one")
        try:
            for mode in modes:
                runs[name, mode] = scored(model, few, Limits(512, 8192, 256), mode)
            found["passes"] += same_rows(model, some, name, bench.small)
        finally:
            torch.set_float32_matmul_precision("highest")
        for a, b in (("trees", "one by one"), ("padded", "one by one"), ("trees", "padded")):
            found["pairs"].append({"format": name, "a": a, "b": b, **apart(runs[name, a], runs[name, b])})
    exact = runs["float32", "one by one"]
    for name in ("bfloat16", "float32, TF32 on"):
        pair = apart(runs[name, "one by one"], exact)
        found["pairs"].append({"format": name, "a": "one by one", "b": "float32 one by one", **pair})
    bench.drop()
    say(f"  {shape}, {len(few.prompts)} prompts; float32 products by default: {found['default_matmul_precision']}")
    head = ("format", "a", "b", "neurons rel max", "nats median", "nats max", "ranks moved", "bits equal")
    table(head, [tuple(row.values()) for row in found["pairs"]])
    say("  the same rows in passes of other sizes, against the smallest:")
    again = ("format", "pass", "passes", "again the same bits", "log p equal", "nats max", "neurons equal")
    table(again, [tuple(row.values()) for row in found["passes"]])
    return found


def _every(work: Localisation, k: int) -> tuple[tuple[Ids, ...], np.ndarray]:
    part = work.part(k)
    return part.prompts, part.owner


def scored(model: Any, work: Localisation, limits: Limits, mode: Mode = "trees") -> tuple[np.ndarray, Tensor]:
    """Run with a score at the last token: log probabilities with ranks ``[n, 2]``, and neurons on the host."""
    layers = range(0, len(model.model.layers), 7)
    job = work.job(layers, score=True)
    width = model.config.intermediate_size
    values = torch.empty((len(layers), len(work.prompts), width), dtype=model.dtype)

    def keep(reading: Reading) -> None:
        for layer, part in enumerate(reading.values[SITE]):
            values[layer, torch.from_numpy(reading.sequence)] = part.cpu()

    outcome = Engine(model, limits=limits, mode=mode).run(job, on_values=keep)
    return np.column_stack([np.concatenate(outcome.logps), np.concatenate(outcome.ranks)]), values


def apart(a: tuple[np.ndarray, Tensor], b: tuple[np.ndarray, Tensor]) -> dict[str, Any]:
    """Say how far two results are apart."""
    nats = abs(a[0][:, 0] - b[0][:, 0])
    x, y = a[1].float(), b[1].float()
    relative = (x - y).abs().amax(dim=(1, 2)) / y.abs().amax(dim=(1, 2))
    return {
        "neurons_relative_max": float(relative.max()),
        "nats_median": float(np.median(nats)),
        "nats_max": float(nats.max()),
        "ranks_moved": int((a[0][:, 1] != b[0][:, 1]).sum()),
        "bits_equal": float((x == y).float().mean()),
    }


def same_rows(model: Any, work: Localisation, name: str, small: bool) -> list[dict[str, Any]]:
    """Run the same rows in passes of different sizes, each twice."""
    found: list[dict[str, Any]] = []
    base: tuple[np.ndarray, Tensor] | None = None
    row_nodes, sizes = (64, (64, 256)) if small else (512, (512, 2048, 8192, 32768))
    for pass_nodes in sizes:
        limits = Limits(row_nodes, pass_nodes, 256)
        first, again = scored(model, work, limits), scored(model, work, limits)
        base = base or first
        pair = apart(first, base)
        found.append(
            {
                "format": name,
                "pass_nodes": pass_nodes,
                "passes": len(pack(work.job((0,)), limits)),
                "again_the_same": bool(np.array_equal(first[0], again[0]) and torch.equal(first[1], again[1])),
                "logp_equal": float((first[0][:, 0] == base[0][:, 0]).mean()),
                "nats_max": pair["nats_max"],
                "neurons_equal": pair["bits_equal"],
            }
        )
    return found


def part_profile(bench: Bench) -> dict[str, Any]:
    """One localisation under torch's profiler and under Python's: the device's busy share, and the host's work."""
    from torch.autograd import DeviceType  # type: ignore[attr-defined]
    from torch.profiler import ProfilerActivity, profile

    model = bench.model()
    work = localisation(max(2, bench.n_names // 2))
    limits = best_limits(bench)
    job = work.job(range(len(model.model.layers)))
    found: dict[str, Any] = {"limits": str(limits)}
    found["pack_ms"] = 1000 * bench.seconds(lambda: pack(job, limits))
    passes = pack(job, limits)
    found["stack_ms"] = 1000 * bench.seconds(lambda: [stack_rows(b.trees, align=True) for b in passes])
    engine = Engine(model, limits=limits)
    plain = bench.seconds(lambda: localise_packed(engine, work))
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.cuda else [])]
    bench.sync()
    started = time.perf_counter()
    with profile(activities=activities, acc_events=True) as prof:
        localise_packed(engine, work)
        bench.sync()
    wall = time.perf_counter() - started
    kind = DeviceType.CUDA if bench.cuda else DeviceType.CPU
    spans: list[tuple[float, float]] = []
    kernels: dict[str, list[float]] = {}
    for event in prof.events():
        if event.device_type == kind and not str(event.name).startswith(("ProfilerStep", "Activity Buffer")):
            spans.append((event.time_range.start, event.time_range.end))
            kernels.setdefault(str(event.name)[:90], []).append(event.time_range.elapsed_us() / 1000)
    busy = union(spans) / 1e6
    top = sorted(kernels.items(), key=lambda item: -sum(item[1]))[:14]
    found |= {
        "seconds": plain,
        "seconds_profiled": wall,
        "busy_s": busy,
        "busy_share": busy / plain,
        "kernels": [{"name": n, "calls": len(ms), "ms": sum(ms)} for n, ms in top],
    }
    say(f"  {len(job)} prompts in {len(passes)} passes of {limits}: {plain:.4f} s, under the profiler {wall:.4f} s")
    say(f"  the device is busy for {busy:.4f} s, {100 * busy / plain:.1f} % of the unprofiled time")
    for row in found["kernels"]:
        say(f"  {row['ms']:9.2f} ms {row['calls']:6d} x {row['name']}")
    found["python"] = python_profile(bench, lambda: localise_packed(engine, work))
    say(f"  packing {found['pack_ms']:.1f} ms, stacking {found['stack_ms']:.1f} ms; Python by own time:")
    for row in found["python"][:14]:
        say(f"  {row['own_ms']:9.2f} ms of {row['with_calls_ms']:9.2f} {row['calls']:8d} x {row['name']}")
    return found


def union(spans: Sequence[tuple[float, float]]) -> float:
    """Give the length that intervals cover together."""
    total, reached = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return total


def python_profile(bench: Bench, work: Callable[[], Any]) -> list[dict[str, Any]]:
    """Run under Python's profiler: the functions with most time of their own."""
    profiler = cProfile.Profile()
    profiler.enable()
    work()
    bench.sync()
    profiler.disable()
    stats: Any = pstats.Stats(profiler, stream=io.StringIO())
    rows = [
        {
            "name": f"{os.sep.join(file.split(os.sep)[-2:])}:{line} {name}",
            "calls": calls,
            "own_ms": 1000 * own,
            "with_calls_ms": 1000 * total,
        }
        for (file, line, name), (_, calls, own, total, _) in stats.stats.items()
    ]
    return sorted(rows, key=lambda row: -row["own_ms"])[:30]


def part_ranking(bench: Bench) -> dict[str, Any]:
    """A whole ranking as a run makes it: baseline, activations to where they are reduced, scores of all neurons."""
    from runner.localization.localize import localize
    from runner.plan import LocalizeStage
    from specs.language.experiment import Localize

    model = bench.model()
    n_names = 4 if bench.small else 40
    work = localisation(n_names)
    random = np.random.default_rng(5)
    neutral = [tuple(int(t) for t in random.integers(1000, 5000, random.integers(8, 20))) for _ in range(400)]
    prompts = [*work.prompts, *neutral]
    layers = tuple(range(len(model.model.layers)))
    sequences = tuple(TokenSequence(i, p, read=(len(p) - 1,)) for i, p in enumerate(prompts))
    owners = {f"name {n}": tuple(int(i) for i in np.flatnonzero(work.owner == n)) for n in range(n_names)}
    stage = LocalizeStage(
        name="cell",
        spec=Localize(metric="stability"),
        job=Job(sequences, (SITE,), layers),
        groups=owners,
        labels={owner: (owner, None, None) for owner in owners},
        baseline=tuple(range(len(work.prompts), len(prompts))),
        prompts=tuple(SimpleNamespace(text=SimpleNamespace(text=str(i))) for i in range(len(prompts))),  # type: ignore[misc]
        layers=layers,
    )
    limits = best_limits(bench)
    engine = Engine(model, limits=limits)
    bare = bench.seconds(lambda: engine.run(stage.job, on_values=nothing))
    times: list[float] = []

    def whole() -> None:
        times.append(bench.seconds(lambda: localize(engine, stage), repeats=1, warm=0))

    peak = bench.peak(whole)
    found: dict[str, Any] = {
        "names": n_names,
        "prompts": len(prompts),
        "limits": str(limits),
        "seconds": times[-1],
        "passes_alone_s": bare,
        "peak_gib": None if peak is None else peak / GIB,
    }
    found["python"] = python_profile(bench, lambda: localize(engine, stage))
    say(f"  {n_names} names x 100 prompts and 400 others: {times[-1]:.3f} s, of which passes {bare:.3f} s")
    for row in found["python"][:10]:
        say(f"  {row['own_ms']:9.2f} ms of {row['with_calls_ms']:9.2f} {row['calls']:8d} x {row['name']}")
    return found


PARTS: Mapping[str, tuple[str, Callable[[Bench], dict[str, Any]]]] = {
    "card": ("The card's own limits", part_card),
    "limits": ("Localisation under every limit", part_limits),
    "localise": ("Localisation beside other ways", part_localise),
    "sweep": ("A sweep beside other ways", part_sweep),
    "generate": ("Generation beside other ways", part_generate),
    "overhead": ("One pass by hooks, by a trace, by the engine", part_overhead),
    "profile": ("Where the time goes", part_profile),
    "ranking": ("A whole ranking", part_ranking),
    "numbers": ("Rounding and bits", part_numbers),
}
"""In this order; the last frees the model and takes one of another shape."""


def about(bench: Bench) -> dict[str, Any]:
    """Say what was measured with what."""
    name = torch.cuda.get_device_name(bench.device) if bench.cuda else "CPU"
    memory = torch.cuda.get_device_properties(bench.device).total_memory / GIB if bench.cuda else None
    packages = ("torch", "transformers", "nnsight", "numpy")
    versions = {p: version(p) for p in packages} | {"cuda": str(torch.version.cuda), "python": sys.version.split()[0]}
    return {"device": name, "memory_gib": memory, "shape": bench.shape, "repeats": bench.repeats, "versions": versions}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for; the exit code is the number of parts that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated: " + ", ".join(PARTS))
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--names", type=int, default=0, help="names of the localisation (128; 6 for tiny)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=6.0, help="no part is begun after so many")
    parser.add_argument("--out", type=Path, default=None, help="JSON file")
    given = parser.parse_args(arguments)
    parts = given.parts.split(",")
    if unknown := [name for name in parts if name not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    names_asked = given.names or (6 if given.shape == "tiny" else 128)
    bench = Bench(torch.device(given.device), given.shape, given.repeats, names_asked, given.out)
    started = time.perf_counter()
    bench.deadline = started + 60 * given.minutes
    bench.figures["about"] = about(bench)
    say(json.dumps(bench.figures["about"]))
    failed = 0
    for name in parts:
        title, part = PARTS[name]
        if time.perf_counter() > bench.deadline:
            say(f"== {name}: left out, {given.minutes:g} minutes have passed")
            continue
        begun = time.perf_counter()
        say(f"== {name}: {title}")
        try:
            bench.figures[name] = part(bench)
        except Exception:
            failed += 1
            bench.figures[name] = {"error": traceback.format_exc()}
            say(traceback.format_exc())
        bench.free()
        took = time.perf_counter() - begun
        bench.figures[name]["part_s"] = took
        say(f"   ({took:.1f} s)")
        bench.save()
    say(f"{time.perf_counter() - started:.1f} s in all, {failed} parts failed")
    return failed


if __name__ == "__main__":
    sys.exit(main())
