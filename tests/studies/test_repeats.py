"""Repeated modules: found by their operations, their equations written once, the rest of the page complete."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import backproof as bp
from backproof.document.blocks import Derivation, Document, Section
from backproof.studies.writing.repeats import repeats


class Block(nn.Module):
    def __init__(self, width: int, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up, self.down, self.act = nn.Linear(width, 2 * width), nn.Linear(2 * width, width), act

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.up(x))
        return x + self.down(h)


class Net(nn.Module):
    def __init__(self, *acts: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(8, act) for act in acts])
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.out(x)


def net(*acts: Callable[[Tensor], Tensor]) -> Net:
    torch.manual_seed(0)
    return Net(*acts).double()


def test_blocks_that_compute_the_same_are_found() -> None:
    graph = bp.capture(net(torch.relu, torch.relu, torch.tanh, torch.relu), torch.ones(2, 8, dtype=torch.float64))
    (found,) = repeats(graph)
    assert (found.first, found.others) == ("blocks.0", ("blocks.1", "blocks.3"))
    twin = {node.name: other.name for node, other in found.twins.items()}
    assert twin["blocks.1.up.weight"] == "blocks.0.up.weight"
    assert twin["blocks.3.h"] == "blocks.0.h"
    assert [node.module.split(".")[1] for node in found.reads["blocks.3"]] == ["2"]


def test_a_shared_layer_is_no_layer_of_its_own() -> None:
    model = net(torch.relu, torch.relu, torch.relu)
    model.blocks[2].up = model.blocks[0].up  # type: ignore[union-attr]
    found = repeats(bp.capture(model, torch.ones(2, 8, dtype=torch.float64)))
    assert [repeat.others for repeat in found] == [("blocks.1",)]


def document(*acts: Callable[[Tensor], Tensor]) -> Document:
    inputs, targets = torch.ones(4, 8, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64)
    return bp.trace(net(*acts), inputs, targets, loss="mse", optimizer="sgd").document()


def equations(shown: Document, title: str) -> int:
    (section,) = (b for b in shown.blocks if isinstance(b, Section) and b.title == title)
    return sum(len(b.equations) for b in section.blocks if isinstance(b, Derivation))


@pytest.mark.parametrize("count", [3, 6])
def test_the_equations_are_written_once(count: int) -> None:
    shown = document(*[torch.relu] * count)
    different = document(*[torch.relu, torch.tanh] * (count // 2), *[torch.relu] * (count % 2))
    assert equations(shown, "Forward") == 4 + 2
    assert equations(different, "Forward") == (4 + 2) + 4
    assert equations(shown, "Backward") < equations(different, "Backward")
    text = bp.trace(
        net(*[torch.relu] * count),
        torch.ones(4, 8, dtype=torch.float64),
        torch.zeros(4, 3, dtype=torch.float64),
        loss="mse",
    ).text()
    assert "The equations of blocks.0 hold for" in text
