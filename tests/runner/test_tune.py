"""Values chosen on other questions: by whom, by what, of ties the gentlest, and scored at these values alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.claims import look_up
from runner.observe import Asked, Observation, Row
from runner.store import load
from runner.tune import choose
from tests.runner.conftest import Answer
from tests.runner.test_compile import Compile, compiled, stage  # noqa: F401

Command = Callable[..., Answer]
WriteSpec = Callable[..., Path]

SWEPT = "edit: {set: {times: [1, 4], of: own_mean}, neurons: cell}\n    ask: questions\n"
VALUES = "edit: {set: {times: [0.5, 1, 4, 16], of: own_mean}, neurons: cell}\n"
TUNED = (SWEPT, VALUES + "    ask: told\n    tune: {on: tried, maximize: answer_probability}\n")
SETS = (
    "  questions: {relations: all, known: any}\n",
    "  questions: {relations: all, known: any}\n"
    "  tried: {relations: wife, known: any}\n  told: {relations: home, known: any}\n",
)
ONLY = "only: injection\n"


def run(command: Command, workplace: Path, spec: Path, out: str) -> Path:
    answer = command(spec, "--no-track", "--set", "model.dtype=float32", "--out", out)
    assert answer.code == 0, answer.all
    (folder,) = (workplace / out).glob("tiny-*")
    return folder


def table(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(folder / "results.parquet").to_pylist()
    return rows


def means(rows: list[dict[str, Any]]) -> dict[tuple[str, str, int], dict[float, float]]:
    """(owner, condition, draw) -> value of the sweep -> mean over questions of the mean over placeholders."""
    found: dict[tuple[str, str, int], dict[float, dict[int, list[float]]]] = {}
    for r in rows:
        if r["condition"] in ("edit", "wrong_cell", "random_neurons") and r["role"] == "target":
            at = found.setdefault((r["edited"], r["condition"], r["draw"]), {}).setdefault(r["times"], {})
            at.setdefault(r["prompt_id"], []).append(r["answer_probability"])
    return {
        who: {x: sum(sum(v) / len(v) for v in of.values()) / len(of) for x, of in at.items()}
        for who, at in found.items()
    }


def test_what_is_chosen_and_scored_is_what_two_whole_sweeps_give(
    command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    folder = run(command, workplace, write_spec(SETS, TUNED, more=ONLY), "tuned")
    swept = {}
    for name in ("tried", "told"):
        spec = write_spec(SETS, (SWEPT, f"{VALUES}    ask: {name}\n"), more=ONLY)
        swept[name] = means(table(run(command, workplace, spec, name)))
    done = load(folder).interventions["injection"]
    tuning = done.tuning
    assert tuning is not None and tuning.axes == {"times": [0.5, 1, 4, 16]} and done.axes == {}
    chosen = {(v.edited, v.condition, v.draw): v for v in tuning.chosen}
    assert set(chosen) == set(swept["tried"]) and len(chosen) == 2 * (1 + 1 + 2)
    for who, value in chosen.items():
        curve = swept["tried"][who]
        best = max(curve, key=lambda x, curve=curve: curve[x])
        assert value.axes == {"times": best}
        assert value.figure == pytest.approx(curve[best], rel=1e-5) and value.n == 1
        assert value.score == pytest.approx(swept["told"][who][best], rel=1e-5) and value.n_scored == 1
    assert len({v.axes["times"] for v in tuning.chosen}) > 1, "all chose one value: the test could not fail"

    rows = table(folder)
    scored = [r for r in rows if r["purpose"] == "score"]
    assert {r["relation"] for r in scored} == {"home"} and {r["relation"] for r in rows} == {"wife", "home"}
    for r in scored:
        if r["condition"] in ("clean", "no_edit"):
            assert r["times"] is None
        else:
            assert r["times"] == chosen[r["edited"], r["condition"], r["draw"]].axes["times"]
    assert {r["prompt_id"] for r in scored}.isdisjoint(r["prompt_id"] for r in rows if r["purpose"] == "tune")
    assert {s.relation for s in done.summaries} == {None, "home"} and all(s.axes == {} for s in done.summaries)


def test_a_tuned_figure_is_one_number_for_claims_the_report_and_the_terminal(
    command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    claim = "expect: [injection/trump/answer_probability >= 0, injection/wrong_cell/answer_probability >= 0]\n"
    folder = run(command, workplace, write_spec(SETS, TUNED, more=ONLY + claim), "tuned")
    results = load(folder)
    assert [c.outcome for c in results.claims] == ["met", "met"]
    found = look_up("injection/trump/answer_probability", results)
    tuning = results.interventions["injection"].tuning
    assert tuning is not None
    own = next(v for v in tuning.chosen if (v.edited, v.condition) == ("trump", "edit"))
    assert found.number == pytest.approx(own.score)
    draws = [v.score for v in tuning.chosen if (v.edited, v.condition) == ("trump", "random_neurons")]
    summary = next(
        s
        for s in results.interventions["injection"].summaries
        if (s.edited, s.condition, s.measure, s.relation) == ("trump", "random_neurons", "answer_probability", None)
    )
    assert summary.draws == pytest.approx(draws)
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "Values chosen on tried" in report and "times" in report
    assert [s.name for s in results.stages] == ["cell", "injection: tune", "injection"]
    plan = (folder / "plan.txt").read_text(encoding="utf-8")
    assert "injection: tune" in plan and "each condition chooses its value on tried" in plan


def test_an_owner_without_a_question_to_tune_on_is_left_out_with_the_reason(
    command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    alone = SETS[1].replace("tried: {relations: wife,", "tried: {relations: wife, entities: [trump],")
    folder = run(command, workplace, write_spec((SETS[0], alone), TUNED, more=ONLY), "tuned")
    results = load(folder)
    assert results.interventions["injection"].owners == ["trump"]
    (left,) = results.left_out
    assert (left.what, left.reason) == ("obama", "none of the questions to tune on is about it")
    assert {r["edited"] for r in table(folder)} == {"trump"}
    # The wrong cell is that of the owner who is left out: a value was chosen for it.
    assert results.interventions["injection"].wrong_owner == {"trump": "obama"}


def test_where_nobody_can_choose_nothing_is_scored_and_claims_do_not_apply(
    command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    hard = SETS[1].replace("tried: {relations: wife, known: any}", "tried: {relations: wife, known: pass@1}")
    claim = "expect: [injection/trump/answer_probability >= 0]\n"
    folder = run(command, workplace, write_spec((SETS[0], hard), TUNED, more=ONLY + claim), "tuned")
    results = load(folder)
    done = results.interventions["injection"]
    assert "no value was chosen" in done.not_applicable and done.summaries == []
    assert {item.what for item in results.left_out} >= {"trump", "obama"}
    assert [c.outcome for c in results.claims] == ["not applicable"]
    assert (folder / "report.html").exists()


def test_the_plan_holds_one_value_for_each_condition_and_all_of_them_to_tune(compiled: Compile) -> None:  # noqa: F811
    planned = stage(compiled(SETS, TUNED, more=ONLY), "injection")
    tuning = planned.tuning
    assert tuning is not None and planned.axes == {} and tuning.axes == {"times": (0.5, 1, 4, 16)}
    edits = [row for row in planned.rows if row.condition == "edit"]
    assert {row.axes for row in edits} == {(("times", 0.5),)} and len(edits) == 2 * 1 * 2
    assert len([row for row in tuning.rows if row.condition == "edit"]) == 4 * len(edits)
    assert {row.role for row in tuning.rows} == {"target"}
    assert {row.question.text.relation for row in tuning.rows} == {"wife"}


# -- choosing -----------------------------------------------------------------------------------------------------


class Planned:
    """As much of a stage as choosing looks at."""

    def __init__(self, points: list[dict[str, float | str]], measure: str = "pass@5") -> None:
        self.name, self.owners = "i", ("a",)
        self.spec = type("Spec", (), {"measure": [measure]})
        self.rows = [type("Planned", (), {"axes": tuple(point.items())}) for point in points]


def row(at: dict[str, float | str], value: float | None, question: int = 0, *, known: bool = True) -> Row:
    asked = Asked("i", "a", "edit", 0, "target", at, question, "?")
    reasons = {} if value is not None else {"pass@5": "undefined"}
    return Row(asked, Observation(), known=known, values={"pass@5": value}, reasons=reasons)


def best(points: list[dict[str, float | str]], rows: list[Row], sign: int = 1) -> Any:
    found = choose(Planned(points), rows, sign)  # type: ignore[arg-type]
    return found.values[0].axes if found.values else found.left_out[0].reason


@pytest.mark.parametrize(
    ("points", "wanted"),
    [
        ([{"times": 8.0}, {"times": -2.0}, {"times": 4.0}], {"times": -2.0}),
        ([{"scale": 0.0}, {"scale": -1.0}, {"scale": 1.5}], {"scale": 1.5}),
        ([{"rank": "11-50"}, {"rank": "1"}], {"rank": "11-50"}),
        ([{"set": -3.0}, {"set": 3.0}], {"set": -3.0}),
        ([{"scale": -1.0, "top": 10.0}, {"scale": -1.0, "top": 2.0}], {"scale": -1.0, "top": 2.0}),
    ],
)
def test_of_equal_figures_the_gentlest_is_chosen_and_then_the_first(points: Any, wanted: Any) -> None:
    assert best(points, [row(point, 0.5) for point in points]) == wanted


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.sampled_from([1, -1]))
def test_nothing_does_better_than_what_is_chosen(figures: list[float], sign: int) -> None:
    points: list[dict[str, float | str]] = [{"times": float(n + 1)} for n in range(len(figures))]
    rows = [row(point, figure) for point, figure in zip(points, figures, strict=True)]
    chosen = best(points, rows, sign)
    got = figures[int(chosen["times"]) - 1]
    assert all(sign * got >= sign * figure or got == pytest.approx(figure, rel=1e-8) for figure in figures)
    assert best(points, list(reversed(rows)), sign) == chosen


def test_a_value_at_which_a_question_has_no_figure_is_not_eligible() -> None:
    points: list[dict[str, float | str]] = [{"times": 1.0}, {"times": 2.0}]
    rows = [row(points[0], 0.1), row(points[0], 0.1, 1), row(points[1], 0.9), row(points[1], None, 1)]
    assert best(points, rows) == {"times": 1.0}
    # A question that has none anywhere decides nothing.
    assert best(points, [*rows[:3], row(points[0], None, 2), row(points[1], 0.9, 1)]) == {"times": 2.0}


def test_questions_that_are_not_known_take_no_part_and_without_any_there_is_a_reason() -> None:
    points: list[dict[str, float | str]] = [{"times": 1.0}, {"times": 2.0}]
    rows = [row(points[0], 0.6), row(points[1], 0.5), row(points[1], 1.0, 1, known=False)]
    assert best(points, rows) == {"times": 1.0}
    unknown = [replace(r, known=False) for r in rows]
    assert best(points, unknown) == "the clean model knows none of the questions to tune on"
    assert best(points, []) == "none of the questions to tune on is about it"
    assert "is defined for none of the questions" in best(points, [row(points[0], None)])
