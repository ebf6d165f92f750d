"""What the names of a spec mean: entities, prompt sets, groups of rankings, sets of neurons.

Each question is answered once for each place it is asked at. A name that means nothing is told there and
answered with None, "failed": whoever asked checks nothing that follows from it, so that one mistake gives one
message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from specs.language.experiment import Each, Experiment, NeuronSet, NeuronsRef
from specs.language.facts import ANYBODY, owner_keys
from specs.language.meaning.naming import HasOrigins, Path
from specs.language.meaning.prompt_sets import Prompts, PromptSets
from specs.language.references import (
    Address,
    is_layer_place,
    looks_like_address,
    parse_address,
    parse_reference,
    resolve_layers,
)
from specs.language.scalars import nearest, suggest

__all__ = ["CUTS", "Neurons", "Path", "Prompts", "Scope"]

CUTS = ("top", "bottom", "rank", "threshold", "mass")
DEEPEST_MODEL = 100_000
"""More layers than any model has: a sweep of layers is listed before the model is known."""


@dataclass(frozen=True)
class Neurons:
    """What a reference to neurons comes down to."""

    rankings: tuple[tuple[str, str | None], ...] = ()
    """(ranking, group); no group for every one of its groups."""
    addresses: tuple[Address, ...] = ()
    whole_layers: bool = False
    saved: bool = False
    sets: tuple[NeuronSet, ...] = ()
    """The sets that are passed through on the way."""
    axes: Mapping[str, Sequence[float | str]] = field(default_factory=dict)
    """Sweep: its values; empty where they depend on the model."""

    def __add__(self, other: Neurons) -> Neurons:
        return Neurons(
            tuple(dict.fromkeys((*self.rankings, *other.rankings))),
            tuple(dict.fromkeys((*self.addresses, *other.addresses))),
            self.whole_layers or other.whole_layers,
            self.saved or other.saved,
            (*self.sets, *(s for s in other.sets if not any(s is known for known in self.sets))),
            {**self.axes, **other.axes},
        )


class Scope(PromptSets):
    """Everything a name of an experiment can mean."""

    def __init__(self, experiment: Experiment, origins: HasOrigins) -> None:
        super().__init__(experiment, origins)
        self._neurons: dict[Path, Neurons | None] = {}
        self._groups: dict[str, tuple[str, ...] | None] = {}
        self._circular: set[str] = set()

    def groups(self, ranking: str) -> tuple[str, ...] | None:
        """List the groups of a ranking; None if they are not known here."""
        if ranking not in self._groups:
            spec = self.experiment.localize[ranking]
            found: tuple[str, ...] | None = None
            prompts = self.prompts(spec.prompts, "localize", ranking, "prompts") if spec.prompts else None
            by = self.ranked_by(ranking)
            if by == []:
                found = (ANYBODY,)
            elif by is not None and prompts is not None and prompts.texts is not None:
                found = owner_keys(prompts.texts, by)
            self._groups[ranking] = found
        return self._groups[ranking]

    def ranked_by(self, ranking: str) -> list[str] | None:
        """Give the columns a ranking is made for; None, told, if one of them is no column."""
        by = self.experiment.localize[ranking].by or []
        fine = [self.column(name, "localize", ranking, "by", n) for n, name in enumerate(by)]
        return by if all(fine) else None

    def group(self, ranking: str, name: str, key: str, *path: str | int, also: Sequence[str] = ()) -> bool:
        """Say whether a ranking, or the set ``name`` taken from it, has a group; if not, tell."""
        groups = self.groups(ranking)
        if groups is None or key in groups:
            return True
        by = self.experiment.localize[ranking].by or []
        what = f"It is ranked by {', '.join(by)}: {', '.join(sorted(groups))}" if by else "It is one ranking over all"
        near = nearest(key, [*groups, *also])
        hint = f"; did you mean '{near}'? {what}" if near else f". {what}"
        self.tell(f"'{name}' has no '{key}'{hint}", *path, unknown=key)
        return False

    def neurons(self, ref: NeuronsRef, *path: str | int) -> Neurons | None:
        """Give what a reference to neurons comes down to; None, told, for what names none."""
        if path not in self._neurons:
            self._neurons[path] = self._resolve(ref, path, ())
        return self._neurons[path]

    def _resolve(self, ref: NeuronsRef, path: Path, within: tuple[str, ...]) -> Neurons | None:
        if isinstance(ref, str):
            return self._named(ref, path, within)
        if isinstance(ref, Each):
            parts = [self._resolve(part, (*path, "each", n), within) for n, part in enumerate(ref.each)]
            found = _union(parts)
            return found and found + Neurons(axes={"neurons": [_label(part) for part in ref.each]})
        if isinstance(ref, list):
            return _union(self._resolve(part, (*path, n), within) for n, part in enumerate(ref))
        return self._set_of_neurons(ref, path, within)

    def _set_of_neurons(self, ref: NeuronSet, path: Path, within: tuple[str, ...]) -> Neurons | None:
        if ref.from_ is not None:
            return Neurons(saved=True, sets=(ref,))
        if ref.site is not None:
            axes: dict[str, Sequence[float | str]] = {}
            if isinstance(ref.layers, Each):
                axes["layers"] = _layers(ref.layers.each)
                fine = self.layers(ref.layers.each, *path, "layers", "each")
            else:
                fine = ref.layers is None or self.layers(ref.layers, *path, "layers")
            return Neurons(whole_layers=True, sets=(ref,), axes=axes) if fine else None
        source = "of" if ref.of is not None else "like"
        base = self._resolve(ref.of or ref.like or "", (*path, source), within)
        if base is None:
            return None
        axes = {}
        for cut in CUTS:
            value = getattr(ref, cut)
            if isinstance(value, list) and len(value) > 1:
                axes[cut] = value
        others: list[Neurons | None] = []
        for name in ("minus", "common"):
            value = getattr(ref, name)
            if isinstance(value, str) and value == "others":
                continue
            if value is not None:
                others.append(self._resolve(value, (*path, name), within))
        if any(part is None for part in others):
            return None
        return base + Neurons(sets=(ref,), axes=axes)

    def _named(self, ref: str, path: Path, within: tuple[str, ...]) -> Neurons | None:
        address = parse_address(ref)
        if address is not None:
            return Neurons(addresses=(address,))
        if looks_like_address(ref) and self.kind(ref.partition("/")[0]) is None:
            digits = "".join(c if c.isdigit() else " " for c in ref.partition(":")[2] or ref).split()
            write = f"L{digits[0]}.N{digits[1]}"
            self.tell(f"'{ref}' is not a neuron address; write {write}, or gate:L1.N5 for another site", *path)
            return None
        try:
            reference = parse_reference(ref)
        except ValueError as error:
            self.tell(str(error), *path)
            return None
        name, key = reference.name, reference.group
        if name in self.experiment.localize:
            if key is not None and not self.group(name, name, key, *path):
                return None
            return Neurons(rankings=((name, key),))
        if name in self.experiment.neurons:
            if name in within:
                circle = within[within.index(name) :]
                if self._circular.isdisjoint(circle):
                    self.tell(f"neuron set '{name}' is defined by itself", "neurons", name)
                self._circular.update(circle)
            if name in self._circular:
                return None
            found = self._resolve(self.experiment.neurons[name], ("neurons", name), (*within, name))
            if found is None or key is None:
                return found
            if not all(self.group(ranking, name, key, *path) for ranking, own in found.rankings if own is None):
                return None
            return found + Neurons() if not found.rankings else _keyed(found, key)
        self.tell(self._no_neurons(name, within), *path, unknown=name)
        return None

    def _no_neurons(self, name: str, within: tuple[str, ...]) -> str:
        known = [*self.experiment.localize, *(n for n in self.experiment.neurons if n not in within)]
        kind = self.kind(name)
        if kind is not None and kind not in ("a ranking", "a neuron set"):
            column = {"an entity": "entity", "a relation": "relation"}.get(kind)
            owner = next((r for r, spec in self.experiment.localize.items() if spec.by == [column]), None)
            if owner is None and column is not None:
                owner = next((r for r, spec in self.experiment.localize.items() if column in (spec.by or [])), None)
            its = f"; its neurons are '{owner}/{name}'" if owner else ""
            return f"'{name}' is {kind}, not a set of neurons{its}"
        near = suggest(name, known)
        if not known:
            return f"'{name}' names no neurons: nothing is localised here"
        if not near:
            return f"'{name}' names no neurons; choose from {', '.join(known)}"
        return f"'{name}' names no neurons{near} ({', '.join(known)})"

    def layers(self, places: Sequence[str], *path: str | int) -> bool:
        """Check layer places; what is no number is a set of neurons whose layers are meant."""
        fine = True
        for n, place in enumerate(places):
            if is_layer_place(place):
                continue
            name = place.partition("/")[0]
            known = [*self.experiment.localize, *self.experiment.neurons]
            if name in known or parse_address(place) is not None:
                fine = self.neurons(place, *path, n) is not None and fine
                continue
            near = suggest(name, known) or "; write 4, 4-9, 80%-100%, or a set of neurons whose layers are meant"
            self.tell(f"'{place}' names no layers{near}", *path, n)
            fine = False
        return fine


def _union(parts: Iterable[Neurons | None]) -> Neurons | None:
    found = Neurons()
    failed = False
    for part in parts:
        if part is None:
            failed = True
        else:
            found = found + part
    return None if failed else found


def _keyed(found: Neurons, key: str) -> Neurons:
    rankings = tuple((ranking, own or key) for ranking, own in found.rankings)
    return Neurons(rankings, found.addresses, found.whole_layers, found.saved, found.sets, found.axes)


def _label(ref: str | NeuronSet) -> str:
    return ref if isinstance(ref, str) else str(ref.of or ref.site or ref.like or ref.from_)


def _layers(places: Sequence[str]) -> list[float | str]:
    """List the layers of a sweep; none where they depend on the model."""
    if any("%" in place or not is_layer_place(place) for place in places):
        return []
    try:
        return [float(layer) for layer in resolve_layers(places, DEEPEST_MODEL)]
    except ValueError:
        return []
