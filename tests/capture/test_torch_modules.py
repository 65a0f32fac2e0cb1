"""Every public module of torch.nn is captured with the values and gradients of torch, or refused with a reason."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.modules.activation
import torch.nn.modules.loss
from torch import Tensor, nn

import backproof as bp
from backproof.errors import CaptureError

from .models import agrees_with_eager
from .torch_losses import LOSSES, Case
from .torch_modules import LAYERS, NO_MODULES, REFUSED

CASES = {**LOSSES, **LAYERS}
# torch's own backward multiplies by constants in float32 there, which are 3e-9 and 1e-8 off; the forward pass is right
INEXACT_IN_TORCH = {"Hardsigmoid": 1e-7, "CELU": 1e-7}


def _class_of(name: str) -> str:
    return name.split()[0].rstrip(",")


def _by_class() -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for name, case in CASES.items():
        found.setdefault(_class_of(name), []).append(case)
    return found


BY_CLASS = _by_class()


class One(nn.Module):
    """All that a module returns, weighed and added up; inputs that don't move are buffers."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.module, self.moving, self.count = _made(case), case.moving, len(case.inputs)
        for i, value in enumerate(case.inputs):
            if i not in case.moving:
                self.register_buffer(f"given{i}", value)

    def forward(self, moving: tuple[Tensor, ...]) -> Tensor:
        found = iter(moving)
        inputs = [next(found) if i in self.moving else getattr(self, f"given{i}") for i in range(self.count)]
        total = torch.zeros((), dtype=torch.float64)
        for k, y in enumerate(_floats(self.module(*inputs))):
            weights = torch.linspace(0.5, 1.5 + k, y.numel(), dtype=y.dtype).reshape(y.shape)
            total = total + (y * weights).sum()
        return total


class Several(nn.Module):
    """The settings of one class together: a capture costs more than what it captures here."""

    def __init__(self, cases: list[Case]) -> None:
        super().__init__()
        self.settings = nn.ModuleList([One(case) for case in cases])

    def forward(self, inputs: list[tuple[Tensor, ...]]) -> Tensor:
        return torch.stack([one(given) for one, given in zip(self.settings, inputs, strict=True)]).sum()


def _floats(value: Any) -> Iterator[Tensor]:
    leaves = torch.utils._pytree.tree_leaves(value)
    return (x for x in leaves if isinstance(x, Tensor) and x.is_floating_point())


def _made(case: Case) -> nn.Module:
    torch.manual_seed(0)
    module = case.make().double()
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in module.parameters()):
        module(*case.inputs)
    return module.train(case.training)


def _capture(*cases: Case) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own about nested tensors, lazy modules, reductions
        inputs = [tuple(case.inputs[i] for i in case.moving) for case in cases]
        return bp.capture(Several(list(cases)), {"inputs": inputs})


# some setting of these has no operation of its own: a node that torch itself computes stands for it, or it is refused
WITHOUT_OPERATION = {
    "MultiheadAttention", "weight_norm",
    "AvgPool2d", "AdaptiveMaxPool2d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d", "Fold", "Unfold", "Upsample",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize("name", BY_CLASS)
def test_values_and_gradients_are_torch_s(name: str) -> None:
    try:
        graph = _capture(*BY_CLASS[name])
    except CaptureError as error:
        assert name in WITHOUT_OPERATION and re.search(r"aten\.\w+\.\w+ (has no operation here yet|with) ", str(error))
        return
    assert name in WITHOUT_OPERATION or not graph.facts["opaque_nodes"]
    agrees_with_eager(graph, INEXACT_IN_TORCH.get(name, 1e-10), roles=("parameter", "input"))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name: str) -> None:
    case, reason = REFUSED[name]
    with pytest.raises(CaptureError, match=reason):
        _capture(case)


def test_no_module_of_torch_is_forgotten() -> None:
    tried = {*BY_CLASS, *REFUSED, *NO_MODULES}
    assert set(nn.modules.__all__) - tried == set()


@pytest.mark.parametrize("family", [torch.nn.modules.activation, torch.nn.modules.loss])
def test_every_activation_and_loss_is_captured(family: Any) -> None:
    assert set(family.__all__) - {*BY_CLASS} == {"CTCLoss"} & {*family.__all__}


def test_a_packed_sequence_is_refused_with_a_way_out() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 3)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0])[0].sum()

    with pytest.raises(CaptureError, match=r"packs sequences of different lengths.*give padded sequences"):
        bp.capture(Packed(), torch.randn(3, 2, 4), torch.tensor([3, 2]))
