"""Measures, summaries, claims and the sentence together: from log probabilities to what a reader is told."""

from __future__ import annotations

import math

import pytest

from runner.claims import evaluate, look_up
from runner.measures import measured
from runner.observe import AnswerScore, Asked, Observation, Row
from runner.sentence import answer
from runner.summaries import count_asked, left_out, summarise
from specs.language.experiment import Experiment
from specs.language.results import InterventionResult, ModelFacts, Results

MEASURES = ["knowledge_score", "answer_probability", "pass@5"]
CLEAN, STRANGER = 0.8, 0.01
FACTORS = (1.0, 0.0, -3.0)


def seen(p, rank=1):
    return Observation((AnswerScore(" answer", (math.log(p),), (rank,)),))


def rows():
    """Two owners with four questions each; at -3 the target falls to 0.02, others and random neurons stay."""
    prompt_id = 0
    found = []
    for edited in ("trump", "obama"):
        for entity in ("trump", "obama"):
            role = "target" if entity == edited else "others"
            for q in range(4):
                prompt_id = 10 * (entity == "obama") + q
                unknown_fact = q == 3

                def row(
                    condition,
                    p,
                    draw=0,
                    axes=None,
                    *,
                    edited=edited,
                    role=role,
                    entity=entity,
                    prompt_id=prompt_id,
                    known=not unknown_fact,
                    q=q,
                ):
                    about = Asked(
                        intervention="amnesia",
                        edited=edited,
                        condition=condition,
                        draw=draw,
                        role=role,
                        axes=axes or {},
                        prompt_id=prompt_id,
                        prompt=f"question {q} about {entity}",
                        entity=entity,
                        relation=f"relation{q % 2}",
                    )
                    return measured(Row(about, seen(p), seen(CLEAN), (seen(STRANGER), seen(STRANGER)), known), MEASURES)

                found.append(row("clean", CLEAN))
                for factor in FACTORS:
                    silenced = role == "target" and factor < 0
                    found.append(row("edit", 0.02 if silenced else CLEAN, axes={"scale": factor}))
                    if role == "target":
                        found += [row("random_neurons", 0.79, draw, {"scale": factor}) for draw in range(2)]
    return found


@pytest.fixture(scope="module")
def results():
    table = rows()
    n_asked, n_known = count_asked(table)
    done = InterventionResult(
        name="amnesia",
        title="negative ablation",
        edits=[],
        owners=["trump", "obama"],
        neurons={"trump": ["L1.N7"], "obama": ["L2.N9"]},
        axes={"scale": list(FACTORS)},
        measures=MEASURES,
        ask=["facts"],
        n_asked=n_asked,
        n_known=n_known,
        summaries=summarise(table, MEASURES, ["scale"], 0),
    )
    return Results(
        name="trump",
        hash="0",
        status="complete",
        started="2026-01-01",
        seconds=1,
        model=ModelFacts(
            id="m",
            family="llama",
            n_layers=4,
            d_model=8,
            d_mlp=16,
            vocabulary=99,
            dtype="float32",
            device="cpu",
            attention="sdpa",
            adds_bos=False,
        ),
        interventions={"amnesia": done},
        left_out=left_out(table, MEASURES),
    )


def test_a_score_worked_out_by_hand_stands_at_its_path(results):
    expected = math.log(0.02 / STRANGER) / math.log(CLEAN / STRANGER)
    found = look_up("amnesia/trump/knowledge_score/scale=-3", results)
    assert found.number == pytest.approx(expected)
    assert look_up("amnesia/knowledge_score/scale=-3", results).number == pytest.approx(expected)
    assert look_up("amnesia/trump/others/knowledge_score/scale=-3", results).number == pytest.approx(1)


def test_questions_that_are_not_known_are_counted_and_listed_and_in_no_mean(results):
    done = results.interventions["amnesia"]
    assert (done.n_asked, done.n_known) == (8, 6)
    assert {s.n for s in done.summaries if s.edited == "trump" and s.relation is None} == {3}
    assert {s.n for s in done.summaries if s.edited == "*" and s.relation is None and s.role == "target"} == {6}
    assert {item.what for item in results.left_out} == {"relation1/trump", "relation1/obama"}


def test_the_figures_hold_the_claims(results):
    spec = {"version": 1, "name": "trump", "model": "m"}
    spec["expect"] = [
        "amnesia/trump/knowledge_score/scale=-3 <= 0.3",
        "amnesia/trump/random_neurons/knowledge_score/scale=-3 >= 0.99",
        "amnesia/clean/pass@5 = 1",
        "amnesia/answer_probability/relation=relation0/scale=-3 within 0.001 of 0.02",
        "amnesia/trump/knowledge_score/scale=0 <= 0.3",
    ]
    outcomes = [claim.outcome for claim in evaluate(Experiment.model_validate(spec), results)]
    assert outcomes == ["met", "met", "met", "met", "not met"]


def test_the_sentence_says_what_the_figures_say(results):
    assert answer(results) == (
        "Multiplying L1.N7 by -3 takes the knowledge score from 1.00 to 0.16 [0.16, 0.16] over 3 questions "
        "while others stay at 1.00 and two random neurons at 1.00; a specific effect is found for obama."
    )
