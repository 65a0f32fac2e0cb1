"""The graph of a formula and its second reading straight into torch agree, function by function and at random."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings

from backproof.domains import kernels
from backproof.domains import numbers as numbers_module
from backproof.formula import read as reading
from backproof.formula import read_model
from backproof.formula.read import FUNCTIONS
from backproof.formula.witness import witness
from backproof.ops import OPS, Elementwise

from .samples import SHAPES, VALUES, agree, agree_in_gradients, random_formulas

ELEMENTWISE = [op for op in OPS.values() if isinstance(op, Elementwise)]
OPERANDS = {"acosh": ["X + 1"], "where": ["X > 0.5", "Y", "w"], "logical_and": ["X > 0.5", "w"], "logical_or": ["X > 0.5", "w - w"],
            "logical_not": ["X > 0.5"]}  # fmt: skip


def _settings(op: Elementwise) -> list[str]:
    tries = [dict(e.attrs) for e in op.examples]
    unique = [t for i, t in enumerate(tries) if t not in tries[:i]]
    return ["".join(f", {key}={value!r}" for key, value in attrs.items()) for attrs in unique]


CALLS = [
    f"{op.name}({', '.join(OPERANDS.get(op.name, ['X', 'Y', 'w'][: len(op.operands)]))}{setting})"
    for op in ELEMENTWISE
    for setting in _settings(op)
]
NUMBERS = [
    f"{op.name}({pair}{_settings(op)[0]})"
    for op in ELEMENTWISE
    if len(op.operands) == 2
    for pair in ("X, 0.5", "0.5, X", "X, k", "k, X", "X, w")
]


@pytest.mark.parametrize("text", [*CALLS, *NUMBERS])
def test_elementwise(text: str) -> None:
    agree(text)
    if OPS[text.partition("(")[0]].differentiable and text != "hinge_embedding_error(0.5, X)":  # flat in its label
        assert agree_in_gradients(text) > 0


@pytest.mark.parametrize("alias", reading._ALIASES)
def test_aliases(alias: str) -> None:
    agree(f"{alias}(X)")


FOLDS = ["X", "x", "k", "X, dim=0", "X, axis=1", "X, dim=-1, keepdim=True", "X, keepdim=1", "X, dim=(0, 1)"]
WHOLE: dict[str, list[str]] = {
    **dict.fromkeys(("sum", "mean", "logsumexp", "norm"), FOLDS),
    "max": [*FOLDS, "X, Y", "X, 0.5", "0.5, X", "x, k", "X, w"],
    "min": [*FOLDS, "X, Y", "X, 0.5", "0.5, X", "x, k", "X, w"],
    "softmax": ["X", "X, dim=0", "X, axis=1", "x"],
    "log_softmax": ["X", "X, dim=0", "X, axis=1", "x"],
    "transpose": ["X", "x", "k"],
    "reduce": ["X", "x", "k"],
    "dot": ["x, w", "X, M", "X, x"],
    "matmul": ["X, M", "M, X", "x, w", "v, X"],
    "outer": ["x, w", "w, x"],
}


@pytest.mark.parametrize("text", [f"{name}({args})" for name, calls in WHOLE.items() for args in calls])
def test_functions(text: str) -> None:
    agree(text)
    assert agree_in_gradients(text) > 0


def test_no_function_is_forgotten() -> None:
    assert {*WHOLE, "index"} == set(FUNCTIONS)


@pytest.mark.parametrize("text", ["X.T", "x.T", "k.T", "X[0]", "X[:, 1]", "X[0, 1]", "X[-1]", "X[:, 0:2]", "x[::2]", "x > 0.5",
                                  "(x > 0.5) * 2", "-(x > 0.5)", "mean(x > 0.5)", "softmax(x > 0.5)", "sum(X == X)", "where(x, w, 2)",
                                  "where(0, x, w)", "logical_and(x, 0)", "2**k", "k**x", "5 > 3", "X @ w", "w @ w", "relu(-1)", "3",
                                  "X != Y", "X >= 0.4", "(X < Y) @ x", "abs(x < 0.5)", "X.T @ (Y > 0.5)", "(x > 0.5)[1]",
                                  "index(x)", "index(X)", "index(X, dim=0) * X", "(index(x) == 1) * x", "tanh'(x)", "exp''(X)",
                                  "gelu'(x)", "clamp'(x, min=0)"])  # fmt: skip
def test_syntax(text: str) -> None:
    agree(text)


@pytest.mark.parametrize(("reduction", "fold"), [("sum", torch.sum), ("mean", torch.mean)])
def test_reduce_means_what_the_problem_says(reduction: str, fold: Any) -> None:
    assert torch.equal(agree("reduce(X * 2)", reduction), fold(VALUES["X"] * 2))


def test_every_named_step_and_a_gradient() -> None:
    formulas = {"s": "X @ w + k", "z": "tanh(s)", "L": "reduce((z - v)**2 / 2)"}
    graph = read_model(formulas, SHAPES, roles={"w": "parameter"})
    found = witness(graph.origin, VALUES)
    assert list(found) == ["s", "z", "L"]
    assert agree_in_gradients("reduce((tanh(X @ w + k) - v)**2 / 2)") == 4


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(random_formulas())
def test_random_formulas(text: str) -> None:
    agree_in_gradients(text)


# --- the witness can disagree -----------------------------------------------------------------------------------------
def test_a_wrong_kernel_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers_module._kernel.cache_clear()
    monkeypatch.setitem(kernels.KERNELS, "tanh", "torch.tanh(x) + 1e-9")
    with pytest.raises(AssertionError):
        agree("tanh(X)")
    monkeypatch.undo()
    numbers_module._kernel.cache_clear()


def test_a_wrong_slope_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers_module._kernel.cache_clear()
    monkeypatch.setitem(kernels.SLOPES, "tanh'", "1 - torch.tanh(x)")
    with pytest.raises(AssertionError):
        agree_in_gradients("tanh(X)")
    monkeypatch.undo()
    numbers_module._kernel.cache_clear()


def test_a_wrong_reading_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FUNCTIONS, "sum", FUNCTIONS["mean"])
    with pytest.raises(AssertionError):
        agree("sum(X)")
