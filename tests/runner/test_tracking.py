"""MLflow as a mirror of run folders: what is written there, and what happens when it cannot be."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import tracking
from runner.mirror import metric_key
from runner.store import RunFolder
from runner.tracking import Tracked, artifact_root, mirror, store_uri, ui_command
from specs.language.errors import RunError
from specs.language.results import Results
from tests.runner.sample_results import MEASURES, SWEEP, sample, sample_rows

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 40
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20"><circle r="9" fill="teal"/></svg>'
REPORT = "<!doctype html><meta charset='utf-8'><h1 id='t'>The Donald Trump cell</h1><script>t.dataset.ran = 1</script>"


def run_folder(root: Path, results: Results) -> Path:
    """Write a run folder as a run does."""
    with RunFolder.create(root, results.name, results.hash) as folder:
        folder.write_spec(results.spec)
        folder.write_provenance(results.provenance)
        folder.write("report.html", REPORT)
        with folder.table({"scale": list(SWEEP)}, (*MEASURES, "text@12")) as table:
            table.append(sample_rows(4))
        return folder.finish(results)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with MLflow's tables and nothing in them; making one takes seconds."""
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    with tracking._quiet():
        from mlflow.tracking import MlflowClient

        MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def runs(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for runs with an empty store in the default place."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "runs" / "mlflow").mkdir(parents=True)
    shutil.copy(empty_store, tmp_path / "runs" / "mlflow" / "mlflow.db")
    return tmp_path / "runs"


def mirrored(runs: Path, results: Results, **more: Any) -> Tracked:
    return mirror(run_folder(runs, results), results, **{"tracking_uri": None, **more})


def client_of(runs: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(store_uri(None, runs))


def all_runs(client: Any) -> dict[str, Any]:
    experiment = client.get_experiment_by_name("run-spec")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    return {run.info.run_name: run for run in found}


def table_of(client: Any, run: Any, name: str) -> dict[str, list[Any]]:
    path = Path(client.download_artifacts(run.info.run_id, f"tables/{name}.json"))
    document = json.loads(path.read_text())
    return {column: [row[i] for row in document["data"]] for i, column in enumerate(document["columns"])}


# -- places


def test_the_store_is_the_one_asked_for_else_the_environments_else_beside_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert store_uri(None, tmp_path / "runs") == f"sqlite:///{tmp_path}/runs/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org:5000")
    assert store_uri(None, tmp_path / "runs") == "http://example.org:5000"
    assert store_uri("sqlite:////data/a.db", tmp_path / "runs") == "sqlite:////data/a.db"


@pytest.mark.parametrize(
    "uri, root",
    [
        ("sqlite:////data/x/a.db", "file:///data/x/artifacts"),
        ("sqlite:////data/a%20b/a.db?timeout=3", "file:///data/a%20b/artifacts"),
        ("postgresql://u:p@h/db", "file:///data/runs/mlflow/artifacts"),
        ("http://h:5000", None),
        ("https://h", None),
    ],
)
def test_the_files_of_a_store_have_an_explicit_place(uri: str, root: str | None) -> None:
    assert artifact_root(uri, Path("/data/runs")) == root


# -- what is written


def test_a_run_is_one_parent_with_a_child_for_each_part(runs: Path) -> None:
    tracked = mirrored(runs, sample())
    client = client_of(runs)
    found = all_runs(client)
    parent = found.pop("trump · tiny")
    assert parent.info.run_id == tracked.run_id and not tracked.again
    assert set(found) == {
        "cell: stability",
        "amnesia: negative ablation",
        "injection: injection",
        "same: agreement of cell",
    }
    assert all(run.data.tags["mlflow.parentRunId"] == tracked.run_id for run in found.values())
    assert {run.info.status for run in (parent, *found.values())} == {"FINISHED"}
    assert parent.info.end_time - parent.info.start_time == 41_500
    assert found["cell: stability"].info.start_time > found["same: agreement of cell"].info.start_time
    tags = parent.data.tags
    assert (tags["model"], tags["status"], tags["spec_hash"]) == ("tiny", "complete", "5f2c9e7ab13d4460")
    assert tags["mlflow.source.git.commit"].startswith("01234567")
    assert tags["mlflow.note.content"].startswith("**Question.** Which neuron holds Donald Trump")
    assert found["amnesia: negative ablation"].data.tags["intervention"] == "negative ablation"
    assert parent.data.params["localize.cell.metric"] == "stability"
    assert found["cell: stability"].data.params["metric"] == "stability"


def test_every_point_of_a_sweep_is_in_the_history_of_its_metric(runs: Path) -> None:
    mirrored(runs, sample())
    client = client_of(runs)
    child = all_runs(client)["amnesia: negative ablation"].info.run_id
    history = {m.step: m.value for m in client.get_metric_history(child, "amnesia/obama/others/knowledge_score")}
    wanted = {
        round(s.axes["scale"] * 1000): s.mean
        for s in sample().interventions["amnesia"].summaries
        if (s.edited, s.condition, s.role, s.relation, s.measure)
        == ("obama", "edit", "others", None, "knowledge_score")
    }
    assert len(history) == 21 and history == pytest.approx(wanted)
    factors = {m.step: m.value for m in client.get_metric_history(child, "amnesia/scale")}
    assert factors == {round(v * 1000): v for v in SWEEP}


def test_tables_come_back_with_nulls_as_nulls_and_whole_numbers_whole(runs: Path) -> None:
    mirrored(runs, sample())
    client = client_of(runs)
    found = all_runs(client)
    summaries = table_of(client, found["injection: injection"], "summaries")
    means = [s.mean for s in sample().interventions["injection"].summaries]
    assert summaries["mean"] == pytest.approx(means) and None in means
    assert set(map(type, summaries["n"])) == {int}
    texts = table_of(client, found["injection: injection"], "texts")
    assert texts["text"][1] == " Melania, who <b>was</b> born in" and texts["hit"][:2] == [False, True]
    assert table_of(client, found["cell: stability"], "cells")["address"][0] == "L1.N11948"
    assert table_of(client, found["same: agreement of cell"], "same")["relative score"] == [0.93, None]
    claims = table_of(client, found["trump · tiny"], "claims")
    assert claims["outcome"] == ["met", "not met", "not applicable"]


def test_the_folder_the_report_and_the_figures_are_artifacts(runs: Path) -> None:
    results = sample()
    folder = run_folder(runs, results)
    (folder / ".scratch.tmp").write_text("x")
    (folder / "rankings").mkdir()
    (folder / "rankings" / "cell.npz").write_bytes(b"x")
    figures = {"sweep_amnesia": PNG, "cells_cell": SVG}
    tracked = mirror(folder, results, tracking_uri=None, figures=figures)
    client = client_of(runs)

    def names(run_id: str, folder: str | None = None) -> set[str]:
        return {item.path for item in client.list_artifacts(run_id, folder)}

    assert names(tracked.run_id) == {
        "figures",
        "provenance.json",
        "rankings",
        "report.html",
        "results.json",
        "results.parquet",
        "spec.yaml",
        "tables",
    }
    assert names(tracked.run_id, "figures") == {"figures/cells_cell.svg", "figures/sweep_amnesia.png"}
    assert names(tracked.run_id, "rankings") == {"rankings/cell.npz"}
    child = all_runs(client)["amnesia: negative ablation"].info.run_id
    assert names(child, "figures") == {"figures/sweep_amnesia.png"}
    kept = Path(client.download_artifacts(tracked.run_id, "results.json")).read_bytes()
    assert kept == (folder / "results.json").read_bytes()
    assert (runs / "mlflow" / "artifacts" / tracked.run_id).is_dir()


def test_the_prompts_of_every_part_are_a_dataset(runs: Path) -> None:
    mirrored(runs, sample())
    found = all_runs(client_of(runs))

    def datasets(name: str) -> dict[str, int]:
        inputs = found[name].inputs.dataset_inputs
        return {i.dataset.name: json.loads(i.dataset.profile)["num_rows"] for i in inputs}

    assert datasets("trump · tiny") == {"prompts of cell": 300, "prompts of amnesia": 1}
    assert datasets("cell: stability") == {"prompts of cell": 300}
    assert datasets("amnesia: negative ablation") == {"prompts of amnesia": 1}


def test_a_run_that_found_the_same_is_marked_and_not_shown_twice(runs: Path) -> None:
    first = mirrored(runs, sample())
    again = mirrored(runs, sample().model_copy(update={"started": "2026-05-05T05:05:05+00:00", "seconds": 2.0}))
    thrice = mirrored(runs, sample().model_copy(update={"started": "2026-06-06T06:06:06+00:00"}))
    client = client_of(runs)
    assert again.run_id == thrice.run_id == first.run_id and again.again and thrice.again
    assert len(all_runs(client)) == 5
    assert client.get_run(first.run_id).data.tags["found_again"] == "2×, last 2026-06-06 06:06"
    other = mirrored(runs, sample(level=0.1))
    assert other.run_id != first.run_id and not other.again


def test_every_cell_of_a_matrix_has_a_parent_of_its_own(runs: Path) -> None:
    mirrored(runs, sample(cell="seed=1", hash="a" * 12))
    mirrored(runs, sample(cell="seed=2", hash="b" * 12))
    assert {"trump · seed=1", "trump · seed=2"} <= set(all_runs(client_of(runs)))


@pytest.mark.parametrize("status, shown", [("partial", "KILLED"), ("failed", "FAILED")])
def test_a_run_that_is_not_complete_is_shown_as_such(runs: Path, status: str, shown: str) -> None:
    tracked = mirrored(runs, sample().model_copy(update={"status": status, "reason": "interrupted"}))
    assert client_of(runs).get_run(tracked.run_id).info.status == shown


def test_what_mlflow_has_no_names_for_is_written_under_others(runs: Path) -> None:
    results = sample()
    result = results.interventions["injection"]
    result.summaries = [s.model_copy(update={"edited": "a@b*트럼프"}) for s in result.summaries if s.edited == "*"]
    results.spec = "version: 1\nprompts:\n  x: {templates: [" + ", ".join(["'y'"] * 9000) + "]}\n"
    mirrored(runs, results)
    found = all_runs(client_of(runs))
    assert "injection/a_at_b_트럼프/accuracy_at_2" in found["injection: injection"].data.metrics
    assert "9000 entries" in found["trump · tiny"].data.params["prompts.x.templates"]


@given(st.text(min_size=1))
def test_every_key_is_one_that_mlflow_takes(path: str) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    _validate_metric_name(metric_key(path))
    _validate_param_name(metric_key(path))


# -- what goes wrong


def failure(runs: Path, **more: Any) -> RunError:
    with pytest.raises(RunError) as caught:
        mirrored(runs, sample(), **more)
    assert str(runs / "trump-5f2c9e7ab13d") in caught.value.remedy and "--track" in caught.value.remedy
    return caught.value


def test_a_server_that_is_down_is_noticed_in_seconds_and_the_run_is_kept(runs: Path) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        uri = f"http://somebody:secret@127.0.0.1:{unheard.getsockname()[1]}"
        start = time.monotonic()
        error = failure(runs, tracking_uri=uri)
    assert time.monotonic() - start < 20
    assert "could not be shown in MLflow (http://127.0.0.1" in error.cause
    assert "secret" not in str(error)


def test_a_file_store_is_refused_with_mlflows_reason(runs: Path, tmp_path: Path) -> None:
    assert "could not be shown in MLflow" in failure(runs, tracking_uri=str(tmp_path / "mlruns")).cause


def test_a_store_that_is_no_store_is_refused(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("not a database, but long enough to be taken for one" * 50)
    failure(runs, tracking_uri=f"sqlite:///{tmp_path}/a.db")


def test_a_mirror_that_broke_half_way_leaves_nothing_and_can_be_made_later(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    log_table, seen = MlflowClient.log_table, []

    def full(self: Any, run_id: str, data: Any, name: str) -> None:
        seen.append(name)
        if name.endswith("summaries.json"):
            raise OSError(28, "No space left on device")
        log_table(self, run_id, data, name)

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "log_table", full)
        assert "No space left on device" in failure(runs).cause
    assert len(seen) > 3 and all_runs(client_of(runs)) == {}
    assert not mirrored(runs, sample()).again
    assert len(all_runs(client_of(runs))) == 5


def test_a_figure_that_is_no_picture_is_refused(runs: Path) -> None:
    failure(runs, figures={"x": b"what is this"})


def test_nothing_is_printed_and_no_logger_is_switched_off(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first start is the noisy one: it makes the tables."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logger = logging.getLogger("run_spec.models")
    mirrored(tmp_path / "runs", sample())
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == ""
    assert not logger.disabled


def test_telemetry_is_off_before_mlflow_is_loaded_and_torch_is_not_loaded(runs: Path) -> None:
    folder = run_folder(runs, sample())
    code = f"""
import sys
from pathlib import Path
import runner.tracking as tracking
assert "mlflow" not in sys.modules and "pandas" not in sys.modules
from tests.runner.sample_results import sample
tracking.mirror(Path({str(folder)!r}), sample(), tracking_uri=None)
from mlflow.telemetry.utils import is_telemetry_disabled
assert is_telemetry_disabled()
assert not any(name in sys.modules for name in ("torch", "transformers", "sklearn", "matplotlib"))
"""
    root = Path(tracking.__file__).parents[1]
    environment = {k: v for k, v in os.environ.items() if k not in tracking.SURROUNDINGS and k != "CI"}
    assert subprocess.run([sys.executable, "-c", code], cwd=root, env=environment).returncode == 0


# -- the UI


def test_the_ui_serves_the_store_of_the_runs_and_opens_on_them(runs: Path) -> None:
    tracked = mirrored(runs, sample())
    command = ui_command(None, 5800, runs=runs)
    asked = dict(zip(command.arguments[4::2], command.arguments[5::2], strict=True))
    assert command.arguments[:4] == [sys.executable, "-m", "mlflow", "ui"]
    assert asked["--backend-store-uri"] == store_uri(None, runs)
    assert asked["--default-artifact-root"] == (runs / "mlflow" / "artifacts").as_uri()
    assert asked["--host"] == "127.0.0.1" and asked["--port"] == str(command.port)
    assert command.environment.items() <= {**os.environ, **command.environment}.items()
    page = re.match(r"/#/experiments/\d+/runs", tracked.url)
    assert page and command.url == f"http://127.0.0.1:{command.port}{page[0]}?workflowType=machine_learning"


def test_a_port_in_use_gives_the_next_free_one_and_says_so(runs: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = ui_command(None, port, runs=runs)
    assert command.port > port
    assert command.note == f"something else listens on port {port}; this is {command.port}"


def test_a_port_that_browsers_refuse_is_not_used(runs: Path) -> None:
    command = ui_command(None, 6665, runs=runs)
    assert command.port >= 6670 and command.note.startswith("no browser opens port 6665")


def test_without_a_store_or_with_a_server_there_is_nothing_to_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(RunError, match="there is no MLflow store") as caught:
        ui_command(None, 5000, runs=tmp_path)
    assert "run a spec first" in caught.value.remedy
    with pytest.raises(RunError, match="open http://h:5000 in a browser"):
        ui_command("http://me:secret@h:5000", 5000, runs=tmp_path)


@pytest.mark.real
def test_first_starts_at_the_same_time_make_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runs = tmp_path / "runs"
    code = """
import sys
from pathlib import Path
from runner.tracking import mirror
from tests.runner.sample_results import sample
hash = sys.argv[2]
folder = Path(sys.argv[1]) / f"trump-{hash}"
mirror(folder, sample(hash=hash), tracking_uri=None)
"""
    hashes = ("a" * 12, "b" * 12, "c" * 12)
    for hash in hashes:
        run_folder(runs, sample(hash=hash))
    root = Path(tracking.__file__).parents[1]
    started = [subprocess.Popen([sys.executable, "-c", code, str(runs), h], cwd=root) for h in hashes]
    assert [process.wait(180) for process in started] == [0, 0, 0]
    client = client_of(runs)
    experiment = client.get_experiment_by_name("run-spec").experiment_id
    assert len(client.search_runs([experiment])) == 15


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[tuple[str, list[Tracked]]]:
    """The UI as ``run-spec ui`` starts it, on a store with two runs."""
    runs = tmp_path_factory.mktemp("served") / "runs"
    (runs / "mlflow").mkdir(parents=True)
    shutil.copy(empty_store, runs / "mlflow" / "mlflow.db")
    uri = store_uri(None, runs) if "MLFLOW_TRACKING_URI" not in os.environ else f"sqlite:///{runs}/mlflow/mlflow.db"
    tracked = [
        mirrored(runs, sample(), tracking_uri=uri, figures={"sweep_amnesia": SVG}),
        mirrored(runs, sample(level=0.2, hash="b" * 12, cell="model=other"), tracking_uri=uri),
    ]
    command = ui_command(uri, 5700, runs=runs)
    process = subprocess.Popen(
        command.arguments,
        env={**os.environ, **command.environment},
        cwd=runs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{command.port}"
    try:
        for _ in range(240):
            assert process.poll() is None
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        else:
            pytest.fail("the MLflow UI did not start in two minutes")
        yield address, tracked
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.real
def test_a_run_is_mirrored_to_a_server_over_http(server: tuple[str, list[Tracked]], tmp_path: Path) -> None:
    address, _ = server
    results = sample(hash="c" * 12, name="remote")
    folder = run_folder(tmp_path / "runs", results)
    tracked = mirror(folder, results, tracking_uri=address, figures={"sweep_amnesia": PNG})
    assert tracked.url.startswith(f"{address}/#/experiments/") and tracked.run_id in tracked.url
    assert mirror(folder, results, tracking_uri=address).again
    assert not (tmp_path / "runs" / "mlflow").exists()


@pytest.mark.real
def test_the_ui_shows_the_run_the_comparison_and_the_report(server: tuple[str, list[Tracked]], tmp_path: Path) -> None:
    """Screenshots go to the folder that RUN_SPEC_SCREENSHOTS names, if it names one."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium here")
    sync_api = pytest.importorskip("playwright.sync_api")
    address, (one, other) = server
    shots = Path(os.environ.get("RUN_SPEC_SCREENSHOTS", tmp_path))
    experiment = one.url.split("/")[3]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        page = browser.new_page(viewport={"width": 1600, "height": 1100})
        page.set_default_timeout(60_000)

        def shot(name: str) -> None:
            page.wait_for_timeout(1500)
            page.screenshot(path=shots / f"mlflow-{name}.png")

        page.goto(address + one.url)
        page.get_by_text("Which neuron holds Donald Trump").first.wait_for()
        page.get_by_text("amnesia: negative ablation").first.wait_for()
        page.get_by_text("cell/trump/dominance").first.wait_for()
        shot("run")

        page.goto("about:blank")
        page.goto(f"{address}/#/experiments/{experiment}/runs/{one.run_id}/artifacts/report.html")
        frame = page.frame_locator("iframe").first
        frame.get_by_text("The Donald Trump cell").wait_for()
        assert frame.locator("h1").get_attribute("data-ran") == "1", "scripts of the report run in the frame"
        shot("report")

        page.goto("about:blank")
        page.goto(f"{address}/#/experiments/{experiment}/runs?compareRunsMode=CHART&workflowType=machine_learning")
        page.get_by_text("trump · model=other").first.wait_for()
        page.get_by_text("amnesia", exact=False).nth(1).wait_for()
        shot("charts")

        page.goto("about:blank")
        chosen = json.dumps([one.run_id, other.run_id])
        page.goto(f'{address}/#/compare-runs?runs={chosen}&experiments=["{experiment}"]')
        page.get_by_text("Comparing 2 Runs").first.wait_for()
        page.get_by_text("Visualizations").first.click()
        page.get_by_text("trump · model=other").first.wait_for()
        shot("comparison")
        page.get_by_text("amnesia/knowledge_score/scale -1", exact=True).first.scroll_into_view_if_needed()
        shot("comparison-metrics")
        browser.close()
