"""Given numbers: exact where they are written exactly, floats where they are not, refused where they are no numbers."""

from __future__ import annotations

from typing import Any

import pytest
import sympy

from backproof.errors import FormulaError
from backproof.formula import read_quantity

EXACT: dict[str, Any] = {
    "pi/2": sympy.pi / 2,
    "1/3": sympy.Rational(1, 3),
    "0.1": sympy.Rational(1, 10),
    "1.5": sympy.Rational(3, 2),
    "-2": sympy.Integer(-2),
    "sqrt(8)": 2 * sympy.sqrt(2),
    "2**0.5": sympy.sqrt(2),
    "2**-3": sympy.Rational(1, 8),
    "sin(pi/6)": sympy.Rational(1, 2),
    "tan(pi/4)": sympy.Integer(1),
    "ln(e)": sympy.Integer(1),
    "exp(1)": sympy.E,
    "log(2)": sympy.log(2),
    "abs(-3) + e": 3 + sympy.E,
    "tanh(1)": sympy.tanh(1),
    "cos(pi)**2": sympy.Integer(1),
}


@pytest.mark.parametrize("text", EXACT)
def test_exact(text: str) -> None:
    given = read_quantity(text, "w")
    assert given.exact and given.shape == ()
    assert given.value == EXACT[text]


def test_lists() -> None:
    given = read_quantity([["pi", 1], [2, "1/3"]], "W")
    assert given.shape == (2, 2) and given.exact
    assert given.flat() == [sympy.pi, 1, 2, sympy.Rational(1, 3)]


def test_a_decimal_is_not_exact() -> None:
    given = read_quantity([1, 2.5], "w")
    assert not given.exact and given.value == [1, 2.5]


REFUSED: list[tuple[Any, str]] = [
    ("", "w is not an expression"),
    ("x + 1", "'x' is not a number in 'x + 1'; an exact number is made of digits, pi, e"),
    ("True", "'True' is not a number"),
    ("None", "'None' is not a number"),
    ("3 > 2", "'3 > 2' is not a number"),
    ("(1, 2)", "'(1, 2)' is not a number"),
    ("log(8, 2)", "'log(8, 2)' is not a number"),
    ("gamma(3)", "'gamma(3)' is not a number"),
    ("2 @ 3", "'2 @ 3' is not a number"),
    ("sqrt(-1)", "sqrt(-1) is not a finite real number"),
    ("sqrt(-1)**2", "sqrt(-1)**2 is not a finite real number"),
    ("log(0)", "log(0) is not a finite real number"),
    ("tan(pi/2)", "tan(pi/2) is not a finite real number"),
    ("(-8)**(1/3)", "(-8)**(1/3) is not a finite real number"),
    ("0**-1", "0**-1 is not a finite real number"),
    ("1/(1 - 1)", "a division by zero in '1/(1 - 1)'"),
    ("9**9**9", "a power beyond 100"),
    ("2**101", "a power beyond 100"),
    ("(9**100)**100", "a power beyond 1e300"),
    ("(((9**100)**100)**100)**100", "a power beyond 1e300"),
    ("(2**100)**-100", "a power beyond 1e300"),
    ("exp(1000)", "a number beyond 1e300"),
    ("exp(exp(exp(exp(5))))", "a number beyond 1e300"),
    ("1e299 * 1e299", "a number beyond 1e300"),
    ("1e400", "uses float inf"),
    (float("nan"), "w contains nan; every given must be a finite number"),
    (float("inf"), "w contains inf; every given must be a finite number"),
    (10**400, "w contains a whole number beyond 1e300"),
    (True, "must be numbers"),
    (None, "must be numbers"),
    ({}, "must be numbers"),
    ([[1, 2], [3]], "its rows differ in length"),
    ([1, [2]], "its rows differ in length"),
    ([], "is empty"),
    ([[]], "is empty"),
    ([[0.0] * 400] * 400, "has 160000 entries, more than 100000"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=[str(v)[:24] for v, _ in REFUSED])
def test_refused(value: Any, message: str) -> None:
    with pytest.raises(FormulaError) as error:
        read_quantity(value, "w")
    assert message in str(error.value) and str(error.value).startswith("w")
