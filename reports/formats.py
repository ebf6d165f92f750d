"""Numbers, sweep values and model text as a reader should see them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

MISSING = "–"
MINUS = "\u2212"
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def number(value: float | None, decimals: int | None = None) -> str:
    """Give a figure with about three significant digits, or a dash when there is none.

    ``decimals`` fixes the digits after the point, so that a column lines up; what would read as zero and is
    not is still given as a power of ten.
    """
    if value is None:
        return MISSING
    size = abs(value)
    if decimals is None:
        small = 0 < size < 1e-3
        decimals = 3 if size < 1 else 2 if size < 100 else 1 if size < 1000 else 0
    else:
        small = False
        decimals = 0 if size >= 1000 else decimals
    text = f"{value:,.{decimals}f}"
    reads_as_zero = not any(digit in "123456789" for digit in text)
    if value == 0:
        return text.lstrip("-")
    if small or reads_as_zero:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        text = f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return text.replace("-", MINUS)


def whole(value: int | float) -> str:
    """Give a count with thousands separated."""
    return f"{value:,.0f}".replace("-", MINUS)


def axis_value(value: float | str) -> str:
    """Give a sweep value in the fewest digits: ``−3``, ``0.2``, ``own_mean``."""
    if isinstance(value, str):
        return visible(value)
    return f"{value:.6g}".replace("-", MINUS)


def axes(values: Mapping[str, float | str]) -> str:
    """Give a point of a sweep: ``scale −3, top 10``."""
    return ", ".join(f"{visible(name)} {axis_value(value)}" for name, value in values.items())


def interval(low: float | None, high: float | None, decimals: int | None = None) -> str:
    """Give both ends of an interval, or nothing when it could not be had."""
    if low is None or high is None:
        return ""
    return f"{number(low, decimals)} to {number(high, decimals)}"


def spread(mean: float | None, deviation: float | None, decimals: int | None = None) -> str:
    """Give ``mean ± deviation``, leaving out what could not be had."""
    if mean is None or deviation is None:
        return number(mean, decimals)
    return f"{number(mean, decimals)} ± {number(deviation, decimals)}"


def megabytes(n: int) -> str:
    """Write a size of memory in whole megabytes of 10^6 bytes: ``1,240 MB``."""
    return f"{whole(round(n / 1e6))} MB"


def duration(seconds: float) -> str:
    """Give a time in the unit that suits it."""
    if 0 < seconds < 0.0005:
        return "< 1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def counted(n: int, one: str, many: str | None = None) -> str:
    """Give a number with its noun: ``1 prompt``, ``8 prompts``."""
    return f"{whole(n)} {one if n == 1 else many or one + 's'}"


def visible(text: str) -> str:
    """Show what would be invisible or would break a document: line ends, tabs, control and non-characters.

    Control characters become their Unicode pictures, so that a text of the model is shown and not obeyed.
    """
    shown = []
    for character in text:
        code = ord(character)
        if character == "\n":
            shown.append("⏎")
        elif code < 0x20:
            shown.append(chr(0x2400 + code))
        elif code == 0x7F:
            shown.append("␡")
        elif 0x80 <= code < 0xA0 or 0xD800 <= code < 0xE000 or (code & 0xFFFE) == 0xFFFE:
            shown.append("\ufffd")
        else:
            shown.append(character)
    return "".join(shown)


def shorten(text: str, limit: int) -> str:
    """Cut a text to ``limit`` characters, with an ellipsis; combining marks stay with their letter."""
    text = visible(text)
    if len(text) <= limit:
        return text
    cut = limit - 1
    while cut > 1 and unicodedata.combining(text[cut]):
        cut -= 1
    return text[:cut].rstrip() + "…"
