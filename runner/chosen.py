"""What a run knows of its sets of neurons: what filters left, what they failed, and what random neurons would pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.figures import Figures
from runner.filters import LISTED, Figure, Judged, Judgement, interventions_read, judge_one, reads_of, stand_ins
from runner.localization.ranking import RankingData
from runner.neurons import NeuronSets, owners_of, sweeps_of_set
from runner.plan import AskStage, Axes
from runner.properties import Properties
from runner.resolve import Resolver
from runner.summaries import other_forms
from runner.vectors import Made
from specs.language.conditions import number_text, text
from specs.language.experiment import Condition, Experiment, NeuronSet, NeuronsRef
from specs.language.needs import needed
from specs.language.order import filters_of
from specs.language.references import Address, ResultPath, is_layer_place, usual_role
from specs.language.results import Candidate, LeftOut, NeuronSetResult, OwnerChoice, SetPlacebo

__all__ = ["Chosen", "dropped"]


@dataclass
class Chosen:
    """The rankings and the figures of single neurons as far as a run has come, and the sets that follow from them."""

    experiment: Experiment
    rankings: Mapping[str, RankingData]
    labels: Mapping[str, str]
    """Owner: its name in prompts."""
    widths: Mapping[tuple[str, int], int]
    figures: dict[str, Figures] = field(default_factory=dict)
    vectors: Mapping[str, Made] = field(default_factory=dict)
    """What edits add; it follows from no ranking."""
    sets: NeuronSets = field(init=False)

    def __post_init__(self) -> None:
        """Resolve sets against the figures as they come."""
        self.sets = NeuronSets(self.experiment, self.rankings, self.widths, self.figures)

    def is_read(self, name: str) -> bool:
        """Say whether a filter reads the results of an intervention."""
        return any(name in interventions_read(ref) for _, ref in filters_of(self.experiment))

    def survivors(self, figures: Figures) -> set[tuple[str, int, Axes]]:
        """Find the random neurons that are still to be asked more: (owner, draw, cuts).

        Those that meet every condition before the first that needs it, so that each step of the filter counts all that
        came as far.
        """
        name = figures.stage.name
        sets = replace(self.sets, figures={**self.figures, name: figures})
        found: set[tuple[str, int, Axes]] = set()
        for _, ref in filters_of(self.experiment):
            if interventions_read(ref) != (name,):
                continue
            waiting = figures.stage.deferred
            on_others = [
                n
                for n, c in enumerate(ref.where)
                if any((path.role or usual_role(path.quantity)) in waiting for path in reads_of(c))
            ]
            if not on_others:
                continue
            for owner in figures.alone:
                judgement = sets.judgement(ref, owner)
                for draw in range(figures.stage.spec.controls.random_neurons):
                    for point, judged in stand_ins(ref, judgement, figures, draw, on_others).items():
                        if judged.failed is None or judged.failed > on_others[0]:
                            found.add((owner, draw, point))
        return found

    def reason(self, refs: Iterable[NeuronsRef | None], owner: str) -> str:
        """Say why some sets hold nothing for an owner."""
        refs = list(refs)
        if any(ref is not None and self.sets.is_unknown(ref, owner) for ref in refs):
            return "it was not ranked: the clean model knows too few of its prompts"
        for ref in refs:
            for own in self._filters_in(ref):
                if not self._neurons(own, owner):
                    return why_none(own, self.judgement(own, owner))
        return "its set holds no neuron"

    def _filters_in(self, ref: NeuronsRef | None) -> Iterator[NeuronSet]:
        if isinstance(ref, list):
            for part in ref:
                yield from self._filters_in(part)
        elif isinstance(ref, str):
            yield from self._filters_in(self.experiment.neurons.get(ref.partition("/")[0]))
        elif isinstance(ref, NeuronSet):
            yield from self._filters_in(ref.of)
            if ref.where:
                yield ref

    # -- records ----------------------------------------------------------------------------------------------

    def records(self) -> dict[str, NeuronSetResult]:
        """Describe every named set that is known, and every filter that stands in an edit."""
        found: dict[str, NeuronSetResult] = {}
        wanted = needed(self.experiment)
        for name, ref in self.experiment.neurons.items():
            if ("neurons", name) in wanted and not sweeps_of_set(self.experiment, ref) and self._is_known(ref):
                found[name] = self._record(name, ref)
        for name, ref in filters_of(self.experiment):
            if name not in found and not sweeps_of_set(self.experiment, ref) and self._is_known(ref):
                found[name] = self._record(name, ref)
        return found

    def _is_known(self, ref: NeuronsRef) -> bool:
        return all(name in self.figures for name in self._waits_for(ref))

    def _waits_for(self, ref: NeuronsRef) -> set[str]:
        """Name the interventions that a set, or what it is taken from, is filtered by."""
        if isinstance(ref, list):
            return {name for part in ref for name in self._waits_for(part)}
        if isinstance(ref, NeuronSet):
            found = set(interventions_read(ref))
            others = [ref.of, ref.like, *(_texts(ref.minus)), *(_texts(ref.common))]
            return found.union(*(self._waits_for(other) for other in others if other))
        if isinstance(ref, str):
            own = self.experiment.neurons.get(ref.partition("/")[0])
            return set() if own is None else self._waits_for(own)
        return set()

    def _record(self, name: str, ref: NeuronsRef) -> NeuronSetResult:
        owners = owners_of(self.experiment, ref).owners
        filtered = isinstance(ref, NeuronSet) and bool(ref.where)
        choices: dict[str, OwnerChoice] = {}
        judgements: list[Judgement] = []
        for owner in owners:
            chosen = self._neurons(ref, owner)
            label = self.labels.get(owner, owner)
            choice = OwnerChoice(owner=owner, label=label, neurons=[str(a) for a in chosen])
            judged: tuple[Judged, ...] = ()
            if filtered:
                assert isinstance(ref, NeuronSet)
                judgement = self.judgement(ref, owner)
                judgements.append(judgement)
                choice.n_candidates, choice.left = judgement.candidates, list(judgement.left)
                judged = judgement.judged
            choice.candidates = self._candidates(ref, owner, judged, chosen)
            choices[owner] = choice
        forms = other_forms(owners)
        counted = [choice for owner, choice in choices.items() if owner not in forms]
        record = NeuronSetResult(
            name=name,
            owners=choices,
            size=sum(len(choice.neurons) for choice in counted),
        )
        if isinstance(ref, NeuronSet):
            record.of = str(ref.of or ref.like or ref.from_ or ", ".join(ref.site or ()))
        elif isinstance(ref, str):
            record.of = ref
        if filtered:
            assert isinstance(ref, NeuronSet)
            record.conditions = [text(c) for c in ref.where]
            record.quantities = [c.quantity for c in ref.where]
            record.interventions = list(interventions_read(ref))
            own = [j for j in judgements if j.owner not in forms]
            record.funnel = [
                sum(j.candidates > 0 for j in own),
                *(sum(j.left[n] > 0 for j in own) for n in range(len(ref.where))),
            ]
            record.placebo = self._placebo(ref, own)
        return record

    def _neurons(self, ref: NeuronsRef, owner: str) -> list[Address]:
        return self.sets.resolve(ref, owner)

    def judgement(self, ref: NeuronSet, owner: str) -> Judgement:
        """Judge the candidates of one owner."""
        return self.sets.judgement(ref, owner)

    def _candidates(
        self, ref: NeuronsRef, owner: str, judged: Sequence[Judged], chosen: Sequence[Address]
    ) -> list[Candidate]:
        """Describe what was judged, and what was chosen from further down a ranking or without a filter."""
        sources = owners_of(self.experiment, ref).rankings
        properties = None
        if sources:
            ranking, key = sources[0]
            groups = self.rankings[ranking].groups
            properties = self.sets.properties(ranking, key or (owner if owner in groups else next(iter(groups))))
        seen = {j.address for j in judged}
        rest = [a for a in chosen if a not in seen][:LISTED]
        further: list[Judged] = []
        if isinstance(ref, NeuronSet) and ref.where:
            further = [judge_one(ref, owner, address, properties, self.figures) for address in rest]
        else:
            further = [Judged(address, (), None) for address in rest]
        return [_candidate(j, properties, self._side_effects(ref, owner, j.address)) for j in (*judged, *further)]

    def _side_effects(self, ref: NeuronsRef, owner: str, address: Address) -> dict[str, float]:
        """Give what editing a neuron did to texts about nobody, where that was measured and no condition reads it."""
        found: dict[str, float] = {}
        if not isinstance(ref, NeuronSet):
            return found
        for name in interventions_read(ref):
            figures = self.figures[name]
            for measure in figures.stage.spec.measure:
                path = ResultPath(name, quantity=measure)
                if usual_role(measure) != "texts" or any(path in reads_of(c) for c in ref.where):
                    continue
                value = figures.value(path, owner, address).value
                if isinstance(value, float):
                    found[str(path)] = value
        return found

    # -- the placebo --------------------------------------------------------------------------------------------

    def _placebo(self, ref: NeuronSet, judgements: list[Judgement]) -> SetPlacebo | None:
        read = interventions_read(ref)
        if not read:
            return None
        if len(read) > 1:
            return SetPlacebo(
                reason=f"it reads {' and '.join(read)}, whose random neurons are not the same: no random neuron was "
                "put through both"
            )
        figures = self.figures[read[0]]
        n_draws = figures.stage.spec.controls.random_neurons
        if not n_draws:
            return SetPlacebo(intervention=read[0], reason=f"{read[0]} draws no random neurons (`controls:`)")
        sizes, owners = [], []
        left = [0] * len(ref.where)
        for draw in range(n_draws):
            size = with_one = 0
            for judgement in judgements:
                placed = list(stand_ins(ref, judgement, figures, draw).values())
                passed = [judged.address for judged in placed if judged.failed is None]
                kept = self.sets.cut_by_number(ref, passed)  # as the set itself is cut
                size += len(kept)
                with_one += bool(kept)
                for n in range(len(ref.where)):
                    left[n] += any(j.failed is None or j.failed > n for j in placed)
            sizes.append(size)
            owners.append(with_one)
        return SetPlacebo(
            intervention=read[0],
            sizes=sizes,
            owners=owners,
            left=[n / n_draws for n in left],
            size=math.fsum(sizes) / n_draws,
        )


def _texts(value: str | list[str] | None) -> list[str]:
    if value is None or value == "others":
        return []
    return [value] if isinstance(value, str) else list(value)


def _candidate(judged: Judged, properties: Properties | None, side_effects: Mapping[str, float]) -> Candidate:
    address = judged.address
    rank = score = dominance = None
    place = None if properties is None else properties.place(address)
    if properties is not None and place is not None:
        rank = int(properties.of("rank")[place])
        score = float(properties.of("score")[place])
        found = float(properties.of("dominance")[place])
        dominance = found if math.isfinite(found) else None
    return Candidate(
        address=str(address),
        layer=address.layer,
        neuron=address.neuron,
        rank=rank,
        score=score,
        dominance=dominance,
        figures=[figure.value for figure in judged.figures],
        n=[figure.n for figure in judged.figures],
        reasons=[figure.reason for figure in judged.figures],
        wanted=[figure.wanted for figure in judged.figures],
        failed=judged.failed,
        side_effects=dict(side_effects),
    )


# -- words --------------------------------------------------------------------------------------------------------


def why_none(ref: NeuronSet, judgement: Judgement) -> str:
    """Say why no candidate of an owner passed: by the one that came furthest."""
    if not judgement.judged:
        return "there was no candidate"
    best = max(judgement.judged, key=lambda j: len(ref.where) if j.failed is None else j.failed)
    if best.failed is None:
        return "what passed was taken out"
    condition, figure = ref.where[best.failed], best.figures[best.failed]
    return f"no neuron passed; {best.address} came furthest and failed `{text(condition)}`: {said(condition, figure)}"


def said(condition: Condition, figure: Figure) -> str:
    """Say what a condition found, with what it was compared with where that is a result."""
    if figure.value is None:
        return figure.reason or "no value"
    value = figure.value if isinstance(figure.value, str) else f"{figure.value:.4g}"
    return value if figure.wanted is None else f"{value}, against {number_text(figure.wanted)}"


def dropped(chosen: Chosen, stage: AskStage, resolver: Resolver, kept: AskStage) -> list[LeftOut]:
    """List the owners, and points of the sweep, for whom there is nothing to edit, each with the reason."""
    where = f"interventions.{stage.name}"
    found: list[LeftOut] = []
    points = dict.fromkeys((row.edited, row.axes) for row in stage.rows if row.condition == "edit")
    for owner in stage.owners:
        own = [axes for o, axes in points if o == owner]
        lacking = [axes for axes in own if not resolver.has_neurons(owner, axes)]
        if not lacking:
            continue
        freeze = stage.spec.freeze
        layers = (place for place in (freeze.layers if freeze is not None else None) or () if not is_layer_place(place))
        reason = chosen.reason((*(edit.neurons or edit.outside for edit in stage.spec.edit), *layers), owner)
        if owner not in kept.owners:
            found.append(LeftOut(what=owner, reason=reason, where=where))
            continue
        for axes in lacking:
            at = ", ".join(f"{axis}={value}" for axis, value in axes)
            found.append(LeftOut(what=f"{owner} at {at}", reason="the set holds fewer neurons", where=where))
    return found
