"""What nnsight's tracing costs over plain torch hooks, on the very same packed rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import nnsight
import torch
from torch import Tensor

from benchmarks.work import Work
from runner.attention import tree_attention
from runner.tree import build_tree, keys_of, stack_rows


@dataclass(frozen=True)
class Overhead:
    """Alternated runs over one row: seconds under nnsight, with plain hooks, and the largest difference between them.

    ``per_trace``: milliseconds that a trace costs before any token, the difference of the medians over a row so short
    that tokens hardly count.
    """

    nodes: int
    traced: tuple[float, ...]
    hooked: tuple[float, ...]
    difference: float
    per_trace: float

    @property
    def ratio(self) -> float:
        """Give the ratio of the medians."""
        return statistics.median(self.traced) / statistics.median(self.hooked)

    @property
    def ratios(self) -> tuple[float, ...]:
        """Give the ratio of each pair of neighbouring runs."""
        return tuple(a / b for a, b in zip(self.traced, self.hooked, strict=True))

    def document(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "nodes": self.nodes,
            "traced_seconds": self.traced,
            "hooked_seconds": self.hooked,
            "ratio": self.ratio,
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
            "difference": self.difference,
            "per_trace_ms": self.per_trace,
        }


def read_traced(model: Any, traced: Any, row: Any) -> list[Tensor]:
    """Read the input of every down projection of a row through nnsight, as the engine does."""
    # A trace is a statement of its own, for its source is read.
    with torch.inference_mode(), tree_attention(model, *_tensors(row)) as kwargs:  # noqa: SIM117
        with traced.trace(**kwargs, use_cache=False) as tracer:
            values = nnsight.save([])
            for layer in traced.model.layers:
                values.append(layer.mlp.down_proj.input)
            tracer.stop()
    return list(values)


class _Stop(Exception):
    """Ends a pass after the last value."""


def read_hooked(model: Any, row: Any) -> list[Tensor]:
    """Read the same with plain hooks, and stop at the same place."""
    values: list[Tensor] = []
    blocks = model.model.layers

    def keep(_: Any, args: tuple[Tensor]) -> None:
        values.append(args[0])
        if len(values) == len(blocks):
            raise _Stop

    with torch.inference_mode(), tree_attention(model, *_tensors(row)) as kwargs, ExitStack() as hooks:
        for block in blocks:
            hooks.callback(block.mlp.down_proj.register_forward_pre_hook(keep).remove)
        with suppress(_Stop):
            model(**kwargs, use_cache=False)
    return values


def _tensors(row: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.from_numpy(row.ids), torch.from_numpy(row.depth), torch.from_numpy(row.end)


def packed_row(work: Work, nodes: int) -> Any:
    """Pack the first prompts of a work into one row of at most so many nodes."""
    keys: list[tuple[int, ...]] = []
    for prompt in work.prompts:
        if keys and len(build_tree([*keys, keys_of(prompt.ids, 0, 1 << 30)])) > nodes:
            break
        keys.append(keys_of(prompt.ids, 0, 1 << 30))
    return stack_rows([build_tree(keys)])


def in_turns(sides: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Time sides in turns, another one first each time, after one run of each."""
    for side in sides:
        side()
    times: list[list[float]] = [[] for _ in sides]
    for n in range(repeats):
        for k in range(len(sides)):
            which = (n + k) % len(sides)
            started = time.perf_counter()
            sides[which]()
            times[which].append(time.perf_counter() - started)
    return times


def overhead(model: Any, work: Work, *, nodes: int = 256, repeats: int = 40) -> Overhead:
    """Measure the overhead of tracing on one packed row of a llama-like model."""
    traced = nnsight.NNsight(model)
    row, short = packed_row(work, nodes), packed_row(work, 1)
    pairs = zip(read_traced(model, traced, row), read_hooked(model, row), strict=True)
    apart = max(float((a - b).abs().max()) for a, b in pairs)
    long = in_turns([lambda: read_traced(model, traced, row), lambda: read_hooked(model, row)], repeats)
    brief = in_turns([lambda: read_traced(model, traced, short), lambda: read_hooked(model, short)], repeats)
    fixed = 1000 * (statistics.median(brief[0]) - statistics.median(brief[1]))
    return Overhead(int(row.ids.shape[1]), tuple(long[0]), tuple(long[1]), apart, fixed)
