"""A ranking over several sites is the rankings of its sites, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.bind import Binder
from runner.compile import compile_plan
from runner.execute import Engine
from runner.filters import judge
from runner.localization.columns import Columns, columns_at
from runner.localization.localize import localize
from runner.localization.ranking import GroupData, RankingData
from runner.plan import LocalizeStage
from runner.properties import Properties
from specs.language.conditions import parse_condition
from specs.language.errors import ModelError, SpecError
from specs.language.experiment import NeuronSet
from specs.language.load import load
from specs.language.references import Address
from tests.runner.conftest import SPEC, Answer
from tests.runner.test_compile import tokenizer
from tests.tiny import tiny_model

SITES = ("mlp.gate", "mlp.out", "attn.k")
WIDTHS = (48, 32, 16)
RANKING = "{metric: stability, prompts: names, against: neutral}"


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model("llama", vocab_size=len(tokenizer()), max_position_embeddings=256)


@pytest.fixture
def staged(tmp_path: Path) -> Callable[..., LocalizeStage]:
    """Compile a ranking of the tiny spec."""

    def make(body: str) -> LocalizeStage:
        path = tmp_path / "spec.yaml"
        path.write_text(SPEC.replace("{MODEL}", "smollm2-135m").replace(RANKING, body), encoding="utf-8")
        return compile_plan(load(path).cells[0].experiment, Binder(tokenizer()), 3).localize[0]

    return make


# -- columns ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_every_column_is_one_neuron_and_every_neuron_one_column(widths: list[int]) -> None:
    columns = Columns(tuple(f"s{n}" for n in range(len(widths))), tuple(widths))
    neurons = [columns.neuron(k) for k in range(columns.total)]
    assert neurons == [(f"s{s}", n) for s, width in enumerate(widths) for n in range(width)]
    assert [columns.column(*neuron) for neuron in neurons] == list(range(columns.total))
    assert columns.numbers().tolist() == [n for _, n in neurons]
    assert columns.column("s0", widths[0]) is None and columns.column("nowhere", 0) is None


def test_layers_of_unequal_width_are_refused() -> None:
    with pytest.raises(ModelError, match=r"differ in their number of neurons at b \(\[4, 5\]\)"):
        columns_at(["a", "b"], [0, 1], lambda site, layer: 4 if site == "a" else 4 + layer)


# -- rankings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "{metric: stability, prompts: names, against: neutral, site: SITE}",
        "{metric: mean_activation, prompts: names, position: all, pool: max, site: SITE}",
        "{metric: gradient_x_activation, objective: answer_logit, by: entity, site: SITE}",
    ],
)
def test_it_is_the_rankings_of_its_sites_side_by_side(
    staged: Callable[..., LocalizeStage], model: Any, body: str
) -> None:
    together, _ = localize(Engine(model), staged(body.replace("SITE", f"[{', '.join(SITES)}]")))
    assert together.columns == Columns(SITES, WIDTHS)
    assert together.widths() == {(s, layer): w for s, w in zip(SITES, WIDTHS, strict=True) for layer in range(3)}
    for site, of_site in zip(SITES, together.columns.slices, strict=True):
        alone, _ = localize(Engine(model), staged(body.replace("SITE", site)))
        for owner, group in alone.groups.items():
            both = together.groups[owner]
            for name, values in group.arrays().items():
                np.testing.assert_allclose(both.arrays()[name][:, of_site], values, rtol=1e-5, atol=1e-6)
            for address in alone.slice(owner, 1, 3):
                assert together.dominance(owner, address) == pytest.approx(alone.dominance(owner, address), rel=1e-4)


def test_values_of_the_best_are_those_of_their_own_column(staged: Callable[..., LocalizeStage], model: Any) -> None:
    data, _ = localize(Engine(model), staged(RANKING.replace("}", f", site: [{', '.join(SITES)}]}}")))
    for group in data.groups.values():
        assert group.mean is not None
        for (layer, column), values in group.values.items():
            assert np.mean(values) == pytest.approx(float(group.mean[data.layers.index(layer), column]), rel=1e-4)


def drawn(seed: int) -> RankingData:
    random = np.random.default_rng(seed)
    score = random.integers(0, 9, (2, sum(WIDTHS))).astype(np.float32)
    return RankingData("r", "stability", Columns(SITES, WIDTHS), (3, 5), 4, {"a": GroupData.of(score)})


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**16))
def test_ranks_addresses_and_properties_agree(seed: int) -> None:
    data = drawn(seed)
    properties = Properties(data, "a")
    whole = data.slice("a", 1, 2 * sum(WIDTHS))
    assert len(set(whole)) == len(whole)
    for rank, address in enumerate(whole[:40], start=1):
        place = properties.place(address)
        assert place is not None and properties.of("rank")[place] == rank
        assert (properties.of("layer")[place], properties.of("neuron")[place]) == (address.layer, address.neuron)
        _, own = data.rank_of("a", address)
        assert own == properties.of("score")[place]
        wanted, found = data.dominance("a", address), properties.of("dominance")[place]
        assert np.isnan(found) if wanted is None else found == pytest.approx(wanted)
    assert properties.place(Address("attn.k", 3, WIDTHS[2])) is None
    assert properties.place(Address("mlp.up", 3, 0)) is None


@pytest.mark.parametrize(
    "condition", ["site = attn.k", "site != mlp.gate", "site in mlp.out, attn.k", "neuron >= 40", "layer = 5"]
)
def test_a_filter_by_site_keeps_the_neurons_of_that_site(condition: str) -> None:
    data = drawn(0)
    wanted = parse_condition(condition)
    found = judge(NeuronSet(of="r", where=[condition]), "a", None, Properties(data, "a"), {})  # type: ignore[list-item]
    own = {"site": lambda a: a.site, "neuron": lambda a: a.neuron, "layer": lambda a: a.layer}[wanted.quantity]
    kept = {
        "site = attn.k": lambda v: v == "attn.k",
        "site != mlp.gate": lambda v: v != "mlp.gate",
        "site in mlp.out, attn.k": lambda v: v != "mlp.gate",
        "neuron >= 40": lambda v: v >= 40,
        "layer = 5": lambda v: v == 5,
    }[condition]
    assert list(found.passed) == [a for a in data.slice("a", 1, 2 * sum(WIDTHS)) if kept(own(a))]
    assert 0 < len(found.passed) < 2 * sum(WIDTHS)


# -- a whole run --------------------------------------------------------------------------------------------------


def test_a_run_edits_neurons_of_every_site_and_says_where_they_are(
    command: Callable[..., Answer], write_spec: Callable[..., Path], workplace: Path
) -> None:
    spec = write_spec(
        (RANKING, f"{{metric: random, prompts: names, site: [{', '.join(SITES)}], top: 12}}"),
        (SPEC[SPEC.index("  injection:") :], ""),
        more="analyses: {p: {profile: cell}, o: {overlap: cell}}\n",
    )
    assert command(spec, "--no-track").code == 0
    (folder,) = [p for p in (workplace / "runs").iterdir() if (p / "results.json").exists()]
    results = json.loads((folder / "results.json").read_text())
    found = results["rankings"]["cell"]
    assert found["widths"] == dict(zip(SITES, WIDTHS, strict=True)) and found["site"] == ", ".join(SITES)
    edited = results["interventions"]["amnesia"]["neurons"]["trump"]
    prefixes = {address.partition(":")[0] for address in edited}
    assert len(edited) == 12 and prefixes == {"gate", "mlp.out", "k"}
    draws = results["interventions"]["amnesia"]["random_neurons"]["trump"]
    for draw in draws:
        assert sorted(a.partition(".")[0] for a in draw) == sorted(a.partition(".")[0] for a in edited)
    with np.load(folder / "rankings" / "cell.npz") as arrays:
        assert list(arrays["sites"]) == list(SITES) and list(arrays["widths"]) == list(WIDTHS)
        assert arrays["trump/score"].shape == (3, sum(WIDTHS))


def test_layers_are_ranked_at_one_site(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    body = "{metric: layer_stability, prompts: names, site: [mlp.out, attn.out]}"
    text = SPEC.replace("{MODEL}", "smollm2-135m").replace(RANKING, body)
    path.write_text(text[: text.index("interventions:")], encoding="utf-8")
    with pytest.raises(SpecError, match="layer_stability ranks the layers of one site, and 2 are named"):
        load(path)
