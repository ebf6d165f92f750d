"""The works: what is asked of every way, made from a tokenizer, a model's shape and one small localisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.prompts import FACTS, KNOWN, NESTED, QUESTIONS, SHORT, bind, first_token, names, templates
from benchmarks.work import Edit, Prompt, Work

Floats = npt.NDArray[np.floating[Any]]
FACTORS = tuple(round(1 - 0.2 * i, 1) for i in range(21))
DOSES = tuple(float(2 * i) for i in range(1, 11))
N_OWNERS = 8
N_FROZEN = 20
N_NEW = 16


@dataclass(frozen=True)
class Cells:
    """Whose neuron is which: ``mean[owner, layer, neuron]`` over a small localisation of the same names."""

    mean: Floats

    @property
    def n_layers(self) -> int:
        """Give the number of layers."""
        return int(self.mean.shape[1])

    def own(self, owner: int, layer: int) -> int:
        """Find the neuron of a layer that is furthest from its mean over the owners."""
        there = self.mean[:, layer]
        return int(abs(there[owner] - there.mean(axis=0)).argmax())

    def value(self, owner: int, layer: int, neuron: int) -> float:
        """Give the mean activation of a neuron over an owner's prompts."""
        return float(self.mean[owner, layer, neuron])


def localisation(tokenizer: Any, name: str, entities: Sequence[str], openings: Sequence[str]) -> Work:
    """Read every neuron of every layer at the name's last token: mean and std over each name's prompts."""
    prompts = []
    for unit, entity in enumerate(entities):
        for template in openings:
            bound = bind(tokenizer, template, entity)
            prompts.append(Prompt(bound.ids, bound.at, unit))
    kind = {FACTS: "that share beginnings", NESTED: "that share most"}.get(tuple(openings), "(shipped)")
    lengths = [p.at + 1 for p in prompts]
    title = (
        f"localise {len(entities)} entities x {len(openings)} templates {kind}: {sum(lengths):,} tokens, "
        f"{len(lengths) * max(lengths):,} padded, {distinct(prompts):,} distinct"
    )
    return Work(name, title, "localise", tuple(prompts))


def distinct(prompts: Sequence[Prompt]) -> int:
    """Count the tokens in context that differ, up to where each prompt is read."""
    return len({p.ids[: n + 1] for p in prompts for n in range(p.at + 1)})


def probe(tokenizer: Any) -> Work:
    """Give the small localisation that the edited neurons come from."""
    return localisation(tokenizer, "probe", names(N_FROZEN), templates(16))


def sweep(tokenizer: Any, cells: Cells, name: str, layer: int) -> Work:
    """Scale one neuron at the name by 21 factors: the owner's own, two random ones, and another owner's."""
    random = np.random.default_rng(layer)
    prompts: list[Prompt] = []
    for owner, (entity, (template, answer)) in enumerate(zip(names(N_OWNERS), QUESTIONS, strict=True)):
        bound = bind(tokenizer, template, entity)
        token = first_token(tokenizer, answer)
        drawn = random.integers(0, cells.mean.shape[2], 2).tolist()
        for neuron in (cells.own(owner, layer), *drawn, cells.own((owner + 1) % N_OWNERS, layer)):
            for factor in FACTORS:
                edit = Edit(layer, int(neuron), "scale", factor)
                prompts.append(Prompt(bound.ids, bound.at, len(prompts), token, edit))
    title = f"sweep 21 factors x 4 conditions x 8 facts, layer {layer}"
    return Work(name, title, "sweep", tuple(prompts))


def frozen(tokenizer: Any, cells: Cells, layer: int) -> Work:
    """Ask clean, edited, edited with the rest held, and held alone: what the neuron says directly."""
    prompts: list[Prompt] = []
    template, answer = QUESTIONS[0]
    token = first_token(tokenizer, answer)
    for owner, entity in enumerate(names(N_FROZEN)):
        bound = bind(tokenizer, template, entity)
        neuron = cells.own(owner, layer)
        edit = Edit(layer, neuron, "set", 5 * cells.value(owner, layer, neuron))
        for given, held in ((None, False), (edit, False), (edit, True), (None, True)):
            prompts.append(Prompt(bound.ids, bound.at, owner, token, given, held))
    title = f"frozen four-way injection, {N_FROZEN} entities"
    return Work("freeze", title, "freeze", tuple(prompts), free_layer=layer)


def generation(tokenizer: Any, cells: Cells, layer: int) -> Work:
    """Continue 8 questions under 10 doses of the owner's neuron by 16 greedy tokens."""
    prompts: list[Prompt] = []
    for owner, (entity, (template, _)) in enumerate(zip(names(N_OWNERS), QUESTIONS, strict=True)):
        bound = bind(tokenizer, template, entity)
        neuron = cells.own(owner, layer)
        for dose in DOSES:
            edit = Edit(layer, neuron, "set", dose * cells.value(owner, layer, neuron))
            prompts.append(Prompt(bound.ids, bound.at, len(prompts), edit=edit))
    return Work("generate", f"80 branches x {N_NEW} greedy tokens", "generate", tuple(prompts), n_new=N_NEW)


Maker = Callable[[Any, Cells], Work]
WORKS: Mapping[str, Maker] = {
    "localise-nested": lambda tokenizer, cells: localisation(tokenizer, "localise-nested", SHORT, NESTED),
    "localise-shared": lambda tokenizer, cells: localisation(tokenizer, "localise-shared", KNOWN, FACTS),
    "localise-8x16": lambda tokenizer, cells: localisation(tokenizer, "localise-8x16", names(8), templates(16)),
    "localise-8x100": lambda tokenizer, cells: localisation(tokenizer, "localise-8x100", names(8), templates(100)),
    "localise-100x100": lambda tokenizer, cells: localisation(
        tokenizer, "localise-100x100", names(100), templates(100)
    ),
    "sweep-early": lambda tokenizer, cells: sweep(tokenizer, cells, "sweep-early", min(2, cells.n_layers - 1)),
    "sweep-late": lambda tokenizer, cells: sweep(tokenizer, cells, "sweep-late", 2 * cells.n_layers // 3),
    "freeze": lambda tokenizer, cells: frozen(tokenizer, cells, min(2, cells.n_layers - 1)),
    "generate": lambda tokenizer, cells: generation(tokenizer, cells, min(2, cells.n_layers - 1)),
}
"""Name: how it is made."""
