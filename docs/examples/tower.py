"""A tower of convolutions with and without skips, no batch norm: how the gradient fades; by `bp.depth_study`."""

import torch
from torch import nn

import backproof as bp


class Floor(nn.Module):
    """x + tanh(C x), or tanh(C x) alone."""

    def __init__(self, channels, skip):
        super().__init__()
        self.C = nn.Conv2d(channels, channels, 3, padding=1)
        self.skip = skip

    def forward(self, x):
        """From [N, channels, h, w] to the same shape."""
        h = torch.tanh(self.C(x))
        return x + h if self.skip else h


def tower(depth, width, classes, skips):
    """``depth`` floors between a convolution and a linear layer; the channels double in the middle."""
    floors = [Floor(width, skips) for _ in range(depth // 2)]
    wider = [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)]
    upper = [Floor(2 * width, skips) for _ in range(depth - depth // 2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, classes)]
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), *floors, *wider, *upper, *head)


def work(depths, width, epochs, seed, limit):
    """Train towers of these depths; every argument is a setting."""
    return bp.depth_study(
        tower, depth=4, depths=depths, width=width, canvas=12, epochs=epochs, batch=50, seed=seed, limit=limit
    )


problem = bp.Exercise(
    work,
    title="A tower of convolutions, with and without skips",
    settings={"depths": [2, 8], "width": 6, "epochs": 2, "seed": 0, "limit": 200},
)
