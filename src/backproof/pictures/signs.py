"""How an operation, a quantity and a shape are written in a picture, and how much room that takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from ..document.math import Expr, Neg, Num, Ref, Sym
from ..graph import Node

__all__ = [
    "Symbols",
    "default_symbol",
    "fits",
    "folded",
    "has_own_name",
    "reference",
    "shape_text",
    "shortened",
    "sign",
    "text_width",
]

Symbols = Callable[[Node], Expr]

_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau "
    "upsilon phi chi psi omega".split()
)
_WORDS = {"weight": "W", "bias": "b"}


# --- quantities ----------------------------------------------------------------------------------------
def default_symbol(node: Node) -> Sym:
    """Return a symbol made from a node's name: letter, subscript, and the module as a superscript.

    ``s_out`` is s with the subscript out, ``W1`` is W with 1, ``fc1.weight`` is W with the superscript (fc1),
    ``h#2`` is the second h.
    """
    path, _, name = node.name.rpartition(".")
    name, _, again = name.partition("#")
    above = tuple(part for part in (path, again) if part)
    if name in _WORDS:
        return Sym(_WORDS[name], sup=above)
    letter, sub = _split(name)
    return Sym(letter, sub, above)


def _split(name: str) -> tuple[str, tuple[str, ...]]:
    letter, _, rest = name.partition("_")
    if rest and letter:
        return letter, tuple(part for part in rest.split("_") if part)
    found = re.fullmatch(r"([^\W\d]+)(\d+)", name)
    return (found[1], (found[2],)) if found else (name, ())


def reference(node: Node, symbol: Expr, index: tuple[int, ...] = ()) -> Ref:
    """Return what a node's shape refers to: its symbol's own reference, or the node by name."""
    return replace(getattr(symbol, "ref", None) or Ref(node.name), index=index)


def has_own_name(node: Node) -> bool:
    """Return whether the name is the user's, and not made from the operation or its module."""
    last = node.name.rpartition(".")[2].partition("#")[0]
    return node.role == "value" and last != node.op.name and not last.endswith("_loss")


def shortened(text: str, most: int) -> str:
    """Return a text with its middle left out where it has more characters."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2 - 1) :]}"


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape as 4×3; nothing for a single number."""
    return "×".join(map(str, shape))


# --- room ----------------------------------------------------------------------------------------------
_NARROW, _WIDE = frozenset("iljtfr.,:;|!'()[]·₁ "), frozenset("mwMWΣ@—…")


def text_width(content: str | Expr, size: float) -> float:
    """Return about how wide a label is in pixels."""
    if isinstance(content, str):
        return size * sum(0.34 if c in _NARROW else 0.86 if c in _WIDE else 0.59 for c in content)
    if isinstance(content, Sym):
        return _symbol_width(content, size)
    if isinstance(content, Neg):
        return text_width("−", size) + text_width(content.arg, size)
    if isinstance(content, Num):
        room = f"{content.value:.4g}" if content.value == round(content.value) else f"{content.value:.4g}0"
        return text_width(content.exact or room, size)
    return size * 5


def _symbol_width(symbol: Sym, size: float) -> float:
    above = ",".join(symbol.sup)
    width = text_width("x" if symbol.name.lower() in _GREEK else symbol.name, 1.05 * size)
    width += text_width(",".join("x" if part in _GREEK else part for part in symbol.sub), 0.76 * size)
    return width + (text_width(f"({above})", 0.76 * size if above.isalnum() else 1.1 * size) if above else 0)


def fits(content: str | Expr, size: float, room: float) -> bool:
    """Return whether a label of this size has room."""
    return text_width(content, size) <= room


# --- operations ----------------------------------------------------------------------------------------
_SIGNS = {
    "add": "+", "sub": "−", "div": "÷", "neg": "−( )", "square": "( )²", "sqrt": "√", "root": "√", "reciprocal": "1/( )",
    "pow": "( )^( )", "sum": "Σ", "abs": "|·|", "identity": "=", "ge": "≥", "le": "≤", "ne": "≠",
    "squared_error": "(a−b)²", "absolute_error": "|a−b|", "stop_gradient": "stop",
    "scaled_dot_product_attention": "attention",
}  # fmt: skip
_POWERS = {2: "( )²", 3: "( )³", -1: "1/( )", 0.5: "√", -0.5: "1/√"}
_WITH_NUMBER = {
    "add": ("+{}", "{}+( )"), "sub": ("−{}", "{}−( )"), "mul": ("·{}", "{}·( )"), "div": ("/{}", "{}/( )"),
    "pow": ("( )^{}", "{}^( )"), "gt": ("> {}", "{} >"), "lt": ("< {}", "{} <"), "ge": ("≥ {}", "{} ≥"),
    "le": ("≤ {}", "{} ≤"), "eq": ("= {}", "{} ="), "ne": ("≠ {}", "{} ≠"),
    "maximum": ("max( , {})", "max({}, )"), "minimum": ("min( , {})", "min({}, )"),
}  # fmt: skip


def sign(node: Node) -> str:
    """Return the sign of an operation, with its small constants inside: ReLU, Σ, ( )², /2."""
    if numbers := folded(node):
        return _with_number(node, numbers[0])
    if node.op.name in ("matmul", "mul"):
        return _product(node)
    if node.op.name == "permute" and len(node.shape) == 2:
        return "( )ᵀ"
    return _SIGNS.get(node.op.name) or node.op.text or node.op.name.replace("_", " ")


def _product(node: Node) -> str:
    ranks = [len(x.shape) for x in node.inputs]
    if node.op.name == "matmul":
        return "·" if max(ranks) <= 1 else "×"
    return "⊙" if min(ranks) >= 1 and any(x.size > 1 for x in node.inputs) else "·"


def folded(node: Node) -> list[Node]:
    """Return the constants that are written inside the sign of the operation: at most one operand of two."""
    if node.op.name not in _WITH_NUMBER:
        return []
    numbers = [x for x in node.inputs if x.role == "constant" and x.shape == () and len(_number(x)) <= 6]
    return numbers if len(numbers) == 1 else []


def _with_number(node: Node, constant: Node) -> str:
    second = node.inputs[1] is constant
    value = constant.value
    if node.op.name == "pow" and second and isinstance(value, (int, float)) and value in _POWERS:
        return _POWERS[value]
    text = _number(constant)
    if node.op.name in ("sub", "add", "mul", "div", "pow") and text.startswith("−") and second:
        text = f"({text})"
    return _WITH_NUMBER[node.op.name][0 if second else 1].format(text)


def _number(constant: Node) -> str:
    value = constant.value
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("-", "−").replace("pi", "π").replace("*", "·")
