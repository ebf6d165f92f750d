"""The result document without the long lists: of a set of thousands of neurons its best are listed, and its size."""

from __future__ import annotations

from specs.language.results import InterventionResult, OwnerChoice, RankingGroup, Results

__all__ = ["MOST_LISTED", "shortened"]

MOST_LISTED = 200
"""Addresses of one set that the document lists; the whole set lies in ``neurons/`` and the ranking in ``rankings/``."""


def shortened(results: Results) -> Results:
    """Give the document as it is written: lists of more addresses are cut to the first, and say how many there are."""
    return results.model_copy(
        update={
            "rankings": {
                name: ranking.model_copy(update={"groups": {key: _group(g) for key, g in ranking.groups.items()}})
                for name, ranking in results.rankings.items()
            },
            "neurons": {
                name: chosen.model_copy(update={"owners": {o: _choice(c) for o, c in chosen.owners.items()}})
                for name, chosen in results.neurons.items()
            },
            "interventions": {name: _done(done) for name, done in results.interventions.items()},
        }
    )


def _group(group: RankingGroup) -> RankingGroup:
    if len(group.chosen) <= MOST_LISTED:
        return group
    return group.model_copy(update={"chosen": group.chosen[:MOST_LISTED], "n_chosen": group.size})


def _choice(choice: OwnerChoice) -> OwnerChoice:
    if len(choice.neurons) <= MOST_LISTED:
        return choice
    return choice.model_copy(update={"neurons": choice.neurons[:MOST_LISTED], "n_neurons": choice.size})


def _done(done: InterventionResult) -> InterventionResult:
    long = {owner: done.size(owner) for owner, found in done.neurons.items() if len(found) > MOST_LISTED}
    if not long:
        return done
    return done.model_copy(
        update={
            "neurons": {owner: found[:MOST_LISTED] for owner, found in done.neurons.items()},
            "n_neurons": {**done.n_neurons, **long},
            "random_neurons": {
                owner: [draw[:MOST_LISTED] for draw in draws] for owner, draws in done.random_neurons.items()
            },
        }
    )
