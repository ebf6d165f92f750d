"""How each family is told the tree mask: the one place that knows.

A ready mask ``[rows, 1, nodes, nodes]`` is used by transformers as it is, and no sliding window is added to
it; so windows are put in here. It must be additive: eager attention reads a boolean mask as numbers, in
silence. Positions must come with a mask: without one, transformers takes repeated positions for packed
documents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from runner.families import block_paths, family_of, mask_form, windows_of
from runner.tree import aligned
from specs.language.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "BLOCK",
    "TreeBlocks",
    "mask_bytes",
    "mask_form",
    "one_row_only",
    "tree_attention",
    "tree_mask",
    "wide_attention",
]

_DENSE = ("sdpa", "eager")
"""Implementations that take a dense mask. Flash attention ignores one; flex attention crashes on one."""


_EAGER_BYTES = {"bloom": 18, "doge": 13, "falcon": 17, "mpt": 13, "gpt_neo": 13, "gptj": 13, "codegen": 13}
"""For each head and pair of nodes, where it is more than ten."""


_MATH_KERNEL = ("minicpm3", "youtu")
"""Families whose values are narrower than their keys: fused attention then holds all scores of all heads."""
CPU = torch.device("cpu")


def visible(depth: Tensor, end: Tensor, window: int | None = None) -> Tensor:
    """Say which nodes (third axis) each node (second axis) sees: bool ``[rows, nodes, nodes]``."""
    node = torch.arange(end.shape[1], device=end.device)
    # j <= i < end[j] is "j is an ancestor of i or i itself" in preorder.
    seen = (node[None, :] <= node[:, None])[None] & (node[None, :, None] < end[:, None, :])
    if window is not None:
        seen &= depth[:, :, None] < depth[:, None, :] + window
    return seen


def tree_mask(depth: Tensor, end: Tensor, dtype: torch.dtype, window: int | None = None) -> Tensor:
    """Build the additive mask of prompt trees: 0 where seen, else the lowest finite number.

    ``depth``, ``end``: ``[rows, nodes]``; the result is ``[rows, 1, nodes, nodes]``. With ``window``, a node
    sees the last ``window`` tokens of its own prompt, itself included.
    """
    return _additive(visible(depth, end, window), dtype)[:, None]


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    # Never -inf: a row that sees nothing would become NaN under eager attention.
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)


BLOCK = 32
"""Nodes of a row that attend together, where attention is computed block by block."""
MOST_KEYS = 128
"""Keys of a block, beyond which prompts are too deep for blocks: dense attention gathers nothing."""


@dataclass(frozen=True)
class TreeBlocks:
    """Where the nodes of some rows look, block by block of :data:`BLOCK` consecutive nodes.

    In preorder, what a node sees outside its block are ancestors of the block's first node. So a block needs its own
    nodes and as many others as its first node is deep, whatever the length of the row: for prompts of some dozen tokens
    attention takes time in proportion to the nodes, where a dense mask takes it in proportion to their square.

    ``keys``: ``[n_blocks * n_keys]``, flat node numbers; ``mask``: additive, ``[n_blocks, 1, BLOCK, n_keys]``.
    """

    shape: tuple[int, int]
    keys: Tensor
    mask: Tensor

    @classmethod
    def of(cls, depth: Tensor, end: Tensor, dtype: torch.dtype, window: int | None = None) -> TreeBlocks:
        """Find the blocks of rows; ``depth``, ``end``: ``[rows, nodes]`` on a CPU, ``window`` as in tree_mask."""
        rows, nodes = depth.shape
        depths, ends = depth.numpy(), end.numpy()
        starts = range(0, nodes, BLOCK)
        above = [[np.flatnonzero(ends[r, :first] > first) for first in starts] for r in range(rows)]
        longest = max(len(found) for row in above for found in row)
        n_keys = aligned(BLOCK + longest)
        keys = np.full((rows, len(starts), n_keys), nodes, dtype=np.int64)  # beyond the last node: no key
        for r, row in enumerate(above):
            for b, (first, found) in enumerate(zip(starts, row, strict=True)):
                own = np.arange(first, min(first + BLOCK, nodes))
                keys[r, b, : len(found)] = found
                keys[r, b, longest : longest + len(own)] = own
        query = np.arange(len(starts) * BLOCK).reshape(1, len(starts), BLOCK, 1)
        row_of = np.arange(rows)[:, None, None, None]
        key = keys[:, :, None, :]
        there = np.minimum(key, nodes - 1)
        asking = np.minimum(query, nodes - 1)
        seen = (key < nodes) & (key <= asking) & (asking < ends[row_of, there])
        if window is not None:
            seen &= depths[row_of, asking] < depths[row_of, there] + window
        flat = there[:, :, 0] + row_of[:, :, 0] * nodes
        mask = _additive(torch.from_numpy(seen).flatten(0, 1), dtype)[:, None]
        return cls((rows, nodes), torch.from_numpy(flat).reshape(-1), mask)

    def attend(
        self, attention: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, **more: Any
    ) -> Tensor:
        """Compute attention of ``[rows, heads, nodes, width]`` by ``attention``, which gets all blocks as its batch."""
        rows, nodes = self.shape
        heads, width, blocks = query.shape[1], query.shape[3], -(-nodes // BLOCK)
        if blocks * BLOCK > nodes:
            query = pad(query, (0, 0, 0, blocks * BLOCK - nodes))
        query = query.reshape(rows, heads, blocks, BLOCK, width).transpose(1, 2).flatten(0, 1)
        found = attention(query, self._gather(key), self._gather(value), attn_mask=self.mask, **more)
        found = found.view(rows, blocks, heads, BLOCK, found.shape[3]).transpose(1, 2)
        whole: Tensor = found.reshape(rows, heads, blocks * BLOCK, found.shape[4])[:, :, :nodes]
        return whole

    def _gather(self, values: Tensor) -> Tensor:
        rows, nodes = self.shape
        heads, width = values.shape[1], values.shape[3]
        flat = values.transpose(1, 2).reshape(rows * nodes, heads, width)
        return flat.index_select(0, self.keys).view(len(self.mask), -1, heads, width).transpose(1, 2)


class _Attention(TorchFunctionMode):
    """Fused attention as the engine computes it on a CPU: block by block of a tree, float32 values in float64."""

    def __init__(self, blocks: Sequence[tuple[Tensor, TreeBlocks]] = ()) -> None:
        super().__init__()
        self._blocks = blocks
        """Masks, and the blocks that say the same."""
        self._wide: tuple[Tensor, Tensor] | None = None
        """The last mask, and the same in float64: every layer of a kind gets the same one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not scaled_dot_product_attention:
            return func(*args, **kwargs)
        given = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False))
        given.update(kwargs)
        query, key, mask = given["query"], given["key"], given.get("attn_mask")
        # By identity: a mask that the model has changed, by a position bias say, is no longer the tree's.
        blocks = next((b for m, b in self._blocks if m is mask and query.shape[2] == key.shape[2] == m.shape[-1]), None)
        if blocks is None:
            return self._attend(**given)
        del given["attn_mask"]
        return blocks.attend(self._attend, given.pop("query"), given.pop("key"), given.pop("value"), **given)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **more: Any) -> Any:
        if query.dtype != torch.float32 or query.device.type != "cpu":
            return scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, **more)
        if attn_mask is not None and (self._wide is None or self._wide[0] is not attn_mask):
            self._wide = attn_mask, _widened(attn_mask)
        mask = None if attn_mask is None or self._wide is None else self._wide[1]
        wide = scaled_dot_product_attention(_widened(query), _widened(key), _widened(value), attn_mask=mask, **more)
        return wide.to(query.dtype)


def _widened(value: Tensor) -> Tensor:
    return value.double() if value.dtype == torch.float32 else value


def wide_attention(blocks: Sequence[tuple[Tensor, TreeBlocks]] = ()) -> TorchFunctionMode:
    """Keep packing from moving float32 attention on a CPU by more than a few roundings, for the while it is entered.

    Where keys are large (350 in the first layer of Qwen2.5-Coder-1.5B), products of a query and a key cancel, and
    float32 sums of them depend on the shape of the batch: probabilities moved by 1.5e-4, in a plain padded batch as in
    a tree. Other number formats and devices are left alone: their rounding is larger, or float64 is slow or missing.
    Eager attention is left alone too. ``blocks``: tree masks, and the blocks by which attention under them is computed.
    """
    return _Attention(blocks)


def one_row_only(config: Any) -> bool:
    """Say whether only one row of nodes can be run at a time: the position bias of mpt has no batch axis."""
    return str(config.model_type) == "mpt"


def mask_bytes(
    config: Any,
    n_rows: int,
    n_nodes: int,
    heads: int,
    dtype: torch.dtype,
    implementation: str,
    device: torch.device = CPU,
) -> int:
    """Estimate the memory in bytes that mask and attention take beyond activations, at the peak of a pass.

    Quadratic in the nodes of a row: the masks and what is needed to build them, and in eager attention about
    ten bytes for every head and pair of nodes, more in families with a position bias; where attention is
    widened, the mask again in float64. Fitted to the resident memory of passes over 4,096 nodes on a CPU.
    """
    square = n_rows * n_nodes * n_nodes
    form = mask_form(config)
    kind = str(config.model_type)
    masks = {"per layer type": 2 * dtype.itemsize, "bias buffer": 4, "alibi": dtype.itemsize}
    total = square * (5 + masks.get(form, dtype.itemsize))
    wide = implementation != "eager" and dtype == torch.float32 and device.type == "cpu"
    if implementation != "eager" and (kind == "doge" or (kind == "falcon" and form == "alibi")):
        # Their masks differ from head to head.
        total += square * heads * (16 if wide else 8)
    elif implementation != "eager" and kind in _MATH_KERNEL:
        total += square * heads * (18 if wide else 8)
    elif wide:
        total += square * 8
    elif implementation == "eager":
        total += square * heads * _EAGER_BYTES.get(kind, 10)
    return total


@contextmanager
def tree_attention(
    model: Any, ids: Tensor, depth: Tensor, end: Tensor, *, deepest: int | None = None
) -> Iterator[dict[str, Any]]:
    """Give the keyword arguments that run prompt trees through a model, and set it up for the while.

    ``ids``, ``depth``, ``end``: ``[rows, nodes]`` on the model's device. Models with a position bias get it
    by hooks and swapped buffers, which are taken away at the end, whatever happens. Fused attention is computed as
    :func:`wide_attention` says, on a CPU block by block unless prompts are long: ``deepest`` is the longest of the job,
    so that the rows of a pass do not decide it (None: of these rows). Raises ModelError where the attention
    implementation takes no dense mask.
    """
    config = model.config
    family = family_of(config)
    implementation = str(getattr(config, "_attn_implementation", None) or "eager")
    form = mask_form(config)
    if implementation not in _DENSE:
        raise ModelError(
            f"attention implementation '{implementation}' takes no prompt tree",
            remedy="set model.attention to sdpa or eager",
        )
    if one_row_only(config) and len(ids) > 1:
        raise ValueError(f"{config.model_type} takes one row of nodes at a time, not {len(ids)}")
    dtype = model.dtype
    layers = [model.get_submodule(path) for path in block_paths(model, family)]
    if form == "alibi":
        with _alibi(config, layers, depth, end, dtype, implementation), wide_attention():
            yield {"input_ids": ids}
    elif form == "bias buffer":
        with _bias_buffers(config, layers, depth, end):
            # The buffers hold the whole mask; without any mask the library would build its own.
            free = torch.zeros((1, 1, 1, 1), dtype=dtype, device=ids.device)
            yield {
                "input_ids": ids,
                "position_ids": depth,
                "attention_mask": free.expand(len(ids), 1, ids.shape[1], ids.shape[1]),
            }
    else:
        window = windows_of(config)
        mask: Any
        if form == "per layer type":
            mask = {
                "full_attention": tree_mask(depth, end, dtype),
                "sliding_attention": tree_mask(depth, end, dtype, window),
            }
            masks = [(mask["full_attention"], None), (mask["sliding_attention"], window)]
        else:
            mask = tree_mask(depth, end, dtype, window)
            masks = [(mask, window)]
        blocks = []
        deepest = int(depth.max()) + 1 if deepest is None else deepest
        fits = BLOCK + deepest <= MOST_KEYS
        if fits and implementation == "sdpa" and ids.device.type == "cpu" and ids.shape[1] > BLOCK:
            blocks = [(m, TreeBlocks.of(depth, end, dtype, w)) for m, w in masks]
        with wide_attention(blocks):
            yield {"input_ids": ids, "position_ids": depth, "attention_mask": mask}


@contextmanager
def _alibi(
    config: Any, blocks: list[nn.Module], depth: Tensor, end: Tensor, dtype: torch.dtype, implementation: str
) -> Iterator[None]:
    """Re-index the library's own position bias by depth, on its way into each block."""
    kind = config.model_type
    if kind == "falcon" and implementation != "sdpa":
        raise ModelError(
            "falcon with ALiBi under eager attention adds its position bias twice",
            remedy="set model.attention to sdpa",
        )
    seen = visible(depth, end)[:, None]
    made: dict[str, Tensor] = {}

    def bloom(arguments: dict[str, Any]) -> dict[str, Tensor]:
        alibi = arguments["alibi"]  # [rows * heads, 1, nodes], the same for each row
        heads = alibi.shape[0] // len(depth)
        by_row = alibi.view(len(depth), heads, 1, -1)
        index = depth[:, None, None, :].expand(-1, heads, 1, -1)
        return {
            "alibi": by_row.gather(-1, index).reshape(alibi.shape),
            "attention_mask": _additive(seen, dtype),
        }

    def falcon(arguments: dict[str, Any]) -> dict[str, Tensor]:
        alibi = arguments["alibi"]  # [rows, heads, 1, nodes]
        by_depth = alibi.gather(-1, depth[:, None, None, :].expand(-1, alibi.shape[1], 1, -1))
        scale = math.sqrt(config.hidden_size // config.num_attention_heads)
        return {
            "alibi": by_depth,
            "attention_mask": (by_depth / scale).masked_fill(~seen, torch.finfo(dtype).min),
        }

    def mpt(arguments: dict[str, Any]) -> dict[str, Tensor]:
        bias = arguments["position_bias"]  # [heads, 1, max positions], 0 at the last
        deepest = int(depth.max())
        return {"position_bias": bias[:, :, depth[0] + bias.shape[-1] - 1 - deepest], "attention_mask": ~seen}

    fix = {"bloom": bloom, "falcon": falcon, "mpt": mpt}[kind]

    def hook(_: nn.Module, args: tuple[Any, ...], arguments: dict[str, Any]) -> Any:
        if not made:
            made.update(fix(arguments))
        return args, {**arguments, **made}

    handles = [block.register_forward_pre_hook(hook, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _bias_buffers(config: Any, blocks: list[nn.Module], depth: Tensor, end: Tensor) -> Iterator[None]:
    """Put the tree mask in place of the causal matrices that gpt_neo keeps in its attention modules."""
    masks = {
        "global": visible(depth, end)[:, None],
        "local": visible(depth, end, int(config.window_size))[:, None],
    }
    attentions: list[Any] = [block.get_submodule("attn.attention") for block in blocks]
    kept = [attention.bias for attention in attentions]
    try:
        for attention in attentions:
            attention.bias = masks[attention.attention_type]
        yield
    finally:
        for attention, bias in zip(attentions, kept, strict=True):
            attention.bias = bias


def padded(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Pad token sequences on the right: ids and mask, ``[n, longest]`` each, on the CPU."""
    ids = torch.zeros((len(sequences), max(len(tokens) for tokens in sequences)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for n, tokens in enumerate(sequences):
        ids[n, : len(tokens)] = torch.tensor(tokens)
        mask[n, : len(tokens)] = 1
    return ids, mask
