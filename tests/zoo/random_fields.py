"""Random networks of every kind of layer that moves positions about, in one and two dimensions, with branches."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Random", "positive", "random_net"]

WIDTH = 4


class Lambda(nn.Module):
    """A function of one tensor as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor], text: str) -> None:
        super().__init__()
        self.function, self.text = function, text

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return self.text


class Both(nn.Module):
    """Two ways side by side that meet: added, or set side by side along the channels and mixed."""

    def __init__(self, first: nn.Module, second: nn.Module, rank: int, add: bool) -> None:
        super().__init__()
        self.first, self.second, self.add = first, second, add
        self.mix = nn.Identity() if add else conv(rank)(2 * WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x), self.second(x)
        return a + b if self.add else self.mix(torch.cat([a, b], 1))


class Down(nn.Module):
    """Down, something, up again, beside an identity: a piece of a U-Net."""

    def __init__(self, rank: int, inside: nn.Module, factor: int, mode: str) -> None:
        super().__init__()
        pool = (nn.AvgPool1d, nn.AvgPool2d)[rank - 1](factor)
        up = (nn.ConvTranspose1d, nn.ConvTranspose2d)[rank - 1](WIDTH, WIDTH, factor, factor)
        smooth = nn.Upsample(scale_factor=factor, mode=("linear", "bilinear")[rank - 1])
        self.path = nn.Sequential(
            pool, inside, {"conv": up, "nearest": nn.Upsample(scale_factor=factor), "linear": smooth}[mode]
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.path(x)
        cut = tuple(slice(0, n) for n in y.shape[2:])
        return y + x[(slice(None), slice(None), *cut)]


def conv(rank: int) -> Any:
    return (nn.Conv1d, nn.Conv2d)[rank - 1]


def _roll(rng: random.Random, rank: int) -> nn.Module:
    by = rng.randint(-3, 3)
    return Lambda(lambda x: torch.roll(x, by, -1), f"roll {by}")


def _strided(rng: random.Random, rank: int) -> nn.Module:
    a, s = rng.randint(0, 2), rng.randint(1, 3)
    return Lambda(lambda x: x[..., a::s], f"[{a}::{s}]")


def _shuffle(rng: random.Random, rank: int) -> nn.Module:
    if rank == 2:
        up = nn.Sequential(nn.Conv2d(WIDTH, 4 * WIDTH, 1), nn.PixelShuffle(2))
        down = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * WIDTH, WIDTH, 1))
        even = Lambda(lambda x: x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2], "even")
        return up if rng.random() < 0.5 else nn.Sequential(even, down)
    return Lambda(lambda x: x.reshape(x.shape[0], 2, x.shape[1] // 2, -1).transpose(1, 2).flatten(1, 2), "channels")


def _windows(rng: random.Random, rank: int) -> nn.Module:
    w = rng.randint(2, 3)

    def mixed(x: Tensor) -> Tensor:
        n = x.shape[-1] // w * w
        x = x[..., :n]
        apart = x.unflatten(-1, (-1, w))
        return (apart + apart.mean(-1, keepdim=True)).flatten(-2)

    return Lambda(mixed, f"windows of {w}")


def _padding(rng: random.Random, rank: int) -> nn.Module:
    mode = rng.choice(["constant", "reflect", "replicate", "circular"])
    pad = tuple(rng.randint(0, 2) for _ in range(2 * rank))
    return Lambda(lambda x: F.pad(x, pad, mode=mode), f"{mode} {pad}")


def _resize(rng: random.Random, rank: int) -> nn.Module:
    mode = rng.choice(["nearest", ("linear", "bilinear")[rank - 1]])
    if rng.random() < 0.6:
        return nn.Upsample(scale_factor=rng.randint(2, 3), mode=mode)
    return nn.Upsample(
        size=rng.randint(5, 17), mode=mode, **({} if mode == "nearest" else {"align_corners": rng.random() < 0.5})
    )


def _sliding(rng: random.Random, rank: int) -> nn.Module:
    k, s, d = (tuple(rng.randint(1, top) for _ in range(rank)) for top in (4, 2, 3))
    p = tuple(rng.randint(0, 2) for _ in range(rank))
    mode = rng.choice(["zeros", "zeros", "reflect", "circular"])
    return conv(rank)(WIDTH, WIDTH, k, s, p, d, groups=rng.choice([1, 1, 2, WIDTH]), padding_mode=mode)  # type: ignore[no-any-return]


def _pool(rng: random.Random, rank: int) -> nn.Module:
    k = rng.randint(1, 4)
    if rng.random() < 0.2:
        return (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)[rank - 1](rng.randint(3, 9))
    kind = (nn.AvgPool1d, nn.AvgPool2d)[rank - 1]
    return kind(k, rng.randint(1, 3), rng.randint(0, k // 2), ceil_mode=rng.random() < 0.5)


def _transposed(rng: random.Random, rank: int) -> nn.Module:
    s = rng.randint(1, 3)
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d)[rank - 1]
    return kind(WIDTH, WIDTH, rng.randint(s, s + 2), s, rng.randint(0, 1), rng.randint(0, s - 1), dilation=1)


def _halves(rng: random.Random, rank: int) -> nn.Module:
    a = rng.randint(1, 3)
    return Lambda(lambda x: torch.cat([x[..., a:], x[..., :a]], -1), f"halves at {a}")


def _same(rng: random.Random, rank: int) -> nn.Module:
    k, d = rng.choice([1, 3, 5]), rng.randint(1, 3)
    return conv(rank)(WIDTH, WIDTH, k, padding=d * (k // 2), dilation=d)  # type: ignore[no-any-return]


def _flip(rng: random.Random, rank: int) -> nn.Module:
    return Lambda(lambda x: x.flip(-1), "flip")


def _norm(rng: random.Random, rank: int) -> nn.Module:
    return nn.BatchNorm1d(WIDTH) if rank == 1 else nn.BatchNorm2d(WIDTH)


KINDS = [
    *(_sliding, _sliding, _sliding, _pool, _pool, _transposed, _strided, _roll, _shuffle, _windows),
    *(_padding, _resize, _halves, _flip, _norm),
]


class Random(nn.Module):
    """Layers one after another, branches among them."""

    def __init__(self, seed: int, rank: int, largest: int) -> None:
        super().__init__()
        rng = random.Random(seed)
        layers: list[nn.Module] = []
        for _ in range(rng.randint(2, 6)):
            layers.append(_block(rng, rank))
        self.layers, self.largest = nn.ModuleList(layers), largest

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            if max(x.shape[2:]) > self.largest or min(x.shape[2:]) < 1:
                raise ValueError("too large or too small")
        return x


def _block(rng: random.Random, rank: int) -> nn.Module:
    roll = rng.random()
    if roll < 0.2:
        return Both(_same(rng, rank), rng.choice([nn.Identity(), _same(rng, rank)]), rank, rng.random() < 0.5)
    if roll < 0.3:
        return Down(rank, _same(rng, rank), rng.randint(2, 3), rng.choice(["conv", "nearest", "linear"]))
    return rng.choice(KINDS)(rng, rank)


def positive(net: nn.Module) -> nn.Module:
    """The net in float64 with positive weights: its gradient is positive where a unit sees."""
    net = net.double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.rand(p.shape, generator=generator) + 0.5)
            p.div_(p[0].numel())
    return net


def random_net(seed: int, rank: int, size: int) -> tuple[nn.Module, tuple[int, ...]] | None:
    """A net and the shape of its input; None where the layers drawn don't fit one another."""
    shape = (1, WIDTH, *(size + (seed + i) % 3 for i in range(rank)))
    try:
        net = positive(Random(seed, rank, 5 * size))
        with torch.no_grad():
            net(torch.zeros(shape, dtype=torch.float64))
    except (RuntimeError, ValueError, IndexError):
        return None
    return net, shape
