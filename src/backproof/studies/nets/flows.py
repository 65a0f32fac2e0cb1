"""The error signal stage by stage before training, as the theory of signal propagation predicts it and as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..propagation.layers import Layer
from ..propagation.propagate import propagate

__all__ = ["Flow", "flow_of"]

SAMPLES, SIDE = 4, 8


@dataclass(frozen=True)
class Flow:
    """One network at its start.

    Args:
        layers: its convolutions on the main way, with what is predicted and measured.
        stages: of each, counted from 0.
    """

    layers: tuple[Layer, ...]
    stages: tuple[int, ...]

    def ratios(self, way: int) -> list[float]:
        """For each stage the geometric mean of the error signal's norms over that of the last stage.

        Args:
            way: 0 predicted, 1 measured.
        """
        means = [self._log_mean(stage, way) for stage in sorted(set(self.stages))]
        return [math.exp(m - means[-1]) for m in means]

    def _log_mean(self, stage: int, way: int) -> float:
        found = [
            math.log(max(x.norms[way], 1e-300)) for x, s in zip(self.layers, self.stages, strict=True) if s == stage
        ]
        return sum(found) / len(found)

    def to_dict(self) -> dict[str, Any]:
        """Predicted and measured, for each stage."""
        return {"predicted": self.ratios(0), "measured": self.ratios(1)}


def flow_of(
    model: nn.Module, images: Tensor, labels: Tensor, names: Sequence[str], stages: Sequence[int]
) -> Flow | None:
    """Predict and measure the error signal at the convolutions of these names; None where the theory is silent.

    Of the pictures four are used, averaged to 8 x 8 pixels: between all pixels of all of them there is a correlation, and
    the weights are the same whatever the size.

    Args:
        model: the network before training, in training mode.
        images: [N, channels, height, width].
        labels: [N].
        names, stages: of the convolutions.
    """
    small = F.adaptive_avg_pool2d(images[:SAMPLES].float(), SIDE)
    found = propagate(deepcopy(model), small, loss="cross_entropy", targets=labels[:SAMPLES], seeds=0)
    by_name = {x.module: x for x in found.layers}
    layers = [by_name[name] for name in names if name in by_name]
    if len(layers) < len(names) or not all(math.isfinite(x.norms[0]) for x in layers):
        return None
    return Flow(tuple(layers), tuple(stages))
