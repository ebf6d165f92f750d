"""Learn one vector that changes one fact: latent steering.

The vector is added at one site of one layer, at one position of every prompt. The weights are frozen; AdamW moves the
vector alone, in float32 whatever the model's format is. The loss has three terms:

    attack    -log p(new answer), mean over the wordings of the fact
    preserve  KL(clean || edited) of the next token, after each kept prompt and along its own answer; mean over prompts
    norm      the squared length of the vector

Prompts run as plain right-padded rows, in parts that fit into memory; their gradients add up to those of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from runner.attention import padded, wide_attention
from runner.families import SitePlace
from runner.program import Lesson
from specs.language.errors import RunError
from specs.language.results import LearningStep

if TYPE_CHECKING:
    from runner.execute import Engine

__all__ = ["WEIGHT_DECAY", "Learned", "learn"]

WEIGHT_DECAY = 0.01
"""Of AdamW, the library's default: at a learning rate of 0.05 each step takes a two-thousandth of the vector."""
SHARE = 4
"""A pass with gradients keeps every layer's values and takes a fraction of the tokens of one without."""


@dataclass(frozen=True)
class Learned:
    """A vector ``[width]``, the terms of its loss before each step and after the last, and what became of the rest."""

    vector: np.ndarray
    steps: tuple[LearningStep, ...]
    kept: tuple[float, ...]
    """For each kept prompt with an answer: p(its answer) with the vector over p without."""
    tokens: int


def learn(
    engine: Engine,
    place: SitePlace,
    attack: Sequence[Lesson],
    keep: Sequence[Lesson],
    weights: Mapping[str, float],
    *,
    steps: int,
    lr: float,
    progress: Callable[[int], None] | None = None,
) -> Learned:
    """Learn a vector, starting from zero: the same lessons give the same vector. Raises RunError where it diverges."""
    vector = torch.zeros(place.width, dtype=torch.float32, device=engine.device, requires_grad=True)
    optimiser = torch.optim.AdamW([vector], lr=lr, weight_decay=WEIGHT_DECAY)
    clean = _Clean(engine, place, keep)
    curve: list[LearningStep] = []
    for step in range(steps + 1):
        optimiser.zero_grad()
        last = step == steps
        attack_loss, p_new = _attack(engine, place, attack, vector, weights.get("attack", 0.0), last=last)
        preserve_loss = _preserve(engine, place, keep, clean, vector, weights.get("preserve", 0.0), last=last)
        norm = vector.square().sum()
        if not last and weights.get("norm", 0.0):
            (weights["norm"] * norm).backward()  # type: ignore[no-untyped-call]
        terms = {"attack": attack_loss, "preserve": preserve_loss, "norm": float(norm.detach())}
        loss = sum(weights.get(name, 0.0) * value for name, value in terms.items())
        if not np.isfinite(loss):
            raise RunError(
                f"the loss of the learned vector is not finite at step {step}", remedy="take a smaller `lr:`"
            )
        curve.append(LearningStep(step=step, loss=loss, p_new=p_new, **terms))
        if not last:
            optimiser.step()
        if progress is not None:
            progress(1)
    with torch.no_grad():
        kept = _kept(engine, place, keep, vector.detach())
    passes = (steps + 1) * sum(len(lesson.ids) for lesson in (*attack, *keep))
    return Learned(vector.detach().cpu().numpy().copy(), tuple(curve), kept, passes)


# -- terms --------------------------------------------------------------------------------------------------------


def _attack(
    engine: Engine, place: SitePlace, lessons: Sequence[Lesson], vector: Tensor, weight: float, *, last: bool
) -> tuple[float, float]:
    """Give -log p(new answer) and p, each the mean over lessons; add the gradient to the vector's."""
    total, p_new = 0.0, 0.0
    for batch in _batches(engine, lessons):
        with torch.enable_grad() if not last else torch.no_grad():
            logps = torch.log_softmax(_logits(engine, place, batch, vector), dim=-1)
            scores = _scores(logps, batch)
            part = -scores.sum() / len(lessons)
        if not last and weight:
            (weight * part).backward()  # type: ignore[no-untyped-call]
        total += float(part.detach())
        p_new += float(scores.detach().exp().sum()) / len(lessons)
    return total, p_new


def _preserve(
    engine: Engine,
    place: SitePlace,
    lessons: Sequence[Lesson],
    clean: _Clean,
    vector: Tensor,
    weight: float,
    *,
    last: bool,
) -> float:
    """Give KL(clean || edited), the mean over lessons of the mean over their positions; add its gradient."""
    total = 0.0
    for number, batch in enumerate(_batches(engine, lessons)):
        before = clean.of(number, batch)
        with torch.enable_grad() if not last else torch.no_grad():
            logps = torch.log_softmax(_logits(engine, place, batch, vector), dim=-1)
            divergence = (before.exp() * (before - logps)).sum(dim=-1)
            share = torch.tensor(
                [1 / len(lesson.scored) for lesson in batch for _ in lesson.scored], device=divergence.device
            )
            part = (divergence * share).sum() / len(lessons)
        if not last and weight:
            (weight * part).backward()  # type: ignore[no-untyped-call]
        total += float(part.detach())
    return total


class _Clean:
    """Log probabilities of the clean model after kept prompts: kept where they fit into memory, else computed anew."""

    def __init__(self, engine: Engine, place: SitePlace, lessons: Sequence[Lesson]) -> None:
        self.engine, self.place = engine, place
        rows = sum(len(lesson.scored) for lesson in lessons)
        size = engine.model.get_output_embeddings().weight.shape[0] * 4 * rows
        self._kept: dict[int, Tensor] | None = {} if size <= engine.reading_bytes // 2 else None

    def of(self, number: int, batch: Sequence[Lesson]) -> Tensor:
        """Give them for one batch, ``[n_scored, vocabulary]``."""
        if self._kept is not None and number in self._kept:
            return self._kept[number]
        with torch.no_grad():
            found = torch.log_softmax(_logits(self.engine, self.place, batch, None), dim=-1)
        if self._kept is not None:
            self._kept[number] = found
        return found


def _kept(engine: Engine, place: SitePlace, lessons: Sequence[Lesson], vector: Tensor) -> tuple[float, ...]:
    with_answer = [lesson for lesson in lessons if lesson.scored[-1][1] is not None]
    found: list[float] = []
    for batch in _batches(engine, with_answer):
        before, after = (
            _scores(torch.log_softmax(_logits(engine, place, batch, v), dim=-1), batch) for v in (None, vector)
        )
        found += (after - before).exp().tolist()
    return tuple(found)


def _scores(logps: Tensor, batch: Sequence[Lesson]) -> Tensor:
    """Add up the log probabilities of the tokens that follow in each lesson, ``[n_lessons]``."""
    rows = [(n, token) for n, lesson in enumerate(batch) for _, token in lesson.scored]
    tokens = torch.tensor([0 if token is None else token for _, token in rows], device=logps.device)
    own = logps.gather(1, tokens[:, None])[:, 0]
    lesson_of = torch.tensor([n for n, _ in rows], device=logps.device)
    return torch.zeros(len(batch), device=logps.device).index_add(0, lesson_of, own)


# -- passes -------------------------------------------------------------------------------------------------------


def _batches(engine: Engine, lessons: Sequence[Lesson]) -> list[list[Lesson]]:
    """Cut lessons into rows of similar length that fit into a pass with gradients."""
    room = max(1, engine.limits.pass_nodes // SHARE)
    batches: list[list[Lesson]] = []
    longest = 0
    for lesson in sorted(lessons, key=lambda item: (len(item.ids), item.ids)):
        longest = max(longest, len(lesson.ids))
        if batches and (len(batches[-1]) + 1) * longest <= room:
            batches[-1].append(lesson)
        else:
            batches.append([lesson])
            longest = len(lesson.ids)
    return batches


def _logits(engine: Engine, place: SitePlace, batch: Sequence[Lesson], vector: Tensor | None) -> Tensor:
    """Run a batch with the vector added; give float32 logits at the scored positions, ``[n_scored, vocabulary]``."""
    ids, mask = padded([lesson.ids for lesson in batch])
    length, device = ids.shape[1], engine.device
    scored = torch.tensor([n * length + p for n, lesson in enumerate(batch) for p, _ in lesson.scored], device=device)
    added = torch.tensor([n * length + p for n, lesson in enumerate(batch) for p in lesson.at], device=device)
    with _adding(engine.model, place, added, vector), _only(engine.model, scored), wide_attention():
        output = engine.model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
    logits: Tensor = output.logits
    return logits.reshape(-1, logits.shape[-1]).float()


@contextmanager
def _adding(model: Any, place: SitePlace, tokens: Tensor, vector: Tensor | None) -> Iterator[None]:
    """Add a vector at some tokens of a site, rounded as an edit of the engine is."""
    if vector is None:
        yield
        return
    columns = place.columns(torch.arange(place.width, device=tokens.device))

    def changed(value: Any) -> Any:
        whole: Tensor = value[0] if isinstance(value, tuple) else value
        flat = whole.reshape(-1, whole.shape[-1])
        own = flat[tokens[:, None], columns].float() + vector
        edited = flat.index_put((tokens[:, None], columns), own.to(flat.dtype)).view(whole.shape)
        return (edited, *value[1:]) if isinstance(value, tuple) else edited

    module = model.get_submodule(place.path)
    if place.end == "input":
        handle = module.register_forward_pre_hook(lambda _, args: (changed(args[0]), *args[1:]))
    else:
        handle = module.register_forward_hook(lambda _, __, output: changed(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _only(model: Any, rows: Tensor) -> Iterator[None]:
    """Let the head see some tokens alone: logits of all would be the largest tensor of the pass."""

    def chosen(_: Any, args: Any) -> Any:
        hidden = args[0]
        return (hidden.reshape(-1, hidden.shape[-1])[rows][None], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(chosen)
    try:
        yield
    finally:
        handle.remove()
