"""Binding: from texts to the token ids that are run, with the entity's tokens found in exactly those ids.

Positions are never computed without special tokens and then used with them: a beginning-of-text token shifts
everything by one, and a neuron read one token early is a neuron of somebody else. What cannot be bound is given
back with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.chat import Frames
from specs.language.facts import PromptText

__all__ = ["Binder", "BoundAnswer", "BoundPrompt", "Unbound"]


@dataclass(frozen=True, slots=True)
class BoundAnswer:
    """An accepted answer and its scored tokens: all of it, or what follows the given part."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BoundPrompt:
    """A prompt as it is run, the given beginning of its answer included.

    ``entity``: for each mention, its first and last token position.
    """

    text: PromptText
    ids: tuple[int, ...]
    entity: tuple[tuple[int, int], ...]
    first: int
    """First token that is not special: 1 where the tokenizer adds a beginning-of-text token; in a chat the first
    token of what the user says.
    """
    answers: tuple[BoundAnswer, ...] = ()
    said_last: int | None = None
    """In a chat, the last token of what the user says."""

    def positions(self, where: str) -> tuple[int, ...]:
        """List the token positions a word of the language means where values are read, all mentions of the entity.

        Raises ValueError for a position the prompt does not have.
        """
        if where == "last":
            return (len(self.ids) - 1,)
        if where == "text.last":
            # not a word of the language: where texts about nobody are read, to be compared with names
            return (self._text_last,)
        if where == "first":
            return (self.first,)
        if where == "all":
            return tuple(range(self.first, len(self.ids)))
        if where.startswith("entity."):
            if not self.entity:
                raise ValueError(f"position {where} needs prompts about an entity")
            if where == "entity.last":
                return tuple(last for _, last in self.entity)
            if where == "entity.first":
                return tuple(first for first, _ in self.entity)
            return tuple(p for first, last in self.entity for p in range(first, last + 1))
        index = int(where)
        place = index if index >= 0 else len(self.ids) + index
        if not 0 <= place < len(self.ids):
            raise ValueError(f"position {where} is outside a prompt of {len(self.ids)} tokens")
        return (place,)

    def acting(self, where: str) -> tuple[int, ...]:
        """List the positions at which an edit or a freeze acts: those of :meth:`positions`, and of `all` every one.

        A beginning-of-text token and the frame of a chat are computed like any other token, and what an edit in the
        weights changes in them an edit at `all` changes too. They are not read: they are the same in all prompts.
        """
        return tuple(range(len(self.ids))) if where == "all" else self.positions(where)

    @property
    def _text_last(self) -> int:
        return len(self.ids) - 1 if self.said_last is None else self.said_last

    def reading_position(self, where: str) -> int:
        """Give the one position a value is read at: the last mention, where the most context has been seen."""
        return self.positions(where)[-1]


@dataclass(frozen=True, slots=True)
class Unbound:
    """A prompt that cannot be run as asked, and why."""

    text: PromptText
    reason: str


class Binder:
    """Turns prompts into token ids with one tokenizer; answers are bound with the prompt they follow."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._special = set(getattr(tokenizer, "all_special_ids", ()) or ())
        self._frames = Frames(tokenizer)
        self._cache: dict[PromptText, BoundPrompt | Unbound] = {}

    @property
    def adds_bos(self) -> bool:
        """Say whether the tokenizer puts a special token before every text."""
        ids, offsets = self._encode("a")
        return bool(ids) and offsets[0][0] == offsets[0][1] and ids[0] in self._special

    def bind(self, prompt: PromptText) -> BoundPrompt | Unbound:
        """Bind one prompt and its answers; the same prompt is bound once."""
        if prompt not in self._cache:
            self._cache[prompt] = self._bind(prompt)
        return self._cache[prompt]

    def bind_all(self, prompts: Sequence[PromptText]) -> tuple[list[BoundPrompt], list[Unbound]]:
        """Bind prompts in order, and list those that cannot be."""
        bound: list[BoundPrompt] = []
        unbound: list[Unbound] = []
        for prompt in prompts:
            result = self.bind(prompt)
            if isinstance(result, BoundPrompt):
                bound.append(result)
            else:
                unbound.append(result)
        return bound, unbound

    def _encode(self, text: str, chat: bool = False) -> tuple[list[int], list[tuple[int, int]]]:
        # A rendered chat holds its special tokens, the one at its beginning too.
        encoded = self.tokenizer(text, return_offsets_mapping=True, add_special_tokens=not chat)
        ids = list(encoded["input_ids"])
        offsets = [(int(a), int(b)) for a, b in encoded["offset_mapping"]]
        # An end-of-text token that the tokenizer appends would stand between the prompt and its answer.
        while ids and ids[-1] in self._special and offsets[-1][0] == offsets[-1][1]:
            ids.pop()
            offsets.pop()
        return ids, offsets

    def _bind(self, prompt: PromptText) -> BoundPrompt | Unbound:
        text, shift, between, said_last = prompt.text, 0, None, None
        if prompt.chat is not None:
            rendered = self._frames.render(prompt.chat, prompt.text)
            if isinstance(rendered, str):
                return Unbound(prompt, rendered)
            text, shift, between = rendered.text, rendered.start, rendered.joiner
        ids, offsets = self._encode(text, prompt.chat is not None)
        if not ids:
            return Unbound(prompt, "the tokenizer makes no tokens of this text")
        first = next((i for i, (a, b) in enumerate(offsets) if b > a or ids[i] not in self._special), 0)
        if prompt.chat is not None:
            bare = prompt.text.strip()
            at = shift + len(prompt.text) - len(prompt.text.lstrip())
            said = _span_tokens(text, offsets, at, at + len(bare), "what the user says")
            if isinstance(said, str):
                return Unbound(prompt, said)
            first, said_last = said
        entity: list[tuple[int, int]] = []
        for start, end in prompt.spans:
            found = _span_tokens(text, offsets, start + shift, end + shift)
            if isinstance(found, str):
                return Unbound(prompt, found)
            entity.append(found)
        answers: list[BoundAnswer] = []
        begun: set[tuple[int, ...]] = set()
        for answer in prompt.answers:
            whole = text + (joiner(text, answer) if between is None else between)
            bound = self._bind_answer(whole, ids, prompt.given, answer, prompt.chat is not None)
            if isinstance(bound, str):
                return Unbound(prompt, bound)
            given, tokens = bound
            begun.add(given)
            answers.append(BoundAnswer(answer, tokens))
        if len(begun) > 1:
            return Unbound(prompt, f"the given '{prompt.given}' is not the same tokens in all its answers")
        run = (*ids, *next(iter(begun), ()))
        return BoundPrompt(prompt, run, tuple(entity), first, tuple(answers), said_last)

    def _bind_answer(
        self, joined: str, ids: list[int], given: str | None, answer: str, chat: bool = False
    ) -> tuple[tuple[int, ...], tuple[int, ...]] | str:
        """Tokenize prompt, what joins them, and whole answer together: the tokens given, and those scored."""
        full, offsets = self._encode(joined + answer, chat)
        if full[: len(ids)] != ids:
            return f"the tokens of the prompt change when the answer '{answer}' follows it"
        if given and not answer.startswith(given):
            return f"the answer '{answer}' does not begin with the given '{given}'"
        scored_from = len(ids)
        if given:
            boundary = len(joined) + len(given)
            scored_from = next((i for i in range(len(ids), len(full)) if offsets[i][1] > boundary), len(full))
            if scored_from < len(full) and offsets[scored_from][0] < boundary:
                return f"a token of the answer '{answer}' straddles the end of the given '{given}'"
        if scored_from >= len(full):
            return f"nothing of the answer '{answer}' is left to score"
        return tuple(full[len(ids) : scored_from]), tuple(full[scored_from:])


def joiner(prompt: str, answer: str) -> str:
    """Give what stands between a prompt and its answer: a space, except after an open end or before a script
    that is written without spaces."""
    if not prompt or prompt[-1].isspace() or prompt[-1] in "([{\"'“‘«「『":
        return ""
    return "" if _spaceless(answer[:1]) else " "


def _spaceless(character: str) -> bool:
    return any(
        first <= character <= last
        for first, last in (("\u3040", "\u30ff"), ("\u3400", "\u9fff"), ("\u0e00", "\u0e7f"), ("\uff00", "\uffef"))
    )


def _span_tokens(
    text: str, offsets: Sequence[tuple[int, int]], start: int, end: int, what: str = "the entity"
) -> tuple[int, int] | str:
    """Find the tokens that overlap ``text[start:end]``, or say why they cannot stand for it."""
    inside = [i for i, (a, b) in enumerate(offsets) if b > start and a < end and b > a]
    if not inside:
        return f"no token covers {what} '{text[start:end]}'"
    first, last = inside[0], inside[-1]
    before, after = text[offsets[first][0] : start], text[end : offsets[last][1]]
    if before.strip() or after.strip():
        whole = text[offsets[first][0] : offsets[last][1]].strip()
        return f"{what} '{text[start:end]}' is not found in tokens of its own: '{whole}' holds it"
    return first, last
