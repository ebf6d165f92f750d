"""Fill in what a spec leaves out, so that the resolved spec says everything a run does."""

from __future__ import annotations

from typing import Any, get_args

from specs.language.experiment import GRADIENT_METRICS, Experiment, Localize, Negatives, RankingControls
from specs.language.words import Metric, Rule

__all__ = ["METRIC_DEFAULTS", "with_defaults", "with_metric_defaults"]

ON_ATTRIBUTES: dict[str, Any] = {
    "prompts": "attributes",
    "by": ["entity"],
    "site": ["mlp.neurons"],
    "position": ["entity.last"],
    "pool": "mean",
}
ON_FACTS: dict[str, Any] = {"prompts": "facts", "site": ["mlp.neurons"], "position": ["all"]}

# built without validation: a validator made at import would slow every command down
METRIC_DEFAULTS: dict[Metric, dict[str, Any]] = {
    "stability": {**ON_ATTRIBUTES, "against": "generic", "std_floor": 0.1, "min_prompts": 8},
    "z_score": {**ON_ATTRIBUTES, "against": "generic"},
    "mean_activation": {**ON_ATTRIBUTES, "against": "generic"},
    "layer_stability": {**ON_ATTRIBUTES, "against": "dummies", "site": ["mlp.out"]},
    "random": ON_ATTRIBUTES,
    "average_precision": {
        **ON_FACTS,
        "by": ["relation"],
        "against": Negatives.model_construct(others=4),
        "pool": "mean",
    },
    "gradient_x_activation": {**ON_FACTS, "by": [], "pool": "sum"},
    "integrated_gradients": {**ON_FACTS, "by": [], "pool": "sum", "steps": 10},
    "relp": {**ON_FACTS, "by": [], "pool": "sum", "rules": list(get_args(Rule))},
    "edge_weight": {"by": []},
}
"""What each metric takes for a field that is absent."""


def with_metric_defaults(localize: Localize) -> Localize:
    """Fill in the fields whose default depends on the metric.

    Absent in the result are only fields that mean nothing for the metric (`rules` of stability) or whose
    absence is the meaning: `layers` (all) and `among` (every neuron of the site).
    """
    fill = {name: value for name, value in METRIC_DEFAULTS[localize.metric].items()}
    fill["controls"] = RankingControls()
    if localize.threshold is None and localize.mass is None:
        fill["top"] = 1
    return localize.model_copy(update={name: value for name, value in fill.items() if getattr(localize, name) is None})


def with_defaults(experiment: Experiment) -> Experiment:
    """Fill in every default that depends on another field."""
    return experiment.model_copy(
        update={
            "localize": {name: with_metric_defaults(ranking) for name, ranking in experiment.localize.items()},
            "interventions": {
                name: done
                if done.answers_of is not None
                else done.model_copy(update={"answers_of": "asked" if done.placeholder is None else "edited"})
                for name, done in experiment.interventions.items()
            },
            "analyses": {
                name: analysis
                if analysis.correlation is None or analysis.method is not None
                else analysis.model_copy(update={"method": "spearman"})
                for name, analysis in experiment.analyses.items()
            },
        }
    )


assert set(METRIC_DEFAULTS) == set(get_args(Metric))
assert set(GRADIENT_METRICS) <= set(METRIC_DEFAULTS)
