"""What MLflow shows of a run, as plain data: one page for the spec and one for each of its parts.

No MLflow here: :mod:`runner.tracking` writes these pages. Names follow the result paths of the language, so
that a number is called the same in a claim, in the report and in MLflow. Where MLflow has no room for
something, this module decides what is written instead:

- A metric is the mean over all relations. Its key is the result path without its axes, ``@`` written ``_at_``
  because MLflow takes no ``@``. Figures per relation, intervals and draws are in the table ``summaries``.
- A step is a whole number and a sweep value is not: the step is the value in thousandths (scale -0.2 is step
  -200), so that two runs with different sweeps meet at the right places of one chart. The sweep itself is a
  metric too (``amnesia/scale``), to be chosen as the x axis. Values that are no numbers, or that thousandths
  cannot tell apart, are numbered from 1. MLflow's tables show of each metric its value at the largest step,
  which is seldom the interesting one; so the page of the spec has the main measure at the key values of the
  sweep as metrics of their own (``amnesia/knowledge_score/scale -1``).
- A parameter is a field of the resolved spec, at most three names deep; what lies deeper is its value, in one
  line of YAML. MLflow cuts values at 6,000 characters, and a comparison of runs cannot be read long before
  that: above 500 characters it is the beginning and a hash, and ``spec.yaml`` has the whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from reports import formats
from reports.curves import key_values, sweep_axis
from reports.view import Winner, main_measure, winner
from specs.language.references import usual_role
from specs.language.results import (
    EVERYBODY,
    InjectedText,
    InterventionResult,
    MatrixResults,
    NeuronSetResult,
    Ranking,
    Results,
    Summary,
)

__all__ = ["LONGEST_PARAM", "Metric", "Page", "fingerprint", "matrix_page", "metric_key", "pages", "steps"]

LONGEST_PARAM = 500
LONGEST_NOTE = 5000
LONGEST_KEY = 250
MOST_OWNERS = 20
"""Owners who have tags, metrics and lines of a description; the tables hold all of them."""
DEPTH = 3
Table = dict[str, list[Any]]


@dataclass(frozen=True)
class Metric:
    """One number of one metric."""

    key: str
    value: float
    step: int = 0


@dataclass
class Page:
    """One run as MLflow calls it: the spec, or one localisation, intervention or analysis of it."""

    name: str
    kind: str
    block: str = ""
    """Name of the part in the spec; empty for the spec itself."""
    note: str = ""
    """Its description, in Markdown."""
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    seconds: float = 0.0


def pages(results: Results) -> tuple[Page, list[Page]]:
    """Give the page of the spec, and those of its parts in the order in which they were run."""
    spec = yaml.load(results.spec, Loader=yaml.BaseLoader) if results.spec else None
    spec = spec if isinstance(spec, dict) else {}
    common = _common_tags(results)
    parts = [_localisation(results, ranking) for ranking in results.rankings.values()]
    parts += [_intervention(results, result) for result in results.interventions.values()]
    parts += [_analysis(results, name) for name in results.analyses]
    for part in parts:
        block = {"localisation": "localize", "intervention": "interventions", "analysis": "analyses"}[part.kind]
        own = spec.get(block, {}).get(part.block, {})
        part.params = params(own if isinstance(own, Mapping) else {block: own}, depth=1)
        part.tags = {**common, "kind": part.kind, **part.tags}
        part.seconds = sum(s.seconds for s in results.stages if s.name.split("/")[0] == part.block)
    return _whole(results, spec, common), parts


def matrix_page(matrix: MatrixResults) -> Page:
    """Give the page of the comparison of a matrix; its tag ``findings`` is a hash of what was found."""
    document = matrix.model_dump(mode="json", exclude={"started", "seconds"})
    for cell in document["cells"]:
        del cell["seconds"]
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    metrics = [
        Metric(metric_key(f"{name}/{figure}"), value)
        for name, found in matrix.analyses.items()
        for figure, value in found.figures.items()
    ]
    lines = [matrix.description, "", f"**{_cell(matrix.answer)}**", "", "| run | status | answer |", "|---|---|---|"]
    for cell in matrix.cells:
        specific = [e for e in cell.effects if e.verdict == "specific" and "/" not in e.edited]
        metrics.append(Metric(metric_key(f"specific/{', '.join(cell.axes.values())}"), float(len(specific))))
        lines.append(f"| {_cell(cell.label)} | {cell.status} | {_cell(cell.answer or cell.reason)} |")
    lines += ["", *(_cell(found.sentence) for found in matrix.analyses.values())]
    return Page(
        name=f"{matrix.name} · matrix",
        kind="matrix",
        note=_cut(lines),
        tags={
            "spec": matrix.name,
            "spec_hash": matrix.hash,
            "status": matrix.status,
            "kind": "matrix",
            "findings": hashlib.sha256(text.encode()).hexdigest()[:16],
        },
        params={metric_key(axis): ", ".join(values)[:LONGEST_PARAM] for axis, values in matrix.axes.items()},
        metrics=metrics,
        tables={
            "runs": _columns({"run": c.label, "status": c.status, "folder": c.folder} for c in matrix.cells),
            "effects": _columns(
                {
                    "run": cell.label,
                    "intervention": e.intervention,
                    "edited": e.edited,
                    "neurons": ", ".join(e.neurons),
                    "measure": e.measure,
                    "base": e.base,
                    "target": e.target.mean,
                    "others": None if e.others is None else e.others.mean,
                    "wrong_cell": e.wrong_cell,
                    "verdict": e.verdict,
                }
                for cell in matrix.cells
                for e in cell.effects
            ),
        },
        seconds=matrix.seconds,
    )


def fingerprint(results: Results) -> str:
    """Hash what a run found, without what differs between two runs that found the same: times and machine."""
    document = results.model_dump(mode="json", exclude={"started", "seconds", "stages", "provenance"})
    for test in document["self_tests"]:
        del test["milliseconds"]
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


# -- keys, steps, parameters -----------------------------------------------------------------------------


def metric_key(path: str) -> str:
    """Write a result path as MLflow takes it: letters, digits, ``_ - . : /`` and spaces, 250 at most.

    Longer ones keep their end, which says what is measured, behind a hash of the whole.
    """
    parts = re.sub(r"[^\w.\-:/ ]", "_", path.replace("@", "_at_")).split("/")
    # MLflow keeps metrics under paths, so none of them may lead elsewhere.
    key = "/".join(part if part.strip(". ") else "_" for part in parts)
    if len(key) > LONGEST_KEY:
        digest = hashlib.sha256(path.encode()).hexdigest()[:8]
        key = f"{digest}_{key[-LONGEST_KEY + 9 :].strip('/')}"
    return key


def result_path(block: str, summary: Summary, held: Mapping[str, float | str]) -> str:
    """Name a summary as a claim would: owner, condition and role are left out where they are the usual ones.

    ``held``: the sweep values that belong to the name, because they are no steps.
    """
    usual = {summary.edited: EVERYBODY, summary.condition: "edit", summary.role: usual_role(summary.measure)}
    return "/".join(
        [
            block,
            *(word for word, default in usual.items() if word != default),
            summary.measure,
            *(f"{axis} {v if isinstance(v, str) else format(v, '.6g')}" for axis, v in held.items()),
        ]
    )


def steps(values: Sequence[float | str]) -> dict[float | str, int]:
    """Give every value of a sweep its step: thousandths, or 1, 2, 3 ... where those do not do."""
    exact: dict[float | str, int] = {v: round(v * 1000) for v in values if not isinstance(v, str)}
    if len(exact) == len(set(values)) and len(set(exact.values())) == len(exact):
        return exact
    return {value: i + 1 for i, value in enumerate(dict.fromkeys(values))}


def in_thousandths(values: Sequence[float | str]) -> bool:
    """Say whether the steps of a sweep are thousandths of its values."""
    return all(not isinstance(v, str) and step == round(v * 1000) for v, step in steps(values).items())


def _largest(values: Sequence[float | str]) -> str:
    step_of = steps(values)
    return formats.axis_value(max(step_of, key=lambda value: step_of[value]))


def params(spec: Mapping[str, Any], depth: int = DEPTH) -> dict[str, str]:
    """Flatten a spec to dotted names of at most ``depth`` parts, each with its value in one line.

    A list of one is that one. A value too long to read becomes its beginning, length and hash.
    """
    found: dict[str, str] = {}
    for name, value in _flat(spec, depth):
        text = one_line(value[0] if isinstance(value, list) and len(value) == 1 else value)
        if len(text) > LONGEST_PARAM:
            count = f"{len(value)} entries" if isinstance(value, list | dict) else f"{len(text):,} characters"
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            text = f"{text[:80]}... ({count}, whole in spec.yaml; sha256 {digest})"
        key = metric_key(name)
        while key in found:
            key = metric_key(key + "_")
        found[key] = text
    return found


def _flat(value: Mapping[str, Any], depth: int, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner and depth > 1:
            yield from _flat(inner, depth - 1, f"{before}{name}.")
        else:
            yield f"{before}{name}", inner


def one_line(value: Any) -> str:
    """Write a value as one line of YAML; a text inside is quoted where it would be read as something else."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(k)}: {_inner(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inner(v) for v in value) + "]"
    return str(value)


def _inner(value: Any) -> str:
    return one_line(value) if isinstance(value, Mapping | list) else _quoted(str(value))


def _quoted(text: str) -> str:
    plain = re.fullmatch(r"[^\s,:#&*!|>'\"%@`{}\[\]?-][^,:#?{}\[\]\n]*|-?[\d.]+(e-?\d+)?", text)
    return text if plain and text == text.strip() else json.dumps(text, ensure_ascii=False)


# -- the page of the spec --------------------------------------------------------------------------------


def _common_tags(results: Results) -> dict[str, str]:
    tags = {
        "spec": results.name,
        "spec_hash": results.hash,
        "model": results.model.card or results.model.id,
        "status": results.status,
    }
    if results.cell:
        tags["matrix"] = results.cell
    git = results.provenance.get("git", {}) if isinstance(results.provenance, dict) else {}
    for whose, tag in (("spec", "mlflow.source.git.commit"), ("run-spec", "run_spec_commit")):
        state = git.get(whose, {})
        if state.get("commit"):
            tags[tag] = str(state["commit"])
            if state.get("dirty"):
                tags["mlflow.source.git.dirty" if whose == "spec" else "run_spec_dirty"] = "true"
    return tags


def _whole(results: Results, spec: Mapping[str, Any], common: Mapping[str, str]) -> Page:
    outcomes = [claim.outcome for claim in results.claims]
    # MLflow lists metrics in the order in which they come: what is looked for first is first.
    metrics, curves = [], []
    tags = {**common, "kind": "spec"}
    for ranking in results.rankings.values():
        metrics += _ranking_metrics(ranking)
        tags |= _winner_tags(ranking)
    metrics += [metric for chosen in results.neurons.values() for metric in _set_metrics(chosen)]
    for result in results.interventions.values():
        everybody = [s for s in result.summaries if s.edited == EVERYBODY] or result.summaries
        metrics += _key_metrics(result, everybody)
        curves += _summary_metrics(result, everybody)
    for name, analysis in results.analyses.items():
        metrics += [Metric(metric_key(f"{name}/{figure}"), value) for figure, value in analysis.figures.items()]
    if outcomes:
        metrics.append(Metric("claims/met", float(outcomes.count("met"))))
        metrics.append(Metric("claims/not_met", float(outcomes.count("not met"))))
        metrics.append(Metric("claims/not_applicable", float(outcomes.count("not applicable"))))
    metrics += [*curves, Metric("left_out", float(len(results.left_out))), Metric("seconds", results.seconds)]
    words = dict.fromkeys(result.title for result in results.interventions.values())
    if words:
        tags["interventions"] = "; ".join(words)
    return Page(
        name=" · ".join(part for part in (results.name, results.cell or common["model"]) if part),
        kind="spec",
        note=_note(results),
        tags=tags,
        params=params(spec),
        metrics=metrics,
        tables={
            "cells": _cells(results.rankings.values(), best=1),
            "claims": _columns(claim.model_dump() for claim in results.claims),
            "neurons": _columns(row for chosen in results.neurons.values() for row in _set_rows(chosen)),
            "left_out": _columns(item.model_dump() for item in results.left_out),
            "self_tests": _columns(test.model_dump() for test in results.self_tests),
            "stages": _columns(stage.model_dump() for stage in results.stages),
        },
        seconds=results.seconds,
    )


def _note(results: Results) -> str:
    """Write the description: the question, the answer, the key numbers, the claims."""
    lines = []
    if results.status != "complete":
        lines += [f"**This run is {results.status}.** {_cell(results.reason)}", ""]
    if results.description:
        lines += [f"**Question.** {_cell(results.description)}", ""]
    if results.answer:
        lines += [f"**Answer.** {_cell(results.answer)}", ""]
    for ranking in results.rankings.values():
        lines += _cell_lines(ranking)
    for chosen in results.neurons.values():
        lines += _set_lines(chosen)
    for result in results.interventions.values():
        lines += _effect_lines(result)
    if results.claims:
        lines += ["| claim | outcome | observed |", "|---|---|---|"]
        lines += [f"| {_code(c.claim)} | {c.outcome} | {_cell(c.observed or c.reason)} |" for c in results.claims] + [
            ""
        ]
    lines.append("The pictured account is `report.html` under *Artifacts*; the figures are in `results.json`.")
    return _cut(lines)


def _cell_lines(ranking: Ranking) -> list[str]:
    found = _winners(ranking)
    lines = [f"**{ranking.name}** ({ranking.metric} of {ranking.site} at {ranking.position})", ""]
    lines += ["| owner | cell | dominance |  |", "|---|---|---|---|"]
    for best in found[:MOST_OWNERS]:
        address = best.neuron.address if best.neuron else formats.MISSING
        name = _cell(best.group.label)
        lines.append(f"| {name} | {address} | {formats.number(best.dominance)} | {best.verdict} |")
    if len(found) > MOST_OWNERS:
        lines.append(f"| and {len(found) - MOST_OWNERS} more | in the table `cells` |  |  |")
    return [*lines, ""]


def _effect_lines(result: InterventionResult) -> list[str]:
    """Tabulate the main measure at the key values of the sweep, for target, others and controls."""
    measure, axis = main_measure(result), sweep_axis(result)
    if measure is None:
        return []
    present = [s for s in result.summaries if s.measure == measure and s.relation is None]
    edited = EVERYBODY if any(s.edited == EVERYBODY for s in present) else present[0].edited
    columns = [
        ("target", "edit", "target"),
        ("others", "edit", "others"),
        ("random neurons", "random_neurons", "target"),
        ("wrong cell", "wrong_cell", "target"),
    ]
    columns = [c for c in columns if any((s.condition, s.role) == c[1:] for s in present)]
    held = {name: values[0] for name, values in result.axes.items() if name != axis}
    fixed = f", {formats.axes(held)}" if held else ""
    lines = [f"**{result.name}** ({result.title}): {measure.replace('_', ' ')}{fixed}", ""]
    lines += [f"| {axis or ''} | {' | '.join(c[0] for c in columns)} |", "|---" * (len(columns) + 1) + "|"]
    points: list[float | str | None] = [*key_values(result)]
    for value in points or [None]:
        wanted = dict(held) if axis is None or value is None else {**held, axis: value}
        figures = []
        for _, condition, role in columns:
            at = (s for s in present if (s.edited, s.condition, s.role) == (edited, condition, role))
            figures.append(formats.number(next((s.mean for s in at if s.axes == wanted), None)))
        lines.append(f"| {'' if value is None else formats.axis_value(value)} | {' | '.join(figures)} |")
    return [*lines, ""]


def _cell(text: str) -> str:
    """Write a text into one cell of a Markdown table, as it stands: no markup of its own."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", formats.visible(" ".join(text.split())))


def _code(text: str) -> str:
    """Write a text as code in a cell of a Markdown table."""
    return "`" + formats.visible(" ".join(text.split())).replace("`", "'").replace("|", r"\|") + "`"


def _cut(lines: Sequence[str]) -> str:
    """Keep whole lines while a tag has room for them, and say where the rest is."""
    kept: list[str] = []
    size = 0
    for line in lines:
        size += len(line) + 1
        if size > LONGEST_NOTE:
            return "\n".join([*kept, "", "More of it is in `report.html` under *Artifacts*."])
        kept.append(line)
    return "\n".join(kept)


# -- the pages of the parts ------------------------------------------------------------------------------


def _localisation(results: Results, ranking: Ranking) -> Page:
    note = [
        *_cell_lines(ranking),
        f"Prompts `{ranking.prompts}`"
        + (f" against {ranking.n_baseline} baseline prompts of `{ranking.against}`." if ranking.against else "."),
    ]
    return Page(
        name=f"{ranking.name}: {ranking.metric}",
        kind="localisation",
        block=ranking.name,
        note=_cut(note + [f"\n{_cell(warning)}" for warning in ranking.warnings]),
        tags=_winner_tags(ranking),
        metrics=_ranking_metrics(ranking),
        tables={"cells": _cells([ranking])},
    )


def _intervention(results: Results, result: InterventionResult) -> Page:
    note = [f"{_cell(edit)}" for edit in result.edits] + ["", *_effect_lines(result)]
    if result.not_applicable:
        note.append(f"Not run: {_cell(result.not_applicable)}.")
    note.append(f"{result.n_known} of {result.n_asked} questions are known to the clean model.")
    for axis in (a for a in [sweep_axis(result)] if a is not None):
        values = result.axes[axis]
        if in_thousandths(values):
            says = f"Step −1000 of a metric is {axis} −1: steps are thousandths."
        else:
            says = "Steps number the values: " + ", ".join(
                f"{step} is {axis} {formats.axis_value(value)}" for value, step in steps(values).items()
            )
        note += ["", f"{says} To see a curve over {axis}, choose `{result.name}/{axis}` as its x axis."]
        note += ["", f"Tables of runs show a metric at its largest step, {axis} {_largest(values)}."]
    if (n := len(_owners(result))) > MOST_OWNERS:
        note += ["", f"Metrics are of the first {MOST_OWNERS} of {n} owners; `summaries` has all of them."]
    note += [f"\n{_cell(control.replace('_', ' '))}: {_cell(said)}" for control, said in result.controls.items()]
    note += [f"\n{_cell(warning)}" for warning in result.warnings]
    return Page(
        name=f"{result.name}: {result.title}",
        kind="intervention",
        block=result.name,
        note=_cut(note),
        tags={"intervention": result.title},
        metrics=_summary_metrics(result, result.summaries),
        tables={
            "summaries": _columns(_summary_row(result, s) for s in result.summaries),
            "texts": _columns(_text_row(result, text) for text in result.texts),
        },
    )


def _analysis(results: Results, name: str) -> Page:
    analysis = results.analyses[name]
    names = [c if analysis.columns.count(c) == 1 else f"{c} {i + 1}" for i, c in enumerate(analysis.columns)]
    return Page(
        name=f"{name}: {analysis.verb} of {analysis.of}",
        kind="analysis",
        block=name,
        note=_cut([_cell(analysis.sentence)]),
        tags={"analysis": analysis.verb},
        metrics=[Metric(metric_key(f"{name}/{k}"), v) for k, v in analysis.figures.items()],
        tables={name: _columns(dict(zip(names, row, strict=True)) for row in analysis.rows)},
    )


def _set_metrics(chosen: NeuronSetResult) -> list[Metric]:
    """Give the size of a set, the owners that each condition leaves, and the same for random neurons."""
    found = [Metric(metric_key(f"{chosen.name}/size"), float(chosen.size))]
    if chosen.conditions:
        found.append(Metric(metric_key(f"{chosen.name}/owners"), float(chosen.funnel[-1])))
    placebo = chosen.placebo
    if placebo is not None and placebo.size is not None:
        found.append(Metric(metric_key(f"{chosen.name}/random_neurons/size"), placebo.size))
    return found


def _set_lines(chosen: NeuronSetResult) -> list[str]:
    if not chosen.conditions:
        return []
    placebo = chosen.placebo
    lines = [f"**{_cell(chosen.name)}**: {chosen.size} neurons of {len(chosen.owners)} owners", ""]
    lines += ["| condition | owners left | with random neurons |", "|---|---|---|"]
    lines += [f"| with candidates | {chosen.funnel[0]} |  |"]
    for n, condition in enumerate(chosen.conditions):
        by_chance = formats.number(placebo.left[n]) if placebo is not None and placebo.left else ""
        lines.append(f"| {_code(condition)} | {chosen.funnel[n + 1]} | {by_chance} |")
    return [*lines, ""]


def _set_rows(chosen: NeuronSetResult) -> Iterator[dict[str, Any]]:
    """List every candidate: whose, which neuron, its figures, and the condition it failed."""
    for owner in chosen.owners.values():
        for candidate in owner.candidates:
            yield {
                "set": chosen.name,
                "owner": owner.owner,
                "neuron": candidate.address,
                "rank": candidate.rank,
                "dominance": candidate.dominance,
                "chosen": candidate.address in owner.neurons,
                "failed": "" if candidate.failed is None else chosen.conditions[candidate.failed],
                "figures": json.dumps(
                    dict(zip(chosen.conditions, candidate.figures, strict=False)), ensure_ascii=False
                ),
            }


def _winners(ranking: Ranking) -> list[Winner]:
    return [winner(ranking, group) for group in ranking.groups.values()]


def _ranking_metrics(ranking: Ranking) -> list[Metric]:
    metrics = []
    for best in _winners(ranking)[:MOST_OWNERS]:
        if best.neuron is not None:
            for figure in ("dominance", "score", "layer"):
                value = getattr(best.neuron, figure)
                if value is not None:
                    key = metric_key(f"{ranking.name}/{best.group.key}/{figure}")
                    metrics.append(Metric(key, float(value)))
    return metrics


def _winner_tags(ranking: Ranking) -> dict[str, str]:
    return {
        metric_key(f"{ranking.name}/{w.group.key}"): w.neuron.address
        for w in _winners(ranking)[:MOST_OWNERS]
        if w.neuron is not None
    }


def _owners(result: InterventionResult) -> list[str]:
    return list(dict.fromkeys(s.edited for s in result.summaries if s.edited != EVERYBODY))


def _summary_metrics(result: InterventionResult, summaries: Iterable[Summary]) -> list[Metric]:
    """Turn means into metrics; the longest sweep is the step, and is a metric itself."""
    axis = sweep_axis(result)
    step_of = steps(result.axes[axis]) if axis else {}
    shown = {EVERYBODY, *_owners(result)[:MOST_OWNERS]}
    metrics = []
    for summary in summaries:
        if summary.relation is None and summary.mean is not None and summary.edited in shown:
            held = {name: value for name, value in summary.axes.items() if name != axis}
            path = result_path(result.name, summary, held)
            value = summary.axes.get(axis) if axis else None
            metrics.append(Metric(metric_key(path), summary.mean, 0 if value is None else step_of[value]))
    metrics += [
        Metric(metric_key(f"{result.name}/{axis}"), value, step)
        for value, step in step_of.items()
        if not isinstance(value, str)
    ]
    return metrics


def _key_metrics(result: InterventionResult, summaries: Iterable[Summary]) -> list[Metric]:
    """Give the main measure at each key value of the sweep, as metrics that a table of runs can show."""
    axis, measure = sweep_axis(result), main_measure(result)
    if axis is None or len(result.axes[axis]) < 2:
        return []
    shown = set(key_values(result))
    return [
        Metric(metric_key(result_path(result.name, s, s.axes)), s.mean)
        for s in summaries
        if s.measure == measure and s.relation is None and s.mean is not None and s.axes.get(axis) in shown
    ]


# -- tables ----------------------------------------------------------------------------------------------


def _cells(rankings: Iterable[Ranking], best: int | None = None) -> Table:
    return _columns(
        {
            "ranking": ranking.name,
            "owner": group.key,
            "name": group.label,
            **neuron.model_dump(),
            "n_prompts": group.n_prompts,
            "n_candidates": group.n_candidates,
        }
        for ranking in rankings
        for group in ranking.groups.values()
        for neuron in group.neurons[:best]
    )


def _summary_row(result: InterventionResult, summary: Summary) -> dict[str, Any]:
    draws = ", ".join(f"{mean:.4g}" for mean in summary.draws)
    place = {"edited": summary.edited, "condition": summary.condition, "role": summary.role}
    figures = {name: getattr(summary, name) for name in ("measure", "mean", "low", "high", "se", "n", "relation")}
    return {**place, **_spread(result, summary.axes), **figures, "draws": draws}


def _text_row(result: InterventionResult, text: InjectedText) -> dict[str, Any]:
    first = {"edited": text.edited, **_spread(result, text.axes), "prompt": text.prompt, "text": text.text}
    return first | text.model_dump(exclude={"axes", *first})


def _spread(result: InterventionResult, axes: Mapping[str, float | str]) -> dict[str, Any]:
    return {axis: axes.get(axis) for axis in result.axes}


def _columns(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Turn rows of one shape into columns; lists become texts."""
    table: Table = {}
    for row in rows:
        for name, value in row.items():
            table.setdefault(name, []).append(", ".join(map(str, value)) if isinstance(value, list | tuple) else value)
    return table
