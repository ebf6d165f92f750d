"""What a section hands to its template: plain values, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Tone = Literal["", "good", "bad", "quiet", "hit"]


@dataclass(frozen=True)
class Cell:
    """One cell of a table: a value, and in small letters what it rests on."""

    text: str
    note: str = ""
    tone: Tone = ""
    mark: str = ""
    """A sign and a word that say the tone without colour, such as ``✓ met``."""


@dataclass(frozen=True)
class Column:
    """The head of a column and how its cells are set."""

    name: str
    kind: Literal["text", "number", "code"] = "text"
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under columns; the first column is the head of its row."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    wide_cells: bool = False
    """True for cells that hold sentences and need a least width."""


@dataclass(frozen=True)
class Figure:
    """A chart with its title and the numbers behind it."""

    title: str
    svg: str
    narrow: str = ""
    """The same for a telephone; without it the one chart serves both."""
    table: Table | None = None
    note: str = ""


@dataclass(frozen=True)
class LegendEntry:
    """One line of a legend: colour, dash and shape as in the charts."""

    colour: str
    dash: str
    shape: str
    name: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """One section of the page; ``name`` is also its template and its anchor."""

    name: str
    title: str
    content: dict[str, Any] = field(default_factory=dict)


def cells(*texts: str) -> list[Cell]:
    """Make plain cells."""
    return [Cell(text) for text in texts]
