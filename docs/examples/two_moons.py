"""Half circles to be told apart: `backproof lr-range docs/examples/two_moons.py:net --data docs/examples/two_moons.py:moons`."""

import torch
from torch import nn

import backproof as bp

generator = torch.Generator().manual_seed(0)
angle = torch.rand(24, generator=generator) * torch.pi
t = torch.arange(24) % 2
side = 1 - 2 * t
x = torch.stack([side * torch.cos(angle) + t, side * torch.sin(angle) + t / 2], 1)
x = x + 0.1 * torch.randn(24, 2, generator=generator)
moons = (x, t)


def net():
    """Two inputs, one hidden layer, two classes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))


problem = bp.Problem(
    net(), x, t, title="Half circles", loss="cross_entropy", optimizer="sgd", steps=1, settings={"lr": 0.5}
)
