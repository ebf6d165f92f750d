"""Prompt sets, owners, targets and others, as text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.language.defaults import with_defaults
from specs.language.errors import RunError
from specs.language.experiment import Experiment, NeuronSet
from specs.language.facts import (
    PromptText,
    draw,
    kind_of,
    owner_key,
    owners,
    placeholder_names,
    prompt_set,
    role_of,
    with_name,
)


def experiment(**parts: Any) -> Experiment:
    """Make an experiment about two people, changed by ``parts``."""
    base: dict[str, Any] = {
        "version": 1,
        "name": "test",
        "model": {"id": "m"},
        "entities": {
            "ada": {
                "name": "Ada Lovelace",
                "variants": {"surname": ["Lovelace"], "fr": ["Ada de Lovelace"]},
                "attributes": {"fame": 2.0, "kind": "scientist"},
            },
            "bach": {"name": "Johann Bach", "attributes": {"fame": 5.0, "kind": "artist"}},
        },
        "relations": {
            "town": {
                "prompt": ["{{ entity }} was born in", "The birthplace of {{ entity }} is"],
                "answers": {"ada": ["London"], "bach": ["Eisenach"]},
                "phrasings": {"short": ["{{ entity }}, born in"]},
                "translations": {"fr": {"prompt": ["{{ entity }} naquit à"], "answers": {"ada": ["Londres"]}}},
            },
            "year": {"prompt": ["{{ entity }} died in"], "given": "18", "answers": {"ada": ["1852"]}},
        },
        "localize": {"cell": {"metric": "stability"}},
        "interventions": {"silence": {"edit": [{"scale": 0.0, "neurons": "cell"}]}},
    }
    return with_defaults(Experiment.model_validate({**base, **parts}))


def asked(**prompts: Any) -> list[PromptText]:
    """Expand the one prompt set that is given, after the sets it is derived from."""
    return list(prompt_set(experiment(prompts=prompts), list(prompts)[-1]))


def test_facts_are_every_relation_and_entity_with_an_answer() -> None:
    facts = prompt_set(experiment(), "facts")
    assert [(p.relation, p.entity, p.template) for p in facts] == [
        ("town", "ada", "0"),
        ("town", "ada", "1"),
        ("town", "bach", "0"),
        ("town", "bach", "1"),
        ("year", "ada", "0"),
    ]
    assert facts[0].text == "Ada Lovelace was born in"
    assert facts[0].answers == ("London",)
    assert facts[0].spans == ((0, 12),)
    assert facts[4].given == "18"
    assert facts[0].columns == {"fame": 2.0, "kind": "scientist"}


def test_a_relation_is_a_prompt_set() -> None:
    assert {p.relation for p in prompt_set(experiment(), "town")} == {"town"}


def test_attributes_are_a_hundred_templates_about_each_entity() -> None:
    found = prompt_set(experiment(), "attributes")
    assert len(found) == 200
    assert all(p.text.endswith(str(p.entity_name)) and not p.answers for p in found)


def test_generic_texts_are_about_nobody() -> None:
    found = prompt_set(experiment(), "generic")
    assert len(found) == 400
    assert {(p.entity, p.spans) for p in found} == {(None, ())}


def test_all_variants_are_the_name_and_its_other_forms() -> None:
    found = asked(forms={"relations": ["year"], "variants": "all"})
    assert [(p.variant, p.entity_name) for p in found] == [
        (None, "Ada Lovelace"),
        ("surname", "Lovelace"),
        ("fr", "Ada de Lovelace"),
    ]


def test_named_variants_are_those_alone() -> None:
    found = asked(forms={"templates": ["{{ entity }} can"], "variants": ["surname"]})
    assert [(p.entity, p.variant, p.text) for p in found] == [("ada", "surname", "Lovelace can")]


def test_a_phrasing_replaces_the_question() -> None:
    found = asked(other={"relations": "all", "phrasing": ["short"]})
    assert [(p.phrasing, p.text) for p in found] == [
        ("short", "Ada Lovelace, born in"),
        ("short", "Johann Bach, born in"),
    ]


def test_a_language_changes_question_name_and_answers() -> None:
    found = asked(french={"relations": ["town"], "language": ["en", "fr"], "entities": ["ada"]})
    assert [(p.language, p.text, p.answers) for p in found] == [
        ("en", "Ada Lovelace was born in", ("London",)),
        ("en", "The birthplace of Ada Lovelace is", ("London",)),
        ("fr", "Ada de Lovelace naquit à", ("Londres",)),
    ]


def test_a_frame_goes_round_the_prompt_and_its_spans() -> None:
    (found, *_) = asked(framed={"relations": ["year"], "wrap": "Q: {{ prompt }}? A:"})
    assert found.text == "Q: Ada Lovelace died in? A:"
    assert found.text[slice(*found.spans[0])] == "Ada Lovelace"


def test_a_derived_set_keeps_the_facts_of_its_base() -> None:
    found = asked(
        famous={"relations": "all", "where": ["fame >= 3"], "wrap": "{{ prompt }}:"},
        short={"of": "famous", "phrasing": ["short"]},
    )
    assert [p.text for p in found] == ["Johann Bach, born in:"]


def test_a_derived_set_in_other_names_keeps_the_wording() -> None:
    found = asked(
        second={"relations": ["town"], "where": ["template = 1"], "entities": ["ada"]},
        forms={"of": "second", "variants": ["surname"]},
    )
    assert [p.text for p in found] == ["The birthplace of Lovelace is"]


def test_unique_keeps_the_first_of_each() -> None:
    found = asked(first={"relations": "all", "unique": "entity"})
    assert [(p.entity, p.relation, p.template) for p in found] == [
        ("ada", "town", "0"),
        ("bach", "town", "0"),
    ]


@pytest.mark.parametrize(
    ("choice", "entities"),
    [
        ({"where": ["kind = artist"]}, ["bach"]),
        ({"order": "-fame", "limit": 1}, ["bach"]),
        ({"order": "fame"}, ["ada", "bach"]),
    ],
)
def test_entities_are_chosen_by_their_attributes(choice: dict[str, Any], entities: list[str]) -> None:
    found = asked(some={"templates": ["{{ entity }} can"], "entities": choice})
    assert [p.entity for p in found] == entities


def test_a_limit_draws_from_each_group_and_again_the_same() -> None:
    spec = {"templates": "attributes", "limit": 7, "per": "entity"}
    found = asked(few=spec)
    assert [p.entity for p in found] == ["ada"] * 7 + ["bach"] * 7
    assert found == asked(few=spec)
    other_seed = prompt_set(experiment(prompts={"few": spec}, seed=1), "few")
    assert set(other_seed) != set(found)


@given(st.lists(st.text(max_size=5), unique=True, max_size=30), st.integers(0, 30), st.text(max_size=5))
def test_one_more_item_displaces_at_most_one(items: list[str], number: int, extra: str) -> None:
    before = draw(items, number, 0)
    assert len(before) == min(number, len(items))
    assert before == [item for item in items if item in before]
    if extra not in items:
        after = draw([extra, *items], number, 0)
        assert len(set(before) - set(after)) <= 1


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=15)


@given(names, names)
def test_the_same_prompt_about_its_own_name_is_itself(name: str, other: str) -> None:
    spec = experiment(
        entities={"ada": {"name": name}},
        relations={"town": {"prompt": ["{{ entity }}, {{ entity }}: born in"], "answers": {"ada": ["London"]}}},
    )
    (prompt,) = prompt_set(spec, "facts")
    swapped = with_name(prompt, other)
    assert with_name(prompt, name) == prompt
    assert with_name(swapped, name) == prompt
    assert [swapped.text[a:b] for a, b in swapped.spans] == [other, other]
    assert (swapped.entity, swapped.answers) == ("ada", ("London",))


def test_a_text_about_nobody_takes_no_name() -> None:
    with pytest.raises(ValueError, match="is about nobody"):
        with_name(PromptText("The rain fell."), "Ada")


def test_placeholders_are_a_list_or_its_name() -> None:
    spec = experiment(placeholders={"letters": ["X", "Y"]})
    assert placeholder_names(spec, "letters") == ("X", "Y")
    assert placeholder_names(spec, ["Z"]) == ("Z",)
    assert len(placeholder_names(spec, "strangers")) == 5
    with pytest.raises(RunError, match=r"write \[X\]"):
        placeholder_names(spec, "X")


@pytest.mark.parametrize(
    ("ranking", "groups"),
    [
        ({"metric": "stability"}, ("ada", "bach")),
        (
            {"metric": "stability", "prompts": "forms", "by": ["entity", "variant"]},
            ("ada", "ada/surname", "ada/fr", "bach"),
        ),
        ({"metric": "average_precision", "top": 1}, ("town", "year")),
        ({"metric": "relp", "objective": "answer_logit"}, ("all",)),
        ({"metric": "stability", "by": ["kind"]}, ("scientist", "artist")),
    ],
)
def test_a_ranking_is_made_for_each_group_of_its_columns(ranking: dict[str, Any], groups: tuple[str, ...]) -> None:
    spec = experiment(localize={"cell": ranking}, prompts={"forms": {"templates": "attributes", "variants": "all"}})
    assert owners(spec, "cell") == groups


def test_the_name_itself_leaves_its_part_out_of_the_key() -> None:
    prompt = PromptText("x", entity="ada", variant=None, columns={"fame": 2.0})
    assert owner_key(prompt, ["entity", "variant"]) == "ada"
    assert owner_key(prompt, ["fame"]) == "2"
    assert owner_key(prompt, ["relation"]) is None
    assert owner_key(prompt, []) == "all"


def crowd(n: int, **intervention: Any) -> Experiment:
    people = {f"p{i}": {"name": f"Person {i}", "attributes": {"fame": float(i)}} for i in range(n)}
    return experiment(
        entities=people,
        relations={"town": {"prompt": ["{{ entity }} was born in"], "answers": {p: ["London"] for p in people}}},
        interventions={"silence": {"edit": [{"scale": 0.0, "neurons": "cell"}], **intervention}},
    )


def roles(spec: Experiment, owner: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    role = role_of(spec, spec.interventions["silence"], owner)
    found = {"target": {}, "others": {}}
    for prompt in prompt_set(spec, "facts"):
        found.get(role(prompt) or "", {}).setdefault(str(prompt.entity))
    return tuple(found["target"]), tuple(found["others"])


def test_the_target_is_the_owner_and_everybody_else_is_compared() -> None:
    assert roles(crowd(3), "p1") == (("p1",), ("p0", "p2"))
    assert roles(crowd(3), "p1/surname") == (("p1",), ("p0", "p2"))
    assert roles(crowd(3), "p0+p1") == (("p0", "p1"), ("p2",))


def test_ten_others_are_drawn_when_there_are_more_than_twelve() -> None:
    assert len(roles(crowd(13), "p0")[1]) == 12
    targets, others = roles(crowd(14), "p0")
    assert len(others) == 10
    assert "p0" not in others
    assert roles(crowd(14), "p0") == (targets, others)
    assert roles(crowd(14), "p1")[1] != others


@pytest.mark.parametrize(
    ("choice", "targets", "others"),
    [
        ({"others": "none"}, ("p1",), ()),
        ({"others": ["p3", "p0"]}, ("p1",), ("p0", "p3")),
        ({"others": ["fame >= 3"]}, ("p1",), ("p3", "p4")),
        ({"target": "p2"}, ("p2",), ("p0", "p1", "p3", "p4")),
        ({"target": ["fame < 2"]}, ("p0", "p1"), ("p2", "p3", "p4")),
    ],
)
def test_target_and_others_can_be_named(
    choice: dict[str, Any], targets: tuple[str, ...], others: tuple[str, ...]
) -> None:
    assert roles(crowd(5, **choice), "p1") == (targets, others)


def test_a_number_of_others_is_drawn() -> None:
    assert len(roles(crowd(5, others=2), "p1")[1]) == 2


def test_neurons_of_nobody_need_a_target() -> None:
    with pytest.raises(RunError, match="belongs to nobody"):
        roles(crowd(3), "L1.N5")
    assert roles(crowd(3, target="p2"), "L1.N5") == (("p2",), ("p0", "p1"))


def test_a_relation_or_a_fact_can_be_the_target() -> None:
    spec = experiment(interventions={"silence": {"edit": [{"scale": 0.0, "neurons": "cell"}], "target": "town/ada"}})
    role = role_of(spec, spec.interventions["silence"], "ada")
    facts = {(p.relation, p.entity): role(p) for p in prompt_set(spec, "facts")}
    assert facts == {("town", "ada"): "target", ("town", "bach"): "others", ("year", "ada"): "others"}


def relations_about_a_crowd(n: int, **intervention: Any) -> Experiment:
    """Three relations; everybody has a town, every second one a year, and two a house."""
    people = {f"p{i}": {"name": f"Person {i}", "attributes": {"fame": float(i)}} for i in range(n)}

    def answers(step: int) -> dict[str, list[str]]:
        return {p: ["Answer"] for p in list(people)[::step]}

    return experiment(
        entities=people,
        relations={
            name: {"prompt": [f"The {name} of {{{{ entity }}}} is"], "answers": answers(step)}
            for name, step in (("town", 1), ("year", 2), ("house", n // 2))
        },
        localize={"serves": {"metric": "mean_activation", "prompts": "facts", "by": ["relation"]}},
        interventions={"silence": {"edit": [{"set": 0.0, "neurons": "serves"}], **intervention}},
    )


def asked_of(spec: Experiment, owner: str) -> dict[str, dict[str, int]]:
    """Role: how many prompts of each relation."""
    role = role_of(spec, spec.interventions["silence"], owner)
    found: dict[str, dict[str, int]] = {}
    for prompt in prompt_set(spec, "facts"):
        of_role = found.setdefault(role(prompt) or "not asked", {})
        of_role[str(prompt.relation)] = of_role.get(str(prompt.relation), 0) + 1
    return found


def test_the_others_of_a_relation_are_all_prompts_of_all_other_relations_however_many_subjects_there_are() -> None:
    spec = relations_about_a_crowd(40)
    assert asked_of(spec, "town") == {"target": {"town": 40}, "others": {"year": 20, "house": 2}}
    assert asked_of(spec, "year") == {"target": {"year": 20}, "others": {"town": 40, "house": 2}}
    assert asked_of(spec, "town+year") == {"target": {"town": 40, "year": 20}, "others": {"house": 2}}


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ({"others": "none"}, {"target": {"town": 40}, "not asked": {"year": 20, "house": 2}}),
        ({"others": ["house"]}, {"target": {"town": 40}, "others": {"house": 2}, "not asked": {"year": 20}}),
        ({"others": 5}, {"target": {"town": 40}, "others": {"year": 5, "house": 2}, "not asked": {"year": 15}}),
        ({"others": ["fame < 4"]}, {"target": {"town": 40}, "others": {"year": 2, "house": 1}}),
        ({"others": ["relation = year"]}, {"target": {"town": 40}, "others": {"year": 20}, "not asked": {"house": 2}}),
        ({"target": "house"}, {"target": {"house": 2}, "others": {"town": 40, "year": 20}}),
        ({"target": "year", "others": ["town"]}, {"target": {"year": 20}, "others": {"town": 40}}),
    ],
)
def test_the_others_of_a_relation_can_be_named_counted_and_described(
    choice: dict[str, Any], wanted: dict[str, dict[str, int]]
) -> None:
    found = asked_of(relations_about_a_crowd(40, **choice), "town")
    assert {role: found[role] for role in wanted} == wanted


def test_neurons_of_a_kind_are_asked_about_all_of_that_kind_and_as_others_about_all_else() -> None:
    spec = relations_about_a_crowd(40)
    kinds = {
        key: entity.model_copy(update={"attributes": {"kind": "odd" if n % 2 else "even"}})
        for n, (key, entity) in enumerate(spec.entities.items())
    }
    by_kind = spec.localize["serves"].model_copy(update={"by": ["kind"]})
    spec = spec.model_copy(update={"entities": kinds, "localize": {"serves": by_kind}})
    assert owners(spec, "serves") == ("even", "odd")
    assert kind_of(spec, spec.interventions["silence"], "even") == ["kind"]
    asked = asked_of(spec, "even")
    assert asked["target"]["town"] == asked["others"]["town"] == 20 and "not asked" not in asked
    cut = spec.model_copy(update={"neurons": {"few": NeuronSet(of="serves", top=[1])}})
    silence = cut.interventions["silence"]
    edit = silence.edit[0].model_copy(update={"neurons": "few"})
    named = cut.model_copy(update={"interventions": {"silence": silence.model_copy(update={"edit": [edit]})}})
    assert asked_of(named, "odd") == asked_of(spec, "odd")
    assert kind_of(relations_about_a_crowd(40), spec.interventions["silence"], "town") is None


def test_so_many_prompts_of_each_relation_are_the_same_prompts_each_time() -> None:
    spec = relations_about_a_crowd(40, others=5)

    def drawn(owner: str) -> set[str]:
        role = role_of(spec, spec.interventions["silence"], owner)
        return {p.text for p in prompt_set(spec, "facts") if role(p) == "others" and p.relation == "town"}

    assert drawn("year") == drawn("year") and len(drawn("year")) == 5 and drawn("year") != drawn("house")


def test_what_is_not_built_is_refused_and_not_left_out() -> None:
    with pytest.raises(RunError, match="were not read"):
        prompt_set(experiment(data={"table": {"from": "x.csv"}}), "facts")
    with pytest.raises(RunError, match=r"pairs of 'x\.json' were not read"):
        asked(twins={"pairs": "x.json"})
    with pytest.raises(RunError, match="did you mean 'facts'"):
        prompt_set(experiment(), "fact")
