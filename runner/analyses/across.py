"""``agreement`` across an axis of a matrix: do other runs find the same neuron?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from specs.language.errors import RunError
from specs.language.experiment import Analysis as AnalysisSpec
from specs.language.results import AnalysisResult, MatrixCell, ModelFacts, RankedNeuron

__all__ = ["StoredRank", "agreement_across"]

StoredRank = Callable[[MatrixCell, str, str, RankedNeuron], tuple[int, float]]
"""(run, ranking, owner, neuron): the rank and score of the neuron in the whole ranking that the run stored."""
Row = list[str | float | int | bool | None]


@dataclass(frozen=True)
class _Compared:
    """The winner of one owner in one run, beside that of the run it is compared with."""

    owner: str
    label: str
    cell: MatrixCell
    first: MatrixCell
    best: RankedNeuron
    reference: RankedNeuron
    comparable: bool
    rank: int | None
    relative: float | None

    @property
    def same(self) -> bool | None:
        """Whether the winner is the reference; None where the coordinates of the two models mean nothing together."""
        return self.best.address == self.reference.address if self.comparable else None


def agreement_across(
    name: str, spec: AnalysisSpec, cells: Sequence[MatrixCell], axes: Mapping[str, Sequence[str]], rank: StoredRank
) -> AnalysisResult:
    """Compare the winner of every owner along an axis of the matrix with that of the axis's first finished run.

    Runs are compared that differ in this axis alone; where the first of them failed, the next is the reference, and
    each row says which run that was. ``rank of reference`` is the place of the reference in the run's
    own ranking and ``relative score`` its score there over the best, as in agreement across forms of a name. Runs of
    models of different shape or family have no neuron in common: of them only the relative depth is compared, ``same``
    is absent. Figures: ``same`` and ``of`` over comparable runs and for each value of the axis (``z_score/same``), and
    ``relative_score``, the mean ratio. Raises RunError where fewer than two runs have the ranking.
    """
    assert spec.agreement is not None and spec.across is not None
    ranking, _, key = spec.agreement.partition("/")
    axis = spec.across
    ranked = [cell for cell in cells if cell.status == "complete" and ranking in cell.rankings]
    found: list[_Compared] = []
    for first, others in _lines(ranked, axis, axes):
        for owner, group in first.rankings[ranking].groups.items():
            if (key and owner != key) or not group.neurons:
                continue
            for cell in others:
                theirs = cell.rankings[ranking].groups.get(owner)
                if theirs is not None and theirs.neurons:
                    found.append(
                        _compare(ranking, owner, group.label, first, cell, group.neurons[0], theirs.neurons[0], rank)
                    )
    if not found:
        raise RunError(f"'{name}' has no two finished runs along {axis} that rank '{spec.agreement}'")
    rest = [other for other in axes if other != axis]
    return AnalysisResult(
        name=name,
        verb="agreement",
        of=spec.agreement,
        columns=[
            *("owner", *rest, axis, "winner", "depth", "dominance"),
            *("compared with", "reference", "same", "rank of reference", "relative score"),
        ],
        rows=[_row(one, axis, rest) for one in found],
        sentence=_sentence(found, axis, axes[axis]),
        figures=_figures(found, axis),
    )


def _lines(
    cells: Sequence[MatrixCell], axis: str, axes: Mapping[str, Sequence[str]]
) -> list[tuple[MatrixCell, list[MatrixCell]]]:
    """Sort runs into lines along an axis: the first of each, and the others, in the order of the axis."""
    lines: dict[tuple[str, ...], list[MatrixCell]] = {}
    for cell in cells:
        lines.setdefault(tuple(cell.axes[a] for a in axes if a != axis), []).append(cell)
    place = {value: n for n, value in enumerate(axes[axis])}
    ordered = [sorted(line, key=lambda cell: place[cell.axes[axis]]) for line in lines.values()]
    return [(line[0], line[1:]) for line in ordered]


def _compare(
    ranking: str,
    owner: str,
    label: str,
    first: MatrixCell,
    cell: MatrixCell,
    reference: RankedNeuron,
    best: RankedNeuron,
    rank: StoredRank,
) -> _Compared:
    same_site = first.rankings[ranking].site == cell.rankings[ranking].site
    comparable = same_site and _shape(first.model) == _shape(cell.model)
    place, relative = None, None
    if comparable:
        place, score = rank(cell, ranking, owner, reference)
        relative = score / best.score if best.score > 0 else None
    return _Compared(owner, label, cell, first, best, reference, comparable, place, relative)


def _shape(model: ModelFacts | None) -> tuple[object, ...]:
    return () if model is None else (model.family, model.n_layers, model.d_model, model.d_mlp)


def depth(neuron: RankedNeuron, model: ModelFacts | None) -> float | None:
    """Give the relative depth of a neuron's layer: its centre, from 0 to 1."""
    return None if model is None else (neuron.layer + 0.5) / model.n_layers


def _row(one: _Compared, axis: str, rest: Sequence[str]) -> Row:
    return [
        one.label,
        *(one.cell.axes[other] for other in rest),
        one.cell.axes[axis],
        one.best.address,
        depth(one.best, one.cell.model),
        one.best.dominance,
        one.first.axes[axis],
        one.reference.address,
        one.same,
        one.rank,
        one.relative,
    ]


def _figures(found: Sequence[_Compared], axis: str) -> dict[str, float]:
    comparable = [one for one in found if one.comparable]
    figures = {"same": float(sum(bool(one.same) for one in comparable)), "of": float(len(comparable))}
    for value in dict.fromkeys(one.cell.axes[axis] for one in comparable):
        of_value = [one for one in comparable if one.cell.axes[axis] == value]
        figures |= {f"{value}/same": float(sum(bool(o.same) for o in of_value)), f"{value}/of": float(len(of_value))}
    ratios = [one.relative for one in comparable if one.relative is not None]
    if ratios:
        figures["relative_score"] = sum(ratios) / len(ratios)
    return figures


def _sentence(found: Sequence[_Compared], axis: str, values_of_axis: Sequence[str]) -> str:
    comparable = [one for one in found if one.comparable]
    parts = []
    if comparable:
        values = list(dict.fromkeys(one.cell.axes[axis] for one in comparable))
        counted = []
        for value in values:
            of_value = [one for one in comparable if one.cell.axes[axis] == value]
            counted.append(f"{value} for {sum(bool(one.same) for one in of_value)} of {len(of_value)}")
        parts.append(
            f"The same winner as {_references(found, axis, values_of_axis)} is found by {', '.join(counted)} owners."
        )
    others = list(dict.fromkeys(one.cell.axes[axis] for one in found if not one.comparable))
    if others:
        parts.append(
            f"{', '.join(others)} {'has' if len(others) == 1 else 'have'} another shape or family, and no neuron in "
            "common with it: only depths can be compared."
        )
    return " ".join(parts)


def _references(found: Sequence[_Compared], axis: str, values: Sequence[str]) -> str:
    """Name the runs that are compared with, and say so where an earlier one along the axis has no ranking."""
    used = [value for value in values if any(one.first.axes[axis] == value for one in found)]
    said = f"{' or '.join(used)}, the first run along {axis}"
    if len(used) == 1 and used[0] == values[0]:
        return f"{said},"
    absent = [value for value in values[: values.index(used[-1])] if len(used) == 1]
    why = f"{' and '.join(absent)} did not finish" if absent else "which it is, depends on what finished"
    return f"{said} that finished ({why}),"
