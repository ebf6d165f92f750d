"""In which order interventions are run: after those whose results their neurons are chosen by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from specs.language.experiment import Each, Experiment, NeuronSet, NeuronsRef
from specs.language.needs import mentions, needed

__all__ = ["circle", "filters_of", "named_through", "run_order", "waits_for"]

PLACES = ("localize", "neurons", "vectors")
"""Blocks through which an intervention can need another one's results."""


def waits_for(experiment: Experiment, name: str) -> tuple[str, ...]:
    """List the interventions whose results say which neurons an intervention edits, in the order of the spec.

    Those it names itself in a filter, or that the sets and rankings it names are filtered by.
    """
    return named_through(experiment, experiment.interventions[name], PLACES)


def named_through(experiment: Experiment, value: object, places: Iterable[str]) -> tuple[str, ...]:
    """List the interventions that a value names, itself or through what it names of some blocks, as in the spec."""
    between = {n: block for block in places for n in getattr(experiment, block)}
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(mentions(value))
    while waiting:
        word = waiting.pop()
        if word in seen:
            continue
        seen.add(word)
        if word in experiment.interventions:
            found.add(word)
        elif word in between:
            waiting.extend(mentions(getattr(experiment, between[word])[word]))
    return tuple(n for n in experiment.interventions if n in found)


def run_order(experiment: Experiment, names: Iterable[str]) -> tuple[str, ...]:
    """Sort interventions so that each comes after those it waits for, else as they stand in the spec.

    Raises ValueError for a circle.
    """
    wanted = [name for name in experiment.interventions if name in set(names)]
    done: dict[str, None] = {}

    def visit(name: str, within: tuple[str, ...]) -> None:
        if name in within:
            raise ValueError(" -> ".join((*within[within.index(name) :], name)))
        if name in done:
            return
        for before in waits_for(experiment, name):
            visit(before, (*within, name))
        done[name] = None

    for name in wanted:
        visit(name, ())
    return tuple(name for name in done if name in wanted)


def circle(experiment: Experiment, name: str) -> tuple[str, ...]:
    """Give the way from an intervention back to itself, its own name first and last; empty if there is none."""

    def way(at: str, seen: tuple[str, ...]) -> tuple[str, ...]:
        for before in waits_for(experiment, at):
            if before == name:
                return (*seen, name)
            if before not in seen and (found := way(before, (*seen, before))):
                return found
        return ()

    return way(name, (name,))


def filters_of(experiment: Experiment) -> list[tuple[str, NeuronSet]]:
    """List the filtered sets of what is run, each with a name: its own, or whose edit it stands in."""
    wanted = needed(experiment)
    found: list[tuple[str, NeuronSet]] = []
    for name, ref in experiment.neurons.items():
        if ("neurons", name) in wanted:
            found += _numbered(name, _filtered(ref))
    for name, spec in experiment.interventions.items():
        if ("interventions", name) in wanted:
            refs = [ref for edit in spec.edit for ref in (edit.neurons, edit.outside) if ref is not None]
            found += _numbered(f"{name}: neurons", (own for ref in refs for own in _filtered(ref)))
    return found


def _filtered(ref: NeuronsRef) -> Iterator[NeuronSet]:
    if isinstance(ref, NeuronSet):
        if ref.where:
            yield ref
    elif isinstance(ref, list | Each):
        for part in ref if isinstance(ref, list) else ref.each:
            yield from _filtered(part)


def _numbered(name: str, refs: Iterable[NeuronSet]) -> list[tuple[str, NeuronSet]]:
    return [(name if n == 1 else f"{name} {n}", ref) for n, ref in enumerate(refs, start=1)]
