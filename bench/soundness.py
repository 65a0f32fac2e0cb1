"""Does any derivative ever leave its certificate?

    python bench/soundness.py [--samples 100000] [--only NAME]

For each network a box of weights and inputs (of two widths around its own; for the exercise all weights in [-1, 1]), the
derivative of its summed output with respect to the input (the first weight), entry by entry, from below and above: by
intervals with exact ends, by affine forms, and by affine forms over parts of the box. Against it torch.func.grad of the
module itself, vmapped, at so many weights and inputs: a third uniform, a third corners, a sixth with each entry at an end
or inside, and a sixth on the way of sign ascent, up and down, on an entry. Prints how many entries were outside (0, or the
certificate is none), and how near the largest comes to the bound.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import backproof as bp
from backproof.domains.affine import read_affine
from backproof.domains.balls import read_balls
from backproof.studies.certificates.boxes import Region, Target, region_of, targets_of
from backproof.studies.certificates.parts import ends_over_parts
from backproof.studies.certificates.upper import only

Ends = tuple[Tensor, Tensor]


class Summed(nn.Module):
    """Layers and the sum of what they give."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """One number."""
        return self.net(x).sum()


class Residual(nn.Module):
    """x + f(x), twice."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.act = nn.Linear(4, 4), nn.Linear(4, 4), act

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        x = x + self.act(self.a(x))
        return x + self.b(self.act(x))


def mlp(act: nn.Module, width: int = 6, layers: int = 3) -> nn.Module:
    """Hidden layers of one activation."""
    return Summed(*(m for _ in range(layers) for m in (nn.Linear(width, width), act)), nn.Linear(width, 2))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "exercise": (lambda: mlp(nn.Sigmoid(), 3, 4), (3,)),
    **{
        f"MLP {act}": (lambda act=act: mlp(getattr(nn, act)()), (2, 6))
        for act in ("Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Softplus", "Mish",
                    "Hardtanh", "Hardswish", "ReLU6")
    },
    "MLP Softshrink": (lambda: mlp(nn.Softshrink(0.3)), (2, 6)),
    "MLP Hardshrink": (lambda: mlp(nn.Hardshrink(0.3)), (2, 6)),
    "wide sigmoid": (lambda: mlp(nn.Sigmoid(), 24, 3), (24,)),
    "convolutions": (lambda: Summed(nn.Conv2d(1, 2, 3, padding=1, stride=2), nn.Tanh(), nn.Conv2d(2, 2, 2, groups=2),
                                    nn.ReLU()), (1, 1, 5, 5)),
    "mean pool": (lambda: Summed(nn.Conv2d(1, 2, 2), nn.Sigmoid(), nn.AvgPool2d(2, padding=1), nn.Tanh()), (1, 1, 4, 4)),
    "max pool": (lambda: Summed(nn.Conv2d(1, 2, 2), nn.Sigmoid(), nn.MaxPool2d(2, stride=1), nn.Tanh()), (1, 1, 4, 4)),
    "layer norm": (lambda: Summed(nn.Linear(3, 4), nn.LayerNorm(4), nn.Sigmoid()), (2, 3)),
    "softmax": (lambda: Summed(nn.Linear(3, 4), nn.Softmax(-1), nn.Linear(4, 2), nn.Tanh()), (2, 3)),
    "residual ReLU": (lambda: Summed(Residual(nn.ReLU()), nn.Linear(4, 2)), (2, 4)),
    "residual GELU": (lambda: Summed(Residual(nn.GELU()), nn.Linear(4, 2)), (2, 4)),
}  # fmt: skip


def question(name: str, wide: float) -> tuple[nn.Module, Region, Target]:
    """The network, and a box of its weights and inputs."""
    torch.manual_seed(1)
    make, shape = NETS[name]
    net, x = make().double(), torch.randn(shape, dtype=torch.float64)
    graph = bp.capture(net, x)
    leaves = graph.origin.leaves()
    around = {n.name: (leaves[n.name] - wide, leaves[n.name] + wide) for n in graph.parameters if len(n.shape) > 1}
    if name == "exercise":
        region = region_of(graph, (-1, 1), (-wide, wide), None)
        return net, region, targets_of(graph, "net.0.weight")[0]
    region = region_of(graph, around, None, {graph.of_role("input")[0].name: (x - wide, x + wide)})
    return net, region, targets_of(graph, graph.of_role("input")[0].name)[0]


def enclosures(region: Region, target: Target) -> Iterator[tuple[str, Ends]]:
    """The ends of every entry of the derivative, by each reading that has them."""
    try:
        yield "intervals", read_balls(target.graph, only(region.boxes, target))[target.node].outside()
    except bp.BackproofError:
        pass
    try:
        values = read_affine(target.graph, only(region.boxes, target), region.free, only(region.exact, target))
    except bp.BackproofError:
        return
    yield "affine", (values[target.node].lo, values[target.node].hi)
    cut = ends_over_parts(target.graph, region, values, 4)
    if cut is not None:
        yield f"{cut[0]} parts", cut[1][target.node]


class Sampler:
    """Points of a region, and the module's own derivative there."""

    def __init__(self, net: nn.Module, region: Region, target: Target) -> None:
        self.net, self.region, self.target = net, region, target
        there = set(target.whole.nodes)
        self.ends = {n.name: region.ends(n) for n in region.free if n in there}
        self.held = {n.name: t for n, t in region.held.items() if n in there}
        self.generator = torch.Generator().manual_seed(3)
        self.input = next(n.name for n in target.whole.nodes if n.role == "input")
        self.slopes = torch.func.vmap(torch.func.grad(self._value))

    def _value(self, about: Tensor, others: dict[str, Tensor]) -> Tensor:
        leaves = {**self.held, **others, self.target.wrt.name: about}
        x = leaves.pop(self.input)
        value: Tensor = torch.func.functional_call(self.net, leaves, (x,)).sum()
        return value

    def at(self, points: dict[str, Tensor]) -> Tensor:
        """[count, shape] The derivatives."""
        own = self.target.wrt.name
        count = len(next(iter(points.values())))
        about = points.get(own, self.held[own].expand(count, *self.held[own].shape))
        slopes: Tensor = self.slopes(about, {n: t for n, t in points.items() if n != own})
        return slopes

    def draws(self, count: int) -> Iterator[dict[str, Tensor]]:
        """Uniform points, corners, and points with each entry at an end or inside."""
        for kind in ("uniform", "corner", "uniform", "corner", "mixed"):
            points = {}
            for n, (lo, hi) in self.ends.items():
                u = torch.rand((count // 6, *lo.shape), generator=self.generator, dtype=torch.float64)
                at_end = u > 1 if kind == "uniform" else u > -1 if kind == "corner" else (u * 1000 % 1) < 2 / 3
                points[n] = torch.where(at_end, torch.where(u > 0.5, hi, lo), torch.minimum(lo + (hi - lo) * u, hi))
            yield points

    def ascent(self, count: int, steps: int = 24) -> Iterator[dict[str, Tensor]]:
        """The ways of sign ascent on an entry each, half of them downwards."""
        starts = max(2, count // steps)
        points = next(self.draws(6 * starts))
        size = self.target.wrt.size
        entry = torch.randint(size, (starts, 1), generator=self.generator)
        sign = torch.where(torch.arange(starts) % 2 == 0, 1.0, -1.0)
        for step in range(steps):
            leaves = {n: t.requires_grad_() for n, t in points.items()}
            found = (self.at(leaves).flatten(1).gather(1, entry)[:, 0] * sign).sum()
            ups = torch.autograd.grad(found, list(leaves.values()), allow_unused=True, materialize_grads=True)
            yield {n: t.detach() for n, t in leaves.items()}
            points = {}
            for (n, t), up in zip(leaves.items(), ups, strict=True):
                lo, hi = self.ends[n]
                moved = t.detach() + (hi - lo) * (0.3 * 0.85**step) * up.sign()
                points[n] = torch.minimum(torch.maximum(moved, lo), hi)

    def all(self, count: int, most: int = 6000) -> Iterator[Tensor]:
        """The derivatives at about so many points."""
        for _ in range(-(-count // most)):
            share = min(count, most + 300)
            for points in (*self.draws(share), *self.ascent(share // 6)):
                yield self.at(points).detach()


def outside(slopes: Tensor, ends: Ends, rounding: float = 1e-12) -> int:
    """How many entries are not within the ends, but for the rounding of the derivative in floats itself."""
    slack = rounding * torch.maximum(ends[0].abs(), ends[1].abs()) + 1e-15
    return int(((slopes < ends[0] - slack) | (slopes > ends[1] + slack)).sum())


def check(name: str, wide: float, samples: int) -> tuple[int, str]:
    """How many entries were outside by any reading, and the row."""
    began = time.process_time()
    net, region, target = question(name, wide)
    known = dict(enclosures(region, target))
    wrong, count, largest = dict.fromkeys(known, 0), 0, 0.0
    for slopes in Sampler(net, region, target).all(samples):
        count, largest = count + len(slopes), max(largest, float(slopes.abs().max()))
        for reading, ends in known.items():
            wrong[reading] += outside(slopes, ends)
    bounds = {r: float(torch.maximum(*(end.abs() for end in ends)).max()) for r, ends in known.items()}
    cells = [f"{r} {wrong[r]} out, {largest / bounds[r]:.3f}" for r in known]
    return sum(wrong.values()), f"{name:15s} ±{wide:<5g} {count:7,}  {'; '.join(cells)}  ({time.process_time() - began:.0f} s)"  # fmt: skip


def main() -> None:
    """Print a row for each network and width."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    total = 0
    for name in NETS:
        for wide in (0.02, 0.3):
            if arguments.only in name:
                wrong, row = check(name, wide, arguments.samples)
                total += wrong
                print(row, flush=True)
    print(f"outside in all: {total}")
    raise SystemExit(1 if total else 0)


if __name__ == "__main__":
    main()
