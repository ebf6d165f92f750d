"""Saved vectors: safetensors files that a run writes, or arrays from elsewhere, that a spec names with ``from:``.

A safetensors file holds one tensor, and its metadata may say where the vector is added: ``site``, ``layer``,
``position``. An ``.npy`` file holds the numbers alone. What the file does not say, the spec must.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specs.language.errors import RunError
from specs.language.experiment import Experiment, Vector

if TYPE_CHECKING:
    import numpy as np

__all__ = ["VectorPlace", "place_of", "read_vector"]

LONGEST_HEADER = 1 << 24
SUFFIXES = (".safetensors", ".npy")


@dataclass(frozen=True)
class VectorPlace:
    """Where a vector is added: a site, a layer as written (`2`, `50%`), a word of a position."""

    site: str
    layers: str
    position: str


def place_of(experiment: Experiment, name: str) -> VectorPlace:
    """Say where a vector of a spec is added: as written, else as its file says. Raises RunError if neither does."""
    vector = experiment.vectors[name]
    found = {"site": vector.site, "layers": vector.layers, "position": vector.position}
    if None in found.values() and vector.from_ is not None:
        said = _metadata(Path(vector.from_))
        for field, key in (("site", "site"), ("layers", "layer"), ("position", "position")):
            found[field] = found[field] or said.get(key)
    absent = [field for field, value in found.items() if value is None]
    if absent:
        raise RunError(
            f"the file of the vector '{name}' does not say {' and '.join(absent)}",
            remedy=f"write {', '.join(f'`{field}:`' for field in absent)} in the spec",
        )
    return VectorPlace(str(found["site"]), str(found["layers"]), str(found["position"]))


def read_vector(name: str, vector: Vector) -> tuple[np.ndarray, str]:
    """Read the numbers of a saved vector, ``[width]`` in float32, and the sha256 of its file.

    Raises RunError for a file that is none: absent, damaged, of several vectors, not finite.
    """
    import numpy as np

    assert vector.from_ is not None
    path = Path(vector.from_)
    try:
        data = path.read_bytes()
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
        elif path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                keys = list(file.keys())
                if len(keys) != 1:
                    raise RunError(f"{path} holds {len(keys)} tensors, and a vector is one")
                array = file.get_tensor(keys[0]).float().numpy()
        else:
            raise RunError(f"{path} is no vector", remedy=f"name a file that ends in {' or '.join(SUFFIXES)}")
    except RunError:
        raise
    except FileNotFoundError:
        raise RunError(f"the vector '{name}': there is no file {path}") from None
    except Exception as error:  # numpy and safetensors have errors of their own for damaged files
        raise RunError(f"{path} cannot be read as a vector: {error}") from error
    if array.size != max(array.shape, default=0):
        raise RunError(f"{path} holds an array of shape {list(array.shape)}, and a vector is one row of numbers")
    values = np.asarray(array, dtype=np.float32).reshape(-1)
    if not np.isfinite(values).all():
        raise RunError(f"{path} holds numbers that are not finite")
    return values, hashlib.sha256(data).hexdigest()


def _metadata(path: Path) -> dict[str, str]:
    """Give the metadata of a safetensors file; nothing for another file or one that cannot be read."""
    if path.suffix != ".safetensors":
        return {}
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LONGEST_HEADER:
                return {}
            said = json.loads(file.read(length)).get("__metadata__", {})
    except (OSError, ValueError, struct.error, AttributeError):
        return {}
    return {str(key): str(value) for key, value in said.items()} if isinstance(said, dict) else {}
