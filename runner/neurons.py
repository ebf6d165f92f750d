"""Sets of neurons: whose they are, what they sweep over, and which addresses they hold once rankings are known."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from runner.filters import judge
from runner.localization.ranking import RankingData
from runner.members import Members
from runner.properties import Properties
from specs.language.errors import RunError
from specs.language.experiment import (
    Each,
    Edit,
    Experiment,
    Freeze,
    Intervention,
    NeuronSet,
    NeuronsRef,
    Range,
    Source,
    Times,
    sweep_values,
)
from specs.language.facts import ANYBODY, entities_of, owners, rankings_of
from specs.language.references import Address, is_layer_place, parse_address, parse_rank, resolve_layers
from specs.language.saved import SavedSet, read_saved
from specs.language.vector_files import place_of

if TYPE_CHECKING:
    from runner.figures import Figures
    from runner.filters import Judgement

__all__ = [
    "Known",
    "NeuronSets",
    "NoneLeft",
    "Ownership",
    "axes_of_edit",
    "condition_axes",
    "default_position",
    "draw_like",
    "draw_random",
    "edit_position",
    "of_flats",
    "owners_of",
    "values_of",
]

Widths = Mapping[tuple[str, int], int]
AxisValues = Mapping[str, float | str]
NO_AXES: AxisValues = {}
CUTS = ("top", "bottom", "rank", "threshold", "mass")
Codes = npt.NDArray[np.int64]
Ranks = npt.NDArray[np.int64]
NOTHING: Codes = np.zeros(0, dtype=np.int64)
ONE_BY_ONE = 64
"""Neurons up to which random ones are drawn one after another."""


@dataclass(frozen=True)
class Ownership:
    """Whose neurons a reference names. ``rankings``: (ranking, key), key None for each of its groups."""

    owners: tuple[str, ...]
    rankings: tuple[tuple[str, str | None], ...] = ()
    saved: bool = False
    """Whether it is a saved set, named whole, which has owners of its own."""

    @property
    def whole(self) -> bool:
        """Whether an edit of it is made for each of several owners."""
        return self.saved or any(key is None for _, key in self.rankings)


def owners_of(experiment: Experiment, ref: NeuronsRef | None) -> Ownership:
    """Find the owners of a set: every group of a ranking that is named whole, else the one group named."""
    rankings = tuple(dict.fromkeys(rankings_of(experiment, ref)))
    whole = [name for name, key in rankings if key is None]
    saved = _saved(experiment, ref)
    found: list[str] = []
    for name in whole:
        found += [o for o in owners(experiment, name) if o not in found]
    for own, key in saved:
        found += [o for o in own.owners if key is None and o not in found]
    if found:
        return Ownership(tuple(found), rankings, saved=any(key is None for _, key in saved))
    keys = tuple(dict.fromkeys(key for _, key in (*rankings, *saved) if key is not None))
    if keys:
        return Ownership(("+".join(keys),), rankings)
    return Ownership((label_of(ref),), rankings)


def label_of(ref: NeuronsRef | None) -> str:
    """Name a set that belongs to nobody."""
    if isinstance(ref, str):
        return ref
    if isinstance(ref, list):
        return "+".join(label_of(part) for part in ref)
    return "neurons"


def _saved(experiment: Experiment, ref: NeuronsRef | None, key: str | None = None) -> list[tuple[SavedSet, str | None]]:
    """List the saved sets that a reference goes back to, each with the one owner that is meant, None for all."""
    if isinstance(ref, list):
        return [pair for part in ref for pair in _saved(experiment, part, key)]
    if isinstance(ref, NeuronSet):
        if ref.from_ is not None:
            return [(read_saved(ref.from_), key)]
        return _saved(experiment, ref.of or ref.like, key)
    if isinstance(ref, str):
        name, _, own = ref.partition("/")
        if name in experiment.neurons:
            return _saved(experiment, experiment.neurons[name], key or own or None)
    return []


def default_position(experiment: Experiment, ref: NeuronsRef | None) -> str:
    """Give the position at which the neurons of a set were read."""
    places = [(experiment.localize[name].position or ["entity.last"])[0] for name, _ in rankings_of(experiment, ref)]
    places += [str(a.position) for a in _addresses(experiment, ref) if a.position is not None]
    places += [saved.position for saved, _ in _saved(experiment, ref) if saved.position is not None]
    different = list(dict.fromkeys(places))
    if len(different) > 1:
        raise RunError(
            f"these neurons were read at different positions ({', '.join(different)}), and are edited at one",
            remedy="add `position:` to the edit, or make it two edits",
        )
    if different:
        return different[0]
    raise RunError("neurons given by address were read at no position", remedy="add `position:` to the edit")


def edit_position(experiment: Experiment, edit: Edit) -> str:
    """Give the word of the position an edit acts at: as written, or where its neurons were read."""
    if edit.in_ == "weights":
        return "all"
    if edit.position is None and isinstance(edit.add, str) and edit.add in experiment.vectors:
        return place_of(experiment, edit.add).position
    if edit.position:
        return str(edit.position[0] if isinstance(edit.position, list) else edit.position.each[0])
    return default_position(experiment, edit.neurons or edit.outside)


def _addresses(experiment: Experiment, ref: NeuronsRef | None) -> list[Address]:
    if isinstance(ref, list):
        return [a for part in ref for a in _addresses(experiment, part)]
    if isinstance(ref, str):
        if ref in experiment.neurons:
            return _addresses(experiment, experiment.neurons[ref])
        found = parse_address(ref)
        return [found] if found is not None else []
    return []


def condition_axes(experiment: Experiment, spec: Intervention) -> dict[str, list[float | str]]:
    """List the sweeps of an intervention: axis name -> values. Values and cuts sweep, places do not."""
    return {axis: values for _, _, axis, values in _sweeps(experiment, spec)}


def axes_of_edit(
    experiment: Experiment, spec: Intervention, number: int, axes: Mapping[str, float | str]
) -> dict[str, float | str]:
    """Give the point of the sweep as edit ``number`` sees it: its own sweeps, by what they sweep over.

    The second edit that scales sweeps over ``scale2``; to itself that is ``scale``.
    """
    return {word: axes[axis] for n, word, axis, _ in _sweeps(experiment, spec) if n == number}


def _sweeps(experiment: Experiment, spec: Intervention) -> list[tuple[int, str, str, list[float | str]]]:
    """List (number of the edit, what is swept over, name of the axis, values); names are used once.

    Raises RunError for two sweeps of one kind in one edit.
    """
    found: list[tuple[int, str, str, list[float | str]]] = []

    def add(number: int, word: str, values: Sequence[float | str]) -> None:
        if any((n, w) == (number, word) for n, w, _, _ in found):
            raise RunError(
                f"two sweeps over `{word}` in one edit are not built yet", remedy="write them as two interventions"
            )
        taken = {axis for _, _, axis, _ in found}
        names = (word if k == 1 else f"{word}{k}" for k in itertools.count(1))
        found.append((number, word, next(name for name in names if name not in taken), list(values)))

    for number, edit in enumerate(spec.edit):
        if edit.scale is not None:
            add(number, "scale", sweep_values(edit.scale))
        elif isinstance(value := edit.set if edit.set is not None else edit.add, Times):
            add(number, "times", sweep_values(value.times))
        elif isinstance(value, int | float | list | Range):
            add(number, "set" if edit.set is not None else "add", sweep_values(value))
        for ref in _sets(experiment, edit.neurons):
            for cut in CUTS:
                value = getattr(ref, cut)
                if isinstance(value, list) and len(value) > 1:
                    add(number, cut, [v if isinstance(v, str) else float(v) for v in value])
    return found


def sweeps_of_set(experiment: Experiment, ref: NeuronsRef | None) -> bool:
    """Say whether a set sweeps over a cut, and so is several sets."""
    values = [getattr(own, cut) for own in _sets(experiment, ref) for cut in CUTS]
    return any(isinstance(value, list) and len(value) > 1 for value in values)


def _sets(experiment: Experiment, ref: NeuronsRef | None) -> list[NeuronSet]:
    if isinstance(ref, NeuronSet):
        return [ref, *_sets(experiment, ref.of)]
    if isinstance(ref, list):
        return [s for part in ref for s in _sets(experiment, part)]
    if isinstance(ref, str) and ref in experiment.neurons:
        return _sets(experiment, experiment.neurons[ref])
    return []


Known = Mapping[str, "Figures"]
"""Intervention: what it found about single neurons, for filters that read it."""


@dataclass(frozen=True)
class NeuronSets:
    """What references to neurons are resolved against.

    ``widths``: (site, layer) -> number of neurons. ``figures``: what the interventions found that filters read.
    """

    experiment: Experiment
    rankings: Mapping[str, RankingData]
    widths: Widths
    figures: Known = field(default_factory=dict)
    _last: dict[tuple[str, str], Properties] = field(default_factory=dict, init=False, repr=False)
    """The properties asked for last: an owner's candidates are judged one after another, and sorting a ranking again
    for each would take most of the time."""

    _shared: dict[tuple[object, ...], Shared] = field(default_factory=dict, init=False, repr=False)
    """What the owners of a set hold, for `minus: others`."""

    def resolve(self, ref: NeuronsRef, owner: str, axes: AxisValues = NO_AXES) -> list[Address]:
        """List the addresses a reference stands for, as :meth:`members` holds them."""
        return self.members(ref, owner, axes).addresses()

    def members(self, ref: NeuronsRef, owner: str, axes: AxisValues = NO_AXES) -> Members:
        """Give the neurons a reference stands for, for one owner at one point of the sweep; each stands once.

        ``axes``: the point as the edit itself sees it. Empty where no neuron passes a filter.
        """
        if isinstance(ref, list):
            return Members.each_once(np.concatenate([self.members(part, owner, axes).codes for part in ref]))
        if isinstance(ref, NeuronSet):
            return self._resolve_set(ref, owner, axes)
        if not isinstance(ref, str):
            raise RunError("a sweep over places is not built yet")
        name, _, key = ref.partition("/")
        if name in self.experiment.localize:
            group = key or _group(self.rankings[name], owner)
            unknown = group in self.rankings[name].unknown
            return Members.of([]) if unknown else self._ranked(name, group, 1, self.rankings[name].top)
        if name in self.experiment.neurons:
            return self.members(self.experiment.neurons[name], key or owner, axes)
        address = parse_address(ref)
        if address is None:
            raise RunError(f"'{ref}' names no neurons")
        return Members.of([address])

    def _ranked(self, name: str, group: str, first: int, last: int) -> Members:
        """Give the neurons of some ranks of a ranking."""
        return of_flats(self.rankings[name], self.rankings[name].ranks(group, first, last))

    def _resolve_set(self, ref: NeuronSet, owner: str, axes: AxisValues) -> Members:
        """Resolve a set: what it takes from, first filtered, then cut, then without or in common with other sets."""
        if ref.random is not None:
            assert ref.like is not None
            name = next((n for n, own in self.experiment.neurons.items() if own is ref), "")
            like = self.members(ref.like, owner, axes)
            repeated = Members(like.codes[np.arange(ref.random if len(like) else 0) % max(1, len(like))])
            return draw_like(repeated, like, self.widths, (self.experiment.seed, "random", name, owner))
        if ref.site is not None:
            return _whole_layers(ref, self.widths)
        if ref.from_ is not None:
            return Members.of(read_saved(ref.from_).addresses(owner))
        found = self._filtered_and_cut(ref, owner, axes)
        if ref.minus == "others":
            found = found.minus(self._of_others(ref, owner, axes))
        else:
            for part in _listed(ref.minus) if ref.minus is not None else ():
                found = found.minus(self.members(part, owner, axes))
        for part in _listed(ref.common) if ref.common is not None else ():
            found = found.common(self.members(part, owner, axes))
        return found

    def _of_others(self, ref: NeuronSet, owner: str, axes: AxisValues) -> Members:
        """Give what the same set holds for other owners, other forms of this owner's name left out."""
        cuts = tuple((k, v) for k, v in axes.items() if k in CUTS)
        key = (id(ref), cuts, frozenset(self.figures))
        if key not in self._shared:
            same = ref.model_copy(update={"minus": None, "common": None})
            owned = {o: self.members(same, o, axes).codes for o in owners_of(self.experiment, ref).owners}
            self._shared[key] = Shared.of(self.experiment, owned)
        return self._shared[key].without(owner)

    def _filtered_and_cut(self, ref: NeuronSet, owner: str, axes: AxisValues) -> Members:
        assert ref.of is not None
        name, _, key = ref.of.partition("/")
        bounds = _bounds(ref, axes)
        if self.is_unknown(ref, owner):
            return Members.of([])
        whole: Members | None = None
        if ref.where:
            whole = Members.of(self.judgement(ref, owner, axes).passed)
        elif name not in self.experiment.localize:
            whole = self.members(ref.of, owner, axes)
        if ref.mass is not None or ref.threshold is not None:
            cut = "mass" if ref.mass is not None else "threshold"
            ranked_by = self._ranked_by(ref, owner)
            if ranked_by is None:
                raise RunError(f"'{ref.of}' was not ranked, so its neurons have no share of anything (`{cut}:`)")
            if whole is None:
                whole = of_flats(ranked_by.ranking, ranked_by.order)
            return (_with_mass if cut == "mass" else _above)(whole, ranked_by, _cut_value(ref, cut, axes))
        if whole is None:
            ranking, group = self.rankings[name], key or _group(self.rankings[name], owner)
            return self._ranked(name, group, *(bounds or (1, ranking.top)))
        bounds = self._number_of(ref, bounds)
        return whole if bounds is None else _sliced(whole, *bounds)

    def cut_by_number(self, ref: NeuronSet, whole: list[Address], axes: AxisValues = NO_AXES) -> list[Address]:
        """Cut what a filter left as the set says, else as the ranking says that it was taken from."""
        bounds = self._number_of(ref, _bounds(ref, axes))
        return whole if bounds is None else _sliced(whole, *bounds)

    def _number_of(self, ref: NeuronSet, bounds: tuple[int, int] | None) -> tuple[int, int] | None:
        assert ref.of is not None
        name = ref.of.partition("/")[0]
        if bounds is None and ref.where and name in self.experiment.localize:
            return 1, self.rankings[name].top
        return bounds

    def judgement(self, ref: NeuronSet, owner: str, axes: AxisValues = NO_AXES) -> Judgement:
        """Judge what a filtered set takes from, for one owner: every candidate with its figures, before any cut."""
        assert ref.of is not None
        name, _, key = ref.of.partition("/")
        if self.is_unknown(ref, owner):
            return Judgement(key or owner, 0, (0,) * len(ref.where), (), ())
        base = None if name in self.experiment.localize else self.resolve(ref.of, owner, axes)
        return judge(ref, key or owner, base, self._ranked_by(ref, owner), self.figures)

    def is_unknown(self, ref: NeuronsRef, owner: str) -> bool:
        """Say whether a set goes back to a ranking that an owner lacks, for the model knows too few of its prompts."""
        return any((key or owner) in self.rankings[name].unknown for name, key in rankings_of(self.experiment, ref))

    def properties(self, ranking: str, group: str) -> Properties:
        """Give what a ranking says of every neuron, for one of its groups."""
        if (ranking, group) not in self._last:
            self._last.clear()
            self._last[ranking, group] = Properties(self.rankings[ranking], group)
        return self._last[ranking, group]

    def _ranked_by(self, ref: NeuronSet, owner: str) -> Properties | None:
        """Give what the ranking that a set goes back to says of its neurons; None where it goes back to none."""
        sources = rankings_of(self.experiment, ref)
        if not sources:
            return None
        name, key = sources[0]
        return self.properties(name, key or _group(self.rankings[name], owner))


def _group(ranking: RankingData, owner: str) -> str:
    if owner in ranking.groups or owner in ranking.unknown:
        return owner
    if set(ranking.groups) == {ANYBODY}:
        return ANYBODY
    raise RunError(f"the ranking '{ranking.name}' has no group '{owner}'")


def _listed(ref: str | list[str]) -> list[str]:
    return [ref] if isinstance(ref, str) else list(ref)


@dataclass(frozen=True)
class Shared:
    """What all owners of a set hold together, so that what the others hold is a subtraction."""

    owned: Mapping[str, Codes]
    related: Mapping[str, tuple[str, ...]]
    """Owner: itself, and other forms of its name."""
    codes: Codes
    counts: Codes
    """How many owners hold each."""

    @classmethod
    def of(cls, experiment: Experiment, owned: Mapping[str, Codes]) -> Shared:
        entities = {owner: set(entities_of(experiment, owner)) for owner in owned}
        named: dict[str, list[str]] = {}
        for owner, own in entities.items():
            for entity in own:
                named.setdefault(entity, []).append(owner)
        related = {o: tuple(dict.fromkeys([o, *(r for e in own for r in named[e])])) for o, own in entities.items()}
        codes, counts = np.unique(np.concatenate([*owned.values(), NOTHING]), return_counts=True)
        return cls(owned, related, codes, counts)

    def without(self, owner: str) -> Members:
        """Give what somebody other than an owner holds."""
        if owner not in self.owned:
            return Members(self.codes)
        own, n = np.unique(np.concatenate([self.owned[o] for o in self.related[owner]]), return_counts=True)
        left = self.counts.copy()
        left[np.searchsorted(self.codes, own)] -= n
        return Members(self.codes[left > 0])


def _whole_layers(ref: NeuronSet, widths: Widths) -> Members:
    n_layers = 1 + max(layer for _, layer in widths)
    if isinstance(ref.layers, Each):
        raise RunError("a sweep over places is not built yet")
    try:
        layers = layers_of(ref.layers, n_layers)
    except ValueError as error:
        raise RunError(str(error)) from error
    places = [(site, layer) for site in ref.site or () for layer in layers]
    for site, layer in places:
        if (site, layer) not in widths:
            have = ", ".join(dict.fromkeys(s for s, _ in widths))
            raise RunError(f"this model has no {site} in layer {layer}", remedy=f"its sites: {have}")
    parts = [
        Members.at([site], np.zeros(n, dtype=np.int64), np.full(n, layer), np.arange(n)).codes
        for site, layer in places
        for n in [widths[site, layer]]
    ]
    return Members(np.concatenate(parts))


def of_flats(ranking: RankingData, flats: Ranks) -> Members:
    """Give the neurons of flat indices into a ranking's arrays, in their order."""
    rows, columns = np.divmod(np.asarray(flats, dtype=np.int64), ranking.columns.total)
    starts = np.array(ranking.columns.starts, dtype=np.int64)
    which = np.searchsorted(starts, columns, side="right") - 1
    layers = np.array(ranking.layers, dtype=np.int64)
    return Members.at(ranking.columns.sites, which, layers[rows], columns - starts[which])


def values_of(ranking: RankingData, array: npt.NDArray[Any], members: Members) -> npt.NDArray[np.float64]:
    """Look neurons up in an array of a ranking; NaN for those that were not ranked. Gives ``[n]``."""
    found = np.full(len(members), np.nan)
    for place in members.places():
        first = ranking.columns.column(place.site, 0)
        if first is None or place.layer not in ranking.layers:
            continue
        width = ranking.columns.widths[ranking.columns.sites.index(place.site)]
        inside = place.neurons < width
        row = ranking.layers.index(place.layer)
        found[place.which[inside]] = np.asarray(array)[row, first + place.neurons[inside]]
    return found


Whole = TypeVar("Whole", Members, list[Address])


def _sliced(whole: Whole, first: int, last: int) -> Whole:
    start = first - 1 if first > 0 else max(0, len(whole) + first)
    return whole[start : last if last > 0 else len(whole) + last + 1]


def _with_mass(whole: Members, properties: Properties, mass: float) -> Members:
    """Take the fewest, from the first on, whose scores add up to a share of the sum over the whole ranking."""
    share = values_of(properties.ranking, properties.of("share"), whole)
    # What was not ranked has no share. A total of 0.9999999 is all that there is.
    enough = int(np.searchsorted(np.cumsum(np.nan_to_num(share)), mass - 1e-9)) + 1
    return whole[:enough]


def _above(whole: Members, properties: Properties, threshold: float) -> Members:
    """Take those whose score is at least a share of what a score can be at most, which is 1 for a precision."""
    score = values_of(properties.ranking, properties.kept["score"], whole)
    # Scores are kept in float32, where 0.9 is a little less than 0.9.
    return Members(whole.codes[score >= float(np.float32(threshold))])


def _cut_value(ref: NeuronSet, cut: str, axes: Mapping[str, float | str]) -> float:
    value = getattr(ref, cut)
    return float(axes.get(cut, value[0]) if isinstance(value, list) else value)


def _bounds(ref: NeuronSet, axes: Mapping[str, float | str]) -> tuple[int, int] | None:
    """Give the first and last rank of a cut, counted from the end if negative; None without a cut by rank."""
    for cut in ("top", "bottom", "rank"):
        value = getattr(ref, cut)
        if value is None:
            continue
        if isinstance(value, list):
            value = axes.get(cut, value[0])
        if cut == "top":
            return 1, int(value)
        if cut == "bottom":
            return -int(value), -1
        first, last = parse_rank(f"{value:g}" if isinstance(value, float) else str(value))
        return first, last
    return None


def draw_random(
    like: Sequence[Address],
    avoid: Sequence[Address],
    widths: Widths,
    seed: tuple[object, ...],
) -> list[Address]:
    """Draw as many neurons of the same layers and sites, none of them in ``avoid``, none twice.

    ``widths``: (site, layer) -> number of neurons. The draw depends on ``seed`` alone, not on the order of work.
    """
    digest = hashlib.sha256(repr(seed).encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    taken = {(a.site, a.layer, a.neuron) for a in avoid}
    n_taken = Counter((site, layer) for site, layer, _ in taken)
    drawn = []
    for address in like:
        place = (address.site, address.layer)
        width = widths[place]
        if n_taken[place] >= width:
            raise RunError(f"layer {address.layer} has no neurons left to draw at random from")
        while True:
            neuron = int(random.integers(width))
            if (address.site, address.layer, neuron) not in taken:
                break
        taken.add((address.site, address.layer, neuron))
        n_taken[place] += 1
        drawn.append(Address(address.site, address.layer, neuron, address.position))
    return drawn


class NoneLeft(RunError):
    """A set that leaves too few neurons to draw as many from."""


def draw_like(like: Members, avoid: Members, widths: Widths, seed: tuple[object, ...]) -> Members:
    """Draw a neuron for each of ``like``, in its site and layer and at its token, none in ``avoid``, none twice.

    Where a layer has too few left, the rest are drawn from the nearest layers of the same site. Many are taken from a
    shuffled order of each layer, which depends on ``seed`` and on the layer alone, so that a longer set keeps most of
    what was drawn for a shorter. Raises NoneLeft where the site has no more neurons.
    """
    wanted = like.counts()
    taken = avoid.counts()
    room = all(taken.get(place, 0) + n <= widths[place] for place, n in wanted.items())
    if len(like) <= ONE_BY_ONE and room:
        return Members.of(draw_random(like.addresses(), avoid.addresses(), widths, seed))
    kept = {(place.site, place.layer): place.neurons for place in avoid.places()}
    left: dict[tuple[str, int], npt.NDArray[np.int64]] = {}

    def free(site: str, layer: int) -> npt.NDArray[np.int64]:
        """Give what is left of a layer, in its shuffled order."""
        if (site, layer) not in left:
            digest = hashlib.sha256(repr((*seed, site, layer)).encode()).digest()
            order = np.random.default_rng(int.from_bytes(digest[:8], "big")).permutation(widths[site, layer])
            left[site, layer] = order[~np.isin(order, kept.get((site, layer), NOTHING))]
        return left[site, layer]

    def take(site: str, layer: int, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Draw for as many as there are neurons left; give those for whom there are none."""
        found = free(site, layer)
        n = min(len(index), len(found))
        drawn[index[:n]] = Members.at([site], np.zeros(n, dtype=np.int64), np.full(n, layer), found[:n]).codes
        left[site, layer] = found[n:]
        return index[n:]

    drawn = np.zeros(len(like), dtype=np.int64)
    over = [(p.site, p.layer, rest) for p in like.places() if len(rest := take(p.site, p.layer, p.which))]
    for site, layer, index in over:
        others = sorted((n for s, n in widths if s == site and n != layer), key=lambda n: (abs(n - layer), n))
        for other in others:
            index = take(site, other, index)
            if not len(index):
                break
        if len(index):
            raise NoneLeft(
                f"there are no {len(like):,} further neurons like these: {site} has too few",
                remedy="turn the control off (`controls: {random_neurons: 0}`), or take a smaller set",
            )
    return like.at_tokens(Members(drawn))


def values_of_edit(edit: Edit, axes: Mapping[str, float | str]) -> float:
    """Give the number of an edit at one point of the sweep as it sees it: a value, or the multiple of its source."""
    if edit.scale is not None:
        return float(axes["scale"])
    value = edit.set if edit.set is not None else edit.add
    if isinstance(value, Times):
        return float(axes["times"])
    if isinstance(value, str | Source):
        return 1.0  # once the source, or the vector
    return float(axes["set" if edit.set is not None else "add"])


def layers_of(places: Sequence[str] | None, n_layers: int) -> tuple[int, ...]:
    """Give the layers written as places; all of them if none are."""
    return resolve_layers(places, n_layers) if places else tuple(range(n_layers))


def names_layers(freeze: Freeze | None) -> bool:
    """Say whether a freeze, or one of its exceptions, names neurons whose layers are meant."""
    if freeze is None:
        return False
    places = [*(freeze.layers or ()), *(place for e in freeze.except_ for place in e.layers or ())]
    return not all(is_layer_place(place) for place in places)
