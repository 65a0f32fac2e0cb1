"""The 50-digit reading really has 50 digits, in every operation."""

from __future__ import annotations

from typing import Any

import pytest
import sympy
from mpmath import mp

from backproof.document.math import Call, Function, Num
from backproof.domains.digits import DIGITS, compiled, context, digits, exactly
from backproof.domains.printed import value_of
from backproof.formula import read_model
from backproof.ops import OPS, Elementwise, derivative

SMOOTH = [
    op
    for op in OPS.values()
    if isinstance(op, Elementwise) and op.dtype == "same" and "bool" not in op.examples[0].kinds
]


def _point(op: Elementwise, count: int) -> list[sympy.Rational]:
    """Fractions inside the operation's region that no float64 is."""
    low, high = op.region
    share = [sympy.Rational(5, 7), sympy.Rational(3, 11), sympy.Rational(8, 13)]
    return [sympy.nsimplify(low) + (sympy.nsimplify(high) - sympy.nsimplify(low)) * share[i] for i in range(count)]


def _slopes(op: Elementwise) -> list[Elementwise]:
    return [op] + ([derivative(op, i) for i in range(len(op.operands))] if op.differentiable else [])


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_every_formula_and_slope_is_right_to_45_digits(op: Elementwise) -> None:
    """Against SymPy's own evaluation, which shares the formula but not the compiled code."""
    given = {**op.attrs, **op.examples[0].attrs}
    attrs = {key: exactly(value) for key, value in given.items()}
    point = _point(op, len(op.operands))
    for function in _slopes(op):
        run = compiled(function, len(point), tuple(sorted(given.items())))
        found = context.mpf(run(*(context.mpf(p.p) / p.q for p in point)))
        expected = sympy.N(sympy.sympify(function.formula(*point, **attrs)), 60)
        with mp.workdps(60):
            error = abs(mp.mpf(str(found)) - mp.mpf(str(expected)))
            assert error <= mp.mpf(10) ** -45 * max(1, abs(mp.mpf(str(expected)))), function.name


def of(text: str, **given: Any) -> Any:
    graph = read_model({"u": text}, {name: digits.array(v).shape for name, v in given.items()}, roles={})
    return digits.run(graph, {graph.by_name[name]: digits.array(v) for name, v in given.items()})[graph.by_name["u"]]


def test_a_float_is_the_binary_fraction_that_it_is() -> None:
    assert str(of("a * 10", a=0.1)[()]).startswith("1.0000000000000000555111512312578270211815834045")
    assert exactly(0.1) != sympy.Rational(1, 10)


def test_constants_are_exact() -> None:
    with mp.workdps(60):
        assert abs(mp.mpf(str(of("sin(pi / 4)")[()])) - mp.sqrt(2) / 2) < mp.mpf(10) ** -48
        assert abs(mp.mpf(str(of("ln(e * e)")[()])) - 2) < mp.mpf(10) ** -48


def test_what_cancels_in_float64_does_not_here() -> None:
    assert abs(of("(1 + a) - 1", a=1e-30)[()] / context.mpf(1e-30) - 1) < 1e-19
    assert abs(of("logsumexp(a)", a=[800, 800])[()] - 800 - context.log(2)) < 1e-40


def test_the_global_precision_of_mpmath_is_left_alone() -> None:
    before = mp.dps
    of("exp(sin(a))", a=0.3)
    assert mp.dps == before and context.dps == DIGITS
    with mp.workdps(5):
        assert abs(of("log(a) / 3", a=2)[()] - context.log(2) / 3) < 1e-45


def test_ties_and_kinks_follow_the_formula() -> None:
    assert [float(v) for v in of("max(a, b)", a=[1, 2], b=[1, 1])] == [1.0, 2.0]
    assert float(of("round(a)", a=2.5)[()]) == 2.0
    assert [float(v) for v in of("sign(a)", a=[-2, 0, 3])] == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize("op", [op for op in SMOOTH if op.differentiable], ids=lambda op: op.name)
def test_a_printed_slope_is_read_back_as_the_slope_of_that_operand(op: Elementwise) -> None:
    """f′ in print is the derivative of f itself, not of a shorter name (exp2, log10), and by the operand that it names."""
    given = {**op.attrs, **op.examples[0].attrs}
    point = [float(p) for p in _point(op, len(op.operands))]
    for slope in _slopes(op)[1:]:
        printed = Call(Function(slope.name, primes=1), tuple(Num(p) for p in point), slope.name, tuple(given.items()))
        own = compiled(slope, len(point), tuple(sorted(given.items())))(*(context.mpf(p) for p in point))
        assert abs(value_of(printed) - own) <= 1e-40 * (1 + abs(own)), slope.name
