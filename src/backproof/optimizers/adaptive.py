"""Steps divided by the size of past gradients: Adagrad, RMSprop, Adadelta, Adamax.

Adagrad: Duchi, Hazan and Singer 2011. RMSprop: Tieleman and Hinton 2012 (with eps added after the root, as in
torch.optim). Adadelta: Zeiler 2012 (eps inside the roots). Adamax: Kingma and Ba 2015, section 7.1 (torch adds eps inside
the maximum).
"""

from __future__ import annotations

from .base import Equations, Hyper, Rule, register

__all__ = ["adadelta", "adagrad", "adamax", "rmsprop"]


def _decayed(h: Hyper) -> tuple[Equations, str]:
    """The gradient after its sign is chosen and weight decay is added, and its name."""
    steps: Equations = (("g_1", "-g"),) if h["maximize"] else ()
    g = "g_1" if h["maximize"] else "g"
    return ((*steps, ("g_2", f"{g} + weight_decay * w")), "g_2") if h["weight_decay"] else (steps, g)


def _adagrad(h: Hyper, t: int) -> Equations:
    steps, g = _decayed(h)
    old = "initial_accumulator_value" if t == 1 else "S"
    rate: Equations = (("eta_t", "lr / (1 + (t - 1) * lr_decay)"),) if h["lr_decay"] else ()
    size = "eta_t" if h["lr_decay"] else "lr"
    return (*steps, ("S", f"{old} + {g}**2"), *rate, ("w", f"w - {size} * {g} / (sqrt(S) + eps)"))


adagrad = register(
    Rule(
        "adagrad",
        {"lr": 1e-2, "lr_decay": 0, "weight_decay": 0, "initial_accumulator_value": 0, "eps": 1e-10, "maximize": False},
        lambda h: ("S",),
        _adagrad,
        "Duchi, Hazan and Singer 2011; torch.optim.Adagrad.",
        ("maximize",),
        kept={"S": "sum"},
        scalars=("step",),
        second=("S",),
    )
)


def _rmsprop(h: Hyper, t: int) -> Equations:
    steps, g = _decayed(h)
    mean: Equations = (("m", f"alpha * m + (1 - alpha) * {g}"),) if h["centered"] else ()
    under = "v - m**2" if h["centered"] else "v"
    head: Equations = (*steps, ("v", f"alpha * v + (1 - alpha) * {g}**2"), *mean)
    if not h["momentum"]:
        return (*head, ("w", f"w - lr * {g} / (sqrt({under}) + eps)"))
    return (*head, ("b", f"momentum * b + {g} / (sqrt({under}) + eps)"), ("w", "w - lr * b"))


def _rmsprop_state(h: Hyper) -> tuple[str, ...]:
    return ("v", *(("m",) if h["centered"] else ()), *(("b",) if h["momentum"] else ()))


rmsprop = register(
    Rule(
        "rmsprop",
        {
            "lr": 1e-2,
            "alpha": 0.99,
            "eps": 1e-8,
            "weight_decay": 0,
            "momentum": 0,
            "centered": False,
            "maximize": False,
        },
        _rmsprop_state,
        _rmsprop,
        "Tieleman and Hinton 2012, lecture 6e; torch.optim.RMSprop (no bias correction, eps after the root).",
        ("centered", "maximize"),
        kept={"v": "square_avg", "m": "grad_avg", "b": "momentum_buffer"},
        scalars=("step",),
        second=("v",),
    )
)


def _adadelta(h: Hyper, t: int) -> Equations:
    steps, g = _decayed(h)
    return (
        *steps,
        ("v", f"rho * v + (1 - rho) * {g}**2"),
        ("D", f"sqrt(u + eps) / sqrt(v + eps) * {g}"),
        ("u", "rho * u + (1 - rho) * D**2"),
        ("w", "w - lr * D"),
    )


adadelta = register(
    Rule(
        "adadelta",
        {"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 0, "maximize": False},
        lambda h: ("v", "u"),
        _adadelta,
        "Zeiler 2012, algorithm 1; torch.optim.Adadelta (with a learning rate in front).",
        ("maximize",),
        kept={"v": "square_avg", "u": "acc_delta"},
        scalars=("step",),
        second=("v", "u"),
    )
)


def _adamax(h: Hyper, t: int) -> Equations:
    steps, g = _decayed(h)
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
        {"lr": 2e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0, "maximize": False},
        lambda h: ("m", "u"),
        _adamax,
        "Kingma and Ba 2015, section 7.1; torch.optim.Adamax (eps inside the maximum).",
        ("maximize",),
        kept={"m": "exp_avg", "u": "exp_inf"},
        scalars=("step",),
        second=("u",),
        arguments={"beta1": "betas.0", "beta2": "betas.1"},
    )
)
