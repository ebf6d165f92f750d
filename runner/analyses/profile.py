"""``profile``: in which layers do the neurons lie?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from runner.analyses.protocol import Findings
from runner.analyses.sets import OwnedSet, owned_sets
from specs.language.experiment import Analysis as AnalysisSpec
from specs.language.references import Address
from specs.language.results import AnalysisResult

__all__ = ["profile"]

COLUMNS = ["site", "layer", "neurons", "different"]


def profile(name: str, spec: AnalysisSpec, found: Findings) -> AnalysisResult:
    """Count the neurons of a set by site and layer.

    ``neurons`` counts one for every owner, ``different`` counts a neuron that several owners share once.
    Where names were ranked in several forms, the names themselves are counted. Figures: ``L0``, ``L1``
    ... for every layer of the model, all sites together, ``neurons`` and ``different``, and of several sites
    ``<site>/neurons`` and ``<site>/L0`` .... Source: layer
    profile, arXiv 2604.01404.
    """
    assert spec.profile is not None
    groups = owned_sets(name, spec.profile, found)
    chosen = [address for group in groups for address in group.neurons]
    counts = Counter((a.site, a.layer) for a in chosen)
    different = Counter((a.site, a.layer) for a in dict.fromkeys(chosen))
    block = spec.profile.partition("/")[0]
    unit = found.results.rankings[block].unit if block in found.results.rankings else "neuron"
    layers = range(found.results.model.n_layers)
    sites = sorted({site for site, _ in counts})
    per_layer = {layer: sum(counts[site, layer] for site in sites) for layer in layers}
    return AnalysisResult(
        name=name,
        verb="profile",
        of=spec.profile,
        columns=COLUMNS,
        rows=[[site, layer, counts[site, layer], different[site, layer]] for site in sites for layer in layers],
        sentence=_layers_sentence(chosen, groups)
        if unit == "layer"
        else _sentence(per_layer, len(chosen), len(set(chosen)), len(groups), _noun(found, block))
        + _shares(counts, sites),
        figures={
            **{f"L{layer}": float(n) for layer, n in per_layer.items()},
            "neurons": float(len(chosen)),
            "different": float(len(set(chosen))),
            **(_of_sites(counts, sites, layers) if len(sites) > 1 else {}),
        },
    )


def _of_sites(counts: Counter[tuple[str, int]], sites: Sequence[str], layers: Sequence[int]) -> dict[str, float]:
    found = {f"{site}/L{layer}": float(counts[site, layer]) for site in sites for layer in layers}
    return found | {f"{site}/neurons": float(sum(counts[site, layer] for layer in layers)) for site in sites}


def _noun(found: Findings, block: str) -> str:
    """Call the owners names, or what else they are: relations."""
    ranking = found.results.rankings.get(block)
    if ranking is None or not ranking.by or "entity" in ranking.by:
        return "names"
    return f"{ranking.by[0]}s"


def _shares(counts: Counter[tuple[str, int]], sites: Sequence[str]) -> str:
    """Say which share of the neurons lies at which of several sites."""
    if len(sites) < 2:
        return ""
    of_site = {site: sum(n for (s, _), n in counts.items() if s == site) for site in sites}
    ordered = sorted(sites, key=lambda site: -of_site[site])
    return f" {', '.join(f'{of_site[s] / counts.total():.0%} at {s}' for s in ordered)}."


def _layers_sentence(chosen: Sequence[Address], groups: Sequence[OwnedSet]) -> str:
    counts = Counter(address.layer for address in chosen)
    most = max(counts.values())
    peaks = [f"L{layer}" for layer in sorted(counts) if counts[layer] == most]
    if len(chosen) == 1:
        return f"The one layer is {peaks[0]}."
    text = f"The best layers of {len(groups)} names lie from L{min(counts)} to L{max(counts)}"
    return f"{text}, most of them ({most}) at {peaks[0]}." if len(peaks) == 1 else f"{text}."


def _sentence(per_layer: dict[int, int], n: int, different: int, owners: int, noun: str) -> str:
    occupied = [layer for layer, count in per_layer.items() if count]
    if n == 1:
        return f"The one neuron lies in layer {occupied[0]}."
    most = max(per_layer.values())
    peaks = [str(layer) for layer in occupied if per_layer[layer] == most]
    text = f"The {n:,} neurons"
    if different < n:
        text += f" ({different:,} different ones, for {owners} {noun})"
    if len(occupied) == 1:
        return f"{text} all lie in layer {occupied[0]}."
    text += f" lie in layers {occupied[0]} to {occupied[-1]}"
    return f"{text}, most of them ({most:,}) in layer {peaks[0]}." if len(peaks) == 1 else f"{text}."
