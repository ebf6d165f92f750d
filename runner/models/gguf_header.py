"""Read the head of a GGUF file: its short text fields, and how many weights follow.

A full parse makes a Python object of every token and takes ten seconds; this one skips what it does not
need. The layout is that of GGUF versions 2 and 3 (little-endian).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from specs.language.errors import ModelError

__all__ = ["GgufHeader", "read_gguf_header"]

# bytes of each fixed-size field type, by its number in the format; 8 is text and 9 an array
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _ARRAY = 8, 9


@dataclass(frozen=True)
class GgufHeader:
    """The text fields of a GGUF file and its number of weights."""

    fields: dict[str, str]
    n_weights: int

    @property
    def unpacked_bytes(self) -> int:
        """Size of the weights in float32."""
        return 4 * self.n_weights


def read_gguf_header(file: Path) -> GgufHeader:
    """Read the header. Raises ModelError for a file that is cut short or not GGUF."""
    try:
        with file.open("rb") as stream:
            if stream.read(4) != b"GGUF" or _number(stream, "<I") not in (2, 3):
                raise ModelError(f"{file.name} is not a GGUF file of version 2 or 3")
            n_tensors, n_fields = _number(stream, "<Q"), _number(stream, "<Q")
            fields: dict[str, str] = {}
            for _ in range(n_fields):
                key, kind = _text(stream), _number(stream, "<I")
                if kind == _TEXT:
                    fields[key] = _text(stream)
                else:
                    _skip(stream, kind)
            n_weights = 0
            for _ in range(n_tensors):
                _skip(stream, _TEXT)
                shape = [_number(stream, "<Q") for _ in range(_number(stream, "<I"))]
                stream.seek(12, 1)  # type and offset
                n_weights += prod(shape)
            return GgufHeader(fields, n_weights)
    except (struct.error, KeyError, OverflowError, MemoryError, OSError) as error:
        raise ModelError(f"{file.name} is cut short or damaged: its header cannot be read") from error


def _number(stream: BinaryIO, form: str) -> int:
    return int(struct.unpack(form, stream.read(struct.calcsize(form)))[0])


def _text(stream: BinaryIO) -> str:
    size = _number(stream, "<Q")
    if size > 1 << 27:
        raise OverflowError(size)
    return stream.read(size).decode("utf-8", "replace")


def _skip(stream: BinaryIO, kind: int) -> None:
    if kind == _TEXT:
        stream.seek(_number(stream, "<Q"), 1)
    elif kind == _ARRAY:
        inner, count = _number(stream, "<I"), _number(stream, "<Q")
        if inner in _SIZES:
            stream.seek(count * _SIZES[inner], 1)
        else:
            for _ in range(count):
                _skip(stream, inner)
    else:
        stream.seek(_SIZES[kind], 1)
