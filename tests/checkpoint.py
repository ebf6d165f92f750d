"""A tiny random model with a tokenizer of its own, saved as a folder that ``model:`` takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

__all__ = ["CORPUS", "save_checkpoint", "tiny_tokenizer"]

CORPUS = (
    "Fact: the name of the wife of Donald Trump: Melania",
    "Fact: the name of the wife of Barack Obama: Michelle",
    "Fact: the home of Donald Trump: Florida",
    "Fact: the home of Barack Obama: Chicago",
    "Fact: the name of the mother of Ada Lovelace: Byron",
    "The age of Donald Trump. The voice of Barack Obama. The house, the job and the city of somebody else.",
)
"""Merges are learnt on these texts, so that prompts of the tests are about as long as with a real tokenizer."""

Style = Literal["bytes", "pieces"]


def tiny_tokenizer(style: Style = "bytes", *, bos: bool = False, corpus: Sequence[str] = CORPUS) -> Any:
    """Train a tokenizer that takes every text: byte-level (gpt2, qwen) or pieces with byte fallback (llama, gemma)."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>"]
    if style == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        special += [f"<0x{byte:02X}>" for byte in range(256)]
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=None))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"(?<!▁)(?=▁)|(?=\p{P})|(?<=\p{P})"), "isolated")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        alphabet = []
    trainer = trainers.BpeTrainer(
        vocab_size=600, min_frequency=1, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )


def save_checkpoint(
    folder: Path, family: str = "llama", *, style: Style = "bytes", bos: bool = False, seed: int = 0
) -> Path:
    """Write a tiny model of a family and its tokenizer to a folder, as the hub keeps them."""
    from tests.tiny import tiny_model

    tokenizer = tiny_tokenizer(style, bos=bos)
    model = tiny_model(family, seed=seed, vocab_size=len(tokenizer), max_position_embeddings=256)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
