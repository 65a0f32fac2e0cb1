"""PyTorch by examples: one polynomial fitted to sin(x), written in one way after another."""

import math
import random

import numpy as np
import torch
from torch import nn

import backproof as bp
from backproof.studies.hand_written import hand_written
from backproof.studies.ways import by_formulas, same


def numpy(x, y, start, steps, lr, seed):
    x, y = x.numpy(), y.numpy()
    a, b, c, d = (start[n] for n in "abcd")
    losses = []
    for _ in range(steps):
        y_pred = a + b * x + c * x**2 + d * x**3
        losses.append(np.square(y_pred - y).sum())
        grad_y_pred = 2 * (y_pred - y)
        a -= lr * grad_y_pred.sum()
        b -= lr * (grad_y_pred * x).sum()
        c -= lr * (grad_y_pred * x**2).sum()
        d -= lr * (grad_y_pred * x**3).sum()
    return {"loss": losses, "a": a, "b": b, "c": c, "d": d}


def tensors(x, y, start, steps, lr, seed):
    a, b, c, d = (torch.tensor(start[n], dtype=x.dtype) for n in "abcd")
    losses = []
    for _ in range(steps):
        y_pred = a + b * x + c * x**2 + d * x**3
        losses.append((y_pred - y).pow(2).sum().item())
        grad_y_pred = 2 * (y_pred - y)
        a -= lr * grad_y_pred.sum()
        b -= lr * (grad_y_pred * x).sum()
        c -= lr * (grad_y_pred * x**2).sum()
        d -= lr * (grad_y_pred * x**3).sum()
    return {"loss": losses, "a": a, "b": b, "c": c, "d": d}


def autograd(x, y, start, steps, lr, seed):
    a, b, c, d = (torch.tensor(start[n], dtype=x.dtype, requires_grad=True) for n in "abcd")
    losses = []
    for _ in range(steps):
        y_pred = a + b * x + c * x**2 + d * x**3
        loss = (y_pred - y).pow(2).sum()
        losses.append(loss.item())
        loss.backward()
        with torch.no_grad():
            for parameter in (a, b, c, d):
                parameter -= lr * parameter.grad
                parameter.grad = None
    return {"loss": losses, "a": a, "b": b, "c": c, "d": d}


class Legendre3(torch.autograd.Function):
    """P3(u) = (5 u^3 - 3 u) / 2, with its derivative (15 u^2 - 3) / 2 written by hand."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return 0.5 * (5 * u**3 - 3 * u)

    @staticmethod
    def backward(ctx, grad_output):
        (u,) = ctx.saved_tensors
        return grad_output * 1.5 * (5 * u**2 - 1)


def custom_function(x, y, start, steps, lr, seed):
    a, b, c, d = (torch.tensor(v, dtype=x.dtype, requires_grad=True) for v in (0.0, -1.0, 0.0, 0.3))
    losses = []
    for _ in range(steps):
        y_pred = a + b * Legendre3.apply(c + d * x)
        loss = (y_pred - y).pow(2).sum()
        losses.append(loss.item())
        loss.backward()
        with torch.no_grad():
            for parameter in (a, b, c, d):
                parameter -= 5 * lr * parameter.grad
                parameter.grad = None
    return {"loss": losses, "a": a, "b": b, "c": c, "d": d}


def custom_function_twin(x, y, start, steps, lr, seed):
    x, y = x.numpy(), y.numpy()
    a, b, c, d = 0.0, -1.0, 0.0, 0.3
    losses = []
    for _ in range(steps):
        u = c + d * x
        p = (5 * u**3 - 3 * u) / 2
        y_pred = a + b * p
        losses.append(np.square(y_pred - y).sum())
        delta = 2 * (y_pred - y)
        delta_u = delta * b * (15 * u**2 - 3) / 2
        a -= 5 * lr * delta.sum()
        b -= 5 * lr * (delta * p).sum()
        c -= 5 * lr * delta_u.sum()
        d -= 5 * lr * (delta_u * x).sum()
    return {"loss": losses, "a": a, "b": b, "c": c, "d": d}


def nn_package(x, y, start, steps, lr, seed):
    xx = x.unsqueeze(-1).pow(torch.tensor([1, 2, 3]))
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0, 1)).double()
    with torch.no_grad():  # the same start as the others, instead of nn.Linear's own
        model[0].weight.copy_(torch.tensor([[start[n] for n in "bcd"]], dtype=x.dtype))
        model[0].bias.copy_(torch.tensor([start["a"]], dtype=x.dtype))
    loss_fn = nn.MSELoss(reduction="sum")
    losses = []
    for _ in range(steps):
        loss = loss_fn(model(xx), y)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
    b, c, d = model[0].weight[0]
    return {"loss": losses, "a": model[0].bias[0], "b": b, "c": c, "d": d}


def optim(x, y, start, steps, lr, seed):
    xx = x.unsqueeze(-1).pow(torch.tensor([1, 2, 3]))
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0, 1)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[start[n] for n in "bcd"]], dtype=x.dtype))
        model[0].bias.copy_(torch.tensor([start["a"]], dtype=x.dtype))
    loss_fn = nn.MSELoss(reduction="sum")
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = loss_fn(model(xx), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    b, c, d = model[0].weight[0]
    return {"loss": losses, "a": model[0].bias[0], "b": b, "c": c, "d": d}


def own_module(x, y, start, steps, lr, seed):
    class Polynomial3(nn.Module):
        """y = a + b x + c x^2 + d x^3, with parameters of its own names."""

        def __init__(self):
            super().__init__()
            for name in "abcd":
                setattr(self, name, nn.Parameter(torch.tensor(start[name], dtype=x.dtype)))

        def forward(self, x):
            return self.a + self.b * x + self.c * x**2 + self.d * x**3

    model = Polynomial3()
    loss_fn = nn.MSELoss(reduction="sum")
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = loss_fn(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"loss": losses, **dict(model.named_parameters())}


def formulas(x, y, start, steps, lr, seed):
    model = {"y_pred": "a + b * x + c * x**2 + d * x**3", "loss": "sum((y_pred - y)**2)"}
    trained = by_formulas(model, {"x": x, "y": y}, start, steps=steps, optimizer="sgd", lr=lr)
    return {"loss": trained["losses"], **{n: trained[n] for n in "abcd"}}


def rmsprop(x, y, start, steps, lr, seed):
    xx = x.unsqueeze(-1).pow(torch.tensor([1, 2, 3]))
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0, 1)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[start[n] for n in "bcd"]], dtype=x.dtype))
        model[0].bias.copy_(torch.tensor([start["a"]], dtype=x.dtype))
    loss_fn = nn.MSELoss(reduction="sum")
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1000 * lr)
    losses = []
    for _ in range(steps):
        loss = loss_fn(model(xx), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    b, c, d = model[0].weight[0]
    return {"loss": losses, "a": model[0].bias[0], "b": b, "c": c, "d": d}


def rmsprop_twin(x, y, start, steps, lr, seed):
    powers = np.stack([x.numpy() ** k for k in range(4)])
    w, v = np.array([start[n] for n in "abcd"]), np.zeros(4)
    losses = []
    for _ in range(steps):
        error = w @ powers - y.numpy()
        losses.append(np.square(error).sum())
        g = 2 * powers @ error
        v = 0.99 * v + 0.01 * g**2
        w = w - 1000 * lr * g / (np.sqrt(v) + 1e-8)
    return {"loss": losses, **dict(zip("abcd", w, strict=True))}


def control_flow(x, y, start, steps, lr, seed):
    class Dynamic(nn.Module):
        """Degree 3, 4 or 5, drawn anew at each call; the fourth and the fifth power share one weight e."""

        def __init__(self):
            super().__init__()
            self.draws = random.Random(seed)
            for name in "abcde":
                setattr(self, name, nn.Parameter(torch.tensor(start.get(name, 0.0), dtype=x.dtype)))

        def forward(self, x):
            y = self.a + self.b * x + self.c * x**2 + self.d * x**3
            for power in range(4, self.draws.randint(4, 6)):
                y = y + self.e * x**power
            return y

    model = Dynamic()
    loss_fn = nn.MSELoss(reduction="sum")
    optimizer = torch.optim.SGD(model.parameters(), lr=lr / 100, momentum=0.9)
    losses = []
    for _ in range(steps):
        loss = loss_fn(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"loss": losses, **dict(model.named_parameters())}


def control_flow_twin(x, y, start, steps, lr, seed):
    x, y, draws = x.numpy(), y.numpy(), random.Random(seed)
    w, m = np.array([*(start[n] for n in "abcd"), 0.0]), np.zeros(5)
    losses = []
    for _ in range(steps):
        degree = draws.randint(4, 6) - 1
        shared = (degree >= 4) * x**4 + (degree >= 5) * x**5
        features = np.stack([x**0, x, x**2, x**3, shared])
        error = w @ features - y
        losses.append(np.square(error).sum())
        used = np.array([True, True, True, True, degree >= 4])  # torch.optim passes over a parameter without gradient
        m = np.where(used, 0.9 * m + 2 * features @ error, m)
        w = np.where(used, w - lr / 100 * m, w)
    return {"loss": losses, **dict(zip("abcde", w, strict=True))}


SLOPE = "1.5 * (5 * u**2 - 1)"
SLIPS = {
    "the factor 3/2 forgotten": "5 * u**2 - 1",
    "u**3 differentiated to u**2": "0.5 * (5 * u**2 - 3)",
    "the sign of the second term": "1.5 * (5 * u**2 + 1)",
    "the second term forgotten": "7.5 * u**2",
    "the function for its slope": "0.5 * (5 * u**3 - 3 * u)",
}

GROUPS = (
    ("numpy", "tensors", "autograd", "nn", "optim", "own module", "formulas"),
    ("custom function", "custom function by hand"),
    ("RMSprop", "RMSprop by hand"),
    ("control flow", "control flow by hand"),
)

WAYS = {
    "numpy": numpy,
    "tensors": tensors,
    "autograd": autograd,
    "custom function": custom_function,
    "nn": nn_package,
    "optim": optim,
    "RMSprop": rmsprop,
    "own module": own_module,
    "control flow": control_flow,
    "formulas": formulas,
    "custom function by hand": custom_function_twin,
    "RMSprop by hand": rmsprop_twin,
    "control flow by hand": control_flow_twin,
}


def by(arithmetic, parameters, forward, gradient, loss, update):
    return {
        "arithmetic": arithmetic,
        "keeps the parameters": parameters,
        "forward pass": forward,
        "gradient": gradient,
        "loss": loss,
        "update": update,
    }


DOES = {
    "numpy": by("numpy", "you", "you", "you", "you", "you"),
    "tensors": by("torch.Tensor", "you", "you", "you", "you", "you"),
    "autograd": by("torch.Tensor", "you", "you", "autograd", "you", "you"),
    "custom function": by("torch.Tensor", "you", "you", "autograd, and you for P3", "you", "you"),
    "nn": by("torch.Tensor", "nn.Linear", "nn.Sequential", "autograd", "nn.MSELoss", "you"),
    "optim": by("torch.Tensor", "nn.Linear", "nn.Sequential", "autograd", "nn.MSELoss", "torch.optim"),
    "own module": by("torch.Tensor", "your nn.Module", "you, in its forward", "autograd", "nn.MSELoss", "torch.optim"),
    "control flow": by(
        "torch.Tensor", "your nn.Module", "you, with if and for", "autograd", "nn.MSELoss", "torch.optim"
    ),
    "formulas": by("torch.Tensor", "Backproof", "a formula", "Backproof's graph", "a formula", "Backproof's formula"),
}


def work(points, steps, lr, seed):
    if not (2 <= points <= 1_000_000 and 1 <= steps <= 20_000 and points * steps <= 40_000_000):
        raise bp.InputError(
            f"points = {points} and steps = {steps}: from 2 points and 1 step on, up to 20,000 steps "
            "and 40 million points times steps, so that the tour stays under a few minutes"
        )
    if not 0 < lr < 1:
        raise bp.InputError(f"lr must be between 0 and 1, not {lr}; the tour's own is 1e-6")
    if not 0 <= seed < 2**32:
        raise bp.InputError(f"seed must be a whole number from 0 to 2**32 - 1, not {seed}")
    x = torch.linspace(-math.pi, math.pi, points, dtype=torch.float64)
    y = torch.sin(x)
    start = dict(zip("abcd", np.random.default_rng(seed).standard_normal(4).tolist(), strict=True))
    answer = same(WAYS, groups=GROUPS, does=DOES, x=x, y=y, start=start, steps=steps, lr=lr, seed=seed)
    return answer + hand_written(Legendre3, 0.3 * x, SLOPE, SLIPS) + limits(x, y, lr, answer.answers["ways"]["numpy"])


def limits(x, y, lr, reached):
    powers = torch.stack([x**k for k in range(4)], 1)
    best = torch.linalg.lstsq(powers, y.unsqueeze(1), driver="gelsd").solution
    optimum = float((powers @ best - y.unsqueeze(1)).square().sum())
    limit = 2 / float(torch.linalg.eigvalsh(2 * powers.T @ powers)[-1])
    remarks = [
        f"The loss is the sum over the points. The best third-order polynomial has the loss {optimum:.6g}; gradient "
        f"descent has reached {reached:.6g}. It converges for learning rates below {limit:.3g} (2 over the largest "
        f"second derivative); here it is {lr:g}" + (", which is too much." if lr >= limit else "."),
        "A loss is that of the last forward pass, before the last update, as the tutorial prints it.",
        "The custom Function fits a + b P3(c + d x), RMSprop takes other steps, and control flow draws another degree "
        "in each step: these compute something else than the seven others, so each is compared with a twin of its own, "
        "written by hand in numpy.",
        "With RMSprop the rate is 1000 lr, with the custom Function 5 lr, with control flow lr / 100 and momentum 0.9.",
        "Where control flow draws degree 3, the shared weight e takes no part: zero_grad() leaves its gradient None, and "
        "torch.optim then passes over it altogether. Its momentum waits; it is not applied, and it does not decay.",
    ]
    return bp.Answer({"optimum": optimum, "lr_limit": limit}, remarks=tuple(remarks))


problem = bp.Exercise(
    work,
    title="PyTorch by examples: one polynomial in many ways",
    about="Fit a + b x + c x^2 + d x^3 to sin(x) on [-pi, pi] with numpy by hand, with tensors by hand, with autograd, "
    "with a custom autograd Function, with nn, with optim, with a module of one's own, and with control flow and shared "
    "weights. Where they compute the same, do they agree, and what did each take over from the one before?",
    settings={"points": 2000, "steps": 2000, "lr": 1e-6, "seed": 0},
)
