"""``difference``: do the facts that an edit takes away differ in a number from those that it leaves?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from runner.analyses.protocol import Findings
from runner.analyses.rows import clean_values, hit_measure, reader, rows_of, value_reader
from runner.summaries import other_forms
from specs.language.errors import RunError
from specs.language.experiment import Analysis as AnalysisSpec
from specs.language.results import AnalysisResult
from specs.language.words import Outcome

__all__ = ["difference", "outcome_of", "relative_difference"]

EVERYTHING = "all"
"""The one group where nothing is told apart."""
OUTCOMES: dict[tuple[bool, bool], Outcome] = {
    (True, True): "resilient",
    (True, False): "sensitive",
    (False, True): "gained",
    (False, False): "never",
}
"""(right in the clean run, right under the edit): what became of a question."""


def outcome_of(clean: float, edited: float) -> Outcome:
    """Name what became of a question that is right (above 0) or wrong in the clean run and under the edit."""
    return OUTCOMES[clean > 0, edited > 0]


def relative_difference(one: float, other: float) -> float | None:
    """Give (one - other) over the mean of both, between -2 and 2; None where both are 0.

    So that exchanging the two changes nothing but the sign, and a test of such differences says the same either way.
    """
    return 2 * (one - other) / (one + other) if one + other else None


@dataclass
class _Test:
    """What a test found: p, the size of the effect under its name, and over how many."""

    p: float | None = None
    effect: str = ""
    size: float | None = None
    n: int = 0


def difference(name: str, spec: AnalysisSpec, found: Findings) -> AnalysisResult:
    """Compare a number of the facts between two outcomes of an edit, separately within each value of ``per``.

    Outcomes are of an owner's own questions: ``sensitive`` is right in the clean run and wrong under the edit,
    ``resilient`` right in both, ``gained`` wrong and then right, ``never`` wrong in both. Each group has the means of
    the column over the questions of either outcome and their relative difference, (a - b) over the mean of a and b;
    where the column has negative values, the plain difference. Groups that lack an outcome are left out and listed.

    Tests are two-sided. ``wilcoxon`` (signed-rank; the default where ``per`` is given) and ``t`` with ``per`` ask
    whether the differences of the groups are 0; ``mannwhitney`` and ``t`` without ``per`` (Welch) ask whether the
    questions of the two outcomes have the same values, with ``per`` group by group. Figures: ``p``, ``n`` (groups, or
    questions), ``effect`` (rank-biserial correlation: of signed ranks, or 2 AUC - 1; of t, Cohen's d), ``difference``
    (mean over groups), ``<group>/difference`` and, for ``mannwhitney`` with ``per``, ``<group>/p``. Source: frequency
    of sensitive and resilient facts, arXiv 2502.17355.
    """
    assert spec.difference is not None and spec.of is not None and spec.between is not None
    one, other = spec.between
    test = spec.test or ("wilcoxon" if spec.per is not None else "mannwhitney")
    groups = _values(name, spec, found)
    relative = all(v >= 0 for by in groups.values() for values in by.values() for v in values)
    kind = "relative difference" if relative else "difference"
    by_group = spec.per is not None and test == "mannwhitney"
    rows: list[list[str | float | int | bool | None]] = []
    figures: dict[str, float] = {}
    differences: list[float] = []
    pooled: tuple[list[float], list[float]] = ([], [])
    for group, by_outcome in groups.items():
        a, b = by_outcome.get(one, []), by_outcome.get(other, [])
        if not a or not b:
            lacks = " and no ".join(outcome for outcome, values in ((one, a), (other, b)) if not values)
            found.leave_out(name, group, f"no {lacks} question of it has a {spec.difference}")
            continue
        mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
        value = relative_difference(mean_a, mean_b) if relative else mean_a - mean_b
        if value is None:
            found.leave_out(name, group, f"{spec.difference} is 0 for all of its questions")
            continue
        differences.append(value)
        pooled[0].extend(a)
        pooled[1].extend(b)
        line: list[str | float | int | bool | None] = [group, len(a), len(b), mean_a, mean_b, value]
        figures[f"{group}/difference"] = value
        if by_group:
            within = _of_questions("mannwhitney", a, b)
            line.append(within.p)
            if within.p is not None:
                figures[f"{group}/p"] = within.p
        rows.append(line)
    if not rows:
        raise RunError(
            f"'{name}': no {spec.per or 'question'} has both {one} and {other} facts with a {spec.difference}"
        )
    over_groups = spec.per is not None and not by_group
    with _quietly():
        result = _of_groups(test, differences) if over_groups else _of_questions(test, *pooled)
    figures |= {"difference": math.fsum(differences) / len(differences), "n": float(result.n)}
    if not by_group:
        for key, number in (("p", result.p), ("effect", result.size)):
            if number is not None:
                figures[key] = number
    names = [spec.per or "group", f"{one}, n", f"{other}, n", f"{one}, mean", f"{other}, mean", kind]
    left = len(groups) - len(rows)
    return AnalysisResult(
        name=name,
        verb="difference",
        of=f"{spec.difference} between {one} and {other} facts of {spec.of}",
        columns=[*names, "p"] if by_group else names,
        rows=rows,
        sentence=_sentence(spec, test, kind, differences, result, left, by_group),
        figures=figures,
    )


def _values(name: str, spec: AnalysisSpec, found: Findings) -> dict[str, dict[Outcome, list[float]]]:
    """Give group: outcome: the column's value of each question."""
    assert spec.of is not None and spec.difference is not None
    rows = rows_of(name, spec.of, found)
    measure = hit_measure(name, found, spec.of)
    clean = clean_values(rows, measure)
    read = value_reader(found, spec.of)
    of_group: Callable[..., str | None] = reader(spec.per, found, spec.of) if spec.per else lambda _: EVERYTHING
    forms = other_forms(row.asked.edited for row in rows)
    groups: dict[str, dict[Outcome, list[float]]] = {}
    lacking = no_group = 0
    for row in rows:
        asked, value = row.asked, row.values.get(measure)
        if asked.condition != "edit" or asked.role != "target" or asked.edited in forms or value is None:
            continue
        if row.known is False:
            continue
        before = clean.get((asked.edited, asked.prompt_id))
        if before is None:
            continue
        outcome, group, number = outcome_of(before, float(value)), of_group(row), _number(read(asked, spec.difference))
        if outcome not in (spec.between or ()):
            continue
        if number is None:
            lacking += 1
        elif group is None:
            no_group += 1
        else:
            groups.setdefault(group, {}).setdefault(outcome, []).append(number)
    if lacking:
        found.leave_out(name, f"{lacking} questions of {spec.of}", f"they have no {spec.difference} that is a number")
    if no_group:
        found.leave_out(name, f"{no_group} questions of {spec.of}", f"they have no {spec.per}")
    return groups


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep scipy from warning of values that are nearly alike: what comes of them is judged here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _of_groups(test: str, differences: Sequence[float]) -> _Test:
    """Test whether the differences of the groups are 0; there is no p for fewer than two that are not."""
    from scipy import stats

    n = len(differences)
    moved = [d for d in differences if d]
    if len(moved) < 2:
        return _Test(n=n)
    if test == "t":
        size = _cohen(differences)
        p = None if size is None else _finite(float(stats.ttest_1samp(differences, 0.0).pvalue))
        return _Test(p, "Cohen's d", size, n)
    ranks = stats.rankdata([abs(d) for d in moved])
    up = math.fsum(r for r, d in zip(ranks, moved, strict=True) if d > 0)
    size = 2 * up / math.fsum(ranks) - 1
    return _Test(_finite(float(stats.wilcoxon(moved).pvalue)), "rank-biserial correlation", size, n)


def _of_questions(test: str, one: Sequence[float], other: Sequence[float]) -> _Test:
    """Test whether two sets of questions have the same values; there is no p where a set has fewer than two."""
    from scipy import stats

    n = len(one) + len(other)
    if min(len(one), len(other)) < 2:
        return _Test(n=n)
    if test == "t":
        size = _cohen_of_two(one, other)
        p = None if size is None else _finite(float(stats.ttest_ind(one, other, equal_var=False).pvalue))
        return _Test(p, "Cohen's d", size, n)
    found = stats.mannwhitneyu(one, other, alternative="two-sided")
    size = 2 * float(found.statistic) / (len(one) * len(other)) - 1
    return _Test(_finite(float(found.pvalue)), "rank-biserial correlation", size, n)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)


def _cohen(differences: Sequence[float]) -> float | None:
    spread = math.sqrt(_variance(differences))
    return math.fsum(differences) / len(differences) / spread if spread else None


def _cohen_of_two(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Give the difference of the means over the pooled standard deviation."""
    pooled = ((len(one) - 1) * _variance(one) + (len(other) - 1) * _variance(other)) / (len(one) + len(other) - 2)
    return (math.fsum(one) / len(one) - math.fsum(other) / len(other)) / math.sqrt(pooled) if pooled else None


TESTS = {"wilcoxon": "Wilcoxon signed-rank", "mannwhitney": "Mann-Whitney", "t": "t test"}


def _sentence(
    spec: AnalysisSpec, test: str, kind: str, differences: Sequence[float], result: _Test, left: int, by_group: bool
) -> str:
    assert spec.between is not None
    one, other = spec.between
    higher = sum(d > 0 for d in differences)
    if spec.per is None:
        sign = "higher" if differences[0] > 0 else "lower" if differences[0] < 0 else "the same"
        text = f"The mean {spec.difference} of {one} questions is {sign} than that of {other} ones"
        text = text.replace("the same than that", "the same as that") + f" ({kind} {differences[0]:.2f})"
    else:
        text = (
            f"{spec.difference} is higher for {one} than for {other} questions in {higher} of {len(differences)} "
            f"groups ({spec.per}), by a {kind} of {math.fsum(differences) / len(differences):.2f} on average"
        )
    if by_group:
        text += f"; {TESTS[test]} within each of them, p in the table"
    elif result.p is None:
        text += f"; too few for a {TESTS[test]}"
    else:
        chance = "< 0.001" if result.p < 0.001 else f"= {result.p:.3f}"
        size = f", {result.effect} {result.size:.2f}" if result.size is not None else ""
        text += f" ({TESTS[test]}: p {chance}{size}, n = {result.n})"
    if test == "wilcoxon" and result.p is not None and 2 ** (1 - result.n) > 0.05:
        text += f"; with {result.n} groups p cannot be below {2 ** (1 - result.n):.2g}"
    return text + (f". {left} groups lack one of the two and are left out." if left else ".")
