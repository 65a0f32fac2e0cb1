"""A module with two inputs and a residual connection, trained with Adam on three samples."""

import torch
from torch import nn

import backproof as bp


class Gated(nn.Module):
    """h = tanh(A x + B u), and y = v (x + h): what h adds to x is learned."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.state = nn.Linear(width, width)
        self.control = nn.Linear(1, width, bias=False)
        self.read = nn.Linear(width, 1)

    def forward(self, x, u):
        """From x [N, width] and u [N, 1] to y [N, 1]."""
        s = self.state(x) + self.control(u)
        h = torch.tanh(s)
        r = x + h
        y = self.read(r)
        return y


def model(seed):
    """Draw the weights; `--set seed=3` draws others."""
    torch.manual_seed(seed)
    return Gated()


problem = bp.Problem(
    model,
    {"x": torch.tensor([[0.5, -1.0], [0.25, 0.75], [-0.5, 0.1]]), "u": torch.tensor([[1.0], [0.5], [-1.0]])},
    torch.tensor([[0.2], [-0.4], [0.9]]),
    title="Two inputs and a residual connection",
    loss="mse",
    optimizer=(torch.optim.Adam, {"lr": 0.05}),
    steps=2,
    ask=("mse_loss/r",),
    settings={"seed": 0},
)
