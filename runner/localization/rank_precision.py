"""Rank neurons by average precision: how well the raw value tells an owner's prompts from those of others.

Every prompt runs once, whosever it is; its values are pooled within the pass and kept per layer. Layers are then ranked
one after another, for all owners and shuffled labels at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from runner.execute import Engine, Outcome, Reading
from runner.localization.columns import Columns
from runner.localization.localize import KEPT, by_prompt, digits, how_pooled
from runner.localization.precision import precision_of_owners
from runner.localization.prompt_values import PromptValues
from runner.localization.ranking import GroupData
from runner.plan import LocalizeStage
from runner.program import Job
from specs.language.errors import RunError
from specs.language.results import PrecisionFigures, ShuffledFigures

__all__ = ["rank_by_precision", "ranks_shown"]


def rank_by_precision(
    engine: Engine,
    stage: LocalizeStage,
    owners: Sequence[str],
    columns: Columns,
    scratch: Path,
    progress: Callable[[int], None] | None = None,
) -> tuple[dict[str, GroupData], Outcome]:
    """Rank every neuron for some owners. ``scratch``: where values are kept that do not fit into memory.

    Raises :class:`RunError` when a value is not finite, DiskFull when the scratch file has no room.
    """
    contrasts = {owner: stage.contrasts[owner] for owner in owners}
    wanted = sorted({i for o in owners for i in (*stage.groups[o], *contrasts[o].negatives)})
    job = Job(tuple(stage.job.sequences[i] for i in wanted), stage.job.sites, stage.job.layers, how_pooled(stage))
    widths = [columns.total] * len(stage.layers)
    number = {i: k for k, i in enumerate(wanted)}
    with PromptValues(
        len(wanted), widths, budget=engine.reading_bytes, scratch=scratch, device=engine.device
    ) as values:

        def keep(reading: Reading) -> None:
            prompts, layers = by_prompt(reading, stage.job.sites)
            for row, layer in enumerate(layers):
                values.add(row, prompts, layer)

        outcome = engine.run(job, on_values=keep, progress=progress)
        found = {}
        ranked = _Rankings(stage, owners, number)
        for row in range(len(stage.layers)):
            ranked.add(values.layer(row))
        for owner in owners:
            group = found[owner] = ranked.group(owner)
            places = [divmod(int(flat), columns.total) for flat in group.best(KEPT)]
            own = ranked.own[owner]
            group.values = {
                (stage.layers[row], column): digits(values.layer(row)[own, column].cpu().numpy())
                for row, column in places
            }
    return found, outcome


class _Rankings:
    """The rankings of some owners and of their shuffled labels, layer by layer."""

    def __init__(self, stage: LocalizeStage, owners: Sequence[str], number: dict[int, int]) -> None:
        self.stage, self.owners = stage, owners
        self.top = stage.spec.top or 1
        self.own = {owner: torch.tensor([number[i] for i in stage.groups[owner]]) for owner in owners}
        self._labels: list[tuple[str, int | None]] = []
        members, positive = [], []
        for owner in owners:
            contrast = stage.contrasts[owner]
            everything = _marked(len(number), [number[i] for i in (*stage.groups[owner], *contrast.negatives)])
            for n, labelled in enumerate((stage.groups[owner], *contrast.shuffled)):
                self._labels.append((owner, n - 1 if n else None))
                members.append(everything)
                positive.append(_marked(len(number), [number[i] for i in labelled]))
        self.members, self.positive = torch.stack(members), torch.stack(positive)
        self._arrays: dict[str, dict[str, list[np.ndarray]]] = {
            owner: {"score": [], "mean": [], "std": []} for owner in owners
        }
        self._best: dict[tuple[str, int], Tensor] = {}

    def add(self, layer: Tensor) -> None:
        """Rank one layer, values of ``[n_prompts, width]``."""
        if not bool(torch.isfinite(layer).all()):
            raise RunError("an activation is not a finite number", remedy="try model.dtype: float32 or bfloat16")
        names = [owner if draw is None else f"{owner} with shuffled labels" for owner, draw in self._labels]
        precision = precision_of_owners(layer, self.members, self.positive, names=names)
        for (owner, draw), found in zip(self._labels, precision, strict=True):
            if draw is None:
                self._arrays[owner]["score"].append(_stored(found))
            else:
                # As real ones are stored, so that what is equal is equal.
                stored = found.float()
                both = torch.cat([self._best.get((owner, draw), stored[:0]), stored])
                self._best[owner, draw] = both.topk(min(self.top, len(both))).values
        for owner, own in self.own.items():
            mine = layer[own.to(layer.device)].double()
            self._arrays[owner]["mean"].append(_stored(mine.mean(dim=0)))
            self._arrays[owner]["std"].append(_stored(mine.std(dim=0, correction=0)))

    def group(self, owner: str) -> GroupData:
        """Give the ranking of one owner, once every layer was added."""
        arrays = {name: np.stack(rows) for name, rows in self._arrays[owner].items()}
        group = GroupData(arrays, n_prompts=len(self.own[owner]))
        score = arrays["score"].reshape(-1)
        top = min(self.top, len(score))
        best = -np.sort(np.partition(-score, top - 1)[:top])
        ranks = ranks_shown(top)
        n_negative = len(self.stage.contrasts[owner].negatives)
        shuffled = [
            self._best[owner, draw].double().cpu().numpy() for draw in range(len(self.stage.contrasts[owner].shuffled))
        ]
        group.precision = PrecisionFigures(
            n_positive=group.n_prompts,
            n_negative=n_negative,
            base_rate=group.n_prompts / (group.n_prompts + n_negative),
            ranks=ranks,
            precision=_at(best, ranks),
            mean=float(best.mean(dtype=np.float64)),
            tied=int((score == best[-1]).sum()),
            tied_within=int((best == best[-1]).sum()),
            shuffled=[ShuffledFigures(precision=_at(null, ranks), mean=float(null.mean())) for null in shuffled],
            above_shuffled=int((score > max(float(null[0]) for null in shuffled)).sum()) if shuffled else None,
        )
        return group


def ranks_shown(top: int) -> list[int]:
    """Choose the ranks at which average precision is told: 1, 2, 5, 10, 20, ... and a tenth of the set and its last."""
    steps = (digit * 10**power for power in range(len(str(top))) for digit in (1, 2, 5))
    return sorted({*(step for step in steps if step < top), max(1, top // 10), top})


def _at(best: np.ndarray, ranks: Sequence[int]) -> list[float]:
    return [float(f"{float(best[rank - 1]):.7g}") for rank in ranks]


def _marked(n: int, members: Sequence[int]) -> Tensor:
    marks = torch.zeros(n, dtype=torch.bool)
    marks[list(members)] = True
    return marks


def _stored(values: Tensor) -> np.ndarray:
    stored: np.ndarray = values.float().cpu().numpy()
    return stored
