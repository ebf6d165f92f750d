"""Claims and conditions: each names one number, or one set of neurons, that the run will have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

from pydantic import BaseModel

from specs.language.conditions import number_text
from specs.language.experiment import Condition, Experiment, NeuronSet
from specs.language.facts import COLUMNS
from specs.language.meaning.naming import Path, choose, values_text
from specs.language.meaning.scope import Scope
from specs.language.meaning.sweeps import asked_of, groups_of, measures_of, sweeps_of
from specs.language.origins import split_path
from specs.language.records import ModelFacts
from specs.language.references import (
    PROPERTIES,
    ResultPath,
    is_measure,
    parse_address,
    parse_layer,
    parse_result_path,
)
from specs.language.scalars import nearest, suggest
from specs.language.words import ConditionName, Measure, Role

__all__ = ["CHECKS"]

COMPARED_AS_SETS = ("=", "!=", "in")
TEXT_PROPERTIES = ("site",)
OF_ONE_NEURON = tuple(name for name in PROPERTIES if name not in ("conservation", "size"))
OF_PAIRS = ("shared", "jaccard", "chance", "chance_in_layers")
"""What an overlap says of two groups; without any of these, what they share."""
WITHOUT_SWEEP = ("clean", "no_edit")
"""Conditions in which the edit is not made, so that its values make no difference."""


def check_claims(scope: Scope) -> None:
    """A claim compares one number with one number, or a set of neurons with another."""
    for n, expectation in enumerate(scope.experiment.expect):
        for k, condition in enumerate(expectation.when):
            _check_when(scope, condition, ("expect", n, "when", k))
        for k, claim in enumerate(expectation.claims):
            _check_claim(scope, claim, ("expect", n, "claims", k))


def check_filters(scope: Scope) -> None:
    """A condition on neurons is about one of their properties, or about a result of editing them."""
    for name, ref in scope.experiment.neurons.items():
        _check_filter(scope, ref, ("neurons", name))
    for name, ranking in scope.experiment.localize.items():
        _check_filter(scope, ranking.among, ("localize", name, "among"))
    for name, spec in scope.experiment.interventions.items():
        for n, edit in enumerate(spec.edit):
            for field in ("neurons", "outside"):
                _check_filter(scope, getattr(edit, field), ("interventions", name, "edit", n, field))


def _check_filter(scope: Scope, ref: object, path: Path) -> None:
    if isinstance(ref, list):
        for n, part in enumerate(ref):
            _check_filter(scope, part, (*path, n))
    if not isinstance(ref, NeuronSet):
        return
    for n, condition in enumerate(ref.where):
        quantity, place = condition.quantity, (*path, "where", n)
        block = quantity.partition("/")[0]
        if "/" in quantity:
            if not (scope.intervention(block, *place) and _check_result(scope, quantity, place, each_neuron=True)):
                continue
        elif quantity not in PROPERTIES:
            near = suggest(quantity, OF_ONE_NEURON)
            hint = f"{near} Use" if near else "; use"
            scope.tell(f"'{quantity}' is not a property of a neuron{hint} {', '.join(OF_ONE_NEURON)}", *place)
            continue
        elif quantity not in OF_ONE_NEURON:
            scope.tell(f"{quantity} is a property of a whole set, and a filter judges one neuron at a time", *place)
            continue
        _check_compared(scope, condition, place)


def _check_compared(scope: Scope, condition: Condition, path: Path) -> None:
    """Check what a neuron's number is compared with: a number, or another result of the same neuron."""
    for value in condition.value if isinstance(condition.value, tuple) else (condition.value,):
        if not isinstance(value, str) or _is_span(condition, value) or condition.quantity in TEXT_PROPERTIES:
            continue
        if "/" in value and scope.intervention(value.partition("/")[0], *path):
            _check_result(scope, value, path, each_neuron=True)
        elif "/" not in value:
            scope.tell(f"'{condition.quantity}' is a number, and '{value}' is not", *path)


def _check_claim(scope: Scope, claim: Condition, path: Path) -> None:
    block = claim.quantity.partition("/")[0]
    if block in (*scope.experiment.localize, *scope.experiment.neurons):
        neurons = _check_neurons(scope, claim.quantity, path)
        if neurons is None:
            return
        if neurons:
            _check_sets(scope, claim, path)
            return
    elif not _check_result(scope, claim.quantity, path):
        return
    values = claim.value if isinstance(claim.value, tuple) else (claim.value,)
    for value in values:
        if isinstance(value, str) and not _is_span(claim, value):
            _check_value(scope, claim.quantity, value, path)


def _is_span(claim: Condition, value: str) -> bool:
    return claim.op == "in" and any(c.isdigit() for c in value) and not any(c.isalpha() for c in value)


def _check_value(scope: Scope, quantity: str, value: str, path: Path) -> None:
    """Check what a number is compared with, when it is not written as one."""
    block = value.partition("/")[0]
    experiment = scope.experiment
    if block in (*experiment.localize, *experiment.neurons):
        if _check_neurons(scope, value, path):
            scope.tell(f"'{quantity}' is a number, and '{value}' is a set of neurons", *path)
    elif block in (*experiment.interventions, *experiment.analyses):
        _check_result(scope, value, path)
    elif quantity.rpartition("/")[2] not in TEXT_PROPERTIES:
        scope.tell(f"'{quantity}' is a number, and '{value}' is not", *path)


def _check_neurons(scope: Scope, text: str, path: Path) -> bool | None:
    """Say whether a path into neurons is a set of them (True) or a number; None, told, if it failed."""
    name, *steps = text.split("/")
    found = scope.neurons(name, *path)
    if found is None:
        return None
    prop = None
    groups = [g for ranking, key in found.rankings if key is None for g in scope.groups(ranking) or ()]
    if steps and steps[-1] in PROPERTIES and "/".join(steps) not in groups:
        prop = steps.pop()
    if steps and steps[0] == "random_neurons":
        steps = steps[1:]
        if prop is None:
            message = f"'{name}/random_neurons' is the same filter on random neurons; take its size"
            scope.tell(message, *path)
            return None
    if steps:
        for ranking, key in found.rankings:
            if key is None and not scope.group(ranking, name, "/".join(steps), *path, also=PROPERTIES):
                return None
        if all(key is not None for _, key in found.rankings):
            scope.tell(f"'{name}' has no '{'/'.join(steps)}': it is one set", *path)
            return None
    return prop is None


def _check_sets(scope: Scope, claim: Condition, path: Path) -> None:
    if claim.op not in COMPARED_AS_SETS:
        scope.tell(
            f"'{claim.quantity}' is a set of neurons: compare it with = or !=, "
            "or take its dominance, layer, score or size",
            *path,
        )
        return
    for value in claim.value if isinstance(claim.value, tuple) else (claim.value,):
        text = value if isinstance(value, str) else number_text(value)
        if _of_layers(scope, claim.quantity):
            if parse_layer(text) is not None:
                continue
            if parse_address(text) is not None:
                scope.tell(f"'{claim.quantity}' is a layer; '{text}' is a neuron: write L1", *path)
                continue
        elif parse_address(text) is not None:
            continue
        elif parse_layer(text) is not None:
            scope.tell(f"'{claim.quantity}' is a set of neurons; '{text}' is a layer: compare its layer", *path)
            continue
        if text.partition("/")[0] in (*scope.experiment.localize, *scope.experiment.neurons):
            if _check_neurons(scope, text, path) is False:
                scope.tell(f"'{claim.quantity}' is a set of neurons, and '{text}' is a number", *path)
            continue
        scope.tell(f"'{claim.quantity}' is a set of neurons; '{text}' is not an address such as L1.N11948", *path)


def _of_layers(scope: Scope, text: str) -> bool:
    """Say whether a path leads into a ranking of layers."""
    ranking = scope.experiment.localize.get(text.partition("/")[0])
    return ranking is not None and ranking.metric == "layer_stability"


# -- results of interventions and analyses


def _check_result(scope: Scope, text: str, path: Path, *, each_neuron: bool = False) -> bool:
    """Check a path into results; ``each_neuron``: it is read neuron by neuron, so that cuts stay open."""
    experiment = scope.experiment
    block = text.partition("/")[0]
    if block in experiment.analyses:
        return _check_derived(scope, text, path)
    if block not in experiment.interventions:
        scope.tell(_no_results(scope, block), *path, unknown=block)
        return False
    try:
        found = parse_result_path(text, is_measure)
    except ValueError as error:
        scope.tell(str(error), *path)
        return False
    return (
        _check_measure(scope, text, found, path)
        and _check_group(scope, found, path)
        and _check_axes(scope, text, found, path, each_neuron)
    )


def _no_results(scope: Scope, name: str) -> str:
    experiment = scope.experiment
    known = [
        *experiment.localize,
        *experiment.neurons,
        *experiment.interventions,
        *experiment.analyses,
    ]
    kind = scope.kind(name)
    if kind is not None:
        return f"'{name}' is {kind} and has no results{'; name what has' if known else ''}{_options(known)}"
    return f"'{name}' has no results here{suggest(name, known) or _options(known, '; choose from')}"


def _options(known: Sequence[str], opening: str = ":") -> str:
    return f"{opening} {', '.join(known)}" if known else ""


def _check_measure(scope: Scope, text: str, found: ResultPath, path: Path) -> bool:
    measures = sorted(measures_of(scope.experiment.interventions[found.block]))
    if found.quantity in measures:
        return True
    listed = ", ".join(measures)
    if found.quantity is not None:
        scope.tell(f"{found.block} does not measure '{found.quantity}'; it measures {listed}", *path)
        return False
    groups = groups_of(scope, found.block)
    if found.key and found.group not in (groups or ()):
        near = nearest(found.key[-1], (*measures, *get_args(Measure)))
        if near is not None:
            scope.tell(f"'{found.key[-1]}' is not a measure; did you mean '{near}'?", *path)
            return False
        if not _check_group(scope, found, path):
            return False
    scope.tell(f"'{text}' is not a number yet; add a measure: {listed}", *path)
    return False


def _check_group(scope: Scope, found: ResultPath, path: Path) -> bool:
    spec = scope.experiment.interventions[found.block]
    groups = groups_of(scope, found.block)
    if found.group is not None and groups is not None and found.group not in groups:
        words = [*groups, *get_args(ConditionName), *get_args(Role), *measures_of(spec)]
        near = suggest(found.group, words)
        edits = f"it edits the neurons of {', '.join(sorted(groups))}"
        hint = f"{near} {edits.capitalize()}" if near else f"; {edits}"
        scope.tell(f"'{found.block}' has no '{found.group}'{hint}", *path, unknown=found.group)
        return False
    if found.role == "others" and spec.others == "none":
        scope.tell(f"{found.block} asks about nobody else (`others: none`)", *path)
        return False
    if found.role == "texts" and all(asked is not None and asked.about for asked, _ in asked_of(scope, found.block)):
        scope.tell(f"{found.block} asks no texts about nobody: {', '.join(spec.ask)}", *path)
        return False
    if found.condition in ("random_neurons", "wrong_cell", "no_edit"):
        if not getattr(spec.controls, found.condition):
            scope.tell(f"{found.block} has no {found.condition}: it is turned off under `controls:`", *path)
            return False
        if found.condition == "no_edit" and spec.placeholder is None and spec.freeze is None:
            scope.tell(f"{found.block} has no no_edit: without a placeholder or a freeze it is the clean run", *path)
            return False
    return True


def _check_axes(scope: Scope, text: str, found: ResultPath, path: Path, each_neuron: bool) -> bool:
    spec = scope.experiment.interventions[found.block]
    sweeps = sweeps_of(scope, found.block)
    if sweeps is None:
        return False
    for axis, value in found.axes:
        if axis in sweeps and spec.tune is not None:
            scope.tell(
                f"{found.block} has one number for each condition, at the {axis} that it chose on '{spec.tune.on}'; "
                f"leave {axis}={value} out",
                *path,
            )
            return False
        if axis in sweeps:
            if not _is_among(value, sweeps[axis]):
                scope.tell(
                    f"{found.block} was not run at {axis}={value}; the values are {values_text(sweeps[axis], 8)}",
                    *path,
                )
                return False
        elif not _check_column(scope, found, axis, value, list(sweeps), path):
            return False
    if found.condition in WITHOUT_SWEEP or spec.tune is not None:
        return True
    given = {axis for axis, _ in found.axes}
    cuts = ("top", "bottom", "rank", "threshold", "mass", "neurons", "layers")
    free = {
        axis: values
        for axis, values in sweeps.items()
        if axis not in given and len(values) > 1 and not (each_neuron and axis.rstrip("0123456789") in cuts)
    }
    if not free:
        return True
    count = math.prod(len(values) for values in free.values())
    add = " and ".join(f"{axis}=VALUE ({values_text(values, 6)})" for axis, values in free.items())
    scope.tell(f"'{text}' is {count} numbers, one for each {' and '.join(free)}; add {add}", *path)
    return False


def _is_among(value: str, values: Sequence[float | str]) -> bool:
    """Say whether a value is one of a sweep's; any value is, where the sweep depends on the model."""
    if not values:
        return True
    try:
        number = float(value)
    except ValueError:
        return value in values
    return any(
        isinstance(known, (int, float)) and math.isclose(known, number, rel_tol=1e-9, abs_tol=1e-12) for known in values
    )


def _check_column(scope: Scope, found: ResultPath, axis: str, value: str, sweeps: Sequence[str], path: Path) -> bool:
    columns = (*COLUMNS, *scope.attributes)
    if axis not in columns:
        known = [*sweeps, *columns]
        scope.tell(f"'{axis}' is neither a sweep nor a column of {found.block}{choose(axis, known)}", *path)
        return False
    if axis not in ("relation", "entity", "variant", "phrasing", "language"):
        return True
    asked: dict[str, None] = {}
    for prompts, _ in asked_of(scope, found.block):
        if prompts is None or (prompts.texts is None and prompts.about is not False):
            return True
        asked.update((v, None) for t in prompts.texts or () if (v := getattr(t, axis)) is not None)
    if value in asked:
        return True
    scope.tell(f"{found.block} does not ask about {axis}={value}{choose(value, asked)}", *path)
    return False


def _check_derived(scope: Scope, text: str, path: Path) -> bool:
    """Check a path into an analysis as far as its groups are known."""
    name, *steps = text.split("/")
    spec = scope.experiment.analyses[name]
    if not all(step.strip() for step in steps):
        scope.tell(f"'{text}' is not a result; a part between / is empty", *path)
        return False
    if spec.overlap is None or not isinstance(spec.overlap, str) or len(steps) < 2:
        return True
    found = scope.neurons(spec.overlap, "analyses", name, "overlap")
    known = [g for ranking, key in found.rankings if key is None for g in scope.groups(ranking) or ()] if found else []
    pair = steps[:-1] if steps[-1] in OF_PAIRS else steps
    # The key of a group may hold a /, as `ada/surname` does.
    cuts = [("/".join(pair[:n]), "/".join(pair[n:])) for n in range(1, len(pair))]
    if not known or any(one in known and other in known and one != other for one, other in cuts):
        return True
    wrong = next((step for step in steps[:2] if step not in known), None)
    if wrong is not None:
        scope.tell(f"'{name}' has no '{wrong}'{choose(wrong, known)}", *path)
    elif steps[0] == steps[1]:
        scope.tell(f"'{name}' compares different groups, and '{steps[0]}' is named twice", *path)
    else:
        scope.tell(f"'{name}' has no '{steps[-1]}' of two groups{choose(steps[-1], OF_PAIRS)}", *path)
    return False


def check_correlations(scope: Scope) -> None:
    """What a correlation reads of an intervention is one number of each owner."""
    for name, spec in scope.experiment.analyses.items():
        for n, quantity in enumerate(spec.correlation or []):
            base, slash, rest = quantity.partition("/")
            path = ("analyses", name, "correlation", n)
            if slash and base in scope.experiment.interventions:
                groups = groups_of(scope, base)
                if groups:
                    _check_result(scope, f"{base}/{sorted(groups)[0]}/{rest}", path)


# -- where a claim is made


def _check_when(scope: Scope, condition: Condition, path: Path) -> None:
    """`when` names a setting: the model, or a place of the spec by its dotted path."""
    try:
        steps = split_path(condition.quantity)
    except ValueError as error:
        scope.tell(str(error), *path)
        return
    if steps[0] == "model" and len(steps) == 2 and steps[1] in ModelFacts.model_fields:
        return
    value: object = scope.experiment
    for n, step in enumerate(steps):
        known = _below(value)
        if known is None or step not in known:
            options = [*(known or {}), *(ModelFacts.model_fields if steps[:n] == ["model"] else ())]
            where = ".".join(steps[:n]) or "a spec"
            scope.tell(f"'{condition.quantity}': {where} has no '{step}'{suggest(step, options)}", *path)
            return
        value = known[step]


def _below(value: object) -> dict[str, object] | None:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        hidden = ("version",) if isinstance(value, Experiment) else ()
        return {f.alias or name: getattr(value, name) for name, f in fields.items() if name not in hidden}
    return dict(value) if isinstance(value, dict) else None


CHECKS = (check_claims, check_filters, check_correlations)
