"""How many entities a neuron of a ranking serves: what tells a cell from a neuron that several names switch on.

A ranking is made owner by owner and says nothing of the others. A neuron that two entities share may be the best of
one and the third of the other; that it wins for both is then never seen, and questions about others drawn at random
will hardly ever be about its second owner.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from runner.localization.ranking import GroupData, RankingData

__all__ = ["CONSIDERED", "ENOUGH", "shared_by"]

CONSIDERED = 50
"""Best neurons of each owner for which it is counted; what ranks lower has no value."""
ENOUGH = 0.5
"""A neuron serves an owner where it scores at least this share of its score for the owner in question."""

Counts = Mapping[str, Mapping[int, int]]


def shared_by(ranking: RankingData) -> Counts:
    """Count for the best neurons of each owner how many entities they serve, the owner's own included.

    Gives owner: flat index of the neuron: count. Owners are one entity where their keys begin alike (`trump` and
    `trump/typo`). Reads each owner's scores twice, and holds those of one entity and some numbers for every considered
    neuron, so that memory grows with the owners and not with their square.
    """
    if ranking.shared is not None:
        return ranking.shared
    entities: dict[str, list[str]] = {}
    best: dict[str, npt.NDArray[np.int64]] = {}
    own: dict[str, npt.NDArray[np.float64]] = {}
    for owner, group in ranking.groups.items():
        entities.setdefault(owner.partition("/")[0], []).append(owner)
        best[owner] = group.best(CONSIDERED)
        own[owner] = _scores(group, best[owner])
    flats, values = np.concatenate(list(best.values())), np.concatenate(list(own.values()))
    number_of = {owner: number for number, owners in enumerate(entities.values()) for owner in owners}
    whose = np.repeat([number_of[owner] for owner in best], [len(listed) for listed in best.values()])
    serves = np.zeros(len(flats), dtype=np.int64)
    for number, owners in enumerate(entities.values()):
        # The form of a name that the neuron scores highest for stands for the entity.
        highest = np.max([_scores(ranking.groups[owner], flats) for owner in owners], axis=0)
        serves += (highest >= ENOUGH * values) | (whose == number)
    counts: dict[str, dict[int, int]] = {}
    start = 0
    for owner, listed in best.items():
        rows = slice(start, start + len(listed))
        start += len(listed)
        counts[owner] = {
            int(flat): int(n) for flat, n, value in zip(listed, serves[rows], values[rows], strict=True) if value > 0
        }
    ranking.shared = counts
    return counts


def _scores(group: GroupData, flats: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Give the scores of some neurons, ``[n]``."""
    return group.score.reshape(-1)[flats].astype(np.float64)
