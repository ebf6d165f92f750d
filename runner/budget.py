"""How much memory a run takes beside the weights: given or chosen, estimated before the run, and measured in it.

What is chosen depends on the model's shape, the number format and the device's whole memory, never on what happens to
be free. Memory decides how many rows run together and how many owners are read at once; which sequences share a row,
and so the last bits of their numbers on a CPU, it does not decide, unless a single row is too large for it: the stage
then says so. What does not fit all the same is halved while it runs, and the run says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import torch

from runner.attention import BLOCK, MOST_KEYS, mask_bytes, one_row_only
from runner.families import ModelShape
from runner.program import Limits
from specs.language.errors import RunError

__all__ = [
    "Memory",
    "default_limits",
    "default_memory",
    "family_limits",
    "fitted_limits",
    "given_memory",
    "pass_bytes",
    "used_bytes",
]

CPU_BYTES = 1 << 30
"""What a pass may take beside the weights on a CPU."""
CPU_READING = 96 << 20
"""What statistics and the values of a round may take there, beside a quarter of the weights."""
GPU_SHARE = 0.25
"""What a pass may take of a GPU's memory."""
GPU_READING = 0.1
LEAST_NODES = 64
HEAD_CHUNK = 128
"""Rows of logits made at a time: larger chunks cost memory, smaller ones time."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a run may take beside the weights: ``a_pass`` for one pass, ``reading`` for statistics and values."""

    a_pass: int
    reading: int

    @property
    def total(self) -> int:
        """Give both together."""
        return self.a_pass + self.reading


def default_memory(device: torch.device, weights: int) -> Memory:
    """Choose memory by the device and the bytes of the weights."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return Memory(int(GPU_SHARE * total), int(GPU_READING * total))
    return Memory(CPU_BYTES, weights // 4 + CPU_READING)


def given_memory(total: int) -> Memory:
    """Split what the user allows: two thirds for a pass, a third for what is read."""
    return Memory(total * 2 // 3, total - total * 2 // 3)


def default_limits(device: torch.device, attention: str = "sdpa", dtype: torch.dtype = torch.float32) -> Limits:
    """Choose pass sizes: rows short where attention is quadratic in them, and as many as fill the machine.

    On a CPU fused attention goes block by block, and rows of 128 to 1,024 are equally fast. Passes of 1,024 are a tenth
    faster than of 512 in float32; in bfloat16 the products of large models are slower there. On an H200 rows of 256 in
    passes of 4,096 to 16,384 are within 3 % of the best at the shapes of 1.5 and 7 billion weights, and longer rows
    slower (``docs/performance.md``).
    """
    if device.type == "cuda":
        return Limits(row_nodes=256, pass_nodes=8192, rows=256)
    pass_nodes = 1024 if dtype == torch.float32 else 512
    return Limits(row_nodes=512 if attention == "sdpa" else 256, pass_nodes=pass_nodes, rows=64)


def family_limits(config: Any, limits: Limits) -> Limits:
    """Bound a pass by what a family takes: some biases have no batch axis and allow one row."""
    return Limits(limits.row_nodes, limits.row_nodes, rows=1) if one_row_only(config) else limits


def pass_bytes(
    limits: Limits, config: Any, shape: ModelShape, dtype: torch.dtype, device: torch.device, attention: str
) -> int:
    """Estimate the memory of the largest pass beside the weights: an upper bound for any job.

    Masks, attention and the keys that are gathered for it; every neuron of every token, as if all were read, and one
    layer of them in float64, as statistics want; a layer's activations; the logits of one chunk.
    """
    rows = max(1, min(limits.rows, limits.pass_nodes // limits.row_nodes))
    masks = mask_bytes(config, rows, limits.row_nodes, shape.n_heads, dtype, attention, device)
    widest = max(shape.d_mlp)
    reading = limits.pass_nodes * (sum(shape.d_mlp) * dtype.itemsize + 2 * widest * 8)
    activations = limits.pass_nodes * (3 * widest + 8 * shape.d_model) * dtype.itemsize
    gathered = 0
    if device.type == "cpu" and attention == "sdpa":
        wide = 8 if dtype == torch.float32 else 0
        heads = shape.n_heads * shape.head_dim
        gathered = 2 * limits.pass_nodes * MOST_KEYS // BLOCK * heads * (dtype.itemsize + wide)
    logits = HEAD_CHUNK * shape.vocabulary * (dtype.itemsize + 2 * 4 + 1)
    return masks + reading + activations + gathered + logits


def fitted_limits(
    config: Any,
    shape: ModelShape,
    dtype: torch.dtype,
    device: torch.device,
    attention: str,
    memory: Memory | None = None,
) -> Limits:
    """Take fewer rows, and only then shorter ones, until a pass fits into its memory.

    Raises :class:`RunError` where memory was given and holds no row of ``LEAST_NODES`` tokens.
    """
    limits = family_limits(config, default_limits(device, attention, dtype))
    budget = (memory or default_memory(device, 0)).a_pass

    def need(candidate: Limits) -> int:
        return pass_bytes(candidate, config, shape, dtype, device, attention)

    while need(limits) > budget and limits.pass_nodes > LEAST_NODES:
        nodes = max(LEAST_NODES, limits.pass_nodes // 2)
        limits = Limits(min(limits.row_nodes, nodes), nodes, limits.rows)
    if memory is not None and need(limits) > budget:
        least = math.ceil(need(limits) * 1.5 / 1e6)
        raise RunError(
            f"{memory.total / 1e6:,.0f} MB are too little memory for this model beside its weights",
            remedy=f"give at least {least:,} MB: that is a pass of {limits.pass_nodes} tokens",
        )
    return limits


def used_bytes(device: torch.device) -> int:
    """Measure what this process holds: on a GPU the most it has held, else memory now that is no file's."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    now = psutil.Process().memory_info()
    return int(now.rss - getattr(now, "shared", 0))
