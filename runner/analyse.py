"""Run the analyses of a spec on its rankings and results; none of them runs the model."""

from __future__ import annotations

from runner.analyses import ANALYSES, Findings
from specs.language.errors import RunError
from specs.language.results import AnalysisResult

__all__ = ["analyse"]


def analyse(found: Findings) -> dict[str, AnalysisResult]:
    """Derive every analysis that ``only`` leaves, but those across an axis of the matrix.

    What they leave out is added to the results. One that finds nothing to derive from says so and costs no other.
    """
    derived: dict[str, AnalysisResult] = {}
    experiment = found.experiment
    for name, spec in experiment.analyses.items():
        if experiment.only is not None and name not in experiment.only:
            continue
        if spec.across in experiment.matrix:
            continue  # it compares runs; the session makes it when all have been
        try:
            derived[name] = ANALYSES[spec.verb](name, spec, found)
        except RunError as error:
            of = getattr(spec, spec.verb)
            derived[name] = AnalysisResult(
                name=name,
                verb=spec.verb,
                of=of if isinstance(of, str) else ", ".join(of),
                columns=[],
                rows=[],
                sentence=f"Nothing is derived: {error.cause}.",
            )
            found.leave_out(name, name, error.cause)
    found.results.left_out += found.left_out
    return derived
