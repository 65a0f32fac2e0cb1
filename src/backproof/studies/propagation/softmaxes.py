"""Softmaxes in which one entry takes all: the spread of their scores, and how much slope they leave."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ...graph import Graph, Node

__all__ = ["Soft", "openness", "softmaxes"]

WIDE, LOSS_WIDE, SHUT = 3.5, 6.0, 0.5
_LOSSES = ("cross_entropy", "nll", "log_softmax")


@dataclass(frozen=True)
class Soft:
    """One softmax.

    Args:
        node: of the probabilities (or of the loss that takes their logarithms).
        scores: what goes in.
        spread: the standard deviation of the scores in a row.
        open: the mean of (1 - Σ p²)/(1 - 1/n) over the rows: 1 where all n have the same share, 0 where one has all.
        keys: how many entries a row has (masked ones not counted).
        width: of an attention, over how many products each score was summed; 0 otherwise.
        factor: the numbers by which the scores were multiplied on the way.
        loss: whether it is part of the loss, which stays steep where it is shut.
    """

    node: Node
    scores: Node
    spread: float
    open: float
    keys: int
    width: int = 0
    factor: float = 1.0
    loss: bool = False

    @property
    def shut(self) -> bool:
        """Whether one entry takes nearly all in most rows."""
        return self.open < SHUT and self.spread > (LOSS_WIDE if self.loss else WIDE)

    @property
    def cure(self) -> float:
        """By what the scores should be multiplied: 1/sqrt(d) where that is missing and enough, else 1 over their spread."""
        root = 1 / math.sqrt(self.width) if self.width and self.factor == 1.0 else 0.0
        return root if 0 < self.spread * root < WIDE / 2 else 1 / self.spread


def softmaxes(graph: Graph, values: Mapping[Node, Tensor]) -> tuple[Soft, ...]:
    """All softmaxes of a network, read off one run."""
    return tuple(_found(graph, values))


def _found(graph: Graph, values: Mapping[Node, Tensor]) -> Iterator[Soft]:
    for node in graph.nodes:
        loss = any(word in node.op.name for word in _LOSSES)
        if (node.op.name != "softmax" and not loss) or not node.inputs or node.inputs[0] not in values:
            continue
        scores = node.inputs[0]
        if node.op.name == "nll" or not scores.shape:
            continue
        axis = node.attrs.get("dim", 1 if loss and len(scores.shape) > 1 else -1)
        rows = values[scores].double().movedim(axis, -1).reshape(-1, scores.shape[axis])
        measured = _measured(rows)
        if measured is not None:
            yield Soft(node, scores, *measured, *_origin(scores), loss)


def _measured(rows: Tensor) -> tuple[float, float, int] | None:
    """(spread, openness, keys) of rows of scores; None where no row has a choice."""
    there = rows.isfinite() & (rows > -1e4 + rows.amax(1, keepdim=True))
    count = there.sum(1)
    kept = count > 1
    if not bool(kept.any()):
        return None
    rows, there, count = rows[kept], there[kept], count[kept]
    held = torch.where(there, rows, torch.zeros_like(rows))
    mean = held.sum(1, keepdim=True) / count[:, None]
    variance = (torch.where(there, held - mean, torch.zeros_like(held)) ** 2).sum(1) / count
    return math.sqrt(float(variance.mean())), float(_openness(rows, count).mean()), int(count.double().mean().round())


def _openness(rows: Tensor, count: Tensor) -> Tensor:
    p = torch.softmax(rows, 1)
    return (1 - (p**2).sum(1)) / (1 - 1 / count)


@lru_cache(maxsize=256)
def openness(spread: float, keys: int) -> float:
    """The expected openness of a softmax of independent Gaussian scores of that spread, averaged over draws."""
    generator = torch.Generator().manual_seed(keys)
    rows = spread * torch.randn((4000, max(keys, 2)), generator=generator, dtype=torch.float64)
    return float(_openness(rows, torch.full((4000,), max(keys, 2))).mean())


def _origin(scores: Node) -> tuple[int, float]:
    """Of scores that are products of two values: over how many each was summed, and the factor that came behind."""
    node, factor = scores, 1.0
    for _ in range(8):
        if node.op.name == "matmul":
            return node.inputs[0].shape[-1] if not any(x.role == "parameter" for x in node.inputs) else 0, factor
        if node.op.name not in ("add", "mul", "div", "where", "cast", "reshape", "permute", "identity") or node.is_leaf:
            break
        factor *= _number(node)
        node = _wide(node.inputs)
    return 0, factor


def _wide(inputs: Sequence[Node]) -> Node:
    """The operand that is computed and has the most entries."""
    return max(inputs, key=lambda x: (not x.is_leaf, x.size))


def _number(node: Node) -> float:
    """The number by which a node multiplies."""
    known = [x.value for x in node.inputs[-2:] if x.is_leaf and x.size == 1 and x.value is not None]
    if node.op.name not in ("mul", "div") or not known:
        return 1.0
    value = float(torch.as_tensor(known[0]).reshape(-1)[0])
    return (1 / value if node.op.name == "div" else value) if value else 1.0
