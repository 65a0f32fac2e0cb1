"""Do the predicted mean squares agree with what many networks have, and is what is wrong with a network named?

    python bench/propagate.py [--seeds 200] [--only NAME]

First table: for each captured network, the largest |predicted / mean over seeds - 1| over its linear maps, forwards and
backwards, and how many of these ratios lie within 10 % plus two standard errors. Second: remedies and causes of the
broken and healthy networks of ``tests/zoo/broken_networks.py``.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

import backproof as bp
from tests.zoo.broken_networks import BROKEN, HEALTHY, Case

WIDTH = 256


def mlp(f: type[nn.Module]) -> Callable[[], nn.Module]:
    """Eight layers of 256 with PyTorch's own start."""
    return lambda: nn.Sequential(*(m for _ in range(8) for m in (nn.Linear(WIDTH, WIDTH), f())))


def cnn() -> nn.Module:
    """Convolutions, batch norm in training, a largest and a mean pool."""

    def block(a: int, b: int, s: int = 1) -> tuple[nn.Module, ...]:
        return nn.Conv2d(a, b, 3, s, 1), nn.BatchNorm2d(b), nn.ReLU()

    return nn.Sequential(*block(3, WIDTH), *block(WIDTH, WIDTH, 2), nn.MaxPool2d(2), *block(WIDTH, WIDTH),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 10))  # fmt: skip


class Block(nn.Module):
    """A residual block with batch norm."""

    def __init__(self, a: int, b: int, s: int) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(a, b, 3, s, 1, bias=False), nn.BatchNorm2d(b)
        self.c2, self.b2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        same = a == b and s == 1
        self.way = nn.Identity() if same else nn.Sequential(nn.Conv2d(a, b, 1, s, bias=False), nn.BatchNorm2d(b))

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions and the way around them."""
        return torch.relu(self.b2(self.c2(torch.relu(self.b1(self.c1(x))))) + self.way(x))


def resnet() -> nn.Module:
    """Three residual blocks of 256 channels."""
    stem = (nn.Conv2d(3, WIDTH, 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())
    blocks = (Block(WIDTH, WIDTH, 1), Block(WIDTH, WIDTH, 2), Block(WIDTH, WIDTH, 1))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 10))


def encoder(norm_first: bool) -> Callable[[], nn.Module]:
    """Three transformer layers."""
    return lambda: nn.Sequential(*(nn.TransformerEncoderLayer(WIDTH, 8, 2 * WIDTH, 0.0, batch_first=True,
                                                              norm_first=norm_first) for _ in range(3)))  # fmt: skip


class Language(nn.Module):
    """Embeddings, learned positions, two pre-norm layers, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(50, WIDTH), nn.Parameter(torch.randn(12, WIDTH) * 0.02)
        self.layers, self.head = encoder(True)(), nn.Linear(WIDTH, 50)

    def forward(self, i: Tensor) -> Tensor:
        """From tokens to scores of the next, flattened for the loss."""
        return self.head(self.layers(self.table(i) + self.places)).flatten(0, 1)


class Recurrent(nn.Module):
    """An LSTM and a head on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(WIDTH, WIDTH, batch_first=True), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        """From [N, T, width] to scores."""
        return self.head(self.lstm(x)[0][:, -1])


def networks() -> dict[str, tuple[Callable[[], nn.Module], Tensor, dict[str, Any]]]:
    """What is predicted: (factory, inputs, loss)."""
    torch.manual_seed(0)
    x, pictures, tokens = torch.randn(16, WIDTH), torch.randn(4, 3, 12, 12), torch.randn(4, 8, WIDTH)
    classes = {"loss": "cross_entropy", "targets": torch.arange(4)}
    index = torch.randint(0, 50, (4, 12))
    f = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus, nn.SELU, nn.LeakyReLU]
    return {
        **{f"MLP, {g.__name__}": (mlp(g), x, {}) for g in f},
        "CNN with batch norm": (cnn, pictures, classes),
        "ResNet": (resnet, pictures, classes),
        "transformer, pre-norm": (encoder(True), tokens, {}),
        "transformer, post-norm": (encoder(False), tokens, {}),
        "language model": (Language, index, {"loss": "cross_entropy", "targets": index.flatten()}),
        "LSTM": (Recurrent, tokens, classes),
    }


def predicted(seeds: int, only: str) -> None:
    """The first table."""
    print(f"{'network':28s} {'maps':>4s} {'forward':>8s} {'backward':>8s} {'within':>9s} {'seconds':>8s}")
    for name, (make, x, more) in networks().items():
        if only.lower() not in name.lower():
            continue
        torch.manual_seed(1)
        began = time.process_time()
        try:
            found = bp.propagate(make(), x, seeds=seeds, factory=make, **more)
        except bp.BackproofError as error:
            print(f"{name:28s} not read: {str(error)[:80]}")
            continue
        worst, within, count = [0.0, 0.0], 0, 0
        for layer in found.layers:
            for i, (told, _) in enumerate((layer.forward, layer.backward)):
                over = layer.seeds[i]
                worst[i] = max(worst[i], abs(told / over.mean - 1)) if told == told else math.nan
                within += abs(told / over.mean - 1) <= 0.1 + 2 * over.error / over.mean
                count += 1
        print(
            f"{name:28s} {len(found.layers):4d} {worst[0]:8.3f} {worst[1]:8.3f} {within:4d}/{count:4d} {time.process_time() - began:8.1f}",
            flush=True,
        )


def named(cases: dict[str, Case]) -> None:
    """The second table."""
    right = 0
    for name, case in cases.items():
        torch.manual_seed(0)
        found = bp.propagate(case.make(), case.inputs(), seeds=0, **case.more)
        ok = found.verdict in case.verdicts and any(word in found.cause for word in case.words)
        right += ok
        best = found.diagnosis.remedies[0] if found.diagnosis.remedies else None
        cure = (
            ""
            if best is None
            else f"{found.diagnosis.ratio:.2g} -> {best.predicted:.2g} predicted, {best.measured:.2g} applied"
        )
        print(f"{'yes' if ok else 'NO ':3s} {name:40s} {found.verdict:12s} {cure}", flush=True)
    print(f"{right} of {len(cases)} right")


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    predicted(arguments.seeds, arguments.only)
    if not arguments.only:
        named(BROKEN)
        named(HEALTHY)


if __name__ == "__main__":
    main()
