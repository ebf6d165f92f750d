from __future__ import annotations

import re

import pytest

from runner.models.card_table import Card, cards, nearest_names

CARDS = list(cards().values())
WITH_WHEELS = [card for card in CARDS if card.wheels is not None]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_card_pins_a_full_commit_of_a_hub_repository(card: Card) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", card.hub_id)
    assert re.fullmatch(r"[0-9a-f]{40}", card.revision)
    assert card.family and card.license and card.parameters > 1e6


def test_hub_ids_and_names_are_unique() -> None:
    assert len({card.hub_id for card in CARDS}) == len(CARDS)
    assert len({card.name.casefold() for card in CARDS}) == len(CARDS)


@pytest.mark.parametrize("card", WITH_WHEELS, ids=lambda card: card.name)
def test_every_wheel_is_pinned_by_version_size_and_sha256(card: Card) -> None:
    assert card.wheels is not None
    assert re.fullmatch(r"[0-9a-f]{64}", card.wheels.file_sha256)
    for pin in card.wheels.pins:
        assert re.fullmatch(r"[0-9a-f]{64}", pin.sha256)
        assert re.fullmatch(r"\d+(\.\d+)*", pin.version)
        assert pin.size_bytes > 1e6
        assert pin.requirement == f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}"
    assert len({pin.sha256 for pin in card.wheels.pins}) == len(card.wheels.pins)


@pytest.mark.parametrize("card", WITH_WHEELS, ids=lambda card: card.name)
def test_pieces_stand_in_numeric_order(card: Card) -> None:
    """part10 sorts before part2 as text; joined in that order the file would be wrong."""
    assert card.wheels is not None
    numbers = [int(found[1]) for pin in card.wheels.pins if (found := re.search(r"part(\d+)$", pin.name))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) in (0, len(card.wheels.pins))


def test_the_three_models_for_machines_without_a_hub_have_wheels() -> None:
    assert {card.name for card in WITH_WHEELS} == {"qwen2.5-coder-1.5b", "smollm2-135m", "gemma3-270m"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("qwen2.5-code-1.5b", "qwen2.5-coder-1.5b"),
        ("smollm", "smollm2-135m"),
        ("gemma-3-270m", "gemma3-270m"),
    ],
)
def test_a_mistyped_name_finds_the_card(typed: str, meant: str) -> None:
    assert nearest_names(typed)[0] == meant


def test_a_name_like_no_other_finds_nothing() -> None:
    assert nearest_names("zzzz") == []
