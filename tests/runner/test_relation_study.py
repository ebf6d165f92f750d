"""What is said of neurons that belong to relations: counted anew from the rows of a made-up study."""

from __future__ import annotations

import pytest

from runner.claims import look_up
from runner.sentence import answer
from specs.language.groups import ranking_of_groups, together
from specs.language.results import CellFigure, InterventionResult, Results
from tests.runner.relation_study import DRAWS, QUESTIONS, RELATIONS, SLICES, TOPS, rows, spec, study


@pytest.fixture(scope="module")
def results() -> Results:
    return study()


def test_the_figures_are_those_of_the_rows(results: Results) -> None:
    done = results.interventions["ablation"]
    assert ranking_of_groups(results, done) is results.rankings["relation"]
    found = together(done)
    assert found is not None and found.measure == "accuracy@2" and found.n == len(RELATIONS)
    listed = [r for r in rows(spec())["ablation"] if r.values["accuracy@2"] is not None]

    def mean(condition: str, role: str, **more: object) -> float:
        values = [
            float(r.values["accuracy@2"] or 0)
            for r in listed
            if (r.asked.condition, r.asked.role) == (condition, role)
            and all(getattr(r.asked, k) == v for k, v in more.items())
        ]
        return sum(values) / len(values)

    assert found.base == pytest.approx(mean("clean", "target")) and found.own.mean == pytest.approx(
        mean("edit", "target")
    )
    assert found.others is not None and found.others.mean == pytest.approx(mean("edit", "others"))
    assert found.random == pytest.approx([mean("random_neurons", "target", draw=d) for d in range(DRAWS)])
    beyond = sum(
        mean("edit", "target", edited=r) < min(mean("random_neurons", "target", edited=r, draw=d) for d in range(DRAWS))
        for r in RELATIONS
    )
    assert found.beyond_random == beyond
    assert found.own.n == len(RELATIONS) * QUESTIONS


def test_the_answer_speaks_of_all_relations_with_others_and_random_sets(results: Results) -> None:
    text = results.answer
    assert text.startswith(
        "Zero ablation of the 3,000 neurons of each relation takes accuracy@2 of its own questions from"
    )
    assert "(mean of 6 relations, 120 questions), that of the other relations from" in text
    assert "4 random sets of as many neurons leave it at" in text
    assert "6 of 6 relations lose more than to any random set" in text
    assert "the perplexity of 10 texts about nobody goes from 24.50 to 24.90" in text


def changed(results: Results, **means: float) -> Results:
    """The same study with other means of accuracy@2; names are condition__role."""
    done = results.interventions["ablation"]
    summaries = []
    for s in done.summaries:
        mean = means.get(f"{s.condition}__{s.role}") if s.measure == "accuracy@2" and s.relation is None else None
        new = {} if mean is None else {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}
        if mean is not None and s.draws:
            new["draws"] = [mean] * len(s.draws)
        summaries.append(s.model_copy(update=new))
    other: InterventionResult = done.model_copy(update={"summaries": summaries})
    return results.model_copy(update={"interventions": {**results.interventions, "ablation": other}})


def test_what_random_neurons_do_as_well_is_a_placebo(results: Results) -> None:
    text = answer(changed(results, clean__target=0.8, edit__target=0.4, random_neurons__target=0.5))
    assert "so the loss is no more than a placebo's" in text


def test_what_happens_to_others_as_well_is_not_specific(results: Results) -> None:
    means = {"clean__target": 0.8, "edit__target": 0.4, "random_neurons__target": 0.8}
    text = answer(changed(results, **means, clean__others=0.8, edit__others=0.5))
    assert "the effect is not specific" in text and "6 of 6 more than the others do" in text
    assert "not specific" not in answer(changed(results, **means, clean__others=0.8, edit__others=0.75))


def test_what_hardly_moves_is_no_effect(results: Results) -> None:
    text = answer(changed(results, clean__target=0.8, edit__target=0.79))
    assert "leaves accuracy@2 of its own questions at 0.79" in text and "against 0.80 without" in text


def test_a_rise_is_no_loss(results: Results) -> None:
    assert "it rises, and nothing is lost" in answer(changed(results, clean__target=0.4, edit__target=0.8))


def test_every_analysis_of_the_study_has_figures(results: Results) -> None:
    drops = results.analyses["drops"]
    assert len(drops.cells) == len(RELATIONS) ** 2 and drops.figures["same"] > 0.4 > drops.figures["different"]
    cumulativity = results.analyses["cumulativity"]
    assert len(cumulativity.rows) == (len(RELATIONS) + 2) * len(SLICES)
    assert set(results.analyses["layers"].figures) > {"mlp.gate/neurons", "mlp.up/L29", "neurons"}
    assert len(results.interventions["more"].axes["top"]) == len(TOPS)
    assert {m.relation: m.answer for m in results.interventions["ablation"].majority}[
        "landmark_on_continent"
    ] == "Europe"


def test_where_the_clean_model_is_never_right_nothing_can_be_lost(results: Results) -> None:
    text = answer(changed(results, clean__target=0.0, edit__target=0.0))
    assert text.startswith(
        "The clean model has accuracy@2 0 on the 120 questions of its 6 relations, so nothing can be lost"
    )


def test_a_claim_on_a_drop_has_its_interval_and_both_means(results: Results) -> None:
    cell = next(c for c in results.analyses["drops"].cells if c.row == c.column == "person_mother")
    found = look_up("drops/person_mother/person_mother", results)
    assert found.number == cell.value and cell.clean is not None and cell.edited is not None
    assert found.words == (
        f"{cell.value:.4g} [{cell.low:.4g}, {cell.high:.4g}] over 20 prompts "
        f"(from {cell.clean:.4g} to {cell.edited:.4g})"
    )
    assert look_up("drops/same", results).number == results.analyses["drops"].figures["same"]


def test_a_claim_on_an_undefined_drop_is_not_applicable(results: Results) -> None:
    drops = results.analyses["drops"]
    empty = CellFigure(row="a", column="b", n=20, clean=0.0, edited=0.0, reason="the clean model answers none")
    other = drops.model_copy(update={"cells": [*drops.cells, empty]})
    found = look_up("drops/a/b", results.model_copy(update={"analyses": {"drops": other}}))
    assert found.number is None and found.reason == "a/b has no value: the clean model answers none"
