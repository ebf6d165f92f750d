from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.models import cache as model_cache
from runner.models.cache import (
    FileRecord,
    Manifest,
    cache_root,
    digest,
    lock,
    models_root,
    need_room,
    room_errors,
    verify,
)
from specs.language.errors import DiskFull, ModelError


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, Manifest]:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text(name * 5)
    records = {path.name: FileRecord.of(path) for path in sorted(folder.iterdir())}
    manifest = Manifest("wheels", "a copy", "abc", records, {"file": "x"})
    manifest.write(folder)
    return folder, manifest


def test_the_cache_is_where_run_spec_cache_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_SPEC_CACHE", str(tmp_path))
    assert models_root() == tmp_path / "models"
    monkeypatch.delenv("RUN_SPEC_CACHE")
    assert cache_root().name == "run-spec"


def test_a_manifest_is_read_back_as_written(checkpoint: tuple[Path, Manifest]) -> None:
    folder, manifest = checkpoint
    assert Manifest.read(folder) == manifest


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 99, "files": {}}'])
def test_a_manifest_that_cannot_be_read_counts_as_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert Manifest.read(tmp_path) is None


def test_an_untouched_checkpoint_passes_both_checks(checkpoint: tuple[Path, Manifest]) -> None:
    folder, manifest = checkpoint
    assert verify(folder, manifest, deep=False) == []
    assert verify(folder, manifest, deep=True) == []


def test_a_missing_and_a_short_file_are_noticed_without_reading(
    checkpoint: tuple[Path, Manifest],
) -> None:
    folder, manifest = checkpoint
    (folder / "config.json").unlink()
    (folder / "model.safetensors").write_text("short")
    problems = verify(folder, manifest, deep=False)
    assert problems == ["config.json is missing", "model.safetensors has 5 bytes, not 85"]


def test_a_changed_byte_is_noticed_at_once_when_the_time_differs(checkpoint: tuple[Path, Manifest]) -> None:
    folder, manifest = checkpoint
    path = folder / "model.safetensors"
    path.write_bytes(b"X" + path.read_bytes()[1:])
    os.utime(path, ns=(0, 0))
    assert "has changed (sha256" in verify(folder, manifest, deep=False)[0]


def test_a_changed_byte_under_the_old_time_is_noticed_by_the_deep_check(
    checkpoint: tuple[Path, Manifest],
) -> None:
    folder, manifest = checkpoint
    path = folder / "model.safetensors"
    before = path.stat().st_mtime_ns
    path.write_bytes(b"X" + path.read_bytes()[1:])
    os.utime(path, ns=(before, before))
    assert verify(folder, manifest, deep=False) == []
    assert "has changed (sha256" in verify(folder, manifest, deep=True)[0]


def test_a_copied_cache_is_read_once_and_then_trusted_by_time(checkpoint: tuple[Path, Manifest]) -> None:
    folder, manifest = checkpoint
    os.utime(folder / "config.json", ns=(1, 1))
    assert verify(folder, manifest, deep=False) == []
    renewed = Manifest.read(folder)
    assert renewed is not None
    assert renewed.files["config.json"].mtime_ns == 1


def test_digests_of_foreign_files_are_remembered_until_the_file_changes(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.write_text("one")
    first = digest([file])
    reads: list[Path] = []
    real = model_cache.sha256_of
    monkeypatch.setattr(
        model_cache, "sha256_of", lambda path, progress=None: reads.append(path) or real(path, progress)
    )
    assert digest([file]) == first
    assert reads == []
    file.write_text("two, longer")
    assert digest([file]) != first
    assert reads == [file]
    json.loads((cache / "digests.json").read_text())


def test_too_little_room_is_an_error_with_both_figures_and_the_remedy(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=50_000_000))
    with pytest.raises(DiskFull) as caught:
        need_room(7_000_000_000, "the download")
    assert "the download needs 7,000 MB of disk" in str(caught.value)
    assert "50 MB free" in str(caught.value)
    assert "RUN_SPEC_CACHE" in str(caught.value)
    assert caught.value.exit_code == 5
    assert not cache.exists(), "asking for room must not create anything"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_up_while_writing_is_reported_as_such(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="is full"), room_errors(tmp_path):
        raise error


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot write to"), room_errors(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(KeyError), room_errors(tmp_path):
        raise KeyError("a bug")


def test_a_second_writer_waits_and_says_so(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with lock("tiny@wheels"):
            inside.set()
            leave.wait(5)
            order.append("first")

    def second() -> None:
        with lock("tiny@wheels", lambda label, *_: order.append(label)):
            order.append("second")

    one = threading.Thread(target=first)
    one.start()
    assert inside.wait(5)
    two = threading.Thread(target=second)
    two.start()
    while not order:
        two.join(0.01)
    leave.set()
    one.join(5)
    two.join(5)
    assert order == ["wait for another run-spec that is fetching this model", "first", "second"]
    assert "another run-spec is fetching tiny" in caplog.text
