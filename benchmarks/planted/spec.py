"""The spec that asks ``run-spec`` for the cells of a planted model, as a user would write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from benchmarks.planted.truth import Truth

__all__ = ["CONDITIONS", "METRICS", "SET", "localisation", "spec_text"]

METRICS: Mapping[str, Any] = {
    "stability": "stability",
    "z_score": "z_score",
    "mean_activation": "mean_activation",
    "gradient_x_activation": {
        "metric": "gradient_x_activation",
        "prompts": "questions",
        "objective": "answer_logit",
        "position": "entity.last",
        "by": "entity",
    },
    "random": "random",
}
"""Metric: its definition in a spec."""
SET = "verified"
CONDITIONS = (
    "shared_by <= 1",
    "verify/knowledge_loss_clipped >= 0.5",
    "verify/others/knowledge_loss_clipped <= 0.05",
)
"""When a candidate is believed: no other entity switches it on, and silencing it erases its entity and no other."""


def localisation(metric: str) -> str:
    """Give the name of a metric's ranking in the spec."""
    return f"by_{metric}"


def spec_text(
    truth: Truth,
    model: str,
    *,
    metrics: Sequence[str] = ("stability",),
    candidates: int = 0,
    others: Sequence[str] | int = 5,
    prompts: int = 2,
    name: str = "planted",
) -> str:
    """Write the spec: rankings and, with ``candidates``, the extraction from so many best neurons of the first.

    ``others``: how many others are asked what a candidate takes from them. ``prompts``: how many wordings of each
    relation are asked.
    """
    document: dict[str, Any] = {
        "version": 1,
        "name": name,
        "model": {"id": model, "dtype": "float32", "device": "cpu"},
        "entities": {e.id: e.name for e in truth.entities},
    }
    if candidates or "gradient_x_activation" in metrics:
        document["relations"] = {
            relation: {"prompt": list(wordings[:prompts]), "answers": {e.id: e.facts[relation] for e in truth.entities}}
            for relation, wordings in truth.relations.items()
        }
        document["prompts"] = {"questions": {"relations": "all"}}
    document["localize"] = {localisation(metric): METRICS[metric] for metric in metrics}
    if candidates:
        ranks = list(range(1, candidates + 1))
        document["interventions"] = {
            "verify": {
                "edit": {"scale": -1, "neurons": {"of": localisation(metrics[0]), "rank": ranks}},
                "ask": "questions",
                "others": others,
                "measure": ["answer_probability", "knowledge_loss_clipped"],
                "controls": {"random_neurons": 1},
            }
        }
        document["neurons"] = {SET: {"of": localisation(metrics[0]), "where": list(CONDITIONS)}}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
