"""Adam and AdamW.

Adam: Kingma and Ba 2015, algorithm 1, with t counted from 1 and eps added after the bias correction of v, as in
torch.optim.Adam. AdamW: Loshchilov and Hutter 2019, decoupled weight decay, as in torch.optim.AdamW.
"""

from __future__ import annotations

from typing import Any

from .base import Equations, Hyper, Rule, register

__all__ = ["adam", "adamw"]


def _moments(h: Hyper, g: str) -> Equations:
    largest: Equations = (("v_max", "max(v_max, v)"),) if h["amsgrad"] else ()
    second = "v_max" if h["amsgrad"] else "v"
    return (
        ("m", f"beta1 * m + (1 - beta1) * {g}"),
        ("v", f"beta2 * v + (1 - beta2) * {g}**2"),
        *largest,
        ("m_hat", "m / (1 - beta1**t)"),
        ("v_hat", f"{second} / (1 - beta2**t)"),
        ("w", "w - lr * m_hat / (sqrt(v_hat) + eps)"),
    )


def _signed(h: Hyper) -> tuple[Equations, str]:
    return ((("g_1", "-g"),), "g_1") if h["maximize"] else ((), "g")


def _adam(h: Hyper, t: int) -> Equations:
    steps, g = _signed(h)
    if h["weight_decay"]:
        steps, g = (*steps, ("g_2", f"{g} + weight_decay * w")), "g_2"
    return (*steps, *_moments(h, g))


def _adamw(h: Hyper, t: int) -> Equations:
    steps, g = _signed(h)
    decay: Equations = (("w", "w - lr * weight_decay * w"),) if h["weight_decay"] else ()
    return (*steps, *decay, *_moments(h, g))


def _state(h: Hyper) -> tuple[str, ...]:
    return ("m", "v", "v_max") if h["amsgrad"] else ("m", "v")


_HYPER = {
    "lr": 1e-3,
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
    "weight_decay": 0,
    "amsgrad": False,
    "maximize": False,
}

_TORCH: dict[str, Any] = {
    "flags": ("amsgrad", "maximize"),
    "kept": {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"},
    "scalars": ("step",),
    "second": ("v", "v_max"),
    "arguments": {"beta1": "betas.0", "beta2": "betas.1"},
}
adam = register(Rule("adam", _HYPER, _state, _adam, "Kingma and Ba 2015, algorithm 1; torch.optim.Adam.", **_TORCH))
adamw = register(
    Rule(
        "adamw",
        {**_HYPER, "weight_decay": 0.01},
        _state,
        _adamw,
        "Loshchilov and Hutter 2019; torch.optim.AdamW.",
        **_TORCH,
    )
)
