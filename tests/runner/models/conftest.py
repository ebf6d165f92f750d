"""A tiny model in every form that models come in, and a machine without network."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner.models.card_table import Card, Wheel, WheelSet

SILENT_PORT = "http://127.0.0.1:9"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own for run-spec, and one for the hub."""
    monkeypatch.setenv("RUN_SPEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that nobody answers for."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", SILENT_PORT)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder: Path, name: str, members: dict[str, bytes]) -> Wheel:
    """Write a small but valid wheel and give its pin."""
    package = name.replace("-", "_")
    info = f"{package}-1.0.dist-info"
    contents = {
        f"{package}/__init__.py": b"raise SystemExit('code of a wheel was run')\n",
        **members,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for path, data in contents.items()
    ]
    contents[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]).encode()
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in contents.items():
            archive.writestr(member, data)
    return Wheel(name, "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def cut_into_wheels(data: bytes, n_pieces: int, folder: Path, unpacked_bytes: int = 0) -> WheelSet:
    """Cut a file into pieces, one wheel each."""
    step = -(-len(data) // n_pieces)
    pins = tuple(
        write_wheel(folder, f"tiny-part{n + 1}", {f"tiny_part{n + 1}/data/tiny.part{n:02}": data[n * step :][:step]})
        for n in range(n_pieces)
    )
    digest = hashlib.sha256(data).hexdigest()
    return WheelSet(pins, "*/data/tiny.part*", "tiny.gguf", digest, len(data), unpacked_bytes, "Q8_0")


@pytest.fixture
def wheels_of() -> Callable[..., WheelSet]:
    """``cut_into_wheels`` for tests to call."""
    return cut_into_wheels


@pytest.fixture
def gguf_of() -> Callable[..., Path]:
    """``write_gguf`` for tests to call."""
    return write_gguf


@pytest.fixture
def progressed() -> Progressed:
    return Progressed()


@dataclass
class Progressed:
    """Remembers every call of a progress callback."""

    calls: list[tuple[str, int, int | None]] = field(default_factory=list)

    def __call__(self, label: str, done: int, total: int | None) -> None:
        assert total is None or 0 <= done <= total, (label, done, total)
        self.calls.append((label, done, total))

    def labels(self) -> set[str]:
        return {label.split(" (")[0] for label, _, _ in self.calls}


def write_gguf(path: Path, cut: str = "smollm") -> Path:
    """Write a two-layer llama with byte-level tokens as a GGUF file, its matrices in Q8_0."""
    import gguf
    import numpy as np
    from gguf.quants import quantize
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    n_layers, d_model, n_neurons, n_heads = 2, 32, 64, 2
    letters = list(bytes_to_unicode().values())
    merges = ["Ġ Ġ", "Ġ t", "Ġt h", "Ġth e", "i n", "Ã ©"]
    tokens = ["<|end|>", *letters, *("".join(merge.split()) for merge in merges)]
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(n_layers)
    writer.add_context_length(128)
    writer.add_embedding_length(d_model)
    writer.add_feed_forward_length(n_neurons)
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(n_heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(merges)
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id):
        add(0)
    writer.add_add_bos_token(False)

    def matrix(name: str, *shape: int) -> None:
        values = random.normal(scale=0.2, size=shape).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)

    matrix("token_embd.weight", len(tokens), d_model)
    writer.add_tensor("output_norm.weight", np.ones(d_model, np.float32))
    for layer in range(n_layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{name}.weight", d_model, d_model)
        matrix(f"blk.{layer}.ffn_gate.weight", n_neurons, d_model)
        matrix(f"blk.{layer}.ffn_up.weight", n_neurons, d_model)
        matrix(f"blk.{layer}.ffn_down.weight", d_model, n_neurons)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(d_model, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_folder(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as an ordinary folder. Copy it before changing it."""
    from runner.models.checkpoint import unpack_gguf

    folder = tmp_path_factory.mktemp("folder") / "tiny"
    folder.mkdir()
    unpack_gguf(tiny_gguf, folder, "tiny")
    return folder


@pytest.fixture
def tiny_card(tiny_gguf: Path, index: Path, cache: Path, no_hub: None, monkeypatch: pytest.MonkeyPatch) -> Card:
    """A card 'tiny' whose wheels lie in the index, known to ``resolve``."""
    from runner.models.gguf_header import read_gguf_header

    size = read_gguf_header(tiny_gguf).unpacked_bytes
    wheels = cut_into_wheels(tiny_gguf.read_bytes(), 3, index, size)
    card = Card("tiny", "nobody/tiny", "0" * 40, "llama", 50_000, "none", wheels=wheels)
    monkeypatch.setattr("runner.models.sources.cards", lambda: {"tiny": card})
    monkeypatch.setattr("runner.models.card_table.cards", lambda: {"tiny": card})
    return card


@pytest.fixture
def instant_unpack(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replace unpacking, which is tested elsewhere, by writing small files; gives the files unpacked."""
    unpacked: list[Path] = []

    def unpack(file: Path, folder: Path, name: str, progress: Callable[..., None]) -> dict[str, str]:
        unpacked.append(file)
        for part in ("config.json", "model.safetensors", "tokenizer.json"):
            (folder / part).write_bytes(part.encode() + file.read_bytes()[:100])
        return {"by": "test"}

    monkeypatch.setattr("runner.models.checkpoint.unpack_gguf", unpack)
    return unpacked
