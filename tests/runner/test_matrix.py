"""A matrix as a whole: its runs side by side, what was compared across them, and its page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reports.matrix import load_matrix
from runner.analyses.across import agreement_across
from runner.store import load, read_ranking
from specs.language.errors import RunError
from specs.language.experiment import Analysis
from specs.language.results import MatrixCell, RankedNeuron, Ranking, RankingGroup
from tests.reports.synthetic_results import model_facts
from tests.runner.conftest import Answer

Command = Callable[..., Answer]
CELL = "cell: {metric: stability, prompts: names, against: neutral}"
RIVALS = """
matrix:
  localize.cell:
    - {metric: stability, prompts: names, against: neutral}
    - {metric: mean_activation, prompts: names}
    - {metric: gradient_x_activation, prompts: facts, objective: answer_logit, position: entity.last, by: entity}
    - {metric: random, prompts: names}
analyses:
  same_cell: {agreement: cell, across: localize.cell}
expect:
  - same_cell/of = 6
  - same_cell/random/same <= 2
  - amnesia/trump/answer_probability/scale=-3 >= 0
"""


@pytest.fixture
def rivals(command: Command, write_spec: Callable[..., Path], workplace: Path) -> Path:
    """The folder of a matrix of four rankings."""
    spec = write_spec(more=RIVALS)
    answer = command(spec, "--no-track", "--only", "amnesia", "--only", "same_cell")
    assert answer.code == 0, answer.all
    assert "all runs of the matrix" in answer.out and "same_cell: The same winner as stability" in answer.out
    (folder,) = (workplace / "runs").glob("tiny-matrix-*")
    return folder


def test_rival_rankings_are_compared_and_their_cells_silenced(rivals: Path, workplace: Path, command: Command) -> None:
    matrix = load_matrix(rivals)
    assert matrix.status == "complete" and len(matrix.cells) == 4
    metrics = ["stability", "mean_activation", "gradient_x_activation", "random"]
    assert matrix.axes == {"localize.cell": metrics}
    found = matrix.analyses["same_cell"]
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [(r["owner"], r["localize.cell"]) for r in rows] == [
        (owner, metric) for owner in ("Donald Trump", "Barack Obama") for metric in metrics[1:]
    ]
    folders = {cell.axes["localize.cell"]: rivals.parent / cell.folder for cell in matrix.cells}
    keys = {"Donald Trump": "trump", "Barack Obama": "obama"}
    for row in rows:
        owner = keys[row["owner"]]
        reference = load(folders["stability"]).rankings["cell"].groups[owner].neurons[0]
        score = read_ranking(folders[row["localize.cell"]], "cell")[f"{owner}/score"]
        own = score[reference.layer, reference.neuron]
        assert row["reference"] == reference.address
        assert row["rank of reference"] == int((score > own).sum()) + 1
        assert row["relative score"] == pytest.approx(own / score.max())
        layer, neuron = np.unravel_index(score.argmax(), score.shape)
        assert row["winner"] == f"L{layer}.N{neuron}" and row["same"] == (row["winner"] == reference.address)
        assert row["depth"] == pytest.approx((layer + 0.5) / 3)
    assert found.figures["same"] == sum(bool(r["same"]) for r in rows) and found.figures["of"] == 6
    for cell in matrix.cells:
        results = load(rivals.parent / cell.folder)
        assert cell.answer == results.answer and cell.hash == results.hash
        for effect in cell.effects:
            assert effect.intervention == "amnesia" and effect.axes == {"scale": -3}
            assert effect.neurons == results.interventions["amnesia"].neurons[effect.edited]
            assert effect.target in results.interventions["amnesia"].summaries
        assert [c.outcome for c in results.claims] == ["not applicable", "not applicable", "met"]
        assert "page of the matrix" in results.claims[0].reason
        assert not results.analyses
    assert [c.outcome for c in matrix.claims] == ["met", "met"]

    page = (rivals / "report.html").read_text()
    for cell in matrix.cells:
        assert f'href="../{cell.folder}/report.html"' in page
        assert (rivals / ".." / cell.folder / "report.html").is_file()
    assert page.count("<b>random neurons</b>") == page.count("<b>target</b>") == 1
    assert "<b>texts about nobody</b>" not in page
    for words in ("Runs", "Effects", "The winner of stability in the other runs", "best of cell", "Claims"):
        assert words in page, words
    (rivals / "report.html").unlink()
    assert command("report", rivals).code == 0 and (rivals / "report.html").read_text() == page


def test_the_same_matrix_has_the_same_folder_and_a_longer_one_another(
    rivals: Path, command: Command, write_spec: Callable[..., Path], workplace: Path
) -> None:
    answer = command("spec.yaml", "--no-track", "--json", "--only", "amnesia", "--only", "same_cell")
    paths = {cell["paths"]["matrix"] for cell in json.loads(answer.out)}
    assert paths == {str(Path("runs") / rivals.name)}
    assert json.loads(answer.out)[0]["reused"] == ["cell", "amnesia"]
    spec = write_spec(more=RIVALS.replace("    - {metric: random, prompts: names}\n", ""))
    command(spec, "--no-track", "--only", "same_cell")
    assert len(list((workplace / "runs").glob("tiny-matrix-*"))) == 2


def test_a_run_that_fails_is_in_the_comparison_with_its_reason(
    command: Command, write_spec: Callable[..., Path], workplace: Path
) -> None:
    few = "    - {metric: stability, prompts: names, against: neutral}\n    - {metric: z_score, prompts: one}\n"
    spec = write_spec(
        ("prompts:\n", 'prompts:\n  one: {templates: ["The age of {{ entity }}"]}\n'),
        more="matrix:\n  localize.cell:\n" + few + "analyses: {same_cell: {agreement: cell, across: localize.cell}}\n",
    )
    answer = command(spec, "--no-track", "--only", "same_cell")
    assert answer.code == 4 and "z_score needs 8" in answer.all
    (folder,) = (workplace / "runs").glob("tiny-matrix-*")
    matrix = load_matrix(folder)
    assert matrix.status == "partial" and [cell.status for cell in matrix.cells] == ["complete", "failed"]
    assert "z_score needs 8" in matrix.cells[1].reason and "z_score" in matrix.answer
    assert "has no two finished runs along localize.cell" in matrix.analyses["same_cell"].sentence
    assert "Partial run" in (folder / "report.html").read_text()


def test_mlflow_shows_the_comparison_as_the_parent_of_its_runs(
    command: Command, write_spec: Callable[..., Path], workplace: Path
) -> None:
    from mlflow.tracking import MlflowClient

    spec = write_spec(more=RIVALS)
    for _ in range(2):
        answer = command(spec, "--only", "amnesia", "--only", "same_cell")
        assert answer.code == 0, answer.all
    client = MlflowClient(tracking_uri=f"sqlite:///{workplace / 'runs' / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("run-spec")
    (whole,) = client.search_runs([experiment.experiment_id], "tags.kind = 'matrix'")
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'spec'")
    assert len(runs) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {whole.info.run_id}
    assert whole.data.metrics["same_cell/of"] == 6 and "specific/stability" in whole.data.metrics
    names = {file.path for file in client.list_artifacts(whole.info.run_id)}
    assert {"report.html", "matrix.json"} <= names


def test_where_nothing_is_known_the_comparison_says_so(
    command: Command, write_spec: Callable[..., Path], workplace: Path
) -> None:
    spec = write_spec(("known: any}", "known: pass@1}"), more="matrix: {seed: [0, 1]}\n")
    answer = command(spec, "--no-track", "--only", "amnesia")
    assert answer.code == 0, answer.all
    (folder,) = (workplace / "runs").glob("tiny-matrix-*")
    assert load_matrix(folder).answer == "Amnesia has no figure in any run (the clean model knows 0 of 4 answers)."


# -- agreement across an axis, on records


def record(axes: dict[str, str], winners: dict[str, str], **shape: object) -> MatrixCell:
    groups = {}
    for key, address in winners.items():
        layer, neuron = (int(part[1:]) for part in address.split("."))
        best = RankedNeuron(
            rank=1, address=address, site="mlp.neurons", layer=layer, neuron=neuron, score=4.0, dominance=3.0
        )
        groups[key] = RankingGroup(key=key, label=key, n_prompts=8, n_candidates=9, neurons=[best], chosen=[address])
    ranking = Ranking(
        name="cell",
        metric="stability",
        site="mlp.neurons",
        position="entity.last",
        by=["entity"],
        prompts="p",
        groups=groups,
    )
    model = model_facts().model_copy(update={"n_layers": 4, **shape})
    label = ", ".join(f"{axis}={value}" for axis, value in axes.items())
    return MatrixCell(
        label=label, axes=axes, hash=label, folder=label, status="complete", model=model, rankings={"cell": ranking}
    )


def stored(cell: MatrixCell, ranking: str, owner: str, neuron: RankedNeuron) -> tuple[int, float]:
    return (1, 4.0) if cell.rankings[ranking].groups[owner].neurons[0].address == neuron.address else (7, 1.0)


AXES = {"model": ["a", "b", "other"], "seed": ["0", "1"]}
CELLS = [
    record({"model": "a", "seed": "0"}, {"x": "L1.N1", "y": "L2.N2"}),
    record({"model": "a", "seed": "1"}, {"x": "L3.N3"}),
    record({"model": "b", "seed": "0"}, {"x": "L1.N1", "y": "L0.N2"}),
    record({"model": "b", "seed": "1"}, {"x": "L3.N3"}),
    record({"model": "other", "seed": "0"}, {"x": "L1.N1"}, d_mlp=99),
]


def test_runs_are_compared_that_differ_in_the_axis_alone() -> None:
    found = agreement_across("same", Analysis(agreement="cell", across="model"), CELLS, AXES, stored)
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [(r["owner"], r["seed"], r["model"], r["same"], r["rank of reference"]) for r in rows] == [
        ("x", "0", "b", True, 1),
        ("x", "0", "other", None, None),
        ("y", "0", "b", False, 7),
        ("x", "1", "b", True, 1),
    ]
    assert rows[2]["relative score"] == 0.25 and rows[1]["depth"] == 1.5 / 4
    assert found.figures == {
        "same": 2,
        "of": 3,
        "b/same": 2,
        "b/of": 3,
        "relative_score": pytest.approx((1 + 0.25 + 1) / 3),
    }
    assert found.sentence == (
        "The same winner as a, the first run along model, is found by b for 2 of 3 owners. other has another shape or "
        "family, and no neuron in common with it: only depths can be compared."
    )


def test_where_the_first_run_failed_the_run_compared_with_is_named() -> None:
    three = {"model": ["a", "b", "c"]}
    failed = CELLS[0].model_copy(update={"axes": {"model": "a"}, "status": "failed", "rankings": {}})
    cells = [failed, *(record({"model": m}, {"x": "L1.N1"}) for m in "bc")]
    found = agreement_across("same", Analysis(agreement="cell", across="model"), cells, three, stored)
    (row,) = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert (row["model"], row["compared with"], row["reference"]) == ("c", "b", "L1.N1")
    assert found.sentence == (
        "The same winner as b, the first run along model that finished (a did not finish), is found by c for 1 of 1 "
        "owners."
    )


def test_where_lines_have_other_first_runs_all_are_named() -> None:
    cells = [cell for cell in CELLS if cell.label != "model=a, seed=1"]
    cells += [record({"model": "other", "seed": "1"}, {"x": "L3.N3"})]
    found = agreement_across("same", Analysis(agreement="cell", across="model"), cells, AXES, stored)
    compared = found.columns.index("compared with")
    assert [(row[1], row[compared]) for row in found.rows] == [("0", "a"), ("0", "a"), ("0", "a"), ("1", "b")]
    assert "as a or b, the first run along model that finished (which it is, depends on what finished)," in (
        found.sentence
    )


def test_one_owner_can_be_asked_for_and_one_run_is_not_enough() -> None:
    found = agreement_across("same", Analysis(agreement="cell/y", across="model"), CELLS, AXES, stored)
    assert [row[0] for row in found.rows] == ["y"]
    with pytest.raises(RunError, match="no two finished runs along model"):
        agreement_across("same", Analysis(agreement="cell", across="model"), CELLS[:1], AXES, stored)
