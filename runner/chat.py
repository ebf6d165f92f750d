"""Chat templates: what the user says, in the frame that the model's own tokenizer puts around it.

The template is the tokenizer's, never one guessed from a model's name. A rendering holds its special tokens as text, so
it is tokenized without adding any.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from specs.language.errors import ModelError, Problem
from specs.language.experiment import Chat, Experiment
from specs.language.needs import needed
from specs.language.results import ChatFrame

__all__ = ["Frames", "Rendered", "chat_frames", "chat_notes", "check_chats"]

MARK = "⁂the user's words⁂"
"""Stands for what is said when a frame is looked for; no template and no prompt holds it."""
REPLY = "Reply"


@dataclass(frozen=True)
class Rendered:
    """A prompt in its chat: the whole text, where the user's words stand in it, and what comes before an answer."""

    text: str
    start: int
    """Character of the rendering at which character 0 of the prompt stands; white space that the template takes off
    counts.
    """
    joiner: str | None
    """What stands between the rendering and an answer by the template; None where a prefill decides it."""


class Frames:
    """The frames of one tokenizer's template, each rendered once to learn where the user's words go."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._known: dict[Chat, tuple[str, str, str | None]] = {}

    def render(self, chat: Chat, text: str) -> Rendered | str:
        """Put a text into a chat, or say why the frame cannot hold it; raises ModelError for a chat without a frame."""
        before, after, joiner = self.frame(chat)
        whole = self._apply(chat, text)
        said = whole[len(before) : len(whole) - len(after)] if after else whole[len(before) :]
        if before + said + after != whole or said not in (text, text.strip()):
            return "the chat template changes what the user says"
        start = len(before) - (len(text) - len(text.lstrip()) if said != text else 0)
        if chat.prefill is None:
            return Rendered(whole, start, joiner)
        return Rendered(whole + (joiner or "") + chat.prefill, start, None)

    def frame(self, chat: Chat) -> tuple[str, str, str | None]:
        """Give what stands before and after the user's words, and between the whole and an answer."""
        if chat not in self._known:
            whole = self._apply(chat, MARK)
            if whole.count(MARK) != 1:
                raise ModelError(f"the chat template shows what the user says {whole.count(MARK)} times, not once")
            before, _, after = whole.partition(MARK)
            replied = self._apply(chat, MARK, REPLY)
            gap = replied[len(whole) :].partition(REPLY) if replied.startswith(whole) else ("x", "", "")
            joiner = gap[0] if gap[1] and not gap[0].strip() else None
            self._known[chat] = before, after, joiner
        return self._known[chat]

    def _apply(self, chat: Chat, text: str, reply: str | None = None) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            raise ModelError("chat is on, but the tokenizer has no chat template")
        messages = [] if chat.system is None else [{"role": "system", "content": chat.system}]
        messages.append({"role": "user", "content": text})
        if reply is not None:
            messages.append({"role": "assistant", "content": reply})
        try:
            return str(
                self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=reply is None)
            )
        except Exception as error:
            if not type(error).__module__.startswith("jinja2"):
                raise
            what = "takes no system message" if chat.system is not None else "cannot be used"
            raise ModelError(f"the chat template {what}: {error}") from error


def check_chats(experiment: Experiment, tokenizer: Any, model: str, origins: Any) -> list[Problem]:
    """Refuse chats for which this tokenizer has no frame, each at its place."""
    frames = Frames(tokenizer)
    problems = []
    for place, chat in _chats(experiment):
        try:
            frames.frame(chat)
        except ModelError as error:
            message = error.cause.replace("the tokenizer has", f"the tokenizer of {model} has")
            at = origins.at(*place, "chat")
            problems.append(Problem(message, origins.written(*place, "chat"), at, level="model"))
    return problems


def chat_frames(experiment: Experiment, tokenizer: Any) -> list[ChatFrame]:
    """Show the frame of every chat of an experiment, with the word PROMPT where the prompt goes."""
    frames = Frames(tokenizer)
    found = []
    for place, chat in _chats(experiment):
        before, after, joiner = frames.frame(chat)
        whole = before + "PROMPT" + after + ("" if chat.prefill is None else (joiner or "") + chat.prefill)
        found.append(ChatFrame(where=".".join(place), system=chat.system, prefill=chat.prefill, frame=whole))
    return found


def chat_notes(experiment: Experiment, tokenizer: Any) -> list[str]:
    """Warn of templates that write something else on another day."""
    template = str(getattr(tokenizer, "chat_template", None) or "")
    if "strftime_now" in template and any(_chats(experiment)):
        return ["the chat template may write today's date into every prompt: figures of another day may differ"]
    return []


def _chats(experiment: Experiment) -> Iterator[tuple[tuple[str, ...], Chat]]:
    """Give every chat that prompts go through, with the block that turns it on."""
    wanted = needed(experiment)
    blocks: list[tuple[tuple[str, ...], Chat | bool | None]] = [(("model",), experiment.model.chat)]
    blocks += [
        (("prompts", name), spec.chat) for name, spec in experiment.prompts.items() if ("prompts", name) in wanted
    ]
    for place, chat in blocks:
        if chat:
            yield place, chat if isinstance(chat, Chat) else Chat()
