"""The backward pass of the plain forward pass as a list of torch's own operations, which can be run again with one edit.

Every tensor has a number; an operation that writes in place gives its target a new one, so that what is kept of the past is
not overwritten. Fused backward operations are taken apart into textbook ones by torch's own decompositions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..compare import Gradients
from ..functions import Sites, bypassed, line_of, spot_of
from ..program import Program
from .textbook import Textbook

__all__ = ["Step", "Tape", "record"]

_APART = ("native_layer_norm_backward", "_softmax_backward_data", "_log_softmax_backward_data", "nll_loss_backward",
          "huber_loss_backward", "smooth_l1_loss_backward", "mse_loss_backward", "sigmoid_backward", "tanh_backward",
          "native_batch_norm_backward", "native_group_norm_backward", "gelu_backward", "silu_backward", "softplus_backward",
          "leaky_relu_backward", "elu_backward", "logit_backward")  # fmt: skip


@dataclass(frozen=True)
class _Value:
    """Stands for a tensor among the arguments of a step."""

    number: int


@dataclass
class Step:
    """One operation: its arguments with tensors replaced by their numbers, its results by number, its line and spot.

    ``spot`` is the same for steps of the same code that runs again, as in a loop; ``node`` counts the operations of the
    forward pass.
    """

    function: Any
    flat: list[Any]
    spec: Any
    outs: list[int]
    backward: bool
    line: str
    spot: int = 0
    node: int = -1

    @property
    def name(self) -> str:
        """The operation's name."""
        return str(self.function.overloadpacket.__name__)

    @property
    def operands(self) -> list[tuple[int, int]]:
        """The tensor arguments: (place among the flattened arguments, number)."""
        return [(i, a.number) for i, a in enumerate(self.flat) if isinstance(a, _Value)]


@dataclass
class Tape:
    """The recorded passes; :meth:`replay` runs them again from an edited step on.

    Args:
        steps: in order.
        values: the tensors by number.
        leaves, weights, gradients: the numbers of the inputs, the cotangents and the results (None: no gradient).
    """

    steps: list[Step]
    values: dict[int, Tensor]
    leaves: list[int]
    weights: list[int]
    gradients: list[int | None]
    carried: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.carried = set(self.weights)
        for step in self.steps:
            if any(n in self.carried for _, n in step.operands):
                self.carried.update(step.outs)

    def result(self, found: dict[int, Tensor]) -> list[Tensor | None]:
        """The gradients, with some values replaced."""
        return [None if n is None else found.get(n, self.values.get(n)) for n in self.gradients]

    def replay(self, at: int, out: Callable[[Step], Any]) -> list[Tensor | None]:
        """The gradients with the step ``at`` replaced by ``out(step)``, a tensor or a tuple of them."""
        found: dict[int, Tensor] = {}
        made = out(self.steps[at])
        for number, tensor in zip(
            self.steps[at].outs, made if isinstance(made, tuple | list) else (made,), strict=False
        ):
            if isinstance(tensor, Tensor):
                found[number] = self._safe(number, tensor)
        for step in self.steps[at + 1 :]:
            if any(n in found for _, n in step.operands):
                results = self.run(step, found)
                found.update(self._results(step, results))
        return self.result(found)

    def _results(self, step: Step, results: list[Any]) -> dict[int, Tensor]:
        pairs = zip(step.outs, results, strict=False)
        return {n: self._safe(n, r) for n, r in pairs if isinstance(r, Tensor)}

    def _safe(self, number: int, made: Tensor) -> Tensor:
        """What stands for a value; kernels read and write at indices without a look, so these stay as they were.

        Raises:
            ValueError: it is a list of indices with others than there were.
        """
        was = self.values.get(number)
        if was is None or was.is_floating_point() or was.is_complex() or was.dtype == torch.bool or made.equal(was):
            return made
        same = made.shape == was.shape and made.dtype == was.dtype and made.numel() > 0
        if not same or bool(made.min() < was.min()) or bool(made.max() > was.max()):
            raise ValueError("indices that were not there before")
        return made

    def replay_many(self, edits: dict[int, tuple[int, Tensor]]) -> list[Tensor | None]:
        """The gradients with, at each of these steps, the operand of that rank replaced."""
        found: dict[int, Tensor] = {}
        for at in range(min(edits), len(self.steps)):
            step = self.steps[at]
            if at not in edits and not any(n in found for _, n in step.operands):
                continue
            flat = [found.get(a.number, self.values[a.number]) if isinstance(a, _Value) else a for a in step.flat]
            if at in edits:
                rank, tensor = edits[at]
                flat[step.operands[rank][0]] = tensor
            found.update(self._results(step, self.call(step, flat)))
        return self.result(found)

    def run(self, step: Step, found: dict[int, Tensor], function: Any = None) -> list[Any]:
        """Run one step on values of which some are replaced."""
        flat = [found.get(a.number, self.values[a.number]) if isinstance(a, _Value) else a for a in step.flat]
        return self.call(step, flat, function)

    def arguments(self, step: Step) -> list[Any]:
        """The flattened arguments of a step as they were."""
        return [self.values[a.number] if isinstance(a, _Value) else a for a in step.flat]

    def call(self, step: Step, flat: list[Any], function: Any = None) -> list[Any]:
        """Run a step on these flattened arguments; what it would write to is copied first."""
        if step.function._schema.is_mutable:
            flat = [a.clone() if i == 0 and isinstance(a, Tensor) else a for i, a in enumerate(flat)]
        args, kwargs = tree_unflatten(flat, step.spec)
        out = (function or step.function)(*args, **kwargs)
        return list(out) if isinstance(out, tuple | list) else [out]

    def backward_steps(self) -> Iterator[tuple[int, Step]]:
        """The steps of the backward pass, each with its place."""
        return ((i, s) for i, s in enumerate(self.steps) if s.backward)


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.values: dict[int, Tensor] = {}
        self.numbers: dict[int, int] = {}
        self.kept: list[Any] = []
        self.backward = False
        self.origin: dict[int, tuple[str, int]] = {}

    def number(self, tensor: Tensor, fresh: bool = False) -> int:
        if fresh or id(tensor) not in self.numbers:
            self.numbers[id(tensor)] = len(self.values)
            self.values[len(self.values)] = tensor.detach() if not fresh else tensor
            self.kept.append(tensor)
        return self.numbers[id(tensor)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.backward and func.overloadpacket.__name__ in _APART and func in decomposition_table:
            with self:
                out = decomposition_table[func](*args, **kwargs)
            if out is not NotImplemented:
                return out
        flat, spec = tree_flatten((args, kwargs))
        places = [_Value(self.number(a)) if isinstance(a, Tensor) else a for a in flat]
        mutable = func._schema.is_mutable
        if mutable and isinstance(flat[0], Tensor):
            self.values[self.numbers[id(flat[0])]] = flat[0].detach().clone()
        out = func(*args, **kwargs)
        outs = list(out if isinstance(out, tuple | list) else (out,))
        numbers = [self.number(o, fresh=True) if isinstance(o, Tensor) else -1 for o in outs]
        self.steps.append(Step(func, places, spec, numbers, self.backward, *self._origin()))
        return out

    def _origin(self) -> tuple[str, int, int]:
        """The line, spot and number of the operation of the forward pass to which a step belongs."""
        if self.backward:
            running = torch._C._current_autograd_node()
            node = -1 if running is None else running._sequence_nr()
            return *self.origin.get(node, ("", 0)), node
        node = torch._C._autograd._get_sequence_nr()
        self.origin[node] = line_of(), spot_of()
        return *self.origin[node], node


def _quietly(recorder: _Recorder, tensor: Tensor) -> int:
    """Number a tensor without recording that it was looked at."""
    with _disable_current_modes():
        return recorder.number(tensor)


def record(program: Program, values: Sequence[Tensor], weights: Sequence[Tensor]) -> Tape:
    """Record the plain forward pass and its backward pass with these cotangents."""
    recorder = _Recorder()
    with torch.enable_grad():
        leaves = (
            [v.detach().clone().requires_grad_() for v in values] if not program.parameters else program.leaves(values)
        )
        numbers = [recorder.number(leaf) for leaf in leaves]
        with bypassed(Sites()), recorder:
            with Textbook():
                outs = program.outputs(leaves)
            pairs = [(o, w.clone()) for o, w in zip(outs, weights, strict=True) if o.requires_grad]
            cots = [_quietly(recorder, w) for _, w in pairs]
            recorder.backward = True
            found: Gradients = torch.autograd.grad(
                [o for o, _ in pairs], leaves, [w for _, w in pairs], allow_unused=True
            )
    gradients = [None if g is None else recorder.numbers.get(id(g)) for g in found]
    return Tape(recorder.steps, recorder.values, numbers, cots, gradients)
