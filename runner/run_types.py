"""What the parts of a run share: where it says what it does, and the record of a stage."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from runner.program import Job
from specs.language.results import Stage

if TYPE_CHECKING:
    from runner.execute import Outcome
    from runner.model import Machine


class Reporter(Protocol):
    """Where a run says what it is doing: a terminal with progress bars, or nothing."""

    def stage(self, name: str, total: int | None, *, unit: str = "tokens") -> None:
        """A stage begins, of so many tokens or bytes; None if nobody can know."""

    def advance(self, amount: int) -> None:
        """So much more of the stage is done."""

    def done(self, name: str, *, reused: bool = False, note: str = "") -> None:
        """The stage has ended."""

    def say(self, text: str) -> None:
        """Something the user should know."""


@dataclass
class Spent:
    """What a stage has really cost so far, of this run alone."""

    tokens: int = 0
    notes: list[str] = field(default_factory=list)
    recomputed: list[str] = field(default_factory=list)
    """What was not in the cache, where other parts of the stage were."""
    _started: float = field(default_factory=time.perf_counter)

    def add(self, outcome: Outcome) -> None:
        """Add a job that was run."""
        self.tokens += outcome.nodes
        self.notes += [note for note in outcome.notes if note not in self.notes]

    def seconds(self) -> float:
        """Give the time since the stage began."""
        return time.perf_counter() - self._started


def stage_record(name: str, machine: Machine, job: Job, spent: Spent, *, reused: bool = False, note: str = "") -> Stage:
    """Make the record of a stage: what its job is, and what was run of it."""
    counted = machine.cost(job)
    notes = [note] if note else list(spent.notes)
    if spent.tokens and machine.short_rows:
        notes.append(f"rows of {machine.limits.row_nodes} tokens for want of memory: last digits may differ")
    estimated, used = (machine.estimated_bytes, machine.used_bytes) if spent.tokens else (None, None)
    if estimated is not None and used is not None and used > estimated:
        notes.append(f"took {used / 1e6:,.0f} MB beside the weights, estimated {estimated / 1e6:,.0f} MB")
    return Stage(
        name=name,
        prompts=counted.sequences,
        tokens=counted.tokens,
        padded_tokens=counted.padded_tokens,
        distinct_tokens=counted.distinct_tokens,
        run_tokens=spent.tokens,
        recomputed=spent.recomputed,
        passes=counted.passes,
        seconds=round(spent.seconds(), 3),
        estimated_bytes=estimated,
        used_bytes=used,
        reused=reused,
        mode=machine.mode,
        note="; ".join(notes),
    )


def run_again(names: Sequence[str], most: int = 3) -> str:
    """Say in words which parts of a stage were run where the others were known; nothing where all or none were."""
    if not names:
        return ""
    shown = ", ".join(f'"{name}"' for name in names[:most])
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"run again: {shown}{rest}; the rest reused"
