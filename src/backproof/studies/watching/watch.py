"""Watch a user's own training loop: ``with bp.watch(model, optimizer) as w:``."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...capturing.hooks import Hooks, rerun, uncompiled
from ...document.blocks import Block, Callout, Document, Items, Paragraph, Plot, Series
from ...errors import InputError
from ...result import Result
from .looking import Event, Look, findings_of, measure, measure_ends, source_of_nan

__all__ = ["Watch", "Watched", "watch"]

EARLY, RECENT = (0, 1, 2, 5), 50
_MODAL = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
_UNITS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Watched(Result):
    """What was seen.

    Args:
        events: what went wrong, each kind at the first step and layer where it was seen.
        looks: the steps that were seen closely.
        steps: how many steps there were.
        overhead: the time that watching took, as a share of the rest.
        title: the model's class.
    """

    events: tuple[Event, ...]
    looks: tuple[Look, ...]
    steps: int
    overhead: float
    title: str = ""

    @property
    def first(self) -> Event | None:
        """What went wrong first."""
        return min(self.events, key=lambda e: e.step, default=None)

    @property
    def verdict(self) -> str:
        """The kind of what went wrong first, or "healthy"."""
        return self.first.kind if self.first else "healthy"

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether anything went wrong."""
        return bool(self.events)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The events and the looks as plain data."""
        return {
            "model": self.title,
            "verdict": self.verdict,
            "steps": self.steps,
            "events": [e.to_dict() for e in self.events],
            "looks": [
                {"step": x.step, "gradients": x.gradients, "deltas": x.deltas, "updates": x.updates} for x in self.looks
            ],
            "overhead": self.overhead,
        }

    def document(self) -> Document:
        """What went wrong, and the norms over the steps."""
        kind: Literal["agrees", "finding"] = "finding" if self.events else "agrees"
        head = str(self.first) if self.first else f"Nothing went wrong in {self.steps} steps."
        blocks: list[Block] = [Callout(kind, (head,), self.verdict)]
        if len(self.events) > 1:
            blocks.append(Items(tuple((str(e),) for e in self.events if e is not self.first)))
        blocks.append(Paragraph((f"{len(self.looks)} of {self.steps} steps were seen closely; watching took "
                                 f"{100 * self.overhead:.1f} % of the time.",)))  # fmt: skip
        blocks += [p for p in (self._plot("deltas", "norm of the error signal"), self._layers(),
                               self._plot("updates", "update over weights")) if p]  # fmt: skip
        return Document(f"Watching {self.title}", tuple(blocks), record=self.to_dict())

    def _plot(self, what: str, words: str, most: int = 8) -> Plot | None:
        """One curve for each layer (so many of them) over the steps."""
        names = list(dict.fromkeys(n for x in self.looks for n in getattr(x, what)))
        names = names[:: max(1, -(-len(names) // most))]
        series = []
        for name in names:
            points = [(float(x.step), _share(x, what, name)) for x in self.looks if name in getattr(x, what)]
            kept = [(a, b) for a, b in points if math.isfinite(b) and b > 0]
            if kept:
                xs, ys = zip(*kept, strict=True)
                series.append(Series(name, xs, ys))
        return (
            Plot(tuple(series), "step", words, (f"The {words} over the steps.",), f"{words} over the steps", log_y=True)
            if series
            else None
        )

    def _layers(self, most: int = 5) -> Plot | None:
        """The error signal over the layers, at some of the looks."""
        looks = [x for x in self.looks if len(x.deltas) > 1]
        series = []
        for x in looks[:: max(1, -(-len(looks) // most))]:
            kept = [(k + 1.0, v) for k, v in enumerate(x.deltas.values()) if v > 0 and math.isfinite(v)]
            if kept:
                xs, ys = zip(*kept, strict=True)
                series.append(Series(f"step {x.step}", xs, ys))
        words = "norm of the error signal"
        return Plot(tuple(series), "module, in the order of the calls", words, ("The backward pass at some of the steps.",),
                    f"{words} over the layers", log_y=True) if series else None  # fmt: skip


def _share(look: Look, what: str, name: str) -> float:
    value = float(getattr(look, what)[name])
    return value / look.weights[name] if what == "updates" and look.weights.get(name) else value


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
    *,
    budget: float = 0.03,
    stop: bool = False,
) -> Watch:
    """Watch a training loop as it is, and say at which step and layer something first went wrong, and why.

    At each step one gradient is looked at (that of the first parameter, through which everything comes that goes wrong
    behind it). At the first steps, when that gradient jumps, vanishes or is not finite, and from time to time, one step is
    seen closely: every module's output and error signal, every parameter's gradient and update.

    Args:
        model: the module that is trained.
        optimizer: whose steps are counted (several in a list, in the order in which they step); without it a step is a
            backward pass, and updates are not seen.
        budget: the share of the time that close looks may take.
        stop: whether to raise an InputError at the first value that is not finite.

    Returns:
        A context manager; ``.events``, ``.first`` and ``.report()`` at any time.

    Raises:
        InputError: the model has no trainable parameter, or what is given is no module or no optimizer.

    Example:
        >>> import torch, backproof as bp
        >>> net = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> with bp.watch(net, optimizer) as w:
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         net(torch.ones(4, 2)).square().mean().backward()
        ...         optimizer.step()
        >>> w.report().verdict
        'healthy'
    """
    return Watch(model, optimizer, budget, stop)


class Watch:
    """The context manager of :func:`watch`."""

    def __init__(self, model: nn.Module, optimizer: Any, budget: float, stop: bool) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"watch takes the nn.Module that is trained, not {type(model).__name__}")
        if not 0 < budget <= 1:
            raise InputError(f"budget is a share of the time from 0 to 1, not {budget}")
        self.optimizers = _optimizers(optimizer)
        self._inner = uncompiled(model)
        self.parameters = {n: p for n, p in self._inner.named_parameters() if p.requires_grad and p.is_floating_point()}
        if not self.parameters:
            raise InputError("the model has no trainable parameter to watch")
        self.model, self.budget, self.stop = model, budget, stop
        self.events: list[Event] = []
        self.looks: list[Look] = []
        self.step = 0
        self._first = _smallest_of_the_first(self.parameters)
        self._groups = [group for one in self.optimizers for group in one.param_groups]
        self._rate: Any = self._groups[0]["lr"] if self._groups else None
        self._raised: tuple[int, float, float] | None = None
        self._hooks = Hooks(
            model, self.optimizers, self._first, self._on_forward, self._on_step, self._after_step, measure
        )
        self._look: Look | None = None
        self._batch: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._old: list[Tensor] = []
        self._clock = Clock()
        self._next_look, self._low, self._high = 0, math.inf, 0.0
        self._largest, self._least, self._odd = 0.0, math.inf, set[str]()

    # --- the context ------------------------------------------------------------------------------------------------------
    def __enter__(self) -> Watch:
        self._hooks.place()
        self._wait_for_the_optimizer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.remove()

    @property
    def first(self) -> Event | None:
        """What went wrong first, so far."""
        return min(self.events, key=lambda e: e.step, default=None)

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """The optimizer, or the first of several."""
        return next(iter(self.optimizers), None)

    @property
    def overhead(self) -> float:
        """The time that watching has taken, as a share of the rest."""
        return self._clock.share(self.step)

    def report(self) -> Watched:
        """What was seen so far, as a result with text and pictures."""
        events = tuple(sorted(self.events, key=lambda e: e.step))
        return Watched(events, tuple(self.looks), self.step, self.overhead, type(self._inner).__name__)

    def _wait_for_the_optimizer(self) -> None:
        """Parameters that the optimizer was not given never change."""
        if not self.optimizers:
            return
        given = {id(p) for group in self._groups for p in group["params"]}
        left = [n for n, p in self.parameters.items() if id(p) not in given]
        if left:
            self._say(Event(0, "not trained", left[0], f"{len(left)} parameters were not given to the optimizer: they never "
                            "change.", "Give it model.parameters(), after the last change to the model."))  # fmt: skip
        frozen = [n for n, p in self._inner.named_parameters() if id(p) in given and not p.requires_grad]
        if frozen:
            self._say(Event(0, "not trained", frozen[0].rpartition(".")[0], f"{len(frozen)} parameters that the optimizer was given "
                            "have requires_grad False: they never change.", "Set requires_grad to True, or leave them out of "
                            "the optimizer if it is meant."))  # fmt: skip

    def _look_at_the_mode(self) -> None:
        """A model that is trained as for evaluation, where that makes a difference."""
        apart = [n for n, m in self._inner.named_modules() if isinstance(m, _MODAL)]
        if apart and not self._inner.training:
            self._say(Event(self.step, "evaluation mode", apart[0], "The model is in evaluation mode while it is trained: "
                            "normalisations keep to their running statistics, which do not follow, and dropout is off.",
                            "Call model.train() before the loop."))  # fmt: skip

    # --- at each step -------------------------------------------------------------------------------------------------------
    def _on_forward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._batch = (args, kwargs)
        if self.step < self._next_look or self._look is not None or not torch.is_grad_enabled():
            return
        if self._is_due():
            self._clock.look_begins()
            self._look = Look(self.step)
            self._hooks.look_closely()

    def _is_due(self) -> bool:
        """At the first steps, and whenever the time spent on looks is within the budget (asked every 8th step)."""
        if self.step in EARLY:
            return True
        self._clock.tick(self.step)
        self._next_look = max(self.step + 8, EARLY[-1] + 1) if self.step > EARLY[-1] else self.step + 1
        return self._clock.share(self.step, more=1) < self.budget

    def _accumulating(self) -> None:
        """Gradients of the last step that were still there when the next arrived."""
        if self.step and self.optimizers and self._hooks.left_over:
            self._say(Event(self.step, "accumulating", "", "The gradients of the step before are still there: each step adds "
                            "to them.", "Call optimizer.zero_grad() in each step."))  # fmt: skip

    def _on_step(self) -> None:
        """Before each step of the optimizer; what is done here is done at every step, and so is little."""
        if self._groups and self._groups[0]["lr"] is not self._rate:
            self._rate_changed(self._groups[0]["lr"])
        grad = self._first.grad
        if grad is not None:
            flat = grad if grad.ndim == 1 else grad.reshape(-1)
            square = torch.dot(flat, flat).item()  # a third of what a norm costs
            if not self._low < square < self._high:
                self._checked(math.sqrt(square) if square >= 0 else square)
        if self._look is None:
            self.step += 1
            return
        self._close_look(self._look)
        if not self.optimizers:
            self._next()

    def _rate_changed(self, new: Any) -> None:
        if float(new) > 10 * float(self._rate) > 0:
            self._raised = self.step, float(self._rate), float(new)
        self._rate = new

    def _checked(self, size: float) -> None:
        """The norm of one gradient behind which everything lies, outside what it was so far: not finite, 0, or far off."""
        if not math.isfinite(size):
            if self._first.grad is not None and bool(self._first.grad.isfinite().all()):
                size = float(self._first.grad.double().norm())  # the squares alone were too large
            else:
                self._broken()
                return
        jumped = self._largest > 0 and (size > 1e3 * self._largest or size < 1e-4 * self._least)
        if (size == 0.0 or jumped) and self._look is None:
            self._second_look("zero" if size == 0.0 else "jump", size)
        self._largest = max(self._largest, size)
        self._least = min(self._least, size) if size > 0 else self._least
        self._low, self._high = self._least**2, self._largest**2

    def _second_look(self, why: str, size: float) -> None:
        """Something changed at a step that was not seen closely: run its batch forwards again."""
        if why in self._odd or self._batch is None:
            return
        self._odd.add(why)
        look = Look(
            self.step,
            rates=tuple(float(g["lr"]) for g in self._groups),
        )
        look.record(rerun(self.model, *self._batch, measure_ends))
        grads = {n: p.grad for n, p in self.parameters.items() if p.grad is not None}
        look.gradients = dict(zip(grads, _norms([g for g in grads.values() if g is not None]), strict=True))
        look.weights = dict(zip(self.parameters, _norms([p.detach() for p in self.parameters.values()]), strict=True))
        before = len(self.events)
        self._judge(look)
        if len(self.events) == before and why == "jump":
            kind = "exploding" if size > self._largest else "vanishing"
            name = next((n for n, p in self.parameters.items() if p is self._first), "")
            self._say(Event(self.step, kind, name, f"The norm of its gradient is {size:.3g}; before it was between "
                            f"{self._least:.3g} and {self._largest:.3g}.{self._history()}", "Lower the learning rate, or clip "
                            "the gradient's norm.", self.step - 1))  # fmt: skip

    def _close_look(self, look: Look) -> None:
        self._hooks.look_away()
        self._accumulating()
        look.record(self._hooks.seen)
        grads = {n: p.grad for n, p in self.parameters.items() if p.grad is not None}
        look.gradients = dict(zip(grads, _norms([g for g in grads.values() if g is not None]), strict=True))
        look.weights = dict(zip(self.parameters, _norms([p.detach() for p in self.parameters.values()]), strict=True))
        look.idle = {
            n: float((g.flatten(1).abs().amax(1) == 0).float().mean())
            for n, g in grads.items()
            if not look.dead and self._has_units(n, g)
        }
        without = [n for n in self.parameters if n not in grads]
        if self.step == 0:
            self._look_at_the_mode()
        if without and self.step in EARLY and self.optimizers:
            self._say(Event(self.step, "disconnected", without[0], f"No gradient reaches {len(without)} of the parameters: "
                            "the loss does not depend on them, or the way is cut by detach or no_grad.",
                            "Take out the cut, or set requires_grad to False if it is meant."))  # fmt: skip
        if self.optimizers:
            look.rates = tuple(float(g["lr"]) for g in self._groups)
            self._old = [p.detach().clone() for p in self.parameters.values()]
            self._hooks.wants_update = True
        else:
            self._judge(look)

    def _has_units(self, name: str, grad: Tensor | None) -> bool:
        """Whether the rows of a parameter are the units of a linear layer or a convolution."""
        module = self._inner.get_submodule(name.rpartition(".")[0])
        return isinstance(module, _UNITS) and grad is not None and grad.ndim > 1 and len(grad) > 1

    def _after_step(self) -> None:
        if self._look is not None:
            if self._hooks.evaluations < 2:  # of a line search the sum of its moves says nothing about the rate
                changes = torch._foreach_sub([p.detach() for p in self.parameters.values()], self._old)
                self._look.updates = dict(zip(self.parameters, _norms(changes), strict=True))
            self._old = []
            self._judge(self._look)
        self._next()

    def _next(self) -> None:
        self.step += 1
        if self._look is not None:
            self._clock.look_ends(self.step)
        self._look = None

    def _judge(self, look: Look) -> None:
        before = self.looks[-1] if self.looks else None
        self.looks.append(look)
        for event in findings_of(look, before):
            self._say(event)

    def _say(self, event: Event) -> None:
        """Keep the first event of each kind."""
        if not any(e.kind == event.kind for e in self.events):
            self.events.append(event)

    def _broken(self) -> None:
        """The first gradient that is not finite: run the same batch forwards again and find where it comes from."""
        if any(e.kind == "not finite" for e in self.events):
            return
        args, kwargs = self._batch or ((), {})
        inputs = [
            t
            for t in torch.utils._pytree.tree_leaves((args, kwargs))
            if isinstance(t, Tensor) and t.is_floating_point()
        ]
        seen = rerun(self.model, args, kwargs, measure_ends) if self._batch else []
        grads = {n: p.grad for n, p in self.parameters.items() if p.grad is not None}
        values = {n: p.detach() for n, p in self._inner.named_parameters()}
        layer, cause, remedy = source_of_nan(seen, inputs, values, grads)
        event = Event(
            self.step, "not finite", layer, cause + self._history(), remedy, self.step - 1 if self.step else None
        )
        self._say(event)
        if self.stop:
            raise InputError(str(event))

    def _history(self) -> str:
        """What the looks before say about it: gradients that grew; and a learning rate that was raised."""
        return self._rate_raised() + self._growth()

    def _rate_raised(self) -> str:
        """Whether the learning rate became more than ten times what it was, not long ago."""
        if self._raised is None or self.step - self._raised[0] > RECENT:
            return ""
        step, a, b = self._raised
        return f" The learning rate was raised from {a:g} to {b:g} at step {step}."

    def _growth(self) -> str:
        """Whether the gradients had grown from look to look."""
        late = [x for x in self.looks if x.gradients and all(map(math.isfinite, x.gradients.values()))]
        if len(late) < 2:
            return ""
        first, last = (math.sqrt(sum(v * v for v in x.gradients.values())) for x in (late[0], late[-1]))
        if last > 100 * first > 0:
            return f" The gradient's norm had grown from {first:.3g} at step {late[0].step} to {last:.3g} at step {late[-1].step}."
        return ""


def _optimizers(given: Any) -> tuple[torch.optim.Optimizer, ...]:
    """One optimizer, several, or none."""
    found = () if given is None else tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for one in found:
        if not isinstance(one, torch.optim.Optimizer):
            raise InputError(f"watch takes a torch.optim.Optimizer, or a list of such, not {type(one).__name__}")
    return found


class Clock:
    """What watching costs: the steps that are looked at against those that are not.

    Other programs make some steps slow; what a step takes by itself is best seen in the quickest of them.
    """

    def __init__(self) -> None:
        self.usual, self.looked, self.looks, self._began, self._last, self._steps = math.inf, 0.0, 0, 0.0, 0.0, 0

    def tick(self, step: int) -> None:
        """Between two looks: how long the steps since the last call took."""
        now = time.perf_counter()
        if step > self._steps and self._last:
            self.usual = min(1.002 * self.usual, (now - self._last) / (step - self._steps))
        self._last, self._steps = now, step

    def look_begins(self) -> None:
        """A step that is seen closely begins."""
        self._began = time.perf_counter()

    def look_ends(self, step: int) -> None:
        """It is over, and the next one begins."""
        self._last, self._steps = time.perf_counter(), step
        self.looked += self._last - self._began
        self.looks += 1

    def share(self, steps: int, more: int = 0) -> float:
        """What looks, and so many more, take beyond the steps themselves, as a share of those."""
        if not steps or not self.looks or math.isinf(self.usual):
            return 0.0
        own = max(0.0, self.looked - self.looks * self.usual)
        return own * (1 + more / self.looks) / (self.usual * steps)


def _smallest_of_the_first(parameters: Mapping[str, Tensor]) -> Tensor:
    """The smallest parameter of the first module that has any."""
    module = next(iter(parameters)).rpartition(".")[0]
    return min((p for n, p in parameters.items() if n.rpartition(".")[0] == module), key=lambda p: p.numel())


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    """Euclidean norms, in one call and one transfer."""
    return torch.stack([t.float() for t in torch._foreach_norm(tensors)]).tolist() if tensors else []  # type: ignore[arg-type]
