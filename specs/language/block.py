"""What every block of the language shares: closed keys, short forms, conditions, ranges, rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

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
    shape,
)
from specs.language.scalars import (
    TEXT_SCHEMA,
    Flag,
    Number,
    Text,
    Texts,
    Whole,
    listed,
    one_or_many,
    refuse,
    shown,
    some,
)


class Block(BaseModel):
    """A mapping of the language: unknown keys are refused, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)

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
        names = [f.alias or name for name, f in cls.model_fields.items()]
        keys = ", ".join(names if len(names) < 8 else [*names[:6], "..."])
        found = "a list" if isinstance(value, list) else "empty" if value is None else f"'{shown(value)}'"
        words = "".join(f" or `{word}`" for word in cls.words)
        refuse(f"{cls.noun} is a block of keys ({keys}){words}, and this is {found}")


def given(block: Block, names: Sequence[str]) -> list[str]:
    """List which of these fields are set, by the names they are written with."""
    fields = type(block).model_fields
    return [fields[n].alias or n for n in names if getattr(block, n) is not None]


def exactly_one(block: Block, names: Sequence[str], sentence: str) -> str:
    """Return the one field that is set, or refuse: `<sentence> a, b, c; this does a and b`."""
    fields = type(block).model_fields
    has = given(block, names)
    if len(has) != 1:
        verb = "does" if sentence.endswith("of") and "does" in sentence else "has"
        listing = ", ".join(fields[n].alias or n for n in names)
        refuse(f"{sentence} {listing}; this {verb} {' and '.join(has) or 'none'}", at=has[-1] if has else "")
    return has[0]


def belongs(block: Block, kind: str, has: str, owners: dict[str, tuple[str, ...]]) -> None:
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
        from specs.language.conditions import text

        return text(self)

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


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"'{shown(value)}'"


CONDITION_SCHEMA = {"type": "string", "pattern": r"\s(=|!=|<|<=|>|>=|in|within)\s"}
Conditions = Annotated[
    list[Condition],
    BeforeValidator(one_or_many),
    AfterValidator(some),
    WithJsonSchema(listed(CONDITION_SCHEMA)),
]
SomeTexts = Annotated[Texts, AfterValidator(some)]


def all_or_names(value: Any) -> Any:
    """Keep `all`; put one name into a list."""
    if isinstance(value, str) and value == "all":
        return str.__str__(value)
    return one_or_many(value)


AllOrNames = Annotated[
    Annotated[Literal["all"], Tag(TAG + "scalar")] | Annotated[SomeTexts, Tag(TAG + "list")],
    Discriminator(shape),
    BeforeValidator(all_or_names),
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


NumberOrRange = Annotated[
    Annotated[Number, Tag(TAG + "scalar")]
    | Annotated[list[Number], AfterValidator(some), Tag(TAG + "list")]
    | Annotated[Range, Tag(TAG + "block")],
    Discriminator(shape),
]
"""A number, a list of numbers (a sweep), or a range."""
