"""From the likelihood to the loss: product, logarithm, sum, constants dropped, sign; each assumption at its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import Tensor

from ...document.blocks import Block, Derivation, Equation, Items, Paragraph, Section, Table
from ...errors import FormulaError
from ...graph import Node
from ..answer import Answer
from ..optimizer.sympy_math import formula_of
from ..prepare import Prepared
from ..program import Program, run_original
from ..trace import Step
from ..verdicts import TOLERANCE, Evidence
from .densities import Density, density, quadrature, spelled
from .from_density import Chain, equations
from .general import _flat, _unflat, optimum

__all__ = ["likelihood"]

DRAWS = 6
CLOSE = 1e-6


@dataclass(frozen=True)
class _Model:
    """What the likelihood is about: the program, the density of a point, and its names."""

    program: Program
    found: Density
    text: str
    y: str
    learned: tuple[str, ...]
    loss: Node

    @property
    def count(self) -> int:
        return self.program.start[self.y].numel()


def likelihood(prepared: Prepared, steps: Sequence[Step], argument: str = "") -> Answer:
    """The analysis ``likelihood:DENSITY``: the loss that the density leads to, and whether it is the problem's.

    Args:
        argument: the density of a point without its constant, in the problem's own names: "exp(-(y - f)**2)"; for a y
            that takes few values, these after a comma: "f**y * (1 - f)**(1 - y), y in {0, 1}".

    Raises:
        FormulaError: the density cannot be read.
    """
    model = _model(prepared.program, spelled(argument))
    if model.found.total is None:
        return Answer(
            remarks=(
                f"The constant K of the density {argument} was not found as a formula; nothing is derived from it.",
            )
        )
    slope, offset, error = _line(model)
    agrees = error <= TOLERANCE and slope > 0
    lowest = optimum(prepared, steps).answers.get("optimum", {}) if agrees else {}
    answers = _answers(model, slope, offset, agrees, lowest)
    evidence = (*_density_evidence(model), *([_same(model, error, agrees)] if agrees else []), *_argmin(model, lowest))
    remarks = () if agrees else (_PARTED.format(loss=model.loss.name),)
    blocks = (Section("From the likelihood to the loss", _page(model, slope, agrees), "loss", "likelihood"),)
    return Answer(answers, blocks, evidence, remarks, _equations(model))


_PARTED = (
    "The loss {loss} is not what maximum likelihood under this density leads to: minus the log-likelihood is no rising "
    "linear function of it, so the two have different minima in general."
)


def _model(program: Program, argument: str) -> _Model:
    """Find what the density's names are."""
    place = "the density of likelihood:..."
    if program.graph.loss is None:
        raise FormulaError(f"{place} belongs to a problem with a loss, and this one has none")
    if not argument:
        raise FormulaError(f'{place} is missing: write "likelihood:exp(-(y - f)**2)" with the names of the problem')
    leaves = {n.name: n for n in program.given}
    names = [n.name for n in program.graph.nodes if n.role != "helper" and n.role != "constant" and n.is_float]
    plain = [n for n in names if n.isidentifier()]
    observed = [n for n in plain if n in leaves and n not in program.trained and leaves[n].shape and _in(argument, n)]
    if len(observed) != 1:
        raise FormulaError(
            f"{place} must mention one given list of observations beside the prediction, as y in exp(-(y - f)**2); "
            f"{argument!r} mentions {', '.join(observed) or 'none'}; given lists: "
            + ", ".join(n for n in plain if n in leaves and n not in program.trained and leaves[n].shape)
        )
    fixed = [n for n in plain if n in leaves and n not in program.trained]
    found = density(argument, observed[0], fixed, plain, place)
    learned = tuple(s.name for s in found.others if s.name not in fixed)
    if not learned:
        raise FormulaError(f"{place} mentions nothing that is learned: {argument!r} has no prediction in it")
    return _Model(program, found, argument, observed[0], learned, program.graph.loss)


def _in(text: str, name: str) -> bool:
    import re

    return re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text) is not None


# --- numbers ----------------------------------------------------------------------------------------------------------------
def _neglog(model: _Model, vector: Tensor) -> tuple[float, float]:
    """(-log likelihood, the problem's loss) at parameters, from the user's own program and the density itself."""
    leaves = {**model.program.start, **_unflat(model.program, vector)}
    with torch.no_grad():
        values = {**leaves, **run_original(model.program.graph, leaves)}
    symbols = (model.found.y, *model.found.others)
    function = sympy.lambdify(symbols, sympy.log(model.found.constant * model.found.kernel), "numpy")
    arrays = torch.broadcast_tensors(*(values[s.name].double() for s in symbols))
    each = function(*(a.reshape(-1).numpy() for a in arrays))
    return -float(each.sum()), float(values[model.loss.name])


def _draws(model: _Model) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = _flat(model.program, model.program.start)
    return [first + 0.5 * torch.randn(first.shape, generator=generator, dtype=first.dtype) for _ in range(DRAWS)]


def _line(model: _Model) -> tuple[float, float, float]:
    """-log likelihood = slope · loss + offset at random parameters: slope, offset, and the largest relative deviation."""
    pairs = torch.tensor([_neglog(model, v) for v in _draws(model)], dtype=torch.float64)
    pairs = pairs[torch.isfinite(pairs).all(1)]
    if len(pairs) < 3:
        return 0.0, 0.0, float("inf")
    a, b = pairs[:, 0], pairs[:, 1]
    far = int((b - b[0]).abs().argmax())
    if not float((b[far] - b[0]).abs()) > 0:
        return 0.0, 0.0, float("inf")
    slope = float((a[far] - a[0]) / (b[far] - b[0]))
    offset = float(a[0] - slope * b[0])
    spread = float((a - a.mean()).abs().max()) or 1.0
    return slope, offset, float((a - slope * b - offset).abs().max()) / spread


def _answers(model: _Model, slope: float, offset: float, agrees: bool, lowest: Mapping[str, Any]) -> dict[str, Any]:
    own = {k: v for k, v in lowest.items() if k not in ("hessian_eigenvalues", "starts", "reached", model.loss.name)}
    found: dict[str, Any] = {
        "assumptions": list(_assumptions(model)),
        "equivalent": agrees,
        "equivalence": _equivalence(model, slope, agrees),
        "loss_formula": _loss_text(model),
        "constant": str(model.found.constant),
        "variance": None if model.found.variance is None else str(model.found.variance),
        "log_likelihood": {"factor": -slope, "constant": -offset} if agrees else None,
    }
    return {**found, **own, **({"loss": lowest[model.loss.name]} if model.loss.name in lowest else {})}


def _loss_text(model: _Model) -> str:
    return f"sum({model.found.loss})"


def _equivalence(model: _Model, slope: float, agrees: bool) -> str:
    if not agrees:
        return f"minimizing {model.loss.name} is not maximizing this likelihood"
    factor = "" if abs(slope - 1) < 1e-9 else f"{slope:g} "
    return (
        f"minimizing {model.loss.name} is maximizing the likelihood: -log likelihood = {factor}{model.loss.name} + a "
        "constant, for every value of the parameters"
    )


def _assumptions(model: _Model) -> tuple[str, ...]:
    y, f = model.y, ", ".join(model.learned)
    constant = str(model.found.constant)
    found = [
        f"independence: given the parameters, the {model.count} observations {y} are drawn independently",
        f"identical model: every {y} has the same density around its own {f}, with the same parameters",
        f"noise: the density of {y} is K {model.text}{_kind(model)}",
    ]
    if model.found.variance is not None and not model.found.support:
        variance = model.found.variance
        held = "one constant variance" if not variance.free_symbols else "the variance"
        found.append(f"{held} {variance}, the same for every point" + ("" if variance.free_symbols else " and known"))
    return (*found, f"K = {constant}, so that the density {'sums' if model.found.support else 'integrates'} to 1")


def _kind(model: _Model) -> str:
    """The name of the noise, from its shape in y."""
    y = model.found.y
    if model.found.support:
        return ", a distribution over " + ", ".join(map(str, model.found.support))
    power = sympy.expand_log(sympy.log(model.found.kernel), force=True)
    if power.is_polynomial(y) and sympy.degree(sympy.expand(power), y) == 2:
        return f" (Gaussian noise around {model.learned[0]})"
    if power.has(sympy.Abs) and not power.has(y**2):
        return f" (Laplace noise around {model.learned[0]})"
    return ""


# --- evidence -----------------------------------------------------------------------------------------------------------------
def _density_evidence(model: _Model) -> tuple[Evidence, ...]:
    """K by quadrature; and exp of minus what was derived is the density again."""
    found, worst = model.found, 0.0
    leaves = model.program.start
    values = {**leaves, **{n: t.detach() for n, t in run_original(model.program.graph, leaves).items()}}
    for k in range(min(3, model.count)):
        at = {s: float(values[s.name].reshape(-1)[k if values[s.name].numel() > 1 else 0]) for s in found.others}
        worst = max(worst, abs(quadrature(found, at) - 1))
    generator = torch.Generator().manual_seed(1)
    back = sympy.lambdify(
        (found.y, *found.others), sympy.exp(-found.loss - found.dropped) / (found.constant * found.kernel)
    )
    numbers = (0.1 + 0.8 * torch.rand(5, 1 + len(found.others), generator=generator, dtype=torch.float64)).tolist()
    error = max(abs(float(back(*row)) - 1) for row in numbers)
    ways = "summing it" if found.support else "numerical integration"
    return (
        Evidence("K", ways, worst <= TOLERANCE, worst, min(3, model.count), min(3, model.count)),
        Evidence("the derived loss", "e^-loss gives the density back, in numbers", error <= TOLERANCE, error, 5, 5),
    )


def _same(model: _Model, error: float, agrees: bool) -> Evidence:
    what = f"-log likelihood minus {model.loss.name} is constant over random parameters"
    return Evidence(what, "the densities multiplied, on the program as it stands", agrees, error, DRAWS, DRAWS)


def _argmin(model: _Model, lowest: Mapping[str, Any]) -> tuple[Evidence, ...]:
    """The likelihood itself is largest at the optimum of the loss: its slopes there by differences."""
    if not lowest or any(n not in lowest for n in model.program.trained):
        return ()
    at = torch.cat([torch.tensor(lowest[n], dtype=torch.float64).reshape(-1) for n in model.program.trained])
    worst = 0.0
    start = _slope(model, _flat(model.program, model.program.start))
    for value in _slope(model, at):
        worst = max(worst, abs(value) / (max(map(abs, start)) or 1.0))
    what = "the likelihood is stationary at the optimum of the loss"
    return (Evidence(what, "differences of the log-likelihood", worst <= CLOSE, worst, at.numel(), at.numel()),)


def _slope(model: _Model, at: Tensor, h: float = 1e-5) -> list[float]:
    found = []
    for i in range(at.numel()):
        step = torch.zeros_like(at)
        step[i] = h
        found.append((_neglog(model, at + step)[0] - _neglog(model, at - step)[0]) / (2 * h))
    return found


# --- the page -------------------------------------------------------------------------------------------------------------------
def _chain(model: _Model) -> Chain:
    """What the equations are about."""
    per_point = frozenset(n for n in (model.y, *(s.name for s in model.found.others)) if _per_point(model, n))
    parameters = model.program.trained[0] if len(model.program.trained) == 1 else ""
    kind = _kind(model).strip(" ()")
    return Chain(model.found, model.y, model.learned, per_point, sympy.Integer(model.count), parameters, kind)


def _per_point(model: _Model, name: str) -> bool:
    return model.program.graph.by_name[name].size > 1


def _equations(model: _Model) -> tuple[Equation, ...]:
    return equations(_chain(model))


def _page(model: _Model, slope: float, agrees: bool) -> tuple[Block, ...]:
    intro = Paragraph(("The likelihood is the density of all observations, as a function of the parameters:",))
    items = Items(tuple((a,) for a in _assumptions(model)), True)
    verdict = Paragraph((_equivalence(model, slope, agrees) + ".",))
    return (
        intro, Derivation(_equations(model)), verdict, Paragraph(("What was assumed on the way:",)), items,
        Paragraph((_WHERE,)), _others(model),
    )  # fmt: skip


_WHERE = (
    "Least squares and maximum likelihood part as soon as one of these fails. The same derivation with other densities for "
    "the same observations and predictions:"
)


def _others(model: _Model) -> Table:
    """Other noise for the same names: the loss that the same derivation gives."""
    y, f = model.y, model.learned[0]
    scale = "s" if "s" not in model.program.graph.by_name else "scale"
    kinds = (
        ("Gaussian, variance 1/2", f"exp(-({y} - {f})**2)", ()),
        ("Gaussian, one unknown standard deviation", f"exp(-({y} - {f})**2 / (2 * {scale}**2))", (scale,)),
        ("Laplace", f"exp(-abs({y} - {f}))", ()),
        ("Bernoulli", f"{f}**{y} * (1 - {f})**(1 - {y}), {y} in {{0, 1}}", ()),
    )
    rows = []
    for name, text, more in kinds:
        found = density(text, y, (), (y, f, *more), "the density")
        loss = formula_of(found.loss)
        rows.append((name, formula_of(found.kernel), formula_of(found.constant), loss, _remark(found, model)))
    return Table((("noise",), ("density without K",), ("K",), ("loss of a point",), ("",)), tuple(rows))


def _remark(found: Density, model: _Model) -> str:
    square = (found.y - sympy.Symbol(model.learned[0], real=True)) ** 2
    if sympy.simplify(found.loss - square) == 0:
        return "least squares"
    if found.support:
        return "cross-entropy"
    if found.loss.has(sympy.Abs):
        return "absolute errors"
    if found.loss.has(sympy.log):
        return "not least squares: the scale is weighed too; with a scale of its own for every point, weighted squares"
    return ""
