"""Formulas for the tests, and the comparison of the graph with the witness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st

from backproof.differentiate import differentiate
from backproof.domains.numbers import evaluate
from backproof.formula import read_model
from backproof.formula.witness import witness
from backproof.graph import Graph

__all__ = ["SHAPES", "VALUES", "agree", "agree_in_gradients", "model", "random_formulas", "value"]

SHAPES: dict[str, tuple[int, ...]] = {"k": (), "v": (2,), "x": (3,), "w": (3,), "X": (2, 3), "Y": (2, 3), "M": (3, 2)}
_RNG = torch.Generator().manual_seed(0)
VALUES = {name: torch.rand(shape, dtype=torch.float64, generator=_RNG) * 0.6 + 0.2 for name, shape in SHAPES.items()}


def model(text: str, reduction: str = "sum") -> Graph:
    """The graph of one formula u over the quantities of SHAPES."""
    return read_model({"u": text}, SHAPES, roles={}, reduction=reduction)


def value(text: str, reduction: str = "sum") -> torch.Tensor:
    """What the graph of a formula computes."""
    graph = model(text, reduction)
    return evaluate(graph, {graph.by_name[name]: t for name, t in VALUES.items()})[graph.by_name["u"]]


def agree(text: str, reduction: str = "sum") -> torch.Tensor:
    """Assert that graph and witness compute the same; return it."""
    graph = model(text, reduction)
    ours, theirs = value(text, reduction), witness(graph.origin, VALUES)["u"]
    assert ours.shape == theirs.shape, text
    assert torch.allclose(ours.double(), theirs.double(), rtol=1e-12, atol=1e-13, equal_nan=True), (text, ours, theirs)
    return ours


def agree_in_gradients(text: str) -> int:
    """Assert that our gradient of the sum of a formula is autograd's of the witness; return how many were compared."""
    graph = read_model({"u": text, "L": "sum(u)"}, SHAPES, roles={})
    joint = differentiate(graph)
    values = evaluate(joint.graph, {graph.by_name[name]: t for name, t in VALUES.items()})
    leaves = {name: t.clone().requires_grad_() for name, t in VALUES.items()}
    loss = witness(graph.origin, leaves)["L"]
    found = (
        torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        if loss.requires_grad
        else [None] * len(leaves)
    )
    for name, expected in zip(leaves, found, strict=True):
        gradient = joint.gradients[graph.by_name[name]]
        zero = torch.zeros_like(VALUES[name])
        mine, theirs = zero if gradient is None else values[gradient], zero if expected is None else expected
        scale = theirs.abs().max().clamp(min=1e-2) if theirs.isfinite().all() else torch.tensor(1.0)
        assert torch.allclose(mine / scale, theirs / scale, rtol=1e-9, atol=1e-10, equal_nan=True), (
            text,
            name,
            mine,
            theirs,
        )
    return sum(g is not None for g in found)


# --- random formulas of a wanted shape ---------------------------------------------------------------------------------
Draw = Callable[[Any], Any]
_SMOOTH = (
    "sin",
    "cos",
    "tanh",
    "sigmoid",
    "atan",
    "softsign",
    "erf",
    "gelu",
    "silu",
    "relu",
    "abs",
    "square",
    "σ",
    "elu",
    "mish",
)
_POSITIVE = ("log", "sqrt", "rsqrt", "reciprocal", "ln", "log1p")
_PAIRS = (
    "maximum",
    "minimum",
    "max",
    "min",
    "squared_error",
    "absolute_error",
    "huber_error",
    "atan2",
    "logistic_error",
)


def _named(shape: tuple[int, ...]) -> list[str]:
    return [name for name, s in SHAPES.items() if s == shape]


class _Writer:
    def __init__(self, draw: Draw) -> None:
        self.draw = draw

    def pick(self, *items: Any) -> Any:
        return self.draw(st.sampled_from(items))

    def write(self, shape: tuple[int, ...], depth: int) -> str:
        if depth == 0:
            return str(self.pick(*_named(shape), *(("0.3", "2", "pi", "-1.5") if shape == () else ())))
        ways: list[Callable[[tuple[int, ...], int], str]] = [
            self.function,
            self.positive,
            self.pair,
            self.arithmetic,
            self.choice,
        ]
        ways += [self.smaller, self.folded] * (shape != (2, 3))
        ways += [self.product, self.turned] * (len(shape) == 2)
        return str(self.pick(*ways)(shape, depth - 1))

    def function(self, shape: tuple[int, ...], depth: int) -> str:
        return f"{self.pick(*_SMOOTH)}({self.write(shape, depth)})"

    def positive(self, shape: tuple[int, ...], depth: int) -> str:
        return f"{self.pick(*_POSITIVE)}(0.3 + sigmoid({self.write(shape, depth)}))"

    def pair(self, shape: tuple[int, ...], depth: int) -> str:
        return f"{self.pick(*_PAIRS)}({self.write(shape, depth)} + 0.11, {self.write(self.pick(shape, ()), depth)})"

    def arithmetic(self, shape: tuple[int, ...], depth: int) -> str:
        other = self.write(self.pick(shape, ()), depth)
        a = self.write(shape, depth)
        return str(
            self.pick(
                f"({a} + {other})", f"({a} - {other})", f"{a} * {other}", f"-{a} / (1.5 + tanh({other}))", f"({a})**2"
            )
        )

    def choice(self, shape: tuple[int, ...], depth: int) -> str:
        a, b, c = (self.write(shape, depth) for _ in range(3))
        return f"where({c} {self.pick('>', '<=')} 0.1234, {a}, {b})"

    def smaller(self, shape: tuple[int, ...], depth: int) -> str:
        """A part of something with one axis more."""
        if shape == ():
            return f"({self.write((3,), depth)})[{self.pick(0, -1)}]"
        if shape == (3,):
            return f"({self.write((2, 3), depth)})[{self.pick(0, 1, -1)}]"
        if shape == (2,):
            return f"({self.write((3,), depth)})[{self.pick('1:', ':2', '::2')}]"
        return f"({self.write((2, 3), depth)}).T"

    def folded(self, shape: tuple[int, ...], depth: int) -> str:
        inner = {(): (2, 3), (3,): (2, 3), (2,): (2, 3), (3, 2): (3, 2)}[shape]
        along = {(): "", (3,): ", dim=0", (2,): ", axis=-1", (3, 2): ", dim=0, keepdim=True"}[shape]
        fold = f"{self.pick('sum', 'mean', 'logsumexp', 'max', 'min', 'norm')}({self.write(inner, depth)}{along})"
        return fold if shape != (3, 2) else f"({fold} + M)"

    def product(self, shape: tuple[int, ...], depth: int) -> str:
        a, b = ((2, 3), (3, 3)) if shape == (2, 3) else ((3, 3), (3, 2))
        left = f"({self.write((3, 2), depth)} @ {self.write((2, 3), depth)})"
        return f"{self.write(a, depth)} @ {left}" if b == (3, 3) else f"{left} @ {self.write(b, depth)}"

    def turned(self, shape: tuple[int, ...], depth: int) -> str:
        return f"{self.pick('softmax', 'log_softmax')}(({self.write(shape[::-1], depth)}).T, dim={self.pick(0, 1, -1)})"


@st.composite
def random_formulas(draw: Draw) -> str:
    """A formula that is well formed, of any of the shapes."""
    writer = _Writer(draw)
    return writer.write(writer.pick(*dict.fromkeys(SHAPES.values())), draw(st.integers(1, 4)))
