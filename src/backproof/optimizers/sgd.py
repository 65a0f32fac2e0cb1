"""Gradient descent: with momentum as torch.optim.SGD has it, and averaged (ASGD).

SGD: the buffer m starts as the first gradient (no dampening on it); it is a sum of gradients, not an average, unless
dampening = momentum. Source: torch.optim.SGD; Sutskever et al. 2013 put the learning rate inside m instead. ASGD: Polyak
and Juditsky 1992, with Bottou's step sizes; the average starts after t0 updates.
"""

from __future__ import annotations

from .base import Equations, Hyper, Rule, Update, prepared, register

__all__ = ["asgd", "sgd"]


def _sgd(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    if not h["momentum"]:
        return (*steps, ("w", f"w - lr * {g}"))
    share = g if not h["dampening"] else f"(1 - dampening) * {g}"
    buffer = ("m", g if at.t == 1 else f"momentum * m + {share}")
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
        equations=_sgd,
        source="torch.optim.SGD: m starts as the first gradient, the learning rate multiplies m.",
        flags=("nesterov", "maximize"),
        kept={"m": "momentum_buffer"},
    )
)


def _asgd(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    averaging = at.t - 1 - float(h["t0"]) > 1
    return (
        *steps,
        ("eta_t", "lr" if at.t == 1 else "eta_next"),
        ("w", f"w - lambd * eta_t * w - eta_t * {g}"),
        ("ax", "ax + (w - ax) / (t - 1 - t0)" if averaging else "w"),
        ("eta_next", "lr / (1 + lambd * lr * t)**alpha"),
    )


asgd = register(
    Rule(
        "asgd",
        {"lr": 1e-2, "lambd": 1e-4, "alpha": 0.75, "t0": 1e6, "weight_decay": 0, "maximize": False},
        lambda h: ("ax", "eta_next"),
        _asgd,
        "Polyak and Juditsky 1992, with step sizes that shrink; torch.optim.ASGD: the average ax starts after t0 updates, and "
        "a new lr counts one update later.",
        ("maximize",),
        kept={"ax": "ax"},
        scalars=("step", "eta", "mu"),
        changes=True,
        shared=("eta_next",),
        rates=("eta_next",),
        shapes=lambda h, shape: {"eta_next": ()},
    )
)
