"""From the likelihood to the loss, for a named noise or a density of one's own: ``bp.likelihood("gaussian")``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mpmath
import sympy
import torch
import torch.nn.functional as F

from ..document.blocks import Block, Derivation, Document, Equation, Items, Paragraph, Section
from ..document.math import Add, BigSum, Call, Div, Expr, Function, Mul, Neg, Num, Partial, Pow, Sym, Words
from ..errors import InputError
from ..result import Result, written
from .analyses.densities import Density, density
from .analyses.from_density import Chain, equations
from .optimizer.sympy_math import formula_of
from .verdicts import TOLERANCE, Evidence, summary
from .writing.worked import evidence_section

__all__ = ["NOISES", "Likelihood", "LikelihoodLine", "likelihood"]


@dataclass(frozen=True)
class LikelihoodLine:
    """One line of the derivation: its name, the equation in LaTeX and as text, the assumption or rule that it uses."""

    name: str
    formula: str
    text: str
    rule: str


@dataclass(frozen=True)
class Likelihood(Result):
    """A loss derived from a likelihood: ``equations``, ``loss``, ``assumptions``, ``first_error``, ``evidence``."""

    title: str
    lines: tuple[Equation, ...] = field(repr=False)
    assumptions: tuple[str, ...]
    loss: str
    remarks: tuple[str, ...]
    first_error: Equation | None = field(repr=False)
    evidence: tuple[Evidence, ...]

    @property
    def equations(self) -> tuple[LikelihoodLine, ...]:
        """Product, density, K, logarithm, put in, constants dropped, sign; then the loss's own derivative."""
        return tuple(_line(e) for e in (*self.lines, *([self.first_error] if self.first_error else [])))

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether an independent way disagrees."""
        return any(e.agrees is False for e in self.evidence)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record."""
        lines = [{"name": e.name, "formula": e.formula, "text": e.text, "rule": e.rule} for e in self.equations]
        return {
            "title": self.title,
            "loss": self.loss,
            "assumptions": list(self.assumptions),
            "derivation": lines,
            "remarks": list(self.remarks),
            "evidence": [e.to_dict() for e in self.evidence],
        }

    def document(self) -> Document:
        """The derivation as a page."""
        blocks: list[Block] = [
            Paragraph(("The likelihood is the density of all observations, as a function of the parameters w.",)),
            Section("From the likelihood to the loss", (Derivation(self.lines),), "loss", "likelihood"),
            Section("Assumptions", (Items(tuple((a,) for a in self.assumptions), True),), "given", "assumptions"),
        ]
        if self.first_error is not None:
            words = Paragraph(("What backpropagation starts from:",))
            blocks.append(Section("First error signal", (words, Derivation((self.first_error,))), "backward", "first"))
        blocks += [Paragraph((r,)) for r in self.remarks]
        blocks.append(evidence_section(self.evidence))
        return Document(
            self.title, tuple(blocks), "maximum likelihood", summary(self.evidence),
            "finding" if self.finding else "agrees", self.to_dict(),
        )  # fmt: skip


def _line(equation: Equation) -> LikelihoodLine:
    (name, left), sides = written(equation.left), [written(s) for s in equation.steps]
    latex = " = ".join([left, *(s[1] for s in sides)])
    return LikelihoodLine(name, latex, " = ".join([name, *(s[0] for s in sides)]), equation.why)


# --- the noises ---------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Noise:
    """A named noise.

    Args:
        title: what it is called.
        text: its density without K in the names y, learned and known, for :func:`density`; "" where it is built here.
        learned, known: the names that depend on the parameters, and those that are given.
        says: the assumption, in words.
        link: the prediction as a function of the score s that gives the first error signal its plain form.
        then: what the loss is called.
    """

    title: str
    text: str
    learned: tuple[str, ...]
    known: tuple[str, ...]
    says: str
    link: Callable[[Any], Any] | None
    then: str


def _identity(s: Any) -> Any:
    return s


def _logistic(s: Any) -> Any:
    return 1 / (1 + sympy.exp(-s))


NOISES: dict[str, _Noise] = {
    "gaussian": _Noise(
        "Gaussian noise of known variance", "exp(-(y - mu)**2 / (2 * sigma**2))", ("mu",), ("sigma",),
        "noise: y is Gaussian around the prediction mu, with one known variance sigma^2 for every point", _identity,
        "up to the positive factor 1/(2 sigma^2), which moves no minimum, this is least squares"),
    "gaussian-unknown": _Noise(
        "Gaussian noise of unknown variance", "exp(-(y - mu)**2 / (2 * sigma**2))", ("mu", "sigma"), (),
        "noise: y is Gaussian around the prediction mu, with a variance sigma^2 that is learned too", None,
        "the logarithm of sigma stays: without it sigma would grow without bound"),
    "laplace": _Noise(
        "Laplace noise", "exp(-abs(y - mu) / b)", ("mu",), ("b",),
        "noise: y has the Laplace density around the prediction mu, with one known scale b", None,
        "up to the positive factor 1/b this is the sum of absolute errors"),
    "bernoulli": _Noise(
        "Bernoulli observations", "p**y * (1 - p)**(1 - y), y in {0, 1}", ("p",), (),
        "y is 1 with probability p and 0 otherwise", _logistic, "this is the binary cross-entropy"),
    "poisson": _Noise(
        "Poisson counts", "", ("lambda",), (), "y is a count with the Poisson distribution of mean lambda", sympy.exp,
        "the logarithm of y! is dropped with the constants: it depends on the observation alone"),
}  # fmt: skip
"""The noises that ``bp.likelihood`` knows by name, besides "categorical"."""


def likelihood(noise: str, *, y: str = "y", known: Sequence[str] = (), learned: Sequence[str] = ()) -> Likelihood:
    """Derive the loss that maximum likelihood under a noise leads to, with each assumption at the line that uses it.

    p(y | w) = prod_i p(y_i | f_i(w)); its logarithm is a sum; what does not depend on w is dropped; the sign is turned.

    Args:
        noise: "gaussian" (known variance), "gaussian-unknown" (its variance is learned), "laplace", "bernoulli",
            "categorical", "poisson"; or a density of one's own without its constant, such as "exp(-(y - f)**2)" or, for
            a y that takes few values, "f**y * (1 - f)**(1 - y), y in {0, 1}".
        y: the name of what is observed, for a density of one's own.
        known: its names that do not depend on the parameters (a known scale).
        learned: its names that do; found from the formula by default.

    Returns:
        A :class:`Likelihood`: ``.equations``, ``.loss``, ``.assumptions``.

    Raises:
        InputError, FormulaError: the noise is not known, or the density cannot be read or integrated.

    Example:
        >>> import backproof as bp
        >>> bp.likelihood("bernoulli").loss
        '-y*log(p) - (1 - y)*log(1 - p)'

    Source:
        Bishop, Pattern Recognition and Machine Learning (2006), sections 1.2.5, 4.3.2 and 4.3.4.
    """
    if noise == "categorical":
        return _categorical()
    own = NOISES.get(noise)
    if own is None:
        return _of_own(noise, y, tuple(known), tuple(learned))
    if known or learned or y != "y":
        raise InputError(f"the names of {noise!r} are fixed; y, known and learned belong to a density of one's own")
    found = (
        _poisson() if noise == "poisson" else density(own.text, "y", own.known, ("y", *own.learned, *own.known), noise)
    )
    chain = Chain(found, "y", own.learned, frozenset({"y", own.learned[0]}), sympy.Symbol("N"), "w", own.title)
    return _made(own.title, chain, own)


def _of_own(text: str, y: str, known: tuple[str, ...], learned: tuple[str, ...]) -> Likelihood:
    import re

    if "(" not in text and "*" not in text:
        raise InputError(
            f"no noise is called {text!r}; known: {', '.join([*NOISES, 'categorical'])}, or a density's formula"
        )
    words = dict.fromkeys(re.findall(r"(?<![\w.])[A-Za-z]\w*(?!\w*\s*\()", text.partition(", ")[0]))
    names = tuple(words)
    if y not in names:
        raise InputError(f"the density {text!r} does not mention what is observed, {y!r}; name it with y=...")
    found = density(text, y, known, names, "the density")
    if found.total is None:
        raise InputError(
            f"the constant K of the density {text!r} was not found as a formula, so nothing is derived from it"
        )
    depends = learned or tuple(n for n in names if n != y and n not in known)
    if not depends:
        raise InputError(f"the density {text!r} has nothing in it that is learned")
    chain = Chain(found, y, depends, frozenset({y, depends[0]}), sympy.Symbol("N"), "w", "the density as given")
    noise = _Noise(f"The density {text}", text, depends, known, f"noise: the density of {y} is K {text}", None, "")
    return _made(noise.title, chain, noise)


def _poisson() -> Density:
    """λ^y/y! with K = e^-λ, y = 0, 1, 2..."""
    y, rate = sympy.Symbol("y", real=True), sympy.Symbol("lambda", positive=True)
    kernel = rate**y / sympy.factorial(y)
    loss, dropped = rate - y * sympy.log(rate), sympy.log(sympy.factorial(y))
    return Density(kernel, y, (rate,), tuple(range(3)), sympy.exp(rate), rate, loss, dropped)


def _made(title: str, chain: Chain, noise: _Noise) -> Likelihood:
    found = chain.found
    says = [
        "independence: given the parameters, the N observations are drawn independently",
        "identical model: every observation has the same density around its own prediction, with the same parameters",
        noise.says,
        f"K = {found.constant}, so that the density {'sums' if found.support else 'integrates'} to 1",
    ]
    remarks = (f"{noise.then[0].upper()}{noise.then[1:]}.",) if noise.then else ()
    first = _first_error(chain, noise)
    return Likelihood(title, equations(chain), tuple(says), str(found.loss), remarks, first, _evidence(chain, noise))


# --- the derivative that backpropagation starts from ----------------------------------------------------------------------
def _first_error(chain: Chain, noise: _Noise) -> Equation | None:
    """∂ℓ/∂s for the score s behind the prediction: f - y where the link fits the noise."""
    if noise.link is None:
        return None
    s = sympy.Symbol("s", real=True)
    prediction = next(x for x in chain.found.others if x.name == chain.learned[0])
    value = sympy.simplify(sympy.diff(chain.found.loss.subs(prediction, noise.link(s)), s))
    plain = sympy.simplify(value - (noise.link(s) - chain.found.y) * _scale(chain))
    shown: Expr = formula_of(value)
    if plain == 0:
        difference = Add((formula_of(prediction), Neg(Sym("y"))))
        shown = difference if _scale(chain) == 1 else Div(difference, formula_of(1 / _scale(chain)))
    said = {"gaussian": "mu = s", "bernoulli": "p = 1/(1 + e^-s)", "poisson": "lambda = e^s"}
    words = next((w for n, w in said.items() if NOISES[n] is noise), "")
    return Equation(Partial(Sym("L"), Sym("s")), (shown,), f"of one point, with the score s: {words}")


def _scale(chain: Chain) -> Any:
    """1/σ² of a Gaussian with known variance; 1 elsewhere."""
    known = [x for x in chain.found.others if x.name not in chain.learned]
    return 1 / known[0] ** 2 if known else sympy.Integer(1)


# --- evidence -----------------------------------------------------------------------------------------------------------------
def _evidence(chain: Chain, noise: _Noise) -> tuple[Evidence, ...]:
    """K by adding the density up in numbers; the loss plus what was dropped is minus its logarithm; the first error."""
    found, worst, gap = chain.found, 0.0, 0.0
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        drawn = (0.2 + 0.6 * torch.rand(len(found.others) + 1, generator=generator, dtype=torch.float64)).tolist()
        at = dict(zip(found.others, drawn, strict=False))
        worst = max(worst, abs(_total(found, noise, at) - 1))
        for value in found.support or (drawn[-1], -drawn[-1]):
            where = {**at, found.y: value}
            log = sympy.log(found.constant * found.kernel).subs(where).evalf(30)
            gap = max(gap, abs(float(log + (found.loss + found.dropped).subs(where))))
    ways = "summing it" if found.support else "numerical integration"
    return (
        Evidence("K", ways, worst <= TOLERANCE, worst, 3, 3),
        Evidence("the derived loss", "minus the logarithm of the density, in numbers", gap <= TOLERANCE, gap, 3, 3),
    )


def _total(found: Density, noise: _Noise, at: dict[Any, float]) -> float:
    if NOISES["poisson"] is noise:
        rate = at[found.others[0]]
        return float(mpmath.nsum(lambda k: rate**k / mpmath.factorial(k), [0, mpmath.inf]) * mpmath.exp(-rate))
    from .analyses.densities import quadrature

    return quadrature(found, at)


# --- several classes ----------------------------------------------------------------------------------------------------------
def _categorical() -> Likelihood:
    """p(t | p) = Π_k p_k^t_k for a one-hot t: the cross-entropy, and with a softmax the error signal p - t."""
    n, k, w = Sym("N"), Sym("K"), Words("w")
    log = Function("log", "log", r"\log")

    def t(*indices: str) -> Sym:
        return Sym("t", indices)

    def p(*indices: str) -> Sym:
        return Sym("p", indices)

    def over(body: Expr, index: str, upper: Expr) -> Expr:
        return BigSum(body, index, Num(1), upper)

    point = Call(Function("p"), (Mul((t("i"), Words(" | "), p("i"))),), "p")
    ends = [Call(Function("p"), (Mul((t(i), Words(" | "), p(i))),), "p") for i in ("1", "N")]
    like = Call(Function("p"), (Mul((Words("t"), Words(" | "), w)),), "p")
    each = Mul((t("i", "k"), Call(log, (p("i", "k"),), "log")))
    factors = Mul((Pow(p("i", "1"), t("i", "1")), Words(" ... "), Pow(p("i", "K"), t("i", "K"))))
    lines = (
        Equation(like, (Mul((ends[0], Words(" ... "), ends[1])),),
                 "independence: the joint probability is the product; identical model: the same for every point"),
        Equation(point, (factors,), "one of K classes: t is 1 at the class that was observed and 0 elsewhere"),
        Equation(over(p("i", "k"), "k", k), (Num(1),), "the probabilities sum to 1, so that there is no constant"),
        Equation(Call(log, (like,), "log"), (over(Call(log, (point,), "log"), "i", n),),
                 "the logarithm of a product is a sum; it rises, so the maximum stays where it is"),
        Equation(Call(log, (like,), "log"), (over(over(each, "k", k), "i", n),), "the probability put in"),
        Equation(Call(Function("L"), (w,), "L"), (Neg(over(over(each, "k", k), "i", n)),),
                 "nothing can be dropped; the sign is turned: the largest likelihood is the smallest loss"),
    )  # fmt: skip
    first = Equation(Partial(Sym("L"), Sym("s", ("i", "k"))), (Add((p("i", "k"), Neg(t("i", "k")))),),
                     "of one point, with the scores s and p = softmax(s)")  # fmt: skip
    says = (
        "independence: given the parameters, the N observations are drawn independently",
        "identical model: every observation has the probabilities that the same parameters give it",
        "each observation is one of K classes, with probabilities p_1 ... p_K that sum to 1",
    )
    remarks = ("This is the cross-entropy; with K = 2 it is that of Bernoulli observations.",)
    return Likelihood(
        "Categorical observations", lines, says, "-sum_k(t_k*log(p_k))", remarks, first, _classes_evidence()
    )


def _classes_evidence() -> tuple[Evidence, ...]:
    """The probabilities of all classes sum to 1; the loss and its first error are torch's cross-entropy and its slope."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 4, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, 4, (5,), generator=generator)
    t, p = F.one_hot(labels, 4).double(), torch.softmax(scores, 1)
    total = torch.stack([(p ** F.one_hot(torch.full((5,), k), 4)).prod(1) for k in range(4)]).sum(0)
    ours, theirs = -(t * p.log()).sum(), F.cross_entropy(scores, labels, reduction="sum")
    (slope,) = torch.autograd.grad(theirs, scores)
    rows = (
        ("the probabilities sum to 1", "summing them", float((total - 1).detach().abs().max())),
        ("the derived loss", "torch's cross-entropy", float((ours - theirs).detach().abs())),
        ("the first error signal", "autograd", float((p - t - slope).detach().abs().max())),
    )
    return tuple(Evidence(what, way, error <= TOLERANCE, error, 5, 5) for what, way, error in rows)
