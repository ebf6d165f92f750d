"""Edits as blocks: every one of some neurons at every one of some nodes, and never a list of such pairs.

A condition that silences 50,000 neurons at 2,000 nodes is a hundred million pairs. A block holds it as two lists, and
torch multiplies them out inside one operation. Many small blocks, such as one neuron of each of a hundred owners, are
put together to a single operation on pairs instead: that is fewer of them, and the pairs are few. Both do the same
arithmetic on the same numbers, so no bit depends on which was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interventions import VERBS

__all__ = ["Block", "Blocks", "gathered"]

SMALL = {"cpu": 1 << 12, "cuda": 1 << 16}
"""Pairs up to which a block is put together with others: what an operation of its own costs is more there."""
TOGETHER = 1 << 20
"""Pairs of small blocks in one operation, at most: 24 MB of indices."""


@dataclass(frozen=True)
class Block:
    """What one condition does at one site of one layer.

    ``nodes``: ``[n]``. ``neurons``, ``amounts``: ``[m]``. ``twins``: ``[n]``, nodes of whose values the amounts are
    multiples; None for amounts as they are.
    """

    nodes: np.ndarray
    neurons: np.ndarray
    amounts: np.ndarray
    twins: np.ndarray | None = None

    @property
    def n_pairs(self) -> int:
        return len(self.nodes) * len(self.neurons)


@dataclass(frozen=True)
class Blocks:
    """One operation on the device, on pairs (``[n]`` each) or on a block (``[n, 1]``, ``[m]``, ``[m]``, ``[n, 1]``)."""

    op: str
    nodes: Tensor
    columns: Tensor
    amounts: Tensor
    twins: Tensor | None = None

    def apply(self, flat: Tensor) -> Tensor:
        """Edit ``[n_nodes, full]`` in place and return it."""
        amounts = self.amounts
        if self.twins is not None:  # clean nodes, which no edit and no freeze touches
            amounts = amounts * flat[self.twins, self.columns].float()
        return VERBS[self.op](flat, self.nodes, self.columns, amounts)


def gathered(
    op: str, blocks: Sequence[Block], columns: Callable[[Tensor], Tensor], device: torch.device
) -> list[Blocks]:
    """Put blocks on the device as few operations. ``columns``: from a site's neurons to the columns of its tensor.

    A pair (node, neuron) stands in at most one of the blocks, so their order does not matter.
    """
    limit = SMALL.get(device.type, SMALL["cpu"])
    done: list[Blocks] = []
    small: dict[bool, list[Block]] = {False: [], True: []}
    pending = {False: 0, True: 0}

    def flush(by_twin: bool) -> None:
        if small[by_twin]:
            done.append(_pairs(op, small[by_twin], columns, device))
        small[by_twin], pending[by_twin] = [], 0

    for block in blocks:
        if not block.n_pairs:
            continue
        if block.n_pairs > limit:
            done.append(_block(op, block, columns, device))
            continue
        by_twin = block.twins is not None
        if pending[by_twin] + block.n_pairs > TOGETHER:
            flush(by_twin)
        small[by_twin].append(block)
        pending[by_twin] += block.n_pairs
    flush(False)
    flush(True)
    return done


def _block(op: str, block: Block, columns: Callable[[Tensor], Tensor], device: torch.device) -> Blocks:
    twins = None if block.twins is None else torch.from_numpy(block.twins).to(device)[:, None]
    return Blocks(
        op,
        torch.from_numpy(block.nodes).to(device)[:, None],
        columns(torch.from_numpy(block.neurons).to(device)),
        torch.from_numpy(block.amounts.astype(np.float32)).to(device),
        twins,
    )


def _pairs(op: str, blocks: Sequence[Block], columns: Callable[[Tensor], Tensor], device: torch.device) -> Blocks:
    def tensor(parts: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(device)

    by_twin = blocks[0].twins is not None
    return Blocks(
        op,
        tensor([np.repeat(b.nodes, len(b.neurons)) for b in blocks]),
        columns(tensor([np.tile(b.neurons, len(b.nodes)) for b in blocks])),
        tensor([np.tile(b.amounts.astype(np.float32), len(b.nodes)) for b in blocks]),
        tensor([np.repeat(b.twins, len(b.neurons)) for b in blocks if b.twins is not None]) if by_twin else None,
    )
