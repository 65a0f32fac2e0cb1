"""Record the run that happens: every operation that torch dispatches, with the user's lines and modules, as a traced program.

The textbook granularity is that of torch.export (``aten.linear``, ``aten.conv2d``), because the operations are seen at the
same place, before torch takes them apart. The numbers are real, so a branch on a value, ``.item()`` and NumPy run as they
stand; each such place is a :class:`Decision`, and the record holds for this run alone.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._dispatch.python import enable_python_dispatcher, no_python_dispatcher
from torch._subclasses.schema_check_mode import SchemaCheckMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

from ..errors import CaptureError
from ..graph import Source
from .control import plain_control_flow
from .functions import Site, replaced_apply, run_plainly, written_at
from .names import user_line, user_stack
from .origin import Wrapped
from .reading import Leaf, Traced
from .running import kept_state, quiet

__all__ = ["Decision", "record"]


@dataclass(frozen=True)
class Decision:
    """A place where the program leaves tensors: "branch", "number", "array" or "shape"; what came of it, and the line."""

    kind: str
    result: str
    source: Source | None

    def __str__(self) -> str:
        where = f" at {self.source}" if self.source else ""
        text = f" ({self.source.text})" if self.source and self.source.text else ""
        return {
            "branch": f"the branch{where}{text} was {'' if self.result == 'True' else 'not '}taken",
            "number": f"the number{where}{text} was {self.result}",
            "array": f"the values that left torch{where}{text} are constants, and no gradient passes",
            "shape": f"the places found{where}{text} are those of these values",
        }[self.kind]


_ASKS = ("item", "is_nonzero", "equal", "allclose")
_READS = {"numpy": "array", "__array__": "array", "tolist": "array", "__dlpack__": "array"}


class _Leaving(TorchFunctionMode):
    """Sees tensors turn into arrays and lists, and hooks being placed on them."""

    def __init__(self, tape: _Tape) -> None:
        super().__init__()
        self.tape = tape

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _READS and isinstance(args[0], Tensor) and not args[0].is_sparse:
            self.tape.decide(_READS[name], "")
        if name == "register_hook" and isinstance(args[0], Tensor):
            return self.tape.hooked(args[0], args[1] if len(args) > 1 else (kwargs or {})["hook"])
        return func(*args, **(kwargs or {}))


class _Tape(SchemaCheckMode):
    """The record in the making; torch takes a mode of this class before autograd, where operations are still whole."""

    def __init__(self, modules: dict[int, tuple[str, str]], taken_apart: bool) -> None:
        key = None if taken_apart else torch._C.DispatchKey.PreDispatch
        TorchDispatchMode.__init__(self, key)
        self.taken_apart = taken_apart
        self.graph = torch.fx.Graph()
        self.known: dict[int, torch.fx.Node] = {}
        self.kept: list[Tensor] = []
        self.leaves: list[Leaf] = []
        self.constants: dict[str, Tensor] = {}
        self.decisions: list[Decision] = []
        self.modules, self.stack, self.calls = modules, list[tuple[str, str, int]](), dict[str, int]()
        self.inside = 0

    # --- tensors -----------------------------------------------------------------------------------------------------
    def _bare(self, tensor: Tensor) -> Tensor:
        """The tensor inside the wrappers of torch.func.grad; those of vmap hide more than one."""
        while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            if torch._C._functorch.is_batchedtensor(tensor):
                raise CaptureError("a recorded run cannot look into torch.vmap")
            tensor = torch._C._functorch.get_unwrapped(tensor)
        return tensor

    def place(self, tensor: Tensor, kind: str, path: str) -> torch.fx.Node:
        """Enter a leaf; all of them come first in the program."""
        with self.graph.inserting_after(self.leaves[-1].node) if self.leaves else self.graph.inserting_before():
            node = self.graph.placeholder(f"leaf{len(self.leaves)}")
        self.leaves.append(Leaf(node, kind, path))
        if isinstance(tensor, Tensor):
            self._enter(tensor, node)
        return node

    def _enter(self, tensor: Tensor, node: torch.fx.Node) -> None:
        bare = self._bare(tensor)
        self.known[bare._cdata] = node
        self.kept += [tensor, bare]
        node.meta.update(val=_described(bare), storage=_storage(bare))

    def node_of(self, tensor: Tensor) -> torch.fx.Node:
        """The node of a tensor; one that nobody has seen is a constant of the run."""
        bare = self._bare(tensor)
        if bare._cdata not in self.known:
            path = f"constant{len(self.constants)}"
            with no_python_dispatcher():
                self.constants[path] = bare.detach().clone()
            self.place(bare, "CONSTANT_TENSOR", path)
        return self.known[bare._cdata]

    # --- operations ------------------------------------------------------------------------------------------------------
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload) or func.namespace == "prim":
            return func(*args, **kwargs)
        given = tree_map(lambda x: self.node_of(x) if isinstance(x, Tensor) else x, (args, kwargs))
        with no_python_dispatcher():
            out = func(*args, **kwargs)
        if not any(isinstance(x, Tensor) for x in tree_leaves(out)):
            if torch.Tag.data_dependent_output in func.tags or func.overloadpacket.__name__ in _ASKS:
                shown = f"{out:.6g}" if isinstance(out, float) else str(out)
                self.decide("branch" if isinstance(out, bool) else "number", shown)
            return out
        if torch.Tag.dynamic_output_shape in func.tags and _looks_at_values(func, args):
            self.decide("shape", "")
        node = self._add(func, *given)
        self._results(func, node, args, out)
        return out

    def _add(self, target: Any, args: Any, kwargs: Any) -> torch.fx.Node:
        node = self.graph.call_function(target, args, kwargs)
        node.meta["stack_trace"] = user_stack()
        node.meta["nn_module_stack"] = {f"{path}@{n}" if n else path: (path, kind) for path, kind, n in self.stack}
        node.meta["stopped"] = not torch.is_grad_enabled() and not self.inside
        node.meta["autocast"] = next(
            ((k, torch.get_autocast_dtype(k)) for k in ("cpu", "cuda") if torch.is_autocast_enabled(k)), None
        )
        return node

    def _results(self, func: Any, node: torch.fx.Node, args: Any, out: Any) -> None:
        if isinstance(out, Tensor):
            node.meta["val"] = _described(self._bare(out))
            if func._schema.is_mutable and args and out is args[0]:
                node.meta["storage"] = _storage(self._bare(out))
                self.known[self._bare(out)._cdata] = node
            else:
                self._enter(out, node)
            return
        node.meta["val"] = tree_map(lambda x: _described(self._bare(x)) if isinstance(x, Tensor) else x, out)
        self._pieces(node, out)

    def _pieces(self, node: torch.fx.Node, out: Any) -> None:
        for i, piece in enumerate(out):
            if isinstance(piece, Tensor):
                self._enter(piece, self._add(operator.getitem, (node, i), {}))

    def decide(self, kind: str, result: str) -> None:
        """Note that the program looks at a value."""
        found = Decision(kind, result, user_line(user_stack()))
        if found not in self.decisions:
            self.decisions.append(found)

    # --- places with a backward pass of their own ----------------------------------------------------------------------
    def applied(self, function: Any, real: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """A custom Function: its forward pass as ordinary operations, then the place where its backward pass stands."""
        if function.__module__ == "torch.utils.checkpoint":
            with torch.enable_grad():
                return args[0](*args[2:])
        if function.__module__.startswith("torch."):
            return real(*args)
        self.inside += 1
        try:
            with torch.no_grad():
                out = run_plainly(function, args)
        finally:
            self.inside -= 1
        given, spec = tree_flatten(args)
        rest = [None if isinstance(x, Tensor) else x for x in given]

        def run(*tensors: Any) -> Any:
            both = [t if isinstance(t, Tensor) else x for t, x in zip(tensors, rest, strict=True)]
            return function.apply(*torch.utils._pytree.tree_unflatten(both, spec))

        site = Site("function", function.__name__, run, written_at(function.backward))
        outs = out if isinstance(out, (tuple, list)) else (out,)
        with no_python_dispatcher(), torch._C._ExcludeDispatchKeyGuard(_PRE):
            fresh = tuple(o.detach().requires_grad_(_moves(o, given)) if isinstance(o, Tensor) else o for o in outs)
        self._site(site, outs, given, fresh)
        return fresh if isinstance(out, (tuple, list)) else fresh[0]

    def hooked(self, tensor: Tensor, hook: Callable[[Tensor], Any]) -> Any:
        """A hook on a tensor: the same values, whose gradient goes through the hook."""

        def run(x: Tensor) -> Tensor:
            y = x * 1
            if y.requires_grad:
                y.register_hook(hook)
            return y

        name = getattr(hook, "__name__", type(hook).__name__)
        site = Site("hook", "hook" if name == "<lambda>" else name, run, written_at(hook))
        self._site(site, (tensor,), [tensor], (tensor,))
        return torch.utils.hooks.RemovableHandle(OrderedDict())

    def _site(self, site: Site, outs: Any, given: Any, fresh: Any) -> None:
        def nodes(values: Any) -> list[Any]:
            return [self.node_of(x) if isinstance(x, Tensor) else None for x in values]

        node = self._add(site, (nodes(outs), nodes(given)), {})
        node.meta["val"] = tuple(_described(self._bare(x)) if isinstance(x, Tensor) else x for x in outs)
        self._pieces(node, fresh)


_PRE = torch._C.DispatchKeySet(torch._C.DispatchKey.PreDispatch)


def _moves(out: Tensor, given: list[Any]) -> bool:
    return out.is_floating_point() and any(isinstance(t, Tensor) and t.requires_grad for t in given)


def _described(tensor: Tensor) -> Tensor:
    """Shape, strides and dtype, without the numbers."""
    if tensor.is_sparse or tensor.layout != torch.strided:
        raise CaptureError(f"a tensor of layout {tensor.layout} has no place in a Graph; use .to_dense()")
    with no_python_dispatcher(), torch._C._ExcludeDispatchKeyGuard(_PRE):
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _looks_at_values(func: Any, args: Any) -> bool:
    """An index of places does not; a mask does."""
    if func.overloadpacket is not torch.ops.aten.index:
        return True
    return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1])


@contextmanager
def _module_stack(tape: _Tape) -> Iterator[None]:
    """Know at each operation which modules are running."""

    def enter(module: nn.Module, _: Any) -> None:
        if (known := tape.modules.get(id(module))) is not None:
            path, kind = known
            tape.stack.append((path, kind, tape.calls.get(path, 0)))
            tape.calls[path] = tape.calls.get(path, 0) + 1

    def leave(module: nn.Module, *_: Any) -> None:
        if (known := tape.modules.get(id(module))) is not None and tape.stack and tape.stack[-1][0] == known[0]:
            tape.stack.pop()

    hooks = nn.modules.module
    handles = [
        hooks.register_module_forward_pre_hook(enter),
        hooks.register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def record(wrapped: Wrapped, call: tuple[Any, ...], taken_apart: bool = False) -> tuple[Traced, tuple[Decision, ...]]:
    """Run the model once and record what it does.

    Args:
        wrapped: the model.
        call: its arguments.
        taken_apart: whether the operations are seen after torch has taken them apart, below torch.vmap and torch.func.jvp.

    Raises:
        CaptureError: something in it cannot be recorded (torch.vmap, sparse tensors).
    """
    modules = {
        id(m): (name, f"{type(m).__module__}.{type(m).__qualname__}") for name, m in wrapped.named_modules() if name
    }
    tape = _Tape(modules, taken_apart)
    _place_leaves(tape, wrapped, call)
    with ExitStack() as stack:
        python: Any = nullcontext() if taken_apart else enable_python_dispatcher()
        contexts: list[Any] = [
            kept_state(wrapped),
            quiet(),
            torch.enable_grad(),
            _module_stack(tape),
            plain_control_flow(),
        ]
        for context in (*contexts, replaced_apply(tape.applied), _Leaving(tape), python, tape):
            stack.enter_context(context)
        out = wrapped(*call)
    tape.graph.output(tree_map(lambda x: tape.node_of(x) if isinstance(x, Tensor) else x, out))
    module = torch.fx.GraphModule(nn.Module(), tape.graph)
    return Traced(module, tuple(tape.leaves), tape.constants), tuple(tape.decisions)


def _place_leaves(tape: _Tape, wrapped: Wrapped, call: tuple[Any, ...]) -> None:
    parameters = {id(p) for p in wrapped.parameters()}
    names = {
        **dict(wrapped.named_parameters(remove_duplicate=False)),
        **dict(wrapped.named_buffers(remove_duplicate=False)),
    }
    for path, tensor in names.items():
        tape.place(tensor, "PARAMETER" if id(tensor) in parameters else "BUFFER", path)
    for value in tree_leaves(call):
        tape.place(value, "USER_INPUT", "")
