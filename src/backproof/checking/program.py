"""What is checked, as a function of named tensors: a function, a module or ``Function.apply``, in a dtype of choice."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from ..errors import InputError
from .functions import Sites, bypassed

__all__ = ["Input", "Program", "program_of", "wide"]

Values = tuple[Tensor, ...]
WIDE = {torch.float16: torch.float64, torch.bfloat16: torch.float64, torch.float32: torch.float64,
        torch.complex64: torch.complex128, torch.complex32: torch.complex128}  # fmt: skip


def wide(value: Any) -> Any:
    """A tensor in double precision; anything else as it is."""
    if isinstance(value, Tensor) and value.dtype in WIDE:
        return value.detach().to(WIDE[value.dtype])
    return value


class Input(str):
    """The name of an input, which also counts as its position: ``inputs[entry.input]`` works, and so does ``== 0``."""

    position: int | None

    def __new__(cls, name: str, position: int | None = None) -> Input:
        """A name with the position among the positional inputs, if it has one."""
        made = super().__new__(cls, name)
        made.position = position
        return made

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int):
            return self.position is not None and other == self.position
        return str.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __index__(self) -> int:
        if self.position is None:
            raise TypeError(f"{self!s} is a keyword or a parameter and has no position")
        return self.position


@dataclass
class Program:
    """A function of the tensors whose gradients are checked.

    Args:
        call: what is called.
        flat, spec: its arguments, flattened.
        places: which of the flattened arguments are differentiated.
        names: of these, then of the module's parameters.
        start: their values.
        twin: a copy of the module whose parameters are set for each run; None for a function.
    """

    call: Callable[..., Any]
    flat: list[Any]
    spec: Any
    places: list[int]
    names: tuple[Input, ...]
    start: Values
    twin: nn.Module | None = None
    parameters: list[nn.Parameter] = field(default_factory=list)
    buffers: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    rng: Tensor = field(default_factory=torch.get_rng_state)
    copies: bool = False
    accumulates: bool = False
    rounding: float = 0.0
    labels: tuple[Input, ...] = ()

    @property
    def constants(self) -> dict[str, Tensor]:
        """The tensors among the arguments that are not differentiated, by name where they are known."""
        rest = [(i, v) for i, v in enumerate(self.flat) if isinstance(v, Tensor) and i not in self.places]
        return {self.labels[i] if i < len(self.labels) else f"input_{i}": v for i, v in rest}

    @property
    def module_names(self) -> dict[int, str]:
        """The paths of the modules by identity."""
        return {} if self.twin is None else {id(m): name for name, m in self.twin.named_modules()}

    def outputs(self, values: Sequence[Tensor]) -> Values:
        """The float outputs at these values, with the same random numbers at every call."""
        torch.set_rng_state(self.rng)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(0)
        flat = list(self.flat)
        for place, value in zip(self.places, values, strict=False):
            flat[place] = value.clone() if self.copies else value
        for buffer, kept in self.buffers:
            buffer.copy_(kept)
        args, kwargs = tree_unflatten(flat, self.spec)
        out = self.call(*args, **kwargs)
        found = [t for t in _outputs(out) if t.is_floating_point() or t.is_complex()]
        if not found:
            raise InputError("the function returns no float tensor, so there is nothing to differentiate")
        return tuple(found)

    def arguments(self, values: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call at these values."""
        flat = list(self.flat)
        for place, value in zip(self.places, values, strict=False):
            flat[place] = value.detach().clone().requires_grad_()
        args, kwargs = tree_unflatten(flat, self.spec)
        return tuple(args), dict(kwargs)

    def at(self, values: Sequence[Tensor]) -> Values:
        """The outputs at these values, without a graph."""
        with torch.no_grad():
            for p, value in zip(self.parameters, values[len(self.places) :], strict=True):
                p.copy_(value)
            return tuple(o.detach() for o in self.outputs(values))

    def leaves(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Tensors that require a gradient, with these values (a module's own parameters among them)."""
        with torch.no_grad():
            for p, value in zip(self.parameters, values[len(self.places) :], strict=True):
                p.copy_(value)
        fresh = [_own(v).requires_grad_() for v in values[: len(self.places)]]
        return [*fresh, *self.parameters]

    def gradients(
        self, values: Sequence[Tensor], weights: Sequence[Tensor | None] | None, sites: Sites | None = None
    ) -> tuple[Tensor | None, ...]:
        """The gradients of Σ weights · outputs as autograd computes them.

        Args:
            values: the point.
            weights: the cotangents, one for each output; None for an output that nobody used.
            sites: which custom Functions run without their own backward pass; None leaves all of them as they are.
        """
        try:
            return self._differentiated(values, weights, sites)
        except RuntimeError as error:
            writes = "in-place" in str(error) or "inplace" in str(error)
            accumulates = "use_reentrant" in str(error)
            if (writes and self.copies) or (accumulates and self.accumulates) or not (writes or accumulates):
                raise
        self.copies |= writes  # into its inputs, which a leaf does not allow
        self.accumulates |= accumulates  # a checkpoint of the old kind: only .backward() goes through it
        return self._differentiated(values, weights, sites)

    def _differentiated(
        self, values: Sequence[Tensor], weights: Sequence[Tensor | None] | None, sites: Sites | None
    ) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            leaves = self.leaves(values)
            with bypassed(sites) if sites is not None else nullcontext():
                outs = self.outputs(leaves)
            cotangents = weights or [torch.ones_like(o) for o in outs]
            pairs = [(o, w) for o, w in zip(outs, cotangents, strict=True) if o.requires_grad and w is not None]
            if not pairs:
                return tuple(None for _ in leaves)
            ends, given = [o for o, _ in pairs], [w for _, w in pairs]
            found = (
                _accumulated(ends, leaves, given)
                if self.accumulates
                else (torch.autograd.grad(ends, leaves, given, allow_unused=True))
            )
            return tuple(None if g is None else g.detach() for g in found)

    def widened(self) -> Program:
        """The same in double precision."""
        if self.twin is None:
            flat, start = [wide(v) for v in self.flat], tuple(wide(v) for v in self.start)
            return replace(self, flat=flat, start=start)
        twin = _copied(self.twin).to(torch.float64)
        made = _of_module(
            twin, [wide(v) for v in self.flat], self.spec, self.places, self.names[: len(self.places)], self.labels
        )
        made.rng, made.copies = self.rng, self.copies
        return made


def _accumulated(ends: list[Tensor], leaves: list[Tensor], given: list[Tensor]) -> tuple[Tensor | None, ...]:
    """The gradients as ``.backward()`` leaves them."""
    for leaf in leaves:
        leaf.grad = None
    torch.autograd.backward(ends, given)
    found = tuple(leaf.grad for leaf in leaves)
    for leaf in leaves:
        leaf.grad = None
    return found


def _own(value: Tensor) -> Tensor:
    """A copy in the same layout: a backward pass may write into what it saved."""
    return value.detach() if 0 in value.stride() else value.detach().clone()


def _outputs(out: Any) -> list[Tensor]:
    if isinstance(out, Tensor):
        return [out]
    if hasattr(out, "to_tuple"):
        out = out.to_tuple()
    return [t for t in tree_leaves(out) if isinstance(t, Tensor)]


def program_of(fn: Callable[..., Any], inputs: Any) -> Program:
    """Make a program of what the user gave.

    Raises:
        InputError: it cannot be called, or no input or parameter is a float tensor.
    """
    if not callable(fn):
        raise InputError(f"what is checked must be a function, a module or Function.apply, not {type(fn).__name__}")
    args, kwargs = _arguments(inputs)
    flat, spec = tree_flatten((args, kwargs))
    flat = [v.detach() if isinstance(v, Tensor) and not v.requires_grad else v for v in flat]
    for value in flat:
        if isinstance(value, Tensor) and value.layout != torch.strided:
            kind = str(value.layout).removeprefix("torch.")
            raise InputError(
                f"an input is {kind}; give its values and indices as dense tensors and make the {kind} tensor inside"
            )
    floats = [i for i, v in enumerate(flat) if _is_float(v)]
    chosen = [i for i in floats if flat[i].requires_grad] or floats
    labels = _labels(fn, args, kwargs)
    names = tuple(labels[i] for i in chosen)
    flat = [v.detach() if isinstance(v, Tensor) else v for v in flat]
    if isinstance(fn, nn.Module):
        try:
            twin = _copied(fn)
        except Exception as error:
            raise InputError(
                f"the module cannot be copied ({error}); check its forward as a function instead"
            ) from None
        return _of_module(twin, flat, spec, chosen, names, labels)
    if not chosen:
        raise InputError("no input is a float tensor, so there is no gradient to check")
    return Program(fn, flat, spec, chosen, names, tuple(flat[i] for i in chosen), labels=labels)


def _copied(module: nn.Module) -> nn.Module:
    """A copy with parameters of its own; a compiled module is compiled anew, or it would go on with the old ones."""
    inner = getattr(module, "_orig_mod", None)
    return copy.deepcopy(module) if inner is None else type(module)(copy.deepcopy(inner), module.dynamo_ctx)


def _of_module(
    twin: nn.Module, flat: list[Any], spec: Any, places: list[int], names: tuple[Input, ...], labels: tuple[Input, ...]
) -> Program:
    own = [(n.removeprefix("_orig_mod."), p) for n, p in twin.named_parameters() if p.requires_grad and _is_float(p)]
    if not places and not own:
        raise InputError("neither an input nor a parameter is a float tensor, so there is no gradient to check")
    buffers = [(b, b.detach().clone()) for b in twin.buffers()]
    start = (*(flat[i] for i in places), *(p.detach().clone() for _, p in own))
    every = (*names, *(Input(n) for n, _ in own))
    return Program(twin, flat, spec, places, every, start, twin, [p for _, p in own], buffers, labels=labels)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), {str(k): v for k, v in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(inputs), {}
    return (inputs,), {}


def _labels(fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Input, ...]:
    """The names of the flattened arguments: the function's own, where its signature says them."""
    plain = _parameter_names(fn, len(args))
    given = [(plain[k], k, arg) for k, arg in enumerate(args)] + [(key, None, arg) for key, arg in kwargs.items()]
    labels: list[Input] = []
    for name, position, arg in given:
        leaves = tree_flatten(arg)[0]
        single = len(leaves) == 1 and leaves[0] is arg
        labels += [Input(name if single else f"{name}[{k}]", position) for k in range(len(leaves))]
    return tuple(labels)


def _parameter_names(fn: Any, count: int) -> list[str]:
    owner, skip = getattr(fn, "__self__", None), 0
    target = fn.forward if isinstance(fn, nn.Module) else fn
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        target = owner.forward
        skip = int(owner.setup_context is torch.autograd.Function.setup_context)
    try:
        parameters = list(inspect.signature(target).parameters.values())[skip:]
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [names[i] if i < len(names) else f"input {i}" for i in range(count)]
