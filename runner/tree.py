"""Prompt trees: many token sequences merged so that each distinct token in context is run once.

A tree is three arrays in depth-first preorder. Node ``i`` sees node ``j`` exactly when ``j <= i < end[j]``, so the
attention mask needs no search for ancestors, a forest is block-diagonal for free, and a padding node with
``end[j] = j + 1`` sees only itself. A condition of an experiment is a *tag*: the same token under another tag is
another node, which is how an intervention becomes a branch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, count, pairwise
from operator import ne

import numpy as np
import numpy.typing as npt

__all__ = [
    "ALIGN",
    "Rows",
    "Tree",
    "aligned",
    "build_tree",
    "chains",
    "common_prefix",
    "count_nodes",
    "nearest_prefix",
    "stack_rows",
]

Ints = npt.NDArray[np.int64]
ALIGN = 16
"""Rows of a packed pass are padded to a multiple of so many nodes.

From 16 lines on, a matrix product of a CPU gives each line the same bits whatever other lines it has (measured with
torch 2.13 in float32 and bfloat16), and vector units add the columns of attention in lanes of at most 16: so the
numbers of a row do not depend on the rows it is run with. Multiples of 16 are what tensor cores want, too.
"""
_TOKEN_BITS = 24
"""A key holds the tag above these bits and the token id below: 16 million token ids are room enough."""


@dataclass(frozen=True)
class Tree:
    """A forest of token sequences in depth-first preorder.

    ``ids``, ``depth``, ``end``: ``[n_nodes]``. ``paths[s][p]`` is the node of position ``p`` of sequence ``s``.
    """

    ids: Ints
    depth: Ints
    end: Ints
    paths: tuple[Ints, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Rows:
    """Trees as the rows of one forward pass, padded at the right.

    ``ids``, ``depth``, ``end``: ``[n_rows, n_nodes]``; ``real``: how many nodes of each row are not padding.
    """

    ids: Ints
    depth: Ints
    end: Ints
    real: Ints


def keys_of(tokens: Sequence[int], tag: int, branch_at: int) -> tuple[int, ...]:
    """Give the node keys of a sequence whose nodes from ``branch_at`` on belong to ``tag``."""
    return tagged(tokens, [0 if p < branch_at else tag for p in range(len(tokens))])


def tagged(tokens: Sequence[int], tags: Sequence[int]) -> tuple[int, ...]:
    """Give the node keys of a sequence: its tokens with the tag of each, 0 for a node that is as the model has it."""
    return tuple(tag << _TOKEN_BITS | token for token, tag in zip(tokens, tags, strict=True))


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Count the items with which both sequences begin."""
    # without a loop in Python, for large plans compare millions of them
    return next(compress(count(), map(ne, a, b)), min(len(a), len(b)))


def nearest_prefix(ordered: Sequence[tuple[int, ...]], key: tuple[int, ...]) -> int:
    """Give the longest beginning that ``key`` shares with any of some sorted sequences: with one of its neighbours."""
    place = bisect_left(ordered, key)
    return max((common_prefix(near, key) for near in ordered[max(0, place - 1) : place + 1]), default=0)


def build_tree(keys: Sequence[tuple[int, ...]]) -> Tree:
    """Merge sequences of node keys into one tree; equal beginnings become the same nodes.

    Sorting puts sequences with a common beginning side by side, so one sweep with a stack builds the preorder;
    recursion would die on long prompts.
    """
    ids: list[int] = []
    depth: list[int] = []
    end: list[int] = []
    paths: list[Ints | None] = [None] * len(keys)
    stack: list[int] = []
    previous: tuple[int, ...] = ()
    mask = (1 << _TOKEN_BITS) - 1
    for s in sorted(range(len(keys)), key=keys.__getitem__):
        key = keys[s]
        shared = common_prefix(key, previous)
        for node in stack[shared:]:
            end[node] = len(ids)
        del stack[shared:]
        for p in range(shared, len(key)):
            stack.append(len(ids))
            ids.append(key[p] & mask)
            depth.append(p)
            end.append(0)
        paths[s] = np.array(stack, dtype=np.int64)
        previous = key
    for node in stack:
        end[node] = len(ids)
    return Tree(
        np.array(ids, dtype=np.int64),
        np.array(depth, dtype=np.int64),
        np.array(end, dtype=np.int64),
        tuple(path for path in paths if path is not None),
    )


def count_nodes(keys: Sequence[tuple[int, ...]]) -> int:
    """Count the nodes that :func:`build_tree` would make."""
    ordered = sorted(keys)
    shared = sum(common_prefix(a, b) for a, b in pairwise(ordered))
    return sum(map(len, ordered)) - shared


def chains(keys: Sequence[tuple[int, ...]]) -> list[Tree]:
    """Give each sequence a tree of its own: the padded and one-by-one ways of running."""
    return [build_tree([key]) for key in keys]


def aligned(n: int) -> int:
    """Round a number of nodes up to a multiple of :data:`ALIGN`."""
    return -(-n // ALIGN) * ALIGN


def stack_rows(trees: Sequence[Tree], *, align: bool = False) -> Rows:
    """Pad trees at the right into rows of equal length; padding nodes see only themselves."""
    width = max(len(tree) for tree in trees)
    if align:
        width = aligned(width)
    shape = (len(trees), width)
    ids = np.zeros(shape, dtype=np.int64)
    depth = np.zeros(shape, dtype=np.int64)
    end = np.tile(np.arange(1, width + 1, dtype=np.int64), (len(trees), 1))
    for r, tree in enumerate(trees):
        n = len(tree)
        ids[r, :n], depth[r, :n], end[r, :n] = tree.ids, tree.depth, tree.end
    return Rows(ids, depth, end, np.array([len(tree) for tree in trees], dtype=np.int64))
