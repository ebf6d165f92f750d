"""What is done: edits, freezes, controls, interventions and vectors."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from specs.language.block import (
    Block,
    Condition,
    Conditions,
    NameOrTexts,
    NumberOrRange,
    Range,
    SomeTexts,
    exactly_one,
    given,
)
from specs.language.fields import (
    TAG,
    Layers,
    LayerText,
    Measures,
    MeasureText,
    Positions,
    PositionText,
    Sites,
    SiteText,
    is_condition,
    keyed_shape,
    scalar_shape,
    shape,
)
from specs.language.places import Cut, NeuronsRef, PositionsOrEach
from specs.language.scalars import (
    TEXT_SCHEMA,
    Number,
    Text,
    Whole,
    listed,
    one_or_many,
    refuse,
    some,
    word,
)


class Source(Block):
    """Exactly one of mean, sample: a value taken from prompts."""

    noun = "a source"

    mean: NameOrTexts | None = Field(default=None, description="Mean over a prompt set, names, or patch.")
    sample: NameOrTexts | None = Field(default=None, description="A random member of it.")

    @model_validator(mode="after")
    def _has_one(self) -> Source:
        exactly_one(self, ("mean", "sample"), "a source has exactly one of")
        return self


ValueWord = Literal["clean", "patch", "own_mean"]
VALUES = ", a number, a list, a range, {mean: PROMPTS}, {sample: PROMPTS}, {times: V, of: SOURCE}"


class Times(Block):
    """A multiple of a source."""

    noun = "a multiple"

    times: NumberOrRange = Field(description="The multiples.")
    of: Annotated[
        Annotated[ValueWord, word("source", ValueWord, ", {mean: PROMPTS}, {sample: PROMPTS}"), Tag(TAG + "scalar")]
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
    position: PositionsOrEach | None = Field(
        default=None, description="Where; as read if absent. `all`: every token, the answer's and generated ones too."
    )
    in_: Annotated[Literal["activations", "weights"], word("place of an edit", Literal["activations", "weights"])] = (
        Field(default="activations", alias="in", description="Edit the run or the checkpoint.")
    )

    @model_validator(mode="after")
    def _does_one_thing(self) -> Edit:
        verb = exactly_one(self, VERBS, "an edit does exactly one of")
        where = given(self, ("neurons", "outside"))
        if len(where) == 2:
            refuse("an edit has `neurons:` or `outside:`, not both", at="outside")
        steers = verb == "add" and isinstance(self.add, str) and self.add not in get_args(ValueWord)
        if where and steers:
            refuse(
                f"'{self.add}' is no value ({', '.join(get_args(ValueWord))}), and a vector is added to all neurons of "
                f"its site; remove `{where[0]}`",
                at=where[0],
            )
        if not where and not steers:
            refuse(f"`{verb}` needs `neurons:`, what it acts on (or `outside:`, everything but these)", at=verb)
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
            Literal["clean", "patch"],
            word("value to hold at", Literal["clean", "patch"], ", {mean: PROMPTS}"),
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
        exactly_one(self, ("maximize", "minimize"), "tune has exactly one of")
        return self


def _target_shape(value: Any) -> str:
    if isinstance(value, (list, tuple)) or (isinstance(value, str) and is_condition(value)):
        return TAG + "list"
    return TAG + "scalar"


def _others_shape(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        conditions = any(isinstance(v, (Condition, dict)) or (isinstance(v, str) and is_condition(v)) for v in value)
        return TAG + ("conditions" if conditions else "names")
    if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
        return TAG + "count"
    if isinstance(value, str) and value != "none":
        return TAG + ("conditions" if is_condition(value) else "names")
    return TAG + ("none" if value == "none" else "names")


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
    unknown: NameOrTexts = Field(default="strangers", description="Names that are the zero of knowledge_score.")
    answers_of: Annotated[Literal["asked", "edited"], word("owner of answers", Literal["asked", "edited"])] | None = (
        Field(default=None, description="Whose answers are scored; asked, with a placeholder edited.")
    )
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
        kind = exactly_one(self, ("learn", "mean", "from_"), "a vector has exactly one of")
        if self.minus is not None and kind != "mean":
            refuse("`minus` belongs to `mean`: a difference of two means", at="minus")
        for name in ("site", "layers", "position"):
            if kind != "from" and getattr(self, name) is None:
                done = "learned" if kind == "learn" else "read"
                refuse(f"a vector needs `{name}:`, where it is {done} and added")
        return self
