"""L-BFGS as torch.optim.LBFGS has it: the direction as formulas, the choices around it as a loop.

Nocedal 1980; Nocedal and Wright 2006, algorithms 7.4 and 7.5 (the two loops), 3.5 and 3.6 (the line search). All
parameters together are one vector. One update makes up to ``max_iter`` steps and asks for the loss at each.
"""

from __future__ import annotations

from .base import Equations, Hyper, Rule, Shape, Update, register

__all__ = ["direction", "lbfgs"]


def direction(pairs: int) -> Equations:
    """The direction d from the gradient g and the last pairs s_i (steps) and y_i (changes of the gradient), oldest first."""
    found: list[tuple[str, str]] = [("q" if pairs else "d", "-g")]
    for i in range(pairs, 0, -1):
        found += [(f"rho_{i}", f"1 / dot(y_{i}, s_{i})"), (f"a_{i}", f"dot(s_{i}, q) * rho_{i}"),
                  ("q", f"q - a_{i} * y_{i}")]  # fmt: skip
    if pairs:
        found.append(("d", f"q * (dot(y_{pairs}, s_{pairs}) / dot(y_{pairs}, y_{pairs}))"))
    for i in range(1, pairs + 1):
        found.append(("d", f"d + (a_{i} - dot(y_{i}, d) * rho_{i}) * s_{i}"))
    return tuple(found)


def _first(h: Hyper, at: Update) -> Equations:
    """The first step of all, which has no pairs yet."""
    length = "sum(abs(g))" if at.shape else "abs(g)"
    return (
        ("d", "-g"),
        ("prev", "g"),
        ("eta_t", f"lr * min(1, 1 / {length})"),
        ("w", "w + eta_t * d"),
    )


def _shapes(h: Hyper, shape: Shape) -> dict[str, Shape]:
    return {"s": (int(h["history_size"]), *shape), "y": (int(h["history_size"]), *shape)}


lbfgs = register(
    Rule(
        "lbfgs",
        {
            "lr": 1.0, "max_iter": 20, "max_eval": None, "tolerance_grad": 1e-7, "tolerance_change": 1e-9,
            "history_size": 100, "line_search_fn": None,
        },
        lambda h: ("d", "prev", "y", "s"),
        _first,
        "Nocedal 1980; torch.optim.LBFGS: a first step of length lr min(1, 1/|g|₁), then steps of length lr along the "
        "direction of the two loops (or as long as the strong Wolfe conditions ask).",
        choices={"line_search_fn": (None, "strong_wolfe")},
        counts=("max_iter", "max_eval", "history_size"),
        kept={"d": "d", "prev": "prev_flat_grad", "y": "old_dirs", "s": "old_stps"},
        scalars=("func_evals", "n_iter", "t", "ro", "H_diag", "prev_loss", "al"),
        shapes=_shapes,
        whole=True,
        asks=True,
    )
)  # fmt: skip
