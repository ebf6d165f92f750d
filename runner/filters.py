"""Filters of neurons: which candidates of an owner meet every condition of ``where:``, and what the others failed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from runner.properties import NEURON_PROPERTIES, Properties, meets
from specs.language.conditions import holds
from specs.language.errors import RunError
from specs.language.experiment import Condition, NeuronSet
from specs.language.references import Address, ResultPath, is_measure, parse_result_path

if TYPE_CHECKING:
    from runner.figures import Figures
    from runner.plan import Axes

__all__ = [
    "LISTED",
    "Figure",
    "Judged",
    "Judgement",
    "interventions_read",
    "judge",
    "judge_one",
    "reads_of",
    "stand_ins",
]

LISTED = 20
"""Candidates of an owner that are kept with their figures where all neurons of a ranking are candidates."""


@dataclass(frozen=True)
class Figure:
    """A number about one neuron, over ``n`` questions; or the reason why there is none."""

    value: float | str | None = None
    n: int = 0
    reason: str = ""
    wanted: float | None = None
    """What it was compared with, where that is a result too."""


@dataclass(frozen=True)
class Judged:
    """One candidate: a figure for each condition, and the first condition it failed."""

    address: Address
    figures: tuple[Figure, ...]
    failed: int | None
    """Number of that condition, from 0; None where all are met."""


@dataclass(frozen=True)
class Judgement:
    """What a filter left of one owner's candidates."""

    owner: str
    candidates: int
    left: tuple[int, ...]
    """How many candidates meet the first condition, the first two, ..."""
    judged: tuple[Judged, ...]
    """Candidates, best first: all of them, or the first :data:`LISTED`."""
    passed: tuple[Address, ...]
    """Every neuron that meets all conditions, best first."""


def reads_of(condition: Condition) -> tuple[ResultPath, ...]:
    """Give the results of interventions that a condition on neurons reads; none for one on the ranking alone."""
    texts = [condition.quantity, *([condition.value] if isinstance(condition.value, str) else [])]
    return tuple(parse_result_path(text, is_measure) for text in texts if "/" in text)


def interventions_read(ref: NeuronSet) -> tuple[str, ...]:
    """List the interventions whose results a filter reads."""
    return tuple(dict.fromkeys(path.block for condition in ref.where for path in reads_of(condition)))


def judge(
    ref: NeuronSet,
    owner: str,
    base: Sequence[Address] | None,
    properties: Properties | None,
    figures: Mapping[str, Figures],
) -> Judgement:
    """Judge an owner's candidates, best first.

    ``base``: the neurons the filter takes from, None for all of the ranking. ``properties``: those of the ranking,
    None for neurons that were not ranked. A condition on results leaves as candidates the neurons that the
    intervention edited alone.
    """
    read = interventions_read(ref)
    if not read and base is None:
        assert properties is not None
        return _judge_ranking(ref, owner, properties)
    candidates = list(base) if base is not None else []
    if read and base is None:
        found = [_known(figures, name).alone.get(owner, {}) for name in read]
        candidates = [address for address in found[0] if all(address in other for other in found[1:])]
        if properties is not None:
            candidates.sort(key=lambda address: _rank(properties, address))
    judged = tuple(judge_one(ref, owner, address, properties, figures) for address in candidates)
    return Judgement(
        owner,
        len(judged),
        tuple(sum(j.failed is None or j.failed > n for j in judged) for n in range(len(ref.where))),
        judged,
        tuple(j.address for j in judged if j.failed is None),
    )


def _known(figures: Mapping[str, Figures], name: str) -> Figures:
    if name not in figures:
        raise RunError(f"the neurons to be chosen by results of '{name}' are wanted before it was run")
    return figures[name]


def _rank(properties: Properties, address: Address) -> float:
    place = properties.place(address)
    return float("inf") if place is None else float(properties.of("rank")[place])


def _judge_ranking(ref: NeuronSet, owner: str, properties: Properties) -> Judgement:
    """Judge all neurons of a ranking at once."""
    met = np.ones(properties.shape, dtype=bool)
    left: list[int] = []
    for condition in ref.where:
        if condition.quantity == "site":
            met &= properties.of_site(partial(holds, condition))
        else:
            met &= meets(condition, properties.of(_property(condition.quantity)))
        left.append(int(met.sum()))
    flat = met.reshape(-1)
    width = properties.shape[1]

    addresses = properties.ranking.addresses
    listed = tuple(
        judge_one(ref, owner, address, properties, {}) for address in addresses(properties.order[:LISTED], width)
    )
    passed = tuple(addresses(properties.order[flat[properties.order]], width))
    return Judgement(owner, flat.size, tuple(left), listed, passed)


def judge_one(
    ref: NeuronSet,
    owner: str,
    address: Address,
    properties: Properties | None,
    figures: Mapping[str, Figures],
) -> Judged:
    """Judge one neuron of an owner."""
    found = tuple(_figure(condition, owner, address, properties, figures) for condition in ref.where)
    return Judged(address, found, _first_failed(ref, found))


def _first_failed(ref: NeuronSet, found: Sequence[Figure]) -> int | None:
    return next((n for n, (c, f) in enumerate(zip(ref.where, found, strict=True)) if not _is_met(c, f)), None)


def _is_met(condition: Condition, figure: Figure) -> bool:
    if figure.value is None:
        return False
    if figure.wanted is not None:
        return holds(condition.model_copy(update={"value": figure.wanted}), figure.value)
    return holds(condition, figure.value)


def _figure(
    condition: Condition,
    owner: str,
    address: Address,
    properties: Properties | None,
    figures: Mapping[str, Figures],
    draw: int | None = None,
) -> Figure:
    """Give what a condition asks of one neuron, or of the random neuron in its place."""
    found = _read(condition.quantity, owner, address, properties, figures, draw)
    if found.value is None or not isinstance(condition.value, str) or "/" not in condition.value:
        return found
    wanted = _read(condition.value, owner, address, properties, figures, draw)
    if wanted.value is None:
        return Figure(reason=f"{condition.value}: {wanted.reason}")
    return replace(found, wanted=float(wanted.value))


def _read(
    text: str,
    owner: str,
    address: Address,
    properties: Properties | None,
    figures: Mapping[str, Figures],
    draw: int | None,
) -> Figure:
    if "/" in text:
        path = parse_result_path(text, is_measure)
        return _known(figures, path.block).value(path, owner, address, draw)
    own: dict[str, float | str] = {"layer": float(address.layer), "neuron": float(address.neuron), "site": address.site}
    if text in own:
        return Figure(own[text])
    place = None if properties is None else properties.place(address)
    if properties is None or place is None:
        return Figure(reason="it was not ranked")
    value = float(properties.of(_property(text))[place])
    return Figure(value) if np.isfinite(value) else Figure(reason=f"{text} has no value")


def _property(name: str) -> str:
    if name not in NEURON_PROPERTIES:
        raise RunError(f"'{name}' is not a property of one neuron")
    return name


# -- the placebo --------------------------------------------------------------------------------------------------


def stand_ins(
    ref: NeuronSet, judgement: Judgement, figures: Figures, draw: int, skip: Collection[int] = ()
) -> dict[Axes, Judged]:
    """Put the random neurons of one draw through the same filter, each in the place of the candidate it stands for.

    By the cuts at which they were edited, for two ranks may draw one neuron.

    Conditions on the ranking keep the candidate's figure; results are the random neuron's own. ``skip``: numbers of
    conditions that are not asked.
    """
    owner = judgement.owner
    found: dict[Axes, Judged] = {}
    for judged in judgement.judged:
        point = figures.alone.get(owner, {}).get(judged.address)
        if point is None:
            continue
        own = tuple(
            _figure(c, owner, judged.address, None, {figures.stage.name: figures}, draw)
            if reads_of(c) and n not in skip
            else kept
            for n, (c, kept) in enumerate(zip(ref.where, judged.figures, strict=True))
        )
        failed = next(
            (n for n, (c, f) in enumerate(zip(ref.where, own, strict=True)) if n not in skip and not _is_met(c, f)),
            None,
        )
        found[point] = Judged(figures.draws[owner, draw][point], own, failed)
    return found
