"""The reference of the language, generated from the grammar: docs/spec_reference.md.

python -m specs.language.reference          write it
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from specs.language.block import Block
from specs.language.built import MEASURES, METRICS, NOT_BUILT
from specs.language.defaults import METRIC_DEFAULTS
from specs.language.experiment import (
    Analysis,
    Chat,
    Controls,
    DataFile,
    Edit,
    Entity,
    EntityFilter,
    Expectation,
    Experiment,
    Freeze,
    FreezeException,
    Intervention,
    Learn,
    Localize,
    ModelSpec,
    Negatives,
    NeuronSet,
    PromptSet,
    Range,
    RankingControls,
    Relation,
    Source,
    Split,
    Times,
    Translation,
    Tune,
    Vector,
)
from specs.language.fields import MAY_HAVE_NUMBER, NEEDS_NUMBER
from specs.language.hints import HINTS
from specs.language.schema import block_model, json_schema
from specs.language.words import Measure, Position, Site

__all__ = ["REFERENCE_FILE", "reference"]

REFERENCE_FILE = Path(__file__).resolve().parents[2] / "docs" / "spec_reference.md"

SECTIONS: tuple[tuple[str, type[Block]], ...] = (
    ("Top of a spec", Experiment),
    ("`model`", ModelSpec),
    ("`chat`, of a model or a prompt set", Chat),
    ("`data.X`", DataFile),
    ("`entities.X`", Entity),
    ("`relations.X`", Relation),
    ("`translations.CODE`, of a relation", Translation),
    ("`prompts.X`", PromptSet),
    ("`entities`, of a prompt set", EntityFilter),
    ("`split`, of a prompt set", Split),
    ("`localize.X`", Localize),
    ("`against`, of a ranking", Negatives),
    ("`controls`, of a ranking", RankingControls),
    ("Neuron sets: `neurons.X`, and wherever neurons are asked for", NeuronSet),
    ("`interventions.X`", Intervention),
    ("`edit`", Edit),
    ("A range of numbers", Range),
    ("A multiple of a source", Times),
    ("A source", Source),
    ("`freeze`", Freeze),
    ("`except`, of a freeze", FreezeException),
    ("`controls`, of an intervention", Controls),
    ("`tune`", Tune),
    ("`vectors.X`", Vector),
    ("`learn`, of a vector", Learn),
    ("`analyses.X`", Analysis),
    ("`expect`", Expectation),
)

REQUIRED: dict[tuple[type[Block], str], str] = {
    (Experiment, "version"): "required, but in a fragment",
    (Experiment, "name"): "the file's name",
    (Experiment, "model"): "required, unless inherited or in the matrix",
    (Intervention, "edit"): "required, unless inherited",
}

INTRODUCTION = """\
# Reference of the spec language

Generated from the grammar by `python -m specs.language.reference`; do not edit.

A spec is one YAML file of plain data. In an editor with a YAML language server, the first line

```yaml
# yaml-language-server: $schema=schema/run-spec.schema.json
```

with the path (or URL) of `specs/schema/run-spec.schema.json` gives completion, hover texts and
underlined mistakes; `run-spec validate FILE` checks everything that needs no model.

## How a spec is read

- A block is a mapping `name: definition`; a name is used once in a whole spec.
- A reference is `name` or `name/key`: `cell` (for each), `cell/trump`, `triples/detection`.
- A string refers, a list gives: `templates: attributes` is the shipped list, `templates: ["The age of
  {{ entity }}"]` is this list. A list may also be a file, named relative to the file that names it.
- The type of a scalar comes from the field: in a text field `NO`, `1946`, `010` and `12:30` are texts
  as written. In a number field numbers are those of YAML 1.2. An empty value, `~` or `null` means
  absent; `"null"` is the word.
- Where a list may stand, one value may stand.
- A list of values or cuts (`scale`, `set`, `times`, `top`, `rank`) is a sweep; a list of places is a
  union, and `{each: [...]}` makes a sweep of it.
- Layers are `4`, `4-9`, `[22, 23, 27]`, `80%-100%`, or a set of neurons whose layers are meant.
- A condition is `quantity op value` with op one of `= != < <= > >= in within`; a list of conditions
  means all.
- YAML tags, anchors, merge keys and several documents in a file are refused.

## Composition

`extends: base.yaml` (or a list) merges files at three levels: this file adds names to a block, replaces
fields of a named definition, and null removes a name or a field; what a field holds is replaced whole,
and so is `model`. What two bases define differently must be defined in the file itself, whose
definition then stands alone. `name`, `description`, `only` and `expect` are not inherited. A file
without `version:` is a fragment, for extending only. After that an intervention takes the fields of the
one it `extends`.

`--set localize.cell.top=3` and the keys of `matrix` are dotted paths; the value is YAML, typed by the
field, and replaces what stands there. Numbers pick from a list (`edit.0.scale`). A name that holds a
dot is put in double quotes: `entities."Dr. John".name`. Names must exist; fields need not.
"""


def reference() -> str:
    """Give the reference as Markdown."""
    schema = json_schema()
    parts = [INTRODUCTION]
    for title, model in SECTIONS:
        parts.append(_section(title, model, schema))
    parts += [_words(), _metric_defaults(), _hints(), _not_built()]
    return "\n".join(parts)


def _section(title: str, model: type[Block], schema: dict[str, Any]) -> str:
    lines = [f"## {title}", ""]
    about = (model.__doc__ or "").strip()
    if about and about != (Block.__doc__ or "").strip():
        lines += [about.replace("``", "`"), ""]
    lines += ["| field | value | default | |", "|---|---|---|---|"]
    properties = _properties(model, schema)
    for name, field in model.model_fields.items():
        written = field.alias or name
        default = REQUIRED.get((model, name), "required")
        if not field.is_required():
            default = _plain(field.get_default(call_default_factory=True))
        value = _value(properties[written])
        lines.append(f"| `{written}` | {value} | {default} | {field.description or ''} |")
    if model in (Experiment, Intervention):
        what = properties["extends"]
        lines.append(f"| `extends` | {_value(what)} |  | {what['description']} |")
    return "\n".join([*lines, ""])


def _properties(model: type[Block], schema: dict[str, Any]) -> dict[str, Any]:
    if model is Experiment:
        return dict(schema["properties"])
    definition = schema["$defs"][model.__name__]
    if "properties" not in definition:
        definition = definition["anyOf"][-1]
    return dict(definition["properties"])


NOUNS = {
    "Text": "text",
    "Condition": "condition",
    "Layers": "layers",
    "EachLayer": "{each: layers}",
    "EachPosition": "{each: positions}",
    "Times": "{times: V, of: SOURCE}",
    "Source": "{mean: PROMPTS} or {sample: PROMPTS}",
    "Chat": "{system, prefill}",
    "Negatives": "{others: ratio}",
    "EntityFilter": "{where, order, limit}",
}
SCALARS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true, false"}


def _value(schema: dict[str, Any]) -> str:
    """Say in words what a field takes."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        model = block_model(name)
        noun = model.noun.removeprefix("a ").removeprefix("an ") if model is not None else name.lower()
        return NOUNS.get(name, noun)
    if "anyOf" in schema:
        alternatives = [item for item in schema["anyOf"] if item != {"type": "null"}]
        if {"$ref": "#/$defs/EachNeurons"} in alternatives:
            return "neurons"
        said = list(dict.fromkeys(_value(item) for item in alternatives))
        several = {f"list of {one}" for one in said}
        return " or ".join(_plural(one, said) for one in said if one not in several)
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_value(schema.get('items', {}))}"
    if kind == "object":
        return f"{{name: {_value(schema['additionalProperties'])}}}"
    if isinstance(kind, list):
        return "{path: values}" if "object" in kind else "text" if "boolean" in kind else "whole number or text"
    return SCALARS[str(kind)]


def _plural(noun: str, said: list[str]) -> str:
    """Say that one or several may stand."""
    return f"{noun}(s)" if f"list of {noun}" in said and not noun.endswith("s") else noun


def _plain(value: Any) -> str:
    """Say a default."""
    if value is None or value == {} or value == []:
        return ""
    if isinstance(value, BaseModel):
        return "{" + ", ".join(f"{k}: {v}" for k, v in value.model_dump().items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(str(v) for v in value) + "]"
    return str(value)


def _words() -> str:
    measures = []
    for name in get_args(Measure):
        number = "@n" if name in NEEDS_NUMBER else "[@n]" if name in MAY_HAVE_NUMBER else ""
        measures.append(f"`{name}{number}`")
    words = ", ".join(f"`{p}`" for p in get_args(Position))
    return "\n".join(
        [
            "## Words",
            "",
            f"- Sites: {', '.join(f'`{s}`' for s in get_args(Site))}, and `path:MODULE`.",
            f"- Positions: {words}, and a token's index such as `-1`.",
            f"- Measures: {', '.join(measures)}.",
            "- Conditions of a run: `clean`, `edit`, `no_edit`, `random_neurons`, `wrong_cell`.",
            "- Roles: `target`, `others`, `unknown`, `texts` (about nobody); of perplexities `texts` is the usual one.",
            "",
        ]
    )


def _metric_defaults() -> str:
    fields = ("prompts", "by", "against", "site", "position", "pool")
    lines = ["## Defaults of a ranking, by metric", ""]
    lines += ["| metric | " + " | ".join(fields) + " | also |", "|---" * (len(fields) + 2) + "|"]
    for metric, fill in METRIC_DEFAULTS.items():
        also = ", ".join(f"{k}: {_plain(v)}" for k, v in fill.items() if k not in fields)
        cells = []
        for name in fields:
            value = fill.get(name)
            cells.append("[]" if value == [] else ", ".join(value) if isinstance(value, list) else _plain(value))
        lines.append(f"| `{metric}` | " + " | ".join(cells) + f" | {also} |")
    lines += ["", "`top: 1`, unless `threshold` or `mass` is given.", ""]
    return "\n".join(lines)


def _hints() -> str:
    told: dict[str, list[str]] = {}
    for key, hint in HINTS.items():
        told.setdefault(hint, []).append(f"`{key}`")
    lines = ["## Keys of other tools and papers", "", "| elsewhere | here |", "|---|---|"]
    lines += [f"| {', '.join(keys)} | {hint} |" for hint, keys in told.items()]
    return "\n".join([*lines, ""])


def _not_built() -> str:
    lines = [
        "## Not built yet",
        "",
        "In the language, and refused by `run-spec validate` until the runner can do it:",
        "",
    ]
    said = dict.fromkeys(part.what.replace("`known: {}`", "other kinds of `known:`") for part in NOT_BUILT)
    values = {
        "taking the layers of a neuron set ({})": "taking the layers of a neuron set",
        "the metric {}": f"metrics but {_list(_built_words('metric'))}",
        "the measure {}": f"measures but {_list(_built_words('measure'))}",
        "contrasting with {}": "contrasting with others, or with names in a list",
        "the objective {}": "the objective logit_difference",
        "agreement across {}": "agreement across columns but variant",
        "{} wrong cells": "several wrong cells",
        "no_edit: {}": "several `no_edit` conditions",
    }
    lines += [f"- {values.get(what, what)}" for what in said]
    return "\n".join([*lines, ""])


def _built_words(field: str) -> list[str]:
    return sorted(METRICS if field == "metric" else MEASURES)


def _list(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]


if __name__ == "__main__":
    REFERENCE_FILE.parent.mkdir(exist_ok=True)
    REFERENCE_FILE.write_text(reference(), encoding="utf-8")
