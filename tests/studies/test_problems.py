"""The built-in problems against numbers computed elsewhere, and the settings that they take."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import backproof as bp

X = np.array([3.3, 4.4, 5.5, 6.71, 6.93, 4.168, 9.779, 6.182, 7.59, 2.167, 7.042, 10.791, 5.313, 7.997, 3.1])
Y = np.array([1.7, 2.76, 2.09, 3.19, 1.694, 1.573, 3.366, 2.596, 2.53, 1.221, 2.827, 3.465, 1.65, 2.904, 1.3])


def test_relu_tanh_net_as_published() -> None:
    solution = bp.solve("uva-dl-1/relu-tanh-net")
    assert solution.answers["losses"] == pytest.approx([1.9666450570, 1.8848887321, 1.8178407616], abs=5e-11)
    assert solution.answers["loss_after"] == pytest.approx(1.7609538738, abs=5e-11)
    gradient = solution.steps[0].parameters["w"].gradient
    assert gradient is not None
    assert gradient.tolist() == pytest.approx([-0.40793060, -0.81650279, 0.07336175], abs=5e-9)


def _by_hand(lr: float, reduction: str, batch: str, passes: int) -> tuple[np.ndarray, np.ndarray]:
    """The network in numpy, written from the sheet."""
    w_1 = np.array([[0.60, 0.70, 0.00], [0.01, 0.43, 0.88]])
    w_2 = np.array([0.02, 0.03, 0.09])
    x = np.array([[0.75, 0.80], [0.20, 0.05], [-0.75, 0.80], [0.20, -0.05]])
    y = np.array([1, 1, -1, -1.0])
    rows = [slice(None)] if batch == "full" else [slice(i, i + 1) for i in range(4)]
    for _ in range(passes):
        for row in rows:
            s = x[row] @ w_1
            z = np.maximum(s, 0)
            out = np.tanh(z @ w_2)
            delta = (out - y[row]) * (1 - out**2) / (len(out) if reduction == "mean" else 1)
            back = np.outer(delta, w_2) * (s > 0)
            w_1, w_2 = w_1 - lr * x[row].T @ back, w_2 - lr * z.T @ delta
    return w_1, w_2


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("batch", ["full", "sample"])
def test_relu_tanh_net_under_every_convention(reduction: str, batch: str) -> None:
    solution = bp.solve("uva-dl-1/relu-tanh-net", lr=0.5, reduction=reduction, batch=batch, steps=3)
    w_1, w_2 = _by_hand(0.5, reduction, batch, 3)
    assert np.array(solution.answers["W"]) == pytest.approx(w_1, abs=1e-13)
    assert np.array(solution.answers["w"]) == pytest.approx(w_2, abs=1e-13)
    assert len(solution.steps) == (3 if batch == "full" else 12)
    assert not solution.finding


def test_the_sine_neuron_is_exact() -> None:
    solution = bp.solve("ctu-vir-3/sine-neuron")
    exact = solution.answers["exact"]
    assert exact["y"] == "0" and exact["dL/dw"] == ["-8", "-4"] and exact["w_after"] == ["pi/2 + 4", "2 + pi"]
    assert solution.answers["accumulated"] == [-6.0, -3.0]
    assert solution.answers["accumulated_loss_after"] == pytest.approx(1.128, abs=5e-4)
    assert any("raises the loss" in r for r in solution.remarks)
    assert any("out of reach" in r for r in solution.remarks)


def test_a_reachable_label_is_not_called_out_of_reach() -> None:
    assert not any("out of reach" in r for r in bp.solve("ctu-vir-3/sine-neuron", t=1).remarks)
    assert any("out of reach" in r for r in bp.solve("ctu-vir-3/sine-neuron", t=1, b=3).remarks)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_any_dimension(size: int) -> None:
    x, w = [0.5 * (i + 1) for i in range(size)], [0.3 - 0.1 * i for i in range(size)]
    solution = bp.solve("ctu-vir-3/sine-neuron", x=x, w=w, t=0.25, lr=0.1)
    u = float(np.dot(x, w))
    expected = [2 * (math.sin(u) - 0.25) * math.cos(u) * v for v in x]
    assert solution.answers["dL/dw"] == pytest.approx(expected)
    assert solution.answers["w_after"] == pytest.approx([a - 0.1 * g for a, g in zip(w, expected, strict=True)])


def test_linear_regression_as_published() -> None:
    answers = bp.solve("epfl-ml-12/linear-regression").answers
    assert [round(answers["losses"][i], 4) for i in (0, 10, 20, 30, 40)] == [5.9467, 1.1699, 0.3857, 0.2567, 0.2352]
    w, b = np.polyfit(X, Y, 1)
    assert answers["optimum"]["w"] == pytest.approx(w, rel=1e-9) and answers["optimum"]["b"] == pytest.approx(
        b, rel=1e-9
    )
    assert answers["optimum"]["mse"] == pytest.approx(np.mean((w * X + b - Y) ** 2))
    hessian = 2 * np.array([[np.mean(X * X), np.mean(X)], [np.mean(X), 1]])
    assert answers["hessian_eigenvalues"] == pytest.approx(np.linalg.eigvalsh(hessian).tolist())
    assert answers["lr_limit"] == pytest.approx(0.023149, abs=5e-7)


def test_what_uncleared_gradients_do() -> None:
    found = bp.solve("epfl-ml-12/linear-regression").answers["uncleared"]["losses"]
    w = b = gw = gb = 0.0
    losses = []
    for _ in range(50):
        e = w * X + b - Y
        losses.append(float(np.mean(e**2)))
        gw, gb = gw + float(np.mean(2 * e * X)), gb + float(np.mean(2 * e))
        w, b = w - 1e-3 * gw, b - 1e-3 * gb
    assert found == pytest.approx(losses)


def test_the_nn_package_explains_its_difference() -> None:
    solution = bp.solve("epfl-ml-12/nn-package", seed=3)
    assert len(solution.answers["losses"]) == 100
    assert "starts differ" in solution.answers["why"] and "converged" in solution.answers["why"]
    torch.manual_seed(3)
    line = torch.nn.Linear(1, 1)
    assert solution.steps[0].parameters["weight"].before.item() == line.weight.item()


OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {"lr": 0.1, "momentum": 0.9}),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("sgd", {"lr": 0.1, "momentum": 0.5, "dampening": 0.5}),
    ("adam", {"lr": 0.01}),
    ("adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}),
    ("adamw", {"lr": 0.01, "beta1": 0.8}),
]


@pytest.mark.parametrize(("name", "settings"), OPTIMIZERS)
def test_every_optimizer_is_torchs(name: str, settings: dict[str, Any]) -> None:
    solution = bp.solve("uva-dl-1/relu-tanh-net", optimizer=name, steps=4, **settings)
    assert not solution.finding
    assert any(e.oracle == "torch.optim" and e.agrees for e in solution.evidence)


@pytest.mark.parametrize("settings", [
    {"lr": "abc"}, {"lr": float("nan")}, {"lr": -1}, {"steps": 0}, {"steps": 10**9}, {"steps": 1.5}, {"batch": "half"},
    {"reduction": "max"}, {"x": [1, 2, 3]}, {"w": [[1, 2, 3]]}, {"w": []}, {"x": ["a", "b"]}, {"momentum": True}, {"nesterov": True},
    {"nothing": 1}, {"t": float("inf")}, {"optimizer": "sdg"}, {"beta1": 1.0, "optimizer": "adam"}, {"w": "9**9**9**9"},
    {"symbols": 3}, {"index_base": 2}, {"layout": "diagonal"},
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(bp.BackproofError) as caught:
        bp.solve("ctu-vir-3/sine-neuron", **settings)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_a_run_that_diverges_says_so() -> None:
    solution = bp.solve("epfl-ml-12/linear-regression", lr=1.0, steps=2000)
    assert any("diverged" in r for r in solution.remarks)
    assert len(solution.steps) < 2000
    assert "Infinity" not in solution.json() and "NaN" not in solution.json()


def test_exact_arithmetic_gives_up_in_the_open() -> None:
    """Three updates of a sine neuron grow past any page; the rest is in floats and said to be."""
    solution = bp.solve("ctu-vir-3/sine-neuron", steps=6, lr="1/7")
    assert solution.steps[0].exact and not solution.steps[-1].exact
    assert any("floating point" in r for r in solution.remarks)
    assert not solution.finding
