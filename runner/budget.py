"""How much goes into one forward pass: the memory it takes is estimated before the run, and the pass cut to fit.

The limits depend on the model's shape, the number format and the device's whole memory, never on what happens to be
free: packing decides the last bits of bfloat16, and the same spec on the same machine must give the same numbers.
What does not fit all the same is halved while it runs, and the run says so.
"""

from __future__ import annotations

from typing import Any

import torch

from runner.attention import mask_bytes, one_row_only
from runner.families import ModelShape
from runner.program import Limits

__all__ = ["default_limits", "family_limits", "fitted_limits", "pass_bytes"]

CPU_BYTES = 1 << 30
"""What a pass may take beside the weights on a CPU."""
GPU_SHARE = 0.25
"""What it may take of a GPU's memory."""
LEAST_NODES = 64


def default_limits(device: torch.device) -> Limits:
    """Choose pass sizes: short rows on a CPU, where attention is quadratic and nothing is gained beyond a few
    hundred tokens; long ones on a GPU, which must be filled."""
    if device.type == "cuda":
        return Limits(row_nodes=1024, pass_nodes=16384, rows=256)
    return Limits(row_nodes=256, pass_nodes=512, rows=64)


def family_limits(config: Any, limits: Limits) -> Limits:
    """Bound a pass by what a family takes: some biases have no batch axis and allow one row."""
    return Limits(limits.row_nodes, limits.row_nodes, rows=1) if one_row_only(config) else limits


def pass_bytes(
    limits: Limits, config: Any, shape: ModelShape, dtype: torch.dtype, device: torch.device, attention: str
) -> int:
    """Estimate the memory of one full pass beside the weights: masks, attention, and every neuron of every node."""
    rows = max(1, min(limits.rows, limits.pass_nodes // limits.row_nodes))
    masks = mask_bytes(config, rows, limits.row_nodes, shape.n_heads, dtype, attention, device)
    # Twice, for what is read is stacked over layers while the pass still holds it.
    reading = 2 * limits.pass_nodes * sum(shape.d_mlp) * dtype.itemsize
    return masks + reading


def fitted_limits(config: Any, shape: ModelShape, dtype: torch.dtype, device: torch.device, attention: str) -> Limits:
    """Halve rows and passes until one fits into its share of the device's memory."""
    limits = family_limits(config, default_limits(device))
    budget = CPU_BYTES
    if device.type == "cuda":
        budget = int(GPU_SHARE * torch.cuda.get_device_properties(device).total_memory)
    while pass_bytes(limits, config, shape, dtype, device, attention) > budget and limits.pass_nodes > LEAST_NODES:
        nodes = max(LEAST_NODES, limits.pass_nodes // 2)
        limits = Limits(min(limits.row_nodes, nodes), nodes, limits.rows)
    return limits
