"""What is right by always saying the same: the most frequent answer of each relation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from runner.observe import Row
from specs.language.results import MajorityAnswer

__all__ = ["majority_answers"]


def majority_answers(rows: Sequence[Row]) -> list[MajorityAnswer]:
    """Give for each relation the answer that is right for most of its questions, and for which share of them.

    Counted over the different questions of the clean run that are scored and known, so that the share stands beside the
    whole-answer accuracy of the same questions. Where several answers of a question are accepted, each of them counts.
    Of answers that are as frequent the first in the alphabet is taken.
    """
    counts: dict[str, Counter[str]] = {}
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
            counts.setdefault(asked.relation, Counter()).update(dict.fromkeys(asked.answers, 1))
    found = []
    for relation, counter in counts.items():
        n = len(questions[relation])
        answer = min(counter, key=lambda text: (-counter[text], text))
        found.append(MajorityAnswer(relation=relation, answer=answer, n=n, share=counter[answer] / n))
    return found
