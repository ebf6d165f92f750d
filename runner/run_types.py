"""What the parts of a run share: where it says what it does, and the record of a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from runner.program import Job, cost, pack
from specs.language.results import Stage

if TYPE_CHECKING:
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


def stage_record(name: str, machine: Machine, job: Job, seconds: float, *, reused: bool, note: str = "") -> Stage:
    """Make the record of a stage from its job."""
    counted = cost(job, pack(job, machine.limits, machine.mode))
    return Stage(
        name=name,
        prompts=counted.sequences,
        tokens=counted.tokens,
        padded_tokens=counted.padded_tokens,
        distinct_tokens=counted.distinct_tokens,
        passes=counted.passes,
        seconds=round(seconds, 3),
        reused=reused,
        mode=machine.mode,
        note=note,
    )
