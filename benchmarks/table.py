"""The results as a table for people, as Markdown and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.driver import Row

HEADERS = ("work", "A", "B", "s A", "s B", "A / B", "min..max", "difference", "remark")


def cells(row: Row) -> tuple[str, ...]:
    """Give a row as texts."""
    if row.failed:
        return (row.title, row.side, row.beside, "", "", "", "", "", f"not run: {row.failed}")
    remarks = [row.note] if row.note else []
    if row.scaled:
        remarks.append(f"scaled from {row.scaled}")
    found = "not compared"
    if row.difference is not None:
        found = f"{row.difference.figure:.1e} {row.difference.words}"
        if row.disagrees:
            remarks.append(f"DISAGREES: at most {row.difference.limit:g} is allowed")
    low, high = min(row.ratios), max(row.ratios)
    return (
        row.title,
        row.side,
        row.beside,
        figure(statistics.median(row.seconds)),
        figure(statistics.median(row.reference)),
        figure(row.ratio),
        f"{figure(low)}..{figure(high)}",
        found,
        "; ".join(remarks),
    )


def figure(value: float) -> str:
    """Give a number with three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def titles(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Group rows by model, works together."""
    models = list(dict.fromkeys((row.model, row.dtype) for row in rows))
    works = list(dict.fromkeys(row.work for row in rows))
    return [
        (
            f"{model}, {dtype}",
            sorted((r for r in rows if (r.model, r.dtype) == (model, dtype)), key=lambda r: works.index(r.work)),
        )
        for model, dtype in models
    ]


def show(rows: Sequence[Row], console: Console) -> None:
    """Print one table for each model."""
    for title, members in titles(rows):
        table = Table(title=title, title_justify="left")
        for n, header in enumerate(HEADERS):
            table.add_column(header, justify="right" if 3 <= n <= 6 else "left")
        last = ""
        for row in members:
            if last and row.work != last:
                table.add_section()
            first, *rest = cells(row)
            table.add_row(first if row.work != last else "", *rest)
            last = row.work
        console.print(table)


def markdown(rows: Sequence[Row], machine: dict[str, Any]) -> str:
    """Write the tables as Markdown, with what they were measured on."""
    lines = ["# Benchmarks", "", "; ".join(f"{key}: {value}" for key, value in machine.items()) + ".", ""]
    lines += [
        "A / B is the time of A over that of B, measured in turns: the median, the least and the greatest. The sides",
        "compute the same numbers; the largest difference between them is in the table.",
        "",
    ]
    for title, members in titles(rows):
        lines += [f"## {title}", "", "| " + " | ".join(HEADERS) + " |", "|---|---|---|---:|---:|---:|---:|---|---|"]
        lines += ["| " + " | ".join(text.replace("|", "\\|") for text in cells(row)) + " |" for row in members]
        lines.append("")
    return "\n".join(lines)


def write(rows: Sequence[Row], machine: dict[str, Any], out: Path) -> None:
    """Write ``benchmarks.json`` and ``benchmarks.md`` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine, "rows": [row.document() for row in rows]}
    (out / "benchmarks.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (out / "benchmarks.md").write_text(markdown(rows, machine), encoding="utf-8")
