"""The charts of the report, drawn with altair, and ``figures`` for MLflow.

A chart for the page is about 400 units wide: two stand side by side on a desk, one fills a telephone, and in
both the letters keep a readable size. Axes and series are those of ``encodings``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt

from reports import formats, view
from reports.curves import SERIES_WORDS, Panel, SeriesKey, numeric, panels
from reports.curves import owners as owners_of
from reports.drawing import ACCENT, INK, PALE, RULE, to_png, unchecked
from reports.encodings import (
    HEIGHT,
    WIDTH,
    Domain,
    Keys,
    band,
    colour,
    dash,
    inline,
    padded,
    references,
    rows_of,
    rules,
    series,
    shape,
    x_axis,
    y_axis,
    y_scale,
)
from reports.measures import words
from specs.language.results import STANDS_OUT, Results

WIDE = 860
NARROW = 380
SMALL = 190
MOST_OWNERS = 8
"""Owners drawn in one figure; the page says when there are more."""


@dataclass(frozen=True)
class Strip:
    """The activations of one owner's winner, one for each prompt."""

    label: str
    address: str
    dominance: float | None
    values: Sequence[float]
    prompts: Sequence[str]


def sweep(panel: Panel, domain: Domain = None, *, title: str = "", key: Keys = ()) -> Any:
    """Draw the curves of one owner over the sweep, with intervals as bands.

    ``domain`` fixes the y axis, so that owners can be compared. ``key`` adds what the page says elsewhere:
    the legend of these series, and the name of the measure.
    """
    if not swept(panel):
        return dots([panel], [""], domain, title=title, key=key)
    measure = words(panel.measure)
    x = x_axis(panel)
    y = alt.Y("mean:Q", scale=y_scale(measure, domain), axis=y_axis(measure, domain, HEIGHT, title=bool(key)))
    lines = _lines(panel, x, y, key)
    chart = alt.layer(
        *references(panel, x),
        *rules(measure),
        _bands(panel, x, key),
        _held(panel, y, key),
        lines.mark_line(strokeWidth=1.8).encode(strokeDash=dash()),
        lines.mark_point(filled=True, size=22, opacity=1).encode(
            shape=shape(key), description=alt.Description("tip:N")
        ),
    )
    return _sized(chart, title)


def small_sweep(panel: Panel, domain: Domain, height: int = 150) -> Any:
    """Draw one owner or relation small, on the axes of its neighbours: lines and bands without marks."""
    measure = words(panel.measure)
    x = x_axis(panel, title=False, ticks=5)
    y = alt.Y("mean:Q", scale=y_scale(measure, domain), axis=y_axis(measure, domain, height, title=False))
    lines = _lines(panel, x, y).mark_line(strokeWidth=1.8).encode(strokeDash=dash())
    return _sized(alt.layer(*rules(measure), _bands(panel, x), _held(panel, y), lines), "", SMALL, height)


def dots(
    found: Sequence[Panel], names: Sequence[str], domain: Domain = None, *, title: str = "", key: Keys = ()
) -> Any:
    """Draw one dot with its interval for each series, in one row for each owner and value.

    This is for edits that are not swept over numbers; a sweep over words gives each word a row.
    """
    measure = words(found[0].measure)
    drawn = list(dict.fromkeys(series(c) for p in found for c in p.drawn))
    rows: list[dict[str, Any]] = []
    order: list[str] = []
    for i, (panel, name) in enumerate(zip(found, names, strict=True)):
        values: Sequence[float | str | None] = panel.values if len(panel.values) > 1 else [None]
        for value in values:
            shown = [name, formats.axis_value(value) if value is not None else ""]
            # The number before the name keeps apart owners of one name; it is not shown.
            line = f"{i} {', '.join(part for part in shown if part)}"
            order.append(line)
            for curve in panel.drawn:
                at = value if curve.swept and value is not None else curve.points[0].x
                rows += [row | {"line": line} for row in rows_of(panel, curve) if row["x"] == at]
    x = alt.X(
        "mean:Q",
        scale=y_scale(measure, domain),
        axis=alt.Axis(title=measure.title, grid=True, tickCount=5),
    )
    y = alt.Y(
        "line:N",
        sort=order,
        scale=alt.Scale(domain=order, paddingInner=0.25, paddingOuter=0.1),
        axis=alt.Axis(
            title=None,
            labelColor=INK,
            domain=False,
            ticks=False,
            labelLimit=120,
            labelPadding=9,
            labelExpr="slice(datum.label, indexof(datum.label, ' ') + 1)",
        ),
    )
    base = alt.Chart(inline(rows)).encode(
        y=y,
        yOffset=alt.YOffset("series:N", sort=drawn, scale=alt.Scale(domain=drawn)),
        color=colour(key),
    )
    chart = alt.layer(
        *[
            alt.Chart(inline([{"v": value}])).mark_rule(color=RULE, strokeDash=[3, 3]).encode(x=alt.X("v:Q"))
            for value, _ in measure.rules
        ],
        base.mark_rule(strokeWidth=1.8).encode(x=alt.X("low:Q"), x2=alt.X2("high:Q")),
        base.mark_point(filled=True, size=38, opacity=1).encode(
            x=x, shape=shape(key), description=alt.Description("tip:N")
        ),
    )
    return _sized(chart, title, WIDTH, len(order) * (11 * len(drawn) + 16) + 48)


def strips(rows: Sequence[Strip], width: int = WIDE, title: str = "") -> Any:
    """Draw one row of dots for each owner: the winner's activation on every prompt, against zero.

    The height of a dot within its row carries no meaning; it keeps dots apart.
    """
    narrow = width < WIDE
    names = [str(i) for i in range(len(rows))]
    data = []
    for name, row in zip(names, rows, strict=True):
        prompts = row.prompts or [""] * len(row.values)
        for j, (value, prompt) in enumerate(zip(row.values, prompts, strict=True)):
            # A telephone has no pointer to hover with; the table has the prompts.
            tip = "" if narrow else f"{formats.number(value)}  {formats.visible(prompt)}".strip()
            # Multiples of the golden ratio spread neighbours apart and are the same in every drawing.
            spread = (j * 0.6180339887) % 1 - 0.5
            data.append({"row": name, "value": value, "spread": spread, "tip": tip, "clear": _clear(row.dominance)})
    labels = [{"row": n, "name": _strip_name(row, narrow)} for n, row in zip(names, rows, strict=True)]
    everything = [value for row in rows for value in row.values] + [0.0]
    y = alt.Y("row:N", sort=names, axis=None, scale=alt.Scale(paddingInner=0.55, paddingOuter=0.3))
    x = alt.X(
        "value:Q",
        scale=alt.Scale(domain=padded(min(everything), max(everything), share=0.03), nice=False),
        axis=alt.Axis(
            title="value of the neuron at the position where it was read",
            grid=True,
            tickCount=6 if narrow else 10,
        ),
    )
    chart = alt.layer(
        # Zero is marked on every row and not through the names above the rows.
        alt.Chart(inline([{"value": 0, "row": row} for row in names]))
        .mark_tick(color=INK, thickness=1.4, size=34, orient="vertical")
        .encode(x=x, y=y),
        alt.Chart(inline(data))
        .mark_point(filled=True, size=26, opacity=0.6)
        .encode(
            x=x,
            y=y,
            yOffset=alt.YOffset("spread:Q", scale=alt.Scale(domain=[-0.5, 0.5])),
            color=alt.Color("clear:N", legend=None, scale=alt.Scale(domain=["yes", "no"], range=[ACCENT, PALE])),
            description=alt.Description("tip:N"),
        ),
        alt.Chart(inline(labels))
        .mark_text(align="left", baseline="bottom", fontSize=12, color=INK, dy=-20, limit=width - 20)
        .encode(x=alt.value(0), y=y, text=alt.Text("name:N")),
    )
    return _sized(chart, title, width, 44 + 58 * len(rows) + (20 if title else 0))


def layer_positions(top: Sequence[dict[str, Any]], n_layers: int, *, clear: bool = True) -> Any:
    """Draw the best neurons of one ranking by layer and score; a winner that is ``clear`` has the accent.

    Each row of ``top`` has layer, score, address, kind (winner, same layer, other layer) and tip.
    """
    kinds = ["winner", "same layer", "other layer"]
    shapes = ["circle", "diamond", "square"]
    x = alt.X(
        "layer:Q",
        scale=alt.Scale(domain=[-0.5, n_layers - 0.5], nice=False),
        axis=alt.Axis(title=None, values=_layer_ticks(n_layers), format="d", grid=False),
    )
    y = alt.Y("score:Q", scale=alt.Scale(zero=True), axis=alt.Axis(title=None, tickCount=3))
    winner = [row for row in top if row["kind"] == "winner"]
    right = bool(winner) and float(winner[0]["layer"]) > n_layers * 0.6
    chart = alt.layer(
        alt.Chart(inline(top))
        .mark_point(filled=True, opacity=0.9)
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "kind:N",
                legend=None,
                scale=alt.Scale(domain=kinds, range=[ACCENT if clear else PALE, INK, PALE]),
            ),
            shape=alt.Shape("kind:N", legend=None, scale=alt.Scale(domain=kinds, range=shapes)),
            size=alt.Size("kind:N", legend=None, scale=alt.Scale(domain=kinds, range=[64, 30, 22])),
            description=alt.Description("tip:N"),
        ),
        alt.Chart(inline(winner))
        .mark_text(align="right" if right else "left", dx=-8 if right else 8, fontSize=11, color=INK)
        .encode(x=x, y=y, text=alt.Text("address:N")),
    )
    return _sized(chart, "", SMALL, 140)


def layer_profile(rows: Sequence[dict[str, Any]], best: int) -> Any:
    """Draw the score of every layer, with the band of made-up names and the level 1, which is their mean.

    Each row has layer, score, low, high (None without a band) and tip; ``best`` is the layer that is marked.
    """
    layers = [row["layer"] for row in rows]
    x = alt.X(
        "layer:Q",
        scale=alt.Scale(domain=[min(layers) - 0.5, max(layers) + 0.5], nice=False),
        axis=alt.Axis(title=None, values=_layer_ticks(max(layers) + 1), format="d", grid=False),
    )
    y = alt.Y("score:Q", scale=alt.Scale(zero=True), axis=alt.Axis(title=None, tickCount=3))
    base = alt.Chart(inline(rows)).encode(x=x, y=y)
    banded = [row for row in rows if row["low"] is not None]
    marked = [row for row in rows if row["layer"] == best]
    right = best > (min(layers) + max(layers)) * 0.6
    chart = alt.layer(
        alt.Chart(inline(banded))
        .mark_area(color=PALE, opacity=0.45)
        .encode(x=x, y=alt.Y("low:Q"), y2=alt.Y2("high:Q")),
        alt.Chart(inline([{"score": 1.0}])).mark_rule(color=RULE).encode(y=y),
        base.mark_line(color=INK, strokeWidth=1.4),
        base.mark_point(filled=True, size=14, color=INK, opacity=1).encode(description=alt.Description("tip:N")),
        alt.Chart(inline(marked)).mark_point(filled=True, size=64, color=ACCENT, opacity=1).encode(x=x, y=y),
        alt.Chart(inline([{**row, "name": f"L{row['layer']}"} for row in marked]))
        .mark_text(align="right" if right else "left", dx=-8 if right else 8, fontSize=11, color=INK)
        .encode(x=x, y=y, text=alt.Text("name:N")),
    )
    return _sized(chart, "", SMALL, 140)


def training(values: Sequence[float], *, share: bool = False) -> Any:
    """Draw a term of a loss over the steps of learning; ``share``: it is a probability, from 0 to 1."""
    rows = [{"step": n, "value": v, "tip": f"step {n}: {formats.number(v)}"} for n, v in enumerate(values)]
    x = alt.X("step:Q", axis=alt.Axis(title=None, tickCount=4, format="d", grid=False))
    scale = alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=True)
    y = alt.Y("value:Q", scale=scale, axis=alt.Axis(title=None, tickCount=3))
    base = alt.Chart(inline(rows)).encode(x=x, y=y)
    points = base.mark_point(filled=True, size=14, color=INK, opacity=1).encode(description=alt.Description("tip:N"))
    last = alt.Chart(inline(rows[-1:])).mark_point(filled=True, size=64, color=ACCENT, opacity=1).encode(x=x, y=y)
    return _sized(alt.layer(base.mark_line(color=INK, strokeWidth=1.4), points, last), "", SMALL, 140)


def funnel(rows: Sequence[dict[str, Any]], total: int, width: int) -> Any:
    """Draw how many owners each condition leaves, as bars from top to bottom, and as diamonds what chance leaves.

    Each row has step, owners, chance (None without a placebo) and tip.
    """
    narrow = width <= NARROW
    order = [row["step"] for row in rows]
    shown = [{**row, "at": str(n), "words": f"{row['owners']} of {total}"} for n, row in enumerate(rows)]
    x = alt.X(
        "owners:Q",
        scale=alt.Scale(domain=[0, max(total, 1)], nice=False),
        axis=alt.Axis(title=None, format="d", tickMinStep=1),
    )
    # On a telephone conditions are longer than the chart: they stand above their bars.
    y = alt.Y("at:N", sort=None, scale=alt.Scale(padding=0.35), axis=None)
    base = alt.Chart(inline(shown)).encode(y=y)
    layers = [
        base.mark_bar(color=PALE, height=12, yOffset=7).encode(x=x, description=alt.Description("tip:N")),
        base.mark_text(align="left", baseline="bottom", dy=-1, fontSize=11, color=INK, limit=width - 50).encode(
            x=alt.datum(0), text=alt.Text("step:N")
        ),
        base.mark_text(align="right", baseline="bottom", dy=-1, fontSize=11, color=INK).encode(
            x=alt.datum(max(total, 1)), text=alt.Text("words:N")
        ),
    ]
    by_chance = [row for row in shown if row["chance"] is not None]
    if by_chance:
        layers.append(
            alt.Chart(inline(by_chance))
            .mark_point(filled=True, shape="diamond", size=50, color=ACCENT, opacity=1, yOffset=7)
            .encode(x=alt.X("chance:Q"), y=y)
        )
    return _sized(alt.layer(*layers), "", NARROW if narrow else WIDTH * 2, 36 * len(order))


def figures(results: Results) -> dict[str, bytes]:
    """Draw the pictures that MLflow keeps, as PNG: ``cells_<ranking>`` and ``sweep_<intervention>``.

    A ranking without kept values and an intervention without figures have no picture.
    """
    with unchecked():
        return _figures(results)


def _figures(results: Results) -> dict[str, bytes]:
    drawn: dict[str, bytes] = {}
    for name, ranking in results.rankings.items():
        rows = [] if ranking.by_precision else strip_rows(results, name)[:MOST_OWNERS]
        if rows:
            drawn[f"cells_{name}"] = to_png(strips(rows, WIDE, f"{name}: {ranking.metric}"))
    for name, result in results.interventions.items():
        measure = view.main_measure(result)
        found = [p for o in owners_of(result) for p in panels(result, measure, o)] if measure else []
        if found:
            heading = name if result.title in ("", name) else f"{name}: {result.title}"
            drawn[f"sweep_{name}"] = to_png(_together(results, found[:MOST_OWNERS], heading))
    return drawn


def strip_rows(results: Results, ranking: str) -> list[Strip]:
    """Gather the winners of a ranking whose values were kept."""
    return [
        Strip(formats.visible(w.group.label), w.neuron.address, w.dominance, w.values, w.group.prompts)
        for w in view.winners(results, results.rankings[ranking])
        if w.neuron is not None and w.values
    ]


def panel_title(results: Results, panel: Panel) -> str:
    """Name the owner of a panel, and the values at which other sweeps are held."""
    held = f" ({formats.axes(panel.fixed)})" if panel.fixed else ""
    return formats.shorten(view.label(results, panel.owner), 48) + held


def swept(panel: Panel) -> bool:
    """Whether a panel is a curve over numbers; otherwise it is drawn as dots."""
    return len(set(panel.values)) > 1 and numeric(panel.values)


def only(panel: Panel, *keys: SeriesKey) -> Panel:
    """Keep some series of a panel."""
    return replace(panel, curves=tuple(curve for curve in panel.curves if curve.key in keys))


def shared_domain(found: Sequence[Panel]) -> Domain:
    """Find one y axis for panels of the same measure that holds every mean, band and rule of theirs.

    None when there is no figure.
    """
    if not found:
        return None
    measure = words(found[0].measure)
    values = [rule for rule, _ in measure.rules]
    for panel in found:
        for curve in panel.drawn:
            for point in curve.points:
                if point.mean is not None:
                    values += [v for v in (point.mean, *band(curve, point)) if v is not None]
    if not values:
        return None
    low, high = min(values), max(values)
    if measure.log:
        least = min((v for v in values if v > 0), default=1.0)
        return least, max(high, least * 1.5)
    room_low, room_high = padded(low, high)
    fixed_low, fixed_high = measure.domain
    return (
        room_low if fixed_low is None else min(fixed_low, low),
        room_high if fixed_high is None else max(fixed_high, high),
    )


def describe(panel: Panel, name: str) -> str:
    """Say in words what a sweep chart shows, for readers who do not see it."""
    parts = []
    for curve in panel.drawn:
        known = [point for point in curve.points if point.mean is not None]
        if not known:
            continue
        first, last = known[0], known[-1]
        said = f"{SERIES_WORDS[curve.key]} {formats.number(first.mean)}"
        if first.x is not None:
            said += f" at {formats.axis_value(first.x)}"
        if len(known) > 1 and last.x is not None:
            said += f", {formats.number(last.mean)} at {formats.axis_value(last.x)}"
        parts.append(said)
    return f"{words(panel.measure).title} for {name}: {'; '.join(parts)}."


def _together(results: Results, found: Sequence[Panel], heading: str) -> Any:
    """Draw several owners in one picture, with one legend."""
    domain = shared_domain(found)
    key = list(dict.fromkeys(curve.key for panel in found for curve in panel.drawn))
    if all(len(panel.values) <= 1 for panel in found):
        names = [formats.shorten(panel_title(results, panel), 24) for panel in found]
        return dots(found, names, domain, title=heading, key=key)
    pictures = [sweep(panel, domain, title=panel_title(results, panel), key=key) for panel in found]
    for one in pictures:
        one.autosize = alt.Undefined  # charts that stand together are sized by their plots
    return alt.concat(*pictures, columns=2, title=heading)


def _bands(panel: Panel, x: alt.X, key: Keys = ()) -> Any:
    curves = [curve for curve in panel.drawn if curve.swept]
    rows = [row for curve in curves for row in rows_of(panel, curve) if row["low"] is not None]
    area = alt.Chart(inline(rows)).mark_area(opacity=0.16)
    return area.encode(x=x, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour(key))


def _held(panel: Panel, y: alt.Y, key: Keys = ()) -> Any:
    """Draw a level line for every condition that is not swept."""
    rows = [row for curve in panel.drawn if not curve.swept for row in rows_of(panel, curve)]
    rule = alt.Chart(inline(rows)).mark_rule(strokeWidth=1.5)
    return rule.encode(y=y, color=colour(key), strokeDash=dash())


def _lines(panel: Panel, x: alt.X, y: alt.Y, key: Keys = ()) -> Any:
    # The target is drawn last, so that it lies on top.
    rows = [row for curve in reversed(panel.drawn) if curve.swept for row in rows_of(panel, curve)]
    return alt.Chart(inline(rows)).encode(x=x, y=y, color=colour(key), detail=alt.Detail("series:N"))


def _clear(dominance: float | None) -> str:
    return "no" if dominance is not None and dominance < STANDS_OUT else "yes"


def _strip_name(row: Strip, narrow: bool) -> str:
    name = formats.shorten(row.label, 22 if narrow else 60)
    said = f"dominance {formats.number(row.dominance)}"
    if _clear(row.dominance) == "no":
        said += ", none" if narrow else ": none stands out"
    return f"{name}  ·  {row.address}  ·  {said}"


def _layer_ticks(n_layers: int) -> list[int]:
    step = next(s for s in (1, 2, 4, 5, 10, 20, 50, 100) if n_layers / s <= 8 or s == 100)
    return list(range(0, n_layers, step))


def _sized(chart: Any, title: str, width: int = WIDTH, height: int = HEIGHT) -> Any:
    fit = alt.AutoSizeParams(type="fit", contains="padding")
    chart = chart.properties(width=width, height=height, autosize=fit)
    return chart.properties(title=title) if title else chart
