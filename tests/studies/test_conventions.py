"""Conventions: layouts, index base and symbols change what is shown, consistently, and never the numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import backproof as bp
from backproof.document.blocks import Derivation, Details, Equation, Section
from backproof.document.math import Matrix, Mul, Num, Sym, Transpose

NET = "uva-dl-1/relu-tanh-net"


def equations(blocks: tuple[object, ...]) -> list[Equation]:
    found: list[Equation] = []
    for block in blocks:
        if isinstance(block, Derivation):
            found += block.equations
        elif isinstance(block, (Section, Details)) or hasattr(block, "blocks"):
            found += equations(block.blocks)
    return found


def _matrix(expr: object) -> np.ndarray | None:
    if isinstance(expr, Matrix):
        return np.array([[n.value if isinstance(n, Num) else np.nan for n in row] for row in expr.rows])
    return None


@pytest.mark.parametrize("layout", ["rows", "columns", "torch"])
@pytest.mark.parametrize("kind", ["toml", "module"])
def test_products_as_shown_multiply_out(layout: str, kind: str) -> None:
    """S = X W with the shown X and W gives the shown S, whichever way the page lays them out."""
    solution = bp.solve(NET if kind == "toml" else _module_problem(), layout=layout, steps=1)
    shown: dict[str, np.ndarray] = {}
    products = 0
    for equation in equations(solution.document().blocks):
        if not isinstance(equation.left, Sym):
            continue
        key = f"{equation.left.name}{equation.left.sub}{equation.left.sup}"
        value = _matrix(equation.steps[-1])
        if value is not None and key not in shown:
            shown[key] = value
        formula = equation.steps[0]
        if value is not None and isinstance(formula, Mul) and formula.style == "matrix" and len(formula.factors) == 2:
            factors = [_value(f, shown) for f in formula.factors]
            if all(f is not None and min(f.shape) > 1 for f in factors):
                assert factors[0] @ factors[1] == pytest.approx(value, abs=1e-12)  # type: ignore[operator]
                products += 1
    assert products >= 1


def _value(expr: object, shown: dict[str, np.ndarray]) -> np.ndarray | None:
    if isinstance(expr, Transpose):
        inner = _value(expr.arg, shown)
        return None if inner is None else inner.T
    if isinstance(expr, Sym):
        return shown.get(f"{expr.name}{expr.sub}{expr.sup}")
    return None


def _module_problem() -> bp.Problem:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Tanh(), nn.Linear(3, 2, bias=False))
    return bp.Problem(net, torch.randn(4, 2), torch.randn(4, 2), loss="mse", optimizer="sgd", steps=1)


@pytest.mark.parametrize("layout", ["rows", "columns", "torch", "own"])
def test_the_numbers_do_not_depend_on_the_layout(layout: str) -> None:
    plain, other = bp.solve(NET), bp.solve(NET, layout=layout)
    assert other.answers == plain.answers and not other.finding


def test_indices_count_from_where_the_reader_counts() -> None:
    one, zero = bp.solve(NET, steps=1).text(), bp.solve(NET, steps=1, index_base=0).text()
    assert "s₁₁ = X₁₁W₁₁ + X₁₂W₂₁" in one
    assert "s₀₀ = X₀₀W₀₀ + X₀₁W₁₀" in zero


def test_the_readers_own_symbols() -> None:
    text = bp.solve(NET, symbols={"s": "a", "z": "h"}, steps=1).text()
    assert "h = ReLU(a)" in text and not re.search(r"\bz = ReLU", text)


TEMPLATE = '''
import torch
import backproof as bp

class LinearRegression:
    """As a course template has it: no nn.Module, parameters() and a call."""

    def __init__(self):
        self.w = torch.zeros(1, requires_grad=True)
        self.inner = {"b": torch.zeros(1, requires_grad=True)}

    def parameters(self):
        return [self.w, self.inner["b"]]

    def __call__(self, x):
        y = x * self.w + self.inner["b"]
        return y

def mse(y, t):
    return ((y - t) ** 2).mean()

problem = bp.Problem(LinearRegression, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 7.0]), loss=mse,
                     optimizer=(torch.optim.SGD, {"lr": 0.1}), steps=2, ask=("optimum",))
'''


def test_a_plain_class(tmp_path: Path) -> None:
    path = tmp_path / "template.py"
    path.write_text(TEMPLATE)
    solution = bp.solve(path)
    assert set(solution.steps[0].parameters) == {"w", "inner_b"}
    assert "y" in solution.steps[0].values
    assert solution.steps[0].parameters["w"].gradient.tolist() == pytest.approx([-62 / 3])  # type: ignore[union-attr]
    slope, offset = np.polyfit([1, 2, 3], [2, 4, 7], 1)
    assert solution.answers["optimum"]["w"] == pytest.approx(slope)
    assert solution.answers["optimum"]["inner_b"] == pytest.approx(offset)
    changed = bp.solve(path, w=[0.5], lr=0.2)
    assert changed.steps[0].parameters["w"].before.tolist() == [0.5]
