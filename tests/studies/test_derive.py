"""Derivations: what is printed is right for any functions, at any depth, and its evidence notices what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from torch import nn

import backproof as bp
from backproof import vjps
from backproof.formula.parse import parse
from backproof.problems.problem import FormulaProblem
from backproof.studies.derivation import by_sympy as derive_sympy

CHAIN = {"x": "symbol", "t": "symbol", "W1": "symbol", "W2": "symbol", "Wout": "symbol",
         "f1": "function", "f2": "function", "f3": "function"}  # fmt: skip


def chain(depth: int) -> FormulaProblem:
    """A chain of so many layers, the last with the letters of its number."""
    given: dict[str, Any] = {"x": "symbol", "t": "symbol"}
    model, before = {}, "x"
    for k in range(1, depth + 1):
        given |= {f"W{k}": "symbol", f"f{k}": "function"}
        model |= {f"s{k}": f"W{k} * {before}", f"z{k}": f"f{k}(s{k})"}
        before = f"z{k}"
    model["L"] = f"({before} - t)**2 / 2"
    return FormulaProblem("chain", given, model, parameters=tuple(f"W{k}" for k in range(1, depth + 1)))


def worth(formula: str, values: dict[str, Any], functions: dict[str, Any]) -> Any:
    """A typed formula with its numbers, f' spelled as the derivative; read by SymPy and by nothing of ours."""
    x = sympy.Symbol("x")
    names = dict(values)
    for name, function in functions.items():
        slope, curve = sympy.diff(function(x), x), sympy.diff(function(x), x, 2)
        names |= {
            name: function,
            f"{name}_1": lambda v, s=slope: s.subs(x, v),
            f"{name}_2": lambda v, s=curve: s.subs(x, v),
        }
    return sympy.sympify(formula.replace("''(", "_2(").replace("'(", "_1("), locals=names)


def forward(problem: FormulaProblem, leaves: dict[str, Any], functions: dict[str, Any]) -> dict[str, Any]:
    """Every quantity as SymPy computes it from the formulas."""
    values = dict(leaves)
    for name, formula in problem.model.items():
        values[name] = worth(formula, values, functions).evalf(60)
    return values


FUNCTIONS = [sympy.sin, lambda v: sympy.exp(v / 3), sympy.tanh, lambda v: v**3 / 5 - v, sympy.atan, lambda v: v**2 + 1]
CASES = {
    "five layers": chain(5),
    "one layer": chain(1),
    "skip": FormulaProblem(
        "skip", {**CHAIN, "f2": "function"},
        {"s1": "W1 * x", "z1": "f1(s1)", "s2": "W2 * z1 + x", "z2": "f2(s2) + z1", "s_out": "Wout * z2", "y": "f3(s_out)",
         "L": "(y - t)**2 / 2"}, parameters=("W1", "W2", "Wout")),
    "shared": FormulaProblem(
        "shared", {"x": "symbol", "t": "symbol", "w": "symbol", "f1": "function"},
        {"s1": "w * x", "h": "f1(s1)", "s2": "w * h", "y": "f1(s2)", "L": "(y - t)**2"}, gradients=("L/w",)),
    "products": FormulaProblem(
        "products", {"a": "symbol", "b": "symbol", "f1": "function", "f2": "function"},
        {"u": "f1(a * b) * f2(a) / b", "L": "u + f1'(a)"}, gradients=("L/a", "L/b")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_answers_are_the_derivatives_for_any_functions(name: str) -> None:
    problem = CASES[name]
    derived = bp.solve(problem)
    assert isinstance(derived, bp.Derived) and not derived.finding
    assert {e.oracle for e in derived.evidence if e.agrees} == {
        "autograd", "central differences in 50 digits", "SymPy's own derivative",
    }  # fmt: skip
    declared = [n for n, v in problem.given.items() if v == "function"]
    for seed in (1, 2):
        random = np.random.default_rng(seed)
        functions = {n: FUNCTIONS[(i + 2 * seed) % len(FUNCTIONS)] for i, n in enumerate(declared)}
        leaves = {n: sympy.Rational(int(random.integers(2, 19)), 10) for n, v in problem.given.items() if v == "symbol"}
        values, h = forward(problem, leaves, functions), sympy.Rational(1, 10**12)
        for wrt in [n.name for n in derived.work.wrt]:
            ends = [forward(problem, {**leaves, wrt: leaves[wrt] + sign * h}, functions)["L"] for sign in (1, -1)]
            slope = (ends[0] - ends[1]) / (2 * h)
            ours = worth(derived.answers[f"dL/d{wrt}"], values, functions).evalf(40)
            assert abs(ours - slope) < 1e-15 * max(1, abs(slope))


def test_the_sheet() -> None:
    derived = bp.solve("uva-dl-1/chain-rule")
    assert derived.answers["dL/dWout"] == "(y - t) * f3'(s_out) * z2"
    assert derived.answers["dL/dW1"] == "(y - t) * f3'(s_out) * Wout * f2'(s2) * W2 * f1'(s1) * x"
    assert derived.answers["delta"]["delta_2"] == "delta_out * Wout * f2'(s2)"
    assert derived.answers["recursion"] == "delta_{k-1} = delta_k * W_k * f_{k-1}'(s_{k-1})"
    assert any('"dL/dW1"' in r for r in derived.remarks)
    record = derived.to_dict()
    assert record["steps"] == [] and all({"name", "formula", "rule"} <= set(e) for e in record["derivation"])
    assert [e.phase for e in derived.equations].count("backward") == 3
    assert "δ_out Wout" not in derived.text() and max(map(len, derived.text().splitlines())) <= 80


def test_the_reader_reads_its_own_formulas_back() -> None:
    for formula in bp.solve(CASES["products"]).answers["in_deltas"].values():
        parse(formula)
    back = FormulaProblem("back", {**CHAIN, "y": "symbol", "s_out": "symbol", "z2": "symbol"},
                          {"g": bp.solve("uva-dl-1/chain-rule").answers["dL/dWout"]}, gradients=("g/s_out",))  # fmt: skip
    assert bp.solve(back).answers["dg/ds_out"] == "z2 * (y - t) * f3''(s_out)"


def test_size_is_linear_in_depth() -> None:
    short, long = (sum(len(e.text) for e in bp.solve(chain(n)).equations if e.phase != "expanded") for n in (6, 12))
    assert long < 2.4 * short


def test_many_branches_are_not_written_out() -> None:
    """Each skip doubles what lies behind it; the derivation stays linear and the exponential form is left out."""
    given, model, before = {"x": "symbol", "f": "function"}, {}, "x"
    for k in range(1, 25):
        given[f"w{k}"] = "symbol"
        model |= {f"s{k}": f"w{k} * {before}", f"z{k}": f"tanh(f(s{k})) + {before}"}
        before = f"z{k}"
    derived = bp.solve(FormulaProblem("deep", given, {**model, "L": f"{before}**2"}))
    assert not derived.finding and not [e for e in derived.equations if e.phase == "expanded"]
    assert len(derived.answers["dL/dw1"]) < 40 and len(derived.text()) < 60_000


def test_mixed_and_shaped_problems() -> None:
    mixed = bp.solve(FormulaProblem("m", {"x": 2, "t": 1, "w": "symbol", "f": "function"},
                                    {"s": "w * x", "y": "tanh(s) + f(s)", "L": "(y - t)**2"}))  # fmt: skip
    assert not mixed.finding and list(mixed.answers) == ["dL/dw", "delta", "in_deltas"]
    shaped = bp.solve(FormulaProblem(
        "s", {"X": {"symbol": [4, 3]}, "t": {"symbol": [4]}, "W": {"symbol": [3, 2]}, "v": {"symbol": [2]}, "f": "function"},
        {"S": "X @ W", "Z": "f(S)", "y": "Z @ v", "L": "sum((y - t)**2)"}, parameters=("W", "v")))  # fmt: skip
    assert not shaped.finding and len({e.oracle for e in shaped.evidence if e.agrees}) == 3
    values = {
        n.name: torch.randn(n.shape, dtype=torch.float64) for n in shaped.work.graph.nodes if n.is_leaf and n.shape
    }
    found = shaped.evaluate({**values, "f": "x**3 - x", "unknown": 3})
    tracked = {n: v.requires_grad_() for n, v in values.items()}
    s = tracked["X"] @ tracked["W"]
    loss = (((s**3 - s) @ tracked["v"] - tracked["t"]) ** 2).sum()
    for name in ("W", "v"):
        assert torch.allclose(found[name], torch.autograd.grad(loss, tracked[name], retain_graph=True)[0], rtol=1e-12)


@pytest.mark.parametrize("function", ["tanh", torch.tanh, sympy.tanh, "sin(x)/cos(x)*0 + tanh(x)"])
def test_what_may_be_put_in_for_a_function(function: Any) -> None:
    derived = bp.solve(CASES["shared"])
    found = derived.evaluate({"x": 0.5, "t": 0.25, "w": 1.5, "f1": function})["w"]
    w = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    loss = (torch.tanh(w * torch.tanh(w * 0.5)) - 0.25) ** 2
    assert torch.allclose(found, torch.autograd.grad(loss, w)[0], rtol=1e-12)


def test_what_is_missing_is_said() -> None:
    derived = bp.solve(CASES["shared"])
    for values, says in [({"f1": "tanh"}, "symbol without a number"), ({"x": 1, "t": 1, "w": 1}, "is arbitrary"),
                         ({"x": [1, 2], "t": 1, "w": 1, "f1": "tanh"}, "has the shape"),
                         ({"x": 1, "t": 1, "w": 1, "f1": "nothing("}, "no formula in x"),
                         ({"x": "a", "t": 1, "w": 1, "f1": "sin"}, "must be numbers")]:  # fmt: skip
        with pytest.raises(bp.InputError, match=says):
            derived.evaluate(values)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.a(x))
        r = h + x
        return self.b(r)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_modules(loss: str) -> None:
    torch.manual_seed(3)
    net, x = Net().double(), torch.randn(4, 3, dtype=torch.float64)
    t = torch.randint(0, 2, (4,)) if loss == "cross_entropy" else torch.randn(4, 2, dtype=torch.float64)
    derived = bp.derive(net, x, loss=loss, targets=t)
    assert not derived.finding and any(e.agrees for e in derived.evidence)
    other = torch.randn(4, 3, dtype=torch.float64)
    weight = torch.randn(3, 3, dtype=torch.float64)
    found = derived.evaluate({"x": other, "a.weight": weight})
    with torch.no_grad():
        net.a.weight.copy_(weight)
    getattr(torch.nn.functional, loss + ("_loss" if loss == "mse" else ""))(net(other), t).backward()
    for name, parameter in net.named_parameters():
        assert torch.allclose(found[name], parameter.grad, rtol=1e-10, atol=1e-13)


def test_a_wrong_rule_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the product's rule broken, autograd, differences and SymPy all disagree."""

    def wrong(r: Any) -> Any:
        return tuple(r.to(r.times(r.delta, r.x[i]), i) if r.needs(i) else None for i in (0, 1))

    monkeypatch.setitem(vjps.VJPS, "mul", wrong)
    derived = bp.solve("uva-dl-1/chain-rule")
    assert derived.finding
    assert {e.oracle for e in derived.evidence if e.agrees is False} == {
        "autograd", "central differences in 50 digits", "SymPy's own derivative",
    }  # fmt: skip


def test_sympy_notices_a_wrong_printed_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    value = derive_sympy._value
    monkeypatch.setattr(derive_sympy, "_value", lambda expr, values: 2 * value(expr, values))
    rows = [e.agrees for e in bp.solve(CASES["shared"]).evidence if e.oracle == "SymPy's own derivative"]
    assert rows == [False]


@pytest.mark.parametrize(
    ("given", "model", "says"),
    [
        ({"f": "function"}, {"L": "f + 1"}, "without an argument"),
        ({"f": "function", "x": "symbol"}, {"L": "f(x, x)"}, "has one"),
        ({"sin": "function", "x": "symbol"}, {"L": "sin(x)"}, "rename"),
        ({"f": "function", "x": "symbol"}, {"f": "x + 1"}, "is given and computed"),
        ({"x": {"symbol": [0]}}, {"L": "sum(x)"}, "a shape is a list"),
        ({"x": {"symbol": ["n"]}}, {"L": "sum(x)"}, "a shape is a list"),
        ({"x": {"symbol": [10**9]}}, {"L": "sum(x)"}, "at most"),
        ({"x": {"symbol": [3]}}, {"y": "2 * x"}, "one number"),
        ({"x": ["symbol", 1]}, {"L": "sum(x)"}, "where a number is needed"),
        ({"x": "symbol", "f": "function"}, {"L": "f(y)"}, "uses 'y'"),
        ({"x": "symbol"}, {"L": "g'(x)"}, "not a known function"),
    ],
)
def test_refused_in_one_paragraph(given: dict[str, Any], model: dict[str, str], says: str) -> None:
    with pytest.raises(bp.BackproofError, match=says) as error:
        bp.solve(FormulaProblem("wrong", given, model))
    assert "\n" not in str(error.value)


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "net.toml"
    file.write_text('[given]\nx = "symbol"\nw = "symbol"\nphi = "function"\n[model]\nu = "w * x"\nL = "phi(u)**2"\n')
    tex = tmp_path / "net.tex"
    run = subprocess.run([sys.executable, "-m", "backproof", "derive", str(file), "--json", "--out", str(tex), "--wrt", "w"],
                         capture_output=True, text=True, timeout=120)  # fmt: skip
    assert run.returncode == 0, run.stderr
    answers = json.loads(run.stdout)["answers"]
    assert answers["dL/dw"] == "2 * phi(u) * phi'(u) * x" and "dL/dx" not in answers
    assert r"\phi'(u)" in tex.read_text()


@pytest.mark.parametrize(("largest", "name"), [(True, "top2_index"), (False, "bottom2_index")])
def test_the_places_of_the_largest_say_how_many(largest: bool, name: str) -> None:
    found = bp.derive(
        lambda x, w: (x * w).topk(2, dim=-1, largest=largest).values.sum(), torch.randn(3, 5), torch.randn(5)
    )
    assert f"{name}₂(mul)" in found.text()
    assert name.replace("_", r"\_") in found.latex()
