"""Sets of neurons that tell an owner's prompts from those of others: how well, beside shuffled labels, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports import charts, formats, view
from reports.drawing import to_svg
from reports.precision import SITE_COLOURS, by_layer, by_rank
from reports.sections.cells import how_ranked
from reports.sections.section import Cell, Column, Figure, LegendEntry, Section, Table
from specs.language.results import PrecisionFigures, Ranking, RankingGroup, Results


@dataclass(frozen=True)
class PrecisionView:
    """One ranking: in words, as a table, and as charts."""

    name: str
    how: str
    null: str
    table: Table
    curves: list[Figure]
    profiles: list[Figure]
    sites: list[LegendEntry]
    note: str


def build(results: Results) -> Section | None:
    """Show for every owner the size of its set, average precision by rank beside shuffled labels, and its layers."""
    rankings = [r for r in results.rankings.values() if r.by_precision]
    if not rankings:
        return None
    return Section("precision", "Neurons that tell prompts apart", {"rankings": [_view(results, r) for r in rankings]})


def _view(results: Results, ranking: Ranking) -> PrecisionView:
    groups = [g for g in view.ordered(results, ranking) if g.precision is not None]
    drawn = groups[: charts.MOST_OWNERS]
    note = ""
    if len(groups) > len(drawn):
        note = f"The first {len(drawn)} of {formats.counted(len(groups), 'owner')} are drawn; all are in the table."
    return PrecisionView(
        ranking.name,
        how_ranked(ranking),
        _null(groups),
        _table(groups),
        [_curve(ranking, g, i) for i, g in enumerate(drawn)],
        [_profile(ranking, g, i) for i, g in enumerate(drawn)],
        [
            LegendEntry(colour, "", "square", site, "")
            for site, colour in zip(ranking.widths, SITE_COLOURS, strict=False)
        ],
        note,
    )


def _null(groups: Sequence[RankingGroup]) -> str:
    """Say what choosing among so many neurons gives by chance."""
    found = [(g, g.precision) for g in groups if g.precision is not None and g.precision.shuffled]
    if not found:
        return (
            "No labels were shuffled (`controls: {shuffled_labels: 1}`), so it is not known what choosing the best of "
            "so many neurons gives by chance."
        )
    above = [figures.above_shuffled or 0 for _, figures in found]
    candidates = found[0][0].n_candidates
    between = formats.whole(above[0]) if len(set(above)) == 1 else f"{min(above):,} to {max(above):,}"
    return f"Of {candidates:,} neurons {between} are better than the best under shuffled labels" + (
        ", by owner." if len(found) > 1 else "."
    )


def _table(groups: Sequence[RankingGroup]) -> Table:
    rows = []
    for group in groups:
        figures = group.precision
        assert figures is not None
        tenth, last = max(1, figures.ranks[-1] // 10), figures.ranks[-1]
        best = group.neurons[0]
        rows.append(
            [
                Cell(formats.visible(group.label)),
                Cell(formats.whole(group.size)),
                Cell(formats.whole(figures.n_positive), f"of others {figures.n_negative:,}"),
                Cell(formats.number(figures.base_rate, 2)),
                _at(figures, 1),
                _at(figures, tenth),
                _at(figures, last),
                Cell(formats.number(figures.mean, 3), _shuffled([draw.mean for draw in figures.shuffled])),
                Cell(formats.whole(figures.above_shuffled) if figures.above_shuffled is not None else formats.MISSING),
                Cell(best.address),
            ]
        )
    columns = [
        Column("owner"),
        Column("set", "number", "neurons"),
        Column("own prompts", "number"),
        Column("base rate", "number"),
        Column("precision at rank 1", "number", "shuffled"),
        Column("at a tenth", "number", "shuffled"),
        Column("at the last", "number", "shuffled"),
        Column("mean of the set", "number", "shuffled"),
        Column("above shuffled", "number", "neurons"),
        Column("best", "code"),
    ]
    return Table(columns, rows)


def _at(figures: PrecisionFigures, rank: int) -> Cell:
    k = figures.ranks.index(rank)
    return Cell(formats.number(figures.precision[k], 3), _shuffled([draw.precision[k] for draw in figures.shuffled]))


def _shuffled(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, high = formats.number(min(values), 3), formats.number(max(values), 3)
    return low if low == high else f"{low} to {high}"


def _curve(ranking: Ranking, group: RankingGroup, index: int) -> Figure:
    figures = group.precision
    assert figures is not None
    name = formats.visible(group.label)
    description = f"Average precision for {name}: " + ", ".join(
        f"{formats.number(value, 3)} at rank {rank:,}"
        for rank, value in zip(figures.ranks, figures.precision, strict=True)
    )
    rows = [
        [
            Cell(formats.whole(rank)),
            Cell(formats.number(value, 4)),
            Cell(_shuffled([draw.precision[k] for draw in figures.shuffled]) or formats.MISSING),
        ]
        for k, (rank, value) in enumerate(zip(figures.ranks, figures.precision, strict=True))
    ]
    columns = [Column("rank", "number"), Column("precision", "number"), Column("shuffled", "number")]
    ident = f"precision-{ranking.name}-{index}"
    return Figure(
        name, to_svg(by_rank(figures), ident, f"Precision for {name}", description), table=Table(columns, rows)
    )


def _profile(ranking: Ranking, group: RankingGroup, index: int) -> Figure:
    name = formats.visible(group.label)
    counted = {
        layer: sum(counts[k] for counts in group.profile.values()) for k, layer in enumerate(ranking.ranked_layers)
    }
    most = max(counted, key=lambda layer: counted[layer])
    description = f"The {group.size:,} neurons of {name}, most of them ({counted[most]:,}) in layer {most}."
    rows = [
        [Cell(str(layer)), *(Cell(formats.whole(counts[k])) for counts in group.profile.values())]
        for k, layer in enumerate(ranking.ranked_layers)
    ]
    columns = [Column("layer", "number"), *(Column(site, "number") for site in group.profile)]
    ident = f"precision-layers-{ranking.name}-{index}"
    svg = to_svg(by_layer(group.profile, ranking.ranked_layers), ident, f"Layers of {name}", description)
    return Figure(name, svg, table=Table(columns, rows))
