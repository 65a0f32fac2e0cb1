"""Receptive fields against two witnesses that know no formulas: gradients with positive weights, and NaN poisoning."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import backproof as bp
from backproof.cli import main
from backproof.domains.relations import Relation, offsets, windows
from backproof.studies.fields.sizes import Unreachable, layer_of
from tests.zoo.size_configurations import compared


def positive(net: nn.Module) -> nn.Module:
    """The net in float64 with positive weights and without maxima, whose gradient is positive where a unit sees."""
    net = net.double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.rand_like(p) + 0.1)
            p.div_(p.numel())
    return net


def seen_by_gradient(net: nn.Module, shape: tuple[int, ...], place: tuple[int, ...]) -> set[tuple[int, ...]]:
    x = torch.full(shape, 1e-3, dtype=torch.float64, requires_grad=True)
    y = net(x)[0].sum(0)[place]
    (grad,) = torch.autograd.grad(y, x)
    return {tuple(i) for i in grad[0].abs().sum(0).nonzero().tolist()}


class Branches(nn.Module):
    """Random layers in one dimension, with branches that meet again at the same speed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = random.Random(seed)
        self.layers = nn.ModuleList(self.layer(rng) for _ in range(rng.randint(1, 4)))
        self.side = nn.ModuleList(
            nn.Conv1d(2, 2, k, padding=d * (k // 2), dilation=d) for k, d in ((3, rng.randint(1, 4)), (5, 1))
        )
        self.adds = [rng.random() < 0.5 for _ in self.layers]

    def layer(self, rng: random.Random) -> nn.Module:
        k = rng.randint(1, 5)
        kind = rng.choice(["conv", "conv", "pool", "up", "pad"])
        if kind == "conv":
            return nn.Conv1d(
                2, 2, k, rng.randint(1, 3), rng.randint(0, 2), rng.randint(1, 3), groups=rng.choice([1, 2])
            )
        if kind == "pool":
            return nn.AvgPool1d(k, rng.randint(1, 3), rng.randint(0, k // 2), ceil_mode=rng.random() < 0.5)
        if kind == "up":
            s = rng.randint(1, 3)
            return nn.ConvTranspose1d(2, 2, s + rng.randint(0, 2), s, padding=0, output_padding=0)
        return nn.ConstantPad1d((rng.randint(0, 2), rng.randint(-1, 2)), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        for layer, adds in zip(self.layers, self.adds, strict=True):
            x = torch.relu(layer(x))
            if adds:
                x = self.side[0](x) + self.side[1](x) + x
        return x


@pytest.mark.parametrize("seed", range(25))
def test_every_unit_of_random_branching_nets_sees_what_the_gradient_says(seed: int) -> None:
    net, shape = positive(Branches(seed)), (1, 2, 40)
    found = bp.receptive_field(net, torch.zeros(*shape, dtype=torch.float64))
    assert not found.finding
    last = found.last
    n = last.output_size[0]
    for unit in sorted({0, min(1, n - 1), n // 2, n - 1}):
        assert {(i,) for i in found.indices(last.name, unit)} == seen_by_gradient(net, shape, (unit,))


class Crossed(nn.Module):
    """A row and a column: a cross, which no box can say."""

    def __init__(self) -> None:
        super().__init__()
        self.row, self.column = nn.Conv2d(1, 1, (1, 7), padding=(0, 3)), nn.Conv2d(1, 1, (7, 1), padding=(3, 0))

    def forward(self, x: Tensor) -> Tensor:
        return self.row(x) + self.column(x)


def test_a_cross_is_seen_cell_by_cell() -> None:
    found = bp.receptive_field(positive(Crossed()), torch.zeros(1, 1, 20, 20, dtype=torch.float64))
    assert found.last.size == (7, 7) and len(found.indices(found.last.name, (10, 10))) == 13
    assert found.indices(found.last.name, (10, 10), axis=0) == set(range(7, 14))
    assert found.indices(found.last.name, (0, 19)) == seen_by_gradient(positive(Crossed()), (1, 1, 20, 20), (0, 19))


NETS: dict[str, tuple[nn.Module, tuple[int, ...], dict[str, Any]]] = {
    "dilation": (nn.Conv1d(1, 1, 3, dilation=4), (1, 1, 30), {"size": (9,), "used": (3,), "stride": (1,)}),
    "volume": (nn.Conv3d(1, 1, (1, 3, 5), stride=(1, 2, 1)), (1, 1, 4, 9, 9), {"size": (1, 3, 5), "stride": (1, 2, 1)}),
    "upsampled": (nn.ConvTranspose2d(1, 1, 2, 2), (1, 1, 5, 5), {"size": (1, 1), "stride": (Fraction(1, 2),) * 2}),
    "phases": (
        nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), nn.ConvTranspose1d(1, 1, 2, 2), nn.Conv1d(1, 1, 2)),
        (1, 1, 9),
        {"size": (4,), "sizes_by_phase": ((3, 4),)},
    ),
    "asymmetric": (nn.Sequential(nn.ConstantPad1d((4, 0), 0.0), nn.Conv1d(1, 1, 5)), (1, 1, 9), {"padding": (4,)}),
    "same": (nn.Conv1d(1, 1, 5, padding="same"), (1, 1, 9), {"padding": (2,), "output_size": (9,)}),
}


@pytest.mark.parametrize("name", NETS)
def test_known_nets(name: str) -> None:
    net, shape, expected = NETS[name]
    found = bp.receptive_field(net, shape)
    assert {key: getattr(found.last, key) for key in expected} == expected and not found.finding


class Gate(nn.Module):
    """Squeeze and excitation: local, and global by another way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return h * torch.sigmoid(self.gate(h.mean((2, 3), keepdim=True)))


@pytest.mark.parametrize(
    ("net", "word"),
    [
        (Gate(), "mean over all positions"),
        (nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)), "mean over all positions"),
        (nn.Sequential(nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d(1)), "pool over all positions"),
        (nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(2), nn.Softmax(-1)), "softmax over all positions"),
    ],
)
def test_what_makes_a_field_global_is_named(net: nn.Module, word: str) -> None:
    found = bp.receptive_field(net.train(), (2, 2, 9, 9))
    assert found.layers[-1].is_global and word in found.layers[-1].reason
    assert found.layers[0].size == (3, 3) and not found.layers[0].is_global
    assert bp.receptive_field(nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)).eval(), (2, 2, 9, 9)).last.size == (
        3,
        3,
    )


def test_the_local_part_is_kept_beside_what_is_global() -> None:
    last = bp.receptive_field(Gate(), (1, 2, 9, 9)).last
    assert last.size == (3, 3) and last.is_global


def test_relations_compose_and_unite_exactly() -> None:
    rng = random.Random(0)
    for _ in range(300):
        a, b = (_random_relation(rng) for _ in range(2))
        both = a.after(b)
        for o in range(-7, 8):
            assert set(both.at(o)) == {i for m in a.at(o) for i in b.at(m)}
        if (union := a.union(b)) is not None:
            assert all(set(union.at(o)) == {*a.at(o), *b.at(o)} for o in range(-7, 8))
    assert windows(3, 2, 1, 2).after(windows(1)) == windows(3, 2, 1, 2)


def _random_relation(rng: random.Random) -> Relation:
    rows = tuple(offsets(rng.sample(range(-4, 9), rng.randint(1, 4))) for _ in range(rng.randint(1, 3)))
    return Relation(rng.randint(1, 3), rows)


def test_a_wrong_rule_is_found_by_the_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    from backproof.domains import cells

    right = cells._taps_back
    monkeypatch.setattr(cells, "_taps_back", lambda mask, axis, taps, *rest: right(mask, axis, [*taps, 3], *rest))
    found = bp.receptive_field(nn.Conv2d(1, 1, 3), (1, 1, 9, 9))
    assert found.finding and not any(e.agrees for e in found.evidence[:2])


# --- sizes ----------------------------------------------------------------------------------------------------------------
def _random_layer(rng: random.Random) -> nn.Module:
    k, s, d = rng.randint(1, 6), rng.randint(1, 4), rng.randint(1, 3)
    kind = rng.randrange(6)
    if kind == 0:
        return nn.Conv1d(1, 1, k, s, rng.randint(0, 4), d, device="meta")
    if kind == 1:
        return nn.Conv1d(1, 1, k, 1, "same", d, device="meta")
    if kind == 2:
        return nn.MaxPool1d(k, s, rng.randint(0, k // 2), d, ceil_mode=rng.random() < 0.7)
    if kind == 3:
        return nn.AvgPool1d(k, s, rng.randint(0, k // 2), ceil_mode=rng.random() < 0.7)
    if kind == 4:
        return nn.ConvTranspose1d(1, 1, k, s, rng.randint(0, 2), rng.randint(0, s - 1), dilation=d, device="meta")
    return nn.AdaptiveAvgPool1d(rng.randint(1, 6))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_output_sizes_are_torchs_own() -> None:
    rng, tried = random.Random(1), 0
    for _ in range(1500):
        layer, n = _random_layer(rng), rng.randint(1, 25)
        try:
            theirs = layer(torch.empty(1, 1, n, device="meta")).shape[-1]
        except RuntimeError:
            with pytest.raises(bp.InputError):
                bp.output_size(layer, n)
            continue
        if theirs >= 1:
            tried += 1
            assert bp.output_size(layer, n) == theirs, (layer, n)
    assert tried > 800


def test_configurations_in_three_dimensions_are_torchs_own() -> None:
    outcomes = [compared(seed) for seed in range(2000)]
    assert False not in outcomes and outcomes.count(True) > 1600


@pytest.mark.nightly
def test_twenty_thousand_configurations() -> None:
    assert sum(compared(seed) is False for seed in range(20_000)) == 0


def test_layers_as_mappings() -> None:
    assert bp.output_size({"kernel": 4, "padding": "same"}, 9) == 9
    assert bp.output_size({"kernel": 3, "stride": 2, "padding": (2, 0)}, 8) == 4
    assert bp.output_size({"kernel": 3, "stride": 2, "transposed": True, "output_padding": 1}, 4) == 10
    assert bp.output_size({"kernel": 2, "stride": 2, "ceil_mode": True}, 5) == 3
    for wrong in (
        {"kernel": 2, "size": 3},
        {"kernel": 2, "padding": "full"},
        {"ceil_mode": 1},
        {"stride": 2, "padding": "same"},
    ):
        with pytest.raises(bp.InputError):
            bp.output_size(wrong, 9)


def test_sizes_of_several_axes() -> None:
    layer = nn.Conv2d(1, 1, (3, 5), stride=(1, 2), padding=(1, 0))
    assert bp.output_size(layer, (8, 9)) == (8, 3) and bp.output_size(nn.MaxPool2d(2), 8) == 4
    assert bp.minimum_input(layer, 4) == (4, 11)


def test_the_smallest_input_is_the_smallest() -> None:
    rng = random.Random(2)
    for _ in range(200):
        layers = [(rng.randint(1, 5), rng.randint(0, 3), rng.randint(1, 3)) for _ in range(rng.randint(1, 4))]
        wanted = rng.randint(1, 9)
        found = bp.minimum_input(layers, wanted)
        outs = {n: _through(layers, n) for n in range(1, 400)}
        if isinstance(found, Unreachable):
            assert wanted not in outs.values() and all(near in outs.values() for near in found.nearest)
        else:
            assert found == min(n for n, out in outs.items() if out == wanted)


def _through(layers: list[tuple[int, int, int]], n: int) -> int:
    for layer in layers:
        n = layer_of(layer)[0].output(n)
        if n < 1:
            return 0
    return n


def test_a_size_that_no_input_reaches_is_said_to_be_so() -> None:
    found = bp.minimum_input((3, 2, 1), 1)
    assert isinstance(found, Unreachable) and found.nearest == (3,) and "unreachable" in str(found)
    gap = bp.minimum_input([nn.ConvTranspose1d(1, 1, 3, stride=2)], 4)
    assert isinstance(gap, Unreachable) and gap.nearest == (3, 5)


# --- the exercise -----------------------------------------------------------------------------------------------------------
def test_the_exercise_with_other_layers() -> None:
    solved = bp.solve(
        "epfl-ml-9/receptive-field", kernels=[7, 3, 2], paddings=[3, 0, 1], strides=[2, 2, 3], n=33, n_out=2
    )
    given = solved.answers["given"]
    assert given["output_sizes"] == [17, 8, 3] and not solved.finding
    assert (given["receptive_field"], given["stride"]) == (1 + 6 + 2 * 2 + 1 * 4, 12)
    assert given["minimum_input"] == bp.minimum_input([(7, 3, 2), (3, 0, 2), (2, 1, 3)], 2)
    assert {k: solved.answers["cnn"][k] for k in ("size", "stride")} == {"size": 25, "stride": 4}
    assert {k: solved.answers["resnet20"][k] for k in ("size", "stride")} == {"size": 81, "stride": 4}


def test_the_docs_example_is_another_net() -> None:
    solved = bp.solve(Path(__file__).parents[2] / "docs" / "examples" / "dilated_field.py")
    assert solved.answers["wavenet"]["size"] == 2**6 and not solved.finding


@pytest.mark.parametrize(
    "setting",
    ["kernels=[0,1,1,1]", "kernels=[]", "kernels=[3]", "paddings=[-1,0,0,0]", "strides=[0,1,1,1]", "n=0", "n=-3", "n=x",
     "n=10000000000000", "n_out=0", "kernels=[1.5,1,1,1]", "strides=[1000000000000,1,1,1]"],
)  # fmt: skip
def test_hostile_settings_are_refused(capsys: pytest.CaptureFixture[str], setting: str) -> None:
    assert main(["solve", "epfl-ml-9/receptive-field", "--set", setting]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and len(said) < 600


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nnet = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 3))\n"
    )
    page = tmp_path / "f.html"
    assert (
        main(["receptive-field", f"{tmp_path}/net.py:net", "--input", "1x3x32x32", "--json", "--out", str(page)]) == 0
    )
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert [(y["size"], y["stride"]) for y in layers] == [([3, 3], [2, 2]), ([3, 3], [2, 2]), ([7, 7], [2, 2])]
    assert "What the units of" in page.read_text()
    assert main(["receptive-field", f"{tmp_path}/net.py:net", "--input", "1x3"]) == 2
    capsys.readouterr()
    words = ["receptive-field", f"{tmp_path}/net.py:net", "--input", "1x3x32x32"]
    assert main([*words, "--between", "0", "2", "--reach", "9", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["between"][0]["size"] == [3, 3] and {c["size"] for c in record["changes"]} == {9, 11}
    assert main([*words, "--between", "0", "2", "--reach", "9"]) == 0
    assert "What 2.conv2d sees of 0.conv2d" in capsys.readouterr().out
    for wrong in (["--between", "0", "7"], ["--reach", "0"], ["--reach", "x"]):
        assert main([*words, *wrong]) == 2


@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_a_field_larger_than_the_input_is_said_to_be_so(mode: str) -> None:
    """Sizes are those of a large enough input; ``indices`` keeps to this one, and the remark says from where on."""
    net = torch.nn.Sequential(*(torch.nn.Conv1d(1, 1, 5, padding=2, padding_mode=mode) for _ in range(4)))
    found = bp.receptive_field(net, (1, 1, 12))
    assert [layer.size for layer in found.layers if layer.name.endswith("conv1d")][-1] == (17,)
    assert len(found.indices(found.last.name, 6)) == 12
    assert [r for r in found.remarks if "larger than the input (12)" in r and "(13)" in r] == list(found.remarks)
    assert found.to_dict()["remarks"] == list(found.remarks)
    assert bp.receptive_field(net, (1, 1, 40)).remarks == ()
