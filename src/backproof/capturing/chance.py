"""Draws of a run: made in the program's own order and by torch's own generator, then replayed into the program.

torch draws deep inside its operations (dropout calls ``bernoulli_`` on a fresh tensor). A dispatch mode sees each of
these calls, whatever the user's code around them, and puts in the recorded numbers instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import CaptureError
from ..graph import Node

__all__ = ["drawn", "generator_of", "replayed"]


def generator_of(seed: int, device: Any = "cpu") -> torch.Generator:
    """A generator that gives what ``torch.manual_seed(seed)`` gives."""
    return torch.Generator(device).manual_seed(seed)


def drawn(nodes: Iterable[Node], generator: torch.Generator) -> dict[str, Tensor]:
    """Draw the value of each draw in order, by name: the numbers that the program itself draws from this generator."""
    return {node.name: _draw(node, generator) for node in nodes if node.role == "draw"}


def _draw(node: Node, generator: torch.Generator) -> Tensor:
    dtype, method, device = getattr(torch, node.dtype), node.attrs["method"], generator.device
    if method == "permutation":
        return torch.randperm(node.size, generator=generator, dtype=dtype, device=device)
    stride = node.attrs["stride"]
    if stride is None:
        fresh = torch.empty(node.shape, dtype=dtype, device=device)
    else:
        fresh = torch.empty_strided(node.shape, stride, dtype=dtype, device=device)
    filled: Tensor = getattr(fresh, f"{method}_")(*node.attrs["arguments"], generator=generator)
    return filled


# --- replay --------------------------------------------------------------------------------------------------------------
@contextmanager
def replayed(draws: Iterable[Node], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it, whatever torch draws are the recorded values, one after another.

    Raises:
        CaptureError: the program draws other things than were captured.
    """
    nodes = list(draws)
    if not nodes:
        yield
        return
    mode = _Replay(nodes, values)
    with contextlib.ExitStack() as stack:
        if any(values[n.name].is_cuda for n in nodes):  # kernels that draw inside are out of reach
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        stack.enter_context(mode)
        yield
    mode.finish()


class _Replay(TorchDispatchMode):
    """Puts recorded values in the place of draws."""

    def __init__(self, nodes: list[Node], values: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes, self.values, self.count = nodes, values, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = _RULES.get(func.overloadpacket.__name__) if torch.Tag.nondeterministic_seeded in func.tags else None
        if rule is None or not _draws(func, args, kwargs or {}):
            return func(*args, **(kwargs or {}))
        return rule(self._next(func), func, *args, **(kwargs or {}))

    def _next(self, func: Any) -> Tensor:
        if self.count >= len(self.nodes):
            raise CaptureError(f"the program draws more often than it did when it was captured: {func}")
        node = self.nodes[self.count]
        self.count += 1
        return self.values[node.name].detach()

    def finish(self) -> None:
        if self.count != len(self.nodes):
            raise CaptureError(
                f"the program drew {self.count} times, and {len(self.nodes)} times when it was captured; "
                f"'{self.nodes[self.count].name}' is the first draw that it did not make"
            )


def _draws(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the call draws at all: in evaluation some of these operations do not."""
    names = [a.name for a in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    defaults = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
    return all({**defaults, **given}.get(key) is not False for key in ("training", "train"))


def _fresh(value: Tensor, func: Any, *args: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
    """rand, randn, randint and the like: the recorded tensor, in the dtype in which the program runs."""
    like = args[0].dtype if args and isinstance(args[0], Tensor) else torch.get_default_dtype()
    wanted = dtype or (like if value.is_floating_point() else value.dtype)
    return value.to(wanted, copy=True)


def _in_place(value: Tensor, func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if func._overloadname == "Tensor":  # bernoulli_(p)
        return x.copy_(value < args[0])
    return x.copy_(value.reshape(x.shape))


def _bernoulli(value: Tensor, func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return value.to(x.dtype, copy=True) if args or "p" in kwargs else (value < x).to(x.dtype)


def _normal(value: Tensor, func: Any, mean: Any, std: Any = 1.0, *args: Any, **kwargs: Any) -> Any:
    if func._overloadname == "float_float":
        return _fresh(value, func, **kwargs)
    return mean + std * value


def _native_dropout(value: Tensor, func: Any, x: Tensor, p: float, *args: Any) -> tuple[Tensor, Tensor]:
    kept = value.to(x.dtype)
    return x * (kept / (1 - p)), kept.bool()


def _rrelu(value: Tensor, func: Any, x: Tensor, noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    noise.copy_(torch.where(x > 0, 1.0, value.to(x.dtype)))
    result = x * noise
    return x.copy_(result) if func._schema.is_mutable and func.overloadpacket.__name__.endswith("_") else result


_FILLS = ("bernoulli_", "uniform_", "normal_", "exponential_", "log_normal_", "cauchy_", "geometric_", "random_")
_FRESH = ("rand", "randn", "rand_like", "randn_like", "randint", "randint_like", "randperm")
_RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(_FILLS, _in_place),
    **dict.fromkeys(_FRESH, _fresh),
    "bernoulli": _bernoulli,
    "normal": _normal,
    "native_dropout": _native_dropout,
    "rrelu_with_noise": _rrelu,
    "rrelu_with_noise_": _rrelu,
}
