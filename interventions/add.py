"""Add to neurons: a number, a value of another run, a vector. Steering adds a vector to all neurons of a site."""

from __future__ import annotations

from torch import Tensor


def add(values: Tensor, nodes: Tensor, neurons: Tensor, amounts: Tensor) -> Tensor:
    """Add to chosen coordinates in place and return the tensor.

    ``values``: ``[n_nodes, width]``, already a copy; ``nodes``, ``neurons``, ``amounts``: ``[n_edits]`` each, or a
    block: ``[n, 1]``, ``[m]`` and ``[m]`` or ``[n, m]``. A pair (node, neuron) stands at most once.
    ``values[node, neuron] += amount``, summed in float32.
    """
    values[nodes, neurons] = (values[nodes, neurons].float() + amounts).to(values.dtype)
    return values
