"""Figures of single neurons: what an intervention measured where it edited one neuron alone.

An edit that sweeps ranks edits one neuron at each rank, and so do its random draws. Each of these neurons has rows of
its own, and its figure is their mean over questions, as in :mod:`runner.summaries`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.filters import Figure
from runner.neurons import CUTS
from runner.observe import Row
from runner.plan import AskStage, Axes, Condition
from runner.resolve import Resolver
from specs.language.experiment import Experiment
from specs.language.references import Address, ResultPath, accuracy_of, usual_role

__all__ = ["Figures", "cut_point", "is_cut"]


def is_cut(axis: str) -> bool:
    """Say whether a sweep is over cuts of a set (``rank``, ``rank2``, ``top``) and not over values."""
    return axis.rstrip("0123456789") in CUTS


def cut_point(axes: Axes | Mapping[str, float | str]) -> Axes:
    """Give the part of a point of the sweep that says which neurons are edited."""
    pairs = axes.items() if isinstance(axes, Mapping) else axes
    return tuple(sorted((axis, value) for axis, value in pairs if is_cut(axis)))


@dataclass
class Figures:
    """What one intervention found about single neurons."""

    experiment: Experiment
    stage: AskStage
    alone: dict[str, dict[Address, Axes]] = field(default_factory=dict)
    """Owner: the neurons that were edited alone, best rank first, and the cuts at which they were."""
    together: dict[str, dict[Address, int]] = field(default_factory=dict)
    """Owner: the neurons that were only edited with others, and with how many."""
    draws: dict[tuple[str, int], dict[Axes, Address]] = field(default_factory=dict)
    """(owner, draw of the placebo): the cuts and the random neuron edited alone there."""
    _rows: dict[tuple[str, str, str, Axes], list[Row]] = field(default_factory=dict)
    """(owner, condition, role, cuts): rows."""

    @classmethod
    def of(cls, experiment: Experiment, stage: AskStage, resolver: Resolver, rows: Iterable[Row] = ()) -> Figures:
        """Find which neurons were edited alone, and sort the rows by what they are about."""
        found = cls(experiment, stage)
        points = list(dict.fromkeys((row.edited, row.axes) for row in stage.rows if row.condition == "edit"))
        for owner, axes in points:
            edited = _edited(stage, resolver, Condition(stage.name, "edit", owner, 0, axes))
            point = cut_point(axes)
            if len(edited) == 1:
                found.alone.setdefault(owner, {}).setdefault(edited[0], point)
                for draw in range(stage.spec.controls.random_neurons):
                    drawn = _edited(stage, resolver, Condition(stage.name, "random_neurons", owner, draw, axes))
                    found.draws.setdefault((owner, draw), {})[point] = drawn[0]
            else:
                for address in edited:
                    found.together.setdefault(owner, {}).setdefault(address, len(edited))
        found.add(rows)
        return found

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows that were observed."""
        for row in rows:
            asked = row.asked
            key = (asked.edited, asked.condition, asked.role, cut_point(asked.axes))
            self._rows.setdefault(key, []).append(row)

    def value(self, path: ResultPath, owner: str, address: Address, draw: int | None = None) -> Figure:
        """Give the number at a result path for one neuron of an owner, or for the random neuron in its place."""
        if accuracy := accuracy_of(path.quantity):
            return self._drop(replace(path, quantity=accuracy), owner, address, draw)
        if address not in self.alone.get(owner, {}):
            n = self.together.get(owner, {}).get(address)
            why = f"it was edited together with {n - 1} others" if n else "it was not edited"
            return Figure(reason=f"{why} by {self.stage.name}")
        point = dict(self.alone[owner][address])
        condition, role = path.condition or "edit", path.role or usual_role(path.quantity)
        wanted: dict[str, str] = {}
        for axis, text in path.axes:
            if is_cut(axis) and axis in self.stage.axes:
                point[axis] = next((v for v in self.stage.axes[axis] if _same(v, text)), text)
            else:
                wanted[axis] = text
        if condition in ("clean", "no_edit"):
            point = {}
        in_place = draw is not None and condition == "edit"
        key = (owner, "random_neurons" if in_place else condition, role, cut_point(point))
        rows = [
            row
            for row in self._rows.get(key, ())
            if (not in_place or row.asked.draw == draw) and all(self._is_at(row, a, v) for a, v in wanted.items())
        ]
        return _mean(rows, path.quantity or "")

    def _drop(self, path: ResultPath, owner: str, address: Address, draw: int | None) -> Figure:
        """Give (clean - edited) / clean of an accuracy."""
        edited = self.value(path, owner, address, draw)
        columns = tuple(pair for pair in path.axes if pair[0] not in self.stage.axes)
        clean = self.value(replace(path, condition="clean", axes=columns), owner, address)
        for figure in (edited, clean):
            if figure.value is None:
                return figure
        assert isinstance(edited.value, float) and isinstance(clean.value, float)
        if clean.value == 0:
            return Figure(reason=f"the clean model's {path.quantity} is 0, so it has no drop")
        return Figure((clean.value - edited.value) / clean.value, edited.n)

    def _is_at(self, row: Row, axis: str, text: str) -> bool:
        asked = row.asked
        if axis in self.stage.axes:
            return asked.condition in ("clean", "no_edit") or _same(asked.axes.get(axis), text)
        value = getattr(asked, axis, None)
        if value is None and asked.entity in self.experiment.entities:
            value = self.experiment.entities[asked.entity].attributes.get(axis)
        return _same(value, text)


def _edited(stage: AskStage, resolver: Resolver, condition: Condition) -> list[Address]:
    found: dict[Address, None] = {}
    for number in range(len(stage.spec.edit)):
        found.update(dict.fromkeys(resolver.neurons(number, condition)))
    return list(found)


def _same(value: float | str | None, text: str) -> bool:
    if value is None or isinstance(value, str):
        return value == text
    try:
        return math.isclose(value, float(text), rel_tol=1e-9, abs_tol=1e-12)
    except ValueError:
        return False


def _mean(rows: Sequence[Row], measure: str) -> Figure:
    """Average a measure over questions: first what was observed of one question, then the questions."""
    if not rows:
        return Figure(reason="nothing was asked")
    known = [row for row in rows if row.known is not False]
    if not known:
        return Figure(reason="the clean model knows none of the answers")
    units: dict[int, list[float]] = {}
    for row in known:
        value = row.values.get(measure)
        if value is not None:
            units.setdefault(row.asked.prompt_id, []).append(float(value))
    if not units:
        return Figure(reason=known[0].reasons.get(measure, f"{measure} was not measured"))
    means = [math.fsum(values) / len(values) for values in units.values()]
    return Figure(math.fsum(means) / len(means), len(means))
