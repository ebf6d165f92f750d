"""Greedy text after a packed pass: the keys and values of each branch are gathered, then decoded as one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runner.attention import wide_attention

__all__ = ["continue_greedily"]

Editing = Callable[[Sequence[int]], AbstractContextManager[None]]
BATCH = 256
"""Branches decoded together; the gathered cache of more would outgrow the pass it came from."""


def continue_greedily(
    model: Any,
    cache: Any,
    shape: tuple[int, int],
    paths: Sequence[np.ndarray],
    first: Tensor,
    lengths: Sequence[int],
    editing: Editing | None = None,
) -> list[tuple[int, ...]]:
    """Decode greedily from the end of each path of a packed pass.

    ``cache``: the pass's ``DynamicCache`` over ``shape = (n_rows, n_nodes)``; ``paths[b]``: flat node numbers of
    branch ``b``; ``first``: ``[n_branches]``, the token after each path, taken from the packed logits, since
    re-running the last prompt token would lose an edit on it; ``lengths[b]``: how many tokens are wanted, the
    first included. Text ends before an end-of-text token. ``editing``: what edits the tokens that are decoded; given
    the branches that are decoded together, a context in which the model's passes over ``[n_branches, 1]`` are edited.
    """
    texts: list[tuple[int, ...]] = []
    for start in range(0, len(paths), BATCH):
        stop = start + BATCH
        chosen = range(start, min(stop, len(paths)))
        with nullcontext() if editing is None else editing(chosen):
            texts += _decode(model, cache, shape, paths[start:stop], first[start:stop], lengths[start:stop])
    return texts


def _decode(
    model: Any,
    cache: Any,
    shape: tuple[int, int],
    paths: Sequence[np.ndarray],
    first: Tensor,
    lengths: Sequence[int],
) -> list[tuple[int, ...]]:
    device = first.device
    longest = max(len(path) for path in paths)
    index = np.zeros((len(paths), longest), dtype=np.int64)
    mask = np.zeros((len(paths), longest), dtype=np.int64)
    for b, path in enumerate(paths):
        index[b, longest - len(path) :] = path
        mask[b, longest - len(path) :] = 1
    picked = torch.from_numpy(index).to(device)
    attention = torch.from_numpy(mask).to(device)
    position = torch.tensor([len(path) for path in paths], device=device)
    gathered = _gather(model, cache, shape, picked)
    tokens = [first]
    steps = max(lengths)
    with torch.inference_mode(), wide_attention():
        for _ in range(steps - 1):
            attention = torch.cat([attention, attention.new_ones(len(paths), 1)], dim=1)
            output = model(
                input_ids=tokens[-1][:, None],
                attention_mask=attention,
                position_ids=position[:, None],
                past_key_values=gathered,
                use_cache=True,
            )
            tokens.append(output.logits[:, -1].argmax(dim=-1))
            position = position + 1
    table = torch.stack(tokens, dim=1).cpu().tolist()
    ends = _end_tokens(model)
    return [_until(row[:length], ends) for row, length in zip(table, lengths, strict=True)]


def _gather(model: Any, cache: Any, shape: tuple[int, int], picked: Tensor) -> Any:
    """Copy the keys and values of chosen nodes into a left-padded cache that knows the model's windows."""
    from transformers import DynamicCache

    gathered = DynamicCache(config=model.config)
    n_branches, longest = picked.shape
    for number, layer in enumerate(cache.layers):
        parts = []
        for tensor in (layer.keys, layer.values):
            rows, heads, nodes, width = tensor.shape
            flat = tensor.transpose(1, 2).reshape(rows * nodes, heads, width)
            part = flat[picked.reshape(-1)].view(n_branches, longest, heads, width)
            parts.append(part.transpose(1, 2).contiguous())
        gathered.update(parts[0], parts[1], number)
    return gathered


def _end_tokens(model: Any) -> set[int]:
    config = getattr(model, "generation_config", None)
    ends = getattr(config, "eos_token_id", None)
    if ends is None:
        ends = getattr(model.config, "eos_token_id", None)
    return set() if ends is None else {int(e) for e in (ends if isinstance(ends, list | tuple) else [ends])}


def _until(row: Sequence[int], ends: set[int]) -> tuple[int, ...]:
    kept: list[int] = []
    for token in row:
        if token in ends:
            break
        kept.append(token)
    return tuple(kept)
