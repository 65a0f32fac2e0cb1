"""The straight line through points: its least-squares fit, and its leave-one-out error in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...document.blocks import Derivation, Equation, Paragraph
from ...document.math import Add, BigSum, Div, Expr, Num, Pow, Sym, Words
from ...errors import InputError
from ..answer import Answer
from ..verdicts import TOLERANCE, Evidence

__all__ = ["Line", "line_answer", "line_through", "points"]


@dataclass(frozen=True)
class Line:
    """y = slope x + intercept, its mean squared error, and that on points that were left out."""

    slope: float
    intercept: float
    mse: float
    loo_mse: float

    def at(self, x: float) -> float:
        """The line's value."""
        return self.slope * x + self.intercept


def points(x: Sequence[float], y: Sequence[float], *, fewest: int = 3, most: int = 100_000) -> tuple[Tensor, Tensor]:
    """Read points as two vectors in float64.

    Raises:
        InputError: the lengths differ, there are too few or too many, an entry is no finite number, or no line is
            determined: x is constant, or is so when one point is left out.
    """
    if len(x) != len(y):
        raise InputError(f"x has {len(x)} entries and y has {len(y)}; each point needs both")
    if not fewest <= len(x) <= most:
        raise InputError(f"there are {len(x)} points; from {fewest} to {most:,} are needed here")
    if not all(isinstance(v, (int, float)) and math.isfinite(v) and abs(v) < 1e100 for v in (*x, *y)):
        raise InputError("x and y are lists of finite numbers, one for each point")
    xs, ys = (torch.tensor([float(v) for v in values], dtype=torch.float64) for values in (x, y))
    values, counts = xs.unique(return_counts=True)
    if len(values) < 2 or (len(values) == 2 and int(counts.min()) == 1):
        raise InputError("x is constant, or is so when one point is left out: no line is determined; add other points")
    return xs, ys


def line_through(x: Tensor, y: Tensor) -> Line:
    """The least-squares line.

    slope = sum (x_i - x̄)(y_i - ȳ) / sum (x_i - x̄)²; with h_i = 1/N + (x_i - x̄)² / sum (x_j - x̄)², the residual of
    the point i from the line through all others is r_i / (1 - h_i).
    """
    dx, spread = x - x.mean(), (x - x.mean()).square().sum()
    slope = float((dx * (y - y.mean())).sum() / spread)
    intercept = float(y.mean()) - slope * float(x.mean())
    residual = y - slope * x - intercept
    leverage = 1 / len(x) + dx.square() / spread
    return Line(slope, intercept, float(residual.square().mean()), float((residual / (1 - leverage)).square().mean()))


def _refits(x: Tensor, y: Tensor) -> float:
    """The leave-one-out error by fitting N lines, each with torch's least-squares solver."""
    errors = []
    for i in range(len(x)):
        kept = torch.arange(len(x)) != i
        rows = torch.stack([x[kept], torch.ones_like(x[kept])], 1)
        w = torch.linalg.lstsq(rows, y[kept].unsqueeze(1), driver="gelsd").solution.squeeze(1)
        errors.append(float(y[i] - w[0] * x[i] - w[1]) ** 2)
    return sum(errors) / len(errors)


def line_answer(x: Tensor, y: Tensor) -> tuple[Line, Answer]:
    """The line with its derivation, and its leave-one-out error confirmed by leaving out one point after another."""
    line = line_through(x, y)
    rows = torch.stack([x, torch.ones_like(x)], 1)
    solved = torch.linalg.lstsq(rows, y.unsqueeze(1), driver="gelsd").solution
    mse, refitted = float((rows @ solved - y.unsqueeze(1)).square().mean()), _refits(x, y)
    evidence = (
        _evidence("the line's error", "torch's least-squares solver", line.mse, mse, 1),
        _evidence("the line's leave-one-out error", f"{len(x)} refits", line.loo_mse, refitted, len(x)),
    )
    blocks = (
        Paragraph(("The straight line through all points, and its error on points that it has not seen:",)),
        Derivation(_equations(line)),
    )
    return line, Answer({"line_mse": line.mse, "line_loo_mse": line.loo_mse}, blocks, evidence)


def _evidence(what: str, oracle: str, ours: float, theirs: float, count: int) -> Evidence:
    error = abs(ours - theirs) / max(abs(theirs), 1e-300)
    return Evidence(what, oracle, error <= TOLERANCE or abs(ours - theirs) < 1e-24, error, count, count)


def _equations(line: Line) -> tuple[Equation, ...]:
    n, h = Sym("N"), Sym("h", sub=("i",))
    r, x, mean = Sym("r", sub=("i",)), Sym("x", sub=("i",)), Sym("x", accent="bar")

    def mean_of(body: Expr) -> Expr:
        return Div(BigSum(body, "i"), n)

    spread = BigSum(Pow(Sym("x", sub=("j",)) - mean, Num(2)), "j")
    fitted = Add((Num(line.slope) * x, Num(line.intercept)))
    return (
        Equation(r, (Sym("y", sub=("i",)) - fitted,), "the residuals of the line through all points"),
        Equation(Words("mse"), (mean_of(Pow(r, Num(2))), Num(line.mse)), "its mean squared error"),
        Equation(h, (Add((Div(Num(1), n), Div(Pow(x - mean, Num(2)), spread))),), "how much a point pulls the line"),
        Equation(
            Words("mse left out"),
            (mean_of(Pow(Div(r, Num(1) - h), Num(2))), Num(line.loo_mse)),
            "without point i, the line misses it by its residual divided by 1 - h: no refit is needed",
        ),
    )
