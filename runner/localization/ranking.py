"""A ranking in memory: every candidate's score, and the order of the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from runner.localization.columns import Columns
from runner.localization.metrics import Statistics
from specs.language.errors import RunError
from specs.language.references import Address
from specs.language.results import PrecisionFigures, RandomName

if TYPE_CHECKING:
    from runner.localization.layers import NameBaseline

Floats = npt.NDArray[np.float32]
Ranks = npt.NDArray[np.int64]
Arrays = Mapping[str, Floats]
NEXT_BEST = 5
"""Dominance compares the best score with the mean of so many next ones of the layer."""
LEAST_FIRST, MOST_FIRST = 1 << 12, 1 << 16
"""So many of the best are listed at least and kept in memory for each owner; a longer list than the second is not."""


@dataclass
class GroupData:
    """One owner's ranking: what is listed of it, and its arrays, which may lie on a disk."""

    kept: Arrays | Callable[[], Arrays]
    """``score``, and ``mean`` and ``std`` of the activation where it was read: ``[n_layers, width]`` each.

    A row holds the neurons of all sites of the ranking, as its :class:`Columns` say.
    """
    floor: float | None = None
    """Least standard deviation of z that entered the score."""
    n_prompts: int = 0
    values: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    """(layer, column): its activation on every prompt, for the neurons that are listed."""
    prompts: list[str] = field(default_factory=list)
    _first: Ranks | None = field(default=None, init=False, repr=False, compare=False)
    """The longest list of the best that was asked for, so that a sweep over sizes of a set reads few scores."""
    _shape: tuple[int, int] | None = field(default=None, init=False, repr=False, compare=False)
    precision: PrecisionFigures | None = None
    """How the score falls with the rank, and what shuffled labels reach, where it is an average precision."""

    @classmethod
    def of(cls, score: Floats, mean: Floats | None = None, std: Floats | None = None, **more: Any) -> GroupData:
        """Make a ranking from arrays in memory."""
        arrays = {"score": score, "mean": mean, "std": std}
        return cls({name: values for name, values in arrays.items() if values is not None}, **more)

    def arrays(self) -> Arrays:
        """Give the arrays, read anew each time where they were put away."""
        return self.kept() if callable(self.kept) else self.kept

    @property
    def score(self) -> Floats:
        """Score of every candidate, ``[n_layers, width]``."""
        return self.arrays()["score"]

    @property
    def mean(self) -> Floats | None:
        """Mean activation over the owner's prompts, ``[n_layers, width]``; None if nothing was read."""
        return self.arrays().get("mean")

    @property
    def std(self) -> Floats | None:
        """Population standard deviation of the activation, ``[n_layers, width]``; None if nothing was read."""
        return self.arrays().get("std")

    def order(self) -> Ranks:
        """List all candidates, best first, as flat indices; equal scores keep the order of layer and neuron."""
        return np.argsort(-self.score.reshape(-1), kind="stable")

    @property
    def shape(self) -> tuple[int, int]:
        """Number of layers that were ranked, and of candidates in each."""
        if self._shape is None:
            n_layers, width = self.score.shape
            self._shape = n_layers, width
        return self._shape

    def best(self, n: int) -> Ranks:
        """List the best ``n`` candidates as :meth:`order` does, without sorting the rest; not to be written to."""
        if self._first is not None and n <= len(self._first):
            return self._first[:n]
        score = self.score
        if n >= score.size:
            return np.argsort(-score.reshape(-1), kind="stable")
        some = min(max(n, LEAST_FIRST), score.size)
        worst_first = -score.reshape(-1)
        last = np.partition(worst_first, some - 1)[some - 1]
        candidates = np.flatnonzero(worst_first <= last)
        found: Ranks = candidates[np.argsort(worst_first[candidates], kind="stable")][:some]
        if some <= MOST_FIRST:
            found.flags.writeable = False
            self._first, self._shape = found, (score.shape[0], score.shape[1])
        return found[:n]


@dataclass
class RankingData:
    """The rankings of one localisation, one per owner."""

    name: str
    metric: str
    columns: Columns
    layers: tuple[int, ...]
    top: int
    groups: dict[str, GroupData]
    baseline_mean: Floats | None = None
    baseline_std: Floats | None = None
    n_baseline: int = 0
    names: NameBaseline | None = None
    """What layers were compared with, where layers are ranked."""
    random_names: list[RandomName] = field(default_factory=list)
    """The best of every ranking for a made-up name."""
    unknown: frozenset[str] = frozenset()
    """Owners that were to be ranked and are not, because the clean model knows too few of their prompts."""
    shared: Mapping[str, Mapping[int, int]] | None = field(default=None, repr=False, compare=False)
    """What `runner.sharing` has counted, once it was asked."""

    @property
    def of_layers(self) -> bool:
        """Whether whole layers are ranked."""
        return self.metric == "layer_stability"

    @property
    def by_precision(self) -> bool:
        """Whether the score is an average precision."""
        return self.metric == "average_precision"

    def written(self, flat: int, width: int) -> str:
        """Write the place of a flat index: a neuron's address, or ``L4`` for a layer."""
        return f"L{self.layers[flat // width]}" if self.of_layers else str(self.address(flat, width))

    def z(
        self, group: GroupData, layer: int, neuron: int, arrays: Arrays | None = None
    ) -> tuple[float | None, float | None]:
        """Give mean and std of a neuron's z, in stds of the baseline; None without one.

        ``layer``, ``neuron``: its row and column.
        """
        arrays = arrays or group.arrays()
        if self.baseline_mean is None or self.baseline_std is None or "mean" not in arrays:
            return None, None
        of_neuron = (arrays["mean"], arrays["std"], self.baseline_mean, self.baseline_std)
        mean, std, baseline_mean, baseline_std = (
            torch.tensor(float(values[layer, neuron]), dtype=torch.float64) for values in of_neuron
        )
        mean_z, std_z = Statistics(mean, std, baseline_mean, baseline_std).z()
        return float(mean_z), float(std_z)

    def address(self, flat: int, width: int) -> Address:
        """Give the address of a flat index into ``[n_layers, width]``."""
        return self.addresses([flat], width)[0]

    def addresses(self, flats: Sequence[int] | Ranks, width: int) -> list[Address]:
        """Give the addresses of flat indices, in their order."""
        rows, columns = np.divmod(np.asarray(flats, dtype=np.int64), width)
        which = np.searchsorted(self.columns.starts, columns, side="right") - 1
        numbers = columns - np.array(self.columns.starts)[which]
        return [
            Address(self.columns.sites[site], self.layers[row], number)
            for site, row, number in zip(which.tolist(), rows.tolist(), numbers.tolist(), strict=True)
        ]

    def place(self, address: Address) -> tuple[int, int] | None:
        """Give a neuron's row and column in the arrays; None where it was not ranked."""
        column = self.columns.column(address.site, address.neuron)
        if column is None or address.layer not in self.layers:
            return None
        return self.layers.index(address.layer), column

    def slice(self, key: str, first: int, last: int) -> list[Address]:
        """List the neurons of ranks ``first..last``, 1 the best; negative ranks count from the end.

        Raises :class:`RunError` for a rank that the ranking does not have.
        """
        return self.addresses(self.ranks(key, first, last), self.groups[key].shape[1])

    def ranks(self, key: str, first: int, last: int) -> Ranks:
        """Give the neurons of some ranks as flat indices; as :meth:`slice` does."""
        n_layers, width = self.groups[key].shape
        n = n_layers * width
        if max(abs(first), abs(last)) > n:
            raise RunError(
                f"'{self.name}' ranks {n:,} neurons; there is no rank {max(abs(first), abs(last)):,}",
                remedy="cut with a smaller number",
            )
        start = first - 1 if first > 0 else n + first
        stop = last if last > 0 else n + last + 1
        return self.groups[key].best(stop)[start:]

    def chosen(self, key: str) -> list[Address]:
        """List the set that the ranking stands for."""
        return self.slice(key, 1, self.top)

    def widths(self) -> Mapping[tuple[str, int], int]:
        """Give the number of neurons per site and layer."""
        sizes = list(zip(self.columns.sites, self.columns.widths, strict=True))
        return {(site, layer): width for layer in self.layers for site, width in sizes}

    def dominance(self, key: str, address: Address) -> float | None:
        """Compare a score with the mean of the next five of its layer; None where those are all zero."""
        return self.dominance_at(self.groups[key].score, *self._ranked(address))

    def dominance_at(self, score: Floats, layer: int, column: int) -> float | None:
        """Compare a score with the mean of the next five: of its site and layer, or of the next five layers."""
        if self.of_layers:
            return dominance_of(score[:, 0], layer)
        of_site = self.columns.slices[self.columns.site_of(column)]
        return dominance_of(score[layer, of_site], column - of_site.start)

    def rank_of(self, key: str, address: Address) -> tuple[int, float]:
        """Give the rank (1 = best) and score of an address in one owner's ranking."""
        group = self.groups[key]
        score = group.score
        own = float(score[self._ranked(address)])
        return int((score > own).sum()) + 1, own

    def _ranked(self, address: Address) -> tuple[int, int]:
        place = self.place(address)
        if place is None:
            raise RunError(f"{address} was not ranked by '{self.name}'")
        return place


def dominance_of(scores: Floats, neuron: int) -> float | None:
    """Compare a score with the mean of the next five below it, ``scores`` of ``[width]``: of one site and layer."""
    own = float(scores[neuron])
    below = np.delete(scores, neuron)
    below = below[below <= own]
    if len(below) < NEXT_BEST:
        return None
    following = float(np.partition(below, -NEXT_BEST)[-NEXT_BEST:].mean())
    return own / following if following > 0 else None
