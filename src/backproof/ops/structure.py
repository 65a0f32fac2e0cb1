"""Operations on whole tensors: products, reductions, shapes, indexing, the softmax family, and their adjoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from .base import Attrs, Example, Op, Shape, register
from .shapes import concatenated, matmul, reduced, reshaped, same, sliced, stacked

__all__: list[str] = []


def _op(name: str, family: str, operands: tuple[str, ...], shape: Any, examples: Sequence[Example], **more: Any) -> Op:
    return register(Op(name, family, operands, shape, examples=tuple(examples), **more))


# --- products -----------------------------------------------------------------------------------------------------
def _linear(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    x, weight = shapes[0], shapes[1]
    if len(weight) != 2 or not x or x[-1] != weight[1]:
        raise InputError(f"a linear layer with weight {list(weight)} cannot take an input of shape {list(x)}")
    return (*x[:-1], weight[0])


_op("matmul", "linear", ("a", "b"), matmul,
    [Example(s) for s in (((3, 4), (4, 2)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 2)), ((2, 3, 4), (4, 5)),
                          ((2, 3, 4), (2, 4, 5)), ((5, 1, 3, 4), (2, 4, 2)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3)))],
    aten=("matmul.default", "mm.default", "bmm.default", "mv.default", "dot.default"),
    doc="The product of matrices, vectors or batches of them.")  # fmt: skip
_op("linear", "linear", ("x", "weight", "bias?"), _linear,
    [Example(((5, 3), (2, 3), (2,))), Example(((5, 3), (2, 3), ()), kinds=("float", "float", "none")),
     Example(((2, 5, 3), (4, 3), (4,))), Example(((3,), (2, 3), (2,)))],
    aten=("linear.default",), doc="s = x Wᵀ + b, the layer of torch.nn.Linear.")  # fmt: skip
_op("outer", "linear", ("a", "b"), lambda shapes, attrs: (*shapes[0], *shapes[1]), [Example(((3,), (4,)))],
    aten=("outer.default", "ger.default"), doc="The outer product a bᵀ: every entry of a times every entry of b.")  # fmt: skip

# --- reductions ---------------------------------------------------------------------------------------------------
_REDUCE = [Example(((3, 4),)), Example(((3, 4),), {"dim": (0,)}), Example(((2, 3, 4),), {"dim": (-1,), "keepdim": True}),
           Example(((2, 3, 4),), {"dim": (0, 2)}), Example(((5,),), {"dim": (0,)})]  # fmt: skip
_DIM: dict[str, Any] = {"dim": None, "keepdim": False}
_op(
    "sum",
    "reduce",
    ("x",),
    reduced,
    [*_REDUCE, Example(((),))],
    attrs=_DIM,
    aten=("sum.default", "sum.dim_IntList"),
)
_op("mean", "reduce", ("x",), reduced, _REDUCE, attrs=_DIM, aten=("mean.default", "mean.dim"))
_op("amax", "reduce", ("x",), reduced, _REDUCE, attrs=_DIM, aten=("amax.default", "max.default"), text="max")
_op("amin", "reduce", ("x",), reduced, _REDUCE, attrs=_DIM, aten=("amin.default", "min.default"), text="min")
_op("logsumexp", "reduce", ("x",), reduced, _REDUCE[1:], attrs=_DIM, aten=("logsumexp.default",))
_op("var", "reduce", ("x",), reduced, [Example(e.shapes, {**e.attrs, "correction": c}) for e in _REDUCE for c in (0, 1)],
    attrs={**_DIM, "correction": 1}, aten=(), doc="The variance; divides by N - correction.")  # fmt: skip
_op("argmax", "index", ("x",), reduced, [Example(((3, 4),), {"dim": 1}), Example(((3, 4),), {"dim": 0, "keepdim": True})],
    attrs=_DIM, dtype="int64", differentiable=False, aten=("argmax.default",))  # fmt: skip
_op("argmin", "index", ("x",), reduced, [Example(((3, 4),), {"dim": 1})], attrs=_DIM, dtype="int64",
    differentiable=False, aten=("argmin.default",))  # fmt: skip


# --- shapes -------------------------------------------------------------------------------------------------------
def _permuted(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    return tuple(shapes[0][d] for d in attrs["dims"])


def _expanded(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    wanted, given = tuple(attrs["shape"]), shapes[0]
    pad = len(wanted) - len(given)
    return tuple(given[i - pad] if n == -1 else n for i, n in enumerate(wanted))


def _to_shape(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    return tuple(attrs["shape"])


_op("reshape", "shape", ("x",), reshaped, [Example(((3, 4),), {"shape": (2, 6)}), Example(((3, 4),), {"shape": (-1,)})],
    attrs={"shape": None}, doc="The same entries in another shape.")  # fmt: skip
_op("permute", "shape", ("x",), _permuted, [Example(((2, 3, 4),), {"dims": (2, 0, 1)}), Example(((3, 4),), {"dims": (1, 0)})],
    attrs={"dims": None}, doc="The axes in another order; for a matrix, its transpose.")  # fmt: skip
_op("expand", "shape", ("x",), _expanded, [Example(((3, 1),), {"shape": (2, 3, 4)}), Example(((),), {"shape": (3, 2)})],
    attrs={"shape": None}, doc="Entries repeated along new axes and axes of size 1.")  # fmt: skip
_op("sum_to", "shape", ("x",), _to_shape, [Example(((2, 3, 4),), {"shape": (3, 1)}), Example(((3, 2),), {"shape": ()})],
    attrs={"shape": None}, doc="The adjoint of broadcasting: sums over the axes that were stretched.")  # fmt: skip


# --- indexing -----------------------------------------------------------------------------------------------------
def _selected(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    dim = attrs["dim"] % len(shapes[0])
    if not -shapes[0][dim] <= attrs["index"] < shapes[0][dim]:
        raise InputError(f"index {attrs['index']} is outside an axis of size {shapes[0][dim]}")
    return shapes[0][:dim] + shapes[0][dim + 1 :]


def _index_shape(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    return shapes[1]


def _embedded(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    return (*shapes[1], *shapes[0][1:])


_SLICE: dict[str, Any] = {"dim": 0, "start": None, "end": None, "step": 1}
_op("slice", "index", ("x",), sliced, [Example(((5, 4),), {"dim": 0, "start": 1, "end": 5, "step": 2}),
    Example(((5, 4),), {"dim": 1, "start": 1, "end": 3, "step": 1})], attrs=_SLICE)  # fmt: skip
_op("unslice", "index", ("x",), _to_shape, [
    Example(((2, 4),), {"dim": 0, "start": 1, "end": 5, "step": 2, "shape": (5, 4)})],
    attrs={**_SLICE, "shape": None}, doc="The adjoint of slice: the entries back in their places, zeros elsewhere.")  # fmt: skip
_op("select", "index", ("x",), _selected, [Example(((3, 4),), {"dim": 1, "index": 2}), Example(((3,),), {"dim": 0, "index": -1})],
    attrs={"dim": 0, "index": 0}, aten=("select.int",))  # fmt: skip
_op("unselect", "index", ("x",), _to_shape, [Example(((3,),), {"dim": 1, "index": 2, "shape": (3, 4)})],
    attrs={"dim": 0, "index": 0, "shape": None}, doc="The adjoint of select.")  # fmt: skip
_op("cat", "index", ("*xs",), concatenated, [Example(((2, 3), (4, 3))), Example(((2, 3), (2, 1)), {"dim": -1})],
    attrs={"dim": 0})  # fmt: skip
_op("stack", "index", ("*xs",), stacked, [Example(((2, 3), (2, 3))), Example(((3,), (3,), (3,)), {"dim": -1})],
    attrs={"dim": 0})  # fmt: skip
_op("positions", "index", ("x",), same, [Example(((3, 4),), {"dim": 1}), Example(((5,),), {"dim": 0})], attrs={"dim": -1},
    differentiable=False, text="index", doc="For every entry its place along an axis, from 0.")  # fmt: skip
_op("gather", "index", ("x", "index"), _index_shape, [Example(((3, 4), (3, 2)), {"dim": 1}, ("float", "index:4"))],
    attrs={"dim": 0}, doc="Entries picked along an axis by an index tensor.")  # fmt: skip
_op("scatter_add", "index", ("x", "index"), _to_shape,
    [Example(((3, 2), (3, 2)), {"dim": 1, "shape": (3, 4)}, ("float", "index:4"))],
    attrs={"dim": 0, "shape": None}, doc="The adjoint of gather: entries added into their places.")  # fmt: skip
_op("embedding", "index", ("weight", "index"), _embedded, [Example(((6, 3), (2, 4)), {}, ("float", "index:6"))],
    doc="Rows of a table picked by an index tensor.")  # fmt: skip
_op("embedding_grad", "index", ("x", "index"), _to_shape,
    [Example(((2, 4, 3), (2, 4)), {"shape": (6, 3)}, ("float", "index:6"))], attrs={"shape": None},
    doc="The adjoint of embedding: rows added up by index.")  # fmt: skip

# --- softmax family -----------------------------------------------------------------------------------------------
_SOFT = [Example(((3, 4),), {"dim": 1}), Example(((4,),), {"dim": 0}), Example(((2, 3, 2),), {"dim": 1})]
_op("softmax", "softmax", ("x",), same, _SOFT, attrs={"dim": -1}, doc="p_i = exp(x_i) / sum_j exp(x_j).")
_op(
    "log_softmax",
    "softmax",
    ("x",),
    same,
    _SOFT,
    attrs={"dim": -1},
    text="ln softmax",
    latex=r"\ln\operatorname{softmax}",
)
_TWO = [Example((e.shapes[0], e.shapes[0]), e.attrs) for e in _SOFT]
_op("softmax_grad", "softmax", ("delta", "p"), same, _TWO, attrs={"dim": -1}, doc="p ⊙ (δ - sum_j δ_j p_j).")
_op("log_softmax_grad", "softmax", ("delta", "y"), same, _TWO, attrs={"dim": -1}, doc="δ - exp(y) sum_j δ_j.")


def _nll(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    return shapes[1] if attrs.get("reduction") == "none" else ()


_NLL_ATTRS = {"reduction": "mean", "ignore_index": -100}
_nll_kinds = ("float", "index:4", "none")
_op("nll", "loss", ("y", "t", "weight?"), _nll,
    [Example(((3, 4), (3,), ()), {"reduction": r}, _nll_kinds) for r in ("mean", "sum", "none")]
    + [Example(((3, 4), (3,), (4,)), {"reduction": r, "ignore_index": 1}, ("float", "index:4", "weights")) for r in ("mean", "sum", "none")]
    + [Example(((2, 4, 3), (2, 3), ()), {}, _nll_kinds)],
    attrs=_NLL_ATTRS, text="NLL", doc="-y[n, t_n], reduced: the negative log-likelihood of the target classes.")  # fmt: skip
_op("nll_grad", "loss", ("delta", "t", "weight?"), _to_shape,
    [Example(((), (3,), ()), {"reduction": r, "shape": (3, 4)}, _nll_kinds) for r in ("mean", "sum")],
    attrs={**_NLL_ATTRS, "shape": None}, doc="The adjoint of nll: -δ (or its share) at each target class.")  # fmt: skip

# --- gradients stop or pass -----------------------------------------------------------------------------------------
_op("stop_gradient", "shape", ("x",), same, [Example(((3, 4),))], aten=("detach.default",), differentiable=False,
    text="stop", doc="x itself, through which no gradient passes (detach, no_grad).")  # fmt: skip
_op(
    "cast",
    "shape",
    ("x",),
    same,
    [Example(((3, 4),), {"dtype": "float64"})],
    attrs={"dtype": None},
    dtype="attr",
)
_op(
    "constant",
    "leaf",
    (),
    _to_shape,
    [],
    attrs={"shape": ()},
    differentiable=False,
    doc="A number or tensor that is given.",
)
_op("leaf", "leaf", (), _to_shape, [], attrs={"shape": ()}, doc="An input, a target or a parameter.")
