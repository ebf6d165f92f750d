"""A whole run of ``specs/trump.yaml`` in processes of its own: nothing in the cache, then everything."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class WholeRun:
    """Seconds of a run with nothing in the cache of stages, and of the same run after it; one pair for each repeat."""

    model: str
    cold: tuple[float, ...]
    warm: tuple[float, ...]

    def document(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {"spec": "specs/trump.yaml", "model": self.model, "cold_seconds": self.cold, "warm_seconds": self.warm}


def cache_beside_models(folder: Path) -> Path:
    """Make a cache that has the models of the real one and nothing else."""
    from runner.models import models_root

    root = folder / "cache"
    root.mkdir()
    (root / "models").symlink_to(models_root(), target_is_directory=True)
    return root


def run_spec(spec: Path, out: Path, cache: Path, threads: int, *settings: str) -> float:
    """Run a spec by the command line, in a process of its own, and give the seconds."""
    command = [sys.executable, "-m", "runner.cli", str(spec), "--out", str(out), "--no-track", "--quiet"]
    for setting in settings:
        command += ["--set", setting]
    environment = {**os.environ, "RUN_SPEC_CACHE": str(cache), "OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"run-spec ended with {done.returncode}: {done.stderr[-600:]}")
    return time.perf_counter() - started


def whole_run(model: str, threads: int, repeats: int = 1) -> WholeRun:
    """Run the spec cold and warm on a model."""
    cold: list[float] = []
    warm: list[float] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(prefix="run-spec-benchmarks-") as scratch:
            folder = Path(scratch)
            cache = cache_beside_models(folder)
            for times in (cold, warm):
                setting = f"model={model}"
                times.append(run_spec(ROOT / "specs" / "trump.yaml", folder / "runs", cache, threads, setting))
    return WholeRun(model, tuple(cold), tuple(warm))
