"""Average precision of every neuron at once: how well its raw value tells an owner's prompts from the others'.

Each column is sorted once over all prompts, and every owner and every shuffled null reuses that order: an owner more
costs two running counts. Blocks of columns bound the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from specs.language.errors import RunError

__all__ = ["BLOCK_BYTES", "average_precision", "average_precision_many", "precision_of_owners"]

BLOCK_BYTES = {"cpu": 6 << 20, "cuda": 1 << 30}
"""What a thread's block of columns may take by default: on a CPU about what its caches hold, more is slower."""
BYTES_PER_VALUE = 72
"""Of one value in a block: the value and its key, the order, the ranks, and running counts, mostly as int64."""


def average_precision(values: Tensor, positive: Tensor, *, block_bytes: int | None = None) -> Tensor:
    """Give the average precision of every column of ``values``, ``[n_prompts, width]``, as float64 of ``[width]``.

    AP = sum over thresholds t, from the highest, of (R_t - R_t-1) P_t, with precision P and recall R of "the value is
    at least t": the mean, over the positives, of the share of positives among the prompts whose value is at least as
    high. Equal values are one threshold, as in scikit-learn's ``average_precision_score``, which it equals to rounding.
    A neuron that knows nothing has about the base rate, the share of positives (on average a little more).
    ``positive``: bool of ``[n_prompts]``. Infinities are ordinary values. Raises :class:`RunError` for a value that is
    not a number, and where all prompts are positive or none is.
    """
    return average_precision_many(values, positive[None], block_bytes=block_bytes)[0]


def average_precision_many(values: Tensor, positive: Tensor, *, block_bytes: int | None = None) -> Tensor:
    """Give :func:`average_precision` for each of several labellings, bool of ``[n_labels, n_prompts]``.

    float64 of ``[n_labels, width]``; all of them share one sort.
    """
    return precision_of_owners(values, torch.ones_like(positive, dtype=torch.bool), positive, block_bytes=block_bytes)


def precision_of_owners(
    values: Tensor,
    members: Tensor,
    positive: Tensor,
    *,
    names: Sequence[str] = (),
    block_bytes: int | None = None,
) -> Tensor:
    """Give the average precision of every column for owners that each compare some of the prompts.

    ``values``: ``[n_prompts, width]`` in float32, float64 or a half format, on any device. ``members`` and
    ``positive``: bool of ``[n_owners, n_prompts]``, which prompts an owner compares (its positives and its negatives)
    and which of these are its own. Gives float64 of ``[n_owners, width]`` on the device of the values; memory beside it
    is about ``block_bytes`` for all threads together, at least ``72 * n_prompts`` for each. ``names`` are the owners',
    for messages. Raises :class:`RunError` as :func:`average_precision` does, naming the owner.
    """
    _check(values, members, positive, names)
    n_prompts, width = values.shape
    counters = _Counters(members.to(values.device), positive.to(values.device))
    found = torch.empty((len(members), width), dtype=torch.float64, device=values.device)
    threads = torch.get_num_threads() if values.device.type == "cpu" else 1
    room = block_bytes or threads * BLOCK_BYTES.get(values.device.type, BLOCK_BYTES["cpu"])
    step = max(1, room // (threads * BYTES_PER_VALUE * n_prompts))
    order_of = _by_key if values.device.type == "cpu" and values.dtype != torch.float64 else _by_sort

    @torch.inference_mode()  # which a thread does not inherit, and values that were read may demand
    def rank(first: int) -> None:
        columns = slice(first, first + step)
        order, lower = order_of(_numbers(values[:, columns], first))
        counters.precision(order, lower, found[:, columns])

    # A block is small: threads that take blocks are faster than threads that share each operation, and far faster where
    # other processes want the processor.
    with _one_thread_each(), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(rank, range(0, width, step)):
            pass
    return found


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let torch start no threads within an operation, in this thread and in those that begin meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check(values: Tensor, members: Tensor, positive: Tensor, names: Sequence[str]) -> None:
    shape = (len(members), len(values))
    if members.dtype != torch.bool or positive.dtype != torch.bool or not values.is_floating_point():
        raise TypeError("values are floating-point numbers; members and positives are bool")
    if values.ndim != 2 or members.shape != shape or positive.shape != shape or (names and len(names) != len(members)):
        raise ValueError(
            f"values are [n_prompts, width], members and positives [n_owners, n_prompts]; got {tuple(values.shape)}, "
            f"{tuple(members.shape)}, {tuple(positive.shape)} and {len(names)} names"
        )
    if bool((positive & ~members).any()):
        raise ValueError("a positive prompt is not among the prompts that are compared")
    sizes, own = members.sum(dim=1).tolist(), positive.sum(dim=1).tolist()
    problems = [
        f"{f'for {names[k]}' if names else f'in labelling {k + 1}'} {n_own:,} of {size:,} prompts are positive"
        for k, (size, n_own) in enumerate(zip(sizes, own, strict=True))
        if n_own in (0, size)
    ]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise RunError(
            f"average precision needs prompts of both kinds: {'; '.join(problems[:3])}{more}",
            remedy="give it prompts about at least two owners, or see what was left out",
        )


def _numbers(block: Tensor, first: int) -> Tensor:
    """Give columns as rows, ``[columns, n_prompts]``, with one zero; raise for what is not a number."""
    # Adding 0 makes of -0.0 the 0.0 that it equals.
    columns = block.t().contiguous().add(0.0)
    if block.dtype != torch.float64:
        columns = columns.float()
    if bool((wrong := torch.isnan(columns)).any()):
        column, prompt = (int(i) for i in wrong.nonzero()[0])
        raise RunError(
            f"an activation is not a number (prompt {prompt}, neuron {first + column} of its layer)",
            remedy="try model.dtype: float32 or bfloat16",
        )
    return columns


def _by_key(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Order float32 rows as :func:`_by_sort` does, in a third of its time on a CPU.

    Number and place are one integer, and numpy sorts integers as vectors.
    """
    bits = numbers.view(torch.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long() << 32
    keys |= torch.arange(keys.shape[1])
    keys.numpy().sort(axis=1)
    high = keys >> 32
    return keys & 0xFFFFFFFF, _lower(high[:, 1:] == high[:, :-1])


def _by_sort(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Order rows, ``[columns, n_prompts]``; with each place of the order, how many values of the row are lower."""
    in_order, order = torch.sort(numbers, dim=1)
    return order, _lower(in_order[:, 1:] == in_order[:, :-1])


def _lower(same: Tensor) -> Tensor:
    """Count the lower values from which neighbours in the order are the same: where each run of ties begins."""
    n = same.shape[1] + 1
    place = torch.arange(n, device=same.device).expand(len(same), n)
    if not bool(same.any()):
        return place
    begins = place.clone()
    begins[:, 1:].masked_fill_(same, 0)
    return begins.cummax(dim=1).values


class _Counters:
    """Running counts of members and positives, those of as many owners in one int64 as have room."""

    def __init__(self, members: Tensor, positive: Tensor) -> None:
        self.n_members, self.n_positive = members.sum(dim=1).tolist(), positive.sum(dim=1).tolist()
        self.positives = [row.nonzero()[:, 0] for row in positive]
        self.bits = members.shape[1].bit_length()  # a count goes up to the number of prompts
        self.mask = (1 << self.bits) - 1
        together = max(1, 63 // (2 * self.bits))
        n_owners = len(members)
        self.groups = [range(k, min(k + together, n_owners)) for k in range(0, n_owners, together)]
        words = []
        for group in self.groups:
            word = torch.zeros(members.shape[1], dtype=torch.int64, device=members.device)
            for place, owner in enumerate(group):
                word |= (members[owner].long() | positive[owner].long() << self.bits) << (2 * self.bits * place)
            words.append(word)
        self.words = words

    def precision(self, order: Tensor, lower: Tensor, out: Tensor) -> None:
        """Write average precision, ``[n_owners, columns]``, from order and ties of each column."""
        columns, n = order.shape
        # Of each prompt, how many values of the column are lower than its own.
        place = torch.empty_like(order).scatter_(1, order, lower)
        counts = torch.zeros((columns, n + 1), dtype=torch.int64, device=order.device)
        for group, word in zip(self.groups, self.words, strict=True):
            torch.cumsum(word.index_select(0, order.reshape(-1)).view(columns, n), dim=1, out=counts[:, 1:])
            for k, owner in enumerate(group):
                below = counts.gather(1, place.index_select(1, self.positives[owner])) >> (2 * self.bits * k)
                members = (self.n_members[owner] - (below & self.mask)).double()
                positives = (self.n_positive[owner] - ((below >> self.bits) & self.mask)).double()
                out[owner] = positives.div_(members).mean(dim=1)
