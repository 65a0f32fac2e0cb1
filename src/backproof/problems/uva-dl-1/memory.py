"""A model that does not fit into memory: what is redundant in backpropagation, and what leaving it out costs."""

import torch
from torch import nn

import backproof as bp


def network():
    """Thirty-six layers of equal width, so that activations need far more memory than parameters."""
    torch.manual_seed(0)
    blocks = (nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(36))
    return nn.Sequential(nn.Linear(32, 64), *blocks, nn.Linear(64, 10)), torch.ones(1, 32)


problem = bp.Exercise(
    bp.memory_exercise(network),
    title="Backpropagation in less memory",
    about="A model does not fit into the memory of the device, and there is no bigger device. What does "
    "backpropagation keep that could be computed again, or need not be kept at all, and what does that cost? The "
    "sheet speaks of billions of parameters; here the answer is also applied to a network and measured.",
    settings={
        "model": "default",
        "budget": "10MB",
        "batch": 1024,
        "optimizer": "adam",
        "input": [],
        "layers": 32,
        "width": 4096,
        "heads": 32,
        "vocab": 32000,
        "sequence": 2048,
        "billions_batch": 8,
        "devices": 8,
        "seed": 0,
    },
)
