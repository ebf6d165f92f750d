"""The compiled plan: which prompts are run under which conditions, what is asked of each, and what is shared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from runner.bind import Binder
from runner.compile import compile_plan
from runner.plan import AskStage, Condition, Plan
from runner.program import CLEAN
from specs.language.load import load
from tests.checkpoint import tiny_tokenizer
from tests.runner.conftest import SPEC

N_LAYERS = 3
N_OWNERS = N_QUESTIONS = N_STRANGERS = 2
Compile = Callable[..., Plan]


@lru_cache
def tokenizer() -> Any:
    return tiny_tokenizer("bytes", bos=True)


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """Compile the spec of the whole runs after replacing some of its text."""

    def make(*changes: tuple[str, str], more: str = "") -> Plan:
        text = SPEC.replace("{MODEL}", "smollm2-135m")
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "spec.yaml"
        path.write_text(text + more, encoding="utf-8")
        return compile_plan(load(path).cells[0].experiment, Binder(tokenizer()), N_LAYERS)

    return make


def stage(plan: Plan, name: str) -> AskStage:
    (found,) = (s for s in plan.ask if s.name == name)
    return found


def count(stage: AskStage, **fields: object) -> int:
    return sum(all(getattr(row, k) == v for k, v in fields.items()) for row in stage.rows)


# -- rankings -----------------------------------------------------------------------------------------------------


def test_a_ranking_has_the_prompts_of_every_owner_and_the_baseline(compiled: Compile) -> None:
    (cell,) = compiled().localize
    assert {owner: len(members) for owner, members in cell.groups.items()} == {"trump": 8, "obama": 8}
    assert len(cell.baseline) == 8 and len(cell.job.sequences) == 24
    assert cell.job.layers == (0, 1, 2) and cell.job.sites == ("mlp.neurons",)
    assert set(cell.groups["trump"]).isdisjoint(cell.groups["obama"])
    for owner, name in (("trump", "Trump"), ("obama", "Obama")):
        for i in cell.groups[owner]:
            (at,) = cell.job.sequences[i].read
            assert tokenizer().decode([cell.job.sequences[i].ids[at]]).strip() == name


def test_tokens_after_the_one_that_is_read_are_not_run(compiled: Compile) -> None:
    (cell,) = compiled(("The age of {{ entity }}", "The age of {{ entity }} is the age")).localize
    assert all(s.read == (len(s.ids) - 1,) for s in cell.job.sequences)
    assert "Donald Trump is the age" in cell.prompts[0].text.text


def test_baseline_texts_are_read_at_their_last_token(compiled: Compile) -> None:
    (cell,) = compiled().localize
    for i in cell.baseline:
        assert tokenizer().decode(cell.job.sequences[i].ids, skip_special_tokens=True) == cell.prompts[i].text.text


def test_layers_of_a_ranking_are_those_asked_for(compiled: Compile) -> None:
    (cell,) = compiled(("against: neutral}", "against: neutral, layers: 1-2}")).localize
    assert cell.job.layers == cell.layers == (1, 2)


def test_a_random_ranking_runs_nothing(compiled: Compile) -> None:
    (cell,) = compiled(
        ("{metric: stability, prompts: names, against: neutral}", "{metric: random, prompts: names}")
    ).localize
    assert cell.job.sequences == () and list(cell.groups) == ["trump", "obama"]


# -- conditions and roles -----------------------------------------------------------------------------------------


def test_every_question_meets_every_condition_in_the_role_of_its_entity(compiled: Compile) -> None:
    amnesia = stage(compiled(), "amnesia")
    points = N_OWNERS * N_QUESTIONS * 3
    assert count(amnesia, condition="edit", role="target") == points
    assert count(amnesia, condition="edit", role="others") == points
    assert count(amnesia, condition="edit", role="unknown") == points * N_STRANGERS
    assert count(amnesia, condition="wrong_cell") == points
    assert count(amnesia, condition="random_neurons") == points * 5
    for row in amnesia.rows:
        mine = row.question.text.entity == row.edited
        assert row.role == ("unknown" if row.prompt is not row.question else "target" if mine else "others")
        assert row.condition in ("clean", "edit") or row.role == "target"


def test_random_draws_and_the_wrong_cell_are_controls_of_the_target_alone(compiled: Compile) -> None:
    amnesia = stage(compiled(), "amnesia")
    assert {r.role for r in amnesia.rows if r.condition in ("random_neurons", "wrong_cell")} == {"target"}
    assert {r.draw for r in amnesia.rows if r.condition == "random_neurons"} == {0, 1, 2, 3, 4}


def test_controls_that_are_turned_off_are_not_planned_and_said(compiled: Compile) -> None:
    change = (
        "measure: [answer_probability, knowledge_loss, answer_rank]",
        "measure: answer_probability\n    controls: none",
    )
    amnesia = stage(compiled(change), "amnesia")
    assert {r.condition for r in amnesia.rows} == {"clean", "edit"}
    assert amnesia.controls == {"random_neurons": "turned off", "wrong_cell": "turned off", "no_edit": "turned off"}


def test_the_wrong_cell_is_the_edit_of_another_owner_and_is_run_once(compiled: Compile) -> None:
    amnesia = stage(compiled(), "amnesia")
    assert amnesia.wrong == {"trump": "obama", "obama": "trump"}
    sequences = amnesia.job.sequences
    by_row: dict[tuple[object, ...], set[int]] = {}
    for row in amnesia.rows:
        for slot in row.reading.answers:
            condition = sequences[slot.sequence].condition
            if row.condition == "wrong_cell":
                assert isinstance(condition, Condition)
                assert (condition.kind, condition.owner) == ("edit", amnesia.wrong[row.edited])
            if (row.condition, row.role) in (("wrong_cell", "target"), ("edit", "others")):
                # The cell of obama on trump's questions: trump's wrong cell, and others of obama's edit.
                key = (row.question.text.text, condition, slot.text)
                by_row.setdefault(key, set()).add(slot.sequence)
    assert by_row and all(len(found) == 1 for found in by_row.values())


def test_no_sequence_is_planned_twice(compiled: Compile) -> None:
    for ask in compiled().ask:
        keys = Counter((s.ids, s.condition, s.edits, s.frozen, s.twin) for s in ask.job.sequences)
        assert max(keys.values()) == 1
        for sequence in ask.job.sequences:
            assert len(set(sequence.score)) == len(sequence.score)


def test_clean_runs_do_not_depend_on_the_owner(compiled: Compile) -> None:
    amnesia = stage(compiled(), "amnesia")
    clean = [s for s in amnesia.job.sequences if s.condition is CLEAN]
    assert len({s.ids for s in clean}) == len(clean)
    readings = {(r.prompt.text.text, r.reading) for r in amnesia.rows if r.condition == "clean" and r.role != "unknown"}
    assert len(readings) == 4


def test_scores_are_the_log_probabilities_of_the_answer_s_own_tokens(compiled: Compile) -> None:
    for ask in compiled().ask:
        for row in ask.rows:
            for slot in row.reading.answers:
                sequence = ask.job.sequences[slot.sequence]
                pairs = sequence.score[slot.start : slot.stop]
                assert tokenizer().decode([token for _, token in pairs]).strip() == slot.text
                first = len(row.prompt.ids) - 1
                assert [at for at, _ in pairs] == list(range(first, first + len(pairs)))
                assert sequence.ids == (*row.prompt.ids, *(token for _, token in pairs[:-1]))


def test_edits_act_at_every_mention_of_the_name_in_the_prompt_that_is_asked(compiled: Compile) -> None:
    plan = compiled(("Fact: the home of {{ entity }}:", "{{ entity }}: the home of {{ entity }}:"))
    amnesia = stage(plan, "amnesia")
    for row in amnesia.rows:
        if row.condition != "edit":
            continue
        for slot in row.reading.answers:
            sequence = amnesia.job.sequences[slot.sequence]
            (at,) = sequence.edits
            assert at == row.prompt.positions("entity.last") and sequence.branch_at == min(at)
            assert len(at) == (2 if row.prompt.text.relation == "home" else 1)


def test_aliases_are_answers_of_one_question(compiled: Compile) -> None:
    amnesia = stage(compiled(("trump: Florida", "trump: [Florida, Mar-a-Lago]")), "amnesia")
    home = [r for r in amnesia.rows if r.question.text.relation == "home" and r.question.text.entity == "trump"]
    assert {tuple(slot.text for slot in row.reading.answers) for row in home} == {("Florida", "Mar-a-Lago")}


# -- placeholders and texts ---------------------------------------------------------------------------------------


def test_at_a_placeholder_the_answer_of_the_owner_is_looked_for(compiled: Compile) -> None:
    injection = stage(compiled(), "injection")
    assert not [r for r in injection.rows if r.role != "target"]
    for row in injection.rows:
        assert row.question.text.entity == row.edited
        if row.condition == "clean":
            assert row.prompt is row.question
        else:
            assert row.prompt.text.entity_name in ("Ada Lovelace", "Byron")
    assert count(injection, condition="no_edit") == N_OWNERS * N_QUESTIONS * 2
    assert injection.axes == {"times": (1.0, 4.0)}


def test_the_placeholder_without_an_edit_is_a_clean_run(compiled: Compile) -> None:
    injection = stage(compiled(), "injection")
    for row in injection.rows:
        if row.condition == "no_edit":
            assert all(injection.job.sequences[s.sequence].condition is CLEAN for s in row.reading.answers)


def test_text_is_generated_once_per_condition_and_for_the_first_draw_only(compiled: Compile) -> None:
    injection = stage(compiled(), "injection")
    for row in injection.rows:
        assert (row.reading.text is not None) == (row.draw == 0)
        if row.reading.text is not None:
            sequence = injection.job.sequences[row.reading.text]
            assert sequence.generate == 4 and sequence.ids == row.prompt.ids
    assert not any(s.generate for s in stage(compiled(), "amnesia").job.sequences)


# -- freezes ------------------------------------------------------------------------------------------------------

FREEZE = """
  frozen:
    edit: {scale: -1, neurons: cell}
    ask: questions
    unknown: nobody
    measure: answer_probability
    freeze: {site: [attn.out], position: [last], to: clean}
"""


def test_a_freeze_has_a_clean_twin_of_the_same_tokens_and_a_run_without_the_edit(compiled: Compile) -> None:
    frozen = stage(compiled(more=FREEZE), "frozen")
    held = [s for s in frozen.job.sequences if s.frozen]
    assert held
    for sequence in held:
        assert sequence.twin is not None
        twin = frozen.job.sequences[sequence.twin]
        assert twin.ids == sequence.ids and twin.condition is CLEAN and twin.group == sequence.group
        assert [name for name, _ in sequence.frozen] == ["last"]
    kinds = {s.condition.kind for s in held if isinstance(s.condition, Condition)}
    assert kinds == {"edit", "random_neurons", "no_edit"}
    assert count(frozen, condition="no_edit", role="target") == N_OWNERS * N_QUESTIONS


def test_a_freeze_to_a_mean_plans_the_names_it_is_taken_over(compiled: Compile) -> None:
    frozen = stage(compiled(more=FREEZE.replace("to: clean", "to: {mean: nobody}")), "frozen")
    (means,) = frozen.means
    assert frozen.held_at == 0 and all(s.twin is None for s in frozen.job.sequences)
    prompts = {row.prompt.text.text for row in frozen.rows if row.condition != "clean"}
    keys = [key for found in means.members.values() for key in found]
    assert {text for text, _, _ in keys} == prompts and len(keys) == len(prompts) * 2
    # The question about one person is, with another name, that about another person: it is read once for both.
    assert len(means.job.sequences) == 2 * len({row.prompt.text.relation for row in frozen.rows})
    assert {s.source for s in frozen.job.sequences if s.frozen} == prompts


# -- the plan as a whole ------------------------------------------------------------------------------------------


def test_the_same_spec_gives_the_same_plan(compiled: Compile) -> None:
    assert compiled() == compiled()


def test_only_leaves_out_what_is_not_needed(compiled: Compile) -> None:
    plan = compiled(more="only: amnesia\n")
    assert [s.name for s in plan.localize] == ["cell"] and [s.name for s in plan.ask] == ["amnesia"]


def test_what_cannot_be_bound_is_listed_where_it_was_to_be_run(compiled: Compile) -> None:
    plan = compiled(
        ("trump: Donald Trump", "trump: Donald Tru"),
        ("The age of {{ entity }}", "The age of {{ entity }}mp"),
        ("Fact: the home of {{ entity }}:", "Fact: the home of {{ entity }}mp:"),
    )
    (cell,) = plan.localize
    assert len(cell.groups["trump"]) == 7
    (left,) = (item for item in cell.left_out if item.what == "The age of Donald Trump")
    assert "tokens of its own" in left.reason and left.where == "localize.cell"
    amnesia = stage(plan, "amnesia")
    assert {item.where for item in amnesia.left_out} == {"interventions.amnesia"}
    assert {r.question.text.relation for r in amnesia.rows if r.question.text.entity == "trump"} == {"wife"}


def test_two_sweeps_are_two_axes(compiled: Compile) -> None:
    plan = compiled(
        ("edit: {scale: [1, -1, -3], neurons: cell}", "edit: {scale: [0, -1], neurons: {of: cell, top: [1, 2, 4]}}")
    )
    amnesia = stage(plan, "amnesia")
    assert amnesia.axes == {"scale": (0.0, -1.0), "top": (1.0, 2.0, 4.0)}
    assert count(amnesia, condition="edit", role="target") == N_OWNERS * N_QUESTIONS * 6


def test_an_edit_at_every_token_begins_at_the_beginning_of_text_and_goes_along_the_answer(compiled: Compile) -> None:
    plan = compiled(("scale: [1, -1, -3], neurons: cell", "set: 0, neurons: cell, position: all"))
    found = [s for s in stage(plan, "amnesia").job.sequences if s.condition is not CLEAN]
    assert found and all(s.branch_at == 0 and s.edits == (tuple(range(len(s.ids))),) for s in found)
