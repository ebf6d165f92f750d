"""What was claimed beforehand, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reports import formats
from reports.sections.section import Cell, Column, Section, Table, Tone
from specs.language.results import ClaimResult, Results

_MARKS: dict[str, tuple[str, Tone]] = {
    "met": ("✓ met", "good"),
    "not met": ("✗ not met", "bad"),
    "not applicable": ("○ not applicable", "quiet"),
}


def build(results: Results) -> Section | None:
    """Set every claim beside what was observed; None when nothing was claimed."""
    return of_all(results.claims)


def of_all(claims: Sequence[ClaimResult]) -> Section | None:
    """Set some claims, on a run or on a matrix, beside what was observed; None when there is none."""
    if not claims:
        return None
    counts: Counter[str] = Counter(claim.outcome for claim in claims)
    summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in _MARKS if counts[outcome])
    columns = [Column("outcome"), Column("claim", "code"), Column("observed"), Column("source")]
    rows = [_row(claim) for claim in claims]
    return Section("claims", "Claims", {"summary": summary, "table": Table(columns, rows, wide_cells=True)})


def _row(claim: ClaimResult) -> list[Cell]:
    mark, tone = _MARKS[claim.outcome]
    return [
        Cell(mark, tone=tone),
        Cell(formats.visible(claim.claim), f"when {formats.visible(claim.when)}" if claim.when else ""),
        Cell(formats.visible(claim.observed) or formats.MISSING, formats.visible(claim.reason)),
        Cell(formats.visible(claim.source)),
    ]
