"""Entries moved about, paddings that look back and images made larger: values and gradients are the eager program's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backproof as bp

from .models import agrees_with_eager, doubles

Change = Callable[[Tensor], Tensor]
CASES: dict[str, tuple[Change, tuple[int, ...]]] = {
    "roll": (lambda x: torch.roll(x, (2, -1), (1, 2)), (2, 3, 4)),
    "roll flat": (lambda x: torch.roll(x, 5), (2, 3)),
    "flip": (lambda x: x.flip((0, -1)), (2, 3, 4)),
    "fliplr": (torch.fliplr, (3, 4)),
    "pixel unshuffle": (lambda x: F.pixel_unshuffle(x, 2), (1, 2, 4, 6)),
    "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2), (1, 8, 2, 3)),
    "channel shuffle": (nn.ChannelShuffle(2), (1, 6, 2, 3)),
    "reflect": (lambda x: F.pad(x, (2, 1), mode="reflect"), (1, 2, 4)),
    "reflect 2d": (nn.ReflectionPad2d((1, 2, 0, 1)), (1, 2, 4, 3)),
    "replicate": (lambda x: F.pad(x, (2, 1, 0, 3), mode="replicate"), (1, 1, 3, 4)),
    "circular": (lambda x: F.pad(x, (3, 1), mode="circular"), (1, 2, 4)),
    "nearest, no multiple": (lambda x: F.interpolate(x, size=(5, 2), mode="nearest"), (1, 2, 3, 4)),
    "nearest, a factor": (lambda x: F.interpolate(x, scale_factor=1.7, mode="nearest"), (1, 1, 7)),
    "linear": (lambda x: F.interpolate(x, scale_factor=2, mode="linear"), (1, 2, 5)),
    "linear, a factor": (lambda x: F.interpolate(x, scale_factor=1.6, mode="linear"), (1, 1, 7)),
    "bilinear": (lambda x: F.interpolate(x, size=(7, 3), mode="bilinear"), (1, 2, 4, 5)),
    "bilinear, corners": (lambda x: F.interpolate(x, size=(7, 3), mode="bilinear", align_corners=True), (1, 1, 4, 5)),
    "trilinear": (lambda x: F.interpolate(x, scale_factor=(1, 2, 3), mode="trilinear"), (1, 1, 2, 3, 2)),
    "adaptive max": (lambda x: F.adaptive_max_pool2d(x, (2, 1)), (1, 2, 4, 5)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_change(name: str) -> None:
    change, shape = CASES[name]
    x = doubles(*shape)
    graph = bp.capture(lambda a: change(a * a), x, loss=lambda y: (y * torch.arange(y.numel()).reshape(y.shape)).sum())
    agrees_with_eager(graph)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_convolution_whose_padding_looks_back(mode: str) -> None:
    layer = nn.Conv2d(1, 2, 3, padding=(1, 2), padding_mode=mode).double()
    agrees_with_eager(bp.capture(layer, doubles(1, 1, 4, 5), loss=lambda y: (y * y).sum()))


def test_windows_of_different_sizes_are_opaque() -> None:
    graph = bp.capture(nn.AdaptiveMaxPool1d(3), doubles(1, 1, 5), loss=lambda y: (y * y).sum())
    assert graph.facts["opaque_nodes"]
    agrees_with_eager(graph)
