"""Gradient descent, with momentum as torch.optim.SGD has it.

The buffer m starts as the first gradient (no dampening on it); it is a sum of gradients, not an average, unless
dampening = momentum. Source: torch.optim.SGD; Sutskever et al. 2013 put the learning rate inside m instead.
"""

from __future__ import annotations

from .base import Equations, Hyper, Rule, register

__all__ = ["sgd"]


def _gradient(h: Hyper) -> Equations:
    signed = (("g_1", "-g"),) if h["maximize"] else ()
    name = "g_1" if h["maximize"] else "g"
    return signed + ((("g_2", f"{name} + weight_decay * w"),) if h["weight_decay"] else ())


def _equations(h: Hyper, t: int) -> Equations:
    steps = _gradient(h)
    g = steps[-1][0] if steps else "g"
    if not h["momentum"]:
        return (*steps, ("w", f"w - lr * {g}"))
    share = g if not h["dampening"] else f"(1 - dampening) * {g}"
    buffer = ("m", g if t == 1 else f"momentum * m + {share}")
    if not h["nesterov"]:
        return (*steps, buffer, ("w", "w - lr * m"))
    return (*steps, buffer, ("g_n", f"{g} + momentum * m"), ("w", "w - lr * g_n"))


sgd = register(
    Rule(
        name="sgd",
        hyper={
            "lr": 1e-3,
            "momentum": 0,
            "dampening": 0,
            "weight_decay": 0,
            "nesterov": False,
            "maximize": False,
        },
        state=lambda h: ("m",) if h["momentum"] else (),
        equations=_equations,
        source="torch.optim.SGD: m starts as the first gradient, the learning rate multiplies m.",
        flags=("nesterov", "maximize"),
        kept={"m": "momentum_buffer"},
    )
)
