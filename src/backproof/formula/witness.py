"""A second, separate reading of formulas: the text straight into torch, for torch.autograd to differentiate.

It shares with :mod:`.read` only the parser. What the Graph computes is compared with this.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from typing import Any

import sympy
import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops import OPS, Elementwise, Op
from ..ops.arbitrary import differentiated
from .parse import parse, primed
from .read import FormulaOrigin

__all__ = ["witness"]


def _fold(all_of: Callable[..., Tensor], axis_of: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(x: Tensor, dim: int | None = None, axis: int | None = None, keepdim: bool = False) -> Tensor:
        d = axis if dim is None else dim
        if d is None and not keepdim:
            return all_of(x)
        return axis_of(x, tuple(range(x.ndim)) if d is None else d, keepdim=bool(keepdim))

    return run


def _either(pair: Callable[..., Tensor], fold: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(x: Tensor, y: Tensor | None = None, **keywords: Any) -> Tensor:
        return fold(x, **keywords) if y is None else pair(x, torch.as_tensor(y, dtype=x.dtype))

    return run


def _pairwise(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss of torch's entry by entry; broadcasting, about which it would warn, comes first."""
    return lambda y, t, **keywords: loss(*torch.broadcast_tensors(y, t), reduction="none", **keywords)


def _positions(x: Tensor, dim: int) -> Tensor:
    """For every entry its place along an axis, from 0."""
    size = x.shape[dim]
    along = torch.tensor(range(size), dtype=x.dtype).reshape([size if d == dim % x.ndim else 1 for d in range(x.ndim)])
    return along.expand(x.shape)


_SPECIAL: dict[str, Callable[..., Any]] = {
    "bfloat16": lambda x: x.bfloat16(),
    "float16": lambda x: x.half(),
    "float32": lambda x: x.float(),
    "float64": lambda x: x.double(),
    "sum": _fold(torch.sum, torch.sum),
    "mean": _fold(torch.mean, torch.mean),
    "logsumexp": _fold(lambda x: torch.logsumexp(x.reshape(-1), 0), torch.logsumexp),
    "max": _either(torch.maximum, _fold(torch.amax, torch.amax)),
    "min": _either(torch.minimum, _fold(torch.amin, torch.amin)),
    "softmax": lambda x, dim=-1, axis=None: torch.softmax(x, dim if axis is None else axis),
    "log_softmax": lambda x, dim=-1, axis=None: torch.log_softmax(x, dim if axis is None else axis),
    "index": lambda x, dim=-1, axis=None: _positions(x, dim if axis is None else axis),
    "transpose": lambda x: x.mT if x.ndim > 1 else x,
    "norm": _fold(torch.linalg.vector_norm, lambda x, d, keepdim: torch.linalg.vector_norm(x, dim=d, keepdim=keepdim)),
    "dot": torch.matmul,
    "matmul": torch.matmul,
    "outer": torch.outer,
    "ln": torch.log,
    "sigma": torch.sigmoid,
    "σ": torch.sigmoid,
    "logistic": torch.sigmoid,
    "swish": F.silu,
    "identity": lambda x: x * 1,
    "squared_error": lambda y, t: (y - t) ** 2,
    "absolute_error": lambda y, t: (y - t).abs(),
    "huber_error": _pairwise(F.huber_loss),
    "smooth_l1_error": _pairwise(F.smooth_l1_loss),
    "bernoulli_error": _pairwise(F.binary_cross_entropy),
    "logistic_error": _pairwise(F.binary_cross_entropy_with_logits),
    "poisson_error": _pairwise(F.poisson_nll_loss),
    "kl_error": _pairwise(F.kl_div),
    "hinge_embedding_error": lambda y, t, margin=1.0: torch.where(t > 0, y, torch.relu(margin - y)),
    "prelu": lambda a, b: torch.relu(a) - b * torch.relu(-a),
    "soft_margin_error": lambda y, t: torch.log1p(torch.exp(-t * y)),
    "floor_divide": lambda a, b: torch.floor(a / b),  # torch's own has no backward pass, its floor has 0
    "hardsigmoid": lambda x: F.relu6(x + 3) / 6,  # torch's own has a float32 1/6 in its backward pass
    "where": lambda c, a, b: torch.where(c != 0, a, b),
}
_OWN = {"ln": "log", "sigma": "sigmoid", "σ": "sigmoid", "logistic": "sigmoid", "swish": "silu",
        "arcsin": "asin", "arccos": "acos", "arctan": "atan"}  # fmt: skip
_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
    ast.MatMult: lambda a, b: a @ b,
    ast.Gt: lambda a, b: a > b,
    ast.Lt: lambda a, b: a < b,
    ast.GtE: lambda a, b: a >= b,
    ast.LtE: lambda a, b: a <= b,
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
}


def _function(name: str) -> Callable[..., Any]:
    bare, primes = primed(name)
    if primes:
        op = OPS[_OWN.get(bare, bare)]
        assert isinstance(op, Elementwise)
        return _from_formula(differentiated(op, primes))
    if name in _SPECIAL:
        return _SPECIAL[name]
    for module in (torch, F):
        if hasattr(module, name):
            return getattr(module, name)  # type: ignore[no-any-return]
    return _from_formula(OPS[name])


def _from_formula(op: Op) -> Callable[..., Any]:
    """An operation that torch has not (a third party's activation): its formula through SymPy, for autograd to follow."""

    def run(*args: Tensor, **attrs: Any) -> Tensor:
        assert isinstance(op, Elementwise)
        xs = sympy.symbols(f"x0:{len(args)}", real=True)
        function = sympy.lambdify(xs, sympy.sympify(op.formula(*xs, **attrs)).evalf(17), [{"sqrt": _root}, "torch"])
        value: Tensor = function(*args)
        return value

    return run


def _root(x: Any) -> Any:
    """The square root also of a number in a formula, which torch's own refuses."""
    return torch.sqrt(x) if isinstance(x, Tensor) else math.sqrt(x)


class _Witness:
    def __init__(
        self, names: dict[str, Tensor], reduction: str, functions: Mapping[str, Callable[..., Any]] | None = None
    ) -> None:
        self.names, self.reduction, self.functions = names, reduction, functions or {}

    def read(self, tree: ast.expr) -> Any:
        if isinstance(tree, ast.Constant):
            return torch.tensor(float(tree.value), dtype=torch.float64)  # type: ignore[arg-type]
        if isinstance(tree, ast.Name):
            return self.name(tree.id)
        if isinstance(tree, ast.UnaryOp):
            return -self.read(tree.operand) if isinstance(tree.op, ast.USub) else self.read(tree.operand)
        if isinstance(tree, ast.BinOp):
            return _BINARY[type(tree.op)](self.read(tree.left), self.read(tree.right))
        if isinstance(tree, ast.Compare):
            return _BINARY[type(tree.ops[0])](self.read(tree.left), self.read(tree.comparators[0])).double()
        if isinstance(tree, ast.Attribute):
            return _SPECIAL["transpose"](self.read(tree.value))
        if isinstance(tree, ast.Subscript):
            return self.read(tree.value)[self.index(tree.slice)]
        assert isinstance(tree, ast.Call)
        return self.call(tree)

    def name(self, name: str) -> Tensor:
        if name in self.names:
            return self.names[name]
        return torch.tensor({"pi": math.pi, "e": math.e}[name], dtype=torch.float64)

    def index(self, tree: ast.expr) -> Any:
        if isinstance(tree, ast.Tuple):
            return tuple(self.index(part) for part in tree.elts)
        if isinstance(tree, ast.Slice):
            return slice(*(None if b is None else ast.literal_eval(b) for b in (tree.lower, tree.upper, tree.step)))
        return int(self.names[tree.id]) if isinstance(tree, ast.Name) else ast.literal_eval(tree)

    def call(self, tree: ast.Call) -> Any:
        name = tree.func.id  # type: ignore[attr-defined]
        args = [self.read(a) for a in tree.args]
        if name == "reduce":
            return args[0].sum() if self.reduction == "sum" else args[0].mean()
        if primed(name)[0] in self.functions:
            return _nth(self.functions[primed(name)[0]], primed(name)[1], args[0])
        result = _function(name)(*args, **{k.arg or "": ast.literal_eval(k.value) for k in tree.keywords})
        return result.double() if result.dtype == torch.bool else result


def _nth(function: Callable[..., Any], times: int, x: Tensor) -> Tensor:
    """The derivative of a function of one variable, so many times, by torch.autograd."""
    if not times:
        value: Tensor = function(x)
        return value
    at = x if x.requires_grad else x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(_nth(function, times - 1, at).sum(), at, create_graph=True)
    return slope


def witness(
    origin: FormulaOrigin, leaves: Mapping[str, Tensor], functions: Mapping[str, Callable[..., Any]] | None = None
) -> dict[str, Tensor]:
    """Compute every named quantity of the formulas with torch, connected to the leaves for autograd.

    Args:
        origin: the formulas.
        leaves: the givens' values.
        functions: torch functions for the names that stand for arbitrary functions.

    Raises:
        KeyError: a function has no counterpart in torch under its name.
    """
    reader = _Witness(dict(leaves), origin.reduction, functions)
    for name, text in origin.formulas.items():
        reader.names[name] = reader.read(parse(text))
    return {name: reader.names[name] for name in origin.formulas}
