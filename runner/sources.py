"""Values from other prompts: which prompts are read for `{mean: S}` and `{sample: S}`, and what is read there.

A source is read once for an intervention, at every position an edit or the freeze wants it at. Over names it is the
same prompt with those names, for each prompt; over a prompt set it is one value for all prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from runner.bind import Binder, BoundPrompt, Unbound
from runner.plan import MeanStage
from runner.program import Job, Stored, TokenSequence
from specs.language.errors import RunError
from specs.language.experiment import Edit, Experiment, Intervention, Source, Times
from specs.language.facts import draw, placeholder_names, prompt_set, with_name
from specs.language.results import LeftOut
from specs.language.shipped import PLACEHOLDERS

if TYPE_CHECKING:
    from runner.execute import Engine, Outcome
    from runner.execute import Reading as SiteReading

__all__ = [
    "as_stored",
    "is_placeholders",
    "keys_of",
    "reading_at",
    "source_of",
    "stored_values",
    "takes_its_own",
    "uses_clean_run",
    "value_stages",
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

    Those of a random prompt, and means over names that are taken over all tokens of a prompt, later ones too.
    """

    def own(source: object, positions: Iterable[str]) -> bool:
        if not isinstance(source, Source):
            return False
        named = isinstance(source.mean, list) or (source.mean is not None and is_placeholders(experiment, source.mean))
        return source.sample is not None or (named and any(word in POOLED for word in positions))

    freeze = spec.freeze
    held = freeze is not None and own(freeze.to, freeze.position)
    return held or any(own(source_of(edit), [word]) for edit, word in zip(spec.edit, words, strict=True))


def value_stages(
    experiment: Experiment,
    spec: Intervention,
    words: Sequence[str],
    prompts: Iterable[BoundPrompt],
    binder: Binder,
    where: str,
) -> tuple[tuple[MeanStage, ...], int | None, tuple[int | None, ...]]:
    """Plan what an intervention reads from other prompts; say which of it the freeze and each edit use.

    ``words``: for each edit, the word of its position. ``prompts``: those that are asked under a condition.
    """
    uses: dict[tuple[str, str | tuple[str, ...]], list[str]] = {}

    def use(source: object, positions: Iterable[str]) -> int | None:
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
    asked = list({prompt.text.text: prompt for prompt in prompts}.values())
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
    left_out: dict[str, LeftOut] = field(default_factory=dict)

    @property
    def label(self) -> str:
        said = self.ref if isinstance(self.ref, str) else ", ".join(self.ref)
        return f"{'mean over' if self.kind == 'mean' else 'sample of'} {said}"

    def plan(self, asked: Sequence[BoundPrompt]) -> MeanStage:
        named = not isinstance(self.ref, str) or is_placeholders(self.experiment, self.ref)
        if named:
            for prompt in asked:
                self._over_names(prompt)
        else:
            self._over_prompts(asked)
        shared = not named and self.kind == "mean"
        have = {(text, word) for at in self.reads.values() for keys in at.values() for text, word, _ in keys}
        for prompt in asked:
            text = "" if shared else prompt.text.text
            for word in self.words:
                if (text, word) not in have:
                    reason = next((f": {item.reason}" for item in self.left_out.values()), "")
                    raise RunError(f"nothing of the {self.label} can be read at {word} of: {prompt.text.text}{reason}")
        sequences: list[TokenSequence] = []
        members: dict[tuple[int, int], tuple[Key, ...]] = {}
        for ids, at in self.reads.items():
            for position, keys in at.items():
                members[(len(sequences), position)] = tuple(dict.fromkeys(keys))
            sequences.append(TokenSequence(group=len(sequences), ids=ids, read=tuple(sorted(at))))
        return MeanStage(self.label, Job(tuple(sequences)), members, shared, tuple(self.left_out.values()))

    def _over_names(self, prompt: BoundPrompt) -> None:
        """The same prompt with other names: a token of the prompt has the mean over the tokens in its place."""
        text = prompt.text.text
        names = placeholder_names(self.experiment, self.ref)
        if not prompt.text.spans:
            raise RunError(f"the {self.label} needs prompts about an entity; this is about nobody: {text}")
        bound = {}
        for name in names:
            result = self.binder.bind(with_name(prompt.text, name))
            if isinstance(result, Unbound) or not self._has(result):
                self._leave_out(name, result)
            else:
                bound[name] = result
        for name in bound if self.kind == "mean" else draw(list(bound), 1, self.experiment.seed, "sample", text):
            self._read(bound[name], text, prompt)

    def _over_prompts(self, asked: Sequence[BoundPrompt]) -> None:
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
        for prompt in asked:
            for drawn in draw(list(found), 1, self.experiment.seed, "sample", self.ref, prompt.text.text):
                self._read(found[drawn], prompt.text.text, None)

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
    return Stored(stage.label, sorted_values, stage.shared)
