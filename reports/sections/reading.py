"""How to read the page."""

from __future__ import annotations

from reports.sections.section import Section
from specs.language.results import STANDS_OUT, TRUSTED, Results


def build(results: Results) -> Section:
    """Explain stability, dominance and the knowledge score in one short paragraph."""
    return Section("reading", "How to read this page", {"stands_out": STANDS_OUT, "trusted": TRUSTED})
