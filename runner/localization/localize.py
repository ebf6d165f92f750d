"""Run a localisation: read a site over prompts, reduce to statistics per owner, score every neuron."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from runner.execute import Engine, Outcome, Reading
from runner.localization.metrics import METRICS, Statistics
from runner.localization.ranking import GroupData, RankingData
from runner.plan import LocalizeStage
from runner.program import Job
from specs.language.errors import RunError

__all__ = ["localize"]

BUFFER_BYTES = 2 << 30
"""Activations of so many bytes are held at once; owners beyond that are read in a later round."""
KEPT = 20
"""Neurons whose per-prompt values are kept, and that the result document lists."""


def localize(
    engine: Engine,
    stage: LocalizeStage,
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> tuple[RankingData, Outcome | None]:
    """Rank every neuron for every owner of a stage.

    Means and stds are exact (two passes over buffered values) and accumulated in float64. Raises
    :class:`RunError` when an owner has fewer prompts than the metric allows or a value is not finite.
    """
    spec = stage.spec
    top = spec.top or 1
    ranking = RankingData(stage.name, spec.metric, stage.job.sites[0], stage.layers, top, {})
    if spec.metric == "random":
        width = engine.place(stage.job.sites[0], stage.layers[0]).width
        for owner in stage.groups:
            ranking.groups[owner] = GroupData(_random_scores(seed, stage.name, owner, len(stage.layers), width))
        return ranking, None
    least = spec.min_prompts or 8
    for owner, members in stage.groups.items():
        if len(members) < least:
            raise RunError(
                f"'{stage.name}' has {len(members)} prompts about {owner}; {spec.metric} needs {least}",
                remedy="over fewer prompts near-constant neurons win; add templates or see what was left out",
            )
    total = Outcome([], [])
    if stage.baseline:
        mean, std, outcome = _statistics(engine, stage, {"": stage.baseline}, progress)[""]
        ranking.baseline_mean, ranking.baseline_std = mean.astype(np.float32), std.astype(np.float32)
        ranking.n_baseline = len(stage.baseline)
        _add(total, outcome)
    base = (ranking.baseline_mean, ranking.baseline_std)
    for owners in _rounds(engine, stage):
        groups = {owner: stage.groups[owner] for owner in owners}
        buffers, outcome = _read(engine, stage, groups, progress)
        _add(total, outcome)
        for owner, values in buffers.items():
            ranking.groups[owner] = _score(stage, owner, values, base)
    return ranking, total


def _rounds(engine: Engine, stage: LocalizeStage) -> list[list[str]]:
    """Split owners so that the activations of a round fit into the buffer; order is kept."""
    width = engine.place(stage.job.sites[0], stage.layers[0]).width
    itemsize = next(engine.model.parameters()).element_size()
    rounds: list[list[str]] = []
    size = BUFFER_BYTES + 1
    for owner, members in stage.groups.items():
        need = len(members) * len(stage.layers) * width * itemsize
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
            raise RunError(
                "an activation is not a finite number", remedy="try model.dtype: float32 or bfloat16"
            )
        for owner in {where[s][0] for s in reading.sequence}:
            if owner not in buffers:
                shape = (values.shape[0], len(groups[owner]), values.shape[2])
                buffers[owner] = torch.empty(shape, dtype=values.dtype, device="cpu")
            mine = [k for k, s in enumerate(reading.sequence) if where[s][0] == owner]
            slots = torch.tensor([where[reading.sequence[k]][1] for k in mine])
            buffers[owner][:, slots] = values[:, torch.tensor(mine, device=values.device)].cpu()

    outcome = engine.run(job, on_values=keep, progress=progress)
    return buffers, outcome


def _statistics(
    engine: Engine,
    stage: LocalizeStage,
    groups: Mapping[str, tuple[int, ...]],
    progress: Callable[[int], None] | None,
) -> dict[str, tuple[np.ndarray, np.ndarray, Outcome]]:
    buffers, outcome = _read(engine, stage, groups, progress)
    return {owner: (*_mean_std(values), outcome) for owner, values in buffers.items()}


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
    base: tuple[np.ndarray | None, np.ndarray | None],
) -> GroupData:
    mean, std = _mean_std(values)
    floor = stage.spec.std_floor if stage.spec.std_floor is not None else 0.1
    statistics = Statistics(
        mean,
        std,
        None if base[0] is None else base[0].astype(np.float64),
        None if base[1] is None else base[1].astype(np.float64),
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


def _add(total: Outcome, part: Outcome) -> None:
    total.passes += part.passes
    total.nodes += part.nodes
    total.seconds += part.seconds
    total.notes += part.notes
