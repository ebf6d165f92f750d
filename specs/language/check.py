"""Check a merged tree against the grammar, and say every mistake once, at its place, in the language's
words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from specs.language.errors import Problem
from specs.language.experiment import Block, Experiment
from specs.language.fields import TAG
from specs.language.hints import hint
from specs.language.origins import Origins
from specs.language.scalars import nearest
from specs.language.text import Node, plain

__all__ = ["check_schema"]

Path = tuple[str | int, ...]
OPERANDS = frozenset({"value", "values", "amount", "by", "to", "factor", "factors", "multiplier"})
"""Keys that go with a foreign `op:`."""


def check_schema(root: Node, origins: Origins) -> tuple[Experiment | None, list[Problem]]:
    """Give the experiment a tree stands for, or its problems."""
    data = plain(root)
    blocks: dict[int, type[Block]] = {}
    try:
        return Experiment.model_validate(data, context=blocks), []
    except ValidationError as error:
        faults = error.errors(include_url=False)
    return None, _Translator(data, blocks, origins).problems(faults)


class _Translator:
    def __init__(self, data: Any, blocks: dict[int, type[Block]], origins: Origins) -> None:
        self.data = data
        self.blocks = blocks
        self.origins = origins

    def problems(self, faults: Sequence[Any]) -> list[Problem]:
        """Translate faults, one message for each mistake.

        A foreign key is reported alone: that the key it stands for is missing says nothing new. Foreign keys
        of one block with the same advice, and missing keys of one block, make one message.
        """
        foreign: dict[Path, dict[str, list[str]]] = {}
        missing: dict[Path, list[str]] = {}
        for fault in faults:
            path = self.path(fault)
            if fault["type"] == "extra_forbidden":
                key = str(path[-1])
                foreign.setdefault(path[:-1], {}).setdefault(self.advice(path), []).append(key)
            elif fault["type"] == "missing":
                missing.setdefault(path[:-1], []).append(str(path[-1]))
        found: list[Problem] = []
        told: set[Path] = set()
        for fault in faults:
            path = self.path(fault)
            kind = fault["type"]
            above = path[:-1]
            if kind == "extra_forbidden":
                if above not in told:
                    told.add(above)
                    found.extend(self.foreign(above, foreign[above]))
            elif kind == "missing":
                if above not in told and above not in foreign:
                    told.add(above)
                    found.append(self.missing(above, missing[above]))
            else:
                found.append(self.problem(fault, path))
        return list(dict.fromkeys(found))

    def path(self, fault: Any) -> Path:
        """Give the path of a fault without the tags of shapes."""
        steps = [s for s in fault["loc"] if not (isinstance(s, str) and (s.startswith(TAG) or s == "[key]"))]
        return tuple(str(s) if isinstance(s, str) else s for s in steps)

    def problem(self, fault: Any, path: Path) -> Problem:
        kind, context = fault["type"], fault.get("ctx", {})
        on_key = bool(fault["loc"]) and fault["loc"][-1] == "[key]"
        if kind == "spec":
            message = context["message"]
            if context["at"]:
                path, on_key = (*path, context["at"]), True
        else:
            message = self.message(kind, path, context, fault)
        origin = self.origins.key(*path) if on_key else self.origins.at(*path)
        return Problem(message, path=self.origins.written(*path), origin=origin, level="schema")

    def message(self, kind: str, path: Path, context: dict[str, Any], fault: Any) -> str:
        if kind == "value_error":
            return str(context["error"])
        if kind == "dict_type":
            return f"{_field(path)} is a block of keys, and this is {_shape(fault['input'])}"
        if kind == "list_type":
            return f"{_field(path)} is a list, and this is {_shape(fault['input'])}"
        limits = {
            "greater_than_equal": "ge",
            "greater_than": "gt",
            "less_than_equal": "le",
            "less_than": "lt",
        }
        if kind in limits:
            words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}[limits[kind]]
            return f"{_field(path)} is {words} {context[limits[kind]]}"
        if kind in ("too_short", "too_long"):
            least, most = context.get("min_length"), context.get("max_length")
            number = least if kind == "too_short" else most
            bound = "at least" if kind == "too_short" else "at most"
            return f"{_field(path)} holds {bound} {number} value{'s' if number != 1 else ''}"
        return re.sub(r"^Input should", f"{_field(path)} should", fault["msg"])

    def block(self, path: Path) -> type[Block]:
        """Find the model that read the block at a path."""
        value: Any = self.data
        for step in path:
            if isinstance(value, dict) and step != 0:
                value = value.get(step)
            elif isinstance(value, list):
                value = value[step] if isinstance(step, int) and step < len(value) else None
        return self.blocks.get(id(value), Experiment)

    def advice(self, path: Path) -> str:
        """Say what to do about a foreign key."""
        key, block = str(path[-1]), self.block(path[:-1])
        known = _keys(block)
        if block is Experiment or block.__name__ == "Intervention":
            known.append("extends")
        told = hint(key, block.__name__)
        if told:
            return told
        near = nearest(key, known)
        if near:
            return f"did you mean '{near}'?"
        home = _home(key)
        return f"it belongs to {home}" if home else f"the keys of {block.noun} are {', '.join(known)}"

    def foreign(self, above: Path, advised: dict[str, list[str]]) -> list[Problem]:
        """Report the foreign keys of one block."""
        spelled_out = [told for told in advised if told.startswith("the verb itself")]
        if spelled_out:
            # {op: scale, value: -1} is one mistake
            advised = {told: keys for told, keys in advised.items() if told in spelled_out or not OPERANDS & set(keys)}
        found = []
        for told, keys in advised.items():
            listing = _and([f"'{key}'" for key in keys])
            verb = "is not a key" if len(keys) == 1 else "are not keys"
            if len(keys) > 1 and told.startswith("it belongs"):
                told = told.replace("it belongs", "they belong")
            path = (*above, keys[0])
            found.append(
                Problem(
                    f"{listing} {verb} here; {told}",
                    path=self.origins.written(*path),
                    origin=self.origins.key(*path),
                    level="schema",
                )
            )
        return found

    def missing(self, above: Path, fields: list[str]) -> Problem:
        """Report the keys that a block lacks."""
        block = self.block(above)
        if block is Experiment and fields == ["model"]:
            message = "`model:` is missing: the model this is run on, such as `model: qwen2.5-coder-1.5b`"
        else:
            listing = [f"`{name}:` ({self.what(block, name)})" for name in fields]
            message = f"{block.noun} needs {_and(listing)}"
        return Problem(message, path=self.origins.written(*above), origin=self.origins.at(*above), level="schema")

    def what(self, block: type[Block], field: str) -> str:
        """Say what a field is, from its description."""
        found = next(f for n, f in block.model_fields.items() if (f.alias or n) == field)
        text = (found.description or "").rstrip(".")
        return text[:1].lower() + text[1:]


def _keys(block: type[Block]) -> list[str]:
    return [field.alias or name for name, field in block.model_fields.items()]


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _field(path: Path) -> str:
    names = [s for s in path if isinstance(s, str)]
    return f"`{names[-1]}`" if names else "this"


def _shape(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    if isinstance(value, (dict, BaseModel)):
        return "a block of keys"
    return "empty" if value is None else f"'{value}'"


def _home(key: str) -> str | None:
    """Say which block a key belongs to, when it is one of ours in the wrong place."""
    homes = {
        "interventions": "Intervention",
        "`edit:`": "Edit",
        "`localize:`": "Localize",
        "a neuron set": "NeuronSet",
        "`prompts:`": "PromptSet",
        "`relations:`": "Relation",
        "`freeze:`": "Freeze",
        "`model:`": "ModelSpec",
        "`controls:`": "Controls",
        "the top of the spec": "Experiment",
    }
    from specs.language import experiment

    for home, name in homes.items():
        block: type[Block] = getattr(experiment, name)
        if any((f.alias or n) == key for n, f in block.model_fields.items()):
            return home
    return None
