"""What a printed formula of whole tensors is worth: evaluates the formula tree that the page shows, over torch tensors.

The tree is read as it is printed: a vector is a column, aᵀ b is a number and a bᵀ a matrix, ⊙ goes entry by entry with
broadcasting, a sum runs over its index. No graph and no autograd is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce

import torch
from torch import Tensor

from ..document.math import (
    Add,
    BigSum,
    Call,
    Cases,
    Div,
    Expr,
    Indicator,
    Mul,
    Neg,
    Num,
    Partial,
    Pow,
    Ref,
    Rel,
    Shaped,
    Sym,
    Transpose,
)  # fmt: skip
from ..ops import Elementwise
from .numbers import kernel
from .printed import Unreadable, operation

__all__ = ["Meaning", "whole_value"]

Meaning = Callable[[Ref], Tensor | None]
"""From what a symbol stands for to its tensor; None where it is not known."""


def whole_value(expr: Expr, meaning: Meaning, functions: Mapping[str, Elementwise] | None = None) -> Tensor:
    """The tensor that a formula is worth.

    Args:
        expr: the formula.
        meaning: the tensor behind each symbol's reference.
        functions: what to put in for arbitrary functions, by name.

    Raises:
        Unreadable: a symbol has no value, or a part is no number (words, an operation without a kernel).
    """
    try:
        return _Reader(meaning, functions or {}).read(expr)
    except (RuntimeError, IndexError, TypeError) as error:
        raise Unreadable(str(error)[:200]) from None


class _Reader:
    def __init__(self, meaning: Meaning, functions: Mapping[str, Elementwise]) -> None:
        self.meaning, self.functions = meaning, functions

    def read(self, expr: Expr) -> Tensor:
        method = getattr(self, f"_{type(expr).__name__.lower()}", None)
        if method is None:
            raise Unreadable(type(expr).__name__)
        value: Tensor = method(expr)
        return value

    def _num(self, expr: Num) -> Tensor:
        return torch.tensor(float(expr.value), dtype=torch.float64)

    def _sym(self, expr: Sym) -> Tensor:
        value = None if expr.ref is None else self.meaning(expr.ref)
        if value is None:
            raise Unreadable(f"the symbol {expr.name}{'_' if expr.sub else ''}{'_'.join(expr.sub)}")
        assert expr.ref is not None
        return value[expr.ref.index] if expr.ref.index else value

    def _partial(self, expr: Partial) -> Tensor:
        return self.read(expr.bottom)

    def _add(self, expr: Add) -> Tensor:
        return reduce(lambda a, b: a + b, map(self.read, expr.terms))

    def _neg(self, expr: Neg) -> Tensor:
        return -self.read(expr.arg)

    def _div(self, expr: Div) -> Tensor:
        return self.read(expr.top) / self.read(expr.bottom)

    def _pow(self, expr: Pow) -> Tensor:
        return self.read(expr.base) ** self.read(expr.exponent)

    def _transpose(self, expr: Transpose) -> Tensor:
        value = self.read(expr.arg)
        return value.unsqueeze(0) if value.ndim == 1 else value.mT

    def _shaped(self, expr: Shaped) -> Tensor:
        value, wanted = self.read(expr.arg), torch.Size(expr.shape)
        return value.reshape(wanted) if value.numel() == wanted.numel() else value.expand(wanted)

    def _mul(self, expr: Mul) -> Tensor:
        if expr.style == "matrix":
            return self._product(expr.factors)
        if expr.style in ("convolution", "correlation"):
            return self._run(expr.op, [self.read(f) for f in reversed(expr.factors)], expr.attrs)
        return reduce(lambda a, b: a * b, map(self.read, expr.factors))

    def _product(self, factors: tuple[Expr, ...]) -> Tensor:
        """A product of matrices; a vector is a column, and what comes out as one is a vector again."""
        parts = [self.read(f) for f in factors]
        row = isinstance(factors[0], Transpose) and self.read(factors[0].arg).ndim == 1
        columns = [p.unsqueeze(1) if p.ndim == 1 else p for p in parts]
        value = reduce(lambda a, b: a @ b if a.ndim and b.ndim else a * b, columns)
        if parts[-1].ndim == 1 and value.ndim > 1:
            value = value.squeeze(-1)
        return value.squeeze(0) if row and value.ndim else value

    def _bigsum(self, expr: BigSum) -> Tensor:
        if expr.axes is None:
            raise Unreadable("a sum over an index")
        body = self.read(expr.body).expand(expr.shape)
        return body.sum(expr.axes, keepdim=expr.keepdim) if expr.axes else body

    def _rel(self, expr: Rel) -> Tensor:
        a, b = self.read(expr.left), self.read(expr.right)
        table = {">": a > b, "<": a < b, ">=": a >= b, "<=": a <= b, "=": a == b, "!=": a != b}
        return table[expr.sign].double()

    def _indicator(self, expr: Indicator) -> Tensor:
        return (self.read(expr.relation) != 0).double()

    def _cases(self, expr: Cases) -> Tensor:
        value = torch.tensor(math.nan, dtype=torch.float64)
        for body, condition in reversed(expr.rows):
            value = (
                self.read(body) if condition is None else torch.where(self.read(condition) != 0, self.read(body), value)
            )
        return value

    def _call(self, expr: Call) -> Tensor:
        args = [self.read(a) for a in expr.args]
        if expr.op == "onehot":
            classes = torch.arange(dict(expr.attrs)["classes"])  # type: ignore[call-overload]
            hit: Tensor = args[0].unsqueeze(-1) == classes
            return hit.double()
        return self._run(expr.op, args, expr.attrs)

    def _run(self, name: str, args: list[Tensor], attrs: tuple[tuple[str, object], ...]) -> Tensor:
        op = operation(name, self.functions)
        run = None if op is None else kernel(op, max(args[0].ndim - 2, 0) if args else 0)
        if run is None:
            raise Unreadable(name)
        if isinstance(op, Elementwise) and len(args) > 1:
            args = list(torch.broadcast_tensors(*args))
        elif name == "scatter":  # a number is put into every place named
            args = [args[0], args[1], args[2].expand(args[1].shape)]
        return run(*args, **dict(attrs))
