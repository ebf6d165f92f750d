"""Models: which one is meant, where it comes from, and how it gets into memory.

    resolve("smollm2-135m")  ->  ModelSource      no network, no files
    pull(source)             ->  folder           fetched, checked, in the cache
    load(source)             ->  LoadedModel      model, tokenizer and provenance

Importing this package does not import torch or transformers.
"""

from __future__ import annotations

from runner.models.cache import Progress, cache_root, models_root
from runner.models.card_table import Card, Wheel, WheelSet, cards
from runner.models.device import DeviceChoice, DtypeChoice, pick_device, pick_dtype
from runner.models.fetch import Checkpoint, LocalState, local_state, locate, obtain, pull
from runner.models.loading import LoadedModel, load, load_config, load_tokenizer, meta_model
from runner.models.sources import ModelSource, resolve

__all__ = [
    "Card",
    "Checkpoint",
    "DeviceChoice",
    "DtypeChoice",
    "LoadedModel",
    "LocalState",
    "ModelSource",
    "Progress",
    "Wheel",
    "WheelSet",
    "cache_root",
    "cards",
    "load",
    "load_config",
    "load_tokenizer",
    "local_state",
    "locate",
    "meta_model",
    "models_root",
    "obtain",
    "pick_device",
    "pick_dtype",
    "pull",
    "resolve",
]
