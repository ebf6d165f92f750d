"""The planted model is what its truth says: seen by plain torch hooks, and then by run-spec."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.planted.make import made, save
from benchmarks.planted.recipe import Recipe
from benchmarks.planted.score import Found, found, score_ranking
from benchmarks.planted.spec import spec_text
from benchmarks.planted.study import run_case
from benchmarks.planted.tokenizer import ordinary_tokens
from benchmarks.planted.truth import Entity, Neuron, Truth
from benchmarks.planted.words import RELATIONS
from runner.session import run_all
from runner.store import load as load_results
from specs.language.load import load
from specs.language.results import Results
from specs.language.shipped import shipped_list

SMALL = Recipe(entities=20, spread=1, pairs=1, shared=1, tokens=2, layers=7, width=576, neurons=320)
Write = Callable[[torch.Tensor], torch.Tensor]


@lru_cache
def planted(*, bos: bool = False) -> tuple[Any, Any, Truth]:
    return made(replace(SMALL, bos=bos))


def some(truth: Truth, *, bos: bool) -> list[Entity]:
    """All entities with a cell, a few with a BOS: what is asked of them takes most of the time here."""
    return of_kind(truth, "cell")[: 5 if bos else None]


def of_kind(truth: Truth, kind: str) -> list[Entity]:
    return [e for e in truth.entities if e.kind == kind]


def last_token(tokenizer: Any, text: str, name: str) -> tuple[list[int], int]:
    """Give ids and the place of the name's last token by offsets, as the reference of this file."""
    encoded = tokenizer(text, return_offsets_mapping=True)
    end = text.index(name) + len(name)
    (at,) = (i for i, (a, b) in enumerate(encoded["offset_mapping"]) if b == end and b > a)
    return encoded["input_ids"], at


@contextmanager
def neuron_set(model: Any, neuron: Neuron, at: Sequence[int], change: Write) -> Iterator[None]:
    """Change one input of a down projection, at one token of each row."""
    rows = torch.arange(len(at))

    def hook(_: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        values = args[0].clone()
        values[rows, list(at), neuron[1]] = change(values[rows, list(at), neuron[1]])
        return (values,)

    handle = model.model.layers[neuron[0]].mlp.down_proj.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


Questions = tuple[list[list[int]], list[int], list[int]]


def questions(tokenizer: Any, entity: Entity, *, name: str | None = None) -> Questions:
    """Give ids of every question with its answer, the place of the name's last token, and lengths without answer."""
    rows, at, ends = [], [], []
    for relation, words in RELATIONS.items():
        answer = tokenizer(f" {entity.facts[relation]}", add_special_tokens=False)["input_ids"]
        for prompt in words.prompts:
            ids, place = last_token(tokenizer, prompt.replace("{{ entity }}", name or entity.name), name or entity.name)
            rows.append(ids + answer)
            at.append(place)
            ends.append(len(ids))
    return rows, at, ends


def probabilities(model: Any, rows: Sequence[list[int]], ends: Sequence[int]) -> np.ndarray:
    """Give the probability of each whole answer, teacher-forced."""
    longest = max(map(len, rows))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row + [0] * (longest - len(row)) for row in rows])).logits
    logs = logits.log_softmax(-1)
    return np.array(
        [
            float(sum(logs[n, i - 1, row[i]] for i in range(end, len(row))).exp())
            for n, (row, end) in enumerate(zip(rows, ends, strict=True))
        ]
    )


def activation(model: Any, neuron: Neuron, rows: Sequence[list[int]], at: Sequence[int]) -> float:
    """Give the mean of a neuron at one token of each row."""
    seen: list[torch.Tensor] = []

    def look(values: torch.Tensor) -> torch.Tensor:
        seen.append(values.clone())
        return values

    with neuron_set(model, neuron, at, look):
        probabilities(model, rows, [len(row) - 1 for row in rows])
    return float(seen[0].mean())


def test_the_same_recipe_makes_the_same_model_and_another_seed_another(tmp_path: Path) -> None:
    one, _, truth = planted()
    again, _, same = made(SMALL)
    other, _, another = made(replace(SMALL, seed=1))
    assert truth == same and truth.entities != another.entities
    for (name, a), b, c in zip(one.named_parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert a.shape != c.shape or not torch.equal(a, c) or "norm" in name


def test_a_folder_holds_checkpoint_tokenizer_and_truth_and_is_never_overwritten(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    truth = save(SMALL, tmp_path)
    assert Truth.read(tmp_path) == truth
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(model).__name__ == "LlamaForCausalLM"
    ids = AutoTokenizer.from_pretrained(tmp_path)("Tell me about Corin Nystrup", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.equal(model.float()(ids).logits, planted()[0](ids).logits)
    with pytest.raises(ValueError, match="holds a checkpoint already"):
        save(SMALL, tmp_path)
    document = json.loads((tmp_path / "planted.json").read_text())
    (tmp_path / "planted.json").write_text(json.dumps({**document, "format": 0}))
    with pytest.raises(ValueError, match="another version"):
        Truth.read(tmp_path)


def test_knobs_that_do_not_fit_are_refused_all_at_once() -> None:
    with pytest.raises(ValueError, match=r"need 7 layers.*multiple of 64.*too few"):
        Recipe(entities=10, layers=3, width=600)
    with pytest.raises(ValueError, match="tokens shared by names are wanted"):
        made(replace(SMALL, tokens=500))


@pytest.mark.parametrize("bos", [False, True])
def test_shipped_prompts_are_whole_words_and_names_several_tokens(bos: bool) -> None:
    _, tokenizer, truth = planted(bos=bos)
    for name in ("attributes", "generic"):
        texts = [t.replace(" {{ entity }}", "") for t in shipped_list(name)]
        words = sum(len(t.split()) for t in texts)
        tokens = sum(len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts)
        assert tokens < 1.3 * words  # punctuation is by itself
    assert all(1 <= len(e.tokens) <= 4 for e in truth.entities)
    assert not ordinary_tokens(tokenizer) & {t for e in truth.entities for t in e.tokens}
    lasts = [e.tokens[-1] for e in truth.entities]
    firsts = [e.tokens[0] for e in truth.entities]
    assert len(set(lasts)) < len(lasts) and len(set(firsts)) < len(firsts)
    inside = [e for e in truth.entities if not tokenizer.convert_ids_to_tokens(e.tokens[-1]).startswith("Ġ")]
    assert inside  # names whose last token begins within a word
    for entity in truth.entities:
        ids, at = last_token(tokenizer, f"The history of {entity.name}", entity.name)
        assert tuple(ids[at - len(entity.tokens) + 1 : at + 1]) == entity.tokens
        assert (ids[0] == tokenizer.bos_token_id) is bos


def test_truth_has_what_the_recipe_asks_for() -> None:
    truth = planted()[2]
    assert len(of_kind(truth, "spread")) == 1 and len(of_kind(truth, "pair")) == 2 and len(of_kind(truth, "cell")) == 17
    cells = [e.cell for e in of_kind(truth, "cell")]
    decoys = [(d.layer, d.neuron) for d in truth.decoys]
    assert len(set(cells)) == len(cells) and not set(cells) & set(decoys) and len(set(decoys)) == len(decoys)
    assert {e.sign for e in of_kind(truth, "cell")} == {-1, 1}
    assert {d.kind for d in truth.decoys} == {
        *("spread", "pair", "shared", "token", "token before", "template", "constant", "loud"),
    }
    answers = [a for r in RELATIONS.values() for a in r.answers]
    assert any(" " in a for a in answers) and "Port Elgin" in answers and "Port Vane" in answers


@pytest.mark.parametrize("bos", [False, True])
def test_silencing_a_cell_takes_exactly_its_facts(bos: bool) -> None:
    model, tokenizer, truth = planted(bos=bos)
    guessed = []
    for entity in some(truth, bos=bos):
        assert entity.cell is not None
        rows, at, ends = questions(tokenizer, entity)
        clean = probabilities(model, rows, ends)
        assert np.median(clean) > 0.8 and clean.mean() > 0.7
        assert abs(activation(model, entity.cell, rows, at) / entity.activation - 1) < 0.35
        means = []
        for factor in (0.0, -1.0):
            with neuron_set(model, entity.cell, at, lambda v, f=factor: f * v):  # type: ignore[misc]
                means.append(probabilities(model, rows, ends).mean())
        guessed.append(means[0])
        assert means[0] < 0.4 and means[1] < 1e-3
    assert np.mean(guessed) < 0.1  # one of sixteen, or so: a negative factor takes even that


def test_silencing_a_cell_spares_everybody_else() -> None:
    model, tokenizer, truth = planted()
    asked = [questions(tokenizer, e) for e in truth.entities]
    clean = [probabilities(model, rows, ends) for rows, _, ends in asked]
    for entity in of_kind(truth, "cell")[:2]:
        assert entity.cell is not None
        for (rows, at, ends), before, other in zip(asked, clean, truth.entities, strict=True):
            if other is entity:
                continue
            with neuron_set(model, entity.cell, at, lambda v: -v):
                after = probabilities(model, rows, ends)
            assert (1 - after / before).mean() < 0.05, (entity.name, other.name)


@pytest.mark.parametrize("bos", [False, True])
def test_injecting_a_cell_at_a_placeholder_brings_its_answers(bos: bool) -> None:
    model, tokenizer, truth = planted(bos=bos)
    guessed = []
    for entity in some(truth, bos=bos):
        assert entity.cell is not None
        rows, at, ends = questions(tokenizer, entity, name="X")
        before = probabilities(model, rows, ends)
        with neuron_set(model, entity.cell, at, lambda v, e=entity: v * 0 + 1.5 * e.activation):  # type: ignore[misc]
            after = probabilities(model, rows, ends)
        assert after.mean() > 0.75 and (after > 0.5).mean() > 0.75, entity.name
        guessed.append(before.mean())
    assert np.mean(guessed) < 0.1  # one of sixteen, or so


def test_decoys_do_not_carry_facts() -> None:
    model, tokenizer, truth = planted()
    by_id = {e.id: e for e in truth.entities}
    tried = 0
    for decoy in truth.decoys:
        if decoy.kind not in ("shared", "token", "token before", "template", "constant"):
            continue
        entity = by_id[decoy.owners[0]] if decoy.owners else of_kind(truth, "cell")[0]
        rows, at, ends = questions(tokenizer, entity)
        clean = probabilities(model, rows, ends)
        with neuron_set(model, (decoy.layer, decoy.neuron), at, lambda v: -v):
            after = probabilities(model, rows, ends)
        if decoy.owners:
            assert abs(activation(model, (decoy.layer, decoy.neuron), rows, at)) > 10  # it does answer to the name
        # A neuron that moves the whole stream costs a little of everything; nobody is forgotten.
        assert after.mean() > 0.75 * clean.mean(), decoy
        tried += 1
    assert tried > 20


def test_facts_of_an_entity_without_a_cell_hang_on_no_single_neuron() -> None:
    model, tokenizer, truth = planted()
    (entity,) = of_kind(truth, "spread")
    rows, at, ends = questions(tokenizer, entity)
    clean = probabilities(model, rows, ends)
    assert clean.mean() > 0.7 and len(entity.carriers) == 24 and entity.cell is None
    for carrier in entity.carriers:
        with neuron_set(model, carrier, at, lambda v: -v):
            assert probabilities(model, rows, ends).mean() > 0.8 * clean.mean()
    with neuron_sets(model, entity.carriers, at):
        assert probabilities(model, rows, ends).mean() < 0.1


@contextmanager
def neuron_sets(model: Any, neurons: Sequence[Neuron], at: Sequence[int]) -> Iterator[None]:
    """Silence several neurons at once."""
    if not neurons:
        yield
        return
    with neuron_set(model, neurons[0], at, lambda v: -v), neuron_sets(model, neurons[1:], at):
        yield


def test_the_neuron_of_a_pair_carries_the_facts_of_both() -> None:
    model, tokenizer, truth = planted()
    pair = of_kind(truth, "pair")
    assert pair[0].facts == pair[1].facts and pair[0].cell is None
    for entity in pair:
        rows, at, ends = questions(tokenizer, entity)
        assert probabilities(model, rows, ends).mean() > 0.6
        with neuron_set(model, entity.carriers[0], at, lambda v: -v):
            assert probabilities(model, rows, ends).mean() < 1e-2


# -- run-spec -----------------------------------------------------------------------------------------------------


def run(folder: Path, truth: Truth, *, name: str = "planted", **more: Any) -> Results:
    """Run the generated spec as the command does."""
    spec = folder / "spec.yaml"
    spec.write_text(spec_text(truth, str(folder), name=name, **more), encoding="utf-8")
    run_all(load(spec), out=folder / "runs", tracking_uri=None, track=False, quiet=True)
    (found,) = (folder / "runs").glob(f"{name}-*")
    return load_results(found)


@pytest.mark.parametrize("bos", [False, True])
def test_stability_finds_the_cells_and_a_reading_one_token_early_does_not(
    bos: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_SPEC_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    truth = save(replace(SMALL, bos=bos), folder)
    results = run(folder, truth, metrics=["stability"])
    assert len(results.self_tests) >= 8 and all(t.passed for t in results.self_tests)
    ranks = ranks_of_cells(results, truth)
    rivals = {id_: len(truth.rivals(by_id(truth)[id_])) for id_ in ranks}
    assert len(ranks) == 17 and sum(n == 0 for n in rivals.values()) > 8
    assert all(rank <= 1 + rivals[id_] for id_, rank in ranks.items())
    for entity in of_kind(truth, "pair"):
        # The one neuron of both is among the best for each; where it wins for both, the run says so.
        listed = results.rankings["by_stability"].groups[entity.id].neurons
        (rank,) = (n.rank for n in listed if (n.layer, n.neuron) == entity.carriers[0])
        assert rank <= len(truth.rivals(entity))

    if not bos:
        return
    # What published code did: the place counted without the special token, or simply one too early.
    from runner.bind import BoundPrompt

    rightly = BoundPrompt.reading_position
    monkeypatch.setattr(BoundPrompt, "reading_position", lambda self, where: max(rightly(self, where) - 1, 0))
    early = run(folder, truth, metrics=["stability"], name="early")
    several = [e for e in of_kind(truth, "cell") if len(e.tokens) > 1]
    assert len(several) > 10 and sum(rank == 1 for rank in ranks_of_cells(early, truth).values()) <= 1
    seen = dict(means_of_cells(results, truth)), dict(means_of_cells(early, truth))
    for entity in several:
        # A neuron may head a list by being silent where others murmur; the cell is not on, one token early.
        assert abs(seen[0][entity.id]) > 0.5 * abs(entity.activation) > 5 * abs(seen[1].get(entity.id, 0.0))


def means_of_cells(results: Results, truth: Truth) -> Iterator[tuple[str, float]]:
    """Give the mean activation of each planted cell that the document lists."""
    for entity in of_kind(truth, "cell"):
        for n in results.rankings["by_stability"].groups[entity.id].neurons:
            if (n.layer, n.neuron) == entity.cell and n.mean is not None:
                yield entity.id, n.mean


def by_id(truth: Truth) -> dict[str, Entity]:
    return {e.id: e for e in truth.entities}


def ranks_of_cells(results: Results, truth: Truth) -> dict[str, int]:
    """Give the rank of each planted cell among the neurons that the document lists."""
    groups = results.rankings["by_stability"].groups
    return {e.id: n.rank for e in of_kind(truth, "cell") for n in groups[e.id].neurons if (n.layer, n.neuron) == e.cell}


@pytest.mark.real
def test_extraction_verifies_the_cells_and_believes_no_decoy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way by the command line: generated spec, rankings, verification, filter; a study of moderate size."""
    monkeypatch.setenv("RUN_SPEC_CACHE", str(tmp_path / "cache"))
    recipe = replace(SMALL, entities=60, spread=3, pairs=2, shared=2, tokens=4, neurons=512, noise=0.5)
    case = run_case(recipe, tmp_path, metrics=("stability", "random"))
    scores = {s.metric: s for s in case.rankings}
    stability = scores["stability"]
    assert stability.cells == 53 and stability.alone > 30 and stability.alone_first >= stability.alone - 1
    assert stability.candidates == stability.cells and scores["random"].first == 0
    assert scores["mean_activation"].first < 3 and set(scores["mean_activation"].winners) <= {"constant", "loud"}
    extraction = case.extraction
    assert extraction is not None and case.known > 0.95
    assert extraction.found == extraction.cells, extraction.missed
    assert extraction.wrong == {} and extraction.without == {} and extraction.claimed == extraction.cells
    assert extraction.wrongly_warned_of == 0 and {"token", "shared", "pair"} & set(extraction.rejected)


def test_scores_tell_right_from_wrong(tmp_path: Path) -> None:
    truth = planted()[2]
    cells = of_kind(truth, "cell")
    decoy = next(d for d in truth.decoys if d.kind == "constant")
    shape = (SMALL.layers, SMALL.neurons)

    def ranking(entity: Entity, best: Neuron, second: Neuron | None = None) -> Found:
        scores = np.random.default_rng(0).uniform(0, 1, shape)
        scores[best] = 50.0
        if second is not None:
            scores[second] = 40.0
        return found(entity, scores, range(SMALL.layers))

    right = [ranking(e, e.cell) for e in cells if e.cell]
    assert [f.rank for f in right] == [1] * 17 and all(40 < f.dominance < 60 for f in right)
    score = score_ranking("m", right, truth)
    assert (score.recall, score.precision, score.wrong) == (1.0, 1.0, 0)
    fooled = [ranking(e, (decoy.layer, decoy.neuron), e.cell) for e in truth.entities]
    score = score_ranking("m", fooled, truth)
    assert (score.first, score.candidates, score.wrong, score.shared) == (0, 17, 20, 20)
    assert score.winners == {"constant": 20} and score.claimed_without == 3 and score.precision == 0
