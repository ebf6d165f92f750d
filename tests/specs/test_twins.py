"""Patch twins as text: of entities, forms of a name and languages; pairs from lists and files; what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from specs.language.data.pairs import noun_of
from specs.language.errors import SpecError
from specs.language.experiment import Experiment
from specs.language.facts import PromptText, prompt_set
from specs.language.load import load

HEAD = """\
version: 1
model: smollm2-135m
entities:
  trump: {name: Donald Trump, variants: {surname: Trump}}
  obama: {name: Barack Obama, variants: {surname: Obama}}
  bush: George Bush
relations:
  wife: {prompt: "The wife of {{ entity }} is", answers: {trump: Melania, obama: Michelle, bush: Laura}}
  party:
    prompt: "The party of {{ entity }} is"
    answers: {trump: Republican, obama: Democratic, bush: Republican}
    translations: {de: {prompt: "Die Partei von {{ entity }} ist", answers: {trump: republikanisch}}}
"""
ASK = """
interventions:
  i: {{edit: {{set: {value}, neurons: L1.N5, position: {at}}}, ask: p, target: trump, measure: answer_probability}}
"""
Make = Callable[..., Experiment]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def write(prompts: str, more: str = "", **files: str) -> Experiment:
        for name, text in files.items():
            (tmp_path / name.replace("_", ".", 1)).write_text(text, encoding="utf-8")
        path = tmp_path / "spec.yaml"
        path.write_text(f"{HEAD}prompts: {{p: {prompts}}}\n{more}", encoding="utf-8")
        return load(path).cells[0].experiment

    return write


def twins(experiment: Experiment, name: str = "p") -> dict[str, PromptText | None]:
    return {prompt.text: prompt.twin for prompt in prompt_set(experiment, name)}


def test_the_twin_is_the_same_prompt_about_somebody_with_another_answer(make: Make) -> None:
    found = twins(make("{relations: all, patch: entity, wrap: 'Q: {{ prompt }}'}"))
    assert len(found) == 6
    for text, twin in found.items():
        assert twin is not None and twin.text != text and twin.text.startswith("Q: The ")
        assert twin.text[twin.spans[0][0] : twin.spans[0][1]] == twin.entity_name
    assert found["Q: The party of Donald Trump is"].entity == "obama", "Bush has the same answer"  # type: ignore[union-attr]
    assert found["Q: The party of Barack Obama is"].answers == ("Republican",)  # type: ignore[union-attr]


def test_an_entity_more_changes_no_twin_but_those_it_takes(make: Make) -> None:
    few = twins(make("{relations: [wife], patch: entity, entities: [trump, obama]}"))
    assert {t.entity for t in few.values() if t} == {"trump", "obama"}
    many = twins(make("{relations: [wife], patch: entity}"))
    for text, twin in few.items():
        assert many[text] in (twin, *(t for t in many.values() if t and t.entity == "bush"))


def test_another_form_of_the_name_and_another_language(make: Make) -> None:
    forms = twins(make("{relations: [wife], patch: variant}"))
    assert forms["The wife of Donald Trump is"].entity_name == "Trump"  # type: ignore[union-attr]
    assert forms["The wife of George Bush is"] is None, "there is no other form"
    surnames = twins(make("{relations: [wife], variants: [surname], patch: entity}"))
    assert {t.entity_name for t in surnames.values() if t} == {"Trump", "Obama"}
    languages = twins(make("{relations: [party], patch: language}"))
    german = languages["The party of Donald Trump is"]
    assert german is not None and (german.text, german.answers) == (
        "Die Partei von Donald Trump ist",
        ("republikanisch",),
    )
    assert languages["The party of Barack Obama is"] is None, "there is no answer in German"
    back = twins(make("{relations: [party], language: de, patch: language}"))
    assert back["Die Partei von Donald Trump ist"].answers == ("Republican",)  # type: ignore[union-attr]


def test_a_set_derived_from_one_with_twins_has_them(make: Make) -> None:
    experiment = make(
        "{relations: [wife], patch: entity}, q: {of: p, entities: [trump]}, r: {of: p, variants: [surname]}"
    )
    whole = twins(experiment)
    assert twins(experiment, "q") == {t: twin for t, twin in whole.items() if "Trump" in t}
    assert {t.entity_name for t in twins(experiment, "r").values() if t} == {"Trump", "Obama"}


LINES = [
    {"clean_prefix": "The boy", "patch_prefix": "The boys", "clean_answer": " is", "patch_answer": " are", "case": "s"},
    {"clean_prefix": "The men", "patch_prefix": "The man", "clean_answer": " go", "patch_answer": " goes", "case": "p"},
    {"clean_prefix": "The man", "patch_prefix": "The men", "clean_answer": " goes", "patch_answer": " go", "case": "s"},
]


def test_pairs_of_a_file_and_their_columns(make: Make) -> None:
    """The resolved spec holds them; the noun is derived, the joining space is not part of an answer."""
    text = "\n".join(map(json.dumps, LINES))
    split = "split: {into: {fit: 0.5, test: rest}, disjoint: noun}"
    for name, content in (("agree_json", text), ("agree_jsonl", text), ("agree_yaml", "")):
        if name.endswith("yaml"):
            content = "\n".join(
                f"- {{clean: {x['clean_prefix']}, patch: {x['patch_prefix']}, answer: {x['clean_answer'].strip()}, "
                f"patch_answer: {x['patch_answer'].strip()}, noun: {n}}}"
                for x, n in zip(LINES, ("boy", "man", "man"), strict=True)
            )
        experiment = make(f"{{pairs: {name.replace('_', '.', 1)}, {split}}}", **{name: content})
        found = prompt_set(experiment, "p")
        assert [(p.text, p.answers, p.twin and (p.twin.text, p.twin.answers), p.columns["noun"]) for p in found] == [
            ("The boy", ("is",), ("The boys", ("are",)), "boy"),
            ("The men", ("go",), ("The man", ("goes",)), "man"),
            ("The man", ("goes",), ("The men", ("go",)), "man"),
        ]
        assert isinstance(experiment.prompts["p"].pairs, list)
        assert found[1].part == found[2].part, "a noun is in one part"
        assert {p.part for p in found} == {"fit", "test"}
    assert noun_of("The man that the boys", "The men that the boys") == "man"
    assert noun_of("The man", "A boy") is None and noun_of("a b", "a") is None


def told(make: Make, prompts: str, more: str = "", **files: str) -> list[str]:
    with pytest.raises(SpecError) as error:
        make(prompts, more, **files)
    return [problem.message for problem in error.value.problems]


PAIR = "{clean: The boy, patch: The boys, answer: is, patch_answer: are}"


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ("{pairs: [{clean: The boy, answer: is}]}", "a pair needs `patch:`"),
        ("{pairs: [{clean: The boy, patch: The boy}]}", "'The boy' is its own patch twin"),
        ("{pairs: [{clean: a, patch: b, answer: ' is'}]}", "the joining space is the runner's business"),
        (f"{{pairs: [{PAIR}], unique: noun}}", "no pair has a 'noun'"),
        (f"{{pairs: [{PAIR}], split: {{into: {{a: 0.5, b: rest}}, disjoint: case}}}}", "no pair has a 'case'"),
        ("{pairs: agreement}", "'agreement' is no file of pairs"),
        ("{pairs: absent.json}", "there is no file 'absent.json'"),
        ("{texts: [The boy], patch: entity}", "`patch: entity` needs prompts about an entity"),
        (f"{{pairs: [{PAIR}], patch: entity}}", "pairs bring their own twins"),
        ("{relations: [wife], patch: language}", "there is no patch twin"),
    ],
)
def test_what_is_wrong_with_twins_is_told(make: Make, prompts: str, words: str) -> None:
    assert any(words in message for message in told(make, prompts)), told(make, prompts)


def test_bad_lines_are_told_at_their_place(make: Make) -> None:
    lines = [json.dumps(LINES[0]), "{", json.dumps({**LINES[1], "clean_answer": "go"})]
    messages = told(make, "{pairs: a.json}", a_json="\n".join(lines))
    assert [m[:16] for m in messages] == ["this is not JSON", "answer 'go' does"]


@pytest.mark.parametrize("value", ["patch", "{mean: patch}", "{sample: patch}", "{times: [1, 2], of: patch}"])
def test_values_of_twins_need_twins(make: Make, value: str) -> None:
    for kind in ("{relations: [wife], patch: entity}", f"{{pairs: [{PAIR}]}}"):
        make(kind, ASK.format(value=value, at="last"))
    assert told(make, "{relations: [wife]}", ASK.format(value=value, at="last")) == [
        "'p' has no patch prompts; use `pairs:` or `patch: entity`"
    ]


def test_pairs_have_no_names_to_replace(make: Make) -> None:
    asked = ASK.format(value="patch", at="last")
    assert told(make, f"{{pairs: [{PAIR}]}}", asked.replace("answer_probability", "knowledge_score")) == [
        "knowledge_score needs a name in the prompt that a stranger's can stand for, and none of the asked prompts has "
        "one (p); measure answer_probability"
    ]
    (message,) = told(make, f"{{pairs: [{PAIR}]}}", asked.replace("target: trump", "target: trump, placeholder: [X]"))
    assert message == "'p' are about nobody, so there is no name that a placeholder could stand for"


def test_a_logit_difference_needs_the_answer_of_a_twin(make: Make) -> None:
    asked = ASK.format(value="0", at="last").replace("answer_probability", "logit_difference")
    make(f"{{pairs: [{PAIR}]}}", asked)
    (message,) = told(make, "{relations: [wife]}", asked)
    assert message.startswith("logit_difference is the prompt's answer against that of its patch twin, and none")


def test_a_logit_difference_needs_a_twin_with_another_answer(make: Make) -> None:
    """The difference of an answer from itself is 0 whatever is edited, as with another form of the same name."""
    asked = ASK.format(value="0", at="last").replace("answer_probability", "logit_difference")
    (message,) = told(make, "{pairs: [{clean: A red, patch: A blue, answer: Car, patch_answer: car}]}", asked)
    assert "none of the asked prompts has a twin with another answer (p)" in message
