"""A large network by module: what is one line, what opens, that a terminal's screen suffices, and that nothing is lost."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

import backproof as bp
from backproof.graph import Graph
from backproof.studies.writing.captured import Captured
from backproof.studies.writing.opened import modules_dict
from backproof.studies.writing.outline import outline


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(x)


class Net(nn.Module):
    def __init__(self, layers: int = 12, odd: int = -1) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(16) for _ in range(layers)])
        if odd >= 0:
            self.blocks[odd].mlp[2] = nn.ReLU()  # type: ignore[union-attr,operator]
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


def captured(odd: int = -1, layers: int = 12) -> Graph:
    torch.manual_seed(0)
    net, x, t = Net(layers, odd), torch.randn(2, 5, 16), torch.tensor([0, 3])
    return bp.capture(net, x, loss="cross_entropy", targets=t)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return captured()


def titles(graph: Graph, depth: int | None = None, module: str = "") -> list[str]:
    return [line.title for line in outline(graph, depth, module)]


def test_blocks_that_repeat_are_one_line(graph: Graph) -> None:
    first = outline(graph, 1)[0]
    assert (first.title, first.times, first.opened) == ("blocks.0 … 11", 12, False)


def test_a_block_that_differs_stands_alone() -> None:
    assert [t for t in titles(captured(odd=2, layers=5), 1) if "blocks" in t] == [
        "blocks.0 … 1",
        "blocks.2",
        "blocks.3 … 4",
    ]


def test_attention_is_one_line_that_opens(graph: Graph) -> None:
    inside = titles(graph, 1, "blocks.3")
    assert inside[:2] == ["blocks.3.norm", "blocks.3.attention"] and len(inside) < 10
    opened = titles(graph, 1, "blocks.3.attention")
    assert len(opened) > 10 and all(t.startswith("blocks.3.attention") for t in opened)


@pytest.mark.parametrize(("depth", "module"), [(1, ""), (2, ""), (3, ""), (1, "blocks.5"), (2, "blocks.5"), (None, "")])
def test_every_operation_is_behind_one_closed_line(graph: Graph, depth: int | None, module: str) -> None:
    lines = outline(graph, depth, module)
    found: list[object] = []
    for i, line in enumerate(lines):
        if line.opened:
            rest = lines[i + 1 :]
            assert rest and rest[0].level == line.level + 1
            found += [n for run in line.members[1:] for n in run]
        else:
            found += [n for run in line.members for n in run]
    wanted = [n for n in graph.nodes if not n.is_leaf and (not module or f"{n.module}.".startswith(f"{module}."))]
    assert len(found) == len(set(found)) and {n.name for n in wanted if n.role == "value"} <= {n.name for n in found}  # type: ignore[attr-defined]


def test_a_terminal_shows_two_screens_and_a_file_everything(graph: Graph) -> None:
    capture, record = Captured(graph), bp.trace(graph, optimizer="adam")
    for text in (capture.text(), record.text()):
        assert len(text.splitlines()) < 100 and max(map(len, text.splitlines())) <= 80
    assert "blocks.7.attention.out_proj.weight" in capture.html() and "blocks.7.attention" in record.html()
    assert "(×12)" in record.html()


def test_the_sizes_are_those_of_the_record(graph: Graph) -> None:
    record = bp.trace(graph, optimizer="sgd")
    step = record.steps[0]
    lines = {line["title"]: line for line in record.outline(1).to_dict()["modules"]}
    line = lines["blocks.0 … 11"]
    assert line["times"] == 12 and line["gives"] in step.values
    own = [n for n in step.parameters if n.startswith("blocks.11.")]
    gradients = torch.cat([step.gradients[n].flatten() for n in own])  # type: ignore[union-attr]
    moved = torch.cat([(step.parameters[n].after - step.parameters[n].before).flatten() for n in own])
    before = torch.cat([step.parameters[n].before.flatten() for n in own])
    assert line["sizes"]["gradient"][1] == pytest.approx(gradients.norm().item(), rel=1e-5)
    assert line["sizes"]["change"][1] == pytest.approx((moved.norm() / before.norm()).item(), rel=1e-5)
    assert lines["head"]["sizes"]["value"][0] == pytest.approx(step.values["head.linear"].abs().mean().item(), rel=1e-5)


def test_a_module_shows_its_formulas(graph: Graph) -> None:
    text = bp.trace(graph).outline(module="blocks.2.mlp").text()
    assert re.search(r"blocks\.2\.mlp\.2 +GELU\(", text)


def test_an_unknown_module_is_named(graph: Graph) -> None:
    with pytest.raises(bp.InputError, match=r"no module 'block.2'.*blocks.2"):
        outline(graph, None, "block.2")


def test_data_has_the_modules(graph: Graph) -> None:
    assert Captured(graph).to_dict()["modules"] == list(modules_dict(graph, None, ""))
    assert [m["times"] for m in modules_dict(graph, 1, "") if m.get("module", "").startswith("blocks")] == [12]


def test_operations_are_counted_the_same_way_everywhere() -> None:
    """In the table of modules, in the boxes of the picture, in the headline; helpers that fit operands count nowhere."""
    from backproof.pictures.folding import folded_by_module

    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    graph = bp.capture(torch.nn.Sequential(layer, torch.nn.Linear(16, 3)).eval(), torch.randn(2, 5, 16))
    assert any(n.role == "helper" for n in graph.nodes)
    of_all = sum(n.role == "value" for n in graph.nodes)
    lines = [r for r in modules_dict(graph, 1, "") if not r["level"]]
    assert sum(r["operations"] * r["times"] for r in lines) == of_all
    assert sum(g.operations for g in folded_by_module(graph, graph.nodes, 48)) == of_all
