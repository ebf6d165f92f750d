"""The one door to transformers: read configurations, tokenizers and weights, and unpack GGUF files."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from runner.models.cache import Progress, no_progress, room_errors
from runner.models.gguf_header import read_gguf_header
from specs.language.errors import ModelError, RunSpecError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

__all__ = [
    "empty_model",
    "quiet",
    "read_config",
    "read_model",
    "read_tokenizer",
    "refuse_unsupported",
    "unpack_gguf",
    "versions",
]

# How a byte-level vocabulary in a GGUF file says text is to be cut before merging. These are rebuilt by
# transformers (5.23) or here; with any other the tokens would differ from the model's own, in silence.
_REBUILT_CUTS = frozenset(
    [
        "dbrx",
        "deepseek-r1-qwen",
        "f2llmv2",
        "falcon-h1",
        "falcon3",
        "gpt-2",
        "gpt-4o",
        "kanana2",
        "kormo",
        "lfm2",
        "llama-bpe",
        "llama-v3",
        "llama3",
        "llama4",
        "megrez",
        "midm-2.0",
        "minimax-m2",
        "pixtral",
        "qwen2",
        "qwen35",
        "smaug-bpe",
        "smollm",
        "tekken",
    ]
)

# A count above one under any of these names means a router chooses among parallel MLPs.
_EXPERT_COUNTS = (
    "num_local_experts",
    "num_experts",
    "n_routed_experts",
    "num_routed_experts",
    "moe_num_experts",
    "n_experts",
    "expert_num",
)
# Some configurations state a count of experts and, beside it, whether there are any.
_EXPERT_SWITCHES = ("is_moe", "enable_moe_block")
_OTHER_SENSES = ("vision_config", "audio_config", "speech_config", "image_config", "video_config")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and warnings off the terminal; what matters in them is checked instead."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def versions() -> dict[str, str]:
    """Give the versions of the libraries that turn files into a model."""
    from importlib.metadata import version

    return {name: version(name) for name in ("transformers", "tokenizers", "safetensors", "torch")}


def read_config(folder: Path, name: str) -> PretrainedConfig:
    """Read a model's configuration. Raises ModelError for one that cannot be read or run."""
    from transformers import AutoConfig

    with quiet():
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except RunSpecError:
            raise
        except Exception as error:
            raise _unreadable("configuration", name, error) from error
    refuse_unsupported(config, name)
    return config


def refuse_unsupported(config: PretrainedConfig, name: str) -> None:
    """Raise ModelError for a model whose neurons could not be addressed, with the reason."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    parts = [config, *(part for key in ("text_config", "ffn_config") if (part := getattr(config, key, None)))]
    for part in parts:
        stated = part if isinstance(part, dict) else vars(part)
        if any(stated.get(switch) is False for switch in _EXPERT_SWITCHES):
            continue
        for key in _EXPERT_COUNTS:
            count = part.get(key) if isinstance(part, dict) else getattr(part, key, None)
            if isinstance(count, int) and count > 1:
                raise ModelError(
                    f"{name} is a mixture-of-experts model ({key}: {count}): its expert layers are fused, "
                    "so that no module carries the activation of one neuron",
                    remedy="choose a dense model of the same family",
                )
    if senses := [key.removesuffix("_config") for key in _OTHER_SENSES if getattr(config, key, None) is not None]:
        raise ModelError(
            f"{name} is a multi-modal model (text and {', '.join(senses)}): its language model is wrapped in another",
            remedy="choose the text-only checkpoint of the same family",
        )
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{name} is an encoder-decoder model; run-spec runs decoder-only language models")
    if packing := getattr(config, "quantization_config", None):
        method = packing.get("quant_method") if isinstance(packing, dict) else getattr(packing, "quant_method", "")
        raise ModelError(
            f"the weights of {name} are packed ({method}): their layers are not plain linear maps",
            remedy="choose the unquantised checkpoint, or a GGUF file, which is unpacked on loading",
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"{name} (type '{config.model_type}') is not a language model that transformers can load")


def read_tokenizer(folder: Path, name: str) -> PreTrainedTokenizerFast:
    """Read a tokenizer that knows which characters each token covers."""
    from transformers import AutoTokenizer

    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            raise _unreadable("tokenizer", name, error) from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer of {name} ({type(tokenizer).__name__}) gives no character offsets, "
            "by which the entity's tokens are found",
            remedy="choose a model with a tokenizer.json",
        )
    return tokenizer


def empty_model(config: PretrainedConfig) -> PreTrainedModel:
    """Build a model without weights (on the meta device): its modules and shapes, in no memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with quiet(), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def read_model(
    folder: Path, name: str, dtype: torch.dtype, device: torch.device, attention: str | None
) -> tuple[PreTrainedModel, list[str]]:
    """Read a model's weights; give the model, frozen and in evaluation mode, and remarks on the files.

    Raises ModelError when a weight that the model needs is not in the files (it would be random), when
    the attention implementation is not to be had, and when memory does not suffice.
    """
    import torch
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "trust_remote_code": False}
    if attention is not None:
        options["attn_implementation"] = attention
    if device.type != "cpu":
        options["device_map"] = {"": device}  # straight to the device, not through as much host memory
    with quiet():
        try:
            model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise ModelError(
                f"{name} does not fit into the memory of {device} in {str(dtype).removeprefix('torch.')}",
                remedy="choose a smaller model, dtype: bfloat16, or another device",
            ) from error
        except Exception as error:
            raise _unreadable("model", name, error, attention) from error
    missing = sorted({*report.get("missing_keys", ()), *(str(key) for key in report.get("mismatched_keys", ()))})
    if missing:
        raise ModelError(
            f"the files of {name} lack {len(missing)} of the model's weights ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}); they would be random",
            remedy="the checkpoint is not complete, or is of another kind than its config.json says",
        )
    remarks = []
    if unexpected := sorted(report.get("unexpected_keys", ())):
        remarks.append(f"{len(unexpected)} tensors in the files are not part of the model ({unexpected[0]}, ...)")
    model.eval()
    model.requires_grad_(False)
    return model, remarks


def unpack_gguf(file: Path, folder: Path, name: str, progress: Progress = no_progress) -> dict[str, str]:
    """Write a GGUF file as an ordinary checkpoint (config, tokenizer, float32 safetensors) into a folder.

    A quantised weight is a small integer times a float16 scale (plus an offset). Its value needs more
    than the 8 or 11 significant bits of bfloat16 or float16, so that float32 alone keeps what the file
    says; rounding to another format then happens once, at load, as if from the file itself.

    Gives what was done, for the record. Raises ModelError for a file that cannot be read, for an
    architecture or a tokenizer that cannot be rebuilt exactly, and when weights are missing.
    """
    import torch
    import transformers

    options: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    progress("de-quantise", 0, None)
    tokenizer, cut = _gguf_tokenizer(file, name)
    with quiet(), _reading_gguf(progress):
        try:
            config = transformers.AutoConfig.from_pretrained(file.parent, **options)
        except Exception as error:
            raise _unreadable("GGUF file", name, error) from error
        refuse_unsupported(config, name)
        # without the flag the weights may stay packed, and then a Linear is not a plain Linear
        packing = getattr(transformers, "GgufConfig", None)
        if packing is not None:
            options["quantization_config"] = packing(dequantize=True)
        try:
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                file.parent, config=config, dtype=torch.float32, output_loading_info=True, **options
            )
        except MemoryError as error:
            raise ModelError(f"there is not enough memory to de-quantise {name}") from error
        except Exception as error:
            raise _unreadable("GGUF file", name, error) from error
        if missing := sorted(report.get("missing_keys", ())):
            raise ModelError(
                f"{file.name} lacks {len(missing)} of the model's weights ({', '.join(missing[:3])}, ...)",
                remedy="the file is of another architecture than it says, or transformers cannot map it",
            )
        packed = [key for key, value in model.state_dict().items() if not value.is_floating_point()]
        if packed:
            raise ModelError(f"{file.name} could not be de-quantised: {packed[0]} is still packed")
        model.config.name_or_path = model.config._name_or_path = name
        progress("write", 0, None)
        with room_errors(folder):
            # one file, however large, so that every checkpoint in the cache looks the same
            model.save_pretrained(folder, safe_serialization=True, max_shard_size="1000GB")
            tokenizer.save_pretrained(folder)
    return {"tokenizer": cut, **versions()}


def _gguf_tokenizer(file: Path, name: str) -> tuple[PreTrainedTokenizerFast, str]:
    """Rebuild the tokenizer that a GGUF file describes, or take the tokenizer.json beside the file."""
    from tokenizers import normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if (file.parent / "tokenizer.json").is_file():
        return read_tokenizer(file.parent, name), "tokenizer.json beside the file"
    fields = read_gguf_header(file).fields
    kind, cut = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if kind == "gpt2" and cut not in _REBUILT_CUTS:
        raise ModelError(
            f"the tokenizer in {file.name} cuts text in a way ('{cut}') that cannot be rebuilt here exactly",
            remedy="put the model's own tokenizer.json and tokenizer_config.json beside the file",
        )
    with quiet():
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
        except Exception as error:
            raise _unreadable("tokenizer in the GGUF file", name, error) from error
    backend = tokenizer.backend_tokenizer
    if cut == "smollm":  # each digit apart, which decides where a run of spaces before a number is cut
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    if cut == "qwen2" and backend.normalizer is None:  # composed accents, as the model was trained on
        backend.normalizer = normalizers.NFC()
    return tokenizer, f"rebuilt from the file ({kind}, {cut})"


@contextlib.contextmanager
def _reading_gguf(progress: Progress) -> Iterator[None]:
    """Let transformers read a GGUF header once instead of twice, and report to us instead of the terminal.

    Both are stand-ins for names that its reader looks up when it runs: parsing a vocabulary of 262,144
    tokens takes ten seconds each time, and its bar for de-quantising cannot be switched off.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as reader

    def counted(tensors: Any, **_: Any) -> Iterator[Any]:
        # by bytes, not by tensors: the embedding matrix is a third of a small model
        sizes = [int(tensor.n_bytes) for tensor in tensors]
        done = 0
        for tensor, size in zip(tensors, sizes, strict=True):
            yield tensor
            done += size
            progress("de-quantise", done, sum(sizes))

    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(gguf, "GGUFReader", functools.cache(gguf.GGUFReader)))
        if hasattr(reader, "tqdm"):
            stack.enter_context(patch.object(reader, "tqdm", counted))
        yield


def _unreadable(what: str, name: str, error: Exception, attention: str | None = None) -> ModelError:
    """Say in our words why transformers refused; a programming error keeps its cause in the chain."""
    text = " ".join(str(error).split())[:300]
    if attention is not None and re.search(r"attn|attention", text, re.IGNORECASE):
        return ModelError(
            f"{name} cannot run with attention: {attention} ({text})",
            remedy="leave it out, or write eager or sdpa",
        )
    if "trust_remote_code" in text or "custom code" in text:
        return ModelError(
            f"{name} brings its own Python code, which run-spec does not run",
            remedy="choose a model whose family is part of transformers",
        )
    return ModelError(
        f"the {what} of {name} cannot be read: {type(error).__name__}: {text}",
        remedy="`run-spec models pull` checks and repairs what is in the cache; a folder is yours to mend",
    )
