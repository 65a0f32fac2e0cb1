"""What the operations are: one record each, by family; the examples in them feed every law test."""

from . import (
    arithmetic,
    chance,
    complex,
    convolution,
    elementwise,
    indexing,
    normalisation,
    pairs,
    pooling,
    sequences,
    structure,
)
from .base import OPS, Attrs, Elementwise, Example, Op, Shape, by_aten, derivative, register
from .own import own_backward

__all__ = ["OPS", "Attrs", "Elementwise", "Example", "Op", "Shape", "by_aten", "derivative", "own_backward", "register"]

_ = (
    arithmetic,
    chance,
    complex,
    convolution,
    elementwise,
    indexing,
    normalisation,
    pairs,
    pooling,
    sequences,
    structure,
)  # imported for what they register
