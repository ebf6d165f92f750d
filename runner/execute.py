"""The executor: runs a packed job inside nnsight traces. The only module that imports nnsight.

One forward pass is one trace. Before it, everything that will happen is written down as steps, one per site and
layer, sorted in the order in which the model reaches them; inside the trace a single loop applies them. The
vocabulary projection is done outside, at the nodes that are scored and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from nnsight import NNsight
from torch import Tensor

from interventions import VERBS, copy_nodes, hold
from runner.attention import tree_attention, wide_attention
from runner.budget import default_limits, family_limits
from runner.families import Family, SitePlace, family_of, logits_of, site_place
from runner.program import CLEAN, Job, Limits, Mode, Pass, Resolved, halve, pack
from runner.tree import stack_rows
from specs.language.errors import ModelError, RunError

__all__ = ["Engine", "Outcome", "Reading"]

Resolver = Callable[[Hashable], Resolved]
HEAD_CHUNK = 128
"""Rows of logits made at a time: larger chunks cost memory, smaller ones time."""


@dataclass(frozen=True)
class Reading:
    """Site values of one pass: ``values[site]`` is ``[n_layers, n_read, width]`` on the model's device.

    ``sequence``, ``position``: ``[n_read]``, whose values these are.
    """

    sequence: np.ndarray
    position: np.ndarray
    values: Mapping[str, Tensor]


@dataclass
class Outcome:
    """What a job gave: for each sequence, its scores in the order of ``TokenSequence.score``."""

    logps: list[np.ndarray]
    """Log probability in nats of each scored token, float64."""
    ranks: list[np.ndarray]
    """1 for the most probable token; ties count against the answer."""
    generated: dict[int, tuple[int, ...]] = field(default_factory=dict)
    finite: list[bool] = field(default_factory=list)
    passes: int = 0
    nodes: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


@dataclass
class _Step:
    """What happens at one site of one layer, on values flattened to ``[n_nodes, width]``."""

    place: SitePlace
    copies: tuple[Tensor, Tensor] | None = None
    held: tuple[Tensor, Tensor] | None = None
    edits: list[tuple[str, Tensor, Tensor, Tensor]] = field(default_factory=list)
    read: tuple[str, int] | None = None

    columns: Tensor | None = None
    """The site's columns, where it is only a part of the tensor."""

    @property
    def writes(self) -> bool:
        return bool(self.edits or self.copies is not None or self.held is not None)

    def apply(self, flat: Tensor) -> Tensor:
        """Apply freezes, then edits: the edit wins where both act."""
        if self.copies is not None:
            flat = copy_nodes(flat, *self.copies, self.columns)
        if self.held is not None:
            flat = hold(flat, *self.held, self.columns)
        for op, nodes, neurons, amounts in self.edits:
            flat = VERBS[op](flat, nodes, neurons, amounts)
        return flat


class Engine:
    """A loaded model that runs jobs.

    ``mode``: ``trees`` packs prompts into prompt trees; ``padded`` and ``one by one`` are the fallback for models
    that do not take a tree mask, and the oracle in tests.
    """

    def __init__(
        self, model: Any, *, limits: Limits | None = None, mode: Mode = "trees", family: Family | None = None
    ) -> None:
        self.model = model
        self.family = family or family_of(model.config)
        self.device: torch.device = next(model.parameters()).device
        self.dtype: torch.dtype = next(model.parameters()).dtype
        self.n_layers = int(model.config.get_text_config().num_hidden_layers)
        self.mode: Mode = mode
        self.limits = family_limits(model.config, limits or default_limits(self.device))
        self._traced = NNsight(model)
        self._envoys: dict[str, Any] = {}
        self._places: dict[tuple[str, int], SitePlace] = {}
        self._head = _path_of(model, model.get_output_embeddings())

    # -- public ---------------------------------------------------------------------------------------------

    def place(self, site: str, layer: int) -> SitePlace:
        """Find a site of a layer in this model; a :class:`ModelError` says what there is instead."""
        key = (site, layer)
        if key not in self._places:
            self._places[key] = site_place(self.model, self.family, site, layer)
        return self._places[key]

    def run(
        self,
        job: Job,
        resolve: Resolver | None = None,
        *,
        on_values: Callable[[Reading], None] | None = None,
        progress: Callable[[int], None] | None = None,
        mode: Mode | None = None,
    ) -> Outcome:
        """Run every sequence of a job once.

        ``resolve`` says what a condition does; ``on_values`` gets the site values of each pass and must copy what
        it keeps; ``progress`` gets the number of nodes done. Out of memory, a pass is halved and the outcome notes
        it.
        """
        started = time.perf_counter()
        n = len(job.sequences)
        outcome = Outcome([np.zeros(0)] * n, [np.zeros(0, np.int64)] * n, finite=[True] * n)
        queue = pack(job, self.limits, mode or self.mode)
        chained = (mode or self.mode) != "trees"
        done = [False] * n
        alone_already: set[int] = set()
        while queue:
            batch = queue.pop(0)
            try:
                bad = self._run_pass(job, batch, resolve, outcome, on_values, done, chained)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                parts = halve(batch, job)
                if not parts:
                    raise RunError(
                        f"one prompt of {batch.n_nodes} tokens does not fit into the memory of {self.device}",
                        remedy="use a smaller dtype (model.dtype: bfloat16), a shorter prompt or another device",
                    ) from error
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                outcome.notes.append(f"out of memory: a pass of {batch.n_nodes} tokens was run in {len(parts)}")
                queue = parts + queue
                continue
            outcome.passes += 1
            outcome.nodes += batch.n_nodes
            bad = [i for i in bad if i not in alone_already]
            if bad:
                alone_already.update(bad)
                # A NaN in one branch poisons its whole row: run what the pass held in rows of their own.
                twins = {t for i in bad if (t := job.sequences[i].twin) is not None}
                alone = sorted({*bad, *twins})
                singles = pack(_subset(job, alone), self.limits, "one by one")
                queue = [_renumber(p, alone) for p in singles] + queue
                for i in bad:
                    done[i] = False
            if progress is not None:
                progress(batch.n_nodes)
        outcome.seconds = time.perf_counter() - started
        return outcome

    # -- one pass -------------------------------------------------------------------------------------------

    def _run_pass(
        self,
        job: Job,
        batch: Pass,
        resolve: Resolver | None,
        outcome: Outcome,
        on_values: Callable[[Reading], None] | None,
        done: list[bool],
        chained: bool,
    ) -> list[int]:
        """Run one pass and file its results; give the sequences whose values were not finite."""
        rows = stack_rows(batch.trees)
        width = rows.ids.shape[1]
        nodes: dict[int, np.ndarray] = {}
        for r, (tree, members) in enumerate(zip(batch.trees, batch.members, strict=True)):
            for path, i in zip(tree.paths, members, strict=True):
                nodes[i] = path + r * width
        fresh = [i for i in nodes if not done[i]]
        read_sequence = np.array([i for i in fresh for _ in job.sequences[i].read], dtype=np.int64)
        read_position = np.array([p for i in fresh for p in job.sequences[i].read], dtype=np.int64)
        read_nodes = np.array([nodes[i][p] for i, p in zip(read_sequence, read_position, strict=True)], dtype=np.int64)
        pairs = [(i, int(nodes[i][p]), t) for i in fresh for p, t in job.sequences[i].score]
        wants_text = [i for i in fresh if job.sequences[i].generate]
        ends = np.unique(np.array([n for _, n, _ in pairs] + [int(nodes[i][-1]) for i in wants_text], dtype=np.int64))
        steps = self._steps(job, batch, nodes, resolve, read_nodes)
        cache = _dynamic_cache() if wants_text else None
        saved, hidden = self._forward(rows, steps, read_nodes, ends, cache, chained)
        if len(read_nodes) and on_values is not None:
            values = {site: self._stacked(site, job.layers, saved) for site in job.sites}
            on_values(Reading(read_sequence, read_position, values))
        bad: list[int] = []
        if len(ends):
            bad = self._score(pairs, fresh, ends, hidden, outcome)
            if wants_text:
                self._generate(job, rows, nodes, wants_text, ends, hidden, cache, outcome)
        for i in fresh:
            done[i] = True
        return bad

    def _stacked(self, site: str, layers: Sequence[int], saved: Mapping[tuple[str, int], Tensor]) -> Tensor:
        widths = {self.place(site, layer).width for layer in layers}
        if len(widths) > 1:
            raise ModelError(
                f"the layers of this model differ in their number of neurons at {site} ({sorted(widths)})",
                remedy="rank layers of one width at a time: `layers:`",
            )
        return torch.stack([saved[(site, layer)] for layer in layers])

    def _steps(
        self,
        job: Job,
        batch: Pass,
        nodes: Mapping[int, np.ndarray],
        resolve: Resolver | None,
        read_nodes: np.ndarray,
    ) -> list[_Step]:
        steps: dict[tuple[str, int], _Step] = {}

        def at(site: str, layer: int) -> _Step:
            key = (site, layer)
            if key not in steps:
                place = self.place(site, layer)
                every = None if place.whole else place.columns(torch.arange(place.width, device=self.device))
                steps[key] = _Step(place, columns=every)
            return steps[key]

        if len(read_nodes):
            for site in job.sites:
                for layer in job.layers:
                    at(site, layer).read = (site, layer)
        edits: dict[tuple[str, int], dict[tuple[int, str], dict[tuple[int, int], float]]] = {}
        copies: dict[tuple[str, int], dict[int, int]] = {}
        held: dict[tuple[str, int], dict[int, np.ndarray]] = {}
        resolved: dict[Hashable, Resolved] = {}
        for i, path in nodes.items():
            sequence = job.sequences[i]
            if sequence.condition is CLEAN:
                continue
            if resolve is None:
                raise ValueError("a job with conditions needs a resolver")
            if sequence.condition not in resolved:
                resolved[sequence.condition] = resolve(sequence.condition)
            plan = resolved[sequence.condition]
            for order, (neuron_edits, positions) in enumerate(zip(plan.edits, sequence.edits, strict=True)):
                for edit in neuron_edits:
                    table = edits.setdefault((edit.site, edit.layer), {}).setdefault((order, edit.op), {})
                    for p in positions:
                        node = int(path[p])
                        for neuron, amount in zip(edit.neurons, edit.amounts, strict=True):
                            table[(node, neuron)] = amount
            if plan.held is not None:
                for key, names in plan.held.places.items():
                    # Two names may mean one token (a question that ends in the entity): what is free stays free.
                    free = {p for name, p in sequence.frozen if name not in names}
                    for name, p in sequence.frozen:
                        if name not in names or p in free:
                            continue
                        if plan.held.values is not None:
                            held.setdefault(key, {})[int(path[p])] = plan.held.values[key][(sequence.source, name)]
                        else:
                            if sequence.twin is None:
                                raise ValueError("a freeze to the clean run needs a twin")
                            copies.setdefault(key, {})[int(path[p])] = int(nodes[sequence.twin][p])
        for key, tables in edits.items():
            step = at(*key)
            for (_, op), table in sorted(tables.items()):
                places = np.array(list(table), dtype=np.int64)
                step.edits.append(
                    (
                        op,
                        torch.from_numpy(places[:, 0]).to(self.device),
                        step.place.columns(torch.from_numpy(places[:, 1]).to(self.device)),
                        torch.tensor(list(table.values()), dtype=torch.float32, device=self.device),
                    )
                )
        for key, table2 in copies.items():
            at(*key).copies = (
                torch.tensor(list(table2), device=self.device),
                torch.tensor(list(table2.values()), device=self.device),
            )
        for key, table3 in held.items():
            at(*key).held = (
                torch.tensor(list(table3), device=self.device),
                torch.from_numpy(np.stack(list(table3.values()))).to(self.device),
            )
        return sorted(steps.values(), key=lambda step: step.place.order)

    def _forward(
        self,
        rows: Any,
        steps: Sequence[_Step],
        read_nodes: np.ndarray,
        ends: np.ndarray,
        cache: Any,
        chained: bool,
    ) -> tuple[dict[tuple[str, int], Tensor], Tensor]:
        """Run the trace: edit and read site by site, stop at the head's input or after the last site read."""
        reads = torch.from_numpy(read_nodes).to(self.device)
        at_end = torch.from_numpy(ends).to(self.device)
        needs_head = bool(len(ends))
        head = self._envoy(self._head)
        saved: dict[tuple[str, int], Tensor] = {}
        hidden = torch.empty(0)
        with torch.inference_mode(), wide_attention(), self._inputs(rows, chained) as kwargs:
            if cache is not None:
                kwargs = {**kwargs, "past_key_values": cache}
            with self._traced.trace(**kwargs, use_cache=cache is not None) as tracer:
                for step in steps:
                    envoy = self._envoy(step.place.path)
                    value = envoy.input if step.place.end == "input" else envoy.output
                    whole = value[0] if isinstance(value, tuple) else value
                    flat = whole.reshape(-1, whole.shape[-1])
                    if step.writes:
                        flat = step.apply(flat.clone())
                        edited = flat.view(whole.shape)
                        changed: Any = (edited, *value[1:]) if isinstance(value, tuple) else edited
                        if step.place.end == "input":
                            envoy.input = changed
                        else:
                            envoy.output = changed
                    if step.read is not None:
                        saved[step.read] = step.place.take(flat[reads]).save()  # type: ignore[attr-defined]
                if needs_head:
                    whole = head.input
                    hidden = whole.reshape(-1, whole.shape[-1])[at_end].save()
                tracer.stop()
        return saved, hidden

    def _inputs(self, rows: Any, chained: bool) -> Any:
        ids, depth, end = (torch.from_numpy(a).to(self.device) for a in (rows.ids, rows.depth, rows.end))
        if chained:
            return _plain_inputs(ids, torch.from_numpy(rows.real).to(self.device))
        return tree_attention(self.model, ids, depth, end)

    def _envoy(self, path: str) -> Any:
        if path not in self._envoys:
            envoy: Any = self._traced
            for part in path.split("."):
                envoy = envoy[int(part)] if part.isdigit() else getattr(envoy, part)
            self._envoys[path] = envoy
        return self._envoys[path]

    # -- scores and text ------------------------------------------------------------------------------------

    def _logits(self, hidden: Tensor) -> Tensor:
        with torch.inference_mode():
            return logits_of(self.model, hidden).float()

    def _score(
        self,
        pairs: Sequence[tuple[int, int, int]],
        fresh: Sequence[int],
        ends: np.ndarray,
        hidden: Tensor,
        outcome: Outcome,
    ) -> list[int]:
        """File log probabilities and ranks; give the sequences whose logits were not finite."""
        of_pair = np.searchsorted(ends, np.array([n for _, n, _ in pairs], dtype=np.int64))
        tokens = np.array([t for _, _, t in pairs], dtype=np.int64)
        logps = np.zeros(len(pairs))
        ranks = np.zeros(len(pairs), dtype=np.int64)
        good = np.ones(len(pairs), dtype=bool)
        by_end = np.argsort(of_pair, kind="stable")
        for first in range(0, len(ends), HEAD_CHUNK):
            chosen = by_end[(of_pair[by_end] >= first) & (of_pair[by_end] < first + HEAD_CHUNK)]
            if not len(chosen):
                continue
            logits = self._logits(hidden[first : first + HEAD_CHUNK])
            row = torch.from_numpy(of_pair[chosen] - first).to(self.device)
            token = torch.from_numpy(tokens[chosen]).to(self.device)
            value = logits[row, token]
            norm = torch.logsumexp(logits, dim=-1)[row]
            finite = torch.isfinite(logits).all(dim=-1)[row]
            # In blocks, for a comparison with every logit of every pair would be a large matrix.
            above = torch.cat(
                [
                    (logits[r] >= v[:, None]).sum(dim=-1)
                    for r, v in zip(torch.split(row, HEAD_CHUNK), torch.split(value, HEAD_CHUNK), strict=True)
                ]
            )
            logps[chosen] = (value - norm).double().cpu().numpy()
            ranks[chosen] = above.cpu().numpy()
            good[chosen] = finite.cpu().numpy()
        bad: set[int] = set()
        slots: dict[int, list[int]] = {i: [] for i in fresh}
        for k, (i, _, _) in enumerate(pairs):
            slots[i].append(k)
        for i, ks in slots.items():
            outcome.logps[i] = logps[ks]
            outcome.ranks[i] = ranks[ks]
            outcome.finite[i] = bool(good[ks].all())
            if not outcome.finite[i]:
                bad.add(i)
        return sorted(bad)

    def _generate(
        self,
        job: Job,
        rows: Any,
        nodes: Mapping[int, np.ndarray],
        wanted: Sequence[int],
        ends: np.ndarray,
        hidden: Tensor,
        cache: Any,
        outcome: Outcome,
    ) -> None:
        """Continue greedily from the packed pass: each branch's keys and values are gathered along its path.

        The conditions act in the prompt alone; the tokens that follow are the model's own.
        """
        from runner.generate import continue_greedily

        first = np.searchsorted(ends, np.array([int(nodes[i][-1]) for i in wanted], dtype=np.int64))
        token = torch.cat(
            [
                self._logits(hidden[torch.from_numpy(part).to(self.device)]).argmax(dim=-1)
                for part in np.array_split(first, max(1, len(first) // HEAD_CHUNK))
            ]
        )
        paths = [nodes[i] for i in wanted]
        lengths = [job.sequences[i].generate for i in wanted]
        texts = continue_greedily(self.model, cache, rows.ids.shape, paths, token, lengths)
        for i, text in zip(wanted, texts, strict=True):
            outcome.generated[i] = text


def _plain_inputs(ids: Tensor, real: Tensor) -> Any:
    """The library's own way: right-padded rows with a 2-D mask."""
    from contextlib import nullcontext

    mask = (torch.arange(ids.shape[1], device=ids.device)[None] < real[:, None]).long()
    return nullcontext({"input_ids": ids, "attention_mask": mask})


def _dynamic_cache() -> Any:
    # Without a config: with one, sliding layers would keep only the last nodes of the row.
    from transformers import DynamicCache

    return DynamicCache()


def _path_of(model: Any, module: Any) -> str:
    for name, candidate in model.named_modules():
        if candidate is module:
            return str(name)
    raise RunError("the model has no vocabulary projection", remedy="use a causal language model")


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def _subset(job: Job, members: Sequence[int]) -> Job:
    """The job of some sequences and the twins they need, twins first in the numbering of ``members``."""
    from dataclasses import replace

    index = {i: k for k, i in enumerate(members)}
    sequences = []
    for i in members:
        s = job.sequences[i]
        sequences.append(replace(s, twin=index.get(s.twin) if s.twin is not None else None))
    return Job(tuple(sequences), job.sites, job.layers)


def _renumber(batch: Pass, members: Sequence[int]) -> Pass:
    return Pass(batch.trees, tuple(tuple(members[k] for k in row) for row in batch.members))
