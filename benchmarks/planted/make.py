"""Make a planted model and save it as a folder that ``model:`` takes, with the truth beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.planted.draw import draw_truth
from benchmarks.planted.recipe import Recipe
from benchmarks.planted.tokenizer import make_tokenizer
from benchmarks.planted.truth import Truth
from benchmarks.planted.weights import plant
from runner.models.checkpoint import quiet

__all__ = ["made", "save"]


def made(recipe: Recipe) -> tuple[Any, Any, Truth]:
    """Make model, tokenizer and truth in memory. Raises ValueError where a recipe asks too much."""
    tokenizer = make_tokenizer(bos=recipe.bos)
    truth = draw_truth(tokenizer, recipe)
    model, truth = plant(tokenizer, recipe, truth)
    return model, tokenizer, truth


def save(recipe: Recipe, folder: Path) -> Truth:
    """Write checkpoint, tokenizer and truth to a folder that has no checkpoint yet. Raises ValueError if it has."""
    if (folder / "config.json").exists():
        raise ValueError(f"{folder} holds a checkpoint already; give a folder that does not")
    model, tokenizer, truth = made(recipe)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    truth.save(folder)
    return truth
