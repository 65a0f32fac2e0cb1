"""Pictures on a larger canvas: in the middle, at a random place, scrambled by one fixed permutation; with noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

__all__ = ["VARIANTS", "Canvas", "canvas_for", "placed"]

VARIANTS = ("centred", "shifted", "scrambled")
LARGEST = 512


@dataclass(frozen=True)
class Canvas:
    """How a picture becomes the input of a network; called as an augmentation, on a batch and a generator.

    The picture [h, w] is put on a canvas [size, size] of zeros, normalised with the mean and the deviation of the
    pictures' own pixels, and given Gaussian noise, in this order.

    Args:
        size: of the canvas, in pixels.
        variant: "centred"; "shifted": a place drawn evenly among all that there are; "scrambled": centred, and the
            pixels of the canvas permuted, noise included, always by the same permutation.
        noise: the standard deviation of the noise, in units of the pictures' deviation.
        mean, deviation: of the pixels of the pictures.
        permutation: of the pixels, [size * size], for "scrambled".
    """

    size: int
    variant: str
    noise: float
    mean: float
    deviation: float
    permutation: Tensor

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """From pictures [N, h, w] to inputs [N, 1, size, size]."""
        rows, columns = self._places(images, generator)
        drawn = (placed(images, self.size, rows, columns) - self.mean) / self.deviation
        drawn += self.noise * torch.randn(drawn.shape, generator=generator)
        if self.variant == "scrambled":
            drawn = drawn.flatten(1)[:, self.permutation].reshape(drawn.shape)
        return drawn[:, None]

    def _places(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        count, (height, width) = len(images), images.shape[1:]
        free = (self.size - height, self.size - width)
        if self.variant == "shifted":
            a, b = (torch.randint(0, n + 1, (count,), generator=generator) for n in free)
            return a, b
        return torch.full((count,), free[0] // 2), torch.full((count,), free[1] // 2)


def placed(images: Tensor, size: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Pictures [N, h, w] on canvases [N, size, size] of zeros, their upper left corners at (rows, columns)."""
    count, height, width = images.shape
    canvas = images.new_zeros(count, size, size)
    number = torch.arange(count)[:, None, None]
    row = rows[:, None, None] + torch.arange(height)[None, :, None]
    column = columns[:, None, None] + torch.arange(width)[None, None, :]
    canvas[number, row, column] = images
    return canvas


def canvas_for(images: Tensor, size: int, variant: str, noise: float, seed: int) -> Canvas:
    """The canvas for pictures [N, h, w]: its mean and deviation are theirs, its permutation is the seed's.

    Raises:
        InputError: the canvas is too small for the pictures or larger than 512.
    """
    height, width = images.shape[1:]
    if not max(height, width) <= size <= LARGEST:
        raise InputError(
            f"the canvas must be from {max(height, width)} (the pictures are {height} x {width}) to {LARGEST} pixels wide, "
            f"not {size}"
        )
    if variant not in VARIANTS:
        raise InputError(f"pictures can be {', '.join(VARIANTS)}, not '{variant}'")
    mean, deviation = images.double().mean().item(), images.double().std(correction=0).item() or 1.0
    order = torch.randperm(size * size, generator=torch.Generator().manual_seed(seed))
    return Canvas(size, variant, noise, mean, deviation, order)
