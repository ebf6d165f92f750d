"""Questions in other languages: an axis of prompts, tables of translations, and what is missing of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.language.dump import to_yaml
from specs.language.errors import Problem, SpecError
from specs.language.experiment import Experiment
from specs.language.facts import column, missing, prompt_set, questions_in
from specs.language.load import Loaded, load

FACTS = """\
entity,name,relation,answer,prompt,prompt_zs
austria,Austria,capital,Vienna,The capital of {{ entity }} is,The seat of the government of {{ entity }} is
italy,Italy,capital,Rome,,
italy,Italy,language,Italian,The language of {{ entity }} is,
"""
GERMAN = """\
entity,name,relation,answer,prompt,language
austria,Österreich,capital,Wien,Das Land {{ entity }} hat die Hauptstadt,de
italy,Italien,capital,Rom,,de
"""
BOTH = GERMAN + "austria,Autriche,capital,Vienne,Le pays {{ entity }} a pour capitale,fr\n"
SPEC = """\
version: 1
model: m
localize: {cell: stability}
data: {own: own.csv, translations: DATA}
prompts:
  triples:
    relations: all
    wrap: "{{ prompt }}? Answer:"
    split: {into: {evaluation: 1, detection: rest}, per: relation, disjoint: entity}
  MORE
"""
LANGUAGES = "languages: {of: triples, language: [en, de]}"


def loaded(folder: Path, more: str = LANGUAGES, translations: str = GERMAN, data: str = "de.csv") -> Loaded:
    (folder / "own.csv").write_text(FACTS, encoding="utf-8")
    (folder / "de.csv").write_text(translations, encoding="utf-8")
    (folder / "spec.yaml").write_text(SPEC.replace("DATA", data).replace("MORE", more), encoding="utf-8")
    return load(folder / "spec.yaml")


def experiment(folder: Path, more: str = LANGUAGES, translations: str = GERMAN) -> Experiment:
    return loaded(folder, more, translations).cells[0].experiment


def problems(folder: Path, more: str, translations: str = GERMAN) -> list[Problem]:
    with pytest.raises(SpecError) as caught:
        loaded(folder, more, translations)
    return list(caught.value.problems)


def test_a_language_is_an_axis_of_the_same_facts(tmp_path: Path) -> None:
    found = prompt_set(experiment(tmp_path), "languages")
    assert [(p.relation, p.entity, p.language, p.text, p.answers) for p in found] == [
        ("capital", "austria", "en", "The capital of Austria is? Answer:", ("Vienna",)),
        ("capital", "austria", "de", "Das Land Österreich hat die Hauptstadt? Answer:", ("Wien",)),
        ("capital", "italy", "en", "The capital of Italy is? Answer:", ("Rome",)),
        ("capital", "italy", "de", "Das Land Italien hat die Hauptstadt? Answer:", ("Rom",)),
        ("language", "italy", "en", "The language of Italy is? Answer:", ("Italian",)),
    ]
    assert all(p.text[slice(*p.spans[0])] == p.entity_name for p in found)
    assert {column(p, "language") for p in found} == {"en", "de"}


def test_a_fact_keeps_its_part_in_every_language(tmp_path: Path) -> None:
    spec = experiment(tmp_path)
    parts = {(p.relation, p.entity): p.part for p in prompt_set(spec, "triples")}
    assert all(p.part == parts[p.relation, p.entity] for p in prompt_set(spec, "languages"))


def test_what_has_no_translation_is_listed_and_warned_of(tmp_path: Path) -> None:
    made = loaded(tmp_path)
    spec = made.cells[0].experiment
    assert [(item.what, item.reason, item.where) for item in missing(spec, "languages")] == [
        ("language (1 fact)", "there is no translation into 'de'", "prompts.languages")
    ]
    assert any("language (1 fact): there is no translation into 'de'" in w.message for w in made.warnings)


def test_a_fact_without_an_answer_in_a_language_is_listed_by_itself(tmp_path: Path) -> None:
    some = "\n".join(GERMAN.splitlines()[:2]) + "\n"
    listed = missing(experiment(tmp_path, translations=some), "languages")
    assert ("capital/italy", "there is no answer in 'de'") in [(item.what, item.reason) for item in listed]


def test_a_phrasing_that_a_relation_or_a_translation_has_not_is_listed(tmp_path: Path) -> None:
    spec = experiment(tmp_path, "other: {relations: all, phrasing: zs, language: [en, de]}")
    assert [p.text for p in prompt_set(spec, "other")] == [
        "The seat of the government of Austria is",
        "The seat of the government of Italy is",
    ]
    assert sorted((item.what, item.reason) for item in missing(spec, "other")) == [
        ("capital (2 facts)", "there is no phrasing 'zs' in 'de'"),
        ("language (1 fact)", "there is no phrasing 'zs' in 'en'"),
        ("language (1 fact)", "there is no translation into 'de'"),
    ]


def test_a_set_of_which_nothing_can_be_asked_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "other: {relations: language, language: de}")
    assert problem.path == "prompts.other.language"
    assert problem.message.startswith("no relation has a translation into 'de'")
    (problem,) = problems(tmp_path, "other: {relations: all, language: de, phrasing: zs, entities: [italy]}")
    assert problem.message.startswith("nothing of this set can be asked: capital (1 fact): there is no phrasing 'zs'")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("dee", "no relation has a translation into 'dee'; did you mean 'de'?"),
        ("[en, xx]", "no relation has a translation into 'xx'; choose from en, de"),
    ],
)
def test_an_unknown_code_is_told_with_the_nearest(tmp_path: Path, code: str, message: str) -> None:
    (problem,) = problems(tmp_path, f"other: {{of: triples, language: {code}}}")
    assert problem.message == message and problem.path.startswith("prompts.other.language")


def test_one_file_may_hold_several_languages_and_a_folder_several_files(tmp_path: Path) -> None:
    spec = experiment(tmp_path, "languages: {relations: capital, language: [de, fr]}", BOTH)
    assert [(p.language, p.entity_name, p.answers) for p in prompt_set(spec, "languages")] == [
        ("de", "Österreich", ("Wien",)),
        ("fr", "Autriche", ("Vienne",)),
        ("de", "Italien", ("Rom",)),
    ]
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "de.csv").write_text(GERMAN, encoding="utf-8")
    (folder / "fr.csv").write_text("\n".join([BOTH.splitlines()[0], BOTH.splitlines()[-1]]), encoding="utf-8")
    again = loaded(tmp_path, "languages: {relations: capital, language: [de, fr]}", data="in").cells[0].experiment
    assert prompt_set(again, "languages") == prompt_set(spec, "languages")


def test_a_file_says_its_language_once_by_the_data_block(tmp_path: Path) -> None:
    plain = "\n".join(line.rpartition(",")[0] for line in GERMAN.splitlines()) + "\n"
    spec = loaded(tmp_path, translations=plain, data="{from: de.csv, language: de}").cells[0].experiment
    assert prompt_set(spec, "languages") == prompt_set(experiment(tmp_path), "languages")


def test_a_name_that_a_language_lacks_is_the_usual_one_and_that_is_said(tmp_path: Path) -> None:
    text = SPEC.split("data:")[0] + (
        "entities: {rome: Rome, oslo: {name: Oslo, variants: {de: Oslo}}}\n"
        'relations: {land: {prompt: "{{ entity }} is in", answers: {rome: Italy, oslo: Norway},\n'
        '  translations: {de: {prompt: "{{ entity }} liegt in", answers: {rome: Italien, oslo: Norwegen}}}}}\n'
        "prompts: {p: {relations: all, language: de}}\n"
    )
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    made = load(tmp_path / "spec.yaml")
    (warning,) = [w.message for w in made.warnings if "name in 'de'" in w.message]
    assert warning.startswith("no name in 'de' is given for rome: the usual name is asked about")
    assert [p.text for p in prompt_set(made.cells[0].experiment, "p")] == ["Rome liegt in", "Oslo liegt in"]


def test_an_answer_that_the_question_of_its_language_tells_is_refused(tmp_path: Path) -> None:
    told = GERMAN.replace("Rom,", "Land,")
    (problem,) = problems(tmp_path, LANGUAGES, told)
    assert problem.message == "the answer 'Land' stands in the prompt itself"
    assert problem.origin is not None and problem.origin.file.endswith("de.csv") and problem.origin.line == 3
    # in another language it tells nothing
    english = FACTS.replace("Italian", "Hauptstadt")
    (tmp_path / "own.csv").write_text(english, encoding="utf-8")
    (tmp_path / "de.csv").write_text(GERMAN, encoding="utf-8")
    assert load(tmp_path / "spec.yaml").cells


def test_a_translation_of_a_relation_that_nobody_brings_says_how_to_choose(tmp_path: Path) -> None:
    more = GERMAN + "italy,Italien,currency,Euro,Das Geld in {{ entity }} ist,de\n"
    (problem,) = problems(tmp_path, LANGUAGES, more)
    assert problem.message == (
        "'translations' translates 'currency', a relation that this spec has not; name those that are meant "
        "(`data: {translations: {from: ..., relations: [...]}}`), or bring it"
    )
    assert len(loaded(tmp_path, translations=more, data="{from: de.csv, relations: [capital]}").cells) == 1


def test_the_resolved_spec_holds_translations(tmp_path: Path) -> None:
    made = loaded(tmp_path, translations=BOTH).cells[0]
    (tmp_path / "again.yaml").write_text(to_yaml(made.experiment), encoding="utf-8")
    again = load(tmp_path / "again.yaml").cells[0]
    assert again.hash == made.hash
    assert prompt_set(again.experiment, "languages") == prompt_set(made.experiment, "languages")


def test_the_candidates_of_a_question_are_those_of_its_language(tmp_path: Path) -> None:
    spec = experiment(tmp_path)
    assert [p.answers for p in questions_in(spec, "capital", "de")] == [("Wien",), ("Rom",)]
    assert [p.answers for p in questions_in(spec, "capital", None)] == [("Vienna",), ("Rome",)]


CODES = ("de", "fr")


@given(
    own=st.sets(st.integers(0, 5), min_size=1),
    translated=st.fixed_dictionaries({code: st.none() | st.sets(st.integers(0, 5)) for code in CODES}),
)
def test_every_fact_of_every_language_is_asked_or_listed(own: set[int], translated: dict[str, set[int] | None]) -> None:
    relation = {
        "prompt": ["{{ entity }} a"],
        "answers": {f"e{n}": [f"a{n}"] for n in sorted(own)},
        "translations": {
            code: {"prompt": [f"{code} {{{{ entity }}}}"], "answers": {f"e{n}": [f"{code}{n}"] for n in sorted(some)}}
            for code, some in translated.items()
            if some is not None
        },
    }
    spec = Experiment.model_validate(
        {
            "version": 1,
            "name": "x",
            "model": "m",
            "entities": {f"e{n}": f"Name {n}" for n in range(6)},
            "relations": {"r": relation},
            "prompts": {"p": {"relations": "all", "language": ["en", *CODES]}},
        }
    )
    facts = own | {n for some in translated.values() for n in some or ()}
    asked = {(p.entity, p.language) for p in prompt_set(spec, "p")}
    listed = missing(spec, "p")
    for code in ("en", *CODES):
        lacking = [item for item in listed if f"'{code}'" in item.reason]
        whole = [item for item in lacking if item.what.startswith("r (")]
        single = {item.what.removeprefix("r/") for item in lacking if item not in whole}
        got = {e for e, language in asked if language == code}
        if whole:
            assert not got and not single and whole[0].what == f"r ({len(facts)} fact{'s' * (len(facts) > 1)})"
        else:
            assert got | single == {f"e{n}" for n in facts} and not got & single
