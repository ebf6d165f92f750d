"""``run-spec doctor``: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.text import Text

from specs.language.errors import RunSpecError

__all__ = ["examine"]

PACKAGES = ("run-spec", "torch", "transformers", "nnsight", "mlflow", "pydantic", "altair", "vl-convert-python")
NEEDED_BYTES = 8_000_000_000
"""Room that the default model needs while it is fetched and de-quantised, and its runs after that."""

Finding = tuple[bool, str]


def examine(console: Console) -> int:
    """Print one line per finding; give 0, or 4 if something a run needs is missing."""
    good = True
    for title, look in _LOOKS:
        started = time.perf_counter()
        try:
            ok, text = look()
        except RunSpecError as error:
            ok, text = False, f"{error.cause} {error.remedy}"
        seconds = time.perf_counter() - started
        line = Text("ok    " if ok else "wrong ", style="green" if ok else "red")
        line.append(f"{title:<12}")
        line.append(text)
        if seconds > 1:
            line.append(f"  ({seconds:.1f} s)", style="dim")
        console.print(line, highlight=False)
        good = good and ok
    return 0 if good else 4


def _python() -> Finding:
    return sys.version_info >= (3, 11), f"{sys.version.split()[0]}, 3.11 or newer is needed"


def _packages() -> Finding:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    text = ", ".join(found)
    return not missing, text + (f"; missing: {', '.join(missing)} (install as the README says)" if missing else "")


def _device() -> Finding:
    from runner.models import pick_device, pick_dtype

    device = pick_device("auto")
    dtype = pick_dtype("auto", device.device)
    return True, f"{device.device} ({device.reason}); {str(dtype.dtype).removeprefix('torch.')} ({dtype.reason})"


def _cores() -> Finding:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return True, f"{usable} usable, torch uses {torch.get_num_threads()} threads"


def _disk() -> Finding:
    from runner.models import cache_root

    root = cache_root()
    place = next(p for p in (root, *root.parents) if p.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:,.0f} GB free for {root} (RUN_SPEC_CACHE moves it)"
    return free > NEEDED_BYTES, text


def _models() -> Finding:
    from runner.models import cards, local_state, resolve

    here = [name for name in cards() if local_state(resolve(name)).status == "cached"]
    return True, ", ".join(here) if here else "none here yet; the first run fetches what it needs"


def _engine() -> Finding:
    """Trace a tiny random model: nnsight, transformers and torch fit together."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from runner.execute import Engine
    from runner.selfcheck import check

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    engine = Engine(LlamaForCausalLM(config).eval())
    tests = check(engine, [(1, 2, 3, 4, 5), (1, 2, 3, 6, 7)])
    failed = [t.name for t in tests if not t.passed]
    return not failed, f"failed: {', '.join(failed)}" if failed else f"{len(tests)} self-tests of a tiny model passed"


def _charts() -> Finding:
    import vl_convert

    svg = vl_convert.vegalite_to_svg(
        {"data": {"values": [{"a": 1}]}, "mark": "point", "encoding": {"x": {"field": "a", "type": "quantitative"}}}
    )
    return "<svg" in svg, "charts are rendered"


_LOOKS: tuple[tuple[str, Callable[[], Finding]], ...] = (
    ("python", _python),
    ("packages", _packages),
    ("cores", _cores),
    ("device", _device),
    ("disk", _disk),
    ("models", _models),
    ("engine", _engine),
    ("charts", _charts),
)
