"""Optimizers as people write them down again, each with one deviation from torch.optim, for ``bp.check_optimizer``.

``FIRST`` was written before the search, ``HELD_OUT`` and ``THIRD`` after it, each before anything was changed for it. Each
entry: the class, the rule that it is held against, its settings, and words of which one must stand in the name of the deviation.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch

__all__ = ["FIRST", "HELD_OUT", "THIRD", "Own"]


class Own(torch.optim.Optimizer):
    """What all of them share: ``one(p, g, state, group)`` makes an update of one parameter."""

    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, {**self.settings, **settings})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.one(p, p.grad, self.state[p], group)

    def one(self, p: Any, g: Any, s: dict[str, Any], h: dict[str, Any]) -> None:
        raise NotImplementedError


def moments(p: Any, g: Any, s: dict[str, Any], h: dict[str, Any]) -> tuple[Any, Any, int]:
    """Adam's two running averages and the count."""
    if not s:
        s.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p), top=torch.zeros_like(p))
    s["t"] += 1
    b1, b2 = h["betas"]
    s["m"] = b1 * s["m"] + (1 - b1) * g
    s["v"] = b2 * s["v"] + (1 - b2) * g * g
    return s["m"], s["v"], s["t"]


ADAM = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False}
SGD = {"lr": 1e-2, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False}


class EpsInside(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        p -= h["lr"] * (m / (1 - b1**t)) / (v / (1 - b2**t) + h["eps"]).sqrt()


class EpsBeforeCorrection(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        p -= h["lr"] * math.sqrt(1 - b2**t) / (1 - b1**t) * m / (v.sqrt() + h["eps"])


class DampedFromTheStart(Own):
    settings: ClassVar[dict[str, Any]] = {**SGD, "dampening": 0.3}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["b"] = h["momentum"] * s.get("b", torch.zeros_like(p)) + (1 - h["dampening"]) * g
        p -= h["lr"] * s["b"]


class RateInside(Own):
    settings: ClassVar[dict[str, Any]] = SGD

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["b"] = h["momentum"] * s.get("b", torch.zeros_like(p)) + h["lr"] * g
        p -= s["b"]


class Decoupled(Own):
    settings: ClassVar[dict[str, Any]] = {**ADAM, "weight_decay": 0.1}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        p *= 1 - h["lr"] * h["weight_decay"]
        p -= h["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])


class Coupled(Own):
    settings: ClassVar[dict[str, Any]] = {**ADAM, "weight_decay": 0.1}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g + h["weight_decay"] * p, s, h)
        b1, b2 = h["betas"]
        p -= h["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])


class Uncorrected(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, _ = moments(p, g, s, h)
        p -= h["lr"] * m / (v.sqrt() + h["eps"])


class AmsgradOfCorrected(Own):
    settings: ClassVar[dict[str, Any]] = {**ADAM, "amsgrad": True}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        s["top"] = torch.maximum(s["top"], v / (1 - b2**t))
        p -= h["lr"] * (m / (1 - b1**t)) / (s["top"].sqrt() + h["eps"])


class NesterovOfBefore(Own):
    settings: ClassVar[dict[str, Any]] = {**SGD, "nesterov": True}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        old = s.get("b", torch.zeros_like(p))
        s["b"] = h["momentum"] * old + g
        p -= h["lr"] * (g + h["momentum"] * old)


class GrowingWeights(Own):
    settings: ClassVar[dict[str, Any]] = {**SGD, "weight_decay": 0.1}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["b"] = h["momentum"] * s.get("b", torch.zeros_like(p)) + g - h["weight_decay"] * p
        p -= h["lr"] * s["b"]


class SwappedBetas(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        b2, b1 = h["betas"]
        m, v, t = moments(p, g, s, {"betas": (b1, b2)})
        p -= h["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])


class OneAhead(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        t += 1
        p -= h["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])


class Uphill(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "alpha": 0.99, "eps": 1e-8}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["v"] = h["alpha"] * s.get("v", torch.zeros_like(p)) + (1 - h["alpha"]) * g * g
        p += h["lr"] * g / (s["v"].sqrt() + h["eps"])


class SharedCount(Own):
    settings: ClassVar[dict[str, Any]] = ADAM
    count = 0

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, _ = moments(p, g, s, h)
        self.count += 1
        b1, b2 = h["betas"]
        p -= h["lr"] * (m / (1 - b1**self.count)) / ((v / (1 - b2**self.count)).sqrt() + h["eps"])


# --- the second set ---------------------------------------------------------------------------------------------------------
class DecayWithoutRate(Own):
    settings: ClassVar[dict[str, Any]] = {**ADAM, "weight_decay": 0.01}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        p -= h["weight_decay"] * p
        p -= h["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])


class DecayAfterwards(Own):
    settings: ClassVar[dict[str, Any]] = {**ADAM, "weight_decay": 0.1}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        p -= h["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])
        p *= 1 - h["lr"] * h["weight_decay"]


class SizesNotSquares(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "alpha": 0.99, "eps": 1e-8}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["v"] = h["alpha"] * s.get("v", torch.zeros_like(p)) + (1 - h["alpha"]) * g.abs()
        p -= h["lr"] * g / (s["v"].sqrt() + h["eps"])


class HalfCorrected(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        p -= h["lr"] * m / ((v / (1 - h["betas"][1] ** t)).sqrt() + h["eps"])


class StartsWithGradient(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        b1, b2 = h["betas"]
        if not s:
            s.update(t=0, m=g.clone(), v=torch.zeros_like(p))
        else:
            s["m"] = b1 * s["m"] + (1 - b1) * g
        s["t"] += 1
        s["v"] = b2 * s["v"] + (1 - b2) * g * g
        t = s["t"]
        p -= h["lr"] * (s["m"] / (1 - b1**t)) / ((s["v"] / (1 - b2**t)).sqrt() + h["eps"])


class NoRoot(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "eps": 1e-10}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["sum"] = s.get("sum", torch.zeros_like(p)) + g * g
        p -= h["lr"] * g / (s["sum"] + h["eps"])


class AdagradEpsInside(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "eps": 1e-10}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["sum"] = s.get("sum", torch.zeros_like(p)) + g * g
        p -= h["lr"] * g / (s["sum"] + h["eps"]).sqrt()


class MeanNotSquared(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "alpha": 0.99, "eps": 1e-8, "centered": True}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        a = h["alpha"]
        s["v"] = a * s.get("v", torch.zeros_like(p)) + (1 - a) * g * g
        s["m"] = a * s.get("m", torch.zeros_like(p)) + (1 - a) * g
        p -= h["lr"] * g / ((s["v"] - s["m"]).abs().sqrt() + h["eps"])


class MomentumOfSteps(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "alpha": 0.99, "eps": 1e-8, "momentum": 0.9}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        a = h["alpha"]
        s["v"] = a * s.get("v", torch.zeros_like(p)) + (1 - a) * g * g
        s["b"] = h["momentum"] * s.get("b", torch.zeros_like(p)) + h["lr"] * g / (s["v"].sqrt() + h["eps"])
        p -= s["b"]


class AdamaxEpsOutside(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        b1, b2 = h["betas"]
        s["t"] = s.get("t", 0) + 1
        s["m"] = b1 * s.get("m", torch.zeros_like(p)) + (1 - b1) * g
        s["u"] = torch.maximum(b2 * s.get("u", torch.zeros_like(p)), g.abs())
        p -= h["lr"] / (1 - b1 ** s["t"]) * s["m"] / (s["u"] + h["eps"])


class DecayOutsideBuffer(Own):
    settings: ClassVar[dict[str, Any]] = {**SGD, "weight_decay": 0.1}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["b"] = h["momentum"] * s.get("b", torch.zeros_like(p)) + g
        p -= h["lr"] * (s["b"] + h["weight_decay"] * p)


class Averaged(Own):
    settings: ClassVar[dict[str, Any]] = SGD

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["b"] = h["momentum"] * s.get("b", torch.zeros_like(p)) + (1 - h["momentum"]) * g
        p -= h["lr"] * s["b"]


class AdadeltaEpsOutside(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 1.0, "rho": 0.9, "eps": 1e-6}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        r = h["rho"]
        s["v"] = r * s.get("v", torch.zeros_like(p)) + (1 - r) * g * g
        u = s.get("u", torch.zeros_like(p))
        d = (u + h["eps"]).sqrt() / (s["v"].sqrt() + h["eps"]) * g
        s["u"] = r * u + (1 - r) * d * d
        p -= h["lr"] * d


class EtasSwapped(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "etas": (0.5, 1.2), "step_sizes": (1e-6, 50)}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        if not s:
            s.update(prev=torch.zeros_like(p), size=torch.full_like(p, h["lr"]))
        sign = (g * s["prev"]).sign()
        factor = torch.where(sign > 0, h["etas"][0], torch.where(sign < 0, h["etas"][1], 1.0))
        s["size"] = (s["size"] * factor).clamp(*h["step_sizes"])
        s["prev"] = torch.where(sign < 0, 0.0, g)
        p -= s["prev"].sign() * s["size"]


class DeafToSchedules(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, **settings)
        self.rate = self.param_groups[0]["lr"]

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        p -= self.rate * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])


class OwnBeta(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 1e-3, "eps": 1e-8}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, {"betas": (0.9, 0.98)})
        p -= h["lr"] * (m / (1 - 0.9**t)) / ((v / (1 - 0.98**t)).sqrt() + h["eps"])


class OneSizeForAll(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "alpha": 0.99, "eps": 1e-8}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["v"] = h["alpha"] * s.get("v", torch.zeros_like(p)) + (1 - h["alpha"]) * (g * g).mean()
        p -= h["lr"] * g / (s["v"].sqrt() + h["eps"])


class NesterovForgotten(Own):
    settings: ClassVar[dict[str, Any]] = {**SGD, "nesterov": True}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["b"] = h["momentum"] * s.get("b", torch.zeros_like(p)) + g
        p -= h["lr"] * s["b"]


class RateOverRoot(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "lr_decay": 0.1, "eps": 1e-10}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["t"] = s.get("t", 0) + 1
        s["sum"] = s.get("sum", torch.zeros_like(p)) + g * g
        p -= h["lr"] / (1 + s["t"] * h["lr_decay"]) * g / (s["sum"].sqrt() + h["eps"])


class StateInFloat32(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        s["m"], s["v"] = m.float().double(), v.float().double()
        b1, b2 = h["betas"]
        p -= h["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])


# --- the third set --------------------------------------------------------------------------------------------------------------
class DecayPullsOutwards(Own):
    settings: ClassVar[dict[str, Any]] = {**ADAM, "weight_decay": 0.1}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        p *= 1 + h["lr"] * h["weight_decay"]
        p -= h["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])


class OneMu(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "momentum_decay": 0.05}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        mu = b1 * (1 - 0.5 * 0.96 ** (t * h["momentum_decay"]))
        s["P"] = s.get("P", 1.0) * mu
        d = (1 - mu) / (1 - s["P"]) * g + mu / (1 - s["P"] * mu) * m
        p -= h["lr"] * d / ((v / (1 - b2**t)).sqrt() + h["eps"])


class TwoOrders(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 1.0, "rho": 0.9, "eps": 1e-6}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        r = h["rho"]
        u = s.get("u", torch.zeros_like(p))
        d = (u + h["eps"]).sqrt() / (s.get("v", torch.zeros_like(p)) + h["eps"]).sqrt() * g
        s["v"] = r * s.get("v", torch.zeros_like(p)) + (1 - r) * g * g
        s["u"] = r * u + (1 - r) * d * d
        p -= h["lr"] * d


class CorrectedRms(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "alpha": 0.99, "eps": 1e-8}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        a = h["alpha"]
        s["t"] = s.get("t", 0) + 1
        s["v"] = a * s.get("v", torch.zeros_like(p)) + (1 - a) * g * g
        p -= h["lr"] * g / ((s["v"] / (1 - a ** s["t"])).sqrt() + h["eps"])


class EmptyAccumulator(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "eps": 1e-10, "initial_accumulator_value": 0.1}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["sum"] = s.get("sum", torch.zeros_like(p)) + g * g
        p -= h["lr"] * g / (s["sum"].sqrt() + h["eps"])


class WrongShare(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        b1, b2 = h["betas"]
        s["t"] = t = s.get("t", 0) + 1
        s["m"] = b1 * s.get("m", torch.zeros_like(p)) + (1 - b2) * g
        s["v"] = b2 * s.get("v", torch.zeros_like(p)) + (1 - b2) * g * g
        p -= h["lr"] * (s["m"] / (1 - b1**t)) / ((s["v"] / (1 - b2**t)).sqrt() + h["eps"])


class RootForgotten(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        p -= h["lr"] * (m / (1 - b1**t)) / (v.sqrt() / (1 - b2**t) + h["eps"])


class AdamaxUncorrected(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        b1, b2 = h["betas"]
        s["m"] = b1 * s.get("m", torch.zeros_like(p)) + (1 - b1) * g
        s["u"] = torch.maximum(b2 * s.get("u", torch.zeros_like(p)), g.abs() + h["eps"])
        p -= h["lr"] * s["m"] / s["u"]


class StaleSquares(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "alpha": 0.99, "eps": 1e-8}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        v = s.get("v", torch.zeros_like(p))
        p -= h["lr"] * g / (v.sqrt() + h["eps"])
        s["v"] = h["alpha"] * v + (1 - h["alpha"]) * g * g


class NoBacktracking(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "etas": (0.5, 1.2), "step_sizes": (1e-6, 50)}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        if not s:
            s.update(prev=torch.zeros_like(p), size=torch.full_like(p, h["lr"]))
        sign = (g * s["prev"]).sign()
        factor = torch.where(sign > 0, h["etas"][1], torch.where(sign < 0, h["etas"][0], 1.0))
        s["size"] = (s["size"] * factor).clamp(*h["step_sizes"])
        s["prev"] = g.clone()
        p -= g.sign() * s["size"]


class FadingRate(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        p -= h["lr"] / math.sqrt(t) * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])


class HalfNesterov(Own):
    settings: ClassVar[dict[str, Any]] = {**SGD, "nesterov": True}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["b"] = h["momentum"] * s.get("b", torch.zeros_like(p)) + g
        p -= h["lr"] * (g + s["b"])


class DampedTwice(Own):
    settings: ClassVar[dict[str, Any]] = {**SGD, "dampening": 0.3}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        first = "b" not in s
        s["b"] = g.clone() if first else h["momentum"] * s["b"] + (1 - h["dampening"]) ** 2 * g
        p -= h["lr"] * s["b"]


FIRST: list[tuple[type, str, dict[str, Any], tuple[str, ...]]] = [
    (EpsInside, "adam", {}, ("inside the root",)),
    (EpsBeforeCorrection, "adam", {}, ("eps", "sqrt(1 - beta2 ** t)")),
    (DampedFromTheStart, "sgd", {}, ("dampening also damps the first",)),
    (RateInside, "sgd", {}, ("learning rate is inside the buffer",)),
    (Decoupled, "adam", {}, ("decoupled",)),
    (Coupled, "adamw", {}, ("L2",)),
    (Uncorrected, "adam", {}, ("no bias correction",)),
    (AmsgradOfCorrected, "adam", {}, ("bias correction",)),
    (NesterovOfBefore, "sgd", {}, ("m_old", "before the update")),
    (GrowingWeights, "sgd", {}, ("weight decay has the other sign",)),
    (SwappedBetas, "adam", {}, ("beta1 and beta2 are swapped",)),
    (OneAhead, "adam", {}, ("off by one",)),
    (Uphill, "rmsprop", {}, ("uphill",)),
    (SharedCount, "adam", {}, ("shared by all parameters",)),
]
HELD_OUT: list[tuple[type, str, dict[str, Any], tuple[str, ...]]] = [
    (DecayWithoutRate, "adamw", {}, ("not multiplied by the learning rate",)),
    (DecayAfterwards, "adamw", {}, ("order", "weight decay")),
    (SizesNotSquares, "rmsprop", {}, ("abs",)),
    (HalfCorrected, "adam", {}, ("no bias correction",)),
    (StartsWithGradient, "adam", {}, ("m starts with g",)),
    (NoRoot, "adagrad", {}, ("sqrt is not applied",)),
    (AdagradEpsInside, "adagrad", {}, ("inside the root",)),
    (MeanNotSquared, "rmsprop", {}, ("** 2",)),
    (MomentumOfSteps, "rmsprop", {}, ("learning rate is inside the buffer",)),
    (AdamaxEpsOutside, "adamax", {}, ("eps",)),
    (DecayOutsideBuffer, "sgd", {}, ("decoupled",)),
    (Averaged, "sgd", {}, ("1 - momentum",)),
    (AdadeltaEpsOutside, "adadelta", {}, ("eps is outside the root",)),
    (EtasSwapped, "rprop", {}, ("etaminus and etaplus are swapped", "swapped")),
    (DeafToSchedules, "adam", {}, ("ignored",)),
    (OwnBeta, "adam", {}, ("beta2 has another value: 49/50", "0.98")),
    (OneSizeForAll, "rmsprop", {}, ("mean",)),
    (NesterovForgotten, "sgd", {}, ("uses m in the place of g_n", "momentum * m", "g_n")),
    (RateOverRoot, "adagrad", {}, ("off by one",)),
    (StateInFloat32, "adam", {}, ("float32",)),
]
THIRD: list[tuple[type, str, dict[str, Any], tuple[str, ...]]] = [
    (DecayPullsOutwards, "adamw", {}, ("weight decay has the other sign",)),
    (OneMu, "nadam", {}, ("uses mu in the place of mu_next", "mu_next")),
    (TwoOrders, "adadelta", {}, ("D",)),
    (CorrectedRms, "rmsprop", {}, ("1 - alpha ** t",)),
    (EmptyAccumulator, "adagrad", {}, ("initial_accumulator_value",)),
    (WrongShare, "adam", {}, ("uses beta2 in the place of beta1", "beta2")),
    (RootForgotten, "adam", {}, ("sqrt(1 - beta2 ** t)", "1 - beta2 ** t")),
    (AdamaxUncorrected, "adamax", {}, ("no bias correction",)),
    (StaleSquares, "rmsprop", {}, ("uses v of before the update", "v_old")),
    (NoBacktracking, "rprop", {}, ("s < 0", "prev")),
    (FadingRate, "adam", {}, ("sqrt(t)",)),
    (HalfNesterov, "sgd", {}, ("momentum is missing in g_n",)),
    (DampedTwice, "sgd", {}, ("1 - dampening", "another value: 0.51")),
]
