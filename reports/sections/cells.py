"""The neurons that were found, how far they stand out, and how steady they are."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from reports import charts, formats, view
from reports.drawing import to_svg
from reports.sections.section import Cell, Column, Figure, Section, Table
from specs.language.results import Ranking, RankingGroup, Results

SHOWN = 20
"""Best neurons of each owner that are drawn and listed."""


@dataclass(frozen=True)
class WinnerRow:
    """One owner in the table of cells."""

    label: str
    key: str
    variant: bool
    address: str
    layer: str
    score: str
    score_note: str
    dominance: str
    verdict: str
    weak: bool
    meter: float | None
    mean: str
    mean_z: str
    n: str
    remark: str


@dataclass(frozen=True)
class RankingView:
    """One ranking: in words, as a table, and as charts."""

    name: str
    how: str
    rows: list[WinnerRow]
    none_stands_out: bool
    random_names: str
    strip: Figure | None
    strip_note: str
    layers: list[Figure]
    layers_note: str


def build(results: Results) -> Section | None:
    """Show for every owner the winner, its dominance, its value on every prompt, and where the best lie."""
    rankings = [r for r in results.rankings.values() if r.unit == "neuron" and not r.by_precision]
    if not rankings and results.rankings:
        return None
    return Section("cells", "Cells", {"rankings": [_ranking(results, r) for r in rankings]})


def _ranking(results: Results, ranking: Ranking) -> RankingView:
    winners = view.winners(results, ranking)
    judged = [w.stands_out for w in winners if w.stands_out is not None]
    groups = [g for g in view.ordered(results, ranking) if g.neurons]
    drawn = groups[: charts.MOST_OWNERS]
    rows = charts.strip_rows(results, ranking.name)
    return RankingView(
        ranking.name,
        how_ranked(ranking),
        [_row(w) for w in winners],
        bool(judged) and not any(judged),
        _random_names(ranking, winners),
        _strip(ranking, rows[: charts.MOST_OWNERS]) if rows else None,
        _only(len(rows), "owner") if rows else "The run kept no value of single prompts.",
        [_layers(results, ranking, g, i) for i, g in enumerate(drawn)],
        _only(len(groups), "owner"),
    )


def how_ranked(ranking: Ranking) -> str:
    """Say in words how a ranking was made."""
    by = f"one ranking for each {' and '.join(ranking.by)}" if ranking.by else "one ranking over all"
    if ranking.objective:
        by = f"objective {ranking.objective}; {by}"
    against = f", against {ranking.against}" if ranking.against else ""
    if ranking.against and ranking.n_baseline:
        against += f" ({formats.counted(ranking.n_baseline, 'text')})"
    return f"{ranking.metric} of {ranking.site} at {ranking.position}, over {ranking.prompts}{against}; {by}."


def _random_names(ranking: Ranking, winners: Sequence[view.Winner]) -> str:
    """Say how the dominance of owners compares with that of names that nobody has."""
    found = sorted(name.dominance for name in ranking.random_names if name.dominance is not None)
    if not found:
        return ""
    median = statistics.median(found)
    text = f"The same ranking was made for {formats.counted(len(ranking.random_names), 'made-up name')}: the dominance "
    text += f"of their best neurons is {formats.interval(found[0], found[-1])}, median {formats.number(median)}. "
    said = [
        f"{formats.visible(w.group.label)}: {sum(d >= w.dominance for d in found)} of {len(found)}"
        for w in winners
        if w.dominance is not None
    ]
    return text + f"At least as dominant as the best of {'; '.join(said)}." if said else text


def _row(winner: view.Winner) -> WinnerRow:
    neuron, group = winner.neuron, winner.group
    remarks = []
    if winner.shared_with:
        remarks.append(f"also wins for {', '.join(winner.shared_with)}: a cell of none of them")
    if neuron and neuron.floored:
        remarks.append("its spread stood on the floor, so the score is a lower bound")
    if group.size != 1:
        remarks.append(f"the set holds {formats.counted(group.size, 'neuron')}")
    elif neuron and group.chosen != [neuron.address]:
        remarks.append(f"the set is {group.chosen[0]}")
    second = group.neurons[1] if len(group.neurons) > 1 else None
    if neuron and neuron.attribution is not None:
        remarks.append(f"attribution {formats.number(neuron.attribution)}")
    return WinnerRow(
        formats.visible(group.label),
        group.key,
        group.variant is not None,
        neuron.address if neuron else formats.MISSING,
        str(neuron.layer) if neuron else formats.MISSING,
        formats.number(neuron.score if neuron else None),
        f"next {formats.number(second.score)} ({second.address})" if second else "",
        formats.number(winner.dominance),
        winner.verdict,
        winner.stands_out is False or neuron is None,
        view.meter(winner.dominance),
        formats.spread(neuron.mean, neuron.std) if neuron else formats.MISSING,
        formats.number(neuron.mean_z if neuron else None),
        formats.whole(group.n_prompts),
        "; ".join(remarks),
    )


def _strip(ranking: Ranking, rows: list[charts.Strip]) -> Figure:
    title = "Value of each winner on every prompt"
    parts = []
    for row in rows:
        same = max(sum(v > 0 for v in row.values), sum(v < 0 for v in row.values))
        between = formats.interval(min(row.values), max(row.values))
        parts.append(f"{row.label}, {row.address}: {between}, {same} of {len(row.values)} on one side of zero")
    description = "One dot for each prompt. " + ". ".join(parts) + "."
    table_rows = [
        [Cell(row.label), Cell(row.address), Cell(formats.number(value, 2)), Cell(formats.visible(prompt))]
        for row in rows
        for value, prompt in zip(row.values, row.prompts or [""] * len(row.values), strict=True)
    ]
    columns = [Column("owner"), Column("neuron", "code"), Column("value", "number"), Column("prompt")]
    ident = f"strip-{ranking.name}"
    return Figure(
        title,
        to_svg(charts.strips(rows, charts.WIDE), f"{ident}-w", title, description),
        to_svg(charts.strips(rows, charts.NARROW), f"{ident}-n", title, description),
        Table(columns, table_rows),
        "One dot is one prompt; its height has no meaning. A steady cell keeps far from zero, on one side.",
    )


def _layers(results: Results, ranking: Ranking, group: RankingGroup, index: int) -> Figure:
    top = group.neurons[:SHOWN]
    winner = view.winner(ranking, group)
    name = formats.visible(group.label)
    best = top[0]
    marks = [
        {
            "layer": n.layer,
            "score": n.score,
            "address": n.address,
            "kind": "winner" if n is best else "same layer" if n.layer == best.layer else "other layer",
            "tip": f"{n.rank}. {n.address}: score {formats.number(n.score)}",
        }
        for n in top
    ]
    second = f", the next {formats.number(top[1].score)}" if len(top) > 1 else ""
    description = f"{best.address} has score {formats.number(best.score)}{second}. " + " ".join(
        f"{n.address}" for n in top
    )
    rows = [
        [
            Cell(str(n.rank)),
            Cell(n.address),
            Cell(formats.number(n.score), "lower bound" if n.floored else ""),
            Cell(formats.number(n.dominance)),
            Cell(formats.spread(n.mean, n.std, 2)),
            Cell(formats.spread(n.mean_z, n.std_z, 2)),
        ]
        for n in top
    ]
    columns = [
        Column("rank", "number"),
        Column("neuron", "code"),
        Column("score", "number"),
        Column("dominance", "number"),
        Column("value", "number", "mean ± std"),
        Column("z", "number", "mean ± std"),
    ]
    ident = f"layers-{ranking.name}-{index}"
    svg = to_svg(
        charts.layer_positions(marks, results.model.n_layers, clear=winner.stands_out is not False),
        ident,
        f"Layers of {name}",
        description,
    )
    return Figure(name, svg, table=Table(columns, rows))


def _only(n: int, noun: str) -> str:
    if n <= charts.MOST_OWNERS:
        return ""
    return f"The first {charts.MOST_OWNERS} of {formats.counted(n, noun)} are drawn; all are in results.json."
