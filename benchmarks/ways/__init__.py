"""The ways to the same numbers, one module each; a module's ``make`` loads the model and gives the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.work import Arrays, Work

REFERENCE = "run-spec"
"""The way that all others are compared with."""


class Way(Protocol):
    """One way to the results of a work: ``mean`` and ``std``, or ``logp``, or ``tokens``."""

    def run(self, work: Work) -> Arrays:
        """Do the work once."""

    def tune(self, work: Work) -> str:
        """Choose what the way leaves open, such as a batch size, on a piece of the work; give it in words."""


@dataclass(frozen=True)
class Loading:
    """What a way is given to load: a checkpoint folder, a number format, and the name of the model for people."""

    folder: Path
    dtype: str
    model: str


@dataclass(frozen=True)
class Described:
    """How a way is called in the table, its module, and its environment."""

    title: str
    module: str
    environment: str = ""
    """Empty: the environment of run-spec itself."""
    option: str = ""
    least: int = 16
    """Prompts in the smallest part it may be scaled from: four full batches for a way that batches, or all."""


WAYS: Mapping[str, Described] = {
    "run-spec": Described("run-spec", "run_spec"),
    "nnsight": Described("nnsight, one prompt per trace", "nnsight_single"),
    "hooks": Described("plain hooks, one prompt at a time", "hooks_padded", option="single"),
    "batch": Described("one padded batch, plain hooks", "hooks_padded", option="one", least=100_000),
    "padded": Described("padded batches sorted by length, plain hooks", "hooks_padded", least=256),
    "lens": Described("TransformerLens, one prompt at a time", "transformer_lens", "transformer-lens", "single"),
    "lens-batch": Described(
        "TransformerLens, padded batch", "transformer_lens", "transformer-lens", "batch", least=256
    ),
    "pyvene": Described("pyvene, one prompt at a time", "pyvene", "pyvene", "single"),
}
"""Name on the command line: the way."""
