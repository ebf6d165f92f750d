"""Take some rows of a stage, with the sequences they need and no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from runner.plan import AskStage, PlannedRow, Reading
from runner.program import subset

__all__ = ["narrowed"]


def narrowed(stage: AskStage, keep: Callable[[PlannedRow], bool]) -> tuple[AskStage, tuple[int, ...]]:
    """Give the stage with the rows that ``keep`` chooses, and which sequences of the whole job its job holds.

    What a kept row is compared with (its clean run, the strangers, the twin of a frozen one) is kept with it.
    """
    rows = [row for row in stage.rows if keep(row)]
    wanted: set[int] = set()
    for row in rows:
        for reading in (row.reading, row.clean, *row.unknown, *([row.former[1]] if row.former is not None else ())):
            wanted.update(_sequences(reading))
    wanted |= {t for i in wanted if (t := stage.job.sequences[i].twin) is not None}
    members = tuple(sorted(wanted))
    number = {i: k for k, i in enumerate(members)}

    def again(reading: Reading) -> Reading:
        slots = tuple(replace(slot, sequence=number[slot.sequence]) for slot in reading.answers)
        own = reading.tokens
        return replace(
            reading,
            answers=slots,
            text=None if reading.text is None else number[reading.text],
            tokens=None if own is None else replace(own, sequence=number[own.sequence]),
        )

    kept = tuple(
        replace(
            row,
            reading=again(row.reading),
            clean=again(row.clean),
            unknown=tuple(again(reading) for reading in row.unknown),
            former=None if row.former is None else (row.former[0], again(row.former[1])),
        )
        for row in rows
    )
    return replace(stage, rows=kept, job=subset(stage.job, members)), members


def _sequences(reading: Reading) -> list[int]:
    slots = [*reading.answers, *([] if reading.tokens is None else [reading.tokens])]
    return [*(slot.sequence for slot in slots), *([] if reading.text is None else [reading.text])]
