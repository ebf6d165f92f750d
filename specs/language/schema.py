"""The JSON schema of a spec as it is written: for editors, generated from the grammar.

    python -m specs.language.schema          write specs/schema/run-spec.schema.json

An editor with the YAML language server uses it for a file that begins with

    # yaml-language-server: $schema=https://.../specs/schema/run-spec.schema.json

(or the path of the file in a checkout). It knows the shapes, the keys and the closed word lists; references,
templates and what belongs together are checked by `run-spec validate`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from specs.language import actions, block, experiment, material, places
from specs.language.block import CONDITION_SCHEMA, Block
from specs.language.experiment import Experiment
from specs.language.fields import (
    LAYER_SCHEMA,
    MEASURE_SCHEMA,
    OBJECTIVE_SCHEMA,
    POSITION_SCHEMA,
    SITE_SCHEMA,
)
from specs.language.paths import NAMED
from specs.language.scalars import TEXT_SCHEMA, listed

__all__ = ["SCHEMA_FILE", "json_schema", "schema_text"]

SCHEMA_FILE = Path(__file__).resolve().parent.parent / "schema" / "run-spec.schema.json"

SHARED: dict[str, Any] = {
    "Text": TEXT_SCHEMA,
    "Condition": CONDITION_SCHEMA,
    "Site": SITE_SCHEMA,
    "Position": POSITION_SCHEMA,
    "Layers": LAYER_SCHEMA,
    "Measure": MEASURE_SCHEMA,
    "Objective": OBJECTIVE_SCHEMA,
}
LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""Limits on a field whose text is read by us, as pydantic leaves them, and as JSON schema says them."""


class _Generator(GenerateJsonSchema):
    """Alternatives of shape are `anyOf`: a text field also takes what YAML reads as a number."""

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        found = super().tagged_union_schema(schema)
        alternatives = found.pop("oneOf", None)
        found.pop("discriminator", None)
        if alternatives is not None:
            distinct = [a for n, a in enumerate(alternatives) if a not in alternatives[:n]]
            found.update(distinct[0] if len(distinct) == 1 else {"anyOf": distinct})
        return found


def json_schema() -> dict[str, Any]:
    """Give the JSON schema (draft 2020-12) of a spec as it is written, short forms and fragments included."""
    schema: dict[str, Any] = Experiment.model_json_schema(mode="validation", schema_generator=_Generator)
    definitions: dict[str, Any] = schema.pop("$defs")
    for name, definition in list(definitions.items()):
        model = block_model(name)
        if model is None:
            continue
        _finish(definition, model)
        short = _short_forms(definition, model)
        if short:
            definitions[name] = {"anyOf": [*short, definition]}
    _finish(schema, Experiment)
    for named in NAMED:
        (of_names,) = (a for a in schema["properties"][named]["anyOf"] if a.get("type") == "object")
        of_names["additionalProperties"] = _nullable(of_names["additionalProperties"])
    intervention = definitions["Intervention"]
    intervention["properties"] = {
        "extends": {**TEXT_SCHEMA, "description": "Another intervention whose fields are taken."},
        **intervention["properties"],
    }
    schema["properties"] = {
        "version": schema["properties"].pop("version"),
        "extends": {
            **listed({"type": "string"}),
            "description": "Files this one is built on, relative to this one.",
        },
        **schema["properties"],
    }
    schema["properties"]["matrix"] = {
        "description": "Dotted path: values; one experiment for each combination.",
        "type": ["object", "null"],
    }
    schema["properties"]["version"]["description"] += " A file without it is a fragment that others extend."
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "run-spec",
        "description": "An experiment on how a language model stores knowledge.",
        **{k: v for k, v in schema.items() if k not in ("title", "description")},
        "$defs": dict(sorted(definitions.items())),
    }
    named = _with_names(whole)
    assert isinstance(named, dict)
    named["$defs"] = {**named["$defs"], **SHARED}
    return named


def _with_names(schema: Any) -> Any:
    """Put a reference in the place of each shared shape, and say alternatives once."""
    if isinstance(schema, list):
        return [_with_names(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    for name, shared in SHARED.items():
        if schema == shared:
            return {"$ref": f"#/$defs/{name}"}
    schema = {LIMITS.get(k, k) if isinstance(v, (int, float)) else k: v for k, v in schema.items()}
    alternatives = schema.get("anyOf")
    for name, shared in SHARED.items():
        inner = shared.get("anyOf")
        if alternatives and inner and all(item in alternatives for item in inner):
            rest = [item for item in alternatives if item not in inner]
            schema = {**schema, "anyOf": [{"$ref": f"#/$defs/{name}"}, *rest]}
    found = {key: _with_names(value) for key, value in schema.items()}
    if "anyOf" in found:
        found["anyOf"] = [a for n, a in enumerate(found["anyOf"]) if a not in found["anyOf"][:n]]
    return found


def schema_text() -> str:
    """Give the JSON schema as it is committed."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def block_model(name: str) -> type[Block] | None:
    """Give the model that a definition of the schema stands for."""
    for module in (block, material, places, actions, experiment):
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, Block):
            return found
    return None


def _finish(definition: dict[str, Any], model: type[Block]) -> None:
    """Let every field be removed with null, and require nothing: a base may hold what a child leaves out."""
    definition.pop("title", None)
    definition.pop("required", None)
    for name, property_ in definition["properties"].items():
        property_.pop("title", None)
        definition["properties"][name] = _nullable(property_)


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {key: schema[key] for key in ("description", "default") if key in schema}
    rest = {key: value for key, value in schema.items() if key not in about}
    shared = rest in SHARED.values()
    alternatives = rest.pop("anyOf") if set(rest) == {"anyOf"} and not shared else [rest]
    flat: list[dict[str, Any]] = []
    for alternative in alternatives:
        nested = set(alternative) == {"anyOf"} and alternative not in SHARED.values()
        flat.extend(alternative["anyOf"] if nested else [alternative])
    if {"type": "null"} not in flat:
        flat.append({"type": "null"})
    if about.get("default", ...) is None:
        about.pop("default")
    return {**about, "anyOf": flat}


def _short_forms(definition: dict[str, Any], model: type[Block]) -> list[dict[str, Any]]:
    """Give what may stand for the whole block: a scalar for its main field, or a word."""
    short: list[dict[str, Any]] = [{"enum": sorted(model.words)}] if model.words else []
    if model.main is not None:
        main = model.model_fields[model.main].alias or model.main
        short += [a for a in definition["properties"][main]["anyOf"] if a != {"type": "null"}]
    return short


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
