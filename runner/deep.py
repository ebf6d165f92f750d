"""The last level of checking: does what a spec names exist in this model? No weights are needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from runner.chat import check_chats
from runner.families import site_place
from runner.saving import foreign_sets, model_of
from specs.language.errors import ModelError, Problem
from specs.language.experiment import Edit, Experiment, Localize, NeuronSet, NeuronsRef
from specs.language.needs import needed
from specs.language.references import is_layer_place, parse_address, parse_rank, resolve_layers

if TYPE_CHECKING:
    from runner.model import Machine

__all__ = ["check_addresses"]

Place = tuple[str | int, ...]


def check_addresses(experiment: Experiment, machine: Machine, origins: Any) -> list[Problem]:
    """Check every layer, neuron and site that a spec names against the model's shape, and every chat against its
    tokenizer's template.
    """
    problems = check_chats(experiment, machine.tokenizer, machine.source.name, origins)

    def add(message: str, place: Place) -> None:
        path = ".".join(str(part) for part in place)
        problems.append(Problem(message, path, origins.at(*place), level="model"))

    here = model_of(machine, weights=machine.has_weights)
    for name, why in foreign_sets(experiment, here).items():
        add(
            f"this set was saved for another model: {why}; the neurons of one are not those of another",
            ("neurons", name, "from"),
        )
    n_layers = machine.shape.n_layers
    for place, layers in _layers(experiment):
        for text in layers:
            if not is_layer_place(text):
                continue  # the layers of a neuron set
            try:
                resolve_layers([text], n_layers)
            except ValueError as error:
                add(str(error).replace("the model has", f"{machine.source.name} has"), place)
    for place, sites in _sites(experiment):
        for site in sites:
            try:
                site_place(machine.skeleton, machine.family, site, 0)
            except ModelError as error:
                add(error.cause, place)
    for place, ranking, rank in _cuts(experiment):
        n = _candidates(experiment.localize[ranking], machine)
        if n is not None and rank > n:
            what = "layers" if experiment.localize[ranking].metric == "layer_stability" else "neurons"
            add(
                f"'{ranking}' ranks {n:,} {what} of {machine.source.name}; there is no rank {rank:,}; "
                "cut with a smaller number",
                place,
            )
    for place, ref in _references(experiment):
        address = parse_address(ref)
        if address is None:
            continue
        if address.layer >= n_layers:
            add(
                f"layer {address.layer} is out of range: {machine.source.name} has layers 0-{n_layers - 1}",
                place,
            )
            continue
        try:
            width = site_place(machine.skeleton, machine.family, address.site, address.layer).width
        except ModelError as error:
            add(error.cause, place)
            continue
        if address.neuron >= width:
            add(
                f"neuron {address.neuron} is out of range: layer {address.layer} of {machine.source.name} has "
                f"{width:,} neurons at {address.site}",
                place,
            )
    return problems


def _candidates(ranking: Localize, machine: Machine) -> int | None:
    """Count what a ranking chooses among; None where its sites or layers are told to be wrong."""
    try:
        n_layers = machine.shape.n_layers
        layers = resolve_layers(ranking.layers, n_layers) if ranking.layers else tuple(range(n_layers))
        if ranking.metric == "layer_stability":
            return len(layers)
        return sum(machine.width(site, layer) for site in ranking.site or ["mlp.neurons"] for layer in layers)
    except (ValueError, ModelError):
        return None


def _cuts(experiment: Experiment) -> Iterator[tuple[Place, str, int]]:
    """List the cuts by number of rankings in what is run: place, ranking, and the largest rank that is needed."""
    wanted = needed(experiment)
    for name, ranking in experiment.localize.items():
        if ("localize", name) in wanted and ranking.top is not None:
            yield ("localize", name, "top"), name, ranking.top
    for name, ref in experiment.neurons.items():
        if ("neurons", name) in wanted:
            yield from _cuts_of(experiment, ref, ("neurons", name))
    for name, intervention in experiment.interventions.items():
        for n, edit in enumerate(intervention.edit if ("interventions", name) in wanted else ()):
            if edit.neurons is not None:
                yield from _cuts_of(experiment, edit.neurons, ("interventions", name, "edit", n, "neurons"))


def _cuts_of(experiment: Experiment, ref: NeuronsRef, place: Place) -> Iterator[tuple[Place, str, int]]:
    if isinstance(ref, list):
        for n, part in enumerate(ref):
            yield from _cuts_of(experiment, part, (*place, n))
    if not isinstance(ref, NeuronSet) or not isinstance(ref.of, str) or ref.where:
        return  # of what passes a filter, and of other sets, there may be fewer than are asked for
    ranking = ref.of.partition("/")[0]
    if ranking not in experiment.localize:
        return
    for cut in ("top", "bottom", "rank"):
        value = getattr(ref, cut)
        for n, one in enumerate(value if isinstance(value, list) else [] if value is None else [value]):
            largest = parse_rank(str(one))[1] if cut == "rank" else int(one)
            yield (*place, cut, n) if isinstance(value, list) else (*place, cut), ranking, largest


def _layers(experiment: Experiment) -> Iterator[tuple[Place, list[str]]]:
    for name, ranking in experiment.localize.items():
        yield ("localize", name, "layers"), ranking.layers or []
    for name, vector in experiment.vectors.items():
        yield ("vectors", name, "layers"), [vector.layers] if vector.layers else []
    for name, intervention in experiment.interventions.items():
        freeze = intervention.freeze
        if freeze is not None:
            yield ("interventions", name, "freeze", "layers"), freeze.layers or []
            for n, exception in enumerate(freeze.except_):
                yield ("interventions", name, "freeze", "except", n, "layers"), exception.layers or []


def _sites(experiment: Experiment) -> Iterator[tuple[Place, list[str]]]:
    for name, ranking in experiment.localize.items():
        yield ("localize", name, "site"), [str(s) for s in ranking.site or []]
    for name, vector in experiment.vectors.items():
        yield ("vectors", name, "site"), [str(vector.site)] if vector.site else []
    for name, intervention in experiment.interventions.items():
        if intervention.freeze is not None:
            yield ("interventions", name, "freeze", "site"), [str(s) for s in intervention.freeze.site]


def _references(experiment: Experiment) -> Iterator[tuple[Place, str]]:
    for name, ref in experiment.neurons.items():
        yield from _texts(ref, ("neurons", name))
    for name, intervention in experiment.interventions.items():
        for n, edit in enumerate(intervention.edit):
            yield from _edit_texts(edit, ("interventions", name, "edit", n))


def _edit_texts(edit: Edit, place: Place) -> Iterator[tuple[Place, str]]:
    if edit.neurons is not None:
        yield from _texts(edit.neurons, (*place, "neurons"))
    if edit.outside is not None:
        yield from _texts(edit.outside, (*place, "outside"))


def _texts(ref: NeuronsRef, place: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(ref, str):
        yield place, ref
    elif isinstance(ref, list):
        for n, part in enumerate(ref):
            yield from _texts(part, (*place, n))
    elif isinstance(ref, NeuronSet) and isinstance(ref.of, str):
        yield (*place, "of"), ref.of
