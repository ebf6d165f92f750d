"""Fill conditions in: from a symbol such as "the cell of trump, scaled by -1" to layers, neurons and numbers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from runner.localization.ranking import RankingData
from runner.members import Members
from runner.neurons import (
    CUTS,
    Known,
    NeuronSets,
    axes_of_edit,
    draw_like,
    edit_position,
    layers_of,
    names_layers,
    owners_of,
    values_of,
    values_of_edit,
)
from runner.plan import AskStage, Axes, Condition
from runner.program import Held, NeuronEdit, Resolved, Stored
from runner.sources import source_of
from runner.vectors import Made, random_direction
from specs.language.errors import RunError
from specs.language.experiment import Edit, Experiment, NeuronsRef, Source
from specs.language.references import Address, is_layer_place

__all__ = ["Resolver"]


@dataclass
class Resolver:
    """Resolves the conditions of one intervention, given the rankings; the same question has one answer."""

    experiment: Experiment
    stage: AskStage
    rankings: Mapping[str, RankingData]
    n_layers: int
    stored: list[Stored] = field(default_factory=list)
    """What was read from other prompts, in the order of the stage's sources."""
    _neurons: dict[tuple[int, str, str, int, Hashable], Members] = field(default_factory=dict)
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
        return Resolved(edits, self._held(condition))

    def has_neurons(self, owner: str, axes: Axes) -> bool:
        """Say whether every edit has something to act on for an owner at a point of the sweep, and a freeze to hold."""
        condition = Condition(self.stage.name, "edit", owner, 0, axes, owner)
        for number, edit in enumerate(self.stage.spec.edit):
            if self._vector(edit) is None and not len(self.members(number, condition)):
                return False
        return not names_layers(self.stage.spec.freeze) or bool(self.held_places(condition)[0])

    def neurons(self, number: int, condition: Condition) -> list[Address]:
        """List the neurons that edit ``number`` touches under a condition."""
        return self.members(number, condition).addresses()

    def members(self, number: int, condition: Condition) -> Members:
        """Give the neurons that edit ``number`` touches under a condition; none of its own for a vector."""
        spec = self.stage.spec.edit[number]
        if self._vector(spec) is not None:
            return Members.of([])  # every one of its site, which is said by the vector
        axes = axes_of_edit(self.experiment, self.stage.spec, number, dict(condition.axes))
        cuts = tuple((k, v) for k, v in axes.items() if k in CUTS)
        key = (number, condition.kind, condition.owner, condition.draw, cuts)
        if key not in self._neurons:
            ref: NeuronsRef | None = spec.neurons
            if ref is None:
                raise RunError("an edit outside a set is not built yet")
            sets = self._sets()
            if condition.kind == "random_neurons":
                edited = Condition(condition.intervention, "edit", condition.owner, 0, condition.axes)
                own, *others = [self.members(n, edited) for n in self._with(number)]
                seed: tuple[object, ...] = (self.experiment.seed, self.stage.name, number)
                seed += (condition.owner, condition.draw)
                # Another rank is another neuron, and so are its placebos; a longer `top` keeps those of a shorter.
                ranks = tuple(v for k, v in cuts if k == "rank")
                self._neurons[key] = draw_like(own, own.and_then(*others), sets.widths, seed + ranks)
            else:
                self._neurons[key] = sets.members(ref, condition.owner, axes)
        return self._neurons[key]

    def _with(self, number: int) -> list[int]:
        """List the edits of the intervention, one of them first."""
        return [number, *(n for n in range(len(self.stage.spec.edit)) if n != number)]

    figures: Known = field(default_factory=dict)
    """What interventions that were run before found about single neurons, for filters that read it."""

    widths_of: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """(site, layer): number of neurons, for draws from sites that no ranking has read."""

    def _sets(self) -> NeuronSets:
        if self._known is None:
            widths = dict(self.widths_of)
            for ranking in self.rankings.values():
                if not ranking.of_layers:
                    widths.update(ranking.widths())
            self._known = NeuronSets(self.experiment, self.rankings, widths, self.figures)
        return self._known

    _known: NeuronSets | None = None

    vectors: Mapping[str, Made] = field(default_factory=dict)
    """The vectors of the spec; none while only neurons are asked for."""

    def _vector(self, spec: Edit) -> str | None:
        """Name the vector that an edit adds."""
        return spec.add if isinstance(spec.add, str) and spec.add in self.experiment.vectors else None

    def _steer(self, number: int, name: str, condition: Condition) -> NeuronEdit:
        """Add a vector, or in its place a random direction of the same length, to all neurons of its site."""
        made = self.vectors[name]
        values = made.values
        if condition.kind == "random_neurons":
            values = random_direction(values, (self.experiment.seed, self.stage.name, number, name, condition.draw))
        return NeuronEdit("add", made.site, made.layer, np.arange(len(values)), values)

    def _edit(self, number: int, spec: Edit, condition: Condition) -> tuple[NeuronEdit, ...]:
        vector = self._vector(spec)
        if vector is not None:
            return (self._steer(number, vector, condition),)
        members = self.members(number, condition)
        value = values_of_edit(spec, axes_of_edit(self.experiment, self.stage.spec, number, dict(condition.axes)))
        verb: Literal["scale", "set", "add"] = (
            "scale" if spec.scale is not None else "set" if spec.add is None else "add"
        )
        taken = None if spec.scale is not None else source_of(spec)
        amounts = np.broadcast_to(np.float64(value), len(members))
        source: Literal["clean"] | Stored | None = None
        if taken == "own_mean":
            # A placebo gets the dose of the real edit, so its values are those of the neurons it stands for.
            edited = replace(condition, kind="edit", draw=0)
            amounts = value * self._own_means(number, edited)
        elif taken == "clean":
            source = "clean"
        elif taken == "patch" or isinstance(taken, Source):
            # Another neuron's mean is no dose: a placebo is set to what it has itself in those prompts.
            index = self.stage.taken_from[number]
            assert index is not None
            source = self.stored[index]
        position = edit_position(self.experiment, spec) if isinstance(source, Stored) else ""
        weights = spec.in_ == "weights"
        return tuple(
            NeuronEdit(verb, p.site, p.layer, p.neurons, amounts[p.which], source, position, weights)
            for p in members.places()
        )

    def _own_means(self, number: int, condition: Condition) -> np.ndarray:
        """Give the mean activation of an edit's neurons over the prompts on which they were ranked for its owner.

        ``[n]``, in the order of the edit's neurons. In a union a neuron has the mean of the first part that holds it.
        """
        axes = axes_of_edit(self.experiment, self.stage.spec, number, dict(condition.axes))
        members = self.members(number, condition)
        means = np.full(len(members), np.nan)
        for part in self._parts(self.stage.spec.edit[number].neurons):
            found = self._sets().members(part, condition.owner, axes)
            sources = owners_of(self.experiment, part).rankings
            if not sources:
                first = found[:1].addresses()[0]
                raise RunError(f"{first} was ranked on no prompts, so own_mean has no value", remedy="give a number")
            name, key = sources[0]
            ranking = self.rankings[name]
            mean = ranking.groups[key or condition.owner].mean
            if mean is None:
                raise RunError(
                    f"'{name}' ({ranking.metric}) reads no activations, so own_mean has no value",
                    remedy="give a number, or rank by another metric",
                )
            wanted = np.isnan(means) & np.isin(members.codes, found.codes)
            means[wanted] = values_of(ranking, mean, Members(members.codes[wanted]))
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

    def _held(self, condition: Condition) -> Held | None:
        places, free = self.held_places(condition)
        index = self.stage.held_at
        return Held(places, None if index is None else self.stored[index], free) if places else None

    def held_places(
        self, condition: Condition
    ) -> tuple[dict[tuple[str, int], tuple[str, ...]], dict[tuple[str, int], tuple[str, ...]]]:
        """List what the freeze holds under a condition: (site, layer) -> names of positions held, and of those free.

        Nothing without a freeze.
        """
        freeze = self.stage.spec.freeze
        places: dict[tuple[str, int], tuple[str, ...]] = {}
        free: dict[tuple[str, int], tuple[str, ...]] = {}
        if freeze is None:
            return places, free
        exceptions = [(e, set(self._layers(e.layers, condition))) for e in freeze.except_]
        for site in freeze.site:
            for layer in self._layers(freeze.layers, condition):
                freed = {
                    position: None
                    for exception, layers in exceptions
                    if (exception.site is None or site in exception.site) and layer in layers
                    for position in (exception.position or freeze.position)
                }
                names = tuple(p for p in freeze.position if p not in freed)
                if names:
                    places[(site, layer)] = names
                    if freed:
                        free[(site, layer)] = tuple(freed)
        return places, free

    def _layers(self, places: Sequence[str] | None, condition: Condition) -> tuple[int, ...]:
        """List layers, of which a reference to neurons means those its neurons are in, for the owner whose are held."""
        found: set[int] = set(layers_of([p for p in places or () if is_layer_place(p)] or None, self.n_layers))
        if places is not None and not any(is_layer_place(p) for p in places):
            found = set()
        for place in places or ():
            if not is_layer_place(place):
                own = self._sets().resolve(place, condition.held, dict(condition.axes))
                found |= {address.layer for address in own}
        return tuple(sorted(found))

    # -- values from other prompts ----------------------------------------------------------------------------

    def read_at(self, index: int, conditions: Iterable[Condition]) -> list[tuple[str, int]]:
        """List the (site, layer) at which some conditions need the values of one of the stage's sources."""
        places: dict[tuple[str, int], None] = {}
        for condition in conditions:
            if self.stage.held_at == index:
                places.update(dict.fromkeys(self.held_places(condition)[0]))
            for number, taken in enumerate(self.stage.taken_from if condition.kind != "no_edit" else ()):
                if taken == index:
                    places.update(dict.fromkeys(self.members(number, condition).counts()))
        return list(places)
