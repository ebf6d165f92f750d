"""What the executor is given: token sequences with their conditions, packed into forward passes.

A :class:`Job` is plain data and names no neuron: its sequences carry *symbolic* conditions (any hashable value), and
the executor asks a resolver what a condition edits. So a job can be built, counted and printed before a model has
been run. Packing is a deterministic function of the job and the limits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from runner.tree import Tree, aligned, build_tree, common_prefix, count_nodes, nearest_prefix, tagged

Mode = Literal["trees", "padded", "one by one"]
CLEAN: Hashable = None
"""The condition in which nothing is edited."""
WRITTEN_OUT = 64
"""Neurons of an edit up to which its text lists them."""


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One path to run: a prompt (with the beginning of an answer) under one condition.

    ``group``: sequences of one group share a row, so that the rounding of a clean run and of its conditions is the
    same. ``condition``: symbolic, :data:`CLEAN` for none. ``branch_at``: first position whose node belongs to the
    condition alone. ``edits``: for each edit of the condition, the positions it acts at. ``read``: positions whose
    site values are wanted. ``score``: pairs (position, token): the log probability and rank of ``token`` after
    ``position``. ``frozen``: positions held at the values of sequence ``twin`` (same positions) or, without a
    twin, at stored values that the resolver gives. ``generate``: greedy tokens wanted after the last position.
    ``onward``: the edits of the condition that act at generated tokens too.
    """

    group: int
    ids: tuple[int, ...]
    condition: Hashable = CLEAN
    branch_at: int = 1 << 30
    edits: tuple[tuple[int, ...], ...] = ()
    read: tuple[int, ...] = ()
    score: tuple[tuple[int, int], ...] = ()
    twin: int | None = None
    frozen: tuple[tuple[str, int], ...] = ()
    """(name of the position as the spec says it, token position)."""
    source: str = ""
    """Which stored values its edits and its freeze use: the text of the prompt."""
    apart: bool = False
    """Whether its stored values are its own alone, so that no edited node is shared with another prompt."""
    generate: int = 0
    onward: tuple[int, ...] = ()
    title: str = ""
    """The text, of a prompt without answers."""


@dataclass(frozen=True)
class Job:
    """Everything one stage runs. ``sites``: the sites whose values are read, with their layers."""

    sequences: tuple[TokenSequence, ...]
    sites: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    """Layers read, ascending."""
    pool: str = ""
    """How several tokens read of a sequence become one value within the pass (`mean`, `max`); empty: not at all."""

    def __len__(self) -> int:
        return len(self.sequences)


@dataclass(frozen=True)
class Lesson:
    """One prompt with an answer behind it: where the vector is added, and which tokens follow which positions."""

    ids: tuple[int, ...]
    at: tuple[int, ...]
    scored: tuple[tuple[int, int | None], ...]
    """(position, token that follows); no token where nothing is known to follow, and the distribution is kept."""


@dataclass(frozen=True)
class Limits:
    """How much goes into one forward pass.

    ``row_nodes``: nodes of a row, beyond which a row is cut; it decides which sequences share a row, and so the last
    bits of their numbers. ``pass_nodes``: nodes of a pass, padding included; it decides how many rows run together,
    and no number.
    """

    row_nodes: int = 256
    pass_nodes: int = 512
    rows: int = 64


@dataclass(frozen=True)
class Pass:
    """One forward pass: trees as rows, and which sequences of the job each row holds."""

    trees: tuple[Tree, ...]
    members: tuple[tuple[int, ...], ...]
    """For each row, indices into the job's sequences, in the order of the tree's paths."""

    @property
    def n_nodes(self) -> int:
        return sum(len(tree) for tree in self.trees)


@dataclass(frozen=True)
class Cost:
    """Tokens of a job: run one by one, padded into one batch, and as packed trees."""

    sequences: int
    tokens: int
    padded_tokens: int
    distinct_tokens: int
    passes: int


@dataclass
class Tags:
    """Numbers for what conditions do to nodes: equal beginnings on which the same is done share nodes.

    A node's tag says its condition and what is done at that very token. What is done before it is in the tags of the
    nodes before it, and what is done after it cannot reach it; so prompts of other lengths that begin alike share what
    one condition makes of their beginning, also where it edits every token.
    """

    numbers: dict[Hashable, int] = field(default_factory=dict)

    def of(self, sequence: TokenSequence) -> list[int]:
        """Give the tag of every position of a sequence, 0 where nothing has been done yet."""
        length = len(sequence.ids)
        if sequence.condition is CLEAN:
            return [0] * length
        done: list[tuple[Hashable, ...]] = [()] * length
        for order, positions in enumerate(sequence.edits):
            for number, p in enumerate(positions):
                # Stored values are read token by token of a position, so the number of a token counts there.
                done[p] += ((order, number if sequence.source else 0),)
        counted: dict[str, int] = {}
        for name, p in sequence.frozen:
            number = counted[name] = counted.get(name, -1) + 1
            done[p] += ((name, number),)
        own = sequence.source if sequence.apart else ""
        return [
            0 if p < sequence.branch_at else self._number((sequence.condition, own, done[p])) for p in range(length)
        ]

    def _number(self, key: Hashable) -> int:
        return self.numbers.setdefault(key, len(self.numbers) + 1)


def subset(job: Job, members: Sequence[int]) -> Job:
    """Give the job of some sequences, which must hold the twins they need, in the numbering of ``members``."""
    index = {i: k for k, i in enumerate(members)}
    sequences = []
    for i in members:
        s = job.sequences[i]
        sequences.append(s if s.twin is None else replace(s, twin=index[s.twin]))
    return Job(tuple(sequences), job.sites, job.layers, job.pool)


def sequence_keys(job: Job) -> list[tuple[int, ...]]:
    """Give each sequence's node keys: its tokens, tagged with what is done to them."""
    tags = Tags()
    return [tagged(s.ids, tags.of(s)) for s in job.sequences]


def pack(job: Job, limits: Limits, mode: Mode = "trees") -> list[Pass]:
    """Pack a job into passes; every sequence is run exactly once, twins aside.

    A group stays in one row if it fits; a larger one is cut, and the sequences that others copy frozen values from
    (twins) and the clean ones are repeated in each part.
    """
    keys = sequence_keys(job)
    if mode != "trees":
        return _pack_chains(job, keys, limits, one=mode == "one by one")
    trees = [(build_tree([keys[i] for i in row]), tuple(row)) for row in _rows(job, keys, limits)]
    return [
        Pass(tuple(trees[k][0] for k in batch), tuple(trees[k][1] for k in batch))
        for batch in _batches([len(tree) for tree, _ in trees], limits)
    ]


def _rows(job: Job, keys: list[tuple[int, ...]], limits: Limits) -> list[list[int]]:
    """Sort sequences into the rows of prompt trees: neighbours together, until a row is full."""
    groups: dict[int, list[int]] = {}
    for i, sequence in enumerate(job.sequences):
        groups.setdefault(sequence.group, []).append(i)
    units: list[list[int]] = []
    for members in sorted(groups.values(), key=lambda m: min(keys[i] for i in m)):
        units += _cut(job, keys, members, limits.row_nodes)
    costs: list[int] = []
    shared: list[int] = []
    last: tuple[int, ...] = ()
    for unit in units:
        ordered = sorted(keys[i] for i in unit)
        costs.append(count_nodes(ordered))
        shared.append(common_prefix(last, ordered[0]))
        last = ordered[-1]
    full = _even(sum(costs) - sum(shared), limits.row_nodes)
    rows: list[list[int]] = []
    size = full
    for unit, cost, common in zip(units, costs, shared, strict=True):
        if size < full and size + cost - common <= limits.row_nodes:
            rows[-1] += unit
            size += cost - common
        else:
            rows.append(list(unit))
            size = cost
    return rows


def _even(total: int, limit: int) -> int:
    """Say when a row is full, so that as few rows as ``limit`` allows are about equally long: padding is run, too."""
    return aligned(-(-total // max(1, -(-total // limit))))


def _cut(job: Job, keys: list[tuple[int, ...]], members: list[int], limit: int) -> list[list[int]]:
    nodes = count_nodes([keys[i] for i in members])
    if nodes <= limit:
        return [members]
    # A twin is needed in every part, and so is the clean run, for the conditions are compared with it.
    needed = [i for i in members if job.sequences[i].condition is CLEAN]
    twins = {t for i in members if (t := job.sequences[i].twin) is not None}
    base = sorted(set(needed) | twins)
    rest = sorted((i for i in members if i not in set(base)), key=keys.__getitem__)
    if not rest:
        return _split_even(keys, members, limit)
    base_nodes = count_nodes([keys[i] for i in base]) if base else 0
    room = max(1, limit - base_nodes)
    full = base_nodes + _even(nodes - base_nodes, room)
    parts: list[list[int]] = []
    size = limit + 1
    last: tuple[int, ...] = ()
    base_keys = sorted(keys[i] for i in base)
    for i in rest:
        near = nearest_prefix(base_keys, keys[i])
        cost = len(keys[i]) - max(near, common_prefix(last, keys[i]))
        if not parts or size >= full or size + cost > limit:
            parts.append([*base])
            size = base_nodes
            cost = len(keys[i]) - near
        parts[-1].append(i)
        size += cost
        last = keys[i]
    return parts


def _split_even(keys: list[tuple[int, ...]], members: list[int], limit: int) -> list[list[int]]:
    parts: list[list[int]] = []
    size = limit + 1
    last: tuple[int, ...] = ()
    full = _even(count_nodes([keys[i] for i in members]), limit)
    for i in sorted(members, key=keys.__getitem__):
        cost = len(keys[i]) - common_prefix(last, keys[i])
        if not parts or size >= full or size + cost > limit:
            parts.append([])
            size, cost = 0, len(keys[i])
        parts[-1].append(i)
        size += cost
        last = keys[i]
    return parts


def _batches(sizes: Sequence[int], limits: Limits) -> list[list[int]]:
    """Put rows of similar length together until a pass is full; gives the rows of each by number."""
    batches: list[list[int]] = []
    for row in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
        batch = batches[-1] if batches else []
        width = aligned(sizes[batch[0]]) if batch else 0
        if not batch or (len(batch) + 1) * width > limits.pass_nodes or len(batch) >= limits.rows:
            batches.append([row])
        else:
            batch.append(row)
    return batches


def _pack_chains(job: Job, keys: list[tuple[int, ...]], limits: Limits, *, one: bool) -> list[Pass]:
    """Give every sequence a row of its own; a frozen one travels with its twin."""
    passes: list[Pass] = []
    trees: list[Tree] = []
    members: list[tuple[int, ...]] = []

    def close() -> None:
        if trees:
            passes.append(Pass(tuple(trees), tuple(members)))
            trees.clear()
            members.clear()

    order = sorted(range(len(keys)), key=lambda i: (len(keys[i]), keys[i]))
    for i in order:
        twin = job.sequences[i].twin
        wanted = [i] if twin is None else [twin, i]
        width = max(len(keys[j]) for j in wanted)
        n = len(trees) + len(wanted)
        if trees and (one or n * width > limits.pass_nodes or n > limits.rows):
            close()
        for j in wanted:
            trees.append(build_tree([keys[j]]))
            members.append((j,))
    close()
    return passes


def halve(batch: Pass, job: Job) -> list[Pass]:
    """Split a pass that did not fit into memory; a single row is cut between its sequences."""
    if len(batch.trees) > 1:
        middle = len(batch.trees) // 2
        twins = any(job.sequences[i].twin is not None for row in batch.members for i in row)
        if not (twins and any(len(row) == 1 for row in batch.members)):
            return [
                Pass(batch.trees[:middle], batch.members[:middle]),
                Pass(batch.trees[middle:], batch.members[middle:]),
            ]
    members = [i for row in batch.members for i in row]
    if len(members) < 2:
        return []
    keys = sequence_keys(job)
    limit = max(max(len(keys[i]) for i in members), batch.n_nodes // 2)
    parts = _cut(job, keys, members, limit)
    if len(parts) < 2:
        return []
    return [Pass((build_tree([keys[i] for i in part]),), (tuple(part),)) for part in parts]


def cost(job: Job, passes: Iterable[Pass]) -> Cost:
    """Count a packed job."""
    passes = list(passes)
    return _cost(job, sum(p.n_nodes for p in passes), len(passes))


def planned_cost(job: Job, limits: Limits, mode: Mode = "trees") -> Cost:
    """Count a job as :func:`pack` would pack it; the trees are counted and not built, for a plan runs none of them."""
    if mode != "trees":
        return cost(job, pack(job, limits, mode))
    keys = sequence_keys(job)
    sizes = [count_nodes([keys[i] for i in row]) for row in _rows(job, keys, limits)]
    return _cost(job, sum(sizes), len(_batches(sizes, limits)))


def _cost(job: Job, distinct_tokens: int, passes: int) -> Cost:
    lengths = [len(s.ids) for s in job.sequences]
    return Cost(
        sequences=len(lengths),
        tokens=sum(lengths),
        padded_tokens=len(lengths) * max(lengths, default=0),
        distinct_tokens=distinct_tokens,
        passes=passes,
    )


@dataclass(frozen=True)
class Stored:
    """Values read from other prompts before a job: means, or those of a prompt drawn at random.

    ``values``: (site, layer) -> {(text of the prompt they are for, word of the position): ``[n_tokens, width]``},
    float32: a vector for each token that the word means there, or a single one for all of them. ``shared``: they are
    the same for every prompt, and stand under the empty text. ``under``: (text, word) -> another text under which its
    values stand, where several prompts have the same.
    """

    label: str
    values: Mapping[tuple[str, int], Mapping[tuple[str, str], np.ndarray]]
    shared: bool = False
    under: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def at(self, site: str, layer: int, text: str, position: str, number: int) -> np.ndarray:
        """Give the vector ``[width]`` for token ``number`` of those that a position means in a prompt."""
        found = self.values[(site, layer)][("" if self.shared else self.under.get((text, position), text), position)]
        vector: np.ndarray = found[0 if len(found) == 1 else number]
        return vector

    def key(self, text: str, position: str, number: int) -> tuple[str, int]:
        """Give what tells the vector of a token from others at a position: tokens of equal keys have one vector."""
        text = "" if self.shared else text
        some = next(iter(self.values.values()), {}).get((text, position), ())
        return text, 0 if len(some) == 1 else number

    def digest(self, texts: Iterable[str]) -> str:
        """Hash the vectors that some prompts use."""
        digest = hashlib.sha256()
        wanted = {""} if self.shared else set(texts)
        wanted |= {stands for (text, _), stands in self.under.items() if text in wanted}
        for place in sorted(self.values):
            for (text, position), vectors in self.values[place].items():
                if text in wanted:
                    digest.update(json.dumps([*place, text, position]).encode())
                    digest.update(vectors.tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        """Name the source; the numbers are in :meth:`digest`."""
        return f"Stored({self.label!r})"


@dataclass(frozen=True, repr=False, eq=False)
class NeuronEdit:
    """One verb on neurons of one layer: ``amounts[i]`` belongs to ``neurons[i]``; any sequences become arrays.

    ``op``: ``scale`` multiplies the value of the same run, ``set`` replaces it, ``add`` adds to it. With a ``source``
    the amounts are multiples of what each neuron has there: in the clean run of the same tokens (the twin), or in
    stored values, for which ``position`` is the word of the position the edit acts at. ``weights``: the factor is
    written into the model's weights and not into the run.
    """

    op: Literal["scale", "set", "add"]
    site: str
    layer: int
    neurons: np.ndarray
    """``[n]``, int64."""
    amounts: np.ndarray
    """``[n]``, float64."""
    source: Literal["clean"] | Stored | None = None
    position: str = ""
    weights: bool = False

    def __post_init__(self) -> None:
        """Keep neurons and amounts as arrays: a set may hold tens of thousands."""
        object.__setattr__(self, "neurons", np.asarray(self.neurons, dtype=np.int64))
        object.__setattr__(self, "amounts", np.asarray(self.amounts, dtype=np.float64))
        if len(self.neurons) != len(self.amounts):
            raise ValueError(f"{len(self.neurons)} neurons have {len(self.amounts)} amounts")

    def __repr__(self) -> str:
        """Write all that decides what is done; of many neurons a hash, for cache keys are made of it."""
        if len(self.neurons) > WRITTEN_OUT:
            parts = (self.neurons.tobytes(), self.amounts.tobytes())
            neurons, amounts = (f"{len(self.neurons)}:{hashlib.sha256(part).hexdigest()}" for part in parts)
        else:
            neurons, amounts = str(tuple(self.neurons.tolist())), str(tuple(self.amounts.tolist()))
        more = f"source={self.source!r}, position={self.position!r}, weights={self.weights!r}"
        where = f"op={self.op!r}, site={self.site!r}, layer={self.layer!r}"
        return f"NeuronEdit({where}, neurons={neurons}, amounts={amounts}, {more})"

    def __eq__(self, other: object) -> bool:
        """Say whether the same is done; stored values are the same if they are one object."""
        if not isinstance(other, NeuronEdit):
            return NotImplemented
        same_source = self.source is other.source or self.source == other.source
        return same_source and repr(self) == repr(other)

    def __hash__(self) -> int:
        """Hash what is done."""
        return hash(repr(self))


@dataclass(frozen=True)
class Held:
    """Components held by a freeze: at each (site, layer) the names of the positions that are held.

    ``values``: what they are held at; without any, the twin's values are copied. ``free``: at each (site, layer) names
    of positions whose tokens stay free, also where a held name means them too.
    """

    places: Mapping[tuple[str, int], tuple[str, ...]]
    values: Stored | None = None
    free: Mapping[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Resolved:
    """What a condition does: for each edit, its neuron edits; and what it holds."""

    edits: tuple[tuple[NeuronEdit, ...], ...] = ()
    held: Held | None = None

    def stored(self) -> list[Stored]:
        """List the stored values that it uses, each once."""
        found = [edit.source for part in self.edits for edit in part if isinstance(edit.source, Stored)]
        found += [self.held.values] if self.held is not None and self.held.values is not None else []
        return list({id(item): item for item in found}.values())

    def in_weights(self) -> tuple[NeuronEdit, ...]:
        """List what is written into the weights."""
        return tuple(edit for part in self.edits for edit in part if edit.weights)


Resolve = Callable[[Hashable], Resolved]
"""Says what a condition does."""
