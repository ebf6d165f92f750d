"""The grammar of a spec as data: one model per block, in the long form that a resolved spec shows.

A spec is read by :mod:`specs.language.load`; what arrives here is already merged. Every field also takes
the short forms of the language (one value where a list may stand, a scalar for a block's main field).
Field descriptions are the reference: the JSON schema and ``docs/spec_reference.md`` are generated from
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from specs.language.actions import (
    Controls,
    Edit,
    Freeze,
    FreezeException,
    Intervention,
    Learn,
    Source,
    Times,
    Tune,
    Value,
    ValueWord,
    Vector,
)
from specs.language.block import (
    Block,
    Condition,
    Conditions,
    NameOrTexts,
    Range,
    SomeTexts,
    exactly_one,
)
from specs.language.fields import (
    TAG,
    MeasureText,
    shape,
)
from specs.language.material import (
    Chat,
    DataFile,
    Entity,
    EntityFilter,
    ModelSpec,
    PlaceholderFile,
    PromptSet,
    Relation,
    Split,
    Translation,
)
from specs.language.places import (
    GRADIENT_METRICS,
    Each,
    EachLayer,
    EachNeurons,
    EachPosition,
    Localize,
    Negatives,
    NeuronSet,
    NeuronsRef,
    RankingControls,
)
from specs.language.scalars import (
    Text,
    Whole,
    one_or_many,
    read_whole,
    refuse,
    word,
)
from specs.language.words import AnalysisVerb, Outcome

__all__ = [
    "GRADIENT_METRICS",
    "Analysis",
    "Block",
    "Chat",
    "Condition",
    "Controls",
    "DataFile",
    "Each",
    "EachLayer",
    "EachNeurons",
    "EachPosition",
    "Edit",
    "Entity",
    "EntityFilter",
    "Expectation",
    "Experiment",
    "Freeze",
    "FreezeException",
    "Intervention",
    "Learn",
    "Localize",
    "ModelSpec",
    "Negatives",
    "NeuronSet",
    "NeuronsRef",
    "PlaceholderFile",
    "PromptSet",
    "Range",
    "RankingControls",
    "Relation",
    "Source",
    "Split",
    "Times",
    "Translation",
    "Tune",
    "Value",
    "ValueWord",
    "Vector",
    "sweep_values",
]

ANALYSIS_KEYS: dict[str, tuple[str, ...]] = {
    "across": ("agreement",),
    "method": ("correlation",),
    "rows": ("pivot",),
    "columns": ("pivot",),
    "value": ("pivot",),
    "slices": ("cumulativity",),
    "between": ("difference",),
    "of": ("difference",),
    "per": ("difference",),
    "test": ("difference",),
    "classes": ("errors",),
}
ANALYSIS_NEEDS: dict[str, tuple[str, ...]] = {
    "agreement": ("across",),
    "pivot": ("rows", "columns", "value"),
    "cumulativity": ("slices",),
    "difference": ("between", "of"),
}


class Analysis(Block):
    """Exactly one verb; analyses read results and never run the model."""

    noun = "an analysis"

    overlap: NameOrTexts | None = Field(default=None, description="Shared neurons of every two groups.")
    agreement: Text | None = Field(default=None, description="Same winner across forms or models.")
    profile: Text | None = Field(default=None, description="Neurons per layer and site.")
    correlation: Annotated[list[Text], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="Two columns."
    )
    pivot: Text | None = Field(default=None, description="A matrix of an intervention's results.")
    cumulativity: Text | None = Field(
        default=None,
        description="Of an intervention with `top: [...]`: 1 - affected / total, of the questions lost between two "
        "consecutive cut-offs (total) those also lost when only the neurons in between are edited (affected).",
    )
    difference: Text | None = Field(
        default=None, description="A number of the facts (an attribute), compared between two outcomes of an edit."
    )
    errors: Text | None = Field(
        default=None, description="What is said instead of the answer: classes of an intervention's `text@n`."
    )
    across: Text | None = Field(default=None, description="Column or matrix axis (agreement).")
    method: (
        Annotated[
            Literal["spearman", "pearson", "kendall"],
            word("method", Literal["spearman", "pearson", "kendall"]),
        ]
        | None
    ) = Field(default=None, description="Which correlation; spearman if absent (correlation).")
    rows: Text | None = Field(
        default=None,
        description="Column of the rows (pivot): of a prompt (relation, language, ...), an attribute, a sweep, edited, "
        "condition, role, or asked: what the question is about, of the kind that is edited (relation or entity).",
    )
    columns: Text | None = Field(default=None, description="Column of the columns, as for `rows` (pivot).")
    value: MeasureText | None = Field(
        default=None, description="Measure in the cells (pivot); accuracy_drop@n follows from accuracy@n."
    )
    slices: Text | None = Field(
        default=None, description="The intervention with the slices, `rank: [11-50, ...]` (cumulativity)."
    )
    between: Annotated[list[Annotated[Outcome, word("outcome", Outcome)]], Field(min_length=2, max_length=2)] | None = (
        Field(
            default=None,
            description="The two outcomes compared (difference): resilient = right before and after, sensitive = right "
            "and then wrong, gained = wrong and then right, never = wrong in both.",
        )
    )
    of: Text | None = Field(default=None, description="The intervention (difference).")
    per: Text | None = Field(default=None, description="Column within whose values outcomes are compared (difference).")
    test: (
        Annotated[Literal["wilcoxon", "mannwhitney", "t"], word("test", Literal["wilcoxon", "mannwhitney", "t"])] | None
    ) = Field(
        default=None,
        description="Which test (difference); wilcoxon over the values of `per` if there is one, else mannwhitney.",
    )
    classes: dict[Text, Text] | None = Field(
        default=None, description="Name: regular expression, searched in a wrong answer before other classes (errors)."
    )

    @model_validator(mode="after")
    def _has_one_verb(self) -> Analysis:
        verb = exactly_one(self, get_args(AnalysisVerb), "an analysis has exactly one of")
        for name, owners in ANALYSIS_KEYS.items():
            if getattr(self, name) is not None and verb not in owners:
                refuse(f"`{name}` belongs to {owners[0]}; the analysis here is {verb}", at=name)
        lacking = [name for name in ANALYSIS_NEEDS.get(verb, ()) if getattr(self, name) is None]
        if lacking:
            wanted = " and ".join(f"`{name}:`" for name in lacking)
            refuse(f"{verb} needs {wanted}", at=verb)
        return self

    @property
    def verb(self) -> AnalysisVerb:
        """Give the one verb that is set."""
        return next(v for v in get_args(AnalysisVerb) if getattr(self, v) is not None)


class Expectation(Block):
    """Claims, who makes them, and where they should hold; a scalar is one claim."""

    main = "claims"
    noun = "an expectation"

    source: Text | None = Field(default=None, description="Who claims it.")
    when: Conditions = Field(default_factory=list, description="Where it is claimed to hold.")
    claims: Conditions = Field(description="What is claimed.")


NamesOrFile = Annotated[
    Annotated[PlaceholderFile, Tag(TAG + "scalar")]
    | Annotated[SomeTexts, Tag(TAG + "list")]
    | Annotated[PlaceholderFile, Tag(TAG + "block")],
    Discriminator(shape),
]


def _read_version(value: Any) -> Any:
    version = read_whole(value)
    if version != 1:
        refuse(f"version {version} of the language is not known here; write `version: 1`")
    return version


class Experiment(Block):
    """A resolved spec: defaults filled in, bases merged, files named by path."""

    noun = "a spec"

    version: Annotated[Literal[1], BeforeValidator(_read_version)] = Field(description="Version of the language.")
    name: Text = Field(description="Name of the run; the file's name if absent.")
    description: Text | None = Field(default=None, description="The question this spec asks.")
    seed: Whole = Field(default=0, description="Seed of every random choice.")
    only: SomeTexts | None = Field(default=None, description="What is run; what that needs is run too.")
    matrix: dict[Text, list[Any]] = Field(default_factory=dict, description="Dotted path: values.")
    model: ModelSpec = Field(description="The model.")
    data: dict[Text, DataFile] = Field(default_factory=dict, description="Tables with facts.")
    entities: dict[Text, Entity] = Field(default_factory=dict, description="Who is asked about.")
    placeholders: dict[Text, NamesOrFile] = Field(default_factory=dict, description="Names that stand for nobody.")
    relations: dict[Text, Relation] = Field(default_factory=dict, description="What is asked.")
    prompts: dict[Text, PromptSet] = Field(default_factory=dict, description="Prompt sets.")
    localize: dict[Text, Localize] = Field(default_factory=dict, description="Rankings of neurons.")
    neurons: dict[Text, NeuronsRef] = Field(default_factory=dict, description="Named sets of neurons.")
    vectors: dict[Text, Vector] = Field(default_factory=dict, description="Named vectors.")
    interventions: dict[Text, Intervention] = Field(default_factory=dict, description="What is done.")
    analyses: dict[Text, Analysis] = Field(default_factory=dict, description="What is derived.")
    expect: Annotated[
        list[Expectation],
        BeforeValidator(one_or_many, json_schema_input_type=Expectation | list[Expectation]),
    ] = Field(default_factory=list, description="What is claimed.")


def sweep_values(value: float | Sequence[float] | Range) -> list[float]:
    """List the numbers of a value that may be one number, a list or a range."""
    if isinstance(value, Range):
        return value.values()
    return [float(v) for v in value] if isinstance(value, Sequence) else [float(value)]
