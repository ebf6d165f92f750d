"""Ids and references: every name once, every reference to something there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

from specs.language.experiment import (
    Analysis,
    Edit,
    Experiment,
    Intervention,
    Localize,
    Negatives,
    NeuronSet,
    Source,
    Times,
    ValueWord,
)
from specs.language.facts import COLUMNS
from specs.language.meaning.naming import KINDS, Path, choose
from specs.language.meaning.scope import Scope
from specs.language.meaning.sweeps import measures_of, sweeps_of
from specs.language.references import PROPERTIES, looks_like_address
from specs.language.scalars import suggest
from specs.language.shipped import PLACEHOLDERS, TEMPLATES
from specs.language.words import ConditionName, Role

__all__ = ["CHECKS", "RESERVED"]

RESERVED = frozenset(
    {
        *get_args(ConditionName),
        *get_args(Role),
        *TEMPLATES,
        *PLACEHOLDERS,
        "generic",
        "facts",
        *("all", "any", "none", "rest", "patch", "own_mean", "asked", "edited"),
    }
)
"""Words of the language that stand where a name may stand."""
RESULT_COLUMNS = ("asked", "edited", "condition", "role")


def check_ids(scope: Scope) -> None:
    """Every name once in the whole spec, none a word of the language, none that cannot be referred to."""
    taken: dict[str, str] = {}
    for block, kind in KINDS.items():
        for name in getattr(scope.experiment, block):
            path = (block, name)
            if name in taken:
                scope.tell(
                    f"'{name}' already names {taken[name]}; every name is used once in a spec",
                    *path,
                    key=True,
                )
                continue
            taken[name] = kind
            if name in RESERVED:
                message = f"'{name}' is a reserved word and cannot be the name of {kind}"
                scope.tell(message, *path, key=True)
            elif block == "neurons" and looks_like_address(name):
                scope.tell(f"the id '{name}' reads as a neuron's address; give it another", *path, key=True)
            else:
                _check_id(scope, name, path, has_name=block == "entities")


def _check_id(scope: Scope, name: str, path: Path, *, has_name: bool) -> None:
    if not name.strip():
        scope.tell("this id is empty", *path, key=True)
    elif name != name.strip():
        scope.tell(f"the id '{name}' begins or ends with a space", *path, key=True)
    for sign, use in (("/", "separates the parts of a reference"), ("=", "separates a sweep from its value")):
        if sign in name:
            easy = "_".join("".join(c if c.isalnum() else " " for c in name.casefold()).split())
            give = f"give it an id such as '{easy or 'a'}'"
            give += " and put the text under `name:`" if has_name else ""
            scope.tell(f"the id '{name}' holds '{sign}', which {use}; {give}", *path, key=True)
            return


def check_entities(scope: Scope) -> None:
    """Names are given, and each belongs to one entity."""
    owner: dict[str, str] = {}
    for name, entity in scope.experiment.entities.items():
        path: Path = ("entities", name)
        _check_form(scope, entity.name, *path, "name")
        for label, forms in entity.variants.items():
            _check_id(scope, label, (*path, "variants", label), has_name=False)
            for n, form in enumerate(forms):
                _check_form(scope, form, *path, "variants", label, n)
        places: dict[str, Path] = {entity.name: (*path, "name")}
        for label, forms in entity.variants.items():
            for n, form in enumerate(forms):
                places.setdefault(form, (*path, "variants", label, n))
        for form, place in places.items():
            if form.strip() and owner.setdefault(form, name) != name:
                scope.tell(f"'{form}' is a name of both '{owner[form]}' and '{name}'", *place)


def _check_form(scope: Scope, form: str, *path: str | int) -> None:
    if not form.strip():
        scope.tell("this name is empty", *path)
    elif form != form.strip():
        scope.tell(f"the name '{form}' begins or ends with a space; the prompt has its own spaces", *path)


def check_material(scope: Scope) -> None:
    """Answers are about entities; prompt sets are derived from sets there are."""
    for name, relation in scope.experiment.relations.items():
        for entity in relation.answers:
            scope.entity(entity, "relations", name, "answers", entity, key=True)
        for language, translation in relation.translations.items():
            for entity in translation.answers:
                place = ("relations", name, "translations", language, "answers", entity)
                scope.entity(entity, *place, key=True)
        for attribute, values in relation.attributes.items():
            _check_attribute(scope, name, attribute, values)
    for name in scope.experiment.prompts:
        chain = _derivation(scope.experiment, name)
        if chain is not None and name == min(chain):
            scope.tell(f"prompt set '{name}' is derived from itself", "prompts", name, "of")
    for name in scope.experiment.prompts:
        scope.prompts(name, "prompts", name)


def _check_attribute(scope: Scope, relation: str, attribute: str, values: Iterable[str]) -> None:
    """An attribute of facts is of facts there are, and has a name of its own."""
    path = ("relations", relation, "attributes", attribute)
    experiment = scope.experiment
    if attribute in COLUMNS:
        scope.tell(
            f"'{attribute}' is a column that every prompt has; call the attribute something else", *path, key=True
        )
    elif any(attribute in entity.attributes for entity in experiment.entities.values()):
        scope.tell(
            f"'{attribute}' is an attribute of entities, and here one of facts: which is meant could not be told; "
            "call one of them something else",
            *path,
            key=True,
        )
    for entity in values:
        if scope.entity(entity, *path, entity, key=True) and entity not in experiment.relations[relation].answers:
            scope.tell(f"'{relation}' has no answer for '{entity}', so there is no such fact", *path, entity, key=True)


def _derivation(experiment: Experiment, name: str) -> list[str] | None:
    """Give the circle a prompt set is in, if it is in one."""
    chain = [name]
    while (spec := experiment.prompts.get(chain[-1])) is not None and spec.of is not None:
        base = spec.of.partition("/")[0]
        if base == name:
            return chain
        if base in chain:
            return None
        chain.append(base)
    return None


def check_rankings(scope: Scope) -> None:
    """Rankings read prompts there are, by columns there are, against something there is."""
    for name, spec in scope.experiment.localize.items():
        path: Path = ("localize", name)
        if spec.prompts is not None:
            scope.prompts(spec.prompts, *path, "prompts")
        scope.ranked_by(name)
        _check_against(scope, spec, path)
        if spec.among is not None:
            scope.neurons(spec.among, *path, "among")
        if spec.layers is not None:
            scope.layers(spec.layers, *path, "layers")


def _check_against(scope: Scope, spec: Localize, path: Path) -> None:
    if isinstance(spec.against, str) and spec.against != "others":
        scope.prompts_or_names(spec.against, *path, "against")
    elif isinstance(spec.against, Negatives):
        return


def check_neurons(scope: Scope) -> None:
    """Named sets come down to neurons, and vectors to prompts."""
    for name, definition in scope.experiment.neurons.items():
        scope.neurons(name, "neurons", name)
        if isinstance(definition, NeuronSet) and name in _needs(scope, name, set()):
            scope.tell(f"neuron set '{name}' is defined by itself", "neurons", name)
    for name, vector in scope.experiment.vectors.items():
        path: Path = ("vectors", name)
        for field in ("mean", "minus"):
            value = getattr(vector, field)
            if value is not None:
                scope.prompts(value, *path, field)
        if vector.learn is not None:
            scope.fact(vector.learn.fact, *path, "learn", "fact")
            scope.prompts(vector.learn.keep, *path, "learn", "keep")


def _needs(scope: Scope, name: str, seen: set[str]) -> set[str]:
    """Name the sets a set is filtered with: those edited by the interventions its conditions read."""
    experiment = scope.experiment
    sets = {id(s): n for n, s in experiment.neurons.items() if isinstance(s, NeuronSet)}
    ref = experiment.neurons[name]
    read = {c.quantity.partition("/")[0] for c in (ref.where if isinstance(ref, NeuronSet) else [])}
    for intervention in read & set(experiment.interventions):
        for n, edit in enumerate(experiment.interventions[intervention].edit):
            field = "neurons" if edit.neurons is not None else "outside"
            acted = getattr(edit, field)
            found = acted and scope.neurons(acted, "interventions", intervention, "edit", n, field)
            for needed in (sets[id(s)] for s in (found.sets if found else ()) if id(s) in sets):
                if needed not in seen:
                    seen.add(needed)
                    _needs(scope, needed, seen)
    return seen


def check_interventions(scope: Scope) -> None:
    """Interventions act on neurons there are, and ask about entities there are."""
    for name, spec in scope.experiment.interventions.items():
        path: Path = ("interventions", name)
        for n, edit in enumerate(spec.edit):
            _check_edit(scope, edit, (*path, "edit", n))
        if spec.freeze is not None:
            if spec.freeze.layers is not None:
                scope.layers(spec.freeze.layers, *path, "freeze", "layers")
            for n, exception in enumerate(spec.freeze.except_):
                if exception.layers is not None:
                    scope.layers(exception.layers, *path, "freeze", "except_", n, "layers")
            if isinstance(spec.freeze.to, Source):
                _check_source(scope, spec.freeze.to, (*path, "freeze", "to"))
        for n, asked in enumerate(spec.ask):
            scope.prompts(asked, *path, "ask", n)
        for field in ("placeholder", "unknown"):
            value = getattr(spec, field)
            if value is not None:
                scope.placeholders(value, *path, field)
        _check_roles(scope, spec, path)
        if spec.tune is not None:
            scope.prompts(spec.tune.on, *path, "tune", "on")


def _check_edit(scope: Scope, edit: Edit, path: Path) -> None:
    for field in ("neurons", "outside"):
        value = getattr(edit, field)
        if value is not None:
            scope.neurons(value, *path, field)
    if isinstance(edit.add, str) and edit.add not in (*scope.experiment.vectors, *get_args(ValueWord)):
        kind = scope.kind(edit.add)
        is_else = f"; it is {kind}" if kind else choose(edit.add, scope.experiment.vectors)
        scope.tell(f"'{edit.add}' is not a vector{is_else}", *path, "add")
    for field in ("set", "add"):
        value = getattr(edit, field)
        if isinstance(value, Source):
            _check_source(scope, value, (*path, field))
        elif isinstance(value, Times) and isinstance(value.of, Source):
            _check_source(scope, value.of, (*path, field, "of"))


def _check_source(scope: Scope, source: Source, path: Path) -> None:
    for field in ("mean", "sample"):
        value = getattr(source, field)
        if isinstance(value, str) and value != "patch":
            scope.prompts_or_names(value, *path, field)


def _check_roles(scope: Scope, spec: Intervention, path: Path) -> None:
    target = spec.target
    if isinstance(target, str):
        experiment = scope.experiment
        if "/" in target:
            scope.fact(target, *path, "target")
        elif target not in experiment.entities and target not in experiment.relations:
            near = suggest(target, [*experiment.entities, *experiment.relations])
            kind = "relation" if any(f"'{r}'" in near for r in experiment.relations) else "entity"
            message = f"'{target}' is not {'an' if kind == 'entity' else 'a'} {kind}{near}"
            scope.tell(message, *path, "target", unknown=target)
    elif target is not None:
        scope.conditions(target, *path, "target")
    if isinstance(spec.others, list):
        for n, other in enumerate(spec.others):
            if not isinstance(other, str):
                scope.conditions(spec.others, *path, "others")  # type: ignore[arg-type]
                break
            if other not in scope.experiment.relations:
                scope.entity(other, *path, "others", n)


def check_analyses(scope: Scope) -> None:
    """Analyses read results there are."""
    for name, spec in scope.experiment.analyses.items():
        path: Path = ("analyses", name)
        verb = spec.verb
        if verb in ("overlap", "profile", "agreement"):
            refs = getattr(spec, verb)
            for n, ref in enumerate(refs if isinstance(refs, list) else [refs]):
                place = (*path, verb, *([n] if isinstance(refs, list) else []))
                found = scope.neurons(ref, *place)
                if found is not None and found.axes:
                    swept = " and ".join(found.axes)
                    scope.tell(f"'{ref}' is several sets, one for each {swept}; {verb} takes one set", *place)
        for field in ("pivot", "cumulativity", "slices", "errors"):
            value = getattr(spec, field)
            if value is not None:
                scope.intervention(value, *path, field)
        if verb == "difference":
            _check_difference(scope, spec, path)
        if verb == "correlation":
            for n, quantity in enumerate(spec.correlation or []):
                _check_quantity(scope, quantity, (*path, "correlation", n))
        if spec.pivot in scope.experiment.interventions:
            sweeps = sweeps_of(scope, str(spec.pivot)) or {}
            fine = [
                scope.column(getattr(spec, field), *path, field, also=(*RESULT_COLUMNS, *sweeps))
                for field in ("rows", "columns")
            ]
            if all(fine):
                _check_pivot(scope, spec, sweeps, path)


def _check_pivot(scope: Scope, spec: Analysis, sweeps: Mapping[str, Sequence[float | str]], path: Path) -> None:
    """A cell of a pivot is a mean of numbers that were measured, under one edit."""
    measures = measures_of(scope.experiment.interventions[str(spec.pivot)])
    if spec.value is not None and spec.value not in measures:
        scope.tell(f"{spec.pivot} does not measure '{spec.value}'; it measures {', '.join(measures)}", *path, "value")
    elif spec.value is not None and spec.value.startswith("text@"):
        scope.tell(f"{spec.value} is a text and has no mean", *path, "value")
    free = [axis for axis, values in sweeps.items() if len(values) > 1 and axis not in (spec.rows, spec.columns)]
    if free:
        message = (
            f"a cell would be the mean over {free[0]} ({len(sweeps[free[0]])} values); make it `rows` or `columns`"
        )
        scope.tell(message, *path, "pivot")


def _check_difference(scope: Scope, spec: Analysis, path: Path) -> None:
    if spec.of is not None:
        scope.intervention(spec.of, *path, "of")
    scope.column(spec.difference or "", *path, "difference")
    if spec.per is not None:
        scope.column(spec.per, *path, "per")


def _check_quantity(scope: Scope, quantity: str, path: Path) -> None:
    """Check what a correlation reads: a property of neurons, a measure, or a column."""
    name, slash, prop = quantity.rpartition("/")
    if not slash:
        if quantity in COLUMNS:
            scope.tell(f"'{quantity}' is a column of prompts; a correlation is over owners: name an attribute", *path)
        else:
            scope.column(quantity, *path)
        return
    base = name.partition("/")[0]
    if base in scope.experiment.interventions:
        return  # checked as the claim it would be of one owner
    if prop not in PROPERTIES:
        scope.tell(f"'{prop}' is not a property of a neuron{choose(prop, PROPERTIES)}", *path)
        return
    scope.neurons(name, *path)


def check_only(scope: Scope) -> None:
    """`only` names what can be run."""
    runs = sorted((*scope.experiment.interventions, *scope.experiment.analyses, *scope.experiment.localize))
    for n, name in enumerate(scope.experiment.only or []):
        if name in runs:
            continue
        near = suggest(name, runs)
        options = f"{near} Choose from {', '.join(runs)}" if near else f"; choose from {', '.join(runs)}"
        scope.tell(f"'{name}' is not something to run{options if runs else ''}", "only", n, unknown=name)


def check_used(scope: Scope) -> None:
    """Every entity is asked about or localised by something."""
    experiment = scope.experiment
    if not (experiment.localize or experiment.interventions):
        return
    used: set[str | None] = set()
    for name, path in _prompts_run(experiment):
        found = scope.prompts(name, *path)
        if found is None or (found.texts is None and found.about is not False):
            return
        used.update(text.entity for text in found.texts or ())
    for entity in experiment.entities:
        if entity not in used:
            scope.warn(f"entity '{entity}' is declared and used by nothing", "entities", entity, key=True)


def _prompts_run(experiment: Experiment) -> Iterator[tuple[str, Path]]:
    for name, ranking in experiment.localize.items():
        if ranking.prompts is not None:
            yield ranking.prompts, ("localize", name, "prompts")
    for name, intervention in experiment.interventions.items():
        for n, asked in enumerate(intervention.ask):
            yield asked, ("interventions", name, "ask", n)
        if intervention.tune is not None:
            yield intervention.tune.on, ("interventions", name, "tune", "on")


CHECKS = (
    check_ids,
    check_entities,
    check_material,
    check_rankings,
    check_neurons,
    check_interventions,
    check_analyses,
    check_only,
    check_used,
)
