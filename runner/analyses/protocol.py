"""The shape of an analysis: a function from what was found to a table and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from runner.observe import Row
from specs.language.experiment import Analysis as AnalysisSpec
from specs.language.experiment import Experiment
from specs.language.references import Address
from specs.language.results import AnalysisResult, LeftOut, Results

__all__ = ["Analysis", "Findings", "WholeRanking"]


class WholeRanking(Protocol):
    """A ranking with the scores of all its candidates, of which the result document lists only the best."""

    def rank_of(self, key: str, address: Address) -> tuple[int, float]:
        """Give the rank (1 = best) and score of an address in one owner's ranking."""
        ...


@dataclass
class Findings:
    """All that one run has found, and what the analyses of it leave out."""

    experiment: Experiment
    results: Results
    rankings: Mapping[str, Any]
    rows: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """Intervention: its rows of the long table."""
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, analysis: str, what: str, reason: str) -> None:
        """Note what an analysis could not use, and why."""
        self.left_out.append(LeftOut(what=what, reason=reason, where=f"analyses.{analysis}"))


class Analysis(Protocol):
    """An analysis reads what was found and never runs the model.

    Raises RunError where that does not hold what it compares.
    """

    def __call__(self, name: str, spec: AnalysisSpec, found: Findings) -> AnalysisResult: ...
