"""Custom operators: what ``torch.library.opcheck`` says besides the gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch._library.custom_ops import CustomOpDef

from .checked import Checked, Oracle, Where
from .program import Program

__all__ = ["is_operator", "with_opcheck"]

TESTS = ("test_schema", "test_autograd_registration", "test_faketensor")


def is_operator(fn: Any) -> bool:
    """Whether this is an operator of torch's library, such as ``torch.library.custom_op`` makes."""
    return isinstance(fn, CustomOpDef | torch._ops.OpOverload | torch._ops.OpOverloadPacket)


def with_opcheck(fn: Any, program: Program, found: Checked) -> Checked:
    """The check with the outcome of torch's own tests of a custom operator; anything else is returned as it is."""
    if not is_operator(fn) or program.twin is not None:
        return found
    args, kwargs = program.arguments(program.start)
    try:
        said = torch.library.opcheck(fn, args, kwargs, test_utils=TESTS, raise_exception=False)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        return replace(found, notes=(*found.notes, f"torch.library.opcheck could not be run: {str(error)[:200]}"))
    failed = {name: str(what) for name, what in said.items() if what != "SUCCESS"}
    oracles = (*found.oracles, Oracle("torch.library.opcheck", not failed, None, ", ".join(failed)))
    if not failed or found.ok is False:
        return replace(found, oracles=oracles)
    cause = "torch.library.opcheck fails: " + "; ".join(f"{n}: {' '.join(w.split())[:200]}" for n, w in failed.items())
    return replace(found, ok=False, oracles=oracles, cause=cause, where=Where(str(fn)))
