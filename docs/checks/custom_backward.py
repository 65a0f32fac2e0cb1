"""A custom backward pass with a mistake that only inputs beyond 3 show: `backproof check docs/checks/custom_backward.py:Cut`."""

import torch


class Cut(torch.autograd.Function):
    """min(x, 3)², whose backward pass forgets that the slope is zero beyond 3."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(max=3) ** 2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x.clamp(max=3) * g


class Right(Cut):
    """The same, with the slope that it has."""

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * (x < 3) * g


inputs = (torch.linspace(-2, 2, 9),)
