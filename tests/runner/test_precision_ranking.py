"""Rankings by average precision against plain hooks and scikit-learn, and what they are told from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from runner.bind import Binder
from runner.compile import compile_plan
from runner.execute import Engine, Outcome
from runner.families import family_of, site_place
from runner.localization.columns import Columns
from runner.localization.contrast import contrasts
from runner.localization.localize import columns_of, require_prompts
from runner.localization.rank_precision import rank_by_precision, ranks_shown
from runner.localization.ranking import GroupData, RankingData
from runner.localization.record import tie_warnings
from runner.plan import LocalizeStage
from runner.stages import _contrasted, _sequences
from runner.store import load as load_results
from specs.language.errors import RunError, SpecError
from specs.language.load import load
from tests.capture import capture
from tests.runner.conftest import Answer
from tests.runner.test_compile import tokenizer
from tests.tiny import tiny_model

PEOPLE = ("Trump", "Obama", "Lovelace", "Byron", "Melania", "Michelle", "Donald", "Barack", "Ada")
RELATIONS = {
    "wife": "The name of the wife of {{ entity }} is",
    "home": "The home of {{ entity }}:",
    "age": "Somebody else, of the age of {{ entity }}",
}
GATED = ("mlp.gate", "mlp.up", "mlp.out", "attn.q", "attn.k", "attn.v", "attn.out")
UNGATED = ("mlp.neurons", "mlp.out", "attn.q", "attn.k", "attn.v")
Staged = Callable[..., LocalizeStage]


def spec_text(body: str, *, model: str = "smollm2-135m", people: Sequence[str] = PEOPLE, more: str = "") -> str:
    entities = {name.lower(): name for name in people}
    answers = ", ".join(f"{key}: A house" for key in entities)
    described = "".join(
        f"  {key}: {{name: {name}, attributes: {{kind: {'short' if len(name) < 6 else 'long'}}}}}\n"
        for key, name in entities.items()
    )
    relations = "".join(f'  {r}: {{prompt: "{text}", answers: {{{answers}}}}}\n' for r, text in RELATIONS.items())
    return (
        f"version: 1\nname: tiny\nmodel: {model}\nentities:\n{described}relations:\n{relations}"
        f"prompts: {{triples: {{relations: all, known: any}}}}\nlocalize:\n  relation: {body}\n{more}"
    )


MADE_UP = "placeholders: {made_up: [Chicago, Florida, Illinois]}\n"
RANKING = "{metric: average_precision, prompts: triples, top: 20SITES}"


@pytest.fixture
def staged(tmp_path: Path) -> Staged:
    """Compile a ranking over the questions of the tiny spec."""

    def make(body: str, n_layers: int = 3, **how: Any) -> LocalizeStage:
        path = tmp_path / "spec.yaml"
        path.write_text(spec_text(body, **how), encoding="utf-8")
        return compile_plan(load(path).cells[0].experiment, Binder(tokenizer()), n_layers).localize[0]

    return make


def model_of(family: str) -> Any:
    return tiny_model(family, vocab_size=len(tokenizer()), max_position_embeddings=256)


def ranked(model: Any, stage: LocalizeStage, scratch: Path, **how: Any) -> tuple[dict[str, GroupData], Outcome]:
    engine = Engine(model, **how)
    columns = columns_of(stage, lambda site, layer: engine.place(site, layer).width)
    return rank_by_precision(engine, stage, list(stage.groups), columns, scratch)


def hooked(model: Any, stage: LocalizeStage, how: str = "mean") -> np.ndarray:
    """Read every prompt by itself with plain hooks: ``[n_prompts, n_layers, width]`` in float64."""
    family = family_of(model.config)
    places = [site_place(model, family, site, layer) for layer in stage.layers for site in stage.job.sites]
    rows = []
    for sequence in stage.job.sequences:
        found = capture(model, places, input_ids=torch.tensor([sequence.ids]))
        layers = []
        for layer in stage.layers:
            read = [found.values[site, layer][list(sequence.read)].double() for site in stage.job.sites]
            values = torch.cat(read, dim=1)
            if how == "mean":
                layers.append(values.mean(dim=0))
            else:
                layers.append(values.gather(0, values.abs().argmax(dim=0, keepdim=True))[0])
        rows.append(torch.stack(layers).numpy())
    return np.stack(rows)


def decided(values: np.ndarray) -> np.ndarray:
    """Say of which neurons the order of prompts does not hang on the last digits: ``[n_layers, width]``."""
    gaps = np.diff(np.sort(values, axis=0), axis=0) / np.abs(values).max(axis=0)
    close: np.ndarray = ((gaps > 0) & (gaps < 1e-5)).any(axis=0)
    return ~close


def oracle(values: np.ndarray, own: Sequence[int], others: Sequence[int]) -> np.ndarray:
    """Ask scikit-learn, neuron by neuron."""
    labels = np.array([1] * len(own) + [0] * len(others))
    told = values[[*own, *others]]
    wanted = np.empty(values.shape[1:])
    for place in np.ndindex(*wanted.shape):
        wanted[place] = average_precision_score(labels, told[(slice(None), *place)])
    return wanted


# -- the numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "sites"),
    [
        ("llama", GATED),
        ("phi3", GATED),
        ("qwen3", GATED),
        ("gpt2", UNGATED),
        ("opt", UNGATED),
        ("falcon_grouped", UNGATED),
    ],
)
def test_it_is_scikit_learns_on_values_read_with_plain_hooks(
    staged: Staged, tmp_path: Path, family: str, sites: Sequence[str]
) -> None:
    model = model_of(family)
    n_layers = int(model.config.num_hidden_layers)
    stage = staged(RANKING.replace("SITES", f", site: [{', '.join(sites)}]"), n_layers)
    found, outcome = ranked(model, stage, tmp_path)
    values = hooked(model, stage)
    sure = decided(values)
    assert sure.mean() > 0.9
    assert outcome.nodes < sum(len(s.ids) for s in stage.job.sequences)
    for owner, group in found.items():
        wanted = oracle(values, stage.groups[owner], stage.contrasts[owner].negatives)
        assert group.score.shape == wanted.shape == (n_layers, values.shape[2])
        np.testing.assert_allclose(group.score[sure], wanted[sure], atol=1e-6, rtol=0)
        own = values[list(stage.groups[owner])]
        np.testing.assert_allclose(group.mean, own.mean(axis=0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(group.std, own.std(axis=0), rtol=1e-3, atol=1e-4)


def test_pooling_by_the_largest_value_is_that_of_single_tokens(staged: Staged, tmp_path: Path) -> None:
    model = model_of("llama")
    stage = staged(RANKING.replace("SITES", ", pool: max, site: [mlp.up, attn.k]"))
    found, _ = ranked(model, stage, tmp_path)
    values = hooked(model, stage, "max")
    sure = decided(values)
    for owner, group in found.items():
        wanted = oracle(values, stage.groups[owner], stage.contrasts[owner].negatives)
        np.testing.assert_allclose(group.score[sure], wanted[sure], atol=1e-6, rtol=0)


def test_every_token_of_the_question_is_read_and_none_of_the_answer(staged: Staged) -> None:
    stage = staged(RANKING.replace("SITES", ""))
    for sequence, prompt in zip(stage.job.sequences, stage.prompts, strict=True):
        assert sequence.ids == prompt.ids
        assert sequence.read == tuple(range(prompt.first, len(prompt.ids)))


def test_shuffled_labels_are_the_same_values_under_other_labels(staged: Staged, tmp_path: Path) -> None:
    model = model_of("llama")
    stage = staged(RANKING.replace("SITES", ", controls: {shuffled_labels: 3}"))
    found, _ = ranked(model, stage, tmp_path)
    values = hooked(model, stage)
    for owner, group in found.items():
        assert group.precision is not None
        everything = {*stage.groups[owner], *stage.contrasts[owner].negatives}
        best = []
        for labels, figures in zip(stage.contrasts[owner].shuffled, group.precision.shuffled, strict=True):
            assert len(labels) == len(stage.groups[owner]) and set(labels) <= everything
            scores = -np.sort(-oracle(values, labels, sorted(everything - set(labels))).reshape(-1))
            # a few neurons whose order hangs on the last digits move a score by a hundredth at most
            assert figures.precision == pytest.approx([scores[r - 1] for r in group.precision.ranks], abs=0.02)
            assert figures.mean == pytest.approx(scores[:20].mean(), abs=2e-3)
            best.append(figures.precision[0])
        assert group.precision.above_shuffled == int((group.score > max(best) + 5e-8).sum())
        assert group.precision.ranks == [1, 2, 5, 10, 20]
        real = -np.sort(-group.score.reshape(-1))
        assert group.precision.precision == pytest.approx([real[r - 1] for r in group.precision.ranks])
        assert len(set(stage.contrasts[owner].shuffled)) == 3
        assert all(set(labels) != set(stage.groups[owner]) for labels in stage.contrasts[owner].shuffled)


def test_values_in_a_file_give_the_same_ranking(staged: Staged, tmp_path: Path) -> None:
    model = model_of("llama")
    stage = staged(RANKING.replace("SITES", ", site: [mlp.gate, attn.v], controls: {shuffled_labels: 1}"))
    in_memory, _ = ranked(model, stage, tmp_path)
    in_file, _ = ranked(model, stage, tmp_path, reading_bytes=1)
    for owner, group in in_memory.items():
        np.testing.assert_array_equal(group.score, in_file[owner].score)
        assert group.precision == in_file[owner].precision and group.values == in_file[owner].values
    assert not [p for p in tmp_path.iterdir() if p.name != "spec.yaml"]


def test_ranks_told_are_few_and_end_with_the_set() -> None:
    assert ranks_shown(1) == [1]
    assert ranks_shown(3000) == [1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 1000, 2000, 3000]
    assert len(ranks_shown(50_000)) < 20


# -- what an owner is told from -----------------------------------------------------------------------------------


def test_negatives_are_others_prompts_so_many_for_each_and_none_twice(staged: Staged) -> None:
    stage = staged(RANKING.replace("SITES", ", against: {others: 2}"))
    everything = {i for members in stage.groups.values() for i in members}
    for owner, own in stage.groups.items():
        negatives = stage.contrasts[owner].negatives
        assert len(negatives) == len(set(negatives)) == 2 * len(own) == 18
        assert set(negatives) == everything - set(own)
    assert stage.warnings == ()
    fewer = staged(RANKING.replace("SITES", ", against: {others: 1}"))
    assert all(len(contrast.negatives) == 9 for contrast in fewer.contrasts.values())
    whole = staged(RANKING.replace("SITES", ", against: others"))
    assert whole.contrasts == stage.contrasts


def test_too_few_others_are_all_taken_and_said(staged: Staged) -> None:
    stage = staged(RANKING.replace("SITES", ""))
    assert all((len(c.negatives), c.short) == (18, 18) for c in stage.contrasts.values())
    (warning,) = stage.warnings
    assert warning.startswith("there are fewer prompts of others than {others: 4} asks for: wife is told from all 18")


def test_a_draw_hangs_on_the_seed_and_the_prompts_and_not_on_their_order(staged: Staged) -> None:
    stage = staged(RANKING.replace("SITES", ", controls: {shuffled_labels: 1}"))

    def drawn(order: Sequence[int], seed: int) -> dict[str, list[set[str]]]:
        prompts = [stage.prompts[i] for i in order]
        groups = {owner: [k for k, i in enumerate(order) if i in own] for owner, own in stage.groups.items()}
        found = contrasts(groups, prompts, 1, 1, seed)
        return {
            owner: [{prompts[i].text.text for i in members} for members in (c.negatives, *c.shuffled)]
            for owner, c in found.items()
        }

    forwards = range(len(stage.prompts))
    assert drawn(forwards, 0) == drawn(list(reversed(forwards)), 0) != drawn(forwards, 1)


def test_a_prompt_that_is_an_owners_own_is_never_its_negative(staged: Staged) -> None:
    stage = staged(RANKING.replace("SITES", ""))
    first, second = list(stage.groups)[:2]
    twice = {first: stage.groups[first], second: (*stage.groups[second], stage.groups[first][0])}
    found = contrasts(twice, stage.prompts, None, 0, 0)
    assert stage.groups[first][0] not in found[first].negatives
    assert len(found[first].negatives) == 9 and len(found[second].negatives) == 8


def test_a_relation_s_prompts_in_another_set_are_no_negatives_of_it(staged: Staged) -> None:
    """`against: triples/evaluation`: held-out questions of the relation itself would teach the opposite of it."""
    stage = staged(RANKING.replace("SITES", ""))
    detection = {owner: members[:5] for owner, members in stage.groups.items()}
    held_out = [i for members in stage.groups.values() for i in members[5:]]
    found = contrasts(detection, stage.prompts, None, 0, 0, held_out, ["relation"])
    for owner, contrast in found.items():
        assert set(contrast.negatives) == set(held_out) - set(stage.groups[owner])


def test_prompts_with_made_up_names_are_nobodys(staged: Staged) -> None:
    stage = staged(
        "{metric: average_precision, prompts: triples, by: relation, top: 20, against: made_up}", more=MADE_UP
    )
    assert stage.baseline
    assert all(set(contrast.negatives) == set(stage.baseline) for contrast in stage.contrasts.values())


def test_groups_may_be_concepts_and_texts_may_be_the_negatives(staged: Staged, tmp_path: Path) -> None:
    model = model_of("llama")
    stage = staged(RANKING.replace("SITES", ", by: kind"))
    assert {owner: len(own) for owner, own in stage.groups.items()} == {"short": 12, "long": 15}
    found, _ = ranked(model, stage, tmp_path)
    values = hooked(model, stage)
    sure = decided(values)
    wanted = oracle(values, stage.groups["long"], stage.groups["short"])
    np.testing.assert_allclose(found["long"].score[sure], wanted[sure], atol=1e-6, rtol=0)
    texts = staged(RANKING.replace("SITES", ", by: [], against: neutral"))
    assert set(texts.contrasts["all"].negatives) == set(texts.baseline) and texts.baseline
    assert ranked(model, texts, tmp_path)[0]["all"].score.shape == (3, 48)


@pytest.mark.parametrize(
    ("body", "people", "message"),
    [
        ("", PEOPLE[:7], "fewer than 8 prompts finds neurons that are perfect by chance; 'wife' has 7, 'home' has 7"),
        (", by: []", PEOPLE, r"tells an owner's prompts from those of others, and all is the only owner \(`by: \[\]`"),
        (", site: [mlp.up, mlp.gate, mlp.up]", PEOPLE, "'mlp.up' is named twice; its neurons would be ranked twice"),
        (", controls: {random_names: 3}", PEOPLE, "made-up names are no group of prompts; the null here is"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(staged: Staged, body: str, people: Sequence[str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        staged(RANKING.replace("SITES", body), people=people)


def test_too_few_prompts_that_are_left_stop_the_run_with_a_reason(staged: Staged) -> None:
    stage = staged(RANKING.replace("SITES", ""))
    fewer = replace(stage, groups={**stage.groups, "home": stage.groups["home"][:5]})
    with pytest.raises(RunError, match="has 5 prompts about home; average_precision needs 8") as caught:
        require_prompts(fewer)
    assert "perfect by chance" in caught.value.remedy
    alone = contrasts({"wife": stage.groups["wife"]}, stage.prompts, 4, 0, 0)
    with pytest.raises(RunError, match="has 0 prompts of others that those of wife are told from"):
        require_prompts(replace(stage, groups={"wife": stage.groups["wife"]}, contrasts=alone))


def test_it_is_refused_for_metrics_that_have_no_contrast(staged: Staged) -> None:
    for more in ("against: {others: 4}", "against: others", "controls: {shuffled_labels: 2}"):
        with pytest.raises(SpecError, match="is not built yet for stability; it is for average_precision"):
            staged(f"{{metric: stability, {more}}}")


def test_how_negatives_are_pooled_is_in_the_key_of_an_owner_read_at_one_token(
    staged: Staged,
) -> None:
    def key(pool: str, *, others_at_all: bool) -> dict[str, Any]:
        stage = staged(RANKING.replace("SITES", f", pool: {pool}"))
        members, contrast = stage.groups["wife"], stage.contrasts["wife"]
        at_one = set(members) | (set() if others_at_all else set(contrast.negatives))
        sequences = [replace(s, read=s.read[-1:]) if i in at_one else s for i, s in enumerate(stage.job.sequences)]
        stage = replace(stage, job=replace(stage.job, sequences=tuple(sequences)))
        return _sequences(stage, members) | _contrasted(stage, members, contrast)

    assert key("mean", others_at_all=True) != key("max", others_at_all=True)
    assert key("mean", others_at_all=False) == key("max", others_at_all=False)


# -- a whole run --------------------------------------------------------------------------------------------------


def test_a_second_run_runs_nothing(command: Callable[..., Answer], workplace: Path, tiny_checkpoint: Path) -> None:
    body = RANKING.replace("SITES", ", site: [mlp.gate, mlp.out], controls: {shuffled_labels: 1}")
    spec = workplace / "spec.yaml"
    more = "analyses: {p: {profile: relation}, o: {overlap: relation}}\n"
    spec.write_text(spec_text(body, model=str(tiny_checkpoint), more=more), encoding="utf-8")

    def run(*how: str) -> dict[str, Any]:
        answer = command(spec, "--no-track", *how)
        assert answer.code == 0, answer.all
        (folder,) = [p for p in (workplace / "runs").iterdir() if (p / "results.json").exists()]
        results: dict[str, Any] = json.loads((folder / "results.json").read_text())
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        return results

    def tokens(results: dict[str, Any]) -> int:
        return sum(stage["run_tokens"] or 0 for stage in results["stages"])

    first = run()
    again = run()
    assert tokens(first) > 0 and tokens(again) == 0
    assert again["rankings"] == first["rankings"] and again["analyses"] == first["analyses"]
    assert tokens(run("--set", "seed=1")) > 0  # other labels are other numbers
    group = first["rankings"]["relation"]["groups"]["wife"]
    assert group["precision"]["n_positive"] == 9 and len(group["precision"]["shuffled"]) == 1
    assert sum(map(sum, group["profile"].values())) == len(group["chosen"]) == 20
    assert len(group["neurons"]) == 20 and group["neurons"][0]["dominance"] is None
    assert any("there are fewer prompts of others" in text for text in first["rankings"]["relation"]["warnings"])
    assert "he 20 best neurons tell the prompts of wife from others' with average precision" in first["answer"]


def test_the_report_shows_precision_by_rank_beside_shuffled_labels(
    command: Callable[..., Answer], workplace: Path, tiny_checkpoint: Path
) -> None:
    body = RANKING.replace("SITES", ", site: [mlp.gate, mlp.out], controls: {shuffled_labels: 2}")
    spec = workplace / "spec.yaml"
    spec.write_text(spec_text(body, model=str(tiny_checkpoint)), encoding="utf-8")
    answer = command(spec, "--no-track")
    assert answer.code == 0 and "shuffled: first" in answer.out
    (page,) = (workplace / "runs").rglob("report.html")
    results = load_results(page.parent)
    text = page.read_text(encoding="utf-8")
    assert "Neurons that tell prompts apart" in text and 'id="cells"' not in text
    for group in results.rankings["relation"].groups.values():
        figures = group.precision
        assert figures is not None and len(figures.shuffled) == 2
        for precision in (figures.precision[0], figures.precision[-1]):
            assert f"{precision:.3f}" in text
        null = sorted(f"{draw.precision[-1]:.3f}" for draw in figures.shuffled)
        assert (null[0] if null[0] == null[1] else f"{null[0]} to {null[1]}") in text


def test_a_set_that_ends_among_equals_is_said(staged: Staged, tmp_path: Path) -> None:
    model = model_of("opt")
    stage = staged(RANKING.replace("SITES", ", position: first").replace("top: 20", "top: 1"))
    found, _ = ranked(model, stage, tmp_path)
    data = RankingData("relation", "average_precision", Columns(("mlp.neurons",), (48,)), stage.layers, 1, found)
    for group in found.values():
        assert group.precision is not None
        best = group.score.max()
        assert group.precision.tied == int((group.score == best).sum()) and group.precision.tied_within == 1
    tied = [group for group in found.values() if group.precision is not None and group.precision.tied > 1]
    assert tied, "a first token that only one relation has makes many neurons perfect"
    assert "end among neurons of equal average precision" in tie_warnings(data)[0]


@pytest.mark.parametrize(
    ("sizes", "of_mlp", "with_attention"),
    [((4096, 11008, 32), 835_584, 1_359_872), ((5120, 13824, 40), 1_310_720, 2_129_920)],
    ids=["7b", "13b"],
)
def test_a_plan_counts_the_neurons_of_llama_2_without_weights(
    command: Callable[..., Answer], workplace: Path, sizes: tuple[int, int, int], of_mlp: int, with_attention: int
) -> None:
    from transformers import LlamaConfig

    d_model, d_mlp, n_layers = sizes
    folder = workplace / "llama-2"
    tokenizer().save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=d_model,
        intermediate_size=d_mlp,
        num_hidden_layers=n_layers,
        num_attention_heads=n_layers,
    )
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    spec = workplace / "spec.yaml"
    mlp = "mlp.gate, mlp.up, mlp.out"
    both = f"{RANKING}\n  wide: {RANKING.replace('SITES', f', site: [{mlp}, attn.q, attn.k, attn.v, attn.out]')}"
    spec.write_text(spec_text(both.replace("SITES", f", site: [{mlp}]"), model=str(folder)), encoding="utf-8")
    answer = command("plan", spec, "--json")
    assert answer.code == 0, answer.all
    found = json.loads(answer.out)["candidates"]
    assert sum(found["relation"].values()) == of_mlp and sum(found["wide"].values()) == with_attention
    assert found["wide"]["mlp.gate"] == n_layers * d_mlp and found["wide"]["attn.k"] == n_layers * d_model
    if n_layers == 32:  # the same in words
        said = " ".join(command("plan", spec).out.split())
        assert f"{of_mlp:,} neurons are ranked in 32 layers: mlp.gate 352,256, mlp.up 352,256, mlp.out 131,072" in said
        assert f"{with_attention:,} neurons are ranked" in said and "wife: 9 prompts, told from 18 of others" in said
