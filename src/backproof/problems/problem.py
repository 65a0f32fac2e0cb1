"""What a problem is: a network, its data, how it is trained, what is asked, and the reader's conventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from .repeat import Repeat

__all__ = ["ANALYSES", "Conventions", "Exercise", "FormulaProblem", "Problem"]

ANALYSES = (
    "accumulated",
    "uncleared",
    "optimum",
    "curvature",
    "fit",
    "compare",
    "kinks",
    "softmax",
    "margin",
    "elementwise",
    "rates",
    "watch",
    "against",
    "likelihood",
)

_CHOICES = {
    "reduction": ("sum", "mean"),
    "batch": ("full", "sample"),
    "layout": ("rows", "columns", "torch", "own"),
    "index_base": (0, 1),
    "arithmetic": ("auto", "exact", "float64"),
    "evidence": ("full", "sampled"),
}


@dataclass(frozen=True)
class Conventions:
    """The conventions of a solution; each is a setting, so that a page agrees with the reader's own slides.

    Args:
        reduction: what ``reduce(...)`` means, "sum" or "mean" over the entries.
        batch: "full" (one update per pass) or "sample" (one update per sample).
        layout: how matrices are shown: "rows" (samples are rows, S = X W), "columns" (samples are columns,
            s = W x), "torch" (samples are rows, weights units x inputs, s = x Wᵀ), "own" (as the model has it).
        index_base: what indices count from, 1 as on paper or 0 as in code.
        symbols: names of quantities that the reader writes differently.
        arithmetic: "exact", "float64", or "auto": exact where all givens are exact and it stays small.
        evidence: "full" or "sampled".
        seed: of random numbers and of sampled evidence.
    """

    reduction: str = "sum"
    batch: str = "full"
    layout: str = "own"
    index_base: int = 1
    symbols: Mapping[str, str] = field(default_factory=dict)
    arithmetic: str = "auto"
    evidence: str = "full"
    seed: int = 0

    def changed(self, settings: Mapping[str, Any]) -> Conventions:
        """The conventions with some of them set; what is no convention is ignored."""
        known = {f.name for f in fields(self)}
        return replace(self, **{k: _checked(k, v) for k, v in settings.items() if k in known})


def _checked(key: str, value: Any) -> Any:
    if key in _CHOICES and (isinstance(value, bool) or value not in _CHOICES[key]):
        raise InputError(f"{key} is one of {', '.join(map(str, _CHOICES[key]))}, not {value!r}")
    if key == "symbols":
        plain = isinstance(value, Mapping) and all(isinstance(v, str) and 0 < len(v) <= 40 for v in value.values())
        if not plain:
            raise InputError(f'symbols is a table of names, as in symbols = {{s = "a"}}, not {value!r}')
        return dict(value)
    if key == "seed" and (isinstance(value, bool) or not isinstance(value, int)):
        raise InputError(f"seed is a whole number, not {value!r}")
    return value


@dataclass(frozen=True)
class Problem:
    """A problem written in Python.

    Args:
        model: an nn.Module, a function of tensors, or a plain class with ``parameters()`` and ``__call__``; or a
            recipe: a function all of whose parameters are names in ``settings``, called with them.
        inputs: a tensor, a tuple, or a dict of keywords; or a recipe.
        targets: what the loss compares with; or a recipe.
        loss: a function of (output, targets) or its name; None if the model's output is the loss.
        optimizer: a torch.optim class, (class, settings), functools.partial, or a name; None for no update.
        steps: passes over the data.
        ask: derivatives such as "dy/dw" by names of values, and analyses among
            "accumulated", "uncleared", "optimum", "curvature", "fit", "rates", "watch", "kinks", "softmax:p",
            "margin:p,y,margin", "compare:PROBLEM", "against:FORMULA", "likelihood:DENSITY".
        title, about: the title, and the question in a paragraph.
        settings: what ``--set`` may change: arguments of recipes, hyper-parameters, conventions.
        parameters: for a function, the names of its arguments that are trained.
        symbols: names of quantities as the reader writes them; answers go by these.
        search: what :func:`backproof.search` may try, setting -> ``(low, high)``, ``(low, high, "log")`` or a list of
            choices, as in ``{"lr": (1e-4, 1, "log"), "hidden": [2, 4, 8]}``.

    Example:
        >>> import torch, backproof as bp
        >>> problem = bp.Problem(torch.nn.Linear(1, 1), torch.ones(3, 1), torch.zeros(3, 1), loss="mse", optimizer="sgd")
    """

    model: Any
    inputs: Any = None
    targets: Any = None
    loss: Any = field(default=None, kw_only=True)
    optimizer: Any = field(default=None, kw_only=True)
    steps: int = field(default=1, kw_only=True)
    ask: tuple[str, ...] = field(default=(), kw_only=True)
    title: str = field(default="", kw_only=True)
    settings: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    parameters: tuple[str, ...] = field(default=(), kw_only=True)
    symbols: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    search: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    about: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Exercise:
    """A question that a study answers, where there is no single network whose training is to be recorded.

    Args:
        work: a function all of whose parameters are names in ``settings``; it is called with them and returns a
            :class:`backproof.Answer` (``answers``, ``blocks``, ``evidence``, ``remarks``).
        settings: what ``--set`` may change, with the values that hold otherwise.
        title, about: the title, and the question in a paragraph.

    Example:
        >>> import backproof as bp
        >>> def work(n):
        ...     return bp.Answer({"square": n * n})
        >>> bp.solve(bp.Exercise(work, settings={"n": 3}, title="Squares"), n=4).answers
        {'square': 16}
    """

    work: Any
    settings: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    title: str = field(default="", kw_only=True)
    about: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class FormulaProblem:
    """A problem written as TOML.

    Args:
        given: name -> number, exact expression, or nested lists.
        model: name -> formula, in order.
        parameters, optimizer, hyper, steps: the training step ([step] of the file).
        samples: the givens whose first axis counts samples.
        loss: the name of the loss.
        gradients: asked derivatives, as "y/w".
        also: asked analyses.
        remarks: what a reader should know, in sentences, such as a mistake of the printed sheet.
        repeat: formulas that repeat up to a depth, which may be a symbol; see :mod:`.repeat`.
    """

    title: str
    given: Mapping[str, Any]
    model: Mapping[str, str]
    parameters: tuple[str, ...] = ()
    optimizer: str | None = None
    hyper: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 1
    samples: tuple[str, ...] = ()
    loss: str | None = None
    gradients: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    about: str = ""
    remarks: tuple[str, ...] = ()
    conventions: Conventions = Conventions()
    file: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)
    repeat: Repeat | None = None


Recipe = Callable[..., Any]
