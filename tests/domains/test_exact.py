"""Exact arithmetic: what a person writes on paper, and where it stops."""

from __future__ import annotations

from typing import Any

import pytest
import sympy
import torch
from sympy import Rational, cos, pi, sin, sqrt

from backproof.differentiate import differentiate
from backproof.domains.digits import digits
from backproof.domains.exact import BUDGET, TooLarge, as_exact, exact, spelled
from backproof.domains.numbers import evaluate
from backproof.formula import read_model
from backproof.graph import Graph, Node


def read(graph: Graph, given: dict[str, Any]) -> dict[Node, Any]:
    return exact.run(graph, {graph.by_name[name]: exact.array(value) for name, value in given.items()})


def of(text: str, **given: Any) -> Any:
    """The exact value of one formula, spelled."""
    graph = read_model({"u": text}, {name: exact.array(v).shape for name, v in given.items()}, roles={})
    return spelled(read(graph, given)[graph.by_name["u"]])


def test_the_sine_neuron_on_paper() -> None:
    """CTU, Vision for Robotics, worksheet 3: w = (pi/2, pi), x = (2, 1), b = 0, y = sin(w x) - b, target 2."""
    formulas = {"s": "w @ x", "y": "sin(s) - b", "L": "(y - t)**2"}
    graph = read_model(formulas, {"w": (2,), "x": (2,), "b": (), "t": ()}, roles={"w": "parameter"})
    joint = differentiate(graph)
    given = {"w": [pi / 2, pi], "x": [2, 1], "b": 0, "t": 2}
    values = exact.run(joint.graph, {graph.by_name[name]: exact.array(v) for name, v in given.items()})
    assert spelled(values[graph.by_name["s"]]) == "2*pi"
    assert values[graph.by_name["y"]][()] == 0, "sin(2 pi) is 0, not -2.4e-16"
    assert spelled(values[joint.gradients[graph.by_name["w"]]]) == ["-8", "-4"]


@pytest.mark.parametrize(
    ("text", "given", "written"),
    [
        ("a + b", {"a": pi / 2, "b": 4}, "pi/2 + 4"),
        ("a / 3", {"a": 2}, "2/3"),
        ("sin(a)", {"a": 2 * pi}, "0"),
        ("cos(a)", {"a": pi / 3}, "1/2"),
        ("sigmoid(a)", {"a": 0}, "1/2"),
        ("tanh(a)", {"a": 0}, "0"),
        ("sqrt(a)", {"a": 8}, "2*sqrt(2)"),
        ("exp(log(a))", {"a": 3}, "3"),
        ("relu(a)", {"a": [pi - 4, pi - 3, 0]}, ["0", "-3 + pi", "0"]),
        ("abs(a)", {"a": sqrt(2) - 2}, "2 - sqrt(2)"),
        ("max(a)", {"a": [pi, Rational(22, 7), 3]}, "22/7"),
        ("min(a)", {"a": [pi, Rational(22, 7), 3]}, "3"),
        ("mean(a)", {"a": [1, 2, 4]}, "7/3"),
        ("norm(a)", {"a": [1, 1]}, "sqrt(2)"),
        ("softmax(a)", {"a": [0, 0, 0]}, ["1/3", "1/3", "1/3"]),
        ("a @ b", {"a": [[1, 2], [3, 4]], "b": [[pi, 0], [0, 1]]}, [["pi", "2"], ["3*pi", "4"]]),
        ("a > b", {"a": [pi, 3], "b": [3, pi]}, ["1", "0"]),
        ("where(a > 1, a, -a)", {"a": [2, sqrt(2) / 2]}, ["2", "-sqrt(2)/2"]),
        ("a**2 - a*a", {"a": 1 + sqrt(2)}, "0"),
        ("(a - 1) * (a + 1)", {"a": sqrt(2)}, "1"),
        ("huber_error(a, 0)", {"a": [Rational(1, 2), 3]}, ["1/8", "5/2"]),
        ("round(a)", {"a": [Rational(5, 2), Rational(7, 2), pi]}, ["2", "4", "3"]),
    ],
)
def test_values(text: str, given: dict[str, Any], written: Any) -> None:
    assert of(text, **given) == written


def test_a_decimal_fraction_is_what_a_person_means() -> None:
    assert as_exact(0.1) == Rational(1, 10)
    assert as_exact(True) == 1
    assert of("a * 3", a=0.1) == "3/10"


def test_relu_at_zero_has_slope_zero() -> None:
    graph = read_model({"L": "relu(a) * 5"}, {"a": ()}, roles={"a": "parameter"})
    joint = differentiate(graph)
    values = exact.run(joint.graph, {graph.by_name["a"]: exact.array(0)})
    assert spelled(values[joint.gradients[graph.by_name["a"]]]) == "0"


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("a**b", {"a": 2, "b": 1001}, "a power is too large"),
        ("a**b", {"a": 3, "b": 900}, "outgrown"),
        ("a / b", {"a": 1, "b": 0}, "not a real number"),
        ("log(a)", {"a": 0}, "not a real number"),
        ("sqrt(a)", {"a": -1}, "not a real number"),
    ],
)
def test_what_cannot_be_written_out_is_refused(text: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(TooLarge, match=message):
        of(text, **given)


def test_growth_is_stopped_by_the_budget_and_not_by_patience() -> None:
    formulas = {"x0": "sin(a) + cos(b)"} | {
        f"x{i}": f"sin(x{i - 1} + a) * cos(x{i - 1} * b) + sqrt(x{i - 1} + 9)" for i in range(1, 12)
    }
    graph = read_model(formulas, {"a": (), "b": ()}, roles={})
    with pytest.raises(TooLarge, match="outgrown its budget"):
        read(graph, {"a": 1, "b": 2})


def test_everything_within_the_budget_is_kept() -> None:
    graph = read_model({"u": " + ".join(f"sin({i} * a)" for i in range(1, 12))}, {"a": ()}, roles={})
    assert read(graph, {"a": 1})[graph.by_name["u"]][()].count_ops() < BUDGET


def test_exact_values_are_the_50_digit_values() -> None:
    formulas = {"s": "W @ x + b", "z": "sigmoid(s)", "y": "softmax(z)", "L": "sum((y - t)**2)"}
    given = {"W": [[1, Rational(1, 2)], [0, -1]], "x": [pi / 3, 1], "b": [0, 1], "t": [1, 0]}
    graph = read_model(formulas, {name: exact.array(v).shape for name, v in given.items()}, roles={})
    leaves = {graph.by_name[name]: value for name, value in given.items()}
    ours = exact.run(graph, {n: exact.array(v) for n, v in leaves.items()})
    theirs = digits.run(graph, {n: digits.array(v) for n, v in leaves.items()})
    floats = evaluate(
        graph, {n: torch.tensor(exact.array(v).astype(float).tolist(), dtype=torch.float64) for n, v in leaves.items()}
    )
    for name in formulas:
        node = graph.by_name[name]
        for a, b, c in zip(
            ours[node].reshape(-1), theirs[node].reshape(-1), floats[node].reshape(-1).tolist(), strict=True
        ):
            assert abs(sympy.N(a, 50) - sympy.Float(str(b), 50)) < sympy.Float("1e-45", 50)
            assert abs(float(b) - c) < 1e-14


def test_the_trigonometry_of_pi_is_kept() -> None:
    assert of("sin(a) + b", a=pi / 5, b=1) == str(1 + sin(pi / 5))
    assert of("cos(a)", a=Rational(1, 7)) == str(cos(Rational(1, 7)))
