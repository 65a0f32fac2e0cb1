"""Steps divided by the size of past gradients, or led by their signs: Adagrad, RMSprop, Adadelta, Rprop.

Adagrad: Duchi, Hazan and Singer 2011. RMSprop: Tieleman and Hinton 2012 (with eps added after the root, as in
torch.optim). Adadelta: Zeiler 2012 (eps inside the roots). Rprop: Riedmiller and Braun 1993, without weight backtracking.
"""

from __future__ import annotations

from .base import Equations, Hyper, Rule, Update, prepared, register

__all__ = ["adadelta", "adagrad", "rmsprop", "rprop"]


def _adagrad(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    old = "initial_accumulator_value" if at.t == 1 else "S"
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


def _rmsprop(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
    mean: Equations = (("m", f"alpha * m + (1 - alpha) * {g}"),) if h["centered"] else ()
    under = "v - m**2" if h["centered"] else "v"
    head: Equations = (*steps, ("v", f"alpha * v + (1 - alpha) * {g}**2"), *mean)
    if not h["momentum"]:
        return (*head, ("w", f"w - lr * {g} / (sqrt({under}) + eps)"))
    return (*head, ("b", f"momentum * b + {g} / (sqrt({under}) + eps)"), ("w", "w - lr * b"))


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
        lambda h: ("v", *(("m",) if h.get("centered") else ()), *(("b",) if h["momentum"] else ())),
        _rmsprop,
        "Tieleman and Hinton 2012, lecture 6e; torch.optim.RMSprop (no bias correction, eps after the root).",
        ("centered", "maximize"),
        kept={"v": "square_avg", "m": "grad_avg", "b": "momentum_buffer"},
        scalars=("step",),
        second=("v",),
    )
)


def _adadelta(h: Hyper, at: Update) -> Equations:
    steps, g = prepared(h)
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


def _rprop(h: Hyper, at: Update) -> Equations:
    signed, g = prepared(h)
    grown = ("grown", "where(s > 0, etaplus * step, where(s < 0, etaminus * step, step))")
    return (
        *signed,
        *((("grown", f"lr + 0 * {g}"),) if at.t == 1 else (("s", f"sign({g} * prev)"), grown)),
        ("step", "where(grown > step_max, step_max, where(grown < step_min, step_min, grown))"),
        ("prev", g if at.t == 1 else f"where(s < 0, 0, {g})"),
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
