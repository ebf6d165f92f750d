"""Which questions of a prompt set the clean model answers, asked by clean passes before a ranking is made of them.

An intervention asks its own questions in the clean model anyway and leaves out what is not known. A ranking has no
answers to look at, so the questions that it is made of are asked by themselves first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from runner.ask import meets, observation_of, shared_tokens
from runner.bind import Binder, BoundPrompt, Unbound
from runner.plan import AnswerSlot, KnownStage, Reading
from runner.program import Job, TokenSequence
from specs.language.conditions import text as condition_text
from specs.language.experiment import Condition, Experiment
from specs.language.facts import PromptText, known_of, prompt_set, questions_in
from specs.language.needs import needed
from specs.language.results import LeftOut, PromptCounts, PromptSetCounts

if TYPE_CHECKING:
    from runner.execute import Outcome
    from runner.model import Machine
    from runner.run_types import Reporter
    from specs.language.results import Stage

__all__ = ["KnownTexts", "counts_of", "known_texts", "plan_known", "questions_known"]

KnownTexts = Mapping[str, frozenset[PromptText]]
"""Prompt set: its prompts that the clean model answers."""


def plan_known(experiment: Experiment, names: Iterable[str], binder: Binder) -> tuple[KnownStage, ...]:
    """Plan the clean passes of the prompt sets that ask for known questions by a rule of their own."""
    stages = []
    for name in dict.fromkeys(names):
        rule = known_of(experiment, name)
        if isinstance(rule, Condition):
            stages.append(_known_stage(experiment, name, rule, binder))
    return tuple(stages)


def _known_stage(experiment: Experiment, name: str, rule: Condition, binder: Binder) -> KnownStage:
    sequences: list[TokenSequence] = []
    questions: list[BoundPrompt] = []
    readings: list[Reading] = []
    texts = prompt_set(experiment, name)
    for text in texts:
        bound = binder.bind(text)
        if isinstance(bound, Unbound) or not bound.answers:
            continue  # the ranking says why
        slots = []
        last = len(bound.ids) - 1
        for answer in bound.answers:
            scored = tuple((last + k, token) for k, token in enumerate(answer.tokens))
            slots.append(AnswerSlot(answer.text, len(sequences), 0, len(scored)))
            sequences.append(TokenSequence(len(questions), bound.ids + answer.tokens[:-1], score=scored))
        questions.append(bound)
        readings.append(Reading(tuple(slots)))
    asked = dict.fromkeys((text.relation, text.language) for text in texts)
    every = (t for relation, code in asked if relation is not None for t in questions_in(experiment, relation, code))
    candidates = tuple(b for text in every if isinstance(b := binder.bind(text), BoundPrompt))
    return KnownStage(name, rule, Job(tuple(sequences)), tuple(questions), tuple(readings), candidates)


def known_texts(
    machine: Machine, stage: KnownStage, reporter: Reporter
) -> tuple[frozenset[PromptText], tuple[LeftOut, ...], Stage]:
    """Ask the questions of a set in the clean model; give those it answers, what is left out, and what was spent."""
    from runner.stages import questions_stage

    outcome, record = questions_stage(machine, f"known: {stage.name}", stage.job, _no_condition, reporter)
    known, left_out = questions_known(stage, outcome, machine.tokenizer)
    return known, left_out, record


def _no_condition(condition: Hashable) -> NoReturn:
    raise AssertionError(f"a clean pass has no condition: {condition}")


def questions_known(
    stage: KnownStage, outcome: Outcome, tokenizer: Any
) -> tuple[frozenset[PromptText], tuple[LeftOut, ...]]:
    """Judge the questions of a set by its rule from the scores of their answers."""
    shared = shared_tokens([*stage.candidates, *stage.questions])
    known: list[PromptText] = []
    left_out: list[LeftOut] = []
    for question, reading in zip(stage.questions, stage.readings, strict=True):
        seen = observation_of(reading, question, outcome, shared, tokenizer)
        text = question.text
        if meets(question, seen, stage.rule):
            known.append(text)
            continue
        rank = min(max(answer.ranks) for answer in seen.answers)
        reason = f"the clean model does not know the answer (rank {rank:,} where its worst token is best)"
        what = f'{text.relation}/{text.entity}, "{text.text}"' if text.relation is not None else text.text
        left_out.append(LeftOut(what=what, reason=reason, where=f"prompts.{stage.name}"))
    return frozenset(known), tuple(left_out)


def counts_of(experiment: Experiment, known: KnownTexts) -> dict[str, PromptSetCounts]:
    """Count the questions of every prompt set that is run, relation by relation: facts, parts, and what is known."""
    wanted = needed(experiment)
    found: dict[str, PromptSetCounts] = {}
    for name, spec in experiment.prompts.items():
        if ("prompts", name) not in wanted:
            continue
        texts = [text for text in prompt_set(experiment, name) if text.relation is not None]
        if not texts:
            continue
        judged = {set_name: texts for set_name, texts in known.items() if set_name.partition("/")[0] == name}
        kept = judged.get(name)
        rule = known_of(experiment, name)
        found[name] = PromptSetCounts(
            of=spec.of,
            known_rule="" if rule is None else rule if isinstance(rule, str) else condition_text(rule),
            parts=[] if spec.split is None else list(spec.split.into),
            relations=[_relation_counts(r, texts, kept) for r in dict.fromkeys(t.relation for t in texts)],
        )
        for set_name, some in judged.items():
            if set_name != name:
                part = [text for text in texts if text.part == set_name.partition("/")[2]]
                found[set_name] = _part_counts(found[name], name, part, some)
    return found


def _part_counts(
    whole: PromptSetCounts, of: str, texts: list[PromptText], kept: frozenset[PromptText]
) -> PromptSetCounts:
    """Give the counts of one part of a set."""
    relations = [_relation_counts(r, texts, kept) for r in dict.fromkeys(t.relation for t in texts)]
    return whole.model_copy(update={"of": of, "parts": [], "relations": relations})


def _relation_counts(relation: str | None, texts: list[PromptText], kept: frozenset[PromptText] | None) -> PromptCounts:
    own = [text for text in texts if text.relation == relation]
    parts: dict[str, set[str | None]] = {}
    for text in own:
        if text.part is not None:
            parts.setdefault(text.part, set()).add(text.entity)
    return PromptCounts(
        relation=relation or "",
        prompts=len(own),
        facts=len({text.entity for text in own}),
        answers=len({text.answers for text in own}),
        parts={part: len(entities) for part, entities in parts.items()},
        known=None if kept is None else sum(text in kept for text in own),
        known_facts=None if kept is None else len({text.entity for text in own if text in kept}),
    )
