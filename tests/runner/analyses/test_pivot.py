from __future__ import annotations

import pytest

from runner.analyse import analyse
from runner.analyses import ANALYSES, Findings
from runner.observe import Asked, Observation, Row
from specs.language.errors import RunError
from specs.language.experiment import Analysis
from tests.runner.analyses.conftest import experiment, make

RESULTS = make({"trump": {"L0.N1": 1.0}})[0].results
ENTITIES = {"trump": {"party": "R"}, "obama": {"party": "D"}}


def row(edited, entity, value, condition="edit", scale=-1.0, known=True, role=None):
    asked = Asked(
        intervention="amnesia",
        edited=edited,
        condition=condition,
        draw=0,
        role=role or ("target" if edited == entity else "others"),
        axes={"scale": scale},
        prompt_id=0,
        prompt="?",
        entity=entity,
        relation="wife",
    )
    return Row(asked, Observation(), known=known, values={"knowledge_score": value})


ROWS = [
    row("trump", "trump", 0.2),
    row("trump", "trump", 0.4, scale=-3.0),
    row("trump", "obama", 1.0),
    row("obama", "obama", 0.1),
    row("obama", "trump", 0.9),
    row("obama", "trump", None),
    row("obama", "obama", 0.0, known=False),
    row("trump", "trump", 1.0, condition="random_neurons"),
    row("trump", "trump", 5.0, role="unknown"),
]


def pivot(rows, columns, of="amnesia"):
    found = Findings(experiment(ENTITIES), RESULTS, {}, {"amnesia": ROWS})
    spec = Analysis(pivot=of, rows=rows, columns=columns, value="knowledge_score")
    return found, ANALYSES["pivot"]("p", spec, found)


def test_a_cell_is_the_mean_over_its_known_questions_under_the_edit():
    _, result = pivot("edited", "entity")
    assert result.columns == ["edited \\ entity", "trump", "obama"]
    assert result.rows == [["trump", pytest.approx(0.3), 1.0], ["obama", 0.9, 0.1]]
    assert result.figures["trump/obama"] == 1.0 and result.figures["obama/obama"] == 0.1
    assert result.sentence == (
        "knowledge_score over 5 rows: lowest at obama and obama (0.1), highest at trump and obama (1)."
    )


def test_sweeps_conditions_roles_and_attributes_are_columns_too():
    assert pivot("scale", "edited")[1].rows == [["-3", 0.4, None], ["-1", pytest.approx(0.6), pytest.approx(0.5)]]
    assert pivot("condition", "edited")[1].rows == [
        ["edit", pytest.approx(1.6 / 3), 0.5],
        ["random_neurons", 1.0, None],
    ]
    assert [line[0] for line in pivot("role", "edited")[1].rows] == ["target", "others", "unknown"]
    assert pivot("edited", "party")[1].columns[1:] == ["R", "D"]


def test_rows_without_a_value_of_the_column_are_left_out_and_counted():
    with pytest.raises(RunError, match="no row of 'amnesia' has"):
        pivot("edited", "variant")


def test_an_intervention_that_was_not_done_has_no_rows():
    with pytest.raises(RunError, match="'injection' was not done"):
        pivot("edited", "entity", of="injection")


def test_an_analysis_without_material_says_so_and_costs_no_other() -> None:
    spec = Analysis(pivot="amnesia", rows="edited", columns="asked", value="knowledge_score")
    made = experiment().model_copy(update={"analyses": {"empty": spec}})
    found = Findings(made, RESULTS.model_copy(update={"left_out": []}), {}, {"amnesia": []})
    result = analyse(found)["empty"]
    assert result.rows == [] and result.figures == {} and "no row of 'amnesia'" in result.sentence
    assert [item.where for item in found.results.left_out] == ["analyses.empty"]
