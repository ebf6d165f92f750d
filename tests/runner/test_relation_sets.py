"""Relations that own sets of neurons in several sites: who is asked, what the record holds, and what is drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.bind import Binder
from runner.compile import compile_plan
from runner.plan import Condition, Plan
from specs.language.load import load
from specs.language.results import Results
from tests.runner.test_compile import tokenizer

PEOPLE = [f"p{i}" for i in range(20)]
TOWNS = ("Florida", "Chicago", "London", "Wien")


def relation(name: str, people: list[str]) -> str:
    answers = ", ".join(f"{p}: {TOWNS[(i + len(name)) % 4]}" for i, p in enumerate(people))
    return f'  {name}: {{prompt: "The {name} of {{{{ entity }}}} is", answers: {{{answers}}}}}\n'


SPEC = (
    "version: 1\nname: relations\nmodel: {MODEL}\n"
    "entities: {" + ", ".join(f"{p}: Person {p.upper()}" for p in PEOPLE) + "}\n"
    "relations:\n"
    + relation("home", PEOPLE)
    + relation("city", PEOPLE[::2])
    + relation("voice", PEOPLE[:8])
    + """
prompts:
  questions: {relations: all, known: any}
  neutral: {texts: [The house and the job, The mother of somebody else]}
localize:
  serves: {metric: mean_activation, prompts: questions, by: relation, site: [mlp.gate, mlp.up, mlp.out],
           position: all, pool: mean, top: 90}
interventions:
  ablation:
    edit: {set: 0, neurons: serves}
    ask: [questions, neutral]
    measure: [accuracy@2, accuracy, perplexity]
    controls: {random_neurons: 3}
  more:
    edit: {set: 0, neurons: {of: serves, top: [10, 90, 200]}}
    ask: questions
    measure: accuracy@2
    controls: {random_neurons: 1, wrong_cell: 0}
analyses:
  drops: {pivot: ablation, rows: asked, columns: edited, value: accuracy@2}
"""
)


Run = Callable[[str], Path]


@pytest.fixture
def run(workplace: Path, tiny_checkpoint: Path, command: Callable[..., Any]) -> Run:
    """Run a spec and give the folder of the run."""

    def make(text: str) -> Path:
        path = workplace / "spec.yaml"
        path.write_text(text.replace("{MODEL}", str(tiny_checkpoint)), encoding="utf-8")
        answer = command("run", path, "--no-track", "--out", workplace / "runs")
        assert answer.code == 0, answer.all
        return max((workplace / "runs").iterdir(), key=lambda p: p.stat().st_mtime)

    return make


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("plan") / "spec.yaml"
    path.write_text(SPEC.replace("{MODEL}", "smollm2-135m"), encoding="utf-8")
    return compile_plan(load(path).cells[0].experiment, Binder(tokenizer()), 3)


def test_every_relation_is_asked_about_all_prompts_of_the_others_and_about_no_stranger(plan: Plan) -> None:
    ablation = plan.ask[0]
    assert ablation.owners == ("home", "city", "voice")
    edited = [row for row in ablation.rows if row.condition == "edit"]
    found = {
        (owner, role): sum(row.edited == owner and row.role == role for row in edited)
        for owner in ablation.owners
        for role in ("target", "others", "texts", "unknown")
    }
    n = {"home": 20, "city": 10, "voice": 8}
    for owner in ablation.owners:
        assert found[owner, "target"] == n[owner] and found[owner, "others"] == 38 - n[owner]
        assert found[owner, "texts"] == 2 and found[owner, "unknown"] == 0


def test_the_wrong_cell_of_a_relation_is_the_next_relation_s_set(plan: Plan) -> None:
    assert plan.ask[0].wrong == {"home": "city", "city": "voice", "voice": "home"}
    wrong = {s.condition for s in plan.ask[0].job.sequences if isinstance(s.condition, Condition)}
    # the wrong cell of a relation is the condition whose own targets are the others here: run once
    assert {(c.kind, c.owner) for c in wrong} == {(k, o) for k in ("edit", "random_neurons") for o in plan.ask[0].wrong}


def test_a_set_read_at_every_token_is_edited_at_every_token_from_the_first_on(plan: Plan) -> None:
    edited = [s for s in plan.ask[0].job.sequences if s.condition is not None]
    assert edited and all(s.branch_at == 0 and s.edits == (tuple(range(len(s.ids))),) for s in edited)


def test_a_run_records_large_sets_as_counts_and_a_hash_and_draws_as_many_elsewhere(run: Run) -> None:
    done = run(SPEC)
    results = Results.model_validate_json((done / "results.json").read_text(encoding="utf-8"))
    ablation, more = results.interventions["ablation"], results.interventions["more"]
    saved = json.loads((done / "neurons" / "serves.json").read_text(encoding="utf-8"))
    for owner in ablation.owners:
        edited = ablation.sets[owner]
        assert edited.n == 90 == ablation.size(owner) == sum(edited.places.values())
        assert ablation.neurons[owner] == saved["owners"][owner][:20] and ablation.random_neurons[owner] == []
        assert len(edited.draws) == 3 and len({edited.digest, *edited.draws}) == 4
        assert more.size(owner) == 200 and more.sets[owner].digest != edited.digest
    shown = (done / "report.html").read_text(encoding="utf-8")
    assert "and 78 more" in shown and "sets of as many in each site and layer" in shown
    # 200 of 384 neurons leave too few to draw as many from: that control is left out with its reason, and no more
    assert [i.what for i in results.left_out if i.where == "interventions.more"] == [
        f"random neurons beside {owner} top=200" for owner in more.owners
    ]
    drawn = {(s.edited, s.axes["top"]) for s in more.summaries if s.condition == "random_neurons"}
    assert drawn == {(owner, top) for owner in ("*", *more.owners) for top in (10, 90)}
    # the same question, target and others, with an interval for the edit and for the random sets
    for owner in ablation.owners:
        for condition, role in (("edit", "target"), ("edit", "others"), ("random_neurons", "target")):
            (one,) = [
                s
                for s in ablation.summaries
                if (s.edited, s.condition, s.role, s.measure, s.relation)
                == (owner, condition, role, "accuracy@2", None)
            ]
            assert one.low is not None and one.high is not None and one.low <= one.mean <= one.high
            assert len(one.draws) == (3 if condition == "random_neurons" else 0)


def test_a_set_that_a_run_saved_over_several_sites_is_the_set_that_a_later_spec_takes(run: Run) -> None:
    first = run(SPEC)
    path: Path = first / "neurons" / "serves.json"
    start, end = SPEC.index("localize:"), SPEC.index("  more:")
    text = SPEC[:start] + f"neurons: {{kept: {{from: {path}}}}}\n" + SPEC[SPEC.index("interventions:") : end]
    text = text.replace("neurons: serves", "neurons: kept")
    second = run(text)
    a, b = (
        Results.model_validate_json((p / "results.json").read_text(encoding="utf-8")).interventions["ablation"]
        for p in (first, second)
    )
    assert a.sets and {o: s.digest for o, s in a.sets.items()} == {o: s.digest for o, s in b.sets.items()}
    mine, theirs = ([s for s in r.summaries if s.condition == "edit"] for r in (a, b))
    assert mine == theirs
