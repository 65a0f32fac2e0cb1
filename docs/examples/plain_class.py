"""A model as course templates have it: a plain class with `parameters()` and `__call__`, and a loss by hand."""

import torch

import backproof as bp


class LinearModel:
    """y = x w + b, with tensors made by hand."""

    def __init__(self):
        self.w = torch.tensor([[0.5], [-0.25]])
        self.b = torch.tensor([0.1])

    def __call__(self, x):
        """From x of shape [N, 2] to y of shape [N, 1]."""
        y = x @ self.w + self.b
        return y

    def parameters(self):
        """The tensors that are trained."""
        return [self.w, self.b]


def absolute_and_squared(y, t):
    """Half of the mean squared error and half of the mean absolute error."""
    e = y - t
    return (e**2).mean() / 2 + e.abs().mean() / 2


problem = bp.Problem(
    LinearModel(),
    torch.tensor([[1.0, 2.0], [0.5, -1.0], [-1.5, 0.25]]),
    torch.tensor([[1.0], [0.0], [-1.0]]),
    title="A plain class and a loss by hand",
    loss=absolute_and_squared,
    optimizer="sgd",
    steps=2,
    ask=("curvature",),
    settings={"lr": 0.1},
)
