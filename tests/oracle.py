"""The oracle: plain torch hooks, one prompt at a time, the library's own mask, nothing of the engine.

It finds the down projection by itself, from the names that model code uses for it, so that a wrong row in the
family table cannot agree with itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DOWN = re.compile(
    r"(?P<block>.*\.(?P<layer>\d+))\.(?:(?:mlp|ffn|feed_forward)\.)?"
    r"(?:down_proj|c_proj|fc_out|dense_4h_to_h|fc2)$"
)
ATTENTION_OUT = re.compile(
    r"(?P<block>.*\.(?P<layer>\d+))\.(?:self_attn|attn|attention|self_attention)\.(?:attention\.)?"
    r"(?:o_proj|out_proj|c_proj|dense)$"
)


@dataclass(frozen=True)
class Edit:
    """``value[position, neuron]`` times ``amount`` (scale), made it (set) or more by it (add), at the input of the down
    projection."""

    layer: int
    neuron: int
    op: str
    amount: float
    position: int


def projections(model: Any, pattern: re.Pattern[str]) -> dict[int, torch.nn.Module]:
    """Find one projection per layer by the names of model code."""
    found = {}
    for name, module in model.named_modules():
        match = pattern.fullmatch(name)
        if match and not (pattern is DOWN and re.search(r"attn|attention", name[len(match["block"]) :])):
            found[int(match["layer"])] = module
    return found


def run_alone(model: Any, ids: Sequence[int], edits: Sequence[Edit] = ()) -> tuple[dict[int, Tensor], Tensor]:
    """Run one prompt: layer -> input of the down projection ``[n_tokens, d_mlp]``, and log probabilities
    ``[n_tokens, vocabulary]`` in float64."""
    seen: dict[int, Tensor] = {}

    def hook(layer: int) -> Any:
        def before(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            value = args[0].clone()
            flat = value.view(-1, value.shape[-1])
            for edit in edits:
                if edit.layer == layer:
                    old = flat[edit.position, edit.neuron]
                    made = {"scale": old * edit.amount, "set": edit.amount, "add": old + edit.amount}
                    flat[edit.position, edit.neuron] = made[edit.op]
            seen[layer] = flat.detach().clone()
            return (value, *args[1:])

        return before

    with ExitStack() as stack, torch.inference_mode():
        for layer, module in projections(model, DOWN).items():
            stack.callback(module.register_forward_pre_hook(hook(layer)).remove)
        tensor = torch.tensor([list(ids)], device=model.device)
        logits = model(input_ids=tensor, attention_mask=torch.ones_like(tensor), use_cache=False).logits
    return seen, torch.log_softmax(logits[0].double(), dim=-1)
