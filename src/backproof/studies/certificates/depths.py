"""What depth does to a derivative: the same network at several depths, each with its certificate, as plots and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...document.blocks import Plot, Series
from ...progress import track
from .certify import Certificate, certify

__all__ = ["Depths", "over_depth", "plot_over_depth"]


@dataclass(frozen=True)
class Depths:
    """Certificates of one kind of network at increasing depths."""

    label: str
    depths: tuple[int, ...]
    certificates: tuple[Certificate, ...]

    def rate(self, what: str = "upper") -> float | None:
        """The factor per layer between the first and the last depth; None where there is none."""
        first, last = (float(getattr(c, what)) for c in (self.certificates[0], self.certificates[-1]))
        layers = self.depths[-1] - self.depths[0]
        return float((last / first) ** (1 / layers)) if layers and first > 0 and last > 0 else None

    def series(self, what: str = "upper", style: str = "line", words: str = "") -> Series | None:
        """One curve over the depth, for a logarithmic axis: what is 0 is left out."""
        points = [(float(d), float(getattr(c, what))) for d, c in zip(self.depths, self.certificates, strict=True)]
        kept = [(d, v) for d, v in points if v > 0]
        if not kept:
            return None
        xs, ys = zip(*kept, strict=True)
        return Series(words or self.label, xs, ys, style)  # type: ignore[arg-type]


def over_depth(
    label: str, make: Callable[[int], tuple[Any, tuple[Any, ...]]], depths: Sequence[int], **question: Any
) -> Depths:
    """Certify the same derivative at several depths, without the search for the best witness.

    Args:
        label: what the plot calls it.
        make: from a depth to (model, inputs).
        depths: the depths, increasing.
        question: the arguments of :func:`backproof.certify` (``wrt``, ``weights``, ``biases``, ``inputs_in``...).
    """
    found = []
    for depth in track(tuple(depths), f"certifying {label}"):
        model, inputs = make(depth)
        found.append(certify(model, *inputs, effort="bound", **question))
    return Depths(label, tuple(depths), tuple(found))


def plot_over_depth(curves: Mapping[str, Series | None] | Sequence[Series | None], caption: str, alt: str) -> Plot:
    """Curves over the number of layers, on a logarithmic axis."""
    series = tuple(s for s in (curves.values() if isinstance(curves, Mapping) else curves) if s is not None)
    return Plot(series, "number of hidden layers L", "size of the derivative", (caption,), alt, log_y=True)
