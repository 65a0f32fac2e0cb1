"""Rules in which an entry's step depends on the whole matrix: Adafactor and Muon.

Adafactor: Shazeer and Stern 2018: the mean squares are kept by rows and columns. Muon: Jordan et al. 2024: the momentum is
made nearly orthogonal by five steps of a Newton-Schulz iteration, in bfloat16.
"""

from __future__ import annotations

from typing import Any

from .base import Equations, Hyper, Rule, Shape, Update, register

__all__ = ["adafactor", "muon"]


def _rms(x: str, shape: Shape) -> str:
    """The root of the mean square of all entries."""
    return f"sqrt(mean({x}**2))" if shape else f"abs({x})"


def _second(shape: Shape) -> Equations:
    """The estimate V of the mean square of each entry: from rows and columns, or (a vector) its own."""
    if len(shape) < 2:
        return (("v", "v + share * (g_1**2 - v)"), ("V", "v"))
    return (
        ("R", "R + share * (mean(g_1**2, dim=-1, keepdim=True) - R)"),
        ("C", "C + share * (mean(g_1**2, dim=-2, keepdim=True) - C)"),
        ("V", "R @ C / max(mean(R, dim=-2, keepdim=True), eps1)"),
    )


def _adafactor(h: Hyper, at: Update) -> Equations:
    decay: Equations = (("w", "(1 - lr * weight_decay) * w"),) if h["weight_decay"] else ()
    return (
        ("g_1", "-g" if h["maximize"] else "g"),
        ("share", "t**beta2_decay"),
        ("eta_t", f"max(eps2, {_rms('w', at.shape)}) * min(lr, 1 / sqrt(t))"),
        *decay,
        *_second(at.shape),
        ("U", "g_1 / sqrt(max(V, eps1**2))"),
        ("U_hat", f"U / max(1, {_rms('U', at.shape)} / d)"),
        ("w", "w - eta_t * U_hat"),
    )


def _factored(h: Hyper, shape: Shape) -> dict[str, Any]:
    if len(shape) < 2:
        return {"R": None, "C": None}
    return {"R": (*shape[:-1], 1), "C": (*shape[:-2], 1, shape[-1]), "v": None}


adafactor = register(
    Rule(
        "adafactor",
        {
            "lr": 1e-2, "beta2_decay": -0.8, "eps1": None, "eps2": 1e-3, "d": 1.0, "weight_decay": 0.0, "maximize": False,
        },
        lambda h: ("R", "C", "v"),
        _adafactor,
        "Shazeer and Stern 2018; torch.optim.Adafactor (lr caps the relative step 1/sqrt(t); eps1 is the dtype's own, that of "
        "the first parameter where a group mixes them).",
        ("maximize",),
        kept={"R": "row_var", "C": "col_var", "v": "variance"},
        scalars=("step",),
        second=("R", "C", "v"),
        arguments={"eps1": "eps.0", "eps2": "eps.1"},
        shapes=_factored,
        whole=True,
    )
)  # fmt: skip


def _newton_schulz(h: Hyper) -> Equations:
    """X, 3.4445 X - 4.775 (X Xᵀ) X + 2.0315 (X Xᵀ)² X...: each product is summed in float32 and rounded to bfloat16."""
    found: list[tuple[str, str]] = [("X_0", "bfloat16(Y / max(bfloat16(norm(float32(Y))), bfloat16(eps)))")]
    for k in range(int(h["ns_steps"])):
        found += [
            (f"A_{k + 1}", f"bfloat16(X_{k} @ X_{k}.T)"),
            (
                f"B_{k + 1}",
                f"bfloat16(ns_b * float32(A_{k + 1}) + ns_c * (float32(A_{k + 1}) @ float32(A_{k + 1})))",
            ),
            (f"X_{k + 1}", f"bfloat16(ns_a * float32(X_{k}) + float32(B_{k + 1}) @ float32(X_{k}))"),
        ]
    return tuple(found)


def _muon(h: Hyper, at: Update) -> Equations:
    tall = len(at.shape) == 2 and at.shape[0] > at.shape[1]
    high, wide = at.shape if len(at.shape) == 2 else (1, 1)
    ratio = {"match_rms_adamw": f"0.2 * sqrt({max(high, wide)})"}.get(
        h["adjust_lr_fn"], f"sqrt({high} / {wide})" if tall else "1"
    )
    last = f"X_{int(h['ns_steps'])}"
    return (
        ("B", "B + (1 - momentum) * (g - B)"),
        ("U", "B - (1 - momentum) * (B - g)" if h["nesterov"] else "B"),
        ("Y", f"bfloat16(U){'.T' if tall else ''}"),
        *_newton_schulz(h),
        ("O", f"{at.dtype}({last}){'.T' if tall else ''}"),
        *((("w", "(1 - lr * weight_decay) * w"),) if h["weight_decay"] else ()),
        ("w", f"w - lr * {ratio} * O" if ratio != "1" else "w - lr * O"),
    )


muon = register(
    Rule(
        "muon",
        {
            "lr": 1e-3, "weight_decay": 0.1, "momentum": 0.95, "nesterov": True, "ns_a": 3.4445, "ns_b": -4.7750,
            "ns_c": 2.0315, "eps": 1e-7, "ns_steps": 5, "adjust_lr_fn": None,
        },
        lambda h: ("B",),
        _muon,
        "Jordan et al. 2024; torch.optim.Muon: B is an average (1 - momentum on the gradient), the iteration runs in bfloat16.",
        ("nesterov",),
        choices={"adjust_lr_fn": (None, "original", "match_rms_adamw")},
        counts=("ns_steps",),
        kept={"B": "momentum_buffer"},
        arguments={"ns_a": "ns_coefficients.0", "ns_b": "ns_coefficients.1", "ns_c": "ns_coefficients.2"},
        ranks=(2,),
        whole=True,
        rounds=True,
    )
)  # fmt: skip
