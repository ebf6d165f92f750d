"""What the language can say and the runner cannot do yet: refused at validate, never accepted and ignored.

``NOT_BUILT`` is the whole list. Whoever builds a part deletes its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from specs.language.block import Block, Condition
from specs.language.errors import Problem
from specs.language.experiment import (
    GRADIENT_METRICS,
    Analysis,
    Controls,
    EachLayer,
    EachNeurons,
    EachPosition,
    Edit,
    Experiment,
    Intervention,
    Learn,
    Localize,
    Negatives,
    NeuronSet,
    NeuronsRef,
    PromptSet,
    Source,
    Times,
    Vector,
)
from specs.language.facts import COLUMNS, known_of
from specs.language.fields import LAYERS
from specs.language.needs import BLOCKS, needed
from specs.language.origins import Origins, Step

__all__ = ["NOT_BUILT", "NotBuilt", "not_built"]

METRICS = frozenset(
    {
        "stability",
        "layer_stability",
        "z_score",
        "mean_activation",
        "average_precision",
        "gradient_x_activation",
        "random",
    }
)
OBJECTIVES = ("answer_logit", "answer_probability", "top_logits")
MEASURES = frozenset(
    {
        "answer_probability",
        "relative_probability",
        "knowledge_score",
        "knowledge_loss",
        "knowledge_loss_clipped",
        "logit_difference",
        "answer_rank",
        "pass",
        "accuracy",
        "text",
        "perplexity",
        "relative_perplexity",
    }
)


def never(value: Any) -> bool:
    """Say that no value of a field is built."""
    return False


@dataclass(frozen=True)
class NotBuilt:
    """A field of a block whose values, or some of them, cannot be run yet."""

    block: type[Block]
    field: str
    what: str
    """What is not built, as the message says it; `{}` stands for the value."""
    built: Callable[[Any], bool] = never
    """Which values are built all the same; of measures and columns, each by itself."""
    instead: str = ""
    """What to write until then."""


def _numbered(layers: Any) -> bool:
    return all(LAYERS.fullmatch(text) for text in layers)


def _hit(known: Any) -> bool:
    return known == "any" or (
        isinstance(known, Condition)
        and known.op == "="
        and known.value == 1
        and known.quantity.partition("@")[0] in ("pass", "accuracy")
    )


NOT_BUILT: tuple[NotBuilt, ...] = (
    # material
    NotBuilt(PromptSet, "known", "`known: {}`", _hit, instead="write any, pass@n or accuracy"),
    # rankings
    NotBuilt(Localize, "metric", "the metric {}", lambda metric: metric in METRICS),
    NotBuilt(Localize, "against", "contrasting with {}", lambda a: not isinstance(a, list)),
    NotBuilt(Localize, "layers", "taking the layers of a neuron set ({})", _numbered),
    NotBuilt(Localize, "pool", "a ranking of each token by itself (`pool: each`)", lambda pool: pool != "each"),
    NotBuilt(Localize, "objective", "the objective {}", lambda o: o.partition("@")[0] in OBJECTIVES),
    NotBuilt(Localize, "minus", "the difference from a patch twin (`minus: patch`)"),
    NotBuilt(Localize, "among", "`among:` (a ranking of some neurons)"),
    NotBuilt(Localize, "threshold", "`threshold:` (a cut by share)", instead="cut with `top:`"),
    NotBuilt(Localize, "mass", "`mass:` (a cut by share)", instead="cut with `top:`"),
    # neuron sets
    NotBuilt(EachNeurons, "each", "a sweep of places (`each:`)"),
    NotBuilt(EachLayer, "each", "a sweep of places (`each:`)"),
    NotBuilt(EachPosition, "each", "a sweep of places (`each:`)"),
    # interventions
    NotBuilt(Edit, "outside", "editing everything outside a set (`outside:`)"),
    NotBuilt(Edit, "position", "an edit at several tokens", lambda p: not isinstance(p, list) or len(p) == 1),
    NotBuilt(Intervention, "measure", "the measure {}", lambda m: m.partition("@")[0] in MEASURES),
    NotBuilt(Controls, "wrong_cell", "{} wrong cells", lambda n: n <= 1, instead="write 0 or 1"),
    NotBuilt(Controls, "no_edit", "no_edit: {}", lambda n: n <= 1, instead="write 0 or 1"),
    # analyses
    NotBuilt(
        Analysis,
        "across",
        "agreement across {}",
        lambda a: a == "variant" or a not in COLUMNS,
        "write `across: variant`, or an axis of the matrix",
    ),
)


def not_built(experiment: Experiment, origins: Origins) -> list[Problem]:
    """Say, at its place, of everything that would be run, what cannot be run yet."""
    wanted = needed(experiment)
    problems: list[Problem] = []
    for path, block in _blocks(experiment, ()):
        if len(path) > 1 and path[0] in BLOCKS and (path[0], path[1]) not in wanted:
            continue
        for part in NOT_BUILT:
            if isinstance(block, part.block):
                found = list(_refused(part, block, path, origins))
                problems.extend(found)
                if found and part.field == "metric":
                    # what else is not built here comes with the metric
                    break
        if isinstance(block, NeuronSet) and block.threshold is not None:
            problems.extend(_no_gradient_share(block, path, experiment, origins))
        if isinstance(block, Intervention):
            problems.extend(_partly(block, path, experiment, origins))
        problems.extend(_averaged(block, path, experiment, origins))
        if isinstance(block, Localize) and block.metric in METRICS:
            problems.extend(_partly_ranked(block, path, origins))
    return problems


def _averaged(block: Block, path: tuple[Step, ...], experiment: Experiment, origins: Origins) -> Iterator[Problem]:
    """Refuse a mean over the questions that the model knows: it would be one over all."""
    for field in ("mean", "minus", "sample", "keep"):
        ref = getattr(block, field, None) if isinstance(block, (Source, Vector, Learn)) else None
        if isinstance(ref, str) and isinstance(known_of(experiment, ref), Condition):
            message = f"`{field}: {ref}` is not built yet for what the model knows of a set (`known:`)"
            place = (*path, field)
            yield Problem(f"{message}; write known: any", origins.written(*place), origins.at(*place), "meaning")


def _no_gradient_share(
    ref: NeuronSet, path: tuple[Step, ...], experiment: Experiment, origins: Origins
) -> Iterator[Problem]:
    """Refuse a share of an objective whose size is not kept."""
    for name in ranked_by(experiment, ref.of):
        if experiment.localize[name].metric in GRADIENT_METRICS:
            what = f"`threshold:` as a share of the objective of {name}"
            message = f"{what} is not built yet; cut with `top:` or `mass:`"
            place = (*path, "threshold")
            yield Problem(message, origins.written(*place), origins.at(*place), "meaning")


def ranked_by(experiment: Experiment, ref: NeuronsRef | None) -> list[str]:
    """Name the rankings that a reference to neurons goes back to."""
    if isinstance(ref, list):
        return [name for part in ref for name in ranked_by(experiment, part)]
    if isinstance(ref, NeuronSet):
        return ranked_by(experiment, ref.of)
    if not isinstance(ref, str):
        return []
    name = ref.partition("/")[0]
    if name in experiment.localize:
        return [name]
    return ranked_by(experiment, experiment.neurons[name]) if name in experiment.neurons else []


def _partly(
    intervention: Intervention, path: tuple[Step, ...], experiment: Experiment, origins: Origins
) -> Iterator[Problem]:
    """Refuse what is built alone and not yet together."""

    def refuse(message: str, *place: Step) -> Problem:
        whole = (*path, *place)
        return Problem(f"{message}", origins.written(*whole), origins.at(*whole), "meaning")

    usual = "asked" if intervention.placeholder is None else "edited"
    if intervention.answers_of not in (None, usual):
        yield refuse(f"`answers_of: {intervention.answers_of}` is not built yet here; leave it out", "answers_of")
    if any(edit.in_ == "weights" for edit in intervention.edit):
        for n, edit in enumerate(intervention.edit):
            if edit.in_ != "weights":
                yield refuse("an edit of activations beside one in the weights is not built yet", "edit", n)
        if intervention.freeze is not None:
            yield refuse("a freeze beside an edit in the weights is not built yet", "freeze")
    if not any(measure.startswith("text@") for measure in intervention.measure):
        return
    if intervention.freeze is not None and "all" in intervention.freeze.position:
        message = "text under a freeze of every position is not built yet: what is generated would not be held"
        yield refuse(message, "freeze", "position")
    for n, edit in enumerate(intervention.edit):
        value = edit.set if edit.set is not None else edit.add
        value = value.of if isinstance(value, Times) else value
        if edit.position == ["all"] and (isinstance(value, Source) or value in ("clean", "patch")):
            message = f"text under an edit at every token to values of other runs ({_said(value)}) is not built yet"
            yield refuse(message, "edit", n, "position")


def _partly_ranked(ranking: Localize, path: tuple[Step, ...], origins: Origins) -> Iterator[Problem]:
    """Refuse for one metric what is built for another."""
    if ranking.metric == "average_precision":
        return

    def refuse(what: str, *place: Step) -> Problem:
        whole = (*path, *place)
        message = f"{what} is not built yet for {ranking.metric}; it is for average_precision"
        return Problem(message, origins.written(*whole), origins.at(*whole), "meaning")

    if ranking.against == "others" or isinstance(ranking.against, Negatives):
        yield refuse("contrasting with others", "against")
    if ranking.controls is not None and ranking.controls.shuffled_labels:
        yield refuse("`shuffled_labels:`", "controls", "shuffled_labels")


def _refused(part: NotBuilt, block: Block, path: tuple[Step, ...], origins: Origins) -> Iterator[Problem]:
    value = getattr(block, part.field)
    if value is None or value is False or value == 0 or value == [] or value == {}:
        return
    each = part.field == "measure" and isinstance(value, list)
    for n, item in enumerate(value if each else [value]):
        if part.built(item):
            continue
        message = f"{part.what.format(_said(item))} is not built yet"
        if part.instead:
            message += f"; {part.instead}"
        place = (*path, part.field, n) if each else (*path, part.field)
        yield Problem(message, origins.written(*place), origins.at(*place), "meaning")


def _said(value: Any) -> str:
    """Say a value in a message."""
    if isinstance(value, Source):
        return f"{{mean: {value.mean}}}" if value.mean is not None else f"{{sample: {value.sample}}}"
    if isinstance(value, BaseModel) and not isinstance(value, Condition):
        given = {k: v for k, v in value.model_dump().items() if v is not None}
        return "{" + ", ".join(f"{k}: {v}" for k, v in given.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(str(v) for v in value)}]"
    return str(value)


def _blocks(value: Any, path: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], Block]]:
    """Give every block of an experiment with its path."""
    if isinstance(value, Block):
        yield path, value
        for field in type(value).model_fields:
            yield from _blocks(getattr(value, field), (*path, field))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _blocks(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for n, item in enumerate(value):
            yield from _blocks(item, (*path, n))


assert all(part.field in part.block.model_fields for part in NOT_BUILT)
