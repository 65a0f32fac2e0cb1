"""Nesterov's momentum and Adamax under the same constant gradient, with some of the numbers put in."""

import backproof as bp

RULES = {
    "nesterov": ("sgd", {"lr": "lr", "momentum": "mu", "nesterov": True}),
    "adamax": ("adamax", {"lr": "lr", "beta1": "beta1", "beta2": 0.99}),
}


def work(g, t, lr, mu, beta1):
    """Solve both rules under the gradient g."""
    values = {"g": g, "t": t, "lr": lr, "mu": mu, "beta1": beta1}
    return bp.constant_gradient(RULES, values, gradient="g")


problem = bp.Exercise(
    work,
    title="Nesterov's momentum and Adamax",
    about="Where do both stand after t updates with the same gradient g?",
    settings={"g": "g", "t": 20, "lr": 0.1, "mu": "mu", "beta1": 0.8},
)
