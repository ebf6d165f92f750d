"""Parts of a prompt set: whole facts, apart, of the sizes asked for, and the same whatever stands around them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.language.errors import RunError, SpecError
from specs.language.experiment import Experiment, Split
from specs.language.facts import known_of, prompt_set
from specs.language.load import Loaded, load
from specs.language.parts import Item, parts_of

SPLITS = st.sampled_from(
    [
        {"tune": 0.5, "test": "rest"},
        {"a": 0.3, "b": 0.7},
        {"a": 0.25, "b": 0.25, "c": "rest"},
        {"a": 3, "b": "rest"},
        {"a": 2, "b": 1},
        {"a": 2, "b": 0.5, "c": "rest"},
    ]
)
ITEMS = st.lists(
    st.builds(Item, st.integers(0, 40), st.integers(0, 3), st.one_of(st.none(), st.integers(0, 9))), max_size=40
).map(lambda items: list({item.fact: item for item in items}.values()))


def split(into: dict[str, Any]) -> Split:
    return Split.model_validate({"into": into})


@given(ITEMS, SPLITS, st.integers(0, 3))
def test_parts_are_a_partition_and_share_no_group(items: list[Item], into: dict[str, Any], seed: int) -> None:
    found = parts_of(items, split(into), seed, "set")
    assert set(found) == set(items)
    assert set(found.values()) <= {*into, None}
    if "rest" in into.values() or sum(v for v in into.values() if v != "rest" and v < 1) > 0.999:
        assert None not in found.values()
    groups: dict[Any, set[str | None]] = {}
    for item, part in found.items():
        groups.setdefault(item.group, set()).add(part)
    assert all(len(parts) == 1 for parts in groups.values())


@given(ITEMS, SPLITS, st.randoms(use_true_random=False))
def test_no_order_decides_a_part(items: list[Item], into: dict[str, Any], random: Any) -> None:
    shuffled, turned = list(items), list(into.items())
    random.shuffle(shuffled)
    random.shuffle(turned)
    assert parts_of(items, split(into), 1, "set") == parts_of(shuffled, split(dict(turned)), 1, "set")


@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), SPLITS)
def test_facts_alone_fill_the_sizes(sizes: list[int], into: dict[str, Any]) -> None:
    items = [Item((value, n), value) for value, size in enumerate(sizes) for n in range(size)]
    counts = Counter((item.per, part) for item, part in parts_of(items, split(into), 0, "set").items())
    for value, size in enumerate(sizes):
        left = size
        for name in sorted(into):
            wanted = into[name]
            if wanted == "rest":
                continue
            if wanted >= 1:
                assert counts[value, name] == min(wanted, left)
            else:
                assert abs(counts[value, name] - min(wanted * size, left)) < 1 + 1e-9
            left -= counts[value, name]


@given(st.integers(0, 8), st.integers(1, 8), SPLITS)
def test_what_is_added_elsewhere_changes_nothing_within_a_value(here: int, there: int, into: dict[str, Any]) -> None:
    mine = [Item(("ada", n), "ada") for n in range(here)]
    others = [Item(("bach", n), "bach") for n in range(there)]
    alone, together = parts_of(mine, split(into), 0, "s"), parts_of([*others, *mine], split(into), 0, "s")
    assert {item: together[item] for item in mine} == alone


@given(st.sets(st.integers(0, 1000), min_size=1, max_size=30), st.integers(0, 1000))
def test_one_more_fact_displaces_at_most_one_from_a_part_of_n(facts: set[int], new: int) -> None:
    before = parts_of([Item(fact) for fact in facts], split({"a": 5, "b": "rest"}), 0, "s")
    after = parts_of([Item(fact) for fact in facts | {new}], split({"a": 5, "b": "rest"}), 0, "s")
    assert sum(after[item] != part for item, part in before.items()) <= 1


def test_the_seed_and_the_name_of_the_set_decide() -> None:
    items = [Item(n) for n in range(40)]
    half = split({"tune": 0.5, "test": "rest"})
    one = parts_of(items, half, 0, "set")
    assert one != parts_of(items, half, 1, "set") and one != parts_of(items, half, 0, "other")
    assert Counter(one.values()) == {"tune": 20, "test": 20}


def test_odd_numbers_are_rounded_both_ways() -> None:
    items = [Item((value, n), value) for value in range(200) for n in range(3)]
    found = parts_of(items, split({"tune": 0.5, "test": "rest"}), 0, "set")
    sizes = Counter(Counter(item.per for item, part in found.items() if part == "tune").values())
    assert set(sizes) == {1, 2} and 60 < sizes[1] < 140


# -- in a spec


def experiment(**prompts: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "version": 1,
            "name": "x",
            "model": {"id": "m"},
            "entities": {f"e{n}": {"name": f"Name {n}", "variants": {"short": [f"N{n}"]}} for n in range(6)},
            "relations": {
                relation: {
                    "prompt": [f"The {relation} of {{{{ entity }}}} is", f"{{{{ entity }}}} has the {relation}"],
                    "answers": {f"e{n}": [f"{relation} {n}"] for n in range(6)},
                }
                for relation in ("town", "year", "work", "wife")
            },
            "prompts": prompts,
        }
    )


HALF = {"relations": "all", "split": {"into": {"tune": 0.5, "test": "rest"}, "per": "entity"}}


def test_a_reference_takes_a_part_and_no_fact_is_in_two() -> None:
    spec = experiment(questions={**HALF, "variants": "all"})
    tune, test = prompt_set(spec, "questions/tune"), prompt_set(spec, "questions/test")
    assert {p.part for p in tune} == {"tune"} and {p.part for p in test} == {"test"}
    facts = [{(p.relation, p.entity) for p in part} for part in (tune, test)]
    assert not facts[0] & facts[1] and len(facts[0] | facts[1]) == 24
    assert Counter(entity for _, entity in facts[0]) == dict.fromkeys((f"e{n}" for n in range(6)), 2)
    assert len(tune) == 12 * 4  # two wordings, two forms of the name
    assert set(prompt_set(spec, "questions")) == {*tune, *test}


def test_no_entity_is_in_two_parts_where_the_split_says_so() -> None:
    apart = {"relations": "all", "split": {"into": {"fit": 2, "test": "rest"}, "per": "relation", "disjoint": "entity"}}
    spec = experiment(questions=apart)
    entities = [{p.entity for p in prompt_set(spec, f"questions/{part}")} for part in ("fit", "test")]
    assert not entities[0] & entities[1] and len(entities[0]) == 2
    fit = {(p.relation, p.entity) for p in prompt_set(spec, "questions/fit")}
    assert Counter(relation for relation, _ in fit) == dict.fromkeys(("town", "year", "work", "wife"), 2)


def test_held_out_wordings_are_a_split_too() -> None:
    spec = experiment(
        questions={"relations": "all", "split": {"into": {"a": 0.5, "b": "rest"}, "disjoint": "template"}}
    )
    assert [{p.template for p in prompt_set(spec, f"questions/{part}")} for part in "ab"] in (
        [{"0"}, {"1"}],
        [{"1"}, {"0"}],
    )


def test_a_set_derived_from_a_part_keeps_to_it() -> None:
    spec = experiment(
        questions=HALF,
        short={"of": "questions/tune", "variants": ["short"]},
        again={"of": "questions/tune", "split": {"into": {"x": 0.5, "y": "rest"}}},
    )
    tune = {(p.relation, p.entity) for p in prompt_set(spec, "questions/tune")}
    assert {(p.relation, p.entity) for p in prompt_set(spec, "short")} == tune
    assert {p.part for p in prompt_set(spec, "short")} == {"tune"}
    parts = [{(p.relation, p.entity) for p in prompt_set(spec, f"again/{part}")} for part in "xy"]
    assert parts[0] | parts[1] == tune and len(parts[0]) == 6


def test_filters_come_before_parts() -> None:
    spec = experiment(
        questions={
            "relations": "all", "where": ["template = 0"], "limit": 3, "per": "entity",
            "split": {"into": {"a": 1, "b": "rest"}, "per": "entity"},
        }
    )  # fmt: skip
    assert [len(prompt_set(spec, f"questions/{part}")) for part in "ab"] == [6, 12]


def test_texts_are_split_by_text() -> None:
    spec = experiment(some={"texts": [f"Text {n}." for n in range(10)], "split": {"into": {"a": 3, "b": 4}}})
    assert [len(prompt_set(spec, name)) for name in ("some", "some/a", "some/b")] == [10, 3, 4]


def test_a_part_that_is_not_there_is_refused() -> None:
    with pytest.raises(RunError, match="prompt set 'questions' has no part 'dev'"):
        prompt_set(experiment(questions=HALF), "questions/dev")


def test_a_part_is_known_by_the_rule_of_its_set() -> None:
    spec = experiment(
        questions={**HALF, "known": "any"},
        derived={"of": "questions/tune"},
        own={"of": "derived", "known": "accuracy"},
    )
    assert known_of(spec, "questions/tune") == known_of(spec, "derived") == "any"
    assert str(known_of(spec, "own")) == "accuracy = 1" and known_of(spec, "facts") is None


# -- messages


def written(folder: Path, prompts: str, rest: str = "") -> Loaded:
    answers = ", ".join(f"e{n}: a{n}" for n in range(4))
    path = folder / "spec.yaml"
    path.write_text(
        "version: 1\nmodel: m\n"
        f"entities: {{{', '.join(f'e{n}: Name {n}' for n in range(4))}}}\n"
        f'relations: {{town: {{prompt: "{{{{ entity }}}} lives in", answers: {{{answers}}}}}}}\n'
        f"prompts: {prompts}\nlocalize: {{cell: stability}}\n{rest}",
        encoding="utf-8",
    )
    return load(path)


@pytest.mark.parametrize(
    ("prompts", "message", "path"),
    [
        ("{q: {relations: all, split: {into: {a: 0.7, b: 0.6}}}}", "the parts add up to 1.3 of the set",
         "prompts.q.split.into"),
        ("{q: {relations: all, split: {into: {a: 4, b: rest}}}}", "no prompt is left for the part 'b'",
         "prompts.q.split.into.b"),
        ("{q: {relations: all, split: {into: {a/b: 0.5}}}}", "'a/b' cannot be the name of a part: a reference to it is "
         "q/PART, without / and = in it", "prompts.q.split.into.a/b"),
        ("{q: {relations: all, split: {into: {a: 0.5}, per: relatoin}}}", "'relatoin' is not a column; did you mean "
         "'relation'?", "prompts.q.split.per"),
        ("{q: {relations: all, split: {into: {tune: 0.5, test: rest}}}, p: {of: q/dev}}",
         "prompt set 'q' has no part 'dev'. Its parts: test, tune", "prompts.p.of"),
    ],
)  # fmt: skip
def test_a_wrong_split_is_told_at_its_place(tmp_path: Path, prompts: str, message: str, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        written(tmp_path, prompts)
    assert [(p.message, p.path) for p in caught.value.problems] == [(message, path)]


def test_a_part_that_is_too_small_is_said(tmp_path: Path) -> None:
    made = written(tmp_path, "{q: {relations: all, split: {into: {a: 1, b: 8}}}}")
    assert "the part 'b' was to hold 8 and holds 3" in [w.message for w in made.warnings]
