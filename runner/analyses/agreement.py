"""``agreement``: does every form of a name find the same neuron?"""

from __future__ import annotations

from runner.analyses.protocol import Findings
from runner.analyses.sets import place_of
from specs.language.errors import RunError
from specs.language.experiment import Analysis as AnalysisSpec
from specs.language.results import AnalysisResult, RankingGroup

__all__ = ["agreement"]

COLUMNS = ["entity", "reference", "variant", "form", "winner", "same", "rank of reference", "relative score"]


def agreement(name: str, spec: AnalysisSpec, found: Findings) -> AnalysisResult:
    """Compare the winner of every other form of a name with that of the name itself, the reference.

    One row for each entity and variant. ``rank of reference`` is the place of the reference in the
    variant's ranking, over all its candidates; ``relative score`` is the reference's score there over the
    variant's best score, a ratio of at most 1, absent where the best score is not positive. Figures:
    ``same`` and ``of`` count forms, ``relative_score`` is the mean ratio. Source: robustness to form,
    arXiv 2604.01404.
    """
    assert spec.agreement is not None
    if spec.across != "variant":
        raise RunError(f"'{name}': agreement across {spec.across} is not built yet", remedy="write `across: variant`")
    ranking = found.results.rankings.get(spec.agreement)
    if ranking is None:
        raise RunError(f"'{name}' compares '{spec.agreement}', which was not ranked")
    whole = found.rankings[spec.agreement]
    names: dict[str | None, RankingGroup] = {g.entity: g for g in ranking.groups.values() if g.variant is None}
    rows: list[list[str | float | int | bool | None]] = []
    for key, group in ranking.groups.items():
        if group.variant is None:
            continue
        if group.entity not in names:
            raise RunError(
                f"'{name}' needs a ranking of the name of {group.entity} itself, beside {key}",
                remedy="take every form of the name: `variants: all`",
            )
        reference, best = names[group.entity].neurons[0].address, group.neurons[0]
        rank, score = whole.rank_of(key, place_of(reference, ranking.site))
        rows.append(
            [
                group.entity,
                reference,
                group.variant,
                group.label,
                best.address,
                best.address == reference,
                rank,
                score / best.score if best.score > 0 else None,
            ]
        )
    if not rows:
        raise RunError(
            f"'{name}' has nothing to compare: '{spec.agreement}' ranks one form of each name",
            remedy="give the entities `variants:` and rank them with `by: [entity, variant]`",
        )
    same = sum(bool(row[5]) for row in rows)
    ratios = [float(row[7]) for row in rows if row[7] is not None]
    figures = {"same": float(same), "of": float(len(rows))}
    if ratios:
        figures["relative_score"] = sum(ratios) / len(ratios)
    return AnalysisResult(
        name=name,
        verb="agreement",
        of=spec.agreement,
        columns=COLUMNS,
        rows=rows,
        sentence=_sentence(rows, same),
        figures=figures,
    )


def _sentence(rows: list[list[str | float | int | bool | None]], same: int) -> str:
    if len(rows) == 1:
        _, reference, _, form, winner, found, rank, _ = rows[0]
        if found:
            return f"{form} finds the same neuron as the name itself, {reference}."
        return f"{form} finds {winner} and not {reference}, which is at rank {rank} there."
    verb = "finds" if same == 1 else "find"
    text = f"{same} of {len(rows)} other forms {verb} the same neuron as the name itself"
    missed = [row for row in rows if not row[5]]
    if missed:
        worst = max(missed, key=lambda row: (row[6] or 0, str(row[3])))
        text += f"; it is furthest down for {worst[3]}, at rank {worst[6]}"
    return text + "."
