"""Conditions: `quantity op value`, the same form in `where`, `known`, `when`, `target` and claims.

    layer in 1-6                       dominance >= 10              model = Qwen/Qwen2.5-7B
    verified/size within 20 of 131     concept in person, place     cell/trump = L1.N11948

The op stands between spaces, because quantities hold `=` themselves (`amnesia/pass@5/scale=-3 <= 0.3`). A
value that would be read otherwise (it looks like a number, or holds a comma or an op) stands in double
quotes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from specs.language.experiment import Condition
from specs.language.scalars import looks_like_number

__all__ = ["holds", "number_text", "parse_condition", "text"]

ORDER = ("<", "<=", ">", ">=")
SPACED = re.compile(r"(?:^|(?<=\s))(==+|=>|=<|<>|!=|<=|>=|=|<|>|≤|≥|≠)(?=\s|$)")
TIGHT = re.compile(r"==+|=>|=<|<>|!=|<=|>=|<|>|≤|≥|≠")
WITHIN = re.compile(r"\s+within(?=\s|$)")
IN = re.compile(r"\s+in(?=\s|$)")
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
SPAN = re.compile(r"([-+]?\d+(?:\.\d+)?)-([-+]?\d+(?:\.\d+)?)")
MEANT = {"=>": ">=", "=<": "<=", "<>": "!=", "≤": "<=", "≥": ">=", "≠": "!="}


def parse_condition(text: str) -> Condition:
    """Read a condition; raises ValueError saying how to write it."""
    # inside quotes nothing is an op; the copy has the same length
    masked = QUOTED.sub(lambda m: '"' * len(m[0]), text)
    found = SPACED.search(masked) or TIGHT.search(masked)
    if found is not None and found.start() > 0:
        quantity, op, rest = text[: found.start()].strip(), found[0], text[found.end() :].strip()
        if re.fullmatch("==+", op):
            raise ValueError(f"write one = sign: `{quantity} = {rest}`")
        if op in MEANT:
            raise ValueError(f"'{op}' is not an op; write `{quantity} {MEANT[op]} {rest}`")
        if quantity and rest:
            return _compare(text, quantity, op, rest)
    for word, pattern in (("within", WITHIN), ("in", IN)):
        found = pattern.search(masked)
        if found is not None and found.start() > 0:
            quantity, rest = text[: found.start()].strip(), text[found.end() :].strip()
            if quantity and (rest or word == "within"):
                return _within(quantity, rest) if word == "within" else _in(text, quantity, rest)
    raise ValueError(_not_a_condition(text))


def _not_a_condition(text: str) -> str:
    opening = f"'{text.strip()}' is not a condition; write `quantity op value` with op one of"
    tight = re.fullmatch(r"\s*([^\s/=]+)=([^\s=]+)\s*", text)
    example = f"{tight[1]} = {tight[2]}" if tight else "dominance >= 10"
    return f"{opening} = != < <= > >= in within, for example `{example}`"


def _compare(text: str, quantity: str, op: str, rest: str) -> Condition:
    value = _value(rest)
    if op in ORDER and isinstance(value, str) and "/" not in value:
        raise ValueError(f"{op} compares numbers, and '{value}' is none")
    return Condition(quantity=quantity, op=op, value=value)  # type: ignore[arg-type]


def _within(quantity: str, rest: str) -> Condition:
    found = re.fullmatch(r"(\S+)\s+of\s+(.+)", rest)
    if found is None or not looks_like_number(found[1]):
        raise ValueError(
            f"'{quantity} within {rest}' is not a condition; write `{quantity} within TOLERANCE of VALUE`, "
            "for example `verified/size within 20 of 131`"
        )
    tolerance, value = _number(found[1]), _value(found[2])
    if tolerance < 0:
        raise ValueError(f"a tolerance is at least 0, and this is {found[1]}")
    if isinstance(value, str) and "/" not in value:
        raise ValueError(f"within compares numbers, and '{value}' is none")
    return Condition(quantity=quantity, op="within", value=value, tolerance=tolerance)


def _in(text: str, quantity: str, rest: str) -> Condition:
    values: list[float | str] = []
    at = 0
    for item in re.finditer(r'\s*("(?:[^"\\]|\\.)*"|[^,]*?)\s*(,|$)', rest):
        if item.start() != at or not item[1]:
            raise ValueError(f"'{text.strip()}' has an empty value in its list")
        values.append(_value(item[1], spans=True))
        at = item.end()
        if not item[2]:
            break
    return Condition(quantity=quantity, op="in", value=tuple(values))


def _value(text: str, *, spans: bool = False) -> float | str:
    if QUOTED.fullmatch(text):
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    if looks_like_number(text):
        return _number(text)
    if spans:
        found = SPAN.fullmatch(text)
        if found and float(found[2]) < float(found[1]):
            raise ValueError(f"{text} runs backwards; write {found[2]}-{found[1]}")
    return text


def _number(text: str) -> float:
    number = float(int(text, 0)) if text[:2] in ("0x", "0o") else float(text)
    if not math.isfinite(number):
        raise ValueError(f"'{text}' is too large a number")
    return number


def holds(condition: Condition, value: float | str | Sequence[float | str] | None) -> bool:
    """Say whether a value meets a condition; a value that is absent meets none, not even `!=`.

    A list meets `=` and `in` when one of its members does, and `!=` when none equals. Numbers are equal
    within 1e-9 of their size, so that a mean of several 0.1 is 0.1. Raises ValueError where a comparison of
    numbers meets a text, and for a condition whose value is another result (`a/x < a/y`), which must be
    filled in first.
    """
    if value is None:
        return False
    if isinstance(value, Sequence) and not isinstance(value, str):
        if condition.op == "!=":
            return all(holds(condition, item) for item in value)
        return any(holds(condition, item) for item in value)
    wanted = condition.value
    if condition.op == "in":
        items = wanted if isinstance(wanted, tuple) else (wanted,)
        return any(_equal(item, value) or _spans(item, value) for item in items)
    assert not isinstance(wanted, tuple)
    if condition.op == "=":
        return _equal(wanted, value)
    if condition.op == "!=":
        return not _equal(wanted, value)
    left, right = _as_number(value), _as_number(wanted)
    if left is None or right is None:
        raise ValueError(f"`{text(condition)}` compares numbers, and '{wanted if right is None else value}' is none")
    if condition.op == "within":
        distance, tolerance = abs(left - right), condition.tolerance or 0.0
        return distance <= tolerance or math.isclose(distance, tolerance, rel_tol=1e-9)
    if condition.op == "<":
        return left < right
    if condition.op == "<=":
        return left <= right
    return left > right if condition.op == ">" else left >= right


def _as_number(value: float | str) -> float | None:
    if isinstance(value, str):
        return _number(value) if looks_like_number(value) else None
    return float(value)


def _equal(wanted: float | str, value: float | str) -> bool:
    if isinstance(wanted, str) and isinstance(value, str):
        return wanted == value
    left, right = _as_number(wanted), _as_number(value)
    return left is not None and right is not None and math.isclose(left, right, rel_tol=1e-9)


def _spans(item: float | str, value: float | str) -> bool:
    found = SPAN.fullmatch(item) if isinstance(item, str) else None
    number = _as_number(value)
    return found is not None and number is not None and float(found[1]) <= number <= float(found[2])


def text(condition: Condition) -> str:
    """Write a condition as it is read; parsing the text gives the same condition."""
    value = condition.value
    if condition.op == "in":
        items = value if isinstance(value, tuple) else (value,)
        return f"{condition.quantity} in {', '.join(_written(item, listed=True) for item in items)}"
    assert not isinstance(value, tuple)
    if condition.op == "within":
        return f"{condition.quantity} within {number_text(condition.tolerance or 0.0)} of {_written(value)}"
    return f"{condition.quantity} {condition.op} {_written(value)}"


def _written(value: float | str, *, listed: bool = False) -> str:
    if not isinstance(value, str):
        return number_text(value)
    plain = (
        value
        and value == value.strip()
        and '"' not in value
        and not looks_like_number(value)
        and not (listed and "," in value)
        and not SPACED.search(value)
        and not (listed and TIGHT.search(value))
        and not re.search(r"[\n\r]", value)
        and "  " not in value
    )
    return value if plain else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def number_text(value: float) -> str:
    """Write a number without a needless point: `1`, `0.8`, `1e-05`."""
    value = float(value)
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
