"""Code that writes in place, as a program without writing: every write makes a new value, every later read sees it.

A tensor is a place in a storage: the storage's content and the views that lead to the tensor. A write through a view puts
the new part back into the whole; a view that is read after a write is taken again from the new whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..graph import Node
from .lower import Call, NotCaptured

__all__ = [
    "PLAIN",
    "Place",
    "Storage",
    "View",
    "out_of",
    "plain_form",
    "returning_form",
    "storage_key",
    "view_of",
]

Put = Callable[[Call, Node, Node], Node]


@dataclass(frozen=True)
class View:
    """One step from a whole to a part: ``take`` it, and ``put`` a new part back (None: this cannot be written through).

    Two views with the same ``key`` see the same part.
    """

    name: str
    take: Callable[[Node], Node]
    put: Put | None
    key: Any = None


@dataclass(eq=False)
class Storage:
    """The content of a storage at this moment of the program.

    Args:
        value: the content.
        role: "input", "parameter", "buffer" or "value".
        stopped: whether it was made where no gradient is recorded.
        version: how often it was written.
    """

    value: Node
    role: str = "value"
    stopped: bool = False
    version: int = 0


@dataclass(frozen=True)
class Place:
    """A tensor: its storage, and the views that lead to it from the whole."""

    storage: Storage
    views: tuple[View, ...] = ()

    def now(self) -> Node:
        """The present value."""
        value = self.storage.value
        for view in self.views:
            value = view.take(value)
        return value

    def is_at(self, other: Place) -> bool:
        """Whether both are the same part of the same storage."""
        keys = [[(v.name, v.key) for v in place.views] for place in (self, other)]
        return self.storage is other.storage and keys[0] == keys[1] and all(k is not None for _, k in keys[0])

    def write(self, call: Call, value: Node) -> Node:
        """Put a new value here; returns the new whole."""
        wholes = [self.storage.value]
        for view in self.views[:-1]:
            wholes.append(view.take(wholes[-1]))
        for view, whole in zip(reversed(self.views), reversed(wholes), strict=True):
            if view.put is None:
                raise NotCaptured(
                    f"aten.{call.overload}, which changes in place what it sees through aten.{view.name}; "
                    "build a new tensor instead, with torch.where or torch.cat"
                )
            value = view.put(call, whole, value)
        return value


def storage_key(node: torch.fx.Node) -> Any:
    """What is the same for two tensors that share memory."""
    if "storage" in node.meta:
        return node.meta["storage"]
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or torch._C._functorch.is_functorch_wrapped_tensor(value):
        return None
    return value.untyped_storage()._cdata if value.layout is torch.strided else None


# --- putting a part back -----------------------------------------------------------------------------------------------
def _reshaped(call: Call, whole: Node, part: Node) -> Node:
    return part if part.shape == whole.shape else call.emit("reshape", part, shape=whole.shape)


def _same(call: Call, whole: Node, part: Node) -> Node:
    return part


def _permuted(order: tuple[int, ...]) -> Put:
    back = tuple(sorted(range(len(order)), key=order.__getitem__))
    return lambda call, whole, part: call.emit("permute", part, dims=back)


def _between(dim: int, start: int, end: int, step: int) -> Put:
    """The entries from ``start`` to ``end`` along an axis replaced."""

    def put(call: Call, whole: Node, part: Node) -> Node:
        if step != 1:
            return _spread(call, whole, part, dim, start, end, step)
        size = whole.shape[dim]
        pieces = [
            call.emit("slice", whole, dim=dim, start=0, end=start, step=1) if start else None,
            part,
            call.emit("slice", whole, dim=dim, start=end, end=size, step=1) if end < size else None,
        ]
        kept = [p for p in pieces if p is not None]
        return kept[0] if len(kept) == 1 else call.emit("cat", *kept, dim=dim)

    return put


def _spread(call: Call, whole: Node, part: Node, dim: int, start: int, end: int, step: int) -> Node:
    """Every ``step``-th entry replaced."""
    size = whole.shape[dim]
    there = torch.zeros(size, dtype=torch.bool)
    there[start:end:step] = True
    mask = there.reshape(size, *(1,) * (len(whole.shape) - dim - 1))
    held = call.builder.constant(mask, tuple(mask.shape), "bool", name="replaced")
    wide = call.emit("unslice", part, dim=dim, start=start, end=end, step=step, shape=whole.shape)
    return call.emit("where", held, wide, whole)


def _row(dim: int, index: int) -> Put:
    inner = _between(dim, index, index + 1, 1)

    def put(call: Call, whole: Node, part: Node) -> Node:
        shape = (*whole.shape[:dim], 1, *whole.shape[dim + 1 :])
        return inner(call, whole, call.emit("reshape", part, shape=shape))

    return put


# --- the views that torch has ----------------------------------------------------------------------------------------------
_MOVED: dict[str, Callable[[dict[str, Any], int], tuple[int, ...]]] = {
    "transpose": lambda a, n: _swapped(a["dim0"] % n, a["dim1"] % n, n),
    "swapaxes": lambda a, n: _swapped(a["axis0"] % n, a["axis1"] % n, n),
    "t": lambda a, n: tuple(reversed(range(n))),
    "numpy_T": lambda a, n: tuple(reversed(range(n))),
    "mT": lambda a, n: _swapped(n - 1, n - 2, n),
    "permute": lambda a, n: tuple(d % n for d in a["dims"]),
}
_ENTRIES = ("reshape", "view", "flatten", "unsqueeze", "squeeze", "_unsafe_view", "view_as", "reshape_as", "unflatten")
_PIECES = ("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")


def _swapped(i: int, j: int, rank: int) -> tuple[int, ...]:
    order = list(range(rank))
    order[i], order[j] = order[j], order[i]
    return tuple(order)


def view_of(call: Call, whole: Node, take: Callable[[Node], Node], piece: int | None = None) -> View:
    """The step that a view operation is.

    Args:
        call: the operation, with ``whole`` as its first argument.
        whole: what it looks at.
        take: the operation itself, on another whole.
        piece: which of its results, where it returns several.
    """
    kind, args, shape = call.overload.partition(".")[0], call.args, whole.shape
    put: Put | None = None
    if kind in _ENTRIES:
        put = _reshaped
    elif kind in _MOVED:
        put = _permuted(_MOVED[kind](args, len(shape))) if len(shape) > 1 else _same
    elif kind == "select":
        dim = args["dim"] % len(shape)
        put = _row(dim, args["index"] % shape[dim])
    elif kind == "unbind" and piece is not None:
        put = _row(args["dim"] % len(shape), piece)
    elif kind == "slice":
        dim = args["dim"] % len(shape)
        put = _between(dim, *slice(args["start"], args["end"], args["step"]).indices(shape[dim]))
    elif kind == "narrow":
        start = args["start"] % max(shape[args["dim"]], 1)
        put = _between(args["dim"] % len(shape), start, start + args["length"], 1)
    elif kind in _PIECES and piece is not None:
        put = _piece(call, len(shape), piece)
    elif kind in ("alias", "contiguous", "to", "clone", "dropout", "expand", "expand_as", "lift_fresh", "type_as"):
        put = _same if call.shape == shape else None
    rest = [(k, v) for k, v in list(args.items())[1:] if not isinstance(v, Node)]
    return View(call.overload, take, put, repr((rest, shape, call.shape if piece is None else piece)))


def _piece(call: Call, rank: int, piece: int) -> Put:
    dim = call["dim"] % rank
    start = sum(int(meta.shape[dim]) for meta in call.meta[:piece])
    return _between(dim, start, start + int(call.meta[piece].shape[dim]), 1)


# --- an in-place call as its plain form ------------------------------------------------------------------------------------
def _filled(call: Call, whole: Node, value: Any) -> Node:
    value = value if isinstance(value, Node) else call.builder.constant(value, (), whole.dtype)
    value = value if value.dtype == whole.dtype else call.emit("cast", value, dtype=whole.dtype)
    return value if value.shape == whole.shape else call.emit("expand", value, shape=whole.shape)


PLAIN: dict[str, Callable[[Call, Node], Node]] = {
    "fill_.Scalar": lambda call, whole: _filled(call, whole, call["value"]),
    "fill_.Tensor": lambda call, whole: _filled(call, whole, call["value"]),
    "zero_.default": lambda call, whole: _filled(call, whole, 0),
    "copy_.default": lambda call, whole: _filled(call, whole, call["src"]),
}
"""The in-place calls whose plain form is no operation of the same name."""


def plain_form(overload: str) -> str:
    """``add_.Tensor`` is ``add.Tensor`` with its result put back."""
    name, _, variant = overload.partition(".")
    if not name.endswith("_") or name.endswith("__"):
        raise _given(overload)
    return f"{name[:-1]}.{variant}"


def out_of(call: Call, target: torch._ops.OpOverload) -> str:
    """The argument that a call writes its result to: ``torch.div(u, v, out=u)``; empty if it writes to what it reads."""
    written = [a.name for a in target._schema.arguments if a.kwarg_only and a.is_write]
    if len(written) > 1:
        raise _given(call.overload)
    return written[0] if written else ""


def returning_form(target: torch._ops.OpOverload, argument: str) -> str:
    """``div.out`` is ``div.Tensor``, which takes the same arguments and returns what that one writes."""
    packet, wanted = target.overloadpacket, [a.name for a in target._schema.arguments if a.name != argument]
    for variant in packet.overloads():
        schema = getattr(packet, variant)._schema
        if not schema.is_mutable and [a.name for a in schema.arguments] == wanted:
            return f"{schema.name.removeprefix('aten::')}.{variant}"
    raise _given(str(target).removeprefix("aten."))


def _given(overload: str) -> NotCaptured:
    return NotCaptured(f"aten.{overload}, which writes into a tensor that was given to it; use its result instead")
