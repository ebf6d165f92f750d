"""Analyses: what is derived from results, one per file, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping

from runner.analyses.agreement import agreement
from runner.analyses.correlation import correlation
from runner.analyses.cumulativity import cumulativity
from runner.analyses.difference import difference
from runner.analyses.errors import errors
from runner.analyses.overlap import overlap
from runner.analyses.pivot import pivot
from runner.analyses.profile import profile
from runner.analyses.protocol import Analysis, Findings, WholeRanking
from runner.analyses.rows import rows_read
from specs.language.words import AnalysisVerb

__all__ = ["ANALYSES", "Analysis", "Findings", "WholeRanking", "rows_read"]

ANALYSES: Mapping[AnalysisVerb, Analysis] = {
    "agreement": agreement,
    "correlation": correlation,
    "cumulativity": cumulativity,
    "difference": difference,
    "errors": errors,
    "overlap": overlap,
    "pivot": pivot,
    "profile": profile,
}
