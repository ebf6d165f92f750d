"""The charts of analyses: bars over layers, a matrix as a heat map, a cloud of owners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from reports import formats
from reports.drawing import ACCENT
from reports.encodings import inline, padded

__all__ = ["MOST_LINES", "bars", "cloud", "heat"]

MOST_LINES = 40
"""Rows or columns of a heat map that are drawn."""
WIDTH = 400
LABEL = 118
LIGHT, BLUE = "#f3efe6", "#0068a8"
ON_LIGHT = "#1c2025"
"""Ink on cells that stay light on a dark page, too."""


def bars(counts: Sequence[tuple[int, float]], title: str = "neurons", width: int = WIDTH) -> Any:
    """Draw a count for each layer; ``counts``: (layer, count), zeros too."""
    rows = [{"layer": layer, "n": n, "tip": f"L{layer}: {formats.number(n)}"} for layer, n in counts]
    ticks = _ticks([layer for layer, _ in counts])
    chart = (
        alt.Chart(inline(rows))
        .mark_bar(color=ACCENT)
        .encode(
            x=alt.X("layer:O", axis=alt.Axis(title="layer", values=ticks, labelAngle=0, grid=False)),
            y=alt.Y("n:Q", axis=alt.Axis(title=title, tickCount=4, tickMinStep=1, format="d")),
            description=alt.Description("tip:N"),
        )
    )
    return _fitted(chart, width, 190)


def heat(
    cells: Sequence[dict[str, Any]],
    lines: Sequence[str],
    columns: Sequence[str],
    *,
    domain: tuple[float, float],
    titles: tuple[str, str] = ("", ""),
    width: int = WIDTH,
    both_ways: bool = False,
) -> Any:
    """Draw a matrix: each cell has ``line``, ``column``, ``value`` (its colour) and ``text`` (what stands in it).

    ``titles`` are of the columns and of the lines. The colour goes from pale to the accent over ``domain``; with
    ``both_ways`` from blue over pale, which is 0, to the accent.
    """
    low, high = domain
    if both_ways:
        scale = alt.Scale(domain=[low, 0, high], range=[BLUE, LIGHT, ACCENT], clamp=True)
    else:
        scale = alt.Scale(domain=[low, high], range=[LIGHT, ACCENT], clamp=True)

    def is_dark(value: float | None) -> bool:
        if value is None:
            return False
        return value > high / 2 or value < low / 2 if both_ways else value > (low + high) / 2

    data = [{**cell, "dark": "yes" if is_dark(cell["value"]) else "no"} for cell in cells]
    known = [cell for cell in data if cell["value"] is not None]
    x = alt.X(
        "column:N",
        sort=list(columns),
        scale=alt.Scale(domain=list(columns)),
        axis=alt.Axis(
            title=titles[0] or None, orient="top", labelAngle=-40, labelLimit=LABEL, domain=False, ticks=False
        ),
    )
    y = alt.Y(
        "line:N",
        sort=list(lines),
        scale=alt.Scale(domain=list(lines)),
        axis=alt.Axis(title=titles[1] or None, labelLimit=LABEL, domain=False, ticks=False),
    )
    colour = alt.Color("value:Q", legend=None, scale=scale)
    layers: list[Any] = [
        alt.Chart(inline(known))
        .mark_rect(stroke="white", strokeWidth=1)
        .encode(x=x, y=y, color=colour, description=alt.Description("tip:N"))
    ]
    if len(columns) * 34 <= width:
        layers.append(
            alt.Chart(inline(data))
            .mark_text(fontSize=11)
            .encode(
                x=x,
                y=y,
                text=alt.Text("text:N"),
                color=alt.Color(
                    "dark:N", legend=None, scale=alt.Scale(domain=["yes", "no"], range=["white", ON_LIGHT])
                ),
            )
        )
    chart = alt.layer(*layers).resolve_scale(color="independent")
    # The slanted name of the last column reaches beyond it, and what is fitted counts none of that.
    reach = max(0, min(LABEL, 6 * len(columns[-1])) - width // (2 * len(columns) + 2))
    room = {"left": 5, "top": 5, "bottom": 5, "right": 5 + round(0.77 * reach)}
    return _fitted(chart, width, 24 * len(lines) + 110).properties(padding=room)


def cloud(points: Sequence[dict[str, Any]], titles: tuple[str, str], width: int = WIDTH) -> Any:
    """Draw one dot for each owner: ``x``, ``y`` and ``tip``. An axis with a wide positive range is logarithmic."""
    scales = []
    for key in ("x", "y"):
        values = [float(point[key]) for point in points]
        low, high = min(values), max(values)
        if low > 0 and high / low >= 100:
            scales.append(alt.Scale(type="log", nice=False))
        else:
            scales.append(alt.Scale(domain=padded(low, high), nice=False))
    chart = (
        alt.Chart(inline(points))
        .mark_point(filled=True, size=34, opacity=0.55, color=ACCENT)
        .encode(
            x=alt.X("x:Q", scale=scales[0], axis=alt.Axis(title=titles[0], tickCount=5, format="~s", grid=True)),
            y=alt.Y("y:Q", scale=scales[1], axis=alt.Axis(title=titles[1], tickCount=5, format="~s", grid=True)),
            description=alt.Description("tip:N"),
        )
    )
    return _fitted(chart, width, 260)


def _ticks(layers: Sequence[int]) -> list[int]:
    step = next(s for s in (1, 2, 4, 5, 10, 20, 50, 100) if len(layers) / s <= 10 or s == 100)
    return [layer for layer in layers if layer % step == 0]


def _fitted(chart: Any, width: int, height: int) -> Any:
    fit = alt.AutoSizeParams(type="fit", contains="padding")
    return chart.properties(width=width, height=height, autosize=fit)
