"""Cut a prompt set into named parts, by a hash of seed and prompts: not by order, and not by what a model knows."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specs.language.experiment import Split

__all__ = ["Item", "parts_of"]


@dataclass(frozen=True)
class Item:
    """What is counted: a fact with all its wordings, or one text where there are no facts."""

    fact: Hashable
    """Relation and entity, or the text."""
    per: Hashable = None
    """Value of the column that is counted within."""
    disjoint: Hashable = None
    """Value of the column that no two parts share; None where facts alone are kept whole."""

    @property
    def group(self) -> Hashable:
        """Give what goes to one part as a whole."""
        return self.fact if self.disjoint is None else self.disjoint


def parts_of(items: Sequence[Item], split: Split, *seed: object) -> dict[Item, str | None]:
    """Give the part of every item, None for what no part takes (there are parts of given sizes and no rest).

    Groups (facts, or values of ``disjoint``) are taken in the order of a hash of ``seed`` and themselves; each goes to
    the first part, by name, that has room for it within every value of ``per`` it is counted in, else to the rest. A
    part of n has room for n items of each value, a fraction f of m items for f * m, rounded up or down by the hash so
    that the parts together come out even. Where fractions make up the whole set and a group fits nowhere, it goes to
    the part that lacks most. A group that is counted in several values is kept out of a part when one of them is full,
    which may leave another short: then it changes places with groups that are counted in the full one alone.
    """
    items = list(dict.fromkeys(items))
    sizes = Counter(item.per for item in items)
    names = sorted(name for name, size in split.into.items() if size != "rest")
    rest = next((name for name, size in split.into.items() if size == "rest"), None)
    fractions = {name: float(split.into[name]) for name in names if _is_fraction(split.into[name])}
    whole = rest is None and len(fractions) == len(names) and sum(fractions.values()) > 1 - 1e-9
    room = {value: _room(split, names, size, (*seed, "round", value)) for value, size in sizes.items()}
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    counted = {group: Counter(item.per for item in members) for group, members in groups.items()}
    order = sorted(groups, key=lambda group: _digest(*seed, "split", group))
    placed: dict[Hashable, str | None] = {}
    for group in order:
        counts = counted[group]
        part = next((n for n in names if all(count <= room[v][n] for v, count in counts.items())), rest)
        if part is None and whole:
            part = max(names, key=lambda name: min(room[v][name] for v in counts))
        for value, count in counts.items():
            if part in room[value]:
                room[value][part] -= count
        placed[group] = part
    for name in names:
        _fill(name, rest, order, counted, placed, room)
    return {item: placed[item.group] for item in items}


def _fill(
    name: str,
    rest: str | None,
    order: Sequence[Hashable],
    counted: Mapping[Hashable, Counter[Hashable]],
    placed: dict[Hashable, str | None],
    room: Mapping[Hashable, dict[str, int]],
) -> None:
    """Fill a part where it is short of a value because groups that have it are counted in a full one, too.

    Such a group of the rest comes in, in the order of the hash, for groups counted in the full value alone; of these
    the last go first. No other part changes.
    """
    alone: dict[Hashable, list[Hashable]] = {}
    for group in order:
        if placed[group] == name and len(counted[group]) == 1:
            alone.setdefault(next(iter(counted[group])), []).append(group)
    for group in order:
        counts = counted[group]
        if placed[group] != rest or len(counts) == 1 or not any(room[value][name] >= n for value, n in counts.items()):
            continue
        leaving: list[Hashable] = []
        for value, n in counts.items():
            free = room[value][name]
            for other in reversed(alone.get(value, [])):
                if free >= n:
                    break
                leaving.append(other)
                free += counted[other][value]
            if free < n:
                break
        else:
            for other in leaving:
                ((value, n),) = counted[other].items()
                alone[value].remove(other)
                placed[other] = rest
                room[value][name] += n
            for value, n in counts.items():
                room[value][name] -= n
            placed[group] = name


def _is_fraction(size: Any) -> bool:
    return not isinstance(size, str) and size < 1


def _room(split: Split, names: Sequence[str], size: int, seed: tuple[object, ...]) -> dict[str, int]:
    """Give how many of ``size`` items each part takes."""
    shift = int.from_bytes(_digest(*seed)[:7], "big") / 2**56
    room: dict[str, int] = {}
    before = reached = 0.0
    for name in names:
        part = split.into[name]
        if not _is_fraction(part):
            room[name] = int(part)
            continue
        reached += float(part)
        room[name] = _cut(reached * size, shift) - _cut(before * size, shift)
        before = reached
    return room


def _cut(share: float, shift: float) -> int:
    """Round up or down so that the mean over shifts is the share; a whole number stays what it is."""
    nearest = round(share)
    return nearest if math.isclose(share, nearest, abs_tol=1e-9) else math.floor(share + shift)


def _digest(*what: object) -> bytes:
    return hashlib.sha256(repr(what).encode("utf-8", "surrogatepass")).digest()
