"""A byte-level tokenizer that knows the words of the shipped prompts, and names made to be cut by it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.planted.recipe import Recipe
from benchmarks.planted.words import ENDINGS, FIRST, PLACEHOLDERS, RELATIONS, STEMS, SURNAMES
from specs.language.shipped import shipped_list

__all__ = ["MOST_TOKENS", "Name", "make_names", "make_tokenizer", "name_like", "ordinary_tokens", "plain"]

MOST_TOKENS = 4
"""Tokens of the longest planted name: itself and the three before it."""
TRIES = 1000
"""Draws in a row that may bring no new name."""
SPACE = "Ġ"
"""How the vocabulary writes a leading space."""


@dataclass(frozen=True)
class Name:
    """A name and its token ids after other text."""

    text: str
    tokens: tuple[int, ...]


def make_tokenizer(*, bos: bool) -> Any:
    """Train the tokenizer until each word of its corpus is one token; what it has not seen falls into pieces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=30_000,
        min_frequency=1,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
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


def _corpus() -> Iterator[str]:
    yield from _ordinary(after_answer=".")
    for word in (*FIRST, *SURNAMES, *STEMS, *PLACEHOLDERS):
        yield f" {word}"
        yield word  # as at the beginning of a text
    yield from ENDINGS


def plain(token: str) -> str:
    """Give a token's text without the mark of a leading space."""
    return token.removeprefix(SPACE)


def make_names(tokenizer: Any, recipe: Recipe, rng: random.Random) -> list[Name]:
    """Draw distinct names of one to four tokens that no other one ends with.

    A third of them end within a word, and many share first or last tokens. Raises ValueError where there are not
    enough.
    """
    names: list[Name] = []
    whole: set[tuple[int, ...]] = set()
    ends: set[tuple[int, ...]] = set()
    ordinary = ordinary_tokens(tokenizer)
    compound = [stem + ending for stem in STEMS for ending in ENDINGS]
    in_vain = 0
    while len(names) < recipe.entities:
        in_vain += 1
        if in_vain > TRIES:
            raise ValueError(f"there are not enough names for {recipe.entities} entities, but for {len(names)}")
        kind = rng.random()
        last = rng.choice(compound) if rng.random() < 0.35 else rng.choice(SURNAMES)
        if kind < 0.04:
            text = rng.choice([*SURNAMES, *compound])
        elif kind < 0.16:
            text = f"{rng.choice(FIRST)} {rng.choice(FIRST)} {last}"
        else:
            text = f"{rng.choice(FIRST)} {last}"
        tokens = _cut(tokenizer, text)
        if tokens is None or ordinary & set(tokens):
            continue
        own_ends = {tokens[i:] for i in range(len(tokens))}
        if tokens in ends or own_ends & whole:
            continue
        whole.add(tokens)
        ends |= own_ends
        names.append(Name(text, tokens))
        in_vain = 0
    return names


def _cut(tokenizer: Any, text: str) -> tuple[int, ...] | None:
    """Give a name's tokens, if it is cut alike after a word and at the beginning of a text."""
    after = tokenizer(f"of {text}", add_special_tokens=False)["input_ids"][1:]
    first = tokenizer(text, add_special_tokens=False)["input_ids"]
    alike = [plain(t) for t in tokenizer.convert_ids_to_tokens(after)] == [
        plain(t) for t in tokenizer.convert_ids_to_tokens(first)
    ]
    return tuple(after) if alike and len(after) <= MOST_TOKENS else None


def name_like(tokenizer: Any, names: Sequence[Name]) -> set[int]:
    """List the tokens that stand for somebody wherever they are seen: of names, strangers and placeholders."""
    somebody = [*(n.text for n in names), *PLACEHOLDERS, *shipped_list("strangers"), *shipped_list("dummies")]
    found: set[int] = set()
    for text in somebody:
        for form in (text, f" {text}"):
            found.update(tokenizer(form, add_special_tokens=False)["input_ids"])
    return found - ordinary_tokens(tokenizer)


def ordinary_tokens(tokenizer: Any) -> set[int]:
    """List the tokens of the shipped prompts, the questions and the answers, which are about nobody."""
    found: set[int] = set()
    for text in _ordinary():
        found.update(tokenizer(text, add_special_tokens=False)["input_ids"])
    return found


def _ordinary(after_answer: str = "") -> Iterator[str]:
    """Give the shipped prompts, the questions and the answers."""
    for name in ("attributes", "generic", "neutral"):
        for text in shipped_list(name):
            yield text.replace("{{ entity }}", "").rstrip()
    for relation in RELATIONS.values():
        for prompt in relation.prompts:
            yield prompt.replace("{{ entity }}", "").replace("  ", " ").strip()
        yield from (f" {answer}{after_answer}" for answer in relation.answers)
