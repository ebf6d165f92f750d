"""Analyses: what is derived from results, one per file, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping

from runner.analyses.agreement import agreement
from runner.analyses.correlation import correlation
from runner.analyses.overlap import overlap
from runner.analyses.pivot import pivot
from runner.analyses.profile import profile
from runner.analyses.protocol import Analysis, Findings, WholeRanking
from runner.analyses.rows import rows_read
from specs.language.words import AnalysisVerb

__all__ = ["ANALYSES", "NOT_BUILT", "Analysis", "Findings", "WholeRanking", "rows_read"]

ANALYSES: Mapping[AnalysisVerb, Analysis] = {
    "agreement": agreement,
    "correlation": correlation,
    "overlap": overlap,
    "pivot": pivot,
    "profile": profile,
}
NOT_BUILT: Mapping[AnalysisVerb, str] = {
    "cumulativity": "whether slices add up",
    "difference": "a column between outcomes",
    "errors": "the share of each wrong answer",
}
"""Verbs of the language that nothing answers yet, and what they will give."""
