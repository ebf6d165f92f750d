"""``run-spec cache``: what it shows, what it removes, and what it asks before."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runner.cache import MAGIC, StageCache, key
from runner.cache_view import _ago
from runner.sizes import parse_size, size_text
from tests.runner.conftest import Answer

Command = Callable[..., Answer]
ROOT = Path(__file__).parents[2]
DAY = 24 * 3600


@pytest.fixture
def cache(workplace: Path) -> StageCache:
    """Six stages: of two models, one without a label, one of an older format; three have not been used for long."""
    cache = StageCache()
    rows = [
        ("tiny", "ranking", 0.0),
        ("tiny", "ranking", 40.0),
        ("tiny", "baseline", 3.0),
        ("large", "question", 10.0),
        ("", "", 0.0),
        ("", "", 0.0),
    ]
    for n, (model, kind, days) in enumerate(rows):
        about = {"model": model, "kind": kind} if model else None
        cache.put(key({"n": n}), {"a": np.zeros(1000)}, {}, about=about)
        path = cache.path(key({"n": n}))
        if n == len(rows) - 1:
            path.write_bytes(b"run-spec stage 1\n" + path.read_bytes()[len(MAGIC) :])
        then = time.time() - days * DAY - 1
        os.utime(path, (then, then))
    return cache


def left(cache: StageCache) -> list[int]:
    return [n for n in range(6) if cache.path(key({"n": n})).exists()]


# -- showing ------------------------------------------------------------------------------------------------------


def test_stages_are_listed_by_model_and_kind_with_the_models_beside_them(command: Command, cache: StageCache) -> None:
    models = cache.root.parent / "models"
    for name, size in (("tiny@wheels-1", 1_200_000), (".work/large@hub", 3000)):
        (models / name).mkdir(parents=True)
        (models / name / "file").write_bytes(b"x" * size)
    (models / "tiny@wheels-1.lock").write_text("")
    answer = command("cache")
    assert answer.code == 0 and answer.err == ""
    rows = [" ".join(line.split()) for line in answer.out.splitlines()]
    assert rows[0].startswith("6 stages, ") and rows[0].endswith(" of at most 4.3 GB")
    assert str(cache.root) in answer.out and str(models) in answer.out
    patterns = [
        r"model stage entries size last used",
        r"large question 1 8.\d kB 10 days ago",
        r"tiny baseline 1 8.\d kB 3 days ago",
        r"tiny ranking 2 17 kB just now",
        r"\(not named\) \(not named\) 1 8.\d kB just now",
        r"\(not named\) older format 1 8.\d kB just now",
        r"2 models, 1.2 MB",
        r".work/large@hub 3.0 kB",
        r"tiny@wheels-1 1.2 MB",
    ]
    for pattern in patterns:
        assert [row for row in rows if re.fullmatch(pattern, row)], f"{pattern}\n{answer.out}"
    assert "run-spec cache clear" in answer.out
    assert left(cache) == list(range(6))


def test_an_empty_cache_is_shown(command: Command) -> None:
    answer = command("cache")
    assert answer.code == 0
    assert answer.out.startswith("0 stages, 0 bytes of at most") and "0 models, 0 bytes" in answer.out


def test_everything_is_there_as_json(command: Command, cache: StageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_SPEC_CACHE_LIMIT", "1MiB")
    found = json.loads(command("cache", "--json").out)
    stages = found["stages"]
    assert (stages["path"], stages["entries"], stages["limit"]) == (str(cache.root), 6, 1 << 20)
    assert stages["bytes"] == sum(g["bytes"] for g in stages["groups"]) == sum(e.bytes for e in cache.entries())
    assert [(g["model"], g["kind"], g["entries"]) for g in stages["groups"]] == [
        ("large", "question", 1),
        ("tiny", "baseline", 1),
        ("tiny", "ranking", 2),
        (None, None, 1),
        (None, "older format", 1),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", g["last_used"]) for g in stages["groups"])
    assert found["models"] == {"path": str(cache.root.parent / "models"), "bytes": 0, "folders": []}


def test_a_run_says_of_its_self_tests_what_they_are(command: Command, spec_file: Path) -> None:
    assert command(spec_file, "--no-track").code == 0
    groups = json.loads(command("cache", "--json").out)["stages"]["groups"]
    assert ("tiny", "self-tests", 1) in [(g["model"], g["kind"], g["entries"]) for g in groups]


def test_that_nothing_more_is_kept_is_said(
    command: Command, cache: StageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_SPEC_CACHE_LIMIT", "0")
    assert "RUN_SPEC_CACHE_LIMIT is 0: no more are kept" in command("cache").out.replace("\n", " ")


def test_a_wrong_limit_is_a_mistake_of_the_user_before_anything_is_run(
    command: Command, spec_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_SPEC_CACHE_LIMIT", "much")
    for arguments in (("cache",), (spec_file, "--no-track"), ("plan", spec_file), ("validate", "--deep", spec_file)):
        answer = command(*arguments)
        assert answer.code == 2, answer
        assert "error: the environment variable RUN_SPEC_CACHE_LIMIT is 'much', which is no size" in answer.err
        assert "write a number with a unit" in answer.err and "Traceback" not in answer.all
    assert not Path("runs").exists()


def test_a_cache_that_is_no_folder_is_told(command: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "file").write_text("")
    monkeypatch.setenv("RUN_SPEC_CACHE", str(workplace / "file"))
    answer = command("cache")
    assert answer.code == 4 and "cannot read" in answer.err and "set RUN_SPEC_CACHE" in answer.err


# -- removing -----------------------------------------------------------------------------------------------------


def test_nothing_is_removed_where_nobody_can_be_asked(command: Command, cache: StageCache) -> None:
    answer = command("cache", "clear")
    assert answer.code == 2 and answer.out == ""
    assert "6 stages (52 kB) would be removed, and nobody is there to be asked" in answer.err
    assert "add --yes" in answer.err
    assert left(cache) == list(range(6))


def test_all_stages_are_removed_and_the_models_stay(command: Command, cache: StageCache) -> None:
    model = cache.root.parent / "models" / "tiny" / "model.safetensors"
    model.parent.mkdir(parents=True)
    model.write_text("x")
    answer = command("cache", "clear", "--yes")
    assert (answer.code, answer.out, answer.err) == (0, "removed 6 stages; 52 kB freed\n", "")
    assert left(cache) == [] and model.exists()
    assert command("cache", "clear").out == "nothing to remove: no stage is kept\n"


@pytest.mark.parametrize(
    ("options", "stay"),
    [
        (["--model", "tiny"], [3, 4, 5]),
        (["--model", "TINY", "--model", "large"], [4, 5]),
        (["--unused-for", "30"], [0, 2, 3, 4, 5]),
        (["--unused-for", "2.5"], [0, 4, 5]),
        (["--unused-for", "2.5", "--model", "tiny"], [0, 3, 4, 5]),
        (["--unused-for", "0"], []),
    ],
)
def test_some_stages_are_removed(command: Command, cache: StageCache, options: list[str], stay: list[int]) -> None:
    before = sum(e.bytes for e in cache.entries())
    answer = command("cache", "clear", "--yes", "--json", *options)
    assert answer.code == 0 and left(cache) == stay
    freed = before - sum(e.bytes for e in cache.entries())
    assert json.loads(answer.out) == {"removed": 6 - len(stay), "bytes": freed, "unfinished": 0, "in_use": 0}


def test_a_mistyped_model_is_told_with_those_that_are_there(command: Command, cache: StageCache) -> None:
    answer = command("cache", "clear", "--model", "tinny")
    assert answer.code == 0
    assert " ".join(answer.out.split()) == (
        "nothing to remove: there is no stage of tinny; stages are kept of large, tiny"
    )
    assert json.loads(command("cache", "clear", "--model", "tinny", "--json").out)["removed"] == 0
    assert "every stage was used since" in command("cache", "clear", "--unused-for", "99").out


def test_a_wrong_limit_does_not_keep_from_clearing(
    command: Command, cache: StageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_SPEC_CACHE_LIMIT", "much")
    assert command("cache", "clear", "--yes").code == 0 and left(cache) == []


def test_days_are_not_negative(command: Command, cache: StageCache) -> None:
    assert command("cache", "clear", "--yes", "--unused-for", "-1").code == 2
    assert left(cache) == list(range(6))


def test_scratch_files_of_living_processes_are_left(command: Command, cache: StageCache) -> None:
    folder = cache.path(key({"n": 0})).parent
    mine, old = folder / f".x.stage.{os.getpid()}-ab.tmp", folder / ".x.stage.1-ab.tmp"
    for path in (mine, old):
        path.write_bytes(b"x" * 1000)
    os.utime(mine, (time.time() - 7200, time.time() - 7200))
    os.utime(old, (1000, 1000))
    answer = command("cache")
    assert "1 unfinished file of killed runs, 1.0 kB" in answer.out
    command("cache", "clear", "--yes", "--model", "tiny")
    assert old.exists()
    answer = command("cache", "clear", "--yes")
    assert answer.out.startswith("removed 3 stages and 1 unfinished file; ")
    assert mine.exists() and not old.exists()


def test_what_may_not_be_removed_is_told_after_what_was(
    command: Command, cache: StageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == cache.path(key({"n": 2})):
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    answer = command("cache", "clear", "--yes")
    assert answer.code == 4 and answer.out.startswith("removed 5 stages; ")
    assert "1 file could not be removed" in answer.err and "Permission denied" in answer.err


def in_terminal(answer: str, columns: int, *arguments: str) -> tuple[int, list[str]]:
    """Run the command in a terminal, type an answer, and give the exit code and the lines."""
    master, slave = pty.openpty()
    around = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(columns), "TERM": "xterm"}
    running = subprocess.Popen(
        [sys.executable, "-m", "runner.cli", "cache", "clear", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=around,
    )
    os.close(slave)
    os.write(master, answer.encode())
    written = b""
    try:
        while piece := os.read(master, 65536):
            written += piece
    except OSError:  # the other end is closed
        pass
    os.close(master)
    # What is typed at once is shown before the question, without the end of its line.
    text = re.sub(r"\x1b\[[0-9;]*m", "", written.decode()).replace("\r\n", "\n").replace("[y/N]: ", "[y/N]: \n")
    return running.wait(60), text.split("\n")


@pytest.mark.parametrize("columns", [40, 100])
def test_it_says_what_would_go_and_asks(cache: StageCache, columns: int) -> None:
    code, lines = in_terminal("n\n", columns, "--model", "tiny")
    whole = "\n".join(lines)
    assert code == 0 and "nothing was removed" in whole and left(cache) == list(range(6)), whole
    assert "ranking" in whole and "baseline" in whole and "large" not in whole
    assert "Remove 3 stages, 26 kB? [y/N]" in whole
    assert [line for line in lines if len(line) > columns] == []
    code, lines = in_terminal("y\n", columns, "--model", "tiny")
    assert code == 0 and "removed 3 stages; 26 kB freed" in "\n".join(lines) and left(cache) == [3, 4, 5]


def test_the_end_of_the_input_is_no_yes(cache: StageCache) -> None:
    code, _ = in_terminal("\x04", 80)
    assert code == 130 and left(cache) == list(range(6))


# -- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7300, "2 hours ago"),
        (3 * DAY, "3 days ago"),
        (70 * DAY, "2 months ago"),
        (800 * DAY, "2 years ago"),
    ],
)
def test_an_age_is_in_human_words(seconds: float, text: str) -> None:
    assert _ago(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (9960, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (4 << 30, "4.3 GB"),
        (5 * 10**15, "5,000 TB"),
    ],
)
def test_a_size_is_written_with_its_unit(size: int, text: str) -> None:
    assert size_text(size) == text
    read = parse_size(text.replace(" bytes", "").replace(" byte", "").replace(",", ""))
    assert read is not None and read == pytest.approx(size, rel=0.05)
