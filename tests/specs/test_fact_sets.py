"""The fact sets that are shipped: well-formed, complete in every language, and read as they are meant."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

import specs
from specs.language.facts import missing, prompt_set
from specs.language.load import Loaded, load
from specs.language.meaning.prompts import stands_in

DATA = Path(specs.__file__).parent / "data"
FACTS = DATA / "relations.csv"
COUNTS = DATA / "frequency.csv"
LANGUAGES = ("de", "es", "fr")
TRANSLATED = ("country_capital", "country_continent", "country_language")
CONCEPTS = {"animal", "book", "city", "country", "element", "person"}
N_FACTS = 60
N_RELATIONS = 8


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def facts(path: Path) -> dict[str, dict[str, list[str]]]:
    """Relation: entity: answers."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows(path):
        found.setdefault(row["relation"], {}).setdefault(row["entity"], []).append(row["answer"])
    return found


@pytest.mark.parametrize("path", sorted(DATA.rglob("*.csv")), ids=lambda path: path.stem)
def test_a_file_is_tidy(path: Path) -> None:
    text = path.read_bytes().decode("utf-8")
    assert "\ufeff" not in text and "\r" not in text and text.endswith("\n") and "\n\n" not in text
    for row in rows(path):
        assert None not in row and None not in row.values(), row
        for value in row.values():
            assert value == " ".join(value.split()), row
        assert row["entity"] and row["relation"] and (row["answer"] if path != COUNTS else float(row["frequency"]) > 0)
    keys = ("entity", "relation") if path == COUNTS else ("entity", "relation", "answer")
    twice = [fact for fact, n in Counter(tuple(r[k] for k in keys) for r in rows(path)).items() if n > 1]
    assert twice == []


def test_every_fact_has_the_count_of_its_subject() -> None:
    assert {(r["entity"], r["relation"]) for r in rows(COUNTS)} == {(r["entity"], r["relation"]) for r in rows(FACTS)}
    of_subject: dict[str, set[str]] = {}
    for row in rows(COUNTS):
        of_subject.setdefault(row["entity"], set()).add(row["frequency"])
    assert all(len(counts) == 1 for counts in of_subject.values())


def test_every_relation_has_sixty_subjects_and_two_wordings() -> None:
    found = facts(FACTS)
    assert len(found) == N_RELATIONS and {name: len(entities) for name, entities in found.items()} == dict.fromkeys(
        found, N_FACTS
    )
    names: dict[str, str] = {}
    concepts: dict[str, str] = {}
    for row in rows(FACTS):
        assert names.setdefault(row["entity"], row["name"]) == row["name"]
        assert concepts.setdefault(row["entity"], row["concept"]) == row["concept"]
        assert re.fullmatch("[a-z0-9_]+", row["entity"])
    assert len(set(names.values())) == len(names), "two entities have one name"
    assert set(concepts.values()) == CONCEPTS
    for path in (FACTS, *(DATA / "translations" / f"{code}.csv" for code in LANGUAGES)):
        for column in ("prompt", "prompt_zs"):
            asked = Counter(row["relation"] for row in rows(path) if row[column])
            assert asked == dict.fromkeys(facts(path), 1), "each wording stands once, in the first row of its relation"


@pytest.mark.parametrize("path", [FACTS, *(DATA / "translations" / f"{code}.csv" for code in LANGUAGES)], ids=str)
def test_no_answer_stands_in_the_question_or_in_the_name(path: Path) -> None:
    wordings: dict[str, list[str]] = {}
    for row in rows(path):
        wordings.setdefault(row["relation"], []).extend(row[c] for c in ("prompt", "prompt_zs") if row[c])
    for row in rows(path):
        for wording in wordings[row["relation"]]:
            assert not stands_in(row["answer"], wording.replace("{{ entity }}", row["name"])), row


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_translation_is_complete(code: str) -> None:
    own, translated = facts(FACTS), facts(DATA / "translations" / f"{code}.csv")
    assert set(translated) == set(TRANSLATED)
    assert all(set(translated[relation]) == set(own[relation]) for relation in TRANSLATED)
    names: dict[str, str] = {}
    for row in rows(DATA / "translations" / f"{code}.csv"):
        assert row["language"] == code and names.setdefault(row["entity"], row["name"]) == row["name"]


def test_few_answers_are_there_where_the_majority_answer_is_to_be_shown() -> None:
    kinds = {name: len({answers[0] for answers in entities.values()}) for name, entities in facts(FACTS).items()}
    assert kinds["country_continent"] == 5 and kinds["animal_class"] == 6 and kinds["athlete_sport"] == 6
    assert kinds["country_capital"] == kinds["element_symbol"] == N_FACTS


SPEC = """\
version: 1
model: m
localize: {{cell: stability}}
data: {{facts: "{facts}", translations: "{translations}"}}
prompts:
  triples:
    relations: all
    wrap: "{{{{ prompt }}}}? Answer:"
    split: {{into: {{evaluation: 20, detection: rest}}, per: relation, disjoint: entity}}
  rephrased: {{of: triples/evaluation, phrasing: zs}}
  languages: {{of: triples, language: [en, de, es, fr]}}
  subjects: {{templates: ["{{{{ entity }}}} can"]}}
  check: {{of: triples, limit: 5, per: concept}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    path = tmp_path_factory.mktemp("facts") / "spec.yaml"
    path.write_text(SPEC.format(facts=FACTS, translations=DATA / "translations"), encoding="utf-8")
    return load(path)


def test_the_sets_load_without_a_warning_about_facts(made: Loaded) -> None:
    spec = made.cells[0].experiment
    assert len(prompt_set(spec, "triples")) == N_RELATIONS * N_FACTS
    assert made.cells[0].imports[0].left_out == () and made.cells[0].imports[1].left_out == ()
    assert [w.message for w in made.warnings if "stands in" in w.message or "differs" in w.message] == []


def test_every_relation_is_split_and_rephrased(made: Loaded) -> None:
    spec = made.cells[0].experiment
    parts = Counter((p.relation, p.part) for p in prompt_set(spec, "triples"))
    assert set(parts.values()) == {20, 40} and len(parts) == 2 * N_RELATIONS
    told: dict[str | None, set[str | None]] = {}
    for prompt in prompt_set(spec, "triples"):
        told.setdefault(prompt.entity, set()).add(prompt.part)
    assert all(len(where) == 1 for where in told.values())
    assert len(prompt_set(spec, "rephrased")) == 20 * N_RELATIONS
    assert {p.phrasing for p in prompt_set(spec, "rephrased")} == {"zs"}


def test_three_relations_are_asked_in_four_languages_and_the_rest_is_listed(made: Loaded) -> None:
    spec = made.cells[0].experiment
    asked = Counter((p.relation, p.language) for p in prompt_set(spec, "languages"))
    assert {key for key in asked if key[1] != "en"} == {(r, c) for r in TRANSLATED for c in LANGUAGES}
    assert set(asked.values()) == {N_FACTS}
    assert len(missing(spec, "languages")) == (N_RELATIONS - len(TRANSLATED)) * len(LANGUAGES)
    german = next(p for p in prompt_set(spec, "languages") if (p.entity, p.language) == ("united_states", "de"))
    assert german.text == "Das Land Vereinigte Staaten hat die Hauptstadt? Answer:" and german.answers == (
        "Washington",
    )


def test_a_sample_is_drawn_within_each_concept(made: Loaded) -> None:
    sampled = prompt_set(made.cells[0].experiment, "check")
    assert Counter(p.columns["concept"] for p in sampled) == dict.fromkeys(CONCEPTS, 5)
