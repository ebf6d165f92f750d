"""Writing whole files or none, and saying what a refusal of the operating system means."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from specs.language.errors import DiskFull, RunError, RunSpecError

__all__ = ["refusals", "whole", "write_text"]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO),
)


@contextlib.contextmanager
def refusals(place: Path, remedy: str) -> Iterator[None]:
    """Turn a full disk into DiskFull and a place that may not be written to into RunError.

    ``place`` is what the message names, ``remedy`` what to do about a full disk. Other errors pass through.
    """
    try:
        yield
    except RunSpecError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(f"the disk that holds {place} is full", remedy=remedy) from error
        if error.errno in _REFUSED:
            raise RunError(
                f"cannot write to {place} ({error.strerror})", remedy="choose a folder that can be written to"
            ) from error
        raise


@contextlib.contextmanager
def whole(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """Lend a scratch path beside ``path`` that takes its place at the end, and vanishes on any error.

    A reader sees the old file or the new one. The contents are on the disk before the name is: a power cut
    does not leave an empty file under a good name. Files that carry a checksum do without (``lasting=False``):
    waiting for the disk takes longer than writing a small one.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield scratch
        if lasting:
            with scratch.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with whole(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")
