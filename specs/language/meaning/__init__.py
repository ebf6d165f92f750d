"""The meaning of a spec: what its names stand for, and whether what it asks can be answered.

    naming, prompt_sets, scope   what the names mean; a name that means nothing is told once
    names                        ids, references, what is never used
    prompts                      templates, answers, parts
    edits                        where an edit acts, and what it is set to
    science                      targets, controls, what was chosen on what
    analyses                     what an analysis of rows is about
    claims                       result paths, conditions on neurons
    filters                      neurons chosen by results: joined one by one, in an order there is

Everything is decided from the text: no tokenizer, no model, no run.
"""

from __future__ import annotations

from pathlib import Path

from specs.language.errors import Problem
from specs.language.experiment import Experiment
from specs.language.meaning import analyses, claims, edits, filters, names, prompts, science, twins
from specs.language.meaning.naming import HasOrigins
from specs.language.meaning.scope import Scope

__all__ = ["CHECKS", "check"]

CHECKS = (
    *names.CHECKS,
    *prompts.CHECKS,
    *edits.CHECKS,
    *science.CHECKS,
    *twins.CHECKS,
    *analyses.CHECKS,
    *claims.CHECKS,
    *filters.CHECKS,
)
"""Every check of the meaning level, in the order in which they are made."""


def check(experiment: Experiment, origins: HasOrigins, base: str | Path = ".") -> list[Problem]:
    """List every mistake of meaning, errors and warnings, in the order of the file.

    ``experiment`` has its defaults filled in and its list files inlined; ``base`` is the spec's own path.
    """
    scope = Scope(experiment, origins)
    for find in CHECKS:
        find(scope)
    return sorted(scope.found(), key=_place)


def _place(problem: Problem) -> tuple[str, int, int]:
    origin = problem.origin
    return (origin.file, origin.line, origin.column) if origin is not None else ("", 0, 0)
