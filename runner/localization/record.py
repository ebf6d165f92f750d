"""What a ranking puts on record beside its best neurons: figures of layers, and the null of made-up names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runner.localization.layers import COSINE_FLOOR, NameBaseline
from runner.localization.ranking import Arrays, RankingData
from specs.language.results import LayerFigure, RandomName, RankedNeuron

__all__ = ["layer_records", "names_band", "profile_of", "share_as_dominant", "share_as_high", "tie_warnings"]


def layer_records(data: RankingData, arrays: Arrays) -> list[LayerFigure]:
    """Give what the score of every layer is made of, in the order of the model."""
    return [
        LayerFigure(
            layer=layer,
            stability=float(arrays["stability"][k, 0]),
            norm=float(arrays["norm"][k, 0]),
            cosine=float(arrays["cosine"][k, 0]),
            cosine_std=float(arrays["cosine_std"][k, 0]),
            floored=float(arrays["cosine_std"][k, 0]) < COSINE_FLOOR,
        )
        for k, layer in enumerate(data.layers)
    ]


def names_band(data: RankingData) -> list[tuple[float, float]]:
    """Give, of each layer, the 5th and 95th percentile of the score of single made-up names."""
    if data.names is None:
        return []
    return [(float(low), float(high)) for low, high in np.quantile(_of_names(data.names), (0.05, 0.95), axis=0).T]


def share_as_high(data: RankingData, best: RankedNeuron) -> float | None:
    """Give the share of made-up names that have some layer with at least the score of an owner's best."""
    if data.names is None:
        return None
    return float((_of_names(data.names).max(axis=1) >= best.score).mean())


def _of_names(names: NameBaseline) -> np.ndarray:
    """Give the score of every single made-up name and layer, ``[n_names, n_layers]``."""
    scores: np.ndarray = names.stability.astype(np.float64) / names.usual()
    return scores


def profile_of(data: RankingData, owner: str) -> dict[str, list[int]]:
    """Count the neurons of an owner's set in each ranked layer, site by site."""
    counts = {site: [0] * len(data.layers) for site in data.columns.sites}
    row = {layer: k for k, layer in enumerate(data.layers)}
    for address in data.chosen(owner):
        counts[address.site][row[address.layer]] += 1
    return counts


def tie_warnings(data: RankingData) -> list[str]:
    """Warn of sets that end among neurons which are equally good: which of them are in it means nothing."""
    tied = {
        owner: figures
        for owner, group in data.groups.items()
        if (figures := group.precision) is not None and figures.tied > figures.tied_within
    }
    if not tied:
        return []
    owner, most = max(tied.items(), key=lambda pair: pair[1].tied)
    return [
        f"the sets of {len(tied)} of {len(data.groups)} owners end among neurons of equal average precision: that "
        f"of {owner} holds {most.tied_within:,} of {most.tied:,} with {most.precision[-1]:.3g}, the first by layer"
    ]


def share_as_dominant(best: RankedNeuron, names: Sequence[RandomName]) -> float | None:
    """Give the share of made-up names whose best is at least as dominant; None where either has no dominance."""
    dominances = [name.dominance for name in names if name.dominance is not None]
    if best.dominance is None or not dominances:
        return None
    return sum(dominance >= best.dominance for dominance in dominances) / len(dominances)
