"""Self-tests at load: is this model, with this engine, what the results will say it is?

Milliseconds each, part of every result; a failure stops the run with its reason. Each test can fail: the project's
own tests plant a leak, a wrong site and a broken freeze, and see them caught.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from runner.attention import wide_attention
from runner.execute import Engine, Outcome, Reading
from runner.families import layers_with, site_place
from runner.program import Held, Job, Mode, NeuronEdit, Resolved, TokenSequence
from runner.proof import NotHeld
from runner.tree import common_prefix
from specs.language.errors import ModelError
from specs.language.results import SelfTest

__all__ = ["TESTS_FORMAT", "check", "require"]

TOLERANCES = {torch.float32: (2e-5, 2e-3), torch.bfloat16: (0.15, 0.5), torch.float16: (0.05, 0.2)}
"""dtype: limits on relative difference of activations and on |d log p| in nats, between two ways of packing."""
SITE = "mlp.neurons"
FAR = 1e3
"""What the test of `add` sets a neuron to: far more than neurons have."""
TESTS_FORMAT = 7
"""Part of the key under which passed tests are kept: raised whenever a test asks something else."""


@dataclass(frozen=True)
class _Sample:
    """Two prompts that share a beginning, so that a tree of them differs from a batch."""

    first: tuple[int, ...]
    second: tuple[int, ...]


@dataclass
class _Evidence:
    """The few forward passes that all tests share; each is run when first asked for."""

    engine: Engine
    sample: _Sample

    @cached_property
    def calm(self) -> _Run:
        """A clean prompt, its branch with factor 1, and an unrelated prompt, in one row."""
        return self._pair(lambda _: Resolved((_edit("scale", self.engine, 1.0),)))

    @cached_property
    def wild(self) -> _Run:
        """The same layout with a violent edit in the branch."""
        return self._pair(lambda _: Resolved((_edit("set", self.engine, 1e4),)))

    @cached_property
    def alone(self) -> _Run:
        """The two clean prompts, each by itself."""
        return _run(self.engine, _clean_pair(self.sample, self.engine), None, "one by one")

    def _pair(self, resolve: Callable[[Hashable], Resolved]) -> _Run:
        return _run(self.engine, _pair(self.sample, self.engine), resolve)


def check(engine: Engine, prompts: Sequence[tuple[int, ...]]) -> list[SelfTest]:
    """Run every self-test on some token sequences of the spec (at least two, of two tokens or more)."""
    evidence = _Evidence(engine, _sample(prompts))
    tests: list[SelfTest] = []
    for name, question, test in _TESTS:
        started = time.perf_counter()
        passed, figure, limit, detail = test(evidence)
        tests.append(
            SelfTest(
                name=name,
                question=question,
                passed=passed,
                figure=figure if figure is None or np.isfinite(figure) else None,
                limit=limit,
                detail=detail,
                milliseconds=round(1000 * (time.perf_counter() - started), 1),
            )
        )
    return tests


def require(tests: Sequence[SelfTest]) -> None:
    """Raise a :class:`ModelError` that names the first failed test and its figure."""
    failed = [t for t in tests if not t.passed]
    if failed:
        test = failed[0]
        figure = "" if test.figure is None else f" ({test.figure:.3g}, limit {test.limit:.3g})"
        raise ModelError(
            f"self-test '{test.name}' failed: {test.question}{figure} {test.detail}".rstrip(),
            remedy="no result of this model could be trusted; please report the model and these figures",
        )


def _sample(prompts: Sequence[tuple[int, ...]]) -> _Sample:
    """Choose the two prompts that share most and then part: a prompt that only goes on is no branch."""
    usable = sorted({p for p in prompts if len(p) >= 3}, key=len)[:64]
    pairs = [(a, b) for a in usable for b in usable if a < b and common_prefix(a, b) < min(len(a), len(b))]
    if not pairs:
        raise ModelError("the self-tests need two prompts of three tokens or more that part before either ends")
    return _Sample(*max(pairs, key=lambda pair: common_prefix(*pair)))


def _middle(engine: Engine) -> int:
    return engine.n_layers // 2


def _edit(op: str, engine: Engine, amount: float, layer: int | None = None) -> tuple[NeuronEdit, ...]:
    layer = _middle(engine) if layer is None else layer
    neurons = tuple(range(min(8, engine.place(SITE, layer).width)))
    return (NeuronEdit(op, SITE, layer, neurons, (amount,) * len(neurons)),)  # type: ignore[arg-type]


def _pair(sample: _Sample, engine: Engine) -> Job:
    """A clean prompt, its edited branch and an unrelated clean prompt in one row."""
    first, second = _clean_pair(sample, engine).sequences
    at = len(sample.first) - 2
    branch = replace(first, condition="edited", branch_at=at, edits=((at, at + 1),))
    return Job((first, second, branch), (SITE,), _layers(engine))


def _clean_pair(sample: _Sample, engine: Engine) -> Job:
    target = sample.second[-1]
    sequences = tuple(
        TokenSequence(0, ids, score=((len(ids) - 1, target),), read=(len(ids) - 1,))
        for ids in (sample.first, sample.second)
    )
    return Job(sequences, (SITE,), _layers(engine))


def _layers(engine: Engine) -> tuple[int, ...]:
    """List the layers that are as wide as the middle one; few models have others."""
    width = engine.place(SITE, _middle(engine)).width
    return tuple(n for n in range(engine.n_layers) if engine.place(SITE, n).width == width)


@dataclass(frozen=True)
class _Run:
    """Scores and, for each sequence, the site's values ``[n_layers, width]``."""

    outcome: Outcome
    values: dict[int, np.ndarray]

    def moved(self, i: int, other: _Run, j: int) -> float:
        """Give the largest difference of log p between two sequences, in nats."""
        return float(abs(self.outcome.logps[i] - other.outcome.logps[j]).max())


def _run(engine: Engine, job: Job, resolve: Callable[[Hashable], Resolved] | None, mode: Mode | None = None) -> _Run:
    values: dict[int, np.ndarray] = {}

    def keep(reading: Reading) -> None:
        stacked = torch.stack(reading.values[job.sites[0]]).float().cpu().numpy()
        for k, s in enumerate(reading.sequence):
            values[int(s)] = stacked[:, k]

    return _Run(engine.run(job, resolve, on_values=keep, mode=mode), values)


_Verdict = tuple[bool, float | None, float | None, str]


def _finite(evidence: _Evidence) -> _Verdict:
    run = evidence.calm
    good = all(run.outcome.finite) and all(np.isfinite(v).all() for v in run.values.values())
    return good, None, None, "" if good else "an activation or a logit is NaN or infinite"


def _identity(evidence: _Evidence) -> _Verdict:
    limit = TOLERANCES[evidence.engine.dtype][1]
    figure = evidence.calm.moved(0, evidence.calm, 2)
    return figure <= limit, figure, limit, "nats between a branch with factor 1 and its clean twin"


def _extreme(evidence: _Evidence) -> _Verdict:
    figure = evidence.wild.moved(0, evidence.wild, 2)
    return figure > 1e-3, figure, 1e-3, "nats moved; it must be more than the limit"


def _adding(evidence: _Evidence) -> _Verdict:
    """Neurons set to a value and added to must give what setting them to the sum gives, and change the output."""
    engine, ids = evidence.engine, evidence.sample.first
    nats = TOLERANCES[engine.dtype][1]
    last = len(ids) - 1
    edits = {
        "sum": Resolved((_edit("set", engine, -FAR), ())),
        "steps": Resolved((_edit("set", engine, FAR), _edit("add", engine, -2 * FAR))),
    }
    clean = TokenSequence(0, ids, score=((last, evidence.sample.second[-1]),))
    branches = (replace(clean, condition=name, branch_at=last, edits=((last,), (last,))) for name in edits)
    outcome = engine.run(Job((clean, *branches)), lambda condition: edits[str(condition)])
    figure, moved = (float(abs(outcome.logps[a] - outcome.logps[b]).max()) for a, b in ((1, 2), (0, 2)))
    return figure <= nats and moved > 1e-3, figure, nats, f"nats from setting them to the sum; moved {moved:.3g}"


def _leak(evidence: _Evidence) -> _Verdict:
    calm, wild = evidence.calm, evidence.wild
    figure = max(max(calm.moved(i, wild, i), float(abs(calm.values[i] - wild.values[i]).max())) for i in (0, 1))
    return figure == 0.0, figure, 0.0, "an edit in one branch must leave every other bit of the row"


def _packing(evidence: _Evidence) -> _Verdict:
    packed, alone = evidence.calm, evidence.alone
    relative, nats = TOLERANCES[evidence.engine.dtype]
    scale = max(float(abs(v).max()) for v in alone.values.values()) or 1.0
    figure = max(float(abs(packed.values[i] - alone.values[i]).max()) for i in (0, 1)) / scale
    moved = max(packed.moved(i, alone, i) for i in (0, 1))
    good = figure <= relative and moved <= nats
    return good, figure, relative, f"relative difference of activations; log p moves by {moved:.2g} nats"


def _site(evidence: _Evidence) -> _Verdict:
    """An independent hook on the down projection must see what the site gives, and its width."""
    engine, ids = evidence.engine, evidence.sample.first
    layer = _middle(engine)
    place = engine.place(SITE, layer)
    module = down_projection(engine, layer)
    seen: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().float().cpu()))
    try:
        # The same arithmetic as the engine's: what is tested is the place, not the rounding.
        with torch.inference_mode(), wide_attention():
            tensor = torch.tensor([ids], device=engine.device)
            engine.model(input_ids=tensor, attention_mask=torch.ones_like(tensor), use_cache=False)
    finally:
        handle.remove()
    own = seen[0].reshape(-1, seen[0].shape[-1])[-1].numpy()
    width = weight_inputs(module)
    if not own.shape[-1] == width == place.width:
        return False, float(place.width), float(width), "the site's width is not the down projection's own"
    relative = TOLERANCES[engine.dtype][0]
    figure = float(abs(evidence.alone.values[0][_layers(engine).index(layer)] - own).max() / (abs(own).max() or 1.0))
    return figure <= relative, figure, relative, "relative difference from a plain hook on the down projection"


def down_projection(engine: Engine, layer: int) -> torch.nn.Module:
    """Find a layer's down projection by the family table."""
    module = engine.model.get_submodule(site_place(engine.model, engine.family, SITE, layer).path)
    assert isinstance(module, torch.nn.Module)
    return module


def weight_inputs(module: torch.nn.Module) -> int:
    """Give the number of inputs of a projection from its own weight (Conv1D keeps it transposed)."""
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    transposed = type(module).__name__ == "Conv1D"
    return int(weight.shape[0] if transposed else weight.shape[1])


def _freeze(evidence: _Evidence) -> _Verdict:
    """Held components must keep violent edits from what comes after them.

    First everything at the last token is held while the tokens before it are edited: its output must not move.
    Then the neurons of the last token are held from the second layer on while that token is edited in the first:
    the output of every later down projection, which nobody wrote, must be that of the clean run.
    """
    engine, sample = evidence.engine, evidence.sample
    relative, nats = TOLERANCES[engine.dtype]
    last = len(sample.first) - 1
    clean = TokenSequence(0, sample.first, score=((last, sample.second[-1]),), read=(last,))
    # All tokens but the first, where attention rests when it has nothing to read, and the last, which is held.
    before = replace(clean, condition="before", branch_at=1, edits=(tuple(range(1, last)),))
    itself = replace(clean, condition="itself", branch_at=1, edits=((last,),))
    sequences = [clean, before, itself]
    for free in (before, itself):
        sequences.append(replace(free, condition=f"held {free.condition}", twin=0, frozen=(("last", last),)))
    edit = Resolved((_edit("set", engine, 1e3, layer=0),))
    width = engine.place("mlp.out", engine.n_layers - 1).width
    later = tuple(n for n in range(1, engine.n_layers) if engine.place("mlp.out", n).width == width)
    # Layers without attention mix tokens in other ways, which the packing test judges.
    attention = layers_with(engine.model, engine.family, "attn.out")
    everything = {("attn.out", n): ("last",) for n in attention}
    everything |= {(SITE, n): ("last",) for n in range(engine.n_layers)}
    held = {
        "held before": Held(everything),
        "held itself": Held({(SITE, n): ("last",) for n in later}),
    }
    try:
        run = _run(
            engine,
            Job(tuple(sequences), ("mlp.out",), later),
            lambda condition: replace(edit, held=held.get(str(condition))),
        )
    except NotHeld as error:
        return False, error.deviation, 0.0, "the largest deviation of a frozen value from its source"
    output, moved = run.moved(0, run, 3), run.moved(0, run, 1)
    scale = float(abs(run.values[0]).max()) or 1.0
    inside = float(abs(run.values[4] - run.values[0]).max()) / scale
    loose = float(abs(run.values[2] - run.values[0]).max()) / scale
    if moved <= nats / 100 or loose <= relative:
        return False, moved, nats / 100, "nats moved without the freeze: too little for the test to mean anything"
    if inside > relative:
        return False, inside, relative, f"relative change behind held neurons; not held {loose:.3g}"
    detail = f"nats; not held {moved:.3g}; behind held neurons {inside:.2g}, not held {loose:.3g}"
    return output <= min(nats, moved / 2), output, nats, detail


def _stem(evidence: _Evidence) -> _Verdict:
    """A sweep in the last layer with and without a stem; a model in which they differ is run without."""
    engine, ids = evidence.engine, evidence.sample.first
    nats = TOLERANCES[engine.dtype][1]
    if not engine.stems or engine.mode != "trees":
        return True, None, None, "not used: later layers of this model need more than the output of earlier ones"
    last = len(ids) - 1
    score = ((last, evidence.sample.second[-1]),)
    factors = (0.0, -1.0, 2.0, 3.0, -2.0, -3.0, 0.5, -0.5)
    clean = TokenSequence(0, ids, score=score)
    branches = (TokenSequence(0, ids, factor, last, ((last,),), score=score) for factor in factors)
    job = Job((clean, *branches))

    def resolve(factor: Hashable) -> Resolved:
        return Resolved((_edit("scale", engine, float(factor), engine.n_layers - 1),))  # type: ignore[arg-type]

    with_stem = engine.run(job, resolve)
    engine.stems = False
    without = engine.run(job, resolve)
    figure = max(float(abs(a - b).max()) for a, b in zip(with_stem.logps, without.logps, strict=True))
    engine.stems = figure <= nats
    detail = "nats between a sweep with and without" if engine.stems else "not used: a sweep moves by more"
    return True, figure, nats, detail


_TESTS: tuple[tuple[str, str, Callable[[_Evidence], _Verdict]], ...] = (
    ("finite", "Is every value a finite number?", _finite),
    ("identity", "Does an edit that changes nothing change nothing?", _identity),
    ("extreme", "Does a violent edit change the output?", _extreme),
    ("adding", "Does adding to neurons give what setting them to the sum gives?", _adding),
    ("leak", "Does an edit stay in its own branch?", _leak),
    ("packing", "Do packed prompts give what single prompts give?", _packing),
    ("site", "Is the site the input of the down projection?", _site),
    ("freeze", "Does a frozen component hold its value?", _freeze),
    ("stem", "May layers before an edit be run once for all conditions?", _stem),
)
