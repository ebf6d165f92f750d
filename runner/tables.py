"""Tables for terminals of any width: columns where they fit, and one block per row where they do not."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_rows"]


def print_rows(
    console: Console,
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    labels: int = 1,
    texts: bool = False,
) -> None:
    """Print rows with every figure whole.

    The first ``labels`` columns say what a row is and stand left; the others are figures and stand right, unless they
    are ``texts``. Where the columns do not fit side by side, a row is a heading of its labels and a line for each
    other column.
    """
    if title:
        console.print(Text(title), highlight=False)
    widths = [max(cell_len(text) for text in column) for column in zip(headers, *rows, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) <= console.width:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for n, header in enumerate(headers):
            table.add_column(header, justify="left" if texts or n < labels else "right", no_wrap=True)
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
        return
    widest = max((cell_len(header) for header in headers[labels:]), default=0)
    for row in rows:
        names = [f"{header} {text}" if n else text for n, (header, text) in enumerate(zip(headers, row, strict=True))]
        console.print(Text(", ".join(names[:labels])), highlight=False)
        for header, text in zip(headers[labels:], row[labels:], strict=True):
            line = Text(f"  {header}{' ' * (widest - cell_len(header))}  ", style="dim")
            console.print(line.append(text, style="default"), highlight=False)
