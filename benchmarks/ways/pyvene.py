"""pyvene: an intervenable model for each kind of question, given one prompt at a time."""

from __future__ import annotations

from typing import Any

import pyvene  # type: ignore[import-not-found]
import torch
from torch import Tensor

from benchmarks.ways import Loading
from benchmarks.ways.plain import OneByOne, edited, load_plain, log_probability
from benchmarks.work import Edit, Prompt


class EditNeuron(pyvene.ConstantSourceIntervention):  # type: ignore[misc]
    """Changes one neuron as the edit of the moment says."""

    edit: Edit

    def forward(self, base: Tensor, source: Any = None, subspaces: Any = None, **_: Any) -> Tensor:
        """Give the values with the neuron changed."""
        changed = base.clone()
        changed[..., self.edit.neuron] = edited(changed[..., self.edit.neuron], self.edit)
        return changed


class Put(pyvene.ConstantSourceIntervention):  # type: ignore[misc]
    """Replaces a component by what was kept of it."""

    kept: Tensor

    def forward(self, base: Tensor, source: Any = None, subspaces: Any = None, **_: Any) -> Tensor:
        """Give what was kept."""
        return self.kept.view_as(base)


class Pyvene(OneByOne):
    """A model, and the intervenable models made of it, each made once."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.n_layers = len(model.model.layers)
        self.editors: dict[int, tuple[EditNeuron, Any]] = {}
        self.collector: Any = None
        self.keeper: Any = None
        self.holders: dict[tuple[int | None, int], tuple[EditNeuron, list[Put], Any]] = {}

    def _neurons(self, p: Prompt) -> Tensor:
        if self.collector is None:
            places = [_neurons_of(layer) for layer in range(self.n_layers)]
            reading = [{"component": place, "intervention": pyvene.CollectIntervention()} for place in places]
            self.collector = pyvene.IntervenableModel(reading, model=self.model)
        (_, found), _ = self.collector({"input_ids": torch.tensor([p.ids])}, unit_locations={"base": p.at})
        return torch.stack([value.reshape(-1) for value in found])

    def _editor(self, edit: Edit) -> Any:
        if edit.layer not in self.editors:
            verb = EditNeuron()
            editing = [{"component": _neurons_of(edit.layer), "intervention": verb}]
            self.editors[edit.layer] = (verb, pyvene.IntervenableModel(editing, model=self.model))
        verb, editor = self.editors[edit.layer]
        verb.edit = edit
        return editor

    def _asked(self, p: Prompt) -> Tensor:
        assert p.edit is not None
        _, output = self._editor(p.edit)({"input_ids": torch.tensor([p.ids])}, unit_locations={"base": p.at})
        return log_probability(output.logits[:, -1], torch.tensor([p.answer]))

    def _components(self) -> list[str]:
        """List what a freeze may hold: attention and MLP outputs, layer by layer."""
        parts = ("self_attn.o_proj", "mlp.down_proj")
        return [f"model.layers[{layer}].{part}.output" for layer in range(self.n_layers) for part in parts]

    def _clean(self, p: Prompt) -> tuple[Tensor, list[Tensor]]:
        """Ask without an edit, and keep what later runs are held at."""
        places = self._components()
        if self.keeper is None:
            reading = [{"component": place, "intervention": pyvene.CollectIntervention()} for place in places]
            self.keeper = pyvene.IntervenableModel(reading, model=self.model)
        after = list(range(p.at, len(p.ids)))
        inputs = {"input_ids": torch.tensor([p.ids])}
        (_, kept), output = self.keeper(inputs, unit_locations={"base": [[after]] * len(places)})
        return log_probability(output.logits[:, -1], torch.tensor([p.answer])), list(kept)

    def _held(self, p: Prompt, kept: list[Tensor], free_layer: int) -> Tensor:
        free = 2 * free_layer + 1
        places = self._components()
        held = [place for n, place in enumerate(places) if n != free]
        layer = None if p.edit is None else p.edit.layer
        key = (layer, free_layer)
        if key not in self.holders:
            verb, puts = EditNeuron(), [Put() for _ in held]
            holding = [{"component": c, "intervention": put} for c, put in zip(held, puts, strict=True)]
            if layer is not None:
                holding.insert(0, {"component": _neurons_of(layer), "intervention": verb})
            self.holders[key] = (verb, puts, pyvene.IntervenableModel(holding, model=self.model))
        verb, puts, model = self.holders[key]
        for put, value in zip(puts, (v for n, v in enumerate(kept) if n != free), strict=True):
            put.kept = value
        positions = [[list(range(p.at, len(p.ids)))]] * len(held)
        if p.edit is not None:
            verb.edit = p.edit
            positions = [[[p.at]], *positions]
        _, output = model({"input_ids": torch.tensor([p.ids])}, unit_locations={"base": positions})
        return log_probability(output.logits[:, -1], torch.tensor([p.answer]))

    def _continued(self, p: Prompt, n_new: int) -> list[int]:
        assert p.edit is not None
        ids = torch.tensor([p.ids])
        _, made = self._editor(p.edit).generate(
            {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
            unit_locations={"base": p.at},
            intervene_on_prompt=True,
            max_new_tokens=n_new,
            do_sample=False,
        )
        return [int(token) for token in made[0, len(p.ids) :]]


def _neurons_of(layer: int) -> str:
    return f"model.layers[{layer}].mlp.down_proj.input"


def make(loading: Loading, option: str) -> Pyvene:
    """Load the model."""
    return Pyvene(load_plain(loading))
