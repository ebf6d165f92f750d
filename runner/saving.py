"""Write the sets of neurons of a run as files that later specs name, and refuse those of another model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from runner.neurons import default_position
from specs.language.errors import RunError
from specs.language.results import Results
from specs.language.saved import SavedModel, SavedSet, differs, read_saved

if TYPE_CHECKING:
    from runner.model import Machine
    from specs.language.experiment import Experiment

__all__ = ["foreign_sets", "model_of", "saved_sets"]


def model_of(machine: Machine, *, weights: bool = True) -> SavedModel:
    """Describe the model of a machine as a saved set does; without ``weights`` its files are not looked at."""
    widths = [width for (site, _), width in machine.widths().items() if site == "mlp.neurons"]
    return SavedModel(
        id=machine.source.hub_id or str(machine.spec.id),
        family=machine.family.model_type,
        n_layers=machine.shape.n_layers,
        d_model=machine.shape.d_model,
        d_mlp=max(widths),
        weights=_hash(machine.files.file_hashes()) if weights else "",
    )


def _hash(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def saved_sets(experiment: Experiment, results: Results, model: SavedModel) -> dict[str, SavedSet]:
    """Give every named set of a run, and the set that each ranking of neurons stands for, as they are written."""
    found: dict[str, SavedSet] = {}
    for ranking in results.rankings.values():
        if ranking.unit == "neuron":
            owners = {key: list(group.chosen) for key, group in ranking.groups.items()}
            place = _position(experiment, ranking.name)
            found[ranking.name] = SavedSet(name=ranking.name, position=place, model=model, owners=owners)
    for name, chosen in results.neurons.items():
        if name in experiment.neurons:
            owners = {owner: list(choice.neurons) for owner, choice in chosen.owners.items()}
            place = _position(experiment, name)
            found[name] = SavedSet(name=name, position=place, model=model, owners=owners)
    return found


def _position(experiment: Experiment, name: str) -> str | None:
    try:
        return default_position(experiment, name)
    except RunError:  # read at no position, or at several
        return None


def foreign_sets(experiment: Experiment, here: SavedModel) -> dict[str, str]:
    """Say of every saved set that a spec names in which way it was saved for another model; none for its own."""
    found: dict[str, str] = {}
    for name, ref in experiment.neurons.items():
        path = getattr(ref, "from_", None)
        if path is None:
            continue
        why = differs(read_saved(path).model, here)
        if why:
            found[name] = why
    return found
