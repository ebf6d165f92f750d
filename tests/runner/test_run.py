"""A whole run, from the command line to the folder: what is written, what is reused, what depends on the seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest

from runner.store import load, read_ranking
from specs.language.results import Results
from tests.runner.conftest import Answer

Command = Callable[..., Answer]
WriteSpec = Callable[..., Path]


def run_folder(workplace: Path) -> Path:
    (folder,) = (workplace / "runs").glob("tiny-*")
    return folder


def figures(results: Results) -> dict[str, Any]:
    """Everything that was found, without times, places and versions."""
    document: dict[str, Any] = results.model_dump()
    for name in ("started", "seconds", "provenance", "stages", "spec", "hash", "self_tests", "cell", "name"):
        del document[name]
    return document


@pytest.fixture
def finished(command: Command, spec_file: Path, workplace: Path) -> Path:
    """The folder of a run."""
    answer = command(spec_file, "--no-track")
    assert answer.code == 0, answer.all
    return run_folder(workplace)


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Remember every engine that is made."""
    made: list[str] = []
    import runner.execute as execute

    class Watched(execute.Engine):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            made.append("engine")
            super().__init__(*arguments, **more)

    monkeypatch.setattr(execute, "Engine", Watched)
    return made


def test_a_run_writes_its_whole_folder_and_nothing_else(finished: Path, workplace: Path) -> None:
    files = {str(p.relative_to(finished)) for p in finished.rglob("*") if p.is_file()}
    assert files == {
        "spec.yaml",
        "plan.txt",
        "results.json",
        "results.parquet",
        "rankings/cell.npz",
        "neurons/cell.json",
        "provenance.json",
        "report.html",
    }
    assert {p.name for p in workplace.iterdir()} == {"spec.yaml", "runs"}


def test_the_document_is_complete_and_valid(finished: Path) -> None:
    results = load(finished)
    assert results.status == "complete" and results.reason == ""
    assert results.answer
    assert all(t.passed for t in results.self_tests) and len(results.self_tests) >= 5
    assert [s.name for s in results.stages] == ["cell", "amnesia", "injection"]
    assert not any(s.reused for s in results.stages)
    assert results.hash.startswith(finished.name.removeprefix("tiny-"))
    assert results.provenance and results.left_out == []


def test_provenance_names_versions_files_seed_and_device(finished: Path) -> None:
    provenance = json.loads((finished / "provenance.json").read_text())
    text = json.dumps(provenance)
    for word in ("torch", "transformers", "nnsight", "model.safetensors", "seed", "cpu", "tokenizer"):
        assert word in text, word


def test_the_long_table_has_a_row_for_every_question_under_every_condition(finished: Path) -> None:
    rows = parquet.read_table(finished / "results.parquet").to_pylist()

    def count(**fields: object) -> int:
        return sum(all(row[k] == v for k, v in fields.items()) for row in rows)

    n_owners, n_questions, n_scales, n_strangers = 2, 2, 3, 2
    amnesia = {"intervention": "amnesia"}
    assert count(**amnesia, condition="edit", role="target") == n_owners * n_questions * n_scales
    assert count(**amnesia, condition="edit", role="others") == n_owners * n_questions * n_scales
    assert count(**amnesia, condition="edit", role="unknown") == n_owners * n_questions * n_scales * n_strangers
    assert count(**amnesia, condition="wrong_cell", role="target") == n_owners * n_questions * n_scales
    assert count(**amnesia, condition="random_neurons", role="target") == n_owners * n_questions * n_scales * 5
    assert count(**amnesia, condition="clean", role="target") == n_owners * n_questions
    assert count(**amnesia, condition="clean", role="others") == n_owners * n_questions
    assert count(**amnesia, condition="clean", role="unknown") == n_owners * n_questions * n_strangers
    assert count(**amnesia, condition="no_edit") == 0
    n_doses, n_names = 2, 2
    injection = {"intervention": "injection"}
    assert count(**injection, condition="clean") == n_owners * n_questions
    assert count(**injection, condition="no_edit") == n_owners * n_questions * n_names
    assert count(**injection, condition="edit") == n_owners * n_questions * n_names * n_doses
    assert count(**injection, condition="wrong_cell") == n_owners * n_questions * n_names * n_doses
    assert count(**injection, condition="random_neurons") == n_owners * n_questions * n_names * n_doses * 2
    assert len(rows) == count(**amnesia) + count(**injection)


def test_a_factor_of_one_changes_nothing_and_the_clean_run_is_the_same_under_every_owner(finished: Path) -> None:
    rows = parquet.read_table(finished / "results.parquet").to_pylist()
    amnesia = [r for r in rows if r["intervention"] == "amnesia"]
    key = ("edited", "role", "relation", "prompt")
    clean = {tuple(r[k] for k in key): r["answer_probability"] for r in amnesia if r["condition"] == "clean"}
    same = [r for r in amnesia if r["condition"] in ("edit", "random_neurons", "wrong_cell") and r["scale"] == 1]
    assert len(same) > 20
    for row in same:
        assert row["answer_probability"] == pytest.approx(clean[tuple(row[k] for k in key)], rel=1e-5)
    moved = [r for r in amnesia if r["condition"] == "edit" and r["scale"] == -3 and r["role"] == "target"]
    assert any(r["answer_probability"] != pytest.approx(clean[tuple(r[k] for k in key)], rel=1e-3) for r in moved)


def test_means_of_the_document_are_means_of_the_table(finished: Path) -> None:
    rows = parquet.read_table(finished / "results.parquet").to_pylist()
    results = load(finished)
    checked = 0
    for summary in results.interventions["amnesia"].summaries:
        if summary.measure != "answer_probability" or summary.edited != "trump" or summary.relation is not None:
            continue
        values = [
            r["answer_probability"]
            for r in rows
            if (r["intervention"], r["edited"], r["condition"], r["role"])
            == ("amnesia", "trump", summary.condition, summary.role)
            and all(r[k] == v for k, v in summary.axes.items())
        ]
        assert summary.mean == pytest.approx(np.mean(values))
        assert summary.low is None or summary.low <= summary.mean <= (summary.high or 0)
        checked += 1
    assert checked >= 10


def test_the_whole_ranking_is_kept_and_its_best_is_the_cell(finished: Path) -> None:
    results = load(finished)
    arrays = read_ranking(finished, "cell")
    for owner, group in results.rankings["cell"].groups.items():
        score = arrays[f"{owner}/score"]
        assert score.shape == (3, 48)
        layer, neuron = np.unravel_index(int(score.argmax()), score.shape)
        assert group.neurons[0].address == f"L{layer}.N{neuron}"
        assert results.interventions["amnesia"].neurons[owner] == [group.neurons[0].address]
        assert len(group.values[group.neurons[0].address]) == len(group.prompts) == 8


def test_a_second_run_computes_nothing_loads_no_weights_and_says_so(
    command: Command, spec_file: Path, finished: Path, workplace: Path, no_weights: list[str]
) -> None:
    first = load(finished)
    answer = command(spec_file, "--no-track")
    assert answer.code == 0 and no_weights == []
    assert "reused from earlier runs: cell, amnesia, injection" in answer.out
    assert "0 tokens run" in answer.out
    second = load(run_folder(workplace))
    assert all(s.reused for s in second.stages)
    assert figures(first) == figures(second)


def test_a_changed_fact_asks_its_own_questions_again_and_lists_them(
    command: Command, write_spec: WriteSpec, workplace: Path, no_weights: list[str]
) -> None:
    command(write_spec(), "--no-track", "--out", "first")
    spec = write_spec(("trump: Melania", "trump: Ivana"))
    answer = command(spec, "--no-track", "--out", "second")
    (folder,) = (workplace / "second").glob("tiny-*")
    stages = {s.name: s for s in load(folder).stages}
    assert [name for name, s in stages.items() if s.reused] == ["cell"] and stages["cell"].run_tokens == 0
    wife = "Fact: the name of the wife of {}:"
    strangers = [wife.format("Ada Lovelace"), wife.format("Byron")]
    # Asked of him, of the strangers in his place (their answers are his), and of nobody else.
    assert sorted(stages["amnesia"].recomputed) == sorted([wife.format("Donald Trump"), *strangers])
    again = stages["injection"].recomputed
    assert {wife.format("Donald Trump"), *strangers} <= set(again)
    assert all(text.startswith(wife[:20]) and "Obama" not in text for text in again)
    for name in ("amnesia", "injection"):
        assert 0 < (stages[name].run_tokens or 0) < 0.7 * stages[name].distinct_tokens
    assert "run again" in answer.out and wife.format("Donald Trump") in " ".join(answer.out.split())
    assert next(s for s in load(folder).self_tests if s.name == "packing").passed

    # What was put together from old and new is what a run without a cache gives.
    fresh = command(spec, "--no-track", "--out", "third", cache="empty")
    assert fresh.code == 0, fresh.all
    (whole,) = (workplace / "third").glob("tiny-*")
    mine, theirs = (parquet.read_table(f / "results.parquet").to_pylist() for f in (folder, whole))
    assert len(mine) == len(theirs)
    for row, other in zip(mine, theirs, strict=True):
        for name, value in row.items():
            assert value == (pytest.approx(other[name], rel=1e-5) if isinstance(value, float) else other[name]), name


def test_an_interrupted_intervention_keeps_the_questions_that_were_finished(
    command: Command, spec_file: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import runner.execute as execute
    from runner.program import Limits

    monkeypatch.setattr("runner.budget.default_limits", lambda *_: Limits(64, 64, 1))
    whole = execute.Engine._run_pass
    passes = []

    def stopping(self: Any, job: Any, *arguments: Any) -> Any:
        if job.sequences[0].score:  # of an intervention
            passes.append(1)
            if len(passes) == 12:
                raise KeyboardInterrupt
        return whole(self, job, *arguments)

    monkeypatch.setattr(execute.Engine, "_run_pass", stopping)
    assert command(spec_file, "--no-track").code == 130
    passes[:] = [1] * 20
    assert command(spec_file, "--no-track").code == 0
    stages = {s.name: s for s in load(run_folder(workplace)).stages}
    again = stages["amnesia"].recomputed
    assert 0 < len(again) < 8


def test_memory_given_changes_time_and_no_result(command: Command, spec_file: Path, workplace: Path) -> None:
    """Rounded to four digits every number of the document is the same; too little memory is refused."""
    found = []
    for memory in ("40MB", "200MB", "3GB"):
        answer = command(spec_file, "--no-track", "--out", memory, "--memory", memory, cache=memory)
        assert answer.code == 0, answer.all
        (folder,) = (workplace / memory).glob("tiny-*")
        results = load(folder)
        found.append(rounded(figures(results)))
        stage = results.stages[0]
        assert stage.used_bytes is not None and stage.estimated_bytes is not None
        assert stage.used_bytes <= stage.estimated_bytes
    assert found[0] == found[1] == found[2]
    for wrong, code, words in [("1MB", 4, "too little memory"), ("much", 2, "no size of memory")]:
        answer = command(spec_file, "--no-track", "--memory", wrong)
        assert answer.code == code and words in answer.all, answer.all


def rounded(found: Any) -> Any:
    """Round every float of a document to four significant digits."""
    if isinstance(found, float):
        return float(f"{found:.4g}")
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    return [rounded(value) for value in found] if isinstance(found, list | tuple) else found


def test_a_renamed_spec_and_another_comment_compute_nothing(
    command: Command, write_spec: WriteSpec, finished: Path, no_weights: list[str]
) -> None:
    answer = command(write_spec(("name: tiny", "name: other # a comment")), "--no-track", "--json")
    assert json.loads(answer.out)["reused"] == ["cell", "amnesia", "injection"]
    assert no_weights == []


def test_only_runs_what_is_asked_for_and_what_it_needs(command: Command, spec_file: Path, workplace: Path) -> None:
    answer = command(spec_file, "--no-track", "--json", "--only", "amnesia")
    assert answer.code == 0, answer.err
    results = load(run_folder(workplace))
    assert list(results.rankings) == ["cell"] and list(results.interventions) == ["amnesia"]


def test_a_set_field_makes_a_run_of_its_own_and_is_recorded(
    command: Command, spec_file: Path, finished: Path, workplace: Path
) -> None:
    answer = command(spec_file, "--no-track", "--set", "interventions.amnesia.edit.scale=[0, 2]")
    assert answer.code == 0, answer.err
    (other,) = set((workplace / "runs").glob("tiny-*")) - {finished}
    assert load(other).interventions["amnesia"].axes == {"scale": [0, 2]}
    assert "interventions.amnesia.edit.scale=[0, 2]" in (other / "provenance.json").read_text()


def test_a_matrix_makes_a_folder_for_every_combination(
    command: Command, write_spec: WriteSpec, workplace: Path, tiny_checkpoint: Path
) -> None:
    spec = write_spec(
        (f"model: {tiny_checkpoint}", f"model: {{id: {tiny_checkpoint}}}"),
        more="matrix: {model.dtype: [float32, bfloat16]}\n",
    )
    answer = command(spec, "--no-track", "--json", "--only", "amnesia")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert [f["model"]["dtype"] for f in found] == ["float32", "bfloat16"]
    assert len({f["hash"] for f in found}) == 2
    results = [load(Path(f["paths"]["folder"])) for f in found]
    assert all("dtype" in r.cell for r in results)
    scores = [r.rankings["cell"].groups["trump"].neurons[0].score for r in results]
    assert scores[0] == pytest.approx(scores[1], rel=0.3) and scores[0] != scores[1]


def test_the_same_seed_gives_the_same_numbers_and_another_seed_other_placebos(
    command: Command, write_spec: WriteSpec, workplace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = []
    for number, seed in enumerate([0, 0, 1]):
        # A cache of its own, so that every number is computed.
        monkeypatch.setenv("RUN_SPEC_CACHE", str(tmp_path / f"cache{number}"))
        out = workplace / f"out{number}"
        answer = command(write_spec(more=f"seed: {seed}\n"), "--no-track", "--out", out, "--only", "amnesia")
        assert answer.code == 0, answer.err
        (folder,) = out.glob("tiny-*")
        found.append(load(folder))
    first, again, other = found
    assert figures(first) == figures(again)
    assert first.rankings == other.rankings
    assert first.interventions["amnesia"].random_neurons != other.interventions["amnesia"].random_neurons


def test_claims_are_met_not_met_or_not_applicable(
    command: Command, write_spec: WriteSpec, finished: Path, tiny_checkpoint: Path
) -> None:
    cell = load(finished).rankings["cell"].groups["trump"].neurons[0].address
    claims = f"""
expect:
  - claims:
      - cell/trump = {cell}
      - cell/trump != {cell}
      - amnesia/trump/answer_probability/scale=1 >= 0
  - source: somebody
    when: model = Qwen/Qwen2.5-7B
    claims: [cell/trump = L1.N7]
"""
    answer = command(write_spec(more=claims), "--no-track", "--json")
    assert answer.code == 0, answer.err
    outcomes = [c["outcome"] for c in json.loads(answer.out)["claims"]]
    assert outcomes == ["met", "not met", "met", "not applicable"]


def test_the_json_summary_says_what_the_document_says(
    command: Command, spec_file: Path, finished: Path, workplace: Path
) -> None:
    answer = command(spec_file, "--no-track", "--json")
    assert answer.err == ""
    found = json.loads(answer.out)
    results = load(finished)
    best = results.rankings["cell"].groups["obama"].neurons[0]
    assert found["cells"]["cell"]["obama"] == {
        "neuron": best.address,
        "dominance": best.dominance,
        "score": best.score,
    }
    assert found["answer"] == results.answer and found["status"] == "complete"
    assert Path(found["paths"]["folder"]) == Path("runs") / finished.name
    assert Path(found["paths"]["report"]).exists()


def test_nothing_but_the_summary_is_printed_where_nobody_watches(command: Command, spec_file: Path) -> None:
    answer = command(spec_file, "--no-track")
    assert answer.err == ""
    assert "\x1b" not in answer.out and "\r" not in answer.out


def test_a_question_that_is_not_known_is_left_out_with_its_reason(
    command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    spec = write_spec((", known: any", ""))
    answer = command(spec, "--no-track", "--only", "amnesia")
    assert answer.code == 0, answer.all
    results = load(run_folder(workplace))
    amnesia = results.interventions["amnesia"]
    assert amnesia.n_known < amnesia.n_asked
    assert len(results.left_out) >= amnesia.n_asked - amnesia.n_known
    assert all(item.reason and item.where for item in results.left_out)


def test_a_run_of_which_no_prompt_can_be_bound_stops_with_the_reason(
    command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    spec = write_spec(
        ("trump: Donald Trump, obama: Barack Obama", "trump: Donald Tru, obama: Barack Tru"),
        ("{{ entity }}:", "{{ entity }}mp:"),
    )
    answer = command("validate", "--deep", spec)
    assert answer.code == 2 and "no question is left to ask" in answer.err
    assert "'Donald Tru' is not found in tokens of its own: 'Donald Trump' holds it" in answer.err
    answer = command(spec, "--no-track")
    assert answer.code in (2, 4) and "Traceback" not in answer.all
    assert "no question is left to ask" in answer.err
