"""The minimum of a loss that is not quadratic: Newton's method from several starts, confirmed where it ends.

What is found is a local minimum, and the page says so: the gradient is zero and all eigenvalues of the matrix of second
derivatives are positive. That no lower one exists is not shown; how many starts led to it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...document.blocks import Callout, Derivation, Equation, Paragraph, Section
from ...document.math import Num, Sym
from ...progress import track
from ...result import plain
from ..answer import Answer
from ..prepare import Prepared
from ..program import Program, run_eagerly
from ..trace import Step
from ..verdicts import Evidence
from .general import _evidence, _flat, _numbers, _scalar, _torch_gradient, _unflat, gradient, hessian, loss_at

__all__ = ["Minimum", "lowest_minimum", "minimum_of"]

STARTS = 12
MOST_ITERATIONS = 200
SAME = 1e-6


@dataclass(frozen=True)
class Minimum:
    """A local minimum.

    Args:
        at: the parameters as one vector.
        loss: the loss there.
        slope: the largest entry of the gradient there.
        eigenvalues: of the second derivatives there, all positive.
        reached: how many starts led to it.
        starts: how many starts there were.
        others: the losses of other local minima that were found, and of places where the search got stuck.
    """

    at: Tensor
    loss: float
    slope: float
    eigenvalues: tuple[float, ...]
    reached: int
    starts: int
    others: tuple[float, ...]


def minimum_of(program: Program, extra: Sequence[Tensor] = ()) -> Minimum | None:
    """The lowest local minimum that Newton's method with a trust region reaches; None if it reaches none.

    Args:
        program: the loss and its parameters.
        extra: starts besides the program's own and random ones, as vectors.
    """
    first = _flat(program, program.start)
    generator = torch.Generator().manual_seed(0)
    size = max(float(first.abs().max()), 1.0)
    wide = [size * 3.0 ** ((k % 3) - 1) for k in range(STARTS - 1 - len(extra))]
    draws = [s * torch.randn(first.shape, generator=generator, dtype=first.dtype) for s in wide]
    ends = [_descend(program, start) for start in track([first, *extra, *draws], "searching the minimum")]
    ends = [end for end in ends if bool(torch.isfinite(end).all())]
    found = [(loss_at(program, _unflat(program, end)), end) for end in ends]
    minima = [(loss, end) for loss, end in found if _is_minimum(program, end)]
    if not minima:
        return None
    loss, best = min(minima, key=lambda pair: pair[0])
    scale = max(float(best.abs().max()), 1.0)
    same = [end for _, end in minima if float((end - best).abs().max()) <= SAME * scale]
    others = tuple(sorted({round(v, 9) for v, e in found if float((e - best).abs().max()) > SAME * scale}))
    slope = float(gradient(program, _unflat(program, best)).abs().max())
    return Minimum(best, loss, slope, _eigenvalues(program, best), len(same), len(found), others)


def _descend(program: Program, start: Tensor) -> Tensor:
    """One start: a trust region until it settles, then plain Newton steps while they make the gradient smaller."""
    from scipy.optimize import minimize

    def loss(v: Any) -> float:
        value = loss_at(program, _unflat(program, torch.tensor(v)))
        return value if value == value else float("inf")

    try:
        with np.errstate(all="ignore"):
            result = minimize(
                loss,
                start.numpy(),
                method="trust-exact",
                jac=lambda v: gradient(program, _unflat(program, torch.tensor(v))).numpy(),
                hess=lambda v: _symmetric(program, torch.tensor(v)).numpy(),
                options={"maxiter": MOST_ITERATIONS, "gtol": 1e-10},
            )
    except (ValueError, ArithmeticError, RuntimeError):
        return start * float("nan")
    return _polished(program, torch.tensor(result.x))


def _polished(program: Program, at: Tensor) -> Tensor:
    slope = gradient(program, _unflat(program, at))
    for _ in range(8):
        try:
            step = torch.linalg.solve(_symmetric(program, at), slope)
        except RuntimeError:
            return at
        there = at - step
        next_slope = gradient(program, _unflat(program, there))
        if not float(next_slope.abs().max()) < float(slope.abs().max()):
            return at
        at, slope = there, next_slope
    return at


def _symmetric(program: Program, at: Tensor) -> Tensor:
    matrix = hessian(program, _unflat(program, at))
    return (matrix + matrix.T) / 2


def _eigenvalues(program: Program, at: Tensor) -> tuple[float, ...]:
    return tuple(torch.linalg.eigvalsh(_symmetric(program, at)).tolist())


def _is_minimum(program: Program, at: Tensor) -> bool:
    """Whether the gradient vanishes (a Newton step would not move it) and every curvature is positive."""
    matrix = _symmetric(program, at)
    if not bool(torch.isfinite(matrix).all()):
        return False
    values = torch.linalg.eigvalsh(matrix)
    if not float(values.min()) > 1e-12 * max(float(values.max()), 1e-300):
        return False
    step = torch.linalg.solve(matrix, gradient(program, _unflat(program, at)))
    return float(step.abs().max()) <= 1e-7 * max(float(at.abs().max()), 1.0)


# --- the analysis -----------------------------------------------------------------------------------------------------------
def lowest_minimum(prepared: Prepared, steps: Sequence[Step]) -> Answer:
    """The analysis ``optimum`` for a loss that is not quadratic."""
    program = prepared.program
    last = {n: p.after for n, p in steps[-1].parameters.items()} if steps else {}
    extra = [_flat(program, {**program.start, **last})] if last and prepared.program.optimizer else []
    found = minimum_of(program, [e for e in extra if bool(torch.isfinite(e).all())])
    if found is None:
        return Answer(
            remarks=(
                f"No minimum of the loss was found: from none of {STARTS} starts did Newton's method end where the "
                "gradient is zero and all curvatures are positive. There may be none (a loss that only falls towards "
                "infinity, as for classes that a line separates).",
            )
        )
    best = _unflat(program, found.at)
    names = {n: prepared.answer_names.get(n, n) for n in program.trained}
    assert program.graph.loss is not None
    loss_name = prepared.answer_names.get(program.graph.loss.name, program.graph.loss.name)
    answer = {**{names[n]: plain(_scalar(t)) for n, t in best.items()}, loss_name: found.loss}
    answer |= {"hessian_eigenvalues": list(found.eigenvalues), "starts": found.starts, "reached": found.reached}
    equations = tuple(Equation(Sym(names[n], sup=("*",)), (_numbers(t),)) for n, t in best.items())
    rows = (*equations, Equation(Sym(loss_name, sup=("*",)), (Num(found.loss),)))
    blocks = (Section("The optimum", (_words(found), Derivation(rows), _caution(found)), "result", "optimum"),)
    return Answer({"optimum": answer}, blocks, _confirmed(program, found))


def _words(found: Minimum) -> Paragraph:
    return Paragraph(
        (
            "The loss is not a quadratic function of the parameters, so no linear equations give its minimum. Newton's "
            f"method with a trust region was run from {found.starts} starts, with our gradient and second derivatives; "
            f"{found.reached} of them ended here, where the gradient is zero and all curvatures are positive (from ",
            Num(min(found.eigenvalues)),
            " to ",
            Num(max(found.eigenvalues)),
            "):",
        )
    )


def _caution(found: Minimum) -> Callout:
    others = ", ".join(f"{v:.6g}" for v in found.others[:4])
    where = f" The other starts ended at losses {others}, which are higher or flat." if others else ""
    return Callout(
        "note", (f"This is a local minimum, the lowest one found; that there is no lower one is not shown.{where}",)
    )


def _confirmed(program: Program, found: Minimum) -> tuple[Evidence, ...]:
    """torch's own gradient and second derivatives there, and another method with torch's gradients."""
    best = _unflat(program, found.at)
    scale = max(float(torch.linalg.vector_norm(gradient(program, program.start))), 1e-12)
    slope = float(_torch_gradient(program, best).abs().max()) / scale
    theirs = _torch_hessian(program, found.at)
    ours = _symmetric(program, found.at)
    error = float((ours - theirs).abs().max() / max(float(theirs.abs().max()), 1e-300))
    other = _by_bfgs(program, found.at)
    apart = float((other - found.at).abs().max()) / max(float(found.at.abs().max()), 1.0)
    return (
        _evidence("optimum", "substitution: our gradient there is 0", found.slope / scale, found.at.numel()),
        _evidence("optimum", "autograd: torch's gradient there is 0", slope, found.at.numel()),
        _evidence("second derivatives at the optimum", "autograd", error, ours.numel()),
        Evidence(
            "optimum",
            "BFGS with torch's gradients, from nearby",
            apart <= SAME,
            apart,
            found.at.numel(),
            found.at.numel(),
        ),
    )


def _loss_of(program: Program, vector: Tensor) -> Tensor:
    loss = run_eagerly(program.graph, {**program.start, **_unflat(program, vector)})
    assert loss is not None
    return loss.reshape(())


def _torch_hessian(program: Program, at: Tensor) -> Tensor:
    found = torch.autograd.functional.hessian(lambda v: _loss_of(program, v), at.clone())
    assert isinstance(found, Tensor)
    return found


def _by_bfgs(program: Program, at: Tensor) -> Tensor:
    """The minimum by another method, with torch's gradients and no second derivatives, from a little away."""
    from scipy.optimize import minimize

    def both(v: Any) -> tuple[float, Any]:
        vector = torch.tensor(v, requires_grad=True)
        loss = _loss_of(program, vector)
        (slope,) = torch.autograd.grad(loss, vector)
        return float(loss.detach()), slope.numpy()

    start = (at * 0.98 + 0.01).numpy()
    result = minimize(both, start, jac=True, method="BFGS", options={"gtol": 1e-13, "maxiter": 500})
    return torch.tensor(result.x)
