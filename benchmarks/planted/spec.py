"""The spec that asks ``run-spec`` for the cells of a planted model, as a user would write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from benchmarks.planted.truth import Truth

__all__ = ["METRICS", "localisation", "spec_text"]

METRICS: Mapping[str, Any] = {
    "stability": "stability",
    "z_score": "z_score",
    "mean_activation": "mean_activation",
    "random": "random",
}
"""Ranking: its definition. Rankings are named after their metrics, with an ending that keeps names unique."""


def localisation(metric: str) -> str:
    """Give the name of a metric's ranking in the spec."""
    return f"by_{metric}"


def spec_text(
    truth: Truth,
    model: str,
    *,
    metrics: Sequence[str] = tuple(METRICS),
    candidates: int = 0,
    prompts: int = 2,
    name: str = "planted",
) -> str:
    """Write the spec; with ``candidates`` also the edit that verifies so many best neurons of stability.

    ``prompts``: how many wordings of each relation are asked.
    """
    document: dict[str, Any] = {
        "version": 1,
        "name": name,
        "model": {"id": model, "dtype": "float32", "device": "cpu"},
        "entities": {e.id: e.name for e in truth.entities},
        "localize": {localisation(metric): METRICS[metric] for metric in metrics},
    }
    if candidates:
        document["relations"] = {
            relation: {"prompt": list(wordings[:prompts]), "answers": {e.id: e.facts[relation] for e in truth.entities}}
            for relation, wordings in truth.relations.items()
        }
        document["interventions"] = {
            "verify": {
                "edit": {
                    "scale": -1,
                    "neurons": {"of": localisation("stability"), "rank": list(range(1, candidates + 1))},
                },
                "measure": ["answer_probability", "relative_probability", "knowledge_loss_clipped"],
                "controls": {"random_neurons": 1, "wrong_cell": 0, "no_edit": 0},
            }
        }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
