"""The sections of the page, from top to bottom. A new one is a module with ``build``, a template, a row."""

from __future__ import annotations

from collections.abc import Callable

from reports.sections import (
    again,
    analyses,
    cells,
    chat,
    chosen,
    claims,
    interventions,
    key_figures,
    layers,
    left_out,
    material,
    precision,
    prompt_sets,
    provenance,
    question,
    reading,
    self_tests,
    stages,
    texts,
    vectors,
    warnings,
)
from reports.sections.section import Section
from specs.language.results import Results

SECTIONS: tuple[Callable[[Results], Section | None], ...] = (
    question.build,
    key_figures.build,
    warnings.build,
    layers.build,
    cells.build,
    precision.build,
    vectors.build,
    interventions.build,
    chosen.build,
    texts.build,
    analyses.build,
    claims.build,
    material.build,
    prompt_sets.build,
    chat.build,
    left_out.build,
    self_tests.build,
    stages.build,
    reading.build,
    again.build,
    provenance.build,
)


def build(results: Results) -> list[Section]:
    """Make every section that has something to say about these results."""
    return [section for section in (make(results) for make in SECTIONS) if section is not None]
