"""``correlation``: do two figures of the owners go together?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from runner.analyses.protocol import Findings
from runner.claims import look_up
from specs.language.errors import RunError
from specs.language.experiment import Analysis as AnalysisSpec
from specs.language.facts import entities_of
from specs.language.results import AnalysisResult

__all__ = ["correlation"]

LEAST = 3
"""Owners below which a correlation says nothing."""
SYMBOL = {"spearman": "rho", "pearson": "r", "kendall": "tau"}


def correlation(name: str, spec: AnalysisSpec, found: Findings) -> AnalysisResult:
    """Correlate two columns over owners: a figure of each one's ranking or intervention, or an attribute of it.

    One row for each owner that has both; owners that lack one are left out with the reason. Figures: ``rho`` (of
    every method), ``p`` (two-sided, as scipy gives it) and ``n``. Without at least three owners, or where a column
    is constant, there is neither rho nor p. Other forms of a name are not counted beside the name itself.
    """
    from scipy import stats

    assert spec.correlation is not None
    method = spec.method or "spearman"
    columns = spec.correlation
    owners = _owners(name, columns, found)
    read = [_reader(column, found) for column in columns]
    rows: list[list[str | float | int | bool | None]] = []
    for owner, label in owners.items():
        values = []
        for column, reader in zip(columns, read, strict=True):
            value = reader(owner)
            if isinstance(value, str):
                found.leave_out(name, f"{owner}", f"{column}: {value}")
                break
            values.append(value)
        else:
            rows.append([label, *values])
    figures = {"n": float(len(rows))}
    x, y = ([float(row[k]) for row in rows] for k in (1, 2))  # type: ignore[arg-type]
    if len(rows) < LEAST:
        sentence = f"Only {len(rows)} owners have both {columns[0]} and {columns[1]}; a correlation needs {LEAST}."
    elif len(set(x)) == 1 or len(set(y)) == 1:
        constant = columns[0] if len(set(x)) == 1 else columns[1]
        sentence = f"{constant} is the same for all {len(rows)} owners, so nothing can go with it."
    else:
        test = {"spearman": stats.spearmanr, "pearson": stats.pearsonr, "kendall": stats.kendalltau}[method]
        rho, p = (float(v) for v in test(np.array(x), np.array(y)))
        if math.isfinite(rho) and math.isfinite(p):
            figures |= {"rho": rho, "p": p}
        chance = "< 0.001" if p < 0.001 else f"= {p:.3f}"
        sentence = (
            f"Over {len(rows)} owners {columns[0]} and {columns[1]} have {method} "
            f"{SYMBOL[method]} = {rho:.2f} (p {chance})."
        )
    if len(rows) < len(owners):
        sentence += f" {len(owners) - len(rows)} owners lack one of them and are left out."
    return AnalysisResult(
        name=name,
        verb="correlation",
        of=f"{columns[0]} and {columns[1]}",
        columns=["owner", *columns],
        rows=rows,
        sentence=sentence,
        figures=figures,
    )


def _owners(name: str, columns: Sequence[str], found: Findings) -> dict[str, str]:
    """Find whose columns they are, with their names: owners of the rankings and interventions, else all entities."""
    each: list[dict[str, str]] = []
    for column in columns:
        block, slash, rest = column.partition("/")
        if not slash:
            continue
        if block in found.results.rankings:
            groups = found.results.rankings[block].groups
            each.append({k: g.label for k, g in groups.items() if g.variant is None})
            if rest.rpartition("/")[0] in groups:
                raise RunError(f"'{name}': '{column}' is one number", remedy=f"write {block}/{rest.rpartition('/')[2]}")
        elif block in found.results.interventions:
            done = found.results.interventions[block]
            each.append({owner: _label(owner, found) for owner in done.owners if "/" not in owner})
        elif block in found.results.neurons:
            of_set = found.results.neurons[block].owners
            each.append({owner: one.label for owner, one in of_set.items() if "/" not in owner})
        else:
            raise RunError(f"'{name}': '{block}' is neither a ranking, a neuron set nor an intervention of this run")
    if not each:
        return {key: entity.name for key, entity in found.experiment.entities.items()}
    return {owner: label for owner, label in each[0].items() if all(owner in others for others in each[1:])}


def _reader(column: str, found: Findings) -> Callable[[str], float | str]:
    """Give the function from an owner to its number, or to the reason why it has none."""
    block, slash, rest = column.partition("/")

    def attribute(owner: str) -> float | str:
        entities = entities_of(found.experiment, owner)
        if not entities:
            return "it is no entity"
        value = found.experiment.entities[entities[0]].attributes.get(column)
        if value is None:
            return "it has none"
        try:
            number = float(value)
        except ValueError:
            return f"'{value}' is no number"
        return number if math.isfinite(number) else f"'{value}' is no number"

    def figure(owner: str) -> float | str:
        seen = look_up(f"{block}/{owner}/{rest}", found.results)
        return seen.number if seen.number is not None else seen.reason or "it is no number"

    return figure if slash else attribute


def _label(owner: str, found: Findings) -> str:
    entity = found.experiment.entities.get(owner)
    return owner if entity is None else entity.name
