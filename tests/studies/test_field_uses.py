"""What fields are used for: random networks cell by cell, layers between, tiles, inputs that fit, changes, path counts."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backproof as bp
from backproof.domains import boxes as boxes_module
from backproof.domains.cells import seen_cells
from backproof.studies.fields.receptive import ReceptiveField
from backproof.studies.fields.uses import tiled
from tests.zoo.random_fields import positive, random_net


def seen_by_gradient(net: nn.Module, shape: tuple[int, ...], units: list[tuple[int, ...]]) -> list[Any]:
    x = torch.full(shape, 1e-3, dtype=torch.float64, requires_grad=True)
    y = net(x)
    grads = [torch.autograd.grad(y[(0, slice(None), *u)].sum(), x, retain_graph=True)[0] for u in units]
    return [(g[0].abs().sum(0) > 0).numpy() for g in grads]


def fields(net: nn.Module, shape: tuple[int, ...]) -> ReceptiveField:
    return bp.receptive_field(net, torch.zeros(shape, dtype=torch.float64), evidence=False)


def assert_cells(seed: int, rank: int, size: int, most: int) -> int:
    """Every unit (or ``most`` of them) of a random net sees exactly what its gradient says; returns how many."""
    drawn = random_net(seed, rank, size)
    if drawn is None:
        return 0
    net, shape = drawn
    found = fields(net, shape)
    last = found.layers[-1]
    units = list(itertools.product(*(range(n) for n in last.output_size)))
    units = units if len(units) <= most else random.Random(seed).sample(units, most)
    masks = seen_cells(found.graph, found.graph.by_name[last.name], units, found.source, last.places)
    for unit, mask, true in zip(units, masks, seen_by_gradient(net, shape, units), strict=True):
        assert np.array_equal(mask, true), (seed, rank, unit)
    return len(units)


@pytest.mark.parametrize("rank", [1, 2])
def test_units_of_random_nets_see_what_the_gradient_says(rank: int) -> None:
    assert sum(assert_cells(seed, rank, 24 if rank == 1 else 10, 60 if rank == 1 else 5) for seed in range(14)) > 40


def assert_relation(seed: int, rank: int) -> int:
    """Away from all borders the relation without sizes is what cells say; returns how many units were compared."""
    drawn = random_net(seed, rank, 150 if rank == 1 else 44)
    if drawn is None:
        return 0
    net, shape = drawn
    found = fields(net, shape)
    last, compared = found.layers[-1], 0
    if not last.is_local:
        return 0
    middle = [[n // 2 + o for o in range(4) if n // 2 + o < n] for n in last.output_size]
    units = list(itertools.product(*middle))[:6]
    masks = seen_cells(found.graph, found.graph.by_name[last.name], units, found.source, last.places)
    for unit, mask in zip(units, masks, strict=True):
        for axis, track in enumerate(last.tracks):
            assert track is not None
            row = track.relation.at(unit[axis])
            if row.mask and row.low >= 20 and row.low + row.size <= shape[axis + 2] - 20:
                rest = tuple(i for i in range(rank) if i != axis)
                assert set(mask.any(axis=rest).nonzero()[0].tolist()) == set(row), (seed, unit)
                compared += 1
    return compared


@pytest.mark.parametrize("rank", [1, 2])
def test_relations_without_sizes_are_right_away_from_borders(rank: int) -> None:
    assert sum(assert_relation(seed, rank) for seed in range(10)) > 3


@pytest.mark.nightly
@pytest.mark.parametrize("block", range(20))
def test_a_thousand_random_nets(block: int) -> None:
    for seed in range(100 + 50 * block, 150 + 50 * block):
        rank = 1 + seed % 2
        assert_cells(seed, rank, 26 if rank == 1 else 9, 400)
        assert_relation(seed, rank)


class Window(nn.Module):
    """Attention within windows of an image's rows, shifted by half a window."""

    def __init__(self, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift

    def forward(self, x: Tensor) -> Tensor:
        rolled = torch.roll(x, -self.shift, 2)
        tokens = rolled.unflatten(2, (-1, self.window)).permute(0, 2, 3, 1)
        mixed = F.scaled_dot_product_attention(tokens, tokens, tokens)
        return torch.roll(mixed.permute(0, 3, 1, 2).flatten(2), self.shift, 2)


def test_shifted_windows_grow_window_by_window() -> None:
    net = nn.Sequential(Window(4, 0), Window(4, 2))
    found = bp.receptive_field(net, (1, 2, 32))
    assert found.last.size == (8,) and not found.last.is_global and not found.finding
    assert found.indices(found.last.name, 9) == set(range(4, 12))
    assert found.indices(found.last.name, 0) == {*range(4), *range(28, 32)}


def test_tokens_of_an_image_and_global_attention() -> None:
    class Tokens(nn.Module):
        def __init__(self, attend: bool) -> None:
            super().__init__()
            self.patches, self.linear, self.attend = nn.Conv2d(1, 4, 4, 4), nn.Linear(4, 4), attend

        def forward(self, x: Tensor) -> Tensor:
            t = self.linear(self.patches(x).flatten(2).transpose(1, 2))
            return F.scaled_dot_product_attention(t, t, t) if self.attend else t

    local = bp.receptive_field(Tokens(False), (1, 1, 16, 20))
    assert local.last.size == (4, 4) and local.last.output_size == (4, 5) and not local.finding
    assert local.indices(local.last.name, (1, 4), 1) == set(range(16, 20))
    whole = bp.receptive_field(Tokens(True), (1, 1, 16, 20)).layers[-1]
    assert whole.is_global and "softmax" in whole.reason and whole.size == (4, 4)


class UNet(nn.Module):
    """Two convolutions on each level, halved and doubled; skips are joined along the channels."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(self.pair(1 if i == 0 else 2) for i in range(depth))
        self.middle = self.pair(2)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2, 2, 2, 2) for _ in range(depth))
        self.join = nn.ModuleList(self.pair(4) for _ in range(depth))

    def pair(self, channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for down in self.down:
            x = down(x)
            kept.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for up, join, skip in zip(self.up, self.join, reversed(kept), strict=True):
            x = join(torch.cat([up(x), skip], 1))
        return x


def test_a_unet_sees_one_of_two_sizes_by_the_phase_of_the_pixel() -> None:
    found = bp.receptive_field(UNet(4), (1, 1, 64, 64), evidence=False)
    assert found.last.size == (204, 204)
    assert [found.sizes_by_phase[0].count(n) for n in (188, 204)] == [4, 12]
    (fit, _) = found.valid_inputs
    assert found.minimum_input == (16, 16) and (fit.period, fit.residues) == (16, (0,))
    assert 32 in fit and 33 not in fit and 0 not in fit
    assert [(h.before, h.after, h.grid) for h in found.halo] == [(94, 94, 16)] * 2


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (UNet(2), (1, 1, 80, 72)),
        (nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, padding=2, dilation=2), nn.MaxPool2d(2)), (1, 1, 52, 60)),
        (nn.Sequential(nn.ConstantPad1d((6, 0), 0.0), nn.Conv1d(1, 2, 3, dilation=3), nn.ReLU(), nn.Conv1d(2, 1, 2)), (1, 1, 90)),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Upsample(scale_factor=2), nn.Conv2d(2, 1, 3, padding=1)), (1, 1, 24, 30)),
        (nn.Sequential(nn.Conv2d(1, 2, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(2, 2, 4, 2, 1), nn.Conv2d(2, 1, 4, 1, 1)), (1, 1, 64, 64)),
    ],
    ids=["unet", "dilated", "causal", "enlarged", "patchgan"],
)  # fmt: skip
def test_tiles_put_together_are_the_whole(net: nn.Module, shape: tuple[int, ...]) -> None:
    net, x = net.double().eval(), torch.randn(shape, dtype=torch.float64)
    found = bp.receptive_field(net, x)
    assert not found.finding and any("halo" in e.what for e in found.evidence)
    with torch.no_grad():
        whole, parts = net(x), tiled(net, x, found.halo, found.last.stride, 8)
        assert torch.allclose(whole, parts, atol=1e-12, rtol=0)
        grid = found.halo[0].grid
        short = [
            dataclasses.replace(h, before=max(h.before - grid, 0), after=max(h.after - grid, 0)) for h in found.halo
        ]
        if not isinstance(net, UNet):  # with less the sizes or the values differ
            less = tiled(net, x, short, found.last.stride, 8)
            assert less.shape != whole.shape or not torch.allclose(whole, less, atol=1e-12, rtol=0)


def test_a_halo_that_is_too_small_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from backproof.studies.fields import receptive

    right = receptive.halo_of
    monkeypatch.setattr(
        receptive, "halo_of", lambda t, g: dataclasses.replace(right(t, g), after=right(t, g).after - 1)
    )
    assert bp.receptive_field(nn.Conv1d(1, 1, 5, padding=2), (1, 1, 40)).finding


def test_what_is_global_cannot_be_tiled_and_says_why() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4))
    with pytest.raises(bp.InputError, match="mean over all positions"):
        _ = bp.receptive_field(net, (1, 2, 12, 12)).halo


def test_the_smallest_input_is_found_with_the_layer_that_fails_below_it() -> None:
    net = nn.Sequential(
        nn.Conv1d(1, 2, 5),
        nn.MaxPool1d(2),
        nn.Conv1d(2, 2, 3, stride=2),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(2, 3),
    )
    found = bp.receptive_field(net, (1, 1, 60))
    assert found.minimum_input == (10,) and found.valid_inputs[0].failing.startswith("2")
    for n in range(8, 20):
        try:
            net(torch.zeros(1, 1, n))
            runs = True
        except RuntimeError:
            runs = False
        assert runs == (n in found.valid_inputs[0])
    single = bp.receptive_field(nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(16, 1)), (1, 1, 10))
    assert single.valid_inputs[0].only == (10,) and 11 not in single.valid_inputs[0]


def test_inputs_that_fit_where_a_size_is_read_from_the_input() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.ones(1)  # neither parameter nor buffer

        def forward(self, x: Tensor) -> Tensor:
            y = F.interpolate(x.mean((2, 3), keepdim=True), size=x.shape[2:], mode="bilinear")
            return x + y * self.table

    (fit, _) = bp.receptive_field(Pooled(), (1, 1, 8, 8)).valid_inputs
    assert fit.minimum == 1 and fit.period == 1 and 9 in fit and not fit.only


class Masked(nn.Conv2d):
    """A convolution that sees what comes before, in reading order (van den Oord and others, 2016); B: itself too."""

    def __init__(self, kind: str) -> None:
        super().__init__(1, 1, 3, padding=1)
        mask = torch.ones(1, 1, 3, 3)
        mask[..., 2, :] = mask[..., 1, 2] = 0
        mask[..., 1, 1] = kind == "B"
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=1)


def test_masked_kernels_see_what_their_weights_let_through() -> None:
    net = positive(nn.Sequential(Masked("A"), Masked("B"), nn.Conv2d(1, 2, 1)))
    found = bp.receptive_field(net, torch.zeros(1, 1, 9, 9, dtype=torch.float64))
    for unit in ((4, 4), (0, 3), (8, 0)):
        (true,) = seen_by_gradient(net, (1, 1, 9, 9), [unit])
        assert found.indices("2", unit, zeros=True) == {tuple(i) for i in np.argwhere(true).tolist()}
    assert (4, 4) in found.indices("2", (4, 4)) and (4, 4) not in found.indices("2", (4, 4), zeros=True)
    grouped = nn.Conv1d(4, 4, 3, groups=2, dilation=2, stride=2, padding=1)
    whole = bp.receptive_field(grouped, (1, 4, 15))
    assert all(whole.indices("conv1d", i, zeros=True) == whole.indices("conv1d", i) for i in range(6))


def test_groups_keep_channels_apart() -> None:
    net = nn.Sequential(nn.Conv1d(4, 4, 3, groups=2), nn.Conv1d(4, 4, 1, groups=4), nn.Conv1d(4, 8, 2, groups=2))
    found = bp.receptive_field(net, (1, 4, 12))
    assert found.channels("2", 0) == {0, 1} and found.channels("2", 7) == {2, 3}
    assert found.indices("2", 0, channel=5) == set(range(4))
    x = torch.zeros(1, 4, 12, dtype=torch.float64, requires_grad=True)
    for channel in range(8):
        (grad,) = torch.autograd.grad(positive(net)(x)[0, channel, 4], x)
        assert found.channels("2", channel) == set(grad[0].abs().sum(1).nonzero().flatten().tolist())
    with pytest.raises(bp.InputError):
        found.channels("2", 8)


@pytest.mark.parametrize("shape", [(1, -1, 9), (1, 1, 0), (1, 1, 10**12), ()])
def test_shapes_that_are_none_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(bp.InputError):
        bp.receptive_field(nn.Conv1d(1, 1, 3), shape)


def test_between_two_layers() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2), nn.Conv2d(1, 1, 3, dilation=2), nn.MaxPool2d(2))
    found = bp.receptive_field(net, (1, 1, 40, 40))
    assert found.between("0", "2").size == (6, 6) and found.between("1", "2").size == (2, 2)
    with pytest.raises(bp.InputError, match="does not depend"):
        found.between("2", "0")


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, with the stride in the one or the other."""

    def __init__(self, stride: int, early: bool) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 1, 1, stride if early else 1)
        self.b = nn.Conv2d(1, 1, 3, 1 if early else stride, 1)
        self.c, self.skip = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.c(torch.relu(self.b(torch.relu(self.a(x))))) + self.skip(x))


@pytest.mark.parametrize(("early", "size"), [(True, 483), (False, 427)])
def test_why_427_and_not_483(early: bool, size: int) -> None:
    layers: list[nn.Module] = [nn.Conv2d(1, 1, 7, 2, 3), nn.MaxPool2d(3, 2, 1)]
    for stage, blocks in enumerate((3, 4, 6, 3)):
        layers += [Bottleneck(2 if stage and block == 0 else 1, early) for block in range(blocks)]
    found = bp.receptive_field(nn.Sequential(*layers), (1, 1, 96, 96), evidence=False)
    steps = found.way()
    assert found.last.size == (size, size) and 1 + sum(s.growth for s in steps) == size
    assert all(s.growth == (s.kernel - 1) * s.dilation * s.jump for s in steps)
    assert {"layers that add nothing": bool(found.unproductive())} == {"layers that add nothing": False}


def test_changes_that_reach_a_field_are_the_least() -> None:
    net = nn.Sequential(nn.Conv1d(1, 1, 3, stride=2), nn.Conv1d(1, 1, 5, dilation=2))
    found = bp.receptive_field(net, (1, 1, 60), evidence=False)
    assert found.last.size == (19,)
    for change in found.reaching(30):
        (index, kernel, stride, dilation) = (int(change.layer[0]), [3, 5], [2, 1], [1, 2])
        sizes = {"kernel": kernel, "stride": stride, "dilation": dilation}
        sizes[change.what][index] = change.after
        layers = [nn.Conv1d(1, 1, k, s, dilation=d) for k, s, d in zip(kernel, stride, dilation, strict=True)]
        again = bp.receptive_field(nn.Sequential(*layers), (1, 1, 200), evidence=False)
        assert again.last.size == (change.size,) and change.size >= 30
    assert {(c.layer, c.what) for c in found.reaching(30)} >= {
        ("0.conv1d", "stride"),
        ("1.conv1d", "dilation"),
        ("1.conv1d", "kernel"),
    }
    assert found.reaching(10) == ()


def test_paths_are_counted_exactly() -> None:
    net = nn.Sequential(*(nn.Conv1d(1, 1, 3, padding=1, bias=False) for _ in range(5)))
    counted = bp.receptive_field(net, (1, 1, 30)).effective()
    row = np.array([1])
    for _ in range(5):
        row = np.convolve(row, [1, 1, 1])
    assert counted.paths[10:21].tolist() == row.tolist() and counted.size == (11,)
    assert counted.deviation[0] == pytest.approx((5 * (9 - 1) / 12) ** 0.5)
    assert [e.agrees for e in counted.evidence] == [True]
    wide = bp.receptive_field(
        positive(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3))), torch.zeros(1, 2, 12, 12).double()
    )
    assert wide.effective().paths.max() == 2 * 3 * 2 * 9 and wide.effective().evidence[0].agrees


def test_layers_that_see_everything_already_are_named() -> None:
    net = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(6)))
    found = bp.receptive_field(net, (1, 1, 7, 7), evidence=False)
    assert found.unproductive() == ("3.conv2d", "4.conv2d", "5.conv2d")


def test_a_wrong_relation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = boxes_module.local_relation
    monkeypatch.setattr(boxes_module, "local_relation", lambda node, axis: right(node, axis).after(right(node, axis)))
    with pytest.raises(AssertionError):
        for seed in range(10):
            assert_relation(seed, 1)


def test_the_document_shows_the_cone_and_what_counts() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.Conv2d(2, 2, 3))
    found = bp.receptive_field(net, (1, 1, 24, 24))
    page, latex = found.html(), found.latex()
    assert page.count("<svg") >= 2 and latex.count("tikzpicture") >= 4
    record = found.to_dict()
    assert record["minimum_input"] == [7, 7] and record["halo"][0]["grid"] == 2


class Rolled(nn.Module):
    """A roll written as two slices set side by side, as many programs have it."""

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[..., self.by :], x[..., : self.by]], -1)


@pytest.mark.parametrize("by", [1, 3, 11])
def test_a_roll_written_as_two_slices_is_a_roll(by: int) -> None:
    net = nn.Sequential(nn.Conv1d(1, 1, 3), Rolled(by), nn.Conv1d(1, 1, 3, dilation=2))
    found = bp.receptive_field(net, (1, 1, 40))
    assert (found.last.size, found.last.used) == ((7,), (7,)) and not found.finding
    doubled = nn.Sequential(nn.Conv1d(1, 1, 3), Twice())
    assert bp.receptive_field(doubled, (1, 1, 40)).indices("1", 40) == {2, 3, 4}


class Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x], -1)


def test_a_shape_becomes_an_input_of_the_models_dtype() -> None:
    net = nn.Conv1d(1, 1, 3).double()
    assert bp.receptive_field(net, (1, 1, 9)).last.size == (3,)


def waves(size: int) -> torch.Tensor:
    x = torch.linspace(0, 6, size)
    return (x.sin()[:, None] * x.cos()[None]).reshape(1, 1, size, size)


def test_what_counts_lies_over_the_picture_that_was_given_and_not_over_noise() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, padding=1))
    over = bp.receptive_field(net, waves(30)).html()
    assert over.count("<image") == 1 and "Below it, the input that was given" in over
    for plain in (torch.randn(1, 1, 30, 30), torch.zeros(1, 1, 30, 30)):
        assert "<image" not in bp.receptive_field(net, plain).html()


def test_every_layer_of_the_cone_and_every_square_answers_to_the_pointer() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.Conv2d(2, 2, 3))
    page = bp.receptive_field(net, (1, 1, 24, 24)).html()
    assert "2.conv2d: 1 of 9 positions seen, at 4; field 7, stride 2, padding 0" in page
    assert "input: 7 of 24 indices seen, from 8 to 14" in page
    assert len(re.findall(r'class="hint" tabindex="0"', page)) == 4  # three layers, and the field as a whole
    squares = re.findall(r'aria-hidden="true".*?row (\d+), column (\d+): ([\d.]+) % of all paths', page)
    assert len(squares) == 49 and abs(sum(float(s) for _, _, s in squares) - 100) < 0.2


def test_the_gradient_confirms_a_field_and_finds_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, dilation=2), nn.BatchNorm2d(2), nn.ReLU(), nn.AvgPool2d(2)).eval()
    shape, oracle = (1, 1, 20, 20), "the gradient of the program with positive weights"

    def outcome(model: nn.Module) -> list[tuple[bool | None, str]]:
        return [(e.agrees, e.note) for e in bp.receptive_field(model, shape).evidence if e.oracle == oracle]

    assert outcome(net) == [(True, "")]
    (behind,) = outcome(nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)).eval())
    assert behind[0] is True and "max_pool" in behind[1]
    right = ReceptiveField.indices
    for wrong in (lambda seen: {*seen, (0, 0)}, lambda seen: set(sorted(seen)[1:])):
        monkeypatch.setattr(ReceptiveField, "indices", lambda self, *args, wrong=wrong, **more: (
            wrong(right(self, *args, **more)) if len(args) == 2 and "axis" not in more else right(self, *args, **more)
        ))  # fmt: skip
        assert outcome(net)[0][0] is False


class Mixes(nn.Module):
    """A convolution, and something that mixes positions along an axis."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.how = nn.Conv1d(1, 2, 3, stride=2), how
        self.weight = nn.Parameter(torch.ones(2, 2) / 2)
        self.rnn = nn.RNN(2, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return {
            "einsum over channels": lambda: torch.einsum("ncl,dc->ndl", y, self.weight),
            "einsum over positions": lambda: torch.einsum("ncl,nck->nl", y, y),
            "cumsum": lambda: y.cumsum(-1),
            "from the end": lambda: y.flip(-1).cumsum(-1).flip(-1),
            "fft": lambda: torch.fft.fft(y).abs(),
            "recurrence": lambda: self.rnn(y.transpose(1, 2))[0].transpose(1, 2),
            "opaque": lambda: torch.special.i0(y),
        }[self.how]()


@pytest.mark.parametrize(
    "how, reason",
    [
        ("einsum over channels", ""),
        ("einsum over positions", "the sum over all positions"),
        ("cumsum", "running total"),
        ("from the end", "running total"),
        ("fft", "Fourier transform"),
        ("recurrence", "the recurrence in rnn"),
        ("opaque", "places are not followed"),
    ],
)
def test_what_mixes_positions_is_named_and_its_cells_are_what_the_gradient_says(how: str, reason: str) -> None:
    net = Mixes(how).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.rand(p.shape) + 0.1)
    found = bp.receptive_field(net, (1, 1, 15))
    layer = found.layers[-1]
    assert (reason in layer.reason and layer.is_global) if reason else not layer.is_global
    assert not found.finding and found["conv"].size == (3,)
    x = torch.rand(1, 1, 15, dtype=torch.float64, requires_grad=True)
    for unit in range(7):
        (grad,) = torch.autograd.grad(net(x)[0, ..., unit].sum(), x)
        seen, says = (
            {int(i) for i in grad[0, 0].nonzero()},
            found.indices(layer.name, unit) if layer.output_size else set(),
        )
        assert says == seen or (reason and (not says or seen <= says)), (unit, says, seen)
        assert says == seen or how not in ("cumsum", "from the end", "recurrence", "einsum over channels")
