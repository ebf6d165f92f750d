"""The ways give the same numbers on tiny random models, and a difference between them is seen."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import scaling, table, works
from benchmarks.driver import Row, chosen_part
from benchmarks.environments import interpreter
from benchmarks.prompts import bind, names, templates
from benchmarks.tracing import overhead
from benchmarks.ways.hooks_padded import HooksPadded
from benchmarks.ways.nnsight_single import NnsightSingle
from benchmarks.ways.run_spec import RunSpec
from benchmarks.work import Difference, Edit, Prompt, Work, difference, until_end
from runner.execute import Engine
from specs.language.load import load
from tests.runner.test_compile import tokenizer
from tests.tiny import tiny_model

STEMS = ((5, 6, 7, 9), (5, 6, 8, 10, 11), (5, 12, 13), (14, 6, 7, 9, 20, 21))
LAYER = 1


@lru_cache
def model() -> Any:
    found = tiny_model("llama")
    found.generation_config.eos_token_id = 2
    return found


def localisation() -> Work:
    prompts = [
        Prompt((*stem, 30 + owner, 40 + owner), len(stem) + 1, owner)
        for owner in range(3)
        for stem in (*STEMS, *((s, *STEMS[0]) for s in range(15, 20)))
    ]
    return Work("localise", "", "localise", tuple(prompts))


def questions(kind: str, n_new: int = 0) -> Work:
    prompts: list[Prompt] = []
    for unit, stem in enumerate(STEMS):
        base = Prompt((*stem, 33, 22), len(stem), unit, 17 if not n_new else -1)
        edit = Edit(LAYER, 3, "set", 4.0)
        if kind == "freeze":
            prompts += [base, replace(base, edit=edit), replace(base, edit=edit, frozen=True)]
            prompts.append(replace(base, frozen=True))
        else:
            edits = [edit, Edit(LAYER, 5, "scale", -3.0), Edit(0, 7, "set", -6.0)]
            prompts += [replace(base, unit=len(prompts) + n, edit=e) for n, e in enumerate(edits)]
    return Work(kind, "", kind, tuple(prompts), n_new, LAYER)  # type: ignore[arg-type]


WORKS = {
    "localise": localisation(),
    "sweep": questions("sweep"),
    "freeze": questions("freeze"),
    "generate": questions("generate", n_new=5),
}


@pytest.mark.parametrize("kind", list(WORKS))
@pytest.mark.parametrize("way", ["nnsight", "single", "padded"])
def test_the_ways_agree_with_the_engine(kind: str, way: str) -> None:
    made: dict[str, Any] = {
        "nnsight": lambda: NnsightSingle(model()),
        "single": lambda: HooksPadded(model(), sizes=(1,)),
        "padded": lambda: HooksPadded(model(), sizes=(3, 8)),
    }
    work = WORKS[kind]
    other = made[way]()
    other.tune(work)
    found = difference(work.kind, RunSpec(Engine(model())).run(work), other.run(work), "float32")
    assert found.agrees, found


@pytest.mark.parametrize("kind", ["sweep", "freeze", "generate"])
def test_an_edit_that_is_left_out_is_seen(kind: str) -> None:
    work = WORKS[kind]
    bare = replace(
        work, prompts=tuple(replace(p, edit=p.edit and replace(p.edit, op="scale", amount=1.0)) for p in work.prompts)
    )
    way = HooksPadded(model(), sizes=(4,))
    assert not difference(work.kind, way.run(work), way.run(bare), "float32").agrees


def test_a_freeze_that_is_left_out_is_seen() -> None:
    work = WORKS["freeze"]
    free = replace(work, prompts=tuple(replace(p, frozen=False) for p in work.prompts))
    way = HooksPadded(model(), sizes=(4,))
    assert not difference("freeze", way.run(work), way.run(free), "float32").agrees


@pytest.mark.parametrize("kind", list(WORKS))
@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_part_gives_the_rows_of_the_whole(kind: str, k: int) -> None:
    work = WORKS[kind]
    way = HooksPadded(model(), sizes=(1,))
    whole = {name: array[work.rows_of_part(k)] for name, array in way.run(work).items()}
    assert difference(work.kind, whole, way.run(work.part(k)), "float32").agrees


def test_a_work_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    for work in WORKS.values():
        work.save(tmp_path / "work.json")
        assert Work.load(tmp_path / "work.json") == work


def test_values_that_are_not_numbers_never_agree() -> None:
    assert not Difference(float("nan"), 1.0, "nats").agrees
    values = {"logp": np.array([np.nan])}
    assert not difference("sweep", values, {"logp": np.array([0.0])}, "float32").agrees
    statistics = {"mean": np.full((1, 1, 2), np.nan), "std": np.ones((1, 1, 2))}
    assert not difference("localise", statistics, statistics, "float32").agrees


def test_a_text_ends_before_its_end_token() -> None:
    assert until_end([4, 5, 2, 6], {2}, 4) == [4, 5, -1, -1]


def test_names_differ_and_are_found_in_the_tokens() -> None:
    assert len(set(names(1000))) == 1000
    with pytest.raises(ValueError):
        names(2000)
    for template in templates(100):
        bound = bind(tokenizer(), template, "Ada")
        assert bound.at == len(bound.ids) - 1
    asked = bind(tokenizer(), "The wife of {}:", "Ada")
    assert asked.at < len(asked.ids) - 1


def test_works_have_the_sizes_they_promise() -> None:
    random = np.random.default_rng(0)
    cells = works.Cells(random.normal(size=(works.N_FROZEN, 6, 20)))
    made = {name: maker(tokenizer(), cells) for name, maker in works.WORKS.items() if name != "localise-100x100"}
    sizes = {name: len(work.prompts) for name, work in made.items()}
    assert sizes == {
        "localise-nested": 128,
        "localise-shared": 128,
        "localise-8x16": 128,
        "localise-8x100": 800,
        "sweep-early": 672,
        "sweep-late": 672,
        "freeze": 80,
        "generate": 80,
    }
    assert {p.edit.layer for p in made["sweep-late"].prompts if p.edit} == {4}


class Clock:
    """A worker that says how long it took."""

    name = "nnsight"

    def __init__(self, seconds_per_unit: float, units: int) -> None:
        self.per_unit, self.units = seconds_per_unit, units

    def tune(self, k: int) -> tuple[float, str]:
        return self.go(k), ""

    def go(self, k: int = 1, out: Path | None = None) -> float:
        return self.per_unit * self.units / k


@pytest.mark.parametrize(("per_unit", "part"), [(0.001, 1), (1.0, 4), (100.0, 5)])
def test_a_slow_way_does_a_part(per_unit: float, part: int) -> None:
    work = Work("w", "", "sweep", tuple(Prompt((1,), 0, unit) for unit in range(80)))
    worker: Any = Clock(per_unit, 80)
    assert chosen_part(worker, work, 20.0)[0] == part


def test_the_table_says_what_was_scaled_and_what_disagrees(tmp_path: Path) -> None:
    row = Row(
        "m", "float32", "w", "a work", "padded", "padded batch", seconds=[4.0, 6.0, 5.0], reference=[1.0, 2.0, 1.0]
    )
    row.scaled, row.difference = "1 of 5 prompts", Difference(0.5, 0.1, "nats")
    broken = Row("m", "float32", "w", "a work", "lens", "TransformerLens", failed="not installable: no")
    table.write([row, broken], {"threads": 1}, tmp_path)
    text = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "| 4 | 3..5 | 5.0e-01 nats | scaled from 1 of 5 prompts; DISAGREES" in text
    assert "not run: not installable: no" in text
    assert row.disagrees and not broken.disagrees


def test_tracing_reads_what_hooks_read() -> None:
    found = overhead(model(), localisation(), nodes=40, repeats=3)
    assert found.difference == 0
    assert 30 <= found.nodes <= 40
    assert len(found.ratios) == 3


def test_a_generated_spec_is_a_spec(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(scaling.spec_text("smollm2-135m", "float32", 12), encoding="utf-8")
    experiment = load(path).cells[0].experiment
    assert len(experiment.entities) == 12


def test_the_scaling_figure_shows_every_model() -> None:
    points = [
        scaling.Point(model, "float32", n, 100, 1.0 * n, 10**9 * n, 5 * 10**8, False)
        for model in ("one", "two")
        for n in (1, 10, 100)
    ]
    drawn = scaling.figure(points)
    assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "one, float32" in drawn and "two, float32" in drawn
    assert points[2].document()["within"] is False


def test_the_size_of_weights_is_that_of_their_format(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    # Written once where the head is tied to the embedding.
    count = sum(p.numel() for p in model().parameters())
    assert scaling.weight_bytes(tmp_path, "bfloat16") == 2 * count
    assert torch.float32.itemsize * count == scaling.weight_bytes(tmp_path, "float32")


def test_an_environment_that_is_not_there_has_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_SPEC_BENCHMARK_VENVS", str(tmp_path))
    assert interpreter("") == Path(sys.executable)
    assert interpreter("pyvene") == "not installed: python -m benchmarks.environments"
    (tmp_path / "pyvene").mkdir()
    (tmp_path / "pyvene" / "refused.txt").write_text("no version for this torch\n", encoding="utf-8")
    assert interpreter("pyvene") == "not installable: no version for this torch"
