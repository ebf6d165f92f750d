"""Prompts and answers: templates that can be filled, answers that can be scored, parts that add up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from specs.language import templates
from specs.language.experiment import Chat, Relation, Split, Translation
from specs.language.facts import column, missing, unnamed
from specs.language.meaning.naming import Path
from specs.language.meaning.scope import Scope

__all__ = ["CHECKS", "stands_in"]


def check_templates(scope: Scope) -> None:
    """Only the entity may stand in a template, the prompt in a frame, and neither in a text about nobody."""
    for name, relation in scope.experiment.relations.items():
        for body, path in _bodies(relation, ("relations", name)):
            for problem in templates.check(body):
                scope.tell(_not_a_question(problem), *path)
    for name, spec in scope.experiment.prompts.items():
        for n, body in enumerate(spec.templates if isinstance(spec.templates, list) else []):
            for problem in templates.check(body):
                scope.tell(problem, "prompts", name, "templates", n)
        for n, body in enumerate(spec.texts if isinstance(spec.texts, list) else []):
            if re.search(r"\{\{\s*entity\s*\}\}", body):
                scope.tell(
                    "{{ entity }} in a text about nobody: a text about an entity goes under `templates:`",
                    *("prompts", name, "texts", n),
                )
        if spec.wrap is not None:
            for problem in templates.check(spec.wrap, "prompt"):
                scope.tell(problem, "prompts", name, "wrap")


def _not_a_question(problem: str) -> str:
    """Say of a question what is said of a template."""
    if problem.startswith("no {{ entity }}"):
        return "no {{ entity }} in this template: the same question would be asked about everybody"
    return problem


def _bodies(relation: Relation, path: Path) -> Iterator[tuple[str, Path]]:
    yield from _own_bodies(relation, path)
    for language, translation in relation.translations.items():
        yield from _own_bodies(translation, (*path, "translations", language))


def _own_bodies(said: Relation | Translation, path: Path) -> Iterator[tuple[str, Path]]:
    """Give the questions of a relation in its own language, or of one translation."""
    for n, body in enumerate(said.prompt):
        yield body, (*path, "prompt", n)
    for label, bodies in said.phrasings.items():
        for n, body in enumerate(bodies):
            yield body, (*path, "phrasings", label, n)


def check_answers(scope: Scope) -> None:
    """Answers are given, are not told by the question, and begin as `given` says."""
    for name, relation in scope.experiment.relations.items():
        path: Path = ("relations", name)
        for entity, answers in relation.answers.items():
            for n, answer in enumerate(answers):
                place = (*path, "answers", entity, n)
                if _is_text(scope, answer, entity, place) and relation.given is not None:
                    _check_given(scope, answer, relation.given, place)
        for language, translation in relation.translations.items():
            for entity, answers in translation.answers.items():
                for n, answer in enumerate(answers):
                    _is_text(scope, answer, entity, (*path, "translations", language, "answers", entity, n))
        if relation.given is not None and not relation.given.strip():
            scope.tell("`given` is empty; leave it out, and the whole answer is scored", *path, "given")
        _check_told(scope, relation, path, None)
        for language, translation in relation.translations.items():
            _check_told(scope, translation, (*path, "translations", language), language)


def _is_text(scope: Scope, answer: str, entity: str, place: Path) -> bool:
    if not answer.strip():
        scope.tell(f"the answer for '{entity}' is empty", *place)
        return False
    if answer != answer.strip():
        scope.tell(
            f"the answer '{answer}' begins or ends with a space; the joining space is the runner's business",
            *place,
        )
        return False
    return True


def _check_given(scope: Scope, answer: str, given: str, place: Path) -> None:
    if not given.strip():
        return
    if not answer.startswith(given):
        scope.tell(f"the answer '{answer}' does not begin with the given '{given}'", *place)
    elif answer == given:
        scope.tell(f"nothing of the answer '{answer}' is left to score after the given '{given}'", *place)


def _check_told(scope: Scope, relation: Relation | Translation, path: Path, language: str | None) -> None:
    """Refuse an answer that the question tells, except a choice between all the answers there are."""
    bodies = [body for body, _ in _own_bodies(relation, path) if not templates.check(body)]
    texts = [" ".join(re.sub(r"\{\{.*?\}\}", "\0", body).split()) for body in bodies]
    told = [
        (entity, n, answer, any(stands_in(answer, text) for text in texts))
        for entity, answers in relation.answers.items()
        for n, answer in enumerate(answers)
        if answer.strip()
    ]
    distinct = {answer for _, _, answer, _ in told}
    if len(distinct) > 1 and all(is_told for *_, is_told in told):
        return
    for entity, n, answer, is_told in told:
        place = (*path, "answers", entity, n)
        if is_told:
            scope.tell(f"the answer '{answer}' stands in the prompt itself", *place)
            continue
        known = scope.experiment.entities.get(entity)
        name = "" if known is None else known.variants.get(language or "", [known.name])[0]
        if stands_in(answer, name):
            scope.warn(f"the answer '{answer}' stands in the name it is asked about, '{name}'", *place)


def stands_in(answer: str, text: str) -> bool:
    """Say whether an answer stands in a text as whole words."""
    before = r"(?<!\w)" if re.match(r"\w", answer) else ""
    after = r"(?!\w)" if re.search(r"\w$", answer) else ""
    return re.search(before + re.escape(answer) + after, text, re.IGNORECASE) is not None


def check_parts(scope: Scope) -> None:
    """Shares of a split do not exceed the set."""
    for name, spec in scope.experiment.prompts.items():
        sizes = spec.split.into.values() if spec.split is not None else ()
        total = sum(size for size in sizes if not isinstance(size, str) and size < 1)
        if total > 1 + 1e-9:
            scope.tell(f"the parts add up to {total:g} of the set", "prompts", name, "split", "into")
        elif spec.split is not None:
            _check_sizes(scope, name, spec.split)


def _check_sizes(scope: Scope, name: str, split: Split) -> None:
    """Refuse a part that is empty or cannot be referred to; say where one is smaller than it was asked to be."""
    for part in split.into:
        if not part.strip() or re.search("[/=]", part):
            message = f"'{part}' cannot be the name of a part: a reference to it is {name}/PART, without / and = in it"
            scope.tell(message, "prompts", name, "split", "into", part, key=True)
    found = scope.prompts(name, "prompts", name)
    if found is None or not found.texts:
        return
    counts: dict[tuple[str, object], set[tuple[str | None, str | None]]] = {}
    values: dict[object, None] = {}
    for text in found.texts:
        value = None if split.per is None else column(text, split.per)
        values[value] = None
        fact = (text.relation, text.entity) if text.relation is not None else (text.text, None)
        counts.setdefault((text.part or "", value), set()).add(fact)
    for part, size in split.into.items():
        path = ("prompts", name, "split", "into", part)
        if not any(counts.get((part, value)) for value in values):
            scope.tell(f"no prompt is left for the part '{part}'", *path, key=True)
        elif not isinstance(size, str) and size >= 1:
            short = {v: n for v in values if (n := len(counts.get((part, v), ()))) < size}
            if short:
                where = ", ".join(
                    f"{n} of {split.per} {v}" if split.per else str(n) for v, n in list(short.items())[:4]
                )
                more = f" and {len(short) - 4} more" if len(short) > 4 else ""
                scope.warn(f"the part '{part}' was to hold {size:g} and holds {where}{more}", *path, key=True)


def check_chats(scope: Scope) -> None:
    """An intervention asks no text both in a chat and out of it, or in two chats: its rows could not be told apart."""
    for name, spec in scope.experiment.interventions.items():
        chats: dict[str, Chat | None] = {}
        for n, asked in enumerate(spec.ask):
            found = scope.prompts(asked, "interventions", name, "ask", n)
            texts = (found.texts or ()) if found is not None else ()
            twice = next((text for text in texts if chats.setdefault(text.text, text.chat) != text.chat), None)
            if twice is not None:
                message = (
                    f"'{twice.text}' is asked in two chats, or in a chat and without one; ask in two interventions"
                )
                scope.tell(message, "interventions", name, "ask", n)


MOST_NAMED = 4


def check_wordings(scope: Scope) -> None:
    """Say what a set asks for in a phrasing or a language that it has not; refuse a set of which nothing is left."""
    for name, spec in scope.experiment.prompts.items():
        found = scope.prompts(name, "prompts", name)
        if found is None or found.texts is None or (spec.language is None and spec.phrasing is None):
            continue
        field = "language" if spec.language is not None else "phrasing"
        lacking = missing(scope.experiment, name)
        listed = [f"{item.what}: {item.reason}" for item in lacking[:MOST_NAMED]]
        listed += [f"and {len(lacking) - MOST_NAMED} more"] if len(lacking) > MOST_NAMED else []
        if lacking and not found.texts:
            scope.tell(f"nothing of this set can be asked: {'; '.join(listed)}", "prompts", name, field)
        elif lacking:
            scope.warn(f"left out of this set: {'; '.join(listed)}", "prompts", name, field)
        for language, entities in unnamed(scope.experiment, name).items():
            n = len(entities)
            more = f" and {n - MOST_NAMED} more" if n > MOST_NAMED else ""
            who = f"{', '.join(entities[:MOST_NAMED])}{more}"
            write = f"the usual name is asked about; another is given as `variants: {{{language}: NAME}}`"
            scope.warn(f"no name in '{language}' is given for {who}: {write}", "prompts", name, "language")


def check_known(scope: Scope) -> None:
    """Only questions with answers can be known."""
    for name, spec in scope.experiment.prompts.items():
        found = scope.prompts(name, "prompts", name)
        if spec.known is not None and spec.known != "any" and found is not None and found.answers is False:
            scope.tell("these prompts have no answers, so nothing can be known", "prompts", name, "known")


def check_strangers(scope: Scope) -> None:
    """A name that stands for nobody is no answer either."""
    experiment = scope.experiment
    for name, spec in experiment.interventions.items():
        for field in ("unknown", "placeholder"):
            ref = getattr(spec, field)
            names = None if ref is None else scope.placeholders(ref, "interventions", name, field)
            for text in names or ():
                if not text.strip():
                    scope.tell("this name is empty", "interventions", name, field)
                    continue
                found = _answered_by(scope, spec.ask, text)
                if found is None:
                    continue
                relation, answer = found
                what = f"'{text}' is among the {ref if isinstance(ref, str) else 'names'}"
                same = answer.casefold() == text.casefold()
                and_is = "also an answer" if same else f"holds the answer '{answer}'"
                scope.tell(
                    f"{what} and {and_is} of '{relation}'; leave it out of `{field}`",
                    *("interventions", name, field),
                )


def _answered_by(scope: Scope, ask: Sequence[str], text: str) -> tuple[str, str] | None:
    """Find an asked relation one of whose answers is, or stands in, a name."""
    for asked in ask:
        base = asked.partition("/")[0]
        if base not in scope.set_names():
            continue
        found = scope.prompts(base, "interventions")
        for prompt in found.texts or () if found is not None else ():
            for answer in prompt.answers:
                if answer.strip() and prompt.relation is not None and stands_in(answer, text):
                    return prompt.relation, answer
    return None


def check_wording(scope: Scope) -> None:
    """Say where a result rests on one wording: all that is asked, or the relation that is claimed about."""
    experiment = scope.experiment
    claimed = [claim.quantity.split("/") for e in experiment.expect for claim in e.claims]
    for name, spec in experiment.interventions.items():
        wordings: dict[str, set[tuple[str | None, str | None, str | None]]] = {}
        for asked in spec.ask:
            base = asked.partition("/")[0]
            found = scope.prompts(base, "interventions") if base in scope.set_names() else None
            for prompt in found.texts or () if found is not None else ():
                if prompt.relation is not None:
                    wording = (prompt.phrasing, prompt.language, prompt.template)
                    wordings.setdefault(prompt.relation, set()).add(wording)
        for relation, used in wordings.items():
            by_itself = any(c[0] == name and f"relation={relation}" in c for c in claimed)
            if len(used) == 1 and (len(wordings) == 1 or by_itself):
                scope.warn(
                    f"the questions of '{relation}' have one template; a result that rests on it says "
                    "nothing about the wording",
                    *("relations", relation),
                    key=True,
                )


CHECKS = (
    check_templates,
    check_answers,
    check_parts,
    check_chats,
    check_wordings,
    check_known,
    check_strangers,
    check_wording,
)
