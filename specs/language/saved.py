"""Saved sets of neurons: JSON files that a run writes, and that a later spec names with ``from:``.

A file holds the addresses of every owner, where they were read, and the model they belong to::

    {"format": 1, "name": "verified", "position": "entity.last",
     "model": {"id": "Qwen/Qwen2.5-7B", "family": "qwen2", "n_layers": 28, "d_model": 3584, "d_mlp": 18944,
               "weights": "<sha256 over the files of the weights>"},
     "owners": {"obama": ["L2.N10941"]}}
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from specs.language.errors import RunError
from specs.language.references import Address, parse_address

__all__ = ["SavedModel", "SavedSet", "differs", "read_saved"]


class SavedModel(BaseModel):
    """The model that a set's neurons belong to."""

    model_config = ConfigDict(extra="forbid")

    id: str
    family: str
    n_layers: int
    d_model: int
    d_mlp: int
    weights: str = ""
    """sha256 over the names and hashes of the files; empty where they were not read."""


class SavedSet(BaseModel):
    """A set of neurons as it is written to a file."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    name: str
    position: str | None = None
    """Where the neurons were read; None where that is not one place."""
    model: SavedModel
    owners: dict[str, list[str]]

    def addresses(self, owner: str) -> list[Address]:
        """Give the neurons of an owner, none for one whom the set does not have."""
        found = [parse_address(text) for text in self.owners.get(owner, [])]
        return [address for address in found if address is not None]


def read_saved(path: str) -> SavedSet:
    """Read a saved set. Raises RunError, with what is wrong, for a file that is none."""
    place = Path(path)
    try:
        stat = place.stat()
    except OSError:
        raise RunError(f"there is no file '{path}'", remedy="name a file of `neurons/` in a run folder") from None
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _read(path: str, changed: int, size: int) -> SavedSet:
    try:
        saved = SavedSet.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"'{path}' cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise RunError(
            f"'{path}' is no saved set of neurons: {f'{at}: ' if at else ''}{first['msg']}",
            remedy="runs write them to `neurons/` in their folder",
        ) from error
    for owner, addresses in saved.owners.items():
        for text in addresses:
            if parse_address(text) is None:
                raise RunError(f"'{path}' is no saved set of neurons: '{text}' of {owner} is no address")
    return saved


def differs(saved: SavedModel, here: SavedModel) -> str:
    """Say in what way a set was saved for another model; empty where it is the same.

    The same weights are the same model whatever it is called. One id with other files (another copy, or another
    number format of it) is taken to be the same too, if the shape is.
    """
    if saved.weights and saved.weights == here.weights:
        return ""
    for field, words in (
        ("family", "its family is {}, here {}"),
        ("n_layers", "it has {} layers, here {}"),
        ("d_model", "it is {} wide, here {}"),
        ("d_mlp", "its layers have {} neurons, here {}"),
    ):
        theirs, ours = getattr(saved, field), getattr(here, field)
        if theirs != ours:
            return words.format(theirs, ours)
    return "" if saved.id == here.id else f"it is {saved.id}, this is {here.id}"
