"""A multilayer perceptron and a convolutional network on digits that are centred, shifted or scrambled."""

from torch import nn

import backproof as bp


def mlp(canvas, classes):
    """Four hidden layers of 256 ReLU units."""
    layers = [nn.Flatten(), nn.Linear(canvas * canvas, 256), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(256, classes))


def cnn(canvas, classes):
    """Four convolutions with 5 x 5 kernels, a global average, and a 1 x 1 convolution to the classes."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(64, 128, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(128, classes, 1),
        nn.Flatten(),
    )


def work(data, canvas, size, noise, epochs, batch, seed, limit, mlp_lr, mlp_weight_decay, cnn_lr, cnn_weight_decay):
    return bp.shift_study(
        {
            "mlp": bp.Contender(mlp, lr=mlp_lr, weight_decay=mlp_weight_decay),
            "cnn": bp.Contender(cnn, lr=cnn_lr, weight_decay=cnn_weight_decay),
        },
        data=data,
        canvas=canvas,
        size=size,
        noise=noise,
        epochs=epochs,
        batch=batch,
        seed=seed,
        limit=limit,
    )


problem = bp.Exercise(
    work,
    title="A perceptron and a convolutional network on shifted and scrambled digits",
    about="Two networks learn digits that stand in the middle of a canvas, at random places, or have all their pixels "
    "permuted by one fixed permutation. Which of them minds what, and why? On the sheet the digits are MNIST's on a "
    "canvas of 56 x 56, five epochs in batches of 128: give the folder that holds its files with --data.",
    settings={
        "data": "",
        "canvas": "auto",
        "size": "auto",
        "noise": 0.5,
        "epochs": "auto",
        "batch": "auto",
        "seed": 0,
        "limit": 0,
        "mlp_lr": 1e-3,
        "mlp_weight_decay": 1e-2,
        "cnn_lr": 5e-4,
        "cnn_weight_decay": 1e-3,
    },
)
