"""The numbers domain: every node is a torch tensor.

Operations run torch's own forward kernels; derivatives run the hand-written stable forms of
:mod:`.kernels`. torch.autograd is never called here.
"""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..graph import Graph, Node
from ..ops import Elementwise, Op
from ..ops.opaque import OPAQUE
from ..ops.own import FAMILY as OWN
from .arrays import ARRAY_HELPERS
from .base import Domain
from .kernels import KERNELS, SLOPES
from .spatial import SPATIAL

__all__ = [
    "HELPERS",
    "code",
    "evaluate",
    "gelu_slope",
    "helper_source",
    "kernel",
    "kernel_at",
    "nll_grad",
    "numbers",
    "plain_rule",
    "tensor_of",
    "wide_numbers",
    "widened",
]

numbers = Domain("numbers", "torch tensors in the graph's own dtype")


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """Real entries in float64, complex ones in complex128, and all others as they are."""
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


class _Wide(Domain):
    """The numbers domain in float64 whatever the graph's dtypes: a cast between them rounds nothing."""

    def apply(self, node: Node, *operands: Any) -> Any:
        """The value of one node, at full width."""
        if node.op.name == "cast" and node.is_number:
            return operands[0].to(torch.complex128 if node.is_complex else torch.float64)
        value = numbers.apply(node, *operands)
        return widened(value) if isinstance(value, torch.Tensor) else value


wide_numbers = _Wide("numbers", "torch tensors in float64, whatever the graph's dtypes", numbers.rules)


def gelu_slope(x: torch.Tensor, approximate: str) -> torch.Tensor:
    """The derivative of GELU: Φ(x) + x φ(x), or that of its tanh form."""
    if approximate == "tanh":
        c = math.sqrt(2 / math.pi)
        u = c * (x + 0.044715 * x**3)
        return torch.sigmoid(2 * u) + 0.5 * x / torch.cosh(u) ** 2 * c * (1 + 3 * 0.044715 * x**2)
    density = torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return 0.5 * torch.erfc(-x / math.sqrt(2)) + x * density


def nll_grad(
    delta: torch.Tensor,
    t: torch.Tensor,
    weight: torch.Tensor | None,
    reduction: str,
    ignore_index: int,
    shape: tuple[int, ...],
) -> torch.Tensor:
    """-delta w[t] (divided by the sum of the weights for a mean) at each target class."""
    keep = t != ignore_index
    safe = torch.where(keep, t, 0)
    share = keep.to(delta.dtype) if weight is None else weight[safe] * keep
    if reduction == "mean":
        share = share / share.sum()
    grad = torch.zeros(shape, dtype=delta.dtype, device=delta.device)
    return grad.scatter(1, safe.unsqueeze(1), (-delta * share).unsqueeze(1))


def normalised(
    x: torch.Tensor,
    mean: torch.Tensor,
    var: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
) -> torch.Tensor:
    """(x - mean) / sqrt(var + eps), scaled by the weight and shifted by the bias."""
    y = (x - mean) / torch.sqrt(var + eps)
    scaled = y if weight is None else y * weight
    return scaled if bias is None else scaled + bias


def per_channel(x: torch.Tensor, *vectors: torch.Tensor | None) -> list[torch.Tensor | None]:
    """Vectors with one entry per channel, in the shape in which they broadcast against x."""
    return [None if v is None else v.reshape(-1, *(1,) * (x.ndim - 2)) for v in vectors]


HELPERS: dict[str, Callable[..., Any]] = {
    "per_channel": per_channel,
    "gelu_slope": gelu_slope,
    "nll_grad": nll_grad,
    "normalised": normalised,
    **SPATIAL,
    **ARRAY_HELPERS,
}
_NAMES: dict[str, Any] = {"torch": torch, "F": F, "math": math, **HELPERS}


def _source(op: Op, axes: int = 0) -> str | None:
    """The line of code of an operation; # stands for its number of spatial axes."""
    text = KERNELS.get(op.name) or SLOPES.get(op.name)
    return text.replace("#d(", f"{axes}d(") if text else None


def _spatial_axes(node: Node) -> int:
    return max(len(node.inputs[0].shape) - 2, 0) if node.inputs else 0


def _parameters(op: Op) -> str:
    operands = [name.rstrip("?") + ("=None" if name.endswith("?") else "") for name in op.operands if name[0] != "*"]
    starred = ["*xs"] if "*xs" in op.operands else []
    attrs = [f"{key}=None" for key in op.attrs]
    return ", ".join(operands + starred + ([] if starred or not attrs else ["*"]) + attrs)


@cache
def _kernel(op: Op, axes: int = 0) -> Callable[..., torch.Tensor] | None:
    """The function that a kernel's line of code is."""
    if (text := _source(op, axes)) is not None:
        function: Callable[..., torch.Tensor] = eval(f"lambda {_parameters(op)}: {text}", dict(_NAMES))
        return function
    return _from_formula(op) if isinstance(op, Elementwise) else None


def kernel(op: Op, axes: int = 0) -> Callable[..., torch.Tensor] | None:
    """The torch function behind an operation: its operands in order, its attributes as keywords; None if it has none.

    ``axes`` is the number of spatial axes, for convolutions and pools.
    """
    return _kernel(op, axes)


def _from_formula(op: Elementwise) -> Callable[..., torch.Tensor]:
    """The formula through SymPy, for operations (of a third party, say) without a line in the table."""

    @cache
    def made(count: int, attrs: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
        import sympy

        xs = sympy.symbols(f"x0:{count}", real=True)
        function: Callable[..., Any] = sympy.lambdify(
            xs, sympy.sympify(op.formula(*xs, **dict(attrs))).evalf(17), "numpy"
        )
        return function

    def run(*args: torch.Tensor, **attrs: Any) -> torch.Tensor:
        function = made(len(args), tuple(sorted(attrs.items())))
        wide = torch.broadcast_tensors(*args)
        with np.errstate(all="ignore"):  # torch is silent about an overflow too
            value = torch.as_tensor(function(*(a.detach().cpu().double().numpy() for a in wide)))
        return value.to(args[0].dtype).expand(wide[0].shape).to(args[0].device)

    return run


@numbers.rule("elementwise", "arithmetic", "comparison", "loss", "linear", "reduce", "shape", "index", "softmax",
    "convolution", "pooling", "normalisation", "complex", "scan", "contraction", "matrix")  # fmt: skip
def _read(node: Node, *operands: torch.Tensor) -> torch.Tensor:
    kernel = kernel_at(node)
    if kernel is None:
        raise KeyError(node.op.name)
    if _stretched(node):
        operands = tuple(torch.broadcast_tensors(*operands))
    value = kernel(*_alike(node, operands), **node.attrs)
    # a slope that one of two broadcast operands does not enter has the other's shape
    return value.expand(node.shape) if isinstance(node.op, Elementwise) and value.shape != node.shape else value


plain_rule = _read


def kernel_at(node: Node) -> Callable[..., torch.Tensor] | None:
    """The torch function behind a node's operation, for its number of spatial axes."""
    return _kernel(node.op, _spatial_axes(node))


@numbers.rule("opaque")
def _opaque(node: Node, *operands: torch.Tensor) -> torch.Tensor:
    """What torch computes: the one call, or torch's own vector-Jacobian product of it."""
    value: torch.Tensor = node.attrs["call"](*operands)
    return value


@numbers.rule(OWN)
def _own(node: Node, *values: torch.Tensor) -> torch.Tensor:
    """The user's own backward pass, run by torch: of it there is nothing else to read."""
    found, attrs = iter(values), node.attrs
    deltas = [next(found) if there else None for there in attrs["results"]]
    given = [next(found) if there else None for there in attrs["operands"]]
    sent: torch.Tensor = attrs["run"](deltas, given)[attrs["operand"]]
    return sent.to(values[0].dtype if node.is_float else sent.dtype)


def _alike(node: Node, operands: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """The operands, with numbers written in the program in the result's own dtype: they widen nothing."""
    if not node.is_float:
        return list(operands)
    plain = [x.role == "constant" and not x.shape and x.is_float for x in node.inputs]
    others = [v.dtype for v, number in zip(operands, plain, strict=True) if not number and v.is_floating_point()]
    if not others:
        return list(operands)
    return [v.to(others[0]) if number else v for v, number in zip(operands, plain, strict=True)]


def _stretched(node: Node) -> bool:
    """Whether a loss broadcasts: torch's own losses warn about it or refuse."""
    return node.op.family == "loss" and isinstance(node.op, Elementwise) and len({x.shape for x in node.inputs}) > 1


def tensor_of(node: Node, device: Any = None, wide: bool = False) -> torch.Tensor:
    """The tensor of a constant; ``wide`` makes one of numbers in float64 or complex128 whatever the graph's dtype."""
    if isinstance(node.value, torch.Tensor):
        value = node.value.to(device) if device is not None else node.value
        return widened(value) if wide else value
    dtype = getattr(torch, node.dtype)
    if wide and node.is_number:
        dtype = torch.complex128 if node.is_complex else torch.float64
    return torch.tensor(_plain(node.value), dtype=dtype, device=device)


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, complex)) else float(value)


def evaluate(graph: Graph, leaves: Mapping[Node, torch.Tensor]) -> dict[Node, torch.Tensor]:
    """Read a graph over tensors; constants are filled in. Leaves wider than the graph's are read in float64 throughout."""
    device = next((t.device for t in leaves.values()), None)
    wide = any(t.dtype == torch.float64 and node.dtype != "float64" for node, t in leaves.items())
    constants = {n: tensor_of(n, device, wide) for n in graph.of_role("constant") if n not in leaves}
    known = {**constants, **leaves}
    with torch.no_grad():
        return wide_numbers.run(graph, {n: widened(t) for n, t in known.items()}) if wide else numbers.run(graph, known)


class _Substitute(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, ast.expr]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._names.get(node.id, node)


def code(node: Node, names: list[str]) -> str:
    """The torch code of one node, with variable names for its operands: the same line that the domain runs.

    Args:
        node: the node.
        names: Python expressions for its operands, in order.
    """
    if node.op.family == OPAQUE:
        line: str = node.attrs["call"].code(names)
        return line
    text = _source(node.op, _spatial_axes(node))
    if text is None:
        raise KeyError(node.op.name)
    if node.op.name == "pow'0" and node.inputs[1].role == "constant":
        text = "b * a ** (b - 1)"
    if _stretched(node):
        names = [
            name if x.shape == node.shape else f"{name}.expand({node.shape})"
            for name, x in zip(names, node.inputs, strict=True)
        ]
    exprs = [ast.parse(name, mode="eval").body for name in names]
    table: dict[str, ast.expr] = {key: ast.parse(repr(value), mode="eval").body for key, value in node.attrs.items()}
    if "*xs" in node.op.operands:
        table["xs"] = ast.List(exprs, ast.Load())
    else:
        operands = [name.rstrip("?") for name in node.op.operands]
        table |= dict(zip(operands, [*exprs, *(ast.Constant(None),) * len(operands)], strict=False))
    tree = _Substitute(table).visit(ast.parse(text, mode="eval"))
    return ast.unparse(ast.fix_missing_locations(tree))


def helper_source(ops: Iterable[str]) -> list[str]:
    """The source lines of the functions that the code of these operations calls, for a script."""
    texts = [KERNELS.get(name) or SLOPES.get(name) or "" for name in ops]
    sources = {name: inspect.getsource(function).rstrip() for name, function in HELPERS.items()}
    wanted: set[str] = set()
    while found := {n for n in sources if n not in wanted and any(f"{n}(" in text for text in texts)}:
        wanted |= found
        texts += [sources[name] for name in found]
    return [line for name, text in sources.items() if name in wanted for line in ("", "", *text.splitlines())]
