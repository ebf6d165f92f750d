"""Neurons chosen by results: of single neurons, measured before they are wanted, and told apart from each other."""

from __future__ import annotations

from collections.abc import Iterator

from specs.language.errors import RunError
from specs.language.experiment import Each, Experiment, NeuronSet, NeuronsRef
from specs.language.meaning.naming import Path
from specs.language.meaning.scope import CUTS, Neurons, Scope
from specs.language.meaning.sweeps import edited
from specs.language.needs import mentions
from specs.language.order import circle, named_through
from specs.language.references import ResultPath, is_measure, parse_rank, parse_result_path
from specs.language.saved import read_saved

__all__ = ["CHECKS"]


def check_order(scope: Scope) -> None:
    """No intervention waits for itself, and no ranking for an intervention."""
    experiment = scope.experiment
    seen: set[str] = set()
    for name in experiment.interventions:
        way = circle(experiment, name)
        if not way or name in seen:
            continue
        seen.update(way)
        if _told_of_a_set(experiment, set(way)):
            continue
        if len(way) == 2:
            message = f"'{name}' would have to be run before itself: its neurons are chosen by its own results"
        else:
            message = f"{' -> '.join(way)}: each chooses its neurons by the results of the next, so none can be first"
        scope.tell(message, "interventions", name)
    for name, ranking in experiment.localize.items():
        for field in ("among", "layers"):
            reads = named_through(experiment, getattr(ranking, field), ("neurons",))
            if reads:
                scope.tell(
                    f"rankings are made before any intervention, and these neurons are chosen by the results of "
                    f"'{reads[0]}'",
                    *("localize", name, field),
                )


def _told_of_a_set(experiment: Experiment, way: set[str]) -> bool:
    """Say whether a circle goes through a named set, of which it is told that it is defined by itself."""
    edited_sets = {word for name in way for word in mentions(experiment.interventions[name])}
    return any(
        name in edited_sets and way & set(mentions(ref))
        for name, ref in experiment.neurons.items()
        if isinstance(ref, NeuronSet)
    )


def check_joined(scope: Scope) -> None:
    """A filter reads results of one neuron at a time, of the neurons that it chooses from."""
    for ref, path in _filters(scope.experiment):
        for n, condition in enumerate(ref.where):
            texts = [condition.quantity, *([condition.value] if isinstance(condition.value, str) else [])]
            for text in texts:
                if "/" in text and text.partition("/")[0] in scope.experiment.interventions:
                    _check_read(scope, ref, text, (*path, "where", n), path)


def _check_read(scope: Scope, ref: NeuronSet, text: str, place: Path, path: Path) -> None:
    try:
        found = parse_result_path(text, is_measure)
    except ValueError:
        return
    name = found.block
    if found.quantity is None:
        return
    if found.group is not None:
        rest = ResultPath(name, None, found.condition, found.role, found.axes, found.quantity)
        scope.tell(
            f"'{text}' is the result of '{found.group}' alone; a filter reads the results of each owner's own "
            f"neurons: write {rest}",
            *place,
        )
        return
    edits = edited(scope, name)
    if any(neurons is None for _, neurons, _ in edits):
        return
    if len(edits) > 1 or _edits_several(scope.experiment, edits[0][0].neurons or edits[0][0].outside):
        scope.tell(
            f"'{name}' edits several neurons at once, so its results are those of none of them; "
            "edit them one by one, for example `rank: [1, 2, 3, 4, 5]`",
            *place,
        )
        return
    source = scope.neurons(ref.of, *path, "of") if ref.of is not None else None
    if source is None:
        return
    mine, theirs = _rankings(source), _rankings(edits[0][1])
    if mine and theirs and not mine & theirs:
        scope.tell(
            f"'{name}' edits neurons of {', '.join(sorted(theirs))}, and this set is taken from "
            f"{', '.join(sorted(mine))}: none of its neurons has results there",
            *place,
        )


def _rankings(neurons: Neurons | None) -> set[str]:
    return {ranking for ranking, _ in neurons.rankings} if neurons is not None else set()


def _edits_several(experiment: Experiment, ref: NeuronsRef | None) -> bool:
    """Say whether an edit acts on several neurons wherever it acts, as far as the text tells."""
    if isinstance(ref, list):
        return len(ref) > 1 or _edits_several(experiment, ref[0])
    if isinstance(ref, str):
        name = ref.partition("/")[0]
        if name in experiment.localize:
            return (experiment.localize[name].top or 1) > 1
        return name in experiment.neurons and _edits_several(experiment, experiment.neurons[name])
    if not isinstance(ref, NeuronSet):
        return False
    if ref.site is not None or (ref.random or 1) > 1:
        return True
    for cut in CUTS:
        value = getattr(ref, cut)
        if value is not None:
            values = value if isinstance(value, list) else [value]
            return cut in ("top", "bottom", "rank") and all(_width(cut, v) > 1 for v in values)
    return ref.of is not None and _edits_several(experiment, ref.of)


def _width(cut: str, value: int | str) -> int:
    if cut != "rank":
        return int(value)
    first, last = parse_rank(str(value))
    return last - first + 1


def check_algebra(scope: Scope) -> None:
    """What is subtracted or shared is one set, and a saved set has a name."""
    for ref, path in _sets(scope.experiment):
        for field in ("minus", "common"):
            value = getattr(ref, field)
            for n, name in enumerate([value] if isinstance(value, str) else value or []):
                if name == "others":
                    continue
                place = (*path, field) if isinstance(value, str) else (*path, field, n)
                found = scope.neurons(name, *place)
                if found is not None and found.axes:
                    swept = next(iter(found.axes))
                    scope.tell(f"'{name}' is several sets, one for each {swept}; name one of them", *place)
        if ref.from_ is not None and not (len(path) == 2 and path[0] == "neurons"):
            scope.tell("a saved set has a name of its own: put it under `neurons:`", *path, "from_")
        elif ref.from_ is not None:
            try:
                read_saved(ref.from_)
            except RunError as error:
                scope.tell(f"{error.cause}; {error.remedy}" if error.remedy else error.cause, *path, "from_")


def _sets(experiment: Experiment) -> Iterator[tuple[NeuronSet, Path]]:
    for name, ref in experiment.neurons.items():
        yield from _within(ref, ("neurons", name))
    for name, ranking in experiment.localize.items():
        if ranking.among is not None:
            yield from _within(ranking.among, ("localize", name, "among"))
    for name, spec in experiment.interventions.items():
        for n, edit in enumerate(spec.edit):
            for field in ("neurons", "outside"):
                own: NeuronsRef | None = getattr(edit, field)
                if own is not None:
                    yield from _within(own, ("interventions", name, "edit", n, field))


def _within(ref: NeuronsRef, path: Path) -> Iterator[tuple[NeuronSet, Path]]:
    if isinstance(ref, NeuronSet):
        yield ref, path
    elif isinstance(ref, Each):
        for n, part in enumerate(ref.each):
            yield from _within(part, (*path, "each", n))
    elif isinstance(ref, list):
        for n, part in enumerate(ref):
            yield from _within(part, (*path, n))


def _filters(experiment: Experiment) -> Iterator[tuple[NeuronSet, Path]]:
    return ((ref, path) for ref, path in _sets(experiment) if ref.where)


CHECKS = (check_order, check_joined, check_algebra)
