"""Compile a bound experiment to a plan: a pure function of the spec, the tokenizer and the model's shape."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runner.bind import Binder, BoundAnswer, BoundPrompt, Unbound
from runner.filters import reads_of
from runner.known import KnownTexts, plan_known
from runner.localization.contrast import Contrast, contrasts
from runner.localization.metrics import least_prompts
from runner.measures import generated_tokens, needs
from runner.neurons import Ownership, condition_axes, edit_position, names_layers, owners_of
from runner.plan import (
    AnswerSlot,
    AskStage,
    Axes,
    Condition,
    LocalizeStage,
    Plan,
    PlannedRow,
    Reading,
)
from runner.program import Job, TokenSequence
from runner.sources import (
    from_twins,
    is_placeholders,
    rivals_of,
    source_key,
    source_of,
    takes_its_own,
    twin_words,
    uses_clean_run,
    value_stages,
    without_twin,
)
from runner.tune import Choice, tuning_spec, with_aim
from runner.vectors import plan_vector
from specs.language.errors import RunError
from specs.language.experiment import GRADIENT_METRICS, Experiment, Intervention, Localize, Negatives, Source
from specs.language.facts import (
    PromptText,
    column,
    draw,
    entities_of,
    kind_of,
    missing,
    named_in,
    owner_key,
    placeholder_names,
    prompt_set,
    questions_in,
    relations_of,
    role_of,
    with_name,
)
from specs.language.needs import needed
from specs.language.order import filters_of, run_order, waits_for
from specs.language.references import is_entity_position, resolve_layers, usual_role
from specs.language.results import LeftOut
from specs.language.shipped import shipped_list
from specs.language.words import ConditionName, Role

__all__ = ["HasNeurons", "compile_ask", "compile_plan", "compile_rankings"]

HasNeurons = Callable[[str, Axes], bool]

MOST_PAIRS = 6
"""Owners whose wrong cell is named in a note; all are in the result document."""
FREE_METRICS = {"random"}
"""Metrics that run nothing."""
WITHOUT_BASELINE = {*FREE_METRICS, "mean_activation", *GRADIENT_METRICS}


def compile_plan(experiment: Experiment, binder: Binder, n_layers: int) -> Plan:
    """Compile every ranking and intervention that ``only`` leaves, in order of need."""
    wanted = needed(experiment)
    localize = compile_rankings(experiment, binder, n_layers)
    names = run_order(experiment, [name for block, name in wanted if block == "interventions"])
    vectors = tuple(
        plan_vector(experiment, name, binder, n_layers) for name in experiment.vectors if ("vectors", name) in wanted
    )
    ask = tuple(compile_ask(experiment, name, binder, n_layers) for name in names)
    left_out = (item for block, name in sorted(wanted) if block == "prompts" for item in missing(experiment, name))
    known = plan_known(experiment, ranked_on(experiment, [stage.spec for stage in localize]), binder)
    return Plan(localize, ask, vectors=vectors, left_out=tuple(left_out), known=known)


def compile_rankings(
    experiment: Experiment, binder: Binder, n_layers: int, known: KnownTexts | None = None
) -> tuple[LocalizeStage, ...]:
    """Compile every ranking that ``only`` leaves; of sets in ``known``, of the questions that the model answers."""
    wanted = needed(experiment)
    return tuple(
        _localize_stage(experiment, name, experiment.localize[name], binder, n_layers, known or {})
        for name in experiment.localize
        if ("localize", name) in wanted
    )


def ranked_on(experiment: Experiment, rankings: Sequence[Localize]) -> Iterator[str]:
    """Name the prompt sets that rankings read."""
    for spec in rankings:
        if spec.metric not in FREE_METRICS:
            yield spec.prompts or "attributes"
            if isinstance(spec.against, str) and not is_placeholders(experiment, spec.against):
                yield spec.against


def compile_ask(
    experiment: Experiment,
    name: str,
    binder: Binder,
    n_layers: int,
    has_neurons: HasNeurons | None = None,
    choice: Choice | None = None,
) -> AskStage:
    """Compile one intervention: for every owner, or for those who have neurons once that is known.

    ``has_neurons``: whether an owner has neurons at a point of the sweep. Where nobody has, a stage holds no rows.
    ``choice``: with `tune:`, the value that each condition of each owner has chosen; without, the first stands for it.
    """
    spec = experiment.interventions[name]
    if spec.tune is None:
        return _ask_stage(experiment, name, spec, binder, n_layers, has_neurons)
    tuning = _ask_stage(experiment, name, tuning_spec(spec), binder, n_layers, has_neurons)
    stage = _ask_stage(experiment, name, with_aim(spec), binder, n_layers, has_neurons, tuned=True, choice=choice)
    left_out = (*stage.left_out, *(item for item in tuning.left_out if item not in stage.left_out))
    return replace(stage, tuning=tuning, axes={}, left_out=left_out)


# -- localisation -----------------------------------------------------------------------------------------------


def _localize_stage(
    experiment: Experiment, name: str, spec: Localize, binder: Binder, n_layers: int, known: KnownTexts
) -> LocalizeStage:
    layers = resolve_layers(spec.layers or ["0-100%"], n_layers) if spec.layers else tuple(range(n_layers))
    by = spec.by or []
    positions = spec.position or ["entity.last"]
    left_out: list[LeftOut] = []
    sequences: list[TokenSequence] = []
    prompts: list[BoundPrompt] = []
    groups: dict[str, list[int]] = {}
    labels: dict[str, tuple[str, str | None, str | None]] = {}

    def add(bound: BoundPrompt, where: Sequence[str]) -> int:
        at = reading_positions(bound, where)
        # Tokens after the last one that is read cannot change it, so they are not run; a gradient needs them all.
        end = len(bound.ids) if spec.metric in GRADIENT_METRICS else at[-1] + 1
        sequences.append(TokenSequence(group=len(sequences), ids=bound.ids[:end], read=at))
        prompts.append(bound)
        return len(sequences) - 1

    def leave_out(what: str, reason: str) -> None:
        left_out.append(LeftOut(what=what, reason=reason, where=f"localize.{name}"))

    kept = known.get(spec.prompts or "attributes")
    for text in prompt_set(experiment, spec.prompts or "attributes"):
        owner = owner_key(text, by)
        result = binder.bind(text)
        if kept is not None and text not in kept and isinstance(result, BoundPrompt) and result.answers:
            # The model does not know it, which is listed once for the set.
            if owner is not None:
                groups.setdefault(owner, [])
            continue
        if owner is None:
            leave_out(text.text, f"it has no {' or '.join(by)} to be ranked by")
            continue
        if isinstance(result, Unbound):
            leave_out(text.text, result.reason)
            continue
        if spec.metric in GRADIENT_METRICS and not result.answers:
            leave_out(text.text, f"it has no answer, and {spec.objective} is a number of one")
            continue
        if spec.metric in FREE_METRICS:
            groups.setdefault(owner, [])
        else:
            groups.setdefault(owner, []).append(add(result, positions))
        labels.setdefault(owner, _label(text, owner, by))
    unknown: list[str] = []
    if spec.prompts in known:
        for owner in [owner for owner, members in groups.items() if len(members) < least_prompts(spec)]:
            n = len(groups.pop(owner))
            least = least_prompts(spec)
            unknown.append(owner)
            leave_out(f"{name}/{owner}", f"the model knows {n} of its prompts, and {spec.metric} needs {least}")
    baseline: list[int] = []
    if isinstance(spec.against, str) and spec.against != "others" and spec.metric not in WITHOUT_BASELINE:
        texts, where = _baseline_texts(experiment, spec, positions)
        kept = known.get(spec.against)
        for text in texts:
            result = binder.bind(text)
            if kept is not None and text not in kept and isinstance(result, BoundPrompt) and result.answers:
                continue
            if isinstance(result, Unbound):
                leave_out(text.text, result.reason)
            else:
                baseline.append(add(result, where))
    contrasted = _contrasts(experiment, spec, groups, prompts, baseline)
    names: dict[str, list[int]] = {}
    for text in _random_names(experiment, name, spec, leave_out):
        result = binder.bind(text)
        if isinstance(result, Unbound):
            leave_out(text.text, result.reason)
        else:
            names.setdefault(text.entity_name or "", []).append(add(result, positions))
    return LocalizeStage(
        name=name,
        spec=spec,
        job=Job(tuple(sequences), tuple(spec.site or ["mlp.neurons"]), layers),
        groups={owner: tuple(members) for owner, members in groups.items()},
        labels=labels,
        baseline=tuple(baseline),
        prompts=tuple(prompts),
        layers=layers,
        left_out=tuple(left_out),
        unknown=frozenset(unknown),
        names={made_up: tuple(members) for made_up, members in names.items()},
        contrasts=contrasted,
        warnings=_short_of_negatives(spec, contrasted),
    )


def _contrasts(
    experiment: Experiment,
    spec: Localize,
    groups: Mapping[str, Sequence[int]],
    prompts: Sequence[BoundPrompt],
    baseline: Sequence[int],
) -> dict[str, Contrast]:
    """Draw what each owner's prompts are told from, for a metric that does so."""
    if spec.metric != "average_precision":
        return {}
    n_shuffled = spec.controls.shuffled_labels if spec.controls is not None else 0
    if isinstance(spec.against, Negatives):
        return contrasts(groups, prompts, spec.against.others, n_shuffled, experiment.seed)
    texts = None if spec.against == "others" else baseline
    # A prompt with a made-up name is nobody's, whatever its columns say.
    nobodys = isinstance(spec.against, str) and is_placeholders(experiment, spec.against)
    return contrasts(groups, prompts, None, n_shuffled, experiment.seed, texts, [] if nobodys else spec.by or [])


def _short_of_negatives(spec: Localize, found: Mapping[str, Contrast]) -> tuple[str, ...]:
    """Warn of owners for whom there are fewer negatives than the spec asks for."""
    short = {owner: contrast for owner, contrast in found.items() if contrast.short}
    if not short:
        return ()
    first, contrast = next(iter(short.items()))
    ratio = spec.against.others if isinstance(spec.against, Negatives) else 0
    more = f", and so have {len(short) - 1} more owners fewer than asked for" if len(short) > 1 else ""
    return (
        f"there are fewer prompts of others than {{others: {ratio}}} asks for: {first} is told from all "
        f"{len(contrast.negatives)}, {contrast.short} too few{more}",
    )


def _label(text: PromptText, owner: str, by: Sequence[str]) -> tuple[str, str | None, str | None]:
    """Give the name of an owner, its entity and the form of its name; what is ranked by other columns has neither."""
    if "entity" not in by:
        return owner, None, None
    more = [
        str(value) for name in by if name not in ("entity", "variant") and (value := column(text, name)) is not None
    ]
    name = text.entity_name or owner
    variant = text.variant if "variant" in by else None
    return (f"{name} ({', '.join(more)})" if more else name), text.entity, variant


def reading_positions(bound: BoundPrompt, where: Sequence[str]) -> tuple[int, ...]:
    """Give the tokens that are read, ascending: of ``entity.last`` and the like those of the last mention."""
    found: set[int] = set()
    for word in where:
        found.update(bound.positions(word) if word in ("all", "entity.all") else (bound.reading_position(word),))
    return tuple(sorted(found))


def _baseline_texts(
    experiment: Experiment, spec: Localize, positions: Sequence[str]
) -> tuple[tuple[PromptText, ...], Sequence[str]]:
    """Baseline prompts and where they are read: texts about nobody at their last token, names at the name."""
    assert isinstance(spec.against, str)
    if is_placeholders(experiment, spec.against):
        return _with_names(experiment, spec, placeholder_names(experiment, spec.against)), positions
    texts = prompt_set(experiment, spec.against)
    about_nobody = all(t.entity is None for t in texts)
    return texts, ["text.last"] if about_nobody and "all" not in positions else positions


def _with_names(experiment: Experiment, spec: Localize, names: Sequence[str]) -> tuple[PromptText, ...]:
    """Put names into every wording that a ranking is made on."""
    prompts = prompt_set(experiment, spec.prompts or "attributes")
    distinct = {(p.relation, p.phrasing, p.language, p.template): p for p in prompts}.values()
    return tuple(with_name(p, n) for p, n in itertools.product(distinct, names))


def _random_names(
    experiment: Experiment, name: str, spec: Localize, leave_out: Callable[[str, str], None]
) -> tuple[PromptText, ...]:
    """Give the prompts of the control of made-up names: drawn from the shipped ones that nobody of the spec has."""
    wanted = spec.controls.random_names if spec.controls is not None else 0
    if not wanted:
        return ()
    dummies = []
    for dummy in shipped_list("dummies"):
        owner = named_in(experiment, dummy)
        if owner is None:
            dummies.append(dummy)
        else:
            leave_out(f"the made-up name {dummy}", f"it is, or holds, a name of '{owner}'")
    if wanted > len(dummies):
        raise RunError(f"'{name}' asks for {wanted} random names, and there are {len(dummies)}", remedy="ask for fewer")
    return _with_names(experiment, spec, draw(dummies, wanted, experiment.seed, "random_names"))


# -- interventions ------------------------------------------------------------------------------------------------


@dataclass
class _JobBuilder:
    """Collects sequences; a question under one condition that is asked twice is run once."""

    drafts: list[dict[str, Any]] = field(default_factory=list)
    """The fields of each sequence but its scores: made into sequences once, for there are hundreds of thousands."""
    index: dict[Hashable, int] = field(default_factory=dict)
    scores: list[list[tuple[int, int]]] = field(default_factory=list)
    groups: dict[tuple[int, ...], int] = field(default_factory=dict)

    def add(self, prompt_ids: tuple[int, ...], ids: tuple[int, ...], *, generate: int = 0, **fields: Any) -> int:
        """Add a sequence of the question ``prompt_ids``, or find it; ``fields``: those of a TokenSequence."""
        group = self.groups.setdefault(prompt_ids, len(self.groups))
        own = fields.get("source") if fields.get("apart") else ""
        key = (ids, *(fields.get(name) for name in ("condition", "edits", "frozen", "twin")), own)
        i = self.index.setdefault(key, len(self.drafts))
        if i == len(self.drafts):
            self.drafts.append({**fields, "group": group, "ids": ids, "generate": generate})
            self.scores.append([])
        elif generate > self.drafts[i]["generate"]:
            self.drafts[i]["generate"] = generate
        return i

    def score(self, i: int, pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Ask for scores of a sequence; give where among its scores they will be."""
        have = self.scores[i]
        start = len(have)
        for first in range(len(have) - len(pairs) + 1):
            if have[first : first + len(pairs)] == list(pairs):
                return first, first + len(pairs)
        have.extend(pairs)
        return start, len(have)

    def job(self) -> Job:
        made = (TokenSequence(**d, score=tuple(p)) for d, p in zip(self.drafts, self.scores, strict=True))
        return Job(tuple(made))


def _ask_stage(
    experiment: Experiment,
    name: str,
    spec: Intervention,
    binder: Binder,
    n_layers: int,
    has_neurons: HasNeurons | None = None,
    *,
    tuned: bool = False,
    choice: Choice | None = None,
) -> AskStage:
    owners = owners_of_intervention(experiment, spec)
    axes = condition_axes(experiment, spec)
    points: list[Axes] = [tuple(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    at: dict[str, list[Axes]] = {o: [p for p in points if has_neurons is None or has_neurons(o, p)] for o in owners}
    owners = tuple(owner for owner in owners if at[owner])
    # Before owners that could not choose are taken out: a value is chosen for one wrong cell and no other.
    wrong = _wrong_owners(experiment, spec, owners) if spec.controls.wrong_cell else {}
    if choice is not None:
        owners = tuple(owner for owner in owners if (owner, "edit", 0) in choice)
        wrong = {owner: other for owner, other in wrong.items() if owner in owners}
    read_in = roles_read(experiment, name)
    deferred = frozenset(read_in or ()) & {"others", "texts"}
    builder = _JobBuilder()
    left_out: dict[str, LeftOut] = {}
    where = f"interventions.{name}"

    positions = [edit_position(experiment, edit) for edit in spec.edit]
    in_weights = [edit.in_ == "weights" for edit in spec.edit]
    freeze = spec.freeze
    # What an exception leaves free is named, though not held by that name.
    freed = [p for e in (freeze.except_ if freeze is not None else ()) for p in e.position or ()]
    sources = [s for s in (*map(source_of, spec.edit), freeze and freeze.to) if isinstance(s, Source) or from_twins(s)]
    from_twin = twin_words(spec, positions)
    taking: dict[str, tuple[BoundPrompt, tuple[int, ...]]] = {}
    """What is run under a condition, by the name of its stored values."""
    twinless: dict[PromptText, str] = {}
    has_twin = uses_clean_run(spec)
    apart = takes_its_own(experiment, spec, positions)

    def acting_at(prompt: BoundPrompt) -> list[str]:
        """Give the position of each edit; a text about nobody is edited at every token, for it has no entity's."""
        return [everywhere(place) if prompt.text.entity is None else place for place in positions]

    def bind(text: PromptText, what: str) -> BoundPrompt | None:
        result = binder.bind(text)
        if isinstance(result, Unbound):
            left_out.setdefault(
                f"{what}: {text.text}",
                LeftOut(what=f'{what}, "{text.text}"', reason=result.reason, where=where),
            )
            return None
        try:
            for place in (*acting_at(result), *(freeze.position if freeze is not None else ()), *freed):
                result.positions(place)
        except ValueError as error:
            reason = LeftOut(what=f'{what}, "{text.text}"', reason=str(error), where=where)
            left_out.setdefault(f"{what}: {text.text}", reason)
            return None
        why = without_twin(result, from_twin, binder) if from_twin else None
        if why is not None:
            twinless[text] = why
            left_out.setdefault(f"{what}: {text.text}", LeftOut(what=f'{what}, "{text.text}"', reason=why, where=where))
            return None
        return result

    asked = list(dict.fromkeys(text for set_name in spec.ask for text in prompt_set(experiment, set_name)))
    needs_unknown = any(m.startswith("knowledge_score") for m in spec.measure)
    needs_tokens, needs_rivals = "tokens" in needs(spec.measure), "rivals" in needs(spec.measure)
    n_text = generated_tokens(spec.measure)
    strangers = placeholder_names(experiment, spec.unknown)
    placeholders = placeholder_names(experiment, spec.placeholder) if spec.placeholder else ()

    def read(prompt: BoundPrompt, answers: BoundPrompt, condition: Condition | None, *, text: bool) -> Reading:
        """Plan one question under one condition: its answers as further branches, its text if wanted."""
        if condition is not None and condition.kind == "no_edit" and freeze is None:
            condition = None
        edits: tuple[tuple[int, ...], ...] = ()
        frozen: tuple[tuple[str, int], ...] = ()
        branch = 1 << 30
        acting_here = acting_at(prompt)
        if condition is not None:
            if condition.kind != "no_edit":
                edits = tuple(
                    () if weights else prompt.acting(position)
                    for position, weights in zip(acting_here, in_weights, strict=True)
                )
            held: tuple[tuple[str, int], ...] = ()
            if freeze is not None:
                held = tuple((p, at) for p in freeze.position for at in prompt.acting(p))
                extra = (p for p in dict.fromkeys(freed) if p not in freeze.position)
                frozen = held + tuple((p, at) for p in extra for at in prompt.acting(p))
            touched = [p for group in edits for p in group] + [p for _, p in held]
            # Another model's weights act from the first token on.
            branch = 0 if edits and any(in_weights) else min(touched)

        title = "" if answers.answers else prompt.text.text
        onward = tuple(n for n, at in enumerate(edits) if at and acting_here[n] == "all")

        def add(ids: tuple[int, ...], generate: int = 0) -> int:
            if condition is None:
                return builder.add(prompt.ids, ids, generate=generate, title=title)
            # Where every token is edited, so are those of the answer that the model is made to say.
            beyond = tuple(range(len(prompt.ids), len(ids)))
            acting, holding = edits, frozen
            if beyond and onward:
                acting = tuple(at + beyond if n in onward else at for n, at in enumerate(edits))
            if beyond and freeze is not None and "all" in freeze.position:
                holding += tuple(("all", at) for at in beyond)
            source = source_key(prompt, from_twin, ids[len(prompt.ids) :]) if sources else ""
            if source:
                taking.setdefault(source, (prompt, ids[len(prompt.ids) :]))
            return builder.add(
                prompt.ids,
                ids,
                generate=generate,
                condition=condition,
                branch_at=branch,
                edits=acting,
                frozen=holding,
                twin=builder.add(prompt.ids, ids) if has_twin else None,
                source=source,
                apart=apart,
                title=title,
                onward=onward,
            )

        last = len(prompt.ids) - 1

        def slots_of(answers: Sequence[BoundAnswer]) -> tuple[AnswerSlot, ...]:
            found = []
            for answer in answers:
                i = add(prompt.ids + answer.tokens[:-1])
                start, stop = builder.score(i, [(last + k, token) for k, token in enumerate(answer.tokens)])
                found.append(AnswerSlot(answer.text, i, start, stop))
            return tuple(found)

        slots = slots_of(answers.answers)
        rivals = slots_of(rivals_of(answers, from_twin, binder)) if needs_rivals else ()
        tokens = None
        if needs_tokens and not answers.answers:
            i = add(prompt.ids)
            after = range(prompt.first + 1, len(prompt.ids))
            tokens = AnswerSlot(prompt.text.text, i, *builder.score(i, [(p - 1, prompt.ids[p]) for p in after]))
        return Reading(slots, add(prompt.ids, generate=n_text) if text and n_text else None, tokens, rivals)

    def why_not(text: PromptText) -> LeftOut | None:
        """Say why a prompt without answers is of no use here, and note it."""
        if text.answers and (text.spans or not placeholders):
            return None
        reason = ""
        if placeholders and text.answers:
            reason = "it has no name that a placeholder could stand for"
        elif placeholders:
            reason = "it has no answer of its owner's that a placeholder could bring back"
        elif sources and text.entity is None and text.twin is None:
            reason = "values taken from other prompts and names have no counterpart in a text about nobody"
        elif not (n_text or needs_tokens):
            reason = "it has no answer, and no measure here needs none (perplexity, text@n)"
        if not reason:
            return None
        return left_out.setdefault(text.text, LeftOut(what=text.text, reason=reason, where=where))

    rows: list[PlannedRow] = []
    for owner in owners:
        role_for = role_of(experiment, spec, owner, asked)
        of_relation = bool(relations_of(experiment, owner)) or kind_of(experiment, spec, owner) is not None
        vector = experiment.vectors.get(owner)
        becomes = vector.learn.becomes if vector is not None and vector.learn and spec.target is None else None
        conditions = _conditions(name, spec, owner, wrong, at)
        if tuned:
            conditions = _one_each(owner, conditions, choice)
        for text in asked:
            role = role_for(text)
            if role is None or (placeholders and role == "others"):
                continue
            former = None
            if becomes is not None and role == "target" and text.answers:
                # What the vector was learned for is scored; whether the question is known, by what it had before.
                before = bind(text, _fact_name(text))
                former = None if before is None else (before, read(before, before, None, text=False))
                text = replace(text, answers=(becomes,))
            question = bind(text, _fact_name(text)) if why_not(text) is None else None
            if question is None:
                continue
            clean = read(question, question, None, text=True)
            unknown: tuple[Reading, ...] = ()
            stranger_prompts: list[BoundPrompt] = []
            # A stranger says what an entity's neurons do for nobody; of a relation's that would be no zero of anything.
            if question.answers and text.spans and (needs_unknown or (role == "target" and not of_relation)):
                stranger_prompts = [
                    p for s in strangers if (p := bind(with_name(text, s), f"{s} in {_fact_name(text)}"))
                ]
                unknown = tuple(read(p, question, None, text=False) for p in stranger_prompts)
            as_asked = [p for s in placeholders if (p := bind(with_name(text, s), f"{s} in {_fact_name(text)}"))] or (
                [] if placeholders else [question]
            )

            def row(
                prompt: BoundPrompt,
                condition: ConditionName,
                reading: Reading,
                *,
                draw: int = 0,
                at: Axes = (),
                role: Role = role,
                owner: str = owner,
                question: BoundPrompt = question,
                clean: Reading = clean,
                unknown: tuple[Reading, ...] = unknown,
                former: tuple[BoundPrompt, Reading] | None = former,
            ) -> None:
                later = condition == "random_neurons" and role in deferred
                found = PlannedRow(owner, condition, draw, role, at, prompt, question, reading, clean, unknown)
                rows.append(replace(found, deferred=later, former=former))

            row(question, "clean", clean)
            for label, condition in conditions:
                # Random neurons are asked about others only where a filter puts them through its conditions, and so
                # are those beside many candidates of texts.
                control = label in ("random_neurons", "wrong_cell")
                for_filter = label == "random_neurons" and role in deferred
                if control and not for_filter and (role == "others" or (role == "texts" and read_in is not None)):
                    continue
                for prompt in as_asked:
                    row(
                        prompt,
                        label,
                        read(prompt, question, condition, text=condition.draw == 0),
                        draw=condition.draw,
                        at=condition.axes,
                    )
            if role == "target" and not placeholders and not of_relation:
                for prompt in stranger_prompts:
                    row(prompt, "clean", read(prompt, question, None, text=False), role="unknown")
                    for label, condition in conditions:
                        if label == "edit":
                            row(
                                prompt,
                                label,
                                read(prompt, question, condition, text=False),
                                at=condition.axes,
                                role="unknown",
                            )
    means, held_at, taken_from = value_stages(experiment, spec, positions, taking, binder, where)
    warnings: tuple[str, ...] = ()
    if twinless and (lost := sum(text in twinless for text in asked)):
        why = next(iter(twinless.values()))
        warnings = (
            f"'{name}': {lost} of {len(asked)} prompts can take no values from a patch twin, and are left out "
            f"and listed; the first: {why}",
        )
    return AskStage(
        name=name,
        spec=spec,
        job=builder.job(),
        rows=tuple(rows),
        owners=owners,
        wrong=wrong,
        axes={k: tuple(v) for k, v in axes.items()},
        controls=_control_notes(spec, owners, wrong, bool(placeholders), deferred),
        means=means,
        held_at=held_at,
        taken_from=taken_from,
        candidates=tuple(_candidates(experiment, asked, binder)),
        left_out=(*left_out.values(), *(item for stage in means for item in stage.left_out)),
        after=waits_for(experiment, name),
        deferred=deferred,
        warnings=warnings,
    )


def roles_read(experiment: Experiment, name: str) -> frozenset[Role] | None:
    """Give the roles in which filters read what an intervention's neurons do; None where no filter reads it."""
    paths = [
        path
        for _, ref in filters_of(experiment)
        for condition in ref.where
        for path in reads_of(condition)
        if path.block == name
    ]
    if not paths:
        return None
    return frozenset(p.role or usual_role(p.quantity) for p in paths if p.condition in (None, "edit"))


def owners_of_intervention(experiment: Experiment, spec: Intervention) -> tuple[str, ...]:
    """Whose neurons an intervention edits, one after another.

    Where an edit names a whole ranking, it is made for each of its groups, and what else is edited is edited with
    all of them. Where all edits name groups, they make one set that belongs to all of these together.
    """
    found = [
        Ownership((edit.add,))
        if isinstance(edit.add, str) and edit.add in experiment.vectors
        else owners_of(experiment, edit.neurons or edit.outside)
        for edit in spec.edit
    ]
    whole = [o for o in found if o.whole]
    if whole:
        return tuple(dict.fromkeys(owner for o in whole for owner in o.owners))
    owned = [o for o in found if o.rankings]
    if owned:
        return ("+".join(dict.fromkeys(owner for o in owned for owner in o.owners)),)
    return ("+".join(dict.fromkeys(owner for o in found for owner in o.owners)),)


def everywhere(position: str) -> str:
    """Give the position at which an edit of the entity's token acts in a text that has no entity."""
    return "all" if is_entity_position(position) else position


def _wrong_owners(experiment: Experiment, spec: Intervention, owners: Sequence[str]) -> dict[str, str]:
    """Pair each owner with the next one of another entity, who is not asked about as its target either."""
    wrong: dict[str, str] = {}
    for i, owner in enumerate(owners):
        own = set(entities_of(experiment, owner))
        if isinstance(spec.target, str):  # of a fact its entity; a relation is nobody
            own |= {spec.target.rpartition("/")[2]} & set(experiment.entities)
        for step in range(1, len(owners)):
            other = owners[(i + step) % len(owners)]
            if not own & set(entities_of(experiment, other)):
                wrong[owner] = other
                break
    return wrong


def _conditions(
    name: str, spec: Intervention, owner: str, wrong: Mapping[str, str], at: Mapping[str, Sequence[Axes]]
) -> list[tuple[ConditionName, Condition]]:
    """List the conditions of one owner: the edit and its controls at every point of the sweep."""
    found: list[tuple[ConditionName, Condition]] = []
    # Controls hold what the edit holds, so that they differ from it in what is edited alone.
    held = owner if names_layers(spec.freeze) else ""
    if spec.controls.no_edit and (spec.placeholder or spec.freeze):
        found.append(("no_edit", Condition(name, "no_edit", owner="", held=held)))
    for point in at[owner]:
        found.append(("edit", Condition(name, "edit", owner, 0, point, held)))
        if owner in wrong and point in at[wrong[owner]]:
            found.append(("wrong_cell", Condition(name, "edit", wrong[owner], 0, point, held)))
        found += [
            ("random_neurons", Condition(name, "random_neurons", owner, draw, point, held))
            for draw in range(spec.controls.random_neurons)
        ]
    return found


def _one_each(
    owner: str, conditions: Sequence[tuple[ConditionName, Condition]], choice: Choice | None
) -> list[tuple[ConditionName, Condition]]:
    """Keep one value of the sweep for each condition and draw: the one it has chosen, or the first."""
    kept: dict[tuple[ConditionName, int], tuple[ConditionName, Condition]] = {}
    for label, condition in conditions:
        if choice is None or label == "no_edit" or choice.get((owner, label, condition.draw)) == condition.axes:
            kept.setdefault((label, condition.draw), (label, condition))
    return list(kept.values())


def _control_notes(
    spec: Intervention,
    owners: Sequence[str],
    wrong: Mapping[str, str],
    placeholder: bool,
    deferred: frozenset[Role] = frozenset(),
) -> dict[str, str]:
    notes = {}
    draws = spec.controls.random_neurons
    vectors = [edit.neurons is None and edit.outside is None for edit in spec.edit]
    what = "as many neurons of the same layers and sites"
    if any(vectors):
        what += ", and of a random direction as long as the vector"
    if all(vectors):
        what = "a random direction as long as the vector"
    notes["random_neurons"] = f"{draws} draws of {what}" if draws else "turned off"
    if draws and deferred:
        asked = " and ".join(sorted(deferred))
        notes["random_neurons"] += (
            f"; of {asked} only those that meet the conditions of a filter that stand before are asked"
        )
    if not spec.controls.wrong_cell:
        notes["wrong_cell"] = "turned off"
    elif wrong:
        pairs = [f"{owner}: the neurons of {other}" for owner, other in wrong.items()]
        rest = f"; and so on for {len(pairs) - MOST_PAIRS} more" if len(pairs) > MOST_PAIRS else ""
        notes["wrong_cell"] = "; ".join(pairs[:MOST_PAIRS]) + rest
    else:
        notes["wrong_cell"] = "does not apply: it needs neurons of a second owner"
    if not spec.controls.no_edit:
        notes["no_edit"] = "turned off"
    elif placeholder or spec.freeze:
        notes["no_edit"] = "placeholder and freeze without the edit"
    else:
        notes["no_edit"] = "does not apply: without placeholder or freeze it is the clean run"
    return notes


def _candidates(experiment: Experiment, asked: Sequence[PromptText], binder: Binder) -> Iterator[BoundPrompt]:
    """Bind every question of the relations that are asked: whether answers share tokens is no matter of who is."""
    for relation, language in dict.fromkeys((text.relation, text.language) for text in asked):
        for text in questions_in(experiment, relation, language) if relation is not None else ():
            result = binder.bind(text)
            if isinstance(result, BoundPrompt):
                yield result


def _fact_name(text: PromptText) -> str:
    return f"{text.relation}/{text.entity}" if text.relation else text.text
