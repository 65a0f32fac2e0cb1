"""The memory of a transformer of billions of parameters, described on the meta device: by prediction and by arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...domains.bytes import Timeline, spoken_bytes
from ...errors import InputError
from .record import Case, recorded
from .stepping import Segment, Way

__all__ = ["Remedy", "Shape", "Transformer", "billions", "counted_parameters", "kept_activations", "spoken"]

GROUP = 256
"""Entries that share one scale in an 8-bit optimizer state."""
RANK = 16


@dataclass(frozen=True)
class Shape:
    """A transformer's layers, width d, heads, vocabulary V, sequence length s and batch b."""

    layers: int
    width: int
    heads: int
    vocab: int
    sequence: int
    batch: int

    def checked(self) -> Shape:
        """The shape, if it describes a network.

        Raises:
            InputError: a size is not positive or absurd, or the heads do not divide the width.
        """
        for name, value in vars(self).items():
            if not 1 <= value <= 10**7:
                raise InputError(f"billions: {name} must be from 1 to 10,000,000, not {value}")
        if self.layers > 200:
            raise InputError(f"billions: at most 200 layers are recorded, not {self.layers}")
        if self.width % self.heads:
            raise InputError(f"billions: {self.heads} heads do not divide the width {self.width}")
        return self

    @property
    def parameters(self) -> int:
        """L(12d² + 2d) + 2Vd + d: four d x d and two d x 4d matrices and two norms a layer, embedding, head, norm."""
        return self.layers * (12 * self.width**2 + 2 * self.width) + 2 * self.vocab * self.width + self.width

    def activations(self, item: int) -> int:
        """L·bs(16d + 4 + h) + bs(2d + 2 + 2V) numbers, as bytes: what the layers and the head keep, counted by hand.

        A layer keeps its input, the first norm's result, q, k, v, the attention's result, its input to the second norm,
        that norm's result, and 4d numbers before and after the nonlinearity: 16d a token; each norm a mean and a
        deviation (4 a token), attention one number a head (in float32). The head keeps 2d + 2, the scores V and their logarithms V.
        """
        tokens = self.batch * self.sequence
        layer = tokens * (16 * self.width * item + 4 * item + 4 * self.heads)
        return self.layers * layer + tokens * (2 * self.width + 2 + 2 * self.vocab) * item


class _Layer(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """From [b, s, d] to the same shape."""
        x = x + self._attention(self.norm1(x))
        found: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return found

    def _attention(self, x: Tensor) -> Tensor:
        q, k, v = (self._split(f(x)) for f in (self.q, self.k, self.v))
        found = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed: Tensor = self.o(found.transpose(1, 2).reshape(x.shape))
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        found: Tensor = x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)
        return found


class Transformer(nn.Module):
    """A decoder: embedding, layers, norm, head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocab, shape.width)
        self.layers = nn.ModuleList(_Layer(shape.width, shape.heads) for _ in range(shape.layers))
        self.norm, self.head = nn.LayerNorm(shape.width, bias=False), nn.Linear(shape.width, shape.vocab, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """From token numbers [b, s] to scores [b·s, V]."""
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        scores: Tensor = self.head(self.norm(x)).flatten(0, 1)
        return scores


@dataclass(frozen=True)
class Remedy:
    """What a step needs under one remedy, in bytes, with the arithmetic."""

    name: str
    parameters: int
    gradients: int
    state: int
    activations: int
    arithmetic: str
    changes_result: bool = False

    @property
    def total(self) -> int:
        """The sum: an upper bound, since not all is alive at once."""
        return self.parameters + self.gradients + self.state + self.activations

    def to_dict(self) -> dict[str, Any]:
        """The remedy as plain data."""
        return {**vars(self), "total": self.total}


def kept_activations(shape: Shape, dtype: torch.dtype, again: bool) -> int:
    """What is kept for the backward pass: recorded with one and with two layers; every further layer adds the same."""
    one, two = (_kept(_step(replace(shape, layers=n), dtype, again)) for n in (1, 2))
    return one + (shape.layers - 1) * (two - one)


def _step(shape: Shape, dtype: torch.dtype, again: bool) -> Timeline:
    with torch.device("meta"):
        model = Transformer(shape).to(dtype)
        tokens = torch.zeros((shape.batch, shape.sequence), dtype=torch.int64)
        targets = torch.zeros(shape.batch * shape.sequence, dtype=torch.int64)
    way = Way(tuple(Segment((f"layers.{i}",)) for i in range(shape.layers)) if again else ())
    return recorded(Case(model, ((tokens,), {}), targets, F.cross_entropy, None), way, steps=1).timeline


def _kept(line: Timeline) -> int:
    """The activations that are live when the backward pass begins."""
    first = next(i for i in line.span(1) if line.instants[i].phase == "backward")
    return line.breakdown(first).get("activations", 0)


def counted_parameters(shape: Shape) -> int:
    """The parameters of the module itself."""
    with torch.device("meta"):
        return sum(p.numel() for p in Transformer(shape).parameters())


def billions(shape: Shape, devices: int) -> tuple[Remedy, ...]:
    """Every remedy by itself, and together; activations from recorded steps, the rest by arithmetic."""
    n, b = shape.parameters, shape.batch
    one, share = replace(shape, batch=1), replace(shape, batch=-(-b // devices))
    full, half = torch.float32, torch.bfloat16
    plain = kept_activations(shape, full, False)
    by_hand = f"4·(L·bs(16d + 4 + h) + bs(2d + 2 + 2V)) = {shape.activations(4):,}"
    return (
        Remedy("plain, float32 AdamW", 4 * n, 4 * n, 8 * n, plain, f"4N, 4N, 2·4N with N = {n:,}; activations {by_hand}"),
        Remedy(
            "checkpoint every layer", 4 * n, 4 * n, 8 * n, kept_activations(shape, full, True),
            f"{shape.layers} layer inputs of b·s·d·4 = {4 * b * shape.sequence * shape.width:,} B, and the head's",
        ),
        Remedy("bfloat16 throughout", 2 * n, 2 * n, 4 * n, kept_activations(shape, half, False), "2N, 2N, 2·2N", True),
        Remedy(
            "8-bit optimizer state", 4 * n, 4 * n, _eight(n), plain,
            f"2·(N + 4N/{GROUP}): a byte each, and a 4-byte scale for {GROUP}", True,
        ),
        Remedy(
            f"accumulate over {b} micro-batches", 4 * n, 4 * n, 8 * n, kept_activations(one, full, False),
            "4N, 4N, 8N; activations of one sample; the gradients live all along",
        ),
        Remedy(
            f"shard over {devices} devices", -(-4 * n // devices), -(-4 * n // devices), -(-8 * n // devices),
            kept_activations(share, full, False) + 8 * _layer(shape),
            f"16N/{devices} a device; samples on each: {share.batch}; and one layer's gathered weights and gradients",
        ),
        _lora(shape, plain),
        Remedy(
            "bfloat16, 8-bit state, checkpoints, one sample at a time", 2 * n, 2 * n, _eight(n),
            kept_activations(one, half, True), f"2N, 2N, 2·(N + 4N/{GROUP})", True,
        ),
    )  # fmt: skip


def _eight(n: int) -> int:
    return 2 * (n + 4 * -(-n // GROUP))


def _layer(shape: Shape) -> int:
    return 12 * shape.width**2 + 2 * shape.width


def _lora(shape: Shape, activations: int) -> Remedy:
    """Only two thin matrices beside q, k, v and o of each layer are trained."""
    trained = shape.layers * 4 * 2 * shape.width * RANK
    text = f"only {trained:,} parameters are trained (4 matrices a layer, rank {RANK}: L·4·2·d·{RANK}); at most the plain activations"
    n = shape.parameters
    return Remedy(
        f"train rank-{RANK} additions only", 4 * (n + trained), 4 * trained, 8 * trained, activations, text, True
    )


def spoken(remedy: Remedy) -> tuple[str, ...]:
    """A row of the table."""
    parts = (remedy.parameters, remedy.gradients, remedy.state, remedy.activations, remedy.total)
    return (remedy.name, *(spoken_bytes(p) for p in parts))
