"""Average precision of every neuron: beside a loop over scikit-learn, and at the size of a 7B model.

    python -m benchmarks.ranking loop                  # the ratio, both sides in turns
    python -m benchmarks.ranking whole --budget 1GB    # time and peak memory of ranking a whole model's neurons

Values are random: neither side's time depends on them. Passes of a model are no part of it.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import describe
from benchmarks.peak import peak_bytes
from runner.allocator import keep_freed_memory
from runner.localization.precision import precision_of_owners
from runner.localization.prompt_values import PromptValues
from runner.sizes import parse_size
from specs.language.errors import RunSpecError

TOP = 3000
"""Neurons that are taken of each ranking."""
PASS = 50
"""Prompts whose values come together, about what a pass of 512 tokens holds."""


@dataclass(frozen=True)
class Labels:
    """Which prompts each owner compares, ``[n_owners, n_prompts]``: its own, and four others for each."""

    members: Tensor
    positive: Tensor


def labels(n_prompts: int, n_owners: int, ratio: int = 4, seed: int = 0) -> Labels:
    """Share prompts out among owners, and draw negatives of each from the others'."""
    random = np.random.default_rng(seed)
    owner = np.arange(n_prompts) % n_owners
    positive = owner == np.arange(n_owners)[:, None]
    members = positive.copy()
    for row, own in zip(members, positive, strict=True):
        others = np.flatnonzero(~own)
        row[random.choice(others, min(len(others), ratio * int(own.sum())), replace=False)] = True
    return Labels(torch.from_numpy(members), torch.from_numpy(positive))


def by_scikit_learn(values: np.ndarray, given: Labels) -> np.ndarray:
    """Score owner by owner and neuron by neuron, as published code does: ``[n_owners, width]``."""
    from sklearn.metrics import average_precision_score

    found = np.empty((len(given.members), values.shape[1]))
    for k, (member, own) in enumerate(zip(given.members.numpy(), given.positive.numpy(), strict=True)):
        mine, table = own[member], values[member]
        for column in range(values.shape[1]):
            found[k, column] = average_precision_score(mine, table[:, column])
    return found


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Give the seconds that a work takes, and what it gives."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def loop(n_prompts: int, n_owners: int, width: int, sample: int, repeats: int) -> dict[str, Any]:
    """Time both sides in turns: run-spec on ``width`` neurons, scikit-learn on ``sample`` of them, scaled up."""
    values = torch.randn((n_prompts, width), generator=torch.Generator().manual_seed(0))
    given = labels(n_prompts, n_owners)
    chosen = np.linspace(0, width - 1, sample).astype(np.int64)
    part = values.numpy()[:, chosen]
    ours, theirs, difference = [], [], 0.0
    by_scikit_learn(part[:, :1], given)  # and its import
    precision_of_owners(values[:, :1], given.members, given.positive)
    for _ in range(repeats):
        seconds, found = timed(lambda: precision_of_owners(values, given.members, given.positive))
        ours.append(seconds)
        seconds, expected = timed(lambda: by_scikit_learn(part, given))
        theirs.append(seconds * width / sample)
        difference = max(difference, float(np.abs(found.numpy()[:, chosen] - expected).max()))
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {
        "prompts": n_prompts,
        "owners": n_owners,
        "neurons": width,
        "run_spec_seconds": statistics.median(ours),
        "scikit_learn_seconds": statistics.median(theirs),
        "scikit_learn_scaled_from_neurons": sample,
        "ratio": statistics.median(ratios),
        "ratios": sorted(ratios),
        "largest_difference": difference,
    }


def whole(n_prompts: int, n_owners: int, layers: int, width: int, budget: int, scratch: Path) -> dict[str, Any]:
    """Rank a whole model's neurons once: write pass by pass, rank layer by layer, take the best of each owner."""
    keep_freed_memory()  # as the engine does
    given = labels(n_prompts, n_owners)
    before = peak_bytes()
    random = torch.Generator().manual_seed(0)
    seconds = dict.fromkeys(("write", "read", "rank", "choose"), 0.0)
    scores = np.empty((n_owners, layers, width), dtype=np.float32)
    with PromptValues(n_prompts, [width] * layers, budget=budget, scratch=scratch) as store:
        for first in range(0, n_prompts, PASS):
            prompts = np.arange(first, min(first + PASS, n_prompts))
            for layer in range(layers):
                values = torch.randn((len(prompts), width), generator=random)
                seconds["write"] += timed(lambda: store.add(layer, prompts, values))[0]  # noqa: B023
        for layer in range(layers):
            spent, table = timed(lambda: store.layer(layer))  # noqa: B023
            seconds["read"] += spent
            spent, found = timed(lambda: precision_of_owners(table, given.members, given.positive))  # noqa: B023
            seconds["rank"] += spent
            scores[:, layer] = found.float().numpy()
        in_file, stored = store.in_file, store.nbytes
    flat = scores.reshape(n_owners, -1)
    seconds["choose"], best = timed(lambda: [np.argpartition(-row, min(TOP, row.size) - 1)[:TOP] for row in flat])
    base = float((given.positive.sum(1) / given.members.sum(1)).mean())
    return {
        "prompts": n_prompts,
        "owners": n_owners,
        "neurons": layers * width,
        "stored_bytes": stored,
        "in_file": in_file,
        "budget_bytes": budget,
        "seconds": seconds,
        "cpu_seconds_with_drawing_values": time.process_time(),
        "peak_bytes": peak_bytes(),
        "peak_bytes_before": before,
        "mean_precision": float(scores.mean()),
        "base_rate": base,
        "chosen": [len(b) for b in best],
    }


@click.command()
@click.argument("part", type=click.Choice(["loop", "whole"]))
@click.option("--prompts", default=1500, show_default=True)
@click.option("--owners", default=12, show_default=True)
@click.option("--layers", default=32, show_default=True, help="Of the whole model.")
@click.option("--width", default=26_112, show_default=True, help="Neurons of a layer: 11,008 + 11,008 + 4,096.")
@click.option("--sample", default=40, show_default=True, help="Neurons that scikit-learn scores; the rest is scaled.")
@click.option("--repeats", default=3, show_default=True, help="Of the loop.")
@click.option("--budget", default="1GB", show_default=True, help="Memory for values; more goes into a file.")
@click.option("--scratch", type=click.Path(path_type=Path), default=gettempdir(), show_default=True)
@click.option("--threads", default=torch.get_num_threads(), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="A JSON file.")
def main(
    part: str,
    prompts: int,
    owners: int,
    layers: int,
    width: int,
    sample: int,
    repeats: int,
    budget: str,
    scratch: Path,
    threads: int,
    out: Path | None,
) -> None:
    """Measure average precision beside scikit-learn (loop), or over all neurons of a model (whole)."""
    torch.set_num_threads(threads)
    machine = describe(threads)
    if part == "loop":
        found = loop(prompts, owners, width, sample, repeats)
    else:
        room = parse_size(budget)
        assert room is not None
        try:
            found = whole(prompts, owners, layers, width, room, scratch)
        except RunSpecError as error:
            raise click.ClickException(str(error)) from error
    text = json.dumps({"machine": machine, part: found}, indent=1)
    click.echo(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
