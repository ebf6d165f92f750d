"""Values from other prompts: which prompts are read for `{mean: S}` and `{sample: S}`, and what is read there.

A source is read once for an intervention, at every position an edit or the freeze wants it at. Over names it is the
same prompt with those names, for each prompt; over a prompt set it is one value for all prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from runner.bind import Binder, BoundAnswer, BoundPrompt, Unbound
from runner.plan import MeanStage
from runner.program import Job, Stored, TokenSequence
from specs.language.errors import RunError
from specs.language.experiment import Edit, Experiment, Intervention, Source, Times
from specs.language.facts import draw, other_answers, placeholder_names, prompt_set, with_name
from specs.language.results import LeftOut
from specs.language.shipped import PLACEHOLDERS

if TYPE_CHECKING:
    from runner.execute import Engine, Outcome
    from runner.execute import Reading as SiteReading

__all__ = [
    "as_stored",
    "from_twins",
    "is_placeholders",
    "keys_of",
    "reading_at",
    "rivals_of",
    "source_key",
    "source_of",
    "stored_values",
    "takes_its_own",
    "twin_words",
    "uses_clean_run",
    "value_stages",
    "without_twin",
]

POOLED = ("all", "entity.all")
"""Positions that are other numbers of tokens in other prompts: one value for all of them."""
Key = tuple[str, str, int]


def is_placeholders(experiment: Experiment, name: str) -> bool:
    """Say whether a name is a list of placeholders and not a prompt set."""
    return name in experiment.placeholders or name in PLACEHOLDERS


def source_of(edit: Edit) -> object:
    """Give what an edit takes its values from: a Source, a word such as ``clean``, or None for numbers."""
    value = edit.set if edit.set is not None else edit.add
    if isinstance(value, Times):
        return value.of
    return value if isinstance(value, Source | str) else None  # the name of a vector is no source, and no word either


def uses_clean_run(spec: Intervention) -> bool:
    """Say whether a condition of an intervention needs the clean run of its own tokens beside it."""
    return (spec.freeze is not None and spec.freeze.to == "clean") or any(source_of(e) == "clean" for e in spec.edit)


def takes_its_own(experiment: Experiment, spec: Intervention, words: Sequence[str]) -> bool:
    """Say whether prompts that begin alike may have other values taken for them at their beginning.

    Those of a random prompt or a patch twin, and means over names that are taken over all tokens of a prompt, later
    ones too.
    """

    def own(source: object, positions: Iterable[str]) -> bool:
        if from_twins(source):
            return True
        if not isinstance(source, Source):
            return False
        named = isinstance(source.mean, list) or (source.mean is not None and is_placeholders(experiment, source.mean))
        return source.sample is not None or (named and any(word in POOLED for word in positions))

    freeze = spec.freeze
    held = freeze is not None and own(freeze.to, freeze.position)
    return held or any(own(source_of(edit), [word]) for edit, word in zip(spec.edit, words, strict=True))


def from_twins(source: object) -> bool:
    """Say whether values are taken from patch twins: of the prompt itself, or over all of them."""
    return source == "patch" or (isinstance(source, Source) and "patch" in (source.mean, source.sample))


def twin_words(spec: Intervention, words: Sequence[str]) -> dict[str, bool]:
    """List the position words at which values of patch twins are taken: word -> whether each of the prompt's own alone.

    ``words``: for each edit, the word of its position.
    """
    found: dict[str, bool] = {}
    uses = [(source_of(edit), [word]) for edit, word in zip(spec.edit, words, strict=True)]
    uses += [(spec.freeze.to, spec.freeze.position)] if spec.freeze is not None else []
    for source, positions in uses:
        if from_twins(source):
            for word in positions:
                found[word] = found.get(word, True) and source == "patch"
    return found


def without_twin(prompt: BoundPrompt, words: Mapping[str, bool], binder: Binder) -> str | None:
    """Say why a prompt cannot take values from its patch twin at some positions; None where it can."""
    if prompt.text.twin is None:
        return "it has no patch twin"
    twin = binder.bind(prompt.text.twin)
    if isinstance(twin, Unbound):
        return f'its patch twin "{twin.text.text}" cannot be run: {twin.reason}'
    for word, own in words.items():
        try:
            here, there = len(prompt.acting(word)), len(twin.acting(word))
        except ValueError as error:
            return f"its patch twin: {error}"
        if here != there:
            what = "tokens" if word == "all" else f"tokens at {word}"
            return f"it has {here} {what} and its patch twin {there}; patch values at {word} need equal lengths"
        long = next((a.text for a in prompt.answers if len(a.tokens) > 1), None)
        if word == "all" and not own and long is not None:
            return f"the answer '{long}' is several tokens, and values over all patch twins are of the prompt's tokens"
    return None


def rivals_of(question: BoundPrompt, words: Mapping[str, bool], binder: Binder) -> tuple[BoundAnswer, ...]:
    """Give the answers of a question's patch twin as they would stand behind the question; none that cannot.

    An answer that is right for the question itself is no rival of it. ``words``: as :func:`twin_words` gives them;
    behind a prompt there are no values over all twins.
    """
    twin = question.text.twin
    answers = () if twin is None else other_answers(question.text, twin)
    if not answers:
        return ()
    bound = binder.bind(replace(question.text, answers=answers))
    if isinstance(bound, Unbound) or bound.ids != question.ids:
        return ()
    if words.get("all", True) is False and any(len(answer.tokens) > 1 for answer in bound.answers):
        return ()
    return bound.answers


def source_key(prompt: BoundPrompt, words: Mapping[str, bool], beyond: tuple[int, ...] = ()) -> str:
    """Name the stored values of a sequence: by its prompt, by its twin too where that is what is read.

    ``words``: as :func:`twin_words` gives them; ``beyond``: tokens of the answer behind the prompt.
    """
    if not words or prompt.text.twin is None:
        return prompt.text.text
    said = " ".join(map(str, beyond)) if "all" in words else ""
    return f"{prompt.text.text}\n{prompt.text.twin.text}\n{said}".rstrip("\n")


Asked = tuple[BoundPrompt, tuple[int, ...]]
"""A prompt and the tokens of an answer that stand behind it in a sequence."""


def value_stages(
    experiment: Experiment,
    spec: Intervention,
    words: Sequence[str],
    asked: Mapping[str, Asked],
    binder: Binder,
    where: str,
) -> tuple[tuple[MeanStage, ...], int | None, tuple[int | None, ...]]:
    """Plan what an intervention reads from other prompts; say which of it the freeze and each edit use.

    ``words``: for each edit, the word of its position. ``asked``: what is run under a condition, by the name of its
    stored values.
    """
    uses: dict[tuple[str, str | tuple[str, ...]], list[str]] = {}

    def use(source: object, positions: Iterable[str]) -> int | None:
        if source == "patch":
            uses.setdefault(("patch", "patch"), []).extend(positions)
            return list(uses).index(("patch", "patch"))
        if not isinstance(source, Source):
            return None
        kind = "mean" if source.mean is not None else "sample"
        ref = source.mean if source.mean is not None else source.sample
        assert ref is not None
        key = (kind, ref if isinstance(ref, str) else tuple(ref))
        uses.setdefault(key, []).extend(positions)
        return list(uses).index(key)

    freeze = spec.freeze
    held_at = None if freeze is None else use(freeze.to, freeze.position)
    taken = tuple(use(source_of(edit), [word]) for edit, word in zip(spec.edit, words, strict=True))
    stages = tuple(
        _Planner(experiment, binder, where, kind, ref, tuple(dict.fromkeys(positions))).plan(asked)
        for (kind, ref), positions in uses.items()
    )
    return stages, held_at, taken


@dataclass
class _Planner:
    """Plans the readings of one source."""

    experiment: Experiment
    binder: Binder
    where: str
    kind: str
    ref: str | tuple[str, ...]
    words: tuple[str, ...]
    reads: dict[tuple[int, ...], dict[int, list[Key]]] = field(default_factory=dict)
    under: dict[tuple[str, str], str] = field(default_factory=dict)
    left_out: dict[str, LeftOut] = field(default_factory=dict)

    @property
    def label(self) -> str:
        said = self.ref if isinstance(self.ref, str) else ", ".join(self.ref)
        if said == "patch" and isinstance(self.ref, str):
            said = "the patch twins"
        return {"mean": f"mean over {said}", "sample": f"sample of {said}", "patch": "values of the patch twin"}[
            self.kind
        ]

    def plan(self, asked: Mapping[str, Asked]) -> MeanStage:
        named = not isinstance(self.ref, str) or is_placeholders(self.experiment, self.ref)
        twins = self.ref == "patch"
        if twins:
            self._over_twins(asked)
        elif named:
            for key, (prompt, _) in asked.items():
                self._over_names(key, prompt)
        else:
            self._over_prompts(asked)
        shared = not named and not twins and self.kind == "mean"
        have = {(text, word) for at in self.reads.values() for keys in at.values() for text, word, _ in keys}
        for key, (prompt, _) in asked.items():
            for word in self.words:
                if ("" if shared else self.under.get((key, word), key), word) not in have:
                    reason = next((f": {item.reason}" for item in self.left_out.values()), "")
                    raise RunError(f"nothing of the {self.label} can be read at {word} of: {prompt.text.text}{reason}")
        sequences: list[TokenSequence] = []
        members: dict[tuple[int, int], tuple[Key, ...]] = {}
        for ids, at in self.reads.items():
            for position, keys in at.items():
                members[(len(sequences), position)] = tuple(dict.fromkeys(keys))
            sequences.append(TokenSequence(group=len(sequences), ids=ids, read=tuple(sorted(at))))
        left_out = tuple(self.left_out.values())
        return MeanStage(self.label, Job(tuple(sequences)), members, shared, left_out, self.under)

    def _over_twins(self, asked: Mapping[str, Asked]) -> None:
        """Patch twins, token by token: a prompt's own; or of those with as many tokens a mean, or one at random.

        Which twins can be run and have the tokens was asked when the prompts were bound.
        """
        twins: dict[str, tuple[BoundPrompt, tuple[int, ...]]] = {}
        for key, (prompt, beyond) in asked.items():
            assert prompt.text.twin is not None
            twin = self.binder.bind(prompt.text.twin)
            assert isinstance(twin, BoundPrompt)
            twins[key] = twin, beyond
        if self.kind == "patch":
            for key, (twin, beyond) in twins.items():
                for word in self.words:
                    self._read_tokens(twin, key, word, beyond)
            return
        by_text = {twin.text.text: twin for twin, _ in twins.values()}
        counts = {text: [len(twin.acting(word)) for word in self.words] for text, twin in by_text.items()}
        if self.kind == "sample":
            for key, (twin, _) in twins.items():
                like = [text for text, count in counts.items() if count == counts[twin.text.text]]
                for drawn in draw(like, 1, self.experiment.seed, "sample", "patch", key):
                    for word in self.words:
                        self._read_tokens(by_text[drawn], key, word)
            return
        for number, word in enumerate(self.words):
            for text, twin in by_text.items():
                self._read_tokens(twin, f"{counts[text][number]} tokens", word)
            for key, (twin, _) in twins.items():
                self.under[key, word] = f"{counts[twin.text.text][number]} tokens"

    def _read_tokens(self, prompt: BoundPrompt, key: str, word: str, beyond: tuple[int, ...] = ()) -> None:
        """Read a prompt, with an answer behind it, at each token that a word means, one by one."""
        ids = prompt.ids + beyond
        positions = prompt.acting(word)  # where edits act: at `all` a beginning-of-text token, too
        if word == "all":
            positions += tuple(range(len(prompt.ids), len(ids)))
        at_position = self.reads.setdefault(ids[: max(positions) + 1], {})
        for number, position in enumerate(positions):
            at_position.setdefault(position, []).append((key, word, number))

    def _over_names(self, text: str, prompt: BoundPrompt) -> None:
        """The same prompt with other names: a token of the prompt has the mean over the tokens in its place."""
        names = placeholder_names(self.experiment, self.ref)
        if not prompt.text.spans:
            raise RunError(f"the {self.label} needs prompts about an entity; this is about nobody: {prompt.text.text}")
        bound = {}
        for name in names:
            result = self.binder.bind(with_name(prompt.text, name))
            if isinstance(result, Unbound) or not self._has(result):
                self._leave_out(name, result)
            else:
                bound[name] = result
        for name in (
            bound if self.kind == "mean" else draw(list(bound), 1, self.experiment.seed, "sample", prompt.text.text)
        ):
            self._read(bound[name], text, prompt)

    def _over_prompts(self, asked: Mapping[str, Asked]) -> None:
        assert isinstance(self.ref, str)
        found: dict[str, BoundPrompt] = {}
        for text in prompt_set(self.experiment, self.ref):
            result = self.binder.bind(text)
            if isinstance(result, Unbound) or not self._has(result):
                self._leave_out(self.ref, result)
            else:
                found.setdefault(text.text, result)
        if self.kind == "mean":
            for bound in found.values():
                self._read(bound, "", None)
            return
        for key, (prompt, _) in asked.items():
            for drawn in draw(list(found), 1, self.experiment.seed, "sample", self.ref, prompt.text.text):
                self._read(found[drawn], key, None)

    def _has(self, prompt: BoundPrompt) -> bool:
        try:
            return all(prompt.positions(word) for word in self.words)
        except ValueError:
            return False

    def _leave_out(self, what: str, found: BoundPrompt | Unbound) -> None:
        text = found.text.text
        reason = found.reason if isinstance(found, Unbound) else f"it has no {' and '.join(self.words)}"
        self.left_out[text] = LeftOut(what=f'{what} in "{text}"', reason=reason, where=self.where)

    def _read(self, prompt: BoundPrompt, text: str, beside: BoundPrompt | None) -> None:
        """Read a prompt at every word, for the prompt of ``text``; ``beside`` is that prompt, token by token."""
        tokens = {word: prompt.positions(word) for word in self.words}
        ids = prompt.ids[: max(p for at in tokens.values() for p in at) + 1]
        at_position = self.reads.setdefault(ids, {})
        for word, positions in tokens.items():
            paired = beside is not None and word not in POOLED and len(beside.positions(word)) == len(positions)
            for number, position in enumerate(positions):
                at_position.setdefault(position, []).append((text, word, number if paired else 0))


def reading_at(stage: MeanStage, places: Iterable[tuple[str, int]]) -> MeanStage:
    """Give a stage that reads at some (site, layer) and nowhere else."""
    places = list(places)
    sites = tuple(dict.fromkeys(site for site, _ in places))
    layers = tuple(sorted({layer for _, layer in places}))
    return replace(stage, job=Job(stage.job.sequences, sites, layers))


def stored_values(
    engine: Engine, stage: MeanStage, *, progress: Callable[[int], None] | None = None
) -> tuple[dict[tuple[str, int], np.ndarray], Outcome]:
    """Read and average: (site, layer) -> ``[n_keys, width]``, float32, in the order of :func:`keys_of`."""
    row = {key: n for n, key in enumerate(keys_of(stage))}
    counts = np.zeros(len(row))
    for keys in stage.members.values():
        for key in keys:
            counts[row[key]] += 1
    sums: dict[tuple[str, int], np.ndarray] = {}

    def keep(reading: SiteReading) -> None:
        pairs = [
            (n, row[key])
            for n, place in enumerate(zip(reading.sequence, reading.position, strict=True))
            for key in stage.members[(int(place[0]), int(place[1]))]
        ]
        taken, index = (np.array(column) for column in zip(*pairs, strict=True))
        for site, values in reading.values.items():
            for layer, at_layer in zip(stage.job.layers, values, strict=True):
                total = sums.setdefault((site, layer), np.zeros((len(row), at_layer.shape[1])))
                np.add.at(total, index, at_layer.double().cpu().numpy()[taken])

    outcome = engine.run(stage.job, on_values=keep, progress=progress)
    return {place: (total / counts[:, None]).astype(np.float32) for place, total in sums.items()}, outcome


def keys_of(stage: MeanStage) -> list[Key]:
    """List what a stage has values for, in a fixed order."""
    return sorted({key for keys in stage.members.values() for key in keys})


def as_stored(stage: MeanStage, values: Mapping[tuple[str, int], np.ndarray]) -> Stored:
    """Sort rows of :func:`stored_values` by prompt, position and token."""
    keys = keys_of(stage)
    at: dict[tuple[str, str], list[int]] = {}
    for n, (text, word, _) in enumerate(keys):
        at.setdefault((text, word), []).append(n)
    sorted_values = {place: {key: rows[found] for key, found in at.items()} for place, rows in values.items()}
    return Stored(stage.label, sorted_values, stage.shared, stage.under)
