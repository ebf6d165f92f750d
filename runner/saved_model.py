"""Save a model with its edit in the weights: a checkpoint like any other, with a card that says what was done."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.models.checkpoint import quiet
from runner.program import NeuronEdit
from runner.weights import edited_weights
from specs.language.errors import DiskFull, RunError, RunSpecError
from specs.language.references import Address
from specs.language.results import SavedModel

if TYPE_CHECKING:
    from runner.model import Machine
    from runner.run_types import Reporter
    from runner.store import RunFolder

__all__ = ["save_model"]

RECORD = "run-spec.json"
REMEDY = "make room and run again; stages that were computed are kept in the cache"


def save_model(
    machine: Machine,
    folder: RunFolder,
    name: str,
    edits: Sequence[NeuronEdit],
    about: Mapping[str, str],
    reporter: Reporter,
) -> SavedModel:
    """Write ``models/<name>`` of the run folder: safetensors, configuration, tokenizer and a card.

    ``about``: ``spec``, ``hash``, ``owner`` of the run. A model that an earlier run of the same spec has saved is kept
    if it is the same, and never overwritten: raises RunError for another one, DiskFull for want of room. What could not
    be written whole is not there.
    """
    key = machine.stage_key({"stage": "saved model", "edits": repr(tuple(edits))})
    place = folder.path / "models" / name
    stage = f"saving {name}"
    for there in (folder.final / "models" / name, place):
        if there.exists():
            if _record(there).get("key") != key:
                raise RunError(
                    f"{there} is another model, and is not overwritten",
                    remedy="move it, or give this one another name (`save_model:`)",
                )
            reporter.done(stage, reused=True)
            return _result(name, there, edits, about)
    reporter.stage(stage, None)
    engine = machine.engine(reporter)
    scratch = place.with_name(f".{name}.part")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        with edited_weights(engine, edits), quiet():
            engine.model.save_pretrained(scratch)
        machine.tokenizer.save_pretrained(scratch)
        (scratch / "README.md").write_text(_card(machine, name, edits, about), encoding="utf-8")
        _write_record(scratch, key, machine, edits, about)
        for file in scratch.iterdir():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        os.rename(scratch, place)
    except RunSpecError:
        raise
    except Exception as error:
        # safetensors reports a full disk as text
        if "no space left" in str(error).lower() or "quota exceeded" in str(error).lower():
            raise DiskFull(f"the disk that holds {place.parent} is full", remedy=REMEDY) from error
        if isinstance(error, OSError):
            raise RunError(f"cannot write to {place.parent} ({error.strerror or error})") from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    reporter.done(stage, note=f"models/{name}")
    return _result(name, place, edits, about)


def _result(name: str, place: Path, edits: Sequence[NeuronEdit], about: Mapping[str, str]) -> SavedModel:
    return SavedModel(
        name=name,
        path=f"models/{name}",
        owner=about["owner"],
        neurons={str(address): factor for address, factor in _factors(edits)},
        bytes=sum(file.stat().st_size for file in place.iterdir()),
    )


def _factors(edits: Sequence[NeuronEdit]) -> list[tuple[Address, float]]:
    return [
        (Address(edit.site, edit.layer, neuron), amount)
        for edit in edits
        for neuron, amount in zip(edit.neurons, edit.amounts, strict=True)
    ]


def _record(place: Path) -> dict[str, Any]:
    try:
        record = json.loads((place / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(
    place: Path, key: str, machine: Machine, edits: Sequence[NeuronEdit], about: Mapping[str, str]
) -> None:
    record = {
        "key": key,
        **about,
        "model": machine.source.name,
        "model_files": machine.files.file_hashes(),
        "factors": {str(address): factor for address, factor in _factors(edits)},
    }
    (place / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")


def _card(machine: Machine, name: str, edits: Sequence[NeuronEdit], about: Mapping[str, str]) -> str:
    """Say what was done to which model, by what, and how to load what came of it."""
    card = machine.source.card
    licence = card.license if card is not None else "not known here; that of the source model applies"
    source = machine.source.hub_id or str(machine.spec.id)
    revision = f", revision {machine.files.revision}" if machine.files.revision else ""
    dtype = str(machine.dtype.dtype).removeprefix("torch.")
    rows = "\n".join(f"| `{address}` | {factor:g} |" for address, factor in _factors(edits))
    return f"""\
# {name}

A copy of **{source}** in which columns of weights were multiplied by a factor: made by run-spec, and meant for research
on where language models store what they know. It is not the source model and does not behave like it.

- Source model: {source}, {machine.files.description}{revision}
- Licence of the source model: {licence}
- Number format: {dtype}
- Spec: {about["spec"]}, hash {about["hash"]}
- Neurons of: {about["owner"]}

| neuron | its output column was multiplied by |
|---|---|
{rows}

`L1.N5` is neuron 5 of the MLP in layer 1, counted from 0: an input of the down projection. Multiplying its column of
weights does at every token what multiplying its activation does. Nothing else was changed.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}")  # the path of this folder
tokenizer = AutoTokenizer.from_pretrained("{name}")
```

In a spec: `model: path/to/{name}`. What was done stands also in `{RECORD}`, with the sha256 of the source's files.
"""
