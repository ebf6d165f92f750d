"""Properties of every neuron of a ranking, as arrays; conditions on them, met or not, for all neurons at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from runner.localization.metrics import Statistics
from runner.localization.ranking import NEXT_BEST, GroupData, RankingData
from runner.sharing import shared_by
from specs.language.conditions import SPAN, holds
from specs.language.experiment import Condition
from specs.language.references import Address
from specs.language.scalars import looks_like_number

__all__ = ["NEURON_PROPERTIES", "Properties", "meets"]

Floats = npt.NDArray[np.float64]


class Properties:
    """What a ranking says of each of its neurons, one array ``[n_layers, width]`` per property, NaN for no value.

    A row holds the neurons of all sites of the ranking.
    """

    def __init__(self, ranking: RankingData, owner: str) -> None:
        self.ranking = ranking
        self.owner = owner
        self.group: GroupData = ranking.groups[owner]
        self.kept: Mapping[str, Any] = self.group.arrays()
        self._made: dict[str, Floats] = {}
        self.order = np.argsort(-self.kept["score"].reshape(-1), kind="stable")
        """Flat indices, best first; equal scores keep the order of layer and neuron."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of layers that were ranked, and of neurons in each, all sites together."""
        n_layers, width = self.kept["score"].shape
        return n_layers, width

    def place(self, address: Address) -> tuple[int, int] | None:
        """Give a neuron's row and column in the arrays; None where it was not ranked."""
        return self.ranking.place(address)

    def of_site(self, holds: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
        """Say of every neuron whether something holds of its site."""
        columns = self.ranking.columns
        return np.broadcast_to(columns.of_sites([holds(site) for site in columns.sites]), self.shape)

    def of(self, name: str) -> Floats:
        """Give a property of every neuron."""
        if name not in self._made:
            self._made[name] = NEURON_PROPERTIES[name](self)
        return self._made[name]

    def array(self, name: str) -> Floats:
        """Give an array of the ranking: score, mean, std; NaN everywhere where the metric reads no activations."""
        if name not in self.kept:
            return np.full(self.shape, np.nan)
        return np.asarray(self.kept[name], dtype=np.float64)

    def z(self) -> tuple[Floats, Floats]:
        """Give mean and std of z, in stds of the baseline."""
        ranking = self.ranking
        if ranking.baseline_mean is None or ranking.baseline_std is None or "mean" not in self.kept:
            nothing = np.full(self.shape, np.nan)
            return nothing, nothing

        def tensor(values: npt.NDArray[Any]) -> torch.Tensor:
            return torch.tensor(np.asarray(values), dtype=torch.float64)

        mean, std = Statistics(
            tensor(self.array("mean")),
            tensor(self.array("std")),
            tensor(ranking.baseline_mean),
            tensor(ranking.baseline_std),
        ).z()
        return mean.numpy(), std.numpy()


def _dominance(p: Properties) -> Floats:
    """Score over the mean of the next five of its site and layer; of equal scores all but itself count as next."""
    # As it is stored: a mean of five is taken in the number format in which one neuron's dominance is.
    stored = np.asarray(p.kept["score"])
    # Where whole layers are ranked, the next five are layers.
    if p.ranking.of_layers:
        return _within_rows(stored.T).T
    return np.concatenate([_within_rows(stored[:, of_site]) for of_site in p.ranking.columns.slices], axis=1)


def _within_rows(score: npt.NDArray[Any]) -> Floats:
    found = np.full(score.shape, np.nan)
    for row, values in enumerate(score):
        down = -np.sort(-values)
        first = np.searchsorted(-down, -values)  # of a group of equal scores, its first place
        enough = first + NEXT_BEST < len(down)
        following = down[np.minimum(first[:, None] + 1 + np.arange(NEXT_BEST), len(down) - 1)].mean(axis=1)
        good = enough & (following > 0)
        found[row, good] = values[good].astype(np.float64) / following[good].astype(np.float64)
    return found


def _layer(p: Properties) -> Floats:
    return np.repeat(np.array(p.ranking.layers, dtype=np.float64)[:, None], p.shape[1], axis=1)


def _neuron(p: Properties) -> Floats:
    return np.repeat(p.ranking.columns.numbers().astype(np.float64)[None, :], p.shape[0], axis=0)


def _rank(p: Properties) -> Floats:
    ranks = np.empty(p.order.shape)
    ranks[p.order] = np.arange(1, len(p.order) + 1)
    return ranks.reshape(p.shape)


def _random_names(p: Properties) -> Floats:
    """Share of the made-up names whose best neuron is at least as dominant; NaN without that control."""
    null = np.sort([n.dominance for n in p.ranking.random_names if n.dominance is not None])
    dominance = p.of("dominance")
    if not len(null):
        return np.full(p.shape, np.nan)
    return np.where(np.isnan(dominance), np.nan, 1 - np.searchsorted(null, dominance) / len(null))


def _share(p: Properties) -> Floats:
    """Part of the sum of all scores; of signed scores, of the sum of their sizes."""
    size = np.abs(p.array("score"))
    total = float(size.sum())
    return size / total if total > 0 else np.full(p.shape, np.nan)


def _shared_by(p: Properties) -> Floats:
    """Entities that a neuron serves, of the owner's best; NaN for what ranks lower, and where layers are ranked."""
    found = np.full(p.shape, np.nan)
    if not p.ranking.of_layers:
        for flat, n in shared_by(p.ranking)[p.owner].items():
            found.flat[flat] = n
    return found


NEURON_PROPERTIES: Mapping[str, Callable[[Properties], Floats]] = {
    "dominance": _dominance,
    "layer": _layer,
    "mean": lambda p: p.array("mean"),
    "mean_z": lambda p: p.z()[0],
    "neuron": _neuron,
    "random_names": _random_names,
    "rank": _rank,
    "score": lambda p: p.array("score"),
    "share": _share,
    "shared_by": _shared_by,
    "std": lambda p: p.array("std"),
    "std_z": lambda p: p.z()[1],
}
"""What can be asked of one neuron as a number; its ``site`` is a text."""


def meets(condition: Condition, values: Floats) -> npt.NDArray[np.bool_]:
    """Say of many numbers whether they meet a condition, as :func:`holds` says it of one; NaN meets none."""
    with np.errstate(invalid="ignore"):
        present = ~np.isnan(values)
        wanted = condition.value
        if condition.op == "in":
            items = wanted if isinstance(wanted, tuple) else (wanted,)
            met = np.zeros(values.shape, dtype=bool)
            for item in items:
                met |= _equal(item, values) | _spans(item, values)
            return met & present
        assert not isinstance(wanted, tuple)
        if condition.op in ("=", "!="):
            equal = _equal(wanted, values)
            return (equal if condition.op == "=" else ~equal) & present
        if isinstance(wanted, str) and not looks_like_number(wanted):
            holds(condition, 0.0)  # says what is wrong
        number = float(wanted)
        if condition.op == "within":
            distance, tolerance = np.abs(values - number), condition.tolerance or 0.0
            return ((distance <= tolerance) | _close(distance, tolerance)) & present
        compare = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}[condition.op]
        found: npt.NDArray[np.bool_] = compare(values, number)
        return found & present


def _close(values: Floats, wanted: float) -> npt.NDArray[np.bool_]:
    """Compare as :func:`math.isclose` does, relative to the larger of the two."""
    same: npt.NDArray[np.bool_] = np.abs(values - wanted) <= 1e-9 * np.maximum(np.abs(values), abs(wanted))
    equal: npt.NDArray[np.bool_] = values == wanted
    return same | equal


def _equal(item: float | str, values: Floats) -> npt.NDArray[np.bool_]:
    if isinstance(item, str) and not looks_like_number(item):
        return np.zeros(values.shape, dtype=bool)
    number = float(item)
    return _close(values, number) if math.isfinite(number) else np.zeros(values.shape, dtype=bool)


def _spans(item: float | str, values: Floats) -> npt.NDArray[np.bool_]:
    span = SPAN.fullmatch(item) if isinstance(item, str) else None
    if span is None:
        return np.zeros(values.shape, dtype=bool)
    found: npt.NDArray[np.bool_] = (values >= float(span[1])) & (values <= float(span[2]))
    return found
