"""The engine on a CUDA device: packed is one by one, branches are apart, freezes hold, memory is kept to.

Tolerances are those of the self-tests, by number format; what must be equal to the bit is compared so.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pytest

from runner.execute import Engine, Outcome, Reading
from runner.program import Held, Job, Limits, Mode, NeuronEdit, Resolved, TokenSequence
from runner.selfcheck import TOLERANCES, check
from tests.gpu.place import DEVICE, FAMILIES, FORMATS, PROMPTS, model_on_device, needs_device
from tests.oracle import Edit, run_alone

pytestmark = [pytest.mark.gpu, needs_device]

SITE = "mlp.neurons"
NEURONS = (1, 7, 20)
ANSWER = 11
PACKED: tuple[Mode, ...] = ("trees", "padded")
Values = dict[int, np.ndarray]
Resolver = Callable[[Hashable], Resolved]
every_format = pytest.mark.parametrize("dtype", sorted(FORMATS))
every_family = pytest.mark.parametrize("family", FAMILIES)


def an_edit(op: str = "scale", amount: float = -3.0, layer: int = 1) -> NeuronEdit:
    return NeuronEdit(op, SITE, layer, NEURONS, (amount,) * 3)  # type: ignore[arg-type]


def edited_at(ids: tuple[int, ...]) -> int:
    """The second last token: windows of the tiny models are four tokens long."""
    return len(ids) - 2


def oracle(edit: NeuronEdit, at: int) -> list[Edit]:
    pairs = zip(edit.neurons, edit.amounts, strict=True)
    return [Edit(edit.layer, neuron, edit.op, amount, at) for neuron, amount in pairs]


def sequence(group: int, ids: tuple[int, ...], condition: Hashable = None, **more: Any) -> TokenSequence:
    at, last = edited_at(ids), len(ids) - 1
    branch: dict[str, Any] = {} if condition is None else {"branch_at": at, "edits": ((at,),)}
    return TokenSequence(group, ids, condition, **{"read": (last,), "score": ((last, ANSWER),), **branch, **more})


def a_job(conditions: tuple[Hashable, ...] = (None, "x"), **more: Any) -> Job:
    """Every prompt under every condition; clean sequences are the first of each prompt."""
    sequences = [sequence(g, ids, c, **more) for g, ids in enumerate(PROMPTS) for c in conditions]
    return Job(tuple(sequences), (SITE,), (0, 1, 2))


def run(engine: Engine, job: Job, resolve: Resolver | None = None, mode: Mode | None = None) -> tuple[Outcome, Values]:
    """Run a job and keep what it reads at the last position: ``[n_layers, width]`` for each sequence."""
    values: Values = {}

    def keep(reading: Reading) -> None:
        layers = list(reading.values[SITE])
        assert {layer.device.type for layer in layers} == {DEVICE.type}
        for k, s in enumerate(reading.sequence):
            values[int(s)] = np.stack([layer[k].float().cpu().numpy() for layer in layers])

    return engine.run(job, resolve, on_values=keep, mode=mode), values


def worst(found: Values, expected: Values) -> float:
    """The largest difference, relative to the largest value."""
    scale = max(float(abs(v).max()) for v in expected.values())
    return max(float(abs(found[i] - expected[i]).max()) for i in expected) / scale


def moved(a: Outcome, b: Outcome) -> float:
    return float(abs(np.concatenate(a.logps) - np.concatenate(b.logps)).max())


@every_format
@every_family
def test_packed_is_padded_is_one_by_one(family: str, dtype: str) -> None:
    engine = Engine(model_on_device(family, dtype))
    assert engine.device.type == DEVICE.type

    def resolve(_: Hashable) -> Resolved:
        return Resolved(((an_edit(),),))

    alone, expected = run(engine, a_job(), resolve, "one by one")
    relative, nats = TOLERANCES[FORMATS[dtype]]
    for mode in PACKED:
        outcome, values = run(engine, a_job(), resolve, mode)
        assert worst(values, expected) <= relative, mode
        assert moved(outcome, alone) <= nats, mode
    effect = max(abs(alone.logps[2 * g] - alone.logps[2 * g + 1]).max() for g in range(len(PROMPTS)))
    assert effect > 1e-3, "the edit must show, or the comparison could not fail"


@every_family
def test_packed_is_plain_hooks_in_float32(family: str) -> None:
    """Without the engine: torch hooks, one prompt at a time."""
    model = model_on_device(family)
    outcome, values = run(Engine(model), a_job(), lambda _: Resolved(((an_edit(),),)))
    expected: Values = {}
    for i, s in enumerate(a_job().sequences):
        seen, logps = run_alone(model, s.ids, oracle(an_edit(), edited_at(s.ids)) if s.condition else [])
        expected[i] = np.stack([seen[layer][-1].float().cpu().numpy() for layer in (0, 1, 2)])
        assert abs(outcome.logps[i][0] - float(logps[-1, ANSWER])) < 2e-4
    assert worst(values, expected) < 2e-5


@every_format
@every_family
def test_an_edit_leaves_every_other_branch_bit_identical(family: str, dtype: str) -> None:
    engine = Engine(model_on_device(family, dtype))
    job = a_job((None, "kept", "changed"))

    def resolver(amount: float) -> Resolver:
        return lambda c: Resolved(((an_edit("set", amount if c == "changed" else 2.0),),))

    (calm, calm_values), (wild, wild_values) = (run(engine, job, resolver(a)) for a in (1.0, 1000.0))
    for i, s in enumerate(job.sequences):
        same = np.array_equal(calm.logps[i], wild.logps[i]) and np.array_equal(calm_values[i], wild_values[i])
        assert same == (s.condition != "changed"), (i, s.condition)


@every_format
@every_family
def test_a_second_run_gives_the_same_bits(family: str, dtype: str) -> None:
    engine = Engine(model_on_device(family, dtype))
    (first, values), (again, values_again) = (run(engine, a_job(), lambda _: Resolved(((an_edit(),),))) for _ in "12")
    assert moved(first, again) == 0.0
    assert all(np.array_equal(values[i], values_again[i]) for i in values)


@every_format
@every_family
def test_a_freeze_holds(family: str, dtype: str) -> None:
    """Neurons and attention of the last token are held to the clean run while an earlier token is edited."""
    engine = Engine(model_on_device(family, dtype))
    ids = PROMPTS[0]
    last = len(ids) - 1
    everything = Held({(site, n): ("last",) for site in (SITE, "attn.out") for n in range(engine.n_layers)})
    job = Job(
        (
            sequence(0, ids),
            sequence(0, ids, "free"),
            sequence(0, ids, "held", twin=0, frozen=(("last", last),)),
        ),
        (SITE,),
        (0, 1, 2),
    )

    def resolve(condition: Hashable) -> Resolved:
        return Resolved(((an_edit("set", 30.0, layer=0),),), everything if condition == "held" else None)

    outcome, values = run(engine, job, resolve)
    assert np.array_equal(values[0], values[2]), "copies within a pass are exact"
    free = float(abs(outcome.logps[1] - outcome.logps[0]).max())
    held = float(abs(outcome.logps[2] - outcome.logps[0]).max())
    assert free > 1e-3
    assert held <= min(TOLERANCES[FORMATS[dtype]][1], free / 2)


@every_format
@every_family
def test_text_after_a_packed_pass_is_greedy_one_by_one(family: str, dtype: str) -> None:
    """Every token of the packed text is the best of the hooked prompt, or within rounding of it."""
    model = model_on_device(family, dtype)
    edit = an_edit("set", 6.0)
    outcome = Engine(model).run(a_job(generate=6, read=()), lambda _: Resolved(((edit,),)))
    nats = TOLERANCES[FORMATS[dtype]][1]
    for i, s in enumerate(a_job().sequences):
        ids = s.ids
        texts = outcome.generated[i]
        for token in (*texts, 2) if len(texts) < 6 else texts:  # 2 ends a text
            _, logps = run_alone(model, ids, oracle(edit, edited_at(s.ids)) if s.condition else [])
            assert float(logps[-1].max() - logps[-1, token]) <= 2 * nats
            ids = (*ids, token)


@every_format
@every_family
def test_the_self_tests_pass(family: str, dtype: str) -> None:
    tests = check(Engine(model_on_device(family, dtype)), list(PROMPTS))
    assert {t.name: (t.figure, t.limit, t.detail) for t in tests if not t.passed} == {}


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "gemma3", "gpt_neo"])
def test_limits_change_nothing_beyond_rounding(family: str) -> None:
    model = model_on_device(family)
    outcomes = [
        run(Engine(model, limits=limits), a_job(), lambda _: Resolved(((an_edit(),),)))[0]
        for limits in (Limits(16, 16, 1), Limits(64, 128, 4), Limits(10_000, 10_000, 8))
    ]
    assert moved(outcomes[0], outcomes[1]) < 2e-4
    assert moved(outcomes[0], outcomes[2]) < 2e-4


def test_a_branch_with_nan_does_not_poison_its_row() -> None:
    engine = Engine(model_on_device("llama"))
    job = Job((sequence(0, PROMPTS[0]), sequence(0, PROMPTS[0], "bad"), sequence(0, PROMPTS[1])), (SITE,), (0, 1, 2))
    outcome = engine.run(job, lambda _: Resolved(((an_edit("set", float("nan")),),)))
    assert outcome.finite == [True, False, True]
    clean = engine.run(a_job((None,)))
    assert abs(outcome.logps[0] - clean.logps[0]).max() < 2e-4
