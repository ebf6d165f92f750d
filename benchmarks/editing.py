"""What editing costs beside the pass itself: ``python -m benchmarks.editing``.

The same prompts under the same conditions are run with sets of neurons at 0 at every token, in three sites of every
layer, and with conditions that edit nothing; best of several, in one process. ``as pairs`` writes every block out as
pairs of node and neuron, which is how edits were made before there were blocks.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any
from unittest import mock

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from runner import blocks, execute
from runner.execute import Engine
from runner.models import load
from runner.program import Job, NeuronEdit, Resolved, TokenSequence

SITES = ("mlp.gate", "mlp.up", "mlp.out")
SIZES = (10, 3000, 50_000)
CONDITIONS, PROMPTS, TOKENS = 6, 3, 12


def job_of(vocabulary: int) -> Job:
    """Make prompts that are edited from their first token on, under several conditions."""
    random = np.random.default_rng(0)
    every = tuple(range(TOKENS))
    sequences = []
    for group in range(PROMPTS):
        ids = tuple(random.integers(10, vocabulary, TOKENS).tolist())
        score = ((TOKENS - 1, int(ids[0])),)
        sequences.append(TokenSequence(group, ids, score=score))
        sequences += [
            TokenSequence(group, ids, condition, branch_at=0, edits=(every,), score=score)
            for condition in range(CONDITIONS)
        ]
    return Job(tuple(sequences))


def sets_of(engine: Engine, size: int) -> dict[Hashable, Resolved]:
    """Draw a set for every condition, spread over the sites and layers by their width."""
    places = [(site, layer, engine.place(site, layer).width) for site in SITES for layer in range(engine.n_layers)]
    starts = np.cumsum([0, *(width for _, _, width in places)])
    found: dict[Hashable, Resolved] = {}
    for condition in range(CONDITIONS):
        chosen = np.sort(np.random.default_rng(condition).permutation(starts[-1])[:size])
        parts = np.split(chosen, np.searchsorted(chosen, starts[1:-1]))
        edits = [
            NeuronEdit("set", site, layer, part - start, np.zeros(len(part)))
            for (site, layer, _), part, start in zip(places, parts, starts, strict=False)
            if len(part)
        ]
        found[condition] = Resolved((tuple(edits),))
    return found


@click.command()
@click.option("--model", default="smollm2-135m", show_default=True)
@click.option("--repeats", default=2, show_default=True)
def main(model: str, repeats: int) -> None:
    """Print what editing adds to a pass, for sets of several sizes."""
    torch.manual_seed(0)
    engine = Engine(load(model, dtype="float32", device="cpu").model, stems=False)
    job = job_of(int(engine.model.config.get_text_config().vocab_size))
    nothing = {condition: Resolved(((),)) for condition in range(CONDITIONS)}

    def seconds(plans: dict[Hashable, Resolved]) -> float:
        best = float("inf")
        for _ in range(repeats):
            started = time.perf_counter()
            engine.run(job, plans.__getitem__)
            best = min(best, time.perf_counter() - started)
        return best

    def written_down(plans: dict[Hashable, Resolved]) -> float:
        total = 0

        def counted(*arguments: Any) -> list[blocks.Blocks]:
            nonlocal total
            found = blocks.gathered(*arguments)
            total += sum(t.nbytes for part in found for t in (part.nodes, part.columns, part.amounts))
            return found

        with mock.patch.object(execute, "gathered", counted):
            engine.run(job, plans.__getitem__)
        return total / (1 << 20)

    seconds(nothing)
    table = Table("neurons", "way", "seconds", "without edits", "share spent on editing", "written down, MiB")
    for size in SIZES:
        plans = sets_of(engine, size)
        for way, limit in (("blocks", blocks.SMALL["cpu"]), ("as pairs", 1 << 40)):
            kept = dict(blocks.SMALL), blocks.TOGETHER
            blocks.SMALL["cpu"], blocks.TOGETHER = limit, max(limit, blocks.TOGETHER)
            try:
                with_edits, without = seconds(plans), seconds(nothing)
                size_mib = written_down(plans)
            finally:
                blocks.SMALL.update(kept[0])
                blocks.TOGETHER = kept[1]
            share = max(0.0, 1 - without / with_edits)
            table.add_row(f"{size:,}", way, f"{with_edits:.2f}", f"{without:.2f}", f"{share:.1%}", f"{size_mib:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
