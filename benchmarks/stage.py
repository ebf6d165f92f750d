"""The localisation alone, in a process of its own: ``python -m benchmarks.stage MODEL DTYPE N_NAMES N_TEMPLATES``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.prompts import names, templates
from benchmarks.ways import Loading
from benchmarks.ways.run_spec import make
from benchmarks.works import localisation
from runner.models import load_tokenizer, obtain, resolve


def main() -> None:
    """Load, localise once, and print the seconds of the localisation."""
    model, dtype, n_names, n_templates = sys.argv[1:]
    work = localisation(
        load_tokenizer(obtain(resolve(model)).path), "stage", names(int(n_names)), templates(int(n_templates))
    )
    way = make(Loading(Path(), dtype, model))
    started = time.perf_counter()
    way.run(work)
    print(time.perf_counter() - started)


if __name__ == "__main__":
    main()
