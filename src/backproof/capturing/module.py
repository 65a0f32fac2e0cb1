"""Capture an nn.Module or a function of tensors: torch.export's training IR, not decomposed, into our Graph."""

from __future__ import annotations

import contextlib
import io
import logging
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BackproofError, CaptureError, InputError
from ..graph import Builder, Graph, Node
from . import origin, tables
from .example import Example, leaf_names, loss_function
from .frames import whole_stacks
from .lower import Call, NotCaptured, lower, normalised
from .names import Origin as Place
from .names import is_library, origins, user_line
from .origin import WHOLE, ModuleOrigin, Whole, Wrapped, tensors_of, user_name
from .unseen import PACKED, holds_packed, unseen

__all__ = ["capture"]


class _Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = [function]

    def forward(self, *args: Any, **keywords: Any) -> Any:
        return self.function[0](*args, **keywords)


def capture(
    model: Any,
    *inputs: Any,
    loss: Any = None,
    targets: Any = None,
    output: Any = None,
    parameters: Sequence[str] = (),
    title: str = "",
) -> Graph:
    """Capture a network into a Graph of textbook operations.

    Args:
        model: an ``nn.Module`` or a function of tensors.
        *inputs: example inputs: tensors, or one tuple, or one dict of keywords. Their shapes belong to the Graph.
        loss: a function of (output, targets), a loss module, or a name ("mse", "cross_entropy"...). A model whose
            output is one number is its own loss.
        targets: what the loss compares with.
        output: which tensor of the model's output the loss takes: a key, an index or a function.
        parameters: for a function, the names of its arguments that are trained.
        title: a name for the graph; the model's class by default.

    Returns:
        The Graph. Parameters are read live from the model at each reading.

    Raises:
        CaptureError: the model does not run on these inputs, or something in it has no operation yet; the message
            names the line.

    Example:
        >>> import torch, backproof as bp
        >>> graph = bp.capture(torch.nn.Linear(2, 1), torch.ones(3, 2))
        >>> [node.name for node in graph.parameters]
        ['weight', 'bias']
    """
    given = inputs[0] if len(inputs) == 1 else inputs
    example = Example.of(model, given)
    module = model if isinstance(model, nn.Module) else _Function(model)
    wrapped = Wrapped(module, loss_function(loss), _picker(output))
    if unknown := set(parameters) - set(example.names):
        raise InputError(f"there is no argument called '{min(unknown)}' to train; known: {', '.join(example.names)}")
    call = torch.utils._pytree.tree_map(_copied, (example.args, example.keywords, targets))
    _try_run(wrapped, call)
    exported = _export(wrapped, call)
    name = title or (type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", "function"))
    return _Reader(exported, wrapped, example, targets, set(parameters)).graph(name)


def _picker(output: Any) -> Callable[[Any], Any]:
    if callable(output):
        return output  # type: ignore[no-any-return]
    if output is not None:
        return lambda result: (
            result[output] if not isinstance(output, str) or isinstance(result, Mapping) else getattr(result, output)
        )
    return lambda result: result.logits if hasattr(result, "logits") else result


def _copied(value: Any) -> Any:
    """A tensor of its own: torch.export takes one tensor given twice for one input, and a model may change its input."""
    return value.detach().clone().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


def _user_frame(error: BaseException) -> str:
    """Where in the user's own code an exception came from: "file:line (text)"."""
    trace = "".join(
        f'  File "{f.filename}", line {f.lineno}, in {f.name}\n' for f in traceback.extract_tb(error.__traceback__)
    )
    source = user_line(trace)
    return f" at {source} ({source.text})" if source else ""


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return (text.splitlines() or [type(error).__name__])[0][:300]


def _try_run(wrapped: Wrapped, call: tuple[Any, ...]) -> None:
    """Run the model eagerly once, so that a wrong shape is reported as the user's and not as torch.export's."""
    state = {name: tensor.clone() for name, tensor in wrapped.named_buffers()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            wrapped(*call)
        for warning in said:
            warnings.warn(str(warning.message), warning.category, stacklevel=3)
    except BackproofError:
        raise
    except Exception as error:
        if (
            isinstance(error, TypeError)
            and call[2] is None
            and "positional argument" in str(error)
            and not _user_frame(error)
        ):
            raise CaptureError(
                f"{_first_line(error)}: no targets are given, so the loss is called with the output alone; "
                "give targets, or check how many inputs the model takes"
            ) from None
        hint = "Check the shapes and dtypes of the inputs and targets"
        if "'dict'" in str(error) or "'tuple'" in str(error):
            hint = "If the model returns several tensors, say with output= which of them the loss takes"
        raise CaptureError(
            f"the model does not run on these inputs{_user_frame(error)}: {type(error).__name__}: "
            f"{_first_line(error)}. {hint}"
        ) from None
    finally:
        with torch.no_grad():
            for name, tensor in wrapped.named_buffers():
                tensor.copy_(state[name])


@contextmanager
def _quiet() -> Any:
    """Silence torch.export's own loggers and warnings: their contents come back in our one paragraph."""
    loggers = [
        logging.getLogger(name) for name in ("torch", "torch.export", "torch._dynamo", "torch.fx", "torch._export")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _export(wrapped: Wrapped, call: tuple[Any, ...]) -> Any:
    try:
        with _quiet(), unseen(), whole_stacks(origin.__file__, is_library), torch.enable_grad():
            return torch.export.export(wrapped, call, strict=False)
    except Exception as error:
        raise CaptureError(_why_not(error)) from None


def _why_not(error: Exception) -> str:
    where = _user_frame(error)
    if isinstance(error, BackproofError):
        return f"the model cannot be captured{where}: {error}"
    if holds_packed(error):
        return PACKED.format(where)
    if "DataDependent" in type(error).__name__ or "data-dependent" in str(error).lower():
        return (
            f"the model branches on a value that is only known when it runs{where}; "
            "a Graph has one way through: write both branches and choose with torch.where"
        )
    return f"the model cannot be captured{where}: {type(error).__name__}: {_first_line(error)}"


_ = tables  # imported for what it registers
_GAP = object()  # the value of what could not be captured, and of all that follows from it


class _Reader:
    """Walks an exported program and builds the Graph."""

    def __init__(self, exported: Any, wrapped: Wrapped, example: Example, targets: Any, parameters: set[str]) -> None:
        self.exported, self.wrapped, self.example, self.targets = exported, wrapped, example, targets
        self.trained = parameters
        self.builder = Builder()
        self.env: dict[torch.fx.Node, Any] = {}
        self.roots: dict[torch.fx.Node, torch.fx.Node] = {}
        self.names: dict[str, str] = {}
        self.leaves: list[tuple[str, str]] = []
        self.inputs: dict[str, Tensor] = {}
        self.order: list[str | None] = []
        self.ties: dict[str, str] = {}
        self.gaps: list[str] = []
        self.buffers: dict[torch.fx.Node, Node] = {}
        self.changed: dict[Node, Node] = {}
        self.places: dict[torch.fx.Node, Place] = {}
        self.calls: dict[str, Whole] = {}

    def graph(self, title: str) -> Graph:
        module = self.exported.graph_module
        self._read_leaves(module)
        result = self._read(module, stopped=False)
        if self.gaps:
            raise CaptureError(
                "not everything in this model can be captured yet: " + "; ".join(dict.fromkeys(self.gaps))
            )
        outputs = tuple(x for x in _flat(result) if isinstance(x, Node))
        if not outputs:
            raise CaptureError("the model returns no tensor, so there is nothing to show; return what it computes")
        loss = self._loss(result, outputs)
        kept = self._reachable(outputs)
        origin = ModuleOrigin(
            self.wrapped,
            self.example.args,
            self.example.keywords,
            self.targets,
            self.inputs,
            module,
            self.leaves,
            self.names,
            loss.name if loss else None,
            self.ties,
            tuple(self.order),
            self.calls,
            tuple(n for n in kept if n.role == "draw"),
        )
        return Graph(kept, outputs, loss, title, origin, dict(self.changed)).check()

    def _loss(self, result: Any, outputs: tuple[Node, ...]) -> Node | None:
        has_loss = self.wrapped.loss_module is not None or self.wrapped._loss[0] is not None
        if has_loss:
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
        return tuple(n for n in self.builder.nodes if n in needed)

    # --- leaves ---------------------------------------------------------------------------------------------------
    def _read_leaves(self, module: torch.fx.GraphModule) -> None:
        placeholders = [n for n in module.graph.nodes if n.op == "placeholder"]
        values = torch.utils._pytree.tree_leaves((self.example.args, self.example.keywords, self.targets))
        names = [*self.example.names, *leaf_names("target", self.targets)]
        given = iter(zip(names, values, strict=True))
        state = tensors_of(self.wrapped)
        seen: dict[int, str] = {}
        for node, spec in zip(placeholders, self.exported.graph_signature.input_specs, strict=True):
            kind = spec.kind.name
            if kind == "USER_INPUT":
                self._input(node, *next(given))
            else:
                self._state(node, kind, spec.target or node.name, state, seen)

    def _input(self, node: torch.fx.Node, name: str, value: Any) -> None:
        is_target = len(self.order) >= len(self.example.names)
        self.order.append(None)
        if not isinstance(value, Tensor):
            self.env[node] = value
            self.leaves.append((node.name, "constant"))
            return
        role = "target" if is_target else "parameter" if name in self.trained else "input"
        leaf = self.builder.leaf(name, role, tuple(value.shape), _dtype(value))  # type: ignore[arg-type]
        self.env[node] = leaf
        self.inputs[leaf.name] = value
        self.order[-1] = leaf.name
        self.leaves.append((leaf.name, role))

    def _state(self, node: torch.fx.Node, kind: str, path: str, state: dict[str, Tensor], seen: dict[int, str]) -> None:
        name = user_name(path)
        tensor = state[name] if name in state else self.exported.constants[path]
        if (first := seen.get(id(tensor))) is not None:
            self.ties[name] = first
            self.env[node] = next(n for n in self.builder.nodes if n.name == first)
        elif kind == "CONSTANT_TENSOR":
            self.env[node] = self.builder.constant(
                tensor.detach(), tuple(tensor.shape), _dtype(tensor), name="constant"
            )
            self.inputs[name] = tensor
        else:
            module = name.rpartition(".")[0]
            role = "parameter" if kind == "PARAMETER" else "buffer"
            leaf = self.builder.leaf(name, role, tuple(tensor.shape), _dtype(tensor), module=module)  # type: ignore[arg-type]
            frozen = role == "parameter" and not tensor.requires_grad
            self.env[node] = self.builder.freeze(leaf) if frozen else leaf
            seen[id(tensor)] = name
            if role == "buffer":
                self.buffers[node] = leaf
        self.leaves.append((name, kind))

    # --- operations -----------------------------------------------------------------------------------------------
    def _read(self, module: torch.fx.GraphModule, stopped: bool) -> Any:
        computed = [n for n in module.graph.nodes if n.op == "call_function"]
        places = dict(zip(computed, origins(computed), strict=True))
        self.places.update(places)
        result = None
        for node in module.graph.nodes:
            if node.op == "get_attr":
                self.env[node] = _attribute(module, str(node.target))
            elif node.op == "call_function":
                self._compute(node, places[node])
            elif node.op == "output":
                result = self._args(node.args[0])
        if stopped:
            return torch.utils._pytree.tree_map(self._stop, result)
        return result

    def _stop(self, value: Any) -> Any:
        if not isinstance(value, Node) or not value.is_float:
            return value
        return self.builder.emit(
            "stop_gradient", value, name=f"{value.name}.stop", role="value", module=value.module, source=value.source
        )

    def _args(self, value: Any) -> Any:
        return torch.utils._pytree.tree_map(lambda x: self.env.get(x, x) if isinstance(x, torch.fx.Node) else x, value)

    def _compute(self, node: torch.fx.Node, place: Place) -> None:
        target = node.target
        if any(x is _GAP for x in _flat((self._args(node.args), self._args(node.kwargs)))):
            self.env[node] = _GAP
            return
        try:
            if getattr(target, "__name__", "") == "getitem":
                value, index = self._args(node.args)
                self.env[node] = value[index] if value is not None else None
            elif isinstance(target, torch._ops.HigherOrderOperator):
                self.env[node] = self._region(node)
            elif isinstance(target, torch._ops.OpOverload):
                self._call(node, target, place)
            else:
                raise NotCaptured(f"the Python call {target}")
        except BackproofError as error:
            self._gap(node, place, error)
        if isinstance(self.env.get(node), Node):
            self.names[node.name] = self.env[node].name

    def _gap(self, node: torch.fx.Node, place: Place, error: BackproofError) -> None:
        """Note what cannot be captured and go on, so that the message has every gap."""
        where = (
            f" at {place.source} ({place.source.text})"
            if place.source
            else f" in module '{place.module}'"
            if place.module
            else ""
        )
        self.gaps.append(f"{error}{where}")
        self.env[node] = _GAP

    def _region(self, node: torch.fx.Node) -> Any:
        """A ``no_grad`` region is inlined: its results pass no gradient."""
        if "set_grad_enabled" not in str(node.target):
            raise NotCaptured(f"a region under {str(node.target).removeprefix('wrap_with_')}")
        enabled, body, *operands = self._args(node.args)
        inner = [n for n in body.graph.nodes if n.op == "placeholder"]
        self.env.update(zip(inner, operands, strict=True))
        return self._read(body, stopped=not enabled)

    def _call(self, node: torch.fx.Node, target: Any, place: Place) -> None:
        overload = str(target).removeprefix("aten.")
        if overload.startswith(("_assert", "sym_", "_check")):
            self.env[node] = None
            return
        args = normalised(target, self._args(node.args), self._args(node.kwargs))
        if target._schema.is_mutable:
            overload, args = self._plain_form(node, target, overload, args)
        self._follow_views(node, target)
        before = len(self.builder.nodes)
        where = {"module": place.module, "source": place.source}
        call = Call(self.builder, overload, args, node.meta.get("val"), where)
        result = lower(call)
        buffer = self._written_buffer(node) if target._schema.is_mutable else None
        self.env[node] = self._named(node, result, before, place) if buffer is None else self._updated(buffer, result)
        if overload in WHOLE and isinstance(self.env[node], Node) and not args.get("dropout_p"):
            self.calls[self.env[node].name] = target, args
        for old, new in call.updates.items():
            self._note(old, new)
        if target._schema.is_mutable and isinstance(node.args[0], torch.fx.Node):
            self.env[node.args[0]] = self.env[node]

    def _written_buffer(self, node: torch.fx.Node) -> Node | None:
        """The buffer that an in-place call changes as a whole."""
        root = self.roots.get(node.args[0], node.args[0])  # type: ignore[arg-type]
        leaf = self.buffers.get(root)  # type: ignore[arg-type]
        return leaf

    def _updated(self, buffer: Node, value: Node) -> Node:
        """Note the new value of a buffer, under the buffer's own name with a number."""
        if value.role != "helper":
            value = self.builder.emit("identity", value, module=buffer.module)
        return self._note(buffer, self.builder.rename(value, buffer.name, "value"))

    def _note(self, known: Node, value: Node) -> Node:
        """Whatever reads the buffer from here on reads its new value; ``known`` is the buffer or an earlier value of it."""
        buffer = next((old for old, new in self.changed.items() if new is known), known)
        self.changed[buffer] = value
        self.env.update({place: value for place, leaf in self.buffers.items() if leaf is buffer})
        return value

    def _named(self, node: torch.fx.Node, result: Any, before: int, place: Place) -> Any:
        """Give the last new node the user's name, or each of several results its own, if the call made them."""
        if isinstance(result, tuple):
            return self._parts_named(node, result, before)
        if not isinstance(result, Node) or result not in self.builder.nodes[before:] or result.role == "constant":
            return result
        return self.builder.rename(result, place.name, "draw" if result.role == "draw" else "value")

    def _parts_named(self, node: torch.fx.Node, results: tuple[Any, ...], before: int) -> tuple[Any, ...]:
        """``a, b = x.chunk(2)``: the results under the names that they are unpacked to."""
        names = {user.args[1]: self.places[user].name for user in node.users if user in self.places}
        given = {
            results[i]: name
            for i, name in names.items()
            if isinstance(i, int) and isinstance(results[i], Node) and not name.endswith("getitem")
        }
        renamed = self.builder.rename_new(before, {x: name for x, name in given.items() if x.role == "helper"})
        return tuple(renamed.get(x, x) if isinstance(x, Node) else x for x in results)

    def _follow_views(self, node: torch.fx.Node, target: Any) -> None:
        returns = target._schema.returns
        first = node.args[0] if node.args else None
        views = bool(returns) and returns[0].alias_info is not None
        self.roots[node] = self.roots.get(first, first) if views and isinstance(first, torch.fx.Node) else node

    def _plain_form(
        self, node: torch.fx.Node, target: Any, overload: str, args: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """An in-place call as its plain form, where nothing else looks at the overwritten memory."""
        written = node.args[0]
        assert isinstance(written, torch.fx.Node)
        if overload == "detach_.default":
            return overload, args
        name, _, variant = overload.partition(".")
        root = self.roots.get(written, written)
        whole = root in self.buffers and tuple(self.env[root].shape) == tuple(written.meta["val"].shape)
        if not name.endswith("_") or (root.op == "placeholder" and not whole):
            raise NotCaptured(f"aten.{overload}, which changes an input or a parameter in place; work on a new tensor")
        order = list(node.graph.nodes)
        later = set(order[order.index(node) + 1 :])
        for other, its_root in self.roots.items():
            if other is root and whole:
                continue  # what reads the buffer later reads its new value
            if its_root is root and other is not written and any(user in later for user in other.users):
                raise NotCaptured(
                    f"aten.{overload}, which changes in place what another value ({other.name}) "
                    "also sees; build a new tensor instead, with torch.where or torch.cat"
                )
        return f"{name[:-1]}.{variant}", args


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _flat(result: Any) -> list[Any]:
    return list(torch.utils._pytree.tree_leaves(result))


def _attribute(module: torch.fx.GraphModule, path: str) -> Any:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value
