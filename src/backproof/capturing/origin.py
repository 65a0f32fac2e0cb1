"""What a Graph was captured from, kept so that it can be read live and run again by independent means."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..graph import Node
from .chance import drawn, generator_of, replayed
from .containers import closed, opened_output
from .control import plain_control_flow
from .functions import Site, run_as_written

__all__ = ["WHOLE", "ModuleOrigin", "Origin", "Whole", "Wrapped", "device_of", "tensors_of"]

Whole = tuple[Any, Mapping[str, Any]]
"""A call of the program, as its ATen overload and its arguments by name: our nodes, and what is no tensor."""
WHOLE = frozenset(
    f"{name}.default" for name in ("scaled_dot_product_attention", "group_norm", "instance_norm", "rms_norm", "glu")
)
"""Calls that the Graph has as several operations and torch computes in one go, which rounds in another way."""


class Origin(Protocol):
    """The program behind a Graph.

    ``leaves()`` reads the present values of its inputs and parameters by name. ``values(leaves)`` runs the
    program itself (not our reading of it) on other leaves and returns what it computes by name, connected to
    the leaves for torch.autograd: an independent witness. ``loss(leaves)`` is the loss alone, run eagerly.
    """

    def leaves(self) -> dict[str, Tensor]:
        """The present values of inputs and parameters by name."""

    def values(self, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the program computes on other leaves, connected to them for autograd."""

    def loss(self, leaves: Mapping[str, Tensor]) -> Tensor | None:
        """The loss alone, run eagerly."""


class Wrapped(nn.Module):
    """The user's model and loss behind one forward: (args, keywords, targets) -> (output, loss or None)."""

    def __init__(self, model: nn.Module, loss: Callable[..., Any] | None, pick: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model = model
        self.loss_module = loss if isinstance(loss, nn.Module) else None
        self._loss = [loss]
        self._pick = pick

    @property
    def has_loss(self) -> bool:
        """Whether the second result is the loss."""
        return self.loss_module is not None or self._loss[0] is not None

    def forward(self, args: tuple[Any, ...], keywords: dict[str, Any], targets: Any) -> tuple[Any, Any]:
        """Return the model's output and the loss."""
        output = self.model(*closed(args), **closed(keywords))
        loss = self.loss_module or self._loss[0]
        if loss is None:
            return opened_output(output), None
        picked = self._pick(output)
        return opened_output(output), (loss(picked) if targets is None else loss(picked, targets))


def tensors_of(wrapped: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of our wrapper, under the user's names."""
    found = {
        **dict(wrapped.named_parameters(remove_duplicate=False)),
        **dict(wrapped.named_buffers(remove_duplicate=False)),
    }
    return {user_name(name): tensor for name, tensor in found.items()}


def device_of(leaves: Mapping[str, Tensor]) -> torch.device:
    """The device that a program's tensors are on."""
    return next((t.device for t in leaves.values()), torch.device("cpu"))


def user_name(name: str) -> str:
    """``model.fc1.weight`` in our wrapper is ``fc1.weight`` in the user's module."""
    return name.removeprefix("model.") if name.startswith("model.") else name.replace("loss_module.", "loss.", 1)


@dataclass
class ModuleOrigin:
    """A captured nn.Module (or function behind one).

    Args:
        wrapped: the module and loss.
        args, keywords, targets: the example inputs.
        inputs: the tensors among them by our name.
        order: our names of their leaves as torch flattens them; None for what is no tensor.
        calls: by the name of a result, the call of the program that gives it in one go (see :data:`WHOLE`).
        program: the exported graph module and, for each of its nodes, our node's name.
        loss_name: our name of the loss node.
        draws: the nodes of what the program draws at random, in its order.
        own_backward: whether backward passes that the user wrote count as they stand.
    """

    wrapped: Wrapped
    args: tuple[Any, ...]
    keywords: dict[str, Any]
    targets: Any
    inputs: dict[str, Tensor]
    fx: torch.fx.GraphModule
    placeholders: list[tuple[str, str]]
    names: dict[str, str]
    loss_name: str | None = None
    ties: dict[str, str] = field(default_factory=dict)
    order: tuple[str | None, ...] = ()
    calls: dict[str, Whole] = field(default_factory=dict)
    draws: tuple[Node, ...] = ()
    own_backward: bool = True

    def by_the_forward(self) -> ModuleOrigin:
        """The same program, whose gradients are the derivatives of its forward pass."""
        return replace(self, own_backward=False)

    def leaves(self, seed: int = 0) -> dict[str, Tensor]:
        """The inputs, parameters, buffers and lifted constants as they are now, and what a seed draws."""
        state = {name: tensor.detach() for name, tensor in tensors_of(self.wrapped).items()}
        found = {**state, **{name: tensor.detach() for name, tensor in self.inputs.items()}}
        return {**found, **self.drawn(generator_of(seed, device_of(found)))} if self.draws else found

    def drawn(self, generator: torch.Generator) -> dict[str, Tensor]:
        """The next values of what the program draws at random."""
        return drawn(self.draws, generator)

    def values(self, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the exported program on other leaves; autograd sees every named value."""
        written = {n.args[0].name for n in self.fx.graph.nodes if _writes(n)}
        names = {fx: ours for fx, ours in self.names.items() if fx not in written}
        interpreter = _Recorder(self.fx, names, self._other_dtypes(leaves), self.own_backward)
        with replayed(self.draws, leaves):
            interpreter.run(*self._given(leaves))
        return interpreter.seen

    def _other_dtypes(self, leaves: Mapping[str, Tensor]) -> dict[torch.dtype, torch.dtype]:
        """What the program's dtypes become when its leaves are given in others: the zeros that it makes follow."""
        own = self.leaves()
        pairs = {(own[n].dtype, t.dtype) for n, t in leaves.items() if n in own and t.is_floating_point()}
        return {mine: given for mine, given in pairs if mine is not given}

    def _given(self, leaves: Mapping[str, Tensor]) -> list[Any]:
        """What the exported program takes, in order: leaves, and inputs that are no tensors."""
        values = torch.utils._pytree.tree_leaves((self.args, self.keywords, self.targets))
        plain = iter([value for name, value in zip(self.order, values, strict=True) if name is None])
        return [
            next(plain) if kind == "constant" else leaves[self.ties.get(name, name)] for name, kind in self.placeholders
        ]

    def loss(self, leaves: Mapping[str, Tensor]) -> Tensor | None:
        """Run the user's own module eagerly on other leaves."""
        if self.loss_name is None:
            return None
        output, loss = self.run(leaves)
        result = output if loss is None else loss
        while isinstance(result, (tuple, list)):
            result = result[0]
        return result.reshape(()) if isinstance(result, Tensor) else None

    def hooked_gradients(self, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradients of the parameters with the user's gradient hooks on modules and parameters."""
        own = {user_name(n): p for n, p in self.wrapped.named_parameters()}
        moving = {n: t.detach().clone().requires_grad_(n in own and own[n].requires_grad) for n, t in leaves.items()}
        loss = self.loss(moving)
        if loss is None or not loss.requires_grad:
            return {}
        loss.backward()
        found = {n: moving[n].grad for n in own if n in moving}
        return {n: _through(own[n], g) for n, g in found.items() if g is not None}

    def outputs(self, leaves: Mapping[str, Tensor]) -> list[Tensor]:
        """All tensors that the user's own module returns on other leaves, run eagerly."""
        return [t for t in torch.utils._pytree.tree_leaves(self.run(leaves)) if isinstance(t, Tensor)]

    def run(self, leaves: Mapping[str, Tensor]) -> Any:
        """Run the user's own module eagerly on other leaves: its output and the loss."""
        state = {}
        for name in dict(self.wrapped.named_parameters(remove_duplicate=False)) | dict(self.wrapped.named_buffers()):
            own = user_name(name)
            state[name] = (
                leaves[self.ties.get(own, own)] if self.ties.get(own, own) in leaves else tensors_of(self.wrapped)[own]
            )
        values, form = torch.utils._pytree.tree_flatten((self.args, self.keywords, self.targets))
        given = [leaves.get(name, value) if name else value for name, value in zip(self.order, values, strict=True)]
        args = torch.utils._pytree.tree_unflatten(given, form)
        with plain_control_flow(), run_as_written(self.own_backward), replayed(self.draws, leaves):
            return torch.func.functional_call(self.wrapped, state, args, tie_weights=False)


def _through(parameter: Tensor, gradient: Tensor) -> Tensor:
    """A gradient after the hooks on its parameter."""
    for hook in (parameter._backward_hooks or {}).values():
        changed = hook(gradient)
        gradient = gradient if changed is None else changed
    return gradient


def _writes(node: torch.fx.Node) -> bool:
    """Whether a call overwrites its first operand, whose earlier value is then gone."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


class _Recorder(torch.fx.Interpreter):
    """Runs an exported graph and keeps the values of the nodes that have a name of ours; some dtypes are read as others."""

    def __init__(
        self,
        module: torch.fx.GraphModule,
        names: Mapping[str, str],
        dtypes: Mapping[torch.dtype, torch.dtype],
        own_backward: bool,
    ) -> None:
        super().__init__(module, garbage_collect_values=False)
        self._ours, self._dtypes, self._own = names, dtypes, own_backward
        self.seen: dict[str, Tensor] = {}

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if isinstance(target, Site) and not self._own:
            return tuple(args[0])

        def other(value: Any) -> Any:
            return self._dtypes.get(value, value) if isinstance(value, torch.dtype) else value

        if not self._dtypes:
            return super().call_function(target, args, kwargs)
        if target is torch.ops.aten.rms_norm.default and (args[3:] or (kwargs.get("eps"),))[0] is None:
            kwargs = {**kwargs, "eps": self._epsilon(args[0].dtype)}
            args = args[:3]
        args, kwargs = torch.utils._pytree.tree_map(other, (args, kwargs))
        result = super().call_function(target, args, kwargs)
        made = not any(isinstance(x, Tensor) for x in torch.utils._pytree.tree_leaves((args, kwargs)))
        if made and isinstance(result, Tensor) and result.dtype in self._dtypes:
            return result.to(self._dtypes[result.dtype])  # zeros of the default dtype, as a state begins with
        return result

    def _epsilon(self, dtype: torch.dtype) -> float:
        """The epsilon of an RMS norm without one: that of the dtype in which the program was captured."""
        own = next((mine for mine, given in self._dtypes.items() if given is dtype), dtype)
        return float(torch.finfo(own).eps)

    def run_node(self, n: torch.fx.Node) -> Any:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not n.meta.get("stopped")), _casting(n):
            result = super().run_node(n)
        if n.name in self._ours and isinstance(result, Tensor):
            self.seen[self._ours[n.name]] = result
        return result


def _casting(node: torch.fx.Node) -> Any:
    """The autocast in which an operation was recorded."""
    kind = node.meta.get("autocast")
    return torch.autocast(kind[0], dtype=kind[1]) if kind else contextlib.nullcontext()


def doubled(model: nn.Module) -> nn.Module:
    """A float64 copy of a module; the original is left alone."""
    return copy.deepcopy(model).double()
