"""Another function, or another argument, in the place of the right one: the gradient of a near relative.

Each call of the forward pass is exchanged in turn: tanh for a sigmoid, an average for a maximum, another axis, a flag
turned over, a mask left out. Either the whole call is another one, or it keeps its value and only its slope is another's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..compare import Gradients
from ..functions import Sites, bypassed, line_of
from ..program import Program
from .found import Found, same_gradient
from .textbook import Textbook

__all__ = ["relative"]

SECONDS = 3.0
MOST_CALLS = 60
FAILS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError, NotImplementedError, KeyError)

Call = Callable[..., Any]
ELEMENTWISE: dict[str, Call] = {
    "the identity": lambda x: x * 1, "relu": torch.relu, "gelu": F.gelu, "gelu in its tanh form": lambda x: F.gelu(x, approximate="tanh"),
    "gelu in its sigmoid form": lambda x: x * torch.sigmoid(1.702 * x), "silu": F.silu, "tanh": torch.tanh,
    "sigmoid": torch.sigmoid, "softplus": F.softplus, "elu": F.elu, "leaky_relu": F.leaky_relu, "relu6": F.relu6,
    "hardtanh": F.hardtanh, "hardsigmoid": F.hardsigmoid, "hardswish": F.hardswish, "softsign": F.softsign, "selu": F.selu,
    "mish": F.mish, "logsigmoid": F.logsigmoid, "exp": torch.exp, "log": torch.log, "sin": torch.sin, "cos": torch.cos,
    "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "abs": torch.abs, "square": torch.square, "erf": torch.erf, "atan": torch.atan,
}  # fmt: skip
NAMES = {
    *ELEMENTWISE,
    "softsign",
    "log_sigmoid",
    "celu",
    "threshold",
    "expm1",
    "log1p",
    "sinh",
    "cosh",
    "tan",
    "reciprocal",
}


def _other_end(x: Tensor, dim: int) -> Tensor:
    return x.flip(dim).cumsum(dim).flip(dim)


def _nearest(x: Tensor, size: Any = None, scale_factor: Any = None, *_: Any, **__: Any) -> Tensor:
    return F.interpolate(x, size, scale_factor)


def _corners(
    x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "bilinear", *_: Any, **__: Any
) -> Tensor:
    return F.interpolate(x, size, scale_factor, mode, align_corners=True)


def _window_sum(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if x.ndim == 3:
        raise ValueError("no divisor in one dimension")
    pool: Callable[..., Tensor] = F.avg_pool3d if x.ndim == 5 else F.avg_pool2d
    return pool(x, *args, **{**kwargs, "divisor_override": 1})


RELATIVES: dict[str, dict[str, Call]] = {
    "softmax": {"log_softmax": torch.log_softmax, "the sigmoid": lambda x, *_, **__: torch.sigmoid(x)},
    "log_softmax": {"softmax": torch.softmax, "logsigmoid": lambda x, *_, **__: F.logsigmoid(x)},
    "logsumexp": {"the largest": torch.amax, "the sum": torch.sum, "the mean": torch.mean},
    "interpolate": {"the nearest entry": _nearest, "interpolation with aligned corners": _corners},
    "amax": {"logsumexp": torch.logsumexp, "amin": torch.amin, "mean": torch.mean, "sum": torch.sum},
    "amin": {"amax": torch.amax, "mean": torch.mean},
    "mean": {"the sum": torch.sum, "the largest": torch.amax},
    "sum": {"the mean": torch.mean, "the largest": torch.amax},
    "cumsum": {"the running sum from the other end": _other_end},
    "maximum": {"minimum": torch.minimum},
    "minimum": {"maximum": torch.maximum},
    "mse_loss": {"l1_loss": F.l1_loss, "smooth_l1_loss": F.smooth_l1_loss, "huber_loss": F.huber_loss},
    "l1_loss": {"mse_loss": F.mse_loss, "smooth_l1_loss": F.smooth_l1_loss, "huber_loss": F.huber_loss},
    "smooth_l1_loss": {"mse_loss": F.mse_loss, "l1_loss": F.l1_loss, "huber_loss": F.huber_loss},
    "huber_loss": {"mse_loss": F.mse_loss, "l1_loss": F.l1_loss, "smooth_l1_loss": F.smooth_l1_loss},
    **{f"max_pool{n}d": {f"avg_pool{n}d": getattr(F, f"avg_pool{n}d")} for n in (1, 2, 3)},
    **{f"avg_pool{n}d": {f"max_pool{n}d": getattr(F, f"max_pool{n}d"), "the sum over the window": _window_sum}
       for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": {f"adaptive_max_pool{n}d": getattr(F, f"adaptive_max_pool{n}d")} for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": {f"adaptive_avg_pool{n}d": getattr(F, f"adaptive_avg_pool{n}d")} for n in (1, 2, 3)},
}  # fmt: skip
CHOICES = {"mode": ("nearest", "nearest-exact", "linear", "bilinear", "bicubic", "sum", "mean", "max"),
           "reduction": ("mean", "sum", "batchmean"), "approximate": ("none", "tanh"),
           "padding_mode": ("zeros", "border", "reflection")}  # fmt: skip


@dataclass(frozen=True)
class _Seen:
    """One call of the forward pass: the function, its arguments, the line."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    line: str

    @property
    def name(self) -> str:
        return str(getattr(self.function, "__name__", "")).strip("_")


class _Calls(TorchFunctionMode):
    """Keeps the calls that return a tensor; the call ``at`` is exchanged for ``other``, or only its slope is."""

    def __init__(self, at: int = -1, other: Call | None = None, slope: bool = False) -> None:
        super().__init__()
        self.at, self.other, self.slope = at, other, slope
        self.seen: list[_Seen] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor) or func.__name__ == "__get__":
            return out
        number = len(self.seen)
        self.seen.append(_Seen(func, args, kwargs, line_of() if self.at < 0 else ""))
        return self._as(self.other(*args, **kwargs), out) if number == self.at and self.other else out

    def _as(self, made: Tensor, usual: Tensor) -> Tensor:
        if made.shape != usual.shape or made.dtype != usual.dtype:
            raise ValueError("another shape")
        return made + (usual - made).detach() if self.slope else made


def relative(program: Program, claimed: Gradients, weights: Sequence[Tensor], wrong: Sequence[int]) -> Found | None:
    """The near relative of the forward pass whose gradient is claimed; one for each wrong input if need be."""
    return _relative(program, claimed, weights, wrong, False) or _relative(program, claimed, weights, wrong, True)


def _relative(
    program: Program, claimed: Gradients, weights: Sequence[Tensor], wrong: Sequence[int], inside: bool
) -> Found | None:
    """The same for the calls as they are written, or for those inside of their textbook forms."""
    calls = _seen(program, inside)
    if not 0 < len(calls) <= MOST_CALLS or (inside and len(calls) == len(_seen(program, False))):
        return None
    until, each = time.thread_time() + SECONDS, dict[int, Found]()
    for at, call in enumerate(calls):
        for words, other, slope in _others(call):
            if time.thread_time() > until:
                return None
            made = _gradients(program, weights, _Calls(at, other, slope), inside)
            hit = [i for i in wrong if made is not None and same_gradient(claimed[i], made[i], program.start[i])]
            if len(hit) == len(wrong) and _rest_is_right(made, claimed, wrong, program):
                return Found(words, call.name, call.line)
            for i in hit:
                each.setdefault(i, Found(words, call.name, call.line))
    return _together(each, wrong, program)


def _rest_is_right(made: Gradients | None, claimed: Gradients, wrong: Sequence[int], program: Program) -> bool:
    rest = [i for i in range(len(claimed)) if i not in wrong]
    return made is not None and all(same_gradient(claimed[i], made[i], program.start[i]) for i in rest)


def _together(each: dict[int, Found], wrong: Sequence[int], program: Program) -> Found | None:
    """A relative for each wrong input by itself."""
    if set(each) != set(wrong):
        return None
    words = [f"in the gradient of {program.names[i]}: {each[i].words}" for i in wrong]
    return replace(each[wrong[0]], words="; ".join(words))


def _seen(program: Program, inside: bool) -> list[_Seen]:
    calls = _Calls()
    try:
        with torch.no_grad(), bypassed(Sites()):
            watched = _watched(program, calls, inside)
            watched.outputs(program.start if not program.parameters else program.leaves(program.start))
    except FAILS:
        return []
    return calls.seen


def _watched(program: Program, calls: _Calls, inside: bool) -> Program:
    def call(*args: Any, **kwargs: Any) -> Any:
        with calls, Textbook() if inside else nullcontext():
            return program.call(*args, **kwargs)

    return replace(program, call=call)


def _gradients(program: Program, weights: Sequence[Tensor], calls: _Calls, inside: bool) -> Gradients | None:
    try:
        return _watched(program, calls, inside).gradients(program.start, weights, Sites())
    except FAILS:
        return None


def _others(call: _Seen) -> Iterator[tuple[str, Call, bool]]:
    """What may stand in the place of a call: words, the function, and whether only its slope is exchanged."""
    for words, other in _exchanged(call):
        yield words, other, False
    for words, other in _exchanged(call):
        yield f"{words} (its slope only)", other, True


def _exchanged(call: _Seen) -> Iterator[tuple[str, Call]]:
    tensors = [a for a in call.args if isinstance(a, Tensor)]
    if call.name in NAMES and tensors:
        for name, other in ELEMENTWISE.items():
            if name != call.name:
                yield f"{name} stands where {call.name} belongs", lambda x, *_, other=other, **__: other(x)
    for name, other in RELATIVES.get(call.name, {}).items():
        yield f"{name} stands where {call.name} belongs", other
    given: list[tuple[int | str, Any]] = [*enumerate(call.args), *call.kwargs.items()]
    for place, value in given:
        for new in _values(place, value, tensors[0] if tensors else None):
            yield f"{call.name} is computed with {_argument(place, new, value)}", _with(call.function, place, new)


def _with(function: Call, place: int | str, new: Any) -> Call:
    def run(*args: Any, **kwargs: Any) -> Any:
        if isinstance(place, str):
            return function(*args, **{**kwargs, place: new})
        return function(*args[:place], new, *args[place + 1 :], **kwargs)

    return run


def _argument(place: int | str, new: Any, old: Any) -> str:
    name = f"{place}=" if isinstance(place, str) else ""
    if isinstance(old, Tensor):
        return f"{name}None where the forward pass has a tensor"
    return f"{name}{new} where the forward pass has {old}"


def _values(place: int | str, value: Any, first: Tensor | None) -> Iterator[Any]:
    """Other values of one argument."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        axes = range(first.ndim) if first is not None and place in (1, "dim", "axis") else ()
        yield from (n for n in dict.fromkeys([*axes, value + 1, value - 1, 2 * value]) if n != value)
    elif isinstance(value, float) and math.isfinite(value):
        yield from (
            n for n in dict.fromkeys([0.0, 1.0, -value, 1 - value, 2 * value, value / 2, value**2]) if n != value
        )
    elif isinstance(value, str):
        yield from (n for n in CHOICES.get(str(place), ()) if n != value)
    elif isinstance(value, tuple | list) and len(value) == 1 and isinstance(value[0], int) and first is not None:
        yield from ([n] for n in range(first.ndim) if n != value[0])
    elif isinstance(value, Tensor) and isinstance(place, str):
        yield None
