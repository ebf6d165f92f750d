"""A piece of work as plain data: token ids, places and edits, for workers of any environment.

This module needs the standard library and numpy alone, since workers in other environments have no run-spec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["localise", "sweep", "freeze", "generate"]
Op = Literal["scale", "set"]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Edit:
    """One neuron of one layer, multiplied by a factor or set to a value."""

    layer: int
    neuron: int
    op: Op
    amount: float


@dataclass(frozen=True)
class Prompt:
    """One prompt under one condition.

    ``at``: the entity's last token, where neurons are read and edited. ``unit``: what the prompt belongs to, an entity
    or a prompt by itself; a part of the work is made of whole units. ``answer``: the token whose log probability is
    wanted after the last position. ``frozen``: attention and MLP outputs are held at the clean run's from ``at`` on.
    """

    ids: tuple[int, ...]
    at: int
    unit: int
    answer: int = -1
    edit: Edit | None = None
    frozen: bool = False


@dataclass(frozen=True)
class Work:
    """What every way has to do, and ``free_layer``: the layer whose MLP output no freeze holds."""

    name: str
    title: str
    kind: Kind
    prompts: tuple[Prompt, ...]
    n_new: int = 0
    free_layer: int = -1

    @property
    def n_units(self) -> int:
        """Give the number of units."""
        return 1 + max(p.unit for p in self.prompts)

    def part(self, k: int) -> Work:
        """Take every k-th unit, numbered anew."""
        kept = tuple(replace(p, unit=p.unit // k) for p in self.prompts if p.unit % k == 0)
        return replace(self, prompts=kept)

    def rows_of_part(self, k: int) -> npt.NDArray[np.int64]:
        """Give the rows that :meth:`part` has in the results of the whole."""
        if self.kind == "localise":
            return np.arange(0, self.n_units, k)
        return np.array([i for i, p in enumerate(self.prompts) if p.unit % k == 0], dtype=np.int64)

    def save(self, path: Path) -> None:
        """Write the work as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Work:
        """Read what :meth:`save` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        found["prompts"] = tuple(_prompt(p) for p in found["prompts"])
        return cls(**found)


def _prompt(found: Mapping[str, Any]) -> Prompt:
    edit = found["edit"]
    return Prompt(**{**found, "ids": tuple(found["ids"]), "edit": None if edit is None else Edit(**edit)})


@dataclass(frozen=True)
class Difference:
    """How far two results are apart, what is allowed, and in which words."""

    figure: float
    limit: float
    words: str

    @property
    def agrees(self) -> bool:
        """Say whether the results are the same within the limit."""
        return self.figure <= self.limit  # False for NaN too


LIMITS: Mapping[str, tuple[float, float, float]] = {"float32": (2e-4, 2e-3, 0.05), "bfloat16": (0.1, 0.8, 0.5)}
"""Number format: allowed relative difference of activations, difference in nats, share of texts that differ.

In float32 only near-ties may change a text. In bfloat16 any change of batch shape moves log probabilities by up to
0.3 nats.
"""


def difference(kind: Kind, ours: Mapping[str, npt.NDArray[Any]], theirs: Arrays, dtype: str) -> Difference:
    """Compare two results of one work.

    Activations: the largest difference, relative to the largest value of its layer. Scores: the largest difference in
    nats. Texts: the share that is not the same to the last token.
    """
    relative, nats, texts = LIMITS[dtype]
    if kind == "localise":
        worst = 0.0
        for name in ("mean", "std"):
            a, b = ours[name].astype(np.float64), theirs[name].astype(np.float64)
            _same_shape(a, b)
            worst = float(np.maximum(worst, (abs(a - b).max(axis=(0, 2)) / abs(b).max(axis=(0, 2))).max()))
        return Difference(worst, relative, "relative")
    if kind == "generate":
        _same_shape(ours["tokens"], theirs["tokens"])
        share = float((ours["tokens"] != theirs["tokens"]).any(axis=1).mean())
        return Difference(share, texts, "of texts")
    _same_shape(ours["logp"], theirs["logp"])
    return Difference(float(abs(ours["logp"] - theirs["logp"]).max()), nats, "nats")


def _same_shape(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> None:
    if a.shape != b.shape:
        raise ValueError(f"results of shapes {a.shape} and {b.shape} cannot be compared")


def until_end(tokens: list[int], ends: set[int], length: int) -> list[int]:
    """Cut a text before its end token and fill it up with -1."""
    kept: list[int] = []
    for token in tokens[:length]:
        if token in ends:
            break
        kept.append(token)
    return kept + [-1] * (length - len(kept))
