"""Which coordinate each column of a ranking is: those of all its sites, one site after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from specs.language.errors import ModelError

__all__ = ["Columns", "columns_at"]


@dataclass(frozen=True)
class Columns:
    """The sites of a ranking in its order, and how many neurons each has in every layer that is ranked."""

    sites: tuple[str, ...]
    widths: tuple[int, ...]

    @property
    def total(self) -> int:
        """Number of columns: neurons of a layer, all sites together."""
        return sum(self.widths)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First column of each site."""
        return tuple(accumulate(self.widths[:-1], initial=0))

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The columns of each site."""
        return tuple(slice(first, first + n) for first, n in zip(self.starts, self.widths, strict=True))

    def neuron(self, column: int) -> tuple[str, int]:
        """Give site and number of the neuron in a column."""
        site = self.site_of(column)
        return self.sites[site], column - self.starts[site]

    def site_of(self, column: int) -> int:
        """Give the index of the site that a column belongs to."""
        return int(np.searchsorted(self.starts, column, side="right")) - 1

    def column(self, site: str, neuron: int) -> int | None:
        """Give the column of a neuron; None where no site of the ranking has it."""
        if site not in self.sites:
            return None
        index = self.sites.index(site)
        return self.starts[index] + neuron if 0 <= neuron < self.widths[index] else None

    def numbers(self) -> npt.NDArray[np.int64]:
        """Give the number of every column's neuron within its site, ``[total]``."""
        return np.concatenate([np.arange(n) for n in self.widths])

    def of_sites(self, values: Sequence[bool]) -> npt.NDArray[np.bool_]:
        """Spread a value for each site over its columns, ``[total]``."""
        return np.repeat(np.array(values, dtype=bool), self.widths)


def columns_at(sites: Sequence[str], layers: Sequence[int], width_of: Callable[[str, int], int]) -> Columns:
    """Lay out the columns of some sites over some layers.

    Raises :class:`ModelError` where a ranking would compare layers of unequal numbers of neurons.
    """
    widths = []
    for site in sites:
        found = {width_of(site, layer) for layer in layers}
        if len(found) > 1:
            raise ModelError(
                f"the layers of this model differ in their number of neurons at {site} ({sorted(found)})",
                remedy="rank layers of one width at a time: `layers:`",
            )
        widths.append(found.pop())
    return Columns(tuple(sites), tuple(widths))
