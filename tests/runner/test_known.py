"""Only what the clean model answers is ranked on: judged by plain runs, listed, counted, and asked once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.store import load
from specs.language.results import Results
from tests.oracle import run_alone
from tests.runner.conftest import Answer

Command = Callable[..., Answer]
WriteSpec = Callable[..., Path]
PEOPLE = {"trump": "Donald Trump", "obama": "Barack Obama", "ada": "Ada Lovelace", "byron": "Byron", "fact": "Melania"}
ANSWERS = {
    "wife": dict(zip(PEOPLE, ["Melania", "Michelle", "mother", "age", "voice"], strict=True)),
    "home": dict(zip(PEOPLE, ["Florida", "Chicago", "the city", "the house", "somebody"], strict=True)),
}
WORDS = {"wife": "Fact: the name of the wife of", "home": "Fact: the home of"}


def relation(name: str) -> str:
    return f'  {name}:\n    prompt: "{WORDS[name]} {{{{ entity }}}}:"\n    answers: {json.dumps(ANSWERS[name])}\n'


def changes(rule: str, sets: str = "") -> tuple[tuple[str, str], ...]:
    return (
        ("entities: {trump: Donald Trump, obama: Barack Obama}", f"entities: {json.dumps(PEOPLE)}"),
        (
            'relations:\n  wife:\n    prompt: "Fact: the name of the wife of {{ entity }}:"\n'
            '    answers: {trump: Melania, obama: Michelle}\n  home:\n    prompt: "Fact: the home of {{ entity }}:"\n'
            "    answers: {trump: Florida, obama: Chicago}\n",
            "relations:\n" + relation("wife") + relation("home"),
        ),
        (
            "  questions: {relations: all, known: any}\n",
            "  questions: {relations: all, known: any, split: {into: {test: 1, rest: rest}, per: relation}}\n"
            f"  ranked: {{of: questions/rest, known: {rule}}}\n{sets}",
        ),
        (
            "  cell: {metric: stability, prompts: names, against: neutral}\n",
            "  cell: {metric: gradient_x_activation, objective: answer_probability, prompts: ranked,\n"
            "    by: relation, position: last}\n",
        ),
    )


def ran(command: Command, write_spec: WriteSpec, workplace: Path, rule: str, sets: str = "", ask: str = "") -> Results:
    more = (
        ("  injection:\n", "  unused:\n"),
        ("    ask: questions\n    unknown: nobody\n", f"    ask: {ask or 'questions/test'}\n    unknown: nobody\n"),
        ("edit: {scale: [1, -1, -3], neurons: cell}", "edit: {scale: -1, neurons: cell}"),
    )
    answer = command(
        write_spec(*changes(rule, sets), *more, more="only: [amnesia]\n"),
        *("--no-track", "--set", "model.dtype=float32"),
    )
    assert answer.code == 0, answer.all
    (folder,) = (workplace / "runs").glob("tiny-*")
    return load(folder)


@pytest.fixture
def worst_ranks(tiny_checkpoint: Path) -> dict[tuple[str, str], int]:
    """(relation, entity): the worst rank along the answer's tokens, from the model by itself."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_checkpoint).eval()
    found = {}
    for name, answers in ANSWERS.items():
        for entity, answer in answers.items():
            prompt = tokenizer(f"{WORDS[name]} {PEOPLE[entity]}:")["input_ids"]
            whole = tokenizer(f"{WORDS[name]} {PEOPLE[entity]}: {answer}")["input_ids"]
            _, logits = run_alone(model, whole, [])
            ranks = [
                1 + int((np.asarray(logits[p - 1]) > float(logits[p - 1][whole[p]])).sum())
                for p in range(len(prompt), len(whole))
            ]
            found[name, entity] = max(ranks)
    return found


def test_the_model_ranks_on_what_it_answers_and_lists_the_rest(
    command: Command, write_spec: WriteSpec, workplace: Path, worst_ranks: dict[tuple[str, str], int]
) -> None:
    cut = sorted(worst_ranks.values())[len(worst_ranks) // 2]
    results = ran(command, write_spec, workplace, f"pass@{cut}")
    dropped = {tuple(item.what.split(",")[0].split("/")) for item in results.left_out if item.where == "prompts.ranked"}
    counts = {c.relation: c for c in results.prompt_sets["ranked"].relations}
    assert results.prompt_sets["ranked"].of == "questions/rest"
    assert [c.parts for c in results.prompt_sets["questions"].relations] == [{"rest": 4, "test": 1}] * 2
    for name in ANSWERS:
        kept_count = counts[name].known
        assert counts[name].prompts == 4 and kept_count == 4 - sum(r == name for r, _ in dropped)
        group = results.rankings["cell"].groups[name]
        assert group.n_prompts == kept_count
        kept = {entity for entity, shown in PEOPLE.items() if any(f" {shown}:" in p for p in group.prompts)}
        assert all(worst_ranks[name, entity] <= cut for entity in kept)
    assert all(worst_ranks[place] > cut for place in dropped)  # type: ignore[index]
    assert dropped and sum(c.known or 0 for c in counts.values()), "both must happen, or nothing is shown"
    (stage,) = [s for s in results.stages if s.name == "known: ranked"]
    assert stage.prompts == 8 and stage.run_tokens == stage.distinct_tokens


def test_a_relation_of_which_nothing_is_known_has_no_ranking_and_that_is_said(
    command: Command, write_spec: WriteSpec, workplace: Path, worst_ranks: dict[tuple[str, str], int]
) -> None:
    best = {name: min(rank for (r, _), rank in worst_ranks.items() if r == name) for name in ANSWERS}
    (worse, better) = sorted(best, key=lambda name: -best[name])
    results = ran(command, write_spec, workplace, f"pass@{best[worse] - 1}")
    assert list(results.rankings["cell"].groups) == [better]
    (item,) = [item for item in results.left_out if item.where == "interventions.amnesia" and item.what == worse]
    assert item.reason == "it was not ranked: the clean model knows too few of its prompts"
    assert results.interventions["amnesia"].owners == [better]


def test_sets_with_different_rules_are_asked_together(
    command: Command, write_spec: WriteSpec, workplace: Path, worst_ranks: dict[tuple[str, str], int]
) -> None:
    cut = sorted(worst_ranks.values())[len(worst_ranks) // 2]
    results = ran(command, write_spec, workplace, f"pass@{cut}", ask="[questions/test, ranked]")
    done = results.interventions["amnesia"]
    assert done.known_rule == f"questions/test: any, ranked: pass@{cut} = 1"
    known = sum(c.known or 0 for c in results.prompt_sets["ranked"].relations)
    assert (done.n_asked, done.n_known) == (10, 2 + known)
