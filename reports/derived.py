"""The charts of analyses: bars over layers, a matrix as a heat map, a cloud of owners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from reports import formats
from reports.drawing import ACCENT, PALE
from reports.encodings import inline, padded

__all__ = ["MOST_LINES", "bars", "cloud", "departures", "heat", "rising", "shares"]

MOST_LINES = 40
"""Rows or columns of a heat map that are drawn."""
WIDTH = 400
LABEL = 118
LIGHT, BLUE = "#f3efe6", "#0068a8"
ON_LIGHT = "#1c2025"
"""Ink on cells that stay light on a dark page, too."""


SITES = (ACCENT, "#0068a8", "#8a3b7c", "#007a5a", "#7a5c00", "#3f37a5", "#6b7280")
"""Colours of sites, one after another."""


def bars(counts: Sequence[tuple[str, int, float]], title: str = "neurons", width: int = WIDTH) -> Any:
    """Draw a count for each layer; ``counts``: (site, layer, count), zeros too. Several sites are stacked."""
    rows = [{"site": s, "layer": layer, "n": n, "tip": f"{s} L{layer}: {formats.whole(n)}"} for s, layer, n in counts]
    sites = list(dict.fromkeys(site for site, _, _ in counts))
    ticks = _ticks(sorted({layer for _, layer, _ in counts}))
    legend = alt.Legend(title=None, orient="top", symbolType="square") if len(sites) > 1 else None
    chart = (
        alt.Chart(inline(rows))
        .mark_bar()
        .encode(
            x=alt.X("layer:O", axis=alt.Axis(title="layer", values=ticks, labelAngle=0, grid=False)),
            y=alt.Y("n:Q", axis=alt.Axis(title=title, tickCount=4, tickMinStep=1, format=",d")),
            color=alt.Color("site:N", scale=alt.Scale(domain=sites, range=list(SITES[: len(sites)])), legend=legend),
            order=alt.Order("site:N"),
            description=alt.Description("tip:N"),
        )
    )
    return _fitted(chart, width, 190 if len(sites) == 1 else 230)


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
        scale = alt.Scale(domain=[low, 0, high], range=[BLUE, LIGHT, ACCENT], clamp=True, interpolate="rgb")
    else:
        scale = alt.Scale(domain=[low, high], range=[LIGHT, ACCENT], clamp=True)

    def is_dark(value: float | None) -> bool:
        if value is None:
            return False
        return value > 0.6 * high or value < 0.6 * low if both_ways else value > low + 0.7 * (high - low)

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
    # The slanted name of the last column reaches beyond it, and what is fitted counts none of that.
    reach = max(0, min(LABEL, 6 * len(columns[-1])) - width // (2 * len(columns) + 2))
    taken = min(LABEL, 6 * max(len(line) for line in lines)) + round(0.77 * reach) + (30 if titles[1] else 10)
    longest = max((len(str(cell["text"])) for cell in cells), default=0)
    if (width - taken) / len(columns) >= max(20, 6.2 * longest + 3):
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


def rising(
    rows: Sequence[dict[str, Any]], order: Sequence[str], whole: Sequence[tuple[str, str]], width: int = WIDTH
) -> Any:
    """Draw shares from 0 to 1 over steps: each owner pale, and the means over all of them on top.

    Each row has ``step``, ``value``, ``series`` and ``tip``; ``whole``: (series, colour) of the means.
    """
    x = alt.X(
        "step:N",
        sort=list(order),
        scale=alt.Scale(domain=list(order), paddingOuter=0.2),
        axis=alt.Axis(title="neurons in between, by rank", labelAngle=-40, grid=False),
    )
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=alt.Axis(title="cumulativity", tickCount=5, grid=True),
    )
    names = [name for name, _ in whole]
    single = alt.Chart(inline([row for row in rows if row["series"] not in names])).encode(x=x, y=y)
    means = alt.Chart(inline([row for row in rows if row["series"] in names])).encode(
        x=x,
        y=y,
        color=alt.Color(
            "series:N",
            scale=alt.Scale(domain=names, range=[colour for _, colour in whole]),
            legend=alt.Legend(title=None, orient="top", direction="vertical" if width < WIDTH else "horizontal"),
        ),
        strokeDash=alt.StrokeDash("series:N", scale=alt.Scale(domain=names, range=[[1, 0], [6, 3]]), legend=None),
    )
    chart = alt.layer(
        single.mark_line(color=PALE, strokeWidth=1, opacity=0.6).encode(detail=alt.Detail("series:N")),
        single.mark_point(filled=True, color=PALE, size=24, opacity=0.9).encode(description=alt.Description("tip:N")),
        means.mark_line(strokeWidth=2),
        means.mark_point(filled=True, size=44, opacity=1).encode(description=alt.Description("tip:N")),
    )
    return _fitted(chart, width, 300)


def departures(rows: Sequence[dict[str, Any]], title: str, width: int = WIDTH) -> Any:
    """Draw a number above or below 0 for each group as a bar; each row has ``group``, ``value`` and ``tip``."""
    data = [{**row, "sign": "up" if row["value"] > 0 else "down"} for row in rows]
    order = [str(row["group"]) for row in rows]
    chart = (
        alt.Chart(inline(data))
        .mark_bar(height=12)
        .encode(
            x=alt.X("value:Q", axis=alt.Axis(title=title, tickCount=5, grid=True)),
            y=alt.Y(
                "group:N",
                sort=order,
                scale=alt.Scale(domain=order),
                axis=alt.Axis(title=None, labelLimit=LABEL + 40, domain=False, ticks=False),
            ),
            color=alt.Color("sign:N", legend=None, scale=alt.Scale(domain=["up", "down"], range=[ACCENT, BLUE])),
            description=alt.Description("tip:N"),
        )
    )
    return _fitted(chart, width, 22 * len(order) + 50)


def shares(
    rows: Sequence[dict[str, Any]],
    lines: Sequence[str],
    kinds: Sequence[tuple[str, str]],
    width: int = WIDTH,
) -> Any:
    """Draw shares that add up to 1 as stacked bars, one bar for each line.

    Each row has ``line``, ``kind``, ``at`` (the place of its kind), ``share`` and ``tip``; ``kinds``: (kind, colour),
    in the order in which they are stacked.
    """
    narrow = width < WIDTH
    chart = (
        alt.Chart(inline(rows))
        .mark_bar(height=13, stroke="white", strokeWidth=0.6)
        .encode(
            x=alt.X(
                "share:Q",
                scale=alt.Scale(domain=[0, 1], nice=False),
                axis=alt.Axis(title=None, format="%", tickCount=5),
            ),
            y=alt.Y(
                "line:N",
                sort=list(lines),
                scale=alt.Scale(domain=list(lines)),
                axis=alt.Axis(title=None, labelLimit=130 if narrow else 250, domain=False, ticks=False),
            ),
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=[kind for kind, _ in kinds], range=[colour for _, colour in kinds]),
                legend=alt.Legend(title=None, orient="top", columns=3 if narrow else 6, symbolType="square"),
            ),
            order=alt.Order("at:Q"),
            description=alt.Description("tip:N"),
        )
    )
    return _fitted(chart, width, 20 * len(lines) + (110 if narrow else 70))


def _ticks(layers: Sequence[int]) -> list[int]:
    step = next(s for s in (1, 2, 4, 5, 10, 20, 50, 100) if len(layers) / s <= 10 or s == 100)
    return [layer for layer in layers if layer % step == 0]


def _fitted(chart: Any, width: int, height: int) -> Any:
    fit = alt.AutoSizeParams(type="fit", contains="padding")
    return chart.properties(width=width, height=height, autosize=fit)
