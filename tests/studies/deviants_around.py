"""Optimizers with something around the rule, over time or between parameters that torch.optim does not have; two
deviations at once; and right ones that are written in other ways.

``AROUND`` and ``TWICE``: the class, the rule, its settings, words of which one must stand in the name of the deviation.
``PLAIN_WORDS``: besides, words that must not stand there.
``RIGHT``: the class, the rule and settings under which there is nothing to name.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch

from .deviants import ADAM, Own, moments

__all__ = ["AROUND", "PLAIN_WORDS", "RIGHT", "TWICE", "NoMaximum"]

DECAYED = {**ADAM, "weight_decay": 0.05}
PLAIN = {"lr": 0.05, "momentum": 0.0, "weight_decay": 0.0}


class Adam(Own):
    """Adam with places to change it at."""

    settings: ClassVar[dict[str, Any]] = ADAM

    def gradient(self, p: Any, g: Any, s: dict[str, Any]) -> Any:
        return g

    def step_of(self, p: Any, x: Any, g: Any, s: dict[str, Any], h: dict[str, Any]) -> Any:
        return x

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        g = self.gradient(p, g, s)
        m, v, t = moments(p, g + h["weight_decay"] * p if h["weight_decay"] else g, s, h)
        b1, b2 = h["betas"]
        x = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])
        p -= self.step_of(p, h["lr"] * x, g, s, h)


class Sgd(Own):
    """Momentum with places to change it at."""

    settings: ClassVar[dict[str, Any]] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0}

    def gradient(self, p: Any, g: Any, s: dict[str, Any]) -> Any:
        return g

    def buffer(self, p: Any, g: Any, s: dict[str, Any], h: dict[str, Any]) -> Any:
        s["b"] = h["momentum"] * s["b"] + g if "b" in s else g.clone()
        return s["b"]

    def rate(self, t: int, h: dict[str, Any]) -> float:
        return float(h["lr"])

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["t"] = s.get("t", 0) + 1
        g = self.gradient(p, g, s)
        g = g + h["weight_decay"] * p
        p -= self.rate(s["t"], h) * self.buffer(p, g, s, h)


class ClippedByNorm(Sgd):
    def gradient(self, p, g, s):  # type: ignore[no-untyped-def]
        return g * min(1.0, 1.5 / (float(g.norm()) + 1e-6))


class ClippedByValue(Adam):
    def gradient(self, p, g, s):  # type: ignore[no-untyped-def]
        return g.clamp(-0.4, 0.4)


class Centralised(Sgd):
    def gradient(self, p, g, s):  # type: ignore[no-untyped-def]
        return g - g.mean(dim=tuple(range(1, g.ndim)), keepdim=True) if g.ndim > 1 else g


class Normalised(Sgd):
    def gradient(self, p, g, s):  # type: ignore[no-untyped-def]
        return g / (g.norm() + 1e-8)


class SignOfGradient(Sgd):
    def gradient(self, p, g, s):  # type: ignore[no-untyped-def]
        return g.sign()


class ClippedTogether(Sgd):
    def step(self, closure=None):  # type: ignore[no-untyped-def]
        torch.nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 2.0)
        super().step()


class WarmUp(Sgd):
    def rate(self, t, h):  # type: ignore[no-untyped-def]
        return h["lr"] * min(1.0, t / 8)


class Decaying(Adam):
    def step_of(self, p, x, g, s, h):  # type: ignore[no-untyped-def]
        return x * 0.97 ** (s["t"] - 1)


class Stairs(Sgd):
    def rate(self, t, h):  # type: ignore[no-untyped-def]
        return h["lr"] * 0.5 ** ((t - 1) // 6)


class Cosine(Sgd):
    def rate(self, t, h):  # type: ignore[no-untyped-def]
        return h["lr"] * 0.5 * (1 + math.cos(math.pi * (t - 1) / 40))


class Belief(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        if not s:
            s.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
        b1, b2 = h["betas"]
        s["t"] += 1
        s["m"] = b1 * s["m"] + (1 - b1) * g
        s["v"] = b2 * s["v"] + (1 - b2) * (g - s["m"]) ** 2
        p -= h["lr"] * (s["m"] / (1 - b1 ** s["t"])) / ((s["v"] / (1 - b2 ** s["t"])).sqrt() + h["eps"])


class Cautious(Adam):
    def step_of(self, p, x, g, s, h):  # type: ignore[no-untyped-def]
        mask = (x * g > 0).to(x.dtype)
        return x * mask / mask.mean().clamp(min=1e-3)


class Trusting(Adam):
    def step_of(self, p, x, g, s, h):  # type: ignore[no-untyped-def]
        a, b = float(p.norm()), float(x.norm() / h["lr"])
        return x * (a / b if a > 0 and b > 0 else 1.0)


class EverySecond(Sgd):
    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["sum"] = s.get("sum", 0) + g
        s["calls"] = s.get("calls", 0) + 1
        if s["calls"] % 2 == 0:
            super().one(p, s["sum"] / 2, s, h)
            s["sum"] = torch.zeros_like(g)


class SharedSquares(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "alpha": 0.95, "eps": 1e-8}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["v"] = h["alpha"] * s.get("v", 0.0) + (1 - h["alpha"]) * float((g * g).mean())
        p -= h["lr"] * g / (math.sqrt(s["v"]) + h["eps"])


class Lookahead(Sgd):
    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s.setdefault("slow", p.clone())
        super().one(p, g, s, h)
        if s["t"] % 6 == 0:
            s["slow"] += 0.4 * (p - s["slow"])
            p.copy_(s["slow"])


class Restarted(Sgd):
    def buffer(self, p, g, s, h):  # type: ignore[no-untyped-def]
        if (s["t"] - 1) % 7 == 0:
            s["b"] = torch.zeros_like(p)
        return super().buffer(p, g, s, h)


class Noisy(Sgd):
    def gradient(self, p, g, s):  # type: ignore[no-untyped-def]
        return g + 0.05 * torch.randn_like(g)


class IgnoresEps(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        p -= h["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + 1e-8)


class FirstRate(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.05, "momentum": 0.9}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["b"] = h["momentum"] * s["b"] + g if "b" in s else g.clone()
        p -= self.param_groups[0]["lr"] * s["b"]


class OneState(Sgd):
    def step(self, closure=None):  # type: ignore[no-untyped-def]
        self.all: dict[str, Any] = getattr(self, "all", {})
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                b = self.param_groups[0]["momentum"] * self.all.get("b", 0) + p.grad
                self.all["b"] = b
                p -= self.param_groups[0]["lr"] * b


class MatricesDecay(Own):
    settings: ClassVar[dict[str, Any]] = {**ADAM, "weight_decay": 0.05}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        if p.ndim > 1:
            p *= 1 - h["lr"] * h["weight_decay"]
        p -= h["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])


class NarrowBuffer(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.05, "momentum": 0.9}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        b = s.setdefault("momentum_buffer", torch.zeros_like(p, dtype=torch.bfloat16))
        b.mul_(h["momentum"]).add_(g.to(torch.bfloat16))
        p -= h["lr"] * b.to(p.dtype)


class NoEps(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "eps": 1e-10}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["sum"] = s.get("sum", torch.zeros_like(p)) + g * g
        p -= h["lr"] * g / s["sum"].sqrt()


class AlwaysNan(Sgd):
    def gradient(self, p, g, s):  # type: ignore[no-untyped-def]
        return g * float("nan")


class Floored(Adam):
    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        p -= h["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).clamp(min=0.3).sqrt() + h["eps"])


class Delayed(Sgd):
    def gradient(self, p, g, s):  # type: ignore[no-untyped-def]
        old = s.get("last", torch.zeros_like(g))
        s["last"] = g.clone()
        return old


class Partial(Adam):
    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        p -= h["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.35 + h["eps"])


class HiddenDecay(Sgd):
    def gradient(self, p, g, s):  # type: ignore[no-untyped-def]
        return g + 0.003 * p


class RisingMomentum(Sgd):
    def buffer(self, p, g, s, h):  # type: ignore[no-untyped-def]
        mu = h["momentum"] * (1 - 1 / (s["t"] + 3))
        s["b"] = mu * s["b"] + g if "b" in s else g.clone()
        return s["b"]


AROUND: list[tuple[type, str, dict[str, Any], tuple[str, ...]]] = [
    (ClippedByNorm, "sgd", {}, ("clipped by its norm",)),
    (ClippedByValue, "adam", {}, ("clipped to [-0.4",)),
    (Centralised, "sgd", {}, ("centralised",)),
    (Normalised, "sgd", {}, ("divided by its norm",)),
    (SignOfGradient, "sgd", {}, ("sign",)),
    (ClippedTogether, "sgd", {}, ("of all parameters",)),
    (WarmUp, "sgd", {}, ("linear warm-up over 8",)),
    (Decaying, "adam", {}, ("0.97^(t - 1)",)),
    (Stairs, "sgd", {}, ("staircase every 6",)),
    (Cosine, "sgd", {}, ("cosine",)),
    (Belief, "adam", {}, ("g - m",)),
    (Cautious, "adam", {}, ("cautious",)),
    (Trusting, "adam", {}, ("trust ratio",)),
    (EverySecond, "sgd", {}, ("every 2 updates, with the mean",)),
    (SharedSquares, "rmsprop", {}, ("mean",)),
    (Lookahead, "sgd", {}, ("Lookahead: every 6 updates",)),
    (Restarted, "sgd", {}, ("every 7 updates",)),
    (Noisy, "sgd", {}, ("noise",)),
    (IgnoresEps, "adam", {}, ("eps is ignored",)),
    (FirstRate, "sgd", {}, ("lr of the first parameter group",)),
    (OneState, "sgd", {}, ("share",)),
    (MatricesDecay, "adamw", {}, ("weight decay is left out for parameters with one axis",)),
    (NarrowBuffer, "sgd", {}, ("bfloat16",)),
    (NoEps, "adagrad", {}, ("eps is missing",)),
    (AlwaysNan, "sgd", {}, ("NaN or infinite from update 1 on, whatever the gradient",)),
    (Floored, "adam", {}, ("held at or above a number",)),
    (Delayed, "sgd", {}, ("gradient of the update before", "uses m of before the update")),
    (Partial, "adam", {}, ("another power",)),
    (HiddenDecay, "sgd", {}, ("as if weight_decay were 0.003",)),
    (RisingMomentum, "sgd", {}, ("momentum depends on the number of the update",)),
]


# --- two at once ------------------------------------------------------------------------------------------------------------
class ClippedAndUncorrected(Own):
    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g.clamp(-0.5, 0.5), s, h)
        p -= h["lr"] * m / ((v / (1 - h["betas"][1] ** t)).sqrt() + h["eps"])


class InsideAndDecoupled(Own):
    settings: ClassVar[dict[str, Any]] = {**ADAM, "weight_decay": 0.1}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        p *= 1 - h["lr"] * h["weight_decay"]
        p -= h["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)) + h["eps"]).sqrt()


class SignAndWarm(Sgd):
    def gradient(self, p, g, s):  # type: ignore[no-untyped-def]
        return g.sign()

    def rate(self, t, h):  # type: ignore[no-untyped-def]
        return h["lr"] * min(1.0, t / 5)


class CentralisedAndAveraged(Centralised):
    def buffer(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["b"] = h["momentum"] * s.get("b", torch.zeros_like(p)) + (1 - h["momentum"]) * g
        return s["b"]


class UphillAndDecaying(Sgd):
    def rate(self, t, h):  # type: ignore[no-untyped-def]
        return -h["lr"] / math.sqrt(t)


class UncorrectedInside(Own):
    settings: ClassVar[dict[str, Any]] = {**ADAM, "eps": 1e-3}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        p -= h["lr"] * m / (v / (1 - h["betas"][1] ** t) + h["eps"]).sqrt()


class ForgetfulAccumulator(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.05, "lr_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["t"] = s.get("t", 0) + 1
        s["S"] = s.get("S", torch.zeros_like(p)) + g * g
        p -= h["lr"] / (1 + s["t"] * h["lr_decay"]) * g / (s["S"].sqrt() + h["eps"])


class NoMaximum(Adam):
    settings: ClassVar[dict[str, Any]] = {**ADAM, "amsgrad": False}


class NesterovOfOld(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.05, "momentum": 0.9, "nesterov": True}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        old = s.get("b", torch.zeros_like(p))
        s["b"] = h["momentum"] * old + g
        p -= h["lr"] * (g + h["momentum"] * old)


class AverageOfGradients(Sgd):
    def buffer(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["b"] = h["momentum"] * s["b"] + (1 - h["momentum"]) * g if "b" in s else g.clone()
        return s["b"]


class ConstantSchedule(Own):
    settings: ClassVar[dict[str, Any]] = {**ADAM, "momentum_decay": 4e-3}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        d = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        p -= h["lr"] * d / ((v / (1 - b2**t)).sqrt() + h["eps"])


PLAIN_WORDS: list[tuple[type, str, dict[str, Any], tuple[str, ...], tuple[str, ...]]] = [
    (UncorrectedInside, "adam", {}, ("no bias correction in m_hat", "eps is inside the root"), ("comes at", "instead of in that")),
    (ForgetfulAccumulator, "adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5},
     ("initial_accumulator_value is ignored", "count of updates is off by one"), ("buffer",)),
    (NoMaximum, "adam", {"amsgrad": True}, ("it goes as without amsgrad",), ()),
    (NesterovOfOld, "sgd", {}, ("before the update", "it goes as without nesterov"), ()),
    (AverageOfGradients, "sgd", {"momentum": 0.7}, ("m is an average", "multiplied by 1 - momentum", "dampening were 0.7"), ()),
]  # fmt: skip
"""What is said, and words that are not: there is a plainer way to say it."""


TWICE: list[tuple[type, str, dict[str, Any], tuple[str, str]]] = [
    (ClippedAndUncorrected, "adam", {}, ("clipped", "bias correction")),
    (InsideAndDecoupled, "adam", {}, ("inside the root", "decoupled")),
    (SignAndWarm, "sgd", {}, ("sign", "warm-up")),
    (CentralisedAndAveraged, "sgd", {}, ("centralised", "1 - momentum")),
    (UphillAndDecaying, "sgd", {}, ("uphill", "1/sqrt(t)")),
    (ConstantSchedule, "nadam", {}, ("missing in mu", "momentum_decay counts for nothing")),
]


# --- right ones in other words ------------------------------------------------------------------------------------------------
class FusedCorrection(Own):
    """Both corrections in the step size, eps scaled to match."""

    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        root = math.sqrt(1 - b2**t)
        p.addcdiv_(m, v.sqrt() + h["eps"] * root, value=-h["lr"] * root / (1 - b1**t))


class ProductOfBetas(Own):
    """The powers of the betas kept as running products."""

    settings: ClassVar[dict[str, Any]] = ADAM

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        b1, b2 = h["betas"]
        if not s:
            s.update(m=torch.zeros_like(p), v=torch.zeros_like(p), p1=1.0, p2=1.0)
        s["p1"] *= b1
        s["p2"] *= b2
        s["m"].lerp_(g, 1 - b1)
        s["v"] -= (1 - b2) * (s["v"] - g.square())
        p -= h["lr"] * (s["m"] / (1 - s["p1"])) / (s["v"].div(1 - s["p2"]).sqrt() + h["eps"])


class VelocityForm(Own):
    """Momentum with the velocity pointing downhill."""

    settings: ClassVar[dict[str, Any]] = {"lr": 0.05, "momentum": 0.9}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        s["v"] = h["momentum"] * s.get("v", torch.zeros_like(p)) - g
        p += h["lr"] * s["v"]


class DecayInOneFactor(Own):
    settings: ClassVar[dict[str, Any]] = {**ADAM, "weight_decay": 0.05}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        m, v, t = moments(p, g, s, h)
        b1, b2 = h["betas"]
        x = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + h["eps"])
        p -= h["lr"] * (x + h["weight_decay"] * p)


class ReciprocalRoot(Own):
    settings: ClassVar[dict[str, Any]] = {"lr": 0.01, "alpha": 0.99, "eps": 1e-8}

    def one(self, p, g, s, h):  # type: ignore[no-untyped-def]
        v = s.setdefault("v", torch.zeros_like(p))
        v.mul_(h["alpha"]).addcmul_(g, g, value=1 - h["alpha"])
        p -= g.mul(h["lr"]) * (v.sqrt() + h["eps"]).reciprocal()


class Plain:
    """No base class, one parameter group, a count of its own."""

    def __init__(
        self, params: Any, lr: float = 0.001, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        self.params = list(params)
        self.lr, self.b1, self.b2, self.epsilon, self.count = lr, b1, b2, epsilon, 0
        self.m = [torch.zeros_like(p) for p in self.params]
        self.v = [torch.zeros_like(p) for p in self.params]

    @torch.no_grad()
    def step(self) -> None:
        self.count += 1
        for p, m, v in zip(self.params, self.m, self.v, strict=True):
            m += (1 - self.b1) * (p.grad - m)
            v += (1 - self.b2) * (p.grad**2 - v)
            p -= self.lr * (m / (1 - self.b1**self.count)) / ((v / (1 - self.b2**self.count)) ** 0.5 + self.epsilon)


RIGHT: list[tuple[type, str, dict[str, Any]]] = [
    (FusedCorrection, "adam", {}),
    (ProductOfBetas, "adam", {}),
    (VelocityForm, "sgd", {}),
    (DecayInOneFactor, "adamw", {}),
    (ReciprocalRoot, "rmsprop", {}),
    (Plain, "adam", {}),
]
