"""Where a model runs and in which number format, each with the reason for the choice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from specs.language.errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["DeviceChoice", "DtypeChoice", "pick_device", "pick_dtype"]

_CPUINFO = Path("/proc/cpuinfo")

_DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
    "float64": "float64",
    "fp64": "float64",
}


class DeviceChoice(NamedTuple):
    """A torch device and why it was taken."""

    device: torch.device
    reason: str


class DtypeChoice(NamedTuple):
    """A torch number format and why it was taken."""

    dtype: torch.dtype
    reason: str


def pick_device(text: str = "auto") -> DeviceChoice:
    """Choose a device from ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` takes the first GPU, then Apple's, then the CPU. Raises ModelError for a device that this
    machine does not have, and says which it has.
    """
    import torch

    word = text.strip().lower()
    cuda = [f"cuda:{n}" for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    if word == "auto":
        if cuda:
            return DeviceChoice(torch.device("cuda:0"), f"auto: the first GPU ({torch.cuda.get_device_name(0)})")
        if mps:
            return DeviceChoice(torch.device("mps"), "auto: the Apple GPU")
        return DeviceChoice(torch.device("cpu"), "auto: there is no GPU that torch can use")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", word):
        raise ModelError(f"unknown device '{text}'", remedy="write auto, cpu, cuda, cuda:1 or mps")
    name = "cuda:0" if word == "cuda" else word
    here = ["cpu", *cuda, *mps]
    if name not in here:
        built = "" if torch.version.cuda or not name.startswith("cuda") else "; this torch is built without CUDA"
        raise ModelError(f"there is no device '{text}' here", remedy=f"this machine has {', '.join(here)}{built}")
    return DeviceChoice(torch.device(name), "as asked")


def pick_dtype(text: str, device: torch.device) -> DtypeChoice:
    """Choose a number format from ``auto`` or a name such as ``float32`` or ``bfloat16``.

    ``auto`` is bfloat16 where the device computes in it natively (a GPU that supports it, a CPU with
    AVX512-BF16 or AMX) and float32 elsewhere. Apple GPUs get float32: float16 overflows in models trained
    in bfloat16 (activations beyond 65,504), and not every one of them has bfloat16. Raises ModelError for
    an unknown name, or one the device cannot do.
    """
    import torch

    word = text.strip().lower()
    if word == "auto":
        return _auto_dtype(device)
    if word not in _DTYPES:
        raise ModelError(f"unknown dtype '{text}'", remedy="write auto, float32, bfloat16, float16 or float64")
    dtype: torch.dtype = getattr(torch, _DTYPES[word])
    if device.type == "mps" and dtype is torch.float64:
        raise ModelError("an Apple GPU has no float64", remedy="write device: cpu, or dtype: float32")
    return DtypeChoice(dtype, "as asked")


def _auto_dtype(device: torch.device) -> DtypeChoice:
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        if native:
            return DtypeChoice(torch.bfloat16, "auto: the GPU computes in bfloat16")
        return DtypeChoice(torch.float32, "auto: the GPU has no native bfloat16")
    if device.type == "mps":
        return DtypeChoice(torch.float32, "auto: float32 on Apple GPUs, since float16 overflows in some models")
    feature = _cpu_bfloat16()
    if feature:
        return DtypeChoice(torch.bfloat16, f"auto: the CPU computes in bfloat16 ({feature})")
    return DtypeChoice(torch.float32, "auto: the CPU has neither AVX512-BF16 nor AMX, so bfloat16 would be slow")


def _cpu_bfloat16() -> str | None:
    """Name the CPU's bfloat16 instructions, if it has any that torch uses."""
    try:
        words = set(re.findall(r"^flags\s*:\s*(.*)$", _CPUINFO.read_text(errors="replace"), re.M)[0].split())
    except (OSError, IndexError):
        # other systems: torch asks the processor itself
        import torch

        ask = getattr(torch.cpu, "get_capabilities", dict)
        words = {name for name, present in ask().items() if present is True}
    for flag, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")):
        if flag in words:
            return name
    return None
