"""The proof that a freeze held: in every pass, what each frozen component really had is compared with its source.

What should be held is written down here a second time, from the plan alone, and what is held is seen where the model
itself uses it: the output that a module hands on, or the operand of its matrix product. So a freeze that copies the
wrong node, skips a layer or does not reach the model shows as a deviation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from runner.families import SitePlace
from runner.program import Job, Resolved
from specs.language.errors import RunError

__all__ = ["NotHeld", "Proof", "require_held"]

Nodes = Mapping[int, np.ndarray]


@dataclass
class _Frozen:
    """What is held at one site of one layer in one pass: node by node, at which other node or at which vector."""

    place: SitePlace
    sequences: list[int] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    twins: list[int] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    edited: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """Nodes and neurons that an edit has at the same place: it wins over the freeze."""
    worst: Tensor | None = None
    """``[n_frozen]``, the largest deviation of each; absent until the module has been seen."""

    def compare(self, values: Tensor) -> None:
        """Take the values that the model uses, ``[..., full]``, and measure how far they are from their sources."""
        flat = self.place.take(values.detach().reshape(-1, values.shape[-1]))
        nodes = torch.tensor(self.nodes, device=flat.device)
        held = flat[nodes]
        if self.vectors:
            # The source as the model can hold it: rounding to its number format is no failure to hold.
            source = torch.from_numpy(np.stack(self.vectors)).to(flat.device, flat.dtype)
        else:
            source = flat[torch.tensor(self.twins, device=flat.device)]
        same = (held == source) | (held.isnan() & source.isnan())
        deviation = torch.where(same, torch.zeros_like(held, dtype=torch.float32), (held - source).abs().float())
        deviation = deviation.nan_to_num(nan=torch.inf, posinf=torch.inf)
        for touched, neurons in self.edited:
            rows = torch.from_numpy(np.flatnonzero(np.isin(self.nodes, touched))).to(flat.device)
            deviation[rows[:, None], torch.from_numpy(neurons).to(flat.device)] = 0
        found = deviation.amax(dim=1) if deviation.shape[1] else deviation.sum(dim=1)
        self.worst = found if self.worst is None else torch.maximum(self.worst, found)


class Proof:
    """What a pass should hold, and how far it was from it."""

    def __init__(self) -> None:
        self._frozen: dict[tuple[str, int], _Frozen] = {}

    def __bool__(self) -> bool:
        return bool(self._frozen)

    def expect(self, job: Job, nodes: Nodes, members: Sequence[int], plan: Resolved, place_of: Any) -> None:
        """Write down what one condition holds in the sequences of a pass, and which of it is edited besides."""
        if plan.held is None:
            return
        wanted: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[int, str, int, int]]] = {}
        for key, names in plan.held.places.items():
            free = plan.held.free.get(key, ())
            if (names, free) not in wanted:
                wanted[names, free] = [item for i in members for item in _tokens(job, i, names, free)]
            for i, name, position, number in wanted[names, free]:
                found = self._frozen.setdefault(key, _Frozen(place_of(*key)))
                found.sequences.append(i)
                found.nodes.append(int(nodes[i][position]))
                if plan.held.values is None:
                    twin = job.sequences[i].twin
                    assert twin is not None
                    found.twins.append(int(nodes[twin][position]))
                else:
                    found.vectors.append(plan.held.values.at(*key, job.sequences[i].source, name, number))
        for order, edits in enumerate(plan.edits):
            for edit in edits:
                key = (edit.site, edit.layer)
                if key in self._frozen and not edit.weights:
                    touched = [int(nodes[i][p]) for i in members for p in job.sequences[i].edits[order]]
                    self._frozen[key].edited.append((np.array(touched, dtype=np.int64), edit.neurons))

    @contextmanager
    def watching(self, model: Any) -> Iterator[None]:
        """Look at the frozen components of every forward pass, for the while it is entered."""
        if not self._frozen:
            yield
            return
        operands: dict[int, _Frozen] = {}
        with ExitStack() as stack:
            for frozen in self._frozen.values():
                module = model.get_submodule(frozen.place.path)
                if frozen.place.end == "input":
                    operands[id(module.weight)] = frozen
                else:
                    stack.callback(module.register_forward_hook(_seeing(frozen)).remove)
            if operands:
                stack.enter_context(_Operands(operands))
            yield

    def deviations(self) -> dict[int, float]:
        """Give the largest deviation of each sequence; infinite where a frozen component was never seen."""
        found: dict[int, float] = {}
        for frozen in self._frozen.values():
            worst = [np.inf] * len(frozen.nodes) if frozen.worst is None else frozen.worst.tolist()
            for i, deviation in zip(frozen.sequences, worst, strict=True):
                found[i] = max(found.get(i, 0.0), deviation)
        return found


def _tokens(job: Job, i: int, names: Sequence[str], free: Sequence[str]) -> Iterator[tuple[int, str, int, int]]:
    """List (sequence, word, position, number of the token among the word's) of what is held in a sequence."""
    frozen = job.sequences[i].frozen
    freed = {position for name, position in frozen if name in free}
    taken: set[int] = set()
    for name in names:
        positions = [position for own, position in frozen if own == name]
        for number, position in enumerate(positions):
            if position not in freed and position not in taken:
                taken.add(position)
                yield i, name, position, number


def _seeing(frozen: _Frozen) -> Any:
    def hook(_: Any, __: Any, output: Any) -> None:
        frozen.compare(output[0] if isinstance(output, tuple) else output)

    return hook


class _Operands(TorchFunctionMode):
    """Sees what some weights are multiplied with: hooks see a module's input before it is edited."""

    def __init__(self, frozen: Mapping[int, _Frozen]) -> None:
        super().__init__()
        self.frozen = dict(frozen)
        self.views: list[Tensor] = []
        """Transposed weights, kept so that no other tensor gets their identity."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compare what a watched weight is multiplied with, and call the function."""
        weight = next((a for a in args if id(a) in self.frozen and isinstance(a, Tensor)), None)
        if weight is None:
            return func(*args, **(kwargs or {}))
        frozen = self.frozen[id(weight)]
        operand = _operand(args, weight, frozen.place.full)
        if operand is not None:
            frozen.compare(operand)  # without this mode, which is off in here
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.data_ptr() == weight.data_ptr():
            self.views.append(result)
            self.frozen[id(result)] = frozen
        return result


def _operand(args: Sequence[Any], weight: Tensor, width: int) -> Tensor | None:
    """Find the activations among what a product is made of: linear(x, weight, bias), addmm(bias, x, weight)."""
    for value in args:
        if isinstance(value, Tensor) and value is not weight and value.ndim >= 2 and value.shape[-1] == width:
            return value
    return None


class NotHeld(RunError):
    """A freeze that did not hold."""

    def __init__(self, deviation: float) -> None:
        super().__init__(
            f"a frozen component did not hold its value: it was {deviation:.3g} away from its source",
            remedy="no figure of this freeze could be trusted; please report the model and the spec",
        )
        self.deviation = deviation


def require_held(deviation: float) -> None:
    """Raise NotHeld unless a freeze held: a copy has every bit of its source."""
    if deviation > 0:
        raise NotHeld(deviation)
