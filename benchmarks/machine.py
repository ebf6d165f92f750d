"""What the figures were measured on."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import psutil  # type: ignore[import-untyped]


def processor() -> str:
    """Give the name of the processor, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def describe(threads: int) -> dict[str, Any]:
    """Describe processor, memory and libraries."""
    return {
        "processor": processor(),
        "threads": threads,
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "load before": f"{psutil.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "nnsight")},
    }
