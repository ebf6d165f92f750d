"""How many entities a neuron of a ranking serves: what tells a cell from a neuron that several names switch on.

A ranking is made owner by owner and says nothing of the others. A neuron that two entities share may be the best of
one and the third of the other; that it wins for both is then never seen, and questions about others drawn at random
will hardly ever be about its second owner.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from runner.localization.ranking import RankingData

__all__ = ["CONSIDERED", "ENOUGH", "shared_by"]

CONSIDERED = 50
"""Best neurons of each owner for which it is counted; what ranks lower has no value."""
ENOUGH = 0.5
"""A neuron serves an owner where it scores at least this share of its score for the owner in question."""

Counts = Mapping[str, Mapping[int, int]]


def shared_by(ranking: RankingData) -> Counts:
    """Count for the best neurons of each owner how many entities they serve, the owner's own included.

    Gives owner: flat index of the neuron: count. Owners are one entity where their keys begin alike (`trump` and
    `trump/typo`). Reads each owner's scores twice, and holds one number for each owner and considered neuron.
    """
    if ranking.shared is not None:
        return ranking.shared
    best = {owner: group.best(CONSIDERED) for owner, group in ranking.groups.items()}
    considered = np.unique(np.concatenate(list(best.values())))
    entities: dict[str, list[int]] = {}
    scores = np.empty((len(best), len(considered)))
    for row, (owner, group) in enumerate(ranking.groups.items()):
        scores[row] = np.asarray(group.score, dtype=np.float64).reshape(-1)[considered]
        entities.setdefault(owner.partition("/")[0], []).append(row)
    # The form of a name that the neuron scores highest for stands for the entity.
    of_entity = np.stack([scores[rows].max(axis=0) for rows in entities.values()])
    own_entity = {row: n for n, rows in enumerate(entities.values()) for row in rows}
    counts: dict[str, dict[int, int]] = {}
    for row, (owner, flats) in enumerate(best.items()):
        columns = np.searchsorted(considered, flats)
        own = scores[row, columns]
        serves = of_entity[:, columns] >= ENOUGH * own
        serves[own_entity[row]] = True
        counts[owner] = {
            int(flat): int(n) for flat, n, value in zip(flats, serves.sum(axis=0), own, strict=True) if value > 0
        }
    ranking.shared = counts
    return counts
