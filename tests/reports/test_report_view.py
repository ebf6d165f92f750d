"""What the report picks from the results."""

from __future__ import annotations

import pytest
import synthetic_results

from reports import view
from reports.curves import key_values, owners, panels, relations
from specs.language.results import EVERYBODY, InterventionResult, Results, Summary


def _summary(**fields: object) -> Summary:
    base: dict[str, object] = {
        "edited": "a",
        "condition": "edit",
        "role": "target",
        "measure": "knowledge_score",
        "n": 3,
        "mean": 0.5,
    }
    return Summary.model_validate(base | fields)


def _intervention(axes: dict[str, list[float | str]], summaries: list[Summary]) -> InterventionResult:
    return InterventionResult(
        name="x",
        title="",
        edits=[],
        owners=["a", "b"],
        neurons={},
        axes=axes,
        measures=["knowledge_score", "text@12"],
        ask=[],
        n_asked=0,
        n_known=0,
        summaries=summaries,
    )


def test_the_headline_is_the_first_owner_at_minus_one_and_at_the_end() -> None:
    """The figures at the top are those of the document, with both placebos beside them."""
    whole = synthetic_results.results()
    head = view.headline(whole)
    assert head is not None and head.label == "Donald Trump" and head.measure == "knowledge_score"
    assert [effect.x for effect in head.effects] == [-1.0, -3.0]
    last = head.effects[-1]
    wanted = {
        (s.condition, s.role): s
        for s in whole.interventions["amnesia"].summaries
        if (s.edited, s.measure, s.relation, s.axes) == ("trump", "knowledge_score", None, {"scale": -3.0})
    }
    assert last.target is not None and last.target.mean == wanted["edit", "target"].mean
    assert last.others is not None and last.others.mean == wanted["edit", "others"].mean
    assert last.wrong_cell is not None and last.wrong_cell.mean == wanted["wrong_cell", "target"].mean
    draws = wanted["random_neurons", "target"].draws
    assert last.random_neurons is not None
    assert last.random_neurons.placebo == (min(draws), max(draws))


def test_a_partial_run_shows_the_last_value_it_came_to() -> None:
    """A sweep that stopped at 0 has its headline there, and none at values that were never run."""
    head = view.headline(synthetic_results.partial())
    assert head is not None
    assert [effect.x for effect in head.effects] == [0.0]


def test_nothing_gives_no_headline() -> None:
    """A run without rankings and interventions has none."""
    assert view.headline(synthetic_results.empty()) is None


def test_the_swept_intervention_comes_before_an_injection() -> None:
    """The headline is the sweep of ``scale``, wherever it stands in the spec."""
    whole = synthetic_results.results()
    names = ("injection", "silence", "amnesia")
    turned = whole.model_copy(update={"interventions": {n: whole.interventions[n] for n in names}})
    head = view.headline(turned)
    assert head is not None and head.intervention is not None and head.intervention.name == "amnesia"


def test_a_name_is_taken_from_the_ranking() -> None:
    """An owner is called as in the prompts, a variant as it is written, and an unranked one by its key."""
    whole = synthetic_results.results()
    assert view.label(whole, "obama") == "Barack Obama"
    assert view.label(whole, "trump/korean") == "트럼프"
    assert view.label(whole, EVERYBODY) == "all owners"
    assert view.label(whole, "nobody") == "nobody"


def test_another_spelling_of_the_same_entity_is_no_reason_for_doubt() -> None:
    """A shared winner counts against a cell only when it wins for somebody else."""
    ranking = synthetic_results.results().rankings["cell"]
    trump, obama = ranking.groups["trump"], ranking.groups["obama"]
    surname = trump.model_copy(update={"key": "trump/surname", "variant": "surname"})
    address = trump.neurons[0].address
    shared = ranking.model_copy(
        update={
            "groups": {"trump": trump, "trump/surname": surname, "obama": obama},
            "shared_winners": {address: ["trump", "trump/surname", "obama"]},
        }
    )
    assert view.winner(shared, trump).shared_with == ("obama",)
    assert view.winner(shared, surname).shared_with == ("obama",)


@pytest.mark.parametrize(
    ("dominance", "verdict", "stands_out"),
    [
        (None, "no dominance", None),
        (1.1, "none stands out", False),
        (2.0, "stands out weakly", True),
        (12.0, "stands out", True),
    ],
)
def test_the_verdict_follows_the_dominance(dominance: float | None, verdict: str, stands_out: bool | None) -> None:
    """Below 2 none stands out, up to 10 one does so weakly, and without a dominance there is no verdict."""
    ranking = synthetic_results.results().rankings["cell"]
    group = ranking.groups["trump"]
    neuron = group.neurons[0].model_copy(update={"dominance": dominance})
    best = view.winner(ranking, group.model_copy(update={"neurons": [neuron]}))
    assert (best.verdict, best.stands_out) == (verdict, stands_out)


def test_owners_are_listed_as_they_were_edited() -> None:
    """Rankings follow the order of the interventions, an entity's own name before its variants."""
    whole = synthetic_results.results()
    cell, forms = whole.rankings["cell"], whole.rankings["forms"]
    mixed = {**forms.groups, **dict(reversed(cell.groups.items()))}
    ranking = cell.model_copy(update={"groups": mixed})
    assert [group.key for group in view.ordered(whole, ranking)] == [
        "trump",
        "trump/surname",
        "trump/typo",
        "trump/korean",
        "obama",
        "merkel",
        "einstein",
    ]


def test_the_bar_of_the_dominance_runs_by_logarithm() -> None:
    """1 is its left end, 10 its middle, 100 and more its right end."""
    assert view.meter(None) is None
    assert [view.meter(d) for d in (0.5, 1.0, 10.0, 100.0, 1e6)] == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_a_warning_is_kept_once_and_with_its_place() -> None:
    """The same sentence from the run and from a ranking is one warning."""
    whole = synthetic_results.results()
    ranking = whole.rankings["cell"].model_copy(update={"warnings": ["alike", "other"]})
    twice = whole.model_copy(update={"warnings": ["alike"], "rankings": {"cell": ranking}, "interventions": {}})
    assert [(w.text, w.where) for w in view.warnings(twice)] == [("alike", "cell"), ("other", "cell")]


def test_a_second_sweep_makes_a_chart_for_each_of_its_values() -> None:
    """The longest sweep lies along x; each combination of the others is a panel, and an empty one is none."""
    result = _intervention(
        {"top": [1.0, 10.0], "scale": [1.0, 0.0, -1.0]},
        [
            _summary(axes={"top": 1.0, "scale": 0.0}),
            _summary(axes={"top": 1.0, "scale": 1.0}),
            _summary(axes={"top": 10.0, "scale": 1.0}, mean=None),
            _summary(condition="clean", axes={}),
        ],
    )
    found = panels(result, "knowledge_score", "a")
    assert [p.fixed for p in found] == [{"top": 1.0}, {"top": 10.0}]
    edit = found[0].curve("edit", "target")
    assert edit is not None and [point.x for point in edit.points] == [1.0, 0.0]
    assert found[1].curve("clean", "target") is not None
    assert panels(result, "knowledge_score", "b") == []


def test_the_mean_over_owners_comes_last_and_only_with_several() -> None:
    """``*`` is a panel of its own behind the owners, and nothing when there is one owner."""
    two = [_summary(edited=e, axes={"scale": 0.0}) for e in ("*", "b", "a")]
    assert owners(_intervention({"scale": [0.0]}, two)) == ["a", "b", "*"]
    one = [s for s in two if s.edited != "b"]
    assert owners(_intervention({"scale": [0.0]}, one)) == ["a"]


def test_relations_keep_their_order() -> None:
    """Relations come as they first appear, and figures over all relations are none."""
    summaries = [_summary(relation=r) for r in ("wife", None, "age", "wife")]
    assert relations(_intervention({}, summaries)) == ["wife", "age"]


def test_a_narrow_table_shows_named_values_and_the_last() -> None:
    """Of 21 factors the named ones are shown; of other sweeps some, with both ends; of few all."""
    factors: list[float | str] = list(synthetic_results.FACTORS)
    assert key_values(_intervention({"scale": factors}, [])) == [1.0, 0.0, -1.0, -2.0, -3.0]
    many: list[float | str] = [float(i) for i in range(30)]
    shown = key_values(_intervention({"top": many}, []))
    assert shown[0] == 0.0 and shown[-1] == 29.0 and len(shown) == 6
    assert key_values(_intervention({"set": ["own_mean", 0.0]}, [])) == ["own_mean", 0.0]
    assert key_values(_intervention({}, [])) == []


def test_results_survive_their_own_document() -> None:
    """What the factory makes is a valid document, so that the tests above speak of real ones."""
    whole = synthetic_results.results()
    assert Results.model_validate_json(whole.model_dump_json()) == whole
