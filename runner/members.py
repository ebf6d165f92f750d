"""Many neurons as one array: what a set holds, in its order, in eight bytes for each.

A sweep of cuts over a dozen relations, each with its random sets, holds millions of neurons. Each is a number made of
its site, layer, place in the layer and token, so that unions, differences and counts are operations on arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from specs.language.references import Address

__all__ = ["Members", "Place"]

Codes = npt.NDArray[np.int64]
NEURON_BITS, LAYER_BITS, SITE_BITS = 30, 12, 10
NO_TOKEN = 0
_SITES: list[str] = []
"""Sites by number, in the order in which this process met them; no number leaves the process."""


def _number(site: str) -> int:
    if site not in _SITES:
        _SITES.append(site)
    return _SITES.index(site)


class Place(NamedTuple):
    """Neurons of one site and layer, and which of the set they are; ``[n]`` each."""

    site: str
    layer: int
    neurons: Codes
    which: Codes


@dataclass(frozen=True, eq=False)
class Members:
    """Neurons in an order, each once. ``codes``: ``[n]``."""

    codes: Codes

    @classmethod
    def of(cls, addresses: Iterable[Address]) -> Members:
        """Take addresses in their order; one that stands twice is taken once."""
        codes = [
            _code(a.site, a.layer, a.neuron) | (NO_TOKEN if a.position is None else _token(a.position))
            for a in addresses
        ]
        return cls.each_once(np.array(codes, dtype=np.int64))

    @classmethod
    def at(cls, sites: Sequence[str], which: Codes, layers: Codes, neurons: Codes) -> Members:
        """Take neurons by arrays: ``which`` of the sites, their layers, their places in the layer."""
        numbers = np.array([_number(site) for site in sites], dtype=np.int64)
        head = (numbers[which] << LAYER_BITS) | layers.astype(np.int64)
        return cls((head << NEURON_BITS) | neurons.astype(np.int64))

    @classmethod
    def each_once(cls, codes: Codes) -> Members:
        """Keep the first of equal neurons."""
        _, first = np.unique(codes, return_index=True)
        return cls(codes if len(first) == len(codes) else codes[np.sort(first)])

    def __len__(self) -> int:
        return len(self.codes)

    def __eq__(self, other: object) -> bool:
        """Say whether the same neurons stand in the same order."""
        return isinstance(other, Members) and np.array_equal(self.codes, other.codes)

    __hash__ = None  # type: ignore[assignment]

    def addresses(self) -> list[Address]:
        """Write out every neuron."""
        bare = self.codes & ((1 << (NEURON_BITS + LAYER_BITS + SITE_BITS)) - 1)
        tokens = self.codes >> (NEURON_BITS + LAYER_BITS + SITE_BITS)
        neurons = bare & ((1 << NEURON_BITS) - 1)
        heads = bare >> NEURON_BITS
        layers = heads & ((1 << LAYER_BITS) - 1)
        sites = heads >> LAYER_BITS
        return [
            Address(_SITES[site], layer, neuron, None if token == NO_TOKEN else _position(token))
            for site, layer, neuron, token in zip(
                sites.tolist(), layers.tolist(), neurons.tolist(), tokens.tolist(), strict=True
            )
        ]

    def __getitem__(self, part: slice) -> Members:
        return Members(self.codes[part])

    def and_then(self, *more: Members) -> Members:
        """Give the union: these, then those of others that are not among them."""
        return Members.each_once(np.concatenate([self.codes, *(m.codes for m in more)])) if more else self

    def minus(self, other: Members) -> Members:
        """Leave out what another set holds."""
        return Members(self.codes[~np.isin(self.codes, other.codes)])

    def common(self, other: Members) -> Members:
        """Keep what another set holds too."""
        return Members(self.codes[np.isin(self.codes, other.codes)])

    def places(self) -> tuple[Place, ...]:
        """Sort by site and layer, in the order in which the set first has them; within a place the order is kept."""
        heads = (self.codes >> NEURON_BITS) & ((1 << (LAYER_BITS + SITE_BITS)) - 1)
        found, first, at = np.unique(heads, return_index=True, return_inverse=True)
        order = np.argsort(at, kind="stable")
        cuts = np.cumsum(np.bincount(at, minlength=len(found)))[:-1]
        parts = np.split(order, cuts) if len(found) else []
        neurons = self.codes & ((1 << NEURON_BITS) - 1)
        return tuple(
            Place(
                _SITES[int(found[k]) >> LAYER_BITS],
                int(found[k]) & ((1 << LAYER_BITS) - 1),
                neurons[parts[k]],
                parts[k],
            )
            for k in np.argsort(first)
        )

    def at_tokens(self, other: Members) -> Members:
        """Give other neurons, each at the token of the one in its place here."""
        bare = (1 << (NEURON_BITS + LAYER_BITS + SITE_BITS)) - 1
        return Members((self.codes & ~bare) | (other.codes & bare))

    def counts(self) -> dict[tuple[str, int], int]:
        """Count the neurons of every site and layer."""
        return {(place.site, place.layer): len(place.neurons) for place in self.places()}

    def digest(self) -> str:
        """Hash which neurons these are, whatever their order."""
        found = hashlib.sha256()
        for place in sorted(self.places(), key=lambda p: (p.site, p.layer)):
            found.update(f"{place.site}/{place.layer}/".encode())
            tokens = self.codes[place.which] >> (NEURON_BITS + LAYER_BITS + SITE_BITS)
            order = np.lexsort((tokens, place.neurons))
            found.update(np.stack([place.neurons, tokens])[:, order].tobytes())
        return found.hexdigest()


def _code(site: str, layer: int, neuron: int) -> int:
    return (_number(site) << LAYER_BITS | layer) << NEURON_BITS | neuron


def _token(position: int) -> int:
    """Put a token's position, counted from either end, above all else; 0 means none."""
    if not -512 <= position < 510:
        raise ValueError(f"a neuron at token {position} cannot be kept")
    return (position + 513) << (NEURON_BITS + LAYER_BITS + SITE_BITS)


def _position(token: int) -> int:
    return token - 513


assert NEURON_BITS + LAYER_BITS + SITE_BITS + 10 < 63
