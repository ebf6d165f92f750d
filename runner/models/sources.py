"""What the word after ``model:`` means: a card, a hub repository, a local folder or a GGUF file."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runner.models.card_table import Card, cards, nearest_names
from specs.language.errors import ModelError

__all__ = ["ModelSource", "resolve"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class ModelSource:
    """One model as named by the user, and where it can come from. Nothing has been fetched."""

    kind: Literal["card", "hub", "folder", "gguf"]
    ref: str
    """As written by the user."""
    hub_id: str | None = None
    revision: str | None = None
    """The hub commit or branch that is asked for; None is the hub's main branch."""
    card: Card | None = None
    path: Path | None = None
    """The folder, or the GGUF file, on this machine."""

    @property
    def name(self) -> str:
        """The name to show: a card's name, a hub id, or the last part of a path."""
        if self.card is not None:
            return self.card.name
        if self.path is not None:
            return self.path.name
        return self.hub_id or self.ref

    @property
    def key(self) -> str:
        """A name for locks and cache folders, distinct for distinct sources."""
        if self.path is not None:
            tail = hashlib.sha256(str(self.path).encode()).hexdigest()[:8]
            return f"{_safe(self.path.stem)}@{self.kind}-{tail}"
        if self.card is not None and self.card.wheels is not None:
            return f"{self.card.name}@wheels-{self.card.wheels.file_sha256[:8]}"
        return f"{_safe(self.hub_id or self.ref)}@hub"


def _safe(text: str) -> str:
    return re.sub(r"[^\w.-]+", "--", text)


def resolve(ref: str, revision: str | None = None) -> ModelSource:
    """Find out which model a reference means, without touching the network.

    ``ref`` is a card name (any case), a hub id ``org/name``, a folder with a ``config.json``, or a
    ``.gguf`` file. Something that starts with ``.``, ``/`` or ``~``, or ends in ``.gguf``, is a path and
    nothing else; ``org/name`` is a hub id even where a folder of that name exists (write ``./org/name``).
    Raises ModelError for a name nobody knows, or a path that is not a model.
    """
    word = str(ref).strip()
    if not word:
        raise ModelError("the model's name is empty", remedy=_known())
    if _is_path(word):
        return _local(word, revision)
    card = next((card for name, card in cards().items() if name.casefold() == word.casefold()), None)
    if card is not None:
        return ModelSource("card", word, hub_id=card.hub_id, revision=revision or card.revision, card=card)
    if _HUB_ID.fullmatch(word):
        return ModelSource("hub", word, hub_id=word, revision=revision)
    near = nearest_names(word)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    if (Path(word).expanduser() / "config.json").is_file():
        hint = f"there is a folder of that name: write ./{word} to use it. "
    raise ModelError(f"there is no model '{word}'", remedy=hint + _known())


def _known() -> str:
    return f"known names: {', '.join(cards())}; or give a hub id (org/name), a folder or a .gguf file"


def _is_path(word: str) -> bool:
    return (
        word.startswith((".", "/", "~", "\\"))
        or word.lower().endswith(".gguf")
        or bool(re.match(r"[A-Za-z]:[\\/]", word))
    )


def _local(word: str, revision: str | None) -> ModelSource:
    path = Path(word).expanduser().absolute()
    if revision is not None:
        raise ModelError(
            f"{word} is a local model and has no revisions, but revision '{revision}' is asked for",
            remedy="leave revision out; the files themselves are recorded by their sha256",
        )
    if path.is_dir():
        if (path / "config.json").is_file():
            return ModelSource("folder", word, path=path)
        files = sorted(path.glob("*.gguf"))
        remedy = (
            f"name the file itself: {word.rstrip('/')}/{files[0].name}"
            if files
            else "a model folder holds config.json, tokenizer files and *.safetensors"
        )
        raise ModelError(f"the folder {word} has no config.json", remedy=remedy)
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            with path.open("rb") as file:
                if file.read(4) != b"GGUF":
                    raise ModelError(f"{word} is not a GGUF file (its first bytes are not 'GGUF')")
            return ModelSource("gguf", word, path=path)
        raise ModelError(
            f"{word} is a file, and not a .gguf file",
            remedy="give the folder that holds config.json, or a .gguf file",
        )
    raise ModelError(f"there is no file or folder {word}", remedy=f"looked at {path}. " + _known())
