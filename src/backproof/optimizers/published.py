"""Other published forms of torch.optim's rules: the same names in papers and in other packages, with other arithmetic.

A variant is a rule of its own under "adam/eps-hat". Compare it with torch's: ``bp.optimizer("adam").compare(
bp.optimizer("adam", variant="eps-hat"))``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from . import adaptive, sgd
from .adam import averages
from .base import RULES, Equations, Hyper, Rule, Update, prepared, register

__all__ = ["variant"]

_ = (adaptive, sgd)  # imported for the rules that they register


def variant(
    of: str,
    name: str,
    equations: Callable[[Hyper, Update], Equations],
    source: str,
    drop: tuple[str, ...] = (),
    hyper: Mapping[str, Any] | None = None,
) -> Rule:
    """Register another published form of a rule.

    Args:
        of: torch's rule.
        name: of the variant.
        equations: its assignments.
        source: where it is published.
        drop: settings of torch's rule that it does not have.
        hyper: settings that it has besides, or with other defaults.
    """
    base = RULES[of]
    own = {**{k: v for k, v in base.hyper.items() if k not in drop}, **(hyper or {})}
    flags = tuple(f for f in base.flags if f in own)
    return register(replace(base, name=f"{of}/{name}", equations=equations, source=source, hyper=own, flags=flags,
                            variant_of=of))  # fmt: skip


def _eps_hat(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    return (
        *steps,
        *averages(g),
        ("eta_t", "lr * sqrt(1 - beta2**t) / (1 - beta1**t)"),
        ("w", "w - eta_t * m / (sqrt(v) + eps)"),
    )


def _uncorrected(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    return (*steps, *averages(g), ("w", "w - lr * m / (sqrt(v) + eps)"))


def _amsgrad_paper(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    return (*steps, *averages(g), ("v_max", "max(v_max, v)"), ("w", "w - lr * m / (sqrt(v_max) + eps)"))


def _adamw_paper(h: Hyper, at: Update) -> Equations:
    return (
        *averages("g"),
        ("m_hat", "m / (1 - beta1**t)"),
        ("v_hat", "v / (1 - beta2**t)"),
        ("w", "w - (lr * m_hat / (sqrt(v_hat) + eps) + weight_decay * w)"),
    )


def _inside(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    return (*steps, ("m", f"momentum * m + lr * {g}"), ("w", "w - m"))


def _average(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    return (*steps, ("m", f"momentum * m + (1 - momentum) * {g}"), ("w", "w - lr * m"))


def _nesterov(h: Hyper, at: Update) -> Equations:
    """With w the point at which the gradient is taken: Bengio, Boulanger-Lewandowski and Pascanu 2013, equation 7."""
    return (("u", "momentum * m - lr * g"), ("w", "w + momentum * u - lr * g"), ("m", "u"))


def _eps_inside(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    head: Equations = (*steps, ("v", f"alpha * v + (1 - alpha) * {g}**2"))
    if not h["momentum"]:
        return (*head, ("w", f"w - lr * {g} / sqrt(v + eps)"))
    return (*head, ("b", f"momentum * b + lr * {g} / sqrt(v + eps)"), ("w", "w - b"))


def _adamax_paper(h: Hyper, at: Update) -> Equations:
    return (
        ("m", "beta1 * m + (1 - beta1) * g"),
        ("u", "max(beta2 * u, abs(g))"),
        ("w", "w - lr / (1 - beta1**t) * m / u"),
    )


_PLAIN = ("amsgrad", "decoupled_weight_decay")
variant("adam", "eps-hat", _eps_hat, "Kingma and Ba 2015, end of section 2, as TensorFlow, Keras and SparseAdam have it: "
        "eps is added to the root of the uncorrected v, an eps of eps/sqrt(1 - beta2^t) in algorithm 1.", _PLAIN)  # fmt: skip
variant(
    "adam", "uncorrected", _uncorrected, "Adam without bias correction, as in BERT's AdamWeightDecay optimizer.", _PLAIN
)
variant("adam", "amsgrad-paper", _amsgrad_paper, "Reddi, Kale and Kumar 2018, algorithm 2: without bias correction.",
        ("amsgrad", "decoupled_weight_decay"))  # fmt: skip
variant("adamw", "paper", _adamw_paper, "Loshchilov and Hutter 2019, algorithm 2: the decay is not multiplied by lr (torch's "
        "weight_decay is the paper's divided by lr).", ("amsgrad", "maximize"))  # fmt: skip
variant("adamax", "paper", _adamax_paper, "Kingma and Ba 2015, algorithm 2: without eps.",
        ("eps", "maximize", "weight_decay"))  # fmt: skip
_SGD = {"momentum": 0.9}
variant("sgd", "lr-inside", _inside, "Polyak 1964, Sutskever et al. 2013, TensorFlow: the learning rate goes into the buffer. "
        "The same as torch while lr is constant.", ("nesterov", "dampening"), _SGD)  # fmt: skip
variant("sgd", "average", _average, "The buffer as an exponential moving average from 0: the steps are 1 - momentum times as "
        "long.", ("nesterov", "dampening"), _SGD)  # fmt: skip
variant("sgd", "nesterov", _nesterov, "Nesterov 1983 in the form of Sutskever et al. 2013, with w the point of the gradient: lr "
        "inside the buffer.", ("nesterov", "dampening", "weight_decay", "maximize"), _SGD)  # fmt: skip
variant("rmsprop", "eps-inside", _eps_inside, "TensorFlow and optax: eps under the root, lr inside the momentum buffer.",
        ("centered",), {"alpha": 0.9})  # fmt: skip
register(replace(RULES["adam/amsgrad-paper"], state=lambda h: ("m", "v", "v_max")))
