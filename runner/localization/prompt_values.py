"""The values of every neuron on every prompt, layer by layer: in memory, or in a scratch file where they do not fit."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from runner.atomic import refusals
from specs.language.errors import DiskFull, RunError

__all__ = ["PromptValues", "values_bytes"]

REMEDY = "make room, allow more memory (`--memory`), or rank fewer layers, sites or prompts at a time"
MARGIN = 64 << 20
"""Bytes of disk that are left to others."""


def values_bytes(n_prompts: int, widths: Sequence[int], dtype: torch.dtype) -> int:
    """Give the bytes of one value for each prompt and neuron; ``widths`` are the neurons of each layer's row."""
    return n_prompts * sum(widths) * dtype.itemsize


class PromptValues:
    """Values of ``[n_prompts, width]`` for each layer, written prompt by prompt as passes go and read layer by layer.

    Up to ``budget`` bytes they are kept in memory on ``device``, more in a file in the folder ``scratch``, which has no
    name where the system allows it, so that nothing of it stays after an error, an interrupt or a kill. It is written
    and not mapped: its pages are the system's to hold or let go, and a full disk is an error and not a signal.

    To be used in a ``with``. Raises :class:`DiskFull` at its beginning where the disk has no room, :class:`RunError`
    where the folder cannot be written to, a prompt comes twice, or a layer is asked for that lacks a prompt.
    """

    def __init__(
        self,
        n_prompts: int,
        widths: Sequence[int],
        dtype: torch.dtype = torch.float32,
        *,
        budget: int,
        scratch: Path,
        device: torch.device | str = "cpu",
    ) -> None:
        self.n_prompts, self.widths, self.dtype = n_prompts, tuple(widths), dtype
        self.device, self.scratch = torch.device(device), scratch
        self.nbytes = values_bytes(n_prompts, widths, dtype)
        self.in_file = self.nbytes > budget
        self._begins = [values_bytes(n_prompts, self.widths[:row], dtype) for row in range(len(self.widths))]
        self._added = np.zeros((len(self.widths), n_prompts), dtype=np.bool_)
        self._layers: list[Tensor] = []
        self._file: FileIO | None = None

    def __enter__(self) -> PromptValues:
        if self.in_file:
            self._file = self._reserved()
        else:
            self._layers = [
                torch.empty((self.n_prompts, width), dtype=self.dtype, device=self.device) for width in self.widths
            ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._layers = []
        if self._file is not None:
            self._file.close()
            self._file = None

    @torch.inference_mode()  # for values, and a store, that were made in it
    def add(self, row: int, prompts: np.ndarray, values: Tensor) -> None:
        """Put values of some prompts, ``[n_read, width]``, into a layer, ``prompts`` of ``[n_read]`` in any order."""
        if values.shape != (len(prompts), self.widths[row]):
            raise ValueError(f"{tuple(values.shape)} values for {len(prompts)} prompts of {self.widths[row]} neurons")
        if not len(prompts):
            return
        again = self._added[row, prompts]
        if again.any() or len(np.unique(prompts)) < len(prompts):
            raise RunError(
                f"values of a prompt were read twice in row {row} of the layers",
                remedy="this is a mistake of run-spec; please report it",
            )
        if self._file is None:
            index = torch.from_numpy(np.asarray(prompts, dtype=np.int64)).to(self.device)
            self._layer_in_memory(row)[index] = values.to(self.device, self.dtype)
        else:
            self._write(row, prompts, values)
        self._added[row, prompts] = True

    def layer(self, row: int) -> Tensor:
        """Give the values of one layer, ``[n_prompts, width]``, on the device; in memory, those that are kept."""
        missing = np.flatnonzero(~self._added[row])
        if len(missing):
            raise RunError(
                f"{len(missing):,} of {self.n_prompts:,} prompts have no value in row {row} of the layers (the first "
                f"is prompt {missing[0]})",
                remedy="this is a mistake of run-spec; please report it",
            )
        if self._file is None:
            return self._layer_in_memory(row)
        values = torch.empty((self.n_prompts, self.widths[row]), dtype=self.dtype)
        into = _bytes(values)
        self._file.seek(self._begins[row])
        while into and (read := self._file.readinto(into)):
            into = into[read:]
        if into:
            raise RunError(f"the scratch file in {self.scratch} is shorter than it was", remedy="run again")
        return values.to(self.device)

    def require_complete(self) -> None:
        """Raise :class:`RunError` unless every prompt was added to every layer."""
        for row in np.flatnonzero(~self._added.all(axis=1)):
            self.layer(int(row))

    def _layer_in_memory(self, row: int) -> Tensor:
        if not self._layers:
            raise RuntimeError("values are kept within a `with` alone")
        return self._layers[row]

    def _write(self, row: int, prompts: np.ndarray, values: Tensor) -> None:
        assert self._file is not None
        # Neighbours are written together, so that a pass costs few writes; it mostly comes in order.
        line = self.widths[row] * self.dtype.itemsize
        lines = np.frombuffer(_bytes(values.detach().to("cpu", self.dtype).contiguous()), np.uint8)
        lines, ascending = lines.reshape(len(prompts), line), np.asarray(prompts)
        if (ascending[1:] < ascending[:-1]).any():
            order = np.argsort(ascending)
            lines, ascending = lines[order], ascending[order]
        starts = np.flatnonzero(np.diff(ascending, prepend=-2) != 1)
        with refusals(self.scratch, REMEDY):
            for start, stop in zip(starts, [*starts[1:], len(ascending)], strict=True):
                self._file.seek(self._begins[row] + int(ascending[start]) * line)
                rest = lines[start:stop].reshape(-1).data
                while rest:
                    rest = rest[self._file.write(rest) :]

    def _reserved(self) -> FileIO:
        """Open the scratch file and take its whole room, so that a disk fills up now or not at all."""
        with refusals(self.scratch, REMEDY):
            self.scratch.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.scratch).free
            if free < self.nbytes + MARGIN:
                raise DiskFull(
                    f"the values of {sum(self.widths):,} neurons on {self.n_prompts:,} prompts take "
                    f"{math.ceil(self.nbytes / 1e6):,} MB, more than the memory they may have, and the disk that holds "
                    f"{self.scratch} has {free / 1e6:,.0f} MB free",
                    remedy=REMEDY,
                )
            # Closed by __exit__, and with that gone.
            file = tempfile.TemporaryFile(dir=self.scratch, prefix="values-", buffering=0)  # noqa: SIM115
            try:
                if self.nbytes and hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, self.nbytes)
                else:
                    file.truncate(self.nbytes)
            except BaseException:
                file.close()
                raise
            return file


def _bytes(values: Tensor) -> memoryview:
    """See contiguous values as bytes, whatever their format: numpy knows no bfloat16."""
    return memoryview(values.reshape(-1).view(torch.uint8).numpy().data)
