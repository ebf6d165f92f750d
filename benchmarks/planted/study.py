"""Run ``run-spec`` on planted models of several seeds and levels of noise, and hold what it finds against the truth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planted.make import save
from benchmarks.planted.recipe import Recipe
from benchmarks.planted.score import (
    DOMINANCE,
    TOP,
    ExtractionScore,
    RankingScore,
    ranked,
    ranked_again,
    score_extraction,
    score_ranking,
)
from benchmarks.planted.spec import spec_text
from benchmarks.planted.truth import Truth

__all__ = ["Case", "run_case", "study", "table"]

ROOT = Path(__file__).resolve().parents[2]
FROM_MOMENTS = ("z_score", "mean_activation")
"""Metrics that the means and deviations of the ranking by stability suffice for."""


@dataclass(frozen=True)
class Case:
    """One planted model, and how everything fared on it."""

    seed: int
    noise: float
    bos: bool
    names: int
    seconds: float
    """Of the run."""
    known: float
    """Share of questions that the model answers (pass@5); NaN if none was asked."""
    dominance: float
    """Median over cells that stability ranks first."""
    rankings: Sequence[RankingScore]
    extraction: ExtractionScore | None

    def document(self) -> dict[str, Any]:
        """Give it as JSON."""
        return asdict(self)


def run_spec(spec: Path, out: Path) -> tuple[Path, float]:
    """Run a spec by the command line in a process of its own; give its run folder and seconds.

    Raises RuntimeError with what the command said.
    """
    started = time.perf_counter()
    command = [sys.executable, "-m", "runner.cli", "run", str(spec), "--out", str(out), "--no-track", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"run-spec ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    (run,) = out.glob(f"{spec.parent.name}-*")
    return run, time.perf_counter() - started


def run_case(
    recipe: Recipe,
    scratch: Path,
    *,
    metrics: Sequence[str] = ("stability",),
    candidates: int = TOP,
    others: int = 5,
) -> Case:
    """Make one model, run one spec on it, and score what was found."""
    label = (
        f"seed{recipe.seed}-noise{recipe.noise:g}{'-bos' * recipe.bos}{f'-names{recipe.names}' * bool(recipe.names)}"
    )
    folder = scratch / label
    truth = Truth.read(folder) if (folder / "planted.json").exists() else save(recipe, folder)
    text = spec_text(truth, str(folder), metrics=metrics, candidates=candidates, others=others, name=label)
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    run, seconds = run_spec(folder / "spec.yaml", scratch / "runs")
    return score_case(recipe, run, truth, metrics, seconds, extraction=bool(candidates))


def score_case(
    recipe: Recipe, run: Path, truth: Truth, metrics: Sequence[str], seconds: float, *, extraction: bool
) -> Case:
    """Score a run folder."""
    scores = [score_ranking(metric, list(ranked(run, truth, metric)), truth) for metric in metrics]
    for metric in FROM_MOMENTS:
        if metric not in metrics and "stability" in metrics:
            scores.append(score_ranking(metric, list(ranked_again(run, truth, metric)), truth))
    firsts = [f.dominance for f in ranked(run, truth, metrics[0]) if f.rank == 1]
    known = float("nan")
    if extraction:
        results = json.loads((run / "results.json").read_text(encoding="utf-8"))
        asked = results["interventions"]["verify"]
        known = asked["n_known"] / asked["n_asked"]
    return Case(
        seed=recipe.seed,
        noise=recipe.noise,
        bos=recipe.bos,
        names=recipe.names,
        seconds=round(seconds, 1),
        known=round(known, 4),
        dominance=round(float(np.median(firsts)), 1) if firsts else float("nan"),
        rankings=scores,
        extraction=score_extraction(run, truth) if extraction else None,
    )


def study(
    recipe: Recipe,
    scratch: Path,
    *,
    seeds: Sequence[int],
    noises: Sequence[float],
    metrics: Sequence[str],
    candidates: int,
    others: int,
    done: Callable[[Sequence[Case]], None],
) -> list[Case]:
    """Run every seed at every level of noise; ``done`` hears of all finished cases after each."""
    cases: list[Case] = []
    for noise in noises:
        for seed in seeds:
            one = replace(recipe, seed=seed, noise=noise)
            cases.append(run_case(one, scratch, metrics=metrics, candidates=candidates, others=others))
            done(cases)
    return cases


def table(cases: Sequence[Case]) -> str:
    """Write cases as two Markdown tables."""
    lines = [
        "| model | metric | cell first | without a rival | among the best "
        f"{TOP} | claims at dominance {DOMINANCE:g}, right | claimed without a cell | wrong bests are |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        for s in case.rankings:
            wrong = ", ".join(f"{kind} {n}" for kind, n in s.winners.items()) or "none"
            lines.append(
                f"| {model_of(case)} | {s.metric} | {share(s.first, s.cells)} | {share(s.alone_first, s.alone)} "
                f"| {share(s.candidates, s.cells)} | {share(s.claimed_rightly, s.claimed)} "
                f"| {share(s.claimed_without, s.without)} | {wrong} |"
            )
    extracted = [case for case in cases if case.extraction is not None]
    if extracted:
        lines += [
            "",
            "| model | known | cells verified | claims, right | wrongly verified | warned of | decoys rejected | s |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for case in extracted:
            e = case.extraction
            assert e is not None
            wrong = ", ".join(f"{kind} {n}" for kind, n in e.wrong.items()) or "none"
            lines.append(
                f"| {model_of(case)} | {case.known:.1%} | {share(e.found, e.cells)} | {share(e.found, e.claimed)} "
                f"| {wrong} | {e.warned_of}/{sum(e.wrong.values())} | {sum(e.rejected.values())} | {case.seconds:.0f} |"
            )
    return "\n".join(lines) + "\n"


def model_of(case: Case) -> str:
    """Name a case in a table."""
    more = ", BOS" * case.bos + f", {case.names} neurons for every name" * bool(case.names)
    return f"seed {case.seed}, noise {case.noise:g}{more}"


def share(part: int, of: int) -> str:
    """Write a share with what it is of."""
    return f"{part}/{of} ({part / of:.1%})" if of else "0/0"
