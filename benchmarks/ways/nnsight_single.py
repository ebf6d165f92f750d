"""nnsight as published scripts use it: one prompt, and one factor, per trace."""

from __future__ import annotations

from typing import Any

import nnsight
import torch
from torch import Tensor

from benchmarks.ways import Loading
from benchmarks.ways.plain import OneByOne, edited, load_plain, log_probability
from benchmarks.work import Prompt


class NnsightSingle(OneByOne):
    """A traced model, given one prompt at a time."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.traced: Any = nnsight.NNsight(model)
        self.layers: Any = self.traced.model.layers

    def _neurons(self, p: Prompt) -> Tensor:
        """Read the input of every down projection at the name, and stop before the vocabulary."""
        with self.traced.trace(input_ids=torch.tensor([p.ids]), use_cache=False) as tracer:
            values = nnsight.save([])
            for layer in self.layers:
                values.append(layer.mlp.down_proj.input[0, p.at])
            tracer.stop()
        return torch.stack(values)

    def _asked(self, p: Prompt) -> Tensor:
        edit = p.edit
        assert edit is not None
        with self.traced.trace(input_ids=torch.tensor([p.ids]), use_cache=False):
            neurons = self.layers[edit.layer].mlp.down_proj.input
            neurons[0, p.at, edit.neuron] = edited(neurons[0, p.at, edit.neuron], edit)
            logits = self.traced.output.logits[:, -1].save()
        return log_probability(logits, torch.tensor([p.answer]))

    def _continued(self, p: Prompt, n_new: int) -> list[int]:
        edit = p.edit
        assert edit is not None
        ids = torch.tensor([p.ids])
        kwargs = {"attention_mask": torch.ones_like(ids), "max_new_tokens": n_new, "do_sample": False}
        with self.traced.trace(input_ids=ids, fn=self.model.generate, **kwargs) as tracer:
            # The first pass is the prompt's; what is generated after it is not edited.
            neurons = self.layers[edit.layer].mlp.down_proj.input
            neurons[0, p.at, edit.neuron] = edited(neurons[0, p.at, edit.neuron], edit)
            result = tracer.result.save()
        return [int(token) for token in result[0, len(p.ids) :]]

    def _clean(self, p: Prompt) -> tuple[Tensor, dict[tuple[str, int], Tensor]]:
        """Ask without an edit, and keep what later runs are held at."""
        with self.traced.trace(input_ids=torch.tensor([p.ids]), use_cache=False):
            values = nnsight.save([])
            for layer in self.layers:
                values.append(layer.self_attn.o_proj.output[0, p.at :])
                values.append(layer.mlp.down_proj.output[0, p.at :])
            logits = self.traced.output.logits[:, -1].save()
        kept = {(("attn", "mlp")[i % 2], i // 2): value for i, value in enumerate(values)}
        return log_probability(logits, torch.tensor([p.answer])), kept

    def _held(self, p: Prompt, kept: dict[tuple[str, int], Tensor], free_layer: int) -> Tensor:
        edit = p.edit
        with self.traced.trace(input_ids=torch.tensor([p.ids]), use_cache=False):
            for number, layer in enumerate(self.layers):
                layer.self_attn.o_proj.output[0, p.at :] = kept[("attn", number)]
                if edit is not None and edit.layer == number:
                    neurons = layer.mlp.down_proj.input
                    neurons[0, p.at, edit.neuron] = edited(neurons[0, p.at, edit.neuron], edit)
                if number != free_layer:
                    layer.mlp.down_proj.output[0, p.at :] = kept[("mlp", number)]
            logits = self.traced.output.logits[:, -1].save()
        return log_probability(logits, torch.tensor([p.answer]))


def make(loading: Loading) -> NnsightSingle:
    """Load the model."""
    return NnsightSingle(load_plain(loading))
