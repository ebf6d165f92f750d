"""The answer in one sentence: what was found, or that nothing was, with the numbers that say so.

The wording follows from the figures by fixed rules, so that two runs with like figures are described
alike:

- A winner of dominance below 2 does not stand out; below 10, the published filter, it does so weakly. - A
sweep is described at its strongest value (the factor furthest from 1), which the spec chose before the
run, and not at the value with the largest effect. - An effect counts as none when it is under 5 percent
of the clean value or the interval holds the clean value; as unspecific when others have at least half of
it; as no more than a placebo when a control has at least half of it. - Where a value is picked after the
fact (the best multiple of an injection) the sentence says "at best", and the controls have their best
too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from runner.sentence_of_groups import COMPARABLE, SMALL, of_groups
from runner.summaries import other_forms
from specs.language.groups import ranking_of_groups
from specs.language.results import (
    EVERYBODY,
    MANY,
    STANDS_OUT,
    Effect,
    InterventionResult,
    NeuronSetResult,
    PrecisionFigures,
    Ranking,
    RankingGroup,
    Results,
    Summary,
)
from specs.language.results import TRUSTED as CLEARLY
from specs.language.words import ConditionName, Role

__all__ = ["answer", "effects"]

SILENCING = (
    "knowledge_score",
    "relative_probability",
    "knowledge_loss",
    "knowledge_loss_clipped",
    "answer_probability",
    "accuracy",
    "pass",
)
"""Measures that describe a loss, the first one that was taken."""
BOUNDED = ("knowledge_loss_clipped", "accuracy", "pass", "answer_probability", *SILENCING)
"""Measures that describe the loss of many owners: of a ratio, one question that became likelier makes the mean."""
INJECTING = ("pass", "accuracy", "answer_probability", "relative_probability", "knowledge_score")
"""Measures that describe a gain, the first one that was taken."""
LOSSES = ("knowledge_loss", "knowledge_loss_clipped")

Verdict = Literal["none", "raised", "unspecific", "placebo", "single", "specific"]
Point = Mapping[str, float | str]


def answer(results: Results) -> str:
    """Say in one sentence what the run found about its first owner, and for how many others it holds.

    Of more owners than anybody reads one by one it speaks of all together.
    """
    # What candidates were tried with speaks where nothing was done to those that passed.
    tried = {name for chosen in results.neurons.values() for name in chosen.interventions}
    done = sorted((i for i in results.interventions.values() if i.owners), key=lambda i: i.name in tried)
    silencing = next((i for i in done if not i.placeholder), None)
    injection = next((i for i in done if i.placeholder), None)
    main = silencing or injection
    groups = ranking_of_groups(results, main)
    said = of_groups(main, groups) if main is not None and groups is not None else None
    if main is not None and said is not None:
        return _sentence([said, *(_on_texts(main, EVERYBODY))])
    many = _many(results, main)
    if many is not None:
        return _sentence(_of_many(results, many, silencing, injection))
    group = _first_group(results, main)
    owner = main.owners[0] if main else group.key if group else None
    if owner is None:
        return "Nothing was ranked and nothing was edited, so there is nothing to say."
    parts = [_cell(results, group)] if group else []
    parts += [_chosen(chosen) for chosen in results.neurons.values() if chosen.conditions]
    if silencing:
        parts.append(_silencing(results, silencing, owner, group))
        parts += _others_with_an_effect(results, silencing, owner) if silencing.n_asked else []
        parts += _on_texts(silencing, owner) if silencing.n_asked else []
    if injection and owner in injection.owners:
        parts.append(_injection(results, injection, owner, group))
    if main is None:
        parts.append("nothing was done to it")
    return _sentence(parts)


def _sentence(parts: Iterable[str]) -> str:
    text = "; ".join(dict.fromkeys(parts))
    return text[0].upper() + text[1:] + "."


def effects(results: Results) -> list[Effect]:
    """Say of every intervention and owner in one record what was done and how it compares with its controls.

    Of an edit at a placeholder the value of the sweep is the one with the highest mean, else the strongest. Owners
    without a figure have no record. What would be specific is nobody's own where the neuron ranks first for somebody
    else too.
    """
    found = []
    shared = _sharing(results)
    for done in results.interventions.values():
        for owner in done.owners:
            record = _gain(results, done, owner) if done.placeholder else _loss_record(results, done, owner)
            if record is not None:
                nobodys = record.verdict == "specific" and owner in shared
                found.append(record.model_copy(update={"verdict": "shared"}) if nobodys else record)
    return found


def _sharing(results: Results) -> frozenset[str]:
    """Give the owners whose best neuron ranks first for another one, too, in some ranking of the run."""
    return frozenset[str]().union(*(ranking.sharing() for ranking in results.rankings.values()))


def _loss_record(results: Results, done: InterventionResult, owner: str) -> Effect | None:
    effect = _effect(done, owner)
    if effect is None:
        return None
    return Effect(
        intervention=done.name,
        edited=owner,
        label=_label(results, owner),
        neurons=done.neurons.get(owner, []),
        n_neurons=done.n_neurons.get(owner, 0),
        measure=effect.measure,
        axes=dict(effect.point),
        base=effect.base,
        target=effect.target,
        others=effect.others,
        random_neurons=list(effect.random),
        wrong_cell=effect.wrong,
        verdict=effect.verdict,
    )


def _gain(results: Results, done: InterventionResult, owner: str) -> Effect | None:
    for measure in _measures(done, INJECTING):
        base, best = _base(done, owner, "target", measure), _best(done, owner, "edit", measure)
        if base is None or best is None or best.mean is None:
            continue
        random, wrong = _best(done, owner, "random_neurons", measure), _best(done, owner, "wrong_cell", measure)
        controls = [c.mean for c in (random, wrong) if c is not None and c.mean is not None]
        verdict: Verdict = "specific"
        if best.mean - base < SMALL or (best.low is not None and best.low <= base):
            verdict = "none"
        elif any(mean - base >= COMPARABLE * (best.mean - base) for mean in controls):
            verdict = "placebo"
        elif best.low is None:
            verdict = "single"
        return Effect(
            intervention=done.name,
            edited=owner,
            label=_label(results, owner),
            neurons=done.neurons.get(owner, []),
            n_neurons=done.n_neurons.get(owner, 0),
            measure=measure,
            axes=best.axes,
            picked=True,
            base=base,
            target=best,
            random_neurons=[] if random is None or random.mean is None else random.draws or [random.mean],
            wrong_cell=None if wrong is None else wrong.mean,
            verdict=verdict,
        )
    return None


# -- the cell -----------------------------------------------------------------------------------------------


def _first_group(results: Results, main: InterventionResult | None) -> RankingGroup | None:
    """Find the ranking of the first owner that is edited, or the first ranking of a name itself."""
    # A ranking of layers names no neuron, and speaks where there is no other.
    of_neurons = [ranking for ranking in results.rankings.values() if ranking.unit == "neuron"]
    rankings = of_neurons or list(results.rankings.values())
    groups = [g for ranking in rankings for g in ranking.groups.values() if g.neurons]
    if main is not None:
        own = [g for g in groups if g.key == main.owners[0]]
        edited = main.neurons.get(main.owners[0], [])
        return next((g for g in own if g.chosen == edited), own[0] if own else None)
    return next((g for g in groups if g.variant is None), groups[0] if groups else None)


def _cell(results: Results, group: RankingGroup) -> str:
    best = group.neurons[0]
    ranking = next(r for r in results.rankings.values() if group in r.groups.values())
    if ranking.unit == "layer":
        return (
            f"of the {group.n_candidates} layers, what {best.address} writes at {group.label} is the steadiest: "
            f"{best.score:.1f} times as steady as for made-up names"
            + ("" if group.random_names is None else f", and {group.random_names:.0%} of those have a layer as steady")
        )
    if group.precision is not None:
        return _told_apart(group, group.precision)
    if ranking.metric == "random":
        return f"{best.address} was drawn at random for {group.label}"
    rivals = [key for key in ranking.shared_winners.get(best.address, []) if key != group.key]
    rivals = [key for key in rivals if ranking.groups[key].entity != group.entity]
    if rivals:
        names = _listed([ranking.groups[key].label for key in rivals])
        return f"{best.address} ranks first for {group.label} but also for {names}, so it is nobody's own cell"
    if best.dominance is None:
        return f"{best.address} ranks first for {group.label} by {ranking.metric.replace('_', ' ')}"
    if best.dominance < STANDS_OUT:
        figure = f"the best is {best.address}, dominance {best.dominance:.1f}"
        return f"no neuron stands out for {group.label} ({figure})"
    how = "stands out" if best.dominance >= CLEARLY else "stands out weakly"
    return f"{best.address} {how} for {group.label} (dominance {best.dominance:.1f})"


def _told_apart(group: RankingGroup, figures: PrecisionFigures) -> str:
    """Say how well the neurons of a set tell an owner's prompts from others', beside shuffled labels."""
    first, last = figures.precision[0], figures.precision[-1]
    between = f"{first:.2f}" if f"{first:.2f}" == f"{last:.2f}" else f"{first:.2f} to {last:.2f}"
    null = max((draw.precision[0] for draw in figures.shuffled), default=None)
    beside = f"base rate {figures.base_rate:.2f}" if null is None else f"shuffled labels reach {null:.2f}"
    what = "the best neuron tells" if group.size == 1 else f"the {group.size:,} best neurons tell"
    return f"{what} the prompts of {group.label} from others' with average precision {between} ({beside})"


def _chosen(chosen: NeuronSetResult) -> str:
    """Say for how many owners a filter left a neuron, beside what random neurons in their place would have left."""
    passed = sum(bool(owner.neurons) for owner in chosen.owners.values())
    total = len(chosen.owners)
    who = "its one owner" if total == 1 else f"{_count(passed)} of {_count(total)} owners"
    if total == 1:
        text = f"the filter {chosen.name} leaves {who} {'a' if passed else 'no'} neuron"
    else:
        text = f"the filter {chosen.name} leaves a neuron for {who}"
    placebo = chosen.placebo
    if placebo is None or not placebo.owners:
        return text
    return f"{text} (with random neurons in their place, {_number(sum(placebo.owners) / len(placebo.owners))})"


# -- many owners --------------------------------------------------------------------------------------------


def _many(results: Results, main: InterventionResult | None) -> Ranking | None:
    """Give the ranking of neurons that is spoken of as a whole, if it has more than ``MANY`` entities."""
    rankings = [r for r in results.rankings.values() if r.unit == "neuron"]
    if main is not None:
        rankings = [r for r in rankings if set(main.owners) <= set(r.groups)] or rankings
    found = next((r for r in rankings if all(g.entity is not None for g in r.groups.values())), None)
    return found if found is not None and len(found.names_themselves()) > MANY else None


def _of_many(
    results: Results,
    ranking: Ranking,
    silencing: InterventionResult | None,
    injection: InterventionResult | None,
) -> list[str]:
    """Say for how many owners a neuron stands out and where, what was done to all, and what was derived."""
    parts = [_cells(ranking)]
    parts += [_chosen(chosen) for chosen in results.neurons.values() if chosen.conditions]
    if silencing:
        parts.append(_silencing(results, silencing, EVERYBODY, None))
        parts.append(_specific(results, silencing))
    if injection:
        parts.append(_injection(results, injection, EVERYBODY, None))
    if not silencing and not injection:
        found = [a.sentence for a in results.analyses.values() if a.verb == "correlation" and a.sentence]
        parts += [text[0].lower() + text[1:].rstrip(".") for text in found]
    return [part for part in parts if part]


def _cells(ranking: Ranking) -> str:
    """Count the owners of a neuron of their own that stands out, with the layers these lie in."""
    own, shared = ranking.names_themselves(), ranking.sharing()
    alone = [g for g in own if g.key not in shared]
    both = _count(len(own) - len(alone))
    if ranking.metric != "stability":
        how = ranking.metric.replace("_", " ")
        return f"of {len(own)} entities, {_count(len(alone))} have a neuron of their own that ranks first by {how}"
    clear = ranking.standing_out()
    layers = sorted({str(g.neurons[0].layer) for g in clear}, key=int)
    where = f", in layer{'s' if len(layers) > 1 else ''} {' to '.join(layers[:1] + layers[1:][-1:])}" if layers else ""
    return (
        f"of {len(own)} entities, {_count(len(clear))} have a neuron of their own that stands out{where}, "
        f"{_count(len(alone) - len(clear))} a weaker one, and {both} one that ranks first for somebody else too"
    )


def _specific(results: Results, done: InterventionResult) -> str:
    """Count the owners whose own neurons have a specific effect; one that two of them share is nobody's."""
    shared = _sharing(results)
    found = sum(
        o not in shared and (effect := _effect(done, o)) is not None and effect.verdict == "specific"
        for o in done.owners
    )
    return f"a specific effect is found for {_count(found)} of {_count(len(done.owners))}"


# -- silencing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Effect:
    """What an edit did to its owner, beside what it did to others and what the controls did."""

    measure: str
    point: Point
    base: float
    target: Summary
    others: Summary | None
    others_loss: float | None
    random: tuple[float, ...]
    """Mean of each draw of random neurons."""
    wrong: float | None
    verdict: Verdict


def _on_texts(done: InterventionResult, owner: str) -> list[str]:
    """Say what the edit does to texts about nobody, at the value at which the loss is told."""
    for measure in _measures(done, ("relative_perplexity", "perplexity")):
        point = _strongest(done)
        found = _find(done, owner, "edit", "texts", measure, point)
        if found is None or found.mean is None:
            continue
        n = "one text" if found.n == 1 else f"{found.n} texts"
        base = 1.0 if measure == "relative_perplexity" else _base(done, owner, "texts", measure)
        said = f"the perplexity of {n} about nobody goes"
        if measure == "relative_perplexity":
            said += f" to {found.mean:.4g} times its value"
        else:
            said += f" from {_number(base)} to {_number(found.mean)}"
        control = _find(done, owner, "random_neurons", "texts", measure, point)
        draws = tuple(control.draws or [control.mean]) if control is not None and control.mean is not None else ()
        low, high = (f"{end(draws):.4g}" if draws else "" for end in (min, max))
        beside = "" if not draws else f" (random neurons: {low if low == high else f'{low} to {high}'})"
        return [said + beside]
    return []


def _silencing(results: Results, done: InterventionResult, owner: str, group: RankingGroup | None) -> str:
    if done.n_asked == 0 and (on_texts := _on_texts(done, owner)):
        return f"with {_doing(done, _strongest(done), _edited(done, owner, group))}, {on_texts[0]}"
    if done.n_known == 0:
        asked = "the one question" if done.n_asked == 1 else f"any of the {done.n_asked} questions"
        return f"the model does not know the answer to {asked} asked, so no effect can be measured"
    effect = _effect(done, owner)
    if effect is None:
        return _nothing(results, done, owner)
    how = _doing(done, effect.point or _tuned(done, owner), _edited(done, owner, group, effect.point))
    name = _words(effect.measure)
    found = f"{_number(effect.target.mean)}{_interval(effect.target)} over {_questions(effect.target.n)}"
    random = _draws(done, owner, effect.random)
    if effect.verdict == "none":
        text = f"{how} leaves {name} at {found}, against {_number(effect.base)} without"
        return f"{text} (random neurons: {_range(effect.random)})" if effect.random else text
    text = f"{how} takes {name} from {_number(effect.base)} to {found}"
    if effect.verdict == "unspecific":
        assert effect.others is not None
        return f"{text}, but that of others to {_number(effect.others.mean)} too, so the effect is not specific"
    if effect.verdict == "placebo":
        who, value = _strongest_control(results, done, owner, effect)
        return f"{text}, but {who} takes it to {_number(value)} as well, so it is no more than a placebo"
    if effect.others is None or effect.others_loss is None:
        beside = "nobody else was asked"
    else:
        verb = "stay at" if abs(effect.others_loss) < SMALL else "go to"
        beside = f"others {verb} {_number(effect.others.mean)}"
    control = f"{random} at {_range(effect.random)}" if effect.random else "no random neurons were tried"
    return f"{text} while {beside} and {control}"


def _effect(done: InterventionResult, owner: str) -> _Effect | None:
    """Read the effect at the strongest value, by the first measure that has a value there."""
    for measure in _measures(done, BOUNDED if owner == EVERYBODY else SILENCING):
        point = _strongest(done)
        target = _find(done, owner, "edit", "target", measure, point)
        base = _base(done, owner, "target", measure)
        if target is None or target.mean is None or base is None:
            continue
        others, others_base = _find(done, owner, "edit", "others", measure, point), None
        if others is not None and others.mean is not None:
            others_base = _base(done, owner, "others", measure)
        others_loss = None
        if others is not None and others.mean is not None and others_base is not None:
            others_loss = _loss(measure, others_base, others.mean)
        effect = _Effect(
            measure=measure,
            point=point,
            base=base,
            target=target,
            others=others,
            others_loss=others_loss,
            random=_control(done, owner, "random_neurons", measure, point),
            wrong=next(iter(_control(done, owner, "wrong_cell", measure, point)), None),
            verdict="specific",
        )
        return replace(effect, verdict=_verdict(effect))
    return None


def _verdict(effect: _Effect) -> Verdict:
    target = effect.target
    assert target.mean is not None
    own = _loss(effect.measure, effect.base, target.mean)
    unsure = target.low is not None and target.high is not None and target.low <= effect.base <= target.high
    if unsure or abs(own) < SMALL:
        return "none"
    if effect.others_loss is not None and _as_much(effect.others_loss, own):
        return "unspecific"
    losses = [_loss(effect.measure, effect.base, mean) for mean in _controls(effect)]
    if any(_as_much(loss, own) for loss in losses):
        return "placebo"
    if own <= 0:
        return "raised"
    # A mean of one question has no interval, and so says nothing about any other question.
    return "specific" if target.low is not None else "single"


def _as_much(other: float, own: float) -> bool:
    """Tell whether another effect goes the same way and is at least half as large."""
    return other / own >= COMPARABLE


def _loss(measure: str, base: float, value: float) -> float:
    """Give the loss as a fraction of the base, positive where knowledge is lost."""
    if measure in LOSSES:
        return value - base
    return (base - value) / abs(base) if base else 0.0


def _strongest(done: InterventionResult) -> dict[str, float | str]:
    """Choose the point furthest from doing nothing: factor from 1, other numbers from 0, cuts at their
    first.
    """
    point: dict[str, float | str] = {}
    for axis, values in done.axes.items():
        numbers = [v for v in values if not isinstance(v, str)]
        if axis.startswith(("scale", "set", "times")) and numbers:
            neutral = 1.0 if axis.startswith("scale") else 0.0
            point[axis] = max(numbers, key=lambda v: (abs(v - neutral), -v))
        else:
            point[axis] = values[0]
    return point


def _controls(effect: _Effect) -> tuple[float, ...]:
    return (*effect.random, *([effect.wrong] if effect.wrong is not None else []))


def _strongest_control(results: Results, done: InterventionResult, owner: str, effect: _Effect) -> tuple[str, float]:
    """Find the control whose value is furthest along the way of the edit, and name it."""
    assert effect.target.mean is not None
    sign = 1 if effect.target.mean > effect.base else -1
    several = len(done.neurons.get(owner, [])) > 1
    kind = ("random set of neurons", "random sets of neurons") if several else ("random neuron", "random neurons")
    if done.vectors and not done.neurons.get(owner):
        kind = ("random direction", "random directions")
    n = len(effect.random)
    named = f"one of {_count(n)} {kind[1]}" if n > 1 else f"a {kind[0]}"
    found = [(named, mean) for mean in effect.random]
    if effect.wrong is not None:
        other = done.wrong_owner.get(owner)
        found.append((f"the cell of {_label(results, other)}" if other else "another cell", effect.wrong))
    return max(found, key=lambda pair: sign * pair[1])


def _others_with_an_effect(results: Results, done: InterventionResult, owner: str) -> list[str]:
    """Count the other owners whose neurons have a specific effect; a neuron that two of them share is nobody's."""
    forms = other_forms(done.owners)
    rest = [o for o in done.owners if o != owner and o not in forms]
    shared = _sharing(results)
    found = sum(
        1 for o in rest if o not in shared and (effect := _effect(done, o)) is not None and effect.verdict == "specific"
    )
    if not rest:
        return []
    if len(rest) == 1:
        return [f"{'a' if found else 'no'} specific effect is found for {_label(results, rest[0])}"]
    return [f"a specific effect is found for {_count(found)} of the {_count(len(rest))} others"]


# -- injection ----------------------------------------------------------------------------------------------


def _injection(results: Results, done: InterventionResult, owner: str, group: RankingGroup | None) -> str:
    """Say what the neurons bring back at a placeholder at best, and the controls at theirs."""
    if done.n_known == 0:
        return "the model knows none of the answers that an injection could bring back"
    where = f"at the placeholder {done.placeholder}"
    for measure in _measures(done, INJECTING):
        base = _base(done, owner, "target", measure)
        best = _best(done, owner, "edit", measure)
        if best is None or best.mean is None:
            continue
        controls = {
            condition: found.mean
            for condition in CONTROLS
            if (found := _best(done, owner, condition, measure)) is not None and found.mean is not None
        }
        how = _doing(done, best.axes or _tuned(done, owner), _edited(done, owner, group, best.axes))
        name = _words(measure)
        if base is None:
            text = f"{where}, {how} gives {name} of {_number(best.mean)}{_interval(best)}"
            return f"{text}, and nothing was run without it to compare"
        if best.mean - base < SMALL:
            figures = f"{name.removeprefix('the ')} {_number(best.mean)}, {_number(base)} without"
            return f"{where}, {how} brings nothing back ({figures})"
        text = f"{where}, {how} takes {name} from {_number(base)} to {_number(best.mean)}{_interval(best)}"
        tried = len({tuple(s.axes.items()) for s in _all(done, owner, "edit", "target", measure)})
        if tried > 1:
            text += f" at best (of {_count(tried)} values)"
        beside = _beside(controls)
        if any(v - base >= COMPARABLE * (best.mean - base) for v in controls.values()):
            return f"{text}, but {beside}, so it is no more than a placebo"
        return f"{text}, while {beside}" if beside else f"{text}, with no control to compare"
    return _nothing(results, done, owner)


def _beside(controls: Mapping[ConditionName, float]) -> str:
    """Say how far the controls take the measure at their best."""
    said = []
    if "random_neurons" in controls:
        said.append(f"random neurons take it to {_number(controls['random_neurons'])}")
    if "wrong_cell" in controls:
        verb = "" if said else "takes it "
        said.append(f"another's cell {verb}to {_number(controls['wrong_cell'])}")
    return " and ".join(said)


def _nothing(results: Results, done: InterventionResult, owner: str) -> str:
    """Say why there is no figure: usually because the clean model knows none of the answers."""
    counted = [s.n for s in done.summaries if (s.edited, s.condition, s.role) == (owner, "clean", "target")]
    label = _label(results, owner)
    if counted and not any(counted):
        return f"the model knows none of the answers asked for about {label}, so no effect can be measured"
    return f"no measure of {done.name} is defined for {label}"


CONTROLS: tuple[ConditionName, ...] = ("random_neurons", "wrong_cell")


# -- reading results ----------------------------------------------------------------------------------------


def _measures(done: InterventionResult, preferred: Iterable[str]) -> list[str]:
    """List the measures that were taken, the most telling first."""
    return [m for word in preferred for m in done.measures if m.split("@")[0] == word]


def _all(done: InterventionResult, owner: str, condition: ConditionName, role: Role, measure: str) -> list[Summary]:
    return [
        s
        for s in done.summaries
        if s.edited == owner
        and s.condition == condition
        and s.role == role
        and s.measure == measure
        and s.relation is None
    ]


def _find(
    done: InterventionResult, owner: str, condition: ConditionName, role: Role, measure: str, point: Point
) -> Summary | None:
    found = _all(done, owner, condition, role, measure)
    return next((s for s in found if s.axes == point), None)


def _base(done: InterventionResult, owner: str, role: Role, measure: str) -> float | None:
    """Give the value without the edit: with placeholder and freeze alone where there are such, else clean."""
    conditions: tuple[ConditionName, ...] = ("no_edit",) if done.placeholder else ("no_edit", "clean")
    for condition in conditions:
        found = _all(done, owner, condition, role, measure)
        if found and found[0].mean is not None:
            return found[0].mean
    return None


def _control(
    done: InterventionResult, owner: str, condition: ConditionName, measure: str, point: Point
) -> tuple[float, ...]:
    """Give the mean of each draw of a control, or its one mean."""
    found = _find(done, owner, condition, "target", measure, point)
    if found is None or found.mean is None:
        return ()
    return tuple(found.draws or [found.mean])


def _best(done: InterventionResult, owner: str, condition: ConditionName, measure: str) -> Summary | None:
    found = [s for s in _all(done, owner, condition, "target", measure) if s.mean is not None]
    return max(found, key=lambda s: s.mean if s.mean is not None else 0.0, default=None)


# -- words --------------------------------------------------------------------------------------------------


def _label(results: Results, owner: str) -> str:
    """Give the name behind a key."""
    for ranking in results.rankings.values():
        if owner in ranking.groups:
            return ranking.groups[owner].label
    return owner


def _edited(done: InterventionResult, owner: str, group: RankingGroup | None, point: Point | None = None) -> str:
    """Name what was edited: ``it`` for the neuron that the sentence is about."""
    if owner == EVERYBODY:
        rank = point.get("rank") if point else None
        return "each one's neurons" if rank is None else f"each one's neuron of rank {_factor(rank)}"
    edited = done.neurons.get(owner, [])
    if not edited and done.vectors:
        return " and ".join(done.vectors)
    if group is not None and edited == [group.neurons[0].address]:
        return "it"
    if point and "rank" in point and "-" not in str(point["rank"]):
        return f"the neuron of rank {_factor(point['rank'])}"
    return edited[0] if len(edited) == 1 else f"{done.size(owner):,} neurons"


def _tuned(done: InterventionResult, owner: str) -> Point:
    """Give the value that an owner's edit has chosen on other questions; nothing where none was."""
    chosen = done.tuning.chosen if done.tuning is not None else []
    return next((v.axes for v in chosen if (v.edited, v.condition) == (owner, "edit")), {})


def _doing(done: InterventionResult, point: Point, what: str) -> str:
    """Say the edit as an activity: ``multiplying it by -3``."""
    said: list[str] = []
    rest: list[str] = []
    for axis, value in point.items():
        if axis == "scale":
            said.append(f"silencing {what} (factor 0)" if value == 0 else f"multiplying {what} by {_factor(value)}")
        elif axis == "set":
            said.append(f"setting {what} to {_factor(value)}")
        elif axis == "times":
            said.append(f"setting {what} to {_factor(value)} times its usual value")
        elif axis != "rank" or "neuron of rank" not in what:
            rest.append(f"{axis} {_factor(value)}")
    steers = bool(done.vectors) and not said
    text = said[0] if said else f"adding {what}" if steers else f"{done.title} of {what}"
    rest += [f"then {more}" for more in said[1:]]
    if done.tuning is not None:
        rest.append("chosen on other questions")
    return f"{text} ({', '.join(rest)})" if rest else text


def _draws(done: InterventionResult, owner: str, means: Sequence[float]) -> str:
    """Name the draws: ``five random neurons``, or sets of neurons where several are edited."""
    if done.vectors and not done.neurons.get(owner):
        return "a random direction" if len(means) == 1 else f"{_count(len(means))} random directions"
    if len(done.neurons.get(owner, [])) > 1:
        return "a random set of neurons" if len(means) == 1 else f"{_count(len(means))} random sets of neurons"
    return "a random neuron" if len(means) == 1 else f"{_count(len(means))} random neurons"


def _range(means: Sequence[float]) -> str:
    low, high = _number(min(means)), _number(max(means))
    return low if low == high else f"{low} to {high}"


def _interval(summary: Summary) -> str:
    if summary.low is None or summary.high is None:
        return ""
    return f" [{_number(summary.low)}, {_number(summary.high)}]"


def _number(value: float | None) -> str:
    """Give two decimals (three digits above 100), and no minus before a zero."""
    if value is None:
        return "no value"
    text = f"{value:.2f}" if abs(value) < 100 else f"{value:.3g}"
    return text.removeprefix("-") if float(text) == 0 else text


def _factor(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _words(measure: str) -> str:
    if measure == "answer_probability":
        return "the probability of the answer"
    return measure if "@" in measure else f"the {measure.replace('_', ' ')}"


def _questions(n: int) -> str:
    return "one question" if n == 1 else f"{n} questions"


def _count(n: int) -> str:
    words = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[n] if n < len(words) else str(n)


def _listed(names: Sequence[str]) -> str:
    """List names, at most three of them by name."""
    if len(names) > 3:
        return f"{_count(len(names))} others"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
