"""Texts about nobody beside questions: planned, edited at every token, measured, and read in results."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest

from runner.claims import look_up
from runner.plan import Condition
from runner.store import load
from tests.oracle import Edit, run_alone
from tests.runner.conftest import Answer

Command = Callable[..., Answer]
WriteSpec = Callable[..., Path]

ASKED = (
    ("    ask: questions\n    unknown: nobody\n", "    ask: [questions, quiet]\n    unknown: nobody\n"),
    (
        "  questions: {relations: all, known: any}\n",
        "  questions: {relations: all, known: any}\n"
        "  quiet: {texts: [The house, The job and the city, Somebody else, The age, The voice, A fact, The name]}\n",
    ),
    (
        "measure: [answer_probability, knowledge_loss, answer_rank]",
        "measure: [answer_probability, perplexity, relative_perplexity, text@3]",
    ),
)
N_TEXTS = 7


@pytest.fixture
def finished(command: Command, write_spec: WriteSpec, workplace: Path) -> Path:
    answer = command(write_spec(*ASKED, more="only: amnesia\n"), "--no-track", "--set", "model.dtype=float32")
    assert answer.code == 0, answer.all
    (folder,) = (workplace / "runs").glob("tiny-*")
    return folder


def tiny(path: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path).eval()


def perplexity(model: Any, ids: list[int], edits: list[Edit], first: int) -> float:
    """By plain hooks: exp of the mean negative log probability of the tokens after ``first``."""
    _, logps = run_alone(model, ids, edits)
    return math.exp(-float(np.mean([float(logps[p - 1, ids[p]]) for p in range(first + 1, len(ids))])))


def test_every_text_is_scored_under_every_condition_as_by_plain_hooks(
    finished: Path, workplace: Path, tiny_checkpoint: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    model = tiny(tiny_checkpoint)
    rows = [r for r in parquet.read_table(finished / "results.parquet").to_pylist() if r["role"] == "texts"]
    done = load(finished).interventions["amnesia"]
    n_owners, n_scales = 2, 3
    counts = {"clean": 1, "edit": n_scales, "wrong_cell": n_scales, "random_neurons": 5 * n_scales}
    for condition, n in counts.items():
        assert sum(r["condition"] == condition for r in rows) == n_owners * N_TEXTS * n, condition
    worst, moved = 0.0, 0.0
    for row in rows:
        owner = row["edited"]
        ids = tokenizer(row["prompt"])["input_ids"]
        first = int(ids[0] in tokenizer.all_special_ids)
        addresses = {
            "clean": [],
            "edit": done.neurons[owner],
            "wrong_cell": done.neurons[done.wrong_owner[owner]],
            "random_neurons": done.random_neurons[owner][row["draw"]],
        }[row["condition"]]
        edits = [
            Edit(*(int(part[1:]) for part in address.split(".")), "scale", row["scale"], p)
            for address in addresses
            for p in range(first, len(ids))
        ]
        expected = perplexity(model, ids, edits, first)
        worst = max(worst, abs(row["perplexity"] / expected - 1))
        clean = perplexity(model, ids, [], first)
        assert row["relative_perplexity"] == pytest.approx(expected / clean, rel=1e-4)
        moved = max(moved, abs(expected / clean - 1))
    assert worst < 1e-4, worst
    assert moved > 1e-2, "the edits must show, or the comparison could not fail"


def test_texts_have_the_measures_of_texts_and_questions_those_of_answers(finished: Path) -> None:
    results = load(finished)
    done = results.interventions["amnesia"]
    assert (done.n_asked, done.n_texts) == (4, N_TEXTS)
    for summary in done.summaries:
        of_text = summary.measure in ("perplexity", "relative_perplexity")
        assert (summary.role == "texts") == of_text, summary
        assert summary.n and (summary.role != "texts" or summary.n == N_TEXTS)
    assert results.left_out == []
    rows = parquet.read_table(finished / "results.parquet").to_pylist()
    assert {r["reasons"][0][1] for r in rows if r["role"] == "texts"} == {"the prompt has no answer"}
    assert {t.role for t in done.texts} == {"target", "others", "texts"}
    report = (finished / "report.html").read_text(encoding="utf-8")
    assert "7 texts without answers; those about nobody are edited at every token" in report
    assert "texts about nobody" in report and "relative perplexity" in report
    assert "perplexity of 7 texts about nobody goes to" in results.answer


def test_a_path_to_a_perplexity_means_the_texts(finished: Path) -> None:
    results = load(finished)
    found = look_up("amnesia/trump/relative_perplexity/scale=-3", results)
    assert (
        found.number is not None
        and found.number == look_up("amnesia/trump/texts/relative_perplexity/scale=-3", results).number
    )
    assert look_up("amnesia/trump/clean/perplexity", results).number is not None
    assert look_up("amnesia/trump/relative_perplexity/scale=1", results).number == pytest.approx(1.0, rel=1e-5)
    assert "was not measured" in look_up("amnesia/trump/target/perplexity/scale=1", results).reason


def test_an_unchanged_text_is_found_in_the_cache_and_named_by_its_text(
    command: Command, write_spec: WriteSpec, finished: Path, workplace: Path
) -> None:
    spec = write_spec(*ASKED, ("A fact, The name]}\n", "A fact, The hearth]}\n"), more="only: amnesia\n")
    assert command(spec, "--no-track", "--set", "model.dtype=float32", "--out", "second").code == 0
    (folder,) = (workplace / "second").glob("tiny-*")
    stages = {s.name: s for s in load(folder).stages}
    assert "The hearth" in stages["amnesia"].recomputed


def test_texts_alone_can_be_asked_of_neurons_of_nobody(
    command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    spec = write_spec(
        *ASKED[1:],
        ("    ask: questions\n    unknown: nobody\n", "    ask: quiet\n"),
        ("edit: {scale: [1, -1, -3], neurons: cell}", "edit: {scale: -3, neurons: [L1.N5], position: all}"),
        ("perplexity, relative_perplexity, text@3", "relative_perplexity"),
        ("answer_probability, relative", "relative"),
        more="only: amnesia\n",
    )
    answer = command(spec, "--no-track")
    assert answer.code == 0, answer.all
    (folder,) = (workplace / "runs").glob("tiny-*")
    results = load(folder)
    done = results.interventions["amnesia"]
    assert (done.n_asked, done.n_texts) == (0, N_TEXTS)
    assert {s.role for s in done.summaries} == {"texts"}
    assert "the perplexity of 7 texts about nobody goes to" in results.answer


def test_a_text_is_edited_at_every_token_and_a_question_at_its_entity(write_spec: WriteSpec) -> None:
    from runner.bind import Binder
    from runner.compile import compile_plan
    from specs.language.load import load as load_spec
    from tests.checkpoint import tiny_tokenizer

    experiment = load_spec(write_spec(*ASKED, more="only: amnesia\n")).cells[0].experiment
    (stage,) = compile_plan(experiment, Binder(tiny_tokenizer("bytes", bos=True)), 3).ask
    for row in stage.rows:
        if row.condition != "edit":
            continue
        i = row.reading.text if row.reading.tokens is None else row.reading.tokens.sequence
        sequence = stage.job.sequences[i if i is not None else row.reading.answers[0].sequence]
        assert isinstance(sequence.condition, Condition)
        (at,) = sequence.edits
        if row.role == "texts":
            # Every token is the beginning of the text, too, as it is for an edit in the weights.
            assert at == tuple(range(len(row.prompt.ids))) and sequence.branch_at == 0
        else:
            assert at == (row.prompt.entity[0][1],)
