"""The plan: what will be run, as frozen data that can be printed, counted and compared.

A plan is made from a checked spec, a tokenizer and the shape of a model; it needs no weights. Conditions are
symbolic: which neurons they edit is known when the rankings are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from runner.bind import BoundPrompt
from runner.localization.contrast import Contrast
from runner.program import Job, Lesson
from specs.language.experiment import Condition as Rule
from specs.language.experiment import Intervention, Localize, Vector
from specs.language.results import LeftOut
from specs.language.words import ConditionName, Role

Axes = tuple[tuple[str, float | str], ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """What is done to a prompt, in symbols.

    ``kind``: ``edit`` for the neurons of ``owner`` (the wrong cell is the edit of another owner),
    ``random_neurons`` for draw ``draw`` like those of ``owner``, ``no_edit`` for the freeze alone.
    """

    intervention: str
    kind: Literal["edit", "random_neurons", "no_edit"]
    owner: str
    draw: int = 0
    axes: Axes = ()
    held: str = ""
    """Whose neurons' layers are frozen, where a freeze names the layers of a neuron set."""


@dataclass(frozen=True, slots=True)
class AnswerSlot:
    """Where the scores of one accepted answer are: scores ``start:stop`` of a sequence of the job."""

    text: str
    sequence: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One prompt under one condition: the slots of its answers, and the sequence that generates its text.

    A prompt without answers may have the slot of its own tokens instead.
    """

    answers: tuple[AnswerSlot, ...]
    text: int | None = None
    tokens: AnswerSlot | None = None
    rivals: tuple[AnswerSlot, ...] = ()
    """Of the answers of the patch twin, behind this prompt."""


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """One row of the long table before anything is run."""

    edited: str
    condition: ConditionName
    draw: int
    role: Role
    axes: Axes
    prompt: BoundPrompt
    """The prompt as asked: with the placeholder's or the stranger's name where that is meant."""
    question: BoundPrompt
    """The question whose answers are scored, with its own entity's name."""
    reading: Reading
    clean: Reading
    unknown: tuple[Reading, ...] = ()
    deferred: bool = False
    """Whether it is asked for a filter alone, which wants it only for some random neurons."""
    former: tuple[BoundPrompt, Reading] | None = None
    """The question with the answers it has outside this intervention, and its clean run: are those known?"""


@dataclass(frozen=True)
class KnownStage:
    """The questions of a prompt set that a ranking is made of, asked in the clean model to see which it answers."""

    name: str
    """The prompt set, or one of its parts."""
    rule: Rule
    job: Job
    questions: tuple[BoundPrompt, ...]
    readings: tuple[Reading, ...]
    """Where the answers of each question are scored."""
    candidates: tuple[BoundPrompt, ...] = ()
    """Every question of the same relations: whose answers may share first tokens."""


@dataclass(frozen=True)
class LocalizeStage:
    """One ranking: which sequences of the job belong to which owner, and which are the baseline."""

    name: str
    spec: Localize
    job: Job
    groups: Mapping[str, tuple[int, ...]]
    labels: Mapping[str, tuple[str, str | None, str | None]]
    """Owner: its name in prompts, its entity, its variant."""
    baseline: tuple[int, ...]
    prompts: tuple[BoundPrompt, ...]
    """The prompt of each sequence."""
    layers: tuple[int, ...]
    left_out: tuple[LeftOut, ...] = ()
    unknown: frozenset[str] = frozenset()
    """Owners that are not ranked, because the clean model knows too few of their prompts."""
    names: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Made-up name: its sequences; the same ranking is made for each, as a control."""
    contrasts: Mapping[str, Contrast] = field(default_factory=dict)
    """Owner: what its prompts are told from, where a metric tells them from others'."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeanStage:
    """Values read from other prompts, which an edit sets or adds and a freeze holds to: means, or a random prompt's.

    Which sites and layers are read is known with the neurons, when the rankings are.
    """

    label: str
    """Such as ``mean over dummies``."""
    job: Job
    members: Mapping[tuple[int, int], tuple[tuple[str, str, int], ...]]
    """(sequence, position read) -> what its value is part of: (text of the prompt it is for, position word, number of
    the token among those the word means); the values of equal keys are averaged. The text is empty where they are the
    same for every prompt."""
    shared: bool = False
    left_out: tuple[LeftOut, ...] = ()
    under: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(text of a prompt, position word) -> the text under which its values stand, where it is not the prompt's own."""


@dataclass(frozen=True)
class VectorStage:
    """One vector: where it is added, and what it is made of (nothing, where it is read from a file)."""

    name: str
    spec: Vector
    site: str
    layer: int
    position: str
    means: MeanStage | None = None
    """What is averaged: keys ``mean`` and ``minus``."""
    attack: tuple[Lesson, ...] = ()
    """The wordings of the fact that is learned, with its new answer."""
    keep: tuple[Lesson, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class AskStage:
    """One intervention with its controls."""

    name: str
    spec: Intervention
    job: Job
    rows: tuple[PlannedRow, ...]
    owners: tuple[str, ...]
    wrong: Mapping[str, str]
    """Owner: whose neurons are its wrong cell."""
    axes: Mapping[str, tuple[float | str, ...]]
    controls: Mapping[str, str]
    """Control: what is done, or why it does not apply."""
    means: tuple[MeanStage, ...] = ()
    held_at: int | None = None
    """Which of the means the freeze holds to."""
    taken_from: tuple[int | None, ...] = ()
    """For each edit, which of the means it takes its values from."""
    candidates: tuple[BoundPrompt, ...] = ()
    """Every question of the asked relations, asked or not: whose answers may share first tokens."""
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    """Interventions whose results say which neurons are edited; until then the rows are an upper bound."""
    tuning: AskStage | None = None
    """The questions on which the values of the sweep are chosen, at all of them; the rows of the stage itself stand at
    one value for each condition: the first of the sweep, until they are chosen."""
    deferred: frozenset[Role] = frozenset()
    """Roles in which random neurons are asked for a filter alone: run for draws that meet the conditions before."""

    @cached_property
    def points(self) -> Mapping[tuple[str, ConditionName, int], tuple[Axes, ...]]:
        """(owner, condition, draw): the points of the sweep at which it is asked."""
        found: dict[tuple[str, ConditionName, int], dict[Axes, None]] = {}
        for row in self.rows:
            found.setdefault((row.edited, row.condition, row.draw), {})[row.axes] = None
        return {key: tuple(points) for key, points in found.items()}


@dataclass(frozen=True)
class Plan:
    """Stages in the order in which they are run."""

    localize: tuple[LocalizeStage, ...]
    ask: tuple[AskStage, ...]
    warnings: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = field(default=())
    vectors: tuple[VectorStage, ...] = ()
    known: tuple[KnownStage, ...] = ()
    """Run first: rankings are then made of what these leave, and until then hold every question."""
