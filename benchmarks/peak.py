"""Run a module as a program, then write the peak of memory: ``python -m benchmarks.peak FILE MODULE ...``."""

from __future__ import annotations

import json
import resource
import runpy
import sys
import time
from pathlib import Path


def peak_bytes() -> int:
    """Give the most memory this process has held (VmHWM where the system tells it)."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Run the module, and write seconds and bytes whatever becomes of it."""
    out, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    started = time.perf_counter()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        document = {"seconds": time.perf_counter() - started, "peak_bytes": peak_bytes()}
        Path(out).write_text(json.dumps(document), encoding="utf-8")


if __name__ == "__main__":
    main()
