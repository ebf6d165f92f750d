"""Keep freed memory in the process while passes run on a CPU, where returning it costs more than the arithmetic."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

MAP_ABOVE = 256 << 20
"""Single results from this size on are given back to the system when they are freed."""
KEEP = 512 << 20
"""Freed bytes that the process keeps for the next result."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt parameters of malloc.h


def keep_freed_memory() -> bool:
    """Let the C allocator reuse what it frees, up to ``KEEP`` bytes; say whether it could be told to.

    By default glibc maps each result above 128 KiB to 32 MiB anew, and the system clears its pages one by one as
    they are touched: of a pass over 512 tokens of a small model that is a tenth of the time on bare Linux and most
    of it on virtual machines. Other C libraries have no such call, and nothing is changed there.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # A size that this version of glibc refuses leaves what was set before.
    return bool(mallopt(_MMAP_THRESHOLD, MAP_ABOVE) or mallopt(_MMAP_THRESHOLD, 32 << 20)) and bool(
        mallopt(_TRIM_THRESHOLD, KEEP)
    )
