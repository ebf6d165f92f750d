"""The process of one way: loads the model once, then does a work whenever it is told to.

Commands come as lines of JSON on the standard input, and each is answered by one line of JSON:

    {"load": PATH}                     -> {"loaded": NAME}
    {"tune": K}                        -> {"seconds": S, "note": TEXT}     on every k-th unit
    {"go": K, "out": PATH or null}     -> {"seconds": S}                   on every k-th unit, results as npz
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ways import WAYS, Loading, Way
from benchmarks.work import Work


def main() -> None:
    """Answer commands until the input ends; an error is answered too, and ends the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=list(WAYS))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args()
    # Libraries print what they like: answers go to a copy of the output, and everything else to the errors.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        import torch

        torch.set_num_threads(given.threads)
        way = _made(given.way, Loading(given.folder, given.dtype, given.model))
        _answer(answers, {"ready": True, "threads": torch.get_num_threads()})
        work: Work | None = None
        parts: dict[int, Work] = {}
        for line in sys.stdin:
            command = json.loads(line)
            if "load" in command:
                work = Work.load(Path(command["load"]))
                parts = {}
                _answer(answers, {"loaded": work.name})
                continue
            assert work is not None
            k = int(command["tune"] if "tune" in command else command["go"])
            part = parts[k] if k in parts else parts.setdefault(k, work.part(k))
            started = time.perf_counter()
            if "tune" in command:
                note = way.tune(part)
                _answer(answers, {"seconds": time.perf_counter() - started, "note": note})
                continue
            results = way.run(part)
            seconds = time.perf_counter() - started
            if command["out"] is not None:
                np.savez(command["out"], allow_pickle=False, **results)
            _answer(answers, {"seconds": seconds})
    except Exception as error:
        traceback.print_exc()
        _answer(answers, {"error": f"{type(error).__name__}: {error}"})
        raise SystemExit(1) from error


def _made(name: str, loading: Loading) -> Way:
    described = WAYS[name]
    module = importlib.import_module(f"benchmarks.ways.{described.module}")
    way: Way = module.make(loading, described.option) if described.option else module.make(loading)
    return way


def _answer(answers: Any, document: dict[str, Any]) -> None:
    answers.write(json.dumps(document) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
