"""Whether an experiment answers its question: whose answers count, and what was chosen on what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from specs.language.experiment import (
    GRADIENT_METRICS,
    Controls,
    Experiment,
    Intervention,
    Localize,
    Negatives,
    NeuronSet,
)
from specs.language.facts import entities_of, owner_key
from specs.language.meaning.naming import Path
from specs.language.meaning.overlap import may_share, other_part
from specs.language.meaning.prompt_sets import Prompts
from specs.language.meaning.scope import Scope
from specs.language.meaning.sweeps import asked_of, edited, sweeps_of

__all__ = ["CHECKS"]

WITHOUT_ANSWERS = ("perplexity", "relative_perplexity", "kl", "text")
"""Measures that need no answers."""
OF_TEXTS = ("perplexity", "relative_perplexity")
"""Measures of prompts that have none."""


LEAST_PROMPTS = 8
"""Prompts of an owner below which the best of many neurons is so by chance."""


# -- whose answers count


def check_asked(scope: Scope) -> None:
    """Something is asked, and it has the answers that are measured."""
    experiment = scope.experiment
    for name, ranking in experiment.localize.items():
        found = scope.prompts(ranking.prompts, "localize", name, "prompts") if ranking.prompts else None
        if found is not None and found.texts == ():
            scope.tell(_empty(found.name, experiment), "localize", name, "prompts")
    for name, spec in experiment.interventions.items():
        asked = asked_of(scope, name)
        if any(found is None for found, _ in asked):
            continue
        empty = False
        for found, path in asked:
            if found is not None and found.texts == ():
                scope.tell(_empty(found.name, experiment), *path)
                empty = True
        if empty:
            continue
        _check_texts(scope, name, spec, asked)
        if any(found is not None and found.answers is not False for found, _ in asked):
            continue
        needing = [m for m in spec.measure if m.partition("@")[0] not in WITHOUT_ANSWERS]
        if needing:
            measures = needing[0] if len(needing) == 1 else f"{', '.join(needing[:-1])} and {needing[-1]}"
            names = ", ".join(spec.ask)
            scope.tell(
                f"{measures} need{'s' if len(needing) == 1 else ''} answers, "
                f"and none of the asked prompts has any ({names})",
                *("interventions", name, "measure" if "measure" in spec.model_fields_set else "ask"),
            )


def _check_texts(scope: Scope, name: str, spec: Intervention, asked: Sequence[tuple[Prompts | None, Path]]) -> None:
    """Something is measured of texts without answers, and there are texts for what is measured of them."""
    measured = {m.partition("@")[0] for m in spec.measure}
    for found, path in asked:
        if found is None or found.answers is not False:
            continue
        if not measured & set(WITHOUT_ANSWERS):
            scope.tell(
                f"'{found.name}' have no answers, and nothing is measured that needs none; "
                "add relative_perplexity, perplexity, kl or text@12 to `measure`",
                *path,
            )
        elif spec.placeholder is not None:
            scope.tell(f"'{found.name}' have no answers that a placeholder could bring back", *path)
    for n, measure in enumerate(spec.measure):
        if measure in OF_TEXTS and all(found is not None and found.answers for found, _ in asked):
            scope.tell(
                f"{measure} is of texts without answers, and every asked prompt has one; ask neutral too: "
                f"`ask: [{', '.join(spec.ask)}, neutral]`",
                *("interventions", name, "measure", n),
            )


def _empty(name: str, experiment: Experiment) -> str:
    """Say why a prompt set holds nothing."""
    if name.partition("/")[0] not in experiment.prompts:
        if not experiment.entities:
            return f"'{name}' holds no prompts: no `entities:` are given"
        if name == "facts" and not experiment.relations:
            return "'facts' are the questions under `relations:`, and there are none"
        return f"'{name}' holds no prompts: no answers are given"
    return f"'{name}' holds no prompts: nothing is left by its choices"


def check_roles(scope: Scope) -> None:
    """Targets are compared with others, and with the neurons of somebody else."""
    for name, spec in scope.experiment.interventions.items():
        target, others = spec.target, spec.others
        if isinstance(target, str) and isinstance(others, list) and set(others) == {target}:
            scope.warn(
                f"target and others are the same ({target}), so nothing is compared",
                *("interventions", name, "others"),
            )
        _check_wrong_cell(scope, name, spec)


def _check_wrong_cell(scope: Scope, name: str, spec: Intervention) -> None:
    # one is the default where there can be one, and a resolved spec writes out all the defaults
    given, wanted = spec.controls.model_fields_set, spec.controls.wrong_cell
    if not wanted or "wrong_cell" not in given or (wanted == 1 and given == set(Controls.model_fields)):
        return
    owners: set[str] = set()
    for _, neurons, _ in edited(scope, name):
        if neurons is None:
            return
        for ranking, _ in neurons.rankings:
            groups = scope.groups(ranking)
            if groups is None:
                return
            owners.update(entity for g in groups for entity in entities_of(scope.experiment, g) or (g,))
    if len(owners) <= wanted:
        message = (
            "wrong_cell needs a second localised entity"
            if wanted == 1
            else f"{wanted} wrong cells need {wanted + 1} localised entities; there are {len(owners)}"
        )
        scope.tell(message, "interventions", name, "controls", "wrong_cell")


# -- what was chosen on what


def check_tuning(scope: Scope) -> None:
    """A value is not chosen on the questions it is scored on."""
    for name, spec in scope.experiment.interventions.items():
        if spec.tune is None:
            continue
        place = ("interventions", name, "tune", "on")
        chosen = scope.prompts(spec.tune.on, *place)
        _check_tuned(scope, name, spec, chosen)
        for found, _ in asked_of(scope, name):
            if chosen is not None and found is not None and may_share(chosen, found):
                scope.tell(
                    f"the value would be chosen on the questions it is scored on ('{found.name}'); "
                    "split the set and tune on another part",
                    *place,
                )


def _check_tuned(scope: Scope, name: str, spec: Intervention, on: Prompts | None) -> None:
    """There are values to choose among, by what becomes of answers."""
    assert spec.tune is not None
    sweeps = sweeps_of(scope, name)
    if sweeps is not None and all(len(values) == 1 for values in sweeps.values()):
        scope.tell(
            "there is nothing to choose: the edit is made at one value; give a list, such as `scale: [0, -1, -3]`",
            *("interventions", name, "tune"),
        )
    aim = "maximize" if spec.tune.maximize is not None else "minimize"
    measure = getattr(spec.tune, aim)
    if measure.partition("@")[0] in WITHOUT_ANSWERS:
        scope.tell(
            f"a value is chosen by what becomes of answers, and {measure} is none; choose by answer_probability, "
            "pass@5 or another measure of answers",
            *("interventions", name, "tune", aim),
        )
    elif on is not None and on.answers is False:
        scope.tell(
            f"'{on.name}' have no answers to choose a value by; tune on questions", "interventions", name, "tune", "on"
        )


def check_circularity(scope: Scope) -> None:
    """Say where neurons are scored on what they were chosen on."""
    for name in scope.experiment.interventions:
        for found, path in asked_of(scope, name):
            if found is None or found.answers is False:
                continue
            for _, neurons, _ in edited(scope, name):
                if neurons is None:
                    continue
                for ranking, _ in neurons.rankings:
                    _warn_ranked(scope, ranking, found, path)
                for chosen in neurons.sets:
                    _warn_filtered(scope, chosen, found, path)


def check_learned(scope: Scope) -> None:
    """Say where what was learned to stay is scored on the prompts it was kept by."""
    for name, spec in scope.experiment.interventions.items():
        for edit in spec.edit:
            vector = scope.experiment.vectors.get(edit.add) if isinstance(edit.add, str) else None
            if vector is None or vector.learn is None:
                continue
            kept = scope.prompts(vector.learn.keep, "vectors", str(edit.add), "learn", "keep")
            for found, path in asked_of(scope, name):
                if kept is not None and found is not None and may_share(kept, found):
                    scope.warn(
                        f"'{edit.add}' was learned on questions scored here ('{found.name}'): others stay because they "
                        "were kept; ask other wordings or other people as well",
                        *path,
                    )


def _warn_ranked(scope: Scope, ranking: str, asked: Prompts, path: Path) -> None:
    spec = scope.experiment.localize[ranking]
    on = scope.prompts(spec.prompts, "localize", ranking, "prompts") if spec.prompts else None
    if on is None or on.answers is False or not may_share(on, asked):
        return
    other = other_part(scope.experiment, on)
    instead = f"ask '{other}'" if other else "ask other questions"
    if on.name == asked.name:
        message = f"'{ranking}' was ranked on '{on.name}' and is scored on it: say so, or {instead}"
    else:
        message = (
            f"'{ranking}' was ranked on '{on.name}', which shares questions with those scored here "
            f"('{asked.name}'): say so, or {instead}"
        )
    scope.warn(message, *path)


def _warn_filtered(scope: Scope, chosen: NeuronSet, asked: Prompts, path: Path) -> None:
    experiment = scope.experiment
    name = next((n for n, ref in experiment.neurons.items() if ref is chosen), str(chosen.of))
    for verifying in dict.fromkeys(c.quantity.partition("/")[0] for c in chosen.where):
        if verifying not in experiment.interventions:
            continue
        for on, _ in asked_of(scope, verifying):
            if on is None or on.answers is False or not may_share(on, asked):
                continue
            other = other_part(experiment, asked)
            advice = f"Verify on '{other}'" if other else "Split the set, and verify on another part"
            which = "the questions" if on.name == asked.name else f"'{on.name}', which holds the questions"
            scored = f"scored here ('{asked.name}')"
            scope.warn(f"'{name}' was chosen on {which} {scored}; the figure will flatter. {advice}", *path)
            return


def check_prompt_counts(scope: Scope) -> None:
    """Stability is over enough prompts to tell a steady neuron from a constant one, precision to exclude chance."""
    for name, spec in scope.experiment.localize.items():
        if spec.metric not in ("stability", "average_precision") or spec.prompts is None:
            continue
        found = scope.prompts(spec.prompts, "localize", name, "prompts")
        if found is None or not found.texts:
            continue
        counts = Counter(owner_key(text, spec.by or []) for text in found.texts)
        least = spec.min_prompts or 8
        if spec.metric == "average_precision":
            _check_contrast(scope, name, spec, counts)
            continue
        owner, fewest = min(counts.items(), key=lambda pair: pair[1])
        if fewest < least:
            scope.tell(
                f"stability over fewer than {least} prompts picks near-constant neurons; "
                f"the least is {least}, and '{owner}' has {fewest}",
                *("localize", name, "prompts"),
            )


def _check_contrast(scope: Scope, name: str, spec: Localize, counts: Mapping[str | None, int]) -> None:
    """Every owner has prompts enough, and there are others to tell them from."""
    owners = {owner: n for owner, n in counts.items() if owner is not None}
    few = [f"'{owner}' has {n}" for owner, n in owners.items() if n < LEAST_PROMPTS]
    if few:
        more = f", and {len(few) - 3} more have too few" if len(few) > 3 else ""
        scope.tell(
            f"average_precision over fewer than {LEAST_PROMPTS} prompts finds neurons that are perfect by chance; "
            f"{', '.join(few[:3])}{more}",
            *("localize", name, "prompts"),
        )
    if len(owners) < 2 and (spec.against == "others" or isinstance(spec.against, Negatives)):
        only = next(iter(owners), "nobody")
        message = f"average_precision tells an owner's prompts from those of others, and {only} is the only owner"
        scope.tell(f"{message} (`by: [{', '.join(spec.by or [])}]`); or write `against:` texts", "localize", name, "by")


def check_rankings(scope: Scope) -> None:
    """A gradient is that of an answer, layers are compared with names, and names that nobody has have no answers."""
    for name, spec in scope.experiment.localize.items():
        path = ("localize", name)
        for n, site in enumerate(spec.site or []):
            if site in (spec.site or [])[:n]:
                scope.tell(f"'{site}' is named twice; its neurons would be ranked twice", *path, "site", n)
        if spec.metric in GRADIENT_METRICS and not str(spec.objective).startswith("top_logits"):
            found = scope.prompts(spec.prompts, *path, "prompts") if spec.prompts else None
            if found is not None and found.answers is False:
                message = f"{spec.objective} is a number of an answer, and '{found.name}' has none; rank on facts"
                scope.tell(message, *path, "prompts")
        if spec.metric == "layer_stability" and isinstance(spec.against, str):
            against = scope.prompts_or_names(spec.against, *path, "against")
            if against is not None and not isinstance(against, tuple):
                message = (
                    f"layer_stability is compared with names in the same prompts, and '{spec.against}' are prompts"
                )
                scope.tell(f"{message}; write dummies, or placeholders of your own", *path, "against")
        if spec.metric == "layer_stability" and len(spec.site or []) > 1:
            message = f"layer_stability ranks the layers of one site, and {len(spec.site or [])} are named"
            scope.tell(f"{message}; write one ranking for each", *path, "site")
        if spec.controls is not None and spec.controls.random_names:
            where = (*path, "controls", "random_names")
            if spec.metric == "random":
                scope.tell("a ranking drawn at random is its own null; leave `random_names` out", *where)
            elif spec.metric == "average_precision":
                scope.tell("made-up names are no group of prompts; the null here is `shuffled_labels`", *where)
            elif spec.metric == "layer_stability":
                scope.tell("layer_stability is compared with made-up names already (`against`)", *where)
            elif spec.metric in GRADIENT_METRICS:
                scope.tell(f"made-up names have no answers, and {spec.objective} is a number of one", *where)


def check_edited_layers(scope: Scope) -> None:
    """What is edited are neurons, and a ranking of layers holds none."""
    for name in scope.experiment.interventions:
        for _, neurons, path in edited(scope, name):
            for ranking, _ in neurons.rankings if neurons is not None else ():
                if scope.experiment.localize[ranking].metric == "layer_stability":
                    message = f"'{ranking}' ranks layers and holds no neurons"
                    scope.tell(f"{message}; edit those of a ranking of neurons in that layer (`layers:`)", *path)


# -- analyses


def check_agreement(scope: Scope) -> None:
    """Agreement is across the models of a matrix or the forms a ranking is made for."""
    experiment = scope.experiment
    for name, spec in experiment.analyses.items():
        if spec.agreement is None or spec.across is None or spec.across in experiment.matrix:
            continue
        found = scope.neurons(spec.agreement, "analyses", name, "agreement")
        if found is None or not found.rankings:
            continue
        ranking = found.rankings[0][0]
        by = scope.ranked_by(ranking)
        if by is not None and spec.across not in by:
            ranked = f"a column '{spec.agreement}' is ranked by ({', '.join(by)})"
            scope.tell(f"'{spec.across}' is neither a matrix axis nor {ranked}", "analyses", name, "across")


CHECKS = (
    check_asked,
    check_roles,
    check_tuning,
    check_circularity,
    check_learned,
    check_prompt_counts,
    check_rankings,
    check_edited_layers,
    check_agreement,
)
