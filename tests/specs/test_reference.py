"""The reference of the language is generated, current, and complete."""

from __future__ import annotations

from specs.language import actions, block, experiment, material, places
from specs.language.block import Block, Condition
from specs.language.built import NOT_BUILT
from specs.language.places import Each
from specs.language.reference import REFERENCE_FILE, SECTIONS, reference


def test_the_committed_reference_is_the_one_the_grammar_gives() -> None:
    told = "run: python -m specs.language.reference"
    assert REFERENCE_FILE.read_text(encoding="utf-8") == reference(), told


def test_every_block_of_the_grammar_has_its_section() -> None:
    described = {model for _, model in SECTIONS}
    for module in (block, material, places, actions, experiment):
        for found in vars(module).values():
            if not isinstance(found, type) or not issubclass(found, Block) or found in (Block, Condition):
                continue
            if issubclass(found, Each) or found.__name__ == "PlaceholderFile":
                continue
            assert found in described, found


def test_what_is_not_built_is_said() -> None:
    text = reference().partition("## Not built yet")[2]
    whats = {part.what for part in NOT_BUILT}
    for what in whats:
        assert "{}" in what or f"- {what}\n" in text, what
    assert text.count("\n- ") == len(whats)
    assert "{}" not in text, "a slot for a value is not said"
