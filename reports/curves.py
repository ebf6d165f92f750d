"""The curves of an intervention: its summaries, sorted by who was edited and what was done."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from specs.language.results import EVERYBODY, InterventionResult, Summary
from specs.language.words import ConditionName, Role

SeriesKey = tuple[ConditionName, Role]

DRAWN: tuple[SeriesKey, ...] = (
    ("edit", "target"),
    ("edit", "others"),
    ("edit", "unknown"),
    ("edit", "texts"),
    ("random_neurons", "target"),
    ("wrong_cell", "target"),
    ("no_edit", "target"),
    ("clean", "target"),
)
"""The series that are drawn, in the order of the legend; every other one stands in the table of numbers."""

SERIES_WORDS: dict[SeriesKey, str] = {
    ("edit", "target"): "target",
    ("edit", "others"): "others",
    ("edit", "unknown"): "unknown names",
    ("edit", "texts"): "texts about nobody",
    ("random_neurons", "target"): "random neurons",
    ("wrong_cell", "target"): "wrong cell",
    ("no_edit", "target"): "no edit",
    ("clean", "target"): "clean",
    ("random_neurons", "others"): "random neurons, others",
    ("wrong_cell", "others"): "wrong cell, others",
}

BY_DEFINITION = (
    "knowledge_score",
    "relative_probability",
    "knowledge_loss",
    "knowledge_loss_clipped",
    "relative_perplexity",
)
"""Measures that compare with the clean model, which therefore has the same value in every run."""

REFERENCE_WORDS: dict[str, dict[float, str]] = {
    "scale": {1.0: "unchanged", 0.0: "zero ablation", -1.0: "negative ablation"},
    "set": {0.0: "zero ablation"},
}
"""Sweep: its values that have a name in the field."""

AXIS_TITLES = {
    "scale": "factor on the neuron's value",
    "set": "value the neuron is set to",
    "add": "multiple of the vector added",
    "times": "value of the neuron, in multiples of its own mean",
    "top": "number of neurons, best first",
    "rank": "rank of the neuron",
    "threshold": "threshold",
    "mass": "share of the total score",
}

KEY_FACTORS = (1.0, 0.0, -1.0, -2.0, -3.0)
MOST_COLUMNS = 6


@dataclass(frozen=True)
class Point:
    """One figure of a curve, with what it rests on; ``x`` is None for a condition that is not swept."""

    x: float | str | None
    n: int
    mean: float | None
    se: float | None
    low: float | None
    high: float | None
    draws: tuple[float, ...] = ()

    @property
    def placebo(self) -> tuple[float, float] | None:
        """Lowest and highest mean of the draws of a control, if there were several."""
        return (min(self.draws), max(self.draws)) if len(self.draws) > 1 else None


@dataclass(frozen=True)
class Curve:
    """One condition in one role over the sweep."""

    condition: ConditionName
    role: Role
    points: tuple[Point, ...]

    @property
    def key(self) -> SeriesKey:
        """The condition and the role."""
        return self.condition, self.role

    @property
    def swept(self) -> bool:
        """Whether it has a figure for more than one value of the sweep, or for one that is named."""
        return any(point.x is not None for point in self.points)

    def at(self, x: float | str | None) -> Point | None:
        """Give the point at ``x``; a condition that is not swept has one point for all."""
        for point in self.points:
            if point.x == x or point.x is None:
                return point
        return None


@dataclass(frozen=True)
class Panel:
    """One chart: the curves of one measure for one owner."""

    owner: str
    measure: str
    axis: str | None
    values: tuple[float | str, ...]
    """Values of the sweep, in the order in which they were asked for."""
    curves: tuple[Curve, ...]
    fixed: dict[str, float | str] = field(default_factory=dict)
    """The other sweeps, each held at one of its values here."""
    relation: str | None = None

    def curve(self, condition: ConditionName, role: Role) -> Curve | None:
        """Give one series, or None when the run has none."""
        for curve in self.curves:
            if curve.key == (condition, role):
                return curve
        return None

    @property
    def drawn(self) -> tuple[Curve, ...]:
        """The curves that are drawn, in the order of the legend.

        Clean is not drawn where it is 1 or 0 by definition: a rule of the measure stands there.
        """
        defined = self.measure in BY_DEFINITION
        return tuple(
            c for key in DRAWN for c in self.curves if c.key == key and not (defined and c.condition == "clean")
        )


def sweep_axis(result: InterventionResult) -> str | None:
    """Name the sweep with the most values, which lies along x; None when nothing was swept."""
    if not result.axes:
        return None
    return max(result.axes, key=lambda name: len(result.axes[name]))


def numeric(values: Iterable[float | str]) -> bool:
    """Say whether every value is a number."""
    return all(not isinstance(value, str) for value in values)


def key_values(result: InterventionResult) -> list[float | str]:
    """Choose the values of the sweep for a narrow table: the named ones and the last, or all if few."""
    axis = sweep_axis(result)
    values: list[float | str] = result.axes[axis] if axis else []
    if len(values) <= MOST_COLUMNS:
        return list(values)
    named: list[float | str] = [value for value in values if axis == "scale" and value in KEY_FACTORS]
    if not named:
        step = (len(values) - 1) / (MOST_COLUMNS - 1)
        named = [values[round(step * i)] for i in range(MOST_COLUMNS)]
    return named if values[-1] in named else [*named, values[-1]]


def panels(result: InterventionResult, measure: str, owner: str, relation: str | None = None) -> list[Panel]:
    """Sort one owner's summaries of one measure into charts: one for each combination of the other sweeps.

    A combination without any figure gives no panel.
    """
    axis = sweep_axis(result)
    rest = {name: values for name, values in result.axes.items() if name != axis}
    found: list[Panel] = []
    mine = [s for s in result.summaries if s.measure == measure and s.edited == owner and s.relation == relation]
    for combination in itertools.product(*rest.values()):
        fixed = dict(zip(rest, combination, strict=True))
        chosen = [s for s in mine if all(s.axes.get(name, value) == value for name, value in fixed.items())]
        curves = _curves(chosen, axis, result.axes[axis] if axis else [])
        if any(point.mean is not None for curve in curves for point in curve.points):
            values = tuple(result.axes[axis]) if axis else ()
            # What has one value all along is said with the edit, and not at every chart.
            told = {name: value for name, value in fixed.items() if len(rest[name]) > 1}
            found.append(Panel(owner, measure, axis, values, tuple(curves), told, relation))
    return found


def relations(result: InterventionResult) -> list[str]:
    """List the relations that have figures of their own, in order of appearance."""
    return list(dict.fromkeys(s.relation for s in result.summaries if s.relation is not None))


def owners(result: InterventionResult) -> list[str]:
    """List the owners that have figures, the mean over all of them last when there are several."""
    found = set(s.edited for s in result.summaries)
    listed = [owner for owner in result.owners if owner in found]
    listed += sorted(found - set(listed) - {EVERYBODY})
    return [*listed, EVERYBODY] if EVERYBODY in found and len(listed) != 1 else listed


def numeric_measures(result: InterventionResult) -> list[str]:
    """List the measures that have figures (texts have none)."""
    found = set(s.measure for s in result.summaries)
    return [m for m in result.measures if m in found] + sorted(found - set(result.measures))


def _curves(summaries: Sequence[Summary], axis: str | None, values: Sequence[float | str]) -> list[Curve]:
    groups: dict[SeriesKey, list[Point]] = {}
    asked = {s.role for s in summaries}
    for s in summaries:
        x = s.axes.get(axis) if axis else None
        point = Point(x, s.n, s.mean, s.se, s.low, s.high, tuple(s.draws))
        # Where texts about nobody alone are measured, their controls are drawn as those of the target are elsewhere.
        role: Role = "target" if s.role == "texts" and s.condition != "edit" and "target" not in asked else s.role
        groups.setdefault((s.condition, role), []).append(point)
    order = {value: i for i, value in enumerate(values)}
    rank = {key: i for i, key in enumerate(SERIES_WORDS)}
    curves = []
    for key in sorted(groups, key=lambda key: (rank.get(key, len(rank)), key)):
        points = sorted(groups[key], key=lambda p: order.get(p.x, len(order)) if p.x is not None else -1)
        curves.append(Curve(*key, tuple(points)))
    return curves
