"""The claims of ``expect:`` beside what was found: met, not met, or not applicable to this run.

A claim is not met only where a number or a neuron contradicts it. Where it was made for another model, or
where there is nothing to compare (the figure was not taken, or nothing was known), it is not applicable,
with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from runner.summaries import other_forms
from specs.language.conditions import holds, number_text, text
from specs.language.experiment import Condition, Expectation, Experiment
from specs.language.references import (
    PROPERTIES,
    ResultPath,
    accuracy_of,
    is_measure,
    parse_address,
    parse_layer,
    parse_result_path,
    usual_role,
)
from specs.language.results import (
    EVERYBODY,
    CellFigure,
    ClaimResult,
    InterventionResult,
    NeuronSetResult,
    RankedNeuron,
    Ranking,
    RankingGroup,
    Results,
    Summary,
)
from specs.language.words import ConditionName

__all__ = ["Observed", "evaluate", "look_up"]

WITHOUT_SWEEP: tuple[ConditionName, ...] = ("clean", "no_edit")
MOST_FIGURES = 12
"""Figures of an analysis that a message lists; an overlap of twelve groups has hundreds."""


Outcome = Literal["met", "not met", "not applicable"]


@dataclass(frozen=True)
class Observed:
    """What stands at a result path: a number, a set of neurons, or the reason why there is nothing."""

    number: float | None = None
    neurons: frozenset[str] | None = None
    words: str = ""
    """As a reader wants it: ``0.12 [0.05, 0.20] over 8 prompts``."""
    reason: str = ""


def evaluate(experiment: Experiment, results: Results) -> list[ClaimResult]:
    """Judge every claim of the spec, in its order."""
    return [
        _judge(expectation, claim, experiment, results)
        for expectation in experiment.expect
        for claim in expectation.claims
    ]


def _judge(expectation: Expectation, claim: Condition, experiment: Experiment, results: Results) -> ClaimResult:
    outcome: Outcome = "not applicable"
    observed, reason = "", _elsewhere(expectation.when, experiment, results)
    if not reason:
        reason = _of_matrix(claim, experiment)
    if not reason:
        outcome, observed, reason = _compare(claim, results)
    return ClaimResult(
        claim=text(claim),
        source=expectation.source or "",
        when=", ".join(text(condition) for condition in expectation.when),
        outcome=outcome,
        observed=observed,
        reason=reason,
    )


def _of_matrix(claim: Condition, experiment: Experiment) -> str:
    """Give the reason why a claim on a comparison of runs is judged elsewhere; empty for the others."""
    spec = experiment.analyses.get(claim.quantity.partition("/")[0])
    if spec is None or spec.across is None or spec.across not in experiment.matrix:
        return ""
    return f"it compares the runs along {spec.across}, and is judged on the page of the matrix"


def _compare(claim: Condition, results: Results) -> tuple[Outcome, str, str]:
    """Give the outcome, what was observed, and the reason where a claim is not applicable."""
    found = look_up(claim.quantity, results)
    if found.reason:
        return "not applicable", "", found.reason
    words = found.words
    if found.neurons is not None:
        if claim.op not in ("=", "!=", "in"):
            return "not applicable", words, f"'{claim.quantity}' is a set of neurons: compare it with = or !="
        wanted = _wanted_neurons(claim, results)
        if isinstance(wanted, str):
            return "not applicable", words, wanted
        if claim.op == "in":
            return _outcome(found.neurons <= frozenset().union(*wanted)), words, ""
        if _is_path(str(claim.value), results):
            words = f"{words}, against {_listed(sorted(wanted[0]))}"
        return _outcome((found.neurons == wanted[0]) == (claim.op == "=")), words, ""
    filled = claim
    if isinstance(claim.value, str) and _is_path(claim.value, results):
        other = look_up(claim.value, results)
        if other.reason:
            return "not applicable", words, other.reason
        if other.number is None:
            return "not applicable", words, f"'{claim.value}' is a set of neurons and no number"
        filled = claim.model_copy(update={"value": other.number})
        words = f"{words}, against {other.words}"
    try:
        return _outcome(holds(filled, found.number)), words, ""
    except ValueError as error:
        return "not applicable", words, str(error)


def _outcome(met: bool) -> Outcome:
    return "met" if met else "not met"


def _wanted_neurons(claim: Condition, results: Results) -> list[frozenset[str]] | str:
    """List the sets a claim names, or give the reason why one of them is missing."""
    wanted: list[frozenset[str]] = []
    for value in claim.value if isinstance(claim.value, tuple) else (claim.value,):
        address = parse_address(value) if isinstance(value, str) else None
        if address is not None:
            wanted.append(frozenset({str(address)}))
            continue
        if isinstance(value, str) and parse_layer(value) is not None:
            wanted.append(frozenset({value.strip()}))
            continue
        other = look_up(str(value), results)
        if other.neurons is None:
            return other.reason or f"'{value}' is no set of neurons"
        wanted.append(other.neurons)
    return wanted


# -- where a claim is made ----------------------------------------------------------------------------------


def _elsewhere(when: Iterable[Condition], experiment: Experiment, results: Results) -> str:
    """Give the reason why a claim is made for other runs than this; empty if it is made for this one."""
    for condition in when:
        if condition.quantity == "model":
            names = _names(experiment, results)
            if not _is_model(condition, names):
                return f"claimed {_for(condition)}; this is {_this(names)}"
            continue
        value = _setting(condition.quantity, experiment, results)
        if value is None:
            return f"claimed for {text(condition)}; {condition.quantity} is not set here"
        try:
            if not holds(condition, value):
                return f"claimed for {text(condition)}; here it is {_shown(value)}"
        except ValueError as error:
            return str(error)
    return ""


def _is_model(condition: Condition, names: Sequence[str]) -> bool:
    """Tell whether one of a model's names is meant; without regard to case, as on the hub."""
    values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    wanted = {value.casefold() for value in values if isinstance(value, str)}
    named = any(name.casefold() in wanted for name in names)
    return not named if condition.op == "!=" else named


def _names(experiment: Experiment, results: Results) -> list[str]:
    """List the names this run's model goes by: card, hub id, and as the spec has it."""
    names = [results.model.card, results.model.id, experiment.model.id]
    return list(dict.fromkeys(name for name in names if name))


def _for(condition: Condition) -> str:
    if condition.op == "!=":
        return f"for other models than {condition.value}"
    values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    return f"for {' or '.join(map(str, values))}"


def _this(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} ({', '.join(names[1:])})"


def _setting(path: str, experiment: Experiment, results: Results) -> float | str | list[float | str] | None:
    """Find a setting by its dotted path: of the model as it was run, else of the resolved spec."""
    block, _, field = path.partition(".")
    if block == "model" and field in type(results.model).model_fields:
        found = getattr(results.model, field)
    else:
        found = experiment.model_dump(by_alias=True)
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, list | tuple):
        return [item for item in found if isinstance(item, str | int | float)]
    return found if isinstance(found, str | int | float) else None


def _shown(value: float | str | Sequence[float | str]) -> str:
    if isinstance(value, str):
        return value
    return ", ".join(map(_shown, value)) if isinstance(value, Sequence) else number_text(value)


# -- result paths -------------------------------------------------------------------------------------------


def look_up(path: str, results: Results) -> Observed:
    """Find what stands at a result path, ``block[/group][/condition][/role][/axis=value]/quantity``.

    Left out: condition = edit, role = target (of a perplexity: texts), group = the mean over all, relation = all of
    them together.
    """
    block, *parts = path.split("/")
    if block in results.rankings:
        return _in_ranking(path, results.rankings[block])
    if block in results.neurons:
        return _in_set(path, results.neurons[block])
    if block in results.interventions:
        return _in_intervention(path, results.interventions[block])
    if block in results.analyses:
        figures = results.analyses[block].figures
        name = "/".join(parts)
        cell = next((c for c in results.analyses[block].cells if f"{c.row}/{c.column}" == name), None)
        if cell is not None:
            return _of_cell(cell)
        for key in (name, f"{name}/shared"):  # two groups of an overlap stand for what they share
            if key in figures:
                return Observed(number=figures[key], words=_number(figures[key]))
        some = [*figures][:MOST_FIGURES]
        more = f" and {len(figures) - len(some)} more" if len(figures) > len(some) else ""
        return Observed(reason=f"{block} has no figure '{name}'; it has {', '.join(some) or 'none'}{more}")
    return Observed(reason=f"'{block}' is not among the results of this run")


def _of_cell(cell: CellFigure) -> Observed:
    """Give a cell of a pivot with its interval, and of a drop both means."""
    if cell.value is None:
        return Observed(reason=f"{cell.row}/{cell.column} has no value: {cell.reason}")
    spread = f" [{_number(cell.low)}, {_number(cell.high)}]" if cell.low is not None and cell.high is not None else ""
    means = f" (from {_number(cell.clean)} to {_number(cell.edited)})" if cell.clean is not None else ""
    prompts = f"{cell.n} prompt{'' if cell.n == 1 else 's'}"
    return Observed(number=cell.value, words=f"{_number(cell.value)}{spread} over {prompts}{means}")


def _is_path(value: str, results: Results) -> bool:
    block = value.split("/")[0]
    return "/" in value or block in (*results.rankings, *results.neurons, *results.interventions)


def _in_ranking(path: str, ranking: Ranking) -> Observed:
    try:
        asked = parse_result_path(path, PROPERTIES.__contains__)
    except ValueError as error:
        return Observed(reason=str(error))
    quantity, key = asked.quantity, asked.group
    if key is not None and key not in ranking.groups:
        return Observed(reason=f"{ranking.name} has no ranking of '{key}'")
    groups = [ranking.groups[key]] if key else [g for g in ranking.groups.values() if g.variant is None]
    chosen = [_plain(address) for group in groups for address in group.chosen]
    if quantity is None:
        return Observed(neurons=frozenset(chosen), words=_listed(chosen))
    if quantity == "size":
        return Observed(number=float(len(chosen)), words=str(len(chosen)))
    values = [value for group in groups if (value := _figure(group, quantity)) is not None]
    if len(values) < len(groups) or not values:
        return Observed(reason=f"{path} has no value")
    mean = math.fsum(values) / len(values)
    best = groups[0].neurons[0].address
    words = f"{_number(mean)} ({best})" if len(groups) == 1 else f"{_number(mean)}, mean of {len(groups)}"
    return Observed(number=mean, words=words)


def _in_set(path: str, chosen: NeuronSetResult) -> Observed:
    """Find a property of a named set: of all its owners, of one, or of the random neurons put through its filter."""
    _, *parts = path.split("/")
    quantity = parts.pop() if parts and parts[-1] in PROPERTIES and "/".join(parts) not in chosen.owners else None
    placebo = "random_neurons" in parts
    key = "/".join(part for part in parts if part != "random_neurons")
    if key and key not in chosen.owners:
        return Observed(reason=f"{chosen.name} holds nothing of '{key}'; its owners are {', '.join(chosen.owners)}")
    if placebo:
        return _in_placebo(path, quantity, key, chosen)
    forms = other_forms(chosen.owners)
    choices = [chosen.owners[key]] if key else [c for owner, c in chosen.owners.items() if owner not in forms]
    neurons = [_plain(address) for choice in choices for address in choice.neurons]
    if quantity is None:
        return Observed(neurons=frozenset(neurons), words=_listed(neurons) or "no neuron")
    if quantity == "size":
        return Observed(number=float(len(neurons)), words=str(len(neurons)))
    if not neurons:
        return Observed(reason=f"{path} has no value: the set is empty")
    values = [
        float(value)
        for choice in choices
        for candidate in choice.candidates
        if candidate.address in choice.neurons and isinstance(value := getattr(candidate, quantity, None), int | float)
    ]
    if len(values) < len(neurons):
        return Observed(reason=f"{path} has no value")
    mean = math.fsum(values) / len(values)
    return Observed(number=mean, words=_number(mean) + (f", mean of {len(values)}" if len(values) > 1 else ""))


def _in_placebo(path: str, quantity: str | None, key: str, chosen: NeuronSetResult) -> Observed:
    if quantity != "size" or key:
        return Observed(reason=f"{path}: of random neurons the size of the whole set is known, and nothing else")
    placebo = chosen.placebo
    if placebo is None:
        return Observed(reason=f"{chosen.name} reads no result of an intervention, so random neurons pass as they are")
    if placebo.size is None:
        return Observed(reason=f"{path} has no value: {placebo.reason}")
    sizes = f"{min(placebo.sizes)} to {max(placebo.sizes)}"
    n = len(placebo.sizes)
    words = f"{_number(placebo.size)}" + (f", mean of {n} draws ({sizes})" if n > 1 else ", one draw")
    return Observed(number=placebo.size, words=words)


def _figure(group: RankingGroup, name: str) -> float | None:
    if name == "random_names":
        return group.random_names
    best: RankedNeuron | None = group.neurons[0] if group.neurons else None
    value = getattr(best, name, None)
    return float(value) if isinstance(value, int | float) else None


def _plain(address: str) -> str:
    """Give an address in its one spelling."""
    found = parse_address(address)
    return address if found is None else str(found)


def _in_intervention(path: str, done: InterventionResult) -> Observed:
    if done.not_applicable:
        return Observed(reason=f"{done.name} was not run: {done.not_applicable}")
    try:
        asked = parse_result_path(path, lambda part: part in done.measures or is_measure(part))
    except ValueError as error:
        return Observed(reason=str(error))
    condition, role, owner = (
        asked.condition or "edit",
        asked.role or usual_role(asked.quantity),
        asked.group or EVERYBODY,
    )
    if asked.quantity not in done.measures and (accuracy := accuracy_of(asked.quantity)) in done.measures:
        return _drop(replace(asked, quantity=accuracy), done)
    if asked.quantity not in done.measures:
        measures = ", ".join(done.measures)
        return Observed(reason=f"{done.name} does not measure '{asked.quantity or path}'; it measures {measures}")
    if owner != EVERYBODY and owner not in done.owners:
        return Observed(reason=f"{done.name} was not done to '{owner}'; it was done to {', '.join(done.owners)}")
    point = dict(asked.axes)
    relation = point.pop("relation", None)
    for axis in point:
        if axis not in done.axes:
            return Observed(reason=f"{done.name} has no sweep '{axis}'; it has {', '.join(done.axes) or 'none'}")
    found = [
        summary
        for summary in done.summaries
        if (summary.edited, summary.condition, summary.role) == (owner, condition, role)
        and summary.relation == relation
        and summary.measure == asked.quantity
    ]
    if not found:
        return Observed(reason=f"{path} was not measured")
    if condition not in WITHOUT_SWEEP:
        for axis, value in point.items():
            found = [summary for summary in found if _at(summary, axis, value)]
            if not found:
                values = ", ".join(_shown(value) for value in done.axes[axis])
                return Observed(reason=f"{done.name} was not run at {axis}={value}; the values are {values}")
    if len(found) > 1:
        free = [axis for axis in done.axes if axis not in point]
        return Observed(
            reason=f"'{path}' is {len(found)} numbers, one for each {' and '.join(free)}; add {free[0]}=VALUE"
        )
    summary = found[0]
    if summary.mean is None:
        why = "nothing asked is known" if done.n_known == 0 else "it is defined for none of the prompts"
        return Observed(reason=f"{path} has no value: {why}")
    return Observed(number=summary.mean, words=_words(summary))


def _drop(asked: ResultPath, done: InterventionResult) -> Observed:
    """Give (clean - edited) / clean of an accuracy: a ratio of two means, which no single question has."""
    edited = _in_intervention(str(asked), done)
    columns = tuple(pair for pair in asked.axes if pair[0] not in done.axes)
    clean = _in_intervention(str(replace(asked, condition="clean", axes=columns)), done)
    for found in (edited, clean):
        if found.number is None:
            return found
    assert edited.number is not None and clean.number is not None
    if clean.number == 0:
        return Observed(reason=f"the clean model's {asked.quantity} is 0, so it has no drop")
    number = (clean.number - edited.number) / clean.number
    return Observed(number=number, words=f"{_number(number)} (from {clean.words} to {edited.words})")


def _at(summary: Summary, axis: str, value: str) -> bool:
    """Tell whether a summary stands at one value of a sweep."""
    found = summary.axes.get(axis)
    if found is None:
        return False
    if isinstance(found, str):
        return found == value
    try:
        return math.isclose(found, float(value), rel_tol=1e-9, abs_tol=1e-12)
    except ValueError:
        return False


def _words(summary: Summary) -> str:
    spread = ""
    if summary.low is not None and summary.high is not None:
        spread = f" [{_number(summary.low)}, {_number(summary.high)}]"
    return f"{_number(summary.mean)}{spread} over {summary.n} prompt{'' if summary.n == 1 else 's'}"


def _number(value: float | None) -> str:
    return "no value" if value is None else f"{value:.4g}"


def _listed(addresses: Sequence[str], most: int = 5) -> str:
    more = f" and {len(addresses) - most} more" if len(addresses) > most else ""
    return ", ".join(addresses[:most]) + more
