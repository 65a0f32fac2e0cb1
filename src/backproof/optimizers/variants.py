"""NAdam, RAdam, Rprop and averaged SGD, as torch.optim has them.

NAdam: Dozat 2016 (with the momentum schedule of its section 3). RAdam: Liu et al. 2020: plain steps while the variance of v
is not yet tractable. Rprop: Riedmiller and Braun 1993, without weight backtracking. ASGD: Polyak and Juditsky 1992, with
Bottou's step sizes; the average starts after t0 updates.
"""

from __future__ import annotations

from typing import Any

from .base import Equations, Hyper, Rule, register

__all__ = ["asgd", "nadam", "radam", "rprop"]

_BETAS = {"beta1": "betas.0", "beta2": "betas.1"}
_MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}


def _decayed(h: Hyper) -> tuple[Equations, str]:
    """The gradient after its sign is chosen and weight decay is added (or taken off w first), and its name."""
    steps: Equations = (("g_1", "-g"),) if h["maximize"] else ()
    g = "g_1" if h["maximize"] else "g"
    if not h["weight_decay"]:
        return steps, g
    if h.get("decoupled_weight_decay"):
        return (*steps, ("w", "w - lr * weight_decay * w")), g
    return (*steps, ("g_2", f"{g} + weight_decay * w")), "g_2"


def _averages(g: str) -> Equations:
    return (("m", f"beta1 * m + (1 - beta1) * {g}"), ("v", f"beta2 * v + (1 - beta2) * {g}**2"))


def _nadam(h: Hyper, t: int) -> Equations:
    steps, g = _decayed(h)
    return (
        *steps,
        ("mu", "beta1 * (1 - 0.5 * 0.96**(t * momentum_decay))"),
        ("mu_next", "beta1 * (1 - 0.5 * 0.96**((t + 1) * momentum_decay))"),
        ("P", "P + mu" if t == 1 else "P * mu"),
        *_averages(g),
        ("v_hat", "v / (1 - beta2**t)"),
        ("d", f"(1 - mu) / (1 - P) * {g} + mu_next / (1 - P * mu_next) * m"),
        ("w", "w - lr * d / (sqrt(v_hat) + eps)"),
    )


nadam = register(
    Rule(
        "nadam",
        {
            "lr": 2e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0, "momentum_decay": 4e-3,
            "decoupled_weight_decay": False, "maximize": False,
        },
        lambda h: ("m", "v", "P"),
        _nadam,
        "Dozat 2016, with a momentum that rises with t; torch.optim.NAdam. P is the product of all mu so far.",
        ("decoupled_weight_decay", "maximize"),
        kept=_MOMENTS,
        scalars=("step", "mu_product"),
        second=("v",),
        arguments=_BETAS,
        shared=("P",),
    )
)  # fmt: skip


def _length(h: Hyper, t: int) -> float:
    """The length of the averaging window that v stands for, rho of the paper."""
    beta2 = float(h["beta2"])
    return 2 / (1 - beta2) - 1 - 2 * t * beta2**t / (1 - beta2**t)


def _radam(h: Hyper, t: int) -> Equations:
    steps, g = _decayed(h)
    head: Equations = (*steps, *_averages(g), ("m_hat", "m / (1 - beta1**t)"))
    if _length(h, t) <= 5:
        return (*head, ("w", "w - lr * m_hat"))
    return (
        *head,
        ("rho_inf", "2 / (1 - beta2) - 1"),
        ("rho", "rho_inf - 2 * t * beta2**t / (1 - beta2**t)"),
        ("r", "((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))**0.5"),
        ("w", "w - lr * m_hat * r * (1 - beta2**t)**0.5 / (sqrt(v) + eps)"),
    )


radam = register(
    Rule(
        "radam",
        {
            "lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0,
            "decoupled_weight_decay": False, "maximize": False,
        },
        lambda h: ("m", "v"),
        _radam,
        "Liu et al. 2020, algorithm 2; torch.optim.RAdam (eps before the bias correction of v).",
        ("decoupled_weight_decay", "maximize"),
        kept=_MOMENTS,
        scalars=("step",),
        second=("v",),
        arguments=_BETAS,
        changes=True,
    )
)  # fmt: skip


def _rprop(h: Hyper, t: int) -> Equations:
    signed: Equations = (("g_1", "-g"),) if h["maximize"] else ()
    g = "g_1" if h["maximize"] else "g"
    if t == 1:
        return (*signed, ("step", f"lr + 0 * {g}"), ("prev", g), ("w", "w - sign(prev) * step"))
    return (
        *signed,
        ("s", f"sign({g} * prev)"),
        ("grown", "where(s > 0, etaplus * step, where(s < 0, etaminus * step, step))"),
        ("step", "where(grown > step_max, step_max, where(grown < step_min, step_min, grown))"),
        ("prev", f"where(s < 0, 0, {g})"),
        ("w", "w - sign(prev) * step"),
    )


rprop = register(
    Rule(
        "rprop",
        {"lr": 1e-2, "etaminus": 0.5, "etaplus": 1.2, "step_min": 1e-6, "step_max": 50, "maximize": False},
        lambda h: ("prev", "step"),
        _rprop,
        "Riedmiller and Braun 1993, without weight backtracking; torch.optim.Rprop. For full batches only.",
        ("maximize",),
        kept={"prev": "prev", "step": "step_size"},
        scalars=("step",),
        arguments={"etaminus": "etas.0", "etaplus": "etas.1", "step_min": "step_sizes.0", "step_max": "step_sizes.1"},
    )
)


def _asgd(h: Hyper, t: int) -> Equations:
    steps, g = _decayed(h)
    averaging = t - 1 - float(h["t0"]) > 1
    return (
        *steps,
        ("eta_t", "lr / (1 + lambd * lr * (t - 1))**alpha"),
        ("w", f"w - lambd * eta_t * w - eta_t * {g}"),
        ("ax", "ax + (w - ax) / (t - 1 - t0)" if averaging else "w"),
    )


_ASGD: dict[str, Any] = {
    "lr": 1e-2, "lambd": 1e-4, "alpha": 0.75, "t0": 1e6, "weight_decay": 0, "maximize": False,
}  # fmt: skip
asgd = register(
    Rule(
        "asgd",
        _ASGD,
        lambda h: ("ax",),
        _asgd,
        "Polyak and Juditsky 1992, with step sizes that shrink; torch.optim.ASGD: the average ax starts after t0 updates.",
        ("maximize",),
        kept={"ax": "ax"},
        scalars=("step", "eta", "mu"),
        changes=True,
    )
)
