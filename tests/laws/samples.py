"""What the laws are tried on: every example of every operation as a small graph with random leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import torch

from backproof.domains.digits import compiled, digits
from backproof.domains.numbers import numbers, tensor_of
from backproof.graph import Builder, Graph, Node
from backproof.ops import OPS, Elementwise, Example, Op

__all__ = [
    "CASES",
    "FAR",
    "Sample",
    "arrays",
    "case_name",
    "distinct",
    "exact_tensor",
    "formula_value",
    "gap",
    "on_autograd",
    "sample",
]

Leaves = dict[Node, torch.Tensor]

CASES: list[tuple[str, int]] = [(op.name, i) for op in OPS.values() for i in range(len(op.examples))]
FAR = (20.0, -20.0, 100.0, -100.0, 800.0, -800.0)
_REGIONS = {"positive": (0.2, 2.0), "weights": (0.2, 2.0), "unit": (0.05, 0.95)}


@dataclass(frozen=True)
class Sample:
    """One node of an operation, and the graph whose loss is the sum of its entries times random numbers.

    Args:
        graph: leaves, the node ``y`` and, where a gradient can pass, the loss ``L = sum(w y)``.
        y: the node of the operation.
        leaves: random tensors.
        moving: the leaves that a gradient reaches.
    """

    graph: Graph
    y: Node
    leaves: Leaves
    moving: tuple[Node, ...]


def case_name(case: tuple[str, int]) -> str:
    """A test's id."""
    return f"{case[0]}-{case[1]}"


def _leaf(builder: Builder, i: int, op: Op, example: Example, rng: torch.Generator) -> tuple[Node, torch.Tensor] | None:
    shape, kind = example.shapes[i], example.kinds[i] if i < len(example.kinds) else "float"
    if kind == "none":
        return None
    if kind.startswith("index"):
        return builder.leaf(f"x{i}", "input", shape, "int64"), torch.randint(int(kind[6:]), shape, generator=rng)
    if kind.startswith("distinct"):
        return builder.leaf(f"x{i}", "input", shape, "int64"), distinct(shape, int(kind[9:]), rng)
    uniform = torch.rand(shape, generator=rng, dtype=torch.float64)
    if kind == "ordered":
        return builder.leaf(f"x{i}", "input", shape, "float64"), (6 * uniform - 3).sort().values
    if kind == "bool":
        return builder.leaf(f"x{i}", "input", shape, "bool"), uniform > 0.5
    low, high = _REGIONS.get(kind, getattr(op, "region", (-3.0, 3.0)))
    role: Any = "buffer" if kind == "weights" else "input"
    return builder.leaf(f"x{i}", role, shape, "float64"), low + (high - low) * uniform


def distinct(shape: tuple[int, ...], below: int, rng: torch.Generator) -> torch.Tensor:
    """Integers of which no two along the last axis are the same."""
    lines = torch.rand((*shape[:-1], below), generator=rng).argsort(-1)
    return lines[..., : shape[-1]] if shape else lines[0]


def sample(op: Op, example: Example, seed: int = 0) -> Sample:
    """Build the graph of one example."""
    builder, rng = Builder(), torch.Generator().manual_seed(seed)
    made = [_leaf(builder, i, op, example, rng) for i in range(len(example.shapes))]
    leaves = dict(pair for pair in made if pair is not None)
    y = builder.emit(op, *leaves, name="y", role="value", **example.attrs)
    if not (op.differentiable and y.is_float):
        return Sample(Graph(tuple(builder.nodes), (y,)).check(), y, leaves, ())
    w = torch.randn(y.shape, generator=rng, dtype=torch.float64)
    weighed = builder.emit("mul", y, builder.constant(w, y.shape, name="w"))
    loss = builder.emit("sum", weighed, name="L", role="value")
    moving = tuple(n for n in leaves if n.is_float and n.role == "input")
    return Sample(Graph(tuple(builder.nodes), (y,), loss).check(), y, leaves, moving)


def arrays(leaves: Mapping[Node, torch.Tensor]) -> dict[Node, Any]:
    """The leaves for the 50-digit reading: floats as the binary fractions that they are, indices as integers."""
    return {
        node: digits.array(tensor.tolist(), node.shape)
        if node.is_float
        else np.array(tensor.tolist(), dtype=object).reshape(node.shape)
        for node, tensor in leaves.items()
    }


def exact_tensor(array: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """A 50-digit array rounded to float64."""
    return torch.tensor([float(v) for v in np.asarray(array, dtype=object).reshape(-1)], dtype=torch.float64).reshape(
        shape
    )


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, relative to the second tensor's largest entry or 1."""
    assert a.shape == b.shape, f"{tuple(a.shape)} is not {tuple(b.shape)}"
    if a.numel() == 0:
        return 0.0
    a, b = a.double(), b.double()
    distance = ((a - b).abs().max() / b.abs().max().clamp(min=1.0)).item()
    return distance if distance == distance else float("inf")


def on_autograd(
    graph: Graph, leaves: Mapping[Node, torch.Tensor], moving: tuple[Node, ...]
) -> dict[Node, torch.Tensor]:
    """Read the graph over torch's kernels with gradients on, for torch.autograd to differentiate."""
    given = {n: t.clone().requires_grad_() if n in moving else t for n, t in leaves.items()}
    constants = {n: tensor_of(n) for n in graph.of_role("constant")}
    return numbers.run(graph, {**constants, **given})


WIDE = mpmath.mp.clone()
WIDE.dps = 1500  # 1 - tanh(800)^2 is 1e-694: a difference of numbers that agree in that many digits


def formula_value(op: Elementwise, point: tuple[float, ...], attrs: Mapping[str, Any]) -> Any:
    """The operation's formula at one point of float64 numbers in 1500 digits; None where it is not a finite real."""
    try:
        value = WIDE.mpf(compiled(op, len(point), tuple(sorted(attrs.items())), WIDE)(*(WIDE.mpf(p) for p in point)))
    except (ZeroDivisionError, ValueError, TypeError, OverflowError):
        return None
    return value if WIDE.isfinite(value) else None
