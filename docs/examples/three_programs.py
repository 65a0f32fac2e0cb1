"""Three programs that claim to compute the same thing: ridge regression on two inputs, compared with bp's machinery."""

import numpy as np
import torch

import backproof as bp
from backproof.studies.ways import by_formulas, same


def closed_form(X, y, w, lr, steps):
    """Solve the normal equations, which is where gradient descent goes."""
    return {"w": np.linalg.solve(X.numpy().T @ X.numpy() / len(y) + 0.1 * np.eye(2), X.numpy().T @ y.numpy() / len(y))}


def with_torch(X, y, w, lr, steps):
    """Gradient descent by torch.optim; weight decay is the ridge term."""
    w = w.clone().requires_grad_()
    optimizer = torch.optim.SGD([w], lr=lr, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (X @ w - y).square().mean() / 2
        loss.backward()
        optimizer.step()
    return {"w": w}


def with_formulas(X, y, w, lr, steps):
    """The same by Backproof's graph and update, the ridge term written into the loss."""
    model = {"r": "X @ w - y", "loss": "mean(r**2) / 2 + 0.05 * sum(w**2)"}
    return {"w": by_formulas(model, {"X": X, "y": y}, {"w": w}, steps=steps, lr=lr)["w"]}


def work(samples, steps, lr, seed):
    """Draw the data and compare the three."""
    if not (3 <= samples <= 10_000 and 1 <= steps <= 5_000 and 0 < lr < 1):
        raise bp.InputError("samples from 3 to 10,000, steps from 1 to 5,000, lr between 0 and 1")
    draw = torch.Generator().manual_seed(seed)
    X = torch.randn(samples, 2, generator=draw, dtype=torch.float64)
    y = X @ torch.tensor([1.5, -0.5], dtype=torch.float64) + 0.1
    ways = {"closed form": closed_form, "torch": with_torch, "formulas": with_formulas}
    return same(ways, final="w", X=X, y=y, w=torch.zeros(2, dtype=torch.float64), lr=lr, steps=steps)


problem = bp.Exercise(
    work,
    title="Three programs for ridge regression",
    about="Do a closed form, torch.optim with weight decay, and formulas give the same weights?",
    settings={"samples": 20, "steps": 400, "lr": 0.2, "seed": 0},
)
