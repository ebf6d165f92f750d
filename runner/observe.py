"""What was observed, for the measures: one row per question and condition, as log probabilities and ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from specs.language.words import ConditionName, Role

__all__ = ["ROUNDING", "AnswerScore", "Asked", "Observation", "Row"]

ROUNDING = 1e-3
"""Nats by which a log probability may stand above 0 through rounding in the model's number format."""


@dataclass(frozen=True)
class AnswerScore:
    """One accepted answer, scored teacher-forced: each token given the prompt and the earlier tokens."""

    text: str
    """The scored text: without what ``given`` has already said."""
    logps: tuple[float, ...]
    """Nats; ``-inf`` where the number format has no smaller probability."""
    ranks: tuple[int, ...]
    """Rank of each token among the vocabulary, 1 = most probable."""
    shared: int = 0
    """How many leading tokens somebody else's answer to the same question begins with too."""

    def __post_init__(self) -> None:
        """Refuse a score that no model can give; it would be an error of ours and not of the user."""
        if not self.logps or len(self.logps) != len(self.ranks):
            raise ValueError(f"{self.text!r} has {len(self.logps)} log probabilities and {len(self.ranks)} ranks")
        if any(logp > ROUNDING for logp in self.logps):
            raise ValueError(f"{self.text!r} has a log probability above 0: {max(self.logps)}")
        if any(rank < 1 for rank in self.ranks):
            raise ValueError(f"{self.text!r} has a rank below 1: {min(self.ranks)}")
        if not 0 <= self.shared <= len(self.ranks):
            raise ValueError(f"{self.text!r} shares {self.shared} of {len(self.ranks)} tokens")


@dataclass(frozen=True)
class Observation:
    """What the model did on one prompt."""

    answers: tuple[AnswerScore, ...] = ()
    """Every accepted alias; none for a text that asks nothing."""
    generated: tuple[int, ...] | None = None
    """Greedy tokens, cut at the end of text; None where nothing was generated."""
    text: str | None = None
    """The generated tokens as text."""
    finite: bool = True
    """False when a value of the forward pass was NaN or infinite: nothing else here may then be used."""
    shorter: Mapping[int, str] = field(default_factory=dict)
    """Text of the first n generated tokens, where a measure asks for fewer than were generated."""
    rivals: tuple[AnswerScore, ...] = ()
    """The answers of the prompt's patch twin, behind the same prompt."""
    tokens: tuple[float, ...] | None = None
    """Of a prompt without answers: log probability in nats of each of its tokens after the first."""


@dataclass(frozen=True)
class Asked:
    """One question under one condition."""

    intervention: str
    edited: str
    """Key of the owner whose neurons are edited."""
    condition: ConditionName
    draw: int
    """Which draw of a control, from 0."""
    role: Role
    axes: Mapping[str, float | str]
    """Sweep: value; none where it was tuned."""
    prompt_id: int
    """The same number for the same question under every condition."""
    prompt: str
    entity: str | None = None
    variant: str | None = None
    relation: str | None = None
    phrasing: str | None = None
    language: str | None = None
    template: str | None = None
    part: str | None = None
    answers: tuple[str, ...] = ()
    columns: Mapping[str, str | float] = field(default_factory=dict)
    """Attributes of the fact and of its entity."""
    purpose: Literal["score", "tune"] = "score"
    """Whether the question is scored, or a value is chosen on it."""
    tuned: Mapping[str, float | str] = field(default_factory=dict)
    """Sweep: the value that was chosen on other questions."""


@dataclass(frozen=True)
class Row:
    """A question, what was observed, and what it is compared with: one line of the long table."""

    asked: Asked
    observation: Observation
    clean: Observation | None = None
    """The same question about the real name in the unedited model."""
    unknown: tuple[Observation, ...] = ()
    """The clean observations of the same answers, one for each stranger named instead."""
    known: bool | None = None
    """Whether the clean model answers it; None where nobody asked that."""
    values: dict[str, float | str | None] = field(default_factory=dict)
    """Measure as written: its value."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Measure as written: why it has no value."""
