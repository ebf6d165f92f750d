"""Run the analyses of a spec on its rankings and results; none of them runs the model."""

from __future__ import annotations

from collections.abc import Mapping

from runner.analyses import ANALYSES
from runner.localization.ranking import RankingData
from specs.language.experiment import Experiment
from specs.language.results import AnalysisResult, Results

__all__ = ["analyse"]


def analyse(experiment: Experiment, results: Results, rankings: Mapping[str, RankingData]) -> dict[str, AnalysisResult]:
    """Derive every analysis that ``only`` leaves."""
    found: dict[str, AnalysisResult] = {}
    for name, spec in experiment.analyses.items():
        if experiment.only is not None and name not in experiment.only:
            continue
        found[name] = ANALYSES[spec.verb](name, spec, results, rankings)
    return found
