"""Records that reading a spec makes, too: apart from the document, whose many classes take time to define."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["ImportedTable", "LeftOut", "ModelFacts", "Record"]


class Record(BaseModel):
    """A part of the document: closed, and refusing NaN and infinities."""

    # Built when first used: reading a spec needs the names of these and no more.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)


class LeftOut(Record):
    """Something that was asked for and not used, with its reason; nothing is dropped in silence."""

    what: str
    """Such as ``wife/trump``, or the text of a prompt."""
    reason: str
    where: str = ""
    """The block it was left out of."""


class ImportedTable(Record):
    """What a data block brought into the experiment; the spec that was run holds it all."""

    name: str
    file: str
    kind: str
    """PopQA, LRE, known_1000, or table."""
    sha256: str
    """Of the file; of a folder, of the digests of its files in their order."""
    rows: int
    """Rows in the file."""
    entities: int
    """Entities that were taken."""
    relations: list[str]
    facts: int
    """Questions with an answer: pairs of entity and relation."""
    described: int = 0
    """Facts of other tables that its rows say something about."""


class ModelFacts(Record):
    """The model as it was run."""

    id: str
    card: str | None = None
    family: str
    n_layers: int
    d_model: int
    d_mlp: int
    vocabulary: int
    dtype: str
    dtype_reason: str = ""
    device: str
    attention: str
    adds_bos: bool
    weights_origin: str = ""
    revision: str | None = None
