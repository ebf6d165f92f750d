"""Edits in the weights: a neuron's column of its projection is multiplied, for the while of a run, and put back.

What a factor on a neuron's value does at every token, a factor on the column that the value is multiplied with does
for good. Each condition is another model, so its questions are run by themselves, one model after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from runner.program import CLEAN, Job, NeuronEdit, Resolve, subset
from specs.language.errors import RunError
from specs.language.meaning.edits import WEIGHT_SITES

if TYPE_CHECKING:
    from runner.execute import Engine, Outcome

__all__ = ["edited_weights", "run_with_weights"]


@contextmanager
def edited_weights(engine: Engine, edits: Sequence[NeuronEdit]) -> Iterator[None]:
    """Multiply the columns of some neurons in the loaded model, and put every bit back, after an interrupt too.

    The bias stays. Products are taken in float32 and rounded to the weights' format. Raises RunError for weights that
    two modules share.
    """
    kept: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    try:
        with torch.no_grad():
            for edit in edits:
                place = engine.place(edit.site, edit.layer)
                module = engine.model.get_submodule(place.path)
                if edit.op != "scale" or edit.site not in WEIGHT_SITES:
                    raise RunError(f"{edit.op} of {edit.site} cannot be written into the weights")
                _require_own(engine, module.weight)
                # A view with a row for each neuron: torch keeps [outputs, inputs], Conv1D [inputs, outputs].
                by_neuron = module.weight if type(module).__name__ == "Conv1D" else module.weight.T
                columns = place.columns(torch.tensor(edit.neurons, device=engine.device))
                amounts = torch.tensor(edit.amounts, dtype=torch.float32, device=engine.device)[:, None]
                own = by_neuron[columns].clone()
                kept.append((by_neuron, columns, own))
                by_neuron[columns] = (own.float() * amounts).to(own.dtype)
        yield
    finally:
        with torch.no_grad():
            for by_neuron, columns, own in reversed(kept):
                by_neuron[columns] = own


def _require_own(engine: Engine, weight: torch.Tensor) -> None:
    names = [name for name, p in engine.model.named_parameters(remove_duplicate=False) if p is weight]
    if len(names) > 1:
        raise RunError(
            f"{names[0]} and {names[1]} are the same weights, so no edit of one of them can be written",
            remedy="edit the activations (`position: all`)",
        )


def run_with_weights(
    engine: Engine, job: Job, resolve: Resolve, *, progress: Callable[[int], None] | None, outcome: Outcome
) -> None:
    """Run a job of which some conditions are written into the weights; fill the outcome, also before an interrupt."""
    models: dict[tuple[NeuronEdit, ...], list[int]] = {}
    for i, sequence in enumerate(job.sequences):
        edits = () if sequence.condition is CLEAN else resolve(sequence.condition).in_weights()
        models.setdefault(edits, []).append(i)
    if list(models) == [()]:
        engine.run(job, resolve, progress=progress, outcome=outcome)
        return
    for edits, members in models.items():
        part = subset(job, members)
        done = engine.blank(part)
        try:
            with edited_weights(engine, edits):
                engine.run(part, resolve, progress=progress, outcome=done)
        finally:
            outcome.take(done, members)
