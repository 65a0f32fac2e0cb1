"""Which network minds where a digit stands? A small convolutional network and a dense one, by `bp.shift_study`."""

from torch import nn

import backproof as bp


def strided(canvas, classes):
    """Two convolutions that step over every other pixel, then an average over all places."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, classes),
    )


def dense(canvas, classes):
    """One hidden layer of 32 tanh units."""
    return nn.Sequential(nn.Flatten(), nn.Linear(canvas * canvas, 32), nn.Tanh(), nn.Linear(32, classes))


def work(epochs, canvas, noise, seed, limit):
    """Compare the two; every argument is a setting."""
    contenders = {"strided": bp.Contender(strided, lr=1e-2), "dense": bp.Contender(dense, lr=3e-3, weight_decay=1e-2)}
    return bp.shift_study(
        contenders, canvas=canvas, size=8, noise=noise, epochs=epochs, batch=32, seed=seed, limit=limit
    )


problem = bp.Exercise(
    work,
    title="A strided network and a dense one on digits that move",
    settings={"epochs": 6, "canvas": 12, "noise": 0.2, "seed": 0, "limit": 0},
)
