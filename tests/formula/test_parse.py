"""What a formula may contain, what it may not, and what the message says."""

from __future__ import annotations

import warnings

import pytest
import sympy
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backproof.errors import FormulaError
from backproof.formula import MAX_LENGTH, parse, read_model, read_quantity

from .samples import SHAPES, model, value

REFUSED = {
    "__import__('os').system('x')": "a call of something that is not a plain function name",
    "eval('1')": "uses str '1'",
    "x.__class__": "the attribute .__class__",
    "x.real": "the attribute .real",
    "x.T()": "a call of something that is not a plain function name",
    "lambda x: x": "uses Lambda",
    "[x]": "uses List",
    "[i for i in x]": "uses ListComp",
    "{1: 2}": "uses Dict",
    "x if k else w": "uses IfExp",
    "x and w": "uses BoolOp",
    "not x": "uses Not",
    "x // 2": "uses FloorDiv",
    "x % 2": "uses Mod",
    "x ^ 2": "^, which is not a power; write **",
    "x < w < 2": "a chain of comparisons",
    "f'{x}'": "uses JoinedStr",
    "'a'": "uses str 'a'",
    "1j": "uses complex 1j",
    "1e400": "uses float inf",
    "...": "uses ellipsis",
    "sum(*X)": "uses Starred",
    "x +": "is not an expression: x +; write it as in",
    "x = 1": "is not an expression",
    "x y": "is not an expression",
    "": "is not an expression",
    "x\ny": "is not an expression: x y;",
    "\0": "is not an expression",
    "x" * (MAX_LENGTH + 1): f"has {MAX_LENGTH + 1} characters, and the limit is {MAX_LENGTH}",
    "(" * 500 + "x" + ")" * 500: "is not an expression",
    "-" * 250 + "x": "nested more than 200 deep",
    "x" + " + x" * 250: "nested more than 200 deep",
}
MEANINGLESS = {
    "q + 1": "uses 'q', which is not given and not computed before it; known here: k, v, x, w, X, Y, M",
    "XX + 1": "did you mean 'X'?",
    "sinn(x)": "calls 'sinn', which is not a known function; did you mean 'sin'?",
    "print(x)": "calls 'print', which is not a known function",
    "pi(2)": "calls 'pi', which is not a known function",
    "sum()": "calls 'sum' without an argument",
    "sin(x, w)": "calls sin with the wrong arguments; it is sin(x)",
    "relu(x, inplace=1)": "calls relu with the wrong arguments; it is relu(x)",
    "clamp(x)": "it is clamp(x, min=, max=)",
    "clamp(x, 0, 1)": "it is clamp(x, min=, max=)",
    "clamp(x, min=True)": "it is clamp(x, min=, max=)",
    "threshold(x, value=1)": "it is threshold(x, threshold=, value=)",
    "gelu(x, approximate='no')": "it is gelu(x, approximate=)",
    "elu(x, alpha='a')": "it is elu(x, alpha=, scale=, input_scale=)",
    "poisson_error(x, w, log_input=2)": "it is poisson_error(y, t, log_input=, eps=)",
    "sum(X, 0)": "calls sum with the wrong arguments; it is sum(x, dim=, keepdim=)",
    "sum(x, dims=0)": "it is sum(x, dim=, keepdim=)",
    "sum(x, dim=0, axis=0)": "it is sum(x, dim=, keepdim=)",
    "sum(x, dim=1.5)": "along the axis 1.5; an axis is a whole number",
    "sum(x, dim=True)": "an axis is a whole number",
    "sum(X, dim=(0, 0))": "an axis is named twice",
    "sum(x, dim=5)": "axis 5 does not exist in a tensor of 1 axes",
    "sum(x, keepdim=3)": "an axis is a whole number",
    "sum(x, dim=k)": "'k' must be a plain number",
    "softmax(x, dim=3)": "axis 3 does not exist",
    "softmax(X, dim=(0, 1))": "softmax runs along one axis, not (0, 1)",
    "softmax(x, keepdim=1)": "it is softmax(x, dim=)",
    "max(x, w, x)": "it is max(a, b) or max(x, dim=, keepdim=)",
    "max(x, w, dim=0)": "it is max(a, b) or max(x, dim=, keepdim=)",
    "norm(x, p=1)": "it is norm(x, dim=, keepdim=)",
    "transpose(X, 0)": "it is transpose(x)",
    "reduce(x, 1)": "it is reduce(x)",
    "dot(x)": "it is dot(a, b)",
    "x @ 2": "a matrix product needs vectors or matrices, not a single number; use *",
    "x @ X": "a matrix product of shapes [3] and [2, 3]: 3 and 2 differ",
    "x + M": "shapes [3] and [3, 2] do not fit together",
    "X[5]": "index 5 is outside an axis of size 2",
    "X[0, 0, 0]": "'X[0, 0, 0]' has more indices than 'X' has axes",
    "x[0.5]": "the index '0.5' must be a whole number",
    "x[True]": "the index 'True' must be a whole number",
    "x[k]": "uses 'k' as an index, which is no whole number",
    "sum'(x)": "calls 'sum'', which has no meaning in a formula",
    "floor'(x)": "calls 'floor'', which has no meaning in a formula",
    "f'(x)": "calls 'f', which is not a known function",
    "x[None]": "the index 'None' must be a whole number",
    "x[::-1]": "'x[::-1]' steps backwards or not at all",
    "x[::0]": "'x[::0]' steps backwards or not at all",
    "x[2:1]": "'x[2:1]' is empty",
    "(x, w)": "has '(x, w)' where a number is needed",
    "None": "has None where a number is needed",
    "softmax_grad(X, X)": "calls 'softmax_grad', which has no meaning in a formula",
    "leaf(x)": "calls 'leaf', which has no meaning in a formula",
}


@pytest.mark.parametrize("text", [*REFUSED, *MEANINGLESS])
def test_refused_in_one_paragraph(text: str) -> None:
    with pytest.raises(FormulaError) as error:
        model(text)
    message = str(error.value)
    assert {**REFUSED, **MEANINGLESS}[text] in message
    assert message.startswith("the formula of 'u'")
    assert "\n" not in message and "\0" not in message and len(message) < 2400


@pytest.mark.parametrize("text", [t for t in REFUSED if 0 < len(t) < 80 and "\n" not in t and "\0" not in t])
def test_the_message_quotes_the_formula(text: str) -> None:
    with pytest.raises(FormulaError) as error:
        parse(text)
    assert text in str(error.value)


def test_no_text_at_all() -> None:
    with pytest.raises(FormulaError, match='must be a text in quotes such as "w @ x", not 3'):
        parse(3)  # type: ignore[arg-type]


def test_a_name_given_and_computed() -> None:
    with pytest.raises(FormulaError, match="'x' is given and computed; rename one of them"):
        read_model({"x": "2"}, SHAPES, roles={})
    with pytest.raises(FormulaError, match="'pi' is given and computed"):
        read_model({"pi": "3"}, SHAPES, roles={})


def test_the_loss() -> None:
    formulas = {"a": "x * 2", "b": "sum(a)", "c": "b + 1"}
    assert read_model(formulas, SHAPES, roles={}).loss.name == "c"  # type: ignore[union-attr]
    assert read_model(formulas, SHAPES, roles={}, loss="b").loss.name == "b"  # type: ignore[union-attr]
    with pytest.raises(FormulaError, match=r"the loss must be one number, and 'a' has shape \[3\]; write sum"):
        read_model(formulas, SHAPES, roles={}, loss="a")
    with pytest.raises(FormulaError, match="the loss 'z' is not computed; known: a, b, c"):
        read_model(formulas, SHAPES, roles={}, loss="z")


def test_names_that_are_also_operations_stay_the_user_s() -> None:
    graph = read_model(
        {"a": "sum(x) * 2 + sin(k)", "sum": "a + 1", "sin": "sum * sum", "add": "sin + k"}, SHAPES, roles={}
    )
    for name in ("a", "sum", "sin", "add"):
        assert graph.by_name[name].role == "value", name
    assert graph.loss is graph.by_name["add"]


def test_power_and_sign_bind_as_in_python() -> None:
    assert float(value("-2**2")) == -4
    assert float(value("2**3**2")) == 512
    assert float(value("2**-1")) == 0.5
    assert float(value("1 - 2 - 3")) == -4
    assert float(value("+-+3")) == -3


def test_numbers_and_constants() -> None:
    assert float(value("pi")) == torch.pi
    assert float(value("1_000 + 0x10 + 1e-3")) == 1016.001
    assert next(n.value for n in model("2 * pi").nodes if n.name == "pi") is sympy.pi


# --- nothing but FormulaError, whatever the text ------------------------------------------------------------------------
WORDS = [*SHAPES, "u", "pi", "e", "1", "0", "2.5", "-", "+", "*", "/", "**", "@", "(", ")", "[", "]", ",", ":", ".T", ".", "=", " ",
         "sum", "softmax", "dim=", "keepdim=", "where", "clamp", "max", "min=", "True", "None", ">", "==", "gelu", "'tanh'", "relu",
         "logsumexp", "norm", "lambda", "^", "1e999", "9**9**9", "matmul", "logical_and", "reduce", "\n", "#"]  # fmt: skip
LISTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["pi/2", "9**99**9", "sqrt(-1)"]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=8,
)


def only_formula_errors(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # "1if x": Python's own remark on a text that is refused
        for read in (lambda: model(text), lambda: read_quantity(text, "the given w")):
            try:
                read()
            except FormulaError as error:
                assert "\n" not in str(error)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.text(max_size=40))
@example("\ud800")
@example("9**9**9**9")
@example("x[::" + "9" * 400 + "]")
def test_random_text(text: str) -> None:
    only_formula_errors(text)


@settings(max_examples=1500, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14).map("".join))
def test_random_words(text: str) -> None:
    only_formula_errors(text)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(LISTS)
def test_random_givens(given_value: object) -> None:
    try:
        read_quantity(given_value, "the given w")
    except FormulaError as error:
        assert "\n" not in str(error)
