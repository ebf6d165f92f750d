"""Several tokens of one prompt as one number."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["pooled"]


def pooled(values: Tensor, owner: Tensor, n_owners: int, how: str) -> Tensor:
    """Pool ``[n, width]`` to ``[n_owners, width]``: ``owner`` of ``[n]`` says whose each line is.

    ``mean`` and ``sum`` in float64; ``max`` takes the value that is furthest from zero, with its sign, for neurons
    speak with either.
    """
    if how == "max":
        out = values.new_zeros((n_owners, values.shape[1]))
        for n in range(n_owners):
            mine = values[owner == n]
            out[n] = mine.gather(0, mine.abs().argmax(dim=0, keepdim=True)).squeeze(0)
        return out
    summed = torch.zeros((n_owners, values.shape[1]), dtype=torch.float64, device=values.device)
    summed.index_add_(0, owner, values.double())
    if how == "sum":
        return summed
    assert how == "mean"
    return summed / torch.bincount(owner, minlength=n_owners)[:, None]
