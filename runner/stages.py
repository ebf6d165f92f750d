"""Run one stage of a plan, or find that it has been run before.

A stage's key is made of all that determines its numbers: the model's files, number format and device, the library
versions, the token ids, and what each condition edits. Comments, names and the order of keys are not in it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.localization.localize import KEPT, localize
from runner.localization.ranking import GroupData, RankingData
from runner.model import Machine
from runner.plan import AskStage, LocalizeStage, MeanStage
from runner.program import CLEAN, Job
from runner.resolve import Resolver
from runner.run_types import Reporter, stage_record
from specs.language.experiment import Experiment
from specs.language.results import Stage

__all__ = ["ask_stage", "localize_stage", "means_of"]


def job_digest(job: Job) -> str:
    """Hash a job's sequences: token ids, positions, scores and symbolic conditions."""
    digest = hashlib.sha256()
    for s in job.sequences:
        digest.update(
            repr(
                (s.group, s.ids, s.condition, s.branch_at, s.edits, s.read, s.score, s.twin, s.frozen, s.generate)
            ).encode()
        )
    digest.update(repr((job.sites, job.layers)).encode())
    return digest.hexdigest()


def localize_stage(
    machine: Machine, stage: LocalizeStage, experiment: Experiment, reporter: Reporter
) -> tuple[RankingData, Stage]:
    """Rank, or read the ranking from the cache."""
    spec = stage.spec
    key = machine.stage_key(
        {
            "stage": "localize",
            "metric": spec.metric,
            "std_floor": spec.std_floor,
            "groups": {owner: list(members) for owner, members in stage.groups.items()},
            "baseline": list(stage.baseline),
            "kept": KEPT,
            "seed": [experiment.seed, stage.name] if spec.metric == "random" else None,
            "job": job_digest(stage.job),
        }
    )
    found = machine.cache.get(key)
    started = time.perf_counter()
    if found is not None:
        reporter.stage(stage.name, None)
        data = _ranking_from(stage, found.arrays, found.meta)
        record = stage_record(stage.name, machine, stage.job, time.perf_counter() - started, reused=True)
        reporter.done(stage.name, reused=True)
        return data, record
    engine = machine.engine(reporter)
    reporter.stage(stage.name, machine.nodes(stage.job))
    data, outcome = localize(engine, stage, seed=experiment.seed, progress=reporter.advance)
    machine.cache.put(key, *_ranking_to(data))
    notes = "; ".join(outcome.notes) if outcome else "runs nothing"
    record = stage_record(
        stage.name, machine, stage.job, time.perf_counter() - started, reused=False, note=notes
    )
    reporter.done(stage.name, note=notes)
    return data, record


def _ranking_to(data: RankingData) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays: dict[str, np.ndarray] = {}
    meta: dict[str, Any] = {"n_baseline": data.n_baseline, "owners": list(data.groups), "groups": []}
    if data.baseline_mean is not None and data.baseline_std is not None:
        arrays["baseline.mean"], arrays["baseline.std"] = data.baseline_mean, data.baseline_std
    for n, group in enumerate(data.groups.values()):
        for name in ("score", "mean", "std", "mean_z", "std_z"):
            values = getattr(group, name)
            if values is not None:
                arrays[f"{n}.{name}"] = values
        meta["groups"].append(
            {
                "floor": group.floor,
                "n_prompts": group.n_prompts,
                "prompts": group.prompts,
                "values": [[layer, neuron, values] for (layer, neuron), values in group.values.items()],
            }
        )
    return arrays, meta


def _ranking_from(stage: LocalizeStage, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> RankingData:
    data = RankingData(
        stage.name,
        stage.spec.metric,
        stage.job.sites[0],
        stage.layers,
        stage.spec.top or 1,
        {},
        arrays.get("baseline.mean"),
        arrays.get("baseline.std"),
        int(meta["n_baseline"]),
    )
    for n, (owner, group) in enumerate(zip(meta["owners"], meta["groups"], strict=True)):
        parts = {name: arrays.get(f"{n}.{name}") for name in ("score", "mean", "std", "mean_z", "std_z")}
        score = parts.pop("score")
        assert score is not None
        data.groups[owner] = GroupData(
            score,
            **parts,
            floor=group["floor"],
            n_prompts=int(group["n_prompts"]),
            values={(int(la), int(ne)): values for la, ne, values in group["values"]},
            prompts=list(group["prompts"]),
        )
    return data


def means_of(machine: Machine, stage: AskStage, reporter: Reporter) -> tuple[Any, Stage]:
    """Average the components that a freeze holds, or read them from the cache."""
    from runner.resolve import mean_values

    means: MeanStage | None = stage.means
    assert means is not None
    name = f"{stage.name}: means"
    key = machine.stage_key(
        {
            "stage": "means",
            "job": job_digest(means.job),
            "members": [[k, *v] for k, v in means.members.items()],
        }
    )
    started = time.perf_counter()
    found = machine.cache.get(key)
    if found is None:
        engine = machine.engine(reporter)
        reporter.stage(name, machine.nodes(means.job))
        values, _ = mean_values(engine, means, progress=reporter.advance)
        keys = list(dict.fromkeys(means.members.values()))
        arrays = {
            f"{site}|{layer}": np.stack([vectors[k] for k in keys]) for (site, layer), vectors in values.items()
        }
        machine.cache.put(key, arrays, {"keys": [list(k) for k in keys]})
    else:
        reporter.stage(name, None)
        arrays = found.arrays
        keys = [(str(a), str(b)) for a, b in found.meta["keys"]]
        values = {
            (place.split("|")[0], int(place.split("|")[1])): dict(zip(keys, vectors, strict=True))
            for place, vectors in arrays.items()
        }
    reporter.done(name, reused=found is not None)
    record = stage_record(name, machine, means.job, time.perf_counter() - started, reused=found is not None)
    return values, record


def ask_stage(
    machine: Machine, stage: AskStage, resolver: Resolver, reporter: Reporter
) -> tuple[Any, Stage]:
    """Run an intervention's job, or read its scores from the cache."""
    from runner.execute import Outcome

    conditions = list(dict.fromkeys(s.condition for s in stage.job.sequences if s.condition is not CLEAN))
    means = resolver.means or {}
    key = machine.stage_key(
        {
            "stage": "ask",
            "job": job_digest(stage.job),
            "conditions": [[repr(c), repr(resolver(c).edits)] for c in conditions],
            "held": sorted(repr(item) for item in resolver.held_places().items()),
            "means": {repr(k): _digest(v) for k, v in means.items()},
        }
    )
    started = time.perf_counter()
    found = machine.cache.get(key)
    if found is not None:
        reporter.stage(stage.name, None)
        arrays, meta = found.arrays, found.meta
        outcome = Outcome(
            _unravel(arrays["logps"], arrays["lengths"]),
            _unravel(arrays["ranks"], arrays["lengths"]),
            {int(k): tuple(v) for k, v in meta["generated"].items()},
            [bool(v) for v in arrays["finite"]],
            notes=list(meta["notes"]),
        )
    else:
        engine = machine.engine(reporter)
        reporter.stage(stage.name, machine.nodes(stage.job))
        outcome = engine.run(stage.job, resolver, progress=reporter.advance)
        arrays = {
            "logps": np.concatenate(outcome.logps),
            "ranks": np.concatenate(outcome.ranks),
            "lengths": np.array([len(v) for v in outcome.logps], dtype=np.int64),
            "finite": np.array(outcome.finite, dtype=bool),
        }
        machine.cache.put(
            key, arrays, {"generated": {str(k): list(v) for k, v in outcome.generated.items()}, "notes": outcome.notes}
        )
    note = "; ".join(outcome.notes)
    reporter.done(stage.name, reused=found is not None, note=note)
    seconds = time.perf_counter() - started
    return outcome, stage_record(stage.name, machine, stage.job, seconds, reused=found is not None, note=note)


def _digest(vectors: Mapping[Any, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for key, vector in vectors.items():
        digest.update(json.dumps(key).encode())
        digest.update(vector.tobytes())
    return digest.hexdigest()


def _unravel(values: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return np.split(values, np.cumsum(lengths)[:-1])
