"""Layer stability: in which layer is what the MLP says about an entity the same, whatever is asked?

Of a layer S = mean length x mean(cos) / std(cos) over its vectors at the entity, one for each prompt, with the cosines
of every two of them; the score is S over its mean for made-up names in the same prompts. Source: Friends and
Grandmothers in Silico, arXiv 2604.01404 (the floor of std(cos) is ours).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from runner.execute import Engine, Outcome, Reading
from runner.localization.ranking import Floats, GroupData
from runner.plan import LocalizeStage
from runner.program import Job
from specs.language.errors import RunError

__all__ = ["COSINE_FLOOR", "NameBaseline", "layer_figures", "name_groups", "rank_layers", "read_names"]

COSINE_FLOOR = 1e-3
"""Least std(cos) that enters a score: below it vectors are the same to what the number format can tell."""
FIGURES = ("stability", "norm", "cosine", "cosine_std")
BLOCK = 1024
"""Lines of the table of cosines that are in memory at a time."""


@dataclass(frozen=True)
class NameBaseline:
    """S of every made-up name and layer, ``[n_names, n_layers]``, float32."""

    stability: Floats
    names: tuple[str, ...]

    def usual(self) -> np.ndarray:
        """Give the mean over names, ``[n_layers]``, float64. Raises :class:`RunError` where it is not positive."""
        mean: np.ndarray = self.stability.astype(np.float64).mean(axis=0)
        if not (mean > 0).all():
            where = ", ".join(f"L{i}" for i in np.flatnonzero(~(mean > 0)))
            raise RunError(
                f"the vectors of made-up names have no common direction at {where}, so nothing can be compared there",
                remedy="rank the other layers: `layers:`",
            )
        return mean


def layer_figures(vectors: Tensor) -> tuple[float, float, float, float]:
    """Give S, mean length, mean and population std of the cosines of every two of ``[n, width]``, in float64.

    Every pair of different vectors counts once; a vector of zeros has cosine 0 with all others. std(cos) enters S
    held at least at ``COSINE_FLOOR``.
    """
    n = len(vectors)
    values = vectors.double()
    lengths = values.norm(dim=1)
    units = values / lengths.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    total = units.sum(dim=0).square().sum() - units.square().sum()
    mean = float(total / (n * (n - 1)))
    squares = 0.0
    for start in range(0, n, BLOCK):
        off = units[start : start + BLOCK] @ units.T - mean
        off[torch.arange(len(off)), torch.arange(start, start + len(off))] = 0.0
        squares += float(off.square().sum())
    std = (squares / (n * (n - 1))) ** 0.5
    length = float(lengths.mean())
    return length * mean / max(std, COSINE_FLOOR), length, mean, std


def name_groups(stage: LocalizeStage) -> dict[str, tuple[int, ...]]:
    """Sort the baseline of a stage by name."""
    found: dict[str, list[int]] = {}
    for i in stage.baseline:
        found.setdefault(stage.prompts[i].text.entity_name or "", []).append(i)
    return {name: tuple(members) for name, members in found.items()}


def read_names(
    engine: Engine, stage: LocalizeStage, progress: Callable[[int], None] | None = None
) -> tuple[NameBaseline, Outcome]:
    """Give S of every made-up name of a ranking's baseline."""
    rows: dict[str, Floats] = {}
    whole = Outcome([], [])
    names = name_groups(stage)
    for figures, outcome in _measured(engine, stage, names, progress):
        _add(whole, outcome)
        rows |= {name: of_name["stability"][:, 0] for name, of_name in figures.items()}
    return NameBaseline(np.stack([rows[name] for name in names]), tuple(names)), whole


def rank_layers(
    engine: Engine,
    stage: LocalizeStage,
    owners: Sequence[str],
    baseline: NameBaseline,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[dict[str, GroupData], Outcome]]:
    """Rank the layers for some owners, as many at a time as the engine's memory for reading holds."""
    usual = baseline.usual()[:, None]
    for figures, outcome in _measured(engine, stage, {o: stage.groups[o] for o in owners}, progress):
        found = {}
        for owner, arrays in figures.items():
            score = (arrays["stability"].astype(np.float64) / usual).astype(np.float32)
            found[owner] = GroupData({"score": score, **arrays}, n_prompts=len(stage.groups[owner]))
        yield found, outcome


def _add(whole: Outcome, part: Outcome) -> None:
    whole.nodes += part.nodes
    whole.passes += part.passes
    whole.notes += [note for note in part.notes if note not in whole.notes]


def _measured(
    engine: Engine,
    stage: LocalizeStage,
    groups: Mapping[str, tuple[int, ...]],
    progress: Callable[[int], None] | None,
) -> Iterator[tuple[dict[str, dict[str, Floats]], Outcome]]:
    """Measure every layer of some groups: for each the arrays of :data:`FIGURES`, ``[n_layers, 1]`` in float32.

    Vectors are kept until their group is whole. A group that does not fit is read some layers at a time.
    """
    width = max(engine.place(stage.job.sites[0], layer).width for layer in stage.layers)
    for part, n_layers in _rounds(groups, len(stage.layers), width * 4, engine.reading_bytes):
        found = {name: {f: np.zeros((len(stage.layers), 1), np.float32) for f in FIGURES} for name in part}
        whole = Outcome([], [])
        for first in range(0, len(stage.layers), n_layers):
            chosen = stage.layers[first : first + n_layers]
            vectors, outcome = _read(engine, stage, [i for name in part for i in groups[name]], chosen, progress)
            _add(whole, outcome)
            start = 0
            for name in part:
                stop = start + len(groups[name])
                for k, layer in enumerate(vectors):
                    numbers = layer_figures(layer[start:stop])
                    if not np.isfinite(numbers).all():
                        raise RunError(
                            "an activation is not a finite number", remedy="try model.dtype: float32 or bfloat16"
                        )
                    for figure, number in zip(FIGURES, numbers, strict=True):
                        found[name][figure][first + k, 0] = number
                start = stop
        yield found, whole


def _rounds(
    groups: Mapping[str, tuple[int, ...]], n_layers: int, line: int, budget: int
) -> Iterator[tuple[list[str], int]]:
    """Split groups so that their vectors fit: with each round how many layers are read at a time. ``line``: bytes."""
    part: list[str] = []
    size = 0
    for name, members in groups.items():
        need = len(members) * line * n_layers
        if need > budget:
            yield [name], max(1, budget // (len(members) * line))
            continue
        if part and size + need > budget:
            yield part, n_layers
            part, size = [], 0
        part.append(name)
        size += need
    if part:
        yield part, n_layers


def _read(
    engine: Engine,
    stage: LocalizeStage,
    members: Sequence[int],
    layers: Sequence[int],
    progress: Callable[[int], None] | None,
) -> tuple[list[Tensor], Outcome]:
    """Read the site on some sequences: for each layer ``[n_sequences, width]``, in their order, float32."""
    site = stage.job.sites[0]
    table: list[Tensor] = []

    def keep(reading: Reading) -> None:
        rows, values = reading.sequence, reading.values[site]
        if not table:
            table.extend(v.new_empty((len(members), v.shape[1]), dtype=torch.float32) for v in values)
        index = torch.from_numpy(rows).to(values[0].device)
        for kept, value in zip(table, values, strict=True):
            kept[index] = value.float()

    sequences = tuple(stage.job.sequences[i] for i in members)
    job = Job(sequences, stage.job.sites, tuple(layers), stage.spec.pool or "mean")
    outcome = engine.run(job, on_values=keep, progress=progress)
    return table, outcome
