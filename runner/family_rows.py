"""The table of model families: where the modules of each are, and what is peculiar to it.

Paths are those of transformers 5. A row stands here only if packed prompt trees of a small random model of
the family reproduce prompt-by-prompt runs at every site; the tests repeat that for each row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["FAMILIES", "Family"]

LogitRule = tuple[Literal["cap", "multiply", "divide"], str]


@dataclass(frozen=True)
class Family:
    """Where a model type keeps its parts: paths within a block unless said, None for no such part."""

    model_type: str
    blocks: str
    """Absolute path of the list of blocks."""
    norm: str
    """Absolute path of the normalisation before the head."""
    down: str
    """Down projection of the MLP: its input is the neurons."""
    out: str
    """Output projection of the attention: its input is the heads."""
    gate: str | None = None
    up: str | None = None
    gate_up: str | None = None
    """Gate and up in one projection, the gate first."""
    q: str | None = None
    k: str | None = None
    v: str | None = None
    qkv: str | None = None
    layout: Literal["parts", "groups", "quarters"] = "parts"
    """How a fused projection is cut. ``parts``: all queries, all keys, all values. ``groups``: for each
    key-value head its queries, its key, its value. ``quarters``: four times queries, values, keys."""
    conv1d: bool = False
    """Projections are Conv1D: the weight is ``[inputs, outputs]``."""
    parallel: bool | str = False
    """Attention and MLP read the same stream; a text names the config's own switch."""
    logits: LogitRule | None = None
    """What happens after the head: cap, multiply or divide by the config's field."""
    window: Literal["none", "all layers", "layer types"] = "none"
    """Where the code of the family heeds ``sliding_window``; a config may carry the field unheeded."""
    mask: Literal["plain", "alibi", "bias buffer"] = "plain"
    rewritten: tuple[str, ...] = ()
    """Sites whose tensor the block overwrites in place after it was seen."""
    streams: bool = False
    """Blocks hand on several streams at once, so there is no one residual."""
    mixer: str = ""
    """What moves values between tokens besides attention, such as ``convolution``: trees are then wrong."""


def _llama_like(model_type: str, **changes: object) -> Family:
    values: dict[str, object] = {
        "blocks": "model.layers",
        "norm": "model.norm",
        "down": "mlp.down_proj",
        "out": "self_attn.o_proj",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        **changes,
    }
    return Family(model_type, **values)  # type: ignore[arg-type]


_CAP: LogitRule = ("cap", "final_logit_softcapping")
_LATENT = {"q": None, "k": None, "v": None}
_SHORT_CONV = {
    "norm": "model.embedding_norm",
    "down": "feed_forward.w2",
    "gate": "feed_forward.w1",
    "up": "feed_forward.w3",
    "out": "self_attn.out_proj",
    "mixer": "convolution",
}

_ROWS = (
    _llama_like("llama"),
    _llama_like("qwen2", window="layer types"),
    _llama_like("qwen3", window="layer types"),
    _llama_like("mistral", window="all layers"),
    _llama_like("ministral", window="layer types"),
    _llama_like("ministral3", window="all layers"),
    _llama_like("gemma"),
    _llama_like("gemma2", window="layer types", logits=_CAP),
    _llama_like("gemma3_text", window="layer types", logits=_CAP),
    _llama_like("gemma3n_text", window="layer types", logits=_CAP, streams=True),
    _llama_like("gemma4_text", window="layer types", logits=_CAP),
    _llama_like("vaultgemma", window="layer types", logits=_CAP),
    _llama_like("olmo", rewritten=("attn.q", "attn.k", "attn.v")),
    _llama_like("olmo2"),
    _llama_like("olmo3", window="layer types"),
    _llama_like("smollm3", window="layer types"),
    _llama_like("granite", logits=("divide", "logits_scaling")),
    _llama_like("granite_swa", window="layer types", logits=("divide", "logits_scaling")),
    _llama_like("cohere", parallel=True, logits=("multiply", "logit_scale")),
    _llama_like("cohere2", parallel=True, window="layer types", logits=("multiply", "logit_scale")),
    _llama_like("hyperclovax", logits=("multiply", "logits_scaling")),
    _llama_like("exaone4", window="layer types"),
    _llama_like("cwm", window="layer types"),
    _llama_like("ernie4_5"),
    _llama_like("helium"),
    _llama_like("seed_oss"),
    _llama_like("hunyuan_v1_dense"),
    _llama_like("bitnet"),
    _llama_like("doge", window="all layers"),
    _llama_like("diffllama"),
    _llama_like("stablelm", parallel="use_parallel_residual"),
    _llama_like("minicpm3", **_LATENT),
    _llama_like("youtu", **_LATENT),
    _llama_like("arcee", gate=None),
    _llama_like("apertus", gate=None),
    _llama_like("nemotron", gate=None),
    _llama_like("jais2", gate=None),
    _llama_like("nanochat", gate=None, up="mlp.fc1", down="mlp.fc2", logits=_CAP),
    _llama_like("starcoder2", gate=None, up="mlp.c_fc", down="mlp.c_proj", window="all layers"),
    _llama_like(
        "phi",
        norm="model.final_layernorm",
        gate=None,
        up="mlp.fc1",
        down="mlp.fc2",
        out="self_attn.dense",
        parallel=True,
    ),
    _llama_like("glm", gate=None, up=None, gate_up="mlp.gate_up_proj"),
    _llama_like("glm4", gate=None, up=None, gate_up="mlp.gate_up_proj"),
    _llama_like(
        "phi3",
        gate=None,
        up=None,
        gate_up="mlp.gate_up_proj",
        **_LATENT,
        qkv="self_attn.qkv_proj",
        window="all layers",
    ),
    _llama_like(
        "persimmon",
        norm="model.final_layernorm",
        gate=None,
        up="mlp.dense_h_to_4h",
        down="mlp.dense_4h_to_h",
        out="self_attn.dense",
        **_LATENT,
        qkv="self_attn.query_key_value",
        layout="groups",
    ),
    _llama_like(
        "opt",
        blocks="model.decoder.layers",
        norm="model.decoder.final_layer_norm",
        gate=None,
        up="fc1",
        down="fc2",
        out="self_attn.out_proj",
    ),
    _llama_like("xglm", norm="model.layer_norm", gate=None, up="fc1", down="fc2", out="self_attn.out_proj"),
    _llama_like(
        "biogpt",
        blocks="biogpt.layers",
        norm="biogpt.layer_norm",
        gate=None,
        up="fc1",
        down="fc2",
        out="self_attn.out_proj",
    ),
    Family(
        "gpt2",
        "transformer.h",
        "transformer.ln_f",
        down="mlp.c_proj",
        out="attn.c_proj",
        up="mlp.c_fc",
        qkv="attn.c_attn",
        conv1d=True,
    ),
    Family(
        "gpt_bigcode",
        "transformer.h",
        "transformer.ln_f",
        down="mlp.c_proj",
        out="attn.c_proj",
        up="mlp.c_fc",
        qkv="attn.c_attn",
        layout="groups",
    ),
    Family(
        "gpt_neo",
        "transformer.h",
        "transformer.ln_f",
        down="mlp.c_proj",
        out="attn.attention.out_proj",
        up="mlp.c_fc",
        q="attn.attention.q_proj",
        k="attn.attention.k_proj",
        v="attn.attention.v_proj",
        mask="bias buffer",
    ),
    Family(
        "gptj",
        "transformer.h",
        "transformer.ln_f",
        down="mlp.fc_out",
        out="attn.out_proj",
        up="mlp.fc_in",
        q="attn.q_proj",
        k="attn.k_proj",
        v="attn.v_proj",
        parallel=True,
    ),
    Family(
        "codegen",
        "transformer.h",
        "transformer.ln_f",
        down="mlp.fc_out",
        out="attn.out_proj",
        up="mlp.fc_in",
        qkv="attn.qkv_proj",
        layout="quarters",
        parallel=True,
    ),
    Family(
        "gpt_neox",
        "gpt_neox.layers",
        "gpt_neox.final_layer_norm",
        down="mlp.dense_4h_to_h",
        out="attention.dense",
        up="mlp.dense_h_to_4h",
        qkv="attention.query_key_value",
        layout="groups",
        parallel="use_parallel_residual",
    ),
    Family(
        "bloom",
        "transformer.h",
        "transformer.ln_f",
        down="mlp.dense_4h_to_h",
        out="self_attention.dense",
        up="mlp.dense_h_to_4h",
        qkv="self_attention.query_key_value",
        layout="groups",
        mask="alibi",
    ),
    Family(
        "falcon",
        "transformer.h",
        "transformer.ln_f",
        down="mlp.dense_4h_to_h",
        out="self_attention.dense",
        up="mlp.dense_h_to_4h",
        qkv="self_attention.query_key_value",
        layout="groups",
        parallel="parallel_attn",
        rewritten=("mlp.out",),
    ),
    Family(
        "mpt",
        "transformer.blocks",
        "transformer.norm_f",
        down="ffn.down_proj",
        out="attn.out_proj",
        up="ffn.up_proj",
        qkv="attn.Wqkv",
        mask="alibi",
    ),
    # Trees are wrong here; padded rows are right. The packing self-test finds that out at load.
    _llama_like("lfm2", **_SHORT_CONV),
    _llama_like("olmo_hybrid", mixer="linear attention"),
    _llama_like("qwen3_5_text", mixer="linear attention"),
    _llama_like(
        "falcon_h1",
        norm="model.final_layernorm",
        gate="feed_forward.gate_proj",
        up="feed_forward.up_proj",
        down="feed_forward.down_proj",
        mixer="a state space",
    ),
)

FAMILIES: Mapping[str, Family] = MappingProxyType({row.model_type: row for row in _ROWS})
