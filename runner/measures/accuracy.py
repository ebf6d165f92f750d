"""``accuracy`` and ``accuracy@n``: whether greedy decoding says the answer."""

from __future__ import annotations

from dataclasses import dataclass

from runner.measures.protocol import NO_ANSWER, Input, NumberRule, Value
from runner.observe import AnswerScore, Row


def greedy_says(answer: AnswerScore, n: int | None) -> bool:
    """Tell whether the first n greedy tokens are the answer's first n (all of them without n).

    Read off the ranks: greedy decoding says the first n tokens exactly when each of them ranks first, given
    those before it. An answer of fewer tokens must be said whole. Tokens that somebody else's answer begins
    with decide nothing, so at least one more than those must be right, if there is one.
    """
    length = len(answer.ranks)
    needed = length if n is None else min(length, max(n, answer.shared + 1))
    return all(rank == 1 for rank in answer.ranks[:needed])


@dataclass(frozen=True)
class Accuracy:
    """Measure whether the first n greedy tokens are a prefix of an accepted answer: 1 or 0.

    Decided on tokens and not on the generated text: nothing has to be generated, and a text that begins alike
    ("York" in "Yorkshire") is no hit. Without n: the whole answer, the same as answer_rank = 1. Source:
    accuracy over the first two greedy tokens in the relation-neuron experiments ("On Relation-Specific
    Neurons in Large Language Models", 2025); an answer of one token needs only that one here, since two
    greedy tokens can never begin it.
    """

    name: str = "accuracy"
    unit: str = "fraction of questions"
    needs: frozenset[Input] = frozenset({"answers"})
    number: NumberRule = "optional"

    def value(self, row: Row, n: int | None) -> Value:
        """Give 1.0 or 0.0."""
        if not row.observation.finite:
            return None, "the edited model gave values that are not finite"
        if not row.observation.answers:
            return None, NO_ANSWER
        return float(any(greedy_says(answer, n) for answer in row.observation.answers)), ""
