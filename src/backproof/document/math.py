"""A small formula tree: built by the studies, printed by ``render``, evaluated by the evidence.

Factors and terms keep the order in which they were written, because that is the order of the mathematics.
A leaf can carry a :class:`Ref`, the name of the quantity that it shows, so that a page can light the same
quantity everywhere and a formula can be shown again with its numbers put in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "Add", "BigSum", "Call", "Cases", "Div", "Expr", "Function", "Indicator", "Matrix", "Mul", "Neg", "Num",
    "Partial", "Pow", "Ref", "Rel", "Shaped", "Sym", "Transpose", "Words", "as_expr", "leaves", "map_leaves", "plain",
]  # fmt: skip

Kind = Literal["value", "gradient", "before", "after", "state"]


@dataclass(frozen=True)
class Ref:
    """Which quantity of the record a formula or a cell shows.

    Args:
        name: the value's or parameter's name in the record (``s``, ``layer1.0.weight``).
        index: the entry, counted from 0, in the record's own layout; ``()`` for the whole tensor or a scalar.
        kind: the forward value, the gradient of the loss with respect to it, a parameter before or after the
            update, or an optimizer state (then ``state`` says which).
        step: the update that it belongs to, counted from 1; 0 where it does not matter.
        state: the optimizer state's name, for ``kind="state"``.
    """

    name: str
    index: tuple[int, ...] = ()
    kind: Kind = "value"
    step: int = 0
    state: str = ""


class Expr:
    """The base of all formulas; Python's operators build trees without reordering or simplifying."""

    def __add__(self, other: object) -> Expr:
        return Add((*_terms(self), *_terms(as_expr(other))))

    def __radd__(self, other: object) -> Expr:
        return Add((*_terms(as_expr(other)), *_terms(self)))

    def __sub__(self, other: object) -> Expr:
        return Add((*_terms(self), Neg(as_expr(other))))

    def __rsub__(self, other: object) -> Expr:
        return Add((*_terms(as_expr(other)), Neg(self)))

    def __mul__(self, other: object) -> Expr:
        return Mul((*_factors(self), *_factors(as_expr(other))))

    def __rmul__(self, other: object) -> Expr:
        return Mul((*_factors(as_expr(other)), *_factors(self)))

    def __truediv__(self, other: object) -> Expr:
        return Div(self, as_expr(other))

    def __rtruediv__(self, other: object) -> Expr:
        return Div(as_expr(other), self)

    def __pow__(self, other: object) -> Expr:
        return Pow(self, as_expr(other))

    def __rpow__(self, other: object) -> Expr:
        return Pow(as_expr(other), self)

    def __neg__(self) -> Expr:
        return Neg(self)


@dataclass(frozen=True)
class Num(Expr):
    """A number. ``exact`` is its spelling where it is known exactly ("pi/2 + 4"); ``ref`` what it shows."""

    value: float | int
    exact: str | None = None
    ref: Ref | None = None


@dataclass(frozen=True)
class Sym(Expr):
    """A named quantity: ``Sym("W", sub=("1",))`` is W₁, ``Sym("m", accent="hat")`` is m-hat.

    Args:
        name: the letter or word; Greek letters by their names ("delta"), which the printers turn into δ.
        sub: subscripts, joined by commas; the same rule for Greek.
        sup: superscripts in parentheses, as in W⁽¹⁾.
        accent: "" | "hat" | "bar" | "tilde".
        ref: the quantity of the record that it stands for.
    """

    name: str
    sub: tuple[str, ...] = ()
    sup: tuple[str, ...] = ()
    accent: str = ""
    ref: Ref | None = None


@dataclass(frozen=True)
class Function:
    """How a function is written: plain text, LaTeX, how often it is differentiated (primes), and its subscripts."""

    name: str
    text: str = ""
    latex: str = ""
    primes: int = 0
    sub: tuple[str, ...] = ()


@dataclass(frozen=True)
class Add(Expr):
    """A sum of terms in order; a :class:`Neg` term is printed as a subtraction."""

    terms: tuple[Expr, ...]


@dataclass(frozen=True)
class Neg(Expr):
    """The negative of a term."""

    arg: Expr


@dataclass(frozen=True)
class Mul(Expr):
    """A product in order. style: "" juxtaposition or a dot between numbers; "matrix"; "elementwise" (⊙);
    "convolution" (∗); "correlation" (⋆), its adjoint. ``op`` and ``attrs`` say which operation a convolution means.
    """

    factors: tuple[Expr, ...]
    style: Literal["", "matrix", "elementwise", "convolution", "correlation"] = ""
    op: str = ""
    attrs: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Div(Expr):
    """A quotient, printed as a fraction."""

    top: Expr
    bottom: Expr


@dataclass(frozen=True)
class Pow(Expr):
    """A power."""

    base: Expr
    exponent: Expr


@dataclass(frozen=True)
class Call(Expr):
    """A function applied to arguments. ``op`` and ``attrs`` say which operation it means, for evaluation."""

    function: Function
    args: tuple[Expr, ...]
    op: str = ""
    attrs: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Transpose(Expr):
    """A transposed matrix."""

    arg: Expr


@dataclass(frozen=True)
class Shaped(Expr):
    """A formula whose entries stand in another shape: repeated along new axes, or with axes of size 1 more or fewer.

    It is written as the formula itself (:func:`plain`): that broadcasting lines up is a convention of the page.
    """

    arg: Expr
    shape: tuple[int, ...]


@dataclass(frozen=True)
class BigSum(Expr):
    """A sum sign over an index, with bounds as formulas or None; a product sign with ``sign`` "prod".

    ``axes``, ``shape`` and ``keepdim`` say which axes of a tensor of that shape the index runs over, for evaluation.
    """

    body: Expr
    index: str
    lower: Expr | None = None
    upper: Expr | None = None
    axes: tuple[int, ...] | None = None
    shape: tuple[int, ...] = ()
    keepdim: bool = False
    sign: str = "sum"


@dataclass(frozen=True)
class Indicator(Expr):
    """1 where the relation holds, else 0: printed [s > 0]."""

    relation: Expr


@dataclass(frozen=True)
class Rel(Expr):
    """A relation a R b, with sign one of = < > <= >= != approx."""

    sign: str
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Cases(Expr):
    """Alternatives: pairs (value, condition); a None condition means otherwise."""

    rows: tuple[tuple[Expr, Expr | None], ...]


@dataclass(frozen=True)
class Partial(Expr):
    """A partial derivative, ∂top/∂bottom."""

    top: Expr
    bottom: Expr


@dataclass(frozen=True)
class Matrix(Expr):
    """A matrix or (with one row or column) a vector, written out."""

    rows: tuple[tuple[Expr, ...], ...]


@dataclass(frozen=True)
class Words(Expr):
    """Upright words inside a formula."""

    text: str


def as_expr(value: object) -> Expr:
    """Return a formula for a formula, a number or a word."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, bool):
        return Num(int(value))
    if isinstance(value, (int, float)):
        return Num(value)
    return Words(str(value))


def plain(expr: Expr) -> Expr:
    """Return a formula as it is written: without what says how the shapes line up."""
    if isinstance(expr, (Num, Sym, Words)):
        return expr
    if isinstance(expr, Shaped):
        return plain(expr.arg)
    changed = {field: _map_field(getattr(expr, field), plain) for field in expr.__dataclass_fields__}  # type: ignore[attr-defined]
    return replace(expr, **changed)  # type: ignore[type-var]


def _terms(expr: Expr) -> tuple[Expr, ...]:
    return expr.terms if isinstance(expr, Add) else (expr,)


def _factors(expr: Expr) -> tuple[Expr, ...]:
    return expr.factors if isinstance(expr, Mul) and expr.style == "" else (expr,)


def map_leaves(expr: Expr, change: Callable[[Num | Sym], Expr]) -> Expr:
    """Return the same tree with every number and symbol replaced by ``change(leaf)``.

    A partial derivative whose lower symbol becomes a number becomes that number.
    """

    def go(node: Expr) -> Expr:
        if isinstance(node, (Num, Sym)):
            return change(node)
        if isinstance(node, Partial):
            bottom = go(node.bottom)
            return bottom if isinstance(bottom, Num) else Partial(node.top, bottom)
        changed = {field: _map_field(getattr(node, field), go) for field in node.__dataclass_fields__}  # type: ignore[attr-defined]
        return replace(node, **changed)  # type: ignore[type-var]

    return go(expr)


def _map_field(value: object, go: Callable[[Expr], Expr]) -> object:
    if isinstance(value, Expr):
        return go(value)
    if isinstance(value, tuple):
        return tuple(_map_field(item, go) for item in value)
    return value


def leaves(expr: Expr) -> Iterator[Num | Sym]:
    """Yield the numbers and symbols of a formula in reading order."""
    if isinstance(expr, (Num, Sym)):
        yield expr
        return
    for field in expr.__dataclass_fields__:  # type: ignore[attr-defined]
        yield from _leaves_of(getattr(expr, field))


def _leaves_of(value: object) -> Iterator[Num | Sym]:
    if isinstance(value, Expr):
        yield from leaves(value)
    elif isinstance(value, tuple):
        for item in value:
            yield from _leaves_of(item)
