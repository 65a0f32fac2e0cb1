"""A model into torch.export's training IR, not decomposed."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import BackproofError, CaptureError
from . import origin
from .frames import whole_stacks
from .names import is_library
from .origin import Wrapped
from .reading import Leaf, Traced
from .refusing import first_line, user_frame
from .running import kept_state, quiet
from .unseen import PACKED, holds_packed, unseen

__all__ = ["NotExported", "export"]


class NotExported(CaptureError):
    """torch.export rejects the model; the message says why and where."""


def export(wrapped: Wrapped, call: tuple[Any, ...]) -> Traced:
    """Export the model.

    Raises:
        NotExported: torch.export rejects it.
    """
    try:
        with kept_state(wrapped), quiet(), unseen(), whole_stacks(origin.__file__, is_library), torch.enable_grad():
            exported = torch.export.export(wrapped, call, strict=False)
    except Exception as error:
        final = isinstance(error, BackproofError) or holds_packed(error)  # what recording would not capture either
        raise (CaptureError if final else NotExported)(_why_not(error)) from None
    placeholders = [n for n in exported.graph_module.graph.nodes if n.op == "placeholder"]
    leaves = tuple(
        Leaf(node, spec.kind.name, spec.target or node.name)
        for node, spec in zip(placeholders, exported.graph_signature.input_specs, strict=True)
    )
    return Traced(exported.graph_module, leaves, exported.constants)


def _why_not(error: Exception) -> str:
    where = user_frame(error)
    if isinstance(error, BackproofError):
        return f"the model cannot be captured{where}: {error}"
    if holds_packed(error):
        return PACKED.format(where)
    if "DataDependent" in type(error).__name__ or "data-dependent" in str(error).lower():
        return (
            f"the model branches on a value that is only known when it runs{where}; "
            "a Graph has one way through: write both branches and choose with torch.where"
        )
    return f"the model cannot be captured{where}: {type(error).__name__}: {first_line(error)}"
