"""Relations of LRE held out by subject: deduplicated, apart, of the sizes asked for, whatever the order."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.language.experiment import Experiment, Split
from specs.language.facts import known_of, prompt_set
from specs.language.load import load
from specs.language.parts import Item, parts_of

N_PEOPLE, N_FIRMS, HELD_OUT = 30, 20, 6
SPEC = """\
version: 1
model: m
seed: SEED
localize: {cell: stability}
data: {lre: {from: lre, unique: entity, relations: [RELATIONS]}}
prompts:
  triples:
    relations: all
    wrap: "{{ prompt }}? Answer:"
    known: any
    split: {into: {evaluation: 6, detection: rest}, per: relation, disjoint: entity}
  detection: {of: triples/detection, known: accuracy@2}
  rephrased: {of: triples/evaluation, phrasing: zs}
"""
RELATIONS = ("person_mother", "person_father", "company_hq")


def write(folder: Path, name: str, domain: str, samples: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        "name": name,
        "prompt_templates": [f"The {name} of {{}} is", f"{{}} has the {name}"],
        "prompt_templates_zs": [f"What is the {name} of {{}}? It is"],
        "properties": {"relation_type": "factual", "domain_name": domain, "range_name": "x", "symmetric": False},
        "samples": [{"subject": s, "object": o} for s, o in samples],
    }
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


@pytest.fixture
def lre(tmp_path: Path) -> Path:
    """Parents of people, of whom some have only one and some stand twice, and where companies sit."""
    people = [f"Person Number{n}" for n in range(N_PEOPLE)]
    mothers = [(name, f"Anna{n}") for n, name in enumerate(people)]
    write(tmp_path / "lre", "person_mother", "person", [*mothers, (people[0], "Another"), (people[3], "Anna3")])
    write(tmp_path / "lre", "person_father", "person", [(name, f"Paul{n}") for n, name in enumerate(people[4:])])
    firms = [(f"Firm{n}", ("Paris", "Berlin")[n % 2]) for n in range(N_FIRMS)]
    write(tmp_path / "lre", "company_hq", "company", [*firms, ("Firm3", "Rome")])
    return tmp_path


def made(folder: Path, relations: tuple[str, ...] = RELATIONS, seed: int = 0) -> Experiment:
    path = folder / "spec.yaml"
    text = SPEC.replace("RELATIONS", ", ".join(relations)).replace("SEED", str(seed))
    path.write_text(text, encoding="utf-8")
    return load(path).cells[0].experiment


def parts(spec: Experiment, name: str = "triples") -> dict[tuple[str | None, str | None], set[str | None]]:
    """(relation, entity): the parts its prompts are in."""
    found: dict[tuple[str | None, str | None], set[str | None]] = {}
    for prompt in prompt_set(spec, name):
        found.setdefault((prompt.relation, prompt.entity), set()).add(prompt.part)
    return found


def test_each_relation_holds_out_as_many_subjects_as_asked_and_none_twice(lre: Path) -> None:
    spec = made(lre)
    found = parts(spec)
    assert all(len(where) == 1 for where in found.values()), "both wordings of a fact are in one part"
    sizes = Counter((relation, *where) for (relation, _), where in found.items())
    assert {relation: sizes[relation, "evaluation"] for relation in RELATIONS} == dict.fromkeys(RELATIONS, HELD_OUT)
    assert sizes["person_mother", "detection"] == N_PEOPLE - HELD_OUT
    assert sizes["person_father", "detection"] == N_PEOPLE - 4 - HELD_OUT
    assert sizes["company_hq", "detection"] == N_FIRMS - HELD_OUT
    assert all(len(answers) == 1 for r in spec.relations.values() for answers in r.answers.values())
    assert spec.relations["person_mother"].answers["Person Number0"] == ["Anna0"]


def test_no_subject_is_in_two_parts_of_any_relations(lre: Path) -> None:
    told: dict[str | None, set[str | None]] = {}
    for (_, entity), where in parts(made(lre)).items():
        told.setdefault(entity, set()).update(where)
    assert all(len(where) == 1 for where in told.values())
    shared = [e for e in told if {("person_mother", e), ("person_father", e)} <= set(parts(made(lre)))]
    assert len(shared) == N_PEOPLE - 4


def test_derived_sets_stay_within_their_part(lre: Path) -> None:
    spec = made(lre)
    assert {p.part for p in prompt_set(spec, "detection")} == {"detection"}
    rephrased = prompt_set(spec, "rephrased")
    assert len(rephrased) == HELD_OUT * len(RELATIONS) and {p.part for p in rephrased} == {"evaluation"}
    assert {p.phrasing for p in rephrased} == {"zs"} and all(p.text.endswith("It is? Answer:") for p in rephrased)
    assert known_of(spec, "rephrased") == known_of(spec, "triples/evaluation") == "any"
    assert str(known_of(spec, "detection")) == "accuracy@2 = 1"


def test_neither_the_order_of_relations_nor_others_of_other_subjects_decide(lre: Path) -> None:
    whole = parts(made(lre))
    assert parts(made(lre, RELATIONS[::-1])) == whole
    people = {key: where for key, where in whole.items() if key[0] != "company_hq"}
    assert parts(made(lre, RELATIONS[:2])) == people
    assert parts(made(lre, seed=1)) != whole and parts(made(lre)) == whole


TABLES = st.dictionaries(st.sampled_from("abcde"), st.sets(st.integers(0, 40), min_size=1, max_size=25), min_size=1)


def assigned(tables: dict[str, set[int]], size: int, seed: int) -> dict[tuple[str, int], str | None]:
    """Split relations by subject: (relation, subject) -> part."""
    items = [Item((relation, subject), relation, (subject,)) for relation, own in tables.items() for subject in own]
    split = Split.model_validate({"into": {"evaluation": size, "detection": "rest"}, "disjoint": "entity"})
    return {item.fact: part for item, part in parts_of(items, split, seed, "triples").items()}  # type: ignore[misc]


@given(TABLES, st.integers(1, 12), st.integers(0, 3), st.randoms(use_true_random=False))
def test_relations_are_held_out_by_subject(tables: dict[str, set[int]], size: int, seed: int, random: Any) -> None:
    found = assigned(tables, size, seed)
    subjects = {part: {s for (_, s), p in found.items() if p == part} for part in ("evaluation", "detection")}
    assert not subjects["evaluation"] & subjects["detection"]
    counts = Counter(relation for (relation, _), part in found.items() if part == "evaluation")
    assert all(counts[relation] <= size for relation in tables)
    # As many as there is room for: whoever is not held out is asked in a relation that is full.
    for subject in subjects["detection"]:
        assert any(subject in own and counts[relation] == size for relation, own in tables.items())
    order = list(tables)
    random.shuffle(order)
    assert assigned({relation: tables[relation] for relation in order}, size, seed) == found


@given(st.sets(st.integers(0, 40), min_size=10), st.sets(st.integers(0, 40), max_size=9), st.integers(1, 9))
def test_a_relation_of_some_of_the_subjects_of_another_is_not_short(
    people: set[int], without: set[int], size: int
) -> None:
    tables = {"mother": people, "father": people - without}
    found = assigned(tables, size, 0)
    counts = Counter(relation for (relation, _), part in found.items() if part == "evaluation")
    assert {relation: counts[relation] for relation in tables} == {r: min(size, len(s)) for r, s in tables.items()}


@given(st.sets(st.integers(0, 40), min_size=1), st.sets(st.integers(100, 140), min_size=1), st.integers(1, 9))
def test_relations_of_the_same_subjects_or_of_none_in_common_have_just_the_size(
    people: set[int], firms: set[int], size: int
) -> None:
    found = assigned({"mother": people, "father": people, "seat": firms}, size, 0)
    counts = Counter(relation for (relation, _), part in found.items() if part == "evaluation")
    assert counts["mother"] == counts["father"] == min(size, len(people)) and counts["seat"] == min(size, len(firms))
    assert {fact: part for fact, part in found.items() if fact[0] != "seat"} == assigned(
        {"father": people, "mother": people}, size, 0
    )
