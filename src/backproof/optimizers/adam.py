"""Adam and its relatives: AdamW, Adamax, NAdam, RAdam, SparseAdam.

Adam: Kingma and Ba 2015, algorithm 1, with t counted from 1 and eps added after the bias correction of v, as in
torch.optim.Adam. AdamW: Loshchilov and Hutter 2019, decoupled weight decay. Adamax: Kingma and Ba 2015, section 7.1 (torch
adds eps inside the maximum). NAdam: Dozat 2016 (with the momentum schedule of its section 3). RAdam: Liu et al. 2020:
plain steps while the variance of v is not yet tractable. SparseAdam: rows without a gradient stay as they are.
"""

from __future__ import annotations

from typing import Any

from .base import Equations, Hyper, Rule, Update, prepared, register

__all__ = ["adam", "adamax", "adamw", "averages", "nadam", "radam", "sparseadam"]


def averages(g: str) -> Equations:
    """The running averages of the gradient and of its square."""
    return (("m", f"beta1 * m + (1 - beta1) * {g}"), ("v", f"beta2 * v + (1 - beta2) * {g}**2"))


def _corrected(h: Hyper, g: str) -> Equations:
    largest: Equations = (("v_max", "max(v_max, v)"),) if h["amsgrad"] else ()
    second = "v_max" if h["amsgrad"] else "v"
    return (
        *averages(g),
        *largest,
        ("m_hat", "m / (1 - beta1**t)"),
        ("v_hat", f"{second} / (1 - beta2**t)"),
        ("w", "w - lr * m_hat / (sqrt(v_hat) + eps)"),
    )


def _adam(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    return (*steps, *_corrected(h, g))


def _adamw(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h, decoupled=True)
    return (*steps, *_corrected(h, g))


def _state(h: Hyper) -> tuple[str, ...]:
    return ("m", "v", "v_max") if h.get("amsgrad") else ("m", "v")


_NUMBERS = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0}
_KEPT = {"m": "exp_avg", "v": "exp_avg_sq"}
_SHARED: dict[str, Any] = {"scalars": ("step",), "arguments": {"beta1": "betas.0", "beta2": "betas.1"}}
_MOMENTS: dict[str, Any] = {**_SHARED, "second": ("v",), "kept": _KEPT}
_ADAM: dict[str, Any] = {**_SHARED, "second": ("v", "v_max"), "kept": {**_KEPT, "v_max": "max_exp_avg_sq"}}

adam = register(
    Rule(
        "adam",
        {**_NUMBERS, "amsgrad": False, "decoupled_weight_decay": False, "maximize": False},
        _state,
        _adam,
        "Kingma and Ba 2015, algorithm 1; torch.optim.Adam (eps after the bias correction; L2 weight decay).",
        ("amsgrad", "decoupled_weight_decay", "maximize"),
        **_ADAM,
    )
)
adamw = register(
    Rule(
        "adamw",
        {**_NUMBERS, "weight_decay": 0.01, "amsgrad": False, "maximize": False},
        _state,
        _adamw,
        "Loshchilov and Hutter 2019; torch.optim.AdamW (the decay is lr times weight_decay, before the step).",
        ("amsgrad", "maximize"),
        **_ADAM,
    )
)


def _adamax(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    return (
        *steps,
        ("m", f"beta1 * m + (1 - beta1) * {g}"),
        ("u", f"max(beta2 * u, abs({g}) + eps)"),
        ("m_hat", "m / (1 - beta1**t)"),
        ("w", "w - lr * m_hat / u"),
    )


adamax = register(
    Rule(
        "adamax",
        {**_NUMBERS, "lr": 2e-3, "maximize": False},
        lambda h: ("m", "u"),
        _adamax,
        "Kingma and Ba 2015, section 7.1; torch.optim.Adamax (eps inside the maximum).",
        ("maximize",),
        **{**_SHARED, "second": ("u",), "kept": {"m": "exp_avg", "u": "exp_inf"}},
    )
)


def _nadam(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    return (
        *steps,
        ("mu", "beta1 * (1 - 0.5 * 0.96**(t * momentum_decay))"),
        ("mu_next", "beta1 * (1 - 0.5 * 0.96**((t + 1) * momentum_decay))"),
        ("P", "mu" if at.t == 1 else "P * mu"),
        *averages(g),
        ("v_hat", "v / (1 - beta2**t)"),
        ("d", f"(1 - mu) / (1 - P) * {g} + mu_next / (1 - P * mu_next) * m"),
        ("w", "w - lr * d / (sqrt(v_hat) + eps)"),
    )


nadam = register(
    Rule(
        "nadam",
        {**_NUMBERS, "lr": 2e-3, "momentum_decay": 4e-3, "decoupled_weight_decay": False, "maximize": False},
        lambda h: ("m", "v", "P"),
        _nadam,
        "Dozat 2016, with a momentum that rises with t; torch.optim.NAdam. P is the product of all mu so far.",
        ("decoupled_weight_decay", "maximize"),
        shared=("P",),
        fading=("P",),
        shapes=lambda h, shape: {"P": ()},
        **{**_MOMENTS, "scalars": ("step", "mu_product")},
    )
)


def _length(h: Hyper, t: int) -> float:
    """The length of the averaging window that v stands for, rho of the paper."""
    beta2 = float(h["beta2"])
    return 2 / (1 - beta2) - 1 - 2 * t * beta2**t / (1 - beta2**t)


def _radam(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    head: Equations = (*steps, *averages(g), ("m_hat", "m / (1 - beta1**t)"))
    if _length(h, at.t) <= 5:
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
        {**_NUMBERS, "decoupled_weight_decay": False, "maximize": False},
        lambda h: ("m", "v"),
        _radam,
        "Liu et al. 2020, algorithm 2; torch.optim.RAdam (eps before the bias correction of v).",
        ("decoupled_weight_decay", "maximize"),
        changes=True,
        **_MOMENTS,
    )
)


def _sparseadam(h: Hyper, at: Update) -> Equations:
    """A row (an entry of a vector) whose gradient is not stored keeps its w, m and v; t counts all updates."""
    steps, g = prepared(h)
    touched = f"max(abs({g}), dim=-1, keepdim=True)" if len(at.shape) > 1 else f"abs({g})"
    return (
        *steps,
        ("here", touched),
        ("m", f"where(here > 0, beta1 * m + (1 - beta1) * {g}, m)"),
        ("v", f"where(here > 0, beta2 * v + (1 - beta2) * {g}**2, v)"),
        ("eta_t", "lr * sqrt(1 - beta2**t) / (1 - beta1**t)"),
        ("w", "where(here > 0, w - eta_t * m / (sqrt(v) + eps), w)"),
    )


sparseadam = register(
    Rule(
        "sparseadam",
        {**{k: v for k, v in _NUMBERS.items() if k != "weight_decay"}, "maximize": False},
        lambda h: ("m", "v"),
        _sparseadam,
        "torch.optim.SparseAdam: Adam with eps before the bias correction of v (eps-hat of Kingma and Ba, section 2), on the "
        "rows that have a gradient; the others keep their m and v too.",
        ("maximize",),
        **_MOMENTS,
    )
)
