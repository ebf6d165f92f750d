"""The JSON schema for editors: current, valid, and of one mind with the loader on keys and words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from specs.language.nodes import MappingNode, Node, SequenceNode
from specs.language.scalars import looks_like_number
from specs.language.schema import SCHEMA_FILE, json_schema, schema_text
from specs.language.text import parse_yaml
from specs.language.words import Metric
from tests.specs.test_schema import HEAD, REFUSED, SHORT

SPECS = SCHEMA_FILE.parents[1]
VALIDATOR = Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def as_editors_read(node: Node) -> Any:
    """Type scalars by their looks, as YAML 1.2 does without knowing the field."""
    if isinstance(node, MappingNode):
        return {key: as_editors_read(value) for key, value in node.entries.items()}
    if isinstance(node, SequenceNode):
        return [as_editors_read(item) for item in node.items]
    if node.is_null:
        return None
    if node.quoted:
        return node.text
    if node.text in ("true", "false"):
        return node.text == "true"
    if looks_like_number(node.text):
        return int(node.text) if re.fullmatch(r"[-+]?[0-9]+", node.text) else float(node.text)
    return node.text


def underlined(text: str) -> list[str]:
    """List what an editor would underline in a spec."""
    return [e.message for e in VALIDATOR.iter_errors(as_editors_read(parse_yaml(text, "a.yaml")))]


def test_the_committed_schema_is_the_one_the_grammar_gives() -> None:
    told = "run: python -m specs.language.schema"
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), told


def test_the_schema_is_valid_json_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


def test_every_field_has_a_description() -> None:
    schema = json_schema()
    for definition in [schema, *schema["$defs"].values()]:
        block = next((d for d in [definition, *definition.get("anyOf", [])] if "properties" in d), {"properties": {}})
        for name, field in block["properties"].items():
            assert field.get("description"), name


@pytest.mark.parametrize("text", [text for text, _, _ in SHORT])
def test_editors_accept_every_short_form(text: str) -> None:
    assert underlined(HEAD + text) == []


@pytest.mark.parametrize("text", ["NO", "1946", "010", "12:30", "5e-1", "true", "2020-01-01"])
def test_editors_accept_any_scalar_in_a_text_field(text: str) -> None:
    spec = f"entities: {{a: {text}}}\nrelations: {{r: {{prompt: x, answers: {{a: {text}}}, given: {text}}}}}"
    assert underlined(HEAD + spec) == []


SEEN_BY_VALIDATE_ONLY = (
    "exactly one of",
    "has one cut",
    "needs",
    "belongs to",
    "layers",
    "the list is empty",
    "stability over fewer",
    "too large a number",
    "null is no answer",
)
"""What a key needs beside it, and what runs backwards, is beyond a schema that stays readable."""


@pytest.mark.parametrize(("text", "message"), [(text, message) for text, _, _, message in REFUSED])
def test_editors_underline_wrong_keys_words_and_shapes(text: str, message: str) -> None:
    if any(part in message for part in SEEN_BY_VALIDATE_ONLY):
        return
    assert underlined(HEAD + text), message


def test_words_are_enums_so_that_editors_can_offer_them() -> None:
    ranking = json_schema()["$defs"]["Localize"]["anyOf"]
    assert ranking[0]["enum"][0] == "stability"
    assert len(ranking[0]["enum"]) == len(Metric.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        "extends: base.yaml\ninterventions: {amnesia: {ask: wife}, heir: null}\n",
        "extends: [a.yaml, b.yaml]\nmatrix: {localize.cell: [stability, {metric: relp}], seed: null}\n",
        "matrix: null\nlocalize: {cell: {top: null}}\n",
        "interventions: {heir: {extends: amnesia, ask: wife}}\n",
    ],
)
def test_editors_accept_fragments_children_and_removals(text: str) -> None:
    assert underlined(text) == []


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda path: path.name)
def test_our_own_specs_look_right_in_an_editor(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert underlined(text) == []
    comment = re.match(r"# yaml-language-server: \$schema=(\S+)", text)
    assert comment is None or (path.parent / comment[1]).resolve() == SCHEMA_FILE
