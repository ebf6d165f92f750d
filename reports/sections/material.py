"""Which tables the entities and questions came from."""

from __future__ import annotations

from reports import formats
from reports.sections.section import Cell, Column, Section, Table
from specs.language.results import Results

SHOWN = 12
"""Digits of a digest that are shown; the provenance has them all."""
MOST_NAMED = 8
"""Relations that are named; of the others the number is said."""


def build(results: Results) -> Section | None:
    """Show every table with its rows, what was taken of them, and the digest of the file; None without tables."""
    if not results.tables:
        return None
    columns = [
        Column("table"),
        Column("file", "code"),
        Column("rows", "number"),
        Column("entities", "number", "taken"),
        Column("facts", "number", "taken"),
        *([Column("describes", "number", "facts of others")] if any(t.described for t in results.tables) else []),
        Column("relations"),
    ]
    rows: list[list[Cell]] = []
    for table in results.tables:
        named = ", ".join(table.relations[:MOST_NAMED])
        more = len(table.relations) - MOST_NAMED
        rows.append(
            [
                Cell(formats.visible(table.name), formats.visible(table.kind)),
                Cell(formats.visible(table.file), f"sha256 {table.sha256[:SHOWN]}"),
                Cell(formats.whole(table.rows)),
                Cell(formats.whole(table.entities)),
                Cell(formats.whole(table.facts)),
                *([Cell(formats.whole(table.described))] if len(columns) > 6 else []),
                Cell(formats.visible(named), f"and {more} more" if more > 0 else ""),
            ]
        )
    return Section("material", "Tables", {"table": Table(columns, rows)})
