"""What a run folder found, held against the truth: of each ranking and of the extraction."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.planted.spec import SET, localisation
from benchmarks.planted.truth import Entity, Neuron, Truth

__all__ = [
    "TOP",
    "ExtractionScore",
    "Found",
    "RankingScore",
    "ranked",
    "ranked_again",
    "score_extraction",
    "score_ranking",
]

TOP = 3
"""Candidates of an extraction."""
DOMINANCE = 10.0
"""From which a ranking's best neuron is taken for a cell, where nothing else is known of it (the paper's)."""
NEXT = 5

Scores = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Found:
    """What a ranking says of one entity."""

    entity: Entity
    best: Neuron
    dominance: float
    """Of the best: its score over the mean of the next five of its layer."""
    rank: int | None
    """Of the planted cell, from 1; None for an entity without."""


@dataclass(frozen=True)
class RankingScore:
    """How a ranking fares, against the truth."""

    metric: str
    cells: int
    first: int
    """Entities whose cell ranks first."""
    alone: int
    """Entities with a cell to whose name no decoy answers."""
    alone_first: int
    """Of these, with the cell first."""
    candidates: int
    """Entities whose cell is among the first ``TOP``."""
    claimed: int
    """Entities whose best neuron is dominant enough to be taken for a cell."""
    claimed_rightly: int
    without: int
    """Entities without a cell of their own."""
    claimed_without: int
    """Of these, those for whom a cell is claimed all the same."""
    shared: int
    """Entities with the wrong best neuron, whose best also wins for others: what the run warns of."""
    wrong: int
    """Entities whose best neuron is not their cell."""
    winners: Mapping[str, int] = field(default_factory=dict)
    """What the wrong best neurons are: kind of decoy, ``other's cell`` or ``chance``; number of entities."""

    @property
    def recall(self) -> float:
        """Share of planted cells that rank first."""
        return self.first / self.cells

    @property
    def precision(self) -> float:
        """Share of claims that are right; NaN without claims."""
        return self.claimed_rightly / self.claimed if self.claimed else float("nan")


def ranked(folder: Path, truth: Truth, metric: str) -> Iterator[Found]:
    """Read a ranking of a run folder as it was stored."""
    with np.load(folder / "rankings" / f"{localisation(metric)}.npz") as arrays:
        layers = [int(n) for n in arrays["layers"]]
        for entity in truth.entities:
            yield found(entity, arrays[f"{entity.id}/score"], layers)


def ranked_again(folder: Path, truth: Truth, metric: str) -> Iterator[Found]:
    """Rank by z_score or mean_activation from the means and deviations that the ranking by stability stored."""
    with np.load(folder / "rankings" / f"{localisation('stability')}.npz") as arrays:
        layers = [int(n) for n in arrays["layers"]]
        for entity in truth.entities:
            mean = arrays[f"{entity.id}/mean"].astype(float)
            if metric == "z_score":
                mean = (mean - arrays["baseline_mean"]) / (arrays["baseline_std"].astype(float) + 1e-6)
            yield found(entity, np.abs(mean), layers)


def found(entity: Entity, scores: Scores, layers: Sequence[int]) -> Found:
    """Give best neuron, its dominance and the rank of the cell; ``scores``: ``[n_layers, width]``."""
    layer, neuron = divmod(int(scores.argmax()), scores.shape[1])
    own = scores[layer, neuron]
    following = np.sort(np.delete(scores[layer], neuron))[-NEXT:].mean()
    rank = None
    if entity.cell is not None:
        row, index = layers.index(entity.cell[0]), entity.cell[1]
        rank = int((scores > scores[row, index]).sum()) + 1
    return Found(entity, (layers[layer], neuron), float(own / following) if following else float("inf"), rank)


def score_ranking(metric: str, all_found: Sequence[Found], truth: Truth) -> RankingScore:
    """Hold a ranking against the truth."""
    with_cell = [f for f in all_found if f.rank is not None]
    without = [f for f in all_found if f.rank is None]
    alone = [f for f in with_cell if not truth.rivals(f.entity)]
    claims = [f for f in all_found if f.dominance >= DOMINANCE]
    wrong = [f for f in all_found if f.best != f.entity.cell]
    wins = Counter(f.best for f in all_found)
    return RankingScore(
        metric=metric,
        cells=len(with_cell),
        first=sum(f.rank == 1 for f in with_cell),
        alone=len(alone),
        alone_first=sum(f.rank == 1 for f in alone),
        candidates=sum(f.rank is not None and f.rank <= TOP for f in with_cell),
        claimed=len(claims),
        claimed_rightly=sum(f.best == f.entity.cell for f in claims),
        without=len(without),
        claimed_without=sum(f in claims for f in without),
        shared=sum(wins[f.best] > 1 for f in wrong),
        wrong=len(wrong),
        winners=dict(Counter(what(f.best, truth) for f in wrong).most_common()),
    )


def what(neuron: Neuron, truth: Truth) -> str:
    """Say what a neuron is in truth."""
    if decoy := truth.decoy(neuron):
        return decoy.kind
    return "other's cell" if any(e.cell == neuron for e in truth.entities) else "chance"


@dataclass(frozen=True)
class ExtractionScore:
    """How the whole extraction fares: ranking, verification of the best, and conditions."""

    cells: int
    asked: int
    """Entities with a cell that the model answers questions about, so that there is something to erase."""
    found: int
    """Entities whose verified set is their cell alone."""
    claimed: int
    """Entities with a verified set that is not empty."""
    wrong: Mapping[str, int]
    """Kind of every verified neuron that is not the cell of its owner: how many."""
    without: Mapping[str, str]
    """Entities without a cell of their own for whom one was verified: what it is in truth."""
    warned_of: int
    """Of the wrongly verified neurons, those that the run itself calls nobody's cell, or verified for two entities."""
    wrongly_warned_of: int
    """The same of cells that were rightly verified."""
    missed: Sequence[str]
    """Entities whose cell was not verified, with the condition that failed, or its absence from the candidates."""
    rejected: Mapping[str, int]
    """Kind of decoy: how many candidates of that kind were put to the test and not believed."""

    @property
    def recall(self) -> float:
        """Share of planted cells that were verified, those of entities nothing is known about included."""
        return self.found / self.cells

    @property
    def false_alarms(self) -> int:
        """Neurons that are believed to be somebody's cell and are not, after what the run warns of is left out."""
        return sum(self.wrong.values()) - self.warned_of


def score_extraction(folder: Path, truth: Truth) -> ExtractionScore:
    """Hold the verified set of a run against the truth."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    owners = results["neurons"][SET]["owners"]
    conditions = results["neurons"][SET]["conditions"]
    warned = {address(text) for text in results["rankings"][localisation("stability")]["shared_winners"]}
    verified = Counter(text for choice in owners.values() for text in choice["neurons"])
    warned |= {address(text) for text, times in verified.items() if times > 1}
    wrongly: list[Neuron] = []
    rightly: list[Neuron] = []
    rejected: Counter[str] = Counter()
    without: dict[str, str] = {}
    missed: list[str] = []
    right = asked = claimed = 0
    for entity in truth.entities:
        choice = owners.get(entity.id, {"neurons": [], "candidates": []})
        kept = [address(text) for text in choice["neurons"]]
        claimed += bool(kept)
        right += entity.cell is not None and kept == [entity.cell]
        wrongly += [neuron for neuron in kept if neuron != entity.cell]
        rightly += [neuron for neuron in kept if neuron == entity.cell]
        if entity.cell is None and kept:
            without[entity.id] = what(kept[0], truth)
        for candidate in choice["candidates"]:
            neuron = (candidate["layer"], candidate["neuron"])
            if neuron not in kept and neuron != entity.cell and truth.decoy(neuron):
                rejected[what(neuron, truth)] += 1
        own = next((c for c in choice["candidates"] if (c["layer"], c["neuron"]) == entity.cell), None)
        asked += own is not None and max(own["n"]) > 0
        if entity.cell is not None and entity.cell not in kept:
            why = "not among the candidates"
            if own is not None and own["failed"] is not None:
                why = f"{conditions[own['failed']]}: {own['figures'][own['failed']]}"
            missed.append(f"{entity.id} ({entity.name}): {why}")
    cells = sum(e.cell is not None for e in truth.entities)
    return ExtractionScore(
        cells=cells,
        asked=asked,
        found=right,
        claimed=claimed,
        wrong=dict(Counter(what(neuron, truth) for neuron in wrongly)),
        without=without,
        warned_of=sum(neuron in warned for neuron in wrongly),
        wrongly_warned_of=sum(neuron in warned for neuron in rightly),
        missed=missed,
        rejected=dict(rejected),
    )


def address(text: str) -> Neuron:
    """Read ``L1.N5``."""
    layer, _, neuron = text.partition(".")
    return int(layer.removeprefix("L")), int(neuron.removeprefix("N"))
