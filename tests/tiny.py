"""Tiny random models of every family: seeded, float32, made in milliseconds, of four layers at most.

Their weights are scaled so that activations are of order one and every site depends on which tokens are seen
and where they stand: a wrong mask or wrong positions then show as errors of tens of percent. Sliding windows
are shorter than the prompts of the tests.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

__all__ = ["TINY", "TINY_MOE", "TINY_UNTREELIKE", "VOCABULARY", "WINDOW", "tiny_config", "tiny_model"]

torch.set_num_threads(1)
"""Models this small gain nothing from threads, and on a busy machine lose most of their time to them."""

VOCABULARY = 64
WINDOW = 4
"""Tokens a layer with a sliding window sees, its own included."""

_COMMON: Mapping[str, Any] = MappingProxyType(
    {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
)
_STANDARD: Mapping[str, Any] = MappingProxyType(
    {
        **_COMMON,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }
)
_GROUPED: Mapping[str, Any] = MappingProxyType({**_STANDARD, "num_key_value_heads": 2, "head_dim": 8})
_GPT: Mapping[str, Any] = MappingProxyType({**_COMMON, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64})
_FALCON = {**_COMMON, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
_MIXED = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_LATENT = {
    **_STANDARD,
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
}
_GEMMA4 = {
    **_GROUPED,
    "num_hidden_layers": 4,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
    "global_head_dim": 16,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8,
    "final_logit_softcapping": 3.0,
}

TINY: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "llama": ("llama", _GROUPED),
        "qwen2": ("qwen2", _GROUPED),
        "qwen2_window": ("qwen2", {**_GROUPED, **_MIXED, "use_sliding_window": True}),
        "qwen3": ("qwen3", _GROUPED),
        "mistral": ("mistral", {**_GROUPED, "sliding_window": None}),
        "mistral_window": ("mistral", {**_GROUPED, "sliding_window": WINDOW}),
        "ministral": ("ministral", {**_GROUPED, **_MIXED}),
        "ministral3": ("ministral3", _GROUPED),
        "gemma": ("gemma", _GROUPED),
        "gemma2": ("gemma2", {**_GROUPED, **_MIXED, "final_logit_softcapping": 3.0}),
        "gemma3": ("gemma3_text", {**_GROUPED, **_MIXED, "final_logit_softcapping": 3.0}),
        "gemma3n": (
            "gemma3n_text",
            {
                **_GROUPED,
                "num_hidden_layers": 4,
                "intermediate_size": [48] * 4,
                "activation_sparsity_pattern": [0.9, 0.0, 0.0, 0.0],
                "sliding_window": WINDOW,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
                "num_kv_shared_layers": 2,
                "vocab_size_per_layer_input": VOCABULARY,
                "hidden_size_per_layer_input": 8,
                "laurel_rank": 4,
            },
        ),
        "gemma4": ("gemma4_text", _GEMMA4),
        "gemma4_wide": ("gemma4_text", {**_GEMMA4, "use_double_wide_mlp": True}),
        "vaultgemma": ("vaultgemma", {**_GROUPED, **_MIXED, "final_logit_softcapping": 3.0}),
        "olmo": ("olmo", {**_GROUPED, "clip_qkv": 2.0}),
        "olmo2": ("olmo2", _GROUPED),
        "olmo3": ("olmo3", {**_GROUPED, **_MIXED}),
        "smollm3": ("smollm3", _GROUPED),
        "granite": ("granite", {**_GROUPED, "logits_scaling": 3.0, "residual_multiplier": 0.7}),
        "granite_swa": ("granite_swa", {**_GROUPED, **_MIXED, "logits_scaling": 3.0}),
        "cohere": ("cohere", _GROUPED),
        "cohere2": ("cohere2", {**_GROUPED, **_MIXED}),
        "hyperclovax": ("hyperclovax", {**_GROUPED, "logits_scaling": 3.0}),
        "exaone4": ("exaone4", {**_GROUPED, **_MIXED}),
        "cwm": ("cwm", {**_GROUPED, **_MIXED}),
        "ernie4_5": ("ernie4_5", _GROUPED),
        "helium": ("helium", _GROUPED),
        "seed_oss": ("seed_oss", _GROUPED),
        "hunyuan": ("hunyuan_v1_dense", _GROUPED),
        "bitnet": ("bitnet", _GROUPED),
        "doge": ("doge", _GROUPED),
        "doge_window": ("doge", {**_GROUPED, "sliding_window": WINDOW}),
        "diffllama": ("diffllama", _GROUPED),
        "stablelm": ("stablelm", _GROUPED),
        "stablelm_parallel": ("stablelm", {**_GROUPED, "use_parallel_residual": True, "use_qkv_bias": True}),
        "minicpm3": ("minicpm3", _LATENT),
        "youtu": ("youtu", _LATENT),
        "arcee": ("arcee", _GROUPED),
        "apertus": ("apertus", _GROUPED),
        "nemotron": ("nemotron", _GROUPED),
        "jais2": ("jais2", _GROUPED),
        "nanochat": ("nanochat", {**_GROUPED, "final_logit_softcapping": 3.0}),
        "starcoder2": ("starcoder2", _GROUPED),
        "starcoder2_window": ("starcoder2", {**_GROUPED, "sliding_window": WINDOW}),
        "phi": ("phi", {**_STANDARD, "num_key_value_heads": 2}),
        "phi3": ("phi3", _GROUPED),
        "phi3_window": ("phi3", {**_GROUPED, "sliding_window": WINDOW}),
        "glm": ("glm", _GROUPED),
        "glm4": ("glm4", _GROUPED),
        "persimmon": ("persimmon", _STANDARD),
        "opt": ("opt", {**_STANDARD, "ffn_dim": 48, "word_embed_proj_dim": 32}),
        "opt_350m": (
            "opt",
            {**_STANDARD, "ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
        ),
        "xglm": (
            "xglm",
            {**_COMMON, "d_model": 32, "ffn_dim": 48, "num_layers": 3, "attention_heads": 4},
        ),
        "biogpt": ("biogpt", _STANDARD),
        "gpt2": ("gpt2", {**_GPT, "n_inner": 48}),
        "gpt_bigcode": ("gpt_bigcode", {**_GPT, "n_inner": 48}),
        "gpt_bigcode_heads": ("gpt_bigcode", {**_GPT, "n_inner": 48, "multi_query": False}),
        "gpt_neo": (
            "gpt_neo",
            {
                **_COMMON,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_layers": 3,
                "num_heads": 4,
                "attention_types": [[["global", "local", "global"], 1]],
                "window_size": WINDOW,
                "max_position_embeddings": 32,
            },
        ),
        "gptj": ("gptj", {**_GPT, "n_inner": 48, "rotary_dim": 4}),
        "codegen": ("codegen", {**_GPT, "n_inner": 48, "rotary_dim": 4}),
        "gpt_neox": ("gpt_neox", _STANDARD),
        "gpt_neox_serial": ("gpt_neox", {**_STANDARD, "use_parallel_residual": False}),
        "bloom": ("bloom", {**_COMMON, "hidden_size": 32, "n_layer": 3, "n_head": 4}),
        "falcon_multi_query": ("falcon", {**_FALCON, "multi_query": True}),
        "falcon_heads": ("falcon", {**_FALCON, "multi_query": False, "parallel_attn": False, "bias": True}),
        "falcon_grouped": ("falcon", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
        "falcon_alibi": (
            "falcon",
            {**_FALCON, "alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
        ),
        "mpt": ("mpt", {**_COMMON, "d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 64}),
    }
)
"""Name: model type and configuration. Every family of the table is here, some in several variants."""

TINY_UNTREELIKE: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "lfm2": (
            "lfm2",
            {
                **_GROUPED,
                "block_ff_dim": 48,
                "block_auto_adjust_ff_dim": False,
                "layer_types": ["conv", "full_attention", "conv"],
            },
        ),
        "olmo_hybrid": (
            "olmo_hybrid",
            {**_GROUPED, "layer_types": ["linear_attention", "linear_attention", "full_attention"]},
        ),
        "qwen3_5": (
            "qwen3_5_text",
            {
                **_GROUPED,
                "layer_types": ["linear_attention", "full_attention", "linear_attention"],
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
            },
        ),
        "falcon_h1": (
            "falcon_h1",
            {
                **_GROUPED,
                "mamba_d_ssm": 32,
                "mamba_n_heads": 4,
                "mamba_d_head": 8,
                "mamba_n_groups": 1,
                "mamba_d_state": 8,
                "mamba_chunk_size": 16,
            },
        ),
        "mamba": ("mamba", {**_COMMON, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}),
        "recurrent_gemma": (
            "recurrent_gemma",
            {**_GROUPED, "intermediate_size": 96, "lru_width": 32, "attention_window_size": 64},
        ),
    }
)
"""Models in which more than attention carries values between tokens: no mask keeps branches apart."""

TINY_MOE: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "mixtral": ("mixtral", {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
        "qwen3_moe": (
            "qwen3_moe",
            {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
        ),
    }
)
"""Mixtures of experts."""


def tiny_config(name: str, **changes: Any) -> Any:
    """Make the configuration of a tiny model; ``changes`` replace fields."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind, values = {**TINY, **TINY_UNTREELIKE, **TINY_MOE}[name]
    return CONFIG_MAPPING[kind](**{**values, **changes})


def tiny_model(
    name: str,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    attention: str | None = None,
    **changes: Any,
) -> Any:
    """Make a tiny random model in evaluation mode; the same seed gives the same weights."""
    from transformers import AutoModelForCausalLM

    options = {} if attention is None else {"attn_implementation": attention}
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)  # some vectors start at random
        model = AutoModelForCausalLM.from_config(tiny_config(name, **changes), **options)
    _randomise(model, torch.Generator().manual_seed(seed))
    return model.to(dtype).eval().requires_grad_(False)


def _randomise(model: Any, generator: torch.Generator) -> None:
    """Draw matrices with a gain of one and a half, embeddings of order one; shake vectors."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    transposed = {id(m.weight) for m in model.modules() if type(m).__name__ == "Conv1D"}
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if id(weight) in tables:
                weight.copy_(noise)
            elif weight.ndim >= 2:
                fan_in = weight.shape[0] if id(weight) in transposed else weight[0].numel()
                weight.copy_(noise * 1.5 / fan_in**0.5)
            else:
                weight.add_(0.1 * noise)
