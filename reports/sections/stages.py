"""What was run, how much of it, and for how long."""

from __future__ import annotations

from reports import formats
from reports.sections.section import Cell, Column, Section, Table
from specs.language.results import Results


def build(results: Results) -> Section:
    """Show every stage: prompts, tokens, the distinct ones, those run now, memory and time."""
    columns = [
        Column("stage"),
        Column("prompts", "number"),
        Column("tokens", "number", "one by one"),
        Column("padded", "number", "in one batch"),
        Column("distinct", "number", "all there is to run"),
        Column("passes", "number"),
        Column("run now", "number", "the rest was known"),
        Column("memory", "number", "most so far, beside the weights"),
        Column("time", "number"),
    ]
    rows = []
    for stage in results.stages:
        # A document lists what was run again; here the number is enough, for the column is narrow on a phone.
        again = f"{len(stage.recomputed)} parts run again, the rest reused" if stage.recomputed else ""
        note = ", ".join(part for part in (stage.mode if stage.mode != "trees" else "", again, stage.note) if part)
        rows.append(
            [
                Cell(formats.visible(stage.name), formats.visible(note)),
                Cell(formats.whole(stage.prompts)),
                Cell(formats.whole(stage.tokens)),
                Cell(formats.whole(stage.padded_tokens)),
                Cell(formats.whole(stage.distinct_tokens), _share(stage.distinct_tokens, stage.tokens)),
                Cell(formats.whole(stage.passes)),
                Cell("" if stage.run_tokens is None else formats.whole(stage.run_tokens)),
                Cell(
                    "" if stage.used_bytes is None else formats.megabytes(stage.used_bytes),
                    "" if stage.estimated_bytes is None else f"of {formats.megabytes(stage.estimated_bytes)} estimated",
                ),
                Cell(
                    "reused" if stage.reused else formats.duration(stage.seconds),
                    tone="quiet" if stage.reused else "",
                ),
            ]
        )
    total = formats.duration(results.seconds)
    return Section("stages", "Stages", {"table": Table(columns, rows), "total": total})


def _share(part: int, of: int) -> str:
    return f"{100 * part / of:.0f} %" if of else ""
