"""A ranking in memory: every candidate's score, and the order of the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from specs.language.errors import RunError
from specs.language.references import Address

Floats = npt.NDArray[np.float32]
NEXT_BEST = 5
"""Dominance compares the best score with the mean of so many next ones of the layer."""


@dataclass
class GroupData:
    """One owner's ranking. ``score``, ``mean``, ``std``: ``[n_layers, width]``; ``mean``, ``std`` of the activation."""

    score: Floats
    mean: Floats | None = None
    std: Floats | None = None
    mean_z: Floats | None = None
    std_z: Floats | None = None
    floor: float | None = None
    """Least value of ``std_z`` that entered the score."""
    n_prompts: int = 0
    values: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    """(layer, neuron): its activation on every prompt, for the neurons that are kept."""
    prompts: list[str] = field(default_factory=list)
    _order: npt.NDArray[np.int64] | None = None

    def order(self) -> npt.NDArray[np.int64]:
        """List all candidates, best first, as flat indices; equal scores keep the order of layer and neuron."""
        if self._order is None:
            self._order = np.argsort(-self.score.reshape(-1), kind="stable")
        return self._order


@dataclass
class RankingData:
    """The rankings of one localisation, one per owner."""

    name: str
    metric: str
    site: str
    layers: tuple[int, ...]
    top: int
    groups: dict[str, GroupData]
    baseline_mean: Floats | None = None
    baseline_std: Floats | None = None
    n_baseline: int = 0

    def address(self, flat: int, width: int) -> Address:
        """Give the address of a flat index into ``[n_layers, width]``."""
        return Address(self.site, self.layers[flat // width], flat % width)

    def slice(self, key: str, first: int, last: int) -> list[Address]:
        """List the neurons of ranks ``first..last``, 1 the best; negative ranks count from the end.

        Raises :class:`RunError` for a rank that the ranking does not have.
        """
        group = self.groups[key]
        width = group.score.shape[1]
        order = group.order()
        if max(abs(first), abs(last)) > len(order):
            raise RunError(
                f"'{self.name}' ranks {len(order):,} neurons; there is no rank {max(abs(first), abs(last)):,}",
                remedy="cut with a smaller number",
            )
        start = first - 1 if first > 0 else len(order) + first
        stop = last if last > 0 else len(order) + last + 1
        return [self.address(int(i), width) for i in order[start:stop]]

    def chosen(self, key: str) -> list[Address]:
        """List the set that the ranking stands for."""
        return self.slice(key, 1, self.top)

    def widths(self) -> Mapping[tuple[str, int], int]:
        """Give the number of neurons per site and layer."""
        width = next(iter(self.groups.values())).score.shape[1]
        return {(self.site, layer): width for layer in self.layers}

    def dominance(self, key: str, address: Address) -> float | None:
        """Compare a score with the mean of the next five of its layer; None where those are all zero."""
        group = self.groups[key]
        row = group.score[self.layers.index(address.layer)]
        own = float(row[address.neuron])
        below = np.delete(row, address.neuron)
        below = below[below <= own]
        if len(below) < NEXT_BEST:
            return None
        following = float(np.partition(below, -NEXT_BEST)[-NEXT_BEST:].mean())
        return own / following if following > 0 else None

    def rank_of(self, key: str, address: Address) -> tuple[int, float]:
        """Give the rank (1 = best) and score of an address in one owner's ranking."""
        group = self.groups[key]
        own = float(group.score[self.layers.index(address.layer), address.neuron])
        return int((group.score > own).sum()) + 1, own
