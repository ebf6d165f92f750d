"""``overlap``: how many neurons do two owners share, and how many would they by chance?"""

from __future__ import annotations

import itertools

from runner.analyses.protocol import Findings
from runner.analyses.sets import OwnedSet, candidates, owned_sets
from specs.language.errors import RunError
from specs.language.experiment import Analysis as AnalysisSpec
from specs.language.results import AnalysisResult

__all__ = ["overlap"]

COLUMNS = ["one", "other", "size of one", "size of other", "shared", "jaccard", "by chance", "p"]


def overlap(name: str, spec: AnalysisSpec, found: Findings) -> AnalysisResult:
    """Compare every two groups of the sets.

    ``jaccard`` is shared over all different neurons of both. ``by chance`` is how many two sets of these sizes share on
    average if each is drawn at random among the ranked neurons of its site, and ``p`` how often they then share at
    least as many (hypergeometric, with all sites of the sets as one urn where there are several). Figures:
    ``<one>/<other>/shared``, ``/jaccard``, ``/chance``, in both orders, and ``jaccard``, the mean over pairs.
    """
    assert spec.overlap is not None
    refs = spec.overlap if isinstance(spec.overlap, list) else [spec.overlap]
    sets: list[OwnedSet] = []
    for ref in refs:
        for one in owned_sets(name, ref, found):
            # With several sets an owner alone does not say which of them is meant.
            key = f"{ref.partition('/')[0]}/{one.key}" if len(refs) > 1 else one.key
            sets.append(OwnedSet(key, one.label if len(refs) == 1 else key, one.neurons))
    if len(sets) < 2:
        raise RunError(f"'{name}' has one set of neurons and nothing to compare it with", remedy="name another one")
    counts = candidates(found, sets)
    rows: list[list[str | float | int | bool | None]] = []
    figures: dict[str, float] = {}
    for one, other in itertools.combinations(sets, 2):
        a, b = set(one.neurons), set(other.neurons)
        shared, union = len(a & b), len(a | b)
        jaccard = shared / union if union else None
        chance, p = _by_chance(one, other, counts, shared)
        rows.append([one.label, other.label, len(a), len(b), shared, jaccard, chance, p])
        for pair in (f"{one.key}/{other.key}", f"{other.key}/{one.key}"):
            figures |= {f"{pair}/shared": float(shared), f"{pair}/chance": chance}
            if jaccard is not None:
                figures[f"{pair}/jaccard"] = jaccard
    ratios = [float(row[5]) for row in rows if row[5] is not None]
    if ratios:
        figures["jaccard"] = sum(ratios) / len(ratios)
    sharing = [row for row in rows if row[4]]
    return AnalysisResult(
        name=name,
        verb="overlap",
        of=", ".join(refs),
        columns=COLUMNS,
        rows=rows,
        sentence=_sentence(rows, sharing),
        figures=figures,
    )


def _by_chance(one: OwnedSet, other: OwnedSet, counts: dict[str, int], shared: int) -> tuple[float, float]:
    """Give how many neurons random sets of the same sizes share on average, and how often at least ``shared``."""
    from scipy import stats

    sites = {a.site for a in (*one.neurons, *other.neurons)}
    expected = sum(
        len({a for a in one.neurons if a.site == s}) * len({a for a in other.neurons if a.site == s}) / counts[s]
        for s in sites
    )
    total = sum(counts[s] for s in sites)
    p = float(stats.hypergeom.sf(shared - 1, total, len(set(one.neurons)), len(set(other.neurons)))) if total else 1.0
    return expected, min(1.0, p)


def _sentence(
    rows: list[list[str | float | int | bool | None]], sharing: list[list[str | float | int | bool | None]]
) -> str:
    if not sharing:
        return f"No two of them share a neuron ({len(rows)} pairs)." if len(rows) > 1 else "They share no neuron."
    most = max(sharing, key=lambda row: (row[5] or 0.0, str(row[0])))
    text = f"{len(sharing)} of {len(rows)} pairs share neurons" if len(rows) > 1 else "They share neurons"
    return (
        f"{text}; most {most[0]} and {most[1]}, {most[4]} of {most[2]} and {most[3]} "
        f"(Jaccard {most[5]:.2f}; {most[6]:.2g} by chance)."
    )
