"""The truth about a planted model, as data: who has which cell, what is true of whom, which neurons are decoys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["FILE", "Decoy", "Entity", "Neuron", "Truth"]

FILE = "planted.json"
FORMAT = 2

Neuron = tuple[int, int]
"""Layer and index, both from 0."""
Kind = Literal["cell", "pair", "spread"]


@dataclass(frozen=True)
class Entity:
    """An entity and what carries its facts."""

    id: str
    name: str
    tokens: tuple[int, ...]
    """Ids of the name after other text."""
    kind: Kind
    """``cell``: one neuron of its own; ``pair``: one neuron for two; ``spread``: many, each a little."""
    facts: Mapping[str, str]
    """Relation: answer."""
    cell: Neuron | None = None
    """The neuron that alone carries the facts of this entity and of nobody else; None where there is none."""
    sign: int = 0
    activation: float = 0.0
    """What the cell is planted to have at the name's last token."""
    carriers: tuple[Neuron, ...] = ()
    """Every neuron that carries facts of it."""


@dataclass(frozen=True)
class Decoy:
    """A neuron that is nobody's cell and could be taken for one."""

    kind: str
    layer: int
    neuron: int
    owners: tuple[str, ...] = ()
    """Ids of the entities it answers to; none for one that answers to no name in particular."""
    words: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    """Ids of entities that it answers to by chance, at half its strength or more, as measured in the model."""


@dataclass(frozen=True)
class Truth:
    """Everything that is known of a planted model."""

    recipe: Mapping[str, Any]
    entities: tuple[Entity, ...]
    decoys: tuple[Decoy, ...]
    relations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Relation: its wordings, with the slot of a spec."""

    def decoy(self, neuron: Neuron) -> Decoy | None:
        """Find what kind of decoy a neuron is, if it is one."""
        return next((d for d in self.decoys if (d.layer, d.neuron) == neuron), None)

    def rivals(self, entity: Entity) -> list[Decoy]:
        """List the decoys that answer to an entity's name about as strongly as its cell."""
        return [d for d in self.decoys if entity.id in d.owners or entity.id in d.also]

    def save(self, folder: Path) -> Path:
        """Write the document beside the checkpoint."""
        path = folder / FILE
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False), encoding="utf-8")
        return path

    @classmethod
    def read(cls, folder: Path) -> Truth:
        """Read the document of a folder. Raises ValueError for one that another version wrote."""
        document = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT:
            raise ValueError(f"{folder / FILE} was written by another version; make the model again")
        entities = tuple(
            Entity(
                **{
                    **e,
                    "tokens": tuple(e["tokens"]),
                    "cell": None if e["cell"] is None else tuple(e["cell"]),
                    "carriers": tuple((a, b) for a, b in e["carriers"]),
                }
            )
            for e in document["entities"]
        )
        decoys = tuple(
            Decoy(**{**d, "owners": tuple(d["owners"]), "words": tuple(d["words"]), "also": tuple(d["also"])})
            for d in document["decoys"]
        )
        relations = {name: tuple(prompts) for name, prompts in document["relations"].items()}
        return cls(document["recipe"], entities, decoys, relations)
