"""The shipped lists, and lists in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from specs.language import templates
from specs.language.errors import SpecError
from specs.language.shipped import NAMES, PLACEHOLDERS, TEMPLATES, TEXTS, read_list, shipped_list


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_list_holds_different_texts(name: str) -> None:
    texts = shipped_list(name)
    assert len(texts) == len(set(texts)) > 0
    assert all(text == text.strip() for text in texts)


def test_the_shipped_lists_are_as_long_as_is_said() -> None:
    counts = {name: len(shipped_list(name)) for name in NAMES}
    assert counts == {"attributes": 100, "generic": 400, "neutral": 60, "strangers": 5, "dummies": 95}


@pytest.mark.parametrize("name", TEMPLATES)
def test_shipped_templates_end_with_the_entity(name: str) -> None:
    assert all(templates.check(text) == [] and text.endswith("{{ entity }}") for text in shipped_list(name))


@pytest.mark.parametrize("name", (*TEXTS, *PLACEHOLDERS))
def test_shipped_texts_and_names_have_no_slot(name: str) -> None:
    assert not any("{{" in text for text in shipped_list(name))


def test_a_list_that_is_not_shipped_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        shipped_list("attribute")


def test_a_file_of_texts_is_read_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "names.yaml").write_text("- Ada\n- NO\n- '1946'\n- 010\n", encoding="utf-8")
    assert read_list("names.yaml", tmp_path) == ["Ada", "NO", "1946", "010"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("a: b\n", "a file of texts is a YAML list"),
        ("- a\n- b: c\n", "one text stands here"),
        ("- a\n- ''\n", "this text is empty"),
    ],
)
def test_a_file_that_is_no_list_of_texts_is_refused(tmp_path: Path, written: str, message: str) -> None:
    (tmp_path / "names.yaml").write_text(written, encoding="utf-8")
    with pytest.raises(SpecError, match=message):
        read_list("names.yaml", tmp_path)
