"""The executor: runs a packed job inside nnsight traces. The only module that imports nnsight.

One forward pass is one trace. Before it, everything that will happen is written down as steps, one per site and
layer, sorted in the order in which the model reaches them; inside the trace a single loop applies them. The
vocabulary projection is done outside, at the nodes that are scored and nowhere else.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from nnsight import NNsight
from torch import Tensor

from interventions import copy_nodes, hold
from runner.allocator import keep_freed_memory
from runner.attention import tree_attention, wide_attention
from runner.blocks import Block, Blocks, gathered
from runner.budget import HEAD_CHUNK, default_limits, default_memory, family_limits, used_bytes
from runner.families import Family, SitePlace, block_paths, family_of, logits_of, site_place
from runner.localization.pool import pooled
from runner.program import (
    CLEAN,
    Job,
    Limits,
    Mode,
    NeuronEdit,
    Pass,
    Resolve,
    Resolved,
    Stored,
    halve,
    pack,
    subset,
)
from runner.proof import Proof, require_held
from runner.stem import Stem, layers_before_edits, stem_of, takes_stems
from runner.tree import ALIGN, stack_rows
from specs.language.errors import RunError

__all__ = ["Engine", "Outcome", "Reading"]


@dataclass(frozen=True)
class Reading:
    """Site values of one pass: ``values[site][k]`` is ``[n_read, width]``, at the job's k-th layer, on the device.

    ``sequence``, ``position``: ``[n_read]``, whose values these are. Of a job that pools, a sequence has one value, in
    float32 at least, and no position (-1).
    """

    sequence: np.ndarray
    position: np.ndarray
    values: Mapping[str, tuple[Tensor, ...]]


@dataclass
class Outcome:
    """What a job gave: for each sequence, its scores in the order of ``TokenSequence.score``."""

    logps: list[np.ndarray]
    """Log probability in nats of each scored token, float64."""
    ranks: list[np.ndarray]
    """1 for the most probable token; ties count against the answer."""
    generated: dict[int, tuple[int, ...]] = field(default_factory=dict)
    finite: list[bool] = field(default_factory=list)
    done: list[bool] = field(default_factory=list)
    """Which sequences have been run: all, where the run came to its end."""
    deviation: list[float] = field(default_factory=list)
    """The largest deviation of a frozen value of each sequence from its source; NaN where nothing is frozen."""
    passes: int = 0
    nodes: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def take(self, part: Outcome, members: Sequence[int]) -> None:
        """Put the outcome of some sequences in their places, and add what it cost."""
        for k, i in enumerate(members):
            self.logps[i], self.ranks[i] = part.logps[k], part.ranks[k]
            self.finite[i], self.done[i], self.deviation[i] = part.finite[k], part.done[k], part.deviation[k]
            if k in part.generated:
                self.generated[i] = part.generated[k]
        self.passes += part.passes
        self.nodes += part.nodes
        self.seconds += part.seconds
        self.notes += [note for note in part.notes if note not in self.notes]


@dataclass
class _Step:
    """What happens at one site of one layer, on values flattened to ``[n_nodes, width]``.

    Edits are written down as blocks, nodes times neurons, one for each condition; small blocks are closed to one
    operation, so that neither the number of neurons of a set nor that of the conditions is a number of operations.
    """

    place: SitePlace
    columns: Tensor | None = None
    """The site's columns, where it is only a part of the tensor."""
    read: tuple[str, int] | None = None
    _edits: dict[tuple[int, str], list[Block]] = field(default_factory=dict)
    _copies: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    _held: list[tuple[np.ndarray, list[np.ndarray]]] = field(default_factory=list)
    copies: tuple[Tensor, Tensor] | None = None
    held: tuple[Tensor, Tensor] | None = None
    edits: list[Blocks] = field(default_factory=list)

    def edit(self, order: int, op: str, block: Block) -> None:
        """Edit every one of some neurons at every one of some nodes."""
        self._edits.setdefault((order, op), []).append(block)

    def copy(self, to: np.ndarray, source: np.ndarray) -> None:
        """Hold whole nodes at the values of other nodes of the same pass."""
        self._copies.append((to, source))

    def hold(self, to: np.ndarray, vectors: list[np.ndarray]) -> None:
        """Hold whole nodes at stored vectors."""
        self._held.append((to, vectors))

    def close(self, device: torch.device) -> None:
        """Put what was written down on the device."""

        def tensor(parts: Sequence[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.concatenate(parts)).to(device)

        for (_, op), blocks in sorted(self._edits.items(), key=lambda item: item[0]):
            self.edits += gathered(op, blocks, self.place.columns, device)
        if self._copies:
            to, source = zip(*self._copies, strict=True)
            self.copies = tensor(to), tensor(source)
        if self._held:
            vectors = np.stack([vector for _, held in self._held for vector in held])
            self.held = tensor([to for to, _ in self._held]), torch.from_numpy(vectors).to(device)

    @property
    def writes(self) -> bool:
        return bool(self.edits or self.copies is not None or self.held is not None)

    def apply(self, flat: Tensor) -> Tensor:
        """Apply freezes, then edits: the edit wins where both act."""
        if self.copies is not None:
            flat = copy_nodes(flat, *self.copies, self.columns)
        if self.held is not None:
            flat = hold(flat, *self.held, self.columns)
        for blocks in self.edits:
            flat = blocks.apply(flat)
        return flat


class Engine:
    """A loaded model that runs jobs.

    ``mode``: ``trees`` packs prompts into prompt trees; ``padded`` and ``one by one`` are the fallback for models
    that do not take a tree mask, and the oracle in tests.
    """

    def __init__(
        self,
        model: Any,
        *,
        limits: Limits | None = None,
        mode: Mode = "trees",
        family: Family | None = None,
        reading_bytes: int | None = None,
        stems: bool = True,
    ) -> None:
        self.model = model
        self.family = family or family_of(model.config)
        self.device: torch.device = next(model.parameters()).device
        self.dtype: torch.dtype = next(model.parameters()).dtype
        self.n_layers = int(model.config.get_text_config().num_hidden_layers)
        self.mode: Mode = mode
        self.limits = family_limits(
            model.config, limits or default_limits(self.device, str(model.config._attn_implementation), self.dtype)
        )
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        self.reading_bytes = reading_bytes or default_memory(self.device, weights).reading
        """What statistics and values that are read may take at a time."""
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._resting = used_bytes(self.device)
        self._deepest: int | None = None
        """Tokens of the longest sequence of the job that is being run."""
        self.most_bytes = 0
        """The most memory that passes have been seen to take beside the weights."""
        self.stems = stems and takes_stems(model.config)
        """Whether layers before the first edit are run once for all conditions."""
        self._traced = NNsight(model)
        self._envoys: dict[str, Any] = {}
        self._places: dict[tuple[str, int], SitePlace] = {}
        self._head = _path_of(model, model.get_output_embeddings())
        self._blocks = block_paths(model, self.family)

    # -- public ---------------------------------------------------------------------------------------------

    def place(self, site: str, layer: int) -> SitePlace:
        """Find a site of a layer in this model; a :class:`ModelError` says what there is instead."""
        key = (site, layer)
        if key not in self._places:
            self._places[key] = site_place(self.model, self.family, site, layer)
        return self._places[key]

    def _layer_of(self, site: str, layer: int) -> int:
        """Give the block that holds a site; a module named by its path may be before all blocks."""
        return int(self.place(site, layer).order[0])

    def run(
        self,
        job: Job,
        resolve: Resolve | None = None,
        *,
        on_values: Callable[[Reading], None] | None = None,
        progress: Callable[[int], None] | None = None,
        mode: Mode | None = None,
        outcome: Outcome | None = None,
    ) -> Outcome:
        """Run every sequence of a job once.

        ``resolve`` says what a condition does; ``on_values`` gets the site values of each pass and must copy what
        it keeps; ``progress`` gets the number of nodes done. ``outcome``, from :meth:`blank`, is filled pass by pass,
        so that an interrupted caller has what was finished. Out of memory, a pass is halved and the outcome notes it.
        """
        started = time.perf_counter()
        outcome = outcome or self.blank(job)
        self._deepest = max((len(s.ids) for s in job.sequences), default=0)
        queue = self._readable(job, pack(job, self.limits, mode or self.mode))
        chained = (mode or self.mode) != "trees"
        before = 0
        if self.stems and not chained:
            before = layers_before_edits(job, resolve, queue, self.n_layers, self._layer_of)
        alone_already: set[int] = set()
        with _collecting() as collect:
            while queue:
                batch = queue.pop(0)
                try:
                    bad, reading = self._run_pass(job, batch, resolve, outcome, chained, before)
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
                if on_values is not None and reading is not None:
                    # Not within the try: what has been added to a sum must not be added again by a second attempt.
                    self._hand_over(reading, on_values)
                # The process keeps what a pass has freed, so that its peak can be seen after it.
                self.most_bytes = max(self.most_bytes, used_bytes(self.device) - self._resting)
                outcome.passes += 1
                outcome.nodes += batch.n_nodes
                for i in alone_already.intersection(bad):
                    outcome.done[i] = True  # by itself it is no better
                bad = [i for i in bad if i not in alone_already]
                if bad:
                    alone_already.update(bad)
                    # A NaN in one branch poisons its whole row: run what the pass held in rows of their own.
                    twins = {t for i in bad if (t := job.sequences[i].twin) is not None}
                    alone = sorted({*bad, *twins})
                    singles = pack(subset(job, alone), self.limits, "one by one")
                    queue = [_renumber(p, alone) for p in singles] + queue
                reading = None
                collect()
                if progress is not None:
                    progress(batch.n_nodes)
        outcome.seconds = time.perf_counter() - started
        return outcome

    @staticmethod
    def blank(job: Job) -> Outcome:
        """Make the outcome of a job of which nothing has been run."""
        n = len(job.sequences)
        return Outcome(
            [np.zeros(0)] * n,
            [np.zeros(0, np.int64)] * n,
            finite=[True] * n,
            done=[False] * n,
            deviation=[float("nan")] * n,
        )

    # -- one pass -------------------------------------------------------------------------------------------

    def _run_pass(
        self,
        job: Job,
        batch: Pass,
        resolve: Resolve | None,
        outcome: Outcome,
        chained: bool,
        before: int,
    ) -> tuple[list[int], Reading | None]:
        """Run one pass and file its scores; give the sequences whose logits were not finite, and what was read."""
        rows = stack_rows(batch.trees, align=not chained)
        width = rows.ids.shape[1]
        nodes: dict[int, np.ndarray] = {}
        for r, (tree, members) in enumerate(zip(batch.trees, batch.members, strict=True)):
            for path, i in zip(tree.paths, members, strict=True):
                nodes[i] = path + r * width
        fresh = [i for i in nodes if not outcome.done[i]]
        reading = [i for i in fresh if job.sequences[i].read]
        read_position = _joined([np.array(job.sequences[i].read, dtype=np.int64) for i in reading])
        read_sequence = np.repeat(
            np.array(reading, dtype=np.int64), [len(job.sequences[i].read) for i in reading] if reading else 0
        )
        read_nodes = _joined([nodes[i][list(job.sequences[i].read)] for i in reading])
        pool = self._pool(job, reading)
        pairs = [(i, int(nodes[i][p]), t) for i in fresh for p, t in job.sequences[i].score]
        wants_text = [i for i in fresh if job.sequences[i].generate]
        ends = np.unique(np.array([n for _, n, _ in pairs] + [int(nodes[i][-1]) for i in wants_text], dtype=np.int64))
        steps, proof = self._steps(job, batch, nodes, resolve, read_nodes)
        cache = _dynamic_cache() if wants_text else None
        stem = stem_of(job, batch, rows, before) if before else None
        with proof.watching(self.model):
            saved, hidden = self._forward(rows, steps, read_nodes, ends, cache, chained, stem, pool)
        for i, deviation in proof.deviations().items():
            outcome.deviation[i] = deviation
            require_held(deviation)
        found = None
        if len(read_nodes):
            values = {site: tuple(saved[(site, layer)] for layer in job.layers) for site in job.sites}
            if pool is not None:
                read_sequence = np.array(reading, dtype=np.int64)
                read_position = np.full(len(reading), -1, dtype=np.int64)
            found = Reading(read_sequence, read_position, values)
        bad: list[int] = []
        if len(ends):
            bad = self._score(pairs, fresh, ends, hidden, outcome)
            if wants_text:
                self._generate(job, rows, nodes, wants_text, ends, hidden, cache, outcome, resolve)
        for i in set(fresh) - set(bad):
            outcome.done[i] = True
        return bad, found

    def _readable(self, job: Job, queue: list[Pass]) -> list[Pass]:
        """Run fewer rows together where what is read of them would take more memory than reading may."""
        if not job.sites:
            return queue
        neurons = sum(self.place(site, layer).width for site in job.sites for layer in job.layers)

        def size(batch: Pass) -> int:
            read = [len(job.sequences[i].read) for row in batch.members for i in row]
            n = sum(map(bool, read)) * 4 if job.pool else sum(read) * self.dtype.itemsize
            return n * neurons

        found: list[Pass] = []
        waiting = list(reversed(queue))
        while waiting:
            batch = waiting.pop()
            if len(batch.trees) > 1 and size(batch) > self.reading_bytes and len(parts := halve(batch, job)) == 2:
                waiting += reversed(parts)
            else:
                found.append(batch)
        return found

    def _pool(self, job: Job, reading: Sequence[int]) -> Callable[[Tensor], Tensor] | None:
        """Give what makes one value of the tokens of each sequence that is read; None where each has one token."""
        counts = [len(job.sequences[i].read) for i in reading]
        if not job.pool or not any(n > 1 for n in counts):
            return None
        owner = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(self.device)
        dtype = torch.promote_types(self.dtype, torch.float32)
        return lambda values: pooled(values, owner, len(counts), job.pool).to(dtype)

    def _hand_over(self, reading: Reading, on_values: Callable[[Reading], None]) -> None:
        try:
            on_values(reading)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            raise RunError(
                f"what was read in a pass does not fit beside it into the memory of {self.device}",
                remedy="give less memory to a pass (`--memory`), use a smaller dtype or another device",
            ) from error

    def _steps(
        self,
        job: Job,
        batch: Pass,
        nodes: Mapping[int, np.ndarray],
        resolve: Resolve | None,
        read_nodes: np.ndarray,
    ) -> tuple[list[_Step], Proof]:
        steps: dict[tuple[str, int], _Step] = {}

        def at(site: str, layer: int) -> _Step:
            return self._step(steps, site, layer)

        if len(read_nodes):
            for site in job.sites:
                for layer in job.layers:
                    at(site, layer).read = (site, layer)
        proof = Proof()
        for condition, members in _by_condition(job, nodes).items():
            if resolve is None:
                raise ValueError("a job with conditions needs a resolver")
            plan = resolve(condition)
            self._edit_steps(job, nodes, members, plan, at)
            proof.expect(job, nodes, members, plan, self.place)
        for step in steps.values():
            step.close(self.device)
        return sorted(steps.values(), key=lambda step: step.place.order), proof

    def _step(self, steps: dict[tuple[str, int], _Step], site: str, layer: int) -> _Step:
        key = (site, layer)
        if key not in steps:
            place = self.place(site, layer)
            every = None if place.whole else place.columns(torch.arange(place.width, device=self.device))
            steps[key] = _Step(place, columns=every)
        return steps[key]

    def _onward_steps(self, job: Job, decoded: Sequence[int], resolve: Resolve | None) -> list[_Step]:
        """Write down what is edited at the one token of each sequence in a pass of decoding: node k of sequence k."""
        steps: dict[tuple[str, int], _Step] = {}
        rows: dict[tuple[Hashable, tuple[int, ...]], list[int]] = {}
        for k, i in enumerate(decoded):
            sequence = job.sequences[i]
            if sequence.condition is not CLEAN and sequence.onward:
                rows.setdefault((sequence.condition, sequence.onward), []).append(k)
        for (condition, onward), nodes in rows.items():
            if resolve is None:
                raise ValueError("a job with conditions needs a resolver")
            edits = resolve(condition).edits
            for order in onward:
                for edit in edits[order]:
                    if edit.weights:
                        continue  # in the model for the while
                    if edit.source is not None:
                        raise RunError(
                            "what is generated cannot be set to values of another run",
                            remedy="edit one token of the prompt, or set a number",
                        )
                    at = self._step(steps, edit.site, edit.layer)
                    at.edit(order, edit.op, Block(np.array(nodes), edit.neurons, edit.amounts))
        for step in steps.values():
            step.close(self.device)
        return list(steps.values())

    @contextmanager
    def _edited(self, steps: Sequence[_Step]) -> Iterator[None]:
        """Edit with plain hooks what the model computes meanwhile, by itself and not in a trace."""
        with ExitStack() as hooks:
            for step in steps:
                module = self.model.get_submodule(step.place.path)
                if step.place.end == "input":
                    hook = module.register_forward_pre_hook(_before(step), with_kwargs=True)
                else:
                    hook = module.register_forward_hook(_after(step))
                hooks.callback(hook.remove)
            yield

    def _edit_steps(
        self,
        job: Job,
        nodes: Mapping[int, np.ndarray],
        members: Sequence[int],
        plan: Resolved,
        at: Callable[[str, int], _Step],
    ) -> None:
        """Write down what one condition does to the nodes of its sequences in this pass."""
        for order, neuron_edits in enumerate(plan.edits):
            if not neuron_edits:
                continue
            # A node that two sequences share is one node, and edited once.
            touched, owner, at_token, number = _tokens_of(job, nodes, members, order)
            twins: np.ndarray | None = None
            by_vector: dict[tuple[int, str], list[tuple[np.ndarray, str, int]]] = {}
            for edit in neuron_edits:
                if edit.weights:
                    continue  # in the model for the while
                step = at(edit.site, edit.layer)
                if edit.source is None:
                    step.edit(order, edit.op, Block(touched, edit.neurons, edit.amounts))
                elif edit.source == "clean":
                    if twins is None:
                        of_twin = (
                            nodes[_twin(job, i)][p] for i, p in zip(owner.tolist(), at_token.tolist(), strict=True)
                        )
                        twins = np.fromiter(of_twin, dtype=np.int64, count=len(owner))
                    step.edit(order, edit.op, Block(touched, edit.neurons, edit.amounts, twins))
                else:
                    of = (id(edit.source), edit.position)
                    if of not in by_vector:
                        by_vector[of] = _by_vector(edit, job, owner, number)
                    for chosen, text, k in by_vector[of]:
                        vector = edit.source.at(edit.site, edit.layer, text, edit.position, k)
                        amounts = edit.amounts * vector[edit.neurons]
                        step.edit(order, edit.op, Block(touched[chosen], edit.neurons, amounts))
        if plan.held is None:
            return
        wanted: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[int, int, str, int]]] = {}
        for key, names in plan.held.places.items():
            free = plan.held.free.get(key, ())
            if (names, free) not in wanted:
                wanted[names, free] = _frozen_positions(job, members, names, free)
            frozen = wanted[names, free]
            if not frozen:
                continue
            to = np.array([nodes[i][p] for i, p, _, _ in frozen])
            to, first = np.unique(to, return_index=True)
            if plan.held.values is not None:
                stored = plan.held.values
                kept_frozen = [frozen[k] for k in first]
                at(*key).hold(to, [stored.at(*key, job.sequences[i].source, name, k) for i, _, name, k in kept_frozen])
            else:
                at(*key).copy(to, np.array([nodes[_twin(job, i)][p] for i, p, _, _ in frozen])[first])

    def _forward(
        self,
        rows: Any,
        steps: Sequence[_Step],
        read_nodes: np.ndarray,
        ends: np.ndarray,
        cache: Any,
        chained: bool,
        stem: Stem | None = None,
        pool: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[dict[tuple[str, int], Tensor], Tensor]:
        """Run the trace: edit and read site by site, stop at the head's input or after the last site read.

        With a stem, the blocks before the first edit are skipped, and the last of them gives what the stem gave.
        """
        reads = torch.from_numpy(read_nodes).to(self.device)
        at_end = torch.from_numpy(ends).to(self.device)
        needs_head = bool(len(ends))
        head = self._envoy(self._head)
        saved: dict[tuple[str, int], Tensor] = {}
        hidden = torch.empty(0)
        skipped = [] if stem is None else [self._envoy(path) for path in self._blocks[: stem.layers]]
        given = None if stem is None else self._stem(stem, rows.ids.shape)
        with torch.inference_mode(), self._inputs(rows, chained) as kwargs:
            if cache is not None:
                kwargs = {**kwargs, "past_key_values": cache}
            with self._traced.trace(**kwargs, use_cache=cache is not None) as tracer:
                for block in skipped:
                    block.skip(given)
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
                        values = step.place.take(flat[reads])
                        # At once, so that the values of single tokens are never there for two layers.
                        kept = values if pool is None else pool(values)
                        saved[step.read] = kept.save()  # type: ignore[attr-defined]
                if needs_head:
                    whole = head.input
                    hidden = whole.reshape(-1, whole.shape[-1])[at_end].save()
                tracer.stop()
        return saved, hidden

    def _stem(self, stem: Stem, shape: tuple[int, ...]) -> Any:
        """Run the blocks of a stem and give the output of the last, as it is for every node of the pass."""
        block = self._envoy(self._blocks[stem.layers - 1])
        twin = torch.from_numpy(stem.twin).to(self.device)
        output: Any = None
        with torch.inference_mode(), self._inputs(stem.rows, False) as kwargs:
            with self._traced.trace(**kwargs, use_cache=False) as tracer:
                output = block.output.save()
                tracer.stop()
            whole = output[0] if isinstance(output, tuple) else output
            values = whole.reshape(-1, whole.shape[-1])[twin].view(*shape, whole.shape[-1])
        return (values, *output[1:]) if isinstance(output, tuple) else values

    def _inputs(self, rows: Any, chained: bool) -> Any:
        ids, depth, end = (torch.from_numpy(a).to(self.device) for a in (rows.ids, rows.depth, rows.end))
        if chained:
            return _plain_inputs(ids, torch.from_numpy(rows.real).to(self.device))
        return tree_attention(self.model, ids, depth, end, deepest=self._deepest)

    def _envoy(self, path: str) -> Any:
        if path not in self._envoys:
            envoy: Any = self._traced
            for part in path.split("."):
                envoy = envoy[int(part)] if part.isdigit() else getattr(envoy, part)
            self._envoys[path] = envoy
        return self._envoys[path]

    # -- scores and text ------------------------------------------------------------------------------------

    def _logits(self, hidden: Tensor) -> Tensor:
        """Project ``[n, d_model]`` to float32 logits ``[n, vocabulary]``."""
        n = len(hidden)
        with torch.inference_mode():
            if n % ALIGN:  # see ALIGN: the last bits must not depend on how many are asked for at once
                hidden = torch.cat([hidden, hidden[-1:].expand(ALIGN - n % ALIGN, -1)])
            return logits_of(self.model, hidden)[:n].float()

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
        resolve: Resolve | None,
    ) -> None:
        """Continue greedily from the packed pass: each branch's keys and values are gathered along its path.

        Edits that act at every token (``TokenSequence.onward``) act at each token that is fed back, too; the others,
        and what is frozen, in the prompt alone.
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

        def editing(chosen: Sequence[int]) -> AbstractContextManager[None]:
            return self._edited(self._onward_steps(job, [wanted[k] for k in chosen], resolve))

        texts = continue_greedily(self.model, cache, rows.ids.shape, paths, token, lengths, editing)
        for i, text in zip(wanted, texts, strict=True):
            outcome.generated[i] = text


def _applied(step: _Step, whole: Tensor) -> Tensor:
    return step.apply(whole.reshape(-1, whole.shape[-1]).clone()).view(whole.shape)


def _before(step: _Step) -> Callable[..., Any]:
    """Make a hook that edits the first argument of a module."""

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (_applied(step, args[0]), *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, {**kwargs, name: _applied(step, kwargs[name])}

    return hook


def _after(step: _Step) -> Callable[..., Any]:
    """Make a hook that edits what a module gives, or the first part of it."""

    def hook(module: Any, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (_applied(step, output[0]), *output[1:])
        return _applied(step, output)

    return hook


@contextmanager
def _collecting() -> Iterator[Callable[[], int]]:
    """Lend a quick garbage collection for the end of each pass.

    A trace leaves cycles behind that hold every value it has seen; waiting for the collector's own time would hold
    those of many passes. What is there before the job (plan, model, libraries) is left out, so that it takes no time.
    """
    gc.freeze()
    try:
        yield gc.collect
    finally:
        gc.unfreeze()


def _by_condition(job: Job, nodes: Mapping[int, np.ndarray]) -> dict[Hashable, list[int]]:
    """Sort the sequences of a pass by their condition, the clean ones left out."""
    found: dict[Hashable, list[int]] = {}
    for i in nodes:
        if job.sequences[i].condition is not CLEAN:
            found.setdefault(job.sequences[i].condition, []).append(i)
    return found


def _tokens_of(
    job: Job, nodes: Mapping[int, np.ndarray], members: Sequence[int], order: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """List what an edit acts on in a pass, ``[n]`` each: node, sequence, position, number of the token of its word."""
    acting = [np.array(job.sequences[i].edits[order], dtype=np.int64) for i in members]
    lengths = [len(positions) for positions in acting]
    every = _joined([nodes[i][positions] for i, positions in zip(members, acting, strict=True)])
    touched, first = np.unique(every, return_index=True)
    owner = np.repeat(np.array(members, dtype=np.int64), lengths)[first]
    return touched, owner, _joined(acting)[first], _joined([np.arange(n) for n in lengths])[first]


def _by_vector(edit: NeuronEdit, job: Job, owner: np.ndarray, number: np.ndarray) -> list[tuple[np.ndarray, str, int]]:
    """Sort the tokens that an edit acts on by the stored vector they take: which of them, its text and number."""
    assert isinstance(edit.source, Stored)
    found: dict[tuple[str, int], list[int]] = {}
    for n, (i, k) in enumerate(zip(owner.tolist(), number.tolist(), strict=True)):
        found.setdefault(edit.source.key(job.sequences[i].source, edit.position, k), []).append(n)
    return [(np.array(chosen), text, k) for (text, k), chosen in found.items()]


def _frozen_positions(
    job: Job, members: Sequence[int], names: tuple[str, ...], free: tuple[str, ...]
) -> list[tuple[int, int, str, int]]:
    """List (sequence, position, word, number among the word's tokens) for what a freeze holds at some words.

    Where two of them mean one token, the first has it; what a word of ``free`` means stays free.
    """
    found = []
    for i in members:
        frozen = job.sequences[i].frozen
        taken = {p for name, p in frozen if name in free}
        for name in names:
            for number, p in enumerate(p for own, p in frozen if own == name):
                if p not in taken:
                    taken.add(p)
                    found.append((i, p, name, number))
    return found


def _twin(job: Job, i: int) -> int:
    twin = job.sequences[i].twin
    if twin is None:
        raise ValueError("a freeze to the clean run needs a twin")
    return twin


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


@contextmanager
def _plain_inputs(ids: Tensor, real: Tensor) -> Iterator[dict[str, Tensor]]:
    """The library's own way: right-padded rows with a 2-D mask."""
    mask = (torch.arange(ids.shape[1], device=ids.device)[None] < real[:, None]).long()
    with wide_attention():
        yield {"input_ids": ids, "attention_mask": mask}


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


def _renumber(batch: Pass, members: Sequence[int]) -> Pass:
    return Pass(batch.trees, tuple(tuple(members[k] for k in row) for row in batch.members))
