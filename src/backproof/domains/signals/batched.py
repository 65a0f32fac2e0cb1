"""An operation applied to many draws at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...graph import Node
from ..numbers import wide_numbers

__all__ = ["each"]


def each(node: Node, operands: Sequence[Tensor]) -> Tensor:
    """An operation on each draw by itself: all at once where it can be, else one by one.

    Args:
        node: what is applied.
        operands: [count, *shape] for each of its operands.

    Returns:
        [count, *shape of the node].
    """
    try:
        found: Tensor = torch.vmap(lambda *here: wide_numbers.apply(node, *here))(*operands)
        return found
    except (RuntimeError, ValueError, TypeError):
        return torch.stack([wide_numbers.apply(node, *here) for here in zip(*operands, strict=True)])
