"""What was asked for and not used."""

from __future__ import annotations

from reports import formats
from reports.sections.section import Cell, Column, Section, Table
from specs.language.results import Results


def build(results: Results) -> Section:
    """List everything that was left out with its reason, or say that nothing was."""
    columns = [Column("what"), Column("reason"), Column("asked for in")]
    rows = [
        [Cell(formats.visible(out.what)), Cell(formats.visible(out.reason)), Cell(formats.visible(out.where))]
        for out in results.left_out
    ]
    return Section(
        "left_out",
        "What was left out",
        {"table": Table(columns, rows, wide_cells=True), "complete": results.status == "complete"},
    )
