"""Padded batches of transformers with plain torch hooks: the body alone, and logits at the last positions alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.ways import Loading
from benchmarks.ways.plain import InBatches, ends_of, load_plain, log_probability, owners, scores, statistics
from benchmarks.work import Arrays, Prompt, Work, until_end

SIZES = (32, 64)
"""Batch sizes tried; the faster one is used."""
Held = dict[tuple[str, int], Tensor]


class HooksPadded(InBatches):
    """A model with hooks, given right-padded batches of prompts of similar length."""

    def __init__(self, model: Any, sizes: Sequence[int] = SIZES) -> None:
        super().__init__(sizes)
        self.model = model
        self.blocks: Any = model.model.layers

    def _localise(self, work: Work) -> Arrays:
        values = torch.empty(
            (len(work.prompts), len(self.blocks), self.blocks[0].mlp.down_proj.in_features), dtype=self.model.dtype
        )
        for members in self.batches.of([p.at for p in work.prompts]):
            batch = [work.prompts[i] for i in members]
            ids, mask = padded([p.ids[: p.at + 1] for p in batch])
            at = torch.tensor([p.at for p in batch])
            rows = torch.arange(len(batch))
            index = torch.tensor(members)
            with ExitStack() as hooks:
                for number, block in enumerate(self.blocks):
                    hook = _read(values[:, number], index, (rows, at))
                    hooks.callback(block.mlp.down_proj.register_forward_pre_hook(hook).remove)
                self.model.model(input_ids=ids, attention_mask=mask, use_cache=False)
        return statistics(values, owners(work))

    def _edited(self, batch: Sequence[Prompt]) -> Tensor:
        return self._asked(batch)

    def _asked(self, batch: Sequence[Prompt], held: Held | None = None, free_layer: int = -1) -> Tensor:
        """Run the body under the edits, and the head at the last positions."""
        ids, mask = padded([p.ids for p in batch])
        with ExitStack() as hooks:
            self._edit(hooks, batch, [0] * len(batch))
            if held is not None:
                self._hold(hooks, batch, held, free_layer)
            hidden = self.model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        ends = hidden[torch.arange(len(batch)), mask.sum(dim=1) - 1]
        return log_probability(self.model.lm_head(ends), torch.tensor([p.answer for p in batch]))

    def _edit(self, hooks: ExitStack, batch: Sequence[Prompt], shift: Sequence[int]) -> None:
        """Edit each row's neuron at its name, in one hook for each layer that is edited; decoding steps pass by."""
        chosen: dict[tuple[int, str], list[int]] = {}
        for row, p in enumerate(batch):
            if p.edit is not None:
                chosen.setdefault((p.edit.layer, p.edit.op), []).append(row)
        for (layer, op), members in chosen.items():
            edits = [e for row in members if (e := batch[row].edit) is not None]
            rows = torch.tensor(members)
            at = torch.tensor([batch[row].at + shift[row] for row in members])
            neurons = torch.tensor([e.neuron for e in edits])
            amounts = torch.tensor([e.amount for e in edits], dtype=self.model.dtype)

            def change(
                _: Any,
                args: tuple[Tensor],
                op: str = op,
                where: tuple[Tensor, Tensor, Tensor] = (rows, at, neurons),
                amounts: Tensor = amounts,
            ) -> None:
                if args[0].shape[1] > 1:
                    args[0][where] = args[0][where] * amounts if op == "scale" else amounts

            hooks.callback(self.blocks[layer].mlp.down_proj.register_forward_pre_hook(change).remove)

    def _freeze(self, work: Work) -> Arrays:
        """Run each of the four conditions as batches of all entities, clean first."""
        found = torch.zeros(len(work.prompts))
        kinds: dict[tuple[bool, bool], list[int]] = {}
        for i, p in enumerate(work.prompts):
            kinds.setdefault((p.edit is not None, p.frozen), []).append(i)
        clean = [work.prompts[i] for i in kinds[(False, False)]]
        for members in self.batches.of([len(p.ids) for p in clean]):
            held: Held = {}
            with ExitStack() as hooks:
                for number, block in enumerate(self.blocks):
                    for name, module in (("attn", block.self_attn.o_proj), ("mlp", block.mlp.down_proj)):
                        hooks.callback(module.register_forward_hook(_keep(held, (name, number))).remove)
                found[[kinds[(False, False)][m] for m in members]] = self._asked([clean[m] for m in members])
            for kind, places in kinds.items():
                if kind == (False, False):
                    continue
                index = [places[m] for m in members]
                batch = [work.prompts[i] for i in index]
                found[index] = self._asked(batch, held if kind[1] else None, work.free_layer)
        return scores([found])

    def _hold(self, hooks: ExitStack, batch: Sequence[Prompt], held: Held, free_layer: int) -> None:
        width = max(len(p.ids) for p in batch)
        after = (torch.arange(width)[None] >= torch.tensor([p.at for p in batch])[:, None])[..., None]
        for number, block in enumerate(self.blocks):
            for name, module in (("attn", block.self_attn.o_proj), ("mlp", block.mlp.down_proj)):
                if (name, number) == ("mlp", free_layer):
                    continue

                def put(_: Any, __: Any, output: Tensor, kept: Tensor = held[(name, number)]) -> Tensor:
                    return torch.where(after, kept, output)

                hooks.callback(module.register_forward_hook(put).remove)

    def _generate(self, work: Work) -> Arrays:
        """Decode left-padded batches with the library's own loop."""
        ends = ends_of(self.model)
        found = np.full((len(work.prompts), work.n_new), -1, dtype=np.int64)
        for members in self.batches.of([len(p.ids) for p in work.prompts]):
            batch = [work.prompts[i] for i in members]
            ids, mask = padded([p.ids for p in batch], left=True)
            with ExitStack() as hooks:
                self._edit(hooks, batch, [ids.shape[1] - len(p.ids) for p in batch])
                made = self.model.generate(
                    input_ids=ids, attention_mask=mask, max_new_tokens=work.n_new, do_sample=False, pad_token_id=0
                )
            for i, row in zip(members, made[:, ids.shape[1] :].tolist(), strict=True):
                found[i] = until_end(row, ends, work.n_new)
        return {"tokens": found}


def _read(into: Tensor, to: Tensor, place: tuple[Tensor, Tensor]) -> Any:
    def hook(_: Any, args: tuple[Tensor]) -> None:
        into[to] = args[0][place]

    return hook


def _keep(held: Held, key: tuple[str, int]) -> Any:
    def hook(_: Any, __: Any, output: Tensor) -> None:
        held[key] = output

    return hook


def padded(prompts: Sequence[Sequence[int]], *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Pad prompts into a batch: ids and mask."""
    width = max(len(p) for p in prompts)
    ids = torch.zeros((len(prompts), width), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        place = slice(width - len(prompt), width) if left else slice(0, len(prompt))
        ids[row, place] = torch.tensor(prompt)
        mask[row, place] = 1
    return ids, mask


def make(loading: Loading, option: str = "") -> HooksPadded:
    """Load the model; with ``option`` ``one`` all prompts make one batch, with ``single`` each is by itself."""
    return HooksPadded(load_plain(loading), {"one": (1 << 30,), "single": (1,)}.get(option, SIZES))
