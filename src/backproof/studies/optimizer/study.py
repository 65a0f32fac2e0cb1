"""``bp.optimizer``: what an update rule does, what it keeps, how it moves under a constant gradient, when it is stable."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sympy
import torch

from ...document.blocks import Document, Equation
from ...errors import FormulaError, InputError
from ...formula import read_quantity
from ...optimizers import RULES, Optimizer, variants_of
from ...optimizers import optimizer as find_optimizer
from ...optimizers.witness import torch_class, torch_settings
from ...result import Result, plain, written
from ..verdicts import Evidence
from .constant import GRADIENT, LATEST, START, closed_forms, confirmed, numbers_at, symbols_of
from .kept import SHAPE, Kept, classes, measured
from .late import Late, late_of
from .linear import Linear, best_rate, linear_update
from .recurrence import Closed, T, symbol_of
from .scale import Scale, scale_dependence
from .stability import Stability, stability

if TYPE_CHECKING:
    from .compared import Compared

__all__ = ["OptimizerStudy", "optimizer", "quantity"]


def optimizer(spec: Any, *, variant: str = "", **hyper: Any) -> OptimizerStudy:
    """Study an optimizer: its equations, its state, its path under a constant gradient, its stability limit.

    Args:
        spec: a torch.optim class, an instance, (class, settings), or a name such as "adam"; or a class of your own.
        variant: another published form, such as "eps-hat" of Adam; "" is torch's. ``.variants`` lists them.
        **hyper: hyper-parameters that are not the defaults.

    Returns:
        An :class:`OptimizerStudy`. A class of your own has its steps recorded on small twins, its state measured, and its
        rule fitted to the closest known one (``.fitted``).

    Raises:
        InputError: it is no optimizer, or a setting is unknown or out of range.

    Example:
        >>> import backproof as bp
        >>> adam = bp.optimizer("adam", lr=0.1, eps=0)
        >>> adam.state
        {'m': 4, 'v': 4}
        >>> adam.under_constant_gradient(3.0, 10)["w"]
        -1.0
        >>> bp.optimizer("sgd", lr=0.1, momentum=0.9).stability_limit()
        38.0
    """
    kind = _foreign(spec)
    if kind is not None:
        return OptimizerStudy(kind.__name__, None, kind, {**_settings_of(spec, kind), **hyper})
    if isinstance(spec, type) and not issubclass(spec, torch.optim.Optimizer) and spec.__name__.lower() not in RULES:
        raise InputError(
            f"{spec.__name__} is not built on torch.optim.Optimizer, so what it keeps cannot be found; where it takes "
            f"parameters and has step(), compare it with a rule: --against NAME, or bp.check_optimizer"
        )
    rule = find_optimizer(spec, variant=variant, **{k: _setting(k, v) for k, v in hyper.items()})
    try:
        kind = torch_class(rule.rule.name)
    except KeyError:
        kind = None
    return OptimizerStudy(rule.rule.name, rule, kind, dict(rule.hyper))


def _foreign(spec: Any) -> Any:
    """The class of an optimizer for which there is no rule here."""
    if isinstance(spec, str):
        return classes().get(spec.lower()) if spec.lower() not in RULES else None
    kind = spec if isinstance(spec, type) else type(spec)
    if not issubclass(kind, torch.optim.Optimizer):
        return None
    own = kind.__module__.startswith("torch.optim") and kind.__name__.lower() in RULES
    return None if own else kind


def _settings_of(spec: Any, kind: Any) -> dict[str, Any]:
    """The settings of an instance of somebody's own class."""
    if isinstance(spec, type):
        return {}
    known = inspect.signature(kind).parameters
    return {k: v for k, v in spec.param_groups[0].items() if k in known and k != "params"}


def _setting(name: str, value: Any) -> Any:
    word = isinstance(value, str) and any(value in rule.choices.get(name, ()) for rule in RULES.values())
    if isinstance(value, (bool, tuple, list)) or value is None or word:
        return value
    return quantity(name, value)


def quantity(name: str, value: Any) -> Any:
    """A number as given, or the exact number that a text such as "9/10" means."""
    if isinstance(value, sympy.Basic) and value.is_number:
        return value
    try:
        given = read_quantity(value, f"'{name}'")
    except FormulaError as error:
        raise InputError(str(error)) from None
    if given.shape:
        raise InputError(f"'{name}' is one number, not {value!r}")
    return given.value


@dataclass(frozen=True)
class OptimizerStudy(Result):
    """What is known about an optimizer; see :func:`optimizer`.

    Args:
        name: its name in lower case.
        rule: its formulas with the settings; None where there are none here.
        kind: the class of torch.optim (or the user's own), for measuring.
        hyper: the settings.
    """

    name: str
    rule: Optimizer | None
    kind: Any
    hyper: dict[str, Any]
    _cache: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    # --- what it keeps ------------------------------------------------------------------------------------------------------
    @cached_property
    def kept(self) -> Kept | None:
        """What torch's class was measured to keep; None where there is no class to measure."""
        return self._measured(torch.float32)

    def _measured(self, dtype: torch.dtype) -> Kept | None:
        if self.kind is None:
            return None
        settings = torch_settings(self.rule.rule, self.hyper) if self.rule else self.hyper
        return measured(self.kind, settings, dtype)

    @property
    def state(self) -> dict[str, float]:
        """Name -> bytes per parameter in float32."""
        return self.state_for(torch.float32)

    def state_for(self, dtype: Any) -> dict[str, float]:
        """Name -> bytes per parameter for parameters of a dtype; torch keeps its state in the parameter's own dtype."""
        kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
            raise InputError(f"{dtype!r} is not a floating-point dtype; give one as torch.bfloat16 or 'bfloat16'")
        if self.rule is not None:
            count = math.prod(SHAPE)
            return {s: _whole(n * kind.itemsize / count) for s, n in self.rule.values_of(SHAPE).items()}
        found = self._measured(kind)
        assert found is not None
        return found.bytes

    @property
    def values(self) -> float:
        """The numbers kept per parameter."""
        if self.rule is not None:
            return _whole(sum(self.rule.values_of(SHAPE).values()) / math.prod(SHAPE))
        assert self.kept is not None
        return self.kept.total

    @property
    def scalars(self) -> dict[str, int]:
        """Name -> bytes per tensor of what torch keeps once per tensor; 0 for a Python number."""
        return self.kept.scalars if self.kept is not None else {}

    # --- what it does ---------------------------------------------------------------------------------------------------------
    @property
    def equations(self) -> tuple[Equation, ...]:
        """The update's equations (those of a late update); empty without formulas."""
        from .page import equations_of

        return () if self.rule is None else equations_of(self.rule)

    @cached_property
    def closed(self) -> Closed:
        """The closed forms under a constant gradient g, solved from the equations."""
        rule = self._formulas("closed forms")
        if rule.rule.ranks or rule.rule.asks:
            raise InputError(f"{self.name} has no closed form for one number: its step depends on everything at once")
        return closed_forms(rule)

    @cached_property
    def late(self) -> Late | None:
        """The long run of w under a constant gradient; None where it was not found."""
        rule = self._formulas("long run")
        return late_of(rule, self.closed, symbols_of(rule), GRADIENT)

    @property
    def closable(self) -> bool:
        """Whether closed forms of it are looked for at all."""
        return self.rule is not None and not (self.rule.rule.ranks or self.rule.rule.asks)

    def _formulas(self, what: str) -> Optimizer:
        if self.rule is None:
            raise InputError(f"there are no formulas of {self.name} here, so it has no {what}; its state is measured")
        return self.rule

    def under_constant_gradient(self, g: Any, t: Any, w0: Any = 0) -> dict[str, Any]:
        """Every quantity after ``t`` updates with the same gradient ``g``.

        Args:
            g: the gradient, a number or a symbol (a SymPy symbol or a name such as "c", taken as positive).
            t: the number of updates, a whole number from 1 on, or a symbol.
            w0: the parameter at the start.

        Returns:
            "w", the state and the steps between: numbers where all is given, else SymPy formulas with the settings'
            numbers put in. What has no closed form is computed step by step, and left out where t is a symbol.
        """
        rule = self._formulas("closed forms")
        values = {symbol_of(k): v for k, v in _numbers(rule).items()}
        given = {GRADIENT: _argument("g", g), START: _argument("w0", w0)}
        time = _time(t)
        if isinstance(time, int) and not any(v.free_symbols for v in map(sympy.sympify, given.values())):
            if given[GRADIENT] == 0:
                raise InputError("the gradient is 0: a constant gradient other than 0 is studied")
            return dict(numbers_at(self.closed, rule, {**values, **given}, time))
        exact = {s: sympy.Rational(repr(v)) if isinstance(v, float) else v for s, v in {**values, **given}.items()}
        forms = {n: f.subs(exact).subs(T, time) for n, f in self.closed.forms.items()}
        return {
            n: f if f.has(sympy.Sum, sympy.Product, sympy.Piecewise) else sympy.simplify(f) for n, f in forms.items()
        }

    @cached_property
    def stability(self) -> Stability:
        """The stability limit with its formula."""
        return stability(self._formulas("stability limit"))

    @property
    def variants(self) -> tuple[str, ...]:
        """The other published forms of this rule that are known here."""
        return () if self.rule is None else variants_of(self.rule.rule.variant_of or self.rule.rule.name)

    @cached_property
    def scale(self) -> Scale:
        """How the way that w goes depends on the size of the gradients."""
        return scale_dependence(self._formulas("dependence on the gradient's size"))

    @cached_property
    def linear(self) -> Linear:
        """One late update on a quadratic as a linear map of (w, state)."""
        return linear_update(self._formulas("linear update"))

    def rate(self, curvature: float) -> float:
        """What an update multiplies the distance to the minimum by, in the long run, at a curvature."""
        return self.linear.rate(curvature)

    def best_lr(self, low: float, high: float) -> tuple[float, float]:
        """The learning rate that is best for all curvatures from ``low`` to ``high``, and the rate of convergence then."""
        if not 0 < low <= high < math.inf:
            raise InputError(f"curvatures lie in an interval of positive numbers, not [{low}, {high}]")
        return best_rate(self._formulas("best learning rate"), low, high)

    def noise_floor(self, curvature: float, variance: float = 1.0) -> float:
        """The variance of w in the long run when each gradient has noise of this variance."""
        return variance * self.linear.floor(curvature)

    @property
    def scalable(self) -> bool:
        """Whether the rule can be replayed on gradients alone."""
        return self.rule is not None and not self.rule.rule.asks

    def stability_limit(self) -> float:
        """The largest curvature of a quadratic on which it converges (for adaptive rules, of the preconditioned one)."""
        return self.stability.value

    def compare(self, other: Any, **hyper: Any) -> Compared:
        """This optimizer beside another one."""
        from .compared import Compared

        return Compared(self, other if isinstance(other, OptimizerStudy) else optimizer(other, **hyper))

    # --- evidence -------------------------------------------------------------------------------------------------------------
    @cached_property
    def evidence(self) -> tuple[Evidence, ...]:
        """The closed forms and the state, each confirmed."""
        if self.rule is None:
            return ()
        plain = self.kind is not None and not (self.rule.rule.ranks or self.rule.rule.asks)
        found = list(confirmed(self.rule, self.closed, self.name)) if plain else []
        if self.kept is not None:
            ours, theirs = sum(self.state.values()), sum(self.kept.bytes.values())
            names = {self.rule.rule.kept.get(s, s) for s in self.rule.values_of(SHAPE)}
            same = ours == theirs and names == set(self.kept.bytes)
            what = f"bytes that {self.name} keeps per parameter"
            found.append(Evidence(what, "measured: steps of torch.optim's class", same, abs(ours - theirs), 1, 1))
        if self.rule.rule.asks and self.kind is not None:
            found += self._newton()
        return tuple(found)

    def _newton(self) -> list[Evidence]:
        """The factor 1 - lr of a step of L-BFGS on a quadratic, as torch makes it."""
        runs = self.stability.measured
        if runs is None or runs.factor is None:
            return []
        error = abs(runs.factor - (1 - float(self.hyper["lr"])))
        what = "a step multiplies w by 1 - lr on a quadratic"
        return [Evidence(what, "torch.optim on three curvatures", error <= 1e-6, error, 3, 3)]

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether two ways to a number disagree."""
        return any(e.agrees is False for e in self.evidence)

    # --- shown ------------------------------------------------------------------------------------------------------------------
    @cached_property
    def fitted(self) -> Any:
        """For a class without formulas here: the closest known rule, and in what it deviates from that."""
        from ..deviations.fitting import fitted

        return fitted(self.kind, self.hyper)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """Equations, state, closed forms, stability limit and evidence as plain data."""
        record: dict[str, Any] = {
            "optimizer": self.name,
            "settings": {k: v if isinstance(v, (bool, int, float)) else str(v) for k, v in self.hyper.items()},
            "state": self.state,
            "state_values": self.values,
            "scalars": self.scalars,
            "state_is": "declared by its formulas, measured from torch" if self.rule else "measured from torch",
        }
        if self.rule is not None:
            record |= {
                "equations": [{"name": written(e.left)[0], "formula": written(e.steps[0])[1]} for e in self.equations],
                "under_constant_gradient": {n: str(self.closed.written(n)) for n in self.closed.forms}
                if self.closable
                else {},
                "long_run": self._long_run(),
                "no_closed_form": list(self.closed.unsolved if self.closable else self.rule.state),
                "stability_limit": self.limit(),
                "variant": self.rule.rule.name.partition("/")[2] or "torch",
                "variants": list(self.variants),
                "source": self.rule.rule.source,
                "scale": {"power": self.scale.power, "longer": {f"{c:g}": v for c, v in self.scale.longer.items()}}
                if self.scalable
                else None,
            }
        else:
            record["fitted"] = self.fitted.to_dict()
        found: dict[str, Any] = plain({**record, "evidence": [e.to_dict() for e in self.evidence]}, full)
        return found

    def _long_run(self) -> dict[str, str] | None:
        if not self.closable or self.late is None:
            return None
        return {k: str(v) for k, v in (("rest", self.late.rest), ("step", self.late.step)) if v is not None}

    def limit(self) -> float | None:
        """The stability limit, or None where there is none of this kind."""
        if self.rule is None:
            return None
        try:
            return self.stability.value
        except InputError:
            return None

    def document(self) -> Document:
        """The study as a page."""
        from .page import document_of

        return document_of(self)


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value


def _numbers(rule: Optimizer) -> dict[str, Any]:
    return {k: v for k, v in rule.numbers().items() if v}


def _argument(name: str, value: Any) -> Any:
    """A number, or a positive symbol."""
    if isinstance(value, sympy.Basic) and value.free_symbols:
        return value
    if isinstance(value, str) and value.isidentifier() and value not in ("pi", "e", "nan", "inf"):
        return sympy.Symbol(value, positive=True)
    return quantity(name, value)


def _time(t: Any) -> Any:
    """The number of updates as an int, or a symbol."""
    if isinstance(t, (str, sympy.Symbol)) and str(t).isidentifier():
        return T if str(t) == "t" else sympy.Symbol(str(t), integer=True, positive=True)
    number = quantity("t", t)
    if not (1 <= number <= LATEST and number == int(number)):
        raise InputError(f"t is a number of updates, a whole number from 1 to 10^15, not {t}")
    return int(number)
