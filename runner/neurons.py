"""Sets of neurons: whose they are, what they sweep over, and which addresses they hold once rankings are known."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runner.localization.ranking import RankingData
from specs.language.errors import RunError
from specs.language.experiment import (
    Each,
    Edit,
    Experiment,
    Intervention,
    NeuronSet,
    NeuronsRef,
    Range,
    Times,
    sweep_values,
)
from specs.language.facts import owners
from specs.language.references import Address, parse_address, parse_rank, resolve_layers

__all__ = [
    "Ownership",
    "axes_of_edit",
    "condition_axes",
    "default_position",
    "draw_random",
    "owners_of",
    "resolve_neurons",
]

Widths = Mapping[tuple[str, int], int]
CUTS = ("top", "bottom", "rank", "threshold", "mass")


@dataclass(frozen=True)
class Ownership:
    """Whose neurons a reference names. ``rankings``: (ranking, key), key None for each of its groups."""

    owners: tuple[str, ...]
    rankings: tuple[tuple[str, str | None], ...] = ()


def owners_of(experiment: Experiment, ref: NeuronsRef | None) -> Ownership:
    """Find the owners of a set: every group of a ranking that is named whole, else the one group named."""
    rankings = tuple(dict.fromkeys(_rankings(experiment, ref)))
    whole = [name for name, key in rankings if key is None]
    if whole:
        found: list[str] = []
        for name in whole:
            found += [o for o in owners(experiment, name) if o not in found]
        return Ownership(tuple(found), rankings)
    keys = tuple(dict.fromkeys(key for _, key in rankings if key is not None))
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


def _rankings(experiment: Experiment, ref: NeuronsRef | None) -> list[tuple[str, str | None]]:
    if ref is None:
        return []
    if isinstance(ref, list):
        return [pair for part in ref for pair in _rankings(experiment, part)]
    if isinstance(ref, Each):
        return [pair for part in ref.each for pair in _rankings(experiment, part)]
    if isinstance(ref, NeuronSet):
        return _rankings(experiment, ref.of or ref.like)
    name, _, key = ref.partition("/")
    if name in experiment.localize:
        return [(name, key or None)]
    if name in experiment.neurons:
        pairs = _rankings(experiment, experiment.neurons[name])
        return [(r, key or k) for r, k in pairs]
    return []


def default_position(experiment: Experiment, ref: NeuronsRef | None) -> str:
    """Give the position at which the neurons of a set were read."""
    places = [(experiment.localize[name].position or ["entity.last"])[0] for name, _ in _rankings(experiment, ref)]
    places += [str(a.position) for a in _addresses(experiment, ref) if a.position is not None]
    different = list(dict.fromkeys(places))
    if len(different) > 1:
        raise RunError(
            f"these neurons were read at different positions ({', '.join(different)}), and are edited at one",
            remedy="add `position:` to the edit, or make it two edits",
        )
    if different:
        return different[0]
    raise RunError("neurons given by address were read at no position", remedy="add `position:` to the edit")


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
        elif isinstance(edit.set, Times):
            add(number, "times", sweep_values(edit.set.times))
        elif isinstance(edit.set, int | float | list | Range):
            add(number, "set", sweep_values(edit.set))
        for ref in _sets(experiment, edit.neurons):
            for cut in CUTS:
                value = getattr(ref, cut)
                if isinstance(value, list) and len(value) > 1:
                    add(number, cut, [v if isinstance(v, str) else float(v) for v in value])
    return found


def _sets(experiment: Experiment, ref: NeuronsRef | None) -> list[NeuronSet]:
    if isinstance(ref, NeuronSet):
        return [ref, *_sets(experiment, ref.of)]
    if isinstance(ref, list):
        return [s for part in ref for s in _sets(experiment, part)]
    if isinstance(ref, str) and ref in experiment.neurons:
        return _sets(experiment, experiment.neurons[ref])
    return []


def resolve_neurons(
    experiment: Experiment,
    ref: NeuronsRef,
    owner: str,
    rankings: Mapping[str, RankingData],
    axes: Mapping[str, float | str],
    widths: Widths,
) -> list[Address]:
    """List the addresses a reference stands for, for one owner at one point of the sweep; each stands once.

    ``axes``: the point as the edit itself sees it. ``widths``: (site, layer) -> number of neurons.
    """
    found: list[Address] = []
    if isinstance(ref, list):
        for part in ref:
            found += resolve_neurons(experiment, part, owner, rankings, axes, widths)
    elif isinstance(ref, NeuronSet):
        found = _resolve_set(experiment, ref, owner, rankings, axes, widths)
    elif isinstance(ref, str):
        name, _, key = ref.partition("/")
        if name in experiment.localize:
            found = rankings[name].chosen(key or _group(rankings[name], owner))
        elif name in experiment.neurons:
            found = resolve_neurons(experiment, experiment.neurons[name], key or owner, rankings, axes, widths)
        else:
            address = parse_address(ref)
            if address is None:
                raise RunError(f"'{ref}' names no neurons")
            found = [address]
    else:
        raise RunError("a sweep over places is not built yet")
    return list(dict.fromkeys(found))


def _group(ranking: RankingData, owner: str) -> str:
    if owner in ranking.groups:
        return owner
    raise RunError(f"the ranking '{ranking.name}' has no group '{owner}'")


def _resolve_set(
    experiment: Experiment,
    ref: NeuronSet,
    owner: str,
    rankings: Mapping[str, RankingData],
    axes: Mapping[str, float | str],
    widths: Widths,
) -> list[Address]:
    if ref.random is not None:
        assert ref.like is not None
        name = next((n for n, own in experiment.neurons.items() if own is ref), "")
        like = resolve_neurons(experiment, ref.like, owner, rankings, axes, widths)
        repeated = [like[i % len(like)] for i in range(ref.random)]
        return draw_random(repeated, like, widths, (experiment.seed, "random", name, owner))
    assert ref.of is not None
    name, _, key = ref.of.partition("/")
    bounds = _bounds(ref, axes)
    if name not in experiment.localize:
        whole = resolve_neurons(experiment, ref.of, owner, rankings, axes, widths)
        if bounds is None:
            return whole
        first, last = bounds
        start = first - 1 if first > 0 else max(0, len(whole) + first)
        return whole[start : last if last > 0 else len(whole) + last + 1]
    ranking, group = rankings[name], key or _group(rankings[name], owner)
    return ranking.chosen(group) if bounds is None else ranking.slice(group, *bounds)


def _bounds(ref: NeuronSet, axes: Mapping[str, float | str]) -> tuple[int, int] | None:
    """Give the first and last rank of a cut, counted from the end if negative; None without a cut."""
    for cut in CUTS:
        value = getattr(ref, cut)
        if value is None:
            continue
        if isinstance(value, list):
            value = axes.get(cut, value[0])
        if cut == "top":
            return 1, int(value)
        if cut == "bottom":
            return -int(value), -1
        if cut == "rank":
            first, last = parse_rank(str(value))
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
    drawn = []
    for address in like:
        width = widths[(address.site, address.layer)]
        free = width - sum(1 for site, layer, _ in taken if (site, layer) == (address.site, address.layer))
        if free <= 0:
            raise RunError(f"layer {address.layer} has no neurons left to draw at random from")
        while True:
            neuron = int(random.integers(width))
            if (address.site, address.layer, neuron) not in taken:
                break
        taken.add((address.site, address.layer, neuron))
        drawn.append(Address(address.site, address.layer, neuron, address.position))
    return drawn


def values_of_edit(edit: Edit, axes: Mapping[str, float | str]) -> float | str:
    """Give the number of an edit at one point of the sweep as it sees it, or the word of its source."""
    if edit.scale is not None:
        return float(axes["scale"])
    if isinstance(edit.set, Times):
        return float(axes["times"])
    if isinstance(edit.set, str):
        return edit.set
    return float(axes["set"])


def layers_of(places: Sequence[str] | None, n_layers: int) -> tuple[int, ...]:
    """Give the layers written as places; all of them if none are."""
    return resolve_layers(places, n_layers) if places else tuple(range(n_layers))
