"""Draw a truth from a recipe: names, facts, cells and decoys, before any weight is set."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.planted.recipe import Recipe
from benchmarks.planted.tokenizer import Name, make_names
from benchmarks.planted.truth import Decoy, Entity, Neuron, Truth
from benchmarks.planted.words import RELATIONS
from specs.language.shipped import shipped_list

__all__ = ["AMPLITUDE", "CARRIERS", "OPENINGS", "draw_truth"]

AMPLITUDE = (14.0, 26.0)
"""Activations of cells, and of the decoys that answer to names, are drawn from this range."""
CARRIERS = 24
"""Neurons that carry the facts of an entity without a cell, each its share."""
MEMBERS = 2
"""Entities that such a neuron serves at most; a quarter of them serve one."""
OPENINGS = 4
"""Words that a template neuron of the broad kind answers to: the commonest before a name."""


class _Free:
    """Hands out neurons that nothing is planted in yet."""

    def __init__(self, recipe: Recipe, rng: random.Random) -> None:
        self._rng = rng
        self._shares = recipe.layer_shares
        self._left = [rng.sample(range(recipe.neurons), recipe.neurons) for _ in range(recipe.layers)]

    def neuron(self) -> Neuron:
        """Give a neuron of a layer of cells, the layer drawn by its share."""
        layer = self._rng.choices(range(len(self._shares)), self._shares)[0]
        if not self._left[layer]:
            raise ValueError(f"layer {layer} has no neuron left to plant in")
        return layer, self._left[layer].pop()


def draw_truth(tokenizer: Any, recipe: Recipe) -> Truth:
    """Decide who has which cell and which neurons are decoys. Raises ValueError where a recipe asks too much."""
    rng = random.Random(recipe.seed)
    names = make_names(tokenizer, recipe, rng)
    free = _Free(recipe, rng)
    decoys: list[Decoy] = []
    spread = _spread(rng, names, recipe.spread)
    pairs = _pairs(rng, names, set(spread), recipe.pairs)
    entities: dict[int, Entity] = {}

    members: dict[Neuron, list[int]] = {}
    carriers: dict[int, tuple[Neuron, ...]] = {}
    pool = [free.neuron() for _ in range(max(CARRIERS, math.ceil(0.625 * CARRIERS * len(spread))))] if spread else []
    for n in spread:
        # The least busy first, so that nobody is left with neurons that serve enough others.
        busy = sorted(pool, key=lambda neuron: (len(members.get(neuron, ())), rng.random()))
        open_ = [neuron for neuron in busy if len(members.get(neuron, ())) < MEMBERS]
        carriers[n] = tuple(sorted(open_[:CARRIERS]))
        for neuron in carriers[n]:
            members.setdefault(neuron, []).append(n)
        entities[n] = Entity(_id(n), names[n].text, names[n].tokens, "spread", _facts(rng), carriers=carriers[n])
    decoys += [Decoy("spread", *neuron, tuple(map(_id, of))) for neuron, of in sorted(members.items())]

    for both in pairs:
        neuron, facts = free.neuron(), _facts(rng)
        for n in both:
            entities[n] = Entity(_id(n), names[n].text, names[n].tokens, "pair", facts, carriers=(neuron,))
        decoys.append(Decoy("pair", *neuron, tuple(map(_id, both))))

    for n, name in enumerate(names):
        if n not in entities:
            cell = free.neuron()
            sign = -1 if rng.random() < recipe.negative else 1
            activation = sign * rng.uniform(*AMPLITUDE)
            entities[n] = Entity(
                _id(n), name.text, name.tokens, "cell", _facts(rng), cell, sign, round(activation, 2), (cell,)
            )
    with_cell = [n for n in range(len(names)) if entities[n].kind == "cell"]

    decoys += _token_decoys(tokenizer, names, with_cell, recipe.tokens, rng, free)
    for both in _pairs(rng, names, set(range(len(names))) - set(with_cell), recipe.shared):
        decoys.append(Decoy("shared", *free.neuron(), tuple(map(_id, both))))
    common = _before_the_name()
    for n in range(recipe.template):
        broad = n < recipe.template // 3
        words = tuple(common[:OPENINGS]) if broad else (common[n % len(common)],)
        decoys.append(Decoy("template", *free.neuron(), (), words))
    decoys += [Decoy("constant", *free.neuron()) for _ in range(recipe.constant)]
    decoys += [Decoy("loud", *free.neuron()) for _ in range(recipe.loud)]
    decoys += [Decoy("names", *free.neuron(), tuple(map(_id, range(len(names))))) for _ in range(recipe.names)]
    relations = {name: relation.prompts for name, relation in RELATIONS.items()}
    return Truth(recipe.document(), tuple(entities[n] for n in range(len(names))), tuple(decoys), relations)


def _id(n: int) -> str:
    return f"e{n:03d}"


def _facts(rng: random.Random) -> dict[str, str]:
    return {name: rng.choice(relation.answers) for name, relation in RELATIONS.items()}


def _answers_to(group: Sequence[Name], name: Name) -> bool:
    """Say whether a neuron that adds up the tokens of several names takes another for one of them."""
    wanted = max(len(member.tokens) for member in group)
    met = sum(
        len(name.tokens) >= place and name.tokens[-place] in {m.tokens[-place] for m in group if len(m.tokens) >= place}
        for place in range(1, wanted + 1)
    )
    return met >= wanted


def _alone(names: Sequence[Name], group: Sequence[int]) -> bool:
    """Say whether a neuron for several names answers to nobody else."""
    members = [names[n] for n in group]
    return not any(_answers_to(members, name) for n, name in enumerate(names) if n not in group)


def _spread(rng: random.Random, names: Sequence[Name], n: int) -> list[int]:
    """Draw names of two tokens, of which no two make the name of another entity by halves."""
    candidates = [i for i in range(len(names)) if len(names[i].tokens) == 2]
    rng.shuffle(candidates)
    found: list[int] = []
    for candidate in candidates:
        if len(found) == n:
            break
        if _alone(names, [*found, candidate]):
            found.append(candidate)
    if len(found) < n:
        raise ValueError(f"{n} names of two tokens that make up no other are wanted and there are {len(found)}")
    return sorted(found)


def _pairs(rng: random.Random, names: Sequence[Name], without: set[int], n: int) -> list[tuple[int, int]]:
    """Draw pairs of names of equally many tokens that share none, nobody twice."""
    left = [i for i in range(len(names)) if i not in without]
    rng.shuffle(left)
    pairs: list[tuple[int, int]] = []
    while len(pairs) < n:
        if not left:
            raise ValueError(f"there are not {n} pairs of names that share no token")
        first = left.pop()
        tokens = names[first].tokens
        for i, second in enumerate(left):
            other = names[second].tokens
            if len(other) == len(tokens) and not set(other) & set(tokens) and _alone(names, (first, second)):
                pairs.append((first, left.pop(i)))
                break
    return pairs


def _token_decoys(
    tokenizer: Any, names: Sequence[Name], with_cell: Sequence[int], n: int, rng: random.Random, free: _Free
) -> list[Decoy]:
    """Plant neurons that answer to a last token, or at it to the token before, which several names share."""
    found: list[Decoy] = []
    for place in (1, 2):
        owners: dict[int, list[int]] = {}
        for i in with_cell:
            if len(names[i].tokens) >= place:
                owners.setdefault(names[i].tokens[-place], []).append(i)
        shared = sorted(token for token, of in owners.items() if len(of) > 1)
        wanted = (n + 1) // 2 if place == 1 else n // 2
        if len(shared) < wanted:
            raise ValueError(f"{wanted} tokens shared by names are wanted and there are {len(shared)}")
        for token in rng.sample(shared, wanted):
            word = tokenizer.convert_ids_to_tokens(token)
            # all names with that token there, whatever carries their facts
            of = [i for i, name in enumerate(names) if len(name.tokens) >= place and name.tokens[-place] == token]
            found.append(Decoy("token" if place == 1 else "token before", *free.neuron(), tuple(map(_id, of)), (word,)))
    return found


def _before_the_name() -> list[str]:
    """List the words that stand before the name in the shipped templates, the commonest first."""
    words = Counter(
        text.partition("{{ entity }}")[0].split()[-1]
        for text in shipped_list("attributes")
        if text.partition("{{ entity }}")[0].split()
    )
    return [word for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0])) if word.isalpha()]
