"""The command ``python -m benchmarks.planted``: make a model whose cells are known, and see who finds them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from benchmarks.planted.recipe import Recipe

WORDS = {
    "entities": "How many entities.",
    "spread": "Of them, without a cell: facts carried by many neurons.",
    "pairs": "Pairs of entities with one neuron for both.",
    "layers": "Layers.",
    "width": "Width of the residual stream, a multiple of 64.",
    "neurons": "Width of each MLP.",
    "noise": "How much chance there is.",
    "negative": "Share of cells with a negative activation.",
    "tokens": "Decoys: neurons that answer to one token of several names.",
    "shared": "Decoys: neurons that answer to two entities with cells.",
    "template": "Decoys: neurons that answer to words before a name.",
    "constant": "Decoys: neurons of a large mean and nearly no variance.",
    "loud": "Decoys: neurons of a large variance.",
    "names": "Decoys: neurons that answer to every name.",
    "seed": "Seed of everything.",
}


def knobs(command: Any) -> Any:
    """Add an option for each knob of a recipe."""
    for field in reversed(fields(Recipe)):
        if field.name in WORDS:
            option = click.option(
                f"--{field.name}", type=type(field.default), default=field.default, show_default=True,
                help=WORDS[field.name],
            )  # fmt: skip
            command = option(command)
    command = click.option(
        "--layer-shares", default="0.1,0.3,0.3,0.2,0.1", show_default=True, help="Share of cells in layers 0, 1, ..."
    )(command)
    return click.option("--bos", is_flag=True, help="Put a beginning-of-text token before every text.")(command)


def recipe_of(layer_shares: str, **values: Any) -> Recipe:
    """Make a recipe from options; a wrong one is a wrong use of the command."""
    try:
        return Recipe(**values, layer_shares=tuple(float(part) for part in layer_shares.split(",")))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@click.group()
def main() -> None:
    """Models whose cells are known: ground truth for whoever looks for neurons."""


@main.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for checkpoint and truth.")
@click.option("--prompts", default=2, show_default=True, help="Wordings of each relation in the spec.")
@click.option("--candidates", default=3, show_default=True, help="Best neurons that the spec verifies; 0 for none.")
@knobs
def make(out: Path, prompts: int, candidates: int, **values: Any) -> None:
    """Write a checkpoint, planted.json (the truth) and spec.yaml, which asks run-spec for the cells."""
    recipe = recipe_of(**values)
    from benchmarks.planted.make import save
    from benchmarks.planted.spec import spec_text

    try:
        truth = save(recipe, out)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    spec = spec_text(truth, str(out.resolve()), candidates=candidates, prompts=prompts)
    (out / "spec.yaml").write_text(spec, encoding="utf-8")
    cells = sum(e.cell is not None for e in truth.entities)
    click.echo(f"{out}: {len(truth.entities)} entities, {cells} with a cell of their own, {len(truth.decoys)} decoys")
    click.echo(f"run-spec {out / 'spec.yaml'}")


@main.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for models, runs and the table.")
@click.option("--seeds", default="0", show_default=True, help="Seeds, with commas.")
@click.option("--noises", default="1", show_default=True, help="Levels of noise, with commas.")
@click.option("--metrics", default="stability", show_default=True, help="Rankings, with commas, stability first.")
@click.option("--candidates", default=3, show_default=True, help="Best neurons that are verified; 0: rankings alone.")
@click.option("--others", default=5, show_default=True, help="Others that are asked about each candidate.")
@knobs
def study(out: Path, seeds: str, noises: str, metrics: str, candidates: int, others: int, **values: Any) -> None:
    """Let run-spec look for planted cells, and say how many it found and what it took for one."""
    recipe = recipe_of(**values)
    from benchmarks.planted.spec import METRICS
    from benchmarks.planted.study import Case, table
    from benchmarks.planted.study import study as run_study

    names = metrics.split(",")
    if unknown := [name for name in names if name not in METRICS]:
        raise click.UsageError(f"there is no metric {unknown[0]}; there are: {', '.join(METRICS)}")
    if names[0] != "stability":
        raise click.UsageError("the first metric is stability: its candidates are verified")
    out.mkdir(parents=True, exist_ok=True)

    def keep(cases: Sequence[Case]) -> None:
        documents = [case.document() for case in cases]
        (out / "study.json").write_text(json.dumps(documents, indent=1, ensure_ascii=False), encoding="utf-8")
        (out / "study.md").write_text(table(cases), encoding="utf-8")

    cases = run_study(
        recipe,
        out.resolve(),
        seeds=[int(seed) for seed in seeds.split(",")],
        noises=[float(noise) for noise in noises.split(",")],
        metrics=names,
        candidates=candidates,
        others=others,
        done=keep,
    )
    click.echo(table(cases), nl=False)


if __name__ == "__main__":
    main()
