"""What the ways with a plain transformers model share: loading it, its modules, and statistics over owners."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.ways import Loading
from benchmarks.work import Arrays, Edit, Prompt, Work, until_end


def load_plain(loading: Loading) -> Any:
    """Load a checkpoint folder with transformers; a llama-like model is meant."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    dtype = getattr(torch, loading.dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(loading.folder, dtype=dtype)
    # Greedy and nothing else: some checkpoints ask for a penalty on repetition.
    model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id, pad_token_id=0)
    return model.eval().requires_grad_(False)


def ends_of(model: Any) -> set[int]:
    """List the tokens that end a text."""
    found = model.generation_config.eos_token_id
    if found is None:
        found = model.config.eos_token_id
    return set() if found is None else {int(e) for e in (found if isinstance(found, list) else [found])}


def owners(work: Work) -> Tensor:
    """Give the owner of each prompt."""
    return torch.tensor([p.unit for p in work.prompts])


def statistics(values: Tensor, owner: Tensor) -> Arrays:
    """Mean and population std over each owner's prompts, in float64: ``values`` is ``[n_prompts, n_layers, width]``."""
    found = [torch.std_mean(values[owner == o].double(), dim=0, correction=0) for o in range(int(owner.max()) + 1)]
    return {
        "mean": torch.stack([mean for _, mean in found]).float().numpy(),
        "std": torch.stack([std for std, _ in found]).float().numpy(),
    }


def edited(value: Tensor, edit: Edit) -> Tensor | float:
    """Give what an edit makes of a neuron's value."""
    return value * edit.amount if edit.op == "scale" else edit.amount


def log_probability(logits: Tensor, answer: Tensor) -> Tensor:
    """Give the log probabilities of answers, in float32: ``logits`` is ``[n, vocabulary]``, ``answer`` ``[n]``."""
    return torch.log_softmax(logits.float(), dim=-1).gather(-1, answer[:, None])[:, 0]


def scores(found: list[Tensor]) -> Arrays:
    """Put log probabilities together as the result of a work."""
    return {"logp": np.concatenate([f.reshape(-1).double().numpy() for f in found])}


class OneByOne:
    """A way that does every work prompt by prompt; its methods say how one prompt is done."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def tune(self, work: Work) -> str:
        """Run once; there is nothing to choose."""
        self.run(work)
        return ""

    @torch.inference_mode()
    def run(self, work: Work) -> Arrays:
        """Do the work once."""
        if work.kind == "localise":
            values = torch.stack([self._neurons(p) for p in work.prompts])
            return statistics(values, owners(work))
        if work.kind == "sweep":
            return scores([self._asked(p) for p in work.prompts])
        if work.kind == "generate":
            ends = ends_of(self.model)
            texts = [until_end(self._continued(p, work.n_new), ends, work.n_new) for p in work.prompts]
            return {"tokens": np.array(texts, dtype=np.int64)}
        found: list[Tensor] = []
        kept: Any = None
        for p in work.prompts:
            if p.edit is None and not p.frozen:
                logp, kept = self._clean(p)
                found.append(logp)
            else:
                found.append(self._held(p, kept, work.free_layer) if p.frozen else self._asked(p))
        return scores(found)

    def _neurons(self, p: Prompt) -> Tensor:
        """Read every neuron of every layer at the name: ``[n_layers, width]``."""
        raise NotImplementedError

    def _asked(self, p: Prompt) -> Tensor:
        """Give the log probability of the answer under the edit."""
        raise NotImplementedError

    def _continued(self, p: Prompt, n_new: int) -> list[int]:
        """Give the greedy tokens after the edited prompt."""
        raise NotImplementedError

    def _clean(self, p: Prompt) -> tuple[Tensor, Any]:
        """Ask without an edit, and keep what later runs are held at."""
        raise NotImplementedError

    def _held(self, p: Prompt, kept: Any, free_layer: int) -> Tensor:
        """Ask with every output held at what was kept, but for the MLP's of one layer."""
        raise NotImplementedError


class InBatches:
    """A way that does every work in batches; its methods say how a batch, or all batches of a work, are done."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.batches = Batches(sizes)

    def tune(self, work: Work) -> str:
        """Choose the batch size that is faster on this work."""
        return self.batches.tune(lambda: self.run(work))

    @torch.inference_mode()
    def run(self, work: Work) -> Arrays:
        """Do the work once."""
        if work.kind == "localise":
            return self._localise(work)
        if work.kind == "generate":
            return self._generate(work)
        if work.kind == "freeze":
            return self._freeze(work)
        found = torch.zeros(len(work.prompts))
        for members in self.batches.of([len(p.ids) for p in work.prompts]):
            found[members] = self._edited([work.prompts[i] for i in members])
        return scores([found])

    def _localise(self, work: Work) -> Arrays:
        raise NotImplementedError

    def _generate(self, work: Work) -> Arrays:
        raise NotImplementedError

    def _freeze(self, work: Work) -> Arrays:
        raise NotImplementedError

    def _edited(self, batch: Sequence[Prompt]) -> Tensor:
        """Give the log probabilities of a batch's answers under their edits."""
        raise NotImplementedError


class Batches:
    """Batches of prompts of similar length, in the faster of some sizes."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self.size = sizes[0]

    def of(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Cut into batches by length, so that little is padded."""
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        for first in range(0, len(order), self.size):
            yield order[first : first + self.size]

    def tune(self, run: Callable[[], Any]) -> str:
        """Warm up, and keep the size that is faster."""
        run()  # so that the first size is not at a disadvantage
        if len(self.sizes) == 1:
            return ""
        seconds: dict[int, float] = {}
        for size in self.sizes:
            self.size = size
            started = time.perf_counter()
            run()
            seconds[size] = time.perf_counter() - started
        self.size = min(seconds, key=seconds.__getitem__)
        return f"batches of {self.size}"
