"""From the scores of an intervention's job to rows of the long table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from runner.bind import BoundPrompt
from runner.execute import Outcome
from runner.measures import measured, text_lengths
from runner.observe import AnswerScore, Asked, Observation, Row
from runner.plan import AnswerSlot, AskStage, PlannedRow
from runner.plan import Reading as PlannedReading
from runner.tree import common_prefix
from specs.language.conditions import holds
from specs.language.experiment import Condition
from specs.language.facts import PromptText

__all__ = ["PromptNumbers", "known_rule", "meets", "observation_of", "rows_of", "shared_tokens"]

KNOWN = Condition(quantity="pass@5", op="=", value=1.0)
"""A question is known when every token of its answer is among the five most probable, unless the spec says else."""


Rules = Condition | Mapping[PromptText, Condition | None] | None
"""By what questions count as known: one rule for all, or that of each."""
PromptNumbers = dict[tuple[PromptText, str], int]
"""(question, stranger who is asked about in its place): the number of the prompt."""


def rows_of(
    stage: AskStage,
    outcome: Outcome,
    tokenizer: Any,
    rule: Rules,
    numbers: PromptNumbers | None = None,
    purpose: Literal["score", "tune"] = "score",
) -> list[Row]:
    """Read a stage's rows out of the scores of its job; each carries its measures and what they compare with.

    ``rule``: what the clean model must meet for a question to be known (``pass@5 = 1``), None for any question; or the
    rule of each question, where the sets that are asked have different ones.
    ``numbers``: those of prompts that another part of the intervention has asked; new ones are added. ``purpose``: what
    the questions are asked for.
    """
    shared = shared_tokens([*stage.candidates, *(row.question for row in stage.rows)])
    lengths = text_lengths(stage.spec.measure)
    seen: dict[tuple[PlannedReading, BoundPrompt], Observation] = {}

    def observe(reading: PlannedReading, question: BoundPrompt) -> Observation:
        key = (reading, question)
        if key not in seen:
            seen[key] = observation_of(reading, question, outcome, shared, tokenizer, lengths)
        return seen[key]

    numbers = {} if numbers is None else numbers
    known: dict[BoundPrompt, bool | None] = {}
    rows: list[Row] = []
    for planned in stage.rows:
        clean = observe(planned.clean, planned.question)
        if planned.question not in known:
            before, seen_before = planned.question, clean
            if planned.former is not None:
                before, seen_before = planned.former[0], observe(planned.former[1], planned.former[0])
            own = rule[before.text] if isinstance(rule, Mapping) else rule
            known[planned.question] = _known(before, seen_before, own)
        row = Row(
            asked=_asked(stage, planned, numbers, purpose),
            observation=observe(planned.reading, planned.question),
            clean=clean,
            unknown=tuple(observe(reading, planned.question) for reading in planned.unknown),
            known=known[planned.question],
        )
        rows.append(measured(row, stage.spec.measure))
    return rows


def _asked(stage: AskStage, planned: PlannedRow, numbers: PromptNumbers, purpose: Literal["score", "tune"]) -> Asked:
    text, question = planned.prompt.text, planned.question.text
    # The unit is the question, whatever placeholder it is asked with; strangers are people of their own.
    stranger = text.text if planned.role == "unknown" else ""
    number = numbers.setdefault((question, stranger), len(numbers))
    return Asked(
        intervention=stage.name,
        edited=planned.edited,
        condition=planned.condition,
        draw=planned.draw,
        role=planned.role,
        axes={} if stage.tuning is not None else dict(planned.axes),
        prompt_id=number,
        prompt=text.text,
        entity=question.entity,
        variant=question.variant,
        relation=question.relation,
        phrasing=question.phrasing,
        language=question.language,
        template=question.template,
        part=question.part,
        answers=question.answers,
        columns=question.columns,
        purpose=purpose,
        tuned=dict(planned.axes) if stage.tuning is not None else {},
    )


def observation_of(
    reading: PlannedReading,
    question: BoundPrompt,
    outcome: Outcome,
    shared: Mapping[tuple[str | None, str | None, str], int],
    tokenizer: Any,
    lengths: frozenset[int] = frozenset(),
) -> Observation:
    """Read what the model did on a question out of the scores of its job. ``lengths``: of texts that are wanted."""
    given = len(question.text.given or "")

    def scored(slot: AnswerSlot) -> AnswerScore:
        good = outcome.finite[slot.sequence]
        return AnswerScore(
            slot.text[given:],
            tuple(min(0.0, float(v)) for v in outcome.logps[slot.sequence][slot.start : slot.stop])
            if good
            else (0.0,) * (slot.stop - slot.start),
            tuple(max(1, int(v)) for v in outcome.ranks[slot.sequence][slot.start : slot.stop]),
            shared.get((question.text.relation, question.text.language, slot.text), 0),
        )

    answers, rivals = ([scored(slot) for slot in slots] for slots in (reading.answers, reading.rivals))
    finite = all(outcome.finite[slot.sequence] for slot in (*reading.answers, *reading.rivals))
    tokens = None
    if reading.tokens is not None:
        own = reading.tokens
        finite = finite and outcome.finite[own.sequence]
        tokens = tuple(min(0.0, float(v)) for v in outcome.logps[own.sequence][own.start : own.stop])
    generated = None if reading.text is None else outcome.generated.get(reading.text)
    if generated is None:
        return Observation(tuple(answers), finite=finite, rivals=tuple(rivals), tokens=tokens)
    return Observation(
        tuple(answers),
        generated,
        decode(tokenizer, generated),
        finite,
        {n: decode(tokenizer, generated[:n]) for n in lengths},
        tuple(rivals),
        tokens,
    )


def decode(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Give tokens as text, spaces as the model made them."""
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _known(question: BoundPrompt, clean: Observation, rule: Condition | None) -> bool | None:
    """Ask of the clean run on the real name what the rule asks; None where any question will do, or none is asked."""
    return None if rule is None or not question.answers else meets(question, clean, rule)


def meets(question: BoundPrompt, clean: Observation, rule: Condition) -> bool:
    """Say whether what the clean model did on a question meets a rule (``accuracy@2 = 1``)."""
    own = Row(
        asked=Asked("", "", "clean", 0, "target", {}, 0, question.text.text),
        observation=clean,
        clean=clean,
    )
    return holds(rule, measured(own, [rule.quantity]).values[rule.quantity])


def shared_tokens(questions: Sequence[BoundPrompt]) -> dict[tuple[str | None, str | None, str], int]:
    """Count, for each answer of a relation in a language, the leading tokens another entity's answer begins with."""
    Candidates = dict[tuple[str | None, str], tuple[int, ...]]
    candidates: dict[tuple[str | None, str | None], Candidates] = {}
    for question in questions:
        for answer in question.answers:
            own = candidates.setdefault((question.text.relation, question.text.language), {})
            own[(question.text.entity, answer.text)] = answer.tokens
    shared: dict[tuple[str | None, str | None, str], int] = {}
    for (relation, language), answers in candidates.items():
        for (entity, text), tokens in answers.items():
            longest = 0
            for (other, other_text), other_tokens in answers.items():
                if other == entity or other_text == text:
                    continue
                longest = max(longest, common_prefix(tokens, other_tokens))
            shared[(relation, language, text)] = max(longest, shared.get((relation, language, text), 0))
    return shared


def known_rule(known: Condition | str | None) -> Condition | None:
    """Give the condition by which questions count as known: pass@5 unless the prompt set says otherwise."""
    if known is None:
        return KNOWN
    return known if isinstance(known, Condition) else None
