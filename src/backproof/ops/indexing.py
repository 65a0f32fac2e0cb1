"""Entries put into places and put in order: scattering, sorting, and the places of the largest."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from .base import Attrs, Example, Op, Shape, register
from .shapes import reduced, same

__all__: list[str] = []


def _fewer(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    """The shape with ``k`` entries along ``dim``."""
    shape = list(shapes[0])
    dim = attrs["dim"] % len(shape)
    if not 0 <= attrs["k"] <= shape[dim]:
        raise InputError(f"the largest {attrs['k']} of an axis of size {shape[dim]} do not exist")
    shape[dim] = attrs["k"]
    return tuple(shape)


_ROWS = ("float", "distinct:4", "float")

register(Op(
    "put", "index", ("x", "index", "src"), same,
    examples=(Example(((4, 3), (2,), (2, 3)), {}, _ROWS), Example(((4,), (2,), (2,)), {}, _ROWS),
              Example(((4, 2), (), (2,)), {}, _ROWS)),
    doc="x with the rows that an index tensor names replaced by those of src.",
))  # fmt: skip
register(Op(
    "scatter", "index", ("x", "index", "src"), same, {"dim": 0},
    examples=(Example(((3, 4), (3, 2), (3, 2)), {"dim": 1}, _ROWS), Example(((3, 4), (2, 3), (2, 3)), {"dim": -1}, _ROWS),
              Example(((4,), (2,), (2,)), {"dim": 0}, _ROWS)),
    doc="x with the entries that an index tensor names along an axis replaced by those of src.",
))  # fmt: skip
register(Op(
    "argsort", "index", ("x",), same, {"dim": -1, "descending": False, "stable": False}, dtype="int64", differentiable=False,
    examples=(Example(((3, 4),), {"dim": 1}), Example(((5,),), {"dim": 0, "descending": True})),
    doc="For every place the entry that stands there in order.",
))  # fmt: skip
register(Op(
    "topk_index", "index", ("x",), _fewer, {"k": 1, "dim": -1, "largest": True}, dtype="int64", differentiable=False,
    examples=(Example(((3, 4),), {"k": 2, "dim": 1}), Example(((5,),), {"k": 3, "dim": 0, "largest": False})),
    doc="The places of the k largest (or smallest) entries along an axis, in order.",
))  # fmt: skip
register(Op(
    "median_index", "index", ("x",), reduced, {"dim": -1, "keepdim": False}, dtype="int64", differentiable=False,
    examples=(Example(((3, 4),), {"dim": 1}), Example(((3, 5),), {"dim": 1, "keepdim": True})),
    doc="The place of the median along an axis: of an even number of entries the lower of the two in the middle.",
))  # fmt: skip
register(Op(
    "bucket", "index", ("x", "boundaries"), same, {"right": False}, dtype="int64", differentiable=False,
    examples=(Example(((3, 4), (5,)), {}, ("float", "ordered")), Example(((4,), (3,)), {"right": True}, ("float", "ordered"))),
    doc="For every entry the number of boundaries below it (with right: not above it).",
))  # fmt: skip
register(Op(
    "scatter_extreme", "index", ("x", "index", "src"), same, {"dim": 0, "largest": True},
    examples=(Example(((3, 4), (3, 2), (3, 2)), {"dim": 1}, ("float", "index:4")),
              Example(((3, 4), (2, 4), (2, 4)), {"dim": 0, "largest": False}, ("float", "index:3"))),
    doc="At every place the largest (or smallest) of x and of the entries of src that an index tensor sends there.",
))  # fmt: skip
