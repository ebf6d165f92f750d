"""The resolved spec: written so that it reads back to itself, and hashed by what can change its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.language.check import check_schema
from specs.language.defaults import METRIC_DEFAULTS, with_defaults, with_metric_defaults
from specs.language.dump import resolved_hash, to_yaml
from specs.language.experiment import Condition, Experiment, Localize
from specs.language.load import load
from specs.language.origins import Origins, join_path, split_path
from specs.language.text import parse_yaml

AWKWARD = [
    "NO",
    "null",
    "~",
    "1946",
    "010",
    "1e-5",
    "0x1f",
    "true",
    "yes",
    "- a",
    "a: b",
    "{{ entity }}",
    "#x",
    "'",
    '"',
    "a\nb",
    " a",
    "a ",
    "*x",
    "!t",
    "&a",
    "%",
    "@",
    "none",
    "all",
    "2020-01-01",
    "12:30",
    "<<",
    "=",
    "…",
    "\u2028",
    "\x85",
    "\t",
]
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.sampled_from(AWKWARD)
names = texts.filter(lambda t: t.strip() and t != "<<")
numbers = st.floats(allow_nan=False, allow_infinity=False)
wholes = st.integers(min_value=1, max_value=10**9)
some_texts = st.lists(texts, min_size=1, max_size=3)


def block(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Give a block with the first key always there and the others sometimes."""
    (first, *rest) = fields
    return st.fixed_dictionaries({first: fields[first]}, optional={key: fields[key] for key in rest})


def named(definition: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(names, definition, max_size=2)


ranges = st.fixed_dictionaries({"first": numbers, "last": numbers, "count": st.integers(2, 50)})
swept = numbers | st.lists(numbers, min_size=1, max_size=3) | ranges
neurons = (
    texts
    | st.fixed_dictionaries({"of": texts, "top": wholes | st.lists(wholes, min_size=1, max_size=3)})
    | st.fixed_dictionaries({"of": texts, "rank": st.sampled_from(["3", "11-50"])})
    | st.fixed_dictionaries({"random": wholes, "like": texts})
    | st.fixed_dictionaries({"each": some_texts})
    | st.lists(texts | st.fixed_dictionaries({"of": texts, "bottom": wholes}), min_size=1, max_size=3)
)
edits = st.fixed_dictionaries({"scale": swept, "neurons": neurons}) | st.fixed_dictionaries(
    {
        "set": swept
        | st.sampled_from(["clean", "patch", "own_mean"])
        | st.fixed_dictionaries({"mean": texts | some_texts})
        | st.fixed_dictionaries({"times": swept, "of": st.sampled_from(["own_mean", "clean"])}),
        "neurons": neurons,
        "position": st.lists(st.sampled_from(["last", "entity.last", "-1"]), min_size=1, max_size=2),
    }
)
conditions = st.builds(
    Condition,
    quantity=st.sampled_from(["dominance", "a/b@2/scale=-3", "model"]),
    op=st.sampled_from(["=", "!=", "<", ">="]),
    value=numbers,
) | st.builds(Condition, quantity=st.just("layer"), op=st.just("in"), value=st.tuples(texts, numbers))
measures = st.lists(st.sampled_from(["knowledge_score", "pass@5", "text@12", "accuracy"]), min_size=1, max_size=3)
experiments = block(
    version=st.just(1),
    description=texts,
    seed=st.integers(0, 2**40),
    only=some_texts,
    entities=named(
        block(
            name=texts,
            variants=st.dictionaries(names, some_texts, max_size=2),
            attributes=st.dictionaries(names, texts | numbers, max_size=3),
        )
    ),
    placeholders=named(some_texts),
    relations=named(block(prompt=some_texts, answers=st.dictionaries(names, some_texts, max_size=2), given=texts)),
    prompts=named(block(templates=texts | some_texts, where=st.lists(conditions, min_size=1, max_size=2))),
    localize=named(
        block(
            metric=st.sampled_from(["stability", "z_score", "random"]),
            by=st.lists(texts, max_size=2),
            against=texts | some_texts | st.fixed_dictionaries({"others": wholes}),
            layers=st.lists(st.sampled_from(["4", "4-9", "80%-100%", "cell"]), min_size=1, max_size=2),
            top=wholes,
        )
    ),
    neurons=named(neurons),
    interventions=named(
        block(
            edit=st.lists(edits, min_size=1, max_size=2),
            ask=some_texts,
            placeholder=texts | some_texts,
            others=st.just("none") | wholes | st.lists(st.sampled_from(["a", "3", "NO"]), min_size=1, max_size=2),
            measure=measures,
            controls=block(random_neurons=st.integers(0, 9)),
        )
    ),
    expect=st.lists(block(claims=st.lists(conditions, min_size=1, max_size=2), source=texts), max_size=2),
).map(lambda plain: with_defaults(Experiment.model_validate({**plain, "name": "x", "model": {"id": "m"}})))


def read(text: str) -> Experiment:
    root = parse_yaml(text, "spec.yaml")
    experiment, problems = check_schema(root, Origins(root))
    assert not problems, "\n".join(map(str, problems))
    assert experiment is not None
    return with_defaults(experiment)


@settings(max_examples=80, deadline=None)
@given(experiments)
def test_a_resolved_spec_reads_back_to_itself(experiment: Experiment) -> None:
    text = to_yaml(experiment)
    again = read(text)
    assert again == experiment
    assert to_yaml(again) == text
    assert resolved_hash(again) == resolved_hash(experiment)


@given(st.lists(names, min_size=1, max_size=4))
def test_a_dotted_path_splits_into_what_it_was_joined_from(steps: list[str]) -> None:
    assert split_path(join_path(steps)) == steps


SPEC = """\
version: 1
model: qwen2.5-coder-1.5b
entities: {trump: Donald Trump, obama: Barack Obama}
relations:
  wife:
    prompt: "Fact: the name of the wife of {{ entity }}:"
    answers: {trump: Melania, obama: Michelle}
localize:
  cell: stability
interventions:
  amnesia:
    edit: {scale: {first: 1, last: -3, count: 21}, neurons: cell}
"""


def hashed(folder: Path, text: str, name: str = "a.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    (cell,) = load(folder / name).cells
    return cell.hash


def test_a_cell_of_a_matrix_reads_back_to_one_cell(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SPEC + "matrix: {localize.cell: [stability, {metric: z_score, top: 010}], seed: [0x1]}\n")
    for n, cell in enumerate(load(path).cells):
        resolved = tmp_path / f"{n}.yaml"
        resolved.write_text(to_yaml(cell.experiment), encoding="utf-8")
        (again,) = load(resolved).cells
        assert again.experiment == cell.experiment
        assert (again.label, again.hash) == (cell.label, cell.hash)


def test_the_resolved_spec_says_every_default_and_keeps_ranges(tmp_path: Path) -> None:
    path = tmp_path / "first.yaml"
    path.write_text(SPEC, encoding="utf-8")
    assert to_yaml(load(path).cells[0].experiment) == (
        """\
version: 1
name: first
seed: 0
model:
  id: qwen2.5-coder-1.5b
  dtype: auto
  device: auto
  attention: auto
  chat: false
entities:
  trump: {name: Donald Trump}
  obama: {name: Barack Obama}
relations:
  wife:
    prompt: ['Fact: the name of the wife of {{ entity }}:']
    answers: {trump: [Melania], obama: [Michelle]}
localize:
  cell:
    metric: stability
    prompts: attributes
    by: [entity]
    against: generic
    site: [mlp.neurons]
    position: [entity.last]
    pool: mean
    top: 1
    std_floor: 0.1
    min_prompts: 8
    controls: {shuffled_labels: 0, random_names: 0}
interventions:
  amnesia:
    edit:
    - scale: {first: 1, last: -3, count: 21, log: false}
      neurons: cell
      in: activations
    ask: [facts]
    unknown: strangers
    answers_of: asked
    measure: [knowledge_score, answer_probability]
    controls: {random_neurons: 5, wrong_cell: 1, no_edit: 1}
"""
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1\n", "# why\nversion: 1\n\n"),
        ("version: 1\n", "version: 1\nname: other\ndescription: Another word for it.\n"),
        ("version: 1\n", "version: 1\nexpect: [cell/trump = L1.N5]\n"),
        ("cell: stability", "cell: {top: 1, metric: stability}"),
        (
            "scale: {first: 1, last: -3, count: 21}, neurons: cell",
            "neurons: cell, scale: {count: 21, last: -3, first: 1}",
        ),
        ("{trump: Melania, obama: Michelle}", "{obama: [Michelle], trump: [Melania]}"),
        ("model: qwen2.5-coder-1.5b", "model: {id: qwen2.5-coder-1.5b, dtype: auto}"),
    ],
)
def test_what_changes_no_number_changes_no_hash(tmp_path: Path, old: str, new: str) -> None:
    assert old in SPEC
    assert hashed(tmp_path, SPEC.replace(old, new)) == hashed(tmp_path, SPEC)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1\n", "version: 1\nseed: 1\n"),
        ("Melania", "Ivana"),
        ("count: 21", "count: 11"),
        ("cell: stability", "cell: {metric: stability, top: 2}"),
        ("qwen2.5-coder-1.5b", "smollm2-135m"),
        ("{trump: Donald Trump, obama: Barack Obama}", "{obama: Barack Obama, trump: Donald Trump}"),
    ],
)
def test_what_can_change_a_number_changes_the_hash(tmp_path: Path, old: str, new: str) -> None:
    assert old in SPEC
    assert hashed(tmp_path, SPEC.replace(old, new)) != hashed(tmp_path, SPEC)


def test_an_inlined_list_is_hashed_by_its_texts_wherever_the_file_lies(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "names.yaml").write_text("- X\n")
    (tmp_path / "here" / "other.yaml").write_text("- 'X'\n")
    one = hashed(tmp_path, SPEC + "placeholders: {n: names.yaml}\n")
    assert hashed(tmp_path / "here", SPEC + "placeholders: {n: other.yaml}\n") == one
    (tmp_path / "names.yaml").write_text("- Y\n")
    assert hashed(tmp_path, SPEC + "placeholders: {n: names.yaml}\n") != one


def test_the_shipped_lists_that_are_named_enter_the_hash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = hashed(tmp_path, SPEC)
    monkeypatch.setattr("specs.language.dump.shipped_list", lambda name: (f"another {name}",))
    assert hashed(tmp_path, SPEC) != before


@pytest.mark.parametrize("metric", METRIC_DEFAULTS)
def test_every_metric_has_its_defaults_filled_in(metric: Any) -> None:
    needs: dict[str, Any] = {"average_precision": {"top": 3}, "edge_weight": {"among": "cell"}}.get(metric, {})
    if "objective" not in needs and metric in ("relp", "gradient_x_activation", "integrated_gradients"):
        needs = {"objective": "answer_logit"}
    filled = with_metric_defaults(Localize(metric=metric, **needs))
    assert filled.controls is not None
    assert filled.top == needs.get("top", 1)
    for name in ("prompts", "site", "position", "pool"):
        assert (getattr(filled, name) is None) == (metric == "edge_weight")
    assert with_metric_defaults(filled) == filled
    assert Localize.model_validate(filled.model_dump(exclude_none=True)) == filled, "defaults pass the rules"


def test_what_is_given_is_kept_beside_the_defaults() -> None:
    filled = with_metric_defaults(Localize(metric="stability", by=[], against=["X"], mass=0.5))
    assert (filled.by, filled.against, filled.top, filled.mass) == ([], ["X"], None, 0.5)
