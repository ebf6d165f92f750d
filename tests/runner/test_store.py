"""The run folder: what is written, what is read back, and what a crash or a full disk leaves."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from runner import atomic, store
from runner.long_table import STREAM, LongTable, read_table, table_schema
from runner.store import RunFolder, load, read_ranking
from specs.language.errors import DiskFull, RunError
from tests.runner.sample_results import MEASURES, sample, sample_rows

HASH = "5f2c9e7ab13d4460"
AXES = {"scale": [1.0, 0.0, -1.0]}
COLUMNS = (*MEASURES, "text@12")


def begun(root: Path) -> RunFolder:
    return RunFolder.create(root, "trump", HASH)


def finished(root: Path, answer: str) -> Path:
    with begun(root) as folder:
        return folder.finish(sample().model_copy(update={"answer": answer}))


def partial(answer: str):
    return sample().model_copy(update={"status": "partial", "reason": "interrupted", "answer": answer})


def test_a_finished_run_is_read_back_as_it_was(tmp_path: Path) -> None:
    scores = np.arange(12, dtype=np.float32).reshape(3, 4)
    with begun(tmp_path) as folder:
        folder.write_spec("version: 1\n")
        folder.write_plan("one pass\n")
        folder.write_provenance({"seed": 0})
        with folder.ranking("cell") as file:
            file.add("trump", {"score": scores})
        with folder.table(AXES, COLUMNS) as table:
            table.append(sample_rows(4))
        path = folder.finish(sample())
    assert path == tmp_path / "trump-5f2c9e7ab13d"
    assert load(path) == sample() == load(path / "results.json")
    assert sorted(p.name for p in path.iterdir()) == [
        "plan.txt",
        "provenance.json",
        "rankings",
        "results.json",
        "results.parquet",
        "spec.yaml",
    ]
    np.testing.assert_array_equal(read_ranking(path, "cell")["trump/score"], scores)
    assert read_table(path).num_rows == 4


def test_the_long_table_has_a_column_for_every_sweep_and_measure(tmp_path: Path) -> None:
    with LongTable(tmp_path, {"scale": [1.0, -1.0], "rank": [1.0, "11-50"]}, COLUMNS) as table:
        table.append(sample_rows(3))
    read = read_table(tmp_path)
    assert read.schema.field("scale").type == pa.float64()
    assert read.schema.field("rank").type == pa.string()
    assert read.schema.field("text@12").type == pa.string()
    row = read.to_pylist()[2]
    assert row["scale"] == -2.0 and row["rank"] is None
    assert row["knowledge_score"] == 0.5 and row["answer_probability"] is None
    assert dict(row["reasons"]) == {"answer_probability": "the prompt has no answer"}
    assert row["scores"] == [{"text": "Melania", "log_probability": -np.inf, "worst_rank": 9000}]
    assert dict(row["attributes"]) == {"party": "R", "frequency": "12"}
    assert row["answers"] == ["Melania"] and row["text@12"] == " Mela\nnia"


def test_a_table_without_rows_can_be_read(tmp_path: Path) -> None:
    LongTable(tmp_path, AXES, COLUMNS).close()
    assert read_table(tmp_path).num_rows == 0


@pytest.mark.parametrize("axes, measures", [({"role": [1.0]}, ()), ({}, ("prompt",)), ({"pass@5": [1.0]}, ("pass@5",))])
def test_two_columns_of_one_name_are_refused(axes: dict[str, list[float]], measures: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="two columns"):
        table_schema(axes, measures)


def test_a_row_with_a_sweep_that_has_no_column_is_refused(tmp_path: Path) -> None:
    with LongTable(tmp_path, {}, COLUMNS) as table, pytest.raises(ValueError, match="sweep 'scale'"):
        table.append(sample_rows(1))


def test_an_interrupted_run_leaves_a_partial_result_and_the_rows_so_far(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), begun(tmp_path) as folder:
        folder.write_results(partial("half"))
        folder.table(AXES, COLUMNS).append(sample_rows(5))
        raise KeyboardInterrupt
    path = tmp_path / "trump-5f2c9e7ab13d"
    assert load(path).status == "partial" and load(path).reason == "interrupted"
    assert read_table(path).num_rows == 5
    assert (path / "results.parquet").exists() and not (path / STREAM).exists()


def test_a_killed_run_leaves_a_partial_result_and_the_whole_batches(tmp_path: Path) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from tests.runner.sample_results import sample, sample_rows
        from runner.store import RunFolder
        folder = RunFolder.create(Path({str(tmp_path)!r}), "trump", {HASH!r})
        folder.write_results(sample().model_copy(update={{"status": "partial"}}))
        table = folder.table({AXES!r}, {COLUMNS!r})
        table.append(sample_rows(5)); table.append(sample_rows(2))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    root = Path(store.__file__).parents[1]
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=root)
    assert process.returncode != 0
    path = tmp_path / "trump-5f2c9e7ab13d"
    assert load(path).status == "partial"
    assert read_table(path).num_rows == 7
    stream = path / STREAM
    stream.write_bytes(stream.read_bytes()[:-100])
    assert read_table(path).num_rows == 5
    with begun(tmp_path) as folder:  # the lock of a dead process is free
        folder.finish(sample())
    assert load(path).status == "complete"


def test_a_crash_leaves_the_earlier_complete_result(tmp_path: Path) -> None:
    path = finished(tmp_path, "first")
    with pytest.raises(RuntimeError), begun(tmp_path) as folder:
        assert folder.path != path
        folder.write_results(partial("second"))
        raise RuntimeError
    assert load(path).answer == "first"


def test_a_new_complete_result_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    path = finished(tmp_path, "first")
    (path / "report.html").write_text("old")
    assert finished(tmp_path, "second") == path
    assert load(path).answer == "second"
    assert not (path / "report.html").exists()
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == [path.name]


def test_a_new_partial_result_takes_the_place_of_an_earlier_partial_one(tmp_path: Path) -> None:
    for answer in ("first", "second"):
        with begun(tmp_path) as folder:
            folder.write_results(partial(answer))
    assert load(folder.final).answer == "second"


@pytest.mark.parametrize("moment", ["before", "between"])
def test_a_crash_while_results_are_exchanged_loses_neither(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = finished(tmp_path, "first")
    rename, renamed = os.rename, []

    def crash(a: Path, b: Path) -> None:
        if moment == "before" or renamed:
            raise RuntimeError("power cut")
        renamed.append(a)
        rename(a, b)

    monkeypatch.setattr(os, "rename", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        finished(tmp_path, "second")
    monkeypatch.undo()
    assert load(path).status == "complete"
    begun(tmp_path).close()
    assert load(path).answer == ("first" if moment == "before" else "second")


def test_the_same_spec_is_not_run_twice_at_once(tmp_path: Path) -> None:
    with (
        begun(tmp_path),
        pytest.raises(RunError, match=rf"already being run by process {os.getpid()}, since 20") as caught,
    ):
        RunFolder.create(tmp_path, "trump", HASH, "model=tiny")
    assert "this spec (model=tiny)" in caught.value.cause and caught.value.remedy
    begun(tmp_path).close()


def test_runs_with_another_hash_do_not_meet(tmp_path: Path) -> None:
    with begun(tmp_path), RunFolder.create(tmp_path, "trump", "b" * 16) as other:
        assert other.final.name == "trump-bbbbbbbbbbbb"


def test_a_name_becomes_one_that_every_file_system_takes(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "a/b: 트럼프 ..", HASH) as folder:
        assert folder.final.name == "a-b-트럼프-5f2c9e7ab13d"


@pytest.mark.parametrize("refused", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_last_whole_document(
    tmp_path: Path, refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begun(tmp_path) as folder:
        folder.write_results(partial("whole"))

        def full(*_: object) -> None:
            raise OSError(refused, os.strerror(refused))

        monkeypatch.setattr(atomic.os, "fsync", full)
        with pytest.raises(DiskFull, match=r"the disk that holds .* is full") as caught:
            folder.write_results(partial("lost"))
        monkeypatch.undo()
    assert caught.value.exit_code == 5 and "make room" in caught.value.remedy
    assert load(folder.final).answer == "whole"
    assert not list(folder.final.glob(".*"))


def test_a_full_disk_in_the_long_table_says_so_and_keeps_what_was_written(tmp_path: Path) -> None:
    with pytest.raises(DiskFull), begun(tmp_path) as folder:
        folder.write_results(partial("before"))
        table = folder.table(AXES, COLUMNS)
        table.append(sample_rows(3))
        written = table._file
        table._writer = pa.ipc.new_stream(pa.OSFile("/dev/full", "wb"), table._schema)
        table.append(sample_rows(3))
    assert written.closed
    assert load(folder.final).answer == "before"
    assert read_table(folder.final).num_rows == 3


@pytest.mark.parametrize("room_for", ["nothing", "the document"])
def test_a_disk_that_is_really_full_is_named(tmp_path: Path, room_for: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,nr_inodes=64", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with pytest.raises(DiskFull, match="is full"), begun(disk) as folder:
            folder.write_results(partial("x"))
            if room_for == "nothing":
                with folder.ranking("cell") as file:
                    file.add("", {"score": np.zeros(1 << 20, dtype=np.float32)})
            else:
                folder.table(AXES, COLUMNS).append(sample_rows(20000))
        assert load(disk / "trump-5f2c9e7ab13d").answer == "x"
        assert not list((disk / "trump-5f2c9e7ab13d").glob("rankings/*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RunError, match=r"cannot write to .*runs"):
        begun(tmp_path / "runs")


def test_a_number_that_is_not_finite_is_refused_with_its_place(tmp_path: Path) -> None:
    results = sample()
    results.provenance["loss"] = [1.0, float("nan")]
    with begun(tmp_path) as folder, pytest.raises(ValueError, match=r"provenance\.loss\[1\]: nan"):
        folder.write_results(results)


def damaged(tmp_path: Path, text: str) -> Path:
    path = finished(tmp_path, "x")
    (path / "results.json").write_text(text)
    return path


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"format": 1, "na', "is damaged: Unterminated string"),
        ('{"format": 2}', "has format 2, and this run-spec reads format 1"),
        ("[]", "has format None"),
        ('{"format": 1}', "is damaged at name: Field required"),
    ],
)
def test_a_document_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RunError) as caught:
        load(damaged(tmp_path, text))
    assert message in caught.value.cause and "results.json" in caught.value.cause and caught.value.remedy


def test_a_document_of_another_encoding_is_named(tmp_path: Path) -> None:
    path = finished(tmp_path, "x")
    (path / "results.json").write_bytes(b'{"format": "\xff"}')
    with pytest.raises(RunError, match="cannot be read"):
        load(path)


def test_a_folder_without_a_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run folder"):
        load(tmp_path / "nowhere")
    begun(tmp_path).close()
    with pytest.raises(RunError, match="holds no result"):
        load(tmp_path / "trump-5f2c9e7ab13d")
    with pytest.raises(RunError, match="no long table"):
        read_table(tmp_path / "trump-5f2c9e7ab13d")


def test_a_damaged_ranking_or_table_is_named(tmp_path: Path) -> None:
    path = finished(tmp_path, "x")
    (path / "rankings").mkdir()
    (path / "rankings" / "cell.npz").write_bytes(b"PK not a zip")
    (path / "results.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"cell\.npz cannot be read"):
        read_ranking(path, "cell")
    with pytest.raises(RunError, match="holds no ranking 'other'"):
        read_ranking(path, "other")
    with pytest.raises(RunError, match=r"results\.parquet cannot be read"):
        read_table(path)


def test_the_document_is_json_that_a_person_can_read(tmp_path: Path) -> None:
    text = (finished(tmp_path, "x") / "results.json").read_text()
    assert text.startswith('{\n "format": 1') and json.loads(text)["name"] == "trump"


def test_names_that_look_alike_have_rankings_of_their_own(tmp_path: Path) -> None:
    names = ["z score", "z-score", "cell", "Cell", "a/b", "..", "baseline"]
    with RunFolder.create(tmp_path, "one", HASH) as folder:
        files = []
        for n, name in enumerate(names):
            with folder.ranking(name) as file:
                file.add("", {"layers": np.array([n])})
                file.add("baseline", {"score": np.full(2, n)})
                file.add("../x/y", {"score": np.full(2, -n)})
                assert file.load("baseline")["score"][0] == n, "while it is written"
            files.append(file)
        for n, (name, file) in enumerate(zip(names, files, strict=True)):
            assert file.load("baseline")["score"][0] == n and file.load("../x/y")["score"][0] == -n
            assert read_ranking(folder.path, name)["layers"][0] == n
        assert len({file.path.name.lower() for file in files}) == len(names)
