"""Means over questions: how large an effect is, and how sure one can be of it.

The unit is the prompt. Several rows of one prompt (the draws of a control, or the answers of several people
to one text) are averaged first, because they say little more about other questions than one of them does:
five draws on eight questions are eight observations and not forty. The spread over draws is shown by itself
(``draws``).

Every interval is a 95 percent percentile bootstrap over prompts (Efron & Tibshirani 1993, ch. 13), 2,000
resamples. The resamples depend on the seed and on the number of prompts alone, and prompts are put in the
order of their texts: the order of work changes no digit, and two points of one sweep are compared on the same
resamples. With few prompts such an interval is too short; ``n`` stands beside it.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from runner.measures import INAPPLICABLE, parse
from runner.observe import Asked, Row
from specs.language.results import EVERYBODY, LeftOut, Summary
from specs.language.words import ConditionName, Role

__all__ = ["RESAMPLES", "TAILS", "count_asked", "left_out", "other_forms", "resamples", "summarise"]

RESAMPLES = 2000
TAILS = (0.025, 0.975)
BLOCK = 4_000_000
"""Numbers held at once while resampling: 32 MB."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Point = tuple[tuple[str, float | str], ...]
Cell = tuple[str, ConditionName, Role, Point]
Group = tuple[int, int]
"""A place in the list of cells, and a relation: 0 for all of them, else 1 + its place in the list."""
Figures = tuple[int, float | None, float | None, float | None, float | None, list[float]]
"""n, mean, standard error, low, high, draws."""
NOTHING: Figures = (0, None, None, None, None, [])


def summarise(rows: Sequence[Row], measures: Sequence[str], axes: Iterable[str], seed: int) -> list[Summary]:
    """Average every measure for each owner, condition, role and sweep value, over all relations and for
    each.

    Besides one summary for each owner there is one for ``*``, in which every owner counts the same: the
    mean of the owners' means, without other forms of a name that is an owner itself. Its n is the number
    of different prompts, and its interval resamples prompts with all that was observed on them, since one
    prompt may serve as a control for several owners.

    Rows that the clean model does not know are left out, and values that are undefined; :func:`left_out`
    lists both. What is no measure of a kind of prompt (a perplexity of a question) has no summary, and
    measures whose value is a text have no mean. Raises ValueError for a row with a sweep that is not in
    ``axes``.
    """
    numeric = _numeric(measures)
    table = _table(rows, numeric, tuple(axes))
    cells, star_of = _stars(table)
    applicable = _applicable(rows, numeric, table, star_of)
    figures = [_figures(table, m, seed) for m in range(len(numeric))]
    summaries: list[Summary] = []
    for cell, relation in _groups(table):
        edited, condition, role, point = cells[cell]
        for m, (measure, found) in enumerate(zip(numeric, figures, strict=True)):
            if (cell, m) not in applicable:
                continue
            n, mean, se, low, high, draws = found.get((cell, relation), NOTHING)
            summaries.append(
                Summary(
                    edited=edited,
                    condition=condition,
                    role=role,
                    axes=dict(point),
                    relation=table.relations[relation - 1] if relation else None,
                    measure=measure,
                    n=n,
                    mean=mean,
                    se=se,
                    low=low,
                    high=high,
                    draws=draws,
                )
            )
    return summaries


def _applicable(rows: Sequence[Row], numeric: Sequence[str], table: _Table, star_of: Ints) -> set[tuple[int, int]]:
    """List (cell, measure) where the measure is one of some of the cell's prompts."""
    found: set[tuple[int, int]] = set()
    for cell, row in zip(table.cell.tolist(), rows, strict=True):
        for m, measure in enumerate(numeric):
            if row.values[measure] is not None or row.reasons.get(measure) not in INAPPLICABLE:
                found |= {(cell, m), (int(star_of[cell]), m)}
    return found


def count_asked(rows: Sequence[Row]) -> tuple[int, int]:
    """Count the different questions about entities that were asked, and those the clean model knows.

    Counted over the clean runs where there are such, since a placeholder makes another prompt of a question.
    """
    questions = [row for row in rows if row.asked.role not in ("unknown", "texts")]
    clean = [row for row in questions if row.asked.condition == "clean"]
    asked: set[int] = set()
    known: set[int] = set()
    for row in clean or questions:
        asked.add(row.asked.prompt_id)
        if row.known is not False:
            known.add(row.asked.prompt_id)
    return len(asked), len(known)


def left_out(rows: Sequence[Row], measures: Sequence[str]) -> list[LeftOut]:
    """List what no mean holds: questions the clean model does not know, and values that are undefined.

    One entry for each question, with the answer's rank in the clean model, and one for each measure,
    question and reason, with the number of rows. Texts are not looked at, since no mean holds them.
    """
    numeric = _numeric(measures)
    named = _names(rows)
    unknown: dict[tuple[str, str], str] = {}
    undefined: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        what, where = named[_question(row.asked)], row.asked.intervention
        if row.known is False:
            unknown[where, what] = "the clean model does not know the answer" + _clean_rank(row)
            continue
        for measure in numeric:
            if row.values[measure] is None and row.reasons[measure] not in INAPPLICABLE:
                undefined[where, f"{measure} of {what}", row.reasons[measure]] += 1
    listed = [LeftOut(what=what, reason=reason, where=where) for (where, what), reason in sorted(unknown.items())]
    listed += [
        LeftOut(what=what, reason=f"{reason} ({n} {'row' if n == 1 else 'rows'})", where=where)
        for (where, what, reason), n in sorted(undefined.items())
    ]
    return listed


def _numeric(measures: Sequence[str]) -> list[str]:
    return [word for word in measures if parse(word)[0].unit != "text"]


def _clean_rank(row: Row) -> str:
    if row.clean is None or not row.clean.finite or not row.clean.answers:
        return ""
    return f" (rank {min(max(answer.ranks) for answer in row.clean.answers)})"


_Question = tuple[str | None, ...]


def _question(asked: Asked) -> _Question:
    """Give what tells one question from another, whatever name was put into it."""
    if asked.relation is None or asked.entity is None:
        return (asked.prompt,)
    return asked.relation, asked.entity, asked.variant, asked.phrasing, asked.language, asked.template


def _names(rows: Sequence[Row]) -> dict[_Question, str]:
    """Name every question ``relation/entity``, or by its text; say more where that names several."""
    questions = {_question(row.asked) for row in rows}
    short: Counter[_Question] = Counter(question[:5] for question in questions)
    names: dict[_Question, str] = {}
    for question in questions:
        if len(question) == 1:
            names[question] = str(question[0])
            continue
        relation, entity, variant, phrasing, language, template = question
        more = [part for part in (variant, phrasing, language) if part]
        if short[question[:5]] > 1:
            more.append(f"template {template}")
        names[question] = f"{relation}/{entity}" + (f" ({', '.join(more)})" if more else "")
    return names


@dataclass(frozen=True)
class _Table:
    """The rows as numbers: one entry per row, ``values`` one column per measure."""

    cells: list[Cell]
    relations: list[str]
    cell: Ints
    unit: Ints
    """Prompts, numbered in the order of their texts."""
    relation: Ints
    """Of each unit: 0 for none, else 1 + its place in ``relations``."""
    draw: Ints
    values: Floats


def _table(rows: Sequence[Row], measures: Sequence[str], axes: tuple[str, ...]) -> _Table:
    cells: dict[Cell, int] = {}
    texts: dict[int, tuple[str, str]] = {}
    places = np.empty((3, len(rows)), dtype=np.int64)
    values = np.empty((len(rows), len(measures)))
    for i, row in enumerate(rows):
        asked = row.asked
        point = tuple((axis, asked.axes[axis]) for axis in axes if axis in asked.axes)
        if len(point) != len(asked.axes):
            extra = sorted(set(asked.axes) - set(axes))
            raise ValueError(
                f"a row of {asked.intervention} has the sweep {', '.join(extra)}, which is not one of {axes}"
            )
        cell = (asked.edited, asked.condition, asked.role, point)
        places[:, i] = cells.setdefault(cell, len(cells)), asked.prompt_id, asked.draw
        text = (asked.prompt, asked.relation or "")
        if asked.prompt_id not in texts or text < texts[asked.prompt_id]:
            texts[asked.prompt_id] = text
        for m, measure in enumerate(measures):
            value = row.values[measure]
            if isinstance(value, str):
                raise ValueError(f"{measure} has the text {value!r} where a number is expected")
            values[i, m] = np.nan if value is None or row.known is False else value
    order = sorted(texts, key=lambda prompt: (texts[prompt], prompt))
    relations = {name: i + 1 for i, name in enumerate(sorted({text[1] for text in texts.values()} - {""}))}
    unit_of = {prompt: i for i, prompt in enumerate(order)}
    return _Table(
        cells=list(cells),
        relations=list(relations),
        cell=places[0],
        unit=np.array([unit_of[prompt] for prompt in places[1].tolist()], dtype=np.int64),
        relation=np.array([relations.get(texts[prompt][1], 0) for prompt in order], dtype=np.int64),
        draw=places[2],
        values=values,
    )


def other_forms(owners: Iterable[str]) -> set[str]:
    """Find the owners that are another form of one's name, such as ``trump/typo`` beside ``trump``.

    A person whose name was ranked in four forms is one person in a mean over owners.
    """
    given = set(owners)
    return {owner for owner in given if "/" in owner and owner.split("/")[0] in given}


def _stars(table: _Table) -> tuple[list[Cell], Ints]:
    """List the cells and after them those of ``*``; give for every cell the place of its ``*``, or -1."""
    forms = other_forms(cell[0] for cell in table.cells)
    stars: dict[Cell, int] = {}
    places: list[int] = []
    for cell in table.cells:
        star: Cell = (EVERYBODY, *cell[1:])
        place = -1 if cell[0] in forms else stars.setdefault(star, len(table.cells) + len(stars))
        places.append(place)
    return [*table.cells, *stars], np.array(places, dtype=np.int64)


def _groups(table: _Table) -> list[Group]:
    """List every cell with every relation asked in it, in the order of the summaries.

    Groups in which nothing is known or no value is defined are among them.
    """
    if not table.cells:
        return []
    cells, star_of = _stars(table)
    pairs, _, _ = _different(np.stack([table.cell, table.relation[table.unit]]))
    star = star_of.tolist()
    found = {(c, relation) for one, relation in pairs.T.tolist() for c in (one, star[one]) if c >= 0}
    found |= {(cell, 0) for cell, _ in found}
    place = {cell: i for i, cell in enumerate(sorted(range(len(cells)), key=lambda c: _order(cells[c])))}
    return sorted(found, key=lambda group: (place[group[0]], group[1]))


def _figures(table: _Table, measure: int, seed: int) -> dict[Group, Figures]:
    """Give the figures of one measure for every group that has some."""
    defined = ~np.isnan(table.values[:, measure])
    if not defined.any():
        return {}
    per_draw, value = _mean(
        np.stack([table.cell[defined], table.unit[defined], table.draw[defined]]),
        table.values[defined, measure],
    )
    per_unit, unit_value = _mean(per_draw[:2], value)
    _, star_of = _stars(table)

    # Groups are (cell, relation) with relation 0 for all of them; every unit stands in two groups.
    member, x = _per_relation(per_unit, unit_value, table.relation)
    group, at, n = _different(member[:2])
    starred = np.flatnonzero(star_of[group[0]] >= 0)
    star_group, of_starred, owners = _different(np.stack([star_of[group[0]], group[1]])[:, starred])
    star_at = np.full(group.shape[1], -1, dtype=np.int64)
    star_at[starred] = of_starred
    # A star's weights: every owner the same, and every prompt of an owner the same.
    counted = star_at[at] >= 0
    share = np.zeros(group.shape[1])
    share[starred] = 1.0 / (owners[of_starred] * n[starred])
    star_member, star_x, star_weight = _weighted(
        np.stack([star_at[at], member[2]])[:, counted], x[counted], share[at][counted]
    )

    weight = (1.0 / n)[at]
    all_groups = np.concatenate([group, star_group], axis=1)
    size, mean, se, low, high = _statistics(
        np.concatenate([at, star_member[0] + group.shape[1]]),
        np.concatenate([member[2], star_member[1]]),
        np.concatenate([x, star_x]),
        np.concatenate([weight, star_weight]),
        all_groups.shape[1],
        seed,
    )
    draws = _draws(per_draw, value, table, star_of)
    columns = zip(size.tolist(), *map(_numbers, (mean, se, low, high)), strict=True)
    groups: list[Group] = list(zip(*all_groups.tolist(), strict=True))
    return {group_: (*found, draws.get(group_, [])) for group_, found in zip(groups, columns, strict=True)}


def _different(keys: Ints) -> tuple[Ints, Ints, Floats]:
    """Give the different columns of ``keys``, sorted, the place of each column among them, and counts."""
    if not keys.shape[1]:
        return keys, np.zeros(0, dtype=np.int64), np.zeros(0)
    sizes = tuple(int(row.max()) + 1 for row in keys)
    code, at, n = np.unique(np.ravel_multi_index(tuple(keys), sizes), return_inverse=True, return_counts=True)
    return (
        np.stack(np.unravel_index(code, sizes)).astype(np.int64),
        at.astype(np.int64),
        n.astype(np.float64),
    )


def _mean(keys: Ints, values: Floats) -> tuple[Ints, Floats]:
    """Average the values of equal columns of ``keys``; give the different columns and their means."""
    different, at, n = _different(keys)
    return different, np.bincount(at, weights=values, minlength=len(n)) / n


def _weighted(keys: Ints, values: Floats, weights: Floats) -> tuple[Ints, Floats, Floats]:
    """Average the values of equal keys by their weights; give keys, means and the sums of weights."""
    different, at, _ = _different(keys)
    total = np.bincount(at, weights=weights).astype(np.float64)
    return different, np.bincount(at, weights=weights * values) / total, total


def _per_relation(per_unit: Ints, values: Floats, relation: Ints) -> tuple[Ints, Floats]:
    """Put every unit into the group of all relations and into that of its own; rows cell, relation, unit."""
    cell, unit = per_unit
    own = relation[unit]
    related = own > 0
    everything = np.stack([cell, np.zeros_like(cell), unit])
    return (
        np.concatenate([everything, np.stack([cell, own, unit])[:, related]], axis=1),
        np.concatenate([values, values[related]]),
    )


def _draws(per_draw: Ints, values: Floats, table: _Table, star_of: Ints) -> dict[tuple[int, int], list[float]]:
    """Give the mean of each draw, in their order, for every group that has several."""
    cell, unit, draw = per_draw
    own = table.relation[unit]
    related = own > 0
    keys = np.concatenate(
        [np.stack([cell, np.zeros_like(cell), draw]), np.stack([cell, own, draw])[:, related]], axis=1
    )
    group, mean = _mean(keys, np.concatenate([values, values[related]]))
    starred = star_of[group[0]] >= 0
    star, star_mean = _mean(np.stack([star_of[group[0]], group[1], group[2]])[:, starred], mean[starred])
    found: dict[tuple[int, int], list[float]] = {}
    for keys_, means in ((group, mean), (star, star_mean)):
        for cell_, relation, _, value in zip(*keys_.tolist(), means.tolist(), strict=True):
            found.setdefault((cell_, relation), []).append(value)
    return {key: means for key, means in found.items() if len(means) > 1}


def _statistics(
    group: Ints, unit: Ints, x: Floats, weight: Floats, n_groups: int, seed: int
) -> tuple[Ints, Floats, Floats, Floats, Floats]:
    """Give n, mean, standard error and interval of each group's weighted mean; NaN where there is none.

    mean = sum w x with sum w = 1; se = sqrt(n / (n - 1) * sum (w (x - mean))^2), which for equal weights is
    the sample standard deviation over sqrt(n). One resample's mean is sum c w x / sum c w with counts c.
    """
    order = np.lexsort((unit, group))
    group, x, weight = group[order], x[order], weight[order]
    size = np.bincount(group, minlength=n_groups).astype(np.int64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean: Floats = np.bincount(group, weights=weight * x, minlength=n_groups).astype(np.float64)
        first = np.concatenate([[0], np.cumsum(size)[:-1]])
        # A constant is its own mean exactly, whatever the weights add up to in floating point.
        smallest, largest = np.minimum.reduceat(x, first), np.maximum.reduceat(x, first)
        constant = smallest == largest
        mean[constant] = x[first][constant]
        deviation = weight * (x - mean[group])
        squares = np.bincount(group, weights=deviation**2, minlength=n_groups)
        se = np.sqrt(squares * size / (size - 1))
    se[size < 2] = np.nan
    low, high = np.full(n_groups, np.nan), np.full(n_groups, np.nan)
    settled = constant & (size >= 2)
    low[settled] = high[settled] = mean[settled]
    spread = ~constant & np.isfinite(se)
    for n in np.unique(size[spread]).tolist():
        chosen = np.flatnonzero(spread & (size == n))
        step = max(1, BLOCK // max(RESAMPLES, n))
        for begin in range(0, len(chosen), step):
            some = chosen[begin : begin + step]
            where = first[some, None] + np.arange(n)
            low[some], high[some] = _interval(mean[some], deviation[where], weight[where], n, seed)
    # A mean of resampled values lies among them; what is outside is rounding.
    low, high = np.maximum(low, smallest), np.minimum(high, largest)
    return size, mean, se, low, high


def _interval(mean: Floats, deviation: Floats, weight: Floats, n: int, seed: int) -> tuple[Floats, Floats]:
    """Give the bootstrap interval of groups of n units: ``mean`` [g], ``deviation`` and ``weight`` [g, n]."""
    equal = bool(np.ptp(weight, axis=1).max() < 1e-12 / n)
    parts = []
    for counts in resamples(n, seed):
        moved = deviation @ counts.T
        parts.append(moved if equal else moved / (weight @ counts.T))
    low, high = np.quantile(np.concatenate(parts, axis=1), TAILS, axis=1, overwrite_input=True)
    return mean + low, mean + high


def resamples(n: int, seed: int) -> Iterator[Floats]:
    """Give how often each of n units is drawn in each resample, in blocks of [resamples, n]."""
    digest = hashlib.sha256(f"bootstrap/{seed}/{n}".encode()).digest()
    draw = np.random.default_rng(int.from_bytes(digest[:16], "big"))
    block = max(1, min(RESAMPLES, BLOCK // n))
    for begin in range(0, RESAMPLES, block):
        some = min(block, RESAMPLES - begin)
        drawn = draw.integers(n, size=(some, n)) + n * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * n).reshape(some, n).astype(np.float64)


def _numbers(values: Floats) -> list[float | None]:
    """Give the values as a list, with None for what is not finite."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _order(cell: Cell) -> tuple[object, ...]:
    """Sort owners with ``*`` last, then conditions and roles as the language lists them, then sweeps."""
    edited, condition, role, point = cell
    return (
        edited == EVERYBODY,
        edited,
        get_args(ConditionName).index(condition),
        get_args(Role).index(role),
        tuple((axis, isinstance(v, str), v) for axis, v in point),
    )
