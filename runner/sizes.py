"""Sizes as people write and read them: ``10GB``, ``512MiB``, ``1.5 GB``."""

from __future__ import annotations

import re

__all__ = ["parse_size", "size_text"]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?", re.I)
_UNITS = ("kB", "MB", "GB", "TB")


def parse_size(text: str) -> int | None:
    """Read a number of bytes, or one with a unit (GB and G are 10**9, GiB and Gi are 2**30); None if it is neither."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    number, unit, binary = found.groups()
    power = "kmgt".index(unit.lower()) + 1 if unit else 0
    # Whole numbers stay whole: a float would round large ones.
    return int((float(number) if "." in number else int(number)) * (1024 if binary else 1000) ** power)


def size_text(size: int) -> str:
    """Write a number of bytes with two or three digits and a unit: ``87 bytes``, ``1.2 MB``, ``830 GB``."""
    if size < 1000:
        return f"{size} byte{'' if size == 1 else 's'}"
    scaled = float(size)
    for unit in _UNITS:
        scaled /= 1000
        if scaled < 999.5 or unit == _UNITS[-1]:
            break
    return f"{scaled:.1f} {unit}" if scaled < 9.95 else f"{scaled:,.0f} {unit}"
