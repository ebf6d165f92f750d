"""Multiply neurons by a factor of their value in the same run: negative ablation, amplification, sweeps."""

from __future__ import annotations

from torch import Tensor


def scale(values: Tensor, nodes: Tensor, neurons: Tensor, amounts: Tensor) -> Tensor:
    """Multiply chosen coordinates in place and return the tensor.

    ``values``: ``[n_nodes, width]``, already a copy; ``nodes``, ``neurons``, ``amounts``: ``[n_edits]`` each, or a
    block: ``[n, 1]``, ``[m]`` and ``[m]`` or ``[n, m]``. A pair (node, neuron) stands at most once.
    ``values[node, neuron] *= amount``: 0 is zero ablation, -1 negative ablation.
    """
    values[nodes, neurons] = (values[nodes, neurons].float() * amounts).to(values.dtype)
    return values
