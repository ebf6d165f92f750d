"""``pass@k``: whether the answer is among the best k."""

from __future__ import annotations

from dataclasses import dataclass

from runner.measures.answer_rank import best_rank
from runner.measures.protocol import Input, NumberRule, Value
from runner.observe import Row


@dataclass(frozen=True)
class PassAt:
    """Measure answer_rank <= k: 1 or 0, whose mean is a fraction of questions.

    Every token of the answer is among the k most probable ones when the earlier tokens are given. Source:
    pass@5 of arXiv 2604.01404, which looks at the first token only and is therefore at least as high.
    """

    name: str = "pass"
    unit: str = "fraction of questions"
    needs: frozenset[Input] = frozenset({"answers"})
    number: NumberRule = "required"

    def value(self, row: Row, n: int | None) -> Value:
        """Give 1.0 or 0.0."""
        if n is None:
            raise ValueError("pass needs a number: pass@5")
        rank, reason = best_rank(row)
        return (None, reason) if rank is None else (float(rank <= n), "")
