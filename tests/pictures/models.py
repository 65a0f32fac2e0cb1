"""The graphs that the pictures are tried on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from backproof import capture
from backproof.formula import read_model
from backproof.graph import Graph

ROLES: dict[str, Any] = dict.fromkeys(("w", "W", "b", "w0", "w1", "c"), "parameter") | {"y": "target"}


def formula(formulas: dict[str, str], **shapes: tuple[int, ...]) -> Graph:
    return read_model(formulas, shapes, roles=ROLES)


def sine() -> Graph:
    given = {"x": (2,), "w": (2,), "b": (), "t": ()}
    roles: dict[str, Any] = {"w": "parameter"}
    return read_model({"u": "w @ x", "y": "sin(u) - b", "L": "(y - t)**2"}, given, roles=roles)


def relu_tanh() -> Graph:
    steps = {"s": "X @ W", "z": "relu(s)", "s_out": "z @ w", "y_out": "tanh(s_out)"}
    return formula(steps | {"L": "reduce((y_out - y)**2 / 2)"}, X=(4, 2), y=(4,), W=(2, 3), w=(3,))


def line() -> Graph:
    return formula({"p": "w*x + b", "L": "mean((p - y)**2)"}, x=(15,), y=(15,), w=(), b=())


def logistic() -> Graph:
    return formula({"f": "sigmoid(w0*x + w1)", "L": "sum((f - y)**2)"}, x=(5,), y=(5,), w0=(), w1=())


def likelihood() -> Graph:
    steps = {"f": "sigmoid(X @ w + b)", "L": "-sum(y*log(f) + (1-y)*log(1-f))"}
    return formula(steps, X=(5, 2), y=(5,), w=(2,), b=())


def in_columns() -> Graph:
    return formula({"s": "W @ X", "z": "tanh(s)", "L": "sum((w @ z - y)**2)"}, X=(2, 5), W=(3, 2), w=(3,), y=(5,))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.c(torch.tanh(self.a(x)))


class Residual(nn.Module):
    def __init__(self, blocks: int, width: int = 8) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, width), nn.Linear(width, 2)
        self.blocks = nn.ModuleList([Block(width) for _ in range(blocks)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def perceptron(*widths: int, function: Callable[[], nn.Module] = nn.ReLU, bias: bool = True) -> Graph:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after, bias=bias), function()]
    given, targets = torch.zeros(5, widths[0]), torch.zeros(5, widths[-1])
    return capture(nn.Sequential(*layers[:-1]), given, loss="mse", targets=targets)


def classifier() -> Graph:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    targets = torch.zeros(5, dtype=torch.int64)
    return capture(model, torch.zeros(5, 4), loss="cross_entropy", targets=targets)


def residual(blocks: int = 2) -> Graph:
    return capture(Residual(blocks), torch.zeros(4, 3), loss="mse", targets=torch.zeros(4, 2))


CHAINS: dict[str, Callable[[], Graph]] = {
    "sine": sine,
    "relu-tanh": relu_tanh,
    "line": line,
    "logistic": logistic,
    "likelihood": likelihood,
    "in columns": in_columns,
    "perceptron": lambda: perceptron(2, 3, 1),
    "without biases": lambda: perceptron(2, 3, 1, function=nn.Sigmoid, bias=False),
    "classifier": classifier,
}
GRAPHS: dict[str, Callable[[], Graph]] = {**CHAINS, "residual": residual}
