"""Mean and standard deviation of every neuron over the prompts of each owner, a pass at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["BYTES_PER_VALUE", "Moments"]

BYTES_PER_VALUE = 20
"""Of one neuron of one owner: two float64 sums and a float32 shift."""


class Moments:
    """Sums of ``a - shift`` and of its square in float64, where the shift is the owner's first value of the neuron.

    So nothing is kept of a value that was added, and a neuron whose mean is far larger than its spread loses no
    digits: with the shift within a few stds of the mean, the variance is exact to about 1e-15 of itself.
    Memory: ``BYTES_PER_VALUE * n_owners * n_layers * width``, on the device of the values.
    """

    def __init__(self, n_owners: int, n_layers: int) -> None:
        self.counts = np.zeros(n_owners, dtype=np.int64)
        self._shift: list[Tensor | None] = [None] * n_layers
        self._sums: list[Tensor | None] = [None] * n_layers
        self._squares: list[Tensor | None] = [None] * n_layers

    def add(self, owners: np.ndarray, values: Sequence[Tensor]) -> None:
        """Add values: ``owners`` of ``[n_read]``, and for each layer ``[n_read, width]``."""
        new, first = np.unique(owners, return_index=True)
        unseen = self.counts[new] == 0
        new, first = new[unseen], first[unseen]
        device = values[0].device
        owner = torch.from_numpy(owners).to(device)
        new_owner, new_value = torch.from_numpy(new).to(device), torch.from_numpy(first).to(device)
        for layer, value in enumerate(values):
            shape = (len(self.counts), value.shape[1])
            shift, sums, squares = self._shift[layer], self._sums[layer], self._squares[layer]
            if shift is None or sums is None or squares is None:
                shift = self._shift[layer] = torch.zeros(shape, dtype=torch.float32, device=device)
                sums = self._sums[layer] = torch.zeros(shape, dtype=torch.float64, device=device)
                squares = self._squares[layer] = torch.zeros(shape, dtype=torch.float64, device=device)
            if len(new):
                shift[new_owner] = value[new_value].float()
            difference = value.to(torch.float64, copy=True).sub_(shift[owner])
            sums.index_add_(0, owner, difference)
            squares.index_add_(0, owner, difference.square_())
        self.counts += np.bincount(owners, minlength=len(self.counts))

    def of(self, owner: int) -> tuple[Tensor, Tensor]:
        """Give mean and population standard deviation over one owner's values: ``[n_layers, width]``, float64.

        On the device of the values; not finite where a value was not.
        """
        n = int(self.counts[owner])
        means, stds = [], []
        for shift, sums, squares in zip(self._shift, self._sums, self._squares, strict=True):
            assert shift is not None and sums is not None and squares is not None
            offset = sums[owner] / n
            means.append(shift[owner].double() + offset)
            stds.append((squares[owner] / n - offset.square()).clamp_(min=0).sqrt_())
        return torch.stack(means), torch.stack(stds)
