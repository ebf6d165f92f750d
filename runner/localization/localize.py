"""Run a localisation: read a site over prompts, reduce to statistics per owner, score every neuron."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from runner.execute import Engine, Outcome, Reading
from runner.localization.columns import Columns, columns_at
from runner.localization.gradients import attributions
from runner.localization.layers import NameBaseline, name_groups, rank_layers
from runner.localization.metrics import METRICS, WITH_BASELINE, Statistics, least_prompts
from runner.localization.moments import BYTES_PER_VALUE, Moments
from runner.localization.ranking import Floats, GroupData, RankingData
from runner.plan import LocalizeStage
from runner.program import Job
from specs.language.errors import RunError
from specs.language.experiment import GRADIENT_METRICS

__all__ = [
    "KEPT",
    "Baseline",
    "by_prompt",
    "columns_of",
    "digits",
    "how_pooled",
    "localize",
    "new_ranking",
    "rank_owners",
    "rank_randomly",
    "read_baseline",
    "require_prompts",
]

KEPT = 5
"""Best neurons of an owner whose values on every prompt are kept: what the report draws, and its rivals."""


@dataclass(frozen=True)
class Baseline:
    """Statistics of every neuron over the baseline: ``[n_layers, width]`` each, float32."""

    mean: Floats
    std: Floats
    n_prompts: int

    def on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Give mean and std in float64 on a device."""
        return torch.from_numpy(self.mean).to(device).double(), torch.from_numpy(self.std).to(device).double()


def read_baseline(
    engine: Engine, stage: LocalizeStage, progress: Callable[[int], None] | None = None
) -> tuple[Baseline, Outcome]:
    """Run the baseline of a ranking and reduce it, in memory that does not depend on how many prompts it has."""
    moments, outcome = _read(engine, stage, {"": stage.baseline}, progress, None)
    mean, std = _finite(moments.of(0))
    return Baseline(_stored(mean), _stored(std), len(stage.baseline)), outcome


def require_prompts(stage: LocalizeStage) -> None:
    """Raise :class:`RunError` when an owner, or what it is compared with, has fewer prompts than the metric allows."""
    least = least_prompts(stage.spec)
    if stage.spec.metric in WITH_BASELINE and len(stage.baseline) < least:
        first = next((item for item in stage.left_out), None)
        raise RunError(
            f"'{stage.name}' compares with {len(stage.baseline)} texts of {stage.spec.against}; {stage.spec.metric} "
            f"needs {least}" + ("" if first is None else f" (left out: {first.what}: {first.reason})"),
            remedy="give it more of them, or see `run-spec validate --deep` for what was left out",
        )
    for owner, contrast in stage.contrasts.items():
        if len(contrast.negatives) < least:
            raise RunError(
                f"'{stage.name}' has {len(contrast.negatives)} prompts of others that those of {owner} are told from; "
                f"{stage.spec.metric} needs {least}",
                remedy="rank at least two owners with enough prompts, or see what was left out",
            )
    compared = name_groups(stage) if stage.spec.metric == "layer_stability" else {}
    for owner, members in {**stage.groups, **stage.names, **compared}.items():
        if len(members) < least:
            raise RunError(
                f"'{stage.name}' has {len(members)} prompts about {owner}; {stage.spec.metric} needs {least}",
                remedy="over fewer prompts "
                + ("some neurons are perfect by chance" if stage.contrasts else "near-constant neurons win")
                + "; add templates or facts, or see what was left out",
            )


def rank_owners(
    engine: Engine,
    stage: LocalizeStage,
    owners: Sequence[str],
    baseline: Baseline | NameBaseline | None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[dict[str, GroupData], Outcome]]:
    """Rank every neuron (or layer) for some owners, as many at a time as the engine's memory for reading holds.

    Raises :class:`RunError` when a value is not finite.
    """
    if isinstance(baseline, NameBaseline):
        yield from rank_layers(engine, stage, owners, baseline, progress)
        return
    if stage.spec.metric in GRADIENT_METRICS:
        yield from _rank_by_gradient(engine, stage, owners, progress)
        return
    for part, keeps in _rounds(engine, stage, owners):
        groups = {owner: stage.groups[owner] for owner in part}
        table = _Table(groups) if keeps else None
        moments, outcome = _read(engine, stage, groups, progress, table)
        against = None if baseline is None else baseline.on(engine.device)
        found = {owner: _score(stage, owner, moments.of(n), against) for n, owner in enumerate(part)}
        for owner, group in found.items():
            best = [divmod(int(flat), group.score.shape[1]) for flat in group.best(KEPT)]
            if table is not None:
                values = table.columns(owner, best)
            else:
                values, again = _read_again(engine, stage, owner, best, progress)
                outcome.nodes += again.nodes
                outcome.notes += again.notes
            group.values = {(stage.layers[layer], neuron): column for (layer, neuron), column in values.items()}
        yield found, outcome


def _rank_by_gradient(
    engine: Engine, stage: LocalizeStage, owners: Sequence[str], progress: Callable[[int], None] | None
) -> Iterator[tuple[dict[str, GroupData], Outcome]]:
    """Rank by the absolute mean of gradient times activation over an owner's questions."""
    _columns(engine, stage)
    for owner in owners:
        of_gradient, of_activation, outcome = attributions(engine, stage, stage.groups[owner], progress)
        attribution, _ = _finite(of_gradient.of(0))
        mean, std = _finite(of_activation.of(0))
        arrays = {"score": attribution.abs(), "mean": mean, "std": std, "attribution": attribution}
        group = GroupData({name: _stored(values) for name, values in arrays.items()})
        group.n_prompts = len(stage.groups[owner])
        best = [divmod(int(flat), group.score.shape[1]) for flat in group.best(KEPT)]
        values, again = _read_again(engine, stage, owner, best, progress)
        outcome.nodes += again.nodes
        outcome.notes += again.notes
        group.values = {(stage.layers[layer], neuron): column for (layer, neuron), column in values.items()}
        yield {owner: group}, outcome


def rank_randomly(engine_width: int, stage: LocalizeStage, seed: int) -> dict[str, GroupData]:
    """Rank at random, the null of every metric; runs nothing."""
    n_layers = len(stage.layers)
    return {
        owner: GroupData.of(_random_scores(seed, stage.name, owner, n_layers, engine_width)) for owner in stage.groups
    }


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
    ranking = new_ranking(stage, baseline, _columns(engine, stage))
    for groups, outcome in rank_owners(engine, stage, list(stage.groups), baseline, progress):
        ranking.groups.update(groups)
        outcomes.append(outcome)
    return ranking, outcomes


def columns_of(stage: LocalizeStage, width_of: Callable[[str, int], int]) -> Columns:
    """Lay out the columns of a ranking; where layers are ranked there is one, the layer itself."""
    if stage.spec.metric == "layer_stability":
        return Columns(stage.job.sites, (1,))
    return columns_at(stage.job.sites, stage.layers, width_of)


def _columns(engine: Engine, stage: LocalizeStage) -> Columns:
    return columns_of(stage, lambda site, layer: engine.place(site, layer).width)


def new_ranking(stage: LocalizeStage, baseline: Baseline | NameBaseline | None, columns: Columns) -> RankingData:
    """Make a ranking without owners."""
    ranking = RankingData(stage.name, stage.spec.metric, columns, stage.layers, stage.spec.top or 1, {})
    ranking.n_baseline = len(stage.baseline)
    ranking.unknown = stage.unknown
    if isinstance(baseline, NameBaseline):
        ranking.names = baseline
    elif baseline is not None:
        ranking.baseline_mean, ranking.baseline_std = baseline.mean, baseline.std
    return ranking


def _rounds(engine: Engine, stage: LocalizeStage, owners: Sequence[str]) -> list[tuple[list[str], bool]]:
    """Split owners so that the values of a round fit into memory; order is kept.

    With each round whether its values are kept until it is ranked: those of an owner with too many prompts are not.
    """
    neurons = len(stage.layers) * _columns(engine, stage).total
    itemsize = engine.dtype.itemsize
    rounds: list[tuple[list[str], bool]] = []
    size = engine.reading_bytes + 1
    for owner in owners:
        need = neurons * (BYTES_PER_VALUE + len(stage.groups[owner]) * itemsize)
        if need > engine.reading_bytes:
            rounds.append(([owner], False))
            size = engine.reading_bytes + 1
            continue
        if size + need > engine.reading_bytes:
            rounds.append(([], True))
            size = 0
        rounds[-1][0].append(owner)
        size += need
    return rounds


class _Table:
    """The values of a round on every prompt, ``[n_prompts, width]`` for each layer, on the device of the model."""

    def __init__(self, groups: Mapping[str, tuple[int, ...]]) -> None:
        ends = np.cumsum([len(members) for members in groups.values()])
        self._slices = {
            owner: slice(int(end) - len(members), int(end))
            for (owner, members), end in zip(groups.items(), ends, strict=True)
        }
        self._n = int(ends[-1])
        self._layers: list[torch.Tensor] = []

    def add(self, rows: np.ndarray, values: Sequence[torch.Tensor]) -> None:
        """Put ``[n_read, width]`` of each layer at some rows."""
        if not self._layers:
            self._layers = [v.new_empty((self._n, v.shape[1])) for v in values]
        index = torch.from_numpy(rows).to(values[0].device)
        for layer, value in zip(self._layers, values, strict=True):
            layer[index] = value

    def columns(self, owner: str, neurons: Sequence[tuple[int, int]]) -> dict[tuple[int, int], list[float]]:
        """Give the values of some (layer, column) on an owner's prompts, in their order."""
        return {
            (layer, column): digits(self._layers[layer][self._slices[owner], column].float().cpu().numpy())
            for layer, column in neurons
        }


def _read(
    engine: Engine,
    stage: LocalizeStage,
    groups: Mapping[str, tuple[int, ...]],
    progress: Callable[[int], None] | None,
    table: _Table | None,
) -> tuple[Moments, Outcome]:
    """Read the site on some sequences, owner by owner, and add up what is read."""
    members = [i for group in groups.values() for i in group]
    owner_of = np.repeat(np.arange(len(groups)), [len(group) for group in groups.values()])
    job = Job(tuple(stage.job.sequences[i] for i in members), stage.job.sites, stage.job.layers, pool=how_pooled(stage))
    moments = Moments(len(groups), len(stage.layers))

    def keep(reading: Reading) -> None:
        rows, values = by_prompt(reading, stage.job.sites)
        moments.add(owner_of[rows], values)
        if table is not None:
            table.add(rows, values)

    return moments, engine.run(job, on_values=keep, progress=progress)


def how_pooled(stage: LocalizeStage) -> str:
    """Say how the activation at several tokens of a prompt becomes one; it is no share of anything, so never a sum."""
    pool = stage.spec.pool or "mean"
    return "mean" if pool == "sum" and stage.spec.metric in GRADIENT_METRICS else pool


def by_prompt(reading: Reading, sites: Sequence[str]) -> tuple[np.ndarray, Sequence[torch.Tensor]]:
    """Give what a pass read, one row for each prompt: their numbers, and for each layer ``[n_prompts, width]``.

    A row holds the neurons of all sites, one site after the other.
    """
    values = [reading.values[site] for site in sites]
    if len(sites) == 1:
        return reading.sequence, values[0]
    return reading.sequence, [torch.cat(layer, dim=1) for layer in zip(*values, strict=True)]


def _read_again(
    engine: Engine,
    stage: LocalizeStage,
    owner: str,
    neurons: Sequence[tuple[int, int]],
    progress: Callable[[int], None] | None,
) -> tuple[dict[tuple[int, int], list[float]], Outcome]:
    """Read some (layer, column) on an owner's prompts, whose values were too many to be kept the first time."""
    members = stage.groups[owner]
    layers = sorted({layer for layer, _ in neurons})
    values = {place: np.zeros(len(members), dtype=np.float32) for place in neurons}
    job = Job(
        tuple(stage.job.sequences[i] for i in members),
        stage.job.sites,
        tuple(stage.layers[layer] for layer in layers),
        how_pooled(stage),
    )

    def keep(reading: Reading) -> None:
        rows, read = by_prompt(reading, stage.job.sites)
        for (layer, column), numbers in values.items():
            numbers[rows] = read[layers.index(layer)][:, column].float().cpu().numpy()

    outcome = engine.run(job, on_values=keep, progress=progress)
    return {place: digits(column) for place, column in values.items()}, outcome


def digits(values: Floats) -> list[float]:
    """Give values with seven digits, for a document of a thousand owners is mostly these."""
    return [float(f"{value:.7g}") for value in values]


def _finite(moments: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    if not all(bool(torch.isfinite(values).all()) for values in moments):
        raise RunError("an activation is not a finite number", remedy="try model.dtype: float32 or bfloat16")
    return moments


def _stored(values: torch.Tensor) -> Floats:
    """Round to the format in which rankings are kept."""
    return values.float().cpu().numpy()


def _score(
    stage: LocalizeStage,
    owner: str,
    moments: tuple[torch.Tensor, torch.Tensor],
    baseline: tuple[torch.Tensor, torch.Tensor] | None,
) -> GroupData:
    mean, std = _finite(moments)
    floor = stage.spec.std_floor if stage.spec.std_floor is not None else 0.1
    baseline_mean, baseline_std = baseline or (None, None)
    score = METRICS[stage.spec.metric](Statistics(mean, std, baseline_mean, baseline_std, floor))
    group = GroupData.of(_stored(score), _stored(mean), _stored(std))
    group.n_prompts = len(stage.groups[owner])
    if baseline is not None and stage.spec.metric == "stability":
        group.floor = floor
    group.prompts = [stage.prompts[i].text.text for i in stage.groups[owner]]
    return group


def _random_scores(seed: int, name: str, owner: str, n_layers: int, width: int) -> np.ndarray:
    digest = hashlib.sha256(repr((seed, name, owner)).encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return random.random((n_layers, width), dtype=np.float32)
