"""What the charts share: rows, axes, lines of reference, and how a series is told from the others."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from reports import formats
from reports.curves import AXIS_TITLES, DRAWN, REFERENCE_WORDS, SERIES_WORDS, Curve, Panel, Point, SeriesKey
from reports.drawing import COLOURS, DASHES, GRID, MUTED, RULE, SHAPES
from reports.measures import MeasureWords, words

WIDTH = 400
HEIGHT = 250
Domain = tuple[float, float] | None
Keys = Sequence[SeriesKey]
_ORDINARY_SPAN = 50.0
"""Largest over smallest value of a sweep from which its axis goes by logarithm."""


def inline(rows: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    """Hand rows to altair as a text: it copies and checks a list entry by entry, many times over."""
    return alt.InlineData(values=json.dumps(list(rows)), format=alt.JsonDataFormat(type="json"))


def rows_of(panel: Panel, curve: Curve) -> list[dict[str, Any]]:
    """Make one row for each figure of a curve, with its band and what it says when pointed at."""
    rows = []
    decimals = words(panel.measure).decimals
    for point in curve.points:
        if point.mean is None:
            continue
        low, high = band(curve, point)
        between = formats.interval(low, high, decimals)
        tip = SERIES_WORDS[curve.key]
        tip += f" at {formats.axis_value(point.x)}: " if point.x is not None else ": "
        tip += formats.number(point.mean, decimals) + (f" ({between})" if between else "") + f", n {point.n}"
        rows.append({"x": point.x, "mean": point.mean, "low": low, "high": high, "series": series(curve), "tip": tip})
    return rows


def band(curve: Curve, point: Point) -> tuple[float | None, float | None]:
    """Give the ends of the band: over the draws of a placebo, otherwise the bootstrap interval."""
    if curve.condition == "random_neurons" and point.placebo:
        return point.placebo
    if point.low is None or point.high is None:
        return None, None
    return point.low, point.high


def series(curve: Curve) -> str:
    """Name a series in the rows of a chart."""
    return "/".join(curve.key)


def colour(keys: Keys = ()) -> alt.Color:
    """Encode the series as colour, with a legend of ``keys``."""
    return alt.Color("series:N", scale=_scale_of(COLOURS), legend=_legend(keys))


def dash() -> alt.StrokeDash:
    """Encode the series as a kind of line."""
    return alt.StrokeDash("series:N", scale=_scale_of(DASHES), legend=None)


def shape(keys: Keys = ()) -> alt.Shape:
    """Encode the series as a kind of mark, with a legend of ``keys``."""
    return alt.Shape("series:N", scale=_scale_of(SHAPES), legend=_legend(keys))


def x_axis(panel: Panel, *, title: bool = True, ticks: int = 6) -> alt.X:
    """Lay the sweep along x in the order of the spec: one from 1 to -3 runs from left to right."""
    values = [float(v) for v in panel.values]
    low, high = min(values), max(values)
    scale = alt.Scale(
        type="log" if low > 0 and high / low >= _ORDINARY_SPAN else "linear",
        domain=[low, high],
        nice=False,
        reverse=values[0] > values[-1],
    )
    axis = alt.Axis(
        title=AXIS_TITLES.get(panel.axis or "", panel.axis or "") if title else None,
        grid=False,
        tickCount=ticks,
        values=values if len(values) <= ticks else alt.Undefined,
        format="~g",
        labelFlush=False,
    )
    return alt.X("x:Q", scale=scale, axis=axis)


def y_scale(measure: MeasureWords, domain: Domain) -> alt.Scale:
    """Make the scale of a measure over ``domain``."""
    return alt.Scale(
        domain=list(domain) if domain else alt.Undefined,
        type="log" if measure.log else "linear",
        nice=False,
        zero=False,
        reverse=measure.reverse,
    )


def y_axis(measure: MeasureWords, domain: Domain, height: int, *, title: bool) -> alt.Axis:
    """Make the axis of a measure; where there is room, the values that mean something carry their word."""
    name = measure.title if title else None
    if measure.log and domain is not None:
        low, high = (math.floor(math.log10(end)) for end in domain)
        powers = [10.0**power for power in range(low, high + 1)]
        return alt.Axis(title=name, gridColor=GRID, values=powers, format="~s")
    ticks = max(3, height // 50)
    if not measure.rules or height < HEIGHT:
        return alt.Axis(title=name, gridColor=GRID, tickCount=ticks)
    named = "".join(f"datum.value == {value:g} ? [datum.label, '{word}'] : " for value, word in measure.rules)
    return alt.Axis(title=name, gridColor=GRID, tickCount=ticks, labelExpr=named + "datum.label", labelLineHeight=12)


def rules(measure: MeasureWords) -> list[Any]:
    """Draw a level line at every value of a measure that means something."""
    return [
        alt.Chart(inline([{"mean": value}])).mark_rule(color=RULE, strokeWidth=1).encode(y=alt.Y("mean:Q"))
        for value, _ in measure.rules
    ]


def references(panel: Panel, x: alt.X) -> list[Any]:
    """Draw an upright line with the field's word at every value of the sweep that has one."""
    values = [float(v) for v in panel.values]
    low, high = min(values), max(values)
    backwards = values[0] > values[-1]
    named = sorted(REFERENCE_WORDS.get(panel.axis or "", {}).items(), reverse=backwards)
    per_unit = (WIDTH - 60) / (high - low)  # the y axis takes about 60
    ends = [-math.inf, -math.inf]
    lines: list[list[dict[str, Any]]] = [[], []]
    for value, word in named:
        if not low <= value <= high:
            continue
        start = ((high - value) if backwards else (value - low)) * per_unit
        line = 0 if start >= ends[0] else 1
        ends[line] = start + 6.3 * len(word) + 8
        lines[line].append({"x": value, "word": word})
    layers: list[Any] = []
    for line, rows in enumerate(lines):
        if rows:
            here = alt.Chart(inline(rows)).encode(x=x)
            layers.append(here.mark_rule(color=RULE, strokeWidth=1, strokeDash=[1, 2]))
            text = here.mark_text(align="left", baseline="bottom", fontSize=11, color=MUTED, dx=-2, dy=-4 - 13 * line)
            layers.append(text.encode(y=alt.value(0), text=alt.Text("word:N")))
    return layers


def padded(low: float, high: float, share: float = 0.06) -> tuple[float, float]:
    """Widen a range by a share of itself at both ends."""
    room = (high - low) * share or max(abs(high), 1.0) * share
    return low - room, high + room


def _scale_of(table: Mapping[SeriesKey, Any]) -> alt.Scale:
    """Give every series its own value, drawn or not, so that charts that stand together agree."""
    return alt.Scale(domain=["/".join(key) for key in DRAWN], range=[table[key] for key in DRAWN])


def _legend(keys: Keys) -> alt.Legend | None:
    if not keys:
        return None
    names = "".join(f"datum.value == '{'/'.join(key)}' ? '{SERIES_WORDS[key]}' : " for key in keys)
    return alt.Legend(
        title=None,
        values=["/".join(key) for key in keys],
        labelExpr=names + "datum.label",
        orient="bottom",
        columns=3,
        symbolOpacity=1,
        symbolStrokeWidth=0,
    )
