"""Networks with something wrong in them, and what it is; and networks with nothing wrong in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["BROKEN", "HEALTHY", "Case"]


@dataclass(frozen=True)
class Case:
    """A network, its inputs, and words of which one must stand in the cause."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], Any] = lambda: torch.randn(32, 64)
    verdicts: tuple[str, ...] = ("healthy",)
    words: tuple[str, ...] = ("",)
    more: dict[str, Any] = field(default_factory=dict)


def mlp(
    f: type[nn.Module], layers: int = 12, width: int = 64, start: Any = None, last: int | None = None
) -> nn.Sequential:
    net = nn.Sequential(*(m for _ in range(layers) for m in (nn.Linear(width, width), f())))
    for m in net:
        if start is not None and isinstance(m, nn.Linear):
            start(m)
    return net if last is None else nn.Sequential(*net, nn.Linear(width, last))


def normal(gain: float, bias: float = 0.0) -> Callable[[nn.Linear], None]:
    def start(m: nn.Linear) -> None:
        nn.init.normal_(m.weight, std=gain / m.in_features**0.5)
        nn.init.constant_(m.bias, bias)

    return start


class Residual(nn.Module):
    """x + f(x) so many times."""

    def __init__(self, blocks: int = 16, width: int = 64, scale: float = 1.0, gain: float = 2**0.5) -> None:
        super().__init__()
        self.a = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.b = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.scale = scale
        for m in (*self.a, *self.b):
            normal(gain)(m)

    def forward(self, x: Tensor) -> Tensor:
        for a, b in zip(self.a, self.b, strict=True):
            x = x + self.scale * b(torch.relu(a(x)))
        return x


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)).detach())


class Logarithm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.log(torch.relu(self.first(x))))


class Exponential(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.exp(1000 * self.first(x)))


class Block(nn.Module):
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
        self.c2, self.b2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        same = a == b and stride == 1
        self.way = nn.Identity() if same else nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.b2(self.c2(torch.relu(self.b1(self.c1(x))))) + self.way(x))


def resnet(width: int = 16) -> nn.Module:
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))
    stem = (nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    return nn.Sequential(
        *stem, Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1), *head
    )


def vgg() -> nn.Module:
    def conv(a: int, b: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()

    return nn.Sequential(*conv(3, 16), *conv(16, 16), nn.MaxPool2d(2), *conv(16, 32), *conv(32, 32), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(32 * 9, 64), nn.ReLU(), nn.Linear(64, 10))  # fmt: skip


def transformer(norm_first: bool, layers: int = 4) -> nn.Module:
    return nn.Sequential(*(nn.TransformerEncoderLayer(64, 4, 128, 0.0, "gelu", batch_first=True, norm_first=norm_first)
                           for _ in range(layers)))  # fmt: skip


def frozen() -> nn.Module:
    net = mlp(nn.ReLU, 4, start=normal(2**0.5))
    net[2].requires_grad_(False)
    return net


def one_layer_small() -> nn.Module:
    net = mlp(nn.ReLU, 8, start=normal(2**0.5))
    nn.init.normal_(net[6].weight, std=1e-5)
    return net


class Attention(nn.Module):
    """One head of attention, its scores times a scale."""

    def __init__(self, scale: float, gain: float = 1.0) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(64, 64) for _ in range(4))
        self.scale = scale
        for m in (self.q, self.k):
            nn.init.normal_(m.weight, std=gain / 8)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.q(x) @ self.k(x).transpose(1, 2) * self.scale
        mask = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        return self.o(torch.softmax(scores.masked_fill(mask, float("-inf")), -1) @ self.v(x))


class Last(nn.Module):
    """A recurrent layer, and a head on its last state."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer, self.head = getattr(nn, kind)(64, 64, batch_first=True), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Tagger(nn.Module):
    """An embedding before a recurrent layer."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(50, 32), Last("GRU")
        self.layer.layer = nn.GRU(32, 64, batch_first=True)
        nn.init.normal_(self.table.weight, std=size)

    def forward(self, i: Tensor) -> Tensor:
        return self.layer(self.table(i))


def open_gates() -> nn.Module:
    """Forget gates held open by their biases, for long sequences: saturated on purpose."""
    net = Last("LSTM")
    nn.init.constant_(net.layer.bias_hh_l0[64:128], 8.0)
    return net


def dropping(p: float, gain: float = 1.5) -> nn.Module:
    layers = (m for _ in range(8) for m in (nn.Linear(64, 64), nn.GELU(), nn.Dropout(p)))
    net = nn.Sequential(*layers, nn.Linear(64, 4))
    for m in net:
        if isinstance(m, nn.Linear):
            normal(gain)(m)
    return net


def scale_of_zero(f: type[nn.Module], norm: type[nn.Module]) -> nn.Module:
    net = nn.Sequential(*(m for _ in range(3) for m in (nn.Linear(64, 64), norm(64), f())), nn.Linear(64, 4))
    nn.init.zeros_(net[4].weight)
    return net


def wide_classifier() -> nn.Module:
    net = mlp(nn.GELU, 3, start=normal(1.5), last=40)
    normal(20.0)(net[-1])
    return net


def half_scaled(y: Tensor, t: Tensor) -> Tensor:
    return nn.functional.mse_loss(y, t) * 1e-12


def summed_large(y: Tensor, t: Tensor) -> Tensor:
    return ((y - t) ** 2).sum() * 1e6


def pictures() -> Tensor:
    return torch.randn(4, 3, 12, 12)


LOSS = {"loss": half_scaled, "targets": torch.zeros(32, 4)}

BROKEN = {
    "PyTorch's default start in a deep ReLU net": Case(
        lambda: mlp(nn.ReLU), verdicts=("vanishing",), words=("chi", "too small")
    ),
    "weights too large": Case(
        lambda: mlp(nn.ReLU, start=normal(4.0)), verdicts=("exploding",), words=("chi", "too large")
    ),
    "sigmoid units": Case(lambda: mlp(nn.Sigmoid), verdicts=("vanishing",), words=("sigmoid",)),
    "saturated tanh": Case(
        lambda: mlp(nn.Tanh, 6, start=normal(30.0)),
        verdicts=("saturated", "exploding", "vanishing"),
        words=("saturated",),
    ),
    "dead ReLUs": Case(lambda: mlp(nn.ReLU, 6, start=normal(2**0.5, -50.0)), verdicts=("dead",), words=("biases",)),
    "a ReLU layer that is nearly dead": Case(
        lambda: mlp(nn.ReLU, 2, start=normal(1.4, -3.0)), verdicts=("dead",), words=("slope 0",)
    ),
    "the same weights for all units": Case(
        lambda: mlp(nn.Tanh, 3, start=lambda m: nn.init.constant_(m.weight, 0.05)),
        verdicts=("symmetric",),
        words=("same weights",),
    ),
    "all weights 0": Case(
        lambda: mlp(nn.Tanh, 3, start=lambda m: nn.init.zeros_(m.weight)), verdicts=("vanishing",), words=("are 0",)
    ),
    "no identity path in 40 layers": Case(
        lambda: mlp(nn.Tanh, 40, start=normal(0.75)), verdicts=("vanishing",), words=("identity path",)
    ),
    "residual branches at full size": Case(lambda: Residual(24), verdicts=("exploding",), words=("residual",)),
    "one layer with tiny weights": Case(one_layer_small, verdicts=("vanishing",), words=("6.linear", "one place")),
    "a detached middle": Case(Detached, verdicts=("disconnected",), words=("detach",)),
    "an exponential that overflows": Case(Exponential, verdicts=("not finite",), words=("exp",)),
    "a logarithm of 0": Case(Logarithm, verdicts=("not finite",), words=("log",)),
    "a frozen layer": Case(frozen, verdicts=("frozen",), words=("2.weight",)),
    "a loss times 1e-12": Case(
        lambda: mlp(nn.ReLU, 3, start=normal(2**0.5), last=4), verdicts=("loss scale",), words=("scaled",), more=LOSS
    ),
    "a loss times 1e6": Case(
        lambda: mlp(nn.ReLU, 3, start=normal(2**0.5), last=4),
        verdicts=("loss scale",),
        words=("scaled",),
        more={"loss": summed_large, "targets": torch.zeros(32, 4)},
    ),
    "inputs from 0 to 255 into tanh": Case(
        lambda: mlp(nn.Tanh, 3), lambda: torch.rand(32, 64) * 255, ("saturated", "vanishing"), ("standardised",)
    ),
    "attention without 1/sqrt(d)": Case(
        lambda: Attention(1.0), lambda: torch.randn(4, 8, 64), ("saturated",), ("not divided by sqrt(64)",)
    ),
    "attention with large queries and keys": Case(
        lambda: Attention(1 / 8, 4.0), lambda: torch.randn(4, 8, 64), ("saturated",), ("queries and keys",)
    ),
    "scores of a classifier that are too large": Case(
        wide_classifier,
        verdicts=("saturated",),
        words=("softmax of the loss",),
        more={"loss": "cross_entropy", "targets": torch.arange(32)},
    ),
    "an LSTM over 50 steps": Case(
        lambda: Last("LSTM"), lambda: torch.randn(2, 50, 64), ("vanishing",), ("through time",)
    ),
    "a tanh RNN over 36 steps": Case(
        lambda: Last("RNN"), lambda: torch.randn(2, 36, 64), ("vanishing",), ("through time",)
    ),
    "a batch norm with a scale of 0": Case(
        lambda: scale_of_zero(nn.Tanh, nn.BatchNorm1d), verdicts=("vanishing",), words=("4.weight",)
    ),
    "a layer norm with a scale of 0": Case(
        lambda: scale_of_zero(nn.ReLU, nn.LayerNorm), verdicts=("vanishing",), words=("4.weight",)
    ),
    "tanh far out after a step that was too large": Case(
        lambda: mlp(nn.Tanh, 5, start=normal(1e5)), verdicts=("saturated", "vanishing"), words=("saturated",)
    ),
    "a mean of what was normalised": Case(
        lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.LayerNorm(64)),
        verdicts=("disconnected",),
        words=("centred",),
        more={"loss": lambda y: y.sum()},
    ),
}

BROKEN |= {
    "a large embedding before a GRU": Case(
        lambda: Tagger(80.0), lambda: torch.randint(0, 50, (4, 5)), ("saturated", "vanishing"), ("table.weight",)),
    "a dropout of 0.99": Case(lambda: dropping(0.99), verdicts=("exploding", "vanishing"), words=("p = 0.99",)),
    "a dropout of 0.95 and small weights": Case(lambda: dropping(0.95, 0.3), verdicts=("noisy", "vanishing"), words=("p = 0.95",)),
    "a dropout of 0.86 in each of 8 layers": Case(lambda: dropping(0.86), verdicts=("exploding",), words=("p = 0.86",)),
}  # fmt: skip

HEALTHY = {
    "He, ReLU": Case(lambda: mlp(nn.ReLU, start=normal(2**0.5))),
    "tanh, gain 5/3": Case(lambda: mlp(nn.Tanh, start=normal(5 / 3))),
    "two layers as PyTorch starts them": Case(lambda: mlp(nn.ReLU, 2, last=4), more={"loss": "mse", "targets": torch.zeros(32, 4)}),
    "ReLU6": Case(lambda: mlp(nn.ReLU6, start=normal(2**0.5))),
    "GELU": Case(lambda: mlp(nn.GELU, start=normal(1.5))),
    "a residual net, branches scaled": Case(lambda: Residual(16, scale=0.25)),
    "a small ResNet": Case(resnet, pictures),
    "a small ResNet with its loss": Case(resnet, pictures, more={"loss": "cross_entropy", "targets": torch.tensor([0, 1, 2, 3])}),
    "a VGG with batch norm": Case(vgg, pictures),
    "pre-norm": Case(lambda: transformer(True), lambda: torch.randn(4, 6, 64)),
    "post-norm": Case(lambda: transformer(False), lambda: torch.randn(4, 6, 64)),
    "a sigmoid classifier of two layers": Case(
        lambda: mlp(nn.Sigmoid, 1, last=4), more={"loss": "cross_entropy", "targets": torch.zeros(32, dtype=torch.long)}),
    "scaled, causal attention": Case(lambda: Attention(1 / 8), lambda: torch.randn(4, 8, 64)),
    "a GRU over 12 steps": Case(lambda: Last("GRU"), lambda: torch.randn(4, 12, 64)),
    "gates held open by their biases": Case(open_gates, lambda: torch.randn(2, 5, 64)),
    "an embedding of deviation 1 before a GRU": Case(lambda: Tagger(1.0), lambda: torch.randint(0, 50, (4, 5))),
    "dropout of 0.1": Case(lambda: dropping(0.1)),
    "a narrow net": Case(lambda: mlp(nn.Tanh, 3, 4), lambda: torch.randn(8, 4)),
}  # fmt: skip
