"""Tuning: each owner, and each condition of it, chooses its own value of the sweep on other questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runner.observe import Row
from runner.plan import AskStage, Axes
from specs.language.experiment import Intervention
from specs.language.results import LeftOut, TunedValue
from specs.language.words import ConditionName

__all__ = ["TIES", "Choice", "Chooser", "aim_of", "choose", "points_of", "scores_of", "tuning_spec", "with_aim"]

Chooser = tuple[str, ConditionName, int]
"""Who chooses: an owner, the condition, and its draw."""
Choice = Mapping[Chooser, Axes]
TIES = "of equal figures the gentlest value (nearest to 0, a factor nearest to 1), then the first of the sweep"
EQUAL = 1e-9
"""Figures nearer to each other than this share of their size are equal."""


def aim_of(spec: Intervention) -> tuple[str, int]:
    """Give the measure that is tuned by, and 1 to make it large or -1 to make it small."""
    assert spec.tune is not None
    if spec.tune.maximize is not None:
        return spec.tune.maximize, 1
    assert spec.tune.minimize is not None
    return spec.tune.minimize, -1


def with_aim(spec: Intervention) -> Intervention:
    """Give the intervention as it is scored: the measure that is tuned by is taken there, too."""
    if spec.tune is None:
        return spec
    return spec.model_copy(update={"measure": list(dict.fromkeys([*spec.measure, aim_of(spec)[0]]))})


def tuning_spec(spec: Intervention) -> Intervention:
    """Give the intervention as it is tuned: other questions, about targets alone, and one measure."""
    assert spec.tune is not None
    return spec.model_copy(update={"ask": [spec.tune.on], "others": "none", "measure": [aim_of(spec)[0]], "tune": None})


@dataclass
class Chosen:
    """What was chosen, and who could not choose."""

    values: list[TunedValue] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def choice(self) -> dict[Chooser, Axes]:
        """Give the point of the sweep of everyone who has chosen."""
        return {(v.edited, v.condition, v.draw): tuple(v.axes.items()) for v in self.values}


def choose(stage: AskStage, rows: Sequence[Row], sign: int) -> Chosen:
    """Choose for each owner and condition the value at which the mean of the tuned measure is best.

    ``stage``: the tuning stage, ``rows``: its rows. The mean is over the questions that the clean model knows, of each
    over its placeholders. A value is eligible where the measure is defined for every question that it is defined for
    at some value. Ties: :data:`TIES`. An owner without a value for its edit is left out with all its conditions.
    """
    (measure,) = stage.spec.measure
    order = {axes: n for n, axes in enumerate(dict.fromkeys(row.axes for row in stage.rows if row.axes))}
    found: dict[Chooser, list[Row]] = {}
    for row in rows:
        asked = row.asked
        if asked.role == "target" and asked.condition in ("edit", "wrong_cell", "random_neurons"):
            found.setdefault((asked.edited, asked.condition, asked.draw), []).append(row)
    chosen = Chosen()
    where = f"interventions.{stage.name}"
    for owner in stage.owners:
        own = {who: mine for who, mine in found.items() if who[0] == owner}
        edited = _best(own.get((owner, "edit", 0), ()), measure, sign, order)
        if isinstance(edited, str):
            chosen.left_out.append(LeftOut(what=owner, reason=edited, where=where))
            continue
        for who, mine in own.items():
            best = _best(mine, measure, sign, order)
            if isinstance(best, str):
                draw = f", draw {who[2] + 1}" if who[1] == "random_neurons" else ""
                what = f"{owner}, {who[1].replace('_', ' ')}{draw}"
                chosen.left_out.append(LeftOut(what=what, reason=best, where=where))
                continue
            axes, figure, n = best
            chosen.values.append(
                TunedValue(edited=owner, condition=who[1], draw=who[2], axes=dict(axes), n=n, figure=figure)
            )
    return chosen


def _best(rows: Sequence[Row], measure: str, sign: int, order: Mapping[Axes, int]) -> tuple[Axes, float, int] | str:
    """Give the best point, its figure and the number of questions; or the reason why there is none."""
    if not rows:
        return "none of the questions to tune on is about it"
    known = [row for row in rows if row.known is not False]
    if not known:
        return "the clean model knows none of the questions to tune on"
    defined = {row.asked.prompt_id for row in known if row.values[measure] is not None}
    if not defined:
        return f"{measure} is defined for none of the questions to tune on: {known[0].reasons[measure]}"
    at: dict[Axes, dict[int, list[float]]] = {}
    undefined: set[Axes] = set()
    for row in known:
        point, value = tuple(row.asked.axes.items()), row.values[measure]
        if row.asked.prompt_id not in defined:
            continue
        if value is None:
            undefined.add(point)
        else:
            at.setdefault(point, {}).setdefault(row.asked.prompt_id, []).append(float(value))
    figures = {
        point: math.fsum(math.fsum(v) / len(v) for v in of.values()) / len(of)
        for point, of in at.items()
        if point not in undefined and set(of) == defined
    }
    if not figures:
        return f"{measure} is defined at no value for all of the {len(defined)} questions to tune on"
    largest = max(sign * figure for figure in figures.values())
    tied = [p for p, f in figures.items() if math.isclose(sign * f, largest, rel_tol=EQUAL, abs_tol=1e-300)]
    best = min(tied, key=lambda point: (*(_strength(*pair) for pair in point), order[point]))
    return best, figures[best], len(defined)


def _strength(axis: str, value: float | str) -> float:
    """Say how much a value of a sweep does, for ties: its distance from doing nothing; of words nothing is known."""
    if isinstance(value, str):
        return 0.0
    return abs(value - 1.0) if axis.startswith("scale") else abs(value)


def scores_of(values: Sequence[TunedValue], rows: Sequence[Row], measure: str) -> None:
    """Write beside each chosen value what came of it: the measure's mean over the questions that are scored."""
    found: dict[Chooser, dict[int, list[float]]] = {}
    for row in rows:
        asked, value = row.asked, row.values.get(measure)
        if asked.role == "target" and row.known is not False and value is not None:
            of = found.setdefault((asked.edited, asked.condition, asked.draw), {})
            of.setdefault(asked.prompt_id, []).append(float(value))
    for value_ in values:
        scored = found.get((value_.edited, value_.condition, value_.draw), {})
        value_.n_scored = len(scored)
        value_.score = math.fsum(math.fsum(v) / len(v) for v in scored.values()) / len(scored) if scored else None


def points_of(stage: AskStage) -> Sequence[tuple[str, Axes]]:
    """List whose neurons are edited at which points of the sweep, before anything is chosen."""
    rows = (stage.tuning or stage).rows
    return list(dict.fromkeys((row.edited, row.axes) for row in rows if row.condition == "edit"))
