"""Whether an analysis finds in the results it reads what it is about."""

from __future__ import annotations

from itertools import pairwise

from specs.language.errors_of_answers import RIGHT, SHIPPED
from specs.language.experiment import Analysis
from specs.language.facts import COLUMNS
from specs.language.meaning.naming import Path
from specs.language.meaning.scope import Scope
from specs.language.meaning.sweeps import edited, sweeps_of
from specs.language.patterns import trouble
from specs.language.references import parse_rank
from specs.language.scalars import looks_like_number

__all__ = ["CHECKS"]

HITS = ("accuracy", "pass")
"""Measures that say of a question whether it is answered right."""


def check_slices(scope: Scope) -> None:
    """Slices are the differences of the cut-offs they are summed up to, of the same ranking, on the same questions."""
    interventions = scope.experiment.interventions
    for name, spec in scope.experiment.analyses.items():
        if spec.cumulativity not in interventions or spec.slices not in interventions:
            continue
        path = ("analyses", name)
        more, slices = str(spec.cumulativity), str(spec.slices)
        if any(neurons is None for done in (more, slices) for _, neurons, _ in edited(scope, done)):
            continue
        tops = _cut(scope, more, "top")
        ranks = _cut(scope, slices, "rank")
        if tops is None:
            scope.tell(f"'{more}' has no cut-offs: its edit needs `top: [...]`", *path, "cumulativity")
            continue
        if ranks is None:
            scope.tell(f"'{slices}' has no slices: its edit needs `rank: [...]`", *path, "slices")
            continue
        cuts = sorted({int(top) for top in tops})
        wanted = [f"{a + 1}-{b}" for a, b in pairwise(cuts)]
        if not wanted:
            scope.tell(f"'{more}' has one cut-off, and nothing lies between; give several", *path, "cumulativity")
        elif [parse_rank(str(rank)) for rank in ranks] != [parse_rank(text) for text in wanted]:
            scope.tell(
                f"the slices of {slices} are not the differences of {more}'s cut-offs; "
                f"they would be {', '.join(wanted[:2])}{', ...' if len(wanted) > 2 else ''}",
                *path,
                "slices",
            )
        else:
            _check_comparable(scope, more, slices, path)


def _check_comparable(scope: Scope, more: str, slices: str, path: Path) -> None:
    """The two interventions differ in nothing but the cut."""
    one, other = (scope.experiment.interventions[name] for name in (more, slices))
    of = [
        {ranking for _, n, _ in edited(scope, name) if n is not None for ranking in n.rankings}
        for name in (more, slices)
    ]
    if of[0] != of[1]:
        scope.tell(f"'{slices}' edits neurons of another ranking than '{more}'", *path, "slices")
    if set(one.ask) != set(other.ask):
        asked = f"{', '.join(other.ask)}, and '{more}' {', '.join(one.ask)}"
        scope.tell(f"'{slices}' asks {asked}; what is lost is looked up question by question", *path, "slices")
    if not any(m.partition("@")[0] in HITS and m in other.measure for m in one.measure):
        message = f"'{more}' and '{slices}' measure nothing alike that says whether an answer is right; add accuracy@2"
        scope.tell(message, *path, "cumulativity")
    for name, cut, field in ((more, "top", "cumulativity"), (slices, "rank", "slices")):
        _check_one_edit(scope, name, (*path, field), beside=cut)


def _check_one_edit(scope: Scope, name: str, path: Path, beside: str = "") -> None:
    """A question is under one edit, and not under several values of a sweep (``beside``: but for this one)."""
    if scope.experiment.interventions[name].tune is not None:
        return
    free = {axis: v for axis, v in (sweeps_of(scope, name) or {}).items() if len(v) > 1 and axis != beside}
    if free:
        axis, values = next(iter(free.items()))
        scope.tell(f"'{name}' asks every question at {len(values)} values of {axis}; this takes one of them", *path)


def _cut(scope: Scope, name: str, cut: str) -> list[str | int] | None:
    for _, neurons, _ in edited(scope, name):
        for chosen in neurons.sets if neurons is not None else ():
            value = getattr(chosen, cut)
            if isinstance(value, list):
                return list(value)
    return None


def check_differences(scope: Scope) -> None:
    """A number is compared between two outcomes of one edit, by a test that fits."""
    for name, spec in scope.experiment.analyses.items():
        if spec.difference is None or spec.of not in scope.experiment.interventions:
            continue
        path: Path = ("analyses", name)
        of = str(spec.of)
        if spec.between is not None and len(set(spec.between)) < 2:
            scope.tell(f"{spec.between[0]} facts do not differ from themselves; name two outcomes", *path, "between")
        if spec.test == "wilcoxon" and spec.per is None:
            message = "wilcoxon compares pairs, one for each value of `per:`; add `per: relation`, or write mannwhitney"
            scope.tell(message, *path, "test")
        if not any(m.partition("@")[0] in HITS for m in scope.experiment.interventions[of].measure):
            scope.tell(f"{of} measures nothing that says whether an answer is right; add accuracy@2", *path, "of")
        _check_one_edit(scope, of, (*path, "of"))
        _check_number(scope, spec, path)


def _check_number(scope: Scope, spec: Analysis, path: Path) -> None:
    column = str(spec.difference)
    if column in COLUMNS:
        scope.tell(f"'{column}' is a text; a difference is of a number, such as popularity", *path, "difference")
        return
    values = [e.attributes[column] for e in scope.experiment.entities.values() if column in e.attributes]
    if values and not any(not isinstance(v, str) or looks_like_number(v) for v in values):
        scope.tell(f"'{column}' is a text ('{values[0]}'); a difference is of a number", *path, "difference")


def check_errors(scope: Scope) -> None:
    """Errors are read off texts, and patterns are such as can be tried on them."""
    for name, spec in scope.experiment.analyses.items():
        if spec.errors is None:
            continue
        path: Path = ("analyses", name)
        done = scope.experiment.interventions.get(spec.errors)
        if done is not None and not any(m.startswith("text@") for m in done.measure):
            message = (
                f"errors are read off what is said, and {spec.errors} measures no text; add text@20 to its `measure`"
            )
            scope.tell(message, *path, "errors")
        for label, pattern in (spec.classes or {}).items():
            place = (*path, "classes", label)
            if label in (RIGHT, *SHIPPED):
                scope.tell(
                    f"'{label}' is a class that is there already ({', '.join((RIGHT, *SHIPPED))})", *place, key=True
                )
            if why := trouble(pattern):
                scope.tell(f"the pattern {pattern!r} cannot be used: {why}", *place)


CHECKS = (check_slices, check_differences, check_errors)
