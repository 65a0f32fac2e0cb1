"""Other ways to differentiate: forward mode, and several gradients at once (vmap)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torch.autograd.forward_ad as forward
from torch import Tensor

from .compare import any_wrong, entries, quick_masks
from .differences import direction
from .functions import Sites, bypassed
from .oracles import cotangents
from .program import WIDE, Input, Program

__all__ = ["batched", "forward_mode"]

FAILS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError)


def forward_mode(program: Program, seed: int = 0) -> str | None:
    """What is wrong about forward-mode differentiation (a ``jvp``), in a few lines; None if it is right.

    The tangents of the outputs along a Gaussian direction, J u, are compared entry by entry with those of the plain forward
    pass, without any custom rule.
    """
    program = program.widened() if all(v.dtype in WIDE for v in program.start) else program
    u = direction(program.start, seed + 71)
    try:
        claimed = _tangents(program, u)
    except FAILS as error:
        return f"forward-mode differentiation fails: {' '.join(str(error).split())[:200]}"
    with bypassed(Sites()):
        expected = _tangents(program, u)
    return _difference("forward mode is wrong", claimed, expected)


def _tangents(program: Program, u: Sequence[Tensor]) -> list[Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch's own first import for this mode
        import torch._decomp.decompositions_for_jvp
    with torch.enable_grad(), forward.dual_level():
        outs = program.outputs([forward.make_dual(v, d) for v, d in zip(program.start, u, strict=True)])
        found = [forward.unpack_dual(o).tangent for o in outs]
    return [torch.zeros_like(o) if t is None else t for o, t in zip(outs, found, strict=True)]


def batched(program: Program, seed: int = 0) -> str | None:
    """What is wrong about several gradients at once, as ``is_grads_batched=True`` asks for; None if they are right."""
    program = program.widened() if all(v.dtype in WIDE for v in program.start) else program
    outputs = program.at(program.start)
    weights = [cotangents(outputs, seed + 81 + k, first=False) for k in range(2)]
    each = [program.gradients(program.start, w) for w in weights]
    with torch.enable_grad():
        leaves = program.leaves(program.start)
        outs = program.outputs(leaves)
        stacked = [torch.stack(pair) for pair in zip(*weights, strict=True)]
        try:
            both = torch.autograd.grad(outs, leaves, stacked, is_grads_batched=True, allow_unused=True)
        except FAILS as error:
            return f"batched gradients fail: {' '.join(str(error).split())[:200]}"
    kept = [k for k, g in enumerate(both) if g is not None]
    single = [torch.stack([g[k] for g in each if g[k] is not None]) for k in kept]  # type: ignore[misc]
    return _difference("batched gradients are wrong", [both[k] for k in kept], single)


def _difference(what: str, claimed: Sequence[Tensor], expected: Sequence[Tensor]) -> str | None:
    masks = quick_masks(list(claimed), list(expected), list(expected))
    if any_wrong(masks):
        masks = [((c - e).abs() > 1e-9 * e.abs().max()) & m for c, e, m in zip(claimed, expected, masks, strict=True)]
    if not any_wrong(masks):
        return None
    wrong = entries(masks, list(claimed), list(expected), [Input(f"output {k}") for k in range(len(expected))])
    lines = [f"  {e.input}{list(e.index)}: claimed {e.claimed:.6g}, expected {e.expected:.6g}" for e in wrong[:5]]
    return "\n".join([f"{what} in {len(wrong):,} entries", *lines])
