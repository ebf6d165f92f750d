"""What is worth showing of the results: names, the headline cell and its effect, warnings. No drawing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reports import formats
from reports.curves import (
    Curve,
    Panel,
    Point,
    numeric_measures,
    panels,
)
from specs.language.results import (
    EVERYBODY,
    STANDS_OUT,
    TRUSTED,
    InterventionResult,
    RankedNeuron,
    Ranking,
    RankingGroup,
    Results,
)

HEADLINE_MEASURES = ("knowledge_score", "relative_probability", "answer_probability")


@dataclass(frozen=True)
class Winner:
    """The best neuron of one owner's ranking, and whether it stands out."""

    ranking: Ranking
    group: RankingGroup
    neuron: RankedNeuron | None
    shared_with: tuple[str, ...] = ()

    @property
    def dominance(self) -> float | None:
        """Its score over the mean of the next five of its layer."""
        return self.neuron.dominance if self.neuron else None

    @property
    def stands_out(self) -> bool | None:
        """Whether dominance reaches ``STANDS_OUT``; None when there is none to judge by."""
        if self.dominance is None or self.ranking.unit == "layer":
            return None
        return self.dominance >= STANDS_OUT

    @property
    def trusted(self) -> bool:
        """Whether dominance reaches ``TRUSTED``."""
        return self.dominance is not None and self.dominance >= TRUSTED

    @property
    def verdict(self) -> str:
        """Say in two or three words what the dominance means."""
        if self.neuron is None:
            return "nothing ranked"
        if self.ranking.unit == "layer":
            return "steadiest layer"
        if self.dominance is None:
            return "no dominance"
        if self.dominance < STANDS_OUT:
            return "none stands out"
        return "stands out" if self.dominance >= TRUSTED else "stands out weakly"

    @property
    def values(self) -> list[float]:
        """Its activation on every prompt of the group; empty when the run did not keep it."""
        return self.group.values.get(self.neuron.address, []) if self.neuron else []


@dataclass(frozen=True)
class Effect:
    """What the edit did at one value of the sweep, beside its controls."""

    axis: str | None
    x: float | str | None
    target: Point | None
    others: Point | None
    random_neurons: Point | None
    wrong_cell: Point | None


@dataclass(frozen=True)
class Headline:
    """The figures at the top of the page, for the first owner of the run."""

    owner: str
    label: str
    winner: Winner | None
    neurons: tuple[str, ...]
    """Addresses that were edited, when nothing was ranked for this owner; the first of many."""
    intervention: InterventionResult | None
    measure: str | None
    effects: tuple[Effect, ...]

    @property
    def n_neurons(self) -> int:
        """How many neurons were edited, listed or not."""
        return self.intervention.size(self.owner) if self.intervention else 0


@dataclass(frozen=True)
class Warning:
    """A warning of the run and the block it belongs to."""

    text: str
    where: str


def groups(results: Results) -> list[tuple[Ranking, RankingGroup]]:
    """List every ranked owner."""
    return [(ranking, group) for ranking in results.rankings.values() for group in ordered(results, ranking)]


def ordered(results: Results, ranking: Ranking) -> list[RankingGroup]:
    """List the owners of a ranking as the interventions do, each entity's own name before its variants."""
    edited = [owner for result in results.interventions.values() for owner in result.owners]
    entities = [group.entity or group.key for group in ranking.groups.values()]
    order = {entity: i for i, entity in enumerate(dict.fromkeys([*edited, *entities]))}
    return sorted(
        ranking.groups.values(),
        key=lambda group: (order[group.entity or group.key], group.variant is not None),
    )


def label(results: Results, owner: str) -> str:
    """Give the name of an owner as it stands in the prompts, or its key when nothing was ranked for it."""
    if owner == EVERYBODY:
        return "all owners"
    for _, group in groups(results):
        if group.key == owner:
            return formats.visible(group.label)
    for _, group in groups(results):
        if group.entity == owner and group.variant is None:
            return formats.visible(group.label)
    return formats.visible(owner)


def winner(ranking: Ranking, group: RankingGroup) -> Winner:
    """Give the best neuron of a group and the unrelated owners for whom it wins too."""
    neuron = group.neurons[0] if group.neurons else None
    shared = ranking.shared_winners.get(neuron.address, []) if neuron else []
    # That another spelling of the same entity has the same winner is no reason for doubt.
    others = (key for key in shared if key in ranking.groups and ranking.groups[key].entity != group.entity)
    return Winner(ranking, group, neuron, tuple(others))


def winners(results: Results, ranking: Ranking) -> list[Winner]:
    """Give the winner for every owner of a ranking."""
    return [winner(ranking, group) for group in ordered(results, ranking)]


def headline(results: Results) -> Headline | None:
    """Choose what stands at the top: the first owner's cell, and what editing it did.

    The intervention is the first one that sweeps ``scale``, otherwise the first with figures. The values
    shown are -1 and the end of the sweep. None when nothing was ranked and nothing edited.
    """
    intervention = _headline_intervention(results)
    owner = _headline_owner(results, intervention)
    if owner is None:
        return None
    best = next((winner(r, g) for r, g in groups(results) if g.key == owner and r.unit == "neuron"), None)
    neurons = tuple(intervention.neurons.get(owner, ())) if intervention else ()
    measure = main_measure(intervention) if intervention else None
    effects: tuple[Effect, ...] = ()
    if intervention is not None and measure is not None:
        found = panels(intervention, measure, owner)
        if found:
            effects = tuple(effect(found[0], x) for x in _headline_values(found[0]) if _measured(found[0], x))
    return Headline(owner, label(results, owner), best, neurons, intervention, measure, effects)


def effect(panel: Panel, x: float | str | None) -> Effect:
    """Read target, others and the two controls at one value of the sweep."""

    def at(curve: Curve | None) -> Point | None:
        return curve.at(x) if curve else None

    return Effect(
        panel.axis,
        x,
        at(panel.curve("edit", "target") or panel.curve("edit", "texts")),
        at(panel.curve("edit", "others")),
        at(panel.curve("random_neurons", "target")),
        at(panel.curve("wrong_cell", "target")),
    )


def main_measure(result: InterventionResult) -> str | None:
    """Choose the measure to show first: the knowledge score when there is one."""
    measured = numeric_measures(result)
    return next((m for m in HEADLINE_MEASURES if m in measured), measured[0] if measured else None)


def warnings(results: Results) -> list[Warning]:
    """Gather the warnings of the run, of its rankings and of its interventions, each once."""
    found = [Warning(text, "") for text in results.warnings]
    for ranking in results.rankings.values():
        found += [Warning(text, ranking.name) for text in ranking.warnings]
    for result in results.interventions.values():
        found += [Warning(text, result.name) for text in result.warnings]
    kept: dict[str, Warning] = {}
    for warning in found:
        kept[warning.text] = warning if warning.where else kept.get(warning.text, warning)
    return list(kept.values())


def meter(dominance: float | None) -> float | None:
    """Place a dominance on a bar, as a share of its length: by logarithm, from 1 to 100."""
    if dominance is None or dominance <= 1:
        return None if dominance is None else 0.0
    return min(1.0, math.log10(dominance) / 2)


def _headline_intervention(results: Results) -> InterventionResult | None:
    with_figures = [i for i in results.interventions.values() if numeric_measures(i)]
    swept = [i for i in with_figures if len(i.axes.get("scale", ())) > 1]
    return next(iter(swept or with_figures or list(results.interventions.values())), None)


def _headline_owner(results: Results, intervention: InterventionResult | None) -> str | None:
    if intervention is not None and intervention.owners:
        return intervention.owners[0]
    return next((group.key for ranking, group in groups(results) if ranking.unit == "neuron"), None)


def _headline_values(panel: Panel) -> list[float | str | None]:
    """Choose -1 and the end of the sweep; of a run that stopped, the last value it came to."""
    if not panel.values:
        return [None]
    reached = [v for v in panel.values if _measured(panel, v)] or list(panel.values)
    chosen = [-1.0] if panel.axis == "scale" and -1.0 in reached else []
    return list(dict.fromkeys([*chosen, reached[-1]]))


def _measured(panel: Panel, x: float | str | None) -> bool:
    points = [curve.at(x) for curve in panel.curves if curve.swept == (x is not None)]
    return any(point is not None and point.mean is not None for point in points)
