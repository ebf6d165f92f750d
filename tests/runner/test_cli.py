"""The command line: how fast it answers, what it imports, and what it looks like in a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runner.conftest import Answer

Command = Callable[..., Answer]
WriteSpec = Callable[..., Path]

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "nnsight", "mlflow", "pandas", "altair", "vl_convert", "pyarrow", "scipy", "numpy")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def in_terminal(columns: int, *arguments: str) -> str:
    """Run the command in a terminal of so many columns; give all that was written to it."""
    master, slave = pty.openpty()
    around = {**environment(), "COLUMNS": str(columns), "LINES": "40", "TERM": "xterm-256color"}
    for name in ("NO_COLOR", "CI"):
        around.pop(name, None)
    running = subprocess.Popen(
        [sys.executable, "-m", "runner.cli", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=around,
        close_fds=True,
    )
    os.close(slave)
    written = b""
    while True:
        ready, _, _ = select.select([master], [], [], 60)
        if not ready:
            running.kill()
            pytest.fail("the command is silent")
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(master)
    assert running.wait() == 0, written.decode(errors="replace")
    return written.decode()


def visible(written: str) -> list[str]:
    """Take away colours and cursor movements, and what a later part of a line has overwritten."""
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r\n", "\n").split("\n")
    return [line.rsplit("\r", 1)[-1].rstrip() for line in lines]


# -- speed and imports ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("validate", "{spec}"), ("schema",), ("validate", "nowhere.yaml"), ("cache",), ("cache", "clear")],
)
def test_nothing_heavy_is_imported_for_what_needs_no_model(spec_file: Path, arguments: tuple[str, ...]) -> None:
    words = [a.replace("{spec}", str(spec_file)) for a in arguments]
    code = (
        "import sys\nfrom runner.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout[-500:] + done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("validate", "{spec}")])
def test_help_and_validate_take_less_than_half_a_second_of_processor_time(
    spec_file: Path, arguments: tuple[str, ...]
) -> None:
    """Processor time is not that of the clock: other programs do not count. The best of three."""
    words = [a.replace("{spec}", str(spec_file)) for a in arguments]

    def seconds() -> float:
        before = os.times()
        subprocess.run([sys.executable, "-m", "runner.cli", *words], capture_output=True, check=True, env=environment())
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    seconds()  # writes the byte code
    assert min(seconds() for _ in range(3)) < 0.5


# -- words ---------------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_the_short_form(command: Command) -> None:
    answer = command("--help")
    assert answer.code == 0
    for word in ("validate", "plan", "models", "cache", "schema", "report", "ui", "doctor", "run-spec FILE"):
        assert word in answer.out


@pytest.mark.parametrize("name", ["run", "validate", "plan", "models", "cache", "schema", "report", "ui", "doctor"])
def test_every_command_explains_itself(command: Command, name: str) -> None:
    answer = command(name, "--help")
    assert answer.code == 0 and answer.out.startswith(f"Usage: run-spec {name}")


def test_the_version_is_that_of_the_package(command: Command) -> None:
    answer = command("--version")
    assert answer.code == 0 and re.fullmatch(r"run-spec \d+\.\d+\.\d+\n", answer.out)


def test_validate_says_which_files_are_valid_and_tells_the_problems_of_all_others(
    command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    good = write_spec().rename(workplace / "good.yaml")
    bad = write_spec(("trump: Melania", "trump: ''")).rename(workplace / "bad.yaml")
    answer = command("validate", good, bad)
    assert answer.code == 2
    assert answer.out == f"{good}: valid\n"
    assert "bad.yaml:8:22" in answer.err and "1 problem" in answer.err


def test_validate_gives_problems_as_json(command: Command, write_spec: WriteSpec) -> None:
    answer = command("validate", "--json", write_spec(("trump: Melania", "trump: ''")))
    assert answer.code == 2 and answer.err == ""
    (problem,) = json.loads(answer.out)
    assert (problem["severity"], problem["path"], problem["line"], problem["column"]) == (
        "error",
        "relations.wife.answers.trump",
        8,
        22,
    )


def test_a_spec_that_is_valid_as_json_is_an_empty_list(command: Command, spec_file: Path) -> None:
    answer = command("validate", "--json", spec_file)
    assert (answer.code, json.loads(answer.out)) == (0, [])


def test_the_schema_is_the_committed_one(command: Command) -> None:
    answer = command("schema")
    assert answer.code == 0
    assert json.loads(answer.out) == json.loads((ROOT / "specs" / "schema" / "run-spec.schema.json").read_text())


def test_a_plan_marks_the_entity_and_counts_tokens(command: Command, spec_file: Path) -> None:
    answer = command("plan", spec_file)
    assert answer.code == 0, answer.err
    assert "[ Donald][ Trump]" in answer.out
    for word in ("sequences", "distinct", "cell", "amnesia", "injection", "GB"):
        assert word in answer.out


def test_a_plan_as_json_counts_every_stage(command: Command, spec_file: Path) -> None:
    found = json.loads(command("plan", "--json", spec_file).out)
    assert [s["name"] for s in found["stages"]] == ["cell", "amnesia", "injection"]
    assert all(0 < s["distinct_tokens"] <= s["tokens"] for s in found["stages"])


def test_models_lists_every_card_and_where_it_is(command: Command) -> None:
    answer = command("models", "--json")
    rows = {row["name"]: row for row in json.loads(answer.out)}
    assert {"qwen2.5-coder-1.5b", "smollm2-135m", "gemma3-270m"} <= set(rows)
    assert all(row["status"] != "cached" for row in rows.values())


def test_the_name_of_a_command_can_be_run_as_a_file_with_a_path(command: Command, spec_file: Path) -> None:
    spec_file.rename(spec_file.with_name("plan"))
    assert "plan: valid" in command("validate", "./plan").out


# -- terminals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 100])
def test_a_run_fits_its_terminal(spec_file: Path, workplace: Path, columns: int) -> None:
    lines = visible(in_terminal(columns, str(spec_file), "--no-track"))
    whole = "\n".join(lines)
    for stage in ("loading weights", "self-tests", "cell", "amnesia", "injection", "report"):
        assert re.search(rf"✓ {stage}", whole), whole
    too_wide = [line for line in lines if len(line) > columns and "runs/" not in line]
    assert too_wide == []
    assert "…" not in whole  # no figure or address is cut
    for word in ("Donald Trump", "trump", "obama", "target", "random"):
        assert word in whole, whole


@pytest.mark.parametrize("columns", [40, 100])
def test_what_is_kept_of_a_run_fits_a_terminal(command: Command, spec_file: Path, columns: int) -> None:
    assert command(spec_file, "--no-track").code == 0
    lines = visible(in_terminal(columns, "cache"))
    assert [line for line in lines if len(line) > columns and "cache/" not in line] == []
    whole = "\n".join(lines)
    assert "…" not in whole and "tiny" in whole and "self-tests" in whole and "just now" in whole


@pytest.mark.parametrize("columns", [40, 100])
def test_a_plan_and_the_models_fit_a_terminal(spec_file: Path, columns: int) -> None:
    for arguments in (("plan", str(spec_file)), ("models",)):
        lines = visible(in_terminal(columns, *arguments))
        assert [line for line in lines if len(line) > columns] == []
        assert "…" not in "\n".join(lines)


def test_bars_are_shown_while_somebody_watches_and_are_gone_at_the_end(spec_file: Path) -> None:
    written = in_terminal(100, str(spec_file), "--no-track")
    assert "\x1b[?25l" in written and written.rstrip().count("\x1b[?25h") >= 1  # the cursor is given back
    assert "tokens" in written
    assert not [line for line in visible(written) if "━━━━╸" in line]


def test_quiet_shows_only_the_summary(spec_file: Path) -> None:
    written = "\n".join(visible(in_terminal(100, str(spec_file), "--no-track", "--quiet")))
    assert "✓" not in written and "loading" not in written and "cell:" in written


def test_a_second_run_in_a_terminal_marks_what_is_reused(spec_file: Path) -> None:
    in_terminal(100, str(spec_file), "--no-track")
    started = time.monotonic()
    whole = "\n".join(visible(in_terminal(100, str(spec_file), "--no-track")))
    assert time.monotonic() - started < 30
    assert re.search(r"= amnesia +reused", whole) and "loading weights" not in whole
