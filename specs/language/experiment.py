"""The grammar of a spec as data: one model per block, in the long form that a resolved spec shows.

A spec is read by :mod:`specs.language.load`; what arrives here is already merged and typed. Field descriptions
are the reference: the JSON schema and ``docs/spec_reference.md`` are generated from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from specs.language.words import AnalysisVerb, Column, Dtype, Metric, Objective, Pool, Rule

Text = str
Number = float
Texts = list[Text]


class Block(BaseModel):
    """A mapping of the language: unknown keys are refused, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Range(Block):
    """Evenly spaced numbers: ``{first: 1, last: -3, count: 21}``."""

    first: Number = Field(description="The first number.")
    last: Number = Field(description="The last number.")
    count: int = Field(ge=2, description="How many numbers, ends included.")
    log: bool = Field(default=False, description="Space the numbers evenly in the logarithm.")

    def values(self) -> list[float]:
        """List the numbers, each rounded to 12 significant digits so that 0.2 steps meet 0 exactly."""
        if self.log:
            ratio = (self.last / self.first) ** (1 / (self.count - 1))
            raw = [self.first * ratio**i for i in range(self.count)]
        else:
            step = (self.last - self.first) / (self.count - 1)
            raw = [self.first + step * i for i in range(self.count)]
        return [round(value, 12) + 0.0 for value in raw]


class Condition(Block):
    """``quantity op value``; written as text, kept as its parts."""

    quantity: Text
    op: Literal["=", "!=", "<", "<=", ">", ">=", "in", "within"]
    value: float | str | tuple[float | str, ...]
    tolerance: float | None = None
    """Only for ``within``: ``overlap within 20 of 131`` has tolerance 20 and value 131."""


class Chat(Block):
    system: Text | None = Field(default=None, description="System message of the chat template.")
    prefill: Text | None = Field(default=None, description="What the assistant's turn begins with.")


class ModelSpec(Block):
    id: Text = Field(description="A card name (`run-spec models`), a hub id, a folder, or a GGUF file.")
    revision: Text | None = Field(default=None, description="Commit, tag or branch on the hub.")
    dtype: Dtype = Field(default="auto", description="Number format of weights and activations.")
    device: Text = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    attention: Literal["auto", "eager", "sdpa"] = Field(default="auto", description="Attention code.")
    chat: bool | Chat = Field(default=False, description="Put prompts through the model's chat template.")


class DataFile(Block):
    from_: Text = Field(alias="from", description="A file or folder, relative to the spec.")
    relations: Texts | None = Field(default=None, description="Which relations to take; all if absent.")
    columns: dict[Text, Text] = Field(default_factory=dict, description="Our word: their column.")
    where: list[Condition] = Field(default_factory=list, description="Which rows.")
    unique: Text | None = Field(default=None, description="Keep one row per value of this column.")
    order: Text | None = Field(default=None, description="Sort by this column; a leading - reverses.")
    limit: int | None = Field(default=None, ge=1, description="At most this many rows.")
    language: Text | None = Field(default=None, description="The file is a translation into this language.")


class Entity(Block):
    name: Text = Field(description="The name as it stands in prompts.")
    variants: dict[Text, Texts] = Field(default_factory=dict, description="Label: other forms of the name.")
    attributes: dict[Text, Text | float] = Field(
        default_factory=dict, description="Facts about the entity that are used in by, where, correlations."
    )


class PlaceholderFile(Block):
    from_: Text = Field(alias="from", description="A YAML list of names.")


class Translation(Block):
    prompt: Texts = Field(description="The question in this language.")
    answers: dict[Text, Texts] = Field(default_factory=dict, description="Entity: accepted answers.")


class Relation(Block):
    prompt: Texts = Field(description="The question, with `{{ entity }}`.")
    answers: dict[Text, Texts] = Field(default_factory=dict, description="Entity: accepted answers.")
    given: Text | None = Field(default=None, description="The answer has begun with this; the rest is scored.")
    phrasings: dict[Text, Texts] = Field(default_factory=dict, description="Label: other wordings.")
    translations: dict[Text, Translation] = Field(default_factory=dict, description="Language: translation.")


class EntityFilter(Block):
    where: list[Condition] = Field(default_factory=list, description="Conditions on attributes.")
    order: Text | None = Field(default=None, description="Sort by this attribute; a leading - reverses.")
    limit: int | None = Field(default=None, ge=1, description="At most this many.")


class Split(Block):
    into: dict[Text, float | Literal["rest"]] = Field(description="Part: number, fraction, or rest.")
    per: Text | None = Field(default=None, description="Count within each value of this column.")
    disjoint: Text | None = Field(default=None, description="No value of this column in two parts.")


class PromptSet(Block):
    """Exactly one of relations, templates, texts, pairs, of."""

    relations: Literal["all"] | Texts | None = Field(default=None, description="Questions with answers.")
    templates: Text | Texts | None = Field(default=None, description="Texts about an entity (name or list).")
    texts: Text | Texts | None = Field(default=None, description="Texts about nobody (file or list).")
    pairs: Text | list[dict[Text, Text]] | None = Field(default=None, description="Clean and patch twins.")
    of: Text | None = Field(default=None, description="Another prompt set to derive from.")
    entities: Literal["all"] | Texts | EntityFilter = Field(default="all", description="Which entities.")
    variants: Literal["all"] | Texts | None = Field(default=None, description="Which name forms.")
    phrasing: Texts | None = Field(default=None, description="Which wordings.")
    language: Texts | None = Field(default=None, description="Which languages.")
    wrap: Text | None = Field(default=None, description="A frame with `{{ prompt }}`.")
    chat: bool | Chat | None = Field(default=None, description="As in model; the model's if absent.")
    patch: Literal["entity", "variant", "language"] | None = Field(
        default=None, description="The twin is the same prompt with another one of these."
    )
    where: list[Condition] = Field(default_factory=list, description="Which prompts.")
    unique: Text | None = Field(default=None, description="Keep one prompt per value of this column.")
    limit: int | None = Field(default=None, ge=1, description="Sample at most this many.")
    per: Text | None = Field(default=None, description="Sample within each value of this column.")
    known: Condition | Literal["any"] | None = Field(
        default=None, description="Only prompts the clean model answers (default pass@5), or any."
    )
    split: Split | None = Field(default=None, description="Parts of the set.")


class Negatives(Block):
    others: int = Field(ge=1, description="How many negatives for each positive.")


class RankingControls(Block):
    shuffled_labels: int = Field(default=0, ge=0, description="Rankings with shuffled labels.")
    random_names: int = Field(default=0, ge=0, description="Rankings for invented names.")


Layers = list[Text]
"""Places as written: `4`, `4-9`, `80%-100%`, or a set of neurons whose layers are meant."""


class Localize(Block):
    metric: Metric = Field(description="What makes a neuron rank high.")
    prompts: Text | None = Field(default=None, description="The prompts it is read on.")
    by: list[Column | Text] | None = Field(default=None, description="One ranking for each of these.")
    against: Text | Texts | Negatives | None = Field(default=None, description="Baseline or negatives.")
    site: Texts | None = Field(default=None, description="Where neurons are read.")
    layers: Layers | None = Field(default=None, description="Which layers; all if absent.")
    position: Texts | None = Field(default=None, description="Which token.")
    pool: Pool | None = Field(default=None, description="How several positions become one number.")
    among: NeuronsRef | None = Field(default=None, description="Candidates; all of the site if absent.")
    top: int | None = Field(default=None, ge=1, description="The set the name stands for: the best n.")
    threshold: float | None = Field(default=None, description="... or those with this share of the objective.")
    mass: float | None = Field(default=None, gt=0, le=1, description="... or the fewest with this total share.")
    objective: Objective | None = Field(default=None, description="The number whose gradient is taken.")
    minus: Literal["patch"] | None = Field(default=None, description="Subtract the patch twin.")
    rules: list[Rule] | None = Field(default=None, description="RelP rules.")
    steps: int | None = Field(default=None, ge=1, description="Steps of integrated gradients.")
    std_floor: float | None = Field(default=None, ge=0, description="Least std, in baseline stds (0.1).")
    min_prompts: int | None = Field(default=None, ge=8, description="Fewer prompts are refused (8).")
    controls: RankingControls | None = Field(default=None, description="Rankings that should find nothing.")


class NeuronSet(Block):
    """A set of neurons other than a plain reference or a list: cut, filter, algebra, random, whole layers, file."""

    of: Text | None = Field(default=None, description="The ranking or set to take from.")
    top: int | list[int] | None = Field(default=None, description="The best n.")
    bottom: int | list[int] | None = Field(default=None, description="The last n.")
    rank: Text | Texts | None = Field(default=None, description="One rank, or a slice such as 11-50.")
    threshold: float | list[float] | None = Field(default=None, description="At least this share of the objective.")
    mass: float | list[float] | None = Field(default=None, description="The fewest with this share of the total.")
    where: list[Condition] = Field(default_factory=list, description="Keep neurons that meet all of these.")
    minus: Text | Texts | None = Field(default=None, description="Without the neurons of these.")
    common: Text | Texts | None = Field(default=None, description="Only neurons that these have too.")
    random: int | None = Field(default=None, ge=1, description="So many drawn at random.")
    like: Text | None = Field(default=None, description="Same layers and sites as this set.")
    site: Texts | None = Field(default=None, description="Whole layers of this site.")
    layers: Layers | Each | None = Field(default=None, description="Which layers.")
    from_: Text | None = Field(default=None, alias="from", description="A saved set.")


class Each(Block):
    """``{each: [...]}``: a list of places that is a sweep."""

    each: list[Any] = Field(description="One condition for each of these places.")


NeuronsRef = Text | NeuronSet | list[Text | NeuronSet] | Each
"""A reference or address, a set, a union of them, or a sweep."""


class Source(Block):
    """Exactly one of mean, sample: a value taken from prompts."""

    mean: Text | Texts | None = Field(default=None, description="Mean over a prompt set, names, or patch.")
    sample: Text | Texts | None = Field(default=None, description="A random member of it.")


class Times(Block):
    """A multiple of a source."""

    times: float | list[float] | Range = Field(description="The multiples.")
    of: Literal["own_mean", "clean", "patch"] | Source = Field(description="The source.")


Value = float | list[float] | Range | Literal["clean", "patch", "own_mean"] | Source | Times


class Edit(Block):
    """Exactly one of scale, set, add, and where it happens."""

    scale: float | list[float] | Range | None = Field(default=None, description="Factor on the run's own value.")
    set: Value | None = Field(default=None, description="The value it is set to.")
    add: Value | Text | None = Field(default=None, description="What is added: a value or a vector's name.")
    neurons: NeuronsRef | None = Field(default=None, description="Which neurons.")
    outside: NeuronsRef | None = Field(default=None, description="All neurons of the site but these.")
    position: Texts | Each | None = Field(default=None, description="Where; as read if absent.")
    in_: Literal["activations", "weights"] = Field(
        default="activations", alias="in", description="Edit the run or the checkpoint."
    )


class FreezeException(Block):
    site: Texts | None = Field(default=None, description="Sites left free; all frozen ones if absent.")
    layers: Layers | None = Field(default=None, description="Layers left free; all if absent.")
    position: Texts | None = Field(default=None, description="Positions left free; all if absent.")


class Freeze(Block):
    site: Texts = Field(description="Sites that are held.")
    layers: Layers | None = Field(default=None, description="Layers that are held; all if absent.")
    position: Texts = Field(description="Positions that are held.")
    to: Literal["clean"] | Source = Field(default="clean", description="The value they are held at.")
    except_: list[FreezeException] = Field(default_factory=list, alias="except", description="What stays free.")


class Controls(Block):
    random_neurons: int = Field(default=5, ge=0, description="Draws of as many neurons of the same layers.")
    wrong_cell: int = Field(default=1, ge=0, description="The next owners' neurons.")
    no_edit: int = Field(default=1, ge=0, description="Placeholder and freeze without the edit.")


class Tune(Block):
    on: Text = Field(description="Prompts the value is chosen on.")
    maximize: Text | None = Field(default=None, description="The measure to make large.")
    minimize: Text | None = Field(default=None, description="The measure to make small.")


class Intervention(Block):
    edit: list[Edit] = Field(description="What is done; several at once if a list.")
    freeze: Freeze | None = Field(default=None, description="What is held while it is done.")
    ask: Texts = Field(default_factory=lambda: ["facts"], description="The prompt sets asked.")
    placeholder: Texts | Text | None = Field(
        default=None, description="The entity's name is replaced by this; the owner's answers are scored."
    )
    target: Text | list[Condition] | None = Field(default=None, description="Whose answers should change.")
    others: Literal["none"] | int | Texts | list[Condition] | None = Field(
        default=None, description="Who else is asked; everybody (10 drawn if more than 12) if absent."
    )
    unknown: Text | Texts = Field(default="strangers", description="Names that are the zero of knowledge_score.")
    answers_of: Literal["asked", "edited"] | None = Field(default=None, description="Whose answers are scored.")
    measure: Texts = Field(
        default_factory=lambda: ["knowledge_score", "answer_probability"], description="What is measured."
    )
    controls: Controls = Field(default_factory=Controls, description="Edits that should do nothing.")
    tune: Tune | None = Field(default=None, description="Choose the sweep value on other prompts.")
    save_model: Text | None = Field(default=None, description="Name of the checkpoint to save.")


class Learn(Block):
    fact: Text = Field(description="The fact that changes: relation/entity.")
    becomes: Text = Field(description="Its new answer.")
    keep: Text = Field(description="Prompts whose answers stay.")
    weights: dict[Literal["attack", "preserve", "norm"], float] = Field(description="Loss weights.")
    steps: int = Field(default=30, ge=1, description="Steps of AdamW.")
    lr: float = Field(default=0.05, gt=0, description="Learning rate.")


class Vector(Block):
    """Exactly one of learn, mean, from."""

    site: Text | None = Field(default=None, description="Where the vector lives.")
    layers: Text | None = Field(default=None, description="In which layer.")
    position: Text | None = Field(default=None, description="At which token.")
    learn: Learn | None = Field(default=None, description="Learn it.")
    mean: Text | None = Field(default=None, description="Mean over these prompts ...")
    minus: Text | None = Field(default=None, description="... minus the mean over these.")
    from_: Text | None = Field(default=None, alias="from", description="A saved vector.")


class Analysis(Block):
    """Exactly one verb; analyses read results and never run the model."""

    overlap: Text | Texts | None = Field(default=None, description="Shared neurons of every two groups.")
    agreement: Text | None = Field(default=None, description="Same winner across forms or models.")
    profile: Text | None = Field(default=None, description="Neurons per layer and site.")
    correlation: Annotated[list[Text], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="Two columns."
    )
    pivot: Text | None = Field(default=None, description="A matrix of an intervention's results.")
    cumulativity: Text | None = Field(default=None, description="Do slices add up?")
    difference: Text | None = Field(default=None, description="A column between outcome classes.")
    errors: Text | None = Field(default=None, description="Share of each wrong answer.")
    across: Text | None = Field(default=None, description="Column or matrix axis (agreement).")
    method: Literal["spearman", "pearson", "kendall"] | None = Field(default=None, description="(correlation)")
    rows: Text | None = Field(default=None, description="Column of the rows (pivot).")
    columns: Text | None = Field(default=None, description="Column of the columns (pivot).")
    value: Text | None = Field(default=None, description="Measure in the cells (pivot).")
    slices: Text | None = Field(default=None, description="The intervention with the slices (cumulativity).")
    between: Texts | None = Field(default=None, description="Outcome classes compared (difference).")
    of: Text | None = Field(default=None, description="The intervention (difference).")
    per: Text | None = Field(default=None, description="Separately within (difference).")
    test: Literal["wilcoxon", "mannwhitney", "t"] | None = Field(default=None, description="(difference)")
    classes: dict[Text, Text] | None = Field(default=None, description="Name: pattern (errors).")

    @property
    def verb(self) -> AnalysisVerb:
        """Give the one verb that is set."""
        from typing import get_args

        return next(v for v in get_args(AnalysisVerb) if getattr(self, v) is not None)


class Expectation(Block):
    source: Text | None = Field(default=None, description="Who claims it.")
    when: list[Condition] = Field(default_factory=list, description="Where it is claimed to hold.")
    claims: list[Condition] = Field(description="What is claimed.")


class Experiment(Block):
    """A resolved spec: defaults filled in, bases merged, files named by path."""

    version: Literal[1] = Field(description="Version of the language.")
    name: Text = Field(description="Name of the run; the file's name if absent.")
    description: Text | None = Field(default=None, description="The question this spec asks.")
    seed: int = Field(default=0, description="Seed of every random choice.")
    only: Texts | None = Field(default=None, description="What is run; what that needs is run too.")
    matrix: dict[Text, list[Any]] = Field(default_factory=dict, description="Dotted path: values.")
    model: ModelSpec = Field(description="The model.")
    data: dict[Text, DataFile] = Field(default_factory=dict, description="Tables with facts.")
    entities: dict[Text, Entity] = Field(default_factory=dict, description="Who is asked about.")
    placeholders: dict[Text, Texts | PlaceholderFile] = Field(
        default_factory=dict, description="Names that stand for nobody."
    )
    relations: dict[Text, Relation] = Field(default_factory=dict, description="What is asked.")
    prompts: dict[Text, PromptSet] = Field(default_factory=dict, description="Prompt sets.")
    localize: dict[Text, Localize] = Field(default_factory=dict, description="Rankings of neurons.")
    neurons: dict[Text, NeuronsRef] = Field(default_factory=dict, description="Named sets of neurons.")
    vectors: dict[Text, Vector] = Field(default_factory=dict, description="Named vectors.")
    interventions: dict[Text, Intervention] = Field(default_factory=dict, description="What is done.")
    analyses: dict[Text, Analysis] = Field(default_factory=dict, description="What is derived.")
    expect: list[Expectation] = Field(default_factory=list, description="What is claimed.")


def sweep_values(value: float | Sequence[float] | Range) -> list[float]:
    """List the numbers of a value that may be one number, a list or a range."""
    if isinstance(value, Range):
        return value.values()
    return [float(v) for v in value] if isinstance(value, Sequence) else [float(value)]
