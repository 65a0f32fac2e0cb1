"""From ATen overloads to our operations: one small function per overload that is not exactly an operation.

Most overloads need nothing here: the operation's record names them, and the schema gives the arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..errors import CaptureError
from ..graph import Builder, Node
from ..ops import OPS, Op, Shape, by_aten

__all__ = ["LOWERINGS", "Call", "NotCaptured", "by_table", "lower", "lowering", "normalised"]


class NotCaptured(CaptureError):
    """An overload, or a use of it, that has no operation yet; the message is the small cause."""


class Call:
    """One ATen call being lowered: its normalised arguments, its result's meta value, and ``emit``.

    ``updates`` collects the new values of buffers that the call changes besides.
    """

    def __init__(self, builder: Builder, overload: str, args: dict[str, Any], meta: Any, place: dict[str, Any]) -> None:
        self.builder, self.overload, self.args, self.meta, self._place = builder, overload, args, meta, place
        self.updates: dict[Node, Node] = {}

    def __getitem__(self, name: str) -> Any:
        return self.args.get(name)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        return tuple(int(n) for n in self.meta.shape)

    @property
    def dtype(self) -> str:
        """The dtype of the result."""
        return str(self.meta.dtype).removeprefix("torch.")

    def part(self, overload: str, args: dict[str, Any], meta: Any) -> Call:
        """A call that this one consists of, at the same place of the program."""
        return Call(self.builder, overload, args, meta, self._place)

    def emit(self, op: str | Op, *inputs: Any, **attrs: Any) -> Node:
        """Append an operation; numbers among the operands become constants."""
        return self.builder.emit(op, *(self.node(x) for x in inputs if x is not None), **self._place, **attrs)

    def forget(self, count: int) -> None:
        """Take back all nodes but the first ``count``, with their names."""
        for node in self.builder.nodes[count:]:
            self.builder.release(node.name)
        del self.builder.nodes[count:]

    def named(self, node: Node, name: str) -> Node:
        """Give a node that was just emitted a name of its own in the call's module."""
        module = self._place["module"]
        return self.builder.rename(node, f"{module}.{name}" if module else name, "value")

    def draw(
        self, name: str, method: str, arguments: tuple[float, ...], shape: Shape, dtype: str, stride: Any = None
    ) -> Node:
        """Append a leaf that a run draws at random."""
        module = self._place["module"]
        attrs = {"shape": shape, "method": method, "arguments": arguments, "stride": stride}
        path = f"{module}.{name}" if module else name
        return self.builder.add(Node(OPS["draw"], (), attrs, shape, dtype, path, "draw", **self._place))

    def constant(self, value: torch.Tensor, name: str) -> Node:
        """Append a tensor that is given, under a name of its own in the call's module."""
        module = self._place["module"]
        dtype = str(value.dtype).removeprefix("torch.")
        return self.builder.constant(value, tuple(value.shape), dtype, name=f"{module}.{name}" if module else name)

    def within(self, part: str, root: str = "") -> Call:
        """The same call, in a part of its module; ``root`` stands for a module without a path."""
        path = ".".join(x for x in (self._place["module"] or root, part) if x)
        inner = Call(self.builder, self.overload, self.args, self.meta, {**self._place, "module": path})
        inner.updates = self.updates
        return inner

    def node(self, value: Any) -> Node:
        """A node for an operand that may be a plain number."""
        if isinstance(value, Node):
            return value
        if not isinstance(value, (bool, int, float, complex)):
            raise NotCaptured(f"an operand of aten.{self.overload} is {type(value).__name__}, not a tensor or number")
        kind = _KINDS[type(value)]
        return self.builder.constant(value, (), kind)

    def number(self, value: float) -> Node:
        """A number in the dtype of the result."""
        return self.builder.constant(value, (), self.dtype)

    def reshaped(self, x: Node, shape: Sequence[int]) -> Node:
        """The same entries in another shape; the node itself where nothing changes."""
        return x if x.shape == tuple(shape) else self.emit("reshape", x, shape=tuple(shape))

    def reduced(self, errors: Node) -> Node:
        """Apply a loss's ``reduction`` (0 none, 1 mean, 2 sum) to the errors of the entries."""
        return errors if self["reduction"] == 0 else self.emit("sum" if self["reduction"] == 2 else "mean", errors)

    def refuse_unless(self, condition: bool, what: str) -> None:
        """Raise NotCaptured with the small cause unless the condition holds."""
        if not condition:
            raise NotCaptured(f"aten.{self.overload} with {what}")


_KINDS = {bool: "bool", int: "int64", float: "float64", complex: "complex128"}
Lowering = Callable[[Call], Any]
LOWERINGS: dict[str, Lowering] = {}


def lowering(*overloads: str) -> Callable[[Lowering], Lowering]:
    """Enter a function into the table for overloads by name."""

    def add(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(overloads, function))
        return function

    return add


def lower(call: Call) -> Any:
    """Append the operations that an ATen call is; returns its node, or a tuple of nodes.

    What has no operation here is taken apart, or kept as an opaque node.
    """
    from .opaque import kept

    try:
        return by_table(call)
    except NotCaptured as why:
        return kept(call, why)


def by_table(call: Call) -> Any:
    """Append the operations that an ATen call is by the tables alone.

    Raises:
        NotCaptured: it has no operation here.
    """
    before = len(call.builder.nodes)
    try:
        result = _lowered(call)
        for node in call.builder.nodes[before:]:
            call.refuse_unless(not any(x.is_complex for x in node.inputs) or _takes_complex(node.op), "complex numbers")
    except NotCaptured:
        call.forget(before)
        raise
    return result


_COMPLEX = {"arithmetic", "elementwise", "linear", "shape", "index", "complex", "comparison"}
_REAL_ONLY = {"sign", "abs", "maximum", "minimum", "prelu", "argmax", "argmin"}


def _takes_complex(op: Op) -> bool:
    """Whether an operation and its gradient are meant for complex numbers too."""
    return (op.family in _COMPLEX and op.name not in _REAL_ONLY) or op.name in ("sum", "mean")


def _lowered(call: Call) -> Any:
    if rule := LOWERINGS.get(call.overload):
        return rule(call)
    if (op := by_aten(call.overload)) is None:
        raise NotCaptured(f"aten.{call.overload} has no operation here yet")
    return _generic(call, op)


def normalised(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments by name, in the schema's order, defaults filled in."""
    found = {}
    for i, argument in enumerate(target._schema.arguments):
        if i < len(args):
            found[argument.name] = args[i]
        elif argument.name in kwargs:
            found[argument.name] = kwargs[argument.name]
        else:
            found[argument.name] = argument.default_value if argument.has_default_value() else None
    return found


_HARMLESS = {
    "memory_format",
    "dtype",
    "layout",
    "device",
    "pin_memory",
    "inplace",
    "out",
    "non_blocking",
    "copy",
}


def _generic(call: Call, op: Op) -> Node:
    """Operands are the schema's tensors (or numbers) in order, attributes the rest by name."""
    names = list(call.args)
    count = len(op.operands)
    operands = [call.args[name] for name in names[:count]]
    call.refuse_unless(bool(operands) and operands[0] is not None, "an operand that is no tensor")
    attrs = {}
    for name in names[count:]:
        if name in op.attrs:
            attrs[name] = _plain(call.args[name])
        elif call.args[name] is not None and name not in _HARMLESS:
            raise NotCaptured(f"aten.{call.overload} with {name}={call.args[name]}")
    node = call.emit(op, *operands, **attrs)
    return _cast(call, node)


def _cast(call: Call, node: Node) -> Node:
    """torch's own result dtype wins (an integer mean with dtype=, a truth value summed...)."""
    same = node.dtype == call.dtype or not hasattr(call.meta, "dtype")
    return node if same else call.emit("cast", node, dtype=call.dtype)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, torch.Size)) else value


# --- arithmetic with a factor, scalars on the other side -----------------------------------------------------------
def _scaled(call: Call, value: Any) -> Any:
    alpha = call["alpha"]
    return value if alpha in (None, 1) else call.emit("mul", alpha, value)


@lowering("add.Tensor", "add.Scalar", "sub.Tensor", "sub.Scalar")
def _add(call: Call) -> Node:
    return call.emit(call.overload[:3], call["self"], _scaled(call, call["other"]))


@lowering("rsub.Scalar", "rsub.Tensor")
def _rsub(call: Call) -> Node:
    return call.emit("sub", call["other"], _scaled(call, call["self"]))


@lowering("clamp_min.default", "clamp_max.default")
def _clamp_one(call: Call) -> Node:
    return call.emit("clamp", call["self"], min=call["min"], max=call["max"])


@lowering("clamp.Tensor")
def _clamp_tensor(call: Call) -> Node:
    low = call["self"] if call["min"] is None else call.emit("maximum", call["self"], call["min"])
    return low if call["max"] is None else call.emit("minimum", low, call["max"])


@lowering("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(call: Call) -> Node:
    return call.emit("where", call["mask"], call["value"], call["self"])


@lowering("bitwise_and.Tensor", "__and__.Tensor", "bitwise_or.Tensor", "__or__.Tensor", "bitwise_not.default")
def _bitwise(call: Call) -> Node:
    """``&``, ``|`` and ``~`` of truth values; of whole numbers they are something else."""
    names = [name for name in ("self", "other") if name in call.args]
    call.refuse_unless(
        all(isinstance(call[n], Node) and call[n].dtype == "bool" for n in names), "operands that are no truth values"
    )
    return call.emit(
        f"logical_{call.overload.strip('_').removeprefix('bitwise_').partition('.')[0].strip('_')}",
        *(call[n] for n in names),
    )


@lowering("where.ScalarSelf", "where.ScalarOther", "where.Scalar")
def _where(call: Call) -> Node:
    return _cast(call, call.emit("where", call["condition"], call["self"], call["other"]))


# --- the same entries in another shape -------------------------------------------------------------------------------
@lowering(
    "reshape.default",
    "view.default",
    "flatten.using_ints",
    "unsqueeze.default",
    "squeeze.dim",
    "squeeze.dims",
    "squeeze.default",
    "_unsafe_view.default",
    "view_as.default",
    "reshape_as.default",
    "unflatten.int",
)
def _reshape(call: Call) -> Node:
    same = call["self"].shape == call.shape
    return call["self"] if same else call.emit("reshape", call["self"], shape=call.shape)


@lowering(
    "t.default",
    "numpy_T.default",
    "mT.default",
    "transpose.int",
    "swapaxes.default",
    "permute.default",
    "movedim.int",
)
def _permute(call: Call) -> Node:
    rank = len(call["self"].shape)
    order = _order(call, rank)
    return call["self"] if order == tuple(range(rank)) else call.emit("permute", call["self"], dims=order)


def _order(call: Call, rank: int) -> tuple[int, ...]:
    kind, order = call.overload.split(".")[0], list(range(rank))
    if kind == "permute":
        return tuple(d % rank for d in call["dims"])
    if kind == "numpy_T" or (kind == "t" and rank == 2):
        return tuple(reversed(order))
    if kind == "movedim":
        order.insert(call["destination"] % rank, order.pop(call["source"] % rank))
        return tuple(order)
    if rank < 2:
        return tuple(order)
    a, b = {"transpose": ("dim0", "dim1"), "swapaxes": ("axis0", "axis1")}.get(kind, ("", ""))
    i, j = (call[a] % rank, call[b] % rank) if a else (rank - 2, rank - 1)
    order[i], order[j] = order[j], order[i]
    return tuple(order)


def _expanded(call: Call, node: Node, shape: Sequence[int]) -> Node:
    return node if node.shape == tuple(shape) else call.emit("expand", node, shape=tuple(shape))


@lowering("expand.default", "expand_as.default", "broadcast_to.default")
def _expand(call: Call) -> Node:
    return _expanded(call, call["self"], call.shape)


@lowering("broadcast_tensors.default")
def _broadcast_tensors(call: Call) -> tuple[Node, ...]:
    return tuple(_expanded(call, x, meta.shape) for x, meta in zip(call["tensors"], call.meta, strict=True))


@lowering(
    "clone.default",
    "contiguous.default",
    "lift_fresh_copy.default",
    "alias.default",
    "view.dtype",
    "detach_.default",
    "expand_copy.default",
)
def _same(call: Call) -> Node:
    first: Node = next(iter(call.args.values()))
    call.refuse_unless(first.dtype == call.dtype, "another dtype")
    return (
        call.emit("stop_gradient", first) if call.overload == "detach_.default" and first.role != "constant" else first
    )


@lowering("to.dtype", "to.dtype_layout", "to.device", "_to_copy.default", "to.other", "type_as.default")
def _to(call: Call) -> Node:
    return _cast(call, next(iter(call.args.values())))


# --- indexing --------------------------------------------------------------------------------------------------------
@lowering("slice.Tensor")
def _slice(call: Call) -> Node:
    x, dim = call["self"], call["dim"] % len(call["self"].shape)
    start, end, step = slice(call["start"], call["end"], call["step"]).indices(x.shape[dim])
    return x if call.shape == x.shape else call.emit("slice", x, dim=dim, start=start, end=end, step=step)


def _piece(call: Call, dim: int, start: int, end: int) -> Node:
    return call.emit("slice", call["self"], dim=dim, start=start, end=end, step=1)


@lowering("split.Tensor", "split_with_sizes.default", "chunk.default", "split.sizes")
def _split(call: Call) -> tuple[Node, ...]:
    dim, start, pieces = call["dim"] % len(call["self"].shape), 0, []
    for meta in call.meta:
        pieces.append(_piece(call, dim, start, start + meta.shape[dim]))
        start += meta.shape[dim]
    return tuple(pieces)


@lowering("unbind.int")
def _unbind(call: Call) -> tuple[Node, ...]:
    return tuple(call.emit("select", call["self"], dim=call["dim"], index=i) for i in range(len(call.meta)))


@lowering("narrow.default")
def _narrow(call: Call) -> Node:
    return _piece(call, call["dim"] % len(call["self"].shape), call["start"], call["start"] + call["length"])


@lowering("cat.default", "concat.default", "stack.default")
def _cat(call: Call) -> Node:
    return call.emit("stack" if call.overload.startswith("stack") else "cat", *call["tensors"], dim=call["dim"])


@lowering("max.dim", "min.dim")
def _max_dim(call: Call) -> tuple[Node, Node]:
    x, dim = call["self"], call["dim"]
    index = call.emit("arg" + call.overload[:3], x, dim=dim, keepdim=True)
    value = call.emit("gather", x, index, dim=dim)
    if call["keepdim"]:
        return value, index
    shape = tuple(call.meta[0].shape)
    return call.emit("reshape", value, shape=shape), call.emit("reshape", index, shape=shape)


@lowering("max.other", "min.other")
def _max_other(call: Call) -> Node:
    return call.emit("maximum" if call.overload[:3] == "max" else "minimum", call["self"], call["other"])


# --- reductions and norms ------------------------------------------------------------------------------------------
@lowering("var.correction", "std.correction", "var.dim", "std.dim", "var.default", "std.default")
def _var(call: Call) -> Node:
    unbiased = call["unbiased"]
    correction = call["correction"] if call["correction"] is not None else int(unbiased is not False)
    var = call.emit("var", call["self"], dim=_plain(call["dim"]), keepdim=bool(call["keepdim"]), correction=correction)
    return var if call.overload.startswith("var") else call.emit("root", var)


# --- softmax family, activations with structure ----------------------------------------------------------------------
@lowering("softmax.int", "_softmax.default", "log_softmax.int", "_log_softmax.default")
def _softmax(call: Call) -> Node:
    node = call.emit("log_softmax" if "log" in call.overload else "softmax", call["self"], dim=call["dim"])
    return _cast(call, node)


@lowering("prelu.default")
def _prelu(call: Call) -> Node:
    x, weight = call["self"], call["weight"]
    wide = (1, weight.size, *(1,) * (len(x.shape) - 2)) if len(x.shape) > 1 else (weight.size,)
    return call.emit("prelu", x, weight if weight.size == 1 else call.emit("reshape", weight, shape=wide))


@lowering("glu.default")
def _glu(call: Call) -> Node:
    dim = call["dim"] % len(call["self"].shape)
    half = call["self"].shape[dim] // 2
    return call.emit("mul", _piece(call, dim, 0, half), call.emit("sigmoid", _piece(call, dim, half, 2 * half)))
