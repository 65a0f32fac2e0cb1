"""What has no operation here: taken apart where torch itself does so, else kept as an opaque node.

This is the one file in which torch computes a vector-Jacobian product for us.

The value of an opaque node is the ATen call itself, and what it sends back is torch.func.vjp of that one call. It says
nothing that torch does not say: compared with torch.autograd, it is the same witness twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..errors import BackproofError, MissingRule
from ..graph import Node
from ..ops.opaque import opaque
from .lower import Call, NotCaptured, by_table, normalised

__all__ = ["AtenCall", "Pullback", "Slot", "kept"]


@dataclass(frozen=True)
class Slot:
    """The place of the i-th tensor operand among the arguments of a call."""

    index: int


@dataclass(frozen=True, eq=False)
class AtenCall:
    """One ATen call as a function of its tensor operands.

    Args:
        target: the overload's path below torch.ops, as "aten.fft_fft.default".
        arguments: its arguments by name, with a :class:`Slot` where an operand goes.
        output: which of several results; None if there is one.
    """

    target: str
    arguments: dict[str, Any]
    output: int | None = None

    def __call__(self, *operands: torch.Tensor) -> torch.Tensor:
        """Run the call."""
        given = {key: _filled(value, operands) for key, value in self.arguments.items()}
        result = _overload(self.target)(**given)
        found: torch.Tensor = result if self.output is None else result[self.output]
        return found

    @property
    def name(self) -> str:
        """The overload."""
        return self.target

    def pullback(self, operand: int) -> Pullback:
        """What the call's adjoint sends to one of its operands."""
        return Pullback(self, operand)

    def code(self, names: list[str]) -> str:
        """The call as a line of Python."""
        arguments = ", ".join(f"{key}={_written(value, names)}" for key, value in self.arguments.items())
        return f"torch.ops.{self.target}({arguments})" + ("" if self.output is None else f"[{self.output}]")


@dataclass(frozen=True, eq=False)
class Pullback:
    """What a call's adjoint sends to one of its operands: (delta, operands...) -> delta times the Jacobian.

    Args:
        call: the call that is differentiated, itself maybe such a product.
        operand: the number of the operand.
    """

    call: AtenCall | Pullback
    operand: int

    def __call__(self, delta: torch.Tensor, *operands: torch.Tensor) -> torch.Tensor:
        """Run torch's vector-Jacobian product of the one call."""

        def of_operand(x: torch.Tensor) -> torch.Tensor:
            return self.call(*operands[: self.operand], x, *operands[self.operand + 1 :])

        try:
            value, pull = torch.func.vjp(of_operand, operands[self.operand])[:2]
            found: torch.Tensor = pull(delta.to(value.dtype))[0]
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise MissingRule(f"torch itself has no derivative of {self.name}: {reason}") from None
        return found

    @property
    def name(self) -> str:
        """The call behind it."""
        return self.call.name

    def pullback(self, operand: int) -> Pullback:
        """What the product's own adjoint sends to delta (0) or to an operand of the call (1, 2...)."""
        return Pullback(self, operand)

    def code(self, names: list[str]) -> str:
        """The product as a line of Python."""
        before, after = names[1 : self.operand + 1], names[self.operand + 2 :]
        inner = self.call.code([*before, "x", *after])
        return f"torch.func.vjp(lambda x: {inner}, {names[self.operand + 1]})[1]({names[0]})[0]"


def _overload(path: str) -> Any:
    found: Any = torch.ops
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _filled(value: Any, operands: tuple[torch.Tensor, ...]) -> Any:
    if isinstance(value, Slot):
        return operands[value.index]
    return [_filled(v, operands) for v in value] if isinstance(value, (list, tuple)) else value


def _written(value: Any, names: list[str]) -> str:
    if isinstance(value, Slot):
        return names[value.index]
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_written(v, names) for v in value)}]"
    return f"torch.device({str(value)!r})" if isinstance(value, torch.device) else repr(value)


# --- capturing ------------------------------------------------------------------------------------------------------
def kept(call: Call, why: NotCaptured) -> Any:
    """Keep an ATen call that has no operation: as the calls that torch composes it of, if these have, else as opaque nodes.

    Raises:
        NotCaptured: it draws at random, changes a tensor in place, or its result is sparse or has a shape that depends on
            values; the message is that of ``why``.
    """
    target = call.overload if call.overload.count(".") > 1 else f"aten.{call.overload}"
    overload = _overload(target)
    results = call.meta if isinstance(call.meta, (list, tuple)) else [call.meta]
    shapes = [_static_shape(x) for x in results if isinstance(x, torch.Tensor)]
    if (
        torch.Tag.nondeterministic_seeded in overload.tags
        or overload._schema.is_mutable
        or any(isinstance(x, torch.Tensor) and x.layout is not torch.strided for x in results)
        or None in shapes
        or not shapes
    ):
        raise why
    if not any(isinstance(x, Node) for x in _flat(call.args)) and isinstance(call.meta, torch.Tensor):
        return call.builder.constant(overload(**call.args), shapes[0] or (), call.dtype, name=target.split(".")[1])
    parts = _in_parts(call, overload)
    return _whole(call, target, results) if parts is None else parts


def _in_parts(call: Call, overload: Any) -> Any:
    """The result of the calls that torch composes this one of; None if it doesn't, or some of them have no operation either."""
    composite = overload.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)
    if not composite or any(isinstance(x, torch.Tensor) and x.is_complex() for x in _flat(call.meta)):
        return None
    before = len(call.builder.nodes)
    try:
        return _Parts(call, overload).result()
    except (BackproofError, RuntimeError, TypeError, ValueError, NotImplementedError):
        for node in call.builder.nodes[before:]:
            call.builder.release(node.name)
        del call.builder.nodes[before:]
        return None


class _Parts:
    """A call traced by torch on tensors without memory, and each of its parts lowered."""

    def __init__(self, call: Call, overload: Any) -> None:
        self.call = call
        self.operands: list[Node] = []
        self.arguments = {key: _slots(value, self.operands) for key, value in call.args.items()}
        self.overload = overload

    def result(self) -> Any:
        """The nodes of the parts' result."""
        from torch.fx.experimental.proxy_tensor import make_fx

        blank = [torch.empty(x.shape, dtype=getattr(torch, x.dtype), device="meta") for x in self.operands]
        with torch.no_grad():
            program = make_fx(self._run)(*blank)
        given = iter(self.operands)
        env: dict[torch.fx.Node, Any] = {}
        for node in program.graph.nodes:
            if node.op == "output":
                return _mapped(node.args[0], env)
            env[node] = next(given) if node.op == "placeholder" else self._part(node, env)
        raise NotCaptured(f"aten.{self.call.overload} gives nothing")

    def _run(self, *tensors: torch.Tensor) -> Any:
        return self.overload(**{key: _filled(value, tensors) for key, value in self.arguments.items()})

    def _part(self, node: torch.fx.Node, env: dict[torch.fx.Node, Any]) -> Any:
        target: Any = node.target
        if getattr(target, "__name__", "") == "getitem":
            value, index = _mapped(node.args, env)
            return value[index]
        overload = str(target).removeprefix("aten.")
        if node.op != "call_function" or overload == self.call.overload or target._schema.is_mutable:
            raise NotCaptured(f"aten.{overload} inside aten.{self.call.overload}")
        args = normalised(target, _mapped(node.args, env), _mapped(node.kwargs, env))
        return by_table(self.call.part(overload, args, node.meta.get("val", node.meta.get("tensor_meta"))))


def _mapped(value: Any, env: dict[torch.fx.Node, Any]) -> Any:
    return torch.utils._pytree.tree_map(lambda x: env.get(x, x) if isinstance(x, torch.fx.Node) else x, value)


def _flat(value: Any) -> list[Any]:
    return list(torch.utils._pytree.tree_leaves(value))


def _whole(call: Call, target: str, results: Any) -> Any:
    operands: list[Node] = []
    arguments = {key: _slots(value, operands) for key, value in call.args.items()}
    made = [_node(call, target, arguments, operands, i, x) for i, x in enumerate(results)]
    return tuple(made) if isinstance(call.meta, (list, tuple)) else made[0]


def _static_shape(value: torch.Tensor) -> tuple[int, ...] | None:
    return tuple(int(n) for n in value.shape) if all(isinstance(n, int) for n in value.shape) else None


def _slots(value: Any, operands: list[Node]) -> Any:
    if isinstance(value, Node):
        if value not in operands:
            operands.append(value)
        return Slot(operands.index(value))
    return tuple(_slots(v, operands) for v in value) if isinstance(value, (list, tuple)) else value


def _node(call: Call, target: str, arguments: dict[str, Any], operands: list[Node], i: int, result: Any) -> Node | None:
    if not isinstance(result, torch.Tensor):
        return None
    output = i if isinstance(call.meta, (list, tuple)) else None
    dtype = str(result.dtype).removeprefix("torch.")
    function = AtenCall(target, arguments, output)
    return call.emit(opaque(target), *operands, call=function, shape=_static_shape(result), dtype=dtype)
