"""``cumulativity``: are questions lost to many neurons together that the last of them alone do not lose?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

from runner.analyses.protocol import Findings
from runner.analyses.rows import Question, hit_measure, question_of, rows_of
from runner.observe import Row
from specs.language.errors import RunError
from specs.language.experiment import Analysis as AnalysisSpec
from specs.language.references import parse_rank
from specs.language.results import AnalysisResult

__all__ = ["MACRO", "MICRO", "cumulativity"]

COLUMNS = ["owner", "neurons", "total", "affected", "cumulativity"]
MACRO, MICRO = "mean over owners (macro)", "all questions together (micro)"
Slice = tuple[int, int]
Counted = dict[str, dict[Slice, tuple[int, int]]]
"""Owner: neurons in between: (total, affected)."""


def cumulativity(name: str, spec: AnalysisSpec, found: Findings) -> AnalysisResult:
    """Count, for every two consecutive cut-offs k < K, what is lost only to all K neurons together.

    Over an owner's own questions, ``total`` are those that are answered right when its first k neurons are edited and
    wrong when its first K are; ``affected`` are those of them that are wrong as well when only the neurons of ranks
    k + 1 to K are edited. Cumulativity is 1 - affected / total: 1 where no lost question is lost to the difference
    alone. It is undefined where total is 0. Macro is the mean over the owners for which it is defined, micro is that of
    the sums over owners. Right and wrong are by the first ``accuracy@n`` (or ``pass@k``) that both interventions took.
    Figures: ``macro``, ``micro`` (over all cut-offs, of each owner's sums and of all sums), ``<slice>/macro``,
    ``<slice>/micro``, ``<owner>/<slice>``, and ``total`` and ``affected`` under the same names. Source: neuron
    cumulativity, arXiv 2502.17355.
    """
    assert spec.cumulativity is not None and spec.slices is not None
    measure = hit_measure(name, found, spec.cumulativity, spec.slices)
    together = _hits(rows_of(name, spec.cumulativity, found), "top", measure)
    alone = _hits(rows_of(name, spec.slices, found), "rank", measure)
    cuts = sorted({last for points in together.values() for _, last in points})
    slices = [(k + 1, larger) for k, larger in pairwise(cuts)]
    if not slices:
        raise RunError(f"'{name}': no question was asked at two cut-offs of '{spec.cumulativity}'")
    counted: Counted = {}
    lacking = 0
    for (owner, question), points in together.items():
        of_owner = counted.setdefault(owner, dict.fromkeys(slices, (0, 0)))
        for first, last in slices:
            if not (points.get((1, first - 1)) and points.get((1, last)) is False):
                continue
            hit = alone.get((owner, question), {}).get((first, last))
            if hit is None:
                lacking += 1
                continue
            total, affected = of_owner[first, last]
            of_owner[first, last] = total + 1, affected + (not hit)
    if lacking:
        found.leave_out(name, f"{lacking} lost questions", f"'{spec.slices}' did not ask them")
    figures: dict[str, float] = {}
    rows: list[list[str | float | int | bool | None]] = []
    for owner, by_slice in counted.items():
        for place, (total, affected) in by_slice.items():
            value = _value(total, affected)
            rows.append([owner, _written(place), total, affected, value])
            _note(figures, f"{owner}/{_written(place)}", total, affected, value)
    for place in slices:
        macro, micro, total, affected = _over_owners([by_slice[place] for by_slice in counted.values()])
        rows.append([MACRO, _written(place), total, affected, macro])
        rows.append([MICRO, _written(place), total, affected, micro])
        _note(figures, f"{_written(place)}/micro", total, affected, micro)
        if macro is not None:
            figures[f"{_written(place)}/macro"] = macro
    sums = [tuple(map(sum, zip(*by_slice.values(), strict=True))) for by_slice in counted.values()]
    macro, micro, total, affected = _over_owners([(a, b) for a, b in sums])
    figures |= {"total": float(total), "affected": float(affected)}
    for key, value in (("macro", macro), ("micro", micro)):
        if value is not None:
            figures[key] = value
    return AnalysisResult(
        name=name,
        verb="cumulativity",
        of=f"{spec.cumulativity} and {spec.slices}",
        columns=COLUMNS,
        rows=rows,
        sentence=_sentence(
            measure, macro, micro, total, affected, sum(bool(t) for t, _ in sums), len(counted), figures
        ),
        figures=figures,
    )


def _hits(rows: Iterable[Row], cut: str, measure: str) -> dict[tuple[str, Question], dict[Slice, bool]]:
    """Give (owner, question): ranks that were edited: whether the answer was right; of an owner's own questions."""
    found: dict[tuple[str, Question], dict[Slice, bool]] = {}
    for row in rows:
        asked, value = row.asked, row.values.get(measure)
        if asked.condition != "edit" or asked.role != "target" or row.known is False or value is None:
            continue
        at = asked.axes[cut]
        place = (1, int(at)) if cut == "top" else parse_rank(at if isinstance(at, str) else f"{at:g}")
        found.setdefault((asked.edited, question_of(asked)), {})[place] = float(value) > 0
    return found


def _value(total: int, affected: int) -> float | None:
    return 1 - affected / total if total else None


def _over_owners(counts: Iterable[tuple[int, int]]) -> tuple[float | None, float | None, int, int]:
    """Give macro, micro and the sums of (total, affected) of several owners."""
    counts = list(counts)
    values = [value for pair in counts if (value := _value(*pair)) is not None]
    total, affected = sum(t for t, _ in counts), sum(a for _, a in counts)
    return math.fsum(values) / len(values) if values else None, _value(total, affected), total, affected


def _note(figures: dict[str, float], key: str, total: int, affected: int, value: float | None) -> None:
    base = key.removesuffix("/micro")
    figures |= {f"{base}/total": float(total), f"{base}/affected": float(affected)}
    if value is not None:
        figures[key] = value


def _written(place: Slice) -> str:
    return f"{place[0]}-{place[1]}"


def _sentence(
    measure: str,
    macro: float | None,
    micro: float | None,
    total: int,
    affected: int,
    n: int,
    owners: int,
    figures: dict[str, float],
) -> str:
    if macro is None or micro is None:
        return f"By {measure} no question is lost between two cut-offs, so there is no cumulativity."
    also = f"{affected} of them when only the neurons in between are edited"
    text = f"By {measure} {total} questions are lost between two cut-offs, {also}: cumulativity {micro:.2f} over all "
    text += f"(micro), {macro:.2f} over owners (macro, {n} of {owners})"
    by_slice = {k.removesuffix("/micro"): v for k, v in figures.items() if k.endswith("/micro")}
    first, last = next(iter(by_slice)), list(by_slice)[-1]
    if first != last:
        text += f", from {by_slice[first]:.2f} at {first} to {by_slice[last]:.2f} at {last}"
    undefined = sum(1 for k, v in figures.items() if k.endswith("/total") and v == 0)
    return f"{text}." + (" Where no question is lost it is undefined." if undefined else "")
