"""What a network's structure says about shifts and permutations of its input, measured on the network itself."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..verdicts import Evidence

__all__ = [
    "Field",
    "Moved",
    "convolutional_part",
    "field_of",
    "moved",
    "moved_evidence",
    "neighbours",
    "permuted_evidence",
]

_LOCAL = (
    nn.Conv2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.LeakyReLU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
)
_TOLERANCE = 1e-9


def convolutional_part(model: nn.Module) -> nn.Sequential | None:
    """The layers at a network's beginning that act alike at every place; None where there is no convolution."""
    layers: list[nn.Module] = []
    for layer in _flat(model):
        if not isinstance(layer, _LOCAL):
            break
        layers.append(layer)
    return nn.Sequential(*layers) if any(isinstance(x, nn.Conv2d) for x in layers) else None


def _flat(model: nn.Module) -> Iterator[nn.Module]:
    if isinstance(model, nn.Sequential):
        for layer in model:
            yield from _flat(layer)
    else:
        yield model


@dataclass(frozen=True)
class Field:
    """What one entry of the feature maps sees: a square of ``size`` pixels, ``stride`` pixels from its neighbour's."""

    size: int
    stride: int


def field_of(part: nn.Sequential) -> Field:
    """The receptive field by the recurrence r <- r + (K - 1) j, j <- j S."""
    size, jump = 1, 1
    for layer in part:
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            kernel, stride = _first(layer.kernel_size), _first(layer.stride)
            dilation = _first(getattr(layer, "dilation", 1))
            size, jump = size + (kernel - 1) * dilation * jump, jump * stride
    return Field(size, jump)


def _first(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


@dataclass(frozen=True)
class Moved:
    """How far the feature maps of a moved picture are from the moved feature maps, relative to their size.

    Args:
        pixels: how far the picture moved.
        inside: the difference where no field reaches the border of the canvas.
        whole: the difference over whole feature maps on the network's own canvas, borders included.
    """

    pixels: int
    inside: float
    whole: float


def moved(part: nn.Sequential, images: Tensor, pixels: int) -> Moved:
    """Move pictures [N, 1, H, W] to the right by ``pixels`` (filling up with their corner's value) and compare.

    The comparison inside is made on a canvas with a margin that keeps all zero padding out of sight.
    """
    field, part, images = field_of(part), deepcopy(part).double().eval(), images.double()
    margin = 2 * field.stride * (-(-(field.size + pixels) // field.stride))
    with torch.no_grad():
        inside = _difference(part, _framed(images, margin), pixels, field.stride, margin // field.stride // 2)
        whole = _difference(part, images, pixels, field.stride, 0)
    return Moved(pixels, inside, whole)


def _framed(images: Tensor, margin: int) -> Tensor:
    frame = images[:, :, :1, :1].expand(-1, -1, images.shape[2] + 2 * margin, images.shape[3] + 2 * margin).clone()
    frame[:, :, margin:-margin, margin:-margin] = images
    return frame


def _difference(part: nn.Sequential, images: Tensor, pixels: int, stride: int, border: int) -> float:
    there = images[:, :, :, :1].expand_as(images).clone()
    there[:, :, :, pixels:] = images[:, :, :, : images.shape[3] - pixels]
    steps = round(pixels / stride)
    before, after = part(images), part(there)
    width = before.shape[3] - steps
    expected, found = before[..., :width], after[..., steps:]
    cut = slice(border, -border or None)
    expected, found = expected[:, :, cut, cut], found[:, :, cut, cut]
    return float((expected - found).norm() / expected.norm().clamp_min(1e-300))


def neighbours(images: Tensor) -> float:
    """How much pixels beside one another vary together over pictures [N, 1, H, W]: their correlation, on average.

    The sum of the covariances of all horizontal pairs over the sum of their standard deviations' products.
    """
    apart = images.double() - images.double().mean(0)
    a, b = apart[..., :-1], apart[..., 1:]
    spread = a.square().mean(0).sqrt() * b.square().mean(0).sqrt()
    return float((a * b).mean(0).sum() / spread.sum().clamp_min(1e-300))


def moved_evidence(name: str, found: Moved, count: int) -> Evidence:
    """Moving the picture by the stride moves the feature maps by one entry: shared weights, stated as a comparison."""
    what = f"feature maps of {name} under a shift of {found.pixels} pixels"
    oracle = "the feature maps themselves, shifted"
    return Evidence(what, oracle, found.inside <= _TOLERANCE, found.inside, count, count, "away from the borders")


def permuted_evidence(name: str, model: nn.Module, images: Tensor, permutation: Tensor) -> Evidence | None:
    """A network that begins with a linear layer computes the same on permuted pixels with permuted columns.

    None where the first layer with weights is not linear.
    """
    twin = deepcopy(model).double().eval()
    first = next((m for m in twin.modules() if list(m.parameters(recurse=False))), None)
    if not isinstance(first, nn.Linear) or first.in_features != len(permutation):
        return None
    wide = images.double()
    with torch.no_grad():
        plain = twin(wide)
        first.weight.copy_(first.weight[:, permutation])
        scrambled = twin(wide.flatten(1)[:, permutation].reshape(wide.shape))
        error = float((plain - scrambled).abs().max() / plain.abs().max().clamp_min(1e-300))
    what = f"outputs of {name} on scrambled pictures, its first weights' columns scrambled alike"
    return Evidence(what, "its outputs on the plain pictures", error <= _TOLERANCE, error, plain.numel(), plain.numel())
