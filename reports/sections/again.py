"""How to ask the same of somebody else."""

from __future__ import annotations

from reports.curves import relations
from reports.sections.section import Section
from specs.language.results import Results


def build(results: Results) -> Section:
    """Show which lines of the spec to change, with the relations of this very run."""
    asked = list(dict.fromkeys(r for i in results.interventions.values() for r in relations(i)))
    return Section(
        "again",
        "Ask the same of somebody else",
        {"relations": asked[:3], "model": results.model.card or results.model.id},
    )
