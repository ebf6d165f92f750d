from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from runner.models import cards, resolve
from specs.language.errors import ModelError


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("resolve() touched the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("word", ["smollm2-135m", "SmolLM2-135M", " smollm2-135m "])
def test_a_card_name_in_any_case_gives_the_card_at_its_pinned_commit(word: str) -> None:
    source = resolve(word)
    assert source.kind == "card"
    assert source.name == "smollm2-135m"
    assert source.revision == cards()["smollm2-135m"].revision


def test_a_hub_id_means_the_hub_even_where_a_card_has_the_same_repository() -> None:
    source = resolve("Qwen/Qwen2.5-Coder-1.5B-Instruct")
    assert (source.kind, source.card, source.revision) == ("hub", None, None)


def test_a_revision_that_is_asked_for_replaces_the_card_s() -> None:
    assert resolve("smollm2-135m", "main").revision == "main"


def test_an_unknown_name_is_refused_with_the_nearest_cards() -> None:
    with pytest.raises(ModelError) as caught:
        resolve("qwen2.5-coder-1.5")
    assert "there is no model 'qwen2.5-coder-1.5'" in str(caught.value)
    assert "did you mean qwen2.5-coder-1.5b" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_name_like_no_card_lists_what_is_known() -> None:
    with pytest.raises(ModelError) as caught:
        resolve("zzzz")
    assert "did you mean" not in str(caught.value)
    assert "smollm2-135m" in str(caught.value)


@pytest.mark.parametrize("word", ["", "  "])
def test_an_empty_name_is_refused(word: str) -> None:
    with pytest.raises(ModelError, match="empty"):
        resolve(word)


def test_a_folder_with_a_config_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    source = resolve(str(tmp_path))
    assert (source.kind, source.path) == ("folder", tmp_path)


def test_a_folder_of_the_name_is_only_taken_when_written_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"write \./mine"):
        resolve("mine")
    assert resolve("./mine").path == tmp_path / "mine"


def test_a_folder_without_config_says_what_is_missing_and_points_at_a_gguf_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve(str(tmp_path))
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"name the file itself: .*a\.gguf"):
        resolve(str(tmp_path))


def test_a_gguf_file_is_a_model_and_other_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF\x03")
    (tmp_path / "b.gguf").write_bytes(b"<html>")
    (tmp_path / "c.bin").write_bytes(b"")
    assert resolve(str(tmp_path / "a.gguf")).kind == "gguf"
    with pytest.raises(ModelError, match="first bytes"):
        resolve(str(tmp_path / "b.gguf"))
    with pytest.raises(ModelError, match=r"not a \.gguf file"):
        resolve(str(tmp_path / "c.bin"))


@pytest.mark.parametrize("word", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all", "nowhere.gguf"])
def test_a_path_that_is_not_there_is_refused_with_the_place(word: str) -> None:
    with pytest.raises(ModelError, match=r"no file or folder(.|\n)*looked at /"):
        resolve(word)


def test_a_revision_of_a_local_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no revisions"):
        resolve(str(tmp_path), "main")


def test_different_files_of_one_name_have_different_places_in_the_cache(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.gguf").write_bytes(b"GGUF")
    keys = {resolve(str(tmp_path / folder / "m.gguf")).key for folder in ("a", "b")}
    assert len(keys) == 2


def test_importing_the_package_loads_neither_torch_nor_transformers() -> None:
    import subprocess

    code = "import sys, runner.models; print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
