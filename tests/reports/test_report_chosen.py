"""The section of chosen neurons: who passed, who failed where, and what chance lets through."""

from __future__ import annotations

from collections.abc import Callable

import synthetic_results
from page import Page

from reports.sections import chosen
from specs.language.results import SetPlacebo

Read = Callable[[str], Page]


def view(**changes: object) -> chosen.ChosenView:
    whole = synthetic_results.chosen()
    record = synthetic_results.verified().model_copy(update=changes)
    section = chosen.build(whole.model_copy(update={"neurons": {"verified": record}}))
    assert section is not None
    (found,) = section.content["sets"]
    return found  # type: ignore[no-any-return]


def test_without_a_filter_there_is_no_such_section(read: Read) -> None:
    assert chosen.build(synthetic_results.results()) is None
    assert "Neurons chosen" in [e.text for e in read("chosen").all("h2")]


def test_the_sentence_has_both_rates() -> None:
    assert view().sentence == (
        "2 of 4 owners have a neuron that meets all conditions; with random neurons of the same layers in their "
        "place, 0.2 (from 0 to 1 in 5 draws)."
    )


def test_what_passed_is_listed_with_its_figures() -> None:
    table = view().chosen
    assert table is not None
    rows = [[cell.text for cell in row] for row in table.rows]
    assert [row[:2] for row in rows] == [["Donald Trump", "L1.N101"], ["Barack Obama", "L2.N102"]]
    heads = [(column.name, column.note) for column in table.columns]
    assert heads[5:7] == [("knowledge loss clipped", ">= 0.1"), ("knowledge loss clipped, others", "<= 0.05")]
    assert rows[0][5:] == ["0.620", "0.010", "passed"]


def test_who_has_none_is_listed_with_the_condition_the_best_candidate_failed() -> None:
    table = view().failures
    assert table is not None
    rows = [[cell.text for cell in row] for row in table.rows]
    assert rows == [
        ["Angela Merkel", "L1.N101", "2 of 3", "verify/knowledge_loss_clipped >= 0.1", "0.030", ">= 0.1"],
        ["Albert Einstein", "L1.N101", "3 of 3", "verify/others/knowledge_loss_clipped <= 0.05", "0.400", "<= 0.05"],
    ]


def test_the_funnel_counts_owners_and_chance_beside_them() -> None:
    table = view().funnel.table
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["candidates", "4", "8", "4"],
        ["dominance >= 10", "4", "7", "4"],
        ["verify/knowledge_loss_clipped >= 0.1", "3", "5", "0.6"],
        ["verify/others/knowledge_loss_clipped <= 0.05", "2", "3", "0.2"],
    ]


def test_a_filter_without_a_placebo_says_why() -> None:
    found = view(placebo=SetPlacebo(intervention="verify", reason="verify draws no random neurons"))
    assert found.placebo_note == "No placebo: verify draws no random neurons."
    assert "random neurons" not in found.sentence and "Diamonds" not in found.funnel.note
    assert view(placebo=None).placebo_note == ""


def test_where_nobody_passes_the_page_says_so(read: Read) -> None:
    text = read("chosen").text
    assert "No neuron passed." in text
    assert "no neuron passed, for any owner: nothing is edited" in text
