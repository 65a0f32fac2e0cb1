"""Which outputs send how much to an entry: the claimed share beside the right one, where few outputs depend on an entry.

For pools, interpolations, windows and tables no single operation of the backward pass is wrong, but the shares are: some
are left out, written over one another, exchanged, or of the wrong size. The right shares of an entry are a row of the
Jacobian, ∂y/∂x_e; the claimed ones are asked for one output at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..compare import Gradients, Masks
from ..functions import Sites, bypassed
from ..program import Program

__all__ = ["from_shares"]

MOST_SHARES = 12
MOST_ENTRIES = 8
SAME = 1e-9


@dataclass(frozen=True)
class _Row:
    """The shares that an entry gets: of which outputs, the claimed and the right ones, and what is claimed besides."""

    entry: int
    outputs: tuple[int, ...]
    claimed: Tensor
    right: Tensor
    rest: float


def from_shares(
    program: Program, claim: Callable[[Sequence[Tensor]], Gradients], weights: Sequence[Tensor], masks: Masks
) -> str | None:
    """What is wrong about the shares, in words; None if they do not explain it or if too many outputs take part."""
    if len(weights) != 1 or weights[0].is_complex() or weights[0].numel() < 4:
        return None
    found = []
    for i, mask in enumerate(masks):
        if not bool(mask.any()):
            continue
        rows = _rows(program, claim, weights[0], i, mask)
        words = _words(rows, str(program.names[i]), program.start[i], weights[0]) if rows else None
        if words is None:
            return None
        found.append(words)
    return "; ".join(dict.fromkeys(found)) or None


def _rows(
    program: Program, claim: Callable[[Sequence[Tensor]], Gradients], weight: Tensor, which: int, mask: Tensor
) -> list[_Row] | None:
    wrong = mask.reshape(-1).nonzero().reshape(-1).tolist()
    usual = claim([weight])[which]
    rows = []
    for entry in wrong[:: max(len(wrong) // MOST_ENTRIES, 1)][:MOST_ENTRIES]:
        right = _jacobian_row(program, weight, which, entry)
        outputs = right.nonzero().reshape(-1).tolist()
        if not 0 < len(outputs) <= min(MOST_SHARES, weight.numel() // 2):
            return None
        shares = torch.tensor([_share(claim, weight, which, entry, o) for o in outputs], dtype=torch.float64)
        whole = 0.0 if usual is None else float(usual.reshape(-1)[entry])
        rest = whole - float((shares * weight.reshape(-1)[outputs].double()).sum())
        rows.append(_Row(entry, tuple(outputs), shares, right[outputs].double(), rest))
    return rows


def _jacobian_row(program: Program, weight: Tensor, which: int, entry: int) -> Tensor:
    """∂y/∂x_e by differentiating the gradient along the cotangent."""
    cotangent = weight.detach().clone().requires_grad_()
    with torch.enable_grad():
        leaves = program.leaves(program.start)
        with bypassed(Sites()):
            outputs = program.outputs(leaves)
        (gradient,) = torch.autograd.grad(outputs, [leaves[which]], [cotangent], create_graph=True)
        (row,) = torch.autograd.grad(gradient.reshape(-1)[entry], cotangent)
    return row.reshape(-1)


def _share(
    claim: Callable[[Sequence[Tensor]], Gradients], weight: Tensor, which: int, entry: int, output: int
) -> float:
    alone = torch.zeros_like(weight)
    alone.view(-1)[output] = 1
    found = claim([alone])[which]
    return 0.0 if found is None else float(found.reshape(-1)[entry])


def _words(rows: list[_Row], name: str, value: Tensor, weight: Tensor) -> str | None:
    size = max(float(r.right.abs().max()) for r in rows)
    if max(len(r.outputs) for r in rows) < 2:
        return None

    def close(a: Tensor, b: Tensor) -> bool:
        return bool(((a - b).abs() <= SAME * size).all())

    example = _example(rows[0], name, value, weight)
    if any(abs(r.rest) > 1e-7 * size * float(weight.abs().max()) for r in rows):
        return None
    if all(close(r.claimed * (r.claimed - r.right), torch.zeros_like(r.right)) for r in rows):
        several = [r for r in rows if len(r.outputs) > 1]
        if all(int((r.claimed.abs() > SAME * size).sum()) == 1 for r in several):
            return f"the shares of several outputs in one entry of {name} are not added up, only one of them counts ({example})"
        return f"some outputs send nothing to entries of {name} that they depend on ({example})"
    if all(close(r.claimed.sort().values, r.right.sort().values) for r in rows):
        return f"the shares of the outputs are exchanged ({example})"
    if all(close(r.claimed, r.claimed[:1].expand_as(r.claimed)) for r in rows):
        return f"all outputs count alike for an entry of {name} ({example})"
    return None


def _example(row: _Row, name: str, value: Tensor, weight: Tensor) -> str:
    k = int((row.claimed - row.right).abs().argmax())
    at = _place(name, value, row.entry)
    return f"{at} gets {float(row.claimed[k]):.4g} of {_place('output', weight, row.outputs[k])} and should get {float(row.right[k]):.4g}"


def _place(name: str, like: Tensor, flat: int) -> str:
    index = torch.unravel_index(torch.tensor(flat), like.shape)
    return f"{name}{[int(k) for k in index]}"
