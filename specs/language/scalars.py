"""Type a scalar by the field it fills, and say in the language's words what is wrong with it.

The types here (``Text``, ``Number``, ``Whole``, ``Flag`` and lists of them) read a
:class:`~specs.language.text.Raw` as YAML 1.2 does when the field's type is known, so that `NO`, `1946`,
`010`, `12:30` and `5e-1` stay texts in a text field. Values that are Python objects already pass through.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NoReturn, get_args

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from specs.language.text import Raw

__all__ = [
    "Flag",
    "Number",
    "NumberOrText",
    "Numbers",
    "Text",
    "Texts",
    "Whole",
    "Wholes",
    "looks_like_number",
    "nearest",
    "one_or_many",
    "refuse",
    "word",
]

WHOLE = re.compile(r"[-+]?[0-9]+")
BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
TRUE = frozenset({"true", "True", "TRUE"})
FALSE = frozenset({"false", "False", "FALSE"})


def refuse(message: str, at: str = "", **context: Any) -> NoReturn:
    """Raise a problem in the language's words; ``at`` names the key of the block it is shown at."""
    raise PydanticCustomError("spec", "{message}", {"message": message, "at": at, **context})


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Give the known word that is most like this one, if any is."""
    known = list(known)
    folded = {k.casefold().replace("-", "_"): k for k in reversed(known)}
    found = difflib.get_close_matches(word.casefold().replace("-", "_"), folded, 1, cutoff)
    return folded[found[0]] if found else None


def suggest(word: str, known: Iterable[str]) -> str:
    """Give `; did you mean 'x'?`, or nothing when no known word is near."""
    near = nearest(word, known)
    return f"; did you mean '{near}'?" if near else ""


def shown(value: Any) -> str:
    """Show a value in a message, shortened."""
    text = "null" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def looks_like_number(text: str) -> bool:
    """Say whether YAML 1.2 would read this plain scalar as a number."""
    return bool(WHOLE.fullmatch(text) or BASED.fullmatch(text) or FLOAT.fullmatch(text))


def read_text(value: Any) -> Any:
    if isinstance(value, str):
        return str.__str__(value)
    if value is None:
        refuse('null is no text; to mean the word, write "null"')
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(next(iter(value.values())), (str, type(None))):
            refuse("this text holds ': ' and must be quoted")
        refuse("one text stands here, and this is a block of keys")
    if isinstance(value, list):
        refuse("one text stands here, and this is a list")
    return value


def read_whole(value: Any) -> Any:
    if not isinstance(value, Raw):
        if value is None or isinstance(value, (bool, str, dict, list)):
            _not_a("whole number", value)
        return value
    text = value.strip()
    if WHOLE.fullmatch(text) and len(text) <= 18:
        return int(text)
    if BASED.fullmatch(text):
        return int(text, 0)
    _not_a("whole number", value)


def read_number(value: Any) -> Any:
    if not isinstance(value, Raw):
        if value is None or isinstance(value, (bool, str, dict, list)):
            _not_a("number", value)
        if not math.isfinite(value):
            refuse(f"'{value}' is not a finite number")
        return value
    text = value.strip()
    if BASED.fullmatch(text):
        return int(text, 0)
    if FLOAT.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            refuse(f"'{text}' is too large a number")
        return number
    if INFINITE.fullmatch(text):
        refuse(f"'{text}' is not a finite number")
    _not_a("number", value)


def _not_a(kind: str, value: Any) -> NoReturn:
    if isinstance(value, list):
        refuse(f"one {kind} stands here, and this is a list")
    if isinstance(value, dict):
        refuse(f"one {kind} stands here, and this is a block of keys")
    plain = str(value).replace("_", "").replace(",", "").replace(" ", "")
    hint = f"; write {plain}" if looks_like_number(plain) and plain != str(value) else ""
    refuse(f"'{shown(value)}' is not a {kind}{hint}")


def read_flag(value: Any) -> Any:
    if isinstance(value, Raw):
        if value in TRUE:
            return True
        if value in FALSE:
            return False
        hint = {"yes": "; write true", "on": "; write true", "no": "; write false", "off": "; write false"}
        refuse(f"'{shown(value)}' is neither true nor false{hint.get(value.casefold(), '')}")
    if not isinstance(value, bool):
        refuse(f"'{shown(value)}' is neither true nor false")
    return value


def read_number_or_text(value: Any) -> Any:
    if isinstance(value, Raw) and not value.quoted and looks_like_number(value):
        return read_number(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return read_number(value)
    return read_text(value)


def one_or_many(value: Any) -> Any:
    """Put one value where a list may stand into a list."""
    if isinstance(value, (list, tuple)):
        return list(value)
    return value if value is None else [value]


def some(value: list[Any]) -> list[Any]:
    """Refuse an empty list where it would mean nothing."""
    if not value:
        refuse("the list is empty")
    return value


TEXT_SCHEMA = {"type": ["string", "number", "boolean"]}
"""Editors read `1946` and `NO` as a number and a boolean; the field makes texts of them."""


def listed(item: dict[str, Any]) -> dict[str, Any]:
    """Give the JSON schema of one value or a list of them."""
    return {"anyOf": [item, {"type": "array", "items": item}]}


Text = Annotated[str, BeforeValidator(read_text), WithJsonSchema(TEXT_SCHEMA)]
"""A text, exactly as written."""
Texts = Annotated[list[Text], BeforeValidator(one_or_many), WithJsonSchema(listed(TEXT_SCHEMA))]
"""One text or a list of them."""
Number = Annotated[float, BeforeValidator(read_number), WithJsonSchema({"type": "number"})]
"""A finite number."""
Numbers = Annotated[list[Number], BeforeValidator(one_or_many), WithJsonSchema(listed({"type": "number"}))]
Whole = Annotated[int, BeforeValidator(read_whole)]
"""A whole number."""
Wholes = Annotated[list[Whole], BeforeValidator(one_or_many)]
Flag = Annotated[bool, BeforeValidator(read_flag)]
"""True or false; `yes` and `no` are words."""
NumberOrText = Annotated[float | str, BeforeValidator(read_number_or_text), WithJsonSchema(TEXT_SCHEMA)]
"""A number if it is written as one without quotes, else a text."""


def word(kind: str, closed: Any, also: str = "", **hints: str) -> BeforeValidator:
    """Make a validator of a closed word list: `'stabilty' is not a metric; did you mean 'stability'?`.

    ``closed`` is a Literal; ``also`` ends the message when no word is near; ``hints`` answers known wrong
    words.
    """
    known = [str(w) for w in get_args(closed)]

    def check(value: Any) -> Any:
        text = read_text(value)
        if text in known:
            return text
        if text in hints:
            refuse(f"'{text}' is not {article(kind)}; {hints[text]}")
        near = suggest(text, known)
        refuse(f"'{shown(text)}' is not {article(kind)}{near or '; choose from ' + ', '.join(known) + also}")

    return BeforeValidator(check)


def article(noun: str) -> str:
    """Put `a` or `an` before a noun."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


Check = Callable[[Any], Any]
