"""How tight and how fast are certificates of |df/dx| over a box of inputs, weights held?

    python bench/certify.py [--samples 100000] [--seeds 3] [--rounds 5] [--rival]

Sigmoid networks of the shapes of the table in which CROWN and plain intervals were measured (width, inputs, hidden layers,
half width of the box, factor on the weights). The bound over the largest derivative found among random inputs, corners and
by ascent; processor time of the bound alone (captured before, tables built), the least of the rounds. With ``--rival``
(auto_LiRPA installed, for this torch its newest sources) its CROWN bound of the same Jacobian, in turns with ours: the time
with building its model and, in brackets, without. Then the exercise's bound for L = 1..50.
"""

from __future__ import annotations

import argparse
import copy
import logging
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import torch
from torch import nn

import backproof as bp
from backproof.studies.certificates.boxes import region_of, targets_of
from backproof.studies.certificates.upper import worst

ROWS = [
    (3, 3, 2, 1.0, 1),
    (3, 3, 5, 1.0, 1),
    (16, 16, 3, 0.1, 1),
    (16, 16, 3, 1.0, 1),
    (64, 64, 4, 0.1, 1),
    (16, 16, 3, 0.1, 8),
]


def network(width: int, inputs: int, layers: int, scale: float, seed: int) -> nn.Module:
    """Hidden layers of sigmoid units and a linear output, PyTorch's start times a factor."""
    torch.manual_seed(seed)
    sizes = [inputs, *[width] * layers]
    hidden = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.Sigmoid())]
    net = nn.Sequential(*hidden, nn.Linear(width, 1)).double()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(scale)
    return net


def sampled(net: nn.Module, x: torch.Tensor, eps: float, count: int) -> float:
    """The largest |df/dx| among random inputs, corners, and where gradient ascent leads."""
    generator = torch.Generator().manual_seed(7)
    shape = (count, len(x))
    spread = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
    spread[::2] = spread[::2].sign()
    xs = x + eps * spread
    largest, best = 0.0, xs[:64]
    for part in xs.split(20_000):
        part.requires_grad_()
        (g,) = torch.autograd.grad(net(part).sum(), part)
        sizes = g.abs().amax(1)
        if float(sizes.max()) > largest:
            largest, best = float(sizes.max()), part.detach()[sizes.topk(min(64, len(part))).indices]
    for _ in range(60):
        best.requires_grad_()
        (g,) = torch.autograd.grad(net(best).sum(), best, create_graph=True)
        largest = max(largest, float(g.detach().abs().max()))
        (up,) = torch.autograd.grad(g.abs().amax(1).sum(), best)
        best = (best.detach() + eps / 5 * up.sign()).clamp(x - eps, x + eps)
    return largest


def ours(net: nn.Module, x: torch.Tensor, eps: float) -> Callable[[], float]:
    """What bounds it, once the network is captured."""
    graph = bp.capture(net, x)
    name = graph.of_role("input")[0].name
    targets = targets_of(graph, name)
    return lambda: float(worst(targets, region_of(graph, None, None, {name: (x - eps, x + eps)})).upper)


def crown(net: nn.Module, x: torch.Tensor, eps: float) -> Callable[[], tuple[float, float]]:
    """auto_LiRPA's Jacobian bound by CROWN, as its examples do it: the bound, and the time that it took once built."""
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm
    from auto_LiRPA.jacobian import JacobianOP

    logging.disable(logging.INFO)

    class Jacobian(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = copy.deepcopy(net).float()

        def forward(self, x: torch.Tensor) -> Any:
            y = self.net(x)
            return JacobianOP.apply(y, x)

    start = x.float()[None]

    def bound() -> tuple[float, float]:
        model = BoundedModule(Jacobian(), start)
        began = time.process_time()
        box = BoundedTensor(start, PerturbationLpNorm(norm=float("inf"), eps=eps))
        low, high = model.compute_jacobian_bounds(box, optimize=False)
        found = float(torch.maximum(low.abs(), high.abs()).detach().max())
        return found, time.process_time() - began

    return bound


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and its processor seconds."""
    began = time.process_time()
    return function(), time.process_time() - began


def row(shape: tuple[Any, ...], seed: int, arguments: argparse.Namespace) -> str:
    """One network: largest found, our bound, the rival's."""
    width, inputs, layers, eps, scale = shape
    net = network(width, inputs, layers, scale, seed)
    torch.manual_seed(5)
    x = torch.rand(inputs, dtype=torch.float64) * 2 - 1 if eps < 1 else torch.zeros(inputs, dtype=torch.float64)
    found, own = sampled(net, x, eps, arguments.samples), ours(net, x, eps)
    other = crown(net, x, eps) if arguments.rival else None
    own_rounds, other_rounds = [], []
    for _ in range(arguments.rounds):
        own_rounds.append(timed(own))
        if other is not None:
            other_rounds.append(timed(other))
    bound, seconds = own_rounds[0][0], min(t for _, t in own_rounds)
    assert bound >= found, "a derivative exceeds its certificate"
    line = f"{','.join(map(str, shape)):22s} {found:10.4g} {bound:10.4g} {bound / found:7.3f} {1000 * seconds:7.1f}"
    if other_rounds:
        theirs, whole, alone = (
            other_rounds[0][0][0],
            min(t for _, t in other_rounds),
            min(r[1] for r, _ in other_rounds),
        )
        line += f" {theirs:10.4g} {theirs / found:7.3f} {1000 * whole:6.0f} ({1000 * alone:.0f}) {whole / seconds:6.1f}"
    return line


def main() -> None:
    """Print the table and the exercise's bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rival", action="store_true", help="auto_LiRPA beside it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    beside = f" {'CROWN':>10s} {'ratio':>7s} {'ms (bound)':>11s} {'times':>6s}" if arguments.rival else ""
    print(f"{'K,D,L,eps,scale':22s} {'largest':>10s} {'bound':>10s} {'ratio':>7s} {'ms':>7s}{beside}")
    for shape in ROWS:
        for seed in range(arguments.seeds):
            print(row(shape, seed, arguments), flush=True)
    exercise()


class Deep(nn.Module):
    """The network of the exercise."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(layers))
        self.out = nn.Linear(3, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sigmoid layers and a linear output."""
        for layer in self.layers:
            x = torch.sigmoid(layer(x))
        return self.out(x)


def exercise() -> None:
    """(1/3)(3/4)^L exactly, attained, and the time of the bound."""
    times, right, attained = [], 0, 0
    for depth in range(1, 51):
        graph = bp.capture(Deep(depth), torch.ones(3))
        targets = targets_of(graph, "layers.0.weight[0, 0]")
        best = 9.0
        for _ in range(5):
            began = time.process_time()
            bound = worst(targets, region_of(graph, (-1, 1), (-0.5, 0.5), None))
            best = min(best, time.process_time() - began)
        times.append(best)
        found = bp.certify(graph, wrt="layers.0.weight[0, 0]", biases=(-0.5, 0.5), effort="bound", samples=10)
        right += bound.upper == Fraction(1, 3) * Fraction(3, 4) ** depth
        attained += found.lower.exact == bound.upper
    print(f"the exercise, L = 1..50: exact {right} of 50, attained {attained} of 50, {1000 * max(times):.1f} ms at most, "
          f"{1000 * sum(times) / 50:.1f} ms on average")  # fmt: skip


if __name__ == "__main__":
    main()
