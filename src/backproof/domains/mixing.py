"""Operations that mix positions along whole axes, or move them by numbers: what they see, for boxes and for single cells.

Running totals see all that is before, a Fourier transform all that there is, an einsum what its letters say. Of the others
(scattering, solving, sorting, what torch alone knows) it is said that everything is seen, and by which of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..graph import Node
from ..ops.opaque import OPAQUE
from .boxes import Axis, Seen, boxes, place_of, pointwise, relabelled, together
from .cells import Mask, back_rule, fold, full, pointwise_back
from .positions import removed

__all__: list[str] = []

_ENTRYWISE = ("conj", "real", "imag", "modulus", "angle", "complex", "view_as_real", "view_as_complex")
_ANYWHERE = ("index", "matrix", OPAQUE, "embedding_grad", "scatter_add", "positions", "unslice", "unselect")

boxes.rule(*_ENTRYWISE)(pointwise)


def _axes(node: Node) -> set[int]:
    """The axes along which an operation sees everything, or all that is before."""
    dims = node.attrs["dim"]
    return {d % len(node.inputs[0].shape) for d in ([dims] if isinstance(dims, int) else dims)}


# --- boxes --------------------------------------------------------------------------------------------------------------
@boxes.rule("scan", "fft", "irfft")
def _along(node: Node, *operands: Seen | None) -> Seen | None:
    axes, what = _axes(node), "running total" if node.op.family == "scan" else "Fourier transform"
    reason = f"the {what} over positions in {place_of(node)}"

    def mixed(axis: Axis) -> Axis:
        if not any(t.axes & axes for t in axis.tracks):
            return axis
        return axis.with_reason(reason) if node.shape == node.inputs[0].shape else axis.lost(reason)

    return together(node, [tuple(mixed(a) for a in seen) for seen in operands if seen is not None])


def _letters(node: Node) -> tuple[list[str], str]:
    terms, _, result = node.attrs["equation"].partition("->")
    return terms.split(","), result


@boxes.rule("contraction")
def _contracted(node: Node, *operands: Seen | None) -> Seen | None:
    """An axis whose letter the result does not have is summed over: it is seen as a whole."""
    terms, result = _letters(node)
    reason = f"the sum over all positions in {place_of(node)}"
    found = []
    for term, seen in zip(terms, operands, strict=True):
        if seen is None:
            continue
        summed = [i for i, letter in enumerate(term) if letter not in result]
        for place in reversed(summed):
            seen = tuple(axis.each(partial(removed, axis=place), reason) for axis in seen)
        kept = [letter for letter in term if letter in result]
        found.append(relabelled(node, seen, {i: result.index(letter) for i, letter in enumerate(kept)}))
    return together(node, found)


@boxes.rule(*_ANYWHERE)
def _anywhere(node: Node, *operands: Seen | None) -> Seen | None:
    reason = f"{node.op.name}, whose places are not followed, in {place_of(node)}"
    return together(node, [tuple(a.lost(reason) for a in seen) for seen in operands if seen is not None])


# --- cells --------------------------------------------------------------------------------------------------------------
back_rule(*_ENTRYWISE)(pointwise_back)


@back_rule("scan")
def _before(node: Node, mask: Mask) -> list[Mask | None]:
    """Place t is seen by all places from t on (in reverse, up to t)."""
    (axis,) = _axes(node)
    mask = full(mask, axis + 1, node.shape[axis])
    backwards = mask if node.attrs.get("reverse") else np.flip(mask, axis + 1)
    summed = np.logical_or.accumulate(backwards, axis + 1) if mask.dtype == bool else backwards.cumsum(axis + 1)
    found: Mask = summed if node.attrs.get("reverse") else np.flip(summed, axis + 1)
    return [found] * len(node.inputs)


@back_rule("fft", "irfft")
def _all(node: Node, mask: Mask) -> list[Mask | None]:
    for axis in _axes(node):
        mask = fold(mask, axis + 1, node.shape[axis])
    return [mask]


@back_rule("contraction")
def _factors(node: Node, mask: Mask) -> list[Mask | None]:
    terms, result = _letters(node)
    return [_factor(node, mask, term, result) for term in terms]


def _factor(node: Node, mask: Mask, term: str, result: str) -> Mask:
    """Letters that the operand lacks are folded; those that the result lacks are alike at all their places."""
    for place, letter in enumerate(result):
        if letter not in term:
            mask = fold(mask, place + 1, node.shape[place])
    lacking = [place + 1 for place, letter in enumerate(result) if letter not in term]
    kept = [letter for letter in result if letter in term]
    mask = mask.squeeze(tuple(lacking)) if lacking else mask
    order = [kept.index(letter) + 1 for letter in term if letter in kept]
    mask = np.transpose(mask, [0, *order])
    for place, letter in enumerate(term):
        if letter not in kept:
            mask = np.expand_dims(mask, place + 1)
    return mask


@back_rule(*_ANYWHERE)
def _everything(node: Node, mask: Mask) -> list[Mask | None]:
    return [_whole(mask, x.shape) for x in node.inputs]


def _whole(mask: Mask, shape: Sequence[int]) -> Mask:
    """Everything of an operand, for each unit that has a part in the result."""
    flat: Any = mask.reshape(mask.shape[0], -1)
    seen: Mask = flat.any(1) if mask.dtype == bool else flat.sum(1)
    return seen.reshape(-1, *(1 for _ in shape))
