"""Tables become ordinary entities and relations: identity, choices, places, and what cannot be read."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.language.data.inline import is_clean
from specs.language.dump import to_yaml
from specs.language.errors import Problem, SpecError
from specs.language.experiment import Experiment
from specs.language.facts import prompt_set
from specs.language.load import Loaded, load

HEAD = "version: 1\nmodel: m\nlocalize: {cell: stability}\n"
OWN = """\
entity,name,relation,answer,prompt,fame,kind
japan,Japan,capital,Tokyo,The capital of {{ entity }} is,3,country
japan,Japan,currency,yen,The currency of {{ entity }} is,3,country
japan,Japan,currency,Japanese yen,,3,country
novel,The Lake,author,Yasunari Kawabata,{{ entity }} was written by,1,book
france,France,capital,Paris,,2,country
"""
POPQA_COLUMNS = "id subj prop obj subj_id prop_id obj_id s_aliases o_aliases s_uri o_uri s_wiki_title o_wiki_title"
POPQA_COLUMNS += " s_pop o_pop question possible_answers"


def popqa(subj: str, prop: str, obj: str, subj_id: int, s_pop: int, question: str, *answers: str) -> dict[str, Any]:
    """Make one row of PopQA, with every column of the published file."""
    row = dict.fromkeys(POPQA_COLUMNS.split(), "x")
    row |= {"subj": subj, "prop": prop, "obj": obj, "subj_id": str(subj_id), "s_pop": str(s_pop), "question": question}
    return {**row, "possible_answers": json.dumps([obj, *answers])}


POPQA = [
    popqa("Japan", "author", "Buronson", 900, 1051, "Who is the author of Japan?"),
    popqa("Lost", "director", "Al Adamson", 31, 582, "Who was the director of Lost?"),
    popqa("Japan", "capital", "Tokyo", 17, 900_000, "What is the capital of Japan?", "Tōkyō", "Tokyo-to"),
    popqa("Japan", "religion", "Shinto", 17, 900_000, "What is the religion of Japan?"),
    popqa("Lost", "director", "J. J. Abrams", 30, 154_447, "Who was the director of Lost?"),
    popqa("Lost", "genre", "drama", 30, 154_447, "What genre is Lost?", "thriller"),
    popqa("AC/DC", "genre", "rock", 55, 200_000, "What genre is AC/DC?"),
]


def write_popqa(path: Path, rows: list[dict[str, Any]] | None = None) -> None:
    rows = POPQA if rows is None else rows
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".tsv":
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
            writer.writeheader()
            writer.writerows(rows)
        else:
            for row in rows:
                typed = {**row, "s_pop": int(row["s_pop"]), "possible_answers": json.loads(row["possible_answers"])}
                file.write(json.dumps(typed) + "\n")


def loaded(folder: Path, data: str, rest: str = "", head: str = HEAD) -> Loaded:
    path = folder / "spec.yaml"
    path.write_text(f"{head}data: {data}\n{rest}", encoding="utf-8")
    return load(path)


def experiment(folder: Path, data: str, rest: str = "") -> Experiment:
    return loaded(folder, data, rest).cells[0].experiment


def problems(folder: Path, data: str, rest: str = "") -> list[Problem]:
    with pytest.raises(SpecError) as caught:
        loaded(folder, data, rest)
    return list(caught.value.problems)


def messages(folder: Path, data: str, rest: str = "") -> list[str]:
    return [p.message for p in problems(folder, data, rest)]


# -- formats


def test_a_table_of_one_s_own_becomes_entities_and_relations(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(OWN, encoding="utf-8")
    spec = experiment(tmp_path, "{own: own.csv}")
    assert spec.data == {}
    assert {k: (e.name, e.attributes) for k, e in spec.entities.items()} == {
        "japan": ("Japan", {"fame": 3.0, "kind": "country"}),
        "novel": ("The Lake", {"fame": 1.0, "kind": "book"}),
        "france": ("France", {"fame": 2.0, "kind": "country"}),
    }
    assert spec.relations["capital"].prompt == ["The capital of {{ entity }} is"]
    assert spec.relations["capital"].answers == {"japan": ["Tokyo"], "france": ["Paris"]}
    assert spec.relations["currency"].answers == {"japan": ["yen", "Japanese yen"]}
    assert {p.text for p in prompt_set(spec, "facts")} >= {"The capital of France is", "The Lake was written by"}


def test_the_same_table_in_four_ways_gives_the_same_spec(tmp_path: Path) -> None:
    rows = list(csv.DictReader(OWN.splitlines()))
    (tmp_path / "own.csv").write_text(OWN, encoding="utf-8")
    with (tmp_path / "own.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "own.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    hashes = {loaded(tmp_path, f"{{own: own.{end}}}").cells[0].hash for end in ("csv", "tsv", "jsonl", "json")}
    assert len(hashes) == 1


@pytest.mark.parametrize("file", ["popqa.tsv", "popqa.jsonl"])
def test_popqa_rows_are_joined_by_id_and_never_by_name(tmp_path: Path, file: str) -> None:
    write_popqa(tmp_path / file)
    made = loaded(tmp_path, f"{{popqa: {{from: {file}, order: -popularity}}}}")
    spec = made.cells[0].experiment
    assert list(spec.entities) == ["Japan", "AC_DC", "Lost"]
    assert spec.entities["AC_DC"].name == "AC/DC"
    assert spec.entities["Japan"].attributes == {"popularity": 900_000.0}
    assert spec.relations["capital"].answers == {"Japan": ["Tokyo", "Tōkyō", "Tokyo-to"]}
    assert spec.relations["capital"].prompt == ["What is the capital of {{ entity }}?"]
    # the country Japan must not get a novel's author, nor the series Lost a film's director
    assert "author" not in spec.relations
    assert spec.relations["director"].answers == {"Lost": ["J. J. Abrams"]}
    left = made.cells[0].imports[0].left_out
    assert [item.what.split(" (")[0] for item in left] == ["Japan", "Lost"]
    assert all("a prompt cannot tell them apart" in item.reason for item in left)
    assert any("2 entities have a name that another one has too" in w.message for w in made.warnings)


def test_without_ids_popqa_names_are_told_apart_by_their_page_views(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k not in ("subj_id", "s_uri")} for row in POPQA]
    write_popqa(tmp_path / "popqa.tsv", rows)
    spec = experiment(tmp_path, "{popqa: {from: popqa.tsv, order: -popularity}}")
    assert "author" not in spec.relations
    assert spec.relations["director"].answers == {"Lost": ["J. J. Abrams"]}


def test_questions_counts_what_an_entity_is_asked_and_limit_counts_entities(tmp_path: Path) -> None:
    write_popqa(tmp_path / "popqa.tsv")
    spec = experiment(tmp_path, "{popqa: {from: popqa.tsv, where: questions >= 2, order: -popularity}}")
    assert list(spec.entities) == ["Japan", "Lost"]
    spec = experiment(tmp_path, "{popqa: {from: popqa.tsv, order: -popularity, limit: 1}}")
    assert list(spec.entities) == ["Japan"] and set(spec.relations) == {"capital", "religion"}
    spec = experiment(tmp_path, "{popqa: {from: popqa.tsv, relations: [director, genre], where: questions >= 2}}")
    assert {k: list(r.answers) for k, r in spec.relations.items()} == {"director": ["Lost"], "genre": ["Lost"]}


def lre(folder: Path, name: str, domain: str, templates: list[str], zs: list[str], *samples: tuple[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "name": name.replace("_", " "),
        "prompt_templates": templates,
        "prompt_templates_zs": zs,
        "properties": {"relation_type": "factual", "domain_name": domain, "range_name": "x", "symmetric": False},
        "samples": [{"subject": s, "object": o} for s, o in samples],
    }
    (folder / f"{name}.json").write_text(json.dumps(document, indent=2), encoding="utf-8")


def test_a_folder_of_lre_relations(tmp_path: Path) -> None:
    lre(tmp_path / "lre/factual", "country_capital_city", "country", ["The capital of {} is", "{} has the capital"],
        ["What is the capital of {}? It is"], ("Japan", "Tokyo"), ("France", "Paris"))  # fmt: skip
    lre(tmp_path / "lre/factual", "landmark_in_country", "landmark", ["{} is in the country of"],
        ["{} lies in"], ("Japan", "Greenland"), ("Eiffel Tower", "France"))  # fmt: skip
    lre(tmp_path / "lre/bias", "degree_gender", "degree", ["{} students are"], [], ("nursing", "women"))
    made = loaded(tmp_path, "{lre: lre}")
    spec = made.cells[0].experiment
    assert set(spec.relations) == {"degree_gender", "country_capital_city", "landmark_in_country"}
    capital = spec.relations["country_capital_city"]
    assert capital.prompt == ["The capital of {{ entity }} is", "{{ entity }} has the capital"]
    assert capital.phrasings == {"zs": ["What is the capital of {{ entity }}? It is"]}
    assert spec.relations["landmark_in_country"].answers == {"Eiffel Tower": ["France"]}
    assert spec.entities["Japan"].attributes == {"domain": "country"}
    assert [item.what for item in made.cells[0].imports[0].left_out] == [
        f"Japan ({tmp_path / 'lre/factual/landmark_in_country.json'}:17:1)"
    ]
    assert len(made.sources) == 4
    spec = experiment(tmp_path, "{lre: {from: lre/bias/degree_gender.json}}")
    assert list(spec.entities) == ["nursing"]


def test_unique_keeps_the_first_row_of_each_entity_in_each_relation(tmp_path: Path) -> None:
    samples = ("Ada", "Anne"), ("Leo", "Caterina"), ("Ada", "Annabella")
    lre(tmp_path / "lre", "mother", "person", ["The mother of {} is"], [], *samples)
    lre(tmp_path / "lre", "work", "person", ["{} works as a"], [], ("Ada", "programmer"), ("Bach", "composer"))
    spec = experiment(tmp_path, "{lre: {from: lre, unique: entity}}")
    assert {k: r.answers for k, r in spec.relations.items()} == {
        "mother": {"Ada": ["Anne"], "Leo": ["Caterina"]},
        "work": {"Ada": ["programmer"], "Bach": ["composer"]},
    }
    assert experiment(tmp_path, "{lre: lre}").relations["mother"].answers["Ada"] == ["Anne", "Annabella"]


def test_known_1000_asks_each_relation_in_its_commonest_words(tmp_path: Path) -> None:
    def fact(n: int, subject: str, attribute: str, words: str) -> dict[str, Any]:
        prompt = words.format(subject)
        return {"known_id": n, "subject": subject, "attribute": attribute, "template": words, "prediction": " x",
                "prompt": prompt, "relation_id": "P36", "some/model": True}  # fmt: skip

    rows = [
        fact(0, "Japan", "Tokyo", "{}, whose capital is"),
        fact(1, "France", "Paris", "The capital of {} is"),
        fact(2, "Spain", "Madrid", "The capital of {} is"),
    ]
    (tmp_path / "known.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
    spec = experiment(tmp_path, "{known: known.json}")
    assert spec.relations["P36"].prompt == ["The capital of {{ entity }} is"]
    assert spec.relations["P36"].answers == {"Japan": ["Tokyo"], "France": ["Paris"], "Spain": ["Madrid"]}
    assert spec.entities["Japan"].attributes == {}


def test_foreign_columns_are_named_by_ours(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("who,what,is,views\nFrance,capital,Paris,7\n", encoding="utf-8")
    columns = "columns: {entity: who, relation: what, answer: is, popularity: views}"
    relations = 'relations: {capital: {prompt: "The capital of {{ entity }} is"}}'
    spec = experiment(tmp_path, f"{{a: {{from: a.csv, {columns}}}}}", relations)
    assert spec.entities["France"].attributes == {"popularity": 7.0}
    assert spec.relations["capital"].answers == {"France": ["Paris"]}


def test_a_language_column_makes_translations(tmp_path: Path) -> None:
    text = (
        "entity,name,relation,answer,prompt,language\n"
        "ada,Ada Lovelace,town,London,{{ entity }} was born in,en\n"
        "ada,Ada de Lovelace,town,Londres,{{ entity }} naquit à,fr\n"
    )
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    path = tmp_path / "spec.yaml"
    path.write_text(f"{HEAD}data: {{a: a.csv}}\n", encoding="utf-8")
    spec = load(path, check_built=False).cells[0].experiment
    assert spec.entities["ada"].name == "Ada Lovelace" and spec.entities["ada"].variants == {"fr": ["Ada de Lovelace"]}
    assert spec.relations["town"].answers == {"ada": ["London"]}
    assert spec.relations["town"].translations["fr"].prompt == ["{{ entity }} naquit à"]
    assert spec.relations["town"].translations["fr"].answers == {"ada": ["Londres"]}


# -- what is written stands


def test_a_table_adds_to_what_is_written_and_changes_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(OWN, encoding="utf-8")
    rest = (
        "entities: {japan: {name: Nippon, attributes: {fame: 9}}, italy: Italy}\n"
        "relations:\n"
        '  capital: {prompt: "{{ entity }}, whose capital is", answers: {italy: Rome, france: Lutetia}}\n'
    )
    spec = experiment(tmp_path, "{own: own.csv}", rest)
    assert list(spec.entities) == ["japan", "italy", "novel", "france"]
    assert spec.entities["japan"].name == "Nippon"
    assert spec.entities["japan"].attributes == {"fame": 9.0, "kind": "country"}
    assert spec.relations["capital"].prompt == ["{{ entity }}, whose capital is"]
    assert spec.relations["capital"].answers == {"japan": ["Tokyo"], "italy": ["Rome"], "france": ["Lutetia"]}


def test_two_tables_are_joined_by_the_entity_s_id(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(OWN, encoding="utf-8")
    (tmp_path / "size.csv").write_text("entity,people\njapan,124\nfrance,68\n", encoding="utf-8")
    spec = experiment(tmp_path, "{own: own.csv, size: size.csv}")
    assert spec.entities["japan"].attributes == {"fame": 3.0, "kind": "country", "people": 124.0}
    assert set(spec.entities) == {"japan", "novel", "france"}


def test_a_name_that_is_written_already_is_not_imported_as_somebody_else(tmp_path: Path) -> None:
    write_popqa(tmp_path / "popqa.tsv")
    made = loaded(tmp_path, "{popqa: popqa.tsv}", "entities: {jp: Japan}\nrelations: {}\n")
    assert "Japan" not in made.cells[0].experiment.entities
    assert {item.what.split(" ")[0] for item in made.cells[0].imports[0].left_out} == {"Japan", "Lost"}


def test_imported_attributes_order_and_filter_prompt_sets(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(OWN, encoding="utf-8")
    rest = "prompts: {p: {templates: ['{{ entity }} is'], entities: {where: kind = country, order: -fame, limit: 1}}}"
    spec = experiment(tmp_path, "{own: own.csv}", rest)
    (only,) = prompt_set(spec, "p")
    assert only.entity == "japan" and only.columns == {"fame": 3.0, "kind": "country"}


# -- the resolved spec, its hash, its provenance


def test_the_resolved_spec_needs_no_file(tmp_path: Path) -> None:
    write_popqa(tmp_path / "popqa.tsv")
    first = loaded(tmp_path, "{popqa: {from: popqa.tsv, order: -popularity, limit: 2}}").cells[0]
    text = to_yaml(first.experiment)
    (tmp_path / "popqa.tsv").unlink()
    (tmp_path / "again.yaml").write_text(text, encoding="utf-8")
    again = load(tmp_path / "again.yaml").cells[0]
    assert again.hash == first.hash and "data:" not in text
    assert to_yaml(again.experiment) == text


def test_the_hash_depends_on_what_was_imported_and_on_nothing_else(tmp_path: Path) -> None:
    def hashed(rows: list[dict[str, Any]]) -> str:
        write_popqa(tmp_path / "popqa.tsv", rows)
        return loaded(tmp_path, "{popqa: {from: popqa.tsv, order: -popularity, limit: 1}}").cells[0].hash

    usual = hashed(POPQA)
    assert hashed(POPQA[1:]) == usual  # rows that were not taken
    changed = [{**row, "possible_answers": '["Kyoto"]'} if row["prop"] == "capital" else row for row in POPQA]
    assert hashed(changed) != usual


def test_what_was_read_is_recorded(tmp_path: Path) -> None:
    write_popqa(tmp_path / "popqa.tsv")
    made = loaded(tmp_path, "{popqa: {from: popqa.tsv, order: -popularity, limit: 1}}")
    record = made.cells[0].imports[0].record
    assert (record.name, record.file, record.kind, record.rows) == ("popqa", "popqa.tsv", "PopQA", 7)
    assert (record.entities, record.relations, record.facts) == (1, ["capital", "religion"], 2)
    assert len(record.sha256) == 64
    assert tmp_path / "popqa.tsv" in made.sources


def test_a_matrix_over_a_table_resolves_to_each_of_its_cells(tmp_path: Path) -> None:
    write_popqa(tmp_path / "popqa.tsv")
    made = loaded(
        tmp_path, "{popqa: {from: popqa.tsv, order: -popularity}}", "matrix: {data.popqa.limit: [1, 2], seed: [0, 1]}"
    )
    assert [len(cell.experiment.entities) for cell in made.cells] == [1, 1, 2, 2]
    assert made.cells[0].experiment.matrix == {"seed": ["0"]} and len({cell.hash for cell in made.cells}) == 4
    (tmp_path / "again.yaml").write_text(to_yaml(made.cells[2].experiment), encoding="utf-8")
    assert load(tmp_path / "again.yaml").cells[0].hash == made.cells[2].hash


# -- places and mistakes


def test_an_imported_answer_has_the_place_of_its_row(tmp_path: Path) -> None:
    text = (
        "entity,relation,answer,prompt\nFrance,capital,Paris,The capital of {{ entity }} is\nItaly,capital,capital,\n"
    )
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    (problem,) = problems(tmp_path, "{a: a.csv}")
    assert problem.message == "the answer 'capital' stands in the prompt itself"
    assert problem.origin is not None and problem.origin.line == 3
    assert Path(problem.origin.file).name == "a.csv" and problem.origin.text == "Italy,capital,capital,"


def test_an_answer_of_somebody_else_s_table_that_the_question_tells_is_left_out(tmp_path: Path) -> None:
    rows = [popqa("Jesus", "father", "Joseph", 1, 9, "Who is the father of Jesus?", "The Father", "Saint Joseph")]
    write_popqa(tmp_path / "popqa.tsv", rows)
    made = loaded(tmp_path, "{popqa: popqa.tsv}")
    assert made.cells[0].experiment.relations["father"].answers == {"Jesus": ["Joseph", "Saint Joseph"]}
    (item,) = made.cells[0].imports[0].left_out
    assert "'The Father'" in item.what and item.reason == "the question itself tells it"


BAD = [
    ("a.csv", "entity,relation,answer\nFrance,capital\n", "this row has 2 values, and there are 3 columns", 2),
    ("a.csv", "entity,relation,answer\nFrance,capital,\n", "this row lacks an answer", 2),
    ("a.csv", "entity,relation,answer\n,,Paris\n", "this row lacks an entity and a relation", 2),
    ("a.csv", "entity,entity,answer\nx,y,z\n", "two columns are called 'entity'", 1),
    ("a.csv", "entity,relation,answer\n", "this table has no rows", 0),
    ("a.csv", 'entity,relation,answer\nx,y,"a"b\n', "this row cannot be read: ',' expected after '\"'", 2),
    ("a.csv", "who,relation,answer\nx,y,z\n", "there is no column 'entity'; say which it is: `columns: {entity: "
     "THEIRS}`. There are who, relation, answer", 1),
    ("a.csv", "entity,answer\nx,z\n", "there are answers and no column 'relation'. There are entity, answer", 1),
    ("a.csv", "entity,relation,prompt_zs\nx,y,3\n", "there are relations, no column 'answer', and no column that says "
     "something about a fact. There are entity, relation, prompt_zs", 1),
    ("a.jsonl", '{"entity": "x", "relation": "y", "answer": "z"}\n{"entity": \n', "this line is not JSON: "
     "Expecting value: line 1 column 12 (char 11)", 2),
    ("a.jsonl", "[1]\n", "a row is one {...} on a line", 1),
    ("a.json", "{}", "a table in JSON is a list of rows, or a relation of LRE with its `samples`", 0),
    ("a.json", '[\n{"entity": "x",\n}]', "this is not JSON: Expecting property name enclosed in double quotes", 3),
    ("a.csv", 'entity,relation,answer\nx,y,"[1,"\n', "the answer begins like a list, and is none: [1,", 2),
]  # fmt: skip


@pytest.mark.parametrize(("file", "text", "message", "line"), BAD)
def test_a_bad_row_is_told_at_its_line(tmp_path: Path, file: str, text: str, message: str, line: int) -> None:
    (tmp_path / file).write_text(text, encoding="utf-8")
    found = [p for p in problems(tmp_path, f"{{a: {file}}}") if "has no question" not in p.message]
    assert [p.message for p in found] == [message]
    assert found[0].origin is not None and found[0].origin.line == line


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("entity,relation,answer\n" + "x,y\n" * 30, encoding="utf-8")
    found = messages(tmp_path, "{a: a.csv}")
    assert len(found) == 11 and found[0].startswith("20 more rows")


CHOICES = [
    ("where: questoins >= 2", "'questoins' is not a column of this table; did you mean 'questions'?", "data.own.where"),
    ("order: -famme", "'famme' is not a column of this table; did you mean 'fame'?", "data.own.order"),
    ("unique: kin", "'kin' is not a column of this table; did you mean 'kind'?", "data.own.unique"),
    ("relations: [captial]", "'captial' is not a relation of this table; did you mean 'capital'?",
     "data.own.relations.0"),
    ("where: fame > 100", "no row is left by the choices made here", "data.own"),
    ("columns: {relation: relatoin}", "there is no column 'relatoin' for 'relation'; did you mean 'relation'?", ""),
]  # fmt: skip


@pytest.mark.parametrize(("field", "message", "path"), CHOICES)
def test_a_wrong_choice_is_told_at_its_place(tmp_path: Path, field: str, message: str, path: str) -> None:
    (tmp_path / "own.csv").write_text(OWN, encoding="utf-8")
    (problem,) = problems(tmp_path, f"{{own: {{from: own.csv, {field}}}}}")
    assert (problem.message, problem.path) == (message, path)


def test_a_missing_file_and_a_missing_question_are_told_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("entity,relation,answer\nFrance,capital,Paris\n", encoding="utf-8")
    assert messages(tmp_path, "{a: owm.csv}") == [
        "there is no file 'owm.csv' beside this one or among the shipped lists; did you mean 'own.csv'?"
    ]
    (told,) = messages(tmp_path, "{a: own.csv}")
    assert told.startswith("'capital' of 'a' has no question") and "relations: {capital: {prompt:" in told


def test_a_column_that_differs_within_a_fact_is_no_attribute_and_that_is_said(tmp_path: Path) -> None:
    text = "entity,relation,answer,prompt,hard\nx,a,1,a of {{ entity }},yes\nx,a,2,a of {{ entity }},no\n"
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    made = loaded(tmp_path, "{a: a.csv}")
    assert made.cells[0].experiment.entities["x"].attributes == {}
    assert made.cells[0].experiment.relations["a"].attributes == {}
    assert any("'hard' differs between the rows of one fact (lines 2 and 3 of" in w.message for w in made.warnings)
    assert set(experiment(tmp_path, "{a: {from: a.csv, where: hard = yes}}").relations) == {"a"}


# -- attributes of facts

COUNTS = "entity,relation,frequency\njapan,capital,900\nFrance,capital,1200\njapan,currency,7\nitaly,capital,5\n"


@pytest.mark.parametrize("data", ["{own: own.csv, counts: counts.csv}", "{counts: counts.csv, own: own.csv}"])
def test_a_table_of_counts_describes_facts_of_another_table(tmp_path: Path, data: str) -> None:
    (tmp_path / "own.csv").write_text(OWN, encoding="utf-8")
    (tmp_path / "counts.csv").write_text(COUNTS, encoding="utf-8")
    made = loaded(tmp_path, data)
    spec = made.cells[0].experiment
    assert spec.relations["capital"].attributes == {"frequency": {"japan": 900.0, "france": 1200.0}}
    assert spec.relations["currency"].attributes == {"frequency": {"japan": 7.0}}
    assert "frequency" not in spec.entities["japan"].attributes and "italy" not in spec.entities
    found = {(p.relation, p.entity): p.columns.get("frequency") for p in prompt_set(spec, "facts")}
    assert found[("capital", "japan")] == 900.0 and found[("currency", "japan")] == 7.0
    assert found[("author", "novel")] is None
    (record,) = [i for i in made.cells[0].imports if i.record.name == "counts"]
    assert record.record.described == 3
    assert [item.what for item in record.left_out] == [
        f"1 of 4 rows, first capital/italy ({tmp_path / 'counts.csv'}:5:1)"
    ]


def test_attributes_of_facts_are_in_the_resolved_spec_and_its_hash(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(OWN, encoding="utf-8")
    (tmp_path / "counts.csv").write_text(COUNTS, encoding="utf-8")
    first = loaded(tmp_path, "{own: own.csv, counts: counts.csv}").cells[0]
    (tmp_path / "again.yaml").write_text(to_yaml(first.experiment), encoding="utf-8")
    again = load(tmp_path / "again.yaml").cells[0]
    assert again.hash == first.hash and again.experiment.relations == first.experiment.relations
    assert loaded(tmp_path, "{own: own.csv}").cells[0].hash != first.hash


def test_a_column_that_differs_between_the_relations_of_an_entity_is_one_of_facts(tmp_path: Path) -> None:
    text = "entity,relation,answer,prompt,count\nx,a,1,a of {{ entity }},30\nx,b,2,b of {{ entity }},4\n"
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    rest = "prompts: {rare: {relations: all, where: count < 10}}\n"
    spec = experiment(tmp_path, "{a: a.csv}", rest)
    assert spec.entities["x"].attributes == {}
    assert {k: r.attributes for k, r in spec.relations.items()} == {
        "a": {"count": {"x": 30.0}},
        "b": {"count": {"x": 4.0}},
    }
    assert [p.text for p in prompt_set(spec, "rare")] == ["b of x"]


def test_counts_that_disagree_or_are_about_nobody_are_told(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(OWN, encoding="utf-8")
    (tmp_path / "counts.csv").write_text(COUNTS + "japan,capital,901\n", encoding="utf-8")
    (told,) = messages(tmp_path, "{own: own.csv, counts: counts.csv}")
    assert told.startswith("'frequency' is given twice for one fact, and differently (lines 2 and 6 of")
    (tmp_path / "counts.csv").write_text("entity,relation,frequency\nrome,mayor,3\n", encoding="utf-8")
    (told,) = messages(tmp_path, "{own: own.csv, counts: counts.csv}")
    assert told == "no row is about a fact of this spec; the first is about mayor/rome"


WRITTEN = [
    ("{kind: {japan: x}}", "'kind' is an attribute of entities, and here one of facts", "relations.capital.attributes"),
    ("{part: {japan: x}}", "'part' is a column that every prompt has", "relations.capital.attributes"),
    ("{n: {jappan: 1}}", "'jappan' is not an entity; did you mean 'japan'?", "relations.capital.attributes"),
    ("{n: {novel: 1}}", "'capital' has no answer for 'novel', so there is no such fact", "relations.capital"),
]


@pytest.mark.parametrize(("written", "message", "path"), WRITTEN)
def test_a_wrong_attribute_of_a_fact_is_told_at_its_place(
    tmp_path: Path, written: str, message: str, path: str
) -> None:
    (tmp_path / "own.csv").write_text(OWN, encoding="utf-8")
    rest = f'relations: {{capital: {{prompt: "The capital of {{{{ entity }}}} is", attributes: {written}}}}}\n'
    (problem,) = problems(tmp_path, "{own: own.csv}", rest)
    assert problem.message.startswith(message) and problem.path.startswith(path)


def test_a_column_of_a_phrasing_gives_the_relation_other_words(tmp_path: Path) -> None:
    text = (
        "entity,relation,answer,prompt,prompt_zs,language\n"
        "x,a,1,a of {{ entity }},of {{ entity }} the a is,\n"
        "y,a,2,,,\n"
        "x,a,eins,a von {{ entity }},von {{ entity }} a,de\n"
    )
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    made = load_unbuilt(tmp_path, "{a: a.csv}").relations["a"]
    assert made.phrasings == {"zs": ["of {{ entity }} the a is"]} and made.attributes == {}
    assert made.translations["de"].phrasings == {"zs": ["von {{ entity }} a"]}


def load_unbuilt(folder: Path, data: str) -> Experiment:
    path = folder / "spec.yaml"
    path.write_text(f"{HEAD}data: {data}\n", encoding="utf-8")
    return load(path, check_built=False).cells[0].experiment


def test_a_column_with_the_name_of_a_prompt_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("entity,part\nx,1\n", encoding="utf-8")
    (told,) = messages(tmp_path, "{a: a.csv}")
    assert told.startswith("the column 'part' has the name of a column that every prompt has")


def test_a_block_that_does_not_fit_the_grammar_is_told_by_the_schema(tmp_path: Path) -> None:
    (told,) = messages(tmp_path, "{a: {from: a.csv, limitt: 3}}")
    assert told == "'limitt' is not a key here; did you mean 'limit'?"


# -- ids


@settings(deadline=None, max_examples=40)
@given(names=st.lists(st.text(min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=6, unique=True))
def test_any_names_get_clean_unique_ids_that_hold(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("ids")
    names = list(dict.fromkeys(" ".join(name.split()) for name in names))
    rows = [{"entity": name, "relation": "r", "answer": "yes", "prompt": "Is {{ entity }} here?"} for name in names]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    spec = experiment(folder, "{a: a.jsonl}")
    assert [entity.name for entity in spec.entities.values()] == names
    assert all(is_clean(key) for key in spec.entities)
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[::-1]), encoding="utf-8")
    again = {entity.name: key for key, entity in experiment(folder, "{a: a.jsonl}").entities.items()}
    # the order of rows decides at most which of two names with the same clean form has it without a tag
    moved = [name for key, name in zip(spec.entities, names, strict=True) if again[name] != key]
    assert all(
        again[name].startswith(key) or key.startswith(again[name])
        for key, name in zip(spec.entities, names, strict=True)
        if name in moved
    )


def test_a_name_is_not_joined_with_the_id_that_another_name_has_become(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("entity,size\n0%,1\n0,2\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("entity,age\n0,5\n", encoding="utf-8")
    spec = experiment(tmp_path, "{a: a.csv, b: b.csv}")
    assert [(e.name, e.attributes) for e in spec.entities.values()] == [
        ("0%", {"size": 1.0}),
        ("0", {"size": 2.0, "age": 5.0}),
    ]


def test_a_table_adds_attributes_to_an_entity_of_popqa_by_the_id_it_has(tmp_path: Path) -> None:
    write_popqa(tmp_path / "popqa.tsv", POPQA[2:4])
    (tmp_path / "size.csv").write_text("entity,people\nJapan,124\n", encoding="utf-8")
    spec = experiment(tmp_path, "{popqa: popqa.tsv, size: size.csv}")
    assert {k: e.attributes for k, e in spec.entities.items()} == {"Japan": {"popularity": 900_000.0, "people": 124.0}}


def test_ids_keep_the_marks_of_a_script(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("entity,size\nनरेन्द्र मोदी,1\n", encoding="utf-8")
    assert list(experiment(tmp_path, "{a: a.csv}").entities) == ["नरेन्द्र मोदी"]


def test_an_id_is_no_word_of_the_language_and_no_other_name_of_the_spec(tmp_path: Path) -> None:
    rows = [{"entity": name, "size": 1} for name in ("cell", "others", "Rhapsody in Blue", "Björk", "L1.N5")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ids = list(experiment(tmp_path, "{a: a.jsonl}").entities)
    assert ids[2:4] == ["Rhapsody_in_Blue", "Björk"] and ids[4].startswith("entity_")
    assert ids[0].startswith("cell_") and ids[1].startswith("others_")


# -- speed


def test_a_table_of_14_000_rows_is_read_in_about_a_second(tmp_path: Path) -> None:
    rows = [
        popqa(f"Name {n // 2}", ("genre", "director")[n % 2], f"Answer {n}", n // 2, n, f"Which of Name {n // 2}?", "b")
        for n in range(14_000)
    ]
    write_popqa(tmp_path / "popqa.tsv", rows)
    started = time.process_time()
    spec = experiment(tmp_path, "{popqa: {from: popqa.tsv, where: questions >= 2, order: -popularity, limit: 200}}")
    assert len(spec.entities) == 200
    assert time.process_time() - started < 3  # about one on an idle core
