"""What is written of a result lists the first neurons of a large set, and how many there are."""

from __future__ import annotations

from specs.language.results import Results
from specs.language.shortened import MOST_LISTED, shortened
from tests.reports.synthetic_results import results


def test_short_lists_stay_as_they_are() -> None:
    whole = results()
    assert shortened(whole) == whole


def test_long_lists_are_cut_and_counted() -> None:
    whole = results()
    many = [f"L0.N{n}" for n in range(3000)]
    ranking = next(r for r in whole.rankings.values() if r.unit == "neuron")
    owner, group = next(iter(ranking.groups.items()))
    group.chosen = list(many)
    done = next(iter(whole.interventions.values()))
    edited = done.owners[0]
    done.neurons[edited], done.random_neurons[edited] = list(many), [list(many), list(many)]
    cut = shortened(whole)
    written = cut.rankings[ranking.name].groups[owner]
    assert written.chosen == many[:MOST_LISTED] and written.size == 3000
    assert cut.interventions[done.name].neurons[edited] == many[:MOST_LISTED]
    assert cut.interventions[done.name].size(edited) == 3000
    assert [len(draw) for draw in cut.interventions[done.name].random_neurons[edited]] == [MOST_LISTED] * 2
    assert group.size == done.size(edited) == len(group.chosen) == 3000  # in memory nothing is cut
    again = Results.model_validate_json(cut.model_dump_json())
    assert again == cut and shortened(again) == cut
