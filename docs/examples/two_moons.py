"""A classifier of two half circles: `backproof lr-range two_moons.py:net --input two_moons.py:x --targets two_moons.py:t ...`."""

import torch
from torch import nn

generator = torch.Generator().manual_seed(0)
angle = torch.rand(128, generator=generator) * torch.pi
t = (torch.arange(128) % 2).long()
side = 1 - 2 * t
x = torch.stack([side * torch.cos(angle) + t, side * torch.sin(angle) + t / 2], 1)
x = x + 0.1 * torch.randn(128, 2, generator=generator)


def net():
    """Two inputs, one hidden layer, two classes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
