"""How time and memory grow with entities and with the model: ``python -m benchmarks.scaling --out DIR``.

Each point is a fresh process: a generated spec run with ``run-spec``, or with ``--stage-only`` the localisation alone.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.prompts import names
from benchmarks.trump import cache_beside_models

ROOT = Path(__file__).resolve().parents[1]
GIB = 1 << 30
SHARE = 1.5
"""Peak memory should stay below so many times the weights and one GiB."""
N_TEMPLATES = 100


@dataclass(frozen=True)
class Point:
    """One run: seconds of the whole process, peak memory, and the weights in the format they are run in."""

    model: str
    dtype: str
    entities: int
    templates: int
    seconds: float
    """Of the run; of the localisation alone with ``--stage-only``."""
    peak_bytes: int
    model_bytes: int
    stage_only: bool

    @property
    def allowed_bytes(self) -> float:
        """Give the memory that the run should not exceed."""
        return SHARE * self.model_bytes + GIB

    def document(self) -> dict[str, Any]:
        """Give it as JSON."""
        within = self.peak_bytes <= self.allowed_bytes
        return {**asdict(self), "allowed_bytes": int(self.allowed_bytes), "within": within}


def spec_text(model: str, dtype: str, n_names: int) -> str:
    """Write the spec of a localisation: names, the shipped openings, and nothing else."""
    entities = "\n".join(f"  e{i}: {name}" for i, name in enumerate(names(n_names)))
    head = f"version: 1\nname: scaling\nmodel: {{id: {json.dumps(model)}, dtype: {dtype}}}\n"
    return f"{head}entities:\n{entities}\nlocalize:\n  cell: stability\n"


def random_llama(shape: str, folder: Path) -> Path:
    """Write a checkpoint of random weights, ``LAYERSxWIDTHxNEURONS``, with the tokenizer of the smallest model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from runner.models import load_tokenizer, obtain, resolve

    layers, width, neurons = (int(part) for part in shape.split("x"))
    place = folder / f"llama-{shape}"
    if place.exists():
        return place
    tokenizer: Any = load_tokenizer(obtain(resolve("smollm2-135m")).path)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=neurons,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def weight_bytes(folder: Path, dtype: str) -> int:
    """Give the size of a checkpoint's weights in a number format, from the headers of its files."""
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            total += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    return total * {"float32": 4, "bfloat16": 2}[dtype]


def measure(model: str, dtype: str, n_names: int, scratch: Path, threads: int, *, stage_only: bool) -> Point:
    """Run one point in a fresh process with an empty cache of stages."""
    from runner.models import obtain, resolve

    with tempfile.TemporaryDirectory(dir=scratch) as own:
        folder = Path(own)
        told = folder / "peak.json"
        command = [sys.executable, "-m", "benchmarks.peak", str(told)]
        if stage_only:
            command += ["benchmarks.stage", model, dtype, str(n_names), str(N_TEMPLATES)]
        else:
            spec = folder / "spec.yaml"
            spec.write_text(spec_text(model, dtype, n_names), encoding="utf-8")
            command += ["runner.cli", "run", str(spec), "--out", str(folder / "runs"), "--no-track", "--quiet"]
        cache = cache_beside_models(folder)
        environment = {**os.environ, "RUN_SPEC_CACHE": str(cache), "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{model}, {n_names} entities: {done.stderr[-600:]}")
        found = json.loads(told.read_text(encoding="utf-8"))
    seconds = float(done.stdout.split()[-1]) if stage_only else float(found["seconds"])
    size = weight_bytes(obtain(resolve(model)).path, dtype)
    return Point(model, dtype, n_names, N_TEMPLATES, seconds, int(found["peak_bytes"]), size, stage_only)


def show(points: Sequence[Point], console: Console) -> None:
    """Print a table of the points."""
    table = Table()
    for header in ("model", "format", "entities", "s", "peak GiB", "allowed GiB", ""):
        table.add_column(header, justify="left" if header in ("model", "format", "") else "right")
    for p in points:
        verdict = "" if p.peak_bytes <= p.allowed_bytes else "above"
        sizes = (f"{p.peak_bytes / GIB:.2f}", f"{p.allowed_bytes / GIB:.2f}")
        table.add_row(Path(p.model).name, p.dtype, str(p.entities), f"{p.seconds:.1f}", *sizes, verdict)
    console.print(table)


def figure(points: Sequence[Point]) -> str:
    """Draw seconds and peak memory over entities, a colour for each model; dashes are what memory may take."""
    import altair as alt

    from reports.drawing import ACCENT, COLOURS, FONT, GRID, INK, to_svg
    from reports.encodings import inline

    rows = [
        {
            "model": f"{Path(p.model).name}, {p.dtype}",
            "entities": p.entities,
            "seconds": p.seconds,
            "peak": p.peak_bytes / GIB,
            "allowed": p.allowed_bytes / GIB,
        }
        for p in points
    ]
    palette = list(dict.fromkeys([ACCENT, *COLOURS.values(), INK]))
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    legend = alt.Legend(title=None, orient="bottom", columns=2)
    colour = alt.Color("model:N", scale=alt.Scale(domain=models, range=palette), legend=legend)
    ticks = sorted({p.entities for p in points})
    x = alt.X(
        "entities:Q",
        scale=alt.Scale(type="log", domain=[ticks[0], ticks[-1]], nice=False) if len(ticks) > 1 else alt.Scale(),
        axis=alt.Axis(title="entities, 100 prompts each", values=ticks, grid=False),
    )
    base = alt.Chart(inline(rows)).encode(x=x, color=colour).properties(width=300, height=220)

    longest = max(p.seconds for p in points)
    powers = [10**k for k in range(-2, 7) if 10**k <= 10 * longest]

    def curve(field: str, title: str, kind: str) -> Any:
        scale = alt.Scale(type="log") if kind == "log" else alt.Scale(zero=True)
        marked = {"values": powers} if kind == "log" else {"tickCount": 5}
        axis = alt.Axis(title=title, grid=True, gridColor=GRID, **marked)
        return base.encode(y=alt.Y(f"{field}:Q", scale=scale, axis=axis))

    seconds = curve("seconds", "seconds", "log")
    memory = curve("peak", "GiB, the most held", "linear")
    allowed = curve("allowed", "GiB, the most held", "linear").mark_line(strokeDash=[4, 4], strokeWidth=1, opacity=0.7)
    left = alt.layer(seconds.mark_line(strokeWidth=1.8), seconds.mark_point(filled=True, size=30))
    right = alt.layer(allowed, memory.mark_line(strokeWidth=1.8), memory.mark_point(filled=True, size=30))
    dashed = "Memory; dashed: 1.5 times the weights and 1 GiB"
    chart = alt.hconcat(left.properties(title="Time"), right.properties(title=dashed), spacing=40)
    title = "Time and memory of a localisation"
    description = "; ".join(f"{r['model']}, {r['entities']}: {r['seconds']:.0f} s, {r['peak']:.1f} GiB" for r in rows)
    drawn = to_svg(chart, "scaling", title, description)
    # The helper draws for a page that brings font and background; a file stands alone.
    own = f'<svg xmlns="http://www.w3.org/2000/svg" font-family="{FONT}" '
    return drawn.replace("<svg ", own, 1).replace('style="max-width', 'style="background:#fff;max-width', 1)


@click.command()
@click.option("--models", default="smollm2-135m:float32", show_default=True, help="Models, with commas.")
@click.option("--shapes", default="", help="Random llamas, LAYERSxWIDTHxNEURONS with commas, such as 12x768x2048.")
@click.option("--dtype", default="float32", show_default=True, help="Number format of the random ones.")
@click.option("--entities", default="1,10,100,1000", show_default=True, help="Numbers of entities.")
@click.option("--threads", default=os.cpu_count() or 1, show_default=True, help="Threads of torch.")
@click.option("--stage-only", is_flag=True, help="Measure the localisation alone, without spec, report and baseline.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for scaling.json and scaling.svg.")
def main(models: str, shapes: str, dtype: str, entities: str, threads: int, stage_only: bool, out: Path) -> None:
    """Measure time and memory of localising N entities in 100 prompts each."""
    from runner.models import pick_device, pick_dtype

    errors = Console(stderr=True)
    out.mkdir(parents=True, exist_ok=True)
    machine = describe(threads)
    points: list[Point] = []
    with tempfile.TemporaryDirectory(prefix="run-spec-scaling-") as scratch:
        asked = [model.partition(":")[::2] for model in models.split(",") if model]
        asked += [(str(random_llama(shape, Path(scratch))), dtype) for shape in shapes.split(",") if shape]
        for model, given in asked:
            chosen = str(pick_dtype(given or "auto", pick_device("cpu").device).dtype).removeprefix("torch.")
            for n in entities.split(","):
                point = measure(model, chosen, int(n), Path(scratch), threads, stage_only=stage_only)
                points.append(point)
                errors.print(f"{Path(model).name}, {n} entities: {point.seconds:.1f} s", style="dim", highlight=False)
                # After every point, for the last ones take long.
                document = {"machine": machine, "points": [p.document() for p in points]}
                (out / "scaling.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
                (out / "scaling.svg").write_text(figure(points), encoding="utf-8")
    show(points, Console())


if __name__ == "__main__":
    main()
