"""Where edits act: at neurons that were read there, in prompts that have the token, at values there are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path as FilePath

from specs.language.conditions import number_text
from specs.language.errors import RunError
from specs.language.experiment import (
    GRADIENT_METRICS,
    Edit,
    Intervention,
    Learn,
    NeuronSet,
    NeuronsRef,
    Source,
    Times,
    sweep_values,
)
from specs.language.meaning.naming import Path
from specs.language.meaning.prompt_sets import Prompts
from specs.language.meaning.scope import Neurons, Scope
from specs.language.meaning.sweeps import asked_of, edited, groups_of, sweeps_of
from specs.language.references import is_entity_position
from specs.language.vector_files import place_of

__all__ = ["CHECKS"]

WEIGHT_SITES = ("mlp.neurons", "attn.heads")
"""Sites that are the input of a projection: each neuron has a column of weights."""


def positions_of(scope: Scope, edit: Edit, neurons: Neurons | None) -> tuple[list[str], bool]:
    """Give the positions an edit acts at, and whether they are written in it."""
    if edit.position is not None:
        return list(edit.position if isinstance(edit.position, list) else edit.position.each), True
    found: dict[str, None] = {}
    for ranking, _ in neurons.rankings if neurons is not None else ():
        found.update(dict.fromkeys(scope.experiment.localize[ranking].position or []))
    return list(found), False


def check_addresses(scope: Scope) -> None:
    """Neurons that were not localised have no owner, no position and no mean."""
    for name, spec in scope.experiment.interventions.items():
        about = any(found is not None and found.about for found, _ in asked_of(scope, name))
        for edit, neurons, path in edited(scope, name):
            if neurons is None:
                continue
            where = (*path, "neurons" if edit.neurons is not None else "outside")
            unranked = bool(neurons.addresses) or neurons.whole_layers
            kind = "neurons given by address" if neurons.addresses else "whole layers"
            if unranked and not neurons.rankings:
                if spec.target is None and about:
                    scope.tell(f"{kind} belong to nobody, so `target` must say whose answers should change", *where)
                bare = neurons.whole_layers or any(a.position is None for a in neurons.addresses)
                if edit.position is None and bare and edit.in_ == "activations":
                    scope.tell(f"{kind} were read at no position, so `position` must be given", *where)
            field = _own_mean(edit)
            if field is not None and (unranked or neurons.saved):
                have = f"{kind} have none" if unranked else "neurons from a file have none"
                scope.tell(
                    f"own_mean is the mean over the prompts a neuron was localised on; {have}. "
                    "Give a number, or `{mean: PROMPTS}`",
                    *(*path, *field),
                )


def _own_mean(edit: Edit) -> tuple[str, ...] | None:
    """Give the path of `own_mean` within an edit."""
    for field in ("set", "add"):
        value = getattr(edit, field)
        if value == "own_mean":
            return (field,)
        if isinstance(value, Times) and value.of == "own_mean":
            return (field, "of")
    return None


def check_thresholds(scope: Scope) -> None:
    """A threshold is a share of what a score could be at most: 1 for a precision, the objective for an attribution."""
    places: list[tuple[NeuronsRef | None, Path]] = [
        *((ref, ("neurons", name)) for name, ref in scope.experiment.neurons.items()),
        *(
            (edit.neurons, (*path, "neurons"))
            for name in scope.experiment.interventions
            for edit, _, path in edited(scope, name)
        ),
    ]
    for ref, path in places:
        found = scope.neurons(ref, *path) if isinstance(ref, NeuronSet) and ref.threshold is not None else None
        if found is None:
            continue
        for ranking, _ in found.rankings:
            metric = scope.experiment.localize[ranking].metric
            if metric != "average_precision" and metric not in GRADIENT_METRICS:
                scope.tell(
                    f"a score of {metric} is no share of anything, so it has no threshold; cut with `top:`, or filter "
                    "(`where: [score >= 3]`)",
                    *(*path, "threshold"),
                )


def check_positions(scope: Scope) -> None:
    """A token of the entity is in prompts about an entity."""
    experiment = scope.experiment
    for name, ranking in experiment.localize.items():
        found = scope.prompts(ranking.prompts, "localize", name, "prompts") if ranking.prompts else None
        position = next((p for p in ranking.position or [] if is_entity_position(p)), None)
        if found is not None and found.about is False and position is not None:
            scope.tell(_about_nobody(position, found.name), "localize", name, "prompts")
    for name, spec in experiment.interventions.items():
        asked = asked_of(scope, name)
        nobody = [(found, path) for found, path in asked if found is not None and found.about is False]
        for edit, neurons, path in edited(scope, name):
            positions, written = positions_of(scope, edit, neurons)
            position = next((p for p in positions if is_entity_position(p)), None)
            if position is None or edit.in_ == "weights":
                continue
            # where none is written, the edit acts at every token of a text that has no entity
            for found, _ in nobody if written else ():
                scope.tell(
                    f"{_about_nobody(position, found.name)}; without `position` the edit acts there at every token",
                    *(*path, "position"),
                )
        if spec.freeze is not None:
            position = next((p for p in spec.freeze.position if is_entity_position(p)), None)
            for found, _ in nobody:
                if position is not None and len(nobody) == len(asked):
                    scope.tell(_about_nobody(position, found.name), "interventions", name, "freeze", "position")


def _about_nobody(position: str, name: str) -> str:
    return f"position {position} needs prompts about an entity; '{name}' are texts about nobody"


def check_means(scope: Scope) -> None:
    """A mean at a token of the entity is taken over prompts about one; patch values need twins."""
    for name, spec in scope.experiment.interventions.items():
        asked = asked_of(scope, name)
        for edit, neurons, path in edited(scope, name):
            entity = any(is_entity_position(p) for p in positions_of(scope, edit, neurons)[0])
            for field in ("set", "add"):
                value = getattr(edit, field)
                inner = (*path, field, "of") if isinstance(value, Times) else (*path, field)
                source = value.of if isinstance(value, Times) else value
                _check_source(scope, source, entity, asked, inner)
        if spec.freeze is not None:
            entity = any(is_entity_position(p) for p in spec.freeze.position)
            _check_source(scope, spec.freeze.to, entity, asked, ("interventions", name, "freeze", "to"))
    for name, ranking in scope.experiment.localize.items():
        if ranking.minus is not None and ranking.prompts is not None:
            found = scope.prompts(ranking.prompts, "localize", name, "prompts")
            if found is not None and not found.patch:
                scope.tell(_no_patch(found.name), "localize", name, "minus")


def _check_source(
    scope: Scope, source: object, entity: bool, asked: Sequence[tuple[Prompts | None, Path]], path: Path
) -> None:
    names = (source.mean, source.sample) if isinstance(source, Source) else (source,)
    for field, value in zip(("mean", "sample"), names, strict=False):
        place = (*path, field) if isinstance(source, Source) else path
        if value == "patch":
            for found, _ in asked:
                if found is not None and not found.patch:
                    scope.tell(_no_patch(found.name), *place)
        elif isinstance(source, Source) and isinstance(value, str) and entity:
            found_set = scope.prompts_or_names(value, *place)
            if isinstance(found_set, Prompts) and found_set.about is False:
                scope.tell(f"'{value}' are texts about nobody; there is no entity token to take a mean at", *place)


def _no_patch(name: str) -> str:
    return f"'{name}' has no patch prompts; use `pairs:` or `patch: entity`"


def check_freezes(scope: Scope) -> None:
    """Only what is frozen can be left free."""
    for name, spec in scope.experiment.interventions.items():
        freeze = spec.freeze
        for n, exception in enumerate(freeze.except_ if freeze is not None else ()):
            assert freeze is not None
            path = ("interventions", name, "freeze", "except_", n)
            for site in exception.site or ():
                if site not in freeze.site:
                    scope.tell(
                        f"{site} is not frozen, so it cannot be an exception; frozen: {', '.join(freeze.site)}",
                        *(*path, "site"),
                    )
            for position in exception.position or ():
                if not _covers(freeze.position, position):
                    scope.tell(
                        f"position {position} is not frozen, so it cannot be an exception; "
                        f"frozen: {', '.join(freeze.position)}",
                        *(*path, "position"),
                    )


def _covers(frozen: Sequence[str], position: str) -> bool:
    whole_name = is_entity_position(position) and "entity.all" in frozen
    # which token an index is, is not known before there are tokens
    return position in frozen or "all" in frozen or whole_name or not position[-1].isalpha()


def check_weights(scope: Scope) -> None:
    """What is written into the weights acts everywhere, and only there is anything to save."""
    for name, spec in scope.experiment.interventions.items():
        for n, edit in enumerate(spec.edit):
            path = ("interventions", name, "edit", n)
            if edit.in_ == "weights":
                if edit.position is not None:
                    scope.tell("an edit in the weights acts at every position; remove `position`", *path, "position")
                verb = "set" if edit.set is not None else "add" if edit.add is not None else None
                if verb is not None:
                    scope.tell(
                        "only `scale` can be written into the weights: it multiplies the neuron's output column",
                        *(*path, verb),
                        key=True,
                    )
                _check_weight_site(scope, edit, path)
            if edit.scale is not None and all(value == 1 for value in sweep_values(edit.scale)):
                scope.tell("scale: 1 changes nothing", *path, "scale")
        if spec.save_model is not None and all(edit.in_ != "weights" for edit in spec.edit):
            scope.tell(
                "there is nothing to save: the edit is in the activations; add `in: weights`",
                *("interventions", name, "save_model"),
            )
        elif spec.save_model is not None:
            _check_one_model(scope, name, spec)


def _check_weight_site(scope: Scope, edit: Edit, path: Path) -> None:
    """Only the input of a projection has a column of weights for each neuron."""
    field = "neurons" if edit.neurons is not None else "outside"
    neurons = scope.neurons(getattr(edit, field), *path, field) if getattr(edit, field) is not None else None
    if neurons is None:
        return
    sites = [site for ranking, _ in neurons.rankings for site in scope.experiment.localize[ranking].site or ()]
    sites += [address.site for address in neurons.addresses]
    other = next((site for site in sites if site not in WEIGHT_SITES), None)
    if other is not None:
        scope.tell(
            f"a neuron of {other} has no output column that could be multiplied; "
            f"in the weights are edits of {' and '.join(WEIGHT_SITES)}",
            *(*path, field),
        )


def _check_one_model(scope: Scope, name: str, spec: Intervention) -> None:
    """What is saved is one model: one owner, one factor, one name that a folder may have."""
    place: Path = ("interventions", name, "save_model")
    groups, sweeps = groups_of(scope, name), sweeps_of(scope, name)
    several = [f"{len(values)} values of {axis}" for axis, values in (sweeps or {}).items() if len(values) > 1]
    if groups is not None and len(groups) > 1:
        several.insert(0, f"{len(groups)} owners ({', '.join(groups)})")
    if several:
        scope.tell(f"one model is saved, and this edit makes one for each of {' and '.join(several)}", *place)
    if spec.save_model is not None and not re.fullmatch(r"[\w][\w.-]*", spec.save_model):
        scope.tell(f"'{spec.save_model}' cannot be the name of a folder; use letters, digits, '.', '-' and '_'", *place)


def check_sweeps(scope: Scope) -> None:
    """A sweep runs each of its values once."""
    for name in scope.experiment.interventions:
        for edit, neurons, path in edited(scope, name):
            for field in ("scale", "set", "add"):
                value = getattr(edit, field)
                if isinstance(value, Times):
                    _check_twice(scope, value.times, (*path, field, "times"))
                else:
                    _check_twice(scope, value, (*path, field))
            for axis, values in neurons.axes.items() if neurons is not None else ():
                place = (*path, "neurons" if edit.neurons is not None else "outside")
                _check_twice(scope, list(values), place, f"`{axis}`")


def _check_twice(scope: Scope, values: object, path: Path, what: str = "this sweep") -> None:
    if not isinstance(values, list):
        return
    for n, value in enumerate(values):
        if value in values[:n]:
            shown = value if isinstance(value, str) else number_text(value)
            scope.tell(f"{shown} stands twice in {what}", *path, *([] if what != "this sweep" else [n]))


def check_vectors(scope: Scope) -> None:
    """A vector is at one place, its prompts have the token, and somebody's answers should change."""
    experiment = scope.experiment
    for name, vector in experiment.vectors.items():
        path: Path = ("vectors", name)
        if vector.from_ is not None:
            if not FilePath(vector.from_).is_file():
                scope.tell(f"there is no file '{vector.from_}'", *path, "from")
                continue
            try:
                place_of(experiment, name)
            except RunError as error:
                scope.tell(f"{error.cause}; {error.remedy}", *path, "from")
        position = vector.position if vector.position and is_entity_position(vector.position) else None
        for field in ("mean", "minus"):
            ref = getattr(vector, field)
            found = scope.prompts(ref, *path, field) if ref is not None else None
            if found is not None and found.about is False and position is not None:
                scope.tell(_about_nobody(position, found.name), *path, field)
        if vector.learn is not None:
            _check_learn(scope, vector.learn, path)
    for name, spec in experiment.interventions.items():
        about = any(found is not None and found.about for found, _ in asked_of(scope, name))
        for n, edit in enumerate(spec.edit):
            added = experiment.vectors.get(edit.add) if isinstance(edit.add, str) else None
            nobody = added is not None and added.learn is None
            if nobody and spec.target is None and about and all(e.neurons is None for e in spec.edit):
                scope.tell(
                    "a vector that was not learned for a fact belongs to nobody, so `target` must say whose answers "
                    "should change",
                    *("interventions", name, "edit", n, "add"),
                )


def _check_learn(scope: Scope, learn: Learn, path: Path) -> None:
    if not learn.weights.get("attack"):
        scope.tell("nothing would be learned: give `attack` a weight above 0", *path, "learn", "weights")
    relation, _, entity = learn.fact.partition("/")
    known = scope.experiment.relations.get(relation)
    if known is not None and learn.becomes in known.answers.get(entity, []):
        scope.tell(f"'{learn.becomes}' is the answer of {learn.fact} already", *path, "learn", "becomes")


CHECKS = (
    check_addresses,
    check_thresholds,
    check_positions,
    check_means,
    check_freezes,
    check_weights,
    check_vectors,
    check_sweeps,
)
