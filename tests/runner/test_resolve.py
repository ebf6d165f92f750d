"""From symbols to layers, neurons and numbers: whose neurons, which dose, which draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.bind import Binder
from runner.compile import compile_plan
from runner.localization.columns import Columns
from runner.localization.ranking import GroupData, RankingData
from runner.neurons import draw_random
from runner.plan import Condition
from runner.program import Resolved
from runner.resolve import Resolver
from specs.language.errors import RunError, SpecError
from specs.language.load import load
from specs.language.references import Address
from tests.runner.conftest import SPEC
from tests.runner.test_compile import tokenizer

N_LAYERS, WIDTH = 3, 48
Resolve = Callable[..., Resolver]


def ranking() -> RankingData:
    """A ranking with seeded scores and means, layers 0 to 2."""
    random = np.random.default_rng(0)

    def group() -> GroupData:
        shape = (N_LAYERS, WIDTH)
        return GroupData.of(random.random(shape, dtype=np.float32), random.normal(size=shape).astype(np.float32))

    return RankingData(
        "cell", "stability", Columns(("mlp.neurons",), (WIDTH,)), (0, 1, 2), 1, {"trump": group(), "obama": group()}
    )


@pytest.fixture
def resolver(tmp_path: Path) -> Resolve:
    """Make the resolver of an intervention ``x`` with an edit, written in YAML."""

    def make(edit: str, more: str = "", **changes: str) -> Resolver:
        text = SPEC.replace("{MODEL}", "smollm2-135m")
        text = text[: text.index("interventions:")]
        text += f"interventions:\n  x:\n    edit: {edit}\n    ask: questions\n    unknown: nobody\n"
        text += f"    measure: answer_probability\n{more}"
        path = tmp_path / "spec.yaml"
        path.write_text(text, encoding="utf-8")
        experiment = load(path).cells[0].experiment
        (stage,) = compile_plan(experiment, Binder(tokenizer()), N_LAYERS).ask
        found = Resolver(experiment, stage, {"cell": ranking()}, N_LAYERS)
        found.widths_of = {("mlp.neurons", layer): WIDTH for layer in range(N_LAYERS)}
        return found

    return make


def edits(resolved: Resolved) -> list[dict[Address, float]]:
    """For each edit: which neuron gets which amount."""
    return [
        {Address(e.site, e.layer, n): a for e in parts for n, a in zip(e.neurons, e.amounts, strict=True)}
        for parts in resolved.edits
    ]


def best(owner: str, count: int = 1) -> list[Address]:
    score = ranking().groups[owner].score
    order = np.argsort(-score.reshape(-1), kind="stable")[:count]
    return [Address("mlp.neurons", int(i) // WIDTH, int(i) % WIDTH) for i in order]


def condition(owner: str, kind: Any = "edit", draw: int = 0, **axes: float) -> Condition:
    return Condition("x", kind, owner, draw, tuple(axes.items()))


def test_an_edit_of_the_ranking_is_of_each_owner_s_best_neuron(resolver: Resolve) -> None:
    made = resolver("{scale: [0, -2], neurons: cell}")
    for owner in ("trump", "obama"):
        assert edits(made(condition(owner, scale=-2.0))) == [{best(owner)[0]: -2.0}]


def test_a_cut_sweeps_over_the_size_of_the_set(resolver: Resolve) -> None:
    made = resolver("{scale: 0, neurons: {of: cell, top: [1, 3, 10]}}")
    for top in (1, 3, 10):
        (found,) = edits(made(condition("trump", scale=0.0, top=top)))
        assert found == dict.fromkeys(best("trump", top), 0.0)


def test_a_slice_of_ranks_leaves_out_what_is_above_it(resolver: Resolve) -> None:
    made = resolver("{scale: 0, neurons: {of: cell, rank: 3-5}}")
    (found,) = edits(made(condition("trump", scale=0.0)))
    assert list(found) and set(found) == set(best("trump", 5)[2:])


def test_the_named_cell_of_one_entity_is_edited_for_nobody_else(resolver: Resolve) -> None:
    made = resolver("{scale: 0, neurons: cell/obama}")
    assert made.stage.owners == ("obama",)
    assert edits(made(condition("obama", scale=0.0))) == [{best("obama")[0]: 0.0}]


def test_own_mean_is_the_neuron_s_mean_over_its_owner_s_prompts(resolver: Resolve) -> None:
    made = resolver("{set: {times: [1, 4], of: own_mean}, neurons: cell}", "    placeholder: nobody\n")
    (address,) = best("trump")
    mean = float(ranking().groups["trump"].mean[address.layer, address.neuron])  # type: ignore[index]
    for times in (1.0, 4.0):
        ((found, amount),) = edits(made(condition("trump", times=times)))[0].items()
        assert found == address and amount == pytest.approx(times * mean)


def test_random_neurons_get_the_dose_of_the_neurons_they_stand_for(resolver: Resolve) -> None:
    made = resolver("{set: {times: [1, 4], of: own_mean}, neurons: {of: cell, top: 3}}", "    placeholder: nobody\n")
    (real,) = edits(made(condition("trump", times=4.0)))
    for draw in range(5):
        (placebo,) = edits(made(condition("trump", "random_neurons", draw, times=4.0)))
        assert sorted(placebo.values()) == sorted(real.values())
        doses = {layer: sorted(v for a, v in real.items() if a.layer == layer) for layer in range(N_LAYERS)}
        assert doses == {layer: sorted(v for a, v in placebo.items() if a.layer == layer) for layer in range(N_LAYERS)}


def test_random_neurons_are_of_the_same_layers_and_none_is_the_cell(resolver: Resolve) -> None:
    made = resolver("{scale: 0, neurons: {of: cell, top: 20}}")
    (real,) = edits(made(condition("trump", scale=0.0)))
    seen = set()
    for draw in range(5):
        (placebo,) = edits(made(condition("trump", "random_neurons", draw, scale=0.0)))
        assert len(placebo) == len(real) == 20 and not set(placebo) & set(real)
        assert sorted(a.layer for a in placebo) == sorted(a.layer for a in real)
        seen.add(frozenset(placebo))
    assert len(seen) == 5


def test_a_draw_is_the_same_at_every_point_of_the_sweep_and_in_every_order(resolver: Resolve) -> None:
    text = "{scale: [0, -1, -2], neurons: cell}"
    made, other = resolver(text), resolver(text)
    draws = {s: list(edits(made(condition("trump", "random_neurons", 2, scale=s)))[0]) for s in (0.0, -1.0, -2.0)}
    assert draws[0.0] == draws[-1.0] == draws[-2.0]
    other(condition("obama", "random_neurons", 4, scale=0.0))
    assert list(edits(other(condition("trump", "random_neurons", 2, scale=0.0)))[0]) == draws[0.0]


def test_every_edit_has_the_values_of_its_own_sweep(resolver: Resolve) -> None:
    """Two edits at once: the first neuron is silenced while the second is turned round."""
    try:
        made = resolver("[{scale: 0, neurons: cell/trump}, {scale: [-1, -5], neurons: cell/obama}]")
    except SpecError as refused:
        assert "not built yet" in str(refused)
        return
    wanted = {frozenset([(best("trump")[0], 0.0), (best("obama")[0], value)]) for value in (-1.0, -5.0)}
    rows = {row.axes for row in made.stage.rows if row.condition == "edit"}
    found = set()
    for axes in rows:
        first, second = edits(made(Condition("x", "edit", made.stage.owners[0], 0, axes)))
        found.add(frozenset([*first.items(), *second.items()]))
    assert found == wanted


def test_a_union_of_named_cells_gets_each_its_own_mean(resolver: Resolve) -> None:
    text = "{set: {times: 2, of: own_mean}, neurons: [cell/trump, cell/obama]}"
    made = resolver(text, "    placeholder: nobody\n    target: trump\n")
    data = ranking()
    wanted = {
        a: 2 * float(data.groups[owner].mean[a.layer, a.neuron])  # type: ignore[index]
        for owner in ("trump", "obama")
        for a in best(owner)
    }
    (found,) = edits(made(condition(made.stage.owners[0], times=2.0)))
    assert found == pytest.approx(wanted)


def test_neurons_given_by_address_are_edited_as_written(resolver: Resolve) -> None:
    made = resolver("{set: [5], neurons: [L0.N1, L2.N7], position: entity.last}", "    target: trump\n")
    (found,) = edits(made(condition(made.stage.owners[0], set=5.0)))
    assert found == {Address("mlp.neurons", 0, 1): 5.0, Address("mlp.neurons", 2, 7): 5.0}
    (placebo,) = edits(made(condition(made.stage.owners[0], "random_neurons", 0, set=5.0)))
    assert sorted(a.layer for a in placebo) == [0, 2] and not set(placebo) & set(found)


def test_a_random_set_like_addresses_is_drawn_from_their_layers(resolver: Resolve) -> None:
    text = "{scale: 0, neurons: {random: 6, like: L1.N3}, position: entity.last}"
    made = resolver(text, "    target: trump\n")
    (found,) = edits(made(condition(made.stage.owners[0], scale=0.0)))
    assert len(found) == 6 and {a.layer for a in found} == {1}
    assert Address("mlp.neurons", 1, 3) not in found


@settings(max_examples=200, deadline=None)
@given(
    own=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 19)), min_size=1, max_size=12, unique=True),
    seed=st.integers(0, 5),
)
def test_draws_keep_the_layers_never_repeat_and_never_hit_the_set(own: list[tuple[int, int]], seed: int) -> None:
    widths = {("mlp.neurons", layer): 25 for layer in range(3)}
    addresses = [Address("mlp.neurons", layer, neuron) for layer, neuron in own]
    drawn = draw_random(addresses, addresses, widths, (seed,))
    assert [a.layer for a in drawn] == [a.layer for a in addresses]
    assert len(set(drawn)) == len(drawn) and not set(drawn) & set(addresses)
    assert all(0 <= a.neuron < 25 for a in drawn)
    assert drawn == draw_random(addresses, addresses, widths, (seed,))


def test_a_layer_without_enough_neurons_to_draw_from_is_refused() -> None:
    whole = [Address("mlp.neurons", 0, n) for n in range(3)]
    with pytest.raises(RunError, match="no neurons left to draw"):
        draw_random(whole, whole, {("mlp.neurons", 0): 5}, (0,))
