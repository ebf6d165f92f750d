"""Fill conditions in: from a symbol such as "the cell of trump, scaled by -1" to layers, neurons and numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from runner.execute import Engine, Outcome
from runner.execute import Reading as SiteReading
from runner.localization.ranking import RankingData
from runner.neurons import CUTS, Known, axes_of_edit, draw_random, layers_of, owners_of, resolve_neurons, values_of_edit
from runner.plan import AskStage, Axes, Condition, MeanStage
from runner.program import Held, NeuronEdit, Resolved
from specs.language.errors import RunError
from specs.language.experiment import Edit, Experiment, NeuronsRef, Times
from specs.language.references import Address

__all__ = ["Resolver", "mean_values"]


@dataclass
class Resolver:
    """Resolves the conditions of one intervention, given the rankings; the same question has one answer."""

    experiment: Experiment
    stage: AskStage
    rankings: Mapping[str, RankingData]
    n_layers: int
    means: Mapping[tuple[str, int], Mapping[tuple[str, str], np.ndarray]] | None = None
    _neurons: dict[tuple[int, str, str, int, Hashable], list[Address]] = field(default_factory=dict)
    _resolved: dict[Condition, Resolved] = field(default_factory=dict)

    def __call__(self, condition: Hashable) -> Resolved:
        """Give the edits of a condition, and what it holds."""
        assert isinstance(condition, Condition)
        if condition not in self._resolved:
            self._resolved[condition] = self._resolve(condition)
        return self._resolved[condition]

    def _resolve(self, condition: Condition) -> Resolved:
        edits: tuple[tuple[NeuronEdit, ...], ...] = ()
        if condition.kind != "no_edit":
            edits = tuple(self._edit(n, edit, condition) for n, edit in enumerate(self.stage.spec.edit))
        return Resolved(edits, self._held())

    def has_neurons(self, owner: str, axes: Axes) -> bool:
        """Say whether every edit has something to act on for an owner at a point of the sweep."""
        condition = Condition(self.stage.name, "edit", owner, 0, axes)
        return all(self.neurons(number, condition) for number in range(len(self.stage.spec.edit)))

    def neurons(self, number: int, condition: Condition) -> list[Address]:
        """List the neurons that edit ``number`` touches under a condition."""
        spec = self.stage.spec.edit[number]
        axes = axes_of_edit(self.experiment, self.stage.spec, number, dict(condition.axes))
        cuts = tuple((k, v) for k, v in axes.items() if k in CUTS)
        key = (number, condition.kind, condition.owner, condition.draw, cuts)
        if key not in self._neurons:
            ref: NeuronsRef | None = spec.neurons
            if ref is None:
                raise RunError("an edit outside a set is not built yet")
            widths = self._widths()
            own = resolve_neurons(self.experiment, ref, condition.owner, self.rankings, axes, widths, self.figures)
            if condition.kind == "random_neurons":
                edited = Condition(condition.intervention, "edit", condition.owner, 0, condition.axes)
                avoid = [a for n in range(len(self.stage.spec.edit)) for a in self.neurons(n, edited)]
                seed: tuple[object, ...] = (self.experiment.seed, self.stage.name, number)
                seed += (condition.owner, condition.draw)
                # Another rank is another neuron, and so are its placebos; a longer `top` keeps those of a shorter.
                ranks = tuple(v for k, v in cuts if k == "rank")
                own = draw_random(own, avoid, widths, seed + ranks)
            self._neurons[key] = own
        return self._neurons[key]

    figures: Known = field(default_factory=dict)
    """What interventions that were run before found about single neurons, for filters that read it."""

    widths_of: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """(site, layer): number of neurons, for draws from sites that no ranking has read."""

    def _widths(self) -> Mapping[tuple[str, int], int]:
        widths: dict[tuple[str, int], int] = dict(self.widths_of)
        for ranking in self.rankings.values():
            widths.update(ranking.widths())
        return widths

    def _edit(self, number: int, spec: Edit, condition: Condition) -> tuple[NeuronEdit, ...]:
        addresses = self.neurons(number, condition)
        value = values_of_edit(spec, axes_of_edit(self.experiment, self.stage.spec, number, dict(condition.axes)))
        if spec.scale is not None:
            amounts = [float(value)] * len(addresses)
            op = "scale"
        else:
            op = "set"
            if isinstance(spec.set, Times) or value == "own_mean":
                factor = float(value) if isinstance(spec.set, Times) else 1.0
                # A placebo gets the dose of the real edit, so its values are those of the neurons it stands for.
                source = Condition(condition.intervention, "edit", condition.owner, 0, condition.axes)
                means = self._own_means(number, source)
                amounts = [factor * means[a] for a in self.neurons(number, source)]
            else:
                amounts = [float(value)] * len(addresses)
        by_place: dict[tuple[str, int], list[tuple[int, float]]] = {}
        for address, amount in zip(addresses, amounts, strict=True):
            by_place.setdefault((address.site, address.layer), []).append((address.neuron, amount))
        return tuple(
            NeuronEdit(op, site, layer, tuple(n for n, _ in pairs), tuple(a for _, a in pairs))  # type: ignore[arg-type]
            for (site, layer), pairs in by_place.items()
        )

    def _own_means(self, number: int, condition: Condition) -> dict[Address, float]:
        """Give the mean activation of an edit's neurons over the prompts on which they were ranked for its owner.

        In a union a neuron has the mean of the first part that holds it.
        """
        axes = axes_of_edit(self.experiment, self.stage.spec, number, dict(condition.axes))
        means: dict[Address, float] = {}
        for part in self._parts(self.stage.spec.edit[number].neurons):
            widths = self._widths()
            found = resolve_neurons(self.experiment, part, condition.owner, self.rankings, axes, widths, self.figures)
            sources = owners_of(self.experiment, part).rankings
            if not sources:
                raise RunError(f"{found[0]} was ranked on no prompts, so own_mean has no value", remedy="give a number")
            name, key = sources[0]
            ranking = self.rankings[name]
            mean = ranking.groups[key or condition.owner].mean
            if mean is None:
                raise RunError(
                    f"'{name}' ({ranking.metric}) reads no activations, so own_mean has no value",
                    remedy="give a number, or rank by another metric",
                )
            for address in found:
                means.setdefault(address, float(mean[ranking.layers.index(address.layer), address.neuron]))
        return means

    def _parts(self, ref: NeuronsRef | None) -> Iterator[NeuronsRef]:
        """Take unions apart, those that have a name too."""
        if isinstance(ref, list):
            for part in ref:
                yield from self._parts(part)
        elif isinstance(ref, str) and ref in self.experiment.neurons:
            yield from self._parts(self.experiment.neurons[ref])
        elif ref is not None:
            yield ref

    def _held(self) -> Held | None:
        places = self.held_places()
        return Held(places, self.means) if places else None

    def held_places(self) -> dict[tuple[str, int], tuple[str, ...]]:
        """List the components that the freeze holds: (site, layer) -> names of positions; none without one."""
        freeze = self.stage.spec.freeze
        if freeze is None:
            return {}
        places: dict[tuple[str, int], tuple[str, ...]] = {}
        for site in freeze.site:
            for layer in layers_of(freeze.layers, self.n_layers):
                free = {
                    position
                    for exception in freeze.except_
                    if (exception.site is None or site in exception.site)
                    and layer in layers_of(exception.layers, self.n_layers)
                    for position in (exception.position or freeze.position)
                }
                names = tuple(p for p in freeze.position if p not in free)
                if names:
                    places[(site, layer)] = names
        return places


def mean_values(
    engine: Engine, stage: MeanStage, *, progress: Callable[[int], None] | None = None
) -> tuple[dict[tuple[str, int], dict[tuple[str, str], np.ndarray]], Outcome]:
    """Average components over names: (site, layer) -> (prompt, position) -> vector ``[width]``, float32."""
    keys = list(dict.fromkeys(stage.members.values()))
    row = {key: n for n, key in enumerate(keys)}
    sums: dict[tuple[str, int], np.ndarray] = {}
    counts = np.zeros(len(keys))
    for key in stage.members.values():
        counts[row[key]] += 1

    def keep(reading: SiteReading) -> None:
        index = np.array([row[stage.members[int(s)]] for s in reading.sequence])
        for site, values in reading.values.items():
            for n, at_layer in enumerate(values):
                if (site, n) not in sums:
                    sums[(site, n)] = np.zeros((len(keys), at_layer.shape[1]))
                np.add.at(sums[(site, n)], index, at_layer.double().cpu().numpy())

    outcome = engine.run(stage.job, on_values=keep, progress=progress)
    means = {
        (site, stage.job.layers[n]): {key: (total[k] / counts[k]).astype(np.float32) for k, key in enumerate(keys)}
        for (site, n), total in sums.items()
    }
    return means, outcome
