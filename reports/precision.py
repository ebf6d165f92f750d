"""The charts of sets of neurons that tell prompts apart: precision by rank, and where the neurons lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from reports import formats
from reports.charts import SMALL
from reports.drawing import ACCENT, INK, MUTED, PALE, RULE
from reports.encodings import inline
from specs.language.results import PrecisionFigures

__all__ = ["SITE_COLOURS", "by_layer", "by_rank"]

HEIGHT = 140
SITE_COLOURS = (ACCENT, INK, PALE, "#b7791f", "#5b7f5b", "#8a6d9e", MUTED)
"""One for each site of a ranking, in its order."""


def by_rank(found: PrecisionFigures) -> Any:
    """Draw average precision over the rank by logarithm; grey what shuffled labels give, a rule at the base rate."""
    rows = [
        {"rank": rank, "precision": value, "tip": f"rank {rank:,}: {formats.number(value)}"}
        for rank, value in zip(found.ranks, found.precision, strict=True)
    ]
    null = [
        {"rank": rank, "precision": value, "draw": str(n)}
        for n, draw in enumerate(found.shuffled)
        for rank, value in zip(found.ranks, draw.precision, strict=True)
    ]
    x = alt.X(
        "rank:Q",
        scale=alt.Scale(type="log", domain=[1, max(2, found.ranks[-1])], nice=False),
        axis=alt.Axis(title=None, grid=False, format="~s", values=_powers(found.ranks[-1])),
    )
    y = alt.Y("precision:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(title=None, tickCount=3))
    real = alt.Chart(inline(rows)).encode(x=x, y=y)
    chart = alt.layer(
        alt.Chart(inline([{"precision": found.base_rate}])).mark_rule(color=RULE, strokeDash=[3, 3]).encode(y=y),
        alt.Chart(inline(null)).mark_line(color=PALE, strokeWidth=1.4).encode(x=x, y=y, detail=alt.Detail("draw:N")),
        real.mark_line(color=ACCENT, strokeWidth=1.8),
        real.mark_point(filled=True, size=18, color=ACCENT, opacity=1).encode(description=alt.Description("tip:N")),
    )
    return _fitted(chart)


def by_layer(profile: Mapping[str, Sequence[int]], layers: Sequence[int]) -> Any:
    """Draw how many neurons of a set lie in each layer, the sites on top of one another."""
    sites = list(profile)
    rows = [
        {"layer": layer, "n": n, "site": site, "order": k, "tip": f"{site} of layer {layer}: {n:,}"}
        for k, (site, counts) in enumerate(profile.items())
        for layer, n in zip(layers, counts, strict=True)
        if n
    ]
    step = max(1, len(layers) // 6)
    chart = (
        alt.Chart(inline(rows))
        .mark_bar()
        .encode(
            x=alt.X(
                "layer:O",
                scale=alt.Scale(domain=list(layers), paddingInner=0.15),
                axis=alt.Axis(title=None, values=list(layers)[::step], labelAngle=0, ticks=False),
            ),
            y=alt.Y("n:Q", stack=True, axis=alt.Axis(title=None, tickCount=3, format="~s")),
            color=alt.Color(
                "site:N", legend=None, scale=alt.Scale(domain=sites, range=list(SITE_COLOURS[: len(sites)]))
            ),
            order=alt.Order("order:Q"),
            description=alt.Description("tip:N"),
        )
    )
    return _fitted(chart)


def _powers(last: int) -> list[int]:
    return [10**k for k in range(len(str(last))) if 10**k <= last]


def _fitted(chart: Any) -> Any:
    fit = alt.AutoSizeParams(type="fit", contains="padding")
    return chart.properties(width=SMALL, height=HEIGHT, autosize=fit)
