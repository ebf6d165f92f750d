"""Hold a component at the value of another run, so that an edit can reach the output only around it."""

from __future__ import annotations

from torch import Tensor


def copy_nodes(values: Tensor, to: Tensor, source: Tensor, columns: Tensor | None = None) -> Tensor:
    """Copy whole nodes in place within one pass and return the tensor.

    ``values``: ``[n_nodes, width]``, already a copy; ``to``, ``source``: ``[n_frozen]``; ``columns``: the site's
    coordinates where it is only a part of the tensor. The twin runs in the same row, so nothing is stored between
    passes and both share their rounding.
    """
    if columns is None:
        values[to] = values[source]
    else:
        values[to[:, None], columns] = values[source[:, None], columns]
    return values


def hold(values: Tensor, to: Tensor, held: Tensor, columns: Tensor | None = None) -> Tensor:
    """Replace whole nodes by stored vectors in place and return the tensor.

    ``values``: ``[n_nodes, width]``, already a copy; ``to``: ``[n_frozen]``; ``held``: ``[n_frozen, width]``;
    ``columns``: the site's coordinates where it is only a part of the tensor.
    """
    if columns is None:
        values[to] = held.to(values.dtype)
    else:
        values[to[:, None], columns] = held.to(values.dtype)
    return values
