"""Extraction through the whole program: verify candidates one by one, keep what passes, act on it, and say who is lost.

What a run says was verified is derived again here from its long table and its ranking, in plain Python.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from runner.store import load, read_ranking
from specs.language.results import Results
from tests.runner.conftest import SPEC, Answer

Command = Callable[..., Answer]
WriteSpec = Callable[..., Path]

BEFORE = SPEC[SPEC.index("interventions:") :]
LOSS, OTHERS = 0.02, 0.5
EXTRACTION = """\
interventions:
  later:
    edit: {scale: [0, -1], neurons: verified}
    ask: questions
    unknown: nobody
    measure: [answer_probability]
    controls: {random_neurons: 2}
  verify:
    edit: {scale: -2, neurons: {of: cell, rank: [1, 2, 3, 4, 5]}}
    ask: questions
    unknown: nobody
    measure: [answer_probability, knowledge_loss_clipped]
    controls: {random_neurons: 3}
neurons:
  verified:
    of: cell
    where:
      - dominance >= 1
      - verify/knowledge_loss_clipped >= LOSS
      - verify/others/knowledge_loss_clipped <= OTHERS
expect: [verified/size >= 0, verified/random_neurons/size <= 2, later/answer_probability/scale=0 <= 1]
"""
LAST = "  last: {edit: {scale: -1, neurons: twice}, ask: questions, measure: [answer_probability]}\n"


def extraction(loss: float = LOSS, others: float = OTHERS) -> tuple[str, str]:
    return BEFORE, EXTRACTION.replace("LOSS", str(loss)).replace("OTHERS", str(others))


def finished(command: Command, workplace: Path, spec: Path, **more: Any) -> tuple[Results, list[dict[str, Any]], Path]:
    answer = command(spec, "--no-track", **more)
    assert answer.code == 0, answer.all
    (folder,) = (workplace / "runs").glob("tiny-*")
    return load(folder), parquet.read_table(folder / "results.parquet").to_pylist(), folder


def mean_of(rows: list[dict[str, Any]]) -> float:
    units = defaultdict(list)
    for row in rows:
        if row["known"] is not False and row["knowledge_loss_clipped"] is not None:
            units[row["prompt_id"]].append(row["knowledge_loss_clipped"])
    return math.fsum(math.fsum(v) / len(v) for v in units.values()) / len(units)


@pytest.fixture
def run(command: Command, write_spec: WriteSpec, workplace: Path) -> tuple[Results, list[dict[str, Any]], Path]:
    return finished(command, workplace, write_spec(extraction()))


def test_what_was_verified_follows_from_the_rows_of_each_candidate(
    run: tuple[Results, list[dict[str, Any]], Path],
) -> None:
    results, rows, folder = run
    assert [s.name for s in results.stages if s.name in ("verify", "later")] == ["verify", "later"]
    record = results.neurons["verified"]
    arrays = read_ranking(folder, "cell")
    passed = 0
    for owner, choice in record.owners.items():
        own = [r for r in rows if (r["intervention"], r["edited"], r["condition"]) == ("verify", owner, "edit")]
        kept = []
        score = arrays[f"{owner}/score"]
        order = (-score.reshape(-1)).argsort(kind="stable")
        for rank in range(1, 6):
            layer, neuron = divmod(int(order[rank - 1]), score.shape[1])
            at = [r for r in own if r["rank"] == str(rank)]
            lost = mean_of([r for r in at if r["role"] == "target"])
            spread = mean_of([r for r in at if r["role"] == "others"])
            candidate = choice.candidates[rank - 1]
            assert candidate.address == f"L{layer}.N{neuron}" and candidate.rank == rank
            assert candidate.figures[1:] == pytest.approx([lost, spread])
            if candidate.figures[0] >= 1 and lost >= LOSS and spread <= OTHERS:  # type: ignore[operator]
                kept.append(candidate.address)
                passed += 1
            else:
                assert candidate.failed is not None
        assert choice.neurons == kept[:1]
    # A run in which nobody or everybody passes would show nothing.
    assert 0 < passed < 10
    assert record.size == sum(bool(c.neurons) for c in record.owners.values())


def test_the_placebo_follows_from_the_rows_of_each_draw(run: tuple[Results, list[dict[str, Any]], Path]) -> None:
    results, rows, _ = run
    placebo = results.neurons["verified"].placebo
    assert placebo is not None and len(placebo.sizes) == 3
    for draw in range(3):
        size = 0
        for owner, choice in results.neurons["verified"].owners.items():
            own = [
                r
                for r in rows
                if (r["intervention"], r["edited"], r["condition"], r["draw"])
                == ("verify", owner, "random_neurons", draw)
            ]
            some = False
            for rank in range(1, 6):
                at = [r for r in own if r["rank"] == str(rank)]
                lost = mean_of([r for r in at if r["role"] == "target"])
                others = [r for r in at if r["role"] == "others"]
                dominance = choice.candidates[rank - 1].figures[0]
                # Only draws that pass the rest are asked about others.
                assert bool(others) == (lost >= LOSS and dominance >= 1)  # type: ignore[operator]
                some = some or bool(others and mean_of(others) <= OTHERS)
            size += some
        assert placebo.sizes[draw] == size
    # A choice of random neurons stands for no others: it is in no mean.
    summaries = results.interventions["verify"].summaries
    assert not any(s.condition == "random_neurons" and s.role == "others" for s in summaries)


def test_who_lost_everything_is_not_edited_later(run: tuple[Results, list[dict[str, Any]], Path]) -> None:
    results, rows, _ = run
    kept = [owner for owner, choice in results.neurons["verified"].owners.items() if choice.neurons]
    later = results.interventions["later"]
    assert later.owners == kept
    assert later.neurons == {o: results.neurons["verified"].owners[o].neurons for o in kept}
    assert {r["edited"] for r in rows if r["intervention"] == "later"} == set(kept)
    lost = {o.what: o.reason for o in results.left_out if o.where == "interventions.later"}
    assert set(lost) >= {o for o in results.neurons["verified"].owners if o not in kept}
    assert results.claims[0].outcome == "met" and results.claims[0].observed == str(len(kept))
    assert results.claims[1].outcome == "met" and "mean of 3 draws" in results.claims[1].observed


def test_where_nothing_passes_the_run_is_complete_and_claims_do_not_apply(
    command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    results, rows, folder = finished(command, workplace, write_spec(extraction(loss=2.0)))
    assert results.status == "complete" and results.neurons["verified"].size == 0
    later = results.interventions["later"]
    assert later.owners == [] and later.summaries == [] and "no neuron passed" in later.not_applicable
    assert not any(r["intervention"] == "later" for r in rows)
    claim = results.claims[2]
    assert claim.outcome == "not applicable" and "no neuron passed" in claim.reason
    reasons = [o.reason for o in results.left_out if o.where == "interventions.later"]
    assert len(reasons) == 2 and all("`verify/knowledge_loss_clipped >= 2`" in r for r in reasons)
    assert (folder / "report.html").exists()


def test_a_second_run_finds_every_stage_in_the_cache(
    command: Command, write_spec: WriteSpec, workplace: Path, run: tuple[Results, list[dict[str, Any]], Path]
) -> None:
    again, _, _ = finished(command, workplace, workplace / "spec.yaml")
    assert all(s.reused for s in again.stages)
    assert again.neurons == run[0].neurons


def test_each_step_of_the_placebo_counts_all_that_came_as_far(
    command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    # What is asked of few random neurons stands first here: who fails later has met it all the same.
    before, after = extraction(loss=500, others=1e9)
    steps = [line for line in after.splitlines(keepends=True) if line.startswith("      - ")]
    after = after.replace("".join(steps), "".join(reversed(steps)))
    after = after.replace("rank: [1, 2, 3, 4, 5]", "rank: [1, 2]").replace("random_neurons/size <= 2", "size <= 2")
    after += "analyses: {p: {pivot: verify, rows: condition, columns: rank, value: knowledge_loss_clipped}}\n"
    results, rows, _ = finished(command, workplace, write_spec((before, after)))
    placebo = results.neurons["verified"].placebo
    assert placebo is not None and placebo.left == [2, 0, 0]
    asked = [r for r in rows if (r["condition"], r["role"]) == ("random_neurons", "others")]
    assert {(r["edited"], r["rank"], r["draw"]) for r in asked} == {
        (owner, rank, draw) for owner in ("trump", "obama") for rank in ("1", "2") for draw in range(3)
    }
    # No more than the means of the run does a pivot hold what was asked of some draws alone.
    of_target = [r for r in rows if (r["condition"], r["role"], r["rank"]) == ("random_neurons", "target", "1")]
    values = [r["knowledge_loss_clipped"] for r in of_target if r["known"] is not False]
    assert results.analyses["p"].figures["random_neurons/1"] == pytest.approx(math.fsum(values) / len(values))


def test_a_filter_on_an_intervention_that_edited_nobody_leaves_nobody(
    command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    before, after = extraction(loss=500)
    after = after.replace("neurons:\n  verified", "neurons:\n  twice: {of: cell, where: LATER}\n  verified").replace(
        "LATER", "later/answer_probability/scale=0 >= 0"
    )
    after = after.replace("  verify:\n", LAST + "  verify:\n")
    results, _, _ = finished(command, workplace, write_spec((before, after)))
    assert results.status == "complete"
    assert results.neurons["twice"].size == 0
    assert "no neuron passed" in results.interventions["last"].not_applicable


def test_the_plan_says_that_it_is_an_upper_bound(command: Command, write_spec: WriteSpec) -> None:
    answer = command("plan", write_spec(extraction()))
    assert answer.code == 0, answer.all
    words = " ".join(answer.out.split())
    assert "after verify: at most, owners for whom no neuron passes are left out" in words
    assert "rows of random neurons asked about others: run only where they meet the conditions" in words
