"""Results whose owners are groups of questions (relations, concepts) and not names, read all together."""

from __future__ import annotations

from dataclasses import dataclass

from specs.language.results import EVERYBODY, InterventionResult, Ranking, Results, Summary

__all__ = ["Together", "ranking_of_groups", "together"]

MEASURES = ("accuracy", "pass", "answer_probability", "relative_probability", "knowledge_score")
"""What an effect is told by, the first that was taken."""


@dataclass(frozen=True)
class Together:
    """What editing the neurons of each group did to its own questions, to others and to nothing but chance."""

    measure: str
    axes: dict[str, float | str]
    """Where the sweeps of several values are read."""
    base: float
    """Without the edit, mean over groups."""
    own: Summary
    others: Summary | None
    others_base: float | None
    random: tuple[float, ...]
    """Mean over groups of each draw of random neurons."""
    n: int
    """Groups with a figure."""
    beyond_random: int | None
    """Groups that lose more to their own neurons than to any draw of random ones; None without draws."""
    beyond_others: int | None
    """Groups whose questions lose more than those of the others do under the same edit."""
    sizes: tuple[int, ...]
    """Neurons edited, of each group."""

    @property
    def loss(self) -> float:
        """The share of the clean value that the edit takes away."""
        assert self.own.mean is not None
        return (self.base - self.own.mean) / self.base if self.base else 0.0

    @property
    def others_loss(self) -> float | None:
        """The same of the other groups' questions."""
        if self.others is None or self.others.mean is None or not self.others_base:
            return None
        return (self.others_base - self.others.mean) / self.others_base

    @property
    def random_loss(self) -> float | None:
        """The largest loss to a draw of random neurons."""
        return (self.base - min(self.random)) / self.base if self.random and self.base else None


def ranking_of_groups(results: Results, done: InterventionResult | None) -> Ranking | None:
    """Give the ranking of an intervention's owners, if those are several groups of questions and no names."""
    if done is None or len(done.owners) < 2 or done.placeholder:
        return None
    for ranking in results.rankings.values():
        groups = [ranking.groups[owner] for owner in done.owners if owner in ranking.groups]
        if len(groups) == len(done.owners) and ranking.unit == "neuron" and all(g.entity is None for g in groups):
            return ranking
    return None


def together(done: InterventionResult) -> Together | None:
    """Read what an edit did to its groups, by the first measure that has figures, at the first point of its sweeps.

    A sweep over cuts is read at its first value and another one at its last; None where there is no figure.
    """
    point = {
        axis: values[-1] if axis.startswith(("scale", "set", "times")) else values[0]
        for axis, values in done.axes.items()
    }
    for word in MEASURES:
        for measure in done.measures:
            if measure.partition("@")[0] != word:
                continue
            own = _at(done, EVERYBODY, "edit", "target", measure, point)
            clean = _at(done, EVERYBODY, "clean", "target", measure, {})
            if own is None or own.mean is None or clean is None or clean.mean is None:
                continue
            others = _at(done, EVERYBODY, "edit", "others", measure, point)
            others_clean = _at(done, EVERYBODY, "clean", "others", measure, {})
            random = _at(done, EVERYBODY, "random_neurons", "target", measure, point)
            counted = [c for owner in done.owners if (c := _counted(done, owner, measure, point)) is not None]
            beyond_random = [c[0] for c in counted if c[0] is not None]
            beyond_others = [c[1] for c in counted if c[1] is not None]
            return Together(
                measure=measure,
                axes={axis: value for axis, value in point.items() if len(done.axes[axis]) > 1},
                base=clean.mean,
                own=own,
                others=others if others is not None and others.mean is not None else None,
                others_base=None if others_clean is None else others_clean.mean,
                random=() if random is None or random.mean is None else tuple(random.draws or [random.mean]),
                n=len(counted),
                beyond_random=sum(beyond_random) if beyond_random else None,
                beyond_others=sum(beyond_others) if beyond_others else None,
                sizes=tuple(done.size(owner) for owner in done.owners),
            )
    return None


def _counted(
    done: InterventionResult, owner: str, measure: str, point: dict[str, float | str]
) -> tuple[bool | None, bool | None] | None:
    """Say of one group whether it loses more than to any random draw, and more than the others do; None: no figure."""
    own, clean = _at(done, owner, "edit", "target", measure, point), _at(done, owner, "clean", "target", measure, {})
    if own is None or own.mean is None or clean is None or clean.mean is None:
        return None
    random = _at(done, owner, "random_neurons", "target", measure, point)
    draws = () if random is None or random.mean is None else tuple(random.draws or [random.mean])
    beyond_random = own.mean < min(draws) if draws else None
    others = _at(done, owner, "edit", "others", measure, point)
    others_clean = _at(done, owner, "clean", "others", measure, {})
    beyond_others = None
    if others is not None and others.mean is not None and others_clean is not None and others_clean.mean and clean.mean:
        lost = (others_clean.mean - others.mean) / others_clean.mean
        beyond_others = (clean.mean - own.mean) / clean.mean > lost
    return beyond_random, beyond_others


def _at(
    done: InterventionResult, owner: str, condition: str, role: str, measure: str, point: dict[str, float | str]
) -> Summary | None:
    for s in done.summaries:
        here = (s.edited, s.condition, s.role, s.measure, s.relation)
        if here == (owner, condition, role, measure, None) and s.axes == point:
            return s
    return None
