"""Patch twins: prompts that can have them, and what cannot be asked of pairs, which are about nobody."""

from __future__ import annotations

from specs.language.facts import other_answers
from specs.language.meaning.scope import Scope
from specs.language.meaning.sweeps import asked_of

__all__ = ["CHECKS"]


def check_twins(scope: Scope) -> None:
    """A twin differs in an entity, a form of its name or a language, and pairs bring their own."""
    for name, spec in scope.experiment.prompts.items():
        if spec.patch is None:
            continue
        path = ("prompts", name, "patch")
        found = scope.prompts(name, "prompts", name)
        if spec.pairs is not None:
            scope.tell("pairs bring their own twins; remove `patch`", *path)
        elif found is not None and found.about is False:
            scope.tell(f"`patch: {spec.patch}` needs prompts about an entity; '{name}' are texts about nobody", *path)
        elif found is not None and found.texts and all(text.twin is None for text in found.texts):
            why = {
                "entity": "nobody else is asked the same and has another answer to it",
                "variant": "no entity has another form of its name",
                "language": "no question has an answer in another language",
            }[spec.patch]
            scope.tell(f"there is no patch twin: {why}", *path)
        elif found is not None and (lost := sum(text.twin is None for text in found.texts or ())):
            scope.warn(f"{lost} of {len(found.texts or ())} prompts of '{name}' have no patch twin", *path)


def check_nameless(scope: Scope) -> None:
    """Where no asked prompt holds a name, none can be put in its place."""
    for name, spec in scope.experiment.interventions.items():
        asked = asked_of(scope, name)
        pairs = [(found, path) for found, path in asked if found is not None and not found.about and found.answers]
        for found, path in pairs if spec.placeholder is not None else ():
            scope.tell(
                f"'{found.name}' are about nobody, so there is no name that a placeholder could stand for", *path
            )
        if not pairs or any(found is None or found.about for found, _ in asked):
            continue
        if "knowledge_score" in spec.measure:
            scope.tell(
                "knowledge_score needs a name in the prompt that a stranger's can stand for, and none of the asked "
                f"prompts has one ({', '.join(spec.ask)}); measure answer_probability",
                *("interventions", name, "measure" if "measure" in spec.model_fields_set else "ask"),
            )


def check_rivals(scope: Scope) -> None:
    """A difference between two answers needs twins that have another one."""
    for name, spec in scope.experiment.interventions.items():
        if "logit_difference" not in spec.measure:
            continue
        asked = asked_of(scope, name)
        if any(found is None or found.texts is None for found, _ in asked):
            continue
        if not any(
            text.twin is not None and other_answers(text, text.twin)
            for found, _ in asked
            if found
            for text in found.texts or ()
        ):
            scope.tell(
                "logit_difference is the prompt's answer against that of its patch twin, and none of the asked prompts "
                f"has a twin with another answer ({', '.join(spec.ask)}); use `pairs:` or `patch: entity`",
                *("interventions", name, "measure", spec.measure.index("logit_difference")),
            )


CHECKS = (check_twins, check_nameless, check_rivals)
