"""``text@n``: what the model goes on to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.measures.protocol import Input, NumberRule, Value
from runner.observe import Row

__all__ = ["Text", "begins_with"]


@dataclass(frozen=True)
class Text:
    """Give the greedy continuation of n tokens (fewer where the model ended); a text, which has no mean."""

    name: str = "text"
    unit: str = "text"
    needs: frozenset[Input] = frozenset({"generated"})
    number: NumberRule = "required"

    def value(self, row: Row, n: int | None) -> Value:
        """Give the text as decoded, leading space included."""
        if n is None:
            raise ValueError("text needs a number: text@12")
        seen = row.observation
        if not seen.finite:
            return None, "the edited model gave values that are not finite"
        if seen.generated is None or seen.text is None:
            return None, "nothing was generated"
        if len(seen.generated) <= n:
            return seen.text, ""
        if n in seen.shorter:
            return seen.shorter[n], ""
        return None, f"{len(seen.generated)} tokens were generated and the text of the first {n} was not kept"


def begins_with(text: str, answers: Sequence[str]) -> bool:
    """Tell whether a continuation begins with an accepted answer, as words.

    Leading white space and letter case do not matter; a longer word does ("Parisian" does not begin with
    "Paris"). Scripts without spaces between words (Chinese, Japanese, Thai) have no such boundary, so only
    letters and digits of scripts that have one count as going on.
    """
    said = text.lstrip().casefold()
    for answer in answers:
        wanted = answer.strip().casefold()
        if wanted and said.startswith(wanted):
            rest = said[len(wanted) :]
            if not rest or not _same_word(wanted[-1], rest[0]):
                return True
    return False


def _same_word(before: str, after: str) -> bool:
    return before.isalnum() and after.isalnum() and not (_unspaced(before) or _unspaced(after))


def _unspaced(character: str) -> bool:
    """Tell whether a character belongs to a script written without spaces."""
    import unicodedata

    name = unicodedata.name(character, "")
    return name.startswith(("CJK ", "HIRAGANA ", "KATAKANA ", "THAI ", "LAO ", "KHMER ", "MYANMAR ", "HANGUL "))
