"""Every loss of torch.nn with its settings: how it is made, what it is called with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CTC", "LOSSES", "Case", "made"]

REDUCTIONS = ("none", "mean", "sum")


@dataclass(frozen=True)
class Case:
    """A module of torch.nn on example inputs; ``moving`` says which of them take a gradient."""

    make: Callable[[], nn.Module]
    inputs: tuple[Any, ...]
    moving: tuple[int, ...] = (0,)
    training: bool = True


def made(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> Tensor:
    """Random numbers, the same each time."""
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=generator)


def _classes(*shape: int, below: int = 4, seed: int = 1) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


def _signs(*shape: int) -> Tensor:
    return made(*shape, seed=3).sign()


def _weights(count: int) -> Tensor:
    return made(count, seed=7, low=0.3, high=1.7)


def _probabilities(*shape: int, seed: int = 1) -> Tensor:
    return torch.softmax(made(*shape, seed=seed), 1)


X, T = made(3, 4), made(3, 4, seed=1)
UNIT, BINARY = made(3, 4, seed=2, low=0.1, high=0.9), _classes(3, 4, below=2).double()
PICTURE, LABELS = made(2, 4, 3, 2), _classes(2, 3, 2)
MULTI = torch.tensor([[3, 0, -1, 1], [1, 2, 0, -1], [-1, 0, 0, 0]])


def _every(
    loss: Callable[..., nn.Module], inputs: tuple[Any, ...], *settings: dict[str, Any], moving: tuple[int, ...] = (0,)
) -> Iterator[tuple[str, Case]]:
    """One case for each reduction and each of the settings."""
    for reduction, setting in itertools.product(REDUCTIONS, settings or ({},)):
        given = {**setting, "reduction": reduction}
        name = getattr(loss, "__name__", "")
        yield (
            f"{'LinearCrossEntropyLoss' if name == '<lambda>' else name} {given}",
            Case(lambda given=given: loss(**given), inputs, moving),
        )


def _linear_cross_entropy(**settings: Any) -> nn.Module:
    return nn.LinearCrossEntropyLoss(4, 5, bias=True, **settings)


_linear_cross_entropy.__name__ = "LinearCrossEntropyLoss"

LOSSES: dict[str, Case] = dict(itertools.chain(
    _every(nn.L1Loss, (X, T), moving=(0, 1)),
    _every(nn.MSELoss, (X, T), moving=(0, 1)),
    _every(nn.SmoothL1Loss, (X, T), {}, {"beta": 0.3}, {"beta": 0.0}),
    _every(nn.HuberLoss, (X, T), {}, {"delta": 0.3}),
    _every(nn.NLLLoss, (F.log_softmax(X, 1), _classes(3)), {}, {"weight": _weights(4)}, {"ignore_index": 1}),
    _every(nn.NLLLoss, (F.log_softmax(PICTURE, 1), LABELS), {"weight": _weights(4), "ignore_index": 2}),
    _every(nn.PoissonNLLLoss, (X, UNIT * 5), {}, {"full": True}),
    _every(nn.PoissonNLLLoss, (UNIT, T.abs() * 4), {"log_input": False}, {"log_input": False, "full": True, "eps": 1e-3}),
    _every(nn.GaussianNLLLoss, (X, T, UNIT), {}, {"full": True}, moving=(0, 2)),
    _every(nn.GaussianNLLLoss, (X, T, UNIT[:, :1]), moving=(0, 2)),
    _every(nn.GaussianNLLLoss, (X, T, UNIT[:, 0]), moving=(0, 2)),
    _every(nn.BCELoss, (UNIT, BINARY), {}, {"weight": _weights(4)}),
    _every(nn.BCELoss, (UNIT, UNIT.flip(0))),
    _every(nn.BCEWithLogitsLoss, (X, BINARY), {}, {"weight": _weights(4)}, {"pos_weight": _weights(4)},
           {"weight": _weights(4), "pos_weight": _weights(4).flip(0)}),
    _every(nn.BCEWithLogitsLoss, (X * 300, BINARY)),
    _every(nn.HingeEmbeddingLoss, (X, _signs(3, 4)), {}, {"margin": 0.5}),
    _every(nn.MultiLabelMarginLoss, (X, MULTI)),
    _every(nn.MultiLabelMarginLoss, (X[0], MULTI[0])),
    _every(nn.SoftMarginLoss, (X, _signs(3, 4))),
    _every(nn.CrossEntropyLoss, (X, _classes(3)), {}, {"weight": _weights(4)}, {"ignore_index": 1},
           {"label_smoothing": 0.2}, {"label_smoothing": 0.2, "weight": _weights(4), "ignore_index": 2}),
    _every(nn.CrossEntropyLoss, (PICTURE, LABELS), {"label_smoothing": 0.1, "weight": _weights(4)}),
    _every(nn.CrossEntropyLoss, (X[0], torch.tensor(2)), {}, {"label_smoothing": 0.3}),
    _every(nn.CrossEntropyLoss, (X, _probabilities(3, 4)), {}, {"weight": _weights(4)}, {"label_smoothing": 0.2},
           {"label_smoothing": 0.2, "weight": _weights(4)}),
    _every(nn.CrossEntropyLoss, (PICTURE, _probabilities(2, 4, 3, 2)), {"label_smoothing": 0.1, "weight": _weights(4)}),
    _every(nn.CrossEntropyLoss, (X[0], torch.softmax(T[0], 0)), {"label_smoothing": 0.1}),
    _every(nn.MultiLabelSoftMarginLoss, (X, BINARY), {}, {"weight": _weights(4)}),
    _every(nn.CosineEmbeddingLoss, (X, T, _signs(3)), {}, {"margin": 0.2}, moving=(0, 1)),
    _every(nn.MarginRankingLoss, (X[0], T[0], _signs(4)), {}, {"margin": 0.5}, moving=(0, 1)),
    _every(nn.MultiMarginLoss, (X, _classes(3)), {}, {"p": 2}, {"margin": 0.4}, {"weight": _weights(4), "p": 2}),
    _every(nn.MultiMarginLoss, (X[0], torch.tensor(2))),
    _every(nn.TripletMarginLoss, (X, T, made(3, 4, seed=5)), {}, {"p": 1.0, "margin": 3.0}, {"swap": True, "margin": 2.0},
           {"p": 3.0, "margin": 2.0}, moving=(0, 1, 2)),
    _every(nn.TripletMarginWithDistanceLoss, (X, T, made(3, 4, seed=5)), {}, {"swap": True, "margin": 2.0},
           {"distance_function": nn.PairwiseDistance(p=1)}, moving=(0, 1, 2)),
    _every(nn.KLDivLoss, (F.log_softmax(X, 1), _probabilities(3, 4)), {}, {"log_target": False}),
    _every(nn.KLDivLoss, (F.log_softmax(X, 1), F.log_softmax(T, 1)), {"log_target": True}),
    [("KLDivLoss batchmean", Case(lambda: nn.KLDivLoss(reduction="batchmean"), (F.log_softmax(X, 1), _probabilities(3, 4))))],
    _every(_linear_cross_entropy, (X, _classes(3, below=5)), {}, {"label_smoothing": 0.1}),
    _every(nn.NLLLoss2d, (F.log_softmax(PICTURE, 1), LABELS)),
))  # fmt: skip

CTC = Case(
    nn.CTCLoss,
    (
        F.log_softmax(made(6, 2, 4), 2),
        torch.tensor([[1, 2, 2], [3, 1, 1]]),
        torch.tensor([6, 5]),
        torch.tensor([3, 2]),
    ),
)
