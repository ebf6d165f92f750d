"""Give neurons a value of their own: zero ablation, clamping, injection."""

from __future__ import annotations

from torch import Tensor


def set_to(values: Tensor, nodes: Tensor, neurons: Tensor, amounts: Tensor) -> Tensor:
    """Replace chosen coordinates in place and return the tensor.

    ``values``: ``[n_nodes, width]``, already a copy; ``nodes``, ``neurons``, ``amounts``: ``[n_edits]`` each, or a
    block: ``[n, 1]``, ``[m]`` and ``[m]`` or ``[n, m]``.
    """
    values[nodes, neurons] = amounts.to(values.dtype)
    return values
