"""MLflow, as a mirror of run folders. The folder is the truth; this is the only module that imports mlflow.

By default the store is ``runs/mlflow/mlflow.db`` with its files in ``runs/mlflow/artifacts``: beside the run
folders, so that one folder holds everything a working copy has found. A run appears as one parent with one
child for each localisation, intervention and analysis. A run that found the same as one that is there already
is not shown a second time; the one there is marked instead.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sqlite3
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from runner.mirror import Page, Table, fingerprint, matrix_page, pages
from runner.provenance import shown
from specs.language.errors import RunError
from specs.language.results import MatrixResults, Results

__all__ = ["Tracked", "UiCommand", "artifact_root", "mirror", "mirror_matrix", "store_uri", "ui_command"]

EXPERIMENT = "run-spec"
FINGERPRINT = "findings"
"""Tag with a hash of what a run found."""
AGAIN = "found_again"
ABOUT = {
    # Without it the UI takes the experiment for one about chat applications.
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": (
        "Specs that were run: where a language model stores what it knows, and what edits of it do. One run "
        "for each spec, and below it one for each localisation, intervention and analysis."
    ),
}
PATIENCE = 120
"""Seconds to wait for another run that is being mirrored into the same file."""
SURROUNDINGS = {
    # Numbers about somebody's experiments go nowhere by themselves.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # A server that is down is noticed in seconds: the run waits, and can be mirrored later.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Set before mlflow is imported, unless the user has set them."""
BLOCKED = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080}
)
"""Ports from 1024 on that browsers refuse to open ("bad ports" of the Fetch standard)."""
VIEW = "workflowType=machine_learning"
"""Opens the pages about runs, metrics and artifacts instead of those about chat applications."""
UNFINISHED = {"complete": "FINISHED", "partial": "KILLED", "failed": "FAILED"}


@dataclass(frozen=True)
class Tracked:
    """Where a run is in MLflow."""

    run_id: str
    uri: str
    """The store, without a password."""
    url: str
    """The page of the run on a server; for a file, what follows the address that ``run-spec ui`` serves."""
    again: bool = False
    """True when a run with the same findings was there already and has been marked instead."""


@dataclass(frozen=True)
class UiCommand:
    """How to serve the UI: a command line, what its environment needs, and where it will be."""

    arguments: list[str]
    environment: dict[str, str]
    port: int
    uri: str
    url: str
    """The page to open."""
    note: str = ""
    """What is not as it was asked for."""


def store_uri(tracking_uri: str | None, runs: Path) -> str:
    """Choose the store: the one asked for, else MLFLOW_TRACKING_URI, else the file beside the runs."""
    named = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    return named or f"sqlite:///{(runs.resolve() / 'mlflow' / 'mlflow.db').as_posix()}"


def artifact_root(uri: str, runs: Path) -> str | None:
    """Say where the files of a store lie: beside a SQLite file or the runs; None where a server decides."""
    if urlsplit(uri).scheme in ("http", "https", "databricks"):
        return None
    database = _sqlite_file(uri)
    beside = runs.resolve() / "mlflow" if database is None else database.parent
    return (beside / "artifacts").as_uri()


def mirror(
    folder: Path,
    results: Results,
    *,
    tracking_uri: str | None,
    experiment: str = EXPERIMENT,
    figures: Mapping[str, bytes] | None = None,
) -> Tracked:
    """Show a run folder in MLflow: a parent run, its children, their figures, tables and files.

    ``figures``: pictures (PNG, SVG or HTML) by name; one that ends in ``_<part>`` is shown with that part
    too. Raises RunError, with how to mirror the folder later, for whatever MLflow cannot do; what had been
    written there is then removed again.
    """
    uri = store_uri(tracking_uri, folder.parent)
    try:
        with _quiet(), _alone(uri):
            return _mirror(folder, results, uri, experiment, figures or {})
    except Exception as error:
        raise RunError(
            f"the run could not be shown in MLflow ({shown(uri)}): {_first_line(error)}",
            remedy=f"nothing is lost, the run is in {folder}; later: run-spec report {folder} --track",
        ) from error


def mirror_matrix(
    folder: Path, matrix: MatrixResults, runs: Sequence[str], *, tracking_uri: str | None, experiment: str = EXPERIMENT
) -> Tracked:
    """Show the comparison of a matrix as a run of its own, the parent of the runs of its cells.

    ``runs``: their ids; a run that is part of several matrices stays under the one mirrored last. Raises RunError, as
    :func:`mirror` does, for whatever MLflow cannot do.
    """
    uri = store_uri(tracking_uri, folder.parent)
    try:
        with _quiet(), _alone(uri):
            return _mirror_matrix(folder, matrix, runs, uri, experiment)
    except Exception as error:
        raise RunError(
            f"the comparison could not be shown in MLflow ({shown(uri)}): {_first_line(error)}",
            remedy=f"nothing is lost, it is in {folder}",
        ) from error


def ui_command(tracking_uri: str | None, port: int = 5000, *, runs: Path = Path("runs")) -> UiCommand:
    """Say how to serve the UI of the store that runs are mirrored in, on the first free port from ``port``.

    Raises RunError when there is nothing to serve: no store yet, a server of its own, or no free port.
    """
    uri = store_uri(tracking_uri, runs)
    if urlsplit(uri).scheme in ("http", "https"):
        raise RunError(f"the store is a server already: open {shown(uri)} in a browser")
    database = _sqlite_file(uri)
    if database is not None and not database.exists():
        raise RunError(
            f"there is no MLflow store {shown(str(database))}",
            remedy="run a spec first, or name the store with --tracking-uri or MLFLOW_TRACKING_URI",
        )
    free = next((p for p in range(port, min(port + 100, 65536)) if p not in BLOCKED and _free(p)), None)
    if free is None:
        raise RunError(f"no port from {port} to {port + 99} is free", remedy="choose another with --port")
    arguments = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    root = artifact_root(uri, runs)
    if root is not None:
        arguments += ["--default-artifact-root", root]
    arguments += ["--host", "127.0.0.1", "--port", str(free), "--workers", "1"]
    environment = {name: value for name, value in SURROUNDINGS.items() if name not in os.environ}
    # A folder of the user's that is called like a library must not be imported in its place.
    environment |= {"PYTHONSAFEPATH": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    why = "no browser opens" if port in BLOCKED else "something else listens on"
    note = "" if free == port else f"{why} port {port}; this is {free}"
    url = f"http://127.0.0.1:{free}{_runs_page(database)}"
    return UiCommand(arguments, environment, free, shown(uri), url, note)


# -- writing ---------------------------------------------------------------------------------------------


def _mirror(folder: Path, results: Results, uri: str, experiment: str, figures: Mapping[str, bytes]) -> Tracked:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment_id = _experiment(client, experiment, artifact_root(uri, folder.parent))
    digest = fingerprint(results)[:16]
    found = client.search_runs([experiment_id], f"tags.{FINGERPRINT} = '{digest}'", max_results=1)
    if found:
        run_id = found[0].info.run_id
        times = int(found[0].data.tags.get(AGAIN, "0×").partition("×")[0]) + 1
        client.set_tag(run_id, AGAIN, f"{times}×, last {results.started[:16].replace('T', ' ')}")
        return Tracked(run_id, shown(uri), _url(uri, experiment_id, run_id), again=True)
    whole, parts = pages(results)
    prompts = _prompts(folder, results)
    with _all_or_none(client) as run_ids:
        parent = _write(client, experiment_id, whole, results, None, run_ids)
        for path in sorted(p for p in folder.rglob("*") if _is_kept(p, folder)):
            inside = path.parent.relative_to(folder).as_posix()
            client.log_artifact(parent, str(path), None if inside == "." else inside)
        _pictures(client, parent, figures)
        _datasets(client, parent, prompts)
        for place, part in enumerate(parts):
            child = _write(client, experiment_id, part, results, parent, run_ids, later=len(parts) - place)
            own = {name: data for name, data in figures.items() if name.endswith(f"_{part.block}")}
            _pictures(client, child, own)
            _datasets(client, child, {name: table for name, table in prompts.items() if name == part.block})
            _end(client, child, results, part.seconds)
        # The last thing written: a run without it was not mirrored whole, and is not taken for one that was.
        client.set_tag(parent, FINGERPRINT, digest)
        _end(client, parent, results, whole.seconds)
    return Tracked(parent, shown(uri), _url(uri, experiment_id, parent))


def _mirror_matrix(folder: Path, matrix: MatrixResults, runs: Sequence[str], uri: str, experiment: str) -> Tracked:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment_id = _experiment(client, experiment, artifact_root(uri, folder.parent))
    page = matrix_page(matrix)
    digest = page.tags[FINGERPRINT]
    found = client.search_runs([experiment_id], f"tags.{FINGERPRINT} = '{digest}'", max_results=1)
    if found:
        run_id = str(found[0].info.run_id)
    else:
        with _all_or_none(client) as run_ids:
            run_id = _write(client, experiment_id, page, matrix, None, run_ids)
            for path in sorted(p for p in folder.rglob("*") if _is_kept(p, folder)):
                client.log_artifact(run_id, str(path))
            _end(client, run_id, matrix, matrix.seconds)
    for child in runs:
        client.set_tag(child, "mlflow.parentRunId", run_id)
    return Tracked(run_id, shown(uri), _url(uri, experiment_id, run_id), again=bool(found))


@contextlib.contextmanager
def _all_or_none(client: Any) -> Iterator[list[str]]:
    """Lend a list for the runs that are made; if they are not written to the end, none of them is left."""
    run_ids: list[str] = []
    try:
        yield run_ids
    except BaseException:
        for run_id in run_ids:
            with contextlib.suppress(Exception):
                client.delete_run(run_id)
        raise


def _experiment(client: Any, name: str, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts, tags=ABOUT))
        except Exception:
            found = client.get_experiment_by_name(name)  # another process may have been faster on a server
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise RunError(f"the experiment '{name}' has been deleted; restore it with `mlflow experiments restore`")
    return str(found.experiment_id)


def _write(
    client: Any,
    experiment_id: str,
    page: Page,
    results: Results | MatrixResults,
    parent: str | None,
    run_ids: list[str],
    later: int = 0,
) -> str:
    """Create one run with its description, tags, parameters, metrics and tables; give its id.

    ``later``: milliseconds after the parent, because the UI lists runs by their start, the latest first.
    """
    from mlflow.entities import Metric, Param

    tags = {
        **{name: value[:5000] for name, value in page.tags.items()},
        "mlflow.note.content": page.note,
        "mlflow.source.name": "run-spec",
        "mlflow.source.type": "LOCAL",
    }
    if parent is not None:
        tags["mlflow.parentRunId"] = parent
    start = _milliseconds(results.started) + later
    run_id = str(client.create_run(experiment_id, start, tags, run_name=page.name).info.run_id)
    run_ids.append(run_id)
    parameters = [Param(key, value) for key, value in page.params.items()]
    for batch in _batches(parameters, 100):
        client.log_batch(run_id, params=batch)
    metrics = [Metric(m.key, m.value, start, m.step) for m in page.metrics]
    for batch in _batches(metrics, 1000):
        client.log_batch(run_id, metrics=batch)
    for name, table in page.tables.items():
        if table:
            client.log_table(run_id, _typed(table), f"tables/{name}.json")
    return run_id


def _end(client: Any, run_id: str, results: Results | MatrixResults, seconds: float) -> None:
    end = _milliseconds(results.started) + round(seconds * 1000)
    client.set_terminated(run_id, status=UNFINISHED[results.status], end_time=end)


def _pictures(client: Any, run_id: str, figures: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name, data in figures.items():
            path = Path(scratch) / f"{name.replace('/', '_')}.{_ending(data)}"
            path.write_bytes(data)
            client.log_artifact(run_id, str(path), "figures")


def _datasets(client: Any, run_id: str, prompts: Mapping[str, Table]) -> None:
    """Say which prompts a run is about, one dataset for each part of the spec."""
    import pandas as pd
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.entities import DatasetInput, InputTag

    inputs = [
        DatasetInput(
            from_pandas(pd.DataFrame(table), name=f"prompts of {name}")._to_mlflow_entity(),
            [InputTag("mlflow.data.context", name)],
        )
        for name, table in prompts.items()
    ]
    if inputs:
        client.log_inputs(run_id, inputs)


def _prompts(folder: Path, results: Results) -> dict[str, Table]:
    """Collect the prompts of every part: from the rankings, and from the long table."""
    found: dict[str, Table] = {}
    for name, ranking in results.rankings.items():
        owners = [(group.key, prompt) for group in ranking.groups.values() for prompt in group.prompts]
        if owners:
            found[name] = {"owner": [o for o, _ in owners], "prompt": [p for _, p in owners]}
    from runner.long_table import PARQUET, read_table

    if not (folder / PARQUET).exists():
        return found
    columns = ["role", "entity", "relation", "prompt", "answers"]
    asked: dict[str, dict[tuple[str, ...], None]] = {}
    for row in read_table(folder).select(["intervention", *columns]).to_pylist():
        texts = (*(row[column] or "" for column in columns[:-1]), ", ".join(row["answers"] or ()))
        asked.setdefault(row["intervention"], {})[texts] = None
    for name, rows in asked.items():
        found[name] = {column: [row[i] for row in rows] for i, column in enumerate(columns)}
    return found


def _typed(table: Table) -> Any:
    """Make a data frame whose missing numbers are null and whose whole numbers stay whole."""
    import pandas as pd

    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in table.items()}).infer_objects()


def _is_kept(path: Path, folder: Path) -> bool:
    """Tell the files of a result from scratch files, from what only matters while it runs, and from saved models.

    A model is gigabytes: it stays in the run folder, which the mirror names.
    """
    from runner.store import RUNNING

    inside = path.relative_to(folder).parts
    hidden = any(part.startswith(".") for part in inside)
    return path.is_file() and path.name != RUNNING and inside[0] != "models" and not hidden


# -- surroundings ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow's telemetry off and its chatter away from the terminal."""
    for name, value in SURROUNDINGS.items():
        os.environ.setdefault(name, value)
    before = {name: logging.getLogger(name).level for name in ("mlflow", "alembic")}
    disabled = {name: logger.disabled for name, logger in _loggers()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in before:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
        # MLflow's migrations configure logging anew and switch everybody's loggers off.
        for name, logger in _loggers():
            logger.disabled = disabled.get(name, logger.disabled)


def _loggers() -> Iterator[tuple[str, logging.Logger]]:
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger):
            yield name, logger


@contextlib.contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Hold a SQLite store for as long as a run is written: two first starts would both create its tables."""
    from filelock import FileLock, Timeout

    database = _sqlite_file(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(database.with_name(f".{database.name}.lock"))
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        raise RunError(f"another run has been writing to {database} for {PATIENCE} seconds") from None
    try:
        yield
    finally:
        lock.release()


def _sqlite_file(uri: str) -> Path | None:
    """Give the file of a SQLite store; None for any other."""
    if not uri.startswith("sqlite"):
        return None
    path = unquote(uri.partition(":///")[2].partition("?")[0])
    return Path(path).resolve() if path and path != ":memory:" else None


def _url(uri: str, experiment_id: str, run_id: str) -> str:
    page = f"/#/experiments/{experiment_id}/runs/{run_id}?{VIEW}"
    return shown(uri).rstrip("/") + page if urlsplit(uri).scheme in ("http", "https") else page


def _runs_page(database: Path | None) -> str:
    """Give the page that lists the runs, looked up without mlflow; the front page where that fails."""
    found = None
    if database is not None:
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database)) as store:
            asked = "SELECT experiment_id FROM experiments WHERE name = ?"
            found = store.execute(asked, (EXPERIMENT,)).fetchone()
    return f"/#/experiments/{found[0]}/runs?{VIEW}" if found else "/"


def _free(port: int) -> bool:
    """Tell whether a port of this machine can be listened on."""
    with socket.socket() as caller:
        caller.settimeout(0.2)
        if caller.connect_ex(("127.0.0.1", port)) == 0:
            return False
    with socket.socket() as listener:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _ending(data: bytes) -> str:
    head = data[:300].lstrip().lower()
    if data.startswith(b"\x89PNG"):
        return "png"
    if b"<svg" in head:
        return "svg"
    if head.startswith(b"<!doctype html") or head.startswith(b"<html"):
        return "html"
    raise ValueError("a figure is a PNG, an SVG or an HTML page")


def _milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    with contextlib.suppress(ValueError):
        text = str(json.loads(text)["message"])
    return shown(text.partition("\n")[0][:300]) or type(error).__name__
