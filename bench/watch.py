"""How much longer does a training loop take under ``bp.watch``?

    python bench/watch.py [--steps 3000] [--rounds 7]

The same loop without and with the watch, in turns in one process, processor time: the median over the rounds of the time
with it over that of the loops without before and after it, and in brackets the least beside the least. Beside it what people
use: a forward hook and a gradient hook on every module that keeps norms at every step.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

import backproof as bp


def mlp() -> tuple[nn.Module, torch.Tensor]:
    """The smallest net that one trains: 64-64-10."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), torch.randn(32, 64)


def deep() -> tuple[nn.Module, torch.Tensor]:
    """Ten layers of 256."""
    return nn.Sequential(
        *(m for _ in range(10) for m in (nn.Linear(256, 256), nn.ReLU())), nn.Linear(256, 10)
    ), torch.randn(64, 256)


def cnn() -> tuple[nn.Module, torch.Tensor]:
    """Three convolutions with batch norm on 16 pictures of 16 x 16."""

    def block(a: int, b: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(a, b, 3, 1, 1), nn.BatchNorm2d(b), nn.ReLU()

    return nn.Sequential(*block(3, 16), *block(16, 32), nn.MaxPool2d(2), *block(32, 32), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(32, 10)), torch.randn(16, 3, 16, 16)  # fmt: skip


class Encoder(nn.Module):
    """Two transformer layers and a head on the mean."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(128, 4, 256, 0.0, batch_first=True, norm_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From [N, T, 128] to scores."""
        return self.head(self.layers(x).mean(1))


def encoder() -> tuple[nn.Module, torch.Tensor]:
    """A small transformer on 8 texts of 32 tokens."""
    return Encoder(), torch.randn(8, 32, 128)


def loop(net: nn.Module, optimizer: Any, x: torch.Tensor, steps: int, context: Callable[[], Any]) -> float:
    """Processor seconds for so many steps."""
    targets = torch.arange(len(x)) % 10
    began = time.process_time()
    with context():
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), targets).backward()
            optimizer.step()
    return time.process_time() - began


class EveryStep:
    """Norms of every output and error signal at every step, as a plain watcher keeps them."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.rows, self.hooks = net, [], []

    def __enter__(self) -> None:
        for module in self.net.modules():
            if not any(True for _ in module.children()):
                self.hooks.append(
                    module.register_forward_hook(lambda m, a, y: self.rows.append(float(y.detach().norm())))
                )
            if any(True for _ in module.parameters(recurse=False)) and not any(True for _ in module.children()):
                self.hooks.append(
                    module.register_full_backward_hook(lambda m, i, o: self.rows.append(float(o[0].norm())))
                )

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(
        f"{'network':10s} {'optimizer':9s} {'ms/step':>8s} {'bp.watch':>9s} {'(least)':>8s} {'hooks':>7s}"
        f"  (added, {arguments.rounds} rounds)"
    )
    for make in (mlp, deep, cnn, encoder):
        for kind in (torch.optim.SGD, torch.optim.AdamW):
            torch.manual_seed(0)
            net, x = make()
            optimizer = kind(net.parameters(), lr=1e-3)
            loop(net, optimizer, x, 20, nullcontext)
            probe = loop(net, optimizer, x, 20, nullcontext) / 20
            steps = max(60, min(arguments.steps, int(1.5 / max(probe, 1e-5))))
            base, watched, least, hooked = added(net, optimizer, x, steps, arguments.rounds)
            print(f"{make.__name__:10s} {kind.__name__:9s} {1000 * base:8.2f} {100 * watched:8.1f}% "
                  f"{f'({100 * least:.1f}%)':>8s} {100 * hooked:6.1f}%", flush=True)  # fmt: skip


def added(
    net: nn.Module, optimizer: Any, x: torch.Tensor, steps: int, rounds: int
) -> tuple[float, float, float, float]:
    """Seconds of a step; the share added by the watch (median, and least over least), and by the hooks (median)."""
    plain, watched, shares, hook_shares = [], [], [], []
    for _ in range(rounds):
        a = loop(net, optimizer, x, steps, nullcontext)
        b = loop(net, optimizer, x, steps, partial(bp.watch, net, optimizer))
        c = loop(net, optimizer, x, steps, nullcontext)
        d = loop(net, optimizer, x, steps, partial(EveryStep, net))
        plain += [a, c]
        watched.append(b)
        shares.append(2 * b / (a + c) - 1)
        hook_shares.append(2 * d / (a + c) - 1)
    least = min(watched) / min(plain) - 1
    return min(plain) / steps, statistics.median(shares), least, statistics.median(hook_shares)


if __name__ == "__main__":
    main()
