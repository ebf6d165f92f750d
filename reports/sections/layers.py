"""In which layers what is written at an entity is the same whatever is asked."""

from __future__ import annotations

from dataclasses import dataclass

from reports import charts, formats, view
from reports.drawing import to_svg
from reports.sections.section import Cell, Column, Figure, Section, Table
from specs.language.results import Ranking, RankingGroup, Results

FORMULA = (
    "S is mean length × mean(cos) / std(cos), over the vectors that a layer writes at the entity, one for each prompt, "
    "and the cosines of every two of them. The score of a layer is its S over the mean S of made-up names in the same "
    "prompts; dominance compares the best layer with the mean of the next five."
)


@dataclass(frozen=True)
class LayersView:
    """One ranking of layers: in words, the best of each owner, and the profile of each."""

    name: str
    how: str
    formula: str
    winners: Table
    profiles: list[Figure]
    note: str


def build(results: Results) -> Section | None:
    """Show for every owner which layer is steadiest and the profile over all layers; None without such a ranking."""
    rankings = [r for r in results.rankings.values() if r.unit == "layer"]
    return Section("layers", "Layers", {"rankings": [_ranking(results, r) for r in rankings]}) if rankings else None


def _ranking(results: Results, ranking: Ranking) -> LayersView:
    groups = view.ordered(results, ranking)
    drawn = groups[: charts.MOST_OWNERS]
    note = ""
    if len(groups) > len(drawn):
        note = f"The first {len(drawn)} of {formats.counted(len(groups), 'owner')} are drawn; all are in results.json."
    how = f"Stability of {ranking.site} at {ranking.position}, over {ranking.prompts}, against {ranking.against}"
    return LayersView(
        ranking.name,
        f"{how} ({formats.counted(ranking.n_baseline, 'prompt')}).",
        FORMULA,
        _winners(ranking, groups),
        [_profile(ranking, group, n) for n, group in enumerate(drawn)],
        note,
    )


def _winners(ranking: Ranking, groups: list[RankingGroup]) -> Table:
    rows = []
    for group in groups:
        best = group.neurons[0]
        figure = next(f for f in group.layers if f.layer == best.layer)
        second = group.neurons[1] if len(group.neurons) > 1 else None
        rows.append(
            [
                Cell(formats.visible(group.label), group.key),
                Cell(best.address, "its std(cos) stood on the floor: a lower bound" if figure.floored else ""),
                Cell(
                    formats.number(best.score),
                    f"next {formats.number(second.score)} ({second.address})" if second else "",
                ),
                Cell(formats.MISSING if group.random_names is None else f"{group.random_names:.0%}"),
                Cell(formats.number(best.dominance)),
                Cell(formats.number(figure.stability)),
                Cell(formats.spread(figure.cosine, figure.cosine_std)),
                Cell(formats.number(figure.norm)),
                Cell(formats.whole(group.n_prompts)),
            ]
        )
    columns = [
        Column("owner"),
        Column("layer", "code"),
        Column("score", "number", "times that of names"),
        Column("names as high", "number", "in some layer"),
        Column("dominance", "number"),
        Column("S", "number"),
        Column("cosine", "number", "mean ± std"),
        Column("length", "number"),
        Column("prompts", "number"),
    ]
    return Table(columns, rows)


def _profile(ranking: Ranking, group: RankingGroup, index: int) -> Figure:
    name = formats.visible(group.label)
    best = group.neurons[0]
    scores = {n.layer: n.score for n in group.neurons}
    rows = []
    for place, layer in enumerate(sorted(scores)):
        low, high = ranking.names_band[place] if place < len(ranking.names_band) else (None, None)
        tip = f"L{layer}: {formats.number(scores[layer])}"
        rows.append({"layer": layer, "score": scores[layer], "low": low, "high": high, "tip": tip})
    description = f"{best.address} is steadiest, {formats.number(best.score)} times as steady as for made-up names."
    svg = to_svg(
        charts.layer_profile(rows, best.layer), f"profile-{ranking.name}-{index}", f"Layers of {name}", description
    )
    figures = {f.layer: f for f in group.layers}
    table_rows = [
        [
            Cell(f"L{layer}"),
            Cell(formats.number(scores[layer])),
            Cell(formats.number(figures[layer].stability), "lower bound" if figures[layer].floored else ""),
            Cell(formats.spread(figures[layer].cosine, figures[layer].cosine_std)),
            Cell(formats.number(figures[layer].norm)),
        ]
        for layer in sorted(scores)
    ]
    columns = [
        Column("layer", "code"),
        Column("score", "number"),
        Column("S", "number"),
        Column("cosine", "number", "mean ± std"),
        Column("length", "number"),
    ]
    return Figure(name, svg, table=Table(columns, table_rows))
