"""What the run warns about."""

from __future__ import annotations

from reports import view
from reports.sections.section import Section
from specs.language.results import Results


def build(results: Results) -> Section | None:
    """List every warning once, with the block it belongs to."""
    found = view.warnings(results)
    return Section("warnings", "Warnings", {"warnings": found}) if found else None
