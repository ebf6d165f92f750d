"""What makes a neuron rank high: one function per metric, and the table that names them.

Every metric gets the statistics of a neuron's activation over one owner's prompts and, where it has a baseline,
over the baseline's, and gives a score: higher is better, never negative, blind to the sign of the activation
(about half of the published cells are negative).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from specs.language.experiment import GRADIENT_METRICS, Localize

EPSILON = 1e-6
"""Added to the baseline's std, so that a neuron that never moves has z = 0 and not 0/0."""


@dataclass(frozen=True)
class Statistics:
    """Of each neuron, ``[n_layers, width]`` in float64 on the model's device: mean and population std of its
    activation over an owner's prompts, and over the baseline's."""

    mean: Tensor
    std: Tensor
    baseline_mean: Tensor | None = None
    baseline_std: Tensor | None = None
    std_floor: float = 0.1

    def z(self) -> tuple[Tensor, Tensor]:
        """Give mean and std of z = (a - baseline mean) / (baseline std + eps), both in baseline stds."""
        assert self.baseline_mean is not None and self.baseline_std is not None
        scale = self.baseline_std + EPSILON
        return (self.mean - self.baseline_mean) / scale, self.std / scale


def stability(statistics: Statistics) -> Tensor:
    """Score mean(z)^2 / std(z), with std(z) held at least at the floor.

    Without the floor a near-constant neuron or a handful of prompts makes the score explode. Source: Friends and
    Grandmothers in Silico, 2025 (the floor is ours).
    """
    mean_z, std_z = statistics.z()
    return mean_z.square() / std_z.clamp(min=statistics.std_floor)


def z_score(statistics: Statistics) -> Tensor:
    """Score |mean(z)|: how far the mean activation lies from the baseline's, in baseline stds."""
    return statistics.z()[0].abs()


def mean_activation(statistics: Statistics) -> Tensor:
    """Score |mean(a)|, whatever the baseline."""
    return statistics.mean.abs()


WITH_BASELINE = frozenset({"stability", "z_score", "layer_stability"})
"""Metrics that compare an owner with texts about nobody, or with made-up names."""


def least_prompts(spec: Localize) -> int:
    """Give the fewest prompts an owner may have: of statistics 8 or what the spec says, of gradients one.

    Of average precision 8 as well: with four prompts against sixteen one neuron in 4,845 is perfect by chance.
    """
    return 1 if spec.metric in GRADIENT_METRICS else spec.min_prompts or 8


METRICS: Mapping[str, Callable[[Statistics], Tensor]] = {
    "stability": stability,
    "z_score": z_score,
    "mean_activation": mean_activation,
}
"""``random`` runs nothing and has no statistics; gradients and layers have modules of their own."""
