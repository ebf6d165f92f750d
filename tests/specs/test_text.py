"""The text level: plain data only, every scalar as written, every problem at its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.language.errors import SpecError
from specs.language.nodes import MappingNode, Raw, ScalarNode, SequenceNode, plain
from specs.language.text import _list_of_lines, _Reader, parse_yaml, read_yaml
from specs.language.yaml_errors import Source


def refusals(text: str) -> list[tuple[int, int, str]]:
    """Give (line, column, message) of every problem of a text."""
    with pytest.raises(SpecError) as caught:
        parse_yaml(text, "a.yaml")
    places = [(p.origin.line, p.origin.column) if p.origin else (0, 0) for p in caught.value.problems]
    return [(line, column, p.message) for (line, column), p in zip(places, caught.value.problems, strict=True)]


REFUSED = [
    ("a: 1\nmodel: x\nb: 2\nmodel: y\n", 4, 1, "'model' is given twice, here and on line 2; keep one"),
    ("a: {b: 1, b: 2}\n", 1, 11, "'b' is given twice on this line; keep one"),
    ("prompt: Fact: the name\n", 1, 13, "this text holds ': ' and must be quoted"),
    ("- prompt: Fact: the name\n", 1, 15, "this text holds ': ' and must be quoted"),
    ("a: {prompt: Fact: the name}\n", 1, 17, "this text holds ': ' and must be quoted"),
    ("prompt: {{ entity }} is\n", 1, 9, "a text that starts with {{ must be quoted"),
    ("prompt: {{ entity }}\n", 1, 9, "a text that starts with {{ must be quoted"),
    ("t: [{{ entity }} can]\n", 1, 5, "a text that starts with {{ must be quoted"),
    (
        "a: !!python/name:os.system x\n",
        1,
        4,
        "YAML tags (!!python/name:os.system) are not allowed: a spec is plain data",
    ),
    ("a: !e!foo x\n", 1, 4, "YAML tags (!e!foo) are not allowed: a spec is plain data"),
    ("a: [!foo 1]\n", 1, 5, "YAML tags (!foo) are not allowed: a spec is plain data"),
    ("a: 1\nb:\n  <<: {c: 1}\n", 3, 3, "YAML merge keys (<<) are not allowed; use `extends:`"),
    (
        "a: &x {b: 1}\nc: *x\n",
        1,
        4,
        "YAML anchors and aliases (&x) are not allowed; write the value out, or use `extends:`",
    ),
    (
        "c: *x\n",
        1,
        4,
        "YAML anchors and aliases (*x) are not allowed; write the value out, or use `extends:`",
    ),
    ("a:\n\tb: 1\n", 2, 1, "a tab stands here; YAML is indented and spaced with spaces"),
    ("a:\tb\n", 1, 3, "a tab stands here; YAML is indented and spaced with spaces"),
    ("a: @b\n", 1, 4, "a text that starts with @ must be quoted"),
    ("a: `b`\n", 1, 4, "a text that starts with ` must be quoted"),
    ("a: %b\n", 1, 4, "a text that starts with % must be quoted"),
    ("a: * b\n", 1, 4, "a text that starts with * must be quoted"),
    ("a: & b\n", 1, 4, "a text that starts with & must be quoted"),
    ("a: ? b\n", 1, 4, "a text that starts with ? must be quoted"),
    (
        "a: 1\n  b: 2\n",
        2,
        4,
        "this line is indented under one that already holds a value; align it with its neighbours",
    ),
    ("a:\n    b: 1\n  c: 2\n", 3, 3, "the indentation of this line fits no line above it"),
    ("a:\n  b: 1\n  - c\n", 3, 3, "a list item stands among keys; indent it under the key it belongs to"),
    ("a: 1\nb\nc: 2\n", 2, 1, "this line has no ': '; a key is followed by a colon and a space"),
    ("a: 1\nb:2\n", 2, 1, "this line has no ': '; a key is followed by a colon and a space"),
    ('a: "b\nc: 1\n', 1, 4, "the quote that opens here is never closed"),
    ('a: "x" y\n', 1, 8, "something follows the closing quote or bracket; quote the whole text"),
    ("a: 'it's\n", 1, 8, "something follows the closing quote or bracket; quote the whole text"),
    ('a: "\\d"\n', 1, 6, "\\d means nothing in double quotes; write \\\\ for a backslash"),
    ("a: [1, 2\nb: 3\n", 1, 4, "the list that opens here lacks a comma or its ']'"),
    ("a: {b: 1\nc: 3\n", 1, 4, "the block that opens here lacks a comma or its '}'"),
    ("a: - b\n", 1, 4, "a list cannot begin here; put it on its own lines, or write [a, b]"),
    ("a: , b\n", 1, 4, "a value is expected here, and ',' stands here"),
    (
        "a: | b\n  c\n",
        1,
        6,
        "after | or > only an indentation number, + or - and a comment may stand on the line",
    ),
    ("? [a, b]\n: 1\n", 1, 3, "a key is one word or text, and this is a list"),
    ("a: 1\n---\nb: 2\n", 2, 1, "a second document begins here; a spec is one document"),
    ("a: \x07\n", 1, 4, "the character U+0007 cannot stand in YAML; remove it"),
    ("a: " + "[" * 70, 1, 67, "this is nested more than 64 levels deep"),
    ("", 0, 0, "the file is empty"),
    ("# nothing\n\n", 0, 0, "the file holds nothing but comments"),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), REFUSED)
def test_what_is_not_plain_data_is_refused_at_its_place(text: str, line: int, column: int, message: str) -> None:
    assert (line, column, message) in refusals(text)


@pytest.mark.parametrize(("text", "line", "column", "message"), REFUSED)
def test_one_mistake_gives_one_message(text: str, line: int, column: int, message: str) -> None:
    assert len(refusals(text)) == 1


def test_all_problems_of_a_text_that_parses_are_told_at_once() -> None:
    text = "a: 1\na: 2\nb: !x 1\nc:\n  <<: {}\nd: &d 1\n"
    assert [line for line, _, _ in refusals(text)] == [2, 3, 5, 6]


def test_problems_before_a_parse_error_are_told_with_it() -> None:
    assert [line for line, _, _ in refusals("a: 1\na: 2\nb: [1\n")] == [2, 3]


def test_a_problem_shows_its_line_and_underlines_it() -> None:
    with pytest.raises(SpecError) as caught:
        parse_yaml("version: 1\nmodel: x\nmodel: y\n", "a.yaml")
    assert str(caught.value) == (
        "a.yaml:3:1: 'model' is given twice, here and on line 2; keep one\n  model: y\n  ^^^^^"
    )


def test_carets_stand_under_wide_characters() -> None:
    with pytest.raises(SpecError) as caught:
        parse_yaml("트럼프: 1\n트럼프: 2\n", "a.yaml")
    assert str(caught.value).endswith("\n  트럼프: 2\n  ^^^^^^")


def test_scalars_keep_their_text_and_whether_they_were_quoted() -> None:
    data = plain(parse_yaml("a: NO\nb: '010'\nc: 12:30\nd: null\ne: 'null'\nf: 5e-1\n", "a.yaml"))
    assert data == {"a": "NO", "b": "010", "c": "12:30", "d": None, "e": "null", "f": "5e-1"}
    assert [isinstance(v, Raw) and v.quoted for v in data.values()] == [
        False,
        True,
        False,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("null", ["", "~", "null", "Null", "NULL"])
def test_an_empty_value_tilde_and_null_are_nothing(null: str) -> None:
    assert plain(parse_yaml(f"a: {null}\n", "a.yaml")) == {"a": None}


def test_windows_line_ends_count_as_one() -> None:
    assert refusals("a: 1\r\nb: 1\r\nb: 2\r\n")[0][:2] == (3, 1)


def test_unicode_line_separators_are_no_line_ends() -> None:
    assert refusals('a: "x\u2028y"\nb: 1\nb: 2\n')[0][0] == 3


def test_a_yaml_version_line_is_accepted() -> None:
    assert plain(parse_yaml("%YAML 1.2\n---\na: 1\n", "a.yaml")) == {"a": "1"}


def refused_file(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        read_yaml(path, path.name)
    return str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("\ufeffa: 1\n".encode())
    assert plain(read_yaml(tmp_path / "a.yaml")) == {"a": "1"}


def test_a_file_that_is_not_utf8_is_refused_at_the_byte(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("a: 1\nb: é".encode("latin-1"))
    told = refused_file(tmp_path / "a.yaml")
    assert told.startswith("a.yaml:2:4: this file is not UTF-8: byte 0xe9 stands here; save it as UTF-8\n")


def test_utf16_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("a: 1".encode("utf-16"))
    assert refused_file(tmp_path / "a.yaml") == "a.yaml: this file is UTF-16; save it as UTF-8"


def test_a_missing_file_is_told_with_its_nearest_neighbour(tmp_path: Path) -> None:
    (tmp_path / "trump.yaml").write_text("a: 1\n")
    told = refused_file(tmp_path / "trmp.yaml")
    assert told == f"trmp.yaml: there is no file 'trmp.yaml'; did you mean '{tmp_path / 'trump.yaml'}'?"


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    assert "there is no folder" in refused_file(tmp_path / "nowhere" / "a.yaml")


def test_a_folder_is_told_with_the_specs_in_it(tmp_path: Path) -> None:
    (tmp_path / "trump.yaml").write_text("a: 1\n")
    assert refused_file(tmp_path).endswith(" is a folder, not a file; it holds trump.yaml")


def test_every_node_knows_its_place() -> None:
    root = parse_yaml("a: 1\nb:\n  - {c: hello}\n", "a.yaml")
    assert isinstance(root, MappingNode)
    item = root.entries["b"].items[0]  # type: ignore[union-attr]
    assert isinstance(item, MappingNode)
    value = item.entries["c"]
    assert isinstance(value, ScalarNode)
    assert (value.origin.line, value.origin.column, value.origin.length) == (3, 9, 5)
    assert value.origin.text == "  - {c: hello}"
    assert (item.keys["c"].origin.column, item.origin.column, item.origin.length) == (6, 5, 10)


LINES = st.text(alphabet="ab1 ,.;()!?'{}-:#", max_size=8) | st.sampled_from(["null", "1946", "{{ entity }} is"])


@given(st.lists(LINES.map(lambda t: f"- {t}") | st.sampled_from(["# why", "", "a: b", "  c"]), max_size=4))
def test_a_list_of_lines_is_read_as_the_parser_reads_it(lines: list[str]) -> None:
    text = "\n".join(lines)
    fast = _list_of_lines(Source(text, "a.yaml"))
    if fast is not None:
        slow = _Reader(Source(text, "a.yaml")).read()
        assert isinstance(slow, SequenceNode)
        assert fast == slow
        assert [item.origin for item in fast.items] == [item.origin for item in slow.items]


def test_the_shipped_lists_are_lists_of_lines() -> None:
    text = "- The history of {{ entity }}\n- Born in 1946, he left.\n"
    assert _list_of_lines(Source(text, "a.yaml")) is not None


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_never_crashes(text: str) -> None:
    try:
        parse_yaml(text, "a.yaml")
    except SpecError as error:
        assert error.problems
        assert str(error)


@given(st.text(alphabet="{}[]:-?&*!|>'\"%@`,# \nab\t", max_size=40))
def test_any_mix_of_yaml_signs_is_read_or_refused_in_our_words(text: str) -> None:
    try:
        parse_yaml(text, "a.yaml")
    except SpecError as error:
        assert not [p.message for p in error.problems if "expected <" in p.message]
