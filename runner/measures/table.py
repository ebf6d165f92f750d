"""Every measure that can be run, in one table, and how the language writes them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import get_args

from runner.measures.accuracy import Accuracy
from runner.measures.answer_probability import AnswerProbability
from runner.measures.answer_rank import AnswerRank
from runner.measures.knowledge_loss import KnowledgeLoss
from runner.measures.knowledge_loss_clipped import KnowledgeLossClipped
from runner.measures.knowledge_score import KnowledgeScore
from runner.measures.logit_difference import LogitDifference
from runner.measures.pass_at import PassAt
from runner.measures.perplexity import Perplexity, RelativePerplexity
from runner.measures.protocol import Input, Measure
from runner.measures.relative_probability import RelativeProbability
from runner.measures.text import Text
from runner.observe import Row
from specs.language import words
from specs.language.errors import Problem, SpecError

__all__ = ["MEASURES", "NOT_BUILT", "generated_tokens", "measured", "needs", "parse", "text_lengths"]

MEASURES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        AnswerProbability(),
        RelativeProbability(),
        KnowledgeScore(),
        KnowledgeLoss(),
        KnowledgeLossClipped(),
        AnswerRank(),
        PassAt(),
        Accuracy(),
        LogitDifference(),
        Perplexity(),
        RelativePerplexity(),
        Text(),
    )
}
NOT_BUILT: Mapping[str, str] = {
    "accuracy_drop": "it is a ratio of two means, not a property of a question",
    "faithfulness": "it needs the patch twin",
    "kl": "it needs the whole distribution",
}
"""Words of the language that no measure answers yet, and what is missing."""


def parse(word: str) -> tuple[Measure, int | None]:
    """Split a measure as written: ``pass@5`` -> (pass, 5), ``accuracy`` -> (accuracy, None).

    Raises SpecError for an unknown word, one that is not built yet, and a number that is missing or out of
    place.
    """
    name, at, number = word.partition("@")
    if name in NOT_BUILT:
        raise _wrong(f"'{name}' is not built yet: {NOT_BUILT[name]}")
    if name not in MEASURES:
        near = difflib.get_close_matches(name, get_args(words.Measure), n=1)
        raise _wrong(f"'{name}' is not a measure" + (f"; did you mean '{near[0]}'?" if near else ""))
    measure = MEASURES[name]
    if not at:
        if measure.number == "required":
            raise _wrong(f"'{name}' needs a number: `{name}@{12 if name == 'text' else 5}`")
        return measure, None
    if measure.number == "none":
        raise _wrong(f"'{name}' takes no number; write `{name}`")
    if not (number.isascii() and number.isdigit() and int(number) >= 1):
        raise _wrong(f"'{word}': the number after @ is a whole number from 1, such as `{name}@5`")
    return measure, int(number)


def _wrong(message: str) -> SpecError:
    return SpecError([Problem(message, path="measure", level="meaning")])


def needs(measures: Iterable[str]) -> frozenset[Input]:
    """Collect what these measures read of a row."""
    return frozenset().union(*(parse(word)[0].needs for word in measures))


def text_lengths(measures: Iterable[str]) -> frozenset[int]:
    """Collect the lengths, in tokens, at which the generated text is wanted."""
    parsed = (parse(word) for word in measures)
    return frozenset(n for measure, n in parsed if "generated" in measure.needs and n is not None)


def generated_tokens(measures: Iterable[str]) -> int:
    """Count the greedy tokens these measures need: 0 if nothing has to be generated."""
    return max(text_lengths(measures), default=0)


def measured(row: Row, measures: Sequence[str]) -> Row:
    """Give the row with the value of every measure, and with the reason where there is none."""
    values: dict[str, float | str | None] = {}
    reasons: dict[str, str] = {}
    for word in measures:
        measure, n = parse(word)
        values[word], reason = measure.value(row, n)
        if values[word] is None:
            reasons[word] = reason
    return replace(row, values=values, reasons=reasons)
