"""Load a spec: text -> schema -> meaning; what comes out can be bound to a model and run.

>>> loaded = load("specs/first.yaml", sets=["seed=1"])
>>> [cell.experiment.model.id for cell in loaded.cells]
['qwen2.5-coder-1.5b']
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from specs.language.built import not_built
from specs.language.check import check_schema
from specs.language.compose import inherit, read_files
from specs.language.data.inline import Import, import_data
from specs.language.defaults import with_defaults
from specs.language.dump import resolved_hash, to_yaml
from specs.language.errors import Origin, Problem, SpecError
from specs.language.experiment import Experiment
from specs.language.files import FileReader
from specs.language.matrix import combinations
from specs.language.meaning import check
from specs.language.nodes import MappingNode, Node, ScalarNode, SequenceNode, with_entry
from specs.language.origins import Origins, join_path, split_path
from specs.language.paths import parse_set, set_path

__all__ = ["Cell", "Loaded", "Origins", "load", "resolved_hash", "to_yaml"]


@dataclass(frozen=True)
class Cell:
    """One experiment of a spec: the only one, or one combination of its matrix."""

    label: str
    """Such as `model=Qwen/Qwen3-8B, localize.cell=stability`; empty without a matrix."""
    axes: Mapping[str, str]
    """Axis of the matrix: the value of this cell, as text."""
    experiment: Experiment
    origins: Origins
    hash: str
    """Twelve hex digits over everything that can change the numbers."""
    imports: tuple[Import, ...] = ()
    """What its tables brought; their rows are ordinary entities and relations of the experiment."""


@dataclass(frozen=True)
class Loaded:
    """A spec that passed every check that needs no model."""

    path: Path
    name: str
    cells: tuple[Cell, ...]
    warnings: tuple[Problem, ...]
    sources: tuple[Path, ...]
    """The spec, the files it extends, and the lists and tables it uses."""
    sets: tuple[str, ...]
    """The `--set` settings it was loaded with."""


def load(
    path: str | Path,
    *,
    sets: Iterable[str] = (),
    only: Sequence[str] | None = None,
    check_built: bool = True,
) -> Loaded:
    """Load a spec file, or raise SpecError with every problem of the first level that has any.

    ``sets`` are `a.b=c` settings, each value typed by the schema; ``only`` names what is run, like the key;
    ``check_built`` refuses what is in the language and cannot be run yet.
    """
    named = str(path)
    files = read_files(Path(path), named)
    sets = tuple(sets)
    root, problems = _settings(files.root, sets, only)
    if "name" not in root.entries:
        root = _entry(root, "name", ScalarNode(Path(path).stem, True, Origin(named)))
    if "version" not in files.own.entries:
        problems.append(_fragment(named))
    reader = FileReader()
    cells: list[Cell] = []
    warnings: list[Problem] = []
    combined, wrong = combinations(root)
    problems.extend(wrong)
    for combination in combined:
        found, cell = _cell(combination.root, combination.label, combination.axes, Path(path), reader, check_built)
        problems.extend(p for p in found if p.severity == "error")
        warnings.extend(p for p in found if p.severity == "warning")
        if cell is not None:
            cells.append(cell)
    if "version" not in files.own.entries:
        problems = [p for p in problems if not _only_missing(p)]
    if problems:
        raise SpecError(in_order(once(problems), named))
    sources = tuple(dict.fromkeys([*files.sources, *reader.sources]))
    name = cells[0].experiment.name
    return Loaded(Path(path), name, tuple(cells), tuple(condensed(once(warnings))), sources, sets)


def _cell(
    root: MappingNode, label: str, axes: Mapping[str, str], path: Path, reader: FileReader, check_built: bool
) -> tuple[list[Problem], Cell | None]:
    """Check one combination; levels that need the one before are not checked when that one failed."""
    root, problems, orphans = inherit(root)
    root, absent = reader.resolve(root)
    root = _resolve_axes(root, axes)
    root, bad, imports = import_data(root, reader)
    origins = Origins(root)
    experiment, wrong = check_schema(root, origins)
    lacking = {join_path(["interventions", name]) for name in orphans}
    wrong = [p for p in wrong if not (p.path in lacking and "needs `edit:`" in p.message)]
    problems = [*problems, *absent, *bad, *wrong]
    if experiment is None or any(problem.severity == "error" for problem in problems):
        return problems, None
    experiment = with_defaults(experiment)
    problems += check(experiment, origins, path)
    if check_built:
        problems.extend(not_built(experiment, origins))
    cell = Cell(label, axes, experiment, origins, resolved_hash(experiment), tuple(imports))
    return problems, cell


def _settings(root: MappingNode, sets: Sequence[str], only: Sequence[str] | None) -> tuple[MappingNode, list[Problem]]:
    """Apply the settings of the command line; give the problems of those that cannot be applied."""
    problems: list[Problem] = []
    for text in sets:
        try:
            steps, value = parse_set(text)
            if steps[0] == "extends":
                raise ValueError("`extends` cannot be set; write it in the file")
            clash = _axis_over(root, steps)
            if clash is not None:
                raise ValueError(
                    f"'{join_path(steps)}': the matrix sets '{clash}' and would overwrite it; "
                    f"change the axis: --set '{join_path(['matrix', clash])}=[...]'"
                )
            root = set_path(root, steps, value)
        except SpecError as error:
            problems.extend(error.problems)
        except ValueError as error:
            problems.append(Problem(str(error), origin=Origin(f"--set {text}"), level="schema"))
    if only is not None:
        origin = Origin("--only")
        names = SequenceNode(tuple(ScalarNode(name, True, origin) for name in only), origin)
        root = _entry(root, "only", names)
    return root, problems


def _axis_over(root: MappingNode, steps: Sequence[str]) -> str | None:
    """Give the axis of the matrix that sets a path or what holds it."""
    matrix = root.entries.get("matrix")
    for axis in matrix.entries if isinstance(matrix, MappingNode) else ():
        try:
            over = split_path(axis)
        except ValueError:
            continue
        if list(steps[: len(over)]) == over and steps[0] != "matrix":
            return axis
    return None


def _resolve_axes(root: MappingNode, axes: Mapping[str, str]) -> MappingNode:
    """Let the matrix hold what stands at its paths, so that a resolved spec resolves to itself."""
    matrix = root.entries.get("matrix")
    if not isinstance(matrix, MappingNode):
        return root
    for axis in axes:
        if split_path(axis)[0] == "data":
            # what it chose is part of the spec by then, and the table is not
            matrix = with_entry(matrix, axis, None)
            continue
        node: Node | None = root
        for step in split_path(axis):
            if isinstance(node, MappingNode):
                node = node.entries.get(step)
            elif isinstance(node, SequenceNode) and step.isdecimal() and int(step) < len(node.items):
                node = node.items[int(step)]
            else:
                node = None
        old = matrix.entries[axis]
        held = node or ScalarNode("null", False, old.origin)
        matrix = _entry(matrix, axis, SequenceNode((held,), old.origin))
    return with_entry(root, "matrix", matrix if matrix.entries else None)


def _entry(parent: MappingNode, key: str, value: Node) -> MappingNode:
    keys = {key: ScalarNode(key, False, value.origin), **parent.keys}
    return MappingNode({**parent.entries, key: value}, keys, parent.origin)


def _fragment(named: str) -> Problem:
    return Problem(
        "this file has no `version: 1`, so it is a fragment: other specs can extend it, and it is not run by itself",
        origin=Origin(named),
    )


def _only_missing(problem: Problem) -> bool:
    """Say whether a problem is only that a fragment is no whole spec."""
    return not problem.path and problem.message.startswith(("`model:` is missing", "a spec needs"))


def in_order(problems: list[Problem], named: str) -> list[Problem]:
    """Sort problems as they stand in the files, the spec's own first."""

    def place(problem: Problem) -> tuple[bool, Origin]:
        origin = problem.origin or Origin(named)
        return origin.file != named, origin

    return sorted(problems, key=place)


def once(problems: Iterable[Problem]) -> list[Problem]:
    """Keep each problem once: what is inherited, or stands in several cells, is shown where it is written."""
    kept: dict[tuple[str, Origin | str], Problem] = {}
    for problem in problems:
        place: Origin | str = problem.path
        if problem.origin is not None and problem.origin.line:
            place = problem.origin
        kept.setdefault((problem.message, place), problem)
    return list(kept.values())


MOST_ALIKE = 5
"""Warnings that differ in a name alone are shown one by one up to this many."""


def condensed(warnings: Sequence[Problem]) -> list[Problem]:
    """Show one of many warnings that say the same of another name: a table may hold thousands of them."""
    groups: dict[str, list[Problem]] = {}
    for warning in warnings:
        groups.setdefault(re.sub("'.*'", "''", warning.message), []).append(warning)
    found: list[Problem] = []
    for members in groups.values():
        if len(members) <= MOST_ALIKE:
            found.extend(members)
        else:
            more = f"{members[0].message} (and {len(members) - 1:,} more like this)"
            found.append(replace(members[0], message=more))
    return found
