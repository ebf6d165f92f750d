"""Which prompts an owner's are told from: negatives drawn from those of the others, and labels that are shuffled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runner.bind import BoundPrompt
from specs.language.facts import draw, owner_key

__all__ = ["Contrast", "contrasts"]


@dataclass(frozen=True)
class Contrast:
    """What one owner's prompts are compared with, as sequences of the stage."""

    negatives: tuple[int, ...]
    shuffled: tuple[tuple[int, ...], ...] = ()
    """For each ranking with shuffled labels, which of the owner's prompts and negatives count as its own there."""
    short: int = 0
    """How many negatives fewer than asked for there are."""


def contrasts(
    groups: Mapping[str, Sequence[int]],
    prompts: Sequence[BoundPrompt],
    ratio: int | None,
    n_shuffled: int,
    seed: int,
    texts: Sequence[int] | None = None,
    by: Sequence[str] = (),
) -> dict[str, Contrast]:
    """Draw the negatives of every owner, and its shuffled labels.

    ``ratio``: how many negatives there are for each positive, None for all there are. ``texts``: what they are drawn
    from; the prompts of the other owners if None. ``by``: the columns that say whose a prompt is, so that one of the
    owner's in another set is not told from the owner's own. A prompt is drawn at most once, also where it stands twice
    in the set, and never where it is one of the owner's own. What is drawn and how labels are shuffled depends on the
    seed, the owner and the prompts, and not on their order.
    """
    found = {}
    for owner, own in groups.items():
        others = (i for key, members in groups.items() if key != owner for i in members)
        mine = {prompts[i].ids for i in own}
        different: dict[object, int] = {}
        for i in others if texts is None else texts:
            if prompts[i].ids not in mine and not (by and owner_key(prompts[i].text, by) == owner):
                different.setdefault(prompts[i].ids, i)
        named = {
            (prompts[i].text.relation, prompts[i].text.entity, prompts[i].text.text): i for i in different.values()
        }
        wanted = len(named) if ratio is None else len(own) * ratio
        negatives = tuple(named[name] for name in draw(list(named), wanted, seed, "negatives", owner))
        # In the order of their tokens, so that labels do not depend on which owner the spec names first.
        everything = sorted((*own, *negatives), key=lambda i: prompts[i].ids)
        shuffled = tuple(
            tuple(everything[k] for k in sorted(_random(seed, owner, n).permutation(len(everything))[: len(own)]))
            for n in range(n_shuffled)
        )
        found[owner] = Contrast(negatives, shuffled, short=max(0, wanted - len(negatives)))
    return found


def _random(seed: int, owner: str, number: int) -> np.random.Generator:
    digest = hashlib.sha256(repr((seed, "shuffled labels", owner, number)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
