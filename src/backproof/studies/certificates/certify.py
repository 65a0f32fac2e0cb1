"""Bound a derivative for every weight in a box, from above and from below: ``bp.certify``.

The upper bound is the joint graph read over balls (exact fractions, rounded outwards by Arb where they must be); the
lower bound is a witness, found by a search and then evaluated in the same exact arithmetic; the typical size is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

import flint
import torch
from torch import Tensor, nn

from ...capturing import capture
from ...document.blocks import Block, Callout, Derivation, Document, Equation, Paragraph, Section, Table
from ...document.math import Num
from ...domains.balls import Box
from ...domains.variances import Moments, read_variances
from ...errors import InputError, MissingRule
from ...graph import Graph, Node
from ...progress import task
from ...result import Result, plain, written
from ..caveats import require_all_inputs, require_forward_gradient, require_numbers
from ..verdicts import Evidence, summary
from ..writing.worked import evidence_section
from .boxes import Region, Target, region_of, targets_of
from .confirming import confirm
from .extremes import Extreme, derivatives_at, drawn_from, nudged, quick, search
from .proving import as_fraction, decimal, number, proof_of
from .upper import CUTS, at_point, only, worst

__all__ = ["Certificate", "Lower", "certify", "certify_graph", "predicted_rms", "sampled_rms"]

SAMPLES, MOST_WEIGHTS, FULL = 4000, 1_000_000, 6
Bound = Fraction | float


class Lower(float):
    """A lower bound that a witness attains: a float with ``.exact`` (a Fraction, or None) and ``.witness``."""

    witness: dict[str, Tensor]
    exact: Fraction | None

    def __new__(cls, value: Bound, witness: dict[str, Tensor]) -> Lower:
        """The bound rounded down to a float."""
        made = super().__new__(cls, _float(value, -1))
        made.witness, made.exact = witness, value if isinstance(value, Fraction) else None
        return made


@dataclass(frozen=True)
class Certificate(Result):
    """What is proved about |∂f/∂w| for every weight in a box.

    Args:
        of, wrt: what is differentiated, and with respect to what (with the entry, where one was named).
        upper: no weight in the box exceeds it: a Fraction where it is one, else a float rounded up.
        lower: a value that is attained, a float rounded down, with ``.witness`` (parameter or input name -> tensor that
            attains it) and ``.exact`` (a Fraction where it is one).
        typical: the root mean square for weights drawn uniformly from the box, sampled.
        predicted: the same by mean-field theory (None where it does not apply).
        samples, largest_sampled: how many were drawn, and the largest derivative among them.
        derivation: the proof, line by line; ``proof`` is the same as text.
        box: the box in words.
        method: how it was bounded: "intervals" (with exact ends), or "affine forms" where those are sharper, perhaps
            "affine forms over 64 parts of the box".
        evidence: the bound and the witness against autograd on the program as it stands, and against 50 digits.
    """

    of: str
    wrt: str
    upper: Bound
    lower: Lower
    typical: float
    predicted: float | None
    samples: int
    largest_sampled: float
    derivation: tuple[Equation, ...]
    box: tuple[tuple[str, str], ...]
    evidence: tuple[Evidence, ...] = ()
    title: str = ""
    method: str = "intervals"
    region: Region | None = field(default=None, repr=False, compare=False)
    target: Target | None = field(default=None, repr=False, compare=False)

    @property
    def is_tight(self) -> bool:
        """Whether the witness attains the upper bound exactly."""
        return isinstance(self.upper, Fraction) and self.lower.exact == self.upper

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether any comparison disagrees."""
        return any(e.agrees is False for e in self.evidence)

    @property
    def _words(self) -> str:
        """What is special about the method."""
        parts = self.method.partition(" over ")[2].partition(" ")[0]
        return (_AFFINE if self.method.startswith("affine") else "") + (_PARTS.format(parts) if parts else "")

    @property
    def witness(self) -> dict[str, Tensor]:
        """The weights that attain the lower bound."""
        return self.lower.witness

    @property
    def proof(self) -> str:
        """The proof as plain text, one line for each error signal."""
        lines = []
        for e in self.derivation:
            chain = " = ".join(written(part)[0] for part in (e.left, *e.steps))
            lines.append(f"{chain}    ({e.why})" if e.why else chain)
        return "\n".join(lines)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The certificate as plain data; exact bounds also as fractions in words."""
        exact = {"upper": self.upper, "lower": self.lower.exact}
        return {
            "of": self.of,
            "wrt": self.wrt,
            "box": dict(self.box),
            "upper": _float(self.upper, 1),
            "lower": float(self.lower),
            "exact": {k: str(v) for k, v in exact.items() if isinstance(v, Fraction)},
            "tight": self.is_tight,
            "method": self.method,
            "witness": plain(self.witness, full),
            "typical": self.typical,
            "predicted": self.predicted,
            "samples": self.samples,
            "largest_sampled": self.largest_sampled,
            "proof": self.proof.splitlines(),
            "evidence": [e.to_dict() for e in self.evidence],
        }

    def document(self) -> Document:
        """The bracket and the proof."""
        name = f"A certificate for |∂{self.of}/∂{self.wrt}|" + (f" of {self.title}" if self.title else "")
        blocks = self.blocks() + ([evidence_section(self.evidence)] if self.evidence else [])
        verdict = summary(self.evidence) if self.evidence else ""
        standing = "finding" if self.finding else "agrees" if self.evidence else ""
        return Document(name, tuple(blocks), "", verdict, standing, self.to_dict())  # type: ignore[arg-type]

    def blocks(self) -> list[Block]:
        """The box, the bracket, the proof and the witness."""
        rows = (
            ("never more than", _shown(self.upper, 1), "proved"),
            ("attained", _shown(self.lower.exact or float(self.lower), -1), "by the witness, evaluated exactly"),
            ("typical", Num(self.typical), f"root mean square of {self.samples:,} uniform draws"),
        )
        head = (("",), (f"|∂{self.of}/∂{self.wrt}|",), ("how",))
        verdict = "The bound is attained: it cannot be improved." if self.is_tight else _gap(self)
        return [
            Table((("what",), ("its box",)), self.box, "For every"),
            Table(head, rows, "The bracket"),
            Callout("agrees" if self.is_tight else "note", (verdict,)),
            Section(
                "The proof",
                (Paragraph((_INTRODUCTION + self._words,)), Derivation(self.derivation)),
                "backward",
                "proof",
            ),
            Section("The witness", (_weights(self.witness),), "result", "witness"),
        ]


_INTRODUCTION = (
    "M stands for the largest absolute value of an error signal, the derivative with respect to the value that is "
    "named, over all entries and all weights in the box. Each line uses the one of the layer behind it."
)

_AFFINE = (
    " Every value is kept as c + g₁ ε₁ + g₂ ε₂ + ... ± e with all |ε| ≤ 1, the same ε along all paths, so that what cancels is not "
    "counted: a line below is at most the product that it speaks of, and often much less. Functions are replaced by "
    "lines with an error that Arb has enclosed, and the rounding of every sum is added to e."
)
_PARTS = (
    " The entries of the box that move most what goes into the functions are halved, and each of the {} parts is bounded "
    "by itself: a line holds for the worst of them."
)


def _gap(c: Certificate) -> str:
    ratio = float(c.lower) / float(c.upper) if c.upper else 1.0
    return f"The witness reaches {100 * ratio:.4g} % of the bound; the true maximum lies between the two."


def _shown(value: Bound, sign: int) -> Num:
    return Num(float(value)) if value == 0 or not math.isfinite(value) else number(Fraction(value), sign)


def _weights(witness: Mapping[str, Tensor], most: int = 24) -> Table:
    rows = tuple((name, _entries(t, most)) for name, t in witness.items())
    return Table((("name",), ("values",)), rows)


def _entries(tensor: Tensor, most: int) -> str:
    flat = tensor.reshape(-1, tensor.shape[-1]) if tensor.ndim > 1 else tensor.reshape(1, -1)
    if tensor.numel() > most:
        return (
            f"{' × '.join(map(str, tensor.shape))} entries from {float(tensor.min()):.6g} to {float(tensor.max()):.6g}"
        )
    return "; ".join(", ".join(f"{float(v):.6g}" for v in row) for row in flat)


def _float(value: Bound, sign: int) -> float:
    """The nearest float on the safe side: not below (1) or not above (-1)."""
    try:
        found = float(value)
    except OverflowError:
        return math.inf
    if math.isfinite(found) and (Fraction(found) - value) * sign < 0:
        return math.nextafter(found, sign * math.inf)
    return found


def certify(
    model: nn.Module | Graph | Any,
    *inputs: Any,
    wrt: Any,
    weights: Any = (-1, 1),
    biases: Any = None,
    inputs_in: Any = None,
    loss: Any = None,
    targets: Any = None,
    seed: int = 0,
    effort: Literal["full", "bound"] = "full",
    samples: int = SAMPLES,
) -> Certificate:
    """Bound |∂f/∂w| for every weight in a box, rigorously, with weights that come as close as could be found.

    The upper bound follows the chain rule in absolute values, δ(k-1) ≤ max|f'| Σ|w| δ(k), in exact fractions; where the
    box is narrow or the inputs vary, also affine forms, in which what cancels along different paths is not counted twice
    (:mod:`backproof.domains.affine`). The sharper of the two holds.

    Args:
        model: a network (or its Graph) whose output, or loss, is f; of several outputs the worst is taken.
        *inputs: example inputs, held as they are unless ``inputs_in`` frees them.
        wrt: a parameter, input or value by name, ``"layers.0.weight"`` or one entry ``"layers.0.weight[0, 0]"``, or the
            parameter itself, or a list of these. The bound is the largest over the entries.
        weights: (lo, hi) for every weight, a mapping from names to (lo, hi), or None to hold the model's own. A decimal
            number means that decimal (0.1 is one tenth); a string may be a fraction ("1/3").
        biases: the same for parameters that are only added; None holds the model's own.
        inputs_in: the same for the inputs; ends may be lists, one number for each entry.
        loss, targets: as for :func:`backproof.capture`.
        seed: of the search and of the sample.
        effort: "full", or "bound" where the upper bound matters and the witness may be a simple one (no search).
        samples: how many weights are drawn for the typical size (fewer in large networks).

    Returns:
        The certificate: ``upper``, ``lower`` with ``lower.witness``, ``typical``, ``proof``.

    Raises:
        InputError: the box is empty or not finite, or ``wrt`` names nothing, or there is no bound.
        MissingRule: the balls domain cannot read an operation; all of them are named.

    Example:
        >>> import torch, backproof as bp
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Sigmoid(), torch.nn.Linear(2, 1))
        >>> bp.certify(net, torch.tensor([2.0, 1.0]), wrt="0.weight[0, 0]", weights=(-3, 3)).upper
        Fraction(3, 2)
    """
    graph = model if isinstance(model, Graph) else capture(model, *inputs, loss=loss, targets=targets)
    require_numbers(graph)
    require_all_inputs(graph, "a certificate is about every weight in a box")
    require_forward_gradient(graph, "a certificate is about the gradient")
    return certify_graph(graph, wrt, weights, biases, inputs_in, seed, effort, samples)


def certify_graph(
    graph: Graph,
    wrt: Any,
    weights: Any = (-1, 1),
    biases: Any = None,
    inputs_in: Any = None,
    seed: int = 0,
    effort: Literal["full", "bound"] = "full",
    samples: int = SAMPLES,
) -> Certificate:
    """:func:`certify` for a captured network."""
    size = sum(n.size for n in graph.parameters)
    if size > MOST_WEIGHTS:
        raise InputError(f"the network has {size:,} parameters; a certificate is made for up to {MOST_WEIGHTS:,}")
    region = region_of(graph, weights, biases, inputs_in)
    with task("certifying", 3) as advance:
        bounded = worst(targets_of(graph, wrt), region, FULL if effort == "full" else CUTS)
        target, upper = bounded.target, bounded.upper
        advance(note="proved")
        found = (search if effort == "full" else quick)(target, region, graph, seed)
        lower = _attained(target, region, found, seed)
        advance(note="searched")
        typical, largest, count = sampled_rms(target, region, seed, samples)
    entry = "" if target.index is None else f"[{', '.join(map(str, target.index))}]"
    made = Certificate(
        of=target.of.name,
        wrt=f"{target.wrt.name}{entry}",
        upper=upper,
        lower=lower,
        typical=typical,
        predicted=predicted_rms(target, region),
        samples=count,
        largest_sampled=largest,
        derivation=proof_of(target, bounded.boxes),
        method=bounded.method,
        box=tuple((n.name, _box_in_words(region.boxes[n], n in region.free)) for n in region.boxes),
        title=graph.title,
        region=region,
        target=target,
    )
    return replace(made, evidence=confirm(made, seed)) if effort == "full" else made


def _box_in_words(box: Box, is_free: bool) -> str:
    if not is_free:
        return "as given"
    ends = box.distinct()
    lo, hi = min(a for a, _ in ends), max(b for _, b in ends)
    within = f"[{_end(lo, -1)}, {_end(hi, 1)}]"
    if len(ends) == 1:
        return within
    halves = [(b - a) / 2 for a, b in ends]
    reach = f"{float(as_fraction(max(halves))):.6g}"
    alike = max(halves) - min(halves) <= max(halves) * flint.fmpq(1, 10**9)
    return f"{'' if alike else 'up to '}±{reach} around {len(ends)} numbers, within {within}"


def _end(value: Any, sign: int) -> str:
    text = str(value)
    if len(text) <= 12:
        return text
    near = f"{float(as_fraction(value)):.6g}"  # a decimal that the float stands for, as 0.1
    return near if float(near) == float(as_fraction(value)) else decimal(as_fraction(value), sign)


def _attained(target: Target, region: Region, found: Extreme, seed: int = 0) -> Lower:
    """The witness's derivative in exact arithmetic; where it lies on a tie or a kink, of the best point near it."""
    made = _exactly(target, region, found.weights, found.index)
    if float(made) >= found.size * (1 - 1e-9) or not region.free:
        return made
    near = (_exactly(target, region, w, found.index) for w in nudged(region, found.weights, seed))
    return max([made, *near], key=float)


def _exactly(target: Target, region: Region, given: Mapping[Node, Tensor], index: tuple[int, ...]) -> Lower:
    """The derivative at a point; where it is no fraction, a float rounded down."""
    weights = {n: given[n] if n in given else region.clamped(n) for n in region.free}
    box = at_point(target, only(region.point(weights), target))
    cut = tuple(slice(i, i + 1) for i in index)
    lo, hi = box.lo[cut].reshape(-1)[0], box.hi[cut].reshape(-1)[0]
    size = flint.fmpq(0) if lo <= 0 <= hi else min(abs(lo), abs(hi))
    witness = {n.name: t for n, t in weights.items()}
    return Lower(as_fraction(size) if lo == hi else _float(as_fraction(size), -1), witness)


def sampled_rms(target: Target, region: Region, seed: int = 0, samples: int = SAMPLES) -> tuple[float, float, int]:
    """The root mean square over uniform draws from the box, the largest of them, and how many there were."""
    free = [n for n in region.free if n in set(target.graph.nodes)]
    size = max(sum(n.size for n in free), 1)
    count = max(64, min(samples, 20_000_000 // size)) if free else 1
    generator = torch.Generator().manual_seed(seed + 1)
    squares, largest, done = 0.0, 0.0, 0
    while done < count:
        part = min(count - done, max(1, 2_000_000 // size))
        draw = {n: drawn_from(region, n, part, generator) for n in free}
        with torch.no_grad():
            found = derivatives_at(target, region, draw).reshape(part if free else 1, -1)
        squares += float((found**2).mean(1).sum())
        largest, done = max(largest, float(found.abs().max())), done + part
    return math.sqrt(squares / count), largest, count


def predicted_rms(target: Target, region: Region) -> float | None:
    """The root mean square by mean-field theory: the joint graph over variances; None where it cannot be read."""
    leaves = {n: _uniform_moments(region, n) for n in target.graph.nodes if n in region.boxes}
    try:
        second = read_variances(target.graph, leaves)[target.node].second
    except MissingRule:
        return None
    return math.sqrt(float(second.mean() if target.index is None else second[target.index]))


def _uniform_moments(region: Region, node: Node) -> Moments:
    if node not in region.free:
        return Moments.known(region.held[node].numpy())
    lo, hi = (end.numpy() for end in region.ends(node))
    return Moments((lo + hi) / 2, (lo**2 + lo * hi + hi**2) / 3)
