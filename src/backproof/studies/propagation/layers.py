"""What ``bp.propagate`` found: the layers, the verdict, and the pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from ...document.blocks import Block, Callout, Code, Document, Paragraph, Part, Parts, Plot, Section, Series, Table
from ...document.math import Num
from ...result import Result
from .diagnosis import Diagnosis
from .measuring import Sizes

__all__ = ["Layer", "Propagation"]

Pair = tuple[float, float]
ROUNDING = 1e-24


@dataclass(frozen=True)
class Layer:
    """One linear map: the mean squares of what comes out of it, and of the error signal that comes back to it.

    Args:
        name, module: of the linear map.
        activation: the function behind it ("" for none).
        forward, backward: (predicted, measured) mean squares; the prediction is nan where the theory is silent.
        bands: the factors (forward, backward) by which one network of this width may lie above or below the prediction
            (two standard deviations).
        chi: by how much the mean square of the error signal is multiplied on its way back from the next linear map to
            this one; None where nothing is behind it.
        dead: the share of its units at a slope of 0 for all inputs.
        saturated: the share of its entries where a bounded activation has less than 1/20 of its largest slope.
        seeds: the mean squares (forward, backward) over draws of the weights, each with its standard error.
        correlation: the mean correlation between two inputs (or tokens, or pixels) behind it, predicted; nan for one.
        gains: of the activation: 1/sqrt(E[f²]) and 1/sqrt(E[f'²]) for a standard normal; None without one.
        reason: why nothing is predicted, "" where something is.
        size: the number of entries.
    """

    name: str
    module: str
    activation: str
    forward: Pair
    backward: Pair
    bands: Pair
    chi: float | None
    dead: float
    saturated: float = 0.0
    seeds: tuple[Sizes, Sizes] | None = None
    correlation: float = math.nan
    gains: Pair | None = None
    reason: str = ""
    size: int = 1

    @property
    def band(self) -> float:
        """The wider of the two bands."""
        return max(self.bands)

    @property
    def norms(self) -> Pair:
        """(predicted, measured) Euclidean norms of the error signal over all entries."""
        return math.sqrt(self.backward[0] * self.size), math.sqrt(self.backward[1] * self.size)

    def apart(self, way: int, scale: float) -> str:
        """Where the prediction (0: forwards, 1: backwards) and the measurement disagree, in words; "" where they agree.

        Over draws of the weights: by a factor of 1.5, and by four standard errors, those seen and those that the band
        implies for such a mean; of one network alone: by the square of the band and a factor of 3.

        Args:
            way: which pass.
            scale: the largest mean square of any layer; what is far below it is rounding.
        """
        told, seen = (self.forward, self.backward)[way]
        over, band = self.seeds[way] if self.seeds else None, self.bands[way]
        seen = seen if over is None else over.mean
        if not (math.isfinite(told) and math.isfinite(seen)) or max(told, seen) <= ROUNDING * scale:
            return ""
        factor = told / seen if seen > 0 else math.inf
        most = 1.5 if over else max(3.0, band**2)
        error = (
            0.0
            if over is None
            else max(over.error, told * math.sqrt(math.expm1(min(math.log(band) ** 2 / 4, 50)) / over.count))
        )
        if 1 / most <= factor <= most or abs(told - seen) <= 4 * error:
            return ""
        return f"{told:.3g} predicted and {seen:.3g} measured {'backwards' if way else 'forwards'} at {self.name}"

    def to_dict(self) -> dict[str, Any]:
        """The layer as plain data."""
        ways = ("forward", "backward")
        over = {} if self.seeds is None else {
            way: {"mean": s.mean, "standard_error": s.error} for way, s in zip(ways, self.seeds, strict=True)}  # fmt: skip
        return {
            "name": self.name,
            "module": self.module,
            "activation": self.activation,
            **{way: {"predicted": _finite(getattr(self, way)[0]), "measured": _finite(getattr(self, way)[1])} for way in ways},
            "band": self.band,
            "bands": dict(zip(ways, self.bands, strict=True)),
            "over_seeds": over,
            "chi": self.chi,
            "dead": self.dead,
            "saturated": self.saturated,
            "correlation": _finite(self.correlation),
            "gains": dict(zip(ways, self.gains, strict=True)) if self.gains else None,
            "not_predicted": self.reason,
        }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Propagation(Result):
    """The layers in order, and what they say together.

    Args:
        layers: one for each linear map.
        diagnosis: the verdict ("healthy", "vanishing", "exploding", "dead"...), its cause, and the remedies, each with
            what it is predicted to do and what it did when it was applied to a copy.
        title: the model's name.
        seeds: over how many draws of the weights the measurement was repeated.
        notes: what else is worth knowing.
    """

    layers: tuple[Layer, ...]
    diagnosis: Diagnosis
    title: str = ""
    seeds: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def verdict(self) -> str:
        """In one word (or two)."""
        return self.diagnosis.verdict

    @property
    def cause(self) -> str:
        """Why."""
        return self.diagnosis.cause

    @property
    def remedy(self) -> str:
        """What to do, what that is predicted to do, and what it did."""
        return self.diagnosis.remedy

    @property
    def code(self) -> str:
        """The remedy as lines to paste, "" where there are none, or none that cures."""
        best = self.diagnosis.remedies[:1]
        return best[0].code if best and best[0].cures else ""

    @property
    def chi(self) -> float | None:
        """The geometric mean of the layers' chi."""
        known = [x.chi for x in self.layers if x.chi is not None and x.chi > 0]
        return math.exp(sum(map(math.log, known)) / len(known)) if known else None

    @property
    def depth_scale(self) -> float | None:
        """xi = 1/|ln chi|: over so many layers the mean square of the gradient changes by a factor e."""
        return 1 / abs(math.log(self.chi)) if self.chi is not None and abs(math.log(self.chi)) > 1e-12 else None

    @property
    def disagreements(self) -> tuple[str, ...]:
        """Where what is predicted is not what is measured: first forwards, then backwards from the output."""
        largest = max((v for x in self.layers for v in (x.forward[1], x.backward[1])), default=0.0)
        forwards = (x.apart(0, largest) for x in self.layers)
        return tuple(text for text in (*forwards, *(x.apart(1, largest) for x in reversed(self.layers))) if text)

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Any verdict other than healthy is a finding, and so is a prediction that does not hold."""
        return self.verdict != "healthy" or bool(self.disagreements)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The layers and the verdict as plain data."""
        return {
            "model": self.title,
            "layers": [layer.to_dict() for layer in self.layers],
            "verdict": self.verdict,
            "cause": self.cause,
            "remedy": self.remedy,
            "remedies": [r.to_dict() for r in self.diagnosis.remedies],
            "code": self.code,
            "gradient_ratio": self.diagnosis.ratio,
            "chi": self.chi,
            "depth_scale": self.depth_scale,
            "disagreements": list(self.disagreements),
            "seeds": self.seeds,
            "notes": list(self.notes),
        }

    def document(self) -> Document:
        """The verdict, the remedies, the layers, and two plots."""
        kind: Literal["agrees", "finding"] = "agrees" if self.verdict == "healthy" else "finding"
        said: list[Block] = [Callout(kind, (self.diagnosis.sentence,), f"The gradient is {self.verdict}")]
        said += [Paragraph((text,)) for text in (self.cause, self.remedy, self._depth(), *self.notes) if text]
        if self.disagreements:
            said.append(Callout("finding", (self._apart(),), "Prediction and measurement disagree"))
        if self.diagnosis.remedies:
            said.append(Section("What was tried", tuple(self._remedies()), "result", "remedies"))
        blocks = (*said, self.plot("backward"), self.plot("forward"), self._table())
        return Document(f"Signal and gradient through {self.title}", blocks, record=self.to_dict())

    def _depth(self) -> str:
        if self.chi is None or self.depth_scale is None:
            return ""
        return (
            f"From layer to layer the mean square of the error signal is multiplied by chi = {self.chi:.4g} on average: "
            f"depth scale 1/|ln chi| = {self.depth_scale:.3g} layers."
        )

    def _apart(self) -> str:
        first, more = self.disagreements[0], len(self.disagreements) - 1
        also = f" (and in {more} more places)" if more else ""
        over = f"the mean over {self.seeds} draws of the weights" if self.seeds else "this network"
        return (
            f"{first}{also}; measured is {over}. The theory takes widths to be large and weights to be independent draws: with "
            "narrow layers, trained weights or rare large gradients, go by the measurement."
        )

    def _remedies(self) -> list[Block]:
        head = (("what",), ("predicted",), ("on a copy",), ("the copy is",))
        whole = "all layers"
        rows = tuple(
            (r.words if r.over == whole else f"{r.words}; over {r.over}", Num(r.predicted), Num(r.measured), r.after)
            for r in self.diagnosis.remedies
        )
        now = ("as it is", Num(self.diagnosis.predicted), Num(self.diagnosis.ratio), self.verdict)
        caption = "The gradient's norm at the first layer over that at the last: predicted, and applied to a copy"
        blocks: list[Block] = [Table(head, (now, *rows), caption, (1, 2))]
        return blocks + ([Code(self.code, "python")] if self.code else [])

    def _table(self) -> Table:
        head = (("layer",), ("activation",), ("forward",), ("measured",), ("backward",), ("measured",), ("band ×",),
                ("correlation",), ("gain",))  # fmt: skip
        rows: tuple[tuple[Part | Parts | None, ...], ...] = tuple(
            (x.name, x.activation, *(_number(v) for v in (*x.forward, *x.backward)), Num(x.band), _number(x.correlation),
             _number(x.gains[1] if x.gains else math.nan))
            for x in self.layers
        )  # fmt: skip
        return Table(head, rows, "Mean squares, predicted and measured, per layer", (2, 3, 4, 5, 6, 7, 8))

    def plot(self, way: str) -> Plot:
        """The mean squares over the layers: predicted with its band, measured, and drawn again."""
        which = 0 if way == "forward" else 1
        points = [(k + 1.0, getattr(x, way), x.bands[which]) for k, x in enumerate(self.layers)]
        series = [
            _series("predicted", [(k, p) for k, (p, _), _ in points]),
            _series("band, upper end", [(k, p * b) for k, (p, _), b in points], "area"),
            _series("band, lower end", [(k, p / b) for k, (p, _), b in points], "area"),
            _series("measured", [(k, m) for k, (_, m), _ in points], "points"),
        ]
        if self.seeds:
            over = [(k + 1.0, x.seeds[which].mean) for k, x in enumerate(self.layers) if x.seeds is not None]
            series.append(_series(f"mean over {self.seeds} draws of the weights", over, "points"))
        what = "pre-activation" if way == "forward" else "error signal"
        return Plot(tuple(s for s in series if s is not None), "layer", f"mean square of the {what}", (f"The {way} pass.",),
                    f"Mean square of the {what} per layer, predicted and measured", log_y=True)  # fmt: skip


def _number(value: float) -> Part | Parts | None:
    return Num(value) if math.isfinite(value) else None


def _series(label: str, points: list[Pair], style: Literal["line", "points", "area"] = "line") -> Series | None:
    """One curve on a logarithmic axis: what is 0 or not finite is left out."""
    kept = [(a, b) for a, b in points if math.isfinite(b) and b > 0]
    if not kept:
        return None
    xs, ys = zip(*kept, strict=True)
    return Series(label, xs, ys, style)
