"""Where these tests run: on a CUDA device, or on the CPU when only the tests themselves are to be tried.

``RUN_SPEC_GPU_TESTS_ON=cpu python -m pytest tests/gpu`` runs what does not need a card.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import pytest
import torch

from tests.tiny import tiny_model

__all__ = ["CARD", "DEVICE", "FAMILIES", "FORMATS", "PROMPTS", "card_only", "model_on_device", "needs_device"]

DEVICE = torch.device(os.environ.get("RUN_SPEC_GPU_TESTS_ON", "cuda"))
CARD = torch.cuda.is_available()
needs_device = pytest.mark.skipif(DEVICE.type == "cuda" and not CARD, reason="there is no CUDA device")
card_only = pytest.mark.skipif(not (CARD and DEVICE.type == "cuda"), reason="there is no CUDA device")

FAMILIES = ("bloom", "gemma3", "gpt2", "gpt_neo", "gpt_neox", "llama", "mistral_window", "opt", "qwen2")
"""Every way of giving a mask: single, windowed, per layer type, position bias and swapped buffers."""
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PROMPTS = (
    (3, 9, 14, 7, 21, 33, 8),
    (3, 9, 14, 7, 40, 12),
    (3, 9, 14, 50, 6, 6, 2, 19, 44),
    (3, 30, 31, 5),
)


@cache
def model_on_device(family: str, dtype: str = "float32") -> Any:
    """A tiny random model on the device; no test changes it."""
    return tiny_model(family, dtype=FORMATS[dtype]).to(DEVICE)
