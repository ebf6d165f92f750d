"""Write a resolved spec as YAML that reads back to the same spec, and hash what can change its numbers."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml
from pydantic import BaseModel

from specs.language.experiment import Condition, Experiment
from specs.language.nodes import NULLS, Raw
from specs.language.scalars import FALSE, TRUE, looks_like_number

__all__ = ["long_form", "resolved_hash", "to_yaml"]

NOT_HASHED = ("name", "description", "expect", "matrix")
"""What cannot change a number: the words around an experiment, its claims, and a matrix that is applied
already.
"""
UNORDERED = ("localize", "neurons", "vectors", "interventions", "analyses")
"""Blocks whose order changes nothing; that of entities decides whose cell is whose wrong cell."""


def long_form(value: Any) -> Any:
    """Turn a part of an experiment into plain data in the long form, without what is absent."""
    if isinstance(value, Condition):
        return str(value)
    if isinstance(value, BaseModel):
        plain = {}
        for name, field in type(value).model_fields.items():
            item = getattr(value, name)
            empty = (
                isinstance(item, (dict, list))
                and not item
                and field.get_default(call_default_factory=True) == item
            )
            if item is not None and not empty:
                plain[field.alias or name] = long_form(item)
        return plain
    if isinstance(value, dict):
        return {key: long_form(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [long_form(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value


def to_yaml(experiment: Experiment) -> str:
    """Write an experiment in the long form; reading the text gives the same experiment."""
    return yaml.dump(
        long_form(experiment),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=110,
        default_flow_style=None,
    )


def resolved_hash(experiment: Experiment, files: dict[str, str] | None = None) -> str:
    """Give twelve hex digits over everything in a resolved spec that can change its numbers.

    What enters: every field but name, description, expect and matrix, with all defaults and inlined
    lists; the order of entities, relations, prompts and values. What does not: comments, the order of
    keys, short or long form, which file a part was written in. ``files`` adds digests of what is named
    and not inlined.
    """
    plain = long_form(experiment)
    for name in NOT_HASHED:
        plain.pop(name, None)
    for block in UNORDERED:
        if block in plain:
            plain[block] = dict(sorted(plain[block].items()))
    for relation in plain.get("relations", {}).values():
        if "answers" in relation:
            relation["answers"] = dict(sorted(relation["answers"].items()))
    text = json.dumps([plain, sorted((files or {}).items())], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain_means_else = looks_like_number(value) or value in NULLS | TRUE | FALSE
    if isinstance(value, Raw):
        plain_means_else = value.quoted
        value = str.__str__(value)
        if not plain_means_else:
            # written without quotes: the field it fills decides what it is, so no quotes here either
            return dumper.represent_scalar("tag:yaml.org,2002:" + _plain_tag(dumper, value), value)
    style = '"' if plain_means_else or "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _plain_tag(dumper: Any, value: str) -> str:
    """Give the tag with which the emitter leaves a scalar without quotes."""
    return str(dumper.resolve(yaml.ScalarNode, value, (True, False))).removeprefix("tag:yaml.org,2002:")


def _number(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = repr(value)
    return dumper.represent_scalar("tag:yaml.org,2002:" + _plain_tag(dumper, text), text)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Raw, _text)
_Dumper.add_representer(float, _number)
