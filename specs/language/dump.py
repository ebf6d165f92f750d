"""Write a resolved spec as YAML that reads back to the same spec, and hash what can change its numbers."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from specs.language.experiment import Condition, Experiment
from specs.language.files import NAMED_BY_PATH
from specs.language.needs import mentions
from specs.language.nodes import NULLS, Raw
from specs.language.scalars import FALSE, TRUE, looks_like_number
from specs.language.shipped import NAMES, shipped_list

__all__ = ["long_form", "resolved_hash", "to_yaml"]

BREAKS = re.compile("[\n\r\t\x85\u2028\u2029\ufeff]")
"""What stands in double quotes, escaped."""
NOT_HASHED = ("name", "description", "expect", "matrix")
"""What cannot change a number: the words around an experiment, its claims, and a matrix that is applied
already.
"""
ONE_LINE = 84
"""What is longer (in characters) is written on several lines."""
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
            empty = isinstance(item, (dict, list)) and not item and field.get_default(call_default_factory=True) == item
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
        _styled(long_form(experiment), 0), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000
    )


def resolved_hash(experiment: Experiment) -> str:
    """Give twelve hex digits over everything in a resolved spec that can change its numbers.

    What enters: every field but name, description, expect and matrix, with all defaults and inlined
    lists; the order of entities, relations, prompts and values; the contents of the shipped lists and of
    the files that it names. What does not: comments, the order of keys, short or long form, which file a
    part was written in, where files lie.
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
        for name, values in relation.get("attributes", {}).items():
            relation["attributes"][name] = dict(sorted(values.items()))
    for block, field in NAMED_BY_PATH:
        for definition in plain.get(block, {}).values():
            if isinstance(definition, dict) and isinstance(definition.get(field), str):
                definition[field] = _contents(Path(definition[field]))
    lists = {name: _digest("\n".join(shipped_list(name))) for name in NAMES if name in set(mentions(experiment))}
    return _digest(json.dumps([plain, lists], ensure_ascii=False, separators=(",", ":")))[:12]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _contents(path: Path) -> Any:
    """Give what a file or folder holds, instead of where it lies; a name alone for what is not there."""
    if path.is_dir():
        return {str(p.relative_to(path)): _contents(p) for p in sorted(path.rglob("*")) if p.is_file()}
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else path.name


class _Flow(dict[str, Any]):
    """A block that is written on one line."""


class _FlowList(list[Any]):
    """A list that is written on one line."""


def _styled(value: Any, level: int) -> Any:
    """Choose what is written on one line: what is short, below the names of definitions."""
    if isinstance(value, dict):
        styled = {key: _styled(item, level + 1) for key, item in value.items()}
        return _Flow(styled) if level > 1 and len(str(value)) <= ONE_LINE else styled
    if isinstance(value, list):
        items = [_styled(item, level + 1) for item in value]
        return _FlowList(items) if len(str(value)) <= ONE_LINE else items
    return value


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
    style = '"' if plain_means_else or BREAKS.search(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _plain_tag(dumper: Any, value: str) -> str:
    """Give the tag with which the emitter leaves a scalar without quotes."""
    return str(dumper.resolve(yaml.ScalarNode, value, (True, False))).removeprefix("tag:yaml.org,2002:")


def _number(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = repr(value)
    return dumper.represent_scalar("tag:yaml.org,2002:" + _plain_tag(dumper, text), text)


def _on_one_line(dumper: yaml.SafeDumper, value: dict[str, Any] | list[Any]) -> yaml.Node:
    if isinstance(value, dict):
        return dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=True)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


_Dumper.add_representer(_Flow, _on_one_line)
_Dumper.add_representer(_FlowList, _on_one_line)
_Dumper.add_representer(str, _text)
_Dumper.add_representer(Raw, _text)
_Dumper.add_representer(float, _number)
