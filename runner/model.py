"""The model of a run: its tokenizer and shape at once, its weights when a stage has to be run.

A second run of an unchanged spec finds every stage in the cache and never loads the weights.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from runner.allocator import give_back_freed_memory
from runner.budget import (
    Memory,
    default_limits,
    default_memory,
    family_limits,
    fitted_limits,
    given_memory,
    pass_bytes,
)
from runner.cache import StageCache, key
from runner.families import family_of, shape_of, site_place, sites_of
from runner.models import (
    Checkpoint,
    LoadedModel,
    load,
    load_config,
    load_tokenizer,
    meta_model,
    obtain,
    pick_device,
    pick_dtype,
    resolve,
)
from runner.plan import Plan
from runner.program import Cost, Job, Limits, Mode, planned_cost
from runner.run_types import Reporter
from specs.language.errors import ModelError
from specs.language.experiment import ModelSpec
from specs.language.results import ModelFacts, SelfTest

if TYPE_CHECKING:
    from runner.execute import Engine

__all__ = ["ENGINE_FORMAT", "Machine"]

ENGINE_FORMAT = 5
"""Part of every cache key: raised whenever the engine's numbers change."""
SITE_NEEDED = ("mlp.neurons",)


class Machine:
    """A model and the machine it runs on.

    The files are fetched at once (the small ones alone with ``weights=False``, enough for a plan); ``engine``
    loads the weights the first time it is asked for.
    """

    def __init__(
        self,
        spec: ModelSpec,
        reporter: Reporter,
        *,
        cache: StageCache | None = None,
        weights: bool = True,
        memory: int | None = None,
    ) -> None:
        self.spec = spec
        self.source = resolve(spec.id, spec.revision)
        self.device = pick_device(spec.device)
        self.dtype = pick_dtype(spec.dtype, self.device.device)
        self.cache = cache if cache is not None else StageCache()
        self._files: Checkpoint | None = None
        if weights:
            reporter.stage(f"model {self.source.name}", None)
            self._files = obtain(self.source, progress_of(reporter))
            reporter.done(f"model {self.source.name}", note=self._files.description)
        place = self._files.path if self._files is not None else self.source
        self.tokenizer: Any = load_tokenizer(place)
        self.config: Any = load_config(place)
        self.skeleton: Any = meta_model(place)
        self.family = family_of(self.config)
        self.shape = shape_of(self.skeleton)
        self.given = None if memory is None else given_memory(memory)
        self.mode: Mode = "trees"
        self.stems = True
        """Whether layers before an edit are run once for all conditions, as self-tests found."""
        self.attention = str(spec.attention)
        """The implementation: as asked for until the weights are loaded, or those self-tests are found."""
        self.loaded: LoadedModel | None = None
        self._engine: Engine | None = None
        self._widths: dict[tuple[str, int], int] = {}
        self._widths_at: dict[tuple[str, int], int] = {}
        self._limits: Limits | None = None
        self._identity: dict[str, Any] | None = None
        self._costs: dict[tuple[int, Mode], tuple[Job, Cost]] = {}

    # -- what the plan needs --------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """How much goes into one pass on this device."""
        if self._limits is None:
            self._limits = fitted_limits(
                self.config, self.shape, self.dtype.dtype, self.device.device, self._attention, self.given
            )
        return self._limits

    @property
    def short_rows(self) -> bool:
        """Whether rows are shorter than they would be with more memory."""
        usual = family_limits(self.config, default_limits(self.device.device, self._attention, self.dtype.dtype))
        return self.limits.row_nodes < usual.row_nodes

    @property
    def _attention(self) -> str:
        return str(self.spec.attention) if self.spec.attention != "auto" else self.shape.attention

    @property
    def memory(self) -> Memory:
        """What a run may take beside the weights."""
        return self.given or default_memory(self.device.device, self.weights_bytes)

    @property
    def weights_bytes(self) -> int:
        """What the weights take, tied ones once."""
        return int(sum(p.numel() for p in self.skeleton.parameters())) * self.dtype.dtype.itemsize

    @property
    def has_weights(self) -> bool:
        """Whether this machine was made with the model's files."""
        return self._files is not None

    @property
    def files(self) -> Checkpoint:
        """The model's files on this machine."""
        if self._files is None:
            raise ValueError("this machine was made without weights")
        return self._files

    def cost(self, job: Job) -> Cost:
        """Count a job as it will be packed; counted once, for packing a large job takes seconds."""
        place = id(job), self.mode
        if place not in self._costs:
            self._costs[place] = job, planned_cost(job, self.limits, self.mode)
        return self._costs[place][1]

    @property
    def estimated_bytes(self) -> int:
        """What passes and reading may take beside the weights."""
        dtype, device = self.dtype.dtype, self.device.device
        return self.memory.reading + pass_bytes(self.limits, self.config, self.shape, dtype, device, self._attention)

    @property
    def used_bytes(self) -> int | None:
        """The most that they have been seen to take; None where nothing was run."""
        return None if self._engine is None else self._engine.most_bytes

    def widths(self) -> Mapping[tuple[str, int], int]:
        """Give the number of neurons per layer, at every site that the family has; a single layer may lack one."""
        if not self._widths:
            for site in dict.fromkeys((*SITE_NEEDED, *sites_of(self.family))):
                for layer in range(self.shape.n_layers):
                    try:
                        self._widths[(site, layer)] = self.width(site, layer)
                    except ModelError:
                        if site in SITE_NEEDED:
                            raise
        return self._widths

    def width(self, site: str, layer: int) -> int:
        """Give the number of neurons of a site in one layer. Raises ModelError where there is none."""
        if (site, layer) not in self._widths_at:
            self._widths_at[site, layer] = site_place(self.skeleton, self.family, site, layer).width
        return self._widths_at[site, layer]

    def identity(self) -> dict[str, Any]:
        """Give what determines a forward pass: files, number format, device, attention and versions."""
        if self._identity is None:  # asked for once for every question
            self._identity = self._identify()
        return self._identity

    def _identify(self) -> dict[str, Any]:
        return {
            "engine": ENGINE_FORMAT,
            "files": self.files.file_hashes(),
            "dtype": str(self.dtype.dtype),
            "device": self.device.device.type,
            "attention": self.spec.attention,
            "torch": version("torch"),
            "transformers": version("transformers"),
            "nnsight": version("nnsight"),
        }

    def stage_key(self, parts: Mapping[str, Any]) -> str:
        """Give the cache key of a stage of this model."""
        return key({**self.identity(), "mode": self.mode, **parts})

    def about(self, kind: str, of: str = "") -> dict[str, str]:
        """Label an entry of the stage cache for people: the model, the kind of stage, and what it is of."""
        return {"model": self.source.name, "kind": kind, **({"of": of} if of else {})}

    def facts(self, adds_bos: bool) -> ModelFacts:
        """Describe the model as it is run."""
        widths = sorted({w for (site, _), w in self.widths().items() if site == "mlp.neurons"})
        return ModelFacts(
            id=self.source.hub_id or str(self.spec.id),
            card=self.source.card.name if self.source.card else None,
            family=self.family.model_type,
            n_layers=self.shape.n_layers,
            d_model=self.shape.d_model,
            d_mlp=widths[-1],
            vocabulary=self.shape.vocabulary,
            dtype=str(self.dtype.dtype).removeprefix("torch."),
            dtype_reason=self.dtype.reason,
            device=str(self.device.device),
            attention=self.attention,
            adds_bos=adds_bos,
            weights_origin=self.files.description,
            revision=self.files.revision or None,
        )

    def tokenizer_hash(self) -> str:
        """Give the sha256 of the tokenizer's main file; empty if the folder has none of the known ones."""
        hashes = self.files.file_hashes()
        names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
        return next((hashes[name] for name in names if name in hashes), "")

    # -- weights --------------------------------------------------------------------------------------------

    def engine(self, reporter: Reporter) -> Engine:
        """Load the weights, once."""
        if self._engine is None:
            from runner.execute import Engine

            name = "loading weights"
            reporter.stage(name, None)
            self.loaded = load(
                self.source,
                dtype=self.spec.dtype,
                device=self.spec.device,
                attention=None if self.spec.attention == "auto" else self.spec.attention,
            )
            self.attention = self.loaded.attention
            self._engine = Engine(
                self.loaded.model,
                limits=self.limits,
                mode=self.mode,
                reading_bytes=self.memory.reading,
                stems=self.stems,
            )
            reporter.done(name)
        return self._engine

    def rest(self) -> None:
        """Let go of the weights, and of the memory that passes have used; they are loaded again when wanted."""
        self._engine = None
        self.loaded = None
        gc.collect()  # a traced model is full of cycles
        give_back_freed_memory()

    def self_tests(self, plan: Plan, reporter: Reporter) -> list[SelfTest]:
        """Run the self-tests, or read those of the same model and prompts; the caller requires that they pass.

        A model that does not take a tree mask fails the packing test alone: it is then run in padded rows, or
        one prompt at a time, and the test says so.
        """
        from runner.selfcheck import TESTS_FORMAT, check

        prompts = sample_prompts(plan)
        asked = {"stage": "self-tests", "format": TESTS_FORMAT, "prompts": [list(p) for p in prompts]}
        place = key({**self.identity(), **asked})
        found = self.cache.get(place)
        if found is not None:
            tests = [SelfTest.model_validate(t) for t in found.meta["tests"]]
            self.mode = found.meta["mode"]
            self.attention = found.meta["attention"]
            self.stems = bool(found.meta["stems"])
            if self._engine is not None:
                self._engine.mode, self._engine.stems = self.mode, self.stems
        else:
            self.mode = "trees"
            engine = self.engine(reporter)
            engine.mode = self.mode
            reporter.stage("self-tests", None)
            tests = check(engine, prompts)
            for mode in ("padded", "one by one"):
                failed = next((t for t in tests if t.name == "packing" and not t.passed), None)
                if failed is None or failed.figure is None:  # values that are not finite are not the packing's fault
                    break
                engine.mode = self.mode = mode
                reporter.say(f"{self.source.name} does not take prompt trees ({failed.figure:.2g}); using {mode} rows")
                tests = check(engine, prompts)
            if all(t.passed for t in tests):
                self.stems = engine.stems
                kept = {
                    "tests": [t.model_dump() for t in tests],
                    "mode": self.mode,
                    "attention": self.attention,
                    "stems": self.stems,
                }
                self.cache.put(place, {}, kept, about=self.about("self-tests"))
        passed = sum(t.passed for t in tests)
        reporter.done("self-tests", reused=found is not None, note=f"{passed} of {len(tests)} passed")
        return tests


def sample_prompts(plan: Plan, count: int = 24) -> list[tuple[int, ...]]:
    """Take some prompts of the plan's own for the self-tests, without their answers, evenly from its beginning.

    Without answers, for a changed fact must not make them run again. Where most are of one or two tokens ("The uncle"),
    each is said three times: the tests need branches, and any tokens will do.
    """
    found: dict[tuple[int, ...], None] = {}
    short: dict[tuple[int, ...], None] = {}
    for job in [*(stage.job for stage in plan.ask), *(stage.job for stage in plan.localize)]:
        for sequence in job.sequences:
            if sequence.condition is not None:
                continue
            last = len(sequence.ids) - 1
            prompt = sequence.ids[: (last if sequence.title else min((p for p, _ in sequence.score), default=last)) + 1]
            (found if len(prompt) >= 3 else short)[prompt] = None
            if len(found) >= count:
                return list(found)
    return [prompt * 3 for prompt in (*short, *found)][:count] if len(short) > len(found) else list(found)


def progress_of(reporter: Reporter) -> Any:
    seen: dict[str, int] = {}

    def report(label: str, done: int, total: int | None) -> None:
        if label not in seen:
            reporter.stage(label, total, unit="bytes")
            seen[label] = 0
        reporter.advance(max(0, done - seen[label]))
        seen[label] = done

    return report
