"""``run-spec cache``: what is kept of earlier runs and of models, and how stages are removed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from runner.cache import LIMIT, Entry, StageCache
from runner.models.cache import models_root
from runner.sizes import size_text
from runner.tables import print_rows
from specs.language.errors import CommandError, RunError

__all__ = ["clear_cache", "show_cache"]

OLD_FORMAT = "older format"
"""The kind of entries that this version does not read."""
DAY = 24 * 3600
_AGES = ((365 * DAY, "year"), (30 * DAY, "month"), (DAY, "day"), (3600, "hour"), (60, "minute"))


@dataclass
class Group:
    """The entries of one model and kind of stage."""

    model: str | None
    kind: str | None
    entries: int = 0
    bytes: int = 0
    used: float = -math.inf


def show_cache(console: Console, *, as_json: bool) -> None:
    """Print where the stages are and how many, by model and kind, and the room that models take."""
    cache = StageCache()
    entries = cache.entries()
    groups, scratch, models = _grouped(entries), cache.abandoned(), _models()
    if as_json:
        print(json.dumps(_document(cache, entries, groups, scratch, models), ensure_ascii=False))
        return
    now = time.time()
    taken = sum(e.bytes for e in entries)
    limit = f"of at most {size_text(cache.limit)}" if cache.limit else "(RUN_SPEC_CACHE_LIMIT is 0: no more are kept)"
    _print(console, f"{_count(len(entries), 'stage')}, {size_text(taken)} {limit}", style="bold")
    _print(console, str(cache.root), style="dim", whole=True)
    _print_groups(console, groups, now)
    if scratch:
        left = f"{_count(len(scratch), 'unfinished file')} of killed runs, {size_text(sum(e.bytes for e in scratch))}"
        _print(console, left)
    console.print()
    _print(console, f"{_count(len(models), 'model')}, {size_text(sum(m['bytes'] for m in models))}", style="bold")
    _print(console, str(models_root()), style="dim", whole=True)
    if models:
        print_rows(console, ["folder", "size"], [[m["folder"], size_text(m["bytes"])] for m in models])
    console.print()
    _print(
        console,
        "run-spec cache clear removes stages, which the next run computes again. A model is removed with its folder, "
        "and fetched again when it is needed; those of the hub are in the hub's own cache.",
        style="dim",
    )


def clear_cache(
    console: Console,
    asking: Console,
    *,
    models: Sequence[str],
    unused_days: float | None,
    sure: bool,
    as_json: bool,
) -> None:
    """Remove stages, of some models or unused for some days, after asking on a terminal; say what was freed.

    Raises CommandError where nobody can be asked, and RunError where something may not be removed.
    """
    cache = StageCache(limit=LIMIT)  # the limit does not matter here, and a wrong one is no hindrance
    entries = cache.entries()
    chosen = _chosen(entries, models, unused_days)
    scratch = [] if models or unused_days is not None else cache.abandoned()
    if not chosen and not scratch:
        if as_json:
            print(json.dumps({"removed": 0, "bytes": 0, "unfinished": 0, "in_use": 0}))
        else:
            _print(console, _nothing(entries, models))
        return
    size = size_text(sum(e.bytes for e in (*chosen, *scratch)))
    named = " and ".join(
        _count(n, what) for n, what in ((len(chosen), "stage"), (len(scratch), "unfinished file")) if n
    )
    if not sure:
        if not sys.stdin.isatty():
            raise CommandError(
                f"{named} ({size}) would be removed, and nobody is there to be asked",
                remedy="add --yes to remove them without being asked",
            )
        _print_groups(asking, _grouped(chosen), time.time())
        if not click.confirm(f"Remove {named}, {size}?", err=True):
            _print(asking, "nothing was removed")
            return
    done = cache.remove(chosen, unless_used=unused_days is not None)
    swept = cache.remove(scratch)
    freed = done.bytes + swept.bytes
    if as_json:
        found = {"removed": done.entries, "bytes": freed, "unfinished": swept.entries, "in_use": done.in_use}
        print(json.dumps(found))
    else:
        also = f" and {_count(swept.entries, 'unfinished file')}" if swept.entries else ""
        _print(console, f"removed {_count(done.entries, 'stage')}{also}; {size_text(freed)} freed")
        if done.in_use:
            _print(console, f"{_count(done.in_use, 'stage')} stayed: used meanwhile")
    if refused := done.refused + swept.refused:
        first = refused[0]
        raise RunError(
            f"{_count(len(refused), 'file')} could not be removed: {first.filename} ({first.strerror})",
            remedy="remove them as the user who may write there",
        )


def _chosen(entries: Sequence[Entry], models: Sequence[str], unused_days: float | None) -> list[Entry]:
    """Take the entries of some models (all if none is named) that have not been used for some days."""
    wanted = {name.casefold() for name in models}
    before = math.inf if unused_days is None else time.time() - unused_days * DAY
    return [e for e in entries if (not wanted or (_model(e) or "").casefold() in wanted) and e.used <= before]


def _nothing(entries: Sequence[Entry], models: Sequence[str]) -> str:
    """Say why nothing is removed; a mistyped model is told with those there are."""
    there = sorted({model for e in entries if (model := _model(e))})
    unknown = [name for name in models if name.casefold() not in {model.casefold() for model in there}]
    if not unknown:
        return "nothing to remove" + (": every stage was used since" if entries else ": no stage is kept")
    kept = f"stages are kept of {', '.join(there)}" if there else "no stage of a named model is kept"
    return f"nothing to remove: there is no stage of {', '.join(unknown)}; {kept}"


def _model(entry: Entry) -> str | None:
    return (entry.about or {}).get("model") or None


def _grouped(entries: Sequence[Entry]) -> list[Group]:
    """Add up entries by model and kind, in the order of their names."""
    groups: dict[tuple[str | None, str | None], Group] = {}
    for entry in entries:
        model, kind = _model(entry), OLD_FORMAT if entry.about is None else entry.about.get("kind") or None
        group = groups.setdefault((model, kind), Group(model, kind))
        group.entries += 1
        group.bytes += entry.bytes
        group.used = max(group.used, entry.used)
    return sorted(groups.values(), key=lambda g: (g.model is None, g.model or "", g.kind or ""))


def _print_groups(console: Console, groups: Sequence[Group], now: float) -> None:
    rows = [
        [g.model or "(not named)", g.kind or "(not named)", f"{g.entries:,}", size_text(g.bytes), _ago(now - g.used)]
        for g in groups
    ]
    if rows:
        print_rows(console, ["model", "stage", "entries", "size", "last used"], rows, labels=2)


def _models() -> list[dict[str, Any]]:
    """List the folders of checkpoints that were made here, and of fetched pieces, with their sizes."""
    found = []
    for place in (models_root(), models_root() / ".work"):
        with contextlib.suppress(OSError):
            for folder in sorted(place.iterdir()):
                if folder.is_dir() and folder.name != ".work":
                    name = folder.relative_to(models_root()).as_posix()
                    found.append({"folder": name, "bytes": _size_of(folder)})
    return found


def _size_of(folder: Path) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):  # another process may be fetching
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def _document(
    cache: StageCache,
    entries: Sequence[Entry],
    groups: Sequence[Group],
    scratch: Sequence[Entry],
    models: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "stages": {
            "path": str(cache.root),
            "entries": len(entries),
            "bytes": sum(e.bytes for e in entries),
            "limit": cache.limit,
            "unfinished": {"files": len(scratch), "bytes": sum(e.bytes for e in scratch)},
            "groups": [
                {
                    "model": g.model,
                    "kind": g.kind,
                    "entries": g.entries,
                    "bytes": g.bytes,
                    "last_used": datetime.fromtimestamp(g.used, UTC).isoformat(timespec="seconds"),
                }
                for g in groups
            ],
        },
        "models": {
            "path": str(models_root()),
            "bytes": sum(m["bytes"] for m in models),
            "folders": list(models),
        },
    }


def _ago(seconds: float) -> str:
    """Say how long ago something was: "just now", "5 minutes ago"; a clock that is ahead makes it now."""
    for length, unit in _AGES:
        if seconds >= length:
            return f"{_count(int(seconds // length), unit)} ago"
    return "just now"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _print(console: Console, text: str, *, style: str = "", whole: bool = False) -> None:
    """Print a line as it is; a ``whole`` one is not broken, so that a path can be copied."""
    console.print(Text(text, style=style), highlight=False, soft_wrap=whole)
