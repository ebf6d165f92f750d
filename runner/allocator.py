"""Keep freed memory in the process while passes run on a CPU, where returning it costs more than the arithmetic."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

__all__ = ["give_back_freed_memory", "keep_freed_memory"]

MAP_ABOVE = 64 << 20
"""Single results from this size on are given back to the system when they are freed."""
KEEP = 128 << 20
"""Freed bytes that the process keeps for the next result."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt parameters of malloc.h


def keep_freed_memory() -> bool:
    """Let the C allocator reuse what it frees, up to ``KEEP`` bytes; say whether it could be told to.

    By default glibc maps each result above 128 KiB to 32 MiB anew, and the system clears its pages one by one as
    they are touched: of a pass over 512 tokens of a small model that is a tenth of the time on bare Linux and most
    of it on virtual machines. Other C libraries have no such call, and nothing is changed there.
    """
    mallopt = _of_libc("mallopt")
    if mallopt is None:
        return False
    # A size that this version of glibc refuses leaves what was set before.
    return bool(mallopt(_MMAP_THRESHOLD, MAP_ABOVE) or mallopt(_MMAP_THRESHOLD, 32 << 20)) and bool(
        mallopt(_TRIM_THRESHOLD, KEEP)
    )


def give_back_freed_memory() -> bool:
    """Return to the system what is kept; say whether there is a way to."""
    trim = _of_libc("malloc_trim")
    return trim is not None and bool(trim(0))


def _of_libc(name: str) -> Any:
    """Find a function of glibc; None where there is another C library."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
