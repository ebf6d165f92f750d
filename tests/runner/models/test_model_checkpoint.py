from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.models.checkpoint import (
    empty_model,
    quiet,
    read_config,
    read_model,
    read_tokenizer,
    refuse_unsupported,
    unpack_gguf,
)
from runner.models.gguf_header import read_gguf_header
from specs.language.errors import ModelError

CPU = torch.device("cpu")


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model to be damaged."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def edit(path: Path, **changes: object) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, **changes}))


# --- GGUF


def test_every_unpacked_weight_is_exactly_what_the_file_says(tiny_gguf: Path, tiny_folder: Path) -> None:
    """Against the reference de-quantiser, tensor by tensor, after undoing llama's rotary reordering."""
    from gguf import GGUFReader, dequantize
    from safetensors.torch import load_file

    written = load_file(tiny_folder / "model.safetensors")
    names = {
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    seen = set()
    for tensor in GGUFReader(tiny_gguf).tensors:
        *layer, short = tensor.name.removesuffix(".weight").split(".")
        name = (f"model.layers.{layer[1]}." if layer else "") + names[short] + ".weight"
        expected = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
        if short in ("attn_q", "attn_k"):
            expected = expected.reshape(2, 8, 2, 32).transpose(1, 2).reshape(32, 32)
        assert written[name].dtype == torch.float32
        assert torch.equal(written[name], expected), name
        seen.add(name)
    assert seen == set(written)


def test_half_precision_would_have_lost_digits(tiny_folder: Path) -> None:
    """The reason for float32 in the cache: neither 16-bit format holds the de-quantised values."""
    from safetensors.torch import load_file

    weight = load_file(tiny_folder / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    for dtype in (torch.bfloat16, torch.float16):
        assert not torch.equal(weight.to(dtype).float(), weight)


def test_progress_of_de_quantising_is_in_bytes_and_complete(
    tiny_gguf: Path, tmp_path: Path, progressed: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    unpack_gguf(tiny_gguf, tmp_path, "tiny", progressed)
    steps = [(done, total) for label, done, total in progressed.calls if label == "de-quantise" and total]
    assert steps[-1][0] == steps[-1][1]
    assert steps == sorted(steps)
    assert capfd.readouterr() == ("", ""), "nothing of transformers' own bars may reach the terminal"


def test_digits_and_spaces_are_cut_as_the_file_s_pre_tokenizer_says(tiny_folder: Path) -> None:
    """'smollm' sets digits apart first, so two spaces before a number stay one token."""
    tokenizer = read_tokenizer(tiny_folder, "tiny")
    found = tokenizer("the  12", return_offsets_mapping=True)
    assert tokenizer.convert_ids_to_tokens(found.input_ids)[-3:] == ["ĠĠ", "1", "2"]
    assert found.offset_mapping[-3:] == [(3, 5), (5, 6), (6, 7)]


def test_qwen_text_is_composed_before_it_is_cut(gguf_of: Callable[..., Path], tmp_path: Path) -> None:
    """A decomposed accent gives the token of the composed one; offsets count characters as written."""
    out = tmp_path / "out"
    out.mkdir()
    unpack_gguf(gguf_of(tmp_path / "q.gguf", cut="qwen2"), out, "q")
    tokenizer = read_tokenizer(out, "q")
    decomposed = tokenizer("e\u0301 in", return_offsets_mapping=True)
    assert decomposed.input_ids == tokenizer("\u00e9 in").input_ids
    assert decomposed.offset_mapping[-1] == (3, 5)


def test_a_tokenizer_that_cannot_be_rebuilt_exactly_is_refused(gguf_of: Callable[..., Path], tmp_path: Path) -> None:
    file = gguf_of(tmp_path / "odd.gguf", cut="odd-one")
    with pytest.raises(ModelError, match="cuts text in a way"):
        unpack_gguf(file, tmp_path, "odd")


def test_a_tokenizer_beside_the_file_is_used_instead(
    gguf_of: Callable[..., Path], tmp_path: Path, tiny_folder: Path
) -> None:
    file = gguf_of(tmp_path / "odd.gguf", cut="odd-one")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    how = unpack_gguf(file, out, "odd")
    assert how["tokenizer"] == "tokenizer.json beside the file"
    assert read_tokenizer(out, "odd")("the").input_ids == read_tokenizer(tiny_folder, "t")("the").input_ids


def test_the_header_gives_the_size_of_the_unpacked_weights(tiny_gguf: Path, tiny_folder: Path) -> None:
    header = read_gguf_header(tiny_gguf)
    assert header.fields["tokenizer.ggml.pre"] == "smollm"
    size = (tiny_folder / "model.safetensors").stat().st_size
    assert header.unpacked_bytes < size < header.unpacked_bytes + 5000


@pytest.mark.parametrize("keep", [3, 20, 200, 3000])
def test_a_gguf_file_that_was_cut_short_is_refused(keep: int, tiny_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "cut.gguf"
    file.write_bytes(tiny_gguf.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"cut\.gguf is (cut short|not a GGUF)"):
        unpack_gguf(file, tmp_path, "cut")


def test_a_gguf_file_without_its_last_weights_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "cut.gguf"
    file.write_bytes(tiny_gguf.read_bytes()[:-2000])
    with pytest.raises(ModelError, match="cannot be read"):
        unpack_gguf(file, tmp_path, "cut")


# --- ordinary checkpoints


def test_a_model_is_frozen_quiet_and_in_evaluation_mode(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, remarks = read_model(folder, "tiny", torch.float32, CPU, None)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.config.use_cache is True
    assert remarks == []
    assert capfd.readouterr() == ("", "")


def test_missing_weights_are_refused_instead_of_being_random(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 of the model's weights \(model\.layers\.1\.mlp\.up_proj"):
        read_model(folder, "tiny", torch.float32, CPU, None)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    edit(folder / "config.json", intermediate_size=32)
    with pytest.raises(ModelError, match="tiny"):
        read_model(folder, "tiny", torch.float32, CPU, None)


def test_tensors_that_are_not_part_of_the_model_are_remarked_on(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["left.over"] = torch.zeros(2)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    _, remarks = read_model(folder, "tiny", torch.float32, CPU, None)
    assert remarks == ["1 tensors in the files are not part of the model (left.over, ...)"]


def test_truncated_weights_are_an_error_with_the_remedy(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="run-spec models pull"):
        read_model(folder, "tiny", torch.float32, CPU, None)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": "no-such-type"}', "{}"])
def test_a_broken_configuration_is_an_error_in_our_words(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match="configuration of tiny cannot be read"):
        read_config(folder, "tiny")


def test_a_broken_tokenizer_is_an_error_in_our_words(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="tokenizer of tiny cannot be read"):
        read_tokenizer(folder, "tiny")


def test_an_attention_that_is_not_installed_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ModelError, match="cannot run with attention: flash_attention_2"):
        read_model(folder, "tiny", torch.float32, CPU, "flash_attention_2")


def test_attention_is_used_as_asked(folder: Path) -> None:
    model, _ = read_model(folder, "tiny", torch.float32, CPU, "eager")
    assert model.config._attn_implementation == "eager"


def test_the_empty_model_has_the_shapes_and_no_memory(folder: Path) -> None:
    empty = empty_model(read_config(folder, "tiny"))
    full, _ = read_model(folder, "tiny", torch.float32, CPU, None)
    assert {name: p.shape for name, p in empty.named_parameters()} == {
        name: p.shape for name, p in full.named_parameters()
    }
    assert {p.device.type for p in empty.parameters()} == {"meta"}


def test_quiet_restores_what_it_changed() -> None:
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    with pytest.raises(KeyError), quiet():
        assert not logging.is_progress_bar_enabled()
        raise KeyError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


# --- models whose neurons cannot be addressed


@pytest.mark.parametrize(
    "model_type",
    ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v3", "gpt_oss", "dbrx", "granitemoe", "phimoe"],
)
def test_mixture_of_experts_models_are_refused_with_the_reason(model_type: str) -> None:
    from transformers import AutoConfig

    with pytest.raises(ModelError, match="mixture-of-experts"):
        refuse_unsupported(AutoConfig.for_model(model_type), "it")


@pytest.mark.parametrize(
    "model_type",
    [
        "doge",
        "gemma4_text",
        "llama",
        "qwen2",
        "qwen3",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "bloom",
        "mpt",
        "opt",
        "phi3",
    ],
)
def test_dense_language_models_are_not_refused(model_type: str) -> None:
    from transformers import AutoConfig

    refuse_unsupported(AutoConfig.for_model(model_type), "it")


@pytest.mark.parametrize("model_type", ["gemma3", "llava", "qwen2_5_vl"])
def test_multi_modal_models_are_refused_with_the_reason(model_type: str) -> None:
    from transformers import AutoConfig

    with pytest.raises(ModelError, match="multi-modal"):
        refuse_unsupported(AutoConfig.for_model(model_type), "it")


def test_encoder_decoder_and_other_models_are_refused() -> None:
    from transformers import AutoConfig

    with pytest.raises(ModelError, match="encoder-decoder"):
        refuse_unsupported(AutoConfig.for_model("t5"), "it")
    with pytest.raises(ModelError, match="not a language model"):
        refuse_unsupported(AutoConfig.for_model("vit"), "it")


def test_packed_weights_are_refused(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ModelError, match=r"are packed \(gptq\)"):
        read_config(folder, "tiny")


def test_a_model_with_its_own_code_is_refused_and_its_code_not_run(folder: Path) -> None:
    (folder / "code.py").write_text("raise SystemExit('run')")
    edit(folder / "config.json", model_type="mine", auto_map={"AutoConfig": "code.Config"})
    with pytest.raises(ModelError, match="brings its own Python code"):
        read_config(folder, "tiny")
