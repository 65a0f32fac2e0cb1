"""How far rounding alone can carry a gradient: every operation is run with its result shaken by a known amount.

Each result of an operation is multiplied by 1 + η ξ with ξ standard normal and η far above rounding, in the forward pass and
in the backward pass. What comes out moves by η times the running error that the same computation has per unit of
rounding, cancellation included; scaled down to the dtype's own rounding this is the tolerance of each entry.
(Monte Carlo arithmetic: D. S. Parker, 1997.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["SAMPLES", "SHAKE", "Coarsest", "Shaken", "spread"]

SHAKE = 2.0**-34
SAMPLES = 2
_EXACT = frozenset(
    "clone copy detach zero fill sign round floor ceil trunc gather index index_select where relu threshold max min amax amin "
    "sort topk bernoulli uniform normal scatter masked_fill neg abs cat stack _to_copy lift_fresh native_dropout clamp "
    "maximum minimum scalar_tensor set embedding constant_pad_nd roll flip eye arange index_put".split()
)
_MAKING = ("zeros", "ones", "empty", "full", "new_", "rand", "max_pool")


def _is_exact(name: str) -> bool:
    """Whether an operation moves or makes numbers and rounds none."""
    return name.rstrip("_") in _EXACT or name.startswith(_MAKING)


class Coarsest(TorchDispatchMode):
    """Notes the coarsest float dtype that a computation passes through, as under autocast; ``.rounding`` is its half unit."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rounding = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for o in out if isinstance(out, tuple | list) else (out,):
            if isinstance(o, Tensor) and (o.is_floating_point() or o.is_complex()):
                self.rounding = max(self.rounding, torch.finfo(o.dtype).eps / 2)
        return out


class Shaken(TorchDispatchMode):
    """Shakes the float results of operations that round."""

    def __init__(self, seed: int, size: float = SHAKE) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seed, self.size = seed, size
        self.generators: dict[Any, torch.Generator] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.is_view or _is_exact(func.overloadpacket.__name__):
            return out
        if isinstance(out, Tensor):
            return self._shake(out, args)
        return (
            tuple(self._shake(o, args) if isinstance(o, Tensor) else o for o in out) if isinstance(out, tuple) else out
        )

    def _shake(self, out: Tensor, args: Any) -> Any:
        if not (out.is_floating_point() or out.is_complex()) or not out.numel():
            return out
        generator = self.generators.setdefault(out.device, torch.Generator(out.device).manual_seed(self.seed))
        real = out.real.dtype if out.is_complex() else out.dtype
        noise: Tensor = torch.randn(out.shape, dtype=real, device=out.device, generator=generator)
        if args and out is args[0]:
            out.mul_(1 + self.size * noise)
            return out
        return out * (1 + self.size * noise)


def spread(
    run: Callable[[], Sequence[Tensor | None]], centre: Sequence[Tensor | None], seed: int, size: float = SHAKE
) -> list[Tensor | None]:
    """How much each entry moves per unit of relative rounding."""
    found: list[Tensor | None] = [None if c is None else torch.zeros(c.shape, dtype=torch.float64) for c in centre]
    for k in range(SAMPLES):
        with Shaken(seed + k, size):
            moved = run()
        for i, (m, c) in enumerate(zip(moved, centre, strict=True)):
            if m is not None and c is not None and found[i] is not None:
                found[i] = torch.maximum(found[i], ((m - c).abs() / size).double().cpu())  # type: ignore[arg-type]
    return found
