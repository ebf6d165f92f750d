"""Rankings by gradient, of layers and for made-up names, against slow and plain ways to the same numbers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.bind import Binder
from runner.compile import compile_plan
from runner.execute import Engine
from runner.localization.layers import COSINE_FLOOR, layer_figures, rank_layers, read_names
from runner.localization.localize import localize
from runner.localization.pool import pooled
from runner.localization.ranking import GroupData
from runner.plan import LocalizeStage
from runner.program import Limits
from runner.store import load as load_results
from runner.store import read_ranking
from specs.language.errors import RunError, SpecError
from specs.language.load import load
from tests.oracle import DOWN, projections, run_alone
from tests.runner.conftest import SPEC, Answer
from tests.runner.test_compile import tokenizer
from tests.runner.test_localize import model
from tests.tiny import tiny_model

Staged = Callable[..., LocalizeStage]
Command = Callable[..., Answer]
CELL = "{metric: stability, prompts: names, against: neutral}"
N_LAYERS, WIDTH = 3, 48


@pytest.fixture
def staged(tmp_path: Path) -> Staged:
    """The only ranking of the spec, with another definition in place of its own."""

    def make(definition: str, *changes: tuple[str, str]) -> LocalizeStage:
        text = SPEC.replace("{MODEL}", "smollm2-135m").partition("interventions:")[0]
        for old, new in ((CELL, definition), *changes):
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "spec.yaml"
        path.write_text(text, encoding="utf-8")
        experiment = load(path).cells[0].experiment
        return compile_plan(experiment, Binder(tokenizer()), N_LAYERS).localize[0]

    return make


# -- gradients


def slow_attribution(tiny: Any, stage: LocalizeStage, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one prompt, by itself, gradient times activation and activation at each token read: ``[n, layers, width]``.

    The down projections are found by their names, and every answer is a forward and a backward pass of its own.
    """
    prompt, read = stage.prompts[i], list(stage.job.sequences[i].read)
    answers = [a.tokens for a in prompt.answers] or [()]
    found = []
    for tokens in answers:
        seen: dict[int, torch.Tensor] = {}

        def hook(layer: int, seen: dict[int, torch.Tensor] = seen) -> Any:
            def before(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
                value = arguments[0]
                seen[layer] = value if value.requires_grad else value.detach().requires_grad_()
                return (seen[layer], *arguments[1:])

            return before

        handles = [m.register_forward_pre_hook(hook(k)) for k, m in projections(tiny, DOWN).items()]
        ids = torch.tensor([[*prompt.ids, *tokens[:-1]]])
        logits = tiny(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, len(prompt.ids) - 1 :].double()
        for handle in handles:
            handle.remove()
        if stage.spec.objective == "top_logits@3":
            objective = logits[0].sort(descending=True).values[:3].sum()
            weight = 0.0
        else:
            picked = [logits[k, token] for k, token in enumerate(tokens)]
            logp = torch.stack([torch.log_softmax(logits[k], -1)[token] for k, token in enumerate(tokens)]).sum()
            objective = logp.exp() if stage.spec.objective == "answer_probability" else sum(picked)
            weight = float(logp.detach())
        gradients = torch.autograd.grad(objective, [seen[layer] for layer in stage.layers])
        value = np.stack([seen[layer].detach()[0, read].double().numpy() for layer in stage.layers], axis=1)
        gradient = np.stack([g[0, read].double().numpy() for g in gradients], axis=1)
        found.append((weight, value * gradient, value))
    if stage.spec.objective == "answer_probability":
        return sum(product for _, product, _ in found), found[0][2]
    _, product, value = max(found, key=lambda part: part[0])
    return product, value


@pytest.mark.parametrize(
    ("objective", "position"),
    [
        ("answer_logit", "entity.last"),
        ("answer_probability", "entity.last"),
        ("top_logits@3", "last"),
        ("answer_logit", "all"),
    ],
)
@pytest.mark.parametrize("tokens", [4, 10_000])
def test_attributions_are_those_of_autograd_one_prompt_at_a_time(
    staged: Staged, objective: str, position: str, tokens: int
) -> None:
    stage = staged(
        f"{{metric: gradient_x_activation, objective: {objective}, position: {position}, by: entity}}",
        ("trump: Melania", "trump: [Melania, Michelle Obama]"),
    )
    engine = Engine(model(), limits=Limits(64, 4 * tokens, 8))
    data, outcomes = localize(engine, stage)
    assert data.baseline_mean is None and outcomes[0].passes == (1 if tokens > 4 else 2)
    for owner, members in stage.groups.items():
        assert len(members) == 2
        parts = [slow_attribution(model(), stage, i) for i in members]
        attribution = np.mean([product.sum(axis=0) for product, _ in parts], axis=0)
        values = np.array([value.mean(axis=0) for _, value in parts])
        arrays = data.groups[owner].arrays()
        scale = np.abs(attribution).max()
        np.testing.assert_allclose(arrays["attribution"], attribution, rtol=1e-3, atol=1e-5 * scale)
        np.testing.assert_allclose(arrays["score"], np.abs(arrays["attribution"]))
        np.testing.assert_allclose(arrays["mean"], values.mean(axis=0), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(arrays["std"], values.std(axis=0), rtol=1e-3, atol=1e-5)
        best = divmod(int(np.abs(attribution).argmax()), WIDTH)
        assert next(iter(data.groups[owner].values)) == best
        np.testing.assert_allclose(data.groups[owner].values[best], values[:, best[0], best[1]], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "gemma3", "gpt_neox", "phi3"])
@pytest.mark.parametrize("site", ["mlp.neurons", "mlp.out", "resid"])
def test_an_attribution_is_the_slope_of_the_objective(staged: Staged, family: str, site: str) -> None:
    """In every family: scaling a neuron by 1 + e moves the objective by e times its attribution."""
    from runner.localization.gradients import attributions
    from runner.program import Job as EngineJob
    from runner.program import NeuronEdit, Resolved, TokenSequence

    stage = staged(
        f"{{metric: gradient_x_activation, objective: answer_probability, site: {site}, position: last, by: entity}}"
    )
    tiny = tiny_model(family, vocab_size=len(tokenizer()), max_position_embeddings=256, dtype=torch.float64)
    engine = Engine(tiny)
    i = stage.groups["trump"][0]
    moments, _, _ = attributions(engine, stage, [i])
    attribution = moments.of(0)[0]
    prompt = stage.prompts[i]
    at = len(prompt.ids) - 1
    (answer,) = prompt.answers

    def probability(layer: int, neuron: int, factor: float) -> float:
        sequence = TokenSequence(
            group=0,
            ids=prompt.ids + answer.tokens[:-1],
            condition="c",
            branch_at=at,
            edits=((at,),),
            score=tuple((at + k, token) for k, token in enumerate(answer.tokens)),
        )
        edit = NeuronEdit("scale", site, layer, (neuron,), (factor,))
        outcome = engine.run(EngineJob((sequence,)), lambda _: Resolved(((edit,),), None))
        return float(np.exp(outcome.logps[0].sum()))

    for layer in range(N_LAYERS):
        neuron = int(attribution[layer].abs().argmax())
        step = 1e-2
        slope = (probability(layer, neuron, 1 + step) - probability(layer, neuron, 1 - step)) / (2 * step)
        assert slope == pytest.approx(float(attribution[layer, neuron]), rel=2e-2)


def test_prompts_without_an_answer_are_left_out_of_a_gradient(staged: Staged) -> None:
    stage = staged(
        "{metric: gradient_x_activation, objective: answer_logit, prompts: some, by: entity, position: entity.last}",
        ("prompts:\n", "prompts:\n  some: {of: questions, where: relation = wife}\n"),
    )
    assert {owner: len(members) for owner, members in stage.groups.items()} == {"trump": 1, "obama": 1}
    with pytest.raises(SpecError, match="is a number of an answer, and 'names' has none"):
        staged("{metric: gradient_x_activation, objective: answer_logit, prompts: names, by: entity}")


# -- several tokens


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=12).flatmap(
        lambda owners: st.tuples(
            st.just(owners), st.lists(st.floats(-9, 9), min_size=2 * len(owners), max_size=2 * len(owners))
        )
    ),
    st.sampled_from(["mean", "sum", "max"]),
)
@settings(max_examples=60, deadline=None)
def test_pooling_is_what_it_says_of_each_prompt(drawn: tuple[list[int], list[float]], how: str) -> None:
    owners, numbers = drawn
    values = torch.tensor(numbers, dtype=torch.float64).reshape(len(owners), 2)
    rows, index = np.unique(owners, return_inverse=True)
    found = pooled(values, torch.from_numpy(index), len(rows), how)
    for n, owner in enumerate(rows):
        mine = [values[k] for k in range(len(owners)) if owners[k] == owner]
        for column in range(2):
            line = [float(v[column]) for v in mine]
            wanted = {"mean": sum(line) / len(line), "sum": sum(line), "max": max(line, key=abs)}[how]
            if how == "max":
                assert abs(float(found[n, column])) == abs(wanted)
            else:
                assert float(found[n, column]) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_a_ranking_over_all_tokens_of_a_name_pools_them(staged: Staged, how: str) -> None:
    stage = staged(f"{{metric: mean_activation, prompts: names, position: entity.all, pool: {how}}}")
    data, _ = localize(Engine(model()), stage)
    for owner, members in stage.groups.items():
        rows = []
        for i in members:
            sequence = stage.job.sequences[i]
            assert len(sequence.read) > 1
            seen, _ = run_alone(model(), sequence.ids)
            at = np.stack([seen[k][list(sequence.read)].double().numpy() for k in stage.layers], axis=1)
            furthest = np.abs(at).argmax(axis=0)[None]
            rows.append(at.mean(axis=0) if how == "mean" else np.take_along_axis(at, furthest, axis=0)[0])
        np.testing.assert_allclose(data.groups[owner].score, np.abs(np.mean(rows, axis=0)), rtol=1e-3, atol=1e-5)
        for (layer, neuron), kept in data.groups[owner].values.items():
            np.testing.assert_allclose(kept, [row[layer, neuron] for row in rows], rtol=1e-3, atol=1e-5)


# -- layers


def slow_figures(vectors: np.ndarray) -> tuple[float, float, float, float]:
    """The formula with a loop over pairs."""
    cosines = [
        float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b)) for a, b in itertools.combinations(vectors, 2)
    ]
    length = float(np.mean([np.linalg.norm(v) for v in vectors]))
    mean, std = float(np.mean(cosines)), float(np.std(cosines))
    return length * mean / max(std, COSINE_FLOOR), length, mean, std


@given(st.integers(2, 40), st.integers(2, 20), st.floats(0, 30), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_figures_of_a_layer_are_those_of_every_pair(n: int, width: int, shift: float, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n, width)) + shift
    found, wanted = layer_figures(torch.from_numpy(vectors)), slow_figures(vectors)
    assert found[1:3] == pytest.approx(wanted[1:3], rel=1e-9, abs=1e-12)
    assert found[3] == pytest.approx(wanted[3], rel=1e-6, abs=1e-9)
    assert found[0] == pytest.approx(wanted[0], rel=1e-6, abs=1e-9)


def test_equal_vectors_stand_on_the_floor_and_a_vector_of_zeros_has_no_direction() -> None:
    same = torch.ones(5, 4)
    assert layer_figures(same) == pytest.approx((2 / COSINE_FLOOR, 2, 1, 0), abs=1e-6)
    _, length, cosine, std = layer_figures(torch.cat([same[:2], torch.zeros(1, 4)]))
    assert (length, cosine) == pytest.approx((4 / 3, 1 / 3)) and std == pytest.approx(np.std([1, 0, 0]))


LAYERS = "{metric: layer_stability, prompts: names, against: nobody}"


@pytest.mark.parametrize("reading", [1 << 26, 4000, 1])
def test_layers_are_ranked_by_their_stability_over_that_of_names(staged: Staged, reading: int) -> None:
    """In whatever parts the vectors are read, the scores are those of plain hooks."""
    stage = staged(LAYERS)
    engine = Engine(model(), reading_bytes=reading)
    baseline, _ = read_names(engine, stage)
    assert baseline.names == ("Ada Lovelace", "Byron")
    found: dict[str, Any] = {}
    for groups, _ in rank_layers(engine, stage, list(stage.groups), baseline):
        found |= groups

    def slow(members: Sequence[int]) -> np.ndarray:
        from tests.capture import all_places, capture

        rows = []
        places = [p for p in all_places(model()) if p.site == "mlp.out"]
        for i in members:
            sequence = stage.job.sequences[i]
            ids = torch.tensor([list(sequence.ids)])
            got = capture(model(), places, input_ids=ids, attention_mask=torch.ones_like(ids))
            rows.append([got.values["mlp.out", k][sequence.read[0]].double().numpy() for k in range(N_LAYERS)])
        return np.array([slow_figures(vectors)[0] for vectors in np.array(rows).transpose(1, 0, 2)])

    names = [slow([i for i in stage.baseline if stage.prompts[i].text.entity_name == name]) for name in baseline.names]
    np.testing.assert_allclose(baseline.stability, names, rtol=1e-3)
    for owner, members in stage.groups.items():
        wanted = slow(members) / np.mean(names, axis=0)
        np.testing.assert_allclose(found[owner].score[:, 0], wanted, rtol=1e-3)


def test_names_without_a_common_direction_are_refused() -> None:
    from runner.localization.layers import NameBaseline

    with pytest.raises(RunError, match="no common direction at L1"):
        NameBaseline(np.array([[1, -1], [2, 0.5]], dtype=np.float32), ("a", "b")).usual()


def test_a_spec_ranks_layers_claims_one_and_cannot_edit_it(
    command: Command, write_spec: Callable[..., Path], workplace: Path
) -> None:
    more = "\nexpect:\n  - layer/trump/layer <= 2\n  - layer/trump = [L0, L1, L2]\n  - layer/obama/score >= 0\n"
    spec = write_spec(
        ("  cell: {", "  layer: " + LAYERS + "\n  cell: {"),
        more=more.replace("= [L0, L1, L2]", "in L0, L1, L2"),
    )
    answer = command(spec, "--no-track")
    assert answer.code == 0, answer.all
    (folder,) = (workplace / "runs").glob("tiny-*")
    results = load_results(folder)
    assert [c.outcome for c in results.claims] == ["met", "met", "met"]
    ranking = results.rankings["layer"]
    assert ranking.unit == "layer" and ranking.shared_winners == {} and ranking.n_baseline == 16
    group = ranking.groups["trump"]
    assert sorted(n.address for n in group.neurons) == ["L0", "L1", "L2"] and group.neurons[0].neuron is None
    assert group.chosen == [group.neurons[0].address]
    scores = read_ranking(folder, "layer")
    assert scores["trump/score"].shape == (3, 1)
    of_names = scores["names_stability"].astype(float) / scores["names_stability"].astype(float).mean(axis=0)
    assert group.random_names == pytest.approx((of_names.max(axis=1) >= group.neurons[0].score).mean())
    for figure in group.layers:
        usual = scores["names_stability"].astype(float).mean(axis=0)[figure.layer]
        assert scores["trump/score"][figure.layer, 0] == pytest.approx(figure.stability / usual, rel=1e-5)
    page = (folder / "report.html").read_text()
    assert "times that of names" in page and "mean(cos) / std(cos)" in page
    again = command(spec, "--no-track", "--json")
    assert json.loads(again.out)["reused"] == ["layer", "cell", "amnesia", "injection"]

    wrong = write_spec(
        (CELL, "{metric: layer_stability, prompts: names, against: nobody}"), more="expect: [cell/trump = L1.N5]\n"
    )
    refused = command("validate", wrong)
    assert refused.code == 2
    assert "'cell' ranks layers and holds no neurons" in refused.all
    assert "is a layer; 'L1.N5' is a neuron" in refused.all
    refused = command("validate", write_spec(more="expect: [cell/trump = L1]\n"))
    assert "'L1' is a layer: compare its layer" in refused.all
    refused = command("validate", write_spec((CELL, "{metric: layer_stability, prompts: names, against: neutral}")))
    assert "compared with names in the same prompts, and 'neutral' are prompts" in refused.all


# -- made-up names


def test_the_same_ranking_is_made_for_made_up_names(
    command: Command, write_spec: Callable[..., Path], workplace: Path
) -> None:
    controlled = CELL.replace("}", ", controls: {random_names: 7}}")
    spec = write_spec((CELL, controlled), more="expect: [cell/trump/random_names <= 1]\n")
    answer = command(spec, "--no-track", "--only", "amnesia")
    assert answer.code == 0, answer.all
    (folder,) = (workplace / "runs").glob("tiny-*")
    results = load_results(folder)
    ranking = results.rankings["cell"]
    assert len(ranking.random_names) == len({n.name for n in ranking.random_names}) == 7
    assert set(ranking.groups) == {"trump", "obama"}
    assert results.claims[0].outcome == "met"
    for group in ranking.groups.values():
        best = group.neurons[0].dominance
        assert best is not None
        share = sum((n.dominance or 0) >= best for n in ranking.random_names) / 7
        assert group.random_names == pytest.approx(share)
    assert "made for 7 made-up names" in (folder / "report.html").read_text()

    again = command(spec, "--no-track", "--only", "amnesia", "--json")
    assert json.loads(again.out)["reused"] == ["cell", "amnesia"]

    # A made-up name is ranked like any other: as an entity of its own it has the same best neuron.
    name = ranking.random_names[3]
    other = write_spec(("obama: Barack Obama", f"obama: {name.name}"))
    assert command(other, "--no-track", "--only", "cell", "--out", "other").code == 0
    (second,) = (workplace / "other").glob("tiny-*")
    twin = load_results(second).rankings["cell"].groups["obama"].neurons[0]
    assert (twin.address, twin.score) == (name.address, pytest.approx(name.score, rel=1e-4))


def test_a_made_up_name_that_somebody_of_the_spec_has_is_not_drawn_and_said(staged: Staged) -> None:
    controlled = CELL.replace("}", ", controls: {random_names: 94}}")
    usual = set(staged(controlled).names)
    taken = next(iter(usual))
    surname = taken.split()[-1]
    for name in (taken, surname.upper()):
        stage = staged(controlled, ("obama: Barack Obama", f"obama: {name}"))
        assert taken not in stage.names and len(stage.names) == 94
        assert usual - {taken} <= set(stage.names), "the others stay"
        assert [(item.what, item.reason) for item in stage.left_out] == [
            (f"the made-up name {taken}", "it is, or holds, a name of 'obama'")
        ]
    with pytest.raises(RunError, match="asks for 95 random names, and there are 94"):
        staged(controlled.replace("94", "95"), ("obama: Barack Obama", f"obama: {taken}"))


@pytest.mark.parametrize(
    ("definition", "why"),
    [
        ("{metric: random, prompts: names, controls: {random_names: 3}}", "its own null"),
        ("{metric: layer_stability, prompts: names, controls: {random_names: 3}}", "with made-up names already"),
        (
            "{metric: gradient_x_activation, objective: answer_logit, controls: {random_names: 3}}",
            "made-up names have no answers",
        ),
    ],
)
def test_rankings_that_have_no_null_of_names_say_why(staged: Staged, definition: str, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        staged(definition)


def test_pooled_max_keeps_the_sign() -> None:
    values = torch.tensor([[1.0, -5.0], [-3.0, 2.0]])
    assert pooled(values, torch.tensor([0, 0]), 1, "max").tolist() == [[-3.0, -5.0]]


# -- analyses of a whole run

ANALYSES = """
analyses:
  depth: {correlation: [cell/layer, popularity]}
  hold: {correlation: [amnesia/knowledge_loss/scale=-3, cell/score], method: pearson}
  both: {overlap: cell}
  layers: {profile: cell}
  table: {pivot: amnesia, rows: scale, columns: edited, value: knowledge_loss}
expect: [depth/n = 2, both/trump/obama/shared >= 0, "table/-3/trump <= 1", layers/neurons = 3]
"""


def test_analyses_are_derived_drawn_and_claimed(
    command: Command, write_spec: Callable[..., Path], workplace: Path
) -> None:
    spec = write_spec(
        (
            "trump: Donald Trump, obama: Barack Obama}",
            "trump: {name: Donald Trump, attributes: {popularity: 9}},\n"
            "  obama: {name: Barack Obama, attributes: {popularity: 4}}, merkel: Angela Merkel}",
        ),
        more=ANALYSES,
    )
    answer = command(spec, "--no-track")
    assert answer.code == 0, answer.all
    (folder,) = (workplace / "runs").glob("tiny-*")
    results = load_results(folder)
    assert [c.outcome for c in results.claims] == ["met"] * 4
    assert list(results.analyses) == ["depth", "hold", "both", "layers", "table"]
    assert results.analyses["depth"].figures == {"n": 2}
    losses = {row[0]: row[1] for row in results.analyses["hold"].rows}
    for owner, label in (("trump", "Donald Trump"), ("obama", "Barack Obama")):
        mean = next(
            s.mean
            for s in results.interventions["amnesia"].summaries
            if (s.edited, s.condition, s.role, s.measure, s.relation)
            == (owner, "edit", "target", "knowledge_loss", None)
            and s.axes == {"scale": -3}
        )
        assert losses[label] == pytest.approx(mean)
    assert [(i.what, i.reason) for i in results.left_out if i.where == "analyses.depth"] == [
        ("merkel", "popularity: it has none")
    ]
    page = (folder / "report.html").read_text()
    for title in ("Neurons by layer", "Shared neurons", "Means", "cell/layer by popularity"):
        assert title in page, title


@pytest.mark.parametrize(
    ("analysis", "why"),
    [
        ("pivot: amnesia, rows: edited, columns: entity, value: answer_rank", "mean over scale (3 values)"),
        ("pivot: amnesia, rows: scale, columns: entity, value: pass@5", "does not measure 'pass@5'"),
        ("correlation: [cell/layer, relation]", "a correlation is over owners"),
        ("correlation: [cell/layer, amnesia/answer_rank]", "is 3 numbers, one for each scale"),
        ("overlap: few", "'few' is several sets, one for each top; overlap takes one set"),
    ],
)
def test_an_analysis_that_has_no_one_answer_is_refused(
    command: Command, write_spec: Callable[..., Path], analysis: str, why: str
) -> None:
    more = f"neurons: {{few: {{of: cell, top: [1, 2]}}}}\nanalyses:\n  a: {{{analysis}}}\n"
    answer = command("validate", write_spec(more=more))
    assert answer.code == 2 and why in " ".join(answer.all.split()), answer.all


# -- rankings by other columns


def test_a_ranking_is_made_for_each_value_of_a_column(staged: Staged) -> None:
    people = (
        "trump: Donald Trump, obama: Barack Obama}",
        "trump: {name: Donald Trump, attributes: {party: R}},\n  obama: {name: Barack Obama, attributes: {party: D}},\n"
        "  reagan: {name: Ronald Reagan, attributes: {party: R}}, merkel: Angela Merkel}",
    )
    stage = staged("{metric: mean_activation, prompts: names, by: party}", people)
    assert {owner: len(members) for owner, members in stage.groups.items()} == {"R": 16, "D": 8}
    assert stage.labels == {"R": ("R", None, None), "D": ("D", None, None)}
    assert {item.reason for item in stage.left_out} == {"it has no party to be ranked by"} and len(stage.left_out) == 8
    data, _ = localize(Engine(model()), stage)
    for owner, members in stage.groups.items():
        rows = []
        for i in members:
            sequence = stage.job.sequences[i]
            seen, _ = run_alone(model(), sequence.ids)
            rows.append([seen[k][sequence.read[0]].double().numpy() for k in stage.layers])
        np.testing.assert_allclose(data.groups[owner].score, np.abs(np.mean(rows, axis=0)), rtol=1e-3, atol=1e-5)

    gradient = "{metric: gradient_x_activation, objective: answer_logit, position: entity.last, by: %s}"
    stage = staged(gradient % "relation")
    assert {owner: len(members) for owner, members in stage.groups.items()} == {"wife": 2, "home": 2}
    stage = staged(gradient % "[entity, relation]")
    assert list(stage.groups) == ["trump/wife", "obama/wife", "trump/home", "obama/home"]
    assert stage.labels["trump/wife"] == ("Donald Trump (wife)", "trump", None)


def test_neurons_of_a_relation_are_ranked_edited_and_reported(
    command: Command, write_spec: Callable[..., Path], workplace: Path
) -> None:
    spec = write_spec(
        (CELL, "{metric: gradient_x_activation, objective: answer_logit, position: entity.last, by: relation}"),
        more="expect: [cell/wife/size = 1]\n",
    )
    answer = command(spec, "--no-track", "--only", "amnesia")
    assert answer.code == 0, answer.all
    (folder,) = (workplace / "runs").glob("tiny-*")
    results = load_results(folder)
    assert list(results.rankings["cell"].groups) == ["wife", "home"]
    rows = parquet.read_table(folder / "results.parquet").to_pylist()
    asked = {
        (r["edited"], r["role"], r["relation"]) for r in rows if r["condition"] == "edit" and r["role"] != "unknown"
    }
    assert asked == {
        *((owner, "target", owner) for owner in ("wife", "home")),
        *((a, "others", b) for a, b in (("wife", "home"), ("home", "wife"))),
    }
    assert results.claims[0].outcome == "met"
    assert "objective answer_logit" in (folder / "report.html").read_text()


def test_a_baseline_of_hardly_any_texts_is_refused_with_its_reason(
    command: Callable[..., Answer], write_spec: Callable[..., Path]
) -> None:
    few = write_spec(
        (CELL, "{metric: stability, prompts: names, against: few}"),
        ("  neutral:", "  few: {of: neutral, limit: 3}\n  neutral:"),
    )
    answer = command(few, "--no-track")
    assert answer.code == 4 and "compares with 3 texts of few; stability needs 8" in answer.err
    assert "Traceback" not in answer.all


@pytest.mark.parametrize("size", [20, 5_000])
def test_the_best_are_the_first_of_the_whole_order_and_few_are_read_twice(size: int) -> None:
    random = np.random.default_rng(size)
    score = random.integers(0, 40, (3, size)).astype(np.float32)  # with many ties
    reads = []

    def kept() -> dict[str, np.ndarray]:
        reads.append(1)
        return {"score": score}

    group = GroupData(kept)
    whole = np.argsort(-score.reshape(-1), kind="stable")
    for n in (1, 7, 3, 20, 4_999, 12, 4_999, 3 * size, 1):
        n = min(n, 3 * size)
        assert group.best(n).tolist() == whole[:n].tolist()
    assert group.order().tolist() == whole.tolist()
    assert group.shape == (3, size)
    before = len(reads)
    for n in range(1, min(4_999, 3 * size)):
        group.best(n)
    assert len(reads) == before
    with pytest.raises(ValueError, match="read-only"):
        group.best(5)[0] = 0


def test_a_list_that_is_too_long_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.localization.ranking.LEAST_FIRST", 4)
    monkeypatch.setattr("runner.localization.ranking.MOST_FIRST", 8)
    group = GroupData.of(np.random.default_rng(0).random((2, 30), dtype=np.float32))
    for n in (3, 20, 60, 6):
        assert group.best(n).tolist() == group.order()[:n].tolist()
        assert group._first is not None and len(group._first) <= 8
