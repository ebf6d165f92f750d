"""Whether the engine was right on this model."""

from __future__ import annotations

from reports import formats
from reports.sections.section import Cell, Column, Section, Table
from specs.language.results import Results


def build(results: Results) -> Section:
    """Show every self-test with its figure and the limit it had to keep."""
    columns = [
        Column("outcome"),
        Column("question"),
        Column("figure", "number"),
        Column("limit", "number"),
        Column("time", "number"),
    ]
    rows = [
        [
            Cell("✓ passed" if test.passed else "✗ failed", tone="good" if test.passed else "bad"),
            Cell(test.question, f"{test.name}{': ' if test.detail else ''}{formats.visible(test.detail)}"),
            Cell(formats.number(test.figure)),
            Cell(formats.number(test.limit)),
            Cell(formats.duration(test.milliseconds / 1000)),
        ]
        for test in results.self_tests
    ]
    failed = sum(not test.passed for test in results.self_tests)
    return Section("self_tests", "Self-tests", {"table": Table(columns, rows), "failed": failed, "n": len(rows)})
