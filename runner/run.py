"""Run a spec: model, plan, self-tests, rankings, interventions, measures, claims, and the run folder.

Read from top to bottom: :func:`run_cell` is the whole experiment in order.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runner.analyse import analyse
from runner.analyses import Findings, rows_read
from runner.ask import PromptNumbers, Rules, known_rule, rows_of
from runner.bind import Binder
from runner.chat import chat_frames, chat_notes
from runner.chosen import Chosen, dropped
from runner.claims import evaluate
from runner.compile import compile_ask, compile_plan, compile_rankings
from runner.describe import edit_words, field_word, source_words
from runner.edited import crowded, drawable, edited_members, edited_record, shared_with_wrong
from runner.figures import Figures, cut_point
from runner.known import KnownTexts, counts_of, known_texts
from runner.localization.record import (
    layer_records,
    names_band,
    profile_of,
    share_as_dominant,
    share_as_high,
    tie_warnings,
)
from runner.majority import majority_answers
from runner.model import Machine
from runner.narrow import narrowed
from runner.observe import Row
from runner.plan import AskStage, Condition, LocalizeStage, Plan
from runner.program import NeuronEdit
from runner.provenance import collect
from runner.resolve import Resolver
from runner.run_types import Reporter
from runner.saved_model import save_model
from runner.saving import model_of, saved_sets
from runner.selfcheck import require
from runner.sentence import answer
from runner.sharing import shared_by
from runner.show import plan_text
from runner.stages import ask_stage, localize_stage, stored_of
from runner.store import RunFolder
from runner.summaries import count_asked, left_out, summarise
from runner.tune import TIES, aim_of, choose, points_of, scores_of
from runner.vectors import Made, make_vector, write_vector
from specs.language.conditions import text as condition_text
from specs.language.dump import to_yaml
from specs.language.errors import RunError, RunSpecError
from specs.language.experiment import Condition as KnownRule
from specs.language.experiment import Experiment, Localize, Negatives
from specs.language.facts import PromptText, known_of, prompt_set
from specs.language.load import Cell, Loaded
from specs.language.results import (
    InjectedText,
    InterventionResult,
    LeftOut,
    RankedNeuron,
    Ranking,
    RankingGroup,
    Results,
    Stage,
    Tuning,
)

if TYPE_CHECKING:
    from runner.execute import Outcome

__all__ = ["Finished", "run_cell"]

LISTED = 20
"""Neurons of a ranking that the result document lists; the whole ranking is stored beside it."""


@dataclass
class Finished:
    """A run that has come to its end, complete or not."""

    results: Results
    folder: Path


def run_cell(
    loaded: Loaded,
    cell: Cell,
    machine: Machine,
    reporter: Reporter,
    root: Path,
) -> Finished:
    """Run one experiment (one cell of the matrix) and write its folder.

    What is finished is kept: an interrupt or an error leaves a readable folder with status ``partial`` and the
    reason, and is raised again.
    """
    experiment = cell.experiment
    started = datetime.now(UTC)
    clock = time.perf_counter()
    binder = Binder(machine.tokenizer)
    plan = compile_plan(experiment, binder, machine.shape.n_layers)
    require_questions(plan)
    results = Results(
        name=experiment.name,
        description=experiment.description or "",
        hash=cell.hash,
        cell=cell.label,
        status="partial",
        started=started.isoformat(timespec="seconds"),
        seconds=0.0,
        model=machine.facts(binder.adds_bos),
        spec=to_yaml(experiment),
        tables=[table.record for table in cell.imports],
        chats=chat_frames(experiment, machine.tokenizer),
        left_out=[*(item for table in cell.imports for item in table.left_out), *plan.left_out],
        warnings=[
            *(str(w.message) for w in loaded.warnings),
            *plan.warnings,
            *chat_notes(experiment, machine.tokenizer),
        ],
    )
    finished = Finished(results, root)
    rankings: dict[str, Any] = {}
    with RunFolder.create(root, experiment.name, cell.hash, cell.label) as folder:
        finished.folder = folder.path
        try:
            folder.write_spec(results.spec)
            folder.write_plan(plan_text(plan, machine.cost, machine.width))
            results.self_tests = machine.self_tests(plan, reporter)
            require(results.self_tests)
            known = _known(machine, plan, results, reporter)
            results.prompt_sets = counts_of(experiment, known)
            if known:
                plan = replace(plan, localize=compile_rankings(experiment, binder, machine.shape.n_layers, known))
                require_owners(plan)
            for stage in plan.localize:
                with folder.ranking(stage.name) as file:
                    data, record = localize_stage(machine, stage, experiment, reporter, file)
                    file.add("", ranking_arrays(data))
                rankings[stage.name] = data
                results.stages.append(record)
                results.left_out += stage.left_out
                results.rankings[stage.name] = ranking_result(stage, data)
            chosen = Chosen(experiment, rankings, labels_of(results), machine.widths())
            chosen.vectors = _vectors(machine, plan, folder, results, reporter)
            results.neurons = chosen.records()
            table = folder.table(*_columns(plan))
            kept: dict[str, list[Row]] = {}
            read = rows_read(experiment)
            for ask in plan.ask:
                every, rows = _ask(machine, ask, binder, chosen, results, reporter, folder)
                table.append(every)
                if ask.name in read:
                    kept[ask.name] = rows
                folder.write_results(results)
            for name, saved in saved_sets(experiment, results, model_of(machine)).items():
                folder.write_set(name, saved.model_dump_json(indent=1))
            results.analyses = analyse(Findings(experiment, results, rankings, kept))
            results.claims = evaluate(experiment, results)
            results.answer = answer(results)
            results.status = "complete"
        except (KeyboardInterrupt, RunSpecError) as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            results.reason = "interrupted" if interrupted else str(error)
            results.answer = results.answer or f"This run is not complete: {results.reason}."
            raise
        finally:
            results.seconds = round(time.perf_counter() - clock, 2)
            results.model = machine.facts(binder.adds_bos)
            results.warnings += [note for note in machine.cache.notes if note not in results.warnings]
            results.provenance = collect(
                spec_files=loaded.sources,
                spec_hash=cell.hash,
                overrides=loaded.sets,
                seed=experiment.seed,
                started=started,
                model=results.model,
                device_reason=machine.device.reason,
                file_hashes=machine.files.file_hashes(),
                tokenizer_hash=machine.tokenizer_hash(),
                remarks=machine.loaded.remarks if machine.loaded else (),
            )
            folder.write_provenance(results.provenance)
            finished.folder = folder.finish(results)
    return finished


def _known(machine: Machine, plan: Plan, results: Results, reporter: Reporter) -> KnownTexts:
    """Ask which questions of the ranked sets the clean model answers, and list the others as left out."""
    found: dict[str, frozenset[PromptText]] = {}
    for stage in plan.known:
        found[stage.name], left_out, record = known_texts(machine, stage, reporter)
        results.left_out += left_out
        results.stages.append(record)
    return found


def _vectors(machine: Machine, plan: Plan, folder: RunFolder, results: Results, reporter: Reporter) -> dict[str, Made]:
    """Make the vectors of a spec, write them to the run folder, and add their records to the results."""
    found: dict[str, Made] = {}
    about = {"model": machine.source.name, "spec": results.name, "hash": results.hash}
    for stage in plan.vectors:
        made, record = make_vector(machine, stage, reporter)
        found[stage.name] = made
        path = write_vector(folder.path, made, about)
        results.vectors[stage.name] = made.result.model_copy(update={"path": path})
        results.left_out += stage.left_out
        results.stages += [record] if record is not None else []
    return found


def require_questions(plan: Plan) -> None:
    """Raise :class:`RunError` for an intervention of which no question can be asked, with the reason of the first."""
    for stage in plan.ask:
        if not any(row.condition == "edit" for row in stage.rows):
            why = f": {stage.left_out[0].what}: {stage.left_out[0].reason}" if stage.left_out else ""
            raise RunError(
                f"'{stage.name}': no question is left to ask{why}", remedy="`run-spec validate --deep` has every reason"
            )
        if stage.tuning is not None and not any(row.condition == "edit" for row in stage.tuning.rows):
            raise RunError(
                f"'{stage.name}': no question is left to tune on ({stage.tuning.spec.ask[0]})",
                remedy="`run-spec validate --deep` has every reason",
            )


def require_owners(plan: Plan) -> None:
    """Raise :class:`RunError` for a ranking without an owner, because the model knows too little of its prompts."""
    for stage in plan.localize:
        if not stage.groups:
            raise RunError(
                f"'{stage.name}': the model knows too little of {stage.spec.prompts} to rank for anybody",
                remedy="ask for less (`known: any`), or take a model that knows more",
            )


def _columns(plan: Plan) -> tuple[dict[str, list[float | str]], list[str]]:
    """Collect the sweeps and measures of all interventions: the columns of the one long table."""
    axes: dict[str, list[float | str]] = {}
    measures: dict[str, None] = {}
    for stage in plan.ask:
        for name, values in (stage.tuning or stage).axes.items():
            axes.setdefault(name, []).extend(values)
        measures.update(dict.fromkeys(stage.spec.measure))
    return axes, list(measures)


# -- interventions ------------------------------------------------------------------------------------------------


def _ask(
    machine: Machine,
    planned: AskStage,
    binder: Binder,
    chosen: Chosen,
    results: Results,
    reporter: Reporter,
    folder: RunFolder,
) -> tuple[list[Row], list[Row]]:
    """Run one intervention and add its record to the results; give all its rows, and those that means are made of."""
    experiment, rankings = chosen.experiment, chosen.rankings
    rule, rule_words = rule_of(experiment, planned)
    stage, resolver = settled(machine, planned, binder, chosen, results)
    numbers: PromptNumbers = {}
    tuning: Tuning | None = None
    tried: list[Row] = []
    reason = "no neuron passed, for any owner: nothing is edited"
    if stage.owners and stage.tuning is not None:
        stage, resolver, tuning, tried = tuned(machine, stage, binder, chosen, results, numbers, reporter)
        reason = "no owner has a question to tune on: no value was chosen"
    stage, undrawn = drawable(stage, resolver)
    results.left_out += undrawn
    if not stage.owners:
        results.interventions[stage.name] = not_applicable(experiment, stage, reason, tuning)
        if chosen.is_read(stage.name):
            # A filter that reads it finds of every candidate that it was not edited.
            chosen.figures[stage.name] = Figures.of(experiment, stage, resolver)
            results.neurons = chosen.records()
        reporter.done(stage.name, note=reason)
        return tried, []
    for stored, record in stored_of(machine, stage, resolver, reporter):
        resolver.stored.append(stored)
        results.stages.append(record)
    every, records, deviation = ask_in_parts(machine, stage, resolver, chosen, rule, reporter, numbers)
    results.stages += records
    if chosen.is_read(stage.name):
        chosen.figures[stage.name] = Figures.of(experiment, stage, resolver, every)
        results.neurons = chosen.records()
    # Random neurons that were asked more only because they passed so far stand for no others.
    rows = [row for row in every if not (row.asked.condition == "random_neurons" and row.asked.role in stage.deferred)]
    axes = tuple(stage.axes)
    n_asked, n_known = count_asked(rows)
    edited = edited_record(stage, resolver)
    results.interventions[stage.name] = InterventionResult(
        **_stated(experiment, stage, tuning),
        owners=list(stage.owners),
        **edited,
        vectors=[edit.add for edit in stage.spec.edit if isinstance(edit.add, str) and edit.add in chosen.vectors],
        wrong_owner=dict(stage.wrong),
        n_asked=n_asked,
        n_known=n_known,
        n_texts=len({row.asked.prompt for row in rows if row.asked.condition == "clean" and not row.asked.answers}),
        known_rule=rule_words,
        summaries=summarise(rows, stage.spec.measure, axes, experiment.seed),
        texts=injected_texts(stage, rows),
        controls=dict(stage.controls),
        majority=majority_answers(rows),
        frozen_deviation=deviation,
        warnings=[
            *stage.warnings,
            *silent_cells(stage, resolver, rankings),
            *shared_with_wrong(stage, resolver),
            *crowded(edited["sets"]),
        ],
    )
    results.left_out += [*stage.left_out, *_named(left_out(rows, stage.spec.measure), stage.name)]
    if stage.spec.save_model is not None:
        saved = save_model(
            machine,
            folder,
            stage.spec.save_model,
            weights_of(stage, resolver),
            {"spec": results.name, "hash": results.hash, "owner": stage.owners[0]},
            reporter,
        )
        results.interventions[stage.name].saved_model = saved
    if tuning is not None:
        scores_of(tuning.chosen, rows, tuning.measure)
    return [*tried, *every], rows


def weights_of(stage: AskStage, resolver: Resolver) -> tuple[NeuronEdit, ...]:
    """Give what the one edit of a stage writes into the weights. Raises RunError if there are several."""
    conditions = {(row.edited, row.axes) for row in stage.rows if row.condition == "edit"}
    if len(conditions) != 1:
        raise RunError(f"'{stage.name}' makes {len(conditions)} models, and `save_model` saves one")
    ((owner, axes),) = conditions
    return resolver(Condition(stage.name, "edit", owner, 0, axes)).in_weights()


def settled(
    machine: Machine, planned: AskStage, binder: Binder, chosen: Chosen, results: Results
) -> tuple[AskStage, Resolver]:
    """Take owners without neurons out of a stage, and say who they are; give it with what resolves it."""
    experiment, n_layers = chosen.experiment, machine.shape.n_layers

    def resolving(stage: AskStage) -> Resolver:
        return resolver_of(machine, stage, chosen)

    resolver = resolving(planned)
    if all(resolver.has_neurons(owner, axes) for owner, axes in points_of(planned)):
        return planned, resolver
    stage = compile_ask(experiment, planned.name, binder, n_layers, resolver.has_neurons)
    results.left_out += dropped(chosen, planned, resolver, stage)
    return stage, resolving(stage)


def resolver_of(machine: Machine, stage: AskStage, chosen: Chosen) -> Resolver:
    """Make what fills in the conditions of a stage."""
    resolver = Resolver(chosen.experiment, stage, chosen.rankings, machine.shape.n_layers, figures=chosen.figures)
    resolver.widths_of = machine.widths()
    resolver.vectors = chosen.vectors
    return resolver


def tuned(
    machine: Machine,
    planned: AskStage,
    binder: Binder,
    chosen: Chosen,
    results: Results,
    numbers: PromptNumbers,
    reporter: Reporter,
) -> tuple[AskStage, Resolver, Tuning, list[Row]]:
    """Ask the questions to tune on at every value, and give the stage at the values chosen, with how they were."""
    experiment, stage = chosen.experiment, planned.tuning
    assert stage is not None and planned.spec.tune is not None
    rule, rule_words = rule_of(experiment, stage)
    resolver = resolver_of(machine, stage, chosen)
    for stored, record in stored_of(machine, stage, resolver, reporter):
        resolver.stored.append(stored)
        results.stages.append(record)
    outcome, record = ask_stage(machine, replace(stage, name=f"{stage.name}: tune"), resolver, reporter)
    results.stages.append(record)
    rows = rows_of(stage, outcome, machine.tokenizer, rule, numbers, "tune")
    measure, sign = aim_of(planned.spec)
    found = choose(stage, rows, sign)
    results.left_out += [*found.left_out, *_named(left_out(rows, [measure]), stage.name)]
    settled_on = compile_ask(
        experiment, stage.name, binder, machine.shape.n_layers, resolver.has_neurons, choice=found.choice
    )
    n_asked, n_known = count_asked(rows)
    tuning = Tuning(
        on=planned.spec.tune.on,
        aim="maximize" if sign > 0 else "minimize",
        measure=measure,
        ties=TIES,
        axes={name: list(values) for name, values in stage.axes.items()},
        n_asked=n_asked,
        n_known=n_known,
        known_rule=rule_words,
        summaries=summarise(rows, [measure], tuple(stage.axes), experiment.seed),
        chosen=found.values,
    )
    return settled_on, resolver_of(machine, settled_on, chosen), tuning, rows


def ask_in_parts(
    machine: Machine,
    stage: AskStage,
    resolver: Resolver,
    chosen: Chosen,
    rule: Rules,
    reporter: Reporter,
    numbers: PromptNumbers,
) -> tuple[list[Row], list[Stage], float | None]:
    """Run an intervention; give its rows, what was spent, and the largest deviation of a frozen value.

    What random neurons do to others is asked for a filter alone, and only of those that meet the conditions before.
    """
    first, _ = narrowed(stage, lambda row: not row.deferred) if stage.deferred else (stage, ())
    outcome, record = ask_stage(machine, first, resolver, reporter)
    rows = rows_of(first, outcome, machine.tokenizer, rule, numbers)
    deviation = frozen_deviation([outcome])
    if not stage.deferred:
        return rows, [record], deviation
    wanted = chosen.survivors(Figures.of(chosen.experiment, first, resolver, rows))
    second, _ = narrowed(stage, lambda row: row.deferred and (row.edited, row.draw, cut_point(row.axes)) in wanted)
    if not second.rows:
        return rows, [record], deviation
    later, more = ask_stage(
        machine, replace(second, name=f"{stage.name}: random neurons that pass so far"), resolver, reporter
    )
    rows += rows_of(second, later, machine.tokenizer, rule, numbers)
    return rows, [record, more], frozen_deviation([outcome, later])


def labels_of(results: Results) -> dict[str, str]:
    """Give the name of every owner as it stands in prompts."""
    return {key: group.label for ranking in results.rankings.values() for key, group in ranking.groups.items()}


def not_applicable(
    experiment: Experiment, stage: AskStage, reason: str, tuning: Tuning | None = None
) -> InterventionResult:
    """Make the record of an intervention that had nothing to edit."""
    return InterventionResult(
        **_stated(experiment, stage, tuning),
        owners=[],
        neurons={},
        n_asked=0,
        n_known=0,
        summaries=[],
        not_applicable=reason,
    )


def _stated(experiment: Experiment, stage: AskStage, tuning: Tuning | None) -> dict[str, Any]:
    """Give what is known of an intervention without its results."""
    return {
        "name": stage.name,
        "title": field_word(stage.spec),
        "edits": [edit_words(experiment, edit) for edit in stage.spec.edit],
        "axes": {name: list(values) for name, values in stage.axes.items()},
        "tuning": tuning,
        "measures": list(stage.spec.measure),
        "placeholder": _placeholder_words(stage),
        "freeze": _freeze_words(stage),
        "ask": list(stage.spec.ask),
    }


def frozen_deviation(outcomes: Sequence[Outcome]) -> float | None:
    """Give the largest deviation of a frozen value from its source; None where nothing was frozen."""
    found = [deviation for outcome in outcomes for deviation in outcome.deviation if not math.isnan(deviation)]
    return max(found) if found else None


def rule_of(experiment: Experiment, stage: AskStage) -> tuple[Rules, str]:
    """Give the rule by which the stage's questions count as known, and the same in words.

    Where sets differ in it, the rule of each question. Raises RunError for one question under two rules.
    """
    asked = {name: [t for t in prompt_set(experiment, name) if t.answers] for name in stage.spec.ask}
    rules = {name: known_rule(known_of(experiment, name)) for name, texts in asked.items() if texts}
    different = list(dict.fromkeys(rules.values()))
    if len(different) <= 1:
        rule = different[0] if different else None
        return rule, "any" if rule is None else condition_text(rule)
    found: dict[PromptText, KnownRule | None] = {}
    for name, rule in rules.items():
        for text in asked[name]:
            if found.setdefault(text, rule) != rule:
                raise RunError(
                    f"'{stage.name}' asks \"{text.text}\" in two sets with different rules for what is known "
                    f"({', '.join(rules)})",
                    remedy="give them the same `known:`, or ask them in two interventions",
                )
    words = [f"{name}: {'any' if rule is None else condition_text(rule)}" for name, rule in rules.items()]
    return found, ", ".join(words)


def _named(found: Sequence[LeftOut], name: str) -> list[LeftOut]:
    return [item if item.where else item.model_copy(update={"where": f"interventions.{name}"}) for item in found]


def _placeholder_words(stage: AskStage) -> str | None:
    placeholder = stage.spec.placeholder
    if placeholder is None:
        return None
    return placeholder if isinstance(placeholder, str) else ", ".join(placeholder)


def _freeze_words(stage: AskStage) -> str | None:
    freeze = stage.spec.freeze
    if freeze is None:
        return None
    to = "the clean run's value" if isinstance(freeze.to, str) else source_words(freeze.to)
    where = f" of the layers of {', '.join(freeze.layers)}" if freeze.layers else ""
    return f"{', '.join(freeze.site)}{where} at {', '.join(freeze.position)} held at {to}"


def silent_cells(stage: AskStage, resolver: Resolver, rankings: Mapping[str, Any]) -> list[str]:
    """Warn of edited neurons that are about 0 where they are scaled: a factor does nothing there."""
    notes = []
    if not any(edit.scale is not None for edit in stage.spec.edit):
        return []
    for owner in stage.owners:
        edited = set(edited_members(stage, resolver, owner).addresses())
        for data in rankings.values():
            group = data.groups.get(owner)
            if group is None or data.baseline_std is None:
                continue
            for address in data.chosen(owner):
                row, column = data.place(address)
                values = group.values.get((address.layer, column))
                if not values or address not in edited:
                    continue
                std = float(data.baseline_std[row, column])
                small = sum(abs(v) < 0.1 * std for v in values)
                if small > len(values) / 2:
                    notes.append(
                        f"{address} of {owner} is about 0 at {data.name}'s position in {small} of {len(values)} "
                        "prompts: a factor does nothing there"
                    )
    return list(dict.fromkeys(notes))


def injected_texts(stage: AskStage, rows: Sequence[Row]) -> list[InjectedText]:
    """Collect the greedy continuations, with whether they begin with an accepted answer."""
    from runner.measures.text import begins_with

    texts: list[InjectedText] = []
    seen: set[tuple[object, ...]] = set()
    for row in rows:
        if row.observation.text is None:
            continue
        asked = row.asked
        key = (asked.edited, asked.condition, asked.draw, tuple(asked.axes.items()), asked.prompt_id, asked.role)
        if key in seen:
            continue
        seen.add(key)
        scored = [a.text for a in row.observation.answers]
        texts.append(
            InjectedText(
                edited=asked.edited,
                condition=asked.condition,
                draw=asked.draw,
                axes=dict(asked.axes),
                entity=asked.entity,
                relation=asked.relation,
                role=asked.role,
                prompt=asked.prompt,
                text=row.observation.text,
                answers=list(asked.answers),
                hit=begins_with(row.observation.text, scored or asked.answers),
            )
        )
    return texts


# -- records ------------------------------------------------------------------------------------------------------


def ranking_result(stage: LocalizeStage, data: Any) -> Ranking:
    """Make the record of a ranking: the best neurons of each owner, with the numbers behind their scores."""
    groups: dict[str, RankingGroup] = {}
    shared_counts = {} if data.of_layers or data.by_precision else shared_by(data)
    for owner, group in data.groups.items():
        label, entity, variant = stage.labels[owner]
        arrays = group.arrays()
        score, mean, std = arrays["score"], arrays.get("mean"), arrays.get("std")
        width = score.shape[1]
        n_listed = LISTED if data.by_precision else max(LISTED, min(data.top, 200))
        best = group.best(score.size if data.of_layers else n_listed)
        listed = []
        for rank, flat in enumerate(best, start=1):
            layer, column = divmod(int(flat), width)
            site, neuron = data.columns.neuron(column)
            mean_z, std_z = data.z(group, layer, column, arrays)
            attribution = arrays.get("attribution")
            listed.append(
                RankedNeuron(
                    rank=rank,
                    address=data.written(int(flat), width),
                    site=site,
                    layer=data.layers[layer],
                    neuron=None if data.of_layers else neuron,
                    score=float(score[layer, column]),
                    dominance=None if data.by_precision else data.dominance_at(score, layer, column),
                    shared_by=shared_counts.get(owner, {}).get(int(flat)),
                    mean=None if mean is None else float(mean[layer, column]),
                    std=None if std is None else float(std[layer, column]),
                    mean_z=mean_z,
                    std_z=std_z,
                    floored=group.floor is not None and std_z is not None and std_z < group.floor,
                    attribution=None if attribution is None else float(attribution[layer, column]),
                )
            )
        groups[owner] = RankingGroup(
            key=owner,
            label=label,
            entity=entity,
            variant=variant,
            n_prompts=group.n_prompts,
            n_candidates=int(score.size),
            neurons=listed,
            chosen=[n.address for n in listed[: data.top]] if data.of_layers else list(map(str, data.chosen(owner))),
            precision=group.precision,
            profile=profile_of(data, owner) if data.by_precision else {},
            values={
                str(data.address(data.layers.index(layer) * width + column, width)): values
                for (layer, column), values in group.values.items()
            },
            prompts=group.prompts,
            layers=layer_records(data, arrays) if data.of_layers else [],
            random_names=share_as_high(data, listed[0])
            if data.of_layers
            else share_as_dominant(listed[0], data.random_names),
        )
    winners: dict[str, list[str]] = {}
    for owner, group_record in groups.items():
        winners.setdefault(group_record.neurons[0].address, []).append(owner)
    whose = {owner: group_record.entity or owner for owner, group_record in groups.items()}
    shared = {address: owners for address, owners in winners.items() if len({whose[o] for o in owners}) > 1}
    spec = stage.spec
    n_entities = len(set(whose.values()))
    kind = "entities" if all(g.entity is not None for g in groups.values()) else "owners"
    return Ranking(
        name=stage.name,
        metric=spec.metric,
        site=", ".join(data.columns.sites),
        widths={} if data.of_layers else dict(zip(data.columns.sites, data.columns.widths, strict=True)),
        ranked_layers=list(data.layers) if data.by_precision else [],
        position=position_words(spec),
        by=[str(c) for c in (spec.by or [])],
        prompts=spec.prompts or "attributes",
        against=against_words(spec),
        n_baseline=data.n_baseline,
        groups=groups,
        shared_winners={} if data.of_layers or data.by_precision else shared,
        unit="layer" if data.of_layers else "neuron",
        objective=spec.objective,
        random_names=data.random_names,
        names_band=names_band(data),
        warnings=[*stage.warnings, *tie_warnings(data)]
        if data.of_layers or data.by_precision
        else [
            f"{address} wins for {len({whose[o] for o in owners})} of {n_entities} {kind} "
            f"({', '.join(owners)}): it is not a cell of any of them"
            for address, owners in shared.items()
        ],
    )


def against_words(spec: Localize) -> str | None:
    """Say what a ranking compares with."""
    if isinstance(spec.against, Negatives):
        return f"others, {spec.against.others} for each prompt"
    return spec.against if isinstance(spec.against, str) else None


def position_words(spec: Localize) -> str:
    """Say at which tokens a ranking is read, and how several of them become one."""
    words = spec.position or ["entity.last"]
    several = len(words) > 1 or words[0] in ("all", "entity.all")
    return ", ".join(words) + (f" ({spec.pool} over tokens)" if several else "")


def ranking_arrays(data: Any) -> dict[str, np.ndarray]:
    """Give what a ranking has beside its owners: its layers, sites and their widths, mean and std of the baseline."""
    arrays = {
        "layers": np.array(data.layers),
        "sites": np.array(data.columns.sites),
        "widths": np.array(data.columns.widths),
    }
    if data.baseline_mean is not None:
        arrays |= {"baseline_mean": data.baseline_mean, "baseline_std": data.baseline_std}
    if data.names is not None:
        arrays["names_stability"] = data.names.stability
    return arrays
