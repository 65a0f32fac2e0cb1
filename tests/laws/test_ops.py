"""One law at a time over every example of every operation."""

from __future__ import annotations

from typing import Any

import pytest

from backproof.domains.entries import entries
from backproof.domains.numbers import numbers
from backproof.graph import Node
from backproof.ops import OPS, Elementwise, derivative
from backproof.vjps import has_vjp

from . import laws
from .samples import CASES, case_name

every_case = pytest.mark.parametrize("case", CASES, ids=case_name)
GRADIENTS = [case for case in CASES if OPS[case[0]].differentiable]
every_gradient = pytest.mark.parametrize("case", GRADIENTS, ids=case_name)


def _settings(op: Elementwise) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for example in op.examples:
        if dict(example.attrs) not in found:
            found.append(dict(example.attrs))
    return found


ELEMENTWISE = [
    (op.name, i)
    for op in OPS.values()
    if isinstance(op, Elementwise) and "bool" not in op.examples[0].kinds
    for i in range(len(_settings(op)))
]
KINKED = [case for case in ELEMENTWISE if OPS[case[0]].kinks is not None and OPS[case[0]].differentiable]  # type: ignore[attr-defined]


BOUNDED = {"asin", "acos", "atanh", "bernoulli_error"}  # defined between -1 and 1 alone


def _elementwise(case: tuple[str, int]) -> tuple[Elementwise, dict[str, Any]]:
    op = OPS[case[0]]
    assert isinstance(op, Elementwise)
    return op, _settings(op)[case[1]]


@every_case
def test_value_is_the_formula_s(case: tuple[str, int]) -> None:
    laws.value_law(OPS[case[0]], OPS[case[0]].examples[case[1]])


@every_case
def test_code_runs_and_is_the_domain(case: tuple[str, int]) -> None:
    laws.code_law(OPS[case[0]], OPS[case[0]].examples[case[1]])


@every_case
def test_float32_stays_float32(case: tuple[str, int]) -> None:
    laws.float32_law(OPS[case[0]], OPS[case[0]].examples[case[1]])


@every_gradient
def test_gradient_is_autograd_s(case: tuple[str, int]) -> None:
    laws.autograd_law(OPS[case[0]], OPS[case[0]].examples[case[1]])


@every_gradient
def test_gradient_is_the_50_digit_value(case: tuple[str, int]) -> None:
    laws.joint_law(OPS[case[0]], OPS[case[0]].examples[case[1]])


@every_gradient
def test_gradient_is_the_central_difference(case: tuple[str, int]) -> None:
    laws.difference_law(OPS[case[0]], OPS[case[0]].examples[case[1]])


@every_gradient
def test_gradient_of_the_gradient(case: tuple[str, int]) -> None:
    laws.second_order_law(OPS[case[0]], OPS[case[0]].examples[case[1]])


@pytest.mark.parametrize("case", ELEMENTWISE, ids=case_name)
def test_value_far_away(case: tuple[str, int]) -> None:
    op, attrs = _elementwise(case)
    # torch's GELU is 0 at -20, and so is every float near it
    assert laws.far_law(op, attrs, absolute=1e-15) > 0 or op.name in BOUNDED


@pytest.mark.parametrize("case", [c for c in ELEMENTWISE if OPS[c[0]].differentiable], ids=case_name)
def test_slope_far_away(case: tuple[str, int]) -> None:
    op, attrs = _elementwise(case)
    for i in laws._differentiated(op):
        assert laws.far_law(derivative(op, i), attrs) > 0 or op.name in BOUNDED


@pytest.mark.parametrize("case", KINKED, ids=case_name)
def test_slope_at_kinks_is_torch_s(case: tuple[str, int]) -> None:
    assert laws.kink_law(*_elementwise(case)) > 0


OPERATIONS = [op for op in OPS.values() if op.family not in ("leaf", "complex")]  # complex: see test_complex.py


@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: op.name)
def test_every_operation_is_covered(op: Any) -> None:
    assert op.examples, "an operation without examples escapes every law"
    assert numbers.cover(op) != "none"
    assert entries.cover(op) != "none"
    if op.differentiable:
        assert has_vjp(Node(op, (), {}, (), "float64", op.name))
