"""``overlap``: how many neurons do two owners share, and how many would they by chance?"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.analyses.protocol import Findings
from runner.analyses.sets import OwnedSet, owned_sets, widths
from specs.language.errors import RunError
from specs.language.experiment import Analysis as AnalysisSpec
from specs.language.references import Address
from specs.language.results import AnalysisResult

__all__ = ["by_layers", "overlap"]

Stratum = tuple[str, int]
"""Site and layer."""
Floats = NDArray[np.float64]

COLUMNS = [
    *("one", "other", "size of one", "size of other", "shared", "jaccard", "by chance", "p"),
    *("by chance in layers", "p in layers"),
]


@dataclass(frozen=True)
class _Set:
    """One owner's neurons, counted once for all pairs."""

    key: str
    label: str
    neurons: frozenset[Address]
    per_layer: Mapping[Stratum, int]
    per_site: Mapping[str, int]


def overlap(name: str, spec: AnalysisSpec, found: Findings) -> AnalysisResult:
    """Compare every two groups of the sets.

    ``jaccard`` is shared over all different neurons of both. ``by chance`` is how many two sets of these sizes share on
    average if each is drawn at random among the ranked neurons of its site, and ``p`` how often they then share at
    least as many (hypergeometric, with all sites of the sets as one urn where there are several). ``in layers``:
    the same if each set is drawn with as many neurons of each site and layer as it has, so that what two
    sets share because they lie in the same layers counts as chance. Figures: ``<one>/<other>/shared``, ``/jaccard``,
    ``/chance``, ``/chance_in_layers``, in both orders, and ``jaccard``, the mean over pairs; of two rankings also
    ``<ranking>/<ranking>/jaccard``, the mean over the pairs between them. A claim on ``<one>/<other>`` is one on what
    they share.
    """
    from scipy import stats

    assert spec.overlap is not None
    refs = spec.overlap if isinstance(spec.overlap, list) else [spec.overlap]
    sets: list[_Set] = []
    for ref in refs:
        for owned in owned_sets(name, ref, found):
            # With several sets an owner alone does not say which of them is meant.
            key = f"{ref.partition('/')[0]}/{owned.key}" if len(refs) > 1 else owned.key
            sets.append(_counted(OwnedSet(key, owned.label if len(refs) == 1 else key, owned.neurons)))
    if len(sets) < 2:
        raise RunError(f"'{name}' has one set of neurons and nothing to compare it with", remedy="name another one")
    sizes = widths(found, [a for one in sets for a in one.neurons])
    of_site: Counter[str] = Counter()
    for (site, _), width in sizes.items():
        of_site[site] += width
    rows: list[list[str | float | int | bool | None]] = []
    figures: dict[str, float] = {}
    for one, other in itertools.combinations(sets, 2):
        shared = len(one.neurons & other.neurons)
        union = len(one.neurons) + len(other.neurons) - shared
        jaccard = shared / union if union else None
        sites = one.per_site.keys() | other.per_site.keys()
        chance = sum(one.per_site.get(s, 0) * other.per_site.get(s, 0) / of_site[s] for s in sites)
        total = sum(of_site[s] for s in sites)
        p = float(stats.hypergeom.sf(shared - 1, total, len(one.neurons), len(other.neurons))) if total else 1.0
        in_layers, p_layers = by_layers(one.per_layer, other.per_layer, sizes, shared)
        figured = [len(one.neurons), len(other.neurons), shared, jaccard, chance, min(1.0, p), in_layers, p_layers]
        rows.append([one.label, other.label, *figured])
        for pair in (f"{one.key}/{other.key}", f"{other.key}/{one.key}"):
            figures |= {
                f"{pair}/shared": float(shared),
                f"{pair}/chance": chance,
                f"{pair}/chance_in_layers": in_layers,
            }
            if jaccard is not None:
                figures[f"{pair}/jaccard"] = jaccard
    ratios = [float(row[5]) for row in rows if row[5] is not None]
    if ratios:
        figures["jaccard"] = sum(ratios) / len(ratios)
    between = _between(rows, refs)
    sharing = [row for row in rows if row[4]]
    return AnalysisResult(
        name=name,
        verb="overlap",
        of=", ".join(refs),
        columns=COLUMNS,
        rows=rows,
        sentence=_sentence(rows, sharing) + _of_between(between),
        figures=figures | {f"{a}/{b}/jaccard": mean for (a, b), (mean, _) in between.items()},
    )


def _counted(one: OwnedSet) -> _Set:
    neurons = frozenset(one.neurons)
    per_layer = Counter((a.site, a.layer) for a in neurons)
    per_site: Counter[str] = Counter()
    for (site, _), n in per_layer.items():
        per_site[site] += n
    return _Set(one.key, one.label, neurons, per_layer, per_site)


def by_layers(
    one: Mapping[Stratum, int], other: Mapping[Stratum, int], sizes: Mapping[Stratum, int], shared: int
) -> tuple[float, float]:
    """Give how many neurons two sets share by chance, and how often at least ``shared``, layer by layer.

    Each set is drawn at random within every site and layer, with as many neurons as it has there: what they share is a
    sum of independent hypergeometric numbers, of which the distribution is exact (by convolution).
    """
    strata = [s for s in one if other.get(s)]
    expected = sum(one[s] * other[s] / sizes[s] for s in strata)
    if not shared:
        return expected, 1.0
    chances: Floats = np.ones(1)
    least = 0
    for s in strata:
        first, mass = _hypergeometric(sizes[s], one[s], other[s])
        chances = np.convolve(chances, mass)
        least += first
    return expected, float(min(1.0, chances[max(0, shared - least) :].sum()))


def _hypergeometric(size: int, one: int, other: int) -> tuple[int, Floats]:
    """Give the least number that two random sets of ``size`` neurons share, and the chance of it and of each more."""
    from scipy.special import gammaln

    first, last = max(0, one + other - size), min(one, other)
    k = np.arange(first, last + 1, dtype=np.int64)

    def chosen(n: int, m: NDArray[np.int64]) -> Floats:
        total: Floats = gammaln(n + 1.0) - gammaln(m + 1.0) - gammaln(n - m + 1.0)
        return total

    log = chosen(one, k) + chosen(size - one, other - k) - chosen(size, np.array(other))
    return first, np.exp(log)


def _between(
    rows: list[list[str | float | int | bool | None]], refs: list[str]
) -> dict[tuple[str, str], tuple[float, float]]:
    """Give of every two rankings the mean Jaccard of pairs between them, and what they share over chance in layers."""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    whole = [ref for ref in refs if "/" not in ref]
    if len(whole) < 2 or len(whole) != len(refs):
        return {}
    for row in rows:
        pair = str(row[0]).partition("/")[0], str(row[1]).partition("/")[0]
        if row[5] is not None:
            found.setdefault(pair, []).append((float(row[5]), float(row[4] or 0), float(row[8] or 0)))
    means = {}
    for pair, values in found.items():
        jaccards, shared, chance = zip(*values, strict=True)
        means[pair] = sum(jaccards) / len(values), sum(shared) / sum(chance) if sum(chance) else 0.0
    return means


def _of_between(between: dict[tuple[str, str], tuple[float, float]]) -> str:
    """Say how much two rankings have in common, beside what the owners of each have among themselves."""
    said = []
    for (a, b), (mean, ratio) in between.items():
        who = f"among the owners of {a}" if a == b else f"between {a} and {b}"
        beside = f", {ratio:.2g} times as many as by chance in the same layers" if ratio else ""
        said.append(f"{who} {mean:.2f}{beside}")
    return f" Mean Jaccard: {'; '.join(said)}." if said else ""


def _few(value: object) -> str:
    """Write a number that may lie far below 1 or far above."""
    number = float(str(value))
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _sentence(
    rows: list[list[str | float | int | bool | None]], sharing: list[list[str | float | int | bool | None]]
) -> str:
    if not sharing:
        return f"No two of them share a neuron ({len(rows)} pairs)." if len(rows) > 1 else "They share no neuron."
    most = max(sharing, key=lambda row: (row[5] or 0.0, str(row[0])))
    text = f"{len(sharing)} of {len(rows)} pairs share neurons" if len(rows) > 1 else "They share neurons"
    return (
        f"{text}; most {most[0]} and {most[1]}, {most[4]:,} of {most[2]:,} and {most[3]:,} "
        f"(Jaccard {most[5]:.2f}; {_few(most[6])} by chance, {_few(most[8])} in the same layers)."
    )
