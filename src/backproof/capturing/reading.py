"""From a traced program (exported or recorded) to a Graph, operation by operation."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import BackproofError, CaptureError
from ..graph import Graph, Node, Surrogate, promote
from . import tables
from .example import Example, leaf_names
from .functions import Site
from .lower import Call, NotCaptured, lower, normalised
from .names import Origin as Where
from .names import origins
from .origin import WHOLE, ModuleOrigin, Whole, Wrapped, tensors_of, user_name
from .values import Values

__all__ = ["Leaf", "Reader", "Traced"]

_ = tables  # imported for what it registers
_GAP = object()  # the value of what could not be captured, and of all that follows from it


@dataclass(frozen=True)
class Leaf:
    """A placeholder of a traced program: "USER_INPUT", "PARAMETER", "BUFFER" or "CONSTANT_TENSOR", and its path."""

    node: torch.fx.Node
    kind: str
    path: str


@dataclass(frozen=True)
class Traced:
    """A program as fx: what torch.export gives, or the record of a run.

    Args:
        module: its operations.
        leaves: its placeholders in order.
        constants: the tensors of the constants by path.
        noted: what is known about it besides (see :attr:`Graph.facts`).
    """

    module: torch.fx.GraphModule
    leaves: tuple[Leaf, ...]
    constants: Mapping[str, Tensor]
    noted: Mapping[str, Any] = field(default_factory=dict)


class Reader(Values):
    """Walks a traced program and builds the Graph."""

    def __init__(self, traced: Traced, wrapped: Wrapped, example: Example, targets: Any, parameters: set[str]) -> None:
        super().__init__()
        self.traced, self.wrapped, self.example, self.targets = traced, wrapped, example, targets
        self.trained = parameters
        self.casting: set[torch.fx.Node] = set()
        self.leaves: list[tuple[str, str]] = []
        self.inputs: dict[str, Tensor] = {}
        self.order: list[str | None] = []
        self.ties: dict[str, str] = {}
        self.gaps: list[str] = []
        self.sites: dict[Node, Surrogate] = {}
        self.calls: dict[str, Whole] = {}
        self.where: dict[torch.fx.Node, Where] = {}

    def graph(self, title: str) -> Graph:
        """Read the program.

        Raises:
            CaptureError: something in it has no operation yet; all of it is named.
        """
        self._read_leaves()
        result = self._read(self.traced.module)
        if self.gaps:
            raise CaptureError(
                "not everything in this model can be captured yet: " + "; ".join(dict.fromkeys(self.gaps))
            )
        outputs = tuple(x for x in torch.utils._pytree.tree_leaves(result) if isinstance(x, Node))
        if not outputs:
            raise CaptureError("the model returns no tensor, so there is nothing to show; return what it computes")
        loss = self._loss(outputs)
        kept = self._reachable(outputs)
        origin = ModuleOrigin(
            self.wrapped,
            self.example.args,
            self.example.keywords,
            self.targets,
            self.inputs,
            self.traced.module,
            self.leaves,
            self.names,
            loss.name if loss else None,
            self.ties,
            tuple(self.order),
            self.calls,
            tuple(n for n in kept if n.role == "draw"),
        )
        noted = dict(self.traced.noted)
        if self.rewritten or self.stopped or self.casting:
            noted["compared"] = True
        sites = {node: site for node, site in self.sites.items() if node in set(kept)}
        return Graph(kept, outputs, loss, title, origin, dict(self.changed), noted, sites).check()

    def _loss(self, outputs: tuple[Node, ...]) -> Node | None:
        if self.wrapped.has_loss:
            loss = outputs[-1]
            if loss.size != 1 or not loss.is_float:
                raise CaptureError(
                    f"the loss must be one number, and '{loss.name}' has shape {list(loss.shape)}; reduce it with "
                    ".mean() or .sum()"
                )
            return loss
        return outputs[0] if outputs and outputs[0].size == 1 and outputs[0].is_float else None

    def _reachable(self, outputs: tuple[Node, ...]) -> tuple[Node, ...]:
        """The nodes that matter: every leaf of the user's, and what leads to an output."""
        given = ("input", "target", "parameter", "buffer", "draw")
        needed = {n for n in self.builder.nodes if n.role in given} | {*outputs, *self.changed.values()}
        for node in reversed(self.builder.nodes):
            if node in needed:
                needed.update(node.inputs)
                needed.update(x for x in getattr(self.sites.get(node), "operands", ()) if x is not None)
        return tuple(n for n in self.builder.nodes if n in needed)

    # --- leaves ---------------------------------------------------------------------------------------------------
    def _read_leaves(self) -> None:
        values = torch.utils._pytree.tree_leaves((self.example.args, self.example.keywords, self.targets))
        names = [*self.example.names, *leaf_names("target", self.targets)]
        given = iter(zip(names, values, strict=True))
        state = tensors_of(self.wrapped)
        seen: dict[int, str] = {}
        for leaf in self.traced.leaves:
            if leaf.kind == "USER_INPUT":
                self._input(leaf.node, *next(given))
            else:
                self._state(leaf, state, seen)

    def _input(self, node: torch.fx.Node, name: str, value: Any) -> None:
        is_target = len(self.order) >= len(self.example.names)
        self.order.append(None)
        if not isinstance(value, Tensor):
            self.env[node] = value
            self.leaves.append((node.name, "constant"))
            return
        role = "target" if is_target else "parameter" if name in self.trained else "input"
        leaf = self.builder.leaf(name, role, tuple(value.shape), _dtype(value))  # type: ignore[arg-type]
        self._born(node, leaf, role)
        self.inputs[leaf.name] = value
        self.order[-1] = leaf.name
        self.leaves.append((leaf.name, role))

    def _state(self, leaf: Leaf, state: dict[str, Tensor], seen: dict[int, str]) -> None:
        name = user_name(leaf.path)
        tensor = state[name] if name in state else self.traced.constants[leaf.path]
        if (first := seen.get(id(tensor))) is not None:
            self.ties[name] = first
            self._born(leaf.node, next(n for n in self.builder.nodes if n.name == first), leaf.kind.lower())
        elif leaf.kind == "CONSTANT_TENSOR":
            value = tensor.detach()
            self._born(
                leaf.node, self.builder.constant(value, tuple(tensor.shape), _dtype(tensor), name="constant"), "value"
            )
            self.inputs[name] = tensor
        else:
            module = name.rpartition(".")[0]
            role = "parameter" if leaf.kind == "PARAMETER" else "buffer"
            node = self.builder.leaf(name, role, tuple(tensor.shape), _dtype(tensor), module=module)  # type: ignore[arg-type]
            frozen = role == "parameter" and not tensor.requires_grad
            self._born(leaf.node, self.builder.freeze(node) if frozen else node, role)
            seen[id(tensor)] = name
        self.leaves.append((name, leaf.kind))

    # --- operations -----------------------------------------------------------------------------------------------
    def _read(self, module: torch.fx.GraphModule) -> Any:
        nodes = _needed(module)
        computed = [n for n in nodes if n.op == "call_function"]
        self.where.update(zip(computed, origins(computed), strict=True))
        for node in nodes:
            self._flags(node)
            if node.op == "get_attr":
                self.env[node] = _attribute(module, str(node.target))
            elif node.op == "call_function":
                self._compute(node, self.where[node])
            elif node.op == "output":
                return self._args(node.args[0], None)
        return None

    def _flags(self, node: torch.fx.Node) -> None:
        """What the recorder has noted about the modes in which an operation ran."""
        if node.meta.get("stopped"):
            self.stopped.add(node)
        if node.meta.get("autocast"):
            self.casting.add(node)

    def _compute(self, node: torch.fx.Node, where: Where) -> None:
        target: Any = node.target
        try:
            args, kwargs = self._args(node.args, node), self._args(node.kwargs, node)
            if any(x is _GAP for x in torch.utils._pytree.tree_leaves((args, kwargs))):
                self.env[node] = _GAP
            elif target is operator.getitem or getattr(target, "__name__", "") == "getitem":
                self._piece(node, args[0], args[1], where)
            elif isinstance(target, Site):
                self._site(node, target, args)
            elif isinstance(target, torch._ops.HigherOrderOperator):
                self._region(node)
            elif isinstance(target, torch._ops.OpOverload):
                self._call(node, target, args, kwargs, where)
            else:
                raise NotCaptured(f"the Python call {getattr(target, '__name__', target)}")
        except BackproofError as error:
            self._gap(node, where, error)
        if isinstance(self.env.get(node), Node):
            self.names[node.name] = self.env[node].name

    def _gap(self, node: torch.fx.Node, where: Where, error: BackproofError) -> None:
        """Note what cannot be captured and go on, so that the message has every gap."""
        place = f" in module '{where.module}'" if where.module else ""
        if where.source:
            place = f" at {where.source}" + (f" ({where.source.text})" if where.source.text else "")
        self.gaps.append(f"{error}{place}")
        self.env[node] = _GAP

    def _piece(self, node: torch.fx.Node, value: Any, index: Any, where: Where) -> None:
        """One of several results: with the place that it has inside a region, or as a view of the whole."""
        whole = node.args[0]
        if isinstance(value, Node):
            raise NotCaptured("one of several results, of an operation that has one here")
        result = None if value is None else value[index]
        if isinstance(result, torch.fx.Node):
            self.same[node] = result
            return
        assert isinstance(whole, torch.fx.Node)
        self.env[node] = result
        if whole in self.stopped:
            self.stopped.add(node)
        if isinstance(whole.target, Site):
            self._sited(node, whole.target, result, where)
        elif isinstance(result, Node):
            self._placed(node, whole, result, index)

    # --- regions: no_grad, autocast -------------------------------------------------------------------------------------
    def _region(self, node: torch.fx.Node) -> None:
        """A region is inlined: its placeholders are the operands, its results are the nodes inside."""
        kind = str(node.target)
        if not any(name in kind for name in ("set_grad_enabled", "autocast")):
            raise NotCaptured(f"a region under {kind.removeprefix('wrap_with_')}")
        start = next(i for i, x in enumerate(node.args) if isinstance(self._region_body(x), torch.fx.GraphModule))
        body = self._region_body(node.args[start])
        for inner, operand in zip(
            [n for n in body.graph.nodes if n.op == "placeholder"], node.args[start + 1 :], strict=True
        ):
            if isinstance(operand, torch.fx.Node):
                self.same[inner] = operand
            else:
                self.env[inner] = operand
        inside = [n for n in body.graph.nodes if n.op != "placeholder"]
        if "autocast" in kind:
            on = bool(node.args[2])
            self.casting.update(inside if on else ())
            self.stopped.update(inside if node in self.stopped else ())
        else:
            self.stopped.update(() if node.args[0] else inside)
            self.casting.update(inside if node in self.casting else ())
        self._read(body)
        output = next(n for n in body.graph.nodes if n.op == "output")
        self.env[node] = output.args[0]

    def _region_body(self, value: Any) -> Any:
        return self.env.get(value) if isinstance(value, torch.fx.Node) else None

    # --- a custom Function, a hook ---------------------------------------------------------------------------------------
    def _site(self, node: torch.fx.Node, site: Site, args: Any) -> None:
        """A place with a backward pass of the user's own: its results are the forward pass's, known together."""
        outs, given = args
        operands = tuple(x if isinstance(x, Node) else None for x in given)
        self.env[node] = tuple((out, site.at(operands, place, len(outs))) for place, out in enumerate(outs))

    def _sited(self, node: torch.fx.Node, site: Site, result: Any, where: Where) -> None:
        """One result of such a place."""
        out, surrogate = result
        if isinstance(out, Node) and out.is_float:
            shown = self.builder.emit("identity", out, module=where.module, source=where.source)
            label = where.name
            if label.endswith("getitem"):
                number = f"_{surrogate.place + 1}" if surrogate.count > 1 else ""
                label = (
                    f"{out.name}_hooked" if site.kind == "hook" else label.removesuffix("getitem") + site.name + number
                )
            out = self.builder.rename(shown, label, "value")
            self.sites[out] = surrogate
        self._born(node, out)

    def _parts_named(self, node: torch.fx.Node, results: tuple[Any, ...], before: int) -> tuple[Any, ...]:
        """``a, b = x.chunk(2)``: the results under the names that they are unpacked to."""
        names = {user.args[1]: self.where[user].name for user in node.users if user in self.where}
        given = {
            results[i]: name
            for i, name in names.items()
            if isinstance(i, int) and isinstance(results[i], Node) and not name.endswith("getitem")
        }
        renamed = self.builder.rename_new(before, {x: name for x, name in given.items() if x.role == "helper"})
        return tuple(renamed.get(x, x) if isinstance(x, Node) else x for x in results)

    # --- one operation ---------------------------------------------------------------------------------------------------
    def _call(self, node: torch.fx.Node, target: Any, args: Any, kwargs: Any, where: Where) -> None:
        overload = str(target).removeprefix("aten.")
        if overload.startswith(("_assert", "sym_", "_check")):
            self.env[node] = None
            return
        named = normalised(target, args, kwargs)
        if missing := [a.name for a in target._schema.arguments if str(a.type) == "Tensor" and named[a.name] is None]:
            raise NotCaptured(f"aten.{overload}, whose operand '{missing[0]}' is not among the values recorded")
        if node in self.casting:
            named = self._cast(node, named)
        place = {"module": where.module, "source": where.source}
        call = Call(self.builder, overload, named, node.meta.get("val"), place)
        before = len(self.builder.nodes)
        if target._schema.is_mutable:
            self._write(node, call, before, where)
            return
        result = lower(call)
        parts = isinstance(result, tuple)
        result = self._parts_named(node, result, before) if parts else self._named(result, before, where)
        self.env[node] = result
        if overload in WHOLE and isinstance(result, Node) and not named.get("dropout_p"):
            running = {key: None for key, x in named.items() if isinstance(x, Node) and x in call.updates}
            self.calls[result.name] = target, {**named, **running}  # which would write its statistics once more
        for old, new in call.updates.items():
            self._note(old, new)
        if isinstance(result, Node):
            first = next((a for a in node.args if isinstance(a, torch.fx.Node)), None)
            self._placed(node, first, result, None, call)

    def _cast(self, node: torch.fx.Node, args: dict[str, Any]) -> dict[str, Any]:
        """Under autocast: the operands in the dtype in which torch computes, which shows in the result."""
        meta = node.meta.get("val")
        if not isinstance(meta, Tensor) or not meta.is_floating_point() or str(node.target) in _TO:
            return args
        wanted = _dtype(meta)
        operands = [x for x in torch.utils._pytree.tree_leaves(args) if isinstance(x, Node) and x.is_float]
        if not operands or promote(operands) == wanted:
            return args

        def changed(x: Any) -> Any:
            if not isinstance(x, Node) or not x.is_float or x.dtype in (wanted, "float64"):
                return x
            return self.builder.emit("cast", x, dtype=wanted, module=x.module, source=x.source)

        cast: dict[str, Any] = torch.utils._pytree.tree_map(changed, args)
        return cast


_TO = ("aten.to.dtype", "aten.to.dtype_layout", "aten._to_copy.default", "aten.to.other", "aten.type_as.default")


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _needed(module: torch.fx.GraphModule) -> list[torch.fx.Node]:
    """What leads to a result or changes something; the rest (a question in an assertion) is left out."""
    needed: set[torch.fx.Node] = set()
    nodes = list(module.graph.nodes)
    for node in reversed(nodes):
        if node.op in ("output", "placeholder") or node in needed or _changes(node):
            needed.add(node)
            needed.update(node.all_input_nodes)
    return [n for n in nodes if n in needed]


def _updates(name: str) -> bool:
    return "batch_norm" in name or "instance_norm" in name


def _changes(node: torch.fx.Node) -> bool:
    target = node.target
    if isinstance(target, torch._ops.HigherOrderOperator):
        return True
    return isinstance(target, torch._ops.OpOverload) and (target._schema.is_mutable or _updates(target.name()))


def _attribute(module: torch.fx.GraphModule, path: str) -> Any:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value
