"""The shape of an analysis: a pure function from what was found to a table and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from specs.language.experiment import Analysis as AnalysisSpec
from specs.language.references import Address
from specs.language.results import AnalysisResult, Results

__all__ = ["Analysis", "WholeRanking"]


class WholeRanking(Protocol):
    """A ranking with the scores of all its candidates, of which the result document lists only the best."""

    def rank_of(self, key: str, address: Address) -> tuple[int, float]:
        """Give the rank (1 = best) and score of an address in one owner's ranking."""
        ...


class Analysis(Protocol):
    """An analysis reads results and rankings and never runs the model.

    Raises RunError where the rankings do not hold what it compares.
    """

    def __call__(
        self, name: str, spec: AnalysisSpec, results: Results, rankings: Mapping[str, WholeRanking]
    ) -> AnalysisResult: ...
