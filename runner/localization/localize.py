"""Run a localisation: read a site over prompts, reduce to statistics per owner, score every neuron."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from runner.execute import Engine, Outcome, Reading
from runner.localization.metrics import METRICS, Statistics
from runner.localization.ranking import Floats, GroupData, RankingData
from runner.plan import LocalizeStage
from runner.program import Job
from specs.language.errors import RunError

__all__ = [
    "KEPT",
    "Baseline",
    "localize",
    "new_ranking",
    "rank_owners",
    "rank_randomly",
    "read_baseline",
    "require_prompts",
]

BUFFER_BYTES = 2 << 30
"""Activations of so many bytes are held at once; owners beyond that are read in a later round."""
KEPT = 20
"""Neurons whose per-prompt values are kept, and that the result document lists."""


@dataclass(frozen=True)
class Baseline:
    """Statistics of every neuron over the baseline: ``[n_layers, width]`` each, float32."""

    mean: Floats
    std: Floats
    n_prompts: int


def read_baseline(
    engine: Engine, stage: LocalizeStage, progress: Callable[[int], None] | None = None
) -> tuple[Baseline, Outcome]:
    """Run the baseline of a ranking and reduce it; exact, accumulated in float64."""
    buffers, outcome = _read(engine, stage, {"": stage.baseline}, progress)
    mean, std = _mean_std(buffers[""])
    return Baseline(mean.astype(np.float32), std.astype(np.float32), len(stage.baseline)), outcome


def require_prompts(stage: LocalizeStage) -> None:
    """Raise :class:`RunError` when an owner has fewer prompts than the metric allows."""
    least = stage.spec.min_prompts or 8
    for owner, members in stage.groups.items():
        if len(members) < least:
            raise RunError(
                f"'{stage.name}' has {len(members)} prompts about {owner}; {stage.spec.metric} needs {least}",
                remedy="over fewer prompts near-constant neurons win; add templates or see what was left out",
            )


def rank_owners(
    engine: Engine,
    stage: LocalizeStage,
    owners: Sequence[str],
    baseline: Baseline | None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[dict[str, GroupData], Outcome]]:
    """Rank every neuron for some owners, as many at a time as the buffer holds.

    Means and stds are exact (over buffered values) and accumulated in float64. Raises :class:`RunError` when a
    value is not finite.
    """
    for part in _rounds(engine, stage, owners):
        buffers, outcome = _read(engine, stage, {owner: stage.groups[owner] for owner in part}, progress)
        yield {owner: _score(stage, owner, buffers[owner], baseline) for owner in part}, outcome


def rank_randomly(engine_width: int, stage: LocalizeStage, seed: int) -> dict[str, GroupData]:
    """Rank at random, the null of every metric; runs nothing."""
    n_layers = len(stage.layers)
    return {owner: GroupData(_random_scores(seed, stage.name, owner, n_layers, engine_width)) for owner in stage.groups}


def localize(
    engine: Engine, stage: LocalizeStage, progress: Callable[[int], None] | None = None
) -> tuple[RankingData, list[Outcome]]:
    """Rank every neuron for every owner of a stage that reads activations, baseline first."""
    require_prompts(stage)
    outcomes: list[Outcome] = []
    baseline = None
    if stage.baseline:
        baseline, outcome = read_baseline(engine, stage, progress)
        outcomes.append(outcome)
    ranking = new_ranking(stage, baseline)
    for groups, outcome in rank_owners(engine, stage, list(stage.groups), baseline, progress):
        ranking.groups.update(groups)
        outcomes.append(outcome)
    return ranking, outcomes


def new_ranking(stage: LocalizeStage, baseline: Baseline | None) -> RankingData:
    """Make a ranking without owners."""
    return RankingData(
        stage.name,
        stage.spec.metric,
        stage.job.sites[0],
        stage.layers,
        stage.spec.top or 1,
        {},
        None if baseline is None else baseline.mean,
        None if baseline is None else baseline.std,
        0 if baseline is None else baseline.n_prompts,
    )


def _rounds(engine: Engine, stage: LocalizeStage, owners: Sequence[str]) -> list[list[str]]:
    """Split owners so that the activations of a round fit into the buffer; order is kept."""
    width = engine.place(stage.job.sites[0], stage.layers[0]).width
    itemsize = next(engine.model.parameters()).element_size()
    rounds: list[list[str]] = []
    size = BUFFER_BYTES + 1
    for owner in owners:
        need = len(stage.groups[owner]) * len(stage.layers) * width * itemsize
        if size + need > BUFFER_BYTES:
            rounds.append([])
            size = 0
        rounds[-1].append(owner)
        size += need
    return rounds


def _read(
    engine: Engine,
    stage: LocalizeStage,
    groups: Mapping[str, tuple[int, ...]],
    progress: Callable[[int], None] | None,
) -> tuple[dict[str, torch.Tensor], Outcome]:
    """Read the site on some sequences: owner -> ``[n_layers, n_prompts, width]`` in the model's dtype."""
    members = [i for group in groups.values() for i in group]
    row_of = {k: (owner, j) for owner, group in groups.items() for j, k in enumerate(group)}
    where = [row_of[i] for i in members]
    job = Job(
        tuple(replace(stage.job.sequences[i], group=n) for n, i in enumerate(members)),
        stage.job.sites,
        stage.job.layers,
    )
    site = stage.job.sites[0]
    buffers: dict[str, torch.Tensor] = {}

    def keep(reading: Reading) -> None:
        values = reading.values[site]
        if not torch.isfinite(values).all():
            raise RunError("an activation is not a finite number", remedy="try model.dtype: float32 or bfloat16")
        for owner in {where[s][0] for s in reading.sequence}:
            if owner not in buffers:
                shape = (values.shape[0], len(groups[owner]), values.shape[2])
                buffers[owner] = torch.empty(shape, dtype=values.dtype, device="cpu")
            mine = [k for k, s in enumerate(reading.sequence) if where[s][0] == owner]
            slots = torch.tensor([where[reading.sequence[k]][1] for k in mine])
            buffers[owner][:, slots] = values[:, torch.tensor(mine, device=values.device)].cpu()

    outcome = engine.run(job, on_values=keep, progress=progress)
    return buffers, outcome


def _mean_std(values: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population std over prompts, float64: ``[n_layers, n_prompts, width] -> [n_layers, width]`` each."""
    means, stds = [], []
    for layer in values:
        exact = layer.double()
        std, mean = torch.std_mean(exact, dim=0, correction=0)
        means.append(mean.numpy())
        stds.append(std.numpy())
    return np.stack(means), np.stack(stds)


def _score(
    stage: LocalizeStage,
    owner: str,
    values: torch.Tensor,
    baseline: Baseline | None,
) -> GroupData:
    mean, std = _mean_std(values)
    floor = stage.spec.std_floor if stage.spec.std_floor is not None else 0.1
    statistics = Statistics(
        mean,
        std,
        None if baseline is None else baseline.mean.astype(np.float64),
        None if baseline is None else baseline.std.astype(np.float64),
        floor,
    )
    score = METRICS[stage.spec.metric](statistics)
    group = GroupData(
        score.astype(np.float32), mean.astype(np.float32), std.astype(np.float32), n_prompts=values.shape[1]
    )
    if statistics.baseline_mean is not None:
        mean_z, std_z = statistics.z()
        group.mean_z, group.std_z = mean_z.astype(np.float32), std_z.astype(np.float32)
        group.floor = floor if stage.spec.metric == "stability" else None
    width = score.shape[1]
    for flat in group.order()[:KEPT]:
        layer, neuron = int(flat) // width, int(flat) % width
        group.values[(stage.layers[layer], neuron)] = values[layer, :, neuron].float().tolist()
    group.prompts = [stage.prompts[i].text.text for i in stage.groups[owner]]
    return group


def _random_scores(seed: int, name: str, owner: str, n_layers: int, width: int) -> np.ndarray:
    digest = hashlib.sha256(repr((seed, name, owner)).encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return random.random((n_layers, width), dtype=np.float32)
