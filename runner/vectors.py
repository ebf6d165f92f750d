"""Vectors: a difference of means, a learned one, or one from a file; what they are made of, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runner.atomic import refusals, whole
from runner.bind import Binder, BoundPrompt, Unbound
from runner.learning import WEIGHT_DECAY, learn
from runner.plan import MeanStage, VectorStage
from runner.program import Job, Lesson, TokenSequence
from runner.run_types import Reporter, Spent, stage_record
from runner.sources import stored_values
from specs.language.errors import RunError
from specs.language.experiment import Experiment, Learn
from specs.language.facts import PromptText, prompt_set
from specs.language.references import resolve_layers
from specs.language.results import LearningStep, LeftOut, Stage, VectorResult
from specs.language.vector_files import place_of, read_vector

if TYPE_CHECKING:
    from runner.model import Machine

__all__ = ["Made", "make_vector", "plan_vector", "random_direction", "write_vector"]


# -- the plan -----------------------------------------------------------------------------------------------------


def plan_vector(experiment: Experiment, name: str, binder: Binder, n_layers: int) -> VectorStage:
    """Plan what a vector is made of. Raises RunError where nothing of it is left, or its file says not where it is."""
    spec = experiment.vectors[name]
    place = place_of(experiment, name)
    (layer, *more) = resolve_layers([place.layers], n_layers)
    if more:
        raise RunError(f"the vector '{name}' has one layer, and {place.layers} are {1 + len(more)}")
    planner = _Planner(experiment, name, binder, place.position, [])
    stage = VectorStage(name, spec, place.site, layer, place.position)
    if spec.mean is not None:
        return replace(stage, means=planner.means(spec.mean, spec.minus), left_out=tuple(planner.left_out))
    if spec.learn is not None:
        attack, keep = planner.lessons(spec.learn)
        return replace(stage, attack=attack, keep=keep, left_out=tuple(planner.left_out))
    return stage


@dataclass
class _Planner:
    experiment: Experiment
    name: str
    binder: Binder
    position: str
    left_out: list[LeftOut]

    def bound(self, text: PromptText) -> BoundPrompt | None:
        """Bind a prompt that has the vector's position; else list it as left out."""
        result = self.binder.bind(text)
        if isinstance(result, Unbound):
            reason = result.reason
        else:
            try:
                if result.positions(self.position):
                    return result
                reason = f"it has no {self.position}"
            except ValueError as error:
                reason = str(error)
        self.left_out.append(LeftOut(what=text.text, reason=reason, where=f"vectors.{self.name}"))
        return None

    def means(self, mean: str, minus: str | None) -> MeanStage:
        members: dict[tuple[int, int], tuple[tuple[str, str, int], ...]] = {}
        reads: dict[tuple[int, ...], dict[int, list[tuple[str, str, int]]]] = {}
        for side, ref in (("mean", mean), ("minus", minus)):
            found = [] if ref is None else [b for t in prompt_set(self.experiment, ref) if (b := self.bound(t))]
            if ref is not None and not found:
                raise RunError(f"the vector '{self.name}': no prompt of '{ref}' has {self.position}")
            for prompt in {b.ids: b for b in found}.values():
                positions = prompt.positions(self.position)
                at = reads.setdefault(prompt.ids[: max(positions) + 1], {})
                for position in positions:
                    at.setdefault(position, []).append((side, self.position, 0))
        sequences: list[TokenSequence] = []
        for ids, at in reads.items():
            members.update({(len(sequences), position): tuple(keys) for position, keys in at.items()})
            sequences.append(TokenSequence(group=len(sequences), ids=ids, read=tuple(sorted(at))))
        label = f"mean over {mean}" + (f" minus {minus}" if minus else "")
        return MeanStage(label, Job(tuple(sequences)), members)

    def lessons(self, spec: Learn) -> tuple[tuple[Lesson, ...], tuple[Lesson, ...]]:
        """Give what the vector should change, and what it should keep: never the fact itself."""
        relation, _, entity = spec.fact.partition("/")
        facts = [t for t in prompt_set(self.experiment, relation) if t.entity == entity]
        attack = [
            lesson(prompt, prompt.answers[0].tokens, self.position)
            for text in facts
            if (prompt := self.bound(replace(text, answers=(spec.becomes,)))) is not None
        ]
        if not attack:
            why = f": {self.left_out[-1].reason}" if self.left_out else ""
            raise RunError(f"the vector '{self.name}': the fact {spec.fact} cannot be asked{why}")
        keep = []
        for text in prompt_set(self.experiment, spec.keep):
            if text.relation == relation and text.entity == entity:
                continue
            if (prompt := self.bound(text)) is not None:
                answer = prompt.answers[0].tokens if prompt.answers else ()
                keep.append(lesson(prompt, answer, self.position))
        return tuple(dict.fromkeys(attack)), tuple(dict.fromkeys(keep))


def lesson(prompt: BoundPrompt, answer: tuple[int, ...], position: str) -> Lesson:
    """Put a prompt and its answer into one row; where the vector acts everywhere, it acts along the answer too."""
    last = len(prompt.ids) - 1
    ids = prompt.ids + answer[:-1]
    at = prompt.acting(position)
    if position == "all":
        at += tuple(range(len(prompt.ids), len(ids)))
    scored: tuple[tuple[int, int | None], ...] = tuple((last + k, token) for k, token in enumerate(answer))
    return Lesson(ids, at, scored or ((last, None),))


# -- what is run --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """A vector ``[width]`` with its place, and the record of how it was made."""

    values: np.ndarray
    site: str
    layer: int
    result: VectorResult


def make_vector(machine: Machine, stage: VectorStage, reporter: Reporter) -> tuple[Made, Stage | None]:
    """Make a vector, or find it in the cache. Raises RunError for a file of another width."""
    from runner.families import site_place

    width = site_place(machine.skeleton, machine.family, stage.site, stage.layer).width
    common: dict[str, Any] = {
        "name": stage.name,
        "site": stage.site,
        "layer": stage.layer,
        "position": stage.position,
        "width": width,
    }
    if stage.spec.from_ is not None:
        values, digest = read_vector(stage.name, stage.spec)
        if len(values) != width:
            raise RunError(
                f"the vector '{stage.name}' has {len(values):,} numbers, and {stage.site} of layer {stage.layer} of "
                f"{machine.source.name} is {width:,} wide",
                remedy="it belongs to another model, or to another site",
            )
        how = f"read from {Path(stage.spec.from_).name}"
        return _made(values, stage, VectorResult(kind="from", how=how, source_hash=digest, norm=0.0, **common)), None
    if stage.means is not None:
        return _difference(machine, stage, stage.means, common, reporter)
    return _learned(machine, stage, common, reporter)


def _made(values: np.ndarray, stage: VectorStage, result: VectorResult) -> Made:
    norm = float(np.linalg.norm(values.astype(np.float64)))
    return Made(values, stage.site, stage.layer, result.model_copy(update={"norm": norm}))


def _difference(
    machine: Machine, stage: VectorStage, means: MeanStage, common: Mapping[str, Any], reporter: Reporter
) -> tuple[Made, Stage]:
    means = replace(means, job=replace(means.job, sites=(stage.site,), layers=(stage.layer,)))
    keys = sorted({key for of in means.members.values() for key in of})
    place = machine.stage_key(
        {
            "stage": "vector of means",
            "sequences": [list(s.ids) for s in means.job.sequences],
            "place": [stage.site, stage.layer],
            "members": [[*at, list(of)] for at, of in means.members.items()],
        }
    )
    spent = Spent()
    found = machine.cache.get(place)
    reporter.stage(stage.name, None if found is not None else machine.cost(means.job).distinct_tokens)
    if found is None:
        rows, outcome = stored_values(machine.engine(reporter), means, progress=reporter.advance)
        spent.add(outcome)
        sides = {side: rows[(stage.site, stage.layer)][n] for n, (side, _, _) in enumerate(keys)}
        values = sides["mean"] - sides["minus"] if "minus" in sides else sides["mean"]
        machine.cache.put(place, {"vector": values}, {}, about=machine.about("vector", stage.name))
    else:
        values = found.arrays["vector"]
    counts = {
        side: len({s for (s, _), of in means.members.items() if any(k[0] == side for k in of)})
        for side in ("mean", "minus")
    }
    how = means.label
    record = stage_record(stage.name, machine, means.job, spent, reused=found is not None)
    reporter.done(stage.name, reused=found is not None)
    result = VectorResult(kind="mean", how=how, n_prompts=counts["mean"], n_minus=counts["minus"], norm=0.0, **common)
    return _made(values, stage, result), record


def _learned(machine: Machine, stage: VectorStage, common: Mapping[str, Any], reporter: Reporter) -> tuple[Made, Stage]:
    spec = stage.spec.learn
    assert spec is not None
    job = Job(tuple(TokenSequence(n, lesson.ids) for n, lesson in enumerate((*stage.attack, *stage.keep))))
    place = machine.stage_key(
        {
            "stage": "learned vector",
            "attack": [[list(x.ids), list(x.at), [list(s) for s in x.scored]] for x in stage.attack],
            "keep": [[list(x.ids), list(x.at), [list(s) for s in x.scored]] for x in stage.keep],
            "place": [stage.site, stage.layer],
            "weights": dict(sorted(spec.weights.items())),
            "steps": spec.steps,
            "lr": spec.lr,
            "decay": WEIGHT_DECAY,
        }
    )
    spent = Spent()
    found = machine.cache.get(place)
    reporter.stage(stage.name, None if found is not None else spec.steps + 1, unit="steps")
    if found is None:
        engine = machine.engine(reporter)
        done = learn(
            engine,
            engine.place(stage.site, stage.layer),
            stage.attack,
            stage.keep,
            spec.weights,  # type: ignore[arg-type]
            steps=spec.steps,
            lr=spec.lr,
            progress=reporter.advance,
        )
        spent.tokens = done.tokens
        values, steps, kept = done.vector, done.steps, done.kept
        meta = {"steps": [step.model_dump() for step in steps], "kept": list(kept)}
        machine.cache.put(place, {"vector": values}, meta, about=machine.about("vector", stage.name))
    else:
        values = found.arrays["vector"]
        steps = tuple(LearningStep.model_validate(step) for step in found.meta["steps"])
        kept = tuple(found.meta["kept"])
    record = stage_record(stage.name, machine, job, spent, reused=found is not None, note=f"{spec.steps} steps")
    reporter.done(stage.name, reused=found is not None)
    weights = ", ".join(f"{value:g} {name}" for name, value in spec.weights.items())
    result = VectorResult(
        kind="learn",
        how=f"{spec.fact} becomes {spec.becomes} and {spec.keep} stay, by {spec.steps} steps of AdamW at {spec.lr:g}, "
        f"{weights}",
        fact=spec.fact,
        becomes=spec.becomes,
        n_prompts=len(stage.attack),
        n_kept=len(stage.keep),
        steps=list(steps),
        kept_median=float(np.median(kept)) if kept else None,
        kept_least=min(kept) if kept else None,
        norm=0.0,
        **common,
    )
    return _made(values, stage, result), record


def write_vector(folder: Path, made: Made, about: Mapping[str, str]) -> str:
    """Write ``vectors/<name>.safetensors`` of a run folder, with metadata that says where it is added.

    Gives its path within the folder. Raises DiskFull.
    """
    from safetensors.numpy import save

    from runner.store import slug

    result = made.result
    metadata = {
        **about,
        "name": result.name,
        "site": result.site,
        "layer": str(result.layer),
        "position": result.position,
        "how": result.how,
    }
    path = folder / "vectors" / f"{slug(result.name)}.safetensors"
    with refusals(path, "make room and run again; stages that were computed are kept in the cache"):
        path.parent.mkdir(exist_ok=True)
        with whole(path) as scratch:
            scratch.write_bytes(save({"vector": np.ascontiguousarray(made.values, dtype=np.float32)}, metadata))
    return f"vectors/{path.name}"


def random_direction(values: np.ndarray, seed: tuple[object, ...]) -> np.ndarray:
    """Draw a vector of the same length in a random direction: the placebo of a vector."""
    import hashlib

    digest = hashlib.sha256(repr(seed).encode()).digest()
    drawn = np.random.default_rng(int.from_bytes(digest[:8], "big")).normal(size=len(values))
    length = float(np.linalg.norm(values.astype(np.float64)))
    return (drawn * (length / float(np.linalg.norm(drawn)))).astype(np.float32)
