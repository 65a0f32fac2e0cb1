"""A small network for a bump, with what a search may try: `backproof search docs/examples/bump.py --trials 20`."""

import torch
from torch import nn

import backproof as bp


def network(width, activation, seed):
    """One hidden layer of the given width."""
    torch.manual_seed(seed)
    layers = {"tanh": nn.Tanh, "gelu": nn.GELU}
    return nn.Sequential(nn.Linear(1, width), layers[activation](), nn.Linear(width, 1))


x = torch.linspace(-2, 2, 12).unsqueeze(1)

problem = bp.Problem(
    network,
    x,
    torch.exp(-(x**2)) + 0.05 * torch.cos(40 * x),
    title="A bump with a little noise",
    loss="mse",
    optimizer=(torch.optim.AdamW, {"lr": 0.03}),
    steps=60,
    settings={"width": 4, "activation": "tanh", "seed": 0},
    search={"lr": (0.003, 0.3, "log"), "width": [2, 4, 8], "activation": ["tanh", "gelu"]},
)
