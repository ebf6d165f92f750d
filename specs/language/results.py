"""The result of a run as a versioned document: what ``results.json`` holds and all that a report needs.

The run folder is the truth and this document is its index. Beside it lie ``results.parquet`` (the long table, one
row per prompt, edited group, condition, role and sweep value), ``spec.yaml``, ``plan.txt``, ``provenance.json``,
``rankings/<name>.npz`` (every neuron's score), ``neurons/<name>.json`` (sets for later specs) and ``report.html``.

Numbers are finite or absent: a figure that could not be had is ``None`` and its reason stands beside it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from specs.language.records import ImportedTable as ImportedTable
from specs.language.records import LeftOut as LeftOut
from specs.language.records import ModelFacts as ModelFacts
from specs.language.records import Record as Record
from specs.language.words import ConditionName, Role

FORMAT = 1
STANDS_OUT = 2.0
"""Below this dominance no neuron is called a cell: the best scores less than twice the next of its layer."""
TRUSTED = 10.0
"""The dominance that the trust filter of the source paper asks for."""
EVERYBODY = "*"
"""The owner of means over all owners."""
MANY = 6
"""Owners beyond which they are spoken of together and not one by one."""


class PromptCounts(Record):
    """How many questions a prompt set has of one relation."""

    relation: str
    prompts: int
    """Texts: facts times wordings, names and languages."""
    facts: int
    answers: int
    """Different answers, a list of accepted ones counted once: where there are few, the commonest is right often."""
    parts: dict[str, int] = Field(default_factory=dict)
    """Part of a split: facts."""
    known: int | None = None
    """Prompts that the clean model answers; None where it was not asked by the set itself."""
    known_facts: int | None = None
    """Facts of which it answers some wording."""


class PromptSetCounts(Record):
    """What a prompt set of questions holds, relation by relation."""

    of: str | None = None
    """The set it is derived from."""
    known_rule: str = ""
    """What the clean model must meet; empty for none of its own."""
    parts: list[str] = Field(default_factory=list)
    relations: list[PromptCounts]


class ChatFrame(Record):
    """The chat that prompts went through."""

    where: str
    """The block that turns it on: `model`, or a prompt set."""
    system: str | None = None
    prefill: str | None = None
    frame: str
    """The rendering of the tokenizer's template, with the word PROMPT where the prompt stood."""


class SelfTest(Record):
    """One check of the engine on the loaded model."""

    name: str
    question: str
    """What it asks, in one sentence."""
    passed: bool
    figure: float | None = None
    limit: float | None = None
    detail: str = ""
    milliseconds: float = 0.0


class Stage(Record):
    """One stage of the plan: how much was run, and how much of it was already known."""

    name: str
    prompts: int
    tokens: int
    """Tokens if every prompt and condition were run by itself."""
    padded_tokens: int
    """The same, padded to the longest in one batch."""
    distinct_tokens: int
    """Nodes of the prompt trees: what the whole stage runs if nothing of it is known."""
    run_tokens: int | None = None
    """Nodes that this run has run: fewer where parts of the stage were known, more where some were read twice."""
    recomputed: list[str] = Field(default_factory=list)
    """The owners or questions that were run, where the others were known."""
    passes: int
    seconds: float = 0.0
    estimated_bytes: int | None = None
    """What passes and reading may take beside the weights, as estimated before the run."""
    used_bytes: int | None = None
    """The most that was seen."""
    reused: bool = False
    mode: Literal["trees", "padded", "one by one"] = "trees"
    note: str = ""


class RankedNeuron(Record):
    """One neuron of a ranking."""

    rank: int
    address: str
    """``L1.N11948`` (or ``gate:L1.N5`` at another site than mlp.neurons)."""
    site: str
    layer: int
    neuron: int | None
    """None where whole layers are ranked: the address is then ``L4``."""
    score: float
    dominance: float | None = None
    """Score over the mean score of the next five of its layer; where layers are ranked, of the next five layers."""
    mean: float | None = None
    """Mean of its activation over the group's prompts."""
    std: float | None = None
    mean_z: float | None = None
    """Mean of (activation - baseline mean) / baseline std."""
    std_z: float | None = None
    floored: bool = False
    """True when std_z stood on its floor, so that the score is a lower bound."""
    shared_by: int | None = None
    """Entities for which it scores at least half as high as here, this one included; None where not counted."""
    attribution: float | None = None
    """Signed mean of gradient times activation, in units of the objective."""


class LayerFigure(Record):
    """What the score of a layer is made of: S = norm x cosine / cosine_std, and the score is S over that of names."""

    layer: int
    stability: float
    """S."""
    norm: float
    """Mean length of the vectors, over prompts."""
    cosine: float
    """Mean cosine of every two of them."""
    cosine_std: float
    """Population standard deviation of these cosines."""
    floored: bool = False
    """True when cosine_std stood on its floor, so that S is a lower bound."""


class RandomName(Record):
    """The best of the ranking that was made for a made-up name: one draw of the null."""

    name: str
    address: str
    score: float
    dominance: float | None = None


class ShuffledFigures(Record):
    """The same ranking with labels that were shuffled: what is reached by choosing among so many neurons."""

    precision: list[float]
    """Average precision at the ranks of the real one."""
    mean: float
    """Mean over the best neurons, as many as the set holds."""


class PrecisionFigures(Record):
    """How well neurons tell an owner's prompts from those of others, by the raw value alone."""

    n_positive: int
    n_negative: int
    base_rate: float
    """Share of the owner's own prompts: the average precision of a neuron that knows nothing."""
    ranks: list[int]
    precision: list[float]
    """Average precision of the neuron at each of these ranks."""
    mean: float
    """Mean over the neurons of the set."""
    shuffled: list[ShuffledFigures] = Field(default_factory=list)
    tied: int = 1
    """How many of all candidates are as good as the last of the set."""
    tied_within: int = 1
    """How many of these the set holds: the first by layer and place."""
    above_shuffled: int | None = None
    """How many of all candidates are better than the best of every shuffled ranking; None without any."""


class RankingGroup(Record):
    """The ranking of one owner: an entity, or an entity's variant."""

    key: str
    """``trump`` or ``trump/surname``: what follows the ranking's name in a reference."""
    label: str
    """The name as it stands in the prompts."""
    entity: str | None = None
    variant: str | None = None
    n_prompts: int
    n_candidates: int
    """How many neurons were ranked."""
    neurons: list[RankedNeuron]
    """The best of them, best first; the whole ranking lies in ``rankings/<name>.npz``."""
    chosen: list[str]
    """Addresses of the set that ``ranking/key`` stands for, best first; of a large set the best of them."""
    n_chosen: int = 0
    """How many neurons the set holds, where not all are listed."""
    precision: PrecisionFigures | None = None
    """Where neurons are ranked by average precision: how it falls with the rank, and what shuffled labels reach."""
    profile: dict[str, list[int]] = Field(default_factory=dict)
    """Site: how many neurons of such a set lie in each layer that was ranked; empty for other rankings."""
    values: dict[str, list[float]] = Field(default_factory=dict)
    """Address: its activation on every prompt of the group, in the order of ``prompts``."""
    prompts: list[str] = Field(default_factory=list)
    layers: list[LayerFigure] = Field(default_factory=list)
    """Where layers are ranked: the figures of each, in the order of the model."""
    random_names: float | None = None
    """Share of the made-up names whose best is at least as dominant (of layers: scores as high); None without any."""

    @property
    def size(self) -> int:
        """How many neurons the set holds, listed or not."""
        return self.n_chosen or len(self.chosen)


class Ranking(Record):
    """One localisation: a ranking for each owner."""

    name: str
    metric: str
    site: str
    """Where neurons were read; several sites with commas between them."""
    widths: dict[str, int] = Field(default_factory=dict)
    """Site: number of its neurons in every layer, in the order in which a row of the ranking file holds them; empty
    where whole layers are ranked."""
    ranked_layers: list[int] = Field(default_factory=list)
    """The layers that were ranked, where neurons are ranked by average precision."""
    position: str
    by: list[str]
    prompts: str
    against: str | None = None
    n_baseline: int = 0
    groups: dict[str, RankingGroup]
    warnings: list[str] = Field(default_factory=list)
    shared_winners: dict[str, list[str]] = Field(default_factory=dict)
    """Address: the unrelated owners it wins for, if more than one."""

    @property
    def by_precision(self) -> bool:
        """Whether sets of neurons are ranked by how they tell prompts apart, and no single one need stand out."""
        return self.metric == "average_precision"

    def names_themselves(self) -> list[RankingGroup]:
        """List the rankings of names as such, other forms left out."""
        return [group for group in self.groups.values() if group.variant is None and group.neurons]

    def sharing(self) -> frozenset[str]:
        """Give the owners whose best neuron is an unrelated owner's, too: it is a cell of neither."""
        return frozenset(key for keys in self.shared_winners.values() for key in keys)

    def standing_out(self) -> list[RankingGroup]:
        """List the names of whose own neuron, and nobody else's, the trust filter would have no doubt."""
        shared = self.sharing()
        own = (group for group in self.names_themselves() if group.key not in shared)
        return [group for group in own if (group.neurons[0].dominance or 0.0) >= TRUSTED]

    unit: Literal["neuron", "layer"] = "neuron"
    """What is ranked."""
    objective: str | None = None
    """The number whose gradient was taken."""
    random_names: list[RandomName] = Field(default_factory=list)
    """The same ranking for names that nobody has."""
    names_band: list[tuple[float, float]] = Field(default_factory=list)
    """Where layers are ranked: of each layer, the 5th and 95th percentile of the score of single made-up names."""


class Summary(Record):
    """The mean of one measure over the prompts of one cell of the design."""

    edited: str
    """The owner whose neurons were edited; ``*`` for the mean over all owners."""
    condition: ConditionName
    role: Role
    axes: dict[str, float | str] = Field(default_factory=dict)
    """Sweep: value, such as ``scale: -3``."""
    relation: str | None = None
    """None for all relations together."""
    measure: str
    n: int
    """Number of prompts (for ``*``: of prompts over all owners)."""
    mean: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    """Bootstrap interval, 95 percent, over prompts."""
    draws: list[float] = Field(default_factory=list)
    """For several draws of a control: the mean of each draw."""


class Candidate(Record):
    """A neuron that a filter judged, with a figure for each of its conditions."""

    address: str
    layer: int
    neuron: int
    rank: int | None = None
    """Its place in the ranking, 1 = best; None for one that was not ranked."""
    score: float | None = None
    dominance: float | None = None
    figures: list[float | str | None]
    """What each condition reads, in their order."""
    n: list[int]
    """Over how many questions; 0 for a property of the ranking."""
    reasons: list[str]
    """Why a figure is None; empty for the others."""
    wanted: list[float | None]
    """What it is compared with where that is a result too; None where the condition names the number."""
    failed: int | None = None
    """Number of the first condition that is not met, from 0; None where all are."""
    side_effects: dict[str, float] = Field(default_factory=dict)
    """Result path: what editing it did to texts about nobody, where no condition asks for that."""


class OwnerChoice(Record):
    """What a set holds for one owner, and which candidates it was chosen from."""

    owner: str
    label: str
    neurons: list[str]
    """Addresses, best first; of a large set the best of them."""
    n_neurons: int = 0
    """How many there are, where not all are listed."""
    n_candidates: int = 0
    left: list[int] = Field(default_factory=list)
    """How many candidates meet the first condition, the first two, ..."""
    candidates: list[Candidate] = Field(default_factory=list)
    """All of them; where a whole ranking was filtered, its best."""

    @property
    def size(self) -> int:
        """How many neurons the set holds, listed or not."""
        return self.n_neurons or len(self.neurons)


class SetPlacebo(Record):
    """The same filter over random neurons, each in the place of a candidate."""

    intervention: str = ""
    sizes: list[int] = Field(default_factory=list)
    """Of each draw, how many neurons the set would hold."""
    owners: list[int] = Field(default_factory=list)
    """Of each draw, how many owners would have one."""
    left: list[float] = Field(default_factory=list)
    """Owners with a random neuron that meets the first condition, the first two, ...: mean over draws."""
    size: float | None = None
    """Mean of ``sizes``."""
    reason: str = ""
    """Why there is none."""


class NeuronSetResult(Record):
    """A set of neurons: whose it holds, and how they were chosen."""

    name: str
    of: str = ""
    """What it is taken from."""
    conditions: list[str] = Field(default_factory=list)
    """As written."""
    quantities: list[str] = Field(default_factory=list)
    """What each condition reads."""
    interventions: list[str] = Field(default_factory=list)
    """Whose results it reads."""
    owners: dict[str, OwnerChoice]
    size: int
    """Neurons of all owners, other forms of a name left out."""
    funnel: list[int] = Field(default_factory=list)
    """Owners with candidates, then those with one that meets the first condition, the first two, ..."""
    placebo: SetPlacebo | None = None
    """None where no condition reads a result."""


class InjectedText(Record):
    """A greedy continuation under one condition."""

    edited: str
    condition: ConditionName
    draw: int = 0
    axes: dict[str, float | str] = Field(default_factory=dict)
    entity: str | None = None
    relation: str | None = None
    role: Role
    prompt: str
    text: str
    answers: list[str] = Field(default_factory=list)
    hit: bool = False
    """The text begins with an accepted answer."""


class LearningStep(Record):
    """The loss of a learned vector before one step, or after the last, term by term."""

    step: int
    loss: float
    attack: float
    """-log p(new answer), mean over the wordings of the fact."""
    preserve: float
    """KL of kept prompts, clean against edited, in nats."""
    norm: float
    """Squared length of the vector."""
    p_new: float
    """Probability of the new answer, mean over the wordings."""


class VectorResult(Record):
    """A vector that edits add: where it is, how it was made, and for a learned one, how it was learned."""

    name: str
    kind: Literal["learn", "mean", "from"]
    site: str
    layer: int
    position: str
    width: int
    norm: float
    """Its length."""
    how: str
    path: str = ""
    """Within the run folder."""
    source_hash: str = ""
    """sha256 of the file it was read from."""
    n_prompts: int = 0
    """Prompts of the mean, or wordings of the fact."""
    n_minus: int = 0
    fact: str | None = None
    becomes: str | None = None
    n_kept: int = 0
    steps: list[LearningStep] = Field(default_factory=list)
    kept_median: float | None = None
    """p(own answer) with the vector over p without it, median over kept prompts."""
    kept_least: float | None = None


class SavedModel(Record):
    """A checkpoint with an edit in its weights, in the run folder."""

    name: str
    path: str
    """Within the run folder: ``models/<name>``."""
    owner: str
    neurons: dict[str, float]
    """Address: the factor its output column was multiplied by."""
    bytes: int


class TunedValue(Record):
    """The value of a sweep that one condition of one owner chose on other questions, and what came of it."""

    edited: str
    condition: ConditionName
    draw: int = 0
    axes: dict[str, float | str]
    n: int
    """Number of questions it was chosen on."""
    figure: float
    """Mean of the measure over them, at this value."""
    n_scored: int = 0
    score: float | None = None
    """Mean of the measure over the questions that are scored."""


class Tuning(Record):
    """How the values of a sweep were chosen: on which questions, by what, and how everything tried did."""

    on: str
    aim: Literal["maximize", "minimize"]
    measure: str
    ties: str
    """What is chosen of values that do equally well."""
    axes: dict[str, list[float | str]]
    n_asked: int
    n_known: int
    known_rule: str = ""
    summaries: list[Summary]
    """The whole curve: the measure on these questions, for each owner, condition and value."""
    chosen: list[TunedValue]


class MajorityAnswer(Record):
    """What always giving one answer to the questions of a relation would get right."""

    relation: str
    answer: str
    """The answer that is accepted for most of the questions; of several languages that of each, with ` / ` between."""
    n: int
    """Number of questions."""
    share: float
    """Of the questions it is right for: the accuracy of always saying it."""


class EditedSet(Record):
    """A set of neurons that is too large to be written out; the addresses are in ``rankings/`` and ``neurons/``."""

    n: int
    places: dict[str, int]
    """Site and layer, such as ``mlp.gate L3``: how many of them."""
    digest: str
    """sha256 over all of them, in the order of sites and layers."""
    draws: list[str] = Field(default_factory=list)
    """The same hash for every draw of random neurons in its place."""
    elsewhere: int = 0
    """Most random neurons of a draw that stand in another layer than those they stand for, which had none left."""


class InterventionResult(Record):
    """One intervention with its controls."""

    name: str
    title: str
    """The field's word for it: negative ablation, zero ablation, injection ..."""
    edits: list[str]
    """Each edit in words, such as ``scale cell by 1 ... -3 at entity.last``."""
    owners: list[str]
    neurons: dict[str, list[str]]
    """Owner: addresses that were edited, over all points of the sweep; of a large set the first of them."""
    n_neurons: dict[str, int] = Field(default_factory=dict)
    """Owner: how many there are, where not all are listed."""
    sets: dict[str, EditedSet] = Field(default_factory=dict)
    """Owner: what was edited, where ``neurons`` does not list all of it."""
    vectors: list[str] = Field(default_factory=list)
    """The vectors that were added."""
    wrong_owner: dict[str, str] = Field(default_factory=dict)
    """Owner: whose neurons were its wrong_cell."""
    random_neurons: dict[str, list[list[str]]] = Field(default_factory=dict)
    """Owner: the addresses of each draw; none for those of ``sets``."""
    axes: dict[str, list[float | str]]
    """Sweeps of the summaries; none where the values were tuned."""
    tuning: Tuning | None = None
    measures: list[str]
    placeholder: str | None = None
    freeze: str | None = None
    ask: list[str]
    n_asked: int
    n_known: int
    n_texts: int = 0
    """Prompts without answers that were asked; those about nobody were edited at every token."""

    def size(self, owner: str) -> int:
        """Count the neurons that were edited for an owner, listed or not."""
        return self.n_neurons.get(owner) or len(self.neurons.get(owner, []))

    known_rule: str = ""
    summaries: list[Summary]
    texts: list[InjectedText] = Field(default_factory=list)
    controls: dict[str, str] = Field(default_factory=dict)
    """Control: what was done, or why it does not apply."""
    warnings: list[str] = Field(default_factory=list)
    saved_model: SavedModel | None = None
    majority: list[MajorityAnswer] = Field(default_factory=list)
    """Of each relation that is asked; to be read beside the clean accuracy."""
    frozen_deviation: float | None = None
    """Largest deviation of a frozen value from its source."""
    not_applicable: str = ""
    """Why it was not run: such as that no neuron passed the filter of what it edits."""


class CellFigure(Record):
    """One cell of a pivot: a mean over its questions, or a drop from the clean mean."""

    row: str
    column: str
    n: int
    """Number of questions."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    """Bootstrap interval, 95 percent, over questions."""
    clean: float | None = None
    """Of a drop: the mean without the edit ..."""
    edited: float | None = None
    """... and with it."""
    reason: str = ""
    """Why there is no value."""


class ErrorExample(Record):
    """A wrong answer of one class, as the model gave it."""

    kind: str
    """The class."""
    condition: str
    """With the value of the sweep, if there is one."""
    relation: str | None = None
    prompt: str
    text: str
    answers: list[str] = Field(default_factory=list)
    """What would have been right."""


class AnalysisResult(Record):
    """What an analysis derived: a table, and a sentence."""

    name: str
    verb: str
    of: str
    columns: list[str]
    rows: list[list[str | float | int | bool | None]]
    sentence: str = ""
    figures: dict[str, float] = Field(default_factory=dict)
    cells: list[CellFigure] = Field(default_factory=list)
    """Of a pivot, what each of its cells rests on."""
    examples: list[ErrorExample] = Field(default_factory=list)
    """Of errors, some texts of each class."""


class ClaimResult(Record):
    """A claim of ``expect:`` and what came of it."""

    claim: str
    source: str = ""
    when: str = ""
    outcome: Literal["met", "not met", "not applicable"]
    observed: str = ""
    reason: str = ""


class Effect(Record):
    """What one intervention did to one owner, in a line: at its strongest value, or where it brings back most."""

    intervention: str
    edited: str
    label: str
    neurons: list[str]
    """Addresses that were edited; of a large set the first of them."""
    n_neurons: int = 0
    """How many there are, where not all are listed."""
    measure: str
    axes: dict[str, float | str]
    """The value of the sweep that is shown."""
    picked: bool = False
    """True where the value was picked after the fact, as the one with the highest mean; controls have theirs too."""
    base: float
    """Without the edit."""
    target: Summary
    others: Summary | None = None
    random_neurons: list[float] = Field(default_factory=list)
    """Mean of each draw."""
    wrong_cell: float | None = None

    @property
    def size(self) -> int:
        """How many neurons were edited, listed or not."""
        return self.n_neurons or len(self.neurons)

    verdict: Literal["none", "raised", "unspecific", "placebo", "single", "shared", "specific"]
    """Specific: the owner's figure moves, that of others by less than half as much, and no control does the same;
    single: the same over one question, which has no interval; shared: of a neuron that ranks first for somebody else
    too."""


class MatrixCell(Record):
    """One run of a matrix, as far as the comparison shows it."""

    label: str
    axes: dict[str, str]
    """Axis of the matrix: the value of this run."""
    hash: str
    folder: str = ""
    """Name of its run folder, beside that of the matrix; empty if there is none."""
    status: Literal["complete", "partial", "failed"]
    reason: str = ""
    answer: str = ""
    seconds: float = 0.0
    model: ModelFacts | None = None
    rankings: dict[str, Ranking] = Field(default_factory=dict)
    """With the best neuron of each owner only."""
    interventions: dict[str, InterventionResult] = Field(default_factory=dict)
    """With the means over all relations only."""
    effects: list[Effect] = Field(default_factory=list)
    claims: dict[str, int] = Field(default_factory=dict)
    """Outcome: how many claims of the run have it."""


class MatrixResults(Record):
    """What the runs of a matrix are, side by side, and what was compared across them."""

    format: Literal[1] = 1
    name: str
    title: str = ""
    description: str = ""
    answer: str = ""
    hash: str
    axes: dict[str, list[str]]
    status: Literal["complete", "partial", "failed"]
    reason: str = ""
    started: str
    seconds: float
    cells: list[MatrixCell]
    analyses: dict[str, AnalysisResult] = Field(default_factory=dict)
    claims: list[ClaimResult] = Field(default_factory=list)


class Results(Record):
    """Everything a run found."""

    format: Literal[1] = 1
    name: str
    title: str = ""
    description: str = ""
    """The question."""
    answer: str = ""
    """The answer in one sentence."""
    hash: str
    cell: str = ""
    """Label of the matrix cell, empty without a matrix."""
    status: Literal["complete", "partial", "failed"]
    reason: str = ""
    """Why it is not complete."""
    started: str
    seconds: float
    model: ModelFacts
    rankings: dict[str, Ranking] = Field(default_factory=dict)
    neurons: dict[str, NeuronSetResult] = Field(default_factory=dict)
    vectors: dict[str, VectorResult] = Field(default_factory=dict)
    interventions: dict[str, InterventionResult] = Field(default_factory=dict)
    analyses: dict[str, AnalysisResult] = Field(default_factory=dict)
    claims: list[ClaimResult] = Field(default_factory=list)
    tables: list[ImportedTable] = Field(default_factory=list)
    prompt_sets: dict[str, PromptSetCounts] = Field(default_factory=dict)
    """Name: what it holds."""
    chats: list[ChatFrame] = Field(default_factory=list)
    left_out: list[LeftOut] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    self_tests: list[SelfTest] = Field(default_factory=list)
    stages: list[Stage] = Field(default_factory=list)
    provenance: dict[str, Any] = Field(default_factory=dict)
    spec: str = ""
    """The resolved spec as YAML."""
