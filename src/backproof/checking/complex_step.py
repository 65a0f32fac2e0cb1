r"""The complex step: a graph read over complex numbers at x + i h u, whose imaginary part over h is the slope along u.

Im f(x + i h u) / h = ⟨∇f(x), u⟩ + O(h²): nothing is subtracted, so that h can be 2^-100 and the slope has the digits of the
machine. It needs a function that is analytic on the way, so each operation is read here by its own formula or its textbook
form, and an operation that is not analytic ends the reading with its name. The user's program is never run on complex numbers.

Source: J. Lyness, C. Moler, Numerical differentiation of analytic functions (1967); W. Squire, G. Trapp, Using complex
variables to estimate derivatives of real functions (1998).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..domains.base import Rule
from ..domains.numbers import numbers, tensor_of
from ..errors import BackproofError
from ..graph import Graph, Node
from ..ops import Elementwise

__all__ = ["ANALYTIC", "STEP", "NotAnalytic", "imaginary_slope"]

STEP = 2.0**-100
_SMOOTH = {
    "exp",
    "log",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
}

ANALYTIC: dict[str, Rule] = {}


class NotAnalytic(BackproofError):
    """The complex step does not apply; the message says because of what."""


def imaginary_slope(graph: Graph, of: Node, at: Mapping[str, Tensor], direction: Mapping[str, Tensor]) -> float:
    """Read a graph at x + i h u and return the slope of one number along u, Im / h.

    Args:
        graph: a graph over real numbers.
        of: the node of the number, of one entry.
        at: x, the value of each leaf by name.
        direction: u, for the leaves that are moved.

    Raises:
        NotAnalytic: something on the way is not analytic, draws at random or has no complex form.
    """
    values: dict[Node, Tensor] = {}
    for node in _ancestors(graph, of):
        values[node] = _leaf(node, at, direction) if node.is_leaf else _value(node, [values[x] for x in node.inputs])
    found = values[of]
    slope = float(found.imag.sum()) / STEP if found.is_complex() else 0.0
    if not math.isfinite(slope):
        raise NotAnalytic("the imaginary part is not a finite number here")
    return slope


def _ancestors(graph: Graph, of: Node) -> list[Node]:
    wanted, stack = set[Node](), [of]
    while stack:
        if (node := stack.pop()) not in wanted:
            wanted.add(node)
            stack += node.inputs
    return [n for n in graph.nodes if n in wanted]


def _leaf(node: Node, at: Mapping[str, Tensor], direction: Mapping[str, Tensor]) -> Tensor:
    if node.is_complex:
        raise NotAnalytic(f"{node.name} is complex itself")
    if node.role == "constant":
        return tensor_of(node, wide=True)
    if node.name not in at:
        raise NotAnalytic(f"{node.name} has no value")
    value = at[node.name].detach().cpu()
    if not value.is_floating_point():
        return value
    u = direction.get(node.name)
    return value.double() if u is None else torch.complex(value.double(), STEP * u.cpu().double())


def _value(node: Node, operands: Sequence[Tensor]) -> Tensor:
    """A node's value; what the step does not reach is read over real numbers."""
    if node.is_complex:
        raise NotAnalytic(f"{node.op.name} makes complex numbers")
    if not any(x.is_complex() for x in operands):
        return _plain(node, *operands)
    rule = ANALYTIC.get(node.op.name) or (_by_formula if isinstance(node.op, Elementwise) else None)
    if rule is None:
        raise NotAnalytic(f"{node.op.name} is not analytic, or has no complex form")
    found: Tensor = rule(node, *operands)
    return found


def _plain(node: Node, *operands: Tensor) -> Tensor:
    if node.op.name == "cast" and node.is_float:
        return operands[0].double()
    with torch.no_grad():
        found: Tensor = numbers.apply(node, *operands)
    return found


def analytic(*names: str) -> Callable[[Rule], Rule]:
    """Register the complex form of operations by name."""

    def add(function: Rule) -> Rule:
        ANALYTIC.update(dict.fromkeys(names, function))
        return function

    return add


# --- linear and bilinear operations, by their real and imaginary parts --------------------------------------------------------
def _im(x: Tensor) -> Tensor:
    return x.imag if x.is_complex() else torch.zeros_like(x)


def _re(x: Tensor) -> Tensor:
    return x.real if x.is_complex() else x


@analytic("reshape", "permute", "expand", "sum_to", "slice", "unslice", "select", "unselect", "cat", "stack", "gather",
    "scatter_add", "embedding", "embedding_grad", "sum", "mean", "avg_pool", "adaptive_avg_pool")  # fmt: skip
def _linear(node: Node, *operands: Tensor) -> Tensor:
    """f(a + i b) = f(a) + i f(b); indices stay as they are."""
    imaginary = [_im(x) if x.is_complex() or x.is_floating_point() else x for x in operands]
    return torch.complex(_plain(node, *map(_re, operands)), _plain(node, *imaginary))


@analytic("pad")
def _padded(node: Node, x: Tensor) -> Tensor:
    return torch.complex(_plain(node, x.real), _plain(replace(node, attrs={**node.attrs, "value": 0.0}), x.imag))


@analytic("where")
def _where(node: Node, c: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A choice that the step does not reach, as a mask does."""
    if c.is_complex():
        raise NotAnalytic("where is not analytic in what it chooses by")
    return torch.complex(_plain(node, c, _re(a), _re(b)), _plain(node, c, _im(a), _im(b)))


@analytic("nll")
def _nll(node: Node, y: Tensor, t: Tensor, *weight: Tensor) -> Tensor:
    if t.is_complex() or any(w.is_complex() for w in weight):
        raise NotAnalytic("nll is read for fixed targets and weights only")
    return torch.complex(_plain(node, y.real, t, *weight), _plain(node, y.imag, t, *weight))


@analytic("positions")
def _positions(node: Node, x: Tensor) -> Tensor:
    return _plain(node, x.real)


@analytic("cast")
def _cast(node: Node, x: Tensor) -> Tensor:
    if not node.is_float:
        raise NotAnalytic(f"a cast to {node.dtype} is not analytic")
    return x


@analytic("matmul", "outer", "linear", "conv", "conv_transpose")
def _bilinear(node: Node, a: Tensor, b: Tensor, *bias: Tensor) -> Tensor:
    """B(a, b) + c by parts: torch's complex convolution subtracts, which would lose a part of the size of h."""
    none = [torch.zeros_like(_re(c)) for c in bias]
    real = _plain(node, _re(a), _re(b), *map(_re, bias)) - _plain(node, _im(a), _im(b), *none)
    return torch.complex(real, _plain(node, _re(a), _im(b), *map(_im, bias)) + _plain(node, _im(a), _re(b), *none))


# --- entry by entry: the operation's own formula ----------------------------------------------------------------------------------
def _by_formula(node: Node, *operands: Tensor) -> Tensor:
    assert isinstance(node.op, Elementwise)
    function = _formula(node.op, tuple(sorted(node.attrs.items())))
    if function is None:
        raise NotAnalytic(f"{node.op.name} is not analytic")
    wide = torch.broadcast_tensors(*operands)
    with np.errstate(all="ignore"):
        value = function(*(x.to(torch.complex128).cpu().numpy() for x in wide))
    return torch.as_tensor(np.asarray(value, dtype=complex)).expand(node.shape)


@cache
def _formula(op: Elementwise, attrs: tuple[tuple[str, Any], ...]) -> Callable[..., Any] | None:
    """The formula over complex arrays, or None where it has a kink, a step or a case."""
    import sympy

    xs = sympy.symbols(f"x0:{len(op.operands)}", real=True)
    try:
        formula = sympy.sympify(op.formula(*xs, **dict(attrs)))
    except (TypeError, ValueError, AttributeError):
        return None
    kinds = {type(f).__name__ for f in formula.atoms(sympy.Function, sympy.core.relational.Relational)}
    if not op.differentiable or not kinds <= _SMOOTH or formula.has(sympy.Piecewise):
        return None
    made: Callable[..., Any] = sympy.lambdify(xs, formula.evalf(17), ["scipy", "numpy"])
    return made


# --- textbook forms ---------------------------------------------------------------------------------------------------------------
def _shifted(z: Tensor, dim: Any) -> tuple[Tensor, Tensor]:
    """z less its largest real part, which is a fixed number, and that number."""
    top = torch.amax(z.real, dim, keepdim=True)
    return z - top, top


@analytic("softmax")
def _softmax(node: Node, z: Tensor) -> Tensor:
    e = torch.exp(_shifted(z, node.attrs["dim"])[0])
    return e / e.sum(node.attrs["dim"], keepdim=True)


@analytic("log_softmax")
def _log_softmax(node: Node, z: Tensor) -> Tensor:
    moved, _ = _shifted(z, node.attrs["dim"])
    return moved - torch.log(torch.exp(moved).sum(node.attrs["dim"], keepdim=True))


@analytic("logsumexp")
def _logsumexp(node: Node, z: Tensor) -> Tensor:
    moved, top = _shifted(z, node.attrs["dim"])
    return (torch.log(torch.exp(moved).sum(node.attrs["dim"], keepdim=True)) + top).reshape(node.shape)


@analytic("var")
def _var(node: Node, z: Tensor) -> Tensor:
    """Σ (z - mean)² / (N - correction), without a modulus."""
    dim = node.attrs["dim"]
    centred = z - torch.mean(z, dim, keepdim=True)
    total = torch.sum(centred * centred, dim, keepdim=True)
    divisor = z.numel() / total.numel() - float(node.attrs["correction"])
    return (total / divisor).reshape(node.shape)


@analytic("layer_norm", "batch_norm")
def _normalised(node: Node, *operands: Tensor) -> Tensor:
    return _plain(node, *(x.to(torch.complex128) for x in operands))
