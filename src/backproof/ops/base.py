"""What an operation is: one record, independent of every theory that reads it.

A record says how an operation is called and written, which operands and attributes it takes, which ATen
overloads are this operation, what shape comes out, and gives examples that feed every law test. How a domain
sees it (numbers, exact numbers, symbols...) stands in ``domains``; how it is differentiated in
``differentiate``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ..errors import BackproofError

__all__ = [
    "OPS",
    "Attrs",
    "Elementwise",
    "Example",
    "Op",
    "Shape",
    "by_aten",
    "derivative",
    "register",
    "unregistered_on_failure",
]

Shape = tuple[int, ...]
Attrs = Mapping[str, Any]
ShapeRule = Callable[[Sequence[Shape], Attrs], Shape]


@dataclass(frozen=True)
class Example:
    """Operand shapes and attributes on which every law is tried; ``kinds`` overrides "float" per operand.

    Kinds: "float" (random within the op's region), "index:N" (integers below N), "distinct:N" (the same, no two alike along
    the last axis), "ordered" (rising), "bool", "positive", "unit" (strictly between 0 and 1), "weights" (positive and not
    differentiated), "none" (an optional operand left out).
    """

    shapes: tuple[Shape, ...]
    attrs: Attrs = field(default_factory=dict)
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Op:
    """A textbook operation.

    Args:
        name: its name in this program; unique.
        family: the group whose rule a domain may give for all its members at once.
        operands: names of the tensor operands, in order; a trailing "?" marks one that may be left out, a
            single "*xs" any number of them.
        shape: the shape of the result from the shapes of the operands and the attributes.
        attrs: attributes with their defaults (None where there is none).
        aten: the ATen overloads that are exactly this operation, as "relu.default".
        dtype: the result's dtype: "same" (promoted operands) or a dtype's name.
        text, latex: how it is written as a function.
        differentiable: whether a gradient can pass through it at all (a comparison: no).
        examples: what the law tests try it on.
        doc: one sentence.
    """

    name: str
    family: str
    operands: tuple[str, ...]
    shape: ShapeRule
    attrs: Attrs = field(default_factory=dict)
    aten: tuple[str, ...] = ()
    dtype: str = "same"
    text: str = ""
    latex: str = ""
    differentiable: bool = True
    examples: tuple[Example, ...] = ()
    doc: str = ""

    def __repr__(self) -> str:
        return f"<op {self.name}>"


Formula = Callable[..., Any]


@dataclass(frozen=True, eq=False, repr=False)
class Elementwise(Op):
    """An operation applied entry by entry (with broadcasting), given by one SymPy formula.

    Args:
        formula: from SymPy operands (and attributes as keywords) to a SymPy expression. Written with
            ``Piecewise`` where it has kinks, so that its derivative at the kink is torch's convention.
        kinks: from the same arguments to expressions whose zeros are the points without a derivative.
        slopes: the partial derivatives by hand, where SymPy's form fails at some point (x^k k/x at 0).
        region: the interval of operands in which examples and law tests stay; one for all operands.
    """

    formula: Formula = None  # type: ignore[assignment]
    kinks: Callable[..., tuple[Any, ...]] | None = None
    region: tuple[float, float] = (-3.0, 3.0)
    slopes: tuple[Formula, ...] = ()
    primes: tuple[int, ...] = ()


OPS: dict[str, Op] = {}
_BY_ATEN: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Add a record to the table; a second record of the same name or ATen overload is refused."""
    if op.name in OPS:
        raise BackproofError(f"an operation named '{op.name}' is registered already")
    for overload in op.aten:
        if overload in _BY_ATEN:
            raise BackproofError(f"aten.{overload} belongs to '{_BY_ATEN[overload].name}' already")
    OPS[op.name] = op
    _BY_ATEN.update(dict.fromkeys(op.aten, op))
    return op


@contextmanager
def unregistered_on_failure() -> Iterator[None]:
    """Take back what was registered inside if an exception leaves the block."""
    ops, aten = dict(OPS), dict(_BY_ATEN)
    try:
        yield
    except BaseException:
        for table, before in ((OPS, ops), (_BY_ATEN, aten)):
            for name in set(table) - set(before):
                del table[name]
        raise


def by_aten(overload: str) -> Op | None:
    """Return the record of an ATen overload such as "relu.default", or None."""
    return _BY_ATEN.get(overload)


def _is_slope_of_step(expr: Any) -> bool:
    """Whether an expression is the derivative of floor or ceiling, which SymPy leaves as it stands: 0 between the steps."""
    import sympy

    return isinstance(expr, (sympy.Derivative, sympy.Subs)) and bool(expr.atoms(sympy.floor, sympy.ceiling))


@cache
def derivative(op: Elementwise, operand: int) -> Elementwise:
    """Return the partial derivative of an elementwise operation as an elementwise operation.

    d f / d x_i as a function of the same operands; its formula is SymPy's derivative of ``op.formula``.
    """

    def formula(*args: Any, **attrs: Any) -> Any:
        import sympy

        if op.slopes:
            return op.slopes[operand](*args, **attrs)

        xs = [sympy.Symbol(f"x{i}", real=True) for i in range(len(args))]
        slope = sympy.powsimp(sympy.diff(op.formula(*xs, **attrs), xs[operand]), deep=True)  # x^k k/x is k x^(k-1)
        slope = slope.replace(sympy.DiracDelta, lambda *at: sympy.S.Zero)  # the jump of a sign, as autograd has it
        slope = slope.replace(_is_slope_of_step, lambda e: sympy.S.Zero)
        return slope.subs(dict(zip(xs, args, strict=True)), simultaneous=True)

    return Elementwise(
        name=op.name + ("'" if len(op.operands) == 1 else f"'{operand}"),
        family="arbitrary" if op.family == "arbitrary" else "elementwise",
        operands=op.operands,
        shape=op.shape,
        attrs=op.attrs,
        text=op.text,
        latex=op.latex,
        formula=formula,
        kinks=op.kinks,
        region=op.region,
        primes=(*op.primes, operand),
        doc=f"The derivative of {op.name} with respect to its operand {op.operands[operand]}.",
    )
