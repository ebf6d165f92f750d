from __future__ import annotations

from pathlib import Path

import pytest
import torch

from runner.models import device as device_module
from runner.models import pick_device, pick_dtype
from specs.language.errors import ModelError

CPU = torch.device("cpu")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_auto_is_the_cpu_where_there_is_no_gpu(no_gpu: None) -> None:
    chosen = pick_device()
    assert chosen.device == CPU
    assert chosen.reason == "auto: there is no GPU that torch can use"


def test_auto_is_the_first_gpu(two_gpus: None) -> None:
    assert pick_device("auto") == (torch.device("cuda:0"), "auto: the first GPU (Card)")


def test_a_gpu_is_taken_by_number(two_gpus: None) -> None:
    assert pick_device("cuda").device == torch.device("cuda:0")
    assert pick_device(" CUDA:1 ").device == torch.device("cuda:1")


def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(two_gpus: None) -> None:
    with pytest.raises(ModelError, match=r"no device 'cuda:7'(.|\n)*cpu, cuda:0, cuda:1"):
        pick_device("cuda:7")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_missing_kind_of_device_is_refused(name: str, no_gpu: None) -> None:
    with pytest.raises(ModelError, match="this machine has cpu"):
        pick_device(name)


def test_an_unknown_word_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="auto, cpu, cuda"):
        pick_device("gpu")
    with pytest.raises(ModelError, match="auto, float32"):
        pick_dtype("half", CPU)


@pytest.mark.parametrize(
    ("flags", "dtype", "word"),
    [
        ("fpu avx512f avx512_bf16", torch.bfloat16, "AVX512-BF16"),
        ("fpu amx_tile amx_bf16 avx512_bf16", torch.bfloat16, "AMX"),
        ("fpu avx2", torch.float32, "neither"),
    ],
)
def test_auto_dtype_follows_the_processor(
    flags: str, dtype: torch.dtype, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nmodel name : x\nflags\t\t: {flags}\n")
    monkeypatch.setattr(device_module, "_CPUINFO", tmp_path / "cpuinfo")
    chosen = pick_dtype("auto", CPU)
    assert chosen.dtype == dtype
    assert word in chosen.reason


def test_without_cpuinfo_torch_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "_CPUINFO", Path("/nowhere"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False})
    assert pick_dtype("auto", CPU).dtype == torch.bfloat16
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert pick_dtype("auto", CPU).dtype == torch.float32


def test_apple_gpus_get_float32() -> None:
    assert pick_dtype("auto", torch.device("mps")).dtype == torch.float32
    with pytest.raises(ModelError, match="no float64"):
        pick_dtype("float64", torch.device("mps"))


@pytest.mark.parametrize(("word", "dtype"), [("BF16", torch.bfloat16), ("float16", torch.float16)])
def test_a_dtype_is_taken_as_asked(word: str, dtype: torch.dtype) -> None:
    assert pick_dtype(word, CPU) == (dtype, "as asked")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_real_gpu_is_found_and_its_dtype_chosen() -> None:
    chosen = pick_device("auto")
    assert chosen.device.type == "cuda"
    assert pick_dtype("auto", chosen.device).dtype in (torch.bfloat16, torch.float32)
    with pytest.raises(ModelError, match="there is no device"):
        pick_device(f"cuda:{torch.cuda.device_count()}")
