"""Expand an experiment into prompts: relations, templates, texts times entities, names, wordings, languages.

Everything here is text; tokens come later. Draws depend on the seed and on what is drawn from, not on order,
so that adding an entity or a template does not reshuffle the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeGuard, TypeVar

from specs.language.conditions import holds
from specs.language.errors import RunError
from specs.language.experiment import (
    Chat,
    Condition,
    Each,
    EntityFilter,
    Experiment,
    Intervention,
    NeuronSet,
    NeuronsRef,
    PlaceholderFile,
    PromptSet,
    Relation,
    Translation,
)
from specs.language.parts import Item, parts_of
from specs.language.records import LeftOut
from specs.language.scalars import suggest
from specs.language.shipped import PLACEHOLDERS, TEMPLATES, TEXTS, read_list, shipped_list
from specs.language.templates import Span, frame, render, substitute
from specs.language.words import Role

__all__ = [
    "ANYBODY",
    "COLUMNS",
    "PAIR",
    "PromptText",
    "choose_entities",
    "column",
    "entities_of",
    "kind_of",
    "known_of",
    "languages_of",
    "missing",
    "named_in",
    "other_answers",
    "owner_key",
    "owner_keys",
    "owners",
    "placeholder_names",
    "prompt_set",
    "questions_in",
    "rankings_of",
    "relations_of",
    "role_of",
    "unnamed",
    "with_name",
]

COLUMNS = ("entity", "variant", "relation", "phrasing", "language", "template", "part")
"""Columns of every prompt; attributes of the entity and of the fact are further ones."""
ANYBODY = "all"
"""The owner of the one ranking of `by: []`."""
DEFAULT_LANGUAGE = "en"
"""What `language: en` means where a relation has no translation of that name: its own prompt."""
MOST_OTHERS = 12
DRAWN_OTHERS = 10

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class PromptText:
    """A prompt as text: who it is about, where the name stands in it, and the answers that count.

    ``spans``: first character of each mention of ``entity_name`` and the one after its last. ``entity`` is
    the id whose question it is; ``entity_name`` is what stands in the text, another name after
    :func:`with_name`. ``template`` is the index, as text, of the wording among those of its kind. ``columns``
    holds the attributes of the entity and, of a question, those of the fact. With a ``chat``, ``text`` is what the
    user says in it.
    """

    text: str
    entity: str | None = None
    entity_name: str | None = None
    spans: tuple[Span, ...] = ()
    relation: str | None = None
    variant: str | None = None
    phrasing: str | None = None
    language: str | None = None
    template: str | None = None
    part: str | None = None
    answers: tuple[str, ...] = ()
    given: str | None = None
    columns: dict[str, str | float] = field(default_factory=dict, hash=False)
    chat: Chat | None = None
    twin: PromptText | None = None
    """The patch twin: the same prompt with another entity, form of the name or language, or the other of a pair."""


def column(prompt: PromptText, name: str) -> str | float | None:
    """Give the value of a column of a prompt (`prompt` is its text); None where it has none."""
    if name in ("prompt", "text"):
        return prompt.text
    if name in COLUMNS:
        value: str | None = getattr(prompt, name, None)
        return value
    return prompt.columns.get(name)


def with_name(prompt: PromptText, name: str) -> PromptText:
    """Give the same prompt about another name: a placeholder, a stranger, a dummy.

    Everything but the text, the spans and ``entity_name`` stays. Raises ValueError for a text about nobody.
    """
    if not prompt.spans:
        raise ValueError(f'"{prompt.text}" is about nobody, so no name can be put into it')
    text, spans = substitute(prompt.text, prompt.spans, name)
    return replace(prompt, text=text, spans=spans, entity_name=name)


def other_answers(prompt: PromptText, twin: PromptText) -> tuple[str, ...]:
    """Give the answers of a twin that are not right for a prompt itself, whatever their case."""
    own = {answer.casefold() for answer in prompt.answers}
    return tuple(answer for answer in twin.answers if answer.casefold() not in own)


def placeholder_names(experiment: Experiment, ref: str | Sequence[str]) -> tuple[str, ...]:
    """Give the names a reference to placeholders stands for; a list stands for itself.

    Raises RunError for a name that is not a list of placeholders.
    """
    if not isinstance(ref, str):
        return tuple(ref)
    if ref in experiment.placeholders:
        found = experiment.placeholders[ref]
        return tuple(read_list(found.from_)) if isinstance(found, PlaceholderFile) else tuple(found)
    if ref in PLACEHOLDERS:
        return shipped_list(ref)
    raise RunError(f"'{ref}' is not a list of placeholders; to use the text itself write [{ref}]")


def named_in(experiment: Experiment, text: str) -> str | None:
    """Give an entity one of whose names is a text or stands in it as whole words; None if there is none."""
    words = f" {text.casefold()} "
    for entity, described in experiment.entities.items():
        names = (described.name, *(form for forms in described.variants.values() for form in forms))
        if any(f" {name.casefold().strip()} " in words for name in names if name.strip()):
            return entity
    return None


# -- prompt sets


@dataclass(frozen=True)
class _Wording:
    """A prompt before it is rendered: a template, and what is put into it."""

    body: str
    template: int
    entity: str | None = None
    name: str | None = None
    relation: str | None = None
    variant: str | None = None
    phrasing: str | None = None
    language: str | None = None
    answers: tuple[str, ...] = ()
    given: str | None = None
    frames: tuple[str, ...] = ()
    part: str | None = None
    chat: Chat | bool | None = None
    """As in the prompt set; None for the model's."""
    twin: _Wording | None = None
    """Its patch twin, rendered in the same frames and chat."""
    columns: tuple[tuple[str, str], ...] = ()
    """Of a pair: what else is said of it."""


def prompt_set(experiment: Experiment, name: str) -> tuple[PromptText, ...]:
    """Expand a prompt set: `facts`, `attributes`, `generic`, a relation's name, or one of `prompts:`.

    A product first, then `where`, `unique` and `limit`, then parts; `questions/tune` is one of them. `known` is not
    applied: it needs the model. Raises RunError for a name that is not a prompt set and for what is not built yet.
    """
    return tuple(_render(experiment, wording) for wording in _wordings(experiment, name, ()))


def _wordings(experiment: Experiment, name: str, within: tuple[str, ...]) -> list[_Wording]:
    if experiment.data:
        raise RunError(
            f"the tables of `data:` ({', '.join(experiment.data)}) were not read: load the spec from its file"
        )
    if name in within:
        raise RunError(f"prompt set '{name}' is derived from itself")
    if name in experiment.prompts:
        return _own_set(experiment, name, experiment.prompts[name], (*within, name))
    if name in experiment.relations:
        return _questions(experiment, [name], PromptSet(relations=[name]))
    if name == "facts":
        return _questions(experiment, list(experiment.relations), PromptSet(relations="all"))
    if name in TEMPLATES:
        return _about_entities(experiment, shipped_list(name), PromptSet(templates=name))
    if name in TEXTS:
        return _about_nobody(shipped_list(name))
    base, slash, part = name.partition("/")
    if slash and base in experiment.prompts:
        split = experiment.prompts[base].split
        if split is None or part not in split.into:
            raise RunError(f"prompt set '{base}' has no part '{part}'")
        return [wording for wording in _wordings(experiment, base, within) if wording.part == part]
    known = [*experiment.prompts, *experiment.relations, "facts", *TEMPLATES, *TEXTS]
    raise RunError(f"'{name}' is not a prompt set{suggest(name, known)}")


def _own_set(experiment: Experiment, name: str, spec: PromptSet, within: tuple[str, ...]) -> list[_Wording]:
    if spec.of is not None:
        found = _derived(experiment, spec, _wordings(experiment, spec.of, within))
    elif spec.relations is not None:
        relations = list(experiment.relations) if spec.relations == "all" else list(spec.relations)
        found = _questions(experiment, relations, spec)
    elif spec.templates is not None:
        found = _about_entities(experiment, _texts(spec.templates, TEMPLATES), spec)
    elif spec.texts is not None:
        found = _about_nobody(_texts(spec.texts, TEXTS))
    else:
        found = _pairs(spec.pairs)
    patch = _patch_of(experiment, spec)
    if patch is not None:
        found = _with_twins(experiment, patch, found, anew=spec.patch is not None)
    if spec.wrap is not None:
        found = [replace(wording, frames=(*wording.frames, spec.wrap)) for wording in found]
    if spec.chat is not None:
        found = [replace(wording, chat=spec.chat) for wording in found]
    if not spec.where and spec.unique is None and spec.limit is None:
        return _in_parts(experiment, name, spec, found)
    rendered = [(wording, _render(experiment, wording)) for wording in found]
    rendered = [pair for pair in rendered if _meets(pair[1], spec.where)]
    if spec.unique is not None:
        first: dict[Any, tuple[_Wording, PromptText]] = {}
        for pair in rendered:
            first.setdefault(column(pair[1], spec.unique), pair)
        rendered = list(first.values())
    if spec.limit is not None:
        rendered = _sample(experiment, name, spec, rendered)
    return _in_parts(experiment, name, spec, [wording for wording, _ in rendered])


PAIR = ("clean", "patch", "answer", "patch_answer")
"""What a pair holds; its other keys are columns."""


def _pairs(pairs: str | list[dict[str, str]] | None) -> list[_Wording]:
    """Give the clean prompts of pairs with their twins; raises RunError for a file that was not read."""
    if not isinstance(pairs, list):
        raise RunError(f"the pairs of '{pairs}' were not read: load the spec from its file")
    found = []
    for number, pair in enumerate(pairs):
        columns = tuple((k, v) for k, v in pair.items() if k not in PAIR)
        twin = _Wording(pair["patch"], number, answers=tuple(a for a in (pair.get("patch_answer"),) if a is not None))
        answers = tuple(a for a in (pair.get("answer"),) if a is not None)
        found.append(_Wording(pair["clean"], number, answers=answers, twin=twin, columns=columns))
    return found


def _patch_of(experiment: Experiment, spec: PromptSet) -> str | None:
    """Say what the twins of a set differ in: its own `patch:`, else that of the set it is derived from."""
    seen: set[str] = set()
    while spec.patch is None and spec.of is not None and spec.of.partition("/")[0] in experiment.prompts:
        base = spec.of.partition("/")[0]
        if base in seen:
            break
        seen.add(base)
        spec = experiment.prompts[base]
    return spec.patch


def _with_twins(experiment: Experiment, patch: str, found: list[_Wording], *, anew: bool) -> list[_Wording]:
    """Draw the patch twin of every prompt about an entity; a prompt for which there is none stays without.

    Drawn by a hash of the seed and of what is replaced, so that an entity has the same twin in all its prompts where
    that has an answer of its own to them. Without ``anew`` twins that are there stay, as in a set derived from another.
    """
    entities = list(dict.fromkeys(w.entity for w in found if w.entity is not None))
    chosen: dict[Hashable, str | None] = {}

    def twin(w: _Wording) -> _Wording | None:
        assert w.entity is not None
        if patch == "entity":
            key = (w.relation, w.entity, w.variant, w.language, w.answers)
            if key not in chosen:
                own = {answer.casefold() for answer in w.answers}
                others = [
                    e
                    for e in entities
                    if e != w.entity
                    and _form(experiment, e, w) not in (None, w.name)
                    and (not w.answers or ((said := _twin_answers(experiment, e, w)) and not own & said))
                ]
                chosen[key] = next(iter(draw(others, 1, experiment.seed, "patch", w.entity)), None)
            entity = chosen[key]
            if entity is None:
                return None
            answers = _answers(experiment.relations[w.relation], entity, w.language) if w.relation else ()
            return replace(w, entity=entity, name=_form(experiment, entity, w), answers=answers)
        if patch == "variant":
            forms = [f for f in _names(experiment, w.entity, "all", w.language) if f[1] != w.name]
            for label, form in draw(forms, 1, experiment.seed, "patch", w.entity, w.variant):
                return replace(w, variant=label, name=form)
            return None
        return _in_another_language(experiment, w)

    return [replace(w, twin=twin(w)) if w.entity is not None and (anew or w.twin is None) else w for w in found]


def _form(experiment: Experiment, entity: str, like: _Wording) -> str | None:
    """Give an entity's name in the form and the language of a prompt; None where it has no such form."""
    forms = _names(experiment, entity, [like.variant] if like.variant else None, like.language)
    return forms[0][1] if forms else None


def _twin_answers(experiment: Experiment, entity: str, like: _Wording) -> set[str]:
    assert like.relation is not None
    return {a.casefold() for a in _answers(experiment.relations[like.relation], entity, like.language)}


def _in_another_language(experiment: Experiment, w: _Wording) -> _Wording | None:
    """Give the same question in another language that has it in as many wordings."""
    if w.relation is None or w.entity is None:
        return None
    relation, own = experiment.relations[w.relation], w.language or DEFAULT_LANGUAGE
    languages = [
        code
        for code in languages_of(experiment, [w.relation])
        if code != own
        and _lacks(relation, w.entity, w.phrasing, code) is None
        and w.template < len(_bodies(relation, w.phrasing, code))
    ]
    for code in draw(languages, 1, experiment.seed, "patch", w.relation, w.entity):
        return replace(
            w,
            body=_bodies(relation, w.phrasing, code)[w.template],
            name=_names(experiment, w.entity, None, code)[0][1],
            variant=None,
            language=code,
            answers=_answers(relation, w.entity, code),
        )
    return None


def _in_parts(experiment: Experiment, name: str, spec: PromptSet, found: list[_Wording]) -> list[_Wording]:
    """Say of each wording in which part it is; the wordings of a fact stay together."""
    if spec.split is None:
        return found
    per, disjoint = spec.split.per, spec.split.disjoint
    items = []
    for wording in found:
        prompt = _render(experiment, wording)
        if wording.relation is not None:
            fact: tuple[str | None, ...] = (wording.relation, wording.entity)
        else:
            fact = (wording.body, wording.entity)
        apart = None if disjoint is None else (column(prompt, disjoint),)
        items.append(Item(fact, None if per is None else column(prompt, per), apart))
    parts = parts_of(items, spec.split, experiment.seed, name)
    return [replace(wording, part=parts[item]) for wording, item in zip(found, items, strict=True)]


def known_of(experiment: Experiment, name: str) -> Condition | Literal["any"] | None:
    """Give what the clean model must meet for a set's prompts to count: its own rule, else that of its base."""
    name = name.partition("/")[0]
    seen: set[str] = set()
    while name in experiment.prompts and name not in seen:
        seen.add(name)
        spec = experiment.prompts[name]
        if spec.known is not None or spec.of is None:
            return spec.known  # type: ignore[return-value]
        name = spec.of.partition("/")[0]
    return None


def _texts(ref: str | list[str], shipped: Sequence[str]) -> Sequence[str]:
    if not isinstance(ref, str):
        return ref
    return shipped_list(ref) if ref in shipped else read_list(ref)


def _meets(prompt: PromptText, conditions: Iterable[Condition]) -> bool:
    return all(holds(condition, column(prompt, condition.quantity)) for condition in conditions)


def _sample(
    experiment: Experiment, name: str, spec: PromptSet, pairs: list[tuple[_Wording, PromptText]]
) -> list[tuple[_Wording, PromptText]]:
    assert spec.limit is not None
    groups: dict[Any, list[tuple[_Wording, PromptText]]] = {}
    for pair in pairs:
        groups.setdefault(column(pair[1], spec.per) if spec.per is not None else None, []).append(pair)
    chosen = {
        key
        for value, members in groups.items()
        for key in draw([_fact_key(p) for _, p in members], spec.limit, experiment.seed, "limit", name, value)
    }
    return [pair for pair in pairs if _fact_key(pair[1]) in chosen]


def _fact_key(prompt: PromptText) -> tuple[str, str | None, str | None]:
    return prompt.text, prompt.relation, prompt.entity


def draw(items: Sequence[T], number: int, *seed: object) -> list[T]:
    """Draw ``number`` of the items, or all if there are no more; the order of ``items`` is kept.

    Items are ranked by a hash of the seed and of themselves: what is drawn does not depend on their order,
    and one item more displaces at most one.
    """
    if len(items) <= number:
        return list(items)
    ranked = sorted(items, key=lambda item: hashlib.sha256(repr((*seed, item)).encode()).digest())
    chosen = set(ranked[:number])
    return [item for item in items if item in chosen]


def _questions(experiment: Experiment, relations: Sequence[str], spec: PromptSet) -> list[_Wording]:
    entities = choose_entities(experiment, spec.entities)
    return [
        wording
        for relation in relations
        for entity in entities
        for wording in _one_question(experiment, relation, entity, spec)
    ]


def _axis(labels: list[str] | None) -> list[str | None]:
    """Give the labels of an axis; one without a label where the set does not ask for any."""
    return [None] if labels is None else [*labels]


def _one_question(experiment: Experiment, name: str, entity: str, spec: PromptSet) -> Iterator[_Wording]:
    """Give the wordings of one fact: names, phrasings and languages as the set asks for them."""
    relation = experiment.relations[name]
    for language in _axis(spec.language):
        answers = _answers(relation, entity, language)
        for phrasing in _axis(spec.phrasing):
            if _lacks(relation, entity, phrasing, language):
                continue  # listed by `missing`
            bodies = _bodies(relation, phrasing, language)
            for variant, form in _names(experiment, entity, spec.variants, language):
                for number, body in enumerate(bodies):
                    yield _Wording(
                        body, number, entity, form, name, variant, phrasing, language, answers, relation.given
                    )


def _in_language(relation: Relation, language: str | None) -> Relation | Translation | None:
    """Give what holds the prompts and answers of a language: a translation, or the relation itself; None for none."""
    if language in relation.translations:
        return relation.translations[language or ""]
    return relation if language in (None, DEFAULT_LANGUAGE) else None


def _answers(relation: Relation, entity: str, language: str | None) -> tuple[str, ...]:
    said = _in_language(relation, language)
    return () if said is None else tuple(said.answers.get(entity, ()))


def _bodies(relation: Relation, phrasing: str | None, language: str | None) -> Sequence[str]:
    """Give the prompts of a phrasing and a language; none where the relation has them not."""
    said = _in_language(relation, language)
    if said is None:
        return []
    return said.prompt if phrasing is None else said.phrasings.get(phrasing, [])


def _lacks(relation: Relation, entity: str, phrasing: str | None, language: str | None) -> tuple[str, bool] | None:
    """Say why a fact cannot be asked in a wording, and whether that holds for the whole relation; None if it can."""
    into = "" if language is None else f" into '{language}'"
    if _in_language(relation, language) is None:
        return f"there is no translation{into}", True
    if not _bodies(relation, phrasing, language):
        return f"there is no phrasing '{phrasing}'" + ("" if language is None else f" in '{language}'"), True
    if not _answers(relation, entity, language):
        return "there is no answer" + ("" if language is None else f" in '{language}'"), False
    return None


def languages_of(experiment: Experiment, relations: Iterable[str] | None = None) -> tuple[str, ...]:
    """List the languages that questions can be asked in: that of their own prompts, and the translations'."""
    chosen = experiment.relations if relations is None else relations
    found = (code for name in chosen for code in experiment.relations[name].translations)
    return tuple(dict.fromkeys((DEFAULT_LANGUAGE, *found)))


def questions_in(experiment: Experiment, relation: str, language: str | None) -> tuple[PromptText, ...]:
    """Give every question of a relation in one language; None for its own."""
    spec = PromptSet(relations=[relation], language=None if language is None else [language])
    return tuple(_render(experiment, wording) for wording in _questions(experiment, [relation], spec))


def missing(experiment: Experiment, name: str) -> tuple[LeftOut, ...]:
    """List what a prompt set asks for and has not: relations and facts without a translation, phrasings without words.

    Facts are those that have an answer in some language; a relation that lacks a wording as a whole is one entry.
    """
    spec = experiment.prompts.get(name)
    if spec is None or (spec.language is None and spec.phrasing is None):
        return ()
    where = f"prompts.{name}"
    counts: dict[tuple[str, str], int] = {}
    single: dict[tuple[str, str], None] = {}
    for relation, entity, phrasings, languages in _wanted(experiment, spec):
        for language in languages:
            for phrasing in phrasings:
                lack = _lacks(experiment.relations[relation], entity, phrasing, language)
                if lack is not None and lack[1]:
                    counts[relation, lack[0]] = counts.get((relation, lack[0]), 0) + 1
                elif lack is not None:
                    single[f"{relation}/{entity}", lack[0]] = None
    whole = [
        LeftOut(what=f"{relation} ({number} {'fact' if number == 1 else 'facts'})", reason=reason, where=where)
        for (relation, reason), number in counts.items()
    ]
    return (*whole, *(LeftOut(what=what, reason=reason, where=where) for what, reason in single))


def _wanted(
    experiment: Experiment, spec: PromptSet
) -> Iterator[tuple[str, str, Sequence[str | None], Sequence[str | None]]]:
    """List the facts of a set with the phrasings and languages in which they are asked for."""
    if spec.of is None:
        relations = list(experiment.relations) if spec.relations == "all" else list(spec.relations or ())
        for relation in relations:
            described = experiment.relations[relation]
            answered = {*described.answers, *(e for t in described.translations.values() for e in t.answers)}
            for entity in choose_entities(experiment, spec.entities):
                if entity in answered:
                    yield relation, entity, _axis(spec.phrasing), _axis(spec.language)
        return
    seen: dict[tuple[str, str, str | None, str | None], None] = {}
    chosen = None if spec.entities == "all" else set(choose_entities(experiment, spec.entities))
    for w in _wordings(experiment, spec.of, ()):
        if w.relation is not None and w.entity is not None and (chosen is None or w.entity in chosen):
            seen[w.relation, w.entity, w.phrasing, w.language] = None
    for relation, entity, phrasing, language in seen:
        yield relation, entity, spec.phrasing or [phrasing], spec.language or [language]


def unnamed(experiment: Experiment, name: str) -> dict[str, list[str]]:
    """List, for each language of a prompt set, the entities that are asked in it under their own name for want of one.

    Language: entities. Not the language of the relations' own prompts.
    """
    found: dict[str, dict[str, None]] = {}
    for prompt in prompt_set(experiment, name):
        if prompt.entity is None or prompt.language in (None, DEFAULT_LANGUAGE):
            continue
        if prompt.language not in experiment.entities[prompt.entity].variants:
            found.setdefault(prompt.language or "", {})[prompt.entity] = None
    return {language: list(entities) for language, entities in found.items()}


def _names(
    experiment: Experiment, entity: str, variants: str | list[str] | None, language: str | None
) -> list[tuple[str | None, str]]:
    """List the forms of a name that are asked for: (label, form); the name itself has no label."""
    described = experiment.entities[entity]
    own = described.variants.get(language, [described.name])[0] if language else described.name
    forms = [(label, form) for label, texts in described.variants.items() for form in texts]
    if variants is None:
        return [(None, own)]
    if variants == "all":
        return [(None, own), *forms]
    return [(label, form) for label, form in forms if label in variants]


def _about_entities(experiment: Experiment, templates: Sequence[str], spec: PromptSet) -> list[_Wording]:
    return [
        _Wording(body, number, entity, form, variant=variant, language=language)
        for entity in choose_entities(experiment, spec.entities)
        for language in _axis(spec.language)
        for variant, form in _names(experiment, entity, spec.variants, language)
        for number, body in enumerate(templates)
    ]


def _about_nobody(texts: Sequence[str]) -> list[_Wording]:
    return [_Wording(body, number) for number, body in enumerate(texts)]


def _derived(experiment: Experiment, spec: PromptSet, base: list[_Wording]) -> list[_Wording]:
    """Derive from a set: fewer entities, and the same facts in other names, wordings or languages."""
    entities = None if spec.entities == "all" else set(choose_entities(experiment, spec.entities))
    kept = [w for w in base if entities is None or w.entity in entities]
    if spec.variants is None and spec.phrasing is None and spec.language is None:
        return kept
    found: dict[_Wording, None] = {}
    for wording in kept:
        if wording.entity is None:
            found[wording] = None
            continue
        axes = PromptSet(
            of=spec.of,
            phrasing=spec.phrasing or ([wording.phrasing] if wording.phrasing else None),
            language=spec.language or ([wording.language] if wording.language else None),
            variants=spec.variants if spec.variants is not None else [wording.variant] if wording.variant else None,
        )
        if wording.relation is not None:
            again = list(_one_question(experiment, wording.relation, wording.entity, axes))
            if spec.phrasing is None and spec.language is None:
                again = [w for w in again if w.template == wording.template]
        else:
            again = [
                replace(wording, name=form, variant=variant, language=language)
                for language in _axis(axes.language)
                for variant, form in _names(experiment, wording.entity, axes.variants, language)
            ]
        for w in again:
            found[replace(w, frames=wording.frames, part=wording.part, chat=wording.chat, twin=None)] = None
    return list(found)


def choose_entities(experiment: Experiment, choice: str | list[str] | EntityFilter) -> list[str]:
    """List the entities of a choice: `all`, names, or {where, order, limit}."""
    if choice == "all":
        return list(experiment.entities)
    if not isinstance(choice, EntityFilter):
        return list(choice)
    chosen = [
        name
        for name in experiment.entities
        if all(holds(c, _attribute(experiment, name, c.quantity)) for c in choice.where)
    ]
    if choice.order is not None:
        key = choice.order.removeprefix("-")
        absent = [name for name in chosen if _attribute(experiment, name, key) is None]
        if absent:
            raise RunError(f"'{absent[0]}' has no '{key}' to be ordered by", remedy="add it under `attributes:`")

        def place(name: str) -> tuple[bool, float, str]:
            value = _attribute(experiment, name, key)
            return (isinstance(value, str), 0.0 if isinstance(value, str) else float(value or 0), str(value))

        chosen.sort(key=place, reverse=choice.order.startswith("-"))
    return chosen if choice.limit is None else chosen[: choice.limit]


def _attribute(experiment: Experiment, entity: str, name: str) -> str | float | None:
    return entity if name == "entity" else experiment.entities[entity].attributes.get(name)


def _render(experiment: Experiment, wording: _Wording) -> PromptText:
    spans: tuple[Span, ...] = ()
    text = wording.body
    if wording.name is not None:
        text, spans = render(wording.body, wording.name)
    for wrap in wording.frames:
        text, spans = frame(wrap, text, spans)
    twin = None
    if wording.twin is not None:
        twin = _render(
            experiment, replace(wording.twin, frames=wording.frames, chat=wording.chat, part=wording.part, twin=None)
        )
    return PromptText(
        text=text,
        entity=wording.entity,
        entity_name=wording.name,
        spans=spans,
        relation=wording.relation,
        variant=wording.variant,
        phrasing=wording.phrasing,
        language=wording.language,
        template=str(wording.template),
        part=wording.part,
        answers=wording.answers,
        given=wording.given,
        columns={**_attributes(experiment, wording.entity, wording.relation), **dict(wording.columns)},
        chat=_chat(experiment.model.chat if wording.chat is None else wording.chat),
        twin=twin,
    )


def _attributes(experiment: Experiment, entity: str | None, relation: str | None) -> dict[str, str | float]:
    """Give the attributes of an entity, and of the fact where there is one."""
    if entity is None:
        return {}
    of_facts = experiment.relations[relation].attributes if relation is not None else {}
    own = {name: values[entity] for name, values in of_facts.items() if entity in values}
    return {**experiment.entities[entity].attributes, **own}


def _chat(chat: Chat | bool) -> Chat | None:
    """Give the chat that a field turns on: `true` is the template as it is."""
    if isinstance(chat, bool):
        return Chat() if chat else None
    return chat


# -- owners, targets, others


def owner_key(prompt: PromptText, by: Sequence[str]) -> str | None:
    """Give the key of the ranking a prompt belongs to: `trump`, `trump/surname`; `all` for `by: []`.

    The canonical name form leaves its part out. None for a prompt that lacks one of the other columns.
    """
    parts: list[str] = []
    for name in by:
        value = column(prompt, name)
        if value is None and name != "variant":
            return None
        if value is not None:
            parts.append(str(int(value)) if isinstance(value, float) and value == int(value) else str(value))
    return "/".join(parts) or ANYBODY


def owners(experiment: Experiment, localize_name: str) -> tuple[str, ...]:
    """List the groups of a ranking, in the order of the prompts: one ranking is made for each."""
    spec = experiment.localize[localize_name]
    by = spec.by if spec.by is not None else ["entity"]
    if not by:
        return (ANYBODY,)
    return owner_keys(prompt_set(experiment, spec.prompts or "attributes"), by)


def owner_keys(prompts: Iterable[PromptText], by: Sequence[str]) -> tuple[str, ...]:
    """List the keys of the rankings that prompts are for, each once, in their order."""
    keys = (owner_key(prompt, by) for prompt in prompts)
    return tuple(dict.fromkeys(key for key in keys if key is not None))


def entities_of(experiment: Experiment, owner: str) -> tuple[str, ...]:
    """List the entities an owner's neurons belong to: of `trump/surname` trump, of `trump+obama` both.

    Empty for neurons that belong to nobody: a relation's, an address.
    """
    found: list[str] = []
    for part in [owner] if owner in experiment.entities else owner.split("+"):
        for name in (part, part.split("/")[0]):
            if name in experiment.entities:
                found.append(name)
                break
    return tuple(dict.fromkeys(found))


def relations_of(experiment: Experiment, owner: str) -> tuple[str, ...]:
    """List the relations an owner's neurons serve: of `father` father, of `father/de` too, of `father+mother` both.

    Empty for neurons of entities, and for those that belong to nobody.
    """
    if entities_of(experiment, owner):
        return ()
    found = (name for part in owner.split("+") for name in (part, part.split("/")[0]) if name in experiment.relations)
    return tuple(dict.fromkeys(found))


def role_of(
    experiment: Experiment, intervention: Intervention, owner: str, asked: Sequence[PromptText] | None = None
) -> Callable[[PromptText], Role | None]:
    """Give the function from an asked prompt to its role; None for a prompt that is not asked for this owner.

    Targets are whom `target:` names: an entity, a relation, a fact, or conditions on columns; else the owner, an
    entity, a relation, or all prompts of a kind where a ranking is made by an attribute. The others are those that
    `others:` names (entities or relations) or describes. Without it they are all other prompts: for neurons of an
    entity those of every other entity (10 drawn if there are more than 12), or of the same entities under another
    relation; for neurons of a relation every prompt of every other relation, for those of a kind every prompt of
    another kind. A number draws so many entities; for neurons of a relation or a kind, so many prompts of each other
    relation. Texts about nobody are asked for every owner, and so are pairs: those with answers are targets.
    ``asked``: the prompts of ``ask``, where they are expanded already.
    """
    asked = _asked(experiment, intervention) if asked is None else asked
    if all(prompt.entity is None for prompt in asked):
        return lambda prompt: "target" if prompt.answers else "texts"
    is_target = _target(experiment, intervention, owner)
    if relations_of(experiment, owner) or kind_of(experiment, intervention, owner) is not None:
        is_other = _other_relations(experiment, intervention, owner, [p for p in asked if not is_target(p)])
    else:
        is_other = _other_entities(experiment, intervention, owner, asked, is_target)

    def role(prompt: PromptText) -> Role | None:
        if prompt.entity is None:
            return "target" if prompt.answers else "texts"
        if is_target(prompt):
            return "target"
        return "others" if is_other(prompt) else None

    return role


def _other_relations(
    experiment: Experiment, intervention: Intervention, owner: str, rest: Sequence[PromptText]
) -> Callable[[PromptText], bool]:
    """Choose the others of a relation prompt by prompt: a subject may stand in several relations."""
    others = intervention.others
    if others is None:
        return lambda prompt: True
    if isinstance(others, int):
        by_relation: dict[str | None, list[PromptText]] = {}
        for prompt in rest:
            by_relation.setdefault(prompt.relation, []).append(prompt)
        chosen = {
            key
            for relation, prompts in by_relation.items()
            for key in draw([_fact_key(p) for p in prompts], others, experiment.seed, "others", owner, relation)
        }
        return lambda prompt: _fact_key(prompt) in chosen
    if not _listed(others):
        return lambda prompt: False
    names = {item for item in others if isinstance(item, str)}
    conditions = [item for item in others if isinstance(item, Condition)]
    if names:
        return lambda prompt: prompt.relation in names or prompt.entity in names
    return lambda prompt: _meets(prompt, conditions)


def _other_entities(
    experiment: Experiment,
    intervention: Intervention,
    owner: str,
    asked: Sequence[PromptText],
    is_target: Callable[[PromptText], bool],
) -> Callable[[PromptText], bool]:
    """Choose the others of an entity: whole entities, unless relations are named."""
    partly: dict[str, bool] = {}
    for prompt in asked:
        if prompt.entity is not None:
            partly[prompt.entity] = partly.get(prompt.entity, False) or not is_target(prompt)
    rest = [entity for entity, is_rest in partly.items() if is_rest]
    chosen = set(_others(experiment, intervention, owner, rest))
    named = [item for item in intervention.others if isinstance(item, str)] if _listed(intervention.others) else []
    relations = {name for name in named if name in experiment.relations}
    return lambda prompt: prompt.entity in chosen or prompt.relation in relations


def _listed(others: object) -> TypeGuard[list[str] | list[Condition]]:
    return isinstance(others, list)


def _asked(experiment: Experiment, intervention: Intervention) -> list[PromptText]:
    found: list[PromptText] = []
    for name in dict.fromkeys(intervention.ask):
        found.extend(prompt_set(experiment, name))
    return found


def _target(experiment: Experiment, intervention: Intervention, owner: str) -> Callable[[PromptText], bool]:
    target = intervention.target
    if target is None:
        vector = experiment.vectors.get(owner)
        if vector is not None and vector.learn is not None:
            relation, _, entity = vector.learn.fact.partition("/")
            return lambda prompt: prompt.relation == relation and prompt.entity == entity
        own = set(entities_of(experiment, owner))
        if own:
            return lambda prompt: prompt.entity in own
        relations = set(relations_of(experiment, owner))
        if relations:
            return lambda prompt: prompt.relation in relations
        kind = kind_of(experiment, intervention, owner)
        if kind is not None:
            return lambda prompt: owner_key(prompt, kind) == owner
        raise RunError(f"'{owner}' belongs to nobody", remedy="`target` must say whose answers should change")
    if not isinstance(target, str):
        conditions = list(target)
        return lambda prompt: _meets(prompt, conditions)
    if target in experiment.entities:
        return lambda prompt: prompt.entity == target
    if target in experiment.relations:
        return lambda prompt: prompt.relation == target
    relation, _, entity = target.partition("/")
    if relation in experiment.relations and entity in experiment.entities:
        return lambda prompt: prompt.relation == relation and prompt.entity == entity
    raise RunError(f"`target: {target}` is neither an entity, a relation nor a fact")


def kind_of(experiment: Experiment, intervention: Intervention, owner: str) -> Sequence[str] | None:
    """Give the columns by which an owner's ranking is made, where they hold an attribute: `concept`, a state.

    None for neurons of an entity, a relation or a form of a name, and for those that belong to nobody.
    """
    if entities_of(experiment, owner):
        return None
    refs = (edit.neurons or edit.outside for edit in intervention.edit)
    for name in dict.fromkeys(name for ref in refs for name, _ in rankings_of(experiment, ref)):
        by = experiment.localize[name].by or []
        if any(column not in COLUMNS for column in by) and owner in owners(experiment, name):
            return by
    return None


def rankings_of(experiment: Experiment, ref: NeuronsRef | None) -> list[tuple[str, str | None]]:
    """List the rankings that a reference to neurons goes back to, each with the one group meant, None for all."""
    if ref is None:
        return []
    if isinstance(ref, list):
        return [pair for part in ref for pair in rankings_of(experiment, part)]
    if isinstance(ref, Each):
        return [pair for part in ref.each for pair in rankings_of(experiment, part)]
    if isinstance(ref, NeuronSet):
        return rankings_of(experiment, ref.of or ref.like)
    name, _, key = ref.partition("/")
    if name in experiment.localize:
        return [(name, key or None)]
    if name in experiment.neurons:
        return [(ranking, key or group) for ranking, group in rankings_of(experiment, experiment.neurons[name])]
    return []


def _others(experiment: Experiment, intervention: Intervention, owner: str, rest: Sequence[str]) -> list[str]:
    """Choose the others among the entities that are asked and are not the target."""
    others = intervention.others
    if others == "none":
        return []
    if others is None:
        number = DRAWN_OTHERS if len(rest) > MOST_OTHERS else len(rest)
        return draw(rest, number, experiment.seed, "others", owner)
    if isinstance(others, int):
        return draw(rest, others, experiment.seed, "others", owner)
    assert not isinstance(others, str)
    names = [item for item in others if isinstance(item, str)]
    if names:
        return [name for name in rest if name in names]
    conditions = [item for item in others if isinstance(item, Condition)]
    return [name for name in rest if all(holds(c, _attribute(experiment, name, c.quantity)) for c in conditions)]
