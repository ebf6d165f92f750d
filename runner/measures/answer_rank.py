"""``answer_rank``: how far down the answer stands."""

from __future__ import annotations

from dataclasses import dataclass

from runner.measures.protocol import NO_ANSWER, Input, NumberRule, Value
from runner.observe import Row


def best_rank(row: Row) -> tuple[int | None, str]:
    """Give the least over aliases of the largest rank along the alias's tokens."""
    if not row.observation.finite:
        return None, "the edited model gave values that are not finite"
    if not row.observation.answers:
        return None, NO_ANSWER
    return min(max(answer.ranks) for answer in row.observation.answers), ""


@dataclass(frozen=True)
class AnswerRank:
    """Measure the worst rank along the answer's tokens, for the best alias; a rank from 1.

    Every token is ranked with the answer's earlier tokens given. 1 = greedy decoding says the whole answer.
    The worst token counts, so that a first token which other answers begin with too (" New") is no hit by
    itself.
    """

    name: str = "answer_rank"
    unit: str = "rank"
    needs: frozenset[Input] = frozenset({"answers"})
    number: NumberRule = "none"

    def value(self, row: Row, n: int | None) -> Value:
        """Give a whole number of at least 1."""
        rank, reason = best_rank(row)
        return (None, reason) if rank is None else (float(rank), "")
