"""run-spec by its own code: token sequences into a job, packed and run by the engine under its default limits."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import torch

from benchmarks.ways import Loading
from benchmarks.work import Arrays, Edit, Work, until_end
from runner.bind import BoundPrompt
from runner.budget import fitted_limits
from runner.execute import Engine
from runner.families import shape_of
from runner.localization.localize import localize
from runner.models import load
from runner.plan import LocalizeStage
from runner.program import CLEAN, Held, Job, NeuronEdit, Resolved, TokenSequence
from specs.language.experiment import Localize
from specs.language.facts import PromptText

SITE = "mlp.neurons"
AFTER = "after"


class RunSpec:
    """The engine of a loaded model."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def tune(self, work: Work) -> str:
        """Run once and leave everything as it is."""
        self.run(work)
        return ""

    def run(self, work: Work) -> Arrays:
        """Do the work once."""
        if work.kind == "localise":
            return self._localise(work)
        if work.kind == "generate":
            return self._generate(work)
        return self._ask(work)

    def _localise(self, work: Work) -> Arrays:
        groups: dict[str, list[int]] = {}
        for i, prompt in enumerate(work.prompts):
            groups.setdefault(str(prompt.unit), []).append(i)
        layers = tuple(range(self.engine.n_layers))
        sequences = (TokenSequence(i, p.ids[: p.at + 1], read=(p.at,)) for i, p in enumerate(work.prompts))
        stage = LocalizeStage(
            name=work.name,
            spec=Localize(metric="mean_activation"),
            job=Job(tuple(sequences), (SITE,), layers),
            groups={owner: tuple(members) for owner, members in groups.items()},
            labels={},
            baseline=(),
            prompts=tuple(BoundPrompt(PromptText(""), p.ids, ((p.at, p.at),), 0) for p in work.prompts),
            layers=layers,
        )
        ranking, _ = localize(self.engine, stage)
        found = [ranking.groups[owner] for owner in groups]
        return {"mean": np.stack([g.mean for g in found]), "std": np.stack([g.std for g in found])}  # type: ignore[misc]

    def _ask(self, work: Work) -> Arrays:
        job = _job(work)
        places = {
            (site, layer): (AFTER,)
            for site in ("attn.out", "mlp.out")
            for layer in range(self.engine.n_layers)
            if (site, layer) != ("mlp.out", work.free_layer)
        }
        outcome = self.engine.run(job, _resolver(Held(places)))
        return {"logp": np.array([logps[0] for logps in outcome.logps])}

    def _generate(self, work: Work) -> Arrays:
        outcome = self.engine.run(_job(work), _resolver(None))
        texts = [until_end(list(outcome.generated[i]), set(), work.n_new) for i in range(len(work.prompts))]
        return {"tokens": np.array(texts, dtype=np.int64)}


def _job(work: Work) -> Job:
    """Say a work in the words of the engine; prompts of equal tokens share a row."""
    group: dict[tuple[int, ...], int] = {}
    clean: dict[tuple[int, ...], int] = {}
    sequences = []
    for i, p in enumerate(work.prompts):
        condition: Hashable = CLEAN
        if p.edit is not None or p.frozen:
            condition = (p.edit, p.frozen)
        else:
            clean[p.ids] = i
        last = len(p.ids) - 1
        sequences.append(
            TokenSequence(
                group=group.setdefault(p.ids, len(group)),
                ids=p.ids,
                condition=condition,
                branch_at=p.at if condition is not CLEAN else 1 << 30,
                edits=((p.at,),) if p.edit is not None else (),
                score=((last, p.answer),) if p.answer >= 0 else (),
                twin=clean[p.ids] if p.frozen else None,
                frozen=tuple((AFTER, at) for at in range(p.at, last + 1)) if p.frozen else (),
                generate=work.n_new,
            )
        )
    return Job(tuple(sequences))


class _resolver:
    """Turns the condition of a prompt into what the engine does."""

    def __init__(self, held: Held | None) -> None:
        self.held = held

    def __call__(self, condition: Hashable) -> Resolved:
        assert isinstance(condition, tuple)
        edit: Edit | None = condition[0]
        edits = () if edit is None else ((_neuron_edit(edit),),)
        return Resolved(edits, self.held if condition[1] else None)


def _neuron_edit(edit: Edit) -> NeuronEdit:
    return NeuronEdit(edit.op, SITE, edit.layer, (edit.neuron,), (edit.amount,))


def make(loading: Loading) -> RunSpec:
    """Load the model as a run does, and fit the limits as a run does."""
    loaded = load(loading.model, dtype=loading.dtype)
    model = loaded.model
    shape = shape_of(model)
    device = torch.device(loaded.device)
    limits = fitted_limits(model.config, shape, loaded.dtype, device, loaded.attention)
    return RunSpec(Engine(model, limits=limits))
