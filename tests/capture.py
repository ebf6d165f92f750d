"""Site values of one forward pass by plain torch hooks, with a change of one of them if wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from runner.families import SitePlace, family_of, shape_of, site_place, sites_of
from specs.language.errors import ModelError

__all__ = ["Captured", "all_places", "capture", "relative"]


@dataclass
class Captured:
    """``values[site, layer]``: ``[rows * positions, width]``; ``visited``: places as the pass met them."""

    values: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    visited: list[SitePlace] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    head_input: Tensor = field(default_factory=lambda: torch.empty(0))


def all_places(model: Any) -> list[SitePlace]:
    """Find every site of every layer that has it."""
    family = family_of(model.config)
    places = []
    for layer in range(shape_of(model).n_layers):
        for site in sites_of(family):
            try:
                places.append(site_place(model, family, site, layer))
            except ModelError as error:
                assert f"layer {layer}" in str(error)
    return places


def capture(
    model: Any,
    places: Sequence[SitePlace],
    *,
    change: tuple[SitePlace, Callable[[Tensor], Tensor]] | None = None,
    **inputs: Any,
) -> Captured:
    """Run a model once and copy the values of places as they pass.

    ``change`` gets the whole tensor of a place, flattened to ``[rows * positions, full]``, and gives another.
    """
    found = Captured()

    def watch(place: SitePlace, value: Any) -> Any:
        tensor = value[0] if isinstance(value, tuple) else value
        flat = tensor.reshape(-1, place.full)
        new = None
        if change is not None and change[0] == place:
            flat = change[1](flat.clone())
            new = flat.view(tensor.shape)
            new = (new, *value[1:]) if isinstance(value, tuple) else new
        found.visited.append(place)
        found.values[place.site, place.layer] = place.take(flat.clone())
        return new

    def before(place: SitePlace) -> Callable[..., Any]:
        def hook(_: Any, args: tuple[Any, ...]) -> Any:
            new = watch(place, args[0])
            return None if new is None else (new, *args[1:])

        return hook

    def after(place: SitePlace) -> Callable[..., Any]:
        return lambda _, __, output: watch(place, output)

    def head(_: Any, args: tuple[Any, ...]) -> None:
        found.head_input = args[0].clone()

    handles = [model.get_output_embeddings().register_forward_pre_hook(head)]
    for place in places:
        module = model.get_submodule(place.path)
        if place.end == "input":
            handles.append(module.register_forward_pre_hook(before(place)))
        else:
            handles.append(module.register_forward_hook(after(place)))
    try:
        with torch.inference_mode():
            found.logits = model(**inputs, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    return found


def relative(a: Tensor, b: Tensor) -> float:
    """Give the largest difference in units of the largest value of ``b``."""
    return float((a.float() - b.float()).abs().max() / b.float().abs().max())
