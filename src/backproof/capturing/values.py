"""What each node of a traced program is at this moment: its value, its place in memory, whether a gradient passes."""

from __future__ import annotations

from typing import Any

import torch

from ..graph import Builder, Node
from .lower import Call, NotCaptured, lower, normalised
from .mutation import PLAIN, Place, Storage, View, out_of, plain_form, returning_form, storage_key, view_of
from .names import Origin as Where

__all__ = ["Values"]


class Values:
    """The values of a program that may write in place, as a program that does not.

    Args (all of them grow as the program is read):
        env: the value of each node: a Node of the graph, several of them, or a plain Python value.
        same: nodes that are another node: what goes into a region, and what an in-place call returns.
        places: where a tensor lies, and up to which write its value is known.
        stopped: the nodes that ran where no gradient is recorded.
        names: our name of each node of the program.
        buffers, changed: the state of the model, and its new values.
        rewritten: whether code that writes into parts has become code that does not.
    """

    def __init__(self) -> None:
        self.builder = Builder()
        self.env: dict[torch.fx.Node, Any] = {}
        self.same: dict[torch.fx.Node, torch.fx.Node] = {}
        self.places: dict[torch.fx.Node, tuple[Place, int]] = {}
        self.storages: dict[Any, torch.fx.Node] = {}
        self.stopped: set[torch.fx.Node] = set()
        self.stops: dict[Node, Node] = {}
        self.names: dict[str, str] = {}
        self.buffers: dict[Node, Storage] = {}
        self.changed: dict[Node, Node] = {}
        self.rewritten = False

    def _args(self, value: Any, user: torch.fx.Node | None) -> Any:
        """The present values of the operands of ``user`` (None: of what the program returns)."""

        def read(x: Any) -> Any:
            return self._now(x, user in self.stopped) if isinstance(x, torch.fx.Node) else x

        return torch.utils._pytree.tree_map(read, value)

    def _root(self, node: torch.fx.Node) -> torch.fx.Node:
        while node in self.same:
            node = self.same[node]
        return node

    def _now(self, node: torch.fx.Node, stopped: bool) -> Any:
        """The value of a program's node as it is now: after all writes into its memory."""
        node = self._root(node)
        value = self.env.get(node)
        if node in self.places and isinstance(value, Node):
            place, version = self.places[node]
            if version != place.storage.version:
                self.rewritten |= bool(place.views)
                value = self.env[node] = place.now()
                self.places[node] = (place, place.storage.version)
            if not stopped and (place.storage.stopped or (place.views and node in self.stopped)):
                return self._stop(value)
        elif node in self.stopped and not stopped:
            return torch.utils._pytree.tree_map(self._stop, value)
        return value

    def _stop(self, value: Any) -> Any:
        """The same value without its gradient."""
        if not isinstance(value, Node) or not value.is_float or value.role == "constant" or value.role == "target":
            return value
        if value.op.name == "stop_gradient":
            return value
        if value not in self.stops:
            self.stops[value] = self.builder.emit(
                "stop_gradient",
                value,
                name=f"{value.name}.stop",
                role="value",
                module=value.module,
                source=value.source,
            )
        return self.stops[value]

    def _born(self, node: torch.fx.Node, value: Node, role: str = "value") -> None:
        """Enter a tensor with a storage of its own."""
        storage = self.buffers.get(value) or Storage(value, role, node in self.stopped)
        if role == "buffer":
            self.buffers[value] = storage
        self.env[node] = value
        self.places[node] = (Place(storage), storage.version)
        self.storages.setdefault(storage_key(node), node)

    def _placed(
        self, node: torch.fx.Node, first: torch.fx.Node | None, value: Node, piece: int | None, call: Call | None = None
    ) -> None:
        """Find out whether a result is a view of its first operand, and where it lies."""
        first = None if first is None else self._root(first)
        maker = node if piece is None or first is None else first
        if piece is not None and first is not None:
            first = next((self._root(a) for a in first.args if isinstance(a, torch.fx.Node)), None)
        key = storage_key(node)
        known = None if key is None else self.storages.get(key)
        if known is None:
            self._born(node, value)
            return
        if first is not None and first in self.places and storage_key(first) == key:
            place, _ = self.places[first]
            view = self._view(maker, self._now(first, node in self.stopped), piece)
        else:
            place, view = self.places[known][0], _elsewhere(str(node.target))
        self.places[node] = (Place(place.storage, (*place.views, view)), place.storage.version)

    def _view(self, maker: torch.fx.Node, whole: Node, piece: int | None) -> View:
        """The step from a whole to its view, which can be taken again from another whole."""
        target: Any = maker.target
        if not isinstance(target, torch._ops.OpOverload):
            return View(getattr(target, "__name__", str(target)), lambda x: x, None)
        overload = str(target).removeprefix("aten.")
        args = normalised(target, self._args(maker.args, maker), self._args(maker.kwargs, maker))
        first = next(iter(args))
        place = {"module": whole.module, "source": whole.source}

        def take(of: Node) -> Node:
            result = lower(Call(self.builder, overload, {**args, first: of}, maker.meta.get("val"), place))
            taken: Node = result if piece is None else result[piece]
            return taken

        call = Call(self.builder, overload, args, maker.meta.get("val"), place)
        return view_of(call, whole, take, piece)

    # --- in place --------------------------------------------------------------------------------------------------------
    def _write(self, node: torch.fx.Node, call: Call, before: int, where: Where) -> None:
        """An in-place call: its plain form, put back into the memory that it writes to."""
        out = out_of(call, node.target)  # type: ignore[arg-type]
        written = node.kwargs[out] if out else node.args[0]
        if not isinstance(written, torch.fx.Node) or self._root(written) not in self.places:
            raise NotCaptured(f"aten.{call.overload}, which changes in place what is no plain tensor")
        written = self._root(written)
        place, _ = self.places[written]
        storage = place.storage
        old = self._now(written, True)
        if call.overload == "copy_.default" and self._is_there(node, place):
            pass  # y[0] *= 2 writes the part back that it has changed in place
        elif call.overload == "detach_.default":
            storage.stopped = storage.role == "value" and old.role != "constant"
        else:
            self._may_write(call, storage, node in self.stopped)
            new = self._returned(node, call, old, out) if out else self._plain(call, old)
            partial = bool(place.views)
            value = place.write(call, new) if partial else new
            self._enter(storage, value, before, where, partial, node in self.stopped)
        self.same[node] = written
        self.names[node.name] = storage.value.name

    def _is_there(self, node: torch.fx.Node, place: Place) -> bool:
        """Whether what is copied is what lies there already."""
        source = self._root(node.args[1]) if isinstance(node.args[1], torch.fx.Node) else None
        return source is not None and source in self.places and place.is_at(self.places[source][0])

    def _plain(self, call: Call, old: Node) -> Node:
        """The value that an in-place call leaves, in the old one's shape and dtype."""
        rule = PLAIN.get(call.overload)
        first = next(iter(call.args))
        call.args[first] = old
        if rule is not None:
            return rule(call, old)
        call.overload = plain_form(call.overload)
        new: Node = lower(call)
        if new.dtype != old.dtype:
            new = call.emit("cast", new, dtype=old.dtype)
        return new if new.shape == old.shape else call.emit("expand", new, shape=old.shape)

    def _returned(self, node: torch.fx.Node, call: Call, old: Node, out: str) -> Node:
        """The value that a call leaves in the tensor given as ``out``: torch lets no gradient pass there."""
        form = returning_form(node.target, out)  # type: ignore[arg-type]
        if node not in self.stopped or call.shape != old.shape:
            raise NotCaptured(
                f"aten.{call.overload}, which writes into a tensor that was given to it, with gradients on or in "
                "another shape; use its result instead"
            )
        call.overload, call.args = form, {key: x for key, x in call.args.items() if key != out}
        new: Node = lower(call)
        held: Node = self._stop(new if new.dtype == old.dtype else call.emit("cast", new, dtype=old.dtype))
        return held

    def _may_write(self, call: Call, storage: Storage, stopped: bool) -> None:
        if storage.role in ("input", "target", "parameter"):
            what = "an input" if storage.role != "parameter" else "a parameter"
            raise NotCaptured(
                f"aten.{call.overload}, which changes {what} in place ('{storage.value.name}'); work on a new tensor"
            )
        if stopped and not storage.stopped and storage.role == "value" and storage.value.is_float:
            if storage.value.role == "constant":
                return
            raise NotCaptured(
                f"aten.{call.overload}, which changes in place, where no gradient is recorded (no_grad), what a gradient "
                f"passes through ('{storage.value.name}'): torch then uses the new value with the old derivative; build "
                "a new tensor instead"
            )
        if storage.stopped and not stopped:
            storage.value, storage.stopped = self._stop(storage.value), False

    def _enter(self, storage: Storage, value: Node, before: int, where: Where, partial: bool, stopped: bool) -> None:
        """The new content of a storage, under the name that the user gives it."""
        buffer = next((leaf for leaf, known in self.buffers.items() if known is storage), None)
        if buffer is not None:
            self._updated(buffer, self._stop(value) if stopped else value)
            return
        self.rewritten |= partial
        if partial:
            stem = storage.value.name.partition("#")[0] if storage.value.role == "value" else where.name
            where = Where(stem, where.module, where.source)
        storage.value = self._named(value, before, where)
        storage.version += 1

    def _updated(self, buffer: Node, value: Node) -> Node:
        """Note the new value of a buffer, under the buffer's own name with a number."""
        if value.role != "helper" or any(value in n.inputs for n in self.builder.nodes[-8:]):
            value = self.builder.emit("identity", value, module=buffer.module)
        return self._note(buffer, self.builder.rename(value, buffer.name, "value"))

    def _note(self, known: Node, value: Node) -> Node:
        """Whatever reads the buffer from here on reads its new value; ``known`` is the buffer or an earlier value of it."""
        buffer = next((old for old, new in self.changed.items() if new is known), known)
        self.changed[buffer] = value
        if (storage := self.buffers.get(buffer)) is not None:
            storage.value = value
            storage.version += 1
        return value

    def _named(self, result: Any, before: int, where: Where) -> Any:
        """Give the last new node the user's name, if the call made one."""
        if not isinstance(result, Node) or result not in self.builder.nodes[before:] or result.role == "constant":
            return result
        return self.builder.rename(result, where.name, "draw" if result.role == "draw" else "value")


def _elsewhere(name: str) -> View:
    """A view of what is not its first operand: read as long as nobody writes there."""

    def take(whole: Node) -> Node:
        raise NotCaptured(f"{name}, which sees memory that is changed in place; build a new tensor instead")

    return View(name, take, None)
