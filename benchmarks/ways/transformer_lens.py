"""TransformerLens: ``run_with_cache`` with a filter on the wanted hook points, ``run_with_hooks`` for edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.ways import Loading
from benchmarks.ways.hooks_padded import SIZES, padded
from benchmarks.ways.plain import InBatches, edited, log_probability, owners, scores, statistics
from benchmarks.work import Arrays, Prompt, Work, until_end

Hook = tuple[str, Callable[..., Tensor]]


class Lens(InBatches):
    """A bridged model, given batches of one or of many prompts.

    The whole model is run, vocabulary included: stopping at a layer leaves out that layer too, and the last is wanted.
    """

    def __init__(self, bridge: Any, dtype: torch.dtype, ends: set[int], sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        self.bridge = bridge
        self.dtype = dtype
        self.ends = ends
        self.n_layers = int(bridge.cfg.n_layers)

    def _localise(self, work: Work) -> Arrays:
        names = [f"blocks.{n}.mlp.out.hook_in" for n in range(self.n_layers)]
        values: Tensor | None = None
        for members in self.batches.of([len(p.ids) for p in work.prompts]):
            batch = [work.prompts[i] for i in members]
            _, cache = self.bridge.run_with_cache(**self._inputs(batch), names_filter=names, return_type=None)
            rows, at = torch.arange(len(batch)), torch.tensor([p.at for p in batch])
            read = torch.stack([cache[name][rows, at] for name in names], dim=1)
            if values is None:
                values = torch.empty((len(work.prompts), *read.shape[1:]), dtype=read.dtype)
            values[members] = read
        assert values is not None
        return statistics(values, owners(work))

    def _inputs(self, batch: Sequence[Prompt]) -> dict[str, Any]:
        ids, mask = padded([p.ids for p in batch])
        return {"input": ids} if len(batch) == 1 else {"input": ids, "attention_mask": mask, "padding_side": "right"}

    def _edited(self, batch: Sequence[Prompt]) -> Tensor:
        return self._asked(batch, self._edits(batch, [0] * len(batch)))

    def _asked(self, batch: Sequence[Prompt], hooks: Sequence[Hook]) -> Tensor:
        logits = self.bridge.run_with_hooks(**self._inputs(batch), fwd_hooks=list(hooks), return_type="logits")
        ends = logits[torch.arange(len(batch)), torch.tensor([len(p.ids) - 1 for p in batch])]
        return log_probability(ends, torch.tensor([p.answer for p in batch]))

    def _edits(self, batch: Sequence[Prompt], shift: Sequence[int]) -> list[Hook]:
        """Edit each row's neuron at its name; decoding steps, which hold one token, pass by."""
        layers = sorted({p.edit.layer for p in batch if p.edit is not None})

        def change(value: Tensor, hook: Any, layer: int) -> Tensor:
            if value.shape[1] > 1:
                for row, p in enumerate(batch):
                    if p.edit is not None and p.edit.layer == layer:
                        at = p.at + shift[row]
                        value[row, at, p.edit.neuron] = edited(value[row, at, p.edit.neuron], p.edit)
            return value

        return [
            (f"blocks.{layer}.mlp.out.hook_in", lambda value, hook, layer=layer: change(value, hook, layer))
            for layer in layers
        ]

    def _freeze(self, work: Work) -> Arrays:
        found = torch.zeros(len(work.prompts))
        kinds: dict[tuple[bool, bool], list[int]] = {}
        for i, p in enumerate(work.prompts):
            kinds.setdefault((p.edit is not None, p.frozen), []).append(i)
        clean = [work.prompts[i] for i in kinds.pop((False, False))]
        first = [i for i, p in enumerate(work.prompts) if p.edit is None and not p.frozen]
        names = [f"blocks.{n}.{part}.hook_out" for n in range(self.n_layers) for part in ("attn.o", "mlp.out")]
        for members in self.batches.of([len(p.ids) for p in clean]):
            batch = [clean[m] for m in members]
            logits, cache = self.bridge.run_with_cache(**self._inputs(batch), names_filter=names)
            ends = logits[torch.arange(len(batch)), torch.tensor([len(p.ids) - 1 for p in batch])]
            found[[first[m] for m in members]] = log_probability(ends, torch.tensor([p.answer for p in batch]))
            held = self._held(batch, {name: cache[name] for name in names}, work.free_layer)
            for (_, frozen), places in kinds.items():
                index = [places[m] for m in members]
                asked = [work.prompts[i] for i in index]
                found[index] = self._asked(asked, [*self._edits(asked, [0] * len(asked)), *(held if frozen else ())])
        return scores([found])

    def _held(self, batch: Sequence[Prompt], kept: dict[str, Tensor], free_layer: int) -> list[Hook]:
        width = max(len(p.ids) for p in batch)
        after = (torch.arange(width)[None] >= torch.tensor([p.at for p in batch])[:, None])[..., None]
        return [
            (name, lambda value, hook, name=name: torch.where(after, kept[name], value))
            for name in kept
            if name != f"blocks.{free_layer}.mlp.out.hook_out"
        ]

    def _generate(self, work: Work) -> Arrays:
        found = np.full((len(work.prompts), work.n_new), -1, dtype=np.int64)
        for members in self.batches.of([len(p.ids) for p in work.prompts]):
            batch = [work.prompts[i] for i in members]
            ids, mask = padded([p.ids for p in batch], left=True)
            edits = self._edits(batch, [ids.shape[1] - len(p.ids) for p in batch])
            extra: dict[str, Any] = {} if len(batch) == 1 else {"attention_mask": mask, "padding_side": "left"}
            with self.bridge.hooks(fwd_hooks=edits):
                made = self.bridge.generate(
                    ids,
                    max_new_tokens=work.n_new,
                    do_sample=False,
                    stop_at_eos=True,
                    eos_token_id=min(self.ends, default=None),
                    return_type="tokens",
                    verbose=False,
                    **extra,
                )
            for i, row in zip(members, made[:, ids.shape[1] :].tolist(), strict=True):
                found[i] = until_end(row, self.ends, work.n_new)
        return {"tokens": found}


def make(loading: Loading, option: str) -> Lens:
    """Bridge a checkpoint folder, weights as they are; ``option`` is ``single`` or ``batch``."""
    from transformer_lens.model_bridge import TransformerBridge  # type: ignore[import-not-found]
    from transformers import GenerationConfig

    dtype = getattr(torch, loading.dtype)
    bridge = TransformerBridge.boot_transformers(str(loading.folder), dtype=dtype, device="cpu")
    config = GenerationConfig.from_pretrained(loading.folder)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    return Lens(bridge, dtype, {int(e) for e in ends if e is not None}, (1,) if option == "single" else SIZES)
