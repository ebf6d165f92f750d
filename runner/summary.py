"""The end of a run in a terminal: what was found, what the controls did, and where everything lies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.run_types import run_again
from runner.tables import print_rows
from specs.language.results import InterventionResult, NeuronSetResult, Ranking, Results, Summary

__all__ = ["as_json", "print_summary"]

SHOWN = (-1.0, -3.0)
"""Factors whose scores are printed, where the sweep holds them."""
MOST_ROWS = 20
"""Owners whose neurons are printed."""


def print_summary(console: Console, results: Results, paths: dict[str, str]) -> None:
    """Print the answer, the cells, the scores beside their controls, texts, claims and paths."""
    console.print()
    console.print(Text(results.answer or "nothing was asked", style="bold"))
    for ranking in results.rankings.values():
        if not [c for c in ranking.by if c == "variant"]:
            _print_cells(console, ranking)
    for chosen in results.neurons.values():
        if chosen.conditions:
            _print_chosen(console, chosen)
    for vector in results.vectors.values():
        made = f"{vector.name}: {vector.how}"
        if vector.steps:
            made += f", p(new answer) {_number(vector.steps[0].p_new)} to {_number(vector.steps[-1].p_new)}"
        console.print(Text(f"{made}; {vector.path}"), highlight=False)
    for intervention in results.interventions.values():
        if intervention.not_applicable:
            console.print(Text(f"{intervention.name}: {intervention.not_applicable}"), highlight=False)
            continue
        _print_scores(console, intervention)
        if intervention.frozen_deviation is not None:
            held = f"frozen values held: the largest deviation from their source is {intervention.frozen_deviation:g}"
            console.print(Text(held, style="dim"))
        if intervention.saved_model is not None:
            saved = intervention.saved_model
            console.print(Text(f"saved model: {saved.path} ({saved.bytes / 1e6:,.0f} MB)"), highlight=False)
        for line in _texts(intervention):
            console.print(line, highlight=False)
    for analysis in results.analyses.values():
        console.print(Text(f"{analysis.name}: {analysis.sentence}"))
    _print_claims(console, results)
    for warning in _warnings(results):
        console.print(Text(f"warning: {warning}", style="yellow"), highlight=False)
    if results.left_out:
        console.print(f"{len(results.left_out)} left out, each with its reason: see the report", style="dim")
    reused = [s.name for s in results.stages if s.reused]
    if reused:
        console.print(f"reused from earlier runs: {', '.join(reused)}", style="dim", highlight=False)
    for stage in results.stages:
        if stage.recomputed:
            console.print(f"{stage.name}: {run_again(stage.recomputed)}", style="dim", highlight=False)
    fresh = sum(s.run_tokens or 0 for s in results.stages)
    console.print(f"{fresh:,} tokens run in {results.seconds:.1f} s", style="dim", highlight=False)
    for label, path in paths.items():
        console.print(f"{label:>8}  {path}", highlight=False, soft_wrap=True)


def _print_claims(console: Console, results: Results) -> None:
    if not results.claims:
        return
    console.print()
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for claim in results.claims:
        text = Text(claim.claim)
        why = claim.observed or claim.reason
        text.append(f"  {why}" if why else "", style="dim")
        table.add_row(Text(claim.outcome, style={"met": "green", "not met": "red"}.get(claim.outcome, "dim")), text)
    console.print(table)


def _warnings(results: Results) -> Iterable[str]:
    yield from results.warnings
    for ranking in results.rankings.values():
        yield from ranking.warnings
    for intervention in results.interventions.values():
        yield from intervention.warnings


def _print_cells(console: Console, ranking: Ranking) -> None:
    rows = []
    if ranking.by_precision:
        _print_precision(console, ranking)
        return
    for group in ranking.groups.values():
        best = group.neurons[0]
        dominance = "" if best.dominance is None else f"{best.dominance:.1f}"
        rows.append([group.label, best.address, dominance, "" if best.mean is None else f"{best.mean:+.2f}"])
    title = f"{ranking.name}: {ranking.metric} at {ranking.position}"
    console.print()
    print_rows(console, ["who", ranking.unit, "dominance", "mean"], rows[:MOST_ROWS], title=title)
    if len(rows) > MOST_ROWS:
        console.print(f"and {len(rows) - MOST_ROWS} more, in the report", style="dim")


def _print_precision(console: Console, ranking: Ranking) -> None:
    """Print of each set its size and its average precision at the first and the last rank, beside shuffled labels."""
    rows = []
    for group in ranking.groups.values():
        figures = group.precision
        if figures is None:
            continue
        null = figures.shuffled
        first = max((draw.precision[0] for draw in null), default=None)
        last = max((draw.precision[-1] for draw in null), default=None)
        rows.append(
            [
                group.label,
                f"{group.size:,}",
                *(f"{figures.precision[k]:.3f}" for k in (0, -1)),
                *("" if value is None else f"{value:.3f}" for value in (first, last)),
                f"{figures.base_rate:.2f}",
            ]
        )
    title = f"{ranking.name}: average precision of {ranking.site}, {ranking.position}"
    console.print()
    headers = ["who", "set", "first", "last", "shuffled: first", "last", "base rate"]
    print_rows(console, headers, rows[:MOST_ROWS], title=title)
    if len(rows) > MOST_ROWS:
        console.print(f"and {len(rows) - MOST_ROWS} more, in the report", style="dim")


def _print_chosen(console: Console, chosen: NeuronSetResult) -> None:
    """Print how many owners each condition of a filter leaves, and for how many random neurons would pass."""
    placebo = chosen.placebo
    rows = [["with candidates", f"{chosen.funnel[0]} of {len(chosen.owners)}", ""]]
    for n, (condition, left) in enumerate(zip(chosen.conditions, chosen.funnel[1:], strict=True)):
        by_chance = f"{placebo.left[n]:.3g}" if placebo is not None and placebo.left else ""
        rows.append([condition, str(left), by_chance])
    console.print()
    title = f"{chosen.name}: {chosen.size} {'neuron' if chosen.size == 1 else 'neurons'}"
    if placebo is not None and placebo.size is not None:
        title += f", random neurons in their place {placebo.size:.3g}"
    elif placebo is not None:
        title += f"; no placebo: {placebo.reason}"
    print_rows(console, ["condition", "owners", "at random"], rows, title=title)


def _points(intervention: InterventionResult) -> list[dict[str, float | str]]:
    """Choose sweep points worth a line: -1 and -3 of a factor, every point of a short sweep."""
    axes = list(intervention.axes.items())
    if not axes:
        return [{}]
    if len(axes) > 1:
        return []
    name, values = axes[0]
    wanted = [v for v in values if v in SHOWN] if name == "scale" else []
    few = values if len(values) <= 5 else [values[0], values[len(values) // 2], values[-1]]
    chosen: list[float | str] = [*wanted] or few
    return [{name: v} for v in chosen]


def _print_scores(console: Console, intervention: InterventionResult) -> None:
    measure = next((m for m in ("knowledge_score", "pass@5", "answer_probability") if m in intervention.measures), None)
    if measure is None:
        return
    title = f"{intervention.name} ({intervention.title}): {measure}"
    points = _points(intervention)
    if not points:
        console.print(Text(f"{title} over {' and '.join(intervention.axes)}: see the report"), highlight=False)
        return
    axis = next(iter(intervention.axes), "edit")
    rows = []
    for owner in intervention.owners:
        for point in points:
            value = next(iter(point.values()), "")
            figures = [
                _figure(_find(intervention, owner, condition, role, point, measure), placebo=placebo)
                for condition, role, placebo in (
                    ("edit", "target", False),
                    ("edit", "others", False),
                    ("wrong_cell", "target", False),
                    ("random_neurons", "target", True),
                )
            ]
            rows.append([owner, f"{value:g}" if isinstance(value, float) else str(value), *figures])
    headers = ["edited", axis, "target", "others", "wrong cell", "random neurons"]
    console.print()
    print_rows(console, headers, rows, title=title, labels=2)


def _find(
    intervention: InterventionResult, edited: str, condition: str, role: str, axes: dict[str, Any], measure: str
) -> Summary | None:
    for summary in intervention.summaries:
        if (
            summary.edited == edited
            and summary.condition == condition
            and summary.role == role
            and summary.measure == measure
            and summary.relation is None
            and summary.axes == axes
        ):
            return summary
    return None


def _figure(summary: Summary | None, *, placebo: bool) -> str:
    if summary is None or summary.mean is None:
        return "-"
    if placebo and len(summary.draws) > 1:
        low, high = _number(min(summary.draws)), _number(max(summary.draws))
        return low if low == high else f"{low} to {high}"
    return _number(summary.mean)


def _number(value: float) -> str:
    """Write two decimals, or two digits of what would be 0.00."""
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.005 else f"{value:.1e}"


def _texts(intervention: InterventionResult) -> Iterable[Text]:
    """Show one question per owner: what the placeholder says without and with the cell."""
    if not intervention.texts:
        return
    for owner in intervention.owners:
        own = [t for t in intervention.texts if t.edited == owner and t.role == "target"]
        edited = [t for t in own if t.condition == "edit"]
        if not edited:
            continue
        best = max(edited, key=lambda t: (t.hit, -abs(float(next(iter(t.axes.values()), 0) or 0))))
        without = next((t for t in own if t.condition == "no_edit" and t.prompt == best.prompt), None)
        line = Text(f"{owner}: {best.prompt}", style="bold")
        yield line
        if without is not None:
            yield Text(f"  {'without the edit':>18}:{_clip(without.text)}", style="dim")
        dose = ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in best.axes.items())
        yield Text(f"  {dose or 'with it':>18}:{_clip(best.text)}{'  ✓' if best.hit else ''}")


def _clip(text: str) -> str:
    """Keep a text on one line; what was generated is whole in the report."""
    # A model may write anything, commands of the terminal too.
    flat = " ⏎ ".join("".join(c if c.isprintable() else " " for c in line) for line in text.splitlines())
    return flat if flat.startswith(" ") else f" {flat}"


def as_json(results: Results, paths: dict[str, str]) -> dict[str, Any]:
    """Give the summary for programs: what was found, without the per-prompt parts."""
    return {
        "name": results.name,
        "hash": results.hash,
        "cell": results.cell,
        "status": results.status,
        "answer": results.answer,
        "seconds": results.seconds,
        "model": results.model.model_dump(),
        "cells": {
            ranking.name: {
                group.key: {
                    "neuron": group.neurons[0].address,
                    "dominance": group.neurons[0].dominance,
                    "score": group.neurons[0].score,
                }
                for group in ranking.groups.values()
            }
            for ranking in results.rankings.values()
        },
        "interventions": {
            i.name: [s.model_dump() for s in i.summaries if s.relation is None] for i in results.interventions.values()
        },
        "neurons": {
            chosen.name: {
                "size": chosen.size,
                "random_neurons": chosen.placebo.size if chosen.placebo else None,
                "owners": {owner: choice.neurons for owner, choice in chosen.owners.items()},
            }
            for chosen in results.neurons.values()
        },
        "analyses": {a.name: a.figures for a in results.analyses.values()},
        "claims": [c.model_dump() for c in results.claims],
        "warnings": list(_warnings(results)),
        "left_out": len(results.left_out),
        "reused": [s.name for s in results.stages if s.reused],
        "recomputed": {s.name: s.recomputed for s in results.stages if s.recomputed},
        "paths": paths,
    }
