"""Field types of the language: sites, positions, layers, measures, objectives, conditions, and shapes of
values.

Each type accepts what a researcher writes (a scalar, a short form) and gives the long form of the
resolved spec. Where a field accepts several shapes, the shape is chosen first, so that one mistake gives
one message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, WithJsonSchema

from specs.language.scalars import (
    listed,
    looks_like_number,
    nearest,
    one_or_many,
    read_number_or_text,
    read_text,
    refuse,
    shown,
    some,
    suggest,
    word,
)
from specs.language.words import Measure, Metric, Position, Site

__all__ = [
    "LayerText",
    "Layers",
    "MeasureText",
    "Measures",
    "MetricWord",
    "ObjectiveText",
    "Part",
    "PositionText",
    "Positions",
    "RankText",
    "SiteText",
    "Sites",
    "is_condition",
    "keyed_shape",
    "scalar_shape",
    "shape",
]

SITES = get_args(Site)
POSITIONS = get_args(Position)
MEASURES = get_args(Measure)
NEEDS_NUMBER = ("pass", "text")
MAY_HAVE_NUMBER = ("accuracy", "accuracy_drop")
OBJECTIVES = ("answer_logit", "answer_probability", "logit_difference", "top_logits")


def check_site(value: Any) -> Any:
    text = read_text(value)
    if text in SITES or re.fullmatch(r"path:[\w*]+(\.[\w*]+)*", text):
        return text
    if text.startswith("path:"):
        refuse(f"'{shown(text)}' is not a module path; write path: and its dotted name, path:model.layers.3.mlp")
    near = suggest(text, SITES)
    refuse(f"'{shown(text)}' is not a site{near or '; choose from ' + ', '.join(SITES) + ', path:MODULE'}")


def check_position(value: Any) -> Any:
    text = read_text(value)
    if text in POSITIONS:
        return text
    if re.fullmatch(r"[-+]?[0-9]+", text):
        return str(int(text))
    near = suggest(text, POSITIONS)
    words = ", ".join(sorted(POSITIONS, key=lambda p: not p.startswith("entity")))
    refuse(
        f"'{shown(text)}' is not a position{near}{'' if near else ';'} "
        f"{'Positions' if near else 'positions'}: {words}, or a token's index such as -1"
    )


LAYERS = re.compile(r"(\d+)(?:-(\d+))?|(\d+(?:\.\d+)?)%(?:-(\d+(?:\.\d+)?)%)?")


def check_layers(value: Any) -> Any:
    """Check `4`, `4-9`, `80%`, `80%-100%`; any other word is a reference, whose meaning is checked later."""
    text = read_text(value).strip()
    found = LAYERS.fullmatch(text)
    if found:
        first, last, low, high = found.groups()
        if last is not None and int(last) < int(first):
            refuse(f"layers {text} run backwards; write {last}-{first}")
        for share in (low, high):
            if share is not None and float(share) > 100:
                refuse(f"layers {text} lie outside the model; 100% is its end")
        if high is not None and float(high) < float(low):
            refuse(f"layers {text} run backwards; write {high}%-{low}%")
        return text
    if not text or looks_like_number(text) or re.match(r"[-+.\d][-+.\d%\s]*$", text):
        refuse(f"'{shown(value)}' are not layers; write 4, 4-9, 80%-100%, or a set of neurons, whose layers are meant")
    return text


def check_measure(value: Any) -> Any:
    text = read_text(value)
    name, at, number = text.partition("@")
    if name not in MEASURES:
        near = suggest(name, MEASURES)
        listing = ", ".join(f"{m}@n" if m in NEEDS_NUMBER else m for m in MEASURES)
        refuse(f"'{shown(text)}' is not a measure{near or '; choose from ' + listing}")
    if not at:
        if name in NEEDS_NUMBER:
            refuse(f"'{name}' needs a number: `{name}@{5 if name == 'pass' else 12}`")
        return name
    if name not in NEEDS_NUMBER + MAY_HAVE_NUMBER:
        refuse(f"'{name}' takes no number; write `{name}`")
    if not re.fullmatch(r"[0-9]+", number) or int(number) < 1:
        refuse(f"'{shown(text)}': what follows @ is a whole number of at least 1, such as `{name}@5`")
    return f"{name}@{int(number)}"


def check_objective(value: Any) -> Any:
    text = read_text(value)
    name, at, number = text.partition("@")
    if name not in OBJECTIVES:
        near = suggest(name, OBJECTIVES)
        refuse(f"'{shown(text)}' is not an objective{near or '; choose from ' + ', '.join(OBJECTIVES)}")
    if name == "top_logits":
        if not at:
            refuse("'top_logits' needs a number: `top_logits@5`")
        if not re.fullmatch(r"[0-9]+", number) or int(number) < 1:
            refuse(f"'{shown(text)}': what follows @ is a whole number of at least 1, such as `top_logits@5`")
        return f"{name}@{int(number)}"
    if at:
        refuse(f"'{name}' takes no number; write `{name}`")
    return name


def check_rank(value: Any) -> Any:
    text = read_text(value).strip()
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not found or int(found[1]) < 1:
        refuse(f"'{shown(text)}' is not a rank; write 3, or a slice such as 11-50 (the first rank is 1)")
    if found[2] is not None and int(found[2]) < int(found[1]):
        refuse(f"ranks {text} run backwards; write {found[2]}-{found[1]}")
    return text


def check_part(value: Any) -> Any:
    """Check one part of a split: a number of prompts, a fraction, or `rest`."""
    part = read_number_or_text(value)
    if part == "rest":
        return part
    if isinstance(part, str) or part <= 0 or (part > 1 and part != int(part)):
        refuse(f"'{shown(value)}' is not a part; write a number of prompts, a fraction such as 0.5, or rest")
    return part


def numbered(names: tuple[str, ...], needs: tuple[str, ...], may: tuple[str, ...]) -> dict[str, Any]:
    """Give the JSON schema of words some of which carry `@n`."""
    return {
        "anyOf": [
            {"enum": [n for n in names if n not in needs]},
            {"type": "string", "pattern": f"^({'|'.join(needs + may)})@0*[1-9][0-9]*$"},
        ]
    }


SITE_SCHEMA = {"anyOf": [{"enum": list(SITES)}, {"type": "string", "pattern": "^path:"}]}
POSITION_SCHEMA = {"anyOf": [{"enum": list(POSITIONS)}, {"type": "integer"}]}
MEASURE_SCHEMA = numbered(MEASURES, NEEDS_NUMBER, MAY_HAVE_NUMBER)
OBJECTIVE_SCHEMA = numbered(OBJECTIVES, ("top_logits",), ())
LAYER_SCHEMA = {"type": ["string", "integer"]}


SiteText = Annotated[str, BeforeValidator(check_site), WithJsonSchema(SITE_SCHEMA)]
Sites = Annotated[
    list[SiteText], BeforeValidator(one_or_many), AfterValidator(some), WithJsonSchema(listed(SITE_SCHEMA))
]
PositionText = Annotated[str, BeforeValidator(check_position), WithJsonSchema(POSITION_SCHEMA)]
Positions = Annotated[
    list[PositionText],
    BeforeValidator(one_or_many),
    AfterValidator(some),
    WithJsonSchema(listed(POSITION_SCHEMA)),
]
LayerText = Annotated[str, BeforeValidator(check_layers), WithJsonSchema(LAYER_SCHEMA)]
Layers = Annotated[
    list[LayerText], BeforeValidator(one_or_many), AfterValidator(some), WithJsonSchema(listed(LAYER_SCHEMA))
]
"""Places as written: `4`, `4-9`, `80%-100%`, or a set of neurons whose layers are meant."""
MeasureText = Annotated[str, BeforeValidator(check_measure), WithJsonSchema(MEASURE_SCHEMA)]
Measures = Annotated[
    list[MeasureText],
    BeforeValidator(one_or_many),
    AfterValidator(some),
    WithJsonSchema(listed(MEASURE_SCHEMA)),
]
ObjectiveText = Annotated[str, BeforeValidator(check_objective), WithJsonSchema(OBJECTIVE_SCHEMA)]
RankText = Annotated[str, BeforeValidator(check_rank), WithJsonSchema(LAYER_SCHEMA)]
MetricWord = Annotated[Metric, word("metric", Metric)]
"""A word of the list of metrics."""
Part = Annotated[
    float | Literal["rest"],
    BeforeValidator(check_part),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "rest"}]}),
]

TAG = "<<"
"""Tags of shapes begin with this, so that they can be taken out of a problem's path; no key can be `<<`."""


def shape(value: Any) -> str:
    """Tell a scalar, a list and a block apart."""
    if isinstance(value, (list, tuple)):
        return TAG + "list"
    if isinstance(value, (str, int, float)) or value is None:
        return TAG + "scalar"
    return TAG + "block"


def scalar_shape(value: Any) -> str:
    """Tell apart what :func:`shape` does, and numbers from words."""
    form = shape(value)
    if form != TAG + "scalar":
        return form
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return TAG + "number"
    return TAG + ("number" if isinstance(value, str) and looks_like_number(value) else "word")


def keyed_shape(keys: dict[str, tuple[str, ...]], scalars: Callable[[Any], str] = shape) -> Discriminator:
    """Choose among blocks by the keys they have: ``{tag: keys}``; the last tag is for any other block."""

    def choose(value: Any) -> str:
        form = scalars(value)
        if form != TAG + "block":
            return form
        has = set(value) if isinstance(value, dict) else {k for k in type(value).model_fields}
        counts = {tag: len(has & set(names)) for tag, names in keys.items()}
        best = max(counts, key=lambda tag: counts[tag])
        if not counts[best]:
            # a key misspelt: the block whose key it is most like; of equals the last
            near = {tag: sum(nearest(key, names, 0.7) is not None for key in has) for tag, names in keys.items()}
            best = max(reversed(near), key=lambda tag: near[tag])
        return TAG + best

    return Discriminator(choose)


CONDITION = re.compile(r"\S+\s*(=|!=|<|>)|\S+\s+(in|within)\s")


def is_condition(text: str) -> bool:
    """Say whether a text is meant as `quantity op value` rather than as a name."""
    return CONDITION.match(text) is not None
