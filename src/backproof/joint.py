"""The forward and backward pass as torch really runs them, recorded without computing a number.

The one file besides ``capturing`` that places hooks and touches torch's internals. A step of training runs on fake tensors:
they have a shape, a dtype and a storage with a size, and no memory behind them, so that a network of billions of
parameters costs seconds. Autograd, the optimizer and ``torch.utils.checkpoint`` are torch's own, so what they save, for how
long, and in which order, is theirs too. Each operation that torch dispatches is one :class:`Call`.

What an operation allocates inside itself is not visible this way (oneDNN's reordered weights, an LSTM's workspace);
:mod:`backproof.studies.scratch` measures it, one operation at a time, from the calls kept here.
"""

from __future__ import annotations

import copy
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

__all__ = ["Call", "Made", "Recorder", "Seen", "Spec", "Spot"]

_OWN = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


@dataclass
class Seen:
    """A storage: its size, birth and death by the number of the operation, and what it turned out to be."""

    bytes: int
    birth: int
    kind: str = ""
    death: int | None = None
    name: str = ""
    shape: tuple[int, ...] = ()
    call: int = -1
    place: int = 0


@dataclass(frozen=True)
class Spot:
    """One dispatched operation: when, what, where in the model, what it costs."""

    step: int
    phase: str
    op: str
    module: str
    source: str
    flops: int
    again: bool
    random: bool
    call: int


@dataclass(frozen=True)
class Spec:
    """What a tensor argument was: enough to make a real one of the same layout."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Made:
    """A tensor argument that has no size here and comes from an earlier call (an opaque workspace)."""

    call: int = field(repr=False)
    place: int
    of: int


@dataclass(frozen=True)
class Call:
    """A distinct operation with its arguments, tensors replaced by :class:`Spec` or :class:`Made`."""

    function: Any
    args: Any
    kwargs: Any
    key: tuple[Any, str]
    sizes: tuple[int, ...] = ()
    bytes: int = 0
    flops: int = 0


@dataclass
class Recorder(TorchDispatchMode):
    """Records the operations and storages of training steps on fake tensors.

    ``with recorder.running():`` records; ``model``, ``tensor`` and ``enter`` make the fake twins and say what comes next.
    """

    spots: list[Spot] = field(default_factory=list)
    storages: list[Seen] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    called: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fakes = FakeTensorMode(allow_non_fake_inputs=True)
        self.live: dict[int, tuple[int, Any]] = {}
        self.step, self.phase, self.stack = 1, "forward", list[str]()
        self.keys: dict[Any, int] = {}
        self.origin: dict[int, tuple[str, str]] = {}
        self.began = 0

    def __hash__(self) -> int:
        return id(self)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Record what torch dispatches inside."""
        with self.fakes, self:
            yield

    # The fake twins

    def tensor(self, tensor: Tensor, kind: str = "inputs", name: str = "") -> Tensor:
        """A fake tensor of the same layout on the same device ("meta" counts as the CPU), known under a name."""
        device = "cpu" if tensor.device.type == "meta" else tensor.device
        if isinstance(tensor, torch._subclasses.FakeTensor):
            raise TypeError("a fake tensor of somebody else's")
        with self.fakes, torch.no_grad():
            made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
        made.requires_grad_(tensor.requires_grad)
        self.known(made, kind, name)
        return made

    def known(self, tensor: Tensor, kind: str, name: str) -> None:
        """Say what a tensor's storage is."""
        seen = self.storages[self._storage(tensor)]
        seen.kind, seen.name = kind, name or seen.name

    def model(self, model: nn.Module) -> nn.Module:
        """A copy of the model with fake parameters and buffers, whose modules say when they run."""
        memo: dict[int, Any] = {}
        for name, p in model.named_parameters():
            memo[id(p)] = nn.Parameter(self.tensor(p.detach(), "parameters", name), requires_grad=p.requires_grad)
        for name, b in model.named_buffers():
            memo[id(b)] = self.tensor(b.detach(), "buffers", name)
        twin: nn.Module = copy.deepcopy(model, memo)
        for name, module in twin.named_modules():
            self._watch(name, module)
        return twin

    def _watch(self, name: str, module: nn.Module) -> None:
        def enter(_: Any, args: Any) -> None:
            numbers = {self._storage(t) for t in tree_leaves(args) if isinstance(t, Tensor)}
            self.called.setdefault(name, tuple(n for n in numbers if self.storages[n].kind != "inputs"))
            self.stack.append(name)

        def leave(*_: Any) -> None:
            if name in self.stack:
                del self.stack[self.stack.index(name) :]

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave, always_call=True)

    # What comes next

    def enter(self, phase: str) -> None:
        """A phase of the step begins: "clear", "forward", "loss", "backward", "update"."""
        if phase == "forward":
            self.began = len(self.spots)
        if phase == "backward":
            self._label("activations", self.began)
        self.phase, self.stack = phase, []

    def next_step(self) -> None:
        """Another step begins."""
        self.step += 1

    def _label(self, kind: str, since: int) -> None:
        for number, _ in self.live.values():
            seen = self.storages[number]
            if not seen.kind and seen.birth >= since:
                seen.kind = kind

    def label(self, tensors: Mapping[str, Tensor], kind: str) -> None:
        """Say what these tensors are, unless their storage has a name already."""
        for name, tensor in tensors.items():
            seen = self.storages[self._storage(tensor)]
            if seen.kind in ("", "recomputed"):
                seen.kind, seen.name = kind, name

    # The record

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # a question about the tensor
            return func(*args, **kwargs)
        module, source = self._place()
        call = self._call(func, args, kwargs)
        out = func(*args, **kwargs)
        outputs = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        flops = _flops(func, args, kwargs, out, outputs)
        again = self._again()
        random = torch.Tag.nondeterministic_seeded in func.tags
        spot = Spot(
            self.step, self.phase, str(func.overloadpacket.__name__), module, source, flops, again, random, call
        )
        self.spots.append(spot)
        fresh = [self._born(t, call, place) for place, t in enumerate(outputs)]
        self._complete(call, [t.untyped_storage().nbytes() for t in outputs], any(fresh), flops)
        return out

    def _place(self) -> tuple[str, str]:
        """The module and the user's line of the running operation; in the backward pass those of the forward one."""
        again = self._again()
        if self.phase == "backward" and not again:
            node = torch._C._current_autograd_node()
            return self.origin.get(node._sequence_nr(), ("", "")) if node is not None else ("", "")
        place = (self.stack[-1] if self.stack else "", _line())
        if self.phase in ("forward", "loss") or again:
            self.origin[torch._C._autograd._get_sequence_nr()] = place
        return place

    def _again(self) -> bool:
        """Whether a part of the forward pass is computed again in the backward pass (under a checkpoint)."""
        inside = torch._C._current_graph_task_id() != -1
        return self.phase == "backward" and inside and torch.is_grad_enabled()

    def _born(self, tensor: Tensor, call: int, place: int) -> bool:
        before = len(self.storages)
        seen = self.storages[self._storage(tensor)]
        if len(self.storages) == before:
            return False
        seen.call, seen.place = call, place
        if self._again():
            seen.kind = "recomputed"
        return True

    def _storage(self, tensor: Tensor) -> int:
        """The number of a tensor's storage; a new one is entered, and its death awaited."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.live:
            return self.live[key][0]
        number = len(self.storages)
        self.storages.append(Seen(storage.nbytes(), len(self.spots) - 1, shape=tuple(tensor.shape)))

        def died(_: Any) -> None:
            self.live.pop(key, None)
            self.storages[number].death = len(self.spots) - 1

        self.live[key] = (number, weakref.ref(storage, died))
        return number

    # Distinct calls, for measuring what an operation allocates inside itself

    def _call(self, func: Any, args: Any, kwargs: Any) -> int:
        if torch.Tag.pointwise in func.tags or func.is_view:
            return -1
        specs = tree_map(self._spec, (args, kwargs))
        key = (func, repr(specs))
        if key not in self.keys:
            self.keys[key] = len(self.calls)
            args, kwargs = specs
            self.calls.append(Call(func, args, kwargs, key))
        return self.keys[key]

    def _spec(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        known = self.live.get(value.untyped_storage()._cdata)
        if value.numel() == 0 and known and self.storages[known[0]].call >= 0:
            seen = self.storages[known[0]]
            return Made(seen.call, seen.place, hash(self.calls[seen.call].key))
        return Spec(tuple(value.shape), tuple(value.stride()), value.dtype)

    def _complete(self, number: int, sizes: list[int], fresh: bool, flops: int) -> None:
        """Enter what a distinct call returned, the first time; one that allocates nothing needs no measuring."""
        if number < 0 or self.calls[number].sizes:
            return
        call = self.calls[number]
        held = sum(_extent(s) for s in tree_leaves((call.args, call.kwargs)) if isinstance(s, Spec))
        whole = held + sum(sizes) if fresh else 0
        self.calls[number] = replace(call, sizes=tuple(sizes), bytes=whole, flops=flops)


def _extent(spec: Spec) -> int:
    if 0 in spec.shape:
        return 0
    reach = sum((n - 1) * s for n, s in zip(spec.shape, spec.stride, strict=True)) + 1
    return reach * spec.dtype.itemsize


def _flops(func: Any, args: Any, kwargs: Any, out: Any, outputs: list[Tensor]) -> int:
    """Torch's own count for products and convolutions, and one for each entry of any other result."""
    count: Callable[..., int] | None = flop_registry.get(func.overloadpacket) or _COUNTS.get(func.overloadpacket)
    if count is not None:
        return int(count(*args, **kwargs, out_val=out))
    return 0 if func.is_view else sum(t.numel() for t in outputs)


def _attention(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(q.shape, k.shape, v.shape))


def _attention_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(grad.shape, q.shape, k.shape, v.shape))


def _recurrent(x: Tensor, w1: Tensor, w2: Tensor, *_: Any, **__: Any) -> int:
    return 2 * (x.numel() // x.shape[-1]) * (w1.numel() + w2.numel())


_COUNTS: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    torch.ops.aten.mkldnn_rnn_layer: _recurrent,
    torch.ops.aten.mkldnn_rnn_layer_backward: lambda *args, **keywords: 2 * _recurrent(*args),
}
"""What torch's table of counts lacks."""


def _line() -> str:
    """The innermost line outside torch and Backproof on the way from the recorded step to the operation."""
    frame: Any = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.endswith("stepping.py"):
        file = frame.f_code.co_filename
        if not file.startswith(_OWN) and not file.startswith("<"):
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
