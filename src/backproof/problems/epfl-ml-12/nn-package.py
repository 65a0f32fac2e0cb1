"""The same regression with torch.nn: nn.Linear and nn.MSELoss, from a random start."""

import torch
from torch import nn

import backproof as bp

x = [3.3, 4.4, 5.5, 6.71, 6.93, 4.168, 9.779, 6.182, 7.59, 2.167, 7.042, 10.791, 5.313, 7.997, 3.1]
y = [1.7, 2.76, 2.09, 3.19, 1.694, 1.573, 3.366, 2.596, 2.53, 1.221, 2.827, 3.465, 1.65, 2.904, 1.3]


def model(seed):
    torch.manual_seed(seed)
    return nn.Linear(1, 1)


def inputs(x):
    return torch.tensor(x, dtype=torch.float64).unsqueeze(1)


def targets(y):
    return torch.tensor(y, dtype=torch.float64).unsqueeze(1)


problem = bp.Problem(
    model,
    inputs,
    targets,
    title="Linear regression with the nn package",
    about="The same regression with nn.Linear and nn.MSELoss from a random start, for 100 epochs. "
    "Does the result differ from the one written by hand, and why?",
    loss=nn.MSELoss(),
    optimizer=(torch.optim.SGD, {"lr": 1e-3}),
    steps=100,
    ask=("optimum", "curvature", "uncleared", "fit", "compare:epfl-ml-12/linear-regression"),
    settings={"x": x, "y": y, "seed": 0},
    symbols={
        "weight": "w",
        "bias": "b",
        "mse_loss": "mse",
        "linear": "prediction",
        "input": "x",
        "target": "y",
    },
)
