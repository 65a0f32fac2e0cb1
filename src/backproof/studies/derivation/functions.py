"""Concrete functions in the place of arbitrary ones: f1 = tanh, or 0.7 sin(1.3 x) + 0.2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import sympy
import torch
from torch import Tensor

from ...errors import FormulaError, InputError
from ...formula import read_model
from ...graph import Graph, Node
from ...ops import OPS, Elementwise
from ...ops.arbitrary import base_of, differentiated
from ...ops.shapes import same

__all__ = ["as_torch", "concrete", "function_of", "put_in"]

X = sympy.Symbol("x", real=True)


def concrete(name: str, expr: Any) -> Elementwise:
    """The function that a SymPy expression in ``X`` is, under the name of the arbitrary function that it replaces."""
    value = sympy.sympify(expr)
    return Elementwise(
        name=name, family="elementwise", operands=("x",), shape=same, formula=lambda x: value.subs(X, x), doc=str(value)
    )


def function_of(name: str, value: Any) -> Elementwise:
    """What a person gives for an arbitrary function: the name of a function, a formula in x, or a function of SymPy.

    Raises:
        InputError: it is none of these.
    """
    called = value if isinstance(value, str) else getattr(value, "__name__", "")
    known = OPS.get(called)
    if isinstance(known, Elementwise) and known.differentiable and len(known.operands) == 1:
        return known
    if isinstance(value, str):
        return concrete(name, _formula(name, value))
    if isinstance(value, sympy.Expr) and value.free_symbols <= {X, sympy.Symbol("x")}:
        return concrete(name, value.subs(sympy.Symbol("x"), X))
    try:
        return concrete(name, value(X))
    except Exception:
        raise InputError(
            f'\'{name}\' must be the name of a function ("tanh"), a formula in x ("x**3 - x"), or a function that '
            f"SymPy can call, not {str(value)[:80]!r}"
        ) from None


def _formula(name: str, text: str) -> Any:
    """A formula in x as a SymPy expression, by our own reader."""
    try:
        graph = read_model({"y": text}, {"x": ()}, roles={})
    except FormulaError as error:
        raise InputError(f"'{name}' is no formula in x: {error}") from None
    values: dict[Node, Any] = {}
    for node in graph.nodes:
        if node.is_leaf:
            values[node] = X if node.role != "constant" else sympy.nsimplify(node.value, rational=True)
        elif isinstance(node.op, Elementwise):
            values[node] = node.op.formula(*(values[x] for x in node.inputs), **node.attrs)
        else:
            raise InputError(f"'{name}' must be a function of one number, and {text!r} uses {node.op.name}")
    return values[graph.outputs[0]]


def put_in(graph: Graph, functions: Mapping[str, Elementwise]) -> Graph:
    """The same graph with concrete functions in the place of the arbitrary ones."""
    twins: dict[Node, Node] = {}
    for node in graph.nodes:
        found = base_of(node.op)
        op = node.op if found is None else differentiated(functions[found[0]], found[1])
        attrs = node.attrs if found is None else dict(op.attrs)
        twins[node] = replace(node, op=op, attrs=attrs, inputs=tuple(twins[x] for x in node.inputs))
    loss = None if graph.loss is None else twins[graph.loss]
    return Graph(tuple(twins.values()), tuple(twins[n] for n in graph.outputs), loss, graph.title, graph.origin)


def as_torch(op: Elementwise) -> Callable[[Tensor], Tensor]:
    """A concrete function for torch.autograd to follow: from its SymPy expression, not from our slopes."""
    expr = sympy.sympify(op.formula(X, **op.attrs)).evalf(17)
    run = sympy.lambdify(X, expr, [{"sqrt": lambda v: torch.as_tensor(v, dtype=torch.float64).sqrt()}, "torch"])

    def call(x: Tensor) -> Tensor:
        return torch.as_tensor(run(x), dtype=x.dtype) + 0 * x

    return call
