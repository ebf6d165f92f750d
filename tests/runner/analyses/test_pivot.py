from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.analyse import analyse
from runner.analyses import ANALYSES, Findings
from runner.observe import Asked, Observation, Row
from specs.language.errors import RunError
from specs.language.experiment import Analysis, Relation
from specs.language.results import InterventionResult
from tests.runner.analyses.conftest import experiment, make

pivot_module = sys.modules["runner.analyses.pivot"]
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
        columns=ENTITIES.get(entity, {}),
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


# -- drops, where owners are relations


RELATIONS = ("mother", "father")


def asked_of(edited, relation, n, value, condition="edit", draw=0, **columns):
    """One question under one condition; n numbers the questions of a relation."""
    asked = Asked(
        intervention="ablation",
        edited=edited,
        condition=condition,
        draw=draw,
        role="target" if edited == relation else "others",
        axes={},
        prompt_id=RELATIONS.index(relation) * 100 + n,
        prompt=f"{relation} of {n}",
        entity=f"person{n}",
        relation=relation,
        columns=columns,
    )
    return Row(asked, Observation(), known=None, values={"accuracy@2": value})


def runs(hits):
    """Rows of ``{(edited, relation): [(clean, edited), ...]}``."""
    rows = []
    for (edited, relation), pairs in hits.items():
        for n, (clean, value) in enumerate(pairs):
            state = "Texas" if n % 2 else "Ohio"
            rows.append(asked_of(edited, relation, n, clean, "clean", state=state))
            rows.append(asked_of(edited, relation, n, value, state=state))
    return rows


def drops(hits, rows="asked", columns="edited", more=()):
    done = InterventionResult(
        name="ablation",
        title="zero ablation",
        edits=[],
        owners=list(RELATIONS),
        neurons={},
        axes={},
        measures=["accuracy@2"],
        ask=["facts"],
        n_asked=1,
        n_known=1,
        summaries=[],
    )
    relations = {name: {"prompt": "{{ entity }}", "answers": {}} for name in RELATIONS}
    made = experiment({"a": {}}).model_copy(
        update={"relations": {n: Relation.model_validate(r) for n, r in relations.items()}}
    )
    results = RESULTS.model_copy(update={"interventions": {"ablation": done}, "left_out": []})
    found = Findings(made, results, {}, {"ablation": [*runs(hits), *more]})
    spec = Analysis(pivot="ablation", rows=rows, columns=columns, value="accuracy_drop@2")
    return found, ANALYSES["pivot"]("drops", spec, found)


HITS = {
    ("mother", "mother"): [(1, 0), (1, 0), (1, 1), (0, 0)],  # clean 3/4, edited 1/4: drop 2/3
    ("mother", "father"): [(1, 1), (1, 1), (0, 1), (1, 0)],  # 3/4 and 3/4: none
    ("father", "mother"): [(1, 0), (1, 1), (1, 1), (0, 1)],  # 3/4 and 3/4
    ("father", "father"): [(1, 0), (1, 0), (0, 0), (1, 0)],  # 3/4 and 0: all
}


def test_a_drop_is_that_of_the_means_of_the_relation_asked_and_the_relation_edited():
    _, result = drops(HITS)
    assert result.columns == ["asked \\ edited", "mother", "father"]
    assert result.rows == [["mother", pytest.approx(2 / 3), 0.0], ["father", 0.0, 1.0]]
    cell = next(c for c in result.cells if (c.row, c.column) == ("mother", "mother"))
    assert (cell.n, cell.clean, cell.edited) == (4, 0.75, 0.25)
    assert cell.low is not None and cell.low <= 2 / 3 <= cell.high <= 1
    assert result.figures["same"] == pytest.approx(5 / 6) and result.figures["different"] == 0
    assert result.sentence.startswith("accuracy_drop@2 is 0.833 on average where what is asked is what is edited (2 ")


def test_other_columns_pair_each_question_with_its_clean_run():
    _, result = drops(HITS, rows="edited", columns="state")
    # Of mother's edit, in Ohio: clean 1, 1, 1, 0, edited 0, 1, 1, 1; in Texas: clean 1, 0, 1, 1, edited 0, 0, 1, 0.
    assert result.columns[1:] == ["Ohio", "Texas"]
    assert result.rows[0] == ["mother", 0.0, pytest.approx(2 / 3)]


def test_a_drop_from_nothing_is_undefined_and_said_to_be():
    hits = HITS | {("mother", "father"): [(0, 0), (0, 1), (0, 0), (0, 0)]}
    found, result = drops(hits)
    assert result.rows[1] == ["father", None, 1.0]
    assert "father/mother" not in result.figures
    cell = next(c for c in result.cells if (c.row, c.column) == ("father", "mother"))
    assert cell.value is None and "answers none of its 4 questions" in cell.reason
    assert [item.what for item in found.left_out] == ["father/mother"]


def test_draws_of_one_question_are_averaged_before_questions_are():
    more = [asked_of("mother", "mother", n, v, "random_neurons", d) for n in (0, 1) for d, v in enumerate((1, 0))]
    _, result = drops(HITS, rows="condition", columns="relation", more=more)
    random = next(row for row in result.rows if row[0] == "random_neurons")
    assert random[1] == pytest.approx(0.5)  # of two questions, each right in one draw of two; clean both right
    clean = next(row for row in result.rows if row[0] == "clean")
    assert clean[1:] == [0.0, 0.0]


bits = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=12)


@given(bits)
@settings(max_examples=40, deadline=None)
def test_a_drop_is_one_minus_what_is_left_and_its_interval_holds_possible_drops(pairs):
    clean, edited = (sum(column) for column in zip(*pairs, strict=True))
    units = {("p", "r", n): [(float(e), float(c))] for n, (c, e) in enumerate(pairs)}
    cell = pivot_module._figure(("a", "b"), units, 0, drop=True)
    if clean == 0:
        assert cell.value is None and cell.reason
        return
    assert cell.value == pytest.approx(1 - edited / clean)
    if cell.low is not None:
        assert cell.low <= cell.high <= 1
        alike = {(c, e) for c, e in pairs}
        if alike <= {(0, 0), (1, 1)}:
            assert cell.low == cell.high == 0
        if alike <= {(0, 0), (1, 0)}:
            assert cell.low == cell.high == 1
