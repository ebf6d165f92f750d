"""The proof that a freeze held: it says 0 where it did, and a freeze that is broken on purpose stops the run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import runner.execute
from runner.execute import Engine
from runner.program import Held, Job, NeuronEdit, Resolved, Stored, TokenSequence
from specs.language.errors import RunError
from tests.tiny import TINY, tiny_model

PROMPTS = ((3, 9, 14, 7, 21, 33, 8), (3, 9, 14, 7, 40, 12))
AT = 2
EDIT = NeuronEdit("set", "mlp.neurons", 0, (1, 7, 20), (3.0, -3.0, 3.0))


def frozen_job(stored: bool = False) -> Job:
    """Two prompts, each with a branch whose last token is held."""
    sequences: list[TokenSequence] = []
    for group, prompt in enumerate(PROMPTS):
        last = len(prompt) - 1
        sequences.append(TokenSequence(group, prompt, score=((last, 5),)))
        sequences.append(
            TokenSequence(
                group,
                prompt,
                "x",
                branch_at=AT,
                edits=((AT,),),
                score=((last, 5),),
                twin=None if stored else 2 * group,
                frozen=(("last", last),),
                source=f"prompt {group}" if stored else "",
            )
        )
    return Job(tuple(sequences))


def places(engine: Engine, sites: tuple[str, ...] = ("attn.out", "mlp.neurons")) -> dict[tuple[str, int], Any]:
    return {(site, layer): ("last",) for site in sites for layer in range(engine.n_layers)}


def run(engine: Engine, held: Held, edit: NeuronEdit = EDIT, job: Job | None = None) -> list[float]:
    return engine.run(job or frozen_job(), lambda _: Resolved(((edit,),), held)).deviation


@pytest.mark.parametrize("family", sorted(TINY))
def test_a_copy_has_every_bit_of_its_source(family: str) -> None:
    engine = Engine(tiny_model(family))
    clean, first, _, second = run(engine, Held(places(engine)))
    assert np.isnan(clean) and first == second == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", ["trees", "padded", "one by one"])
@pytest.mark.parametrize("site", ["attn.out", "attn.heads", "mlp.neurons", "mlp.out", "mlp.gate", "attn.v", "resid"])
def test_every_site_in_every_format_and_packing(dtype: torch.dtype, mode: Any, site: str) -> None:
    engine = Engine(tiny_model("llama", dtype=dtype), mode=mode)
    found = run(engine, Held({(site, 1): ("last",)}))
    assert [d for d in found if not np.isnan(d)] == [0.0, 0.0]


@pytest.mark.parametrize("site", ["attn.q", "attn.v", "mlp.gate"])
@pytest.mark.parametrize("family", ["phi3", "gpt_neox", "gpt2"])
def test_sites_that_are_a_part_of_a_tensor(family: str, site: str) -> None:
    if family != "phi3" and site == "mlp.gate":
        pytest.skip("no gate")
    engine = Engine(tiny_model(family))
    assert np.nanmax(run(engine, Held({(site, 1): ("last",)}))) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stored_values_are_held_as_the_format_can_hold_them(dtype: torch.dtype) -> None:
    model = tiny_model("llama", dtype=dtype)
    random = np.random.default_rng(0)
    values = {
        ("mlp.neurons", 1): {
            (f"prompt {group}", "last"): random.normal(size=(1, 48)).astype(np.float32) for group in range(2)
        }
    }
    held = Held({("mlp.neurons", 1): ("last",)}, Stored("mean", values))
    assert np.nanmax(run(Engine(model), held, job=frozen_job(stored=True))) == 0.0


def test_what_is_edited_at_a_frozen_place_is_no_deviation_and_all_else_is_compared() -> None:
    engine = Engine(tiny_model("llama"))
    last = len(PROMPTS[0]) - 1
    job = Job(
        (
            TokenSequence(0, PROMPTS[0], score=((last, 5),)),
            TokenSequence(
                0, PROMPTS[0], "x", branch_at=last, edits=((last,),), score=((last, 5),), twin=0,
                frozen=(("last", last),),
            ),
        )
    )  # fmt: skip
    edit = NeuronEdit("set", "mlp.neurons", 1, (4,), (9.0,))
    assert run(engine, Held(places(engine)), edit, job)[1] == 0.0


@pytest.mark.parametrize("site", ["attn.out", "mlp.neurons", "mlp.out", "resid"])
def test_a_skipped_copy_is_caught(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tiny_model("llama"))
    real, calls = runner.execute.copy_nodes, []

    def skip_one(values: Any, to: Any, source: Any, columns: Any = None) -> Any:
        calls.append(1)
        return values if len(calls) == 2 else real(values, to, source, columns)

    monkeypatch.setattr(runner.execute, "copy_nodes", skip_one)
    with pytest.raises(RunError, match="did not hold its value: it was"):
        run(engine, Held(places(engine, (site,))))
    assert len(calls) >= 2


def test_a_copy_of_the_wrong_node_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = runner.execute.copy_nodes
    monkeypatch.setattr(runner.execute, "copy_nodes", lambda v, to, source, c=None: real(v, to, source - 1, c))
    with pytest.raises(RunError, match="did not hold"):
        engine = Engine(tiny_model("llama"))
        run(engine, Held(places(engine)))


def test_a_wrong_plan_of_copies_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor believes that the token before the last is frozen; the plan says it is the last."""
    real = runner.execute._frozen_positions
    monkeypatch.setattr(
        runner.execute, "_frozen_positions", lambda *given: [(i, p - 1, name, k) for i, p, name, k in real(*given)]
    )
    with pytest.raises(RunError, match="did not hold"):
        engine = Engine(tiny_model("llama"))
        run(engine, Held(places(engine)))


def test_a_mean_in_the_wrong_place_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {("mlp.neurons", 1): {(f"prompt {g}", "last"): np.full((1, 48), g, np.float32) for g in range(2)}}
    held = Held({("mlp.neurons", 1): ("last",)}, Stored("mean", values))
    monkeypatch.setattr(
        runner.execute, "hold", lambda v, to, held, columns=None: v.index_put_((to,), held.flip(0).to(v.dtype))
    )
    with pytest.raises(RunError, match="did not hold its value: it was 1 away"):
        run(Engine(tiny_model("llama")), held, job=frozen_job(stored=True))


def test_a_module_that_is_never_reached_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import runner.proof

    monkeypatch.setattr(runner.proof, "_operand", lambda args, weight, width: None)
    with pytest.raises(RunError, match="inf away"):
        engine = Engine(tiny_model("llama"))
        run(engine, Held(places(engine, ("mlp.neurons",))))
