"""What the results of an intervention are indexed by: its sweeps, its groups, its measures."""

from __future__ import annotations

from collections.abc import Sequence

from specs.language.experiment import Each, Edit, Intervention, Range, Times, sweep_values
from specs.language.meaning.naming import Path
from specs.language.meaning.prompt_sets import Prompts
from specs.language.meaning.scope import Neurons, Scope
from specs.language.scalars import looks_like_number

__all__ = ["asked_of", "edited", "groups_of", "measures_of", "sweeps_of"]

Values = Sequence[float | str]


def edited(scope: Scope, name: str) -> list[tuple[Edit, Neurons | None, Path]]:
    """Give each edit of an intervention with its neurons (None: failed, or a vector alone) and its path."""
    found: list[tuple[Edit, Neurons | None, Path]] = []
    for n, edit in enumerate(scope.experiment.interventions[name].edit):
        path: Path = ("interventions", name, "edit", n)
        field = "neurons" if edit.neurons is not None else "outside"
        ref = getattr(edit, field)
        found.append((edit, None if ref is None else scope.neurons(ref, *path, field), path))
    return found


def asked_of(scope: Scope, name: str) -> list[tuple[Prompts | None, Path]]:
    """Give what each asked prompt set of an intervention holds, with its path."""
    spec = scope.experiment.interventions[name]
    path: Path = ("interventions", name, "ask")
    written = "ask" in spec.model_fields_set
    places = [(*path, n) if written else path for n in range(len(spec.ask))]
    return [(scope.prompts(asked, *place), place) for asked, place in zip(spec.ask, places, strict=True)]


def sweeps_of(scope: Scope, name: str) -> dict[str, Values] | None:
    """Give the sweeps of an intervention, name -> values; None if its neurons failed.

    Values and cuts sweep, and places under `each:`. A second sweep of one name is called `scale2`. Values are
    absent where they depend on the model.
    """
    sweeps: dict[str, Values] = {}

    def add(axis: str, values: Values) -> None:
        free, number = axis, 2
        while free in sweeps:
            free, number = f"{axis}{number}", number + 1
        sweeps[free] = values

    for edit, neurons, _ in edited(scope, name):
        if neurons is None and (edit.neurons is not None or edit.outside is not None):
            return None
        value = edit.set if edit.set is not None else edit.add
        if edit.scale is not None:
            add("scale", sweep_values(edit.scale))
        elif isinstance(value, Times):
            add("times", sweep_values(value.times))
        elif isinstance(value, int | float | list | Range):
            add("set" if edit.set is not None else "add", sweep_values(value))
        for axis, values in neurons.axes.items() if neurons is not None else ():
            add(axis, [_number(v) for v in values])
        if isinstance(edit.position, Each):
            add("position", edit.position.each)
    return sweeps


def _number(value: float | str) -> float | str:
    return float(value) if isinstance(value, str) and looks_like_number(value) else value


def groups_of(scope: Scope, name: str) -> list[str] | None:
    """List whose neurons an intervention edits, as its results name them; None if that is not known here.

    Each group of a ranking that is named whole; else the groups named, edited together: `ada+bach`.
    """
    found: dict[str, None] = {}
    for _, neurons, _ in edited(scope, name):
        if neurons is None or not neurons.rankings:
            return None
        whole = [ranking for ranking, key in neurons.rankings if key is None]
        for ranking in whole:
            groups = scope.groups(ranking)
            if groups is None:
                return None
            found.update(dict.fromkeys(groups))
        if not whole:
            found["+".join(dict.fromkeys(key for _, key in neurons.rankings if key is not None))] = None
    return list(found)


def measures_of(spec: Intervention) -> tuple[str, ...]:
    """List what an intervention measures, and what follows: accuracy_drop from accuracy, and what is tuned by."""
    accuracies = [m for m in spec.measure if m.partition("@")[0] == "accuracy"]
    derived = [m.replace("accuracy", "accuracy_drop", 1) for m in accuracies]
    aims = [m for m in (spec.tune.maximize, spec.tune.minimize) if m] if spec.tune is not None else []
    return tuple(dict.fromkeys((*spec.measure, *derived, *aims)))
