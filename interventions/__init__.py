"""The meaning of edits: pure functions on tensors, and the table that names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from interventions.add import add
from interventions.freeze import copy_nodes, hold
from interventions.scale import scale
from interventions.set import set_to

VERBS: Mapping[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {"scale": scale, "set": set_to, "add": add}
"""Verb of the language: what it does to ``values[nodes, neurons]`` given ``amounts``, pair by pair or in a block."""

__all__ = ["VERBS", "add", "copy_nodes", "hold", "scale", "set_to"]
