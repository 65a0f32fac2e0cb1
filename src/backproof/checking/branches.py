"""Which branches a run enters, and inputs that enter those which the given ones leave out.

A branch is a side of a comparison, of a kink (relu, clamp, |x|, maximum, a threshold) or of an ``if``. Each is noted with its
margin, the quantity whose sign decides. Inputs are scaled over many orders of magnitude, and where a side is still missing,
Newton steps carry the margin that lies closest to zero across it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .compiled import eager_of
from .functions import Sites, bypassed
from .program import Program

__all__ = ["branch_points"]

FAILS = (RuntimeError, ValueError, IndexError, TypeError, ArithmeticError, AssertionError, AttributeError, KeyError)
SCALES = (2.0**-10, 2.0**-5, 64.0, 1024.0)
MOST_TARGETS = 12
STEPS = 6
Side = tuple[int, str, bool]


def _difference(a: Any, b: Any, *_: Any, **__: Any) -> list[Any]:
    return [a - b]


def _itself(x: Any, *_: Any, **__: Any) -> list[Any]:
    return [x]


def _clamped(x: Any, min: Any = None, max: Any = None, *_: Any, **__: Any) -> list[Any]:
    return [x - bound for bound in (min, max) if bound is not None]


def _at_three(x: Any, *_: Any, **__: Any) -> list[Any]:
    return [x + 3, x - 3]


def _shrunk(x: Any, lambd: float = 0.5, *_: Any, **__: Any) -> list[Any]:
    return [x - lambd, x + lambd]


def _bent(a: Any, b: Any, reduction: Any = None, delta: float = 1.0, beta: float | None = None, **__: Any) -> list[Any]:
    return [(a - b).abs() - (delta if beta is None else beta), a - b]


MARGINS: dict[str, Callable[..., list[Any]]] = {
    **dict.fromkeys(("gt", "lt", "ge", "le", "eq", "ne", "maximum", "minimum"), _difference),
    **dict.fromkeys(("relu", "abs", "sign", "leaky_relu", "elu", "selu", "celu", "prelu", "sgn"), _itself),
    **dict.fromkeys(("clamp", "clip"), _clamped),
    "clamp_min": _difference, "clamp_max": lambda x, max, **__: [x - max],
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0, *_, **__: [x - min_val, x - max_val],
    "relu6": lambda x, *_, **__: [x, x - 6], "threshold": lambda x, threshold, *_, **__: [x - threshold],
    "softplus": lambda x, beta=1.0, threshold=20.0, **__: [beta * x - threshold],
    "hardsigmoid": _at_three, "hardswish": _at_three, "softshrink": _shrunk, "hardshrink": _shrunk,
    "huber_loss": _bent, "smooth_l1_loss": _bent,
}  # fmt: skip


def _margins(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    made = MARGINS.get(str(getattr(func, "__name__", "")).split(".")[0].strip("_"))
    if made is None:
        return []
    try:
        found = made(*args, **kwargs)
    except FAILS:
        return []
    return [m for m in found if isinstance(m, Tensor) and m.is_floating_point() and m.numel()]


class _Sides(TorchDispatchMode):
    """Notes which sides of each margin are taken, and in which order operations run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[Side] = set()
        self.count = 0
        self.order = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.order = hash((self.order, name))
        for margin in _margins(func.overloadpacket, args, kwargs or {}):
            low, high = margin.aminmax()
            if bool(high > 0):
                self.seen.add((self.count, name, True))
            if bool(low <= 0):
                self.seen.add((self.count, name, False))
            self.count += 1
        return func(*args, **(kwargs or {}))


class _Watch(TorchFunctionMode):
    """Keeps the margins of a forward pass with their graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.margins: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.margins += _margins(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def branch_points(
    program: Program, tried: Sequence[Program], keep: Callable[[Tensor, Tensor], Tensor]
) -> Iterator[tuple[str, Program]]:
    """Programs at inputs that enter branches which neither the given inputs nor those tried enter, each with which in words.

    ``keep`` brings a moved input back to what its values allow (positive, say), given the input as it was.
    """
    if eager_of(program.call) is not None:
        return  # nothing inside of it can be looked at
    first = _entered(program)
    if first is None or not (first.seen or first.order):
        return
    known, orders = set(first.seen), {first.order}
    for other in tried:
        if (run := _entered(other)) is not None:
            known |= run.seen
            orders.add(run.order)
    if not known and len(orders) == 1 and not first.count:
        return
    for moved in _moved(program, known, keep):
        run = _entered(moved)
        if run is not None and (run.seen - known or run.order not in orders):
            words = _words(run.seen - known)
            known |= run.seen
            orders.add(run.order)
            yield words, moved


def _words(new: set[Side]) -> str:
    if not new:
        return "that take another way through the program"
    _, name, above = min(new)
    return f"that enter another branch ({name.strip('_')}, {'above' if above else 'not above'} its bound)"


def _entered(program: Program) -> _Sides | None:
    sides = _Sides()
    try:
        outputs = program.at(program.start)
        if not all(bool(o.isfinite().all()) for o in outputs):
            return None
        with sides:
            program.gradients(program.start, [torch.ones_like(o) for o in outputs])
    except FAILS:
        return None
    return sides


def _moved(program: Program, known: set[Side], keep: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Program]:
    """Inputs scaled together, inputs scaled one by one, and Newton steps over margins of which one side is missing."""
    start = program.start
    for scale in SCALES:
        yield replace(program, start=tuple(keep(scale * v, v) for v in start))
    for i in range(len(start) if 1 < len(start) <= 6 else 0):
        for scale in (SCALES[0], SCALES[-1]):
            yield replace(program, start=tuple(keep(scale * v, v) if i == k else v for k, v in enumerate(start)))
    yield from _across(program, keep)


def _across(program: Program, keep: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Program]:
    many = len(_watched(program)[1])
    for target in range(min(many, MOST_TARGETS)):
        at = program
        for _ in range(STEPS):
            leaves, margins = _watched(at)
            if len(margins) <= target or not margins[target].requires_grad:
                break
            margin = margins[target].reshape(-1)
            if bool((margin > 0).any()) and bool((margin <= 0).any()):
                break
            step = _newton(margin, leaves)
            if step is None:
                break
            at = replace(at, start=tuple(keep(v + s, v) for v, s in zip(at.start, step, strict=True)))
        if at is not program:
            yield at


def _watched(program: Program) -> tuple[list[Tensor], list[Tensor]]:
    watch = _Watch()
    try:
        with torch.enable_grad(), bypassed(Sites()):
            leaves = program.leaves(program.start)
            with watch:
                program.outputs(leaves)
    except FAILS:
        return [], []
    return leaves, watch.margins


def _newton(margin: Tensor, leaves: list[Tensor]) -> list[Tensor] | None:
    """A step that carries the entry closest to zero a little beyond it, to the other side."""
    nearest = margin[margin.detach().abs().argmin()]
    try:
        slopes = torch.autograd.grad(nearest, leaves, allow_unused=True)
    except FAILS:
        return None
    size = sum(float(s.square().sum()) for s in slopes if s is not None)
    if not size > 0:
        return None
    left = float(nearest.detach())
    far = -1.05 * left / size if left else 1e-3 / size
    return [torch.zeros_like(v) if s is None else (far * s).detach() for s, v in zip(slopes, leaves, strict=True)]
