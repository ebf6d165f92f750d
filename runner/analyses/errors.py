"""``errors``: what is said instead of the answer?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from runner.analyses.protocol import Findings
from runner.analyses.rows import rows_of
from runner.measures import parse
from runner.measures.text import begins_with
from runner.observe import Row
from runner.summaries import other_forms
from specs.language.conditions import number_text
from specs.language.errors import RunError
from specs.language.errors_of_answers import OTHER, RIGHT, SHIPPED
from specs.language.experiment import Analysis as AnalysisSpec
from specs.language.experiment import Experiment
from specs.language.patterns import LONGEST, compiled
from specs.language.results import AnalysisResult, ErrorExample

__all__ = ["EVERYTHING", "errors", "kind_of"]

EVERYTHING = "all relations"
EXAMPLES = 3
"""Texts of each class and condition that are listed, as different as can be."""
RUN = 5
"""Words in a row by which a text repeats its prompt."""
OPTION = re.compile(r"\(?[A-Za-z][.):](?=\s|$)")
ARTICLE = re.compile(r"(?:the|an?)\b", re.IGNORECASE)
WORD = re.compile(r"\w+")
Answers = Mapping[str, Sequence[str]]
"""Relation: all answers that anybody has to it."""


def errors(name: str, spec: AnalysisSpec, found: Findings) -> AnalysisResult:
    """Sort the texts of an intervention, of an owner's own questions, into classes, for each relation and condition.

    A text that begins with an accepted answer, as words, is ``right``. A wrong one falls into the first class that
    fits: those of ``classes``, in their order, whose pattern is found in the text (leading space taken off, its first
    160 characters), then the shipped ones (:data:`specs.language.errors_of_answers.SHIPPED`). Shares are of all
    questions, so those of a row add up to 1. Questions that the clean model does not know are left out. Figures:
    ``<condition>/<class>``, over all relations and values of a sweep, and ``<condition>/<relation>/<class>``. Source:
    error analysis, arXiv 2502.17355.
    """
    assert spec.errors is not None
    rows = rows_of(name, spec.errors, found)
    lengths = {n: w for w in found.experiment.interventions[spec.errors].measure if (n := _length(w)) is not None}
    if not lengths:
        raise RunError(f"'{name}': '{spec.errors}' measures no text", remedy="add text@20 to `measure`")
    measure = lengths[max(lengths)]
    classes = spec.classes or {}
    answers = _answers(found.experiment)
    forms = other_forms(row.asked.edited for row in rows)
    swept = _swept(rows)
    counts: dict[tuple[str, str], Counter[str]] = {}
    examples: dict[tuple[str, str], dict[str, ErrorExample]] = {}
    kinds: dict[tuple[str, str, tuple[str, ...]], str] = {}
    for row, text in _texts(rows, measure):
        asked = row.asked
        if asked.role != "target" or asked.edited in forms:
            continue
        key = (asked.prompt, text, asked.answers)
        if key not in kinds:
            kinds[key] = kind_of(text, asked.prompt, asked.relation, asked.answers, answers, classes)
        condition, relation = _condition(row, swept), asked.relation or ""
        for where in dict.fromkeys((relation, EVERYTHING)):
            counts.setdefault((condition, where), Counter())[kinds[key]] += 1
        listed = examples.setdefault((condition, kinds[key]), {})
        if kinds[key] != RIGHT and text not in listed and len(listed) < EXAMPLES:
            listed[text] = ErrorExample(
                kind=kinds[key],
                condition=condition,
                relation=asked.relation,
                prompt=asked.prompt,
                text=text,
                answers=list(asked.answers),
            )
    if not counts:
        raise RunError(f"'{name}': no own question of '{spec.errors}' that is known has a text")
    named = [RIGHT, *classes, *SHIPPED]
    seen = {kind for counter in counts.values() for kind in counter}
    # A shipped class that no text falls into has no column; the spec's own always have one.
    kept = [kind for kind in named if kind in seen or kind in classes or kind == RIGHT]
    order = sorted(
        counts, key=lambda key: (key[1] == EVERYTHING, list(dict.fromkeys(k[1] for k in counts)).index(key[1]))
    )
    table: list[list[str | float | int | bool | None]] = []
    figures: dict[str, float] = {}
    for condition, relation in order:
        counter = counts[condition, relation]
        n = counter.total()
        table.append([relation, condition, n, *(counter[kind] / n for kind in kept)])
        prefix = condition if relation == EVERYTHING else f"{condition}/{relation}"
        figures |= {f"{prefix}/{kind}": counter[kind] / n for kind in kept}
    return AnalysisResult(
        name=name,
        verb="errors",
        of=spec.errors,
        columns=["relation", "condition", "n", *kept],
        rows=table,
        sentence=_sentence(counts, kept),
        figures=figures,
        examples=[example for listed in examples.values() for example in listed.values()],
    )


def _length(measure: str) -> int | None:
    """Give the number of tokens of a measure that is a text."""
    taken, n = parse(measure)
    return n if taken.unit == "text" else None


def _texts(rows: Sequence[Row], measure: str) -> Iterator[tuple[Row, str]]:
    """Give each different text of a known question with its row; of a control, the draws that were generated."""
    for row in rows:
        text = row.values.get(measure)
        if row.known is not False and isinstance(text, str) and row.asked.answers:
            yield row, text


def _swept(rows: Sequence[Row]) -> frozenset[str]:
    """Name the sweeps that pass through several values."""
    found: dict[str, set[float | str]] = {}
    for row in rows:
        for axis, value in row.asked.axes.items():
            found.setdefault(axis, set()).add(value)
    return frozenset(axis for axis, values in found.items() if len(values) > 1)


def _condition(row: Row, swept: frozenset[str]) -> str:
    """Name a condition with the values of its sweeps."""
    at = [(axis, value) for axis, value in row.asked.axes.items() if axis in swept]
    axes = ", ".join(f"{axis} {value if isinstance(value, str) else number_text(value)}" for axis, value in at)
    return f"{row.asked.condition} ({axes})" if axes else row.asked.condition


def _answers(experiment: Experiment) -> Answers:
    """List the answers of each relation, in all its languages."""
    found: dict[str, list[str]] = {}
    for name, relation in experiment.relations.items():
        known = [*relation.answers.values(), *(a for t in relation.translations.values() for a in t.answers.values())]
        found[name] = list(dict.fromkeys(text for texts in known for text in texts))
    return found


def kind_of(
    text: str,
    prompt: str,
    relation: str | None,
    accepted: Sequence[str],
    answers: Answers,
    classes: Mapping[str, str],
) -> str:
    """Name the class of a text: ``right``, one of ``classes`` (name: pattern), or a shipped one."""
    said = text.strip()
    if begins_with(said, accepted):
        return RIGHT
    for name, pattern in classes.items():
        if compiled(pattern).search(said[:LONGEST]):
            return name
    if not said:
        return "empty"
    if OPTION.match(said):
        return "option"
    if begins_with(said, answers.get(relation or "", ())):
        return "same relation"
    if any(begins_with(said, others) for name, others in answers.items() if name != relation):
        return "another relation"
    if ARTICLE.match(said):
        return "article"
    return "repeats" if _repeats(said, prompt) else OTHER


def _repeats(text: str, prompt: str) -> bool:
    """Tell whether a text holds a run of words of its prompt, in any case and with any marks between them."""
    said, asked = (tuple(WORD.findall(part.casefold())) for part in (text, prompt))
    size = min(RUN, len(asked))
    if not size:
        return False
    runs = {asked[n : n + size] for n in range(len(asked) - size + 1)}
    return any(said[n : n + size] in runs for n in range(len(said) - size + 1))


def _sentence(counts: Mapping[tuple[str, str], Counter[str]], kept: Sequence[str]) -> str:
    """Say how often the answer is missing under each condition, and what stands there most often."""
    parts = []
    for (condition, relation), counter in counts.items():
        if relation != EVERYTHING:
            continue
        n, wrong = counter.total(), counter.total() - counter[RIGHT]
        text = f"{condition.replace('_', ' ')} {wrong} of {n}"
        if wrong:
            most = max((kind for kind in kept if kind != RIGHT), key=lambda kind: counter[kind])
            text += f", most often “{most}” ({counter[most]})"
        parts.append(text)
    return f"Wrong are: {'; '.join(parts)}."
