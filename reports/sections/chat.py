"""The chat that prompts went through."""

from __future__ import annotations

from reports import formats
from reports.sections.section import Section
from specs.language.results import Results


def build(results: Results) -> Section | None:
    """Show the frame of every chat as the model saw it, line by line; None where prompts went as they are."""
    if not results.chats:
        return None
    frames = [
        {"where": formats.visible(chat.where), "lines": [formats.visible(line) for line in chat.frame.split("\n")]}
        for chat in results.chats
    ]
    return Section("chat", "Chat", {"frames": frames})
