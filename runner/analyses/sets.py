"""Sets of neurons by owner, as an analysis sees them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runner.analyses.protocol import Findings
from specs.language.errors import RunError
from specs.language.references import Address, parse_address, parse_layer

__all__ = ["OwnedSet", "owned_sets", "place_of", "widths"]


@dataclass(frozen=True)
class OwnedSet:
    """The neurons of one owner: ``key`` as in a reference, ``label`` as in prompts."""

    key: str
    label: str
    neurons: tuple[Address, ...]


def place_of(text: str, site: str = "mlp.neurons") -> Address:
    """Read a place of a result document: a neuron, or a layer as its neuron 0."""
    address = parse_address(text)
    if address is not None:
        return address
    layer = parse_layer(text)
    assert layer is not None, text
    return Address(site, layer, 0)


def owned_sets(name: str, ref: str, found: Findings) -> list[OwnedSet]:
    """List what a reference stands for, owner by owner: of a ranking by forms of names, the names themselves.

    Raises RunError, in the name of analysis ``name``, for what names no set of this run.
    """
    block, _, key = ref.partition("/")
    if block in found.results.rankings:
        ranking = found.results.rankings[block]
        groups = [g for k, g in ranking.groups.items() if (k == key if key else g.variant is None)]
        if not groups:
            raise RunError(f"'{name}': '{block}' has no ranking of '{key or 'a name itself'}'")
        return [OwnedSet(g.key, g.label, tuple(place_of(a, ranking.site) for a in g.chosen)) for g in groups]
    if block in found.results.neurons:
        owners = found.results.neurons[block].owners
        if key and key not in owners:
            raise RunError(f"'{name}': '{block}' has no '{key}'")
        chosen = [owners[key]] if key else [one for owner, one in owners.items() if "/" not in owner]
        return [OwnedSet(one.owner, one.label, tuple(map(place_of, one.neurons))) for one in chosen]
    raise RunError(f"'{name}': '{ref}' names no set of neurons of this run")


def widths(found: Findings, neurons: Iterable[Address]) -> dict[tuple[str, int], int]:
    """Give the number of neurons of each site and layer among which some were found: those of the widest ranking.

    Raises RunError for a site that no ranking reads.
    """
    counts: dict[tuple[str, int], int] = {}
    for ranking in found.rankings.values():
        for place, width in ranking.widths().items():
            counts[place] = max(counts.get(place, 0), width)
    for site, layer in sorted({(a.site, a.layer) for a in neurons} - set(counts)):
        where = site if all(s != site for s, _ in counts) else f"{site} in layer {layer}"
        raise RunError(f"no ranking of this run reads {where}, so what would be shared by chance is not known")
    return counts
