"""What is right by always saying the same: the most frequent answer of each relation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from runner.observe import Row
from specs.language.facts import DEFAULT_LANGUAGE
from specs.language.results import MajorityAnswer

__all__ = ["majority_answers"]


def majority_answers(rows: Sequence[Row]) -> list[MajorityAnswer]:
    """Give for each relation the answer that is right for most of its questions, and for which share of them.

    Counted over the different questions of the clean run that are scored and known, so that the share stands beside the
    whole-answer accuracy of the same questions. Where several answers of a question are accepted, each of them counts.
    Of answers that are as frequent the first in the alphabet is taken. Where a relation is asked in several languages,
    that is done for each of them, and the share is that of their answers together.
    """
    counts: dict[str, dict[str, Counter[str]]] = {}
    questions: dict[str, set[int]] = {}
    for row in rows:
        asked = row.asked
        if asked.condition != "clean" or asked.role == "unknown" or asked.purpose != "score" or row.known is False:
            continue
        if asked.relation is None or not asked.answers:
            continue
        seen = questions.setdefault(asked.relation, set())
        if asked.prompt_id not in seen:
            seen.add(asked.prompt_id)
            by_language = counts.setdefault(asked.relation, {})
            counter = by_language.setdefault(asked.language or DEFAULT_LANGUAGE, Counter())
            counter.update(dict.fromkeys(asked.answers, 1))
    found = []
    for relation, by_language in counts.items():
        n = len(questions[relation])
        usual = [min((-right, text) for text, right in counter.items()) for counter in by_language.values()]
        answer = " / ".join(dict.fromkeys(text for _, text in usual))
        found.append(MajorityAnswer(relation=relation, answer=answer, n=n, share=-sum(k for k, _ in usual) / n))
    return found
