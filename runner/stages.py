"""Run the stages of a plan, or find that they have been run before: cell by cell of the stage cache.

A cell's key is made of all that determines its numbers: the model's files, number format and device, the library
versions, the token ids, and what each condition edits. Comments, names and the order of keys are not in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from runner.cache import Kept, key
from runner.localization.contrast import Contrast
from runner.localization.layers import NameBaseline, name_groups, read_names
from runner.localization.localize import (
    KEPT,
    Baseline,
    columns_of,
    new_ranking,
    rank_owners,
    rank_randomly,
    read_baseline,
    require_prompts,
)
from runner.localization.rank_precision import rank_by_precision
from runner.localization.ranking import GroupData, RankingData
from runner.model import Machine
from runner.plan import AskStage, Condition, LocalizeStage
from runner.program import CLEAN, Job, Resolve, Stored, subset
from runner.resolve import Resolver
from runner.run_types import Reporter, Spent, run_again, stage_record
from runner.sources import as_stored, keys_of, reading_at, stored_values
from runner.weights import run_with_weights
from specs.language.experiment import GRADIENT_METRICS, Experiment
from specs.language.results import PrecisionFigures, RandomName, Stage

if TYPE_CHECKING:
    from runner.execute import Outcome
    from runner.store import RankingFile

__all__ = ["ask_stage", "localize_stage", "questions_stage", "stored_of"]


# -- rankings -----------------------------------------------------------------------------------------------------


def localize_stage(
    machine: Machine,
    stage: LocalizeStage,
    experiment: Experiment,
    reporter: Reporter,
    file: RankingFile,
) -> tuple[RankingData, Stage]:
    """Rank, taking from the cache the baseline and every owner that has been ranked on the same prompts.

    The baseline and each owner are cells of their own: a new entity costs its own prompts and no more, and two
    rankings of one spec that share owners agree to the last digit. Arrays go to ``file`` owner by owner.
    """
    spent = Spent()
    columns = columns_of(stage, machine.width)
    if stage.spec.metric == "random":
        data = new_ranking(stage, None, columns)
        for owner, group in rank_randomly(columns.total, stage, experiment.seed).items():
            data.groups[owner] = _filed(file, owner, group)
        return data, stage_record(stage.name, machine, stage.job, spent, note="runs nothing")
    require_prompts(stage)
    reporter.stage(stage.name, machine.cost(stage.job).distinct_tokens)
    of_layers = stage.spec.metric == "layer_stability"
    place = machine.stage_key(
        {"stage": "names" if of_layers else "baseline", **_sequences(stage, stage.baseline)}
        | ({"names": [list(members) for members in name_groups(stage).values()]} if of_layers else {})
    )
    baseline = None
    if not stage.contrasts:
        baseline = (_names if of_layers else _baseline)(machine, stage, place, reporter, spent)

    def place_of(members: Sequence[int], contrast: Contrast | None = None) -> str:
        return machine.stage_key(
            {
                "stage": "ranking",
                "metric": stage.spec.metric,
                "std_floor": stage.spec.std_floor,
                "kept": KEPT,
                "baseline": place if stage.baseline and contrast is None else None,
                **_sequences(stage, members),
                **(_contrasted(stage, members, contrast) if contrast is not None else {}),
            }
        )

    keys = {owner: place_of(members, stage.contrasts.get(owner)) for owner, members in stage.groups.items()}
    ranked: dict[str, GroupData] = {}
    for owner, known in keys.items():
        kept = machine.cache.get(known)
        if kept is not None:
            ranked[owner] = _filed(file, owner, _group_from(kept))
    missing = [owner for owner in stage.groups if owner not in ranked]
    if missing:
        engine = machine.engine(reporter)
        if stage.contrasts:
            scratch = file.path.parent
            rounds = iter([rank_by_precision(engine, stage, missing, columns, scratch, reporter.advance)])
        else:
            rounds = rank_owners(engine, stage, missing, baseline, reporter.advance)
        for groups, outcome in rounds:
            spent.add(outcome)
            for owner, group in groups.items():
                machine.cache.put(keys[owner], *_group_to(group), about=machine.about("ranking", owner))
                ranked[owner] = _filed(file, owner, group)
    data = new_ranking(stage, baseline, columns)
    data.random_names, fresh = _random_names(machine, stage, data, baseline, place_of, reporter, spent)
    missing += fresh
    for owner in stage.groups:
        ranked[owner].prompts = [stage.prompts[i].text.text for i in stage.groups[owner]]
        data.groups[owner] = ranked[owner]
    spent.recomputed = missing if len(missing) < len(stage.groups) + len(stage.names) else []
    record = stage_record(stage.name, machine, stage.job, spent, reused=not spent.tokens)
    reporter.done(stage.name, reused=not spent.tokens, note=_words(record))
    return data, record


def _random_names(
    machine: Machine,
    stage: LocalizeStage,
    data: RankingData,
    baseline: Baseline | NameBaseline | None,
    place_of: Callable[[Sequence[int]], str],
    reporter: Reporter,
    spent: Spent,
) -> tuple[list[RandomName], list[str]]:
    """Make the same ranking for made-up names; kept of each is its best. Give also which were run."""
    places = {name: key({"best of": place_of(members)}) for name, members in stage.names.items()}
    found: dict[str, RandomName] = {}
    for name, place in places.items():
        kept = machine.cache.get(place)
        if kept is not None:
            found[name] = RandomName.model_validate({**kept.meta, "name": name})
    missing = [name for name in stage.names if name not in found]
    if missing:
        by_name = replace(stage, groups=stage.names)
        for groups, outcome in rank_owners(machine.engine(reporter), by_name, missing, baseline, reporter.advance):
            spent.add(outcome)
            for name, group in groups.items():
                found[name] = _best(data, name, group)
                machine.cache.put(places[name], {}, found[name].model_dump(), about=machine.about("ranking", name))
    return [found[name] for name in stage.names], missing


def _best(data: RankingData, name: str, group: GroupData) -> RandomName:
    score = group.score
    flat = int(group.best(1)[0])
    layer, neuron = divmod(flat, score.shape[1])
    return RandomName(
        name=name,
        address=data.written(flat, score.shape[1]),
        score=float(score[layer, neuron]),
        dominance=data.dominance_at(score, layer, neuron),
    )


def _words(record: Stage) -> str:
    return "; ".join(part for part in (run_again(record.recomputed), record.note) if part)


def _filed(file: RankingFile, owner: str, group: GroupData) -> GroupData:
    """Put the arrays of a ranking into the run's file, from which they are read again when they are wanted."""
    file.add(owner, group.arrays())
    group.kept = partial(file.load, owner)
    return group


def _sequences(stage: LocalizeStage, members: Sequence[int]) -> dict[str, Any]:
    """Give what determines the values read on some sequences: tokens, positions, site and layers."""
    sequences = [stage.job.sequences[i] for i in members]
    return {
        "tokens": [list(s.ids) for s in sequences],
        "read": [list(s.read) for s in sequences],
        "sites": list(stage.job.sites),
        "layers": list(stage.job.layers),
        **_pooling(stage, members),
    }


def _contrasted(stage: LocalizeStage, members: Sequence[int], contrast: Contrast) -> dict[str, Any]:
    """Give what else determines a ranking by average precision: negatives, shuffled labels and the size of the set."""
    number = {i: k for k, i in enumerate((*members, *contrast.negatives))}
    negatives = _sequences(stage, contrast.negatives)
    return {
        "negatives": [negatives["tokens"], negatives["read"]],
        "shuffled": [[number[i] for i in labels] for labels in contrast.shuffled],
        "top": stage.spec.top,
        # Also where the owner's own prompts are read at one token each.
        **_pooling(stage, (*members, *contrast.negatives)),
    }


def _pooling(stage: LocalizeStage, members: Sequence[int]) -> dict[str, Any]:
    """Give what else determines a ranking over several tokens, and one by gradient."""
    more: dict[str, Any] = {}
    if any(len(stage.job.sequences[i].read) > 1 for i in members):
        more["pool"] = [stage.spec.pool, "in float32"]
    if stage.spec.metric in GRADIENT_METRICS:
        more["objective"] = stage.spec.objective
        more["answers"] = [[list(a.tokens) for a in stage.prompts[i].answers] for i in members]
    return more


def _names(machine: Machine, stage: LocalizeStage, place: str, reporter: Reporter, spent: Spent) -> NameBaseline:
    names = tuple(name_groups(stage))
    kept = machine.cache.get(place)
    if kept is not None:
        arrays: dict[str, Any] = kept.arrays
        return NameBaseline(arrays["stability"], names)
    baseline, outcome = read_names(machine.engine(reporter), stage, reporter.advance)
    spent.add(outcome)
    about = machine.about("baseline", stage.spec.against if isinstance(stage.spec.against, str) else "")
    machine.cache.put(place, {"stability": baseline.stability}, {}, about=about)
    return baseline


def _baseline(machine: Machine, stage: LocalizeStage, place: str, reporter: Reporter, spent: Spent) -> Baseline | None:
    if not stage.baseline:
        return None
    kept = machine.cache.get(place)
    if kept is not None:
        return _baseline_from(kept)
    baseline, outcome = read_baseline(machine.engine(reporter), stage, reporter.advance)
    spent.add(outcome)
    arrays = {"mean": baseline.mean, "std": baseline.std}
    against = stage.spec.against if isinstance(stage.spec.against, str) else ""
    machine.cache.put(place, arrays, {"n_prompts": baseline.n_prompts}, about=machine.about("baseline", against))
    return baseline


def _baseline_from(kept: Kept) -> Baseline:
    arrays: dict[str, Any] = kept.arrays
    return Baseline(arrays["mean"], arrays["std"], int(kept.meta["n_prompts"]))


def _group_to(group: GroupData) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    values = [[layer, column, numbers] for (layer, column), numbers in group.values.items()]
    meta: dict[str, Any] = {"floor": group.floor, "n_prompts": group.n_prompts, "values": values}
    if group.precision is not None:
        meta["precision"] = group.precision.model_dump()
    return dict(group.arrays()), meta


def _group_from(kept: Kept) -> GroupData:
    arrays: dict[str, Any] = kept.arrays
    precision = kept.meta.get("precision")
    return GroupData(
        arrays,
        floor=kept.meta["floor"],
        n_prompts=int(kept.meta["n_prompts"]),
        values={(int(layer), int(column)): numbers for layer, column, numbers in kept.meta["values"]},
        precision=None if precision is None else PrecisionFigures.model_validate(precision),
    )


# -- interventions ------------------------------------------------------------------------------------------------


def stored_of(
    machine: Machine, stage: AskStage, resolver: Resolver, reporter: Reporter
) -> Iterator[tuple[Stored, Stage]]:
    """Read what edits and the freeze take from other prompts, source by source, or find it in the cache.

    Only the layers are read in which some condition needs a value.
    """
    conditions = {s.condition for s in stage.job.sequences if isinstance(s.condition, Condition)}
    for index, planned in enumerate(stage.means):
        means = reading_at(planned, resolver.read_at(index, sorted(conditions, key=repr)))
        name = f"{stage.name}: {means.label}"
        number = {key: n for n, key in enumerate(keys_of(means))}
        key = machine.stage_key(
            {
                "stage": "stored values",
                "sequences": [[list(s.ids), list(s.read)] for s in means.job.sequences],
                "places": [list(means.job.sites), list(means.job.layers)],
                "members": [[*place, [number[k] for k in of]] for place, of in means.members.items()],
            }
        )
        spent = Spent()
        found = machine.cache.get(key)
        if found is None:
            engine = machine.engine(reporter)
            reporter.stage(name, machine.cost(means.job).distinct_tokens)
            values, outcome = stored_values(engine, means, progress=reporter.advance)
            spent.add(outcome)
            arrays = {f"{site}|{layer}": rows for (site, layer), rows in values.items()}
            machine.cache.put(key, arrays, {}, about=machine.about("means", stage.name))
        else:
            reporter.stage(name, None)
            values = {}
            for place, rows in found.arrays.items():
                site, _, layer = place.rpartition("|")
                values[(site, int(layer))] = rows
        record = stage_record(name, machine, means.job, spent, reused=found is not None)
        reporter.done(name, reused=found is not None, note=record.note)
        yield as_stored(means, values), record


def ask_stage(machine: Machine, stage: AskStage, resolver: Resolver, reporter: Reporter) -> tuple[Outcome, Stage]:
    """Run an intervention's job, taking from the cache every question that was asked before in the same way."""
    return questions_stage(machine, stage.name, stage.job, resolver, reporter)


def questions_stage(
    machine: Machine, name: str, whole: Job, resolver: Resolve, reporter: Reporter
) -> tuple[Outcome, Stage]:
    """Run a job of questions, taking from the cache every question that was asked before in the same way.

    A question is a prompt with all conditions that are asked of it: they share rows, and in bfloat16 a difference
    between them is only free of rounding noise for that. What was finished is kept when the run is interrupted.
    """
    from runner.execute import Engine

    spent = Spent()
    questions: dict[int, list[int]] = {}
    for i, sequence in enumerate(whole.sequences):
        questions.setdefault(sequence.group, []).append(i)
    describe = _described(whole, resolver)
    keys = {group: machine.stage_key(describe(members)) for group, members in questions.items()}
    outcome = Engine.blank(whole)
    missing = [
        group for group, members in questions.items() if not _recall(outcome, members, machine.cache.get(keys[group]))
    ]
    if missing:
        engine = machine.engine(reporter)
        wanted = sorted(i for group in missing for i in questions[group])
        job = subset(whole, wanted) if len(missing) < len(questions) else whole
        reporter.stage(name, machine.cost(job).distinct_tokens)
        fresh = Engine.blank(job)
        try:
            run_with_weights(engine, job, resolver, progress=reporter.advance, outcome=fresh)
        finally:
            outcome.take(fresh, wanted)
            for group in missing:
                members = questions[group]
                if all(outcome.done[i] for i in members):
                    about = machine.about("question", _prompt(machine, whole, members))
                    machine.cache.put(keys[group], *_scores_to(outcome, members), about=about)
        spent.add(fresh)
    else:
        reporter.stage(name, None)
    if len(missing) < len(questions):
        spent.recomputed = [_prompt(machine, whole, questions[group]) for group in missing]
    record = stage_record(name, machine, whole, spent, reused=not missing)
    reporter.done(name, reused=not missing, note=_words(record))
    return outcome, record


def _described(job: Job, resolver: Resolve) -> Callable[[Sequence[int]], dict[str, Any]]:
    """Give what determines the scores of a question: its sequences, with every condition as what it does."""
    effects: dict[Hashable, str] = {CLEAN: ""}

    def effect(condition: Hashable) -> str:
        if condition not in effects:
            done = resolver(condition)
            held = () if done.held is None else (sorted(done.held.places.items()), sorted(done.held.free.items()))
            effects[condition] = hashlib.sha256(repr((done.edits, held)).encode()).hexdigest()
        return effects[condition]

    def describe(members: Sequence[int]) -> dict[str, Any]:
        number = {i: k for k, i in enumerate(members)}
        digest = hashlib.sha256()
        texts: dict[str, None] = {}
        stored: dict[int, Stored] = {}
        for i in members:
            s = job.sequences[i]
            twin = None if s.twin is None else number[s.twin]
            source = (s.source, s.apart) if s.source else ()
            texts.update(dict.fromkeys([s.source] if s.source else []))
            edited = "" if s.condition is CLEAN else effect(s.condition)
            if s.source:
                stored.update((id(item), item) for item in resolver(s.condition).stored())
            parts = (
                s.ids,
                edited,
                s.condition is CLEAN,
                s.branch_at,
                s.edits,
                s.score,
                twin,
                s.frozen,
                source,
                s.generate,
            )
            more: list[object] = [s.onward] if s.generate and s.onward else []
            if s.edits and len(s.ids) in map(len, s.edits):
                more.append("shares beginnings")  # other rows than before, and so other last bits
            digest.update(repr((*parts, *more)).encode())
        return {
            "stage": "question",
            "sequences": digest.hexdigest(),
            "stored": [[item.label, item.digest(texts)] for item in stored.values()],
        }

    return describe


def _prompt(machine: Machine, job: Job, members: Sequence[int]) -> str:
    """Give a question as text: what stands before the first token that is scored; a text without answers as it is."""
    first = job.sequences[members[0]]
    if first.title:
        return first.title
    stop = min((p for p, _ in first.score), default=len(first.ids) - 1) + 1
    return str(machine.tokenizer.decode(list(first.ids[:stop]), skip_special_tokens=True))


def _scores_to(outcome: Outcome, members: Sequence[int]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays = {
        "logps": np.concatenate([outcome.logps[i] for i in members]),
        "ranks": np.concatenate([outcome.ranks[i] for i in members]),
        "lengths": np.array([len(outcome.logps[i]) for i in members], dtype=np.int64),
        "finite": np.array([outcome.finite[i] for i in members], dtype=bool),
        "deviation": np.array([outcome.deviation[i] for i in members]),
    }
    texts = {str(k): list(outcome.generated[i]) for k, i in enumerate(members) if i in outcome.generated}
    return arrays, {"generated": texts}


def _recall(outcome: Outcome, members: Sequence[int], kept: Kept | None) -> bool:
    """Fill in what was kept of a question; False where nothing was."""
    if kept is None:
        return False
    arrays: dict[str, Any] = kept.arrays
    for i, (logps, ranks, finite) in zip(members, _unravel(arrays), strict=True):
        outcome.logps[i], outcome.ranks[i], outcome.finite[i], outcome.done[i] = logps, ranks, finite, True
    for i, deviation in zip(members, arrays["deviation"], strict=True):
        outcome.deviation[i] = float(deviation)
    for k, tokens in kept.meta["generated"].items():
        outcome.generated[members[int(k)]] = tuple(tokens)
    return True


def _unravel(arrays: Mapping[str, Any]) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    cuts = np.cumsum(arrays["lengths"])[:-1]
    for logps, ranks, finite in zip(
        np.split(arrays["logps"], cuts), np.split(arrays["ranks"], cuts), arrays["finite"], strict=True
    ):
        yield logps, ranks, bool(finite)
