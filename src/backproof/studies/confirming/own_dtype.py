"""The user's program run in float64, or in its own dtype where it casts to a shorter one itself.

A norm that computes in float32 whatever comes in, or a mask that is made with ``.float()``, does not get more exact by being
given float64: it rounds inside, or meets a tensor of another dtype and stops. One that adds its dtype's own epsilon (an RMSNorm
without eps) is another function in float64. Such programs are run as they were meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ...graph import Graph
from ..verdicts import IN_OWN_DTYPE

__all__ = ["run_wide"]

_EPSILON = torch.finfo(torch.float64).eps
_SHORT = (torch.float32, torch.float16, torch.bfloat16)


class _Casts(TorchDispatchMode):
    """Notices a float64 tensor that is cast to a shorter dtype, and a number that is there because of float64."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and found.dtype in _SHORT:
            self.seen = self.seen or args[0].dtype == torch.float64
        self.seen = self.seen or any(isinstance(a, float) and a == _EPSILON for a in args)
        return found


def run_wide(
    graph: Graph,
    leaves: Mapping[str, Tensor],
    dtypes: Mapping[str, torch.dtype],
    run: Callable[[Graph, Any], Any],
    oracle: str,
) -> tuple[Mapping[str, Tensor], Any, str]:
    """Run a program on float64 leaves, and again in its own dtype if that turned out to be shorter inside.

    Args:
        graph: what was captured.
        leaves: in float64, connected for autograd where a gradient is wanted.
        dtypes: the program's own dtypes of the leaves.
        run: from (graph, leaves) to whatever the program gives.
        oracle: how the comparison is called where float64 was kept.

    Returns:
        The leaves that were used, what the program gave, and how the comparison is called.
    """
    narrow = any(t.dtype != dtypes.get(n, t.dtype) for n, t in leaves.items())
    if not narrow:
        return leaves, run(graph, leaves), oracle
    casts = _Casts()
    try:
        with casts:
            given = run(graph, leaves)
        if not casts.seen:
            return leaves, given, oracle
    except RuntimeError:  # a tensor of another dtype was met
        pass
    own = {n: t.detach().to(dtypes.get(n, t.dtype)).requires_grad_(t.requires_grad) for n, t in leaves.items()}
    return own, run(graph, own), IN_OWN_DTYPE
