"""Questions in other languages through a whole run: rows, a pivot over languages, and what was left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from runner.store import load
from tests.runner.conftest import Answer

CHANGES = (
    (
        "entities: {trump: Donald Trump, obama: Barack Obama}\n",
        "entities:\n"
        "  trump: {name: Donald Trump, attributes: {concept: president}}\n"
        "  obama: {name: Barack Obama, variants: {de: Barack Hussein Obama}}\n",
    ),
    (
        "    answers: {trump: Melania, obama: Michelle}\n",
        "    answers: {trump: Melania, obama: Michelle}\n"
        "    attributes: {frequency: {trump: 900, obama: 30}}\n"
        "    translations:\n"
        '      de: {prompt: "Die Frau von {{ entity }}:", answers: {trump: Melanie, obama: [Michaela, Michelle]}}\n',
    ),
    (
        "  questions: {relations: all, known: any}\n",
        "  questions: {relations: all, known: any}\n  languages: {of: questions, language: [en, de]}\n",
    ),
    ("edit: {scale: [1, -1, -3], neurons: cell}", "edit: {scale: -1, neurons: cell}"),
    ("    ask: questions\n    unknown: nobody\n", "    ask: languages\n    unknown: nobody\n"),
)
MORE = (
    "analyses: {table: {pivot: amnesia, rows: relation, columns: language, value: answer_probability}}\n"
    "only: [amnesia, table]\n"
)


@pytest.fixture
def finished(command: Callable[..., Answer], write_spec: Callable[..., Path], workplace: Path) -> Path:
    answer = command(write_spec(*CHANGES, more=MORE), "--no-track")
    assert answer.code == 0, answer.all
    (folder,) = (workplace / "runs").glob("tiny-*")
    return folder


def test_every_fact_is_asked_in_its_languages_and_the_rest_is_listed(finished: Path) -> None:
    results = load(finished)
    rows = parquet.read_table(finished / "results.parquet").to_pylist()
    clean = {
        (r["relation"], r["entity"], r["language"]): (r["prompt"], r["answers"])
        for r in rows
        if r["condition"] == "clean" and r["role"] == "target"
    }
    assert clean["wife", "obama", "de"] == ("Die Frau von Barack Hussein Obama:", ["Michaela", "Michelle"])
    assert clean["wife", "trump", "de"] == ("Die Frau von Donald Trump:", ["Melanie"])
    assert set(clean) == {(r, e, "en") for r in ("wife", "home") for e in ("trump", "obama")} | {
        ("wife", "trump", "de"),
        ("wife", "obama", "de"),
    }
    assert [(item.what, item.reason) for item in results.left_out] == [
        ("home (2 facts)", "there is no translation into 'de'")
    ]
    assert any("no name in 'de' is given for trump" in warning for warning in results.warnings)
    assert results.interventions["amnesia"].n_asked == 6


def test_rows_carry_the_attributes_of_entity_and_fact(finished: Path) -> None:
    rows = parquet.read_table(finished / "results.parquet").to_pylist()
    found = {(r["relation"], r["entity"]): dict(r["attributes"]) for r in rows}
    assert found == {
        ("wife", "trump"): {"concept": "president", "frequency": "900"},
        ("wife", "obama"): {"frequency": "30"},
        ("home", "trump"): {"concept": "president"},
        ("home", "obama"): {},
    }


def test_a_language_is_a_column_of_a_pivot(finished: Path) -> None:
    table = load(finished).analyses["table"]
    assert table.columns[1:] == ["en", "de"]
    assert {line[0]: [value is not None for value in line[1:]] for line in table.rows} == {
        "wife": [True, True],
        "home": [True, False],
    }
