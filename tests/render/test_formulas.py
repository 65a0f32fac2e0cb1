"""The three formula printers: well formed, complete, and with parentheses where the value needs them."""

from __future__ import annotations

import ast
import math
import re
import shutil
from random import Random
from xml.etree import ElementTree

import pytest

from backproof.document.math import (
    Add,
    Call,
    Div,
    Expr,
    Function,
    Indicator,
    Mul,
    Neg,
    Num,
    Partial,
    Pow,
    Ref,
    Rel,
    Sym,
    Transpose,
)
from backproof.render.math_latex import latex_of
from backproof.render.math_mathml import math as math_element
from backproof.render.math_mathml import mathml_of
from backproof.render.math_text import text_of
from backproof.render.notation import decimal, ref_key
from backproof.render.pdf import compile_latex

from .samples import HOSTILE, arithmetic, formula

COUNT = 400
CORE = set(
    "math mi mn mo mtext mspace mrow mfrac msqrt mroot mstyle msub msup msubsup munder mover munderover "
    "mtable mtr mtd".split()
)
ATTRIBUTES = set(
    "data-ref data-full form fence stretchy separator lspace rspace width accent class displaystyle mathvariant".split()
)
s, w = Sym("s", ("1",)), Sym("w", ("1",))


def formulas() -> list[Expr]:
    return [formula(Random(seed)) for seed in range(COUNT)]


def test_mathml_is_core_and_well_formed() -> None:
    for expr in formulas():
        root = ElementTree.fromstring(math_element(expr, display=True))
        assert {element.tag for element in root.iter()} <= CORE
        assert {name for element in root.iter() for name in element.attrib} <= ATTRIBUTES
        assert len(root) == 1
        _check_arity(root)


def _check_arity(root: ElementTree.Element) -> None:
    sizes = {"mfrac": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3, "munderover": 3}
    for element in root.iter():
        assert len(element) == sizes.get(element.tag, len(element))


def test_text_has_no_unresolved_objects() -> None:
    for expr in formulas():
        text = text_of(expr)
        assert text.strip() and "object at" not in text and "\n" not in text
        assert not re.search(r"(Num|Sym|Ref|Expr|None)\(", text)


def test_latex_compiles() -> None:
    if not shutil.which("pdflatex"):
        pytest.skip("pdflatex is not installed")
    body = "\n\n".join(f"$\\displaystyle {latex_of(expr)}$" for expr in formulas())
    hostile = "\n\n".join(f"${latex_of(Sym(name, (name,), (name,)))}$ ${latex_of(_named(name))}$" for name in HOSTILE)
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{lmodern,textcomp,amsmath}\hbadness=10000"
    assert compile_latex(f"{head}\n\\begin{{document}}\n{body}\n\n{hostile}\n\\end{{document}}").startswith(b"%PDF")


def _named(name: str) -> Expr:
    return Call(Function(name, primes=1), (Sym("x"),))


_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def read_back(text: str) -> float:
    """Evaluate printed arithmetic."""
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda run: f"**({run[0].translate(_RAISED)})", text)
    text = text.replace("·", "*").replace("−", "-").replace("^", "**")
    return float(eval(compile(ast.parse(text, mode="eval"), "formula", "eval"), {"__builtins__": {}}))


def value(expr: Expr) -> float:
    match expr:
        case Num():
            digits, power = decimal(expr.value)
            return math.copysign(float(f"{digits}e{power}"), expr.value)
        case Add():
            return sum(value(term) for term in expr.terms)
        case Mul():
            return math.prod(value(factor) for factor in expr.factors)
        case Neg():
            return -value(expr.arg)
        case Div():
            return value(expr.top) / value(expr.bottom)
        case Pow():
            return float(value(expr.base) ** value(expr.exponent))
    raise AssertionError(expr)


def test_printed_arithmetic_has_the_value_of_its_tree() -> None:
    checked = 0
    for seed in range(3000):
        expr = arithmetic(Random(seed))
        try:
            wanted = value(expr)
        except (ZeroDivisionError, OverflowError):
            continue
        assert read_back(text_of(expr)) == pytest.approx(wanted, rel=1e-9, abs=1e-300), text_of(expr)
        checked += 1
    assert checked > 2000


@pytest.mark.parametrize(
    ("expr", "text", "latex"),
    [
        (Num(0.8) * Num(-0.05), "0.8·(−0.05)", r"0.8 \cdot (- 0.05)"),
        (Sym("a") + Num(-0.45), "a − 0.45", "a - 0.45"),
        (-(Sym("a") + Sym("b")), "−(a + b)", "- (a + b)"),
        (Num(1.97e-05), "1.97·10⁻⁵", r"1.97 \cdot 10^{- 5}"),
        (Num(5.57, "pi/2 + 4"), "π/2 + 4", r"\frac{\pi}{2} + 4"),
        (Num(2) * Num(0.47, "sqrt(2)/3"), "2·(√2/3)", r"2 \cdot \frac{\sqrt{2}}{3}"),
        (Sym("x") - Num(-0.75, "-3/4"), "x − (−3/4)", r"x - \left(- \frac{3}{4}\right)"),
        (Call(Function("f", primes=1), (s,)), "f′(s₁)", "f'(s_{1})"),
        (Call(Function("exp"), (-s,)), "exp(−s₁)", "e^{- s_{1}}"),
        (Call(Function("abs"), (s,)), "|s₁|", r"\lvert s_{1} \rvert"),
        (Call(Function("tanh"), (s,)) ** 2, "tanh(s₁)²", r"\tanh(s_{1})^{2}"),
        (Transpose(Sym("X")), "Xᵀ", r"{X}^{\mathsf T}"),
        (Sym("W", sup=("1",)) ** 2, "(W⁽¹⁾)²", "(W^{(1)})^{2}"),
        (Partial(Sym("L"), w), "∂L/∂w₁", r"\frac{\partial L}{\partial w_{1}}"),
        (Indicator(Rel(">=", s, Num(0))), "[s₁ ≥ 0]", r"[s_{1} \ge 0]"),
        (Sym("m", accent="hat"), "m̂", r"\hat{m}"),
        (Sym("s", ("out",)) * w, "s_out w₁", r"s_{\mathrm{out}} w_{1}"),
        (Mul((Sym("a"), Sym("b") + Sym("c")), "elementwise"), "a ⊙ (b + c)", r"a \odot (b + c)"),
        (Num(2) ** Num(-3), "2⁻³", "2^{- 3}"),
        (Num(0.5) * Num(2) ** Sym("x"), "0.5·2ˣ", r"0.5 \cdot 2^{x}"),
        (Div(Sym("a"), Sym("b") * Sym("c")), "a/(b c)", r"\frac{a}{b c}"),
        (Num(3), "3", "3"),
        (Num(0.1 + 0.2), "0.3", "0.3"),
        (Num(0.893012), "0.8930", "0.8930"),
    ],
)
def test_spelling(expr: Expr, text: str, latex: str) -> None:
    assert text_of(expr) == text
    assert latex_of(expr) == latex


def test_references_are_kept_in_mathml() -> None:
    ref = Ref("layer<1>.weight", (0, 1), "state", 3, "m")
    root = ElementTree.fromstring(mathml_of(Add((Sym("x"), Num(-0.123456, ref=ref), Sym("W", ("1",), ref=ref)))))
    found = [element for element in root.iter() if "data-ref" in element.attrib]
    assert [element.get("data-ref") for element in found] == ["state:layer<1>.weight:0.1:3:m"] * 2
    assert found[0].get("data-full") == "-0.123456"
    assert ref_key(Ref("s", (0, 1), step=1)) == "value:s:0.1:1"
