"""Gradient times activation: how much of an answer's score a neuron carries, to first order.

Of each prompt the objective is one number; the attribution of a neuron is its activation times the derivative of the
objective with respect to it, everything after it computed anew. Prompts run as plain right-padded rows, one for each
accepted answer, under torch's autograd; what is read are the tokens of the question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runner.attention import padded, wide_attention
from runner.execute import Engine, Outcome
from runner.families import SitePlace
from runner.localization.moments import Moments
from runner.localization.pool import pooled
from runner.plan import LocalizeStage
from specs.language.errors import RunError

__all__ = ["attributions"]

SHARE = 4
"""A pass with gradients keeps every layer's values and takes a fraction of the tokens of one without."""


@dataclass(frozen=True)
class _Row:
    """One row of a batch: a question followed by the beginning of an accepted answer."""

    prompt: int
    """Index into the stage's sequences."""
    ids: tuple[int, ...]
    first: int
    """Position whose logits give the first token of the answer."""
    answer: tuple[int, ...]


def attributions(
    engine: Engine,
    stage: LocalizeStage,
    members: Sequence[int],
    progress: Callable[[int], None] | None = None,
) -> tuple[Moments, Moments, Outcome]:
    """Add up, over some prompts of a stage, gradient times activation and the activation itself.

    Both as moments of one owner, ``[n_layers, width]``; several tokens are pooled as the spec says. Raises
    :class:`RunError` when a prompt does not fit into memory.
    """
    of_gradient, of_activation = Moments(1, len(stage.layers)), Moments(1, len(stage.layers))
    outcome = Outcome([], [])
    places = [[engine.place(site, layer) for site in stage.job.sites] for layer in stage.layers]
    queue = [_rows(stage, i) for i in members]
    tokens = max(1, engine.limits.pass_nodes // SHARE)
    while queue:
        batch = _batch(queue, tokens)
        rows = [row for prompt in batch for row in prompt]
        try:
            products, values = _backward(engine, stage, places, rows)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
                raise
            if len(batch) == 1:
                raise RunError(
                    f"the gradients of one prompt do not fit into the memory of {engine.device}",
                    remedy="rank fewer layers at a time (`layers:`), or use a smaller dtype or another device",
                ) from error
            outcome.notes.append(f"out of memory: {len(batch)} prompts with gradients were run in parts")
            tokens = max(1, tokens // 2)
            continue
        del queue[: len(batch)]
        owner = np.zeros(len(batch), dtype=np.int64)
        of_gradient.add(owner, products)
        of_activation.add(owner, values)
        n_tokens = sum(len(row.ids) for row in rows)
        outcome.passes += 1
        outcome.nodes += n_tokens
        if progress is not None:
            progress(n_tokens)
    return of_gradient, of_activation, outcome


def _rows(stage: LocalizeStage, i: int) -> list[_Row]:
    """Give the rows of one prompt: one for each answer, or the prompt itself where the objective needs none."""
    prompt = stage.prompts[i]
    last = len(prompt.ids) - 1
    if (stage.spec.objective or "").startswith("top_logits"):
        return [_Row(i, prompt.ids, last, ())]
    return [_Row(i, prompt.ids + answer.tokens[:-1], last, answer.tokens) for answer in prompt.answers]


def _batch(queue: Sequence[list[_Row]], tokens: int) -> list[list[_Row]]:
    """Take prompts from the front as long as their rows, padded, hold no more than so many tokens; at least one."""
    taken: list[list[_Row]] = []
    longest, n_rows = 0, 0
    for prompt in queue:
        longest = max(longest, *(len(row.ids) for row in prompt))
        n_rows += len(prompt)
        if taken and longest * n_rows > tokens:
            break
        taken.append(prompt)
    return taken


def _backward(
    engine: Engine, stage: LocalizeStage, places: Sequence[Sequence[SitePlace]], rows: Sequence[_Row]
) -> tuple[list[Tensor], list[Tensor]]:
    """Run one batch forward and backward: for each layer gradient times activation, and activation, ``[n, width]``.

    ``places``: for each layer those of its sites, whose neurons follow one another in a row.
    """
    model, device = engine.model, engine.device
    every = [place for layer in places for place in layer]
    ids, mask = padded([row.ids for row in rows])
    with torch.enable_grad(), _watched(model, every) as seen, wide_attention():
        logits = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
        total = _objective(stage.spec.objective or "", logits, rows)
        gradients = torch.autograd.grad(total, [seen[place] for place in every])
    prompts = list(dict.fromkeys(row.prompt for row in rows))
    number = {prompt: n for n, prompt in enumerate(prompts)}
    at = [(n, p, number[row.prompt]) for n, row in enumerate(rows) for p in stage.job.sequences[row.prompt].read]
    index = [torch.tensor(column, device=device) for column in zip(*at, strict=True)]
    # The rows of a prompt are its answers: what they say of one token of the question is added up.
    seen_at: dict[tuple[int, int], int] = {}
    for k, (_, p, prompt) in enumerate(at):
        seen_at.setdefault((prompt, p), k)
    pairs = {pair: k for k, pair in enumerate(seen_at)}
    pair_of = torch.tensor([pairs[prompt, p] for _, p, prompt in at], device=device)
    prompt_of = torch.tensor([prompt for prompt, _ in pairs], device=device)
    first = torch.tensor(list(seen_at.values()))
    products, values = [], []
    for place, gradient in zip(every, gradients, strict=True):
        value = place.take(seen[place].detach())[index[0], index[1]].double()
        product = value * place.take(gradient)[index[0], index[1]].double()
        summed = torch.zeros((len(pairs), product.shape[1]), dtype=torch.float64, device=device)
        summed.index_add_(0, pair_of, product)
        products.append(pooled(summed, prompt_of, len(prompts), stage.spec.pool or "sum"))
        # An activation is no share of anything, so that several tokens have a mean and no sum.
        how = "mean" if stage.spec.pool == "sum" else stage.spec.pool or "mean"
        values.append(pooled(value[first.to(device)], prompt_of, len(prompts), how))
    n_sites = len(places[0])
    return _by_layer(products, n_sites), _by_layer(values, n_sites)


def _by_layer(parts: Sequence[Tensor], n_sites: int) -> list[Tensor]:
    """Put the sites of each layer side by side; of one site the tensors as they are."""
    if n_sites == 1:
        return list(parts)
    return [torch.cat(list(parts[k : k + n_sites]), dim=1) for k in range(0, len(parts), n_sites)]


@contextmanager
def _watched(model: Any, places: Sequence[SitePlace]) -> Iterator[dict[SitePlace, Tensor]]:
    """Lend the tensors of some places of a forward pass, each a point at which a gradient can be taken."""
    seen: dict[SitePlace, Tensor] = {}

    def mark(place: SitePlace, value: Any) -> Any:
        tensor: Tensor = value[0] if isinstance(value, tuple) else value
        if not tensor.requires_grad:
            tensor = tensor.detach().requires_grad_()
        seen[place] = tensor
        # The model goes on with a copy, for some code changes its tensors in place.
        return (tensor.clone(), *value[1:]) if isinstance(value, tuple) else tensor.clone()

    def before(place: SitePlace) -> Any:
        return lambda _, args: (mark(place, args[0]), *args[1:])

    def after(place: SitePlace) -> Any:
        return lambda _, __, output: mark(place, output)

    with ExitStack() as stack:
        for place in places:
            module = model.get_submodule(place.path)
            if place.end == "input":
                handle = module.register_forward_pre_hook(before(place))
            else:
                handle = module.register_forward_hook(after(place))
            stack.callback(handle.remove)
        yield seen


def _objective(name: str, logits: Tensor, rows: Sequence[_Row]) -> Tensor:
    """Add up the objective over prompts; they share no row, so the gradient of the sum is that of each.

    ``answer_logit``: the logits of an answer's tokens, each after the ones before it, added up; of several accepted
    answers the one that the model finds likeliest. ``answer_probability``: of the whole answer, summed over accepted
    ones. ``top_logits@n``: the n largest logits after the prompt, added up.
    """
    total = logits.new_zeros((), dtype=torch.float32)
    by_prompt: dict[int, list[int]] = {}
    for n, row in enumerate(rows):
        by_prompt.setdefault(row.prompt, []).append(n)
    for members in by_prompt.values():
        if name.startswith("top_logits"):
            (n,) = members
            total = total + logits[n, rows[n].first].float().topk(int(name.partition("@")[2])).values.sum()
            continue
        chosen = [_along(logits[n], rows[n]) for n in members]
        logps = torch.stack([logp for _, logp in chosen])
        if name == "answer_probability":
            total = total + logps.exp().sum()
        elif name == "answer_logit":
            total = total + chosen[int(logps.argmax())][0]
        else:
            raise RunError(f"the objective {name} is not built yet")
    return total


def _along(logits: Tensor, row: _Row) -> tuple[Tensor, Tensor]:
    """Give the sum of an answer's logits, and its log probability in nats, from ``[n_tokens, vocabulary]``."""
    of_answer = logits[row.first : row.first + len(row.answer)].float()
    tokens = torch.tensor(row.answer, device=logits.device)
    picked = of_answer.gather(1, tokens[:, None]).squeeze(1)
    return picked.sum(), (picked - torch.logsumexp(of_answer, dim=1)).sum()
