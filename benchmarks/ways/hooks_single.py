"""Plain torch hooks, one prompt at a time: batches of one, which need no padding."""

from __future__ import annotations

from benchmarks.ways import Loading
from benchmarks.ways.hooks_padded import HooksPadded
from benchmarks.ways.plain import load_plain


def make(loading: Loading) -> HooksPadded:
    """Load the model."""
    return HooksPadded(load_plain(loading), sizes=(1,))
