"""The grammar of a spec as data: one model per block, in the long form that a resolved spec shows.

A spec is read by :mod:`specs.language.load`; what arrives here is already merged. Every field also takes the short
forms of the language (one value where a list may stand, a scalar for a block's main field). Field descriptions are
the reference: the JSON schema and ``docs/spec_reference.md`` are generated from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from specs.language.fields import (
    TAG,
    Layers,
    LayerText,
    Measures,
    MeasureText,
    MetricWord,
    ObjectiveText,
    Part,
    Positions,
    PositionText,
    RankText,
    Sites,
    SiteText,
    check_measure,
    is_condition,
    keyed_shape,
    scalar_shape,
    shape,
)
from specs.language.scalars import (
    TEXT_SCHEMA,
    Flag,
    Number,
    NumberOrText,
    Text,
    Texts,
    Whole,
    listed,
    one_or_many,
    read_text,
    read_whole,
    refuse,
    shown,
    some,
    suggest,
    word,
)
from specs.language.words import AnalysisVerb, Dtype, Outcome, Pool, Rule


class Block(BaseModel):
    """A mapping of the language: unknown keys are refused, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    main: ClassVar[str | None] = None
    """The field a scalar stands for, if a scalar may stand for the block."""
    noun: ClassVar[str] = "a block"
    """What messages call it."""
    words: ClassVar[dict[str, dict[str, Any]]] = {}
    """Words that may stand for the block, and the block each of them means."""

    @model_validator(mode="before")
    @classmethod
    def _read_block(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, dict):
            if info.context is not None:
                info.context[id(value)] = cls
                hidden = [name for name, f in cls.model_fields.items() if f.alias and name in value]
                if hidden:
                    refuse(f"'{hidden[0]}' is not a key here; did you mean '{hidden[0][:-1]}'?", at=hidden[0])
            return {key: item for key, item in value.items() if item is not None}
        if isinstance(value, BaseModel):
            return value
        if isinstance(value, str) and value in cls.words:
            return dict(cls.words[value])
        if cls.main and isinstance(value, (str, int, float)):
            return {cls.main: value}
        keys = ", ".join(f.alias or name for name, f in cls.model_fields.items())
        found = "a list" if isinstance(value, list) else "empty" if value is None else f"'{shown(value)}'"
        words = "".join(f" or `{word}`" for word in cls.words)
        refuse(f"{cls.noun} is a block of keys ({keys}){words}, and this is {found}")


def _given(block: Block, names: Sequence[str]) -> list[str]:
    """List which of these fields are set, by the names they are written with."""
    fields = type(block).model_fields
    return [fields[n].alias or n for n in names if getattr(block, n) is not None]


def _exactly_one(block: Block, names: Sequence[str], sentence: str) -> str:
    """Return the one field that is set, or refuse: `<sentence> a, b, c; this does a and b`."""
    fields = type(block).model_fields
    has = _given(block, names)
    if len(has) != 1:
        verb = "does" if sentence.endswith("of") and "does" in sentence else "has"
        listing = ", ".join(fields[n].alias or n for n in names)
        refuse(f"{sentence} {listing}; this {verb} {' and '.join(has) or 'none'}", at=has[-1] if has else "")
    return has[0]


def _belongs(block: Block, kind: str, has: str, owners: dict[str, tuple[str, ...]]) -> None:
    """Refuse a field that belongs to another kind: `rules belongs to relp; the metric here is stability`."""
    for name, kinds in owners.items():
        if getattr(block, name) is not None and has not in kinds:
            refuse(f"`{name}` belongs to {' and '.join(kinds)}; the {kind} here is {has}", at=name)


class Range(Block):
    """Evenly spaced numbers: ``{first: 1, last: -3, count: 21}``."""

    noun = "a range"

    first: Number = Field(description="The first number.")
    last: Number = Field(description="The last number.")
    count: Whole = Field(ge=2, description="How many numbers, ends included.")
    log: Flag = Field(default=False, description="Space the numbers evenly in the logarithm.")

    @model_validator(mode="after")
    def _has_a_logarithm(self) -> Range:
        if self.log and self.first * self.last <= 0:
            refuse("a logarithmic range has two ends of the same sign, neither of them 0", at="log")
        return self

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

    noun = "a condition"

    quantity: Text
    op: Literal["=", "!=", "<", "<=", ">", ">=", "in", "within"]
    value: float | str | tuple[float | str, ...]
    tolerance: float | None = None
    """Only for ``within``: ``overlap within 20 of 131`` has tolerance 20 and value 131."""

    def __str__(self) -> str:
        value = self.value
        shown = ", ".join(_bare(v) for v in value) if isinstance(value, tuple) else _bare(value)
        if self.tolerance is not None:
            return f"{self.quantity} {self.op} {_bare(self.tolerance)} of {shown}"
        return f"{self.quantity} {self.op} {shown}"

    @model_validator(mode="before")
    @classmethod
    def _read_condition(cls, value: Any) -> Any:
        if isinstance(value, str):
            from specs.language.conditions import parse_condition

            return dict(parse_condition(str.__str__(value)))
        if value is None or isinstance(value, (list, int, float)):
            refuse(f"a condition is one text, `quantity op value`, and this is {_kind(value)}")
        if isinstance(value, dict) and not {"quantity", "op"} <= set(value):
            refuse("a condition that holds ': ' must be quoted")
        return value


def _bare(value: float | str) -> str:
    """Write a value of a condition as it is read."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"'{shown(value)}'"


CONDITION_SCHEMA = {"type": "string"}
Conditions = Annotated[
    list[Condition],
    BeforeValidator(one_or_many),
    AfterValidator(some),
    WithJsonSchema(listed(CONDITION_SCHEMA)),
]
SomeTexts = Annotated[Texts, AfterValidator(some)]


def _all_or_names(value: Any) -> Any:
    """Keep `all`; put one name into a list."""
    if isinstance(value, str) and value == "all":
        return str.__str__(value)
    return one_or_many(value)


AllOrNames = Annotated[
    Annotated[Literal["all"], Tag(TAG + "scalar")] | Annotated[SomeTexts, Tag(TAG + "list")],
    Discriminator(shape),
    BeforeValidator(_all_or_names),
    WithJsonSchema(listed(TEXT_SCHEMA)),
]
"""`all`, or one name or several."""
NameOrTexts = Annotated[
    Annotated[Text, Tag(TAG + "scalar")]
    | Annotated[SomeTexts, Tag(TAG + "list")]
    | Annotated[Text, Tag(TAG + "block")],
    Discriminator(shape),
    WithJsonSchema(listed(TEXT_SCHEMA)),
]
"""A string refers, a list gives."""


class Chat(Block):
    noun = "chat"

    system: Text | None = Field(default=None, description="System message of the chat template.")
    prefill: Text | None = Field(default=None, description="What the assistant's turn begins with.")


FlagOrChat = Annotated[
    Annotated[Flag, Tag(TAG + "scalar")]
    | Annotated[Chat, Tag(TAG + "block")]
    | Annotated[Flag, Tag(TAG + "list")],
    Discriminator(shape),
]


def _check_device(value: Any) -> Any:
    import re

    text = read_text(value)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", text):
        near = suggest(text, ["auto", "cpu", "cuda", "mps"])
        refuse(f"'{shown(text)}' is not a device{near or '; choose from auto, cpu, cuda, cuda:1, mps'}")
    return text


class ModelSpec(Block):
    """The model; a scalar is its id."""

    main = "id"
    noun = "a model"

    id: Text = Field(description="A card name (`run-spec models`), a hub id, a folder, or a GGUF file.")
    revision: Text | None = Field(default=None, description="Commit, tag or branch on the hub.")
    dtype: Annotated[Dtype, word("dtype", Dtype)] = Field(
        default="auto", description="Number format of weights and activations."
    )
    device: Annotated[
        str,
        BeforeValidator(_check_device),
        WithJsonSchema({"type": "string", "pattern": "^(auto|cpu|cuda(:[0-9]+)?|mps)$"}),
    ] = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    attention: Annotated[
        Literal["auto", "eager", "sdpa"], word("kind of attention", Literal["auto", "eager", "sdpa"])
    ] = Field(default="auto", description="Attention code.")
    chat: FlagOrChat = Field(default=False, description="Put prompts through the model's chat template.")


class DataFile(Block):
    """A table that brings entities, relations, answers and attributes; a scalar is its file."""

    main = "from_"
    noun = "a data file"

    from_: Text = Field(alias="from", description="A file or folder, relative to the spec.")
    relations: SomeTexts | None = Field(default=None, description="Which relations to take; all if absent.")
    columns: dict[Text, Text] = Field(default_factory=dict, description="Our word: their column.")
    where: Conditions = Field(default_factory=list, description="Which rows.")
    unique: Text | None = Field(default=None, description="Keep one row per value of this column.")
    order: Text | None = Field(default=None, description="Sort by this column; a leading - reverses.")
    limit: Whole | None = Field(default=None, ge=1, description="At most this many rows.")
    language: Text | None = Field(default=None, description="The file is a translation into this language.")


class Entity(Block):
    """Somebody or something that is asked about; a scalar is the name."""

    main = "name"
    noun = "an entity"

    name: Text = Field(description="The name as it stands in prompts.")
    variants: dict[Text, SomeTexts] = Field(
        default_factory=dict,
        description="Label: other forms of the name; under a language code, the name in that language.",
    )
    attributes: dict[Text, NumberOrText] = Field(
        default_factory=dict, description="Facts about the entity that are used in by, where, correlations."
    )


class PlaceholderFile(Block):
    """A file of names that stand for nobody; a scalar is the file."""

    main = "from_"
    noun = "a file of names"

    from_: Text = Field(alias="from", description="A YAML list of names.")


def _read_answer(value: Any) -> Any:
    """Put one answer into a list, saying what an empty value means here."""
    answers = one_or_many(value)
    if answers is None or any(a is None for a in answers):
        refuse('null is no answer; to mean the word, write "null"')
    return answers


Answers = Annotated[
    list[Text], BeforeValidator(_read_answer), AfterValidator(some), WithJsonSchema(listed(TEXT_SCHEMA))
]


class Translation(Block):
    noun = "a translation"

    prompt: SomeTexts = Field(description="The question in this language.")
    answers: dict[Text, Answers] = Field(default_factory=dict, description="Entity: accepted answers.")


class Relation(Block):
    """A question about entities, with its answers."""

    noun = "a relation"

    prompt: SomeTexts = Field(description="The question, with `{{ entity }}`.")
    answers: dict[Text, Answers] = Field(default_factory=dict, description="Entity: accepted answers.")
    given: Text | None = Field(
        default=None, description="The answer has begun with this; the rest is scored."
    )
    phrasings: dict[Text, SomeTexts] = Field(default_factory=dict, description="Label: other wordings.")
    translations: dict[Text, Translation] = Field(default_factory=dict, description="Language: translation.")


class EntityFilter(Block):
    noun = "a choice of entities"

    where: Conditions = Field(default_factory=list, description="Conditions on attributes.")
    order: Text | None = Field(default=None, description="Sort by this attribute; a leading - reverses.")
    limit: Whole | None = Field(default=None, ge=1, description="At most this many.")


class Split(Block):
    noun = "a split"

    into: dict[Text, Part] = Field(min_length=1, description="Part: number, fraction, or rest.")
    per: Text | None = Field(default=None, description="Count within each value of this column.")
    disjoint: Text | None = Field(default=None, description="No value of this column in two parts.")

    @model_validator(mode="after")
    def _has_one_rest(self) -> Split:
        rests = [part for part, size in self.into.items() if size == "rest"]
        if len(rests) > 1:
            refuse(f"only one part can be the rest; {' and '.join(rests)} are", at="into")
        return self


def _read_known(value: Any) -> Any:
    """Read `any`, a condition, or a measure alone: a hit (`accuracy@2` is `accuracy@2 = 1`)."""
    if isinstance(value, str):
        text = str.__str__(value).strip()
        if text == "any":
            return text
        if " " not in text and not any(op in text for op in "<>="):
            return Condition(quantity=check_measure(text), op="=", value=1.0)
    return value


def _read_entities(value: Any) -> Any:
    return value if isinstance(value, (dict, EntityFilter)) else _all_or_names(value)


SOURCES = ("relations", "templates", "texts", "pairs", "of")


class PromptSet(Block):
    """Exactly one of relations, templates, texts, pairs, of."""

    noun = "a prompt set"

    relations: AllOrNames | None = Field(default=None, description="Questions with answers: all or names.")
    templates: NameOrTexts | None = Field(
        default=None, description="Texts about an entity: a shipped list, a file, or a list."
    )
    texts: NameOrTexts | None = Field(default=None, description="Texts about nobody: a file or a list.")
    pairs: (
        Annotated[
            Annotated[Text, Tag(TAG + "scalar")]
            | Annotated[list[dict[Text, Text]], Tag(TAG + "list")]
            | Annotated[Text, Tag(TAG + "block")],
            Discriminator(shape),
        ]
        | None
    ) = Field(default=None, description="Clean and patch twins: a file or a list.")
    of: Text | None = Field(default=None, description="Another prompt set to derive from.")
    entities: Annotated[
        Annotated[Literal["all"], Tag(TAG + "scalar")]
        | Annotated[SomeTexts, Tag(TAG + "list")]
        | Annotated[EntityFilter, Tag(TAG + "block")],
        Discriminator(shape),
        BeforeValidator(_read_entities, json_schema_input_type=str | list[Text] | EntityFilter),
    ] = Field(default="all", description="Which entities: all, names, or {where, order, limit}.")
    variants: AllOrNames | None = Field(
        default=None, description="Which name forms: all or labels; the name itself if absent."
    )
    phrasing: SomeTexts | None = Field(default=None, description="Which wordings; several are an axis.")
    language: SomeTexts | None = Field(default=None, description="Which languages; several are an axis.")
    wrap: Text | None = Field(default=None, description="A frame with `{{ prompt }}`.")
    chat: FlagOrChat | None = Field(default=None, description="As in model; the model's if absent.")
    patch: (
        Annotated[
            Literal["entity", "variant", "language"], word("patch", Literal["entity", "variant", "language"])
        ]
        | None
    ) = Field(default=None, description="The twin is the same prompt with another one of these.")
    where: Conditions = Field(default_factory=list, description="Which prompts.")
    unique: Text | None = Field(default=None, description="Keep one prompt per value of this column.")
    limit: Whole | None = Field(default=None, ge=1, description="Sample at most this many.")
    per: Text | None = Field(default=None, description="Sample within each value of this column.")
    known: (
        Annotated[
            Annotated[Literal["any"], Tag(TAG + "scalar")]
            | Annotated[Condition, Tag(TAG + "block")]
            | Annotated[Text, Tag(TAG + "list")],
            Discriminator(
                lambda v: (
                    TAG + "scalar" if v == "any" else TAG + "list" if isinstance(v, list) else TAG + "block"
                )
            ),
            BeforeValidator(_read_known, json_schema_input_type=str),
        ]
        | None
    ) = Field(default=None, description="Only prompts the clean model answers (default pass@5), or any.")
    split: Split | None = Field(default=None, description="Parts of the set.")

    @model_validator(mode="after")
    def _has_one_source(self) -> PromptSet:
        _exactly_one(self, SOURCES, "a prompt set has exactly one of")
        if self.per is not None and self.limit is None:
            refuse("`per` belongs to `limit`: sample so many within each", at="per")
        return self


class Each(Block):
    """``{each: [...]}``: a list of places that is a sweep."""

    noun = "a sweep of places"

    each: Annotated[list[Any], BeforeValidator(one_or_many), AfterValidator(some)] = Field(
        description="One condition for each of these places."
    )


class EachLayer(Each):
    """A sweep of layers; a range such as 0-27 is one condition for each of its layers."""

    each: Layers = Field(description="One condition for each of these layers.")


class EachPosition(Each):
    """A sweep of positions."""

    each: Positions = Field(description="One condition for each of these positions.")


LayersOrEach = Annotated[
    Annotated[Layers, Tag(TAG + "scalar")]
    | Annotated[Layers, Tag(TAG + "list")]
    | Annotated[EachLayer, Tag(TAG + "block")],
    Discriminator(shape),
]
PositionsOrEach = Annotated[
    Annotated[Positions, Tag(TAG + "scalar")]
    | Annotated[Positions, Tag(TAG + "list")]
    | Annotated[EachPosition, Tag(TAG + "block")],
    Discriminator(shape),
]


class Negatives(Block):
    """Negatives drawn from the others: ``{others: 4}``."""

    noun = "a choice of negatives"

    others: Whole = Field(ge=1, description="How many negatives for each positive.")


class RankingControls(Block):
    """Rankings that should find nothing; `none` is the default."""

    noun = "controls"
    words: ClassVar = {"none": {}}

    shuffled_labels: Whole = Field(default=0, ge=0, description="Rankings with shuffled labels.")
    random_names: Whole = Field(default=0, ge=0, description="Rankings for invented names.")


def _set_or_each(value: Any) -> str:
    if isinstance(value, Each) or (isinstance(value, dict) and "each" in value):
        return TAG + "each"
    return shape(value)


RefOrSet = Annotated[
    Annotated[Text, Tag(TAG + "scalar")]
    | Annotated["NeuronSet", Tag(TAG + "block")]
    | Annotated[Text, Tag(TAG + "list")],
    Discriminator(shape),
]
"""A reference or address, or a set."""
NeuronsRef = Annotated[
    Annotated[Text, Tag(TAG + "scalar")]
    | Annotated["NeuronSet", Tag(TAG + "block")]
    | Annotated[list[RefOrSet], AfterValidator(some), Tag(TAG + "list")]
    | Annotated["EachNeurons", Tag(TAG + "each")],
    Discriminator(_set_or_each),
]
"""A reference or address, a set, a union of them, or a sweep."""


class EachNeurons(Each):
    """A sweep of neuron sets."""

    each: Annotated[list[RefOrSet], BeforeValidator(one_or_many), AfterValidator(some)] = Field(
        description="One condition for each of these sets."
    )


def _one_or_list(value: Any) -> str:
    return TAG + "list" if isinstance(value, (list, tuple)) else TAG + "scalar"


Cut = Annotated[Whole, Field(ge=1)]
Cuts = Annotated[
    Annotated[Cut, Tag(TAG + "scalar")] | Annotated[list[Cut], AfterValidator(some), Tag(TAG + "list")],
    Discriminator(_one_or_list),
]
Share = Annotated[Number, Field(gt=0)]
Shares = Annotated[
    Annotated[Share, Tag(TAG + "scalar")] | Annotated[list[Share], AfterValidator(some), Tag(TAG + "list")],
    Discriminator(_one_or_list),
]
Mass = Annotated[Number, Field(gt=0, le=1)]
Masses = Annotated[
    Annotated[Mass, Tag(TAG + "scalar")] | Annotated[list[Mass], AfterValidator(some), Tag(TAG + "list")],
    Discriminator(_one_or_list),
]
Ranks = Annotated[
    Annotated[RankText, Tag(TAG + "scalar")]
    | Annotated[list[RankText], AfterValidator(some), Tag(TAG + "list")],
    Discriminator(_one_or_list),
]

CUTS = ("top", "bottom", "rank", "threshold", "mass")


class NeuronSet(Block):
    """A set of neurons other than a plain reference or a list: cut, filter, algebra, random, whole layers, file."""

    noun = "a neuron set"

    of: Text | None = Field(default=None, description="The ranking or set to take from.")
    top: Cuts | None = Field(default=None, description="The best n.")
    bottom: Cuts | None = Field(default=None, description="The last n.")
    rank: Ranks | None = Field(default=None, description="One rank, or a slice such as 11-50.")
    threshold: Shares | None = Field(default=None, description="At least this share of the objective.")
    mass: Masses | None = Field(default=None, description="The fewest with this share of the total.")
    where: Conditions = Field(default_factory=list, description="Keep neurons that meet all of these.")
    minus: NameOrTexts | None = Field(default=None, description="Without the neurons of these.")
    common: NameOrTexts | None = Field(default=None, description="Only neurons that these have too.")
    random: Cut | None = Field(default=None, description="So many drawn at random.")
    like: Text | None = Field(default=None, description="Same layers and sites as this set.")
    site: Sites | None = Field(default=None, description="Whole layers of this site.")
    layers: LayersOrEach | None = Field(default=None, description="Which layers.")
    from_: Text | None = Field(default=None, alias="from", description="A saved set.")

    @model_validator(mode="after")
    def _is_one_kind(self) -> NeuronSet:
        if self.layers is not None and self.site is None and not _given(self, ("of", "random", "from_")):
            refuse("whole layers need `site:`, such as mlp.neurons", at="layers")
        if self.random is not None and self.like is None:
            refuse(
                f"`random: {self.random}` needs `like:`, the set whose layers and sites it copies",
                at="random",
            )
        cuts = _given(self, CUTS)
        if len(cuts) > 1:
            refuse(f"a neuron set has one cut; this has {' and '.join(cuts)}", at=cuts[-1])
        of_needed = [*cuts, *(["where"] if self.where else []), *_given(self, ("minus", "common"))]
        if of_needed and self.of is None:
            refuse(f"`{of_needed[0]}` needs `of:`, the ranking or set it takes from", at=of_needed[0])
        _exactly_one(self, ("of", "random", "site", "from_"), "a neuron set has exactly one of")
        if self.like is not None and self.random is None:
            refuse(
                "`like` belongs to `random`: so many neurons in the layers and sites of that set", at="like"
            )
        if self.layers is not None and self.site is None:
            refuse("`layers` belongs to `site`: whole layers of that site", at="layers")
        return self


GRADIENT_METRICS = ("gradient_x_activation", "integrated_gradients", "relp")
OBJECTIVE_WORDS = "answer_logit, answer_probability, logit_difference, top_logits"


class Localize(Block):
    """A ranking of neurons for each entity (or relation, concept, ...); a scalar is the metric."""

    main = "metric"
    noun = "a ranking"

    metric: MetricWord = Field(description="What makes a neuron rank high.")
    prompts: Text | None = Field(default=None, description="The prompts it is read on.")
    by: Texts | None = Field(default=None, description="One ranking for each of these; [] is one over all.")
    against: (
        Annotated[
            Annotated[Text, Tag(TAG + "scalar")]
            | Annotated[SomeTexts, Tag(TAG + "list")]
            | Annotated[Negatives, Tag(TAG + "block")],
            Discriminator(shape),
        ]
        | None
    ) = Field(default=None, description="Baseline or negatives: prompts, names, others, or {others: ratio}.")
    site: Sites | None = Field(default=None, description="Where neurons are read.")
    layers: Layers | None = Field(default=None, description="Which layers; all if absent.")
    position: Positions | None = Field(default=None, description="Which token.")
    pool: Annotated[Pool, word("way to pool", Pool)] | None = Field(
        default=None, description="How several positions become one number."
    )
    among: NeuronsRef | None = Field(default=None, description="Candidates; all of the site if absent.")
    top: Cut | None = Field(default=None, description="The set the name stands for: the best n.")
    threshold: Share | None = Field(
        default=None, description="... or those with this share of the objective."
    )
    mass: Mass | None = Field(default=None, description="... or the fewest with this total share.")
    objective: ObjectiveText | None = Field(default=None, description="The number whose gradient is taken.")
    minus: Annotated[Literal["patch"], word("subtrahend", Literal["patch"])] | None = Field(
        default=None, description="Subtract the patch twin."
    )
    rules: Annotated[list[Annotated[Rule, word("rule", Rule)]], BeforeValidator(one_or_many)] | None = Field(
        default=None, description="RelP rules."
    )
    steps: Cut | None = Field(default=None, description="Steps of integrated gradients.")
    std_floor: Annotated[Number, Field(ge=0)] | None = Field(
        default=None, description="Least std, in baseline stds (0.1)."
    )
    min_prompts: Whole | None = Field(
        default=None, description="Fewer prompts are refused (8).", json_schema_extra={"minimum": 8}
    )
    controls: RankingControls | None = Field(default=None, description="Rankings that should find nothing.")

    @model_validator(mode="after")
    def _fits_its_metric(self) -> Localize:
        metric = self.metric
        cuts = _given(self, ("top", "threshold", "mass"))
        if len(cuts) > 1:
            refuse(f"a ranking has one cut; this has {' and '.join(cuts)}", at=cuts[-1])
        _belongs(
            self,
            "metric",
            metric,
            {
                "rules": ("relp",),
                "steps": ("integrated_gradients",),
                "objective": GRADIENT_METRICS,
                "minus": GRADIENT_METRICS,
                "std_floor": ("stability",),
                "min_prompts": ("stability",),
            },
        )
        if self.min_prompts is not None and self.min_prompts < 8:
            refuse(
                "stability over fewer than 8 prompts picks near-constant neurons; the least is 8",
                at="min_prompts",
            )
        if metric in GRADIENT_METRICS and self.objective is None:
            refuse(f"{metric} needs `objective:`, the number it takes the gradient of ({OBJECTIVE_WORDS})")
        if metric == "average_precision" and not cuts:
            refuse(
                "average_precision needs `top:`, the number of neurons that make the set (the paper takes 3000)"
            )
        if metric == "edge_weight" and self.among is None:
            refuse("edge_weight needs `among:`, the neurons whose pairs it scores")
        return self


NumberOrRange = Annotated[
    Annotated[Number, Tag(TAG + "scalar")]
    | Annotated[list[Number], AfterValidator(some), Tag(TAG + "list")]
    | Annotated[Range, Tag(TAG + "block")],
    Discriminator(shape),
]
"""A number, a list of numbers (a sweep), or a range."""


class Source(Block):
    """Exactly one of mean, sample: a value taken from prompts."""

    noun = "a source"

    mean: NameOrTexts | None = Field(default=None, description="Mean over a prompt set, names, or patch.")
    sample: NameOrTexts | None = Field(default=None, description="A random member of it.")

    @model_validator(mode="after")
    def _has_one(self) -> Source:
        _exactly_one(self, ("mean", "sample"), "a source has exactly one of")
        return self


ValueWord = Literal["clean", "patch", "own_mean"]
VALUES = ", a number, a list, a range, {mean: PROMPTS}, {sample: PROMPTS}, {times: V, of: SOURCE}"


class Times(Block):
    """A multiple of a source."""

    noun = "a multiple"

    times: NumberOrRange = Field(description="The multiples.")
    of: Annotated[
        Annotated[
            ValueWord, word("source", ValueWord, ", {mean: PROMPTS}, {sample: PROMPTS}"), Tag(TAG + "scalar")
        ]
        | Annotated[Source, Tag(TAG + "block")]
        | Annotated[Text, Tag(TAG + "list")],
        Discriminator(shape),
    ] = Field(description="The source.")


VALUE_KEYS = {
    "source": ("mean", "sample"),
    "times": ("times", "of"),
    "range": ("first", "last", "count", "log"),
}
Value = Annotated[
    Annotated[Number, Tag(TAG + "number")]
    | Annotated[list[Number], AfterValidator(some), Tag(TAG + "list")]
    | Annotated[Range, Tag(TAG + "range")]
    | Annotated[
        ValueWord,
        word("value", ValueWord, VALUES, zero="zero ablation is `set: 0`", mean="write `{mean: PROMPTS}`"),
        Tag(TAG + "word"),
    ]
    | Annotated[Source, Tag(TAG + "source")]
    | Annotated[Times, Tag(TAG + "times")],
    keyed_shape(VALUE_KEYS, scalar_shape),
]
"""What a neuron is set to."""
ValueOrName = Annotated[
    Annotated[Number, Tag(TAG + "number")]
    | Annotated[list[Number], AfterValidator(some), Tag(TAG + "list")]
    | Annotated[Range, Tag(TAG + "range")]
    | Annotated[Text, Tag(TAG + "word")]
    | Annotated[Source, Tag(TAG + "source")]
    | Annotated[Times, Tag(TAG + "times")],
    keyed_shape(VALUE_KEYS, scalar_shape),
]
VERBS = ("scale", "set", "add")


class Edit(Block):
    """Exactly one of scale, set, add, and where it happens."""

    noun = "an edit"

    scale: NumberOrRange | None = Field(default=None, description="Factor on the run's own value.")
    set: Value | None = Field(default=None, description="The value it is set to.")
    add: ValueOrName | None = Field(default=None, description="What is added: a value or a vector's name.")
    neurons: NeuronsRef | None = Field(default=None, description="Which neurons.")
    outside: NeuronsRef | None = Field(default=None, description="All neurons of the site but these.")
    position: PositionsOrEach | None = Field(default=None, description="Where; as read if absent.")
    in_: Annotated[
        Literal["activations", "weights"], word("place of an edit", Literal["activations", "weights"])
    ] = Field(default="activations", alias="in", description="Edit the run or the checkpoint.")

    @model_validator(mode="after")
    def _does_one_thing(self) -> Edit:
        verb = _exactly_one(self, VERBS, "an edit does exactly one of")
        where = _given(self, ("neurons", "outside"))
        if len(where) == 2:
            refuse("an edit has `neurons:` or `outside:`, not both", at="outside")
        if not where and not (verb == "add" and isinstance(self.add, str)):
            refuse(
                f"`{verb}` needs `neurons:`, what it acts on (or `outside:`, everything but these)", at=verb
            )
        return self


class FreezeException(Block):
    noun = "an exception"

    site: Sites | None = Field(default=None, description="Sites left free; all frozen ones if absent.")
    layers: Layers | None = Field(default=None, description="Layers left free; all if absent.")
    position: Positions | None = Field(default=None, description="Positions left free; all if absent.")

    @model_validator(mode="after")
    def _leaves_something(self) -> FreezeException:
        if self.site is None and self.layers is None and self.position is None:
            refuse("an exception has at least one of site, layers, position; without them nothing is frozen")
        return self


class Freeze(Block):
    """Hold components at a value while the edit acts; the edit wins where both apply."""

    noun = "a freeze"

    site: Sites = Field(description="Sites that are held.")
    layers: Layers | None = Field(default=None, description="Layers that are held; all if absent.")
    position: Positions = Field(description="Positions that are held.")
    to: Annotated[
        Annotated[
            Literal["clean"],
            word("value to hold at", Literal["clean"], ", {mean: PROMPTS}"),
            Tag(TAG + "scalar"),
        ]
        | Annotated[Source, Tag(TAG + "block")]
        | Annotated[Text, Tag(TAG + "list")],
        Discriminator(shape),
    ] = Field(default="clean", description="The value they are held at.")
    except_: Annotated[
        list[FreezeException],
        BeforeValidator(one_or_many, json_schema_input_type=FreezeException | list[FreezeException]),
    ] = Field(default_factory=list, alias="except", description="What stays free.")


class Controls(Block):
    """Edits that should do nothing; `none` turns all of them off."""

    noun = "controls"
    words: ClassVar = {"none": {"random_neurons": 0, "wrong_cell": 0, "no_edit": 0}}

    random_neurons: Whole = Field(default=5, ge=0, description="Draws of as many neurons of the same layers.")
    wrong_cell: Whole = Field(default=1, ge=0, description="The next owners' neurons.")
    no_edit: Whole = Field(default=1, ge=0, description="Placeholder and freeze without the edit.")


class Tune(Block):
    """Choose the sweep value on other prompts."""

    noun = "tune"

    on: Text = Field(description="Prompts the value is chosen on.")
    maximize: MeasureText | None = Field(default=None, description="The measure to make large.")
    minimize: MeasureText | None = Field(default=None, description="The measure to make small.")

    @model_validator(mode="after")
    def _has_one_aim(self) -> Tune:
        _exactly_one(self, ("maximize", "minimize"), "tune has exactly one of")
        return self


def _target_shape(value: Any) -> str:
    if isinstance(value, (list, tuple)) or (isinstance(value, str) and is_condition(value)):
        return TAG + "list"
    return TAG + "scalar"


def _others_shape(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        conditions = any(
            isinstance(v, (Condition, dict)) or (isinstance(v, str) and is_condition(v)) for v in value
        )
        return TAG + ("conditions" if conditions else "names")
    if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
        return TAG + "count"
    if isinstance(value, str) and value != "none":
        return TAG + ("conditions" if is_condition(value) else "names")
    return TAG + "none"


class Intervention(Block):
    """An edit, who is asked about, and what is measured."""

    noun = "an intervention"

    edit: Annotated[
        list[Edit],
        BeforeValidator(one_or_many, json_schema_input_type=Edit | list[Edit]),
        AfterValidator(some),
    ] = Field(description="What is done; several at once if a list.")
    freeze: Freeze | None = Field(default=None, description="What is held while it is done.")
    ask: SomeTexts = Field(default_factory=lambda: ["facts"], description="The prompt sets asked.")
    placeholder: NameOrTexts | None = Field(
        default=None, description="The entity's name is replaced by this; the owner's answers are scored."
    )
    target: (
        Annotated[
            Annotated[Text, Tag(TAG + "scalar")] | Annotated[Conditions, Tag(TAG + "list")],
            Discriminator(_target_shape),
            WithJsonSchema(listed(TEXT_SCHEMA)),
        ]
        | None
    ) = Field(default=None, description="Whose answers should change; the neurons' owner's if absent.")
    others: (
        Annotated[
            Annotated[Literal["none"], Tag(TAG + "none")]
            | Annotated[Cut, Tag(TAG + "count")]
            | Annotated[SomeTexts, Tag(TAG + "names")]
            | Annotated[Conditions, Tag(TAG + "conditions")],
            Discriminator(_others_shape),
            WithJsonSchema(listed(TEXT_SCHEMA)),
        ]
        | None
    ) = Field(default=None, description="Who else is asked; everybody (10 drawn if more than 12) if absent.")
    unknown: NameOrTexts = Field(
        default="strangers", description="Names that are the zero of knowledge_score."
    )
    answers_of: (
        Annotated[Literal["asked", "edited"], word("owner of answers", Literal["asked", "edited"])] | None
    ) = Field(default=None, description="Whose answers are scored; asked, with a placeholder edited.")
    measure: Measures = Field(
        default_factory=lambda: ["knowledge_score", "answer_probability"], description="What is measured."
    )
    controls: Controls = Field(default_factory=Controls, description="Edits that should do nothing.")
    tune: Tune | None = Field(default=None, description="Choose the sweep value on other prompts.")
    save_model: Text | None = Field(default=None, description="Name of the checkpoint to save.")


class Learn(Block):
    """A vector that changes one fact and keeps others."""

    noun = "learn"

    fact: Text = Field(description="The fact that changes: relation/entity.")
    becomes: Text = Field(description="Its new answer.")
    keep: Text = Field(description="Prompts whose answers stay.")
    weights: dict[
        Annotated[Literal["attack", "preserve", "norm"], word("loss", Literal["attack", "preserve", "norm"])],
        Number,
    ] = Field(description="Loss weights.")
    steps: Cut = Field(default=30, description="Steps of AdamW.")
    lr: Annotated[Number, Field(gt=0)] = Field(default=0.05, description="Learning rate.")


class Vector(Block):
    """Exactly one of learn, mean, from."""

    noun = "a vector"

    site: SiteText | None = Field(default=None, description="Where the vector lives.")
    layers: LayerText | None = Field(default=None, description="In which layer.")
    position: PositionText | None = Field(default=None, description="At which token.")
    learn: Learn | None = Field(default=None, description="Learn it.")
    mean: Text | None = Field(default=None, description="Mean over these prompts ...")
    minus: Text | None = Field(default=None, description="... minus the mean over these.")
    from_: Text | None = Field(default=None, alias="from", description="A saved vector.")

    @model_validator(mode="after")
    def _has_one_origin(self) -> Vector:
        kind = _exactly_one(self, ("learn", "mean", "from_"), "a vector has exactly one of")
        if self.minus is not None and kind != "mean":
            refuse("`minus` belongs to `mean`: a difference of two means", at="minus")
        for name in ("site", "layers", "position"):
            if kind != "from" and getattr(self, name) is None:
                refuse(
                    f"a vector needs `{name}:`, where it is {'learned' if kind == 'learn' else 'read'} and added"
                )
        return self


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
    cumulativity: Text | None = Field(default=None, description="Do slices add up?")
    difference: Text | None = Field(default=None, description="A column between outcome classes.")
    errors: Text | None = Field(default=None, description="Share of each wrong answer.")
    across: Text | None = Field(default=None, description="Column or matrix axis (agreement).")
    method: (
        Annotated[
            Literal["spearman", "pearson", "kendall"],
            word("method", Literal["spearman", "pearson", "kendall"]),
        ]
        | None
    ) = Field(default=None, description="Which correlation; spearman if absent (correlation).")
    rows: Text | None = Field(default=None, description="Column of the rows (pivot).")
    columns: Text | None = Field(default=None, description="Column of the columns (pivot).")
    value: MeasureText | None = Field(default=None, description="Measure in the cells (pivot).")
    slices: Text | None = Field(default=None, description="The intervention with the slices (cumulativity).")
    between: (
        Annotated[list[Annotated[Outcome, word("outcome", Outcome)]], Field(min_length=2, max_length=2)]
        | None
    ) = Field(default=None, description="The two outcomes compared (difference).")
    of: Text | None = Field(default=None, description="The intervention (difference).")
    per: Text | None = Field(default=None, description="Separately within (difference).")
    test: (
        Annotated[
            Literal["wilcoxon", "mannwhitney", "t"], word("test", Literal["wilcoxon", "mannwhitney", "t"])
        ]
        | None
    ) = Field(default=None, description="Which test (difference).")
    classes: dict[Text, Text] | None = Field(default=None, description="Name: pattern (errors).")

    @model_validator(mode="after")
    def _has_one_verb(self) -> Analysis:
        verb = _exactly_one(self, get_args(AnalysisVerb), "an analysis has exactly one of")
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

    version: Annotated[Literal[1], BeforeValidator(_read_version)] = Field(
        description="Version of the language."
    )
    name: Text = Field(description="Name of the run; the file's name if absent.")
    description: Text | None = Field(default=None, description="The question this spec asks.")
    seed: Whole = Field(default=0, description="Seed of every random choice.")
    only: SomeTexts | None = Field(default=None, description="What is run; what that needs is run too.")
    matrix: dict[Text, list[Any]] = Field(default_factory=dict, description="Dotted path: values.")
    model: ModelSpec = Field(description="The model.")
    data: dict[Text, DataFile] = Field(default_factory=dict, description="Tables with facts.")
    entities: dict[Text, Entity] = Field(default_factory=dict, description="Who is asked about.")
    placeholders: dict[Text, NamesOrFile] = Field(
        default_factory=dict, description="Names that stand for nobody."
    )
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
