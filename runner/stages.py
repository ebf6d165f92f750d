"""Run one stage of a plan, or find that it has been run before.

A stage's key is made of all that determines its numbers: the model's files, number format and device, the library
versions, the token ids, and what each condition edits. Comments, names and the order of keys are not in it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runner.cache import Kept
from runner.localization.localize import (
    KEPT,
    Baseline,
    new_ranking,
    rank_owners,
    rank_randomly,
    read_baseline,
    require_prompts,
)
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
    """Rank, taking from the cache the baseline and every owner that has been ranked on the same prompts.

    The baseline and each owner are entries of their own: a new entity costs its own prompts and no more, and two
    rankings of one spec that share owners agree to the last digit.
    """
    started = time.perf_counter()
    if stage.spec.metric == "random":
        data = new_ranking(stage, None)
        width = machine.widths()[(stage.job.sites[0], stage.layers[0])]
        data.groups.update(rank_randomly(width, stage, experiment.seed))
        return data, stage_record(stage.name, machine, stage.job, 0.0, reused=False, note="runs nothing")
    require_prompts(stage)
    reporter.stage(stage.name, machine.nodes(stage.job))
    place = machine.stage_key({"stage": "baseline", **_sequences(stage, stage.baseline)})
    baseline, notes = _baseline(machine, stage, place, reporter)
    keys = {
        owner: machine.stage_key(
            {
                "stage": "ranking",
                "metric": stage.spec.metric,
                "std_floor": stage.spec.std_floor,
                "kept": KEPT,
                "baseline": place if stage.baseline else None,
                **_sequences(stage, members),
            }
        )
        for owner, members in stage.groups.items()
    }
    data = new_ranking(stage, baseline)
    found = {owner: kept for owner, key in keys.items() if (kept := machine.cache.get(key)) is not None}
    missing = [owner for owner in stage.groups if owner not in found]
    ranked: dict[str, GroupData] = {owner: _group_from(kept) for owner, kept in found.items()}
    if missing:
        engine = machine.engine(reporter)
        for groups, outcome in rank_owners(engine, stage, missing, baseline, reporter.advance):
            notes += outcome.notes
            for owner, group in groups.items():
                machine.cache.put(keys[owner], *_group_to(group))
                ranked[owner] = group
    for owner in stage.groups:
        ranked[owner].prompts = [stage.prompts[i].text.text for i in stage.groups[owner]]
        data.groups[owner] = ranked[owner]
    if found and missing:
        notes.append(f"{len(found)} of {len(stage.groups)} owners reused")
    seconds = time.perf_counter() - started
    note = "; ".join(notes)
    reporter.done(stage.name, reused=not missing, note=note)
    return data, stage_record(stage.name, machine, stage.job, seconds, reused=not missing, note=note)


def _sequences(stage: LocalizeStage, members: Sequence[int]) -> dict[str, Any]:
    """Give what determines the values read on some sequences: tokens, positions, site and layers."""
    sequences = [stage.job.sequences[i] for i in members]
    return {
        "tokens": [list(s.ids) for s in sequences],
        "read": [list(s.read) for s in sequences],
        "sites": list(stage.job.sites),
        "layers": list(stage.job.layers),
    }


def _baseline(
    machine: Machine, stage: LocalizeStage, place: str, reporter: Reporter
) -> tuple[Baseline | None, list[str]]:
    if not stage.baseline:
        return None, []
    kept = machine.cache.get(place)
    if kept is not None:
        return _baseline_from(kept), []
    baseline, outcome = read_baseline(machine.engine(reporter), stage, reporter.advance)
    machine.cache.put(place, {"mean": baseline.mean, "std": baseline.std}, {"n_prompts": baseline.n_prompts})
    return baseline, list(outcome.notes)


def _baseline_from(kept: Kept) -> Baseline:
    arrays: dict[str, Any] = kept.arrays
    return Baseline(arrays["mean"], arrays["std"], int(kept.meta["n_prompts"]))


STATISTICS = ("score", "mean", "std", "mean_z", "std_z")


def _group_to(group: GroupData) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays = {name: values for name in STATISTICS if (values := getattr(group, name)) is not None}
    values = [[layer, neuron, numbers] for (layer, neuron), numbers in group.values.items()]
    return arrays, {"floor": group.floor, "n_prompts": group.n_prompts, "values": values}


def _group_from(kept: Kept) -> GroupData:
    arrays: dict[str, Any] = kept.arrays
    return GroupData(
        arrays["score"],
        arrays.get("mean"),
        arrays.get("std"),
        arrays.get("mean_z"),
        arrays.get("std_z"),
        floor=kept.meta["floor"],
        n_prompts=int(kept.meta["n_prompts"]),
        values={(int(layer), int(neuron)): numbers for layer, neuron, numbers in kept.meta["values"]},
    )


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
        arrays = {f"{site}|{layer}": np.stack([vectors[k] for k in keys]) for (site, layer), vectors in values.items()}
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


def ask_stage(machine: Machine, stage: AskStage, resolver: Resolver, reporter: Reporter) -> tuple[Any, Stage]:
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
