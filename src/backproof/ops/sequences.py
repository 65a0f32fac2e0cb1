"""Running totals along an axis, products and norms over axes, sums over letters (einsum), and functions of a matrix."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from .base import Attrs, Example, Op, Shape, register
from .shapes import reduced, same

__all__ = ["sizes_of_letters"]

# --- running totals ----------------------------------------------------------------------------------------------------
_ALONG = (Example(((3, 4),), {"dim": 1}), Example(((5,),), {"dim": 0}), Example(((2, 3, 2),), {"dim": -2}))

register(Op(
    "cumsum", "scan", ("x",), same, {"dim": 0, "reverse": False}, examples=(*_ALONG, Example(((4,),), {"dim": 0, "reverse": True})),
    doc="y_t = x_1 + ... + x_t along an axis; in reverse x_t + ... + x_n.",
))  # fmt: skip
register(Op(
    "cumprod", "scan", ("x",), same, {"dim": 0}, examples=_ALONG, doc="y_t = x_1 ... x_t along an axis.",
))  # fmt: skip
register(Op(
    "logcumsumexp", "scan", ("x",), same, {"dim": 0}, examples=_ALONG, doc="y_t = ln(e^x_1 + ... + e^x_t) along an axis.",
))  # fmt: skip
register(Op(
    "recurrence", "scan", ("a", "b"), same, {"dim": 0, "reverse": False},
    examples=tuple(Example((e.shapes[0],) * 2, {**e.attrs, "reverse": r}) for e in _ALONG for r in (False, True)),
    doc="h_t = a_t h_{t-1} + b_t along an axis, from h_0 = 0; in reverse h_t = a_t h_{t+1} + b_t.",
))  # fmt: skip
_EXTREME = (Example(((3, 4),), {"dim": 1}), Example(((5,),), {"dim": 0}))
for _name, _what in (("cummax_index", "largest"), ("cummin_index", "smallest")):
    register(Op(
        _name, "scan", ("x",), same, {"dim": 0}, dtype="int64", differentiable=False, examples=_EXTREME,
        doc=f"For every place along an axis where the {_what} entry so far stands.",
    ))  # fmt: skip

# --- over axes ---------------------------------------------------------------------------------------------------------
register(Op(
    "prod", "reduce", ("x",), reduced, {"dim": None, "keepdim": False},
    examples=(Example(((2, 3),)), Example(((3, 4),), {"dim": 1}), Example(((2, 3, 2),), {"dim": -2, "keepdim": True})),
    doc="The product of the entries.",
))  # fmt: skip
register(Op(
    "vector_norm", "reduce", ("x",), reduced, {"ord": 2.0, "dim": None, "keepdim": False}, text="norm",
    examples=(Example(((3, 4),)), Example(((3, 4),), {"dim": (1,)}), Example(((2, 3, 2),), {"dim": (0, 2), "keepdim": True}),
              Example(((3, 4),), {"dim": (0,), "ord": 3.0}), Example(((3,),), {"ord": 1.5})),
    doc="(sum |x|^p)^(1/p), p = ord > 1: the length of a vector for p = 2. Where it is 0 the slope is taken to be 0.",
))  # fmt: skip


# --- sums over letters -----------------------------------------------------------------------------------------------
def sizes_of_letters(equation: str, shapes: Sequence[Shape]) -> dict[str, int]:
    """The size of the axis that each letter of an equation stands for."""
    terms = equation.partition("->")[0].split(",")
    if len(terms) != len(shapes) or any(len(t) != len(s) for t, s in zip(terms, shapes, strict=False)):
        raise InputError(f"einsum '{equation}' does not fit shapes {', '.join(str(list(s)) for s in shapes)}")
    found: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            if found.setdefault(letter, size) != size:
                raise InputError(f"einsum '{equation}': axis {letter} has sizes {found[letter]} and {size}")
    return found


def _einsum(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    sizes = sizes_of_letters(attrs["equation"], shapes)
    return tuple(sizes[letter] for letter in attrs["equation"].partition("->")[2])


register(Op(
    "einsum", "contraction", ("*xs",), _einsum, {"equation": None},
    examples=(Example(((2, 3), (3, 4)), {"equation": "ij,jk->ki"}), Example(((2, 3), (2, 3)), {"equation": "ij,ij->i"}),
              Example(((2, 3, 2), (3, 4), (2, 4)), {"equation": "abc,bd,ad->cd"}), Example(((2, 3),), {"equation": "ij->j"}),
              Example(((3,), (2,)), {"equation": "i,j->ij"}), Example(((2, 3), (4,)), {"equation": "ij,k->j"})),
    doc="The products of entries, summed over the letters that the result does not have.",
))  # fmt: skip


# --- functions of a matrix ------------------------------------------------------------------------------------------------
def _square(shape: Shape) -> Shape:
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise InputError(f"a square matrix is needed, not shape {list(shape)}")
    return shape


def _of_square(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    return _square(shapes[0])


def _number(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    return _square(shapes[0])[:-2]


def _solved(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    a, b = _square(shapes[0]), shapes[1]
    if len(b) != len(a) or a[-1] != b[-2] or a[:-2] != b[:-2]:
        raise InputError(f"a system with matrix {list(a)} cannot have the right-hand side {list(b)}")
    return b


_MATRICES = (Example(((3, 3),)), Example(((2, 2, 2),)))
register(Op("inverse", "matrix", ("x",), _of_square, examples=_MATRICES, text="inv", doc="X⁻¹."))
register(Op("det", "matrix", ("x",), _number, examples=_MATRICES, doc="det X."))
register(Op("logabsdet", "matrix", ("x",), _number, examples=_MATRICES, doc="ln |det X|."))
register(Op(
    "solve", "matrix", ("a", "b"), _solved, examples=(Example(((3, 3), (3, 2))), Example(((2, 2, 2), (2, 2, 1)))),
    doc="X with A X = B.",
))  # fmt: skip
