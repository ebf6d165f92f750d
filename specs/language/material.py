"""The material of an experiment: the model, tables, entities, relations and prompt sets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

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
    AllOrNames,
    Block,
    Condition,
    Conditions,
    NameOrTexts,
    SomeTexts,
    all_or_names,
    exactly_one,
)
from specs.language.fields import (
    TAG,
    Part,
    check_measure,
    shape,
)
from specs.language.scalars import (
    TEXT_SCHEMA,
    Flag,
    NumberOrText,
    Text,
    Whole,
    listed,
    one_or_many,
    read_text,
    refuse,
    shown,
    some,
    suggest,
    word,
)
from specs.language.words import Dtype


class Chat(Block):
    noun = "chat"

    system: Text | None = Field(default=None, description="System message of the chat template.")
    prefill: Text | None = Field(default=None, description="What the assistant's turn begins with.")


FlagOrChat = Annotated[
    Annotated[Flag, Tag(TAG + "scalar")] | Annotated[Chat, Tag(TAG + "block")] | Annotated[Flag, Tag(TAG + "list")],
    Discriminator(shape),
]


def _check_device(value: Any) -> Any:
    import re

    text = read_text(value)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", text):
        near = "; write cuda" if text == "gpu" else suggest(text, ["auto", "cpu", "cuda", "mps"])
        refuse(f"'{shown(text)}' is not a device{near or '; choose from auto, cpu, cuda, cuda:1, mps'}")
    return text


DTYPES = {"fp16": "write float16", "bf16": "write bfloat16", "fp32": "write float32", "half": "write float16"}


class ModelSpec(Block):
    """The model; a scalar is its id."""

    main = "id"
    noun = "a model"

    id: Text = Field(description="A card name (`run-spec models`), a hub id, a folder, or a GGUF file.")
    revision: Text | None = Field(default=None, description="Commit, tag or branch on the hub.")
    dtype: Annotated[Dtype, word("dtype", Dtype, **DTYPES)] = Field(
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

    from_: Text = Field(
        alias="from",
        description="PopQA, LRE, known_1000, or a .csv, .tsv, .json or .jsonl table with columns entity, name, "
        "relation, answer, prompt, prompt_LABEL (another phrasing), language and attributes; or a folder of such "
        "files. Relative to the spec.",
    )
    relations: SomeTexts | None = Field(default=None, description="Which relations to take; all if absent.")
    columns: dict[Text, Text] = Field(default_factory=dict, description="Our word: their column.")
    where: Conditions = Field(
        default_factory=list, description="Which rows; `questions` is how many relations the entity is asked."
    )
    unique: Text | None = Field(
        default=None, description="Keep the first row of each value of this column, within each relation."
    )
    order: Text | None = Field(default=None, description="Sort by this column; a leading - reverses.")
    limit: Whole | None = Field(default=None, ge=1, description="At most this many entities, each with all its rows.")
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
    phrasings: dict[Text, SomeTexts] = Field(default_factory=dict, description="Label: other wordings.")


class Relation(Block):
    """A question about entities, with its answers."""

    noun = "a relation"

    prompt: SomeTexts = Field(description="The question, with `{{ entity }}`.")
    answers: dict[Text, Answers] = Field(default_factory=dict, description="Entity: accepted answers.")
    given: Text | None = Field(default=None, description="The answer has begun with this; the rest is scored.")
    phrasings: dict[Text, SomeTexts] = Field(default_factory=dict, description="Label: other wordings.")
    attributes: dict[Text, dict[Text, NumberOrText]] = Field(
        default_factory=dict,
        description="Column: entity: what is known of the fact (its frequency), used in by, where, analyses.",
    )
    translations: dict[Text, Translation] = Field(default_factory=dict, description="Language: translation.")


class EntityFilter(Block):
    noun = "a choice of entities"

    where: Conditions = Field(default_factory=list, description="Conditions on attributes.")
    order: Text | None = Field(default=None, description="Sort by this attribute; a leading - reverses.")
    limit: Whole | None = Field(default=None, ge=1, description="At most this many.")


class Split(Block):
    noun = "a split"

    into: dict[Text, Part] = Field(
        min_length=1,
        description="Part: number, fraction, or rest. A fact is never cut: all its wordings go to one part.",
    )
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
    return value if isinstance(value, (dict, EntityFilter)) else all_or_names(value)


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
        Annotated[Literal["entity", "variant", "language"], word("patch", Literal["entity", "variant", "language"])]
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
                lambda v: TAG + "scalar" if v == "any" else TAG + "list" if isinstance(v, list) else TAG + "block"
            ),
            BeforeValidator(_read_known, json_schema_input_type=str),
        ]
        | None
    ) = Field(default=None, description="Only prompts the clean model answers (default pass@5), or any.")
    split: Split | None = Field(default=None, description="Parts of the set.")

    @model_validator(mode="after")
    def _has_one_source(self) -> PromptSet:
        exactly_one(self, SOURCES, "a prompt set has exactly one of")
        if self.per is not None and self.limit is None:
            refuse("`per` belongs to `limit`: sample so many within each", at="per")
        return self
