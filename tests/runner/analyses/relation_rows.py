"""Rows of interventions whose owners are relations, and what an analysis reads beside them."""

from __future__ import annotations

from runner.analyses import Findings
from runner.observe import Asked, Observation, Row
from specs.language.experiment import Intervention, Relation
from specs.language.results import InterventionResult
from tests.runner.analyses.conftest import experiment, make

RESULTS = make({"trump": {"L0.N1": 1.0}})[0].results


def row(
    relation,
    n,
    values,
    *,
    of="ablation",
    edited=None,
    condition="edit",
    axes=None,
    known=None,
    answers=("yes",),
    text="?",
    **columns,
):
    """One question of a relation under one condition; ``values``: measure -> value."""
    edited = edited or relation
    asked = Asked(
        intervention=of,
        edited=edited,
        condition=condition,
        draw=0,
        role="target" if edited == relation else "others",
        axes=axes or {},
        prompt_id=hash((relation, n)) % 10**9,
        prompt=text if text != "?" else f"the {relation} of person {n} is",
        entity=f"person{n}",
        relation=relation,
        answers=answers,
        columns=columns,
    )
    return Row(asked, Observation(), known=known, values=values)


def findings(rows, *, measure=("accuracy@2",), entities=None, relations=None):
    """What an analysis sees of interventions: ``rows``: name -> rows."""
    relations = relations or {}
    interventions = {
        name: Intervention.model_validate({"edit": {"set": 0, "neurons": "L0.N1"}, "measure": list(measure)})
        for name in rows
    }
    asked = dict.fromkeys(r.asked.relation for listed in rows.values() for r in listed)
    named = {
        name: Relation.model_validate({"prompt": "{{ entity }}", "answers": relations.get(name, {})})
        for name in (*asked, *relations)
    }
    made = experiment(entities).model_copy(update={"relations": named, "interventions": interventions})
    done = {
        name: InterventionResult(
            name=name,
            title="zero ablation",
            edits=[],
            owners=list(dict.fromkeys(r.asked.edited for r in listed)),
            neurons={},
            axes={},
            measures=list(measure),
            ask=["facts"],
            n_asked=1,
            n_known=1,
            summaries=[],
        )
        for name, listed in rows.items()
    }
    results = RESULTS.model_copy(update={"interventions": done, "left_out": []})
    return Findings(made, results, {}, rows)
