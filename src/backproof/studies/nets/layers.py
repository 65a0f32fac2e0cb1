"""The gradients of a network layer by layer: how large they are, and how far they hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..verdicts import Evidence

__all__ = ["Layers", "layers_of", "slopes_confirmed"]

_TOLERANCE = 1e-5
_EPS = 1e-8
_STEPS = (1e-7, 1e-8, 1e-9)


@dataclass(frozen=True)
class Layers:
    """One measurement, one entry per layer in the order of the forward pass.

    Args:
        names: of the layers.
        stages: of each layer, counted from 0; layers of a stage have equally many channels.
        gradients: the norm of the loss's gradient with respect to the layer's weights, over the whole batch.
        persistences: the cosine between that gradient and the one after a small step of all weights: 1 where it still
            points the same way, 0 where it says nothing any more.
    """

    names: tuple[str, ...]
    stages: tuple[int, ...]
    gradients: tuple[float, ...]
    persistences: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The geometric mean of the norms over the first stage, divided by that over the last."""
        return math.exp(self._log_mean(min(self.stages)) - self._log_mean(max(self.stages)))

    def _log_mean(self, stage: int) -> float:
        found = [math.log(max(g, 1e-300)) for g, s in zip(self.gradients, self.stages, strict=True) if s == stage]
        return sum(found) / len(found)

    @property
    def persistence_first(self) -> float:
        """The mean persistence over the first stage."""
        found = [p for p, s in zip(self.persistences, self.stages, strict=True) if s == min(self.stages)]
        return sum(found) / len(found)

    def to_dict(self) -> dict[str, list[float]]:
        """What a row of a training's history keeps."""
        return {"gradients": list(self.gradients), "persistences": list(self.persistences)}

    @staticmethod
    def of_dict(names: Sequence[str], stages: tuple[int, ...], row: Mapping[str, Any]) -> Layers:
        """The measurement that a row keeps."""
        return Layers(tuple(names), stages, tuple(row["gradients"]), tuple(row["persistences"]))


def layers_of(model: nn.Module, inputs: Tensor, targets: Tensor, names: Sequence[str], step: float) -> Layers:
    """Measure the layers of these names on one batch, in training mode; ``model`` is changed and should be a copy.

    The small step moves every weight by ``step`` against the sign of its gradient (by step g / (|g| + 1e-8)), as the
    first update of AdamW with that step size does.
    """
    everything = [p for p in model.parameters() if p.requires_grad]
    weights = [w for w in (model.get_submodule(name).weight for name in names) if isinstance(w, Tensor)]
    places = [next(i for i, p in enumerate(everything) if p is w) for w in weights]
    before = _gradients(model, inputs, targets, everything)
    with torch.no_grad():
        for p, g in zip(everything, before, strict=True):
            p.sub_(step * g / (g.abs() + _EPS))
    after = _gradients(model, inputs, targets, everything)
    channels = [w.shape[0] for w in weights]
    order = list(dict.fromkeys(channels))
    return Layers(
        tuple(names),
        tuple(order.index(c) for c in channels),
        tuple(float(before[i].norm()) for i in places),
        tuple(_cosine(before[i], after[i]) for i in places),
    )


def _gradients(model: nn.Module, inputs: Tensor, targets: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    loss = F.cross_entropy(model.train()(inputs), targets)
    return torch.autograd.grad(loss, weights)


def _cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-300))


def slopes_confirmed(name: str, model: nn.Module, inputs: Tensor, targets: Tensor, found: Layers) -> Evidence:
    """The gradient norms of the first and last layer by central differences of the loss, which need no backward pass.

    Along d = g / |g| the slope of the loss is |g|. Of three step sizes the two neighbours that agree best are taken;
    where even these disagree, ReLUs have their kinks between the points, and nothing is compared.
    """
    wide, inputs = deepcopy(model).double().train(), inputs.double()
    error, compared = 0.0, 0
    for place in (0, len(found.names) - 1):
        weight = wide.get_submodule(found.names[place]).weight
        assert isinstance(weight, Tensor)
        slopes = _slopes(wide, weight, inputs, targets)
        spread, slope = min((abs(a - b), (a + b) / 2) for a, b in pairwise(slopes))
        scale = max(abs(found.gradients[place]), 1e-300)
        if spread <= _TOLERANCE * scale or abs(slope - found.gradients[place]) > 10 * spread:
            error, compared = max(error, abs(slope - found.gradients[place]) / scale), compared + 1
    what = f"gradient norms of {name} before training, first and last layer"
    oracle = "central differences in float64"
    if not compared:
        return Evidence(what, oracle, None, None, 0, len(found.names), "kinks lie between the points")
    return Evidence(what, oracle, error <= _TOLERANCE, error, compared, len(found.names))


def _slopes(model: nn.Module, weight: Tensor, inputs: Tensor, targets: Tensor) -> list[float]:
    """Slopes of the loss along a weight's gradient, from step sizes that shrink tenfold."""
    (gradient,) = _gradients(model, inputs, targets, [weight])
    direction = gradient / gradient.norm().clamp_min(1e-300)
    slopes = []
    with torch.no_grad():
        start = weight.clone()
        for share in _STEPS:
            h = share * float(start.norm())
            losses = []
            for sign in (1, -1):
                weight.copy_(start + sign * h * direction)
                losses.append(float(F.cross_entropy(model(inputs), targets)))
            slopes.append((losses[0] - losses[1]) / (2 * h))
        weight.copy_(start)
    return slopes
