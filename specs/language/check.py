"""Check a merged tree against the grammar, and say every mistake once, at its place, in the language's
words.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError

from specs.language.errors import Origin, Problem
from specs.language.experiment import Block, Experiment
from specs.language.fields import TAG
from specs.language.hints import hint
from specs.language.origins import Origins
from specs.language.scalars import nearest
from specs.language.text import Node, plain

__all__ = ["check_schema"]


def check_schema(root: Node, origins: Origins) -> tuple[Experiment | None, list[Problem]]:
    """Give the experiment a tree stands for, or its problems."""
    data = plain(root)
    blocks: dict[int, type[Block]] = {}
    try:
        return Experiment.model_validate(data, context=blocks), []
    except ValidationError as error:
        faults = error.errors(include_url=False)
    translator = _Translator(data, blocks, origins)
    foreign = {translator.path(f)[:-1] for f in faults if f["type"] == "extra_forbidden"}
    problems = [
        translator.problem(fault)
        for fault in faults
        # a key misspelt also leaves its field missing: one mistake, one message
        if not (fault["type"] == "missing" and translator.path(fault)[:-1] in foreign)
    ]
    return None, list(dict.fromkeys(problems))


class _Translator:
    def __init__(self, data: Any, blocks: dict[int, type[Block]], origins: Origins) -> None:
        self.data = data
        self.blocks = blocks
        self.origins = origins

    def path(self, fault: Any) -> tuple[str | int, ...]:
        """Give the path of a fault without the tags of shapes."""
        steps = [s for s in fault["loc"] if not (isinstance(s, str) and (s.startswith(TAG) or s == "[key]"))]
        return tuple(str(s) if isinstance(s, str) else s for s in steps)

    def problem(self, fault: Any) -> Problem:
        path = self.path(fault)
        kind, context = fault["type"], fault.get("ctx", {})
        on_key = kind == "extra_forbidden" or (bool(fault["loc"]) and fault["loc"][-1] == "[key]")
        if kind == "spec":
            message = context["message"]
            if context["at"]:
                path, on_key = (*path, context["at"]), True
        else:
            message = self.message(kind, path, context, fault)
        origin: Origin | None = self.origins.key(*path) if on_key else self.origins.at(*path)
        return Problem(message, path=self.origins.written(*path), origin=origin, level="schema")

    def message(self, kind: str, path: tuple[str | int, ...], context: dict[str, Any], fault: Any) -> str:
        if kind == "value_error":
            return str(context["error"])
        if kind == "extra_forbidden":
            return self.unknown_key(path)
        if kind == "missing":
            return self.missing(path)
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

    def block(self, path: tuple[str | int, ...]) -> type[Block]:
        """Find the model that read the block at a path."""
        value: Any = self.data
        for step in path:
            if isinstance(value, dict) and step != 0:
                value = value.get(step)
            elif isinstance(value, list):
                value = value[step] if isinstance(step, int) and step < len(value) else None
        return self.blocks.get(id(value), Experiment)

    def unknown_key(self, path: tuple[str | int, ...]) -> str:
        key, block = str(path[-1]), self.block(path[:-1])
        known = [f.alias or name for name, f in block.model_fields.items()]
        if block is Experiment or block.__name__ == "Intervention":
            known.append("extends")
        opening = f"'{key}' is not a key here"
        advice = hint(key, block.__name__)
        near = nearest(key, known, 0.75 if advice else 0.6)
        if near and not advice:
            return f"{opening}; did you mean '{near}'?"
        if advice:
            return f"{opening}; {advice}"
        home = _home(key)
        if home:
            return f"{opening}; it belongs to {home}"
        return f"{opening}; the keys of {block.noun} are {', '.join(known)}"

    def missing(self, path: tuple[str | int, ...]) -> str:
        field = str(path[-1])
        block = self.block(path[:-1])
        if block is Experiment and field == "model":
            return "`model:` is missing: the model this is run on, such as `model: qwen2.5-coder-1.5b`"
        found = next((f for n, f in block.model_fields.items() if (f.alias or n) == field), None)
        what = (found.description or "").rstrip(".") if found else ""
        return f"{block.noun} needs `{field}:` ({what[:1].lower()}{what[1:]})"


def _field(path: tuple[str | int, ...]) -> str:
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
