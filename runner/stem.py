"""The layers before the first edit, run once for all conditions of a prompt.

Until an edit acts, the nodes of a branch have the values of the same tokens unedited. So those layers are run on the
tree without conditions, the stem, and what comes out of them is handed to every branch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.program import CLEAN, Job, Pass, Resolve
from runner.tree import Rows, build_tree, count_nodes, stack_rows

__all__ = ["Stem", "layers_before_edits", "stem_of", "takes_stems"]

WORTH = 0.1
"""Share of the work that must be saved; the stem is a trace of its own."""


@dataclass(frozen=True)
class Stem:
    """The trees of a pass without their conditions, row by row.

    ``twin``: for each node of the pass (padding included), flat, the node of the stem with its value.
    """

    layers: int
    """Blocks that are run on the stem alone: those before this one."""
    rows: Rows
    twin: np.ndarray


def takes_stems(config: Any) -> bool:
    """Say whether later layers of a model need nothing of earlier ones but their output: no shared keys, no streams."""
    text = config.get_text_config()
    return not getattr(text, "num_kv_shared_layers", 0) and not hasattr(text, "altup_num_inputs")


def layers_before_edits(
    job: Job,
    resolve: Resolve | None,
    passes: Sequence[Pass],
    n_layers: int,
    layer_of: Callable[[str, int], int],
) -> int:
    """Count the layers that no condition of a job touches and no value is read in; 0 where a stem is not worth it.

    For the job as a whole, so that the rows of a pass do not decide how one of them is run. ``layer_of``: the block
    that holds a site of a layer, below 0 for what comes before all blocks.
    """
    conditions = {s.condition for s in job.sequences if s.condition is not CLEAN}
    if not conditions or resolve is None or any(s.generate for s in job.sequences):
        return 0  # decoding needs the keys and values of every layer
    first = min((layer_of(site, layer) for site in job.sites for layer in job.layers), default=n_layers)
    for condition in conditions:
        plan = resolve(condition)
        first = min([first, *(layer_of(edit.site, edit.layer) for edits in plan.edits for edit in edits)])
        first = min([first, *(layer_of(*place) for place in (plan.held.places if plan.held is not None else ()))])
        if first <= 0:
            return 0
    nodes = sum(batch.n_nodes for batch in passes)
    saved = first * (nodes - count_nodes([s.ids for s in job.sequences]))
    return first if saved > WORTH * n_layers * nodes else 0


def stem_of(job: Job, batch: Pass, rows: Rows, layers: int) -> Stem:
    """Build the stem of a pass."""
    trees = [build_tree([job.sequences[i].ids for i in members]) for members in batch.members]
    stems = stack_rows(trees, align=True)
    width = stems.ids.shape[1]
    twin = np.zeros(rows.ids.shape, dtype=np.int64)
    for r, (full, stem) in enumerate(zip(batch.trees, trees, strict=True)):
        twin[r] = r * width
        for path, own in zip(full.paths, stem.paths, strict=True):
            twin[r, path] = own + r * width
    return Stem(layers, stems, twin.reshape(-1))
