"""The answer where neurons belong to groups of questions (relations, concepts) and not to names."""

from __future__ import annotations

import math
from collections.abc import Sequence

from specs.language.groups import Together, together
from specs.language.results import InterventionResult, Ranking

__all__ = ["COMPARABLE", "SMALL", "of_groups"]

COMPARABLE = 0.5
"""Share of an effect from which on another one is as large."""
SMALL = 0.05
"""Share of the clean value below which nothing is called an effect."""


def of_groups(done: InterventionResult, ranking: Ranking) -> str | None:
    """Say what editing the neurons of each group does to its own questions, beside others and random neurons.

    Nothing is called an effect below 5 percent of the clean value or where the interval holds that value; it is not
    specific where the others lose at least half as much, and no more than a placebo where random neurons do.
    """
    found = together(done)
    if found is None:
        return None
    noun = ranking.by[0] if ranking.by else "group"
    measure = found.measure if "@" in found.measure else found.measure.replace("_", " ")
    low, high = found.own.low, found.own.high
    interval = f" [{_number(low)}, {_number(high)}]" if low is not None and high is not None else ""
    how = f"{done.title} of the {_sizes(found.sizes)} of each {noun}{_where(found.axes)}"
    rests = f"(mean of {found.n} {noun}s, {found.own.n} questions)"
    own = f"{_number(found.own.mean)}{interval}"
    random = _random(found.random)
    if found.base == 0:
        return (
            f"the clean model has {measure} 0 on the {found.own.n} questions of its {found.n} {noun}s, "
            f"so nothing can be lost to {how[0].lower()}{how[1:]}"
        )
    unsure = low is not None and high is not None and low <= found.base <= high
    if unsure or abs(found.loss) < SMALL:
        text = f"{how} leaves {measure} of its own questions at {own} {rests}, against {_number(found.base)} without"
        return f"{text} ({random})" if random else text
    text = f"{how} takes {measure} of its own questions from {_number(found.base)} to {own} {rests}"
    if found.others is not None and found.others_base is not None:
        text += f", that of the other {noun}s from {_number(found.others_base)} to {_number(found.others.mean)}"
    text += f"; {random}" if random else "; no random neurons were tried"
    return f"{text}; {_verdict(found, noun)}"


def _verdict(found: Together, noun: str) -> str:
    """Judge the effect over all groups, and count the groups that it holds for."""
    if found.loss < 0:
        return "it rises, and nothing is lost"
    counts = []
    if found.beyond_random is not None:
        counts.append(f"{found.beyond_random} of {found.n} {noun}s lose more than to any random set")
    if found.beyond_others is not None:
        counts.append(f"{found.beyond_others} of {found.n} more than the others do")
    counted = " and ".join(counts)
    if found.random_loss is not None and found.random_loss >= COMPARABLE * found.loss:
        return f"so the loss is no more than a placebo's ({counted})"
    if found.others_loss is not None and found.others_loss >= COMPARABLE * found.loss:
        return f"as the others lose at least half as much, the effect is not specific ({counted})"
    return counted or "nothing was asked to compare it with"


def _sizes(sizes: Sequence[int]) -> str:
    if len(set(sizes)) == 1:
        return f"{sizes[0]:,} neurons" if sizes[0] != 1 else "one neuron"
    return f"{min(sizes):,} to {max(sizes):,} neurons"


def _where(axes: dict[str, float | str]) -> str:
    shown = [f"{axis} {value if isinstance(value, str) else format(value, 'g')}" for axis, value in axes.items()]
    return f" ({', '.join(shown)})" if shown else ""


def _random(draws: Sequence[float]) -> str:
    if not draws:
        return ""
    low, high = _number(min(draws)), _number(max(draws))
    which = "one random set of as many neurons" if len(draws) == 1 else f"{len(draws)} random sets of as many neurons"
    return f"{which} {'leaves' if len(draws) == 1 else 'leave'} it at {low if low == high else f'{low} to {high}'}"


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "no value"
    text = f"{value:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text
