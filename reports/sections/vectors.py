"""The vectors of a run: where they are added, how they were made, and how a learned one was learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports import charts, formats
from reports.drawing import to_svg
from reports.sections.section import Cell, Column, Figure, Section, Table
from specs.language.results import LearningStep, Results, VectorResult

TERMS = {
    "p_new": ("probability of the new answer", "mean over the wordings of the fact"),
    "attack": ("attack", "minus log probability of the new answer, in nats"),
    "preserve": ("preserve", "divergence of the kept prompts from the clean run, in nats"),
    "norm": ("norm", "squared length of the vector"),
}


@dataclass(frozen=True)
class VectorView:
    """One vector: facts, and for a learned one the curves of what it was learned by."""

    name: str
    facts: list[tuple[str, str]]
    curves: list[Figure]
    steps: Table | None


def build(results: Results) -> Section | None:
    """Show every vector; None in a run without any."""
    if not results.vectors:
        return None
    return Section("vectors", "Vectors", {"vectors": [_vector(v) for v in results.vectors.values()]})


def _vector(vector: VectorResult) -> VectorView:
    facts = [
        ("added", f"at {vector.site} of layer {vector.layer}, {vector.position}"),
        ("made", vector.how),
        ("length", f"{formats.number(vector.norm)}, of {formats.whole(vector.width)} numbers"),
    ]
    if vector.kind == "learn":
        first, last = vector.steps[0], vector.steps[-1]
        facts.append(
            ("new answer", f"probability {formats.number(first.p_new)} before, {formats.number(last.p_new)} after")
        )
        kept = formats.counted(vector.n_kept, "prompt")
        if vector.kept_median is not None:
            kept += (
                f", whose own answers keep {formats.number(vector.kept_median)} of their probability (median; "
                f"least {formats.number(vector.kept_least)})"
            )
        facts.append(("kept", kept))
    elif vector.kind == "mean":
        minus = f" minus {formats.counted(vector.n_minus, 'prompt')}" if vector.n_minus else ""
        facts.append(("prompts", formats.counted(vector.n_prompts, "prompt") + minus))
    else:
        facts.append(("file", f"sha256 {vector.source_hash[:16]}"))
    facts.append(("saved", vector.path))
    return VectorView(vector.name, facts, _curves(vector), _steps(vector.steps) if vector.steps else None)


def _curves(vector: VectorResult) -> list[Figure]:
    figures = []
    for term, (title, meaning) in TERMS.items() if vector.steps else ():
        values = [float(getattr(step, term)) for step in vector.steps]
        described = f"From {formats.number(values[0])} to {formats.number(values[-1])} in {len(values) - 1} steps."
        chart = charts.training(values, share=term == "p_new")
        svg = to_svg(chart, f"vector-{vector.name}-{term}", f"{title}: {meaning}", described)
        figures.append(Figure(title, svg, note=meaning))
    return figures


def _steps(steps: Sequence[LearningStep]) -> Table:
    columns = [Column("step", "number"), Column("loss", "number"), *(Column(TERMS[t][0], "number") for t in TERMS)]
    return Table(
        columns,
        [
            [
                Cell(formats.whole(step.step)),
                Cell(formats.number(step.loss)),
                *(Cell(formats.number(float(getattr(step, term)))) for term in TERMS),
            ]
            for step in steps
        ],
    )
