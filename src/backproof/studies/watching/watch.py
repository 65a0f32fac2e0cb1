"""Watch a user's own training loop: ``with bp.watch(model, optimizer) as w:``."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from ...capturing.hooks import Hooks, norm, rerun, uncompiled
from ...errors import InputError
from .buffers import Leftovers, Writes
from .clock import Clock
from .findings import findings_of
from .jumps import jump_of
from .looking import Event, Look, measure, measure_ends
from .nans import source_of_nan
from .settings import Settings
from .watched import Watched

__all__ = ["Watch", "watch"]

EARLY, STAYS, SECOND, JUMP, SMALL = (0, 1, 2, 5), 20, 4, 100.0, 256
STRIKES = ("exploding", "learning rate", "overwritten", "weight decay")
STRUCTURE = ("not trained", "disconnected", "evaluation mode", "accumulating", "overwritten")
_MODAL = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
_UNITS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


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
        self._first = _first_of(self.parameters)
        self._short = self._first.ndim == 1 and self._first.numel() <= SMALL
        self._name = next(n for n, p in self.parameters.items() if p is self._first)
        self._layers = {n: n.rpartition(".")[0] or n for n in self.parameters}
        self._floors = {n: 0.1 * _usual(p) ** 0.5 for n, p in self.parameters.items() if not n.endswith("bias")}
        self._settings = Settings(self.optimizers)
        self._leftovers = Leftovers(self._first)
        self._writes = Writes([p for p in self.parameters.values() if p.ndim > 1] if self.optimizers else ())
        self._hooks = Hooks(
            model, self.optimizers, self._first, self._on_forward, self._on_step, self._after_step, measure
        )
        self._look: Look | None = None
        self._batch: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._old: list[Tensor] = []
        self._clock = Clock()
        self._next_look = 0
        self._largest, self._least, self._odd = 0.0, math.inf, Counter[str]()
        self._written, self._jumped = False, False
        self._quiet_since, self._quiet_until = 0, -2

    # --- the context ------------------------------------------------------------------------------------------------------
    def __enter__(self) -> Watch:
        self._hooks.place()
        self._wait_for_the_optimizer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.remove()
        self._leftovers.stop()

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
        given = {id(p) for group in self._settings.groups for p in group["params"]}
        left = [n for n, p in self.parameters.items() if id(p) not in given]
        if left:
            self._say(Event(0, "not trained", left[0], f"{len(left)} parameters were not given to the optimizer: they never "
                            "change.", "Give it model.parameters(), after the last change to the model; set requires_grad to "
                            "False where it is meant."))  # fmt: skip
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
            self._look = Look(self.step, inputs=_sizes(self._inputs()))
            self._hooks.look_closely()

    def _is_due(self) -> bool:
        """At the first steps, and whenever the time spent on looks is within the budget (asked every 8th step)."""
        if self.step in EARLY:
            return True
        if self.step < EARLY[-1]:
            return False
        self._clock.tick(self.step)
        self._settings.refresh(self.step)
        self._next_look = self.step + 8
        return self._clock.knows and self._clock.share(self.step, more=1) < self.budget

    def _accumulating(self, since: int) -> None:
        """Gradients of one step that were still there when the next arrived."""
        self._say(Event(since, "accumulating", "", "The gradients of the step before are still there: each step adds to them.",
                        "Call optimizer.zero_grad() in each step.", since - 1))  # fmt: skip

    def _on_step(self) -> None:
        """Before each step of the optimizer; what is done here is done at every step, and so is little."""
        self._written = written = self._writes.unusual() and self.step > EARLY[-1]
        alarming = self._settings.alarming(self.step)
        grad = self._first.grad
        if grad is not None:
            since = self._leftovers.since(grad, self.step) if self.optimizers else None
            if since is not None:
                self._accumulating(since)
            size = math.hypot(*grad.tolist()) if self._short else _norm(grad)
            if not self._least < size < self._largest:
                self._checked(size)
        elif self._largest and self._first.requires_grad:
            self._missing()
        if self._look is None:
            if not written and not alarming:
                self.step += 1
                return
            self._clock.look_begins()
            self._look, self._hooks.seen = Look(self.step), []
        self._close_look(self._look)
        if not self.optimizers:
            self._next()

    def _checked(self, size: float) -> None:
        """The norm of one gradient behind which everything lies, outside what it was so far: not finite, 0, or far off."""
        if not math.isfinite(size):
            if self._first.grad is not None and bool(self._first.grad.isfinite().all()):
                size = float(self._first.grad.double().norm())  # the squares alone were too large
            else:
                self._broken()
                return
        if size == 0.0 or size < 1e-4 * (self._least if self._largest else 0.0):
            self._quiet(size)
            return
        self._jumped = size > JUMP * self._largest > 0
        if self._jumped and self._look is None:
            self._second_look("jump")
        self._largest, self._least = max(self._largest, size), min(self._least, size)

    def _quiet(self, size: float) -> None:
        """A gradient that is 0, or very small: at once where the cause is seen, else when it stays so."""
        begins, self._quiet_until = self.step > self._quiet_until + 1, self.step
        if begins:
            self._quiet_since = self.step
            if self._look is None:
                self._second_look("quiet")
        since = self._quiet_since
        if self.step - since == STAYS and not any(e.step >= since - 1 for e in self.events):
            before = f"; before it was {self._least:.3g} or more" if self._largest else ""
            much = "0" if size == 0.0 else "next to 0"
            self._say(Event(since, "vanishing", self._layers[self._name], f"Its gradient has been {much} for {STAYS} steps{before}. The "
                            "loss is flat there (all samples satisfied or masked), or what follows is cut off.",
                            "Look at the loss, and at clamps and masks between.", since - 1 if since else None))  # fmt: skip

    def _missing(self) -> None:
        """A gradient that came before and comes no more; some steps without it are usual where layers are left out by chance."""
        if self.step > self._quiet_until + 1:
            self._quiet_since = self.step
        self._quiet_until, since = self.step, self._quiet_since
        if self.step - since == STAYS:
            self._say(Event(since, "disconnected", self._layers[self._name], f"No gradient has reached it for {STAYS} steps: the loss "
                            "does not depend on it any more, or the way is cut by detach or no_grad.", "Take out the cut, "
                            "or set requires_grad to False if it is meant.", since - 1))  # fmt: skip

    def _second_look(self, why: str) -> None:
        """Something changed at a step that was not seen closely: run its batch forwards again."""
        if self._odd[why] >= SECOND or self._batch is None:
            return
        self._odd[why] += 1
        look = Look(self.step, inputs=_sizes(self._inputs()))
        look.record(rerun(self.model, *self._batch, measure_ends))
        self._norms_of(look)
        self._judge(look)
        self._jumped = False

    def _norms_of(self, look: Look) -> None:
        """The norms of gradients and weights, and the units without a gradient."""
        grads = {n: p.grad for n, p in self.parameters.items() if p.grad is not None}
        look.gradients = dict(zip(grads, _norms([g for g in grads.values() if g is not None]), strict=True))
        look.weights = dict(zip(self.parameters, _norms([p.detach() for p in self.parameters.values()]), strict=True))
        look.floors, look.written = self._floors, self._written
        look.rates = tuple(float(g["lr"]) for g in self._settings.groups)
        look.idle = {
            n: float((g.flatten(1).abs().amax(1) == 0).float().mean())
            for n, g in grads.items()
            if not look.dead and self._has_units(n, g)
        }

    def _close_look(self, look: Look) -> None:
        self._hooks.look_away()
        look.record(self._hooks.seen)
        self._norms_of(look)
        without = [n for n in self.parameters if n not in look.gradients]
        if self.step == 0:
            self._look_at_the_mode()
        if without and self.step in EARLY and self.optimizers:
            self._say(Event(self.step, "disconnected", without[0], f"No gradient reaches {len(without)} of the parameters: "
                            "the loss does not depend on them, or the way is cut by detach or no_grad.",
                            "Take out the cut, or set requires_grad to False if it is meant."))  # fmt: skip
        if self.optimizers:
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
        whole = next((x for x in reversed(self.looks) if x.outputs), None)
        self.looks.append(look)
        look.starts = self.looks[0].weights
        look.waking = self.looks[0].starts_at_zero and look.step <= EARLY[-1]
        if not look.moves:
            look.unmoved = look.step if before is None or before.unmoved is None else before.unmoved
        jump = jump_of(look, whole, self._layers) if self._jumped and whole is not None else None
        self._jumped = False
        for event in (*findings_of(look, before, jump), *self._settings.events):
            self._say(event)
        self._settings.events.clear()

    def _say(self, event: Event) -> None:
        """Keep the first event of each kind, with what rose not long before."""
        buried = event.kind == "dead" and any(e.kind == "overwritten" and e.layer == event.layer for e in self.events)
        if not buried and not any(e.kind == event.kind for e in self.events):
            rose = "" if event.kind in STRUCTURE else self._settings.history(event.step)
            self.events.append(dataclasses.replace(event, cause=event.cause + rose))

    def _broken(self) -> None:
        """The first gradient that is not finite: run the same batch forwards again and find where it comes from."""
        if any(e.kind == "not finite" for e in self.events):
            return
        seen = rerun(self.model, *self._batch, measure_ends) if self._batch else []
        grads = {n: p.grad for n, p in self.parameters.items() if p.grad is not None}
        values = {n: p.detach() for n, p in self._inner.named_parameters()}
        layer, cause, remedy = source_of_nan(seen, self._inputs(), values, grads)
        before = next((e for e in self.events if 0 < self.step - e.step < 3 and e.kind in STRIKES), None)
        if before is not None:
            where = f" in {before.layer}" if before.layer else ""
            cause, remedy = f"{cause} It follows what began at step {before.step} ({before.kind}{where}).", ""
        spoiled = layer in values and not bool(values[layer].isfinite().all())
        by_update = spoiled and self.step and not self._written  # it is the step before that was the first
        step = self.step - 1 if by_update else self.step
        event = Event(
            step, "not finite", layer, cause + ("" if before else self._growth()), remedy, step - 1 if step else None
        )
        self._say(event)
        if self.stop:
            raise InputError(str(event))

    def _inputs(self) -> list[Tensor]:
        """The tensors of numbers that the model was given last."""
        leaves = torch.utils._pytree.tree_leaves(self._batch or ())
        return [t for t in leaves if isinstance(t, Tensor) and t.is_floating_point()]

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


def _first_of(parameters: Mapping[str, Tensor]) -> Tensor:
    """A parameter of the first module that has any: a small matrix, which sees what goes in, else the smallest."""
    module = next(iter(parameters)).rpartition(".")[0]
    own = [p for n, p in parameters.items() if n.rpartition(".")[0] == module]
    return next((p for p in own if 1 < p.ndim and p.numel() <= SMALL), min(own, key=lambda p: p.numel()))


def _norm(grad: Tensor) -> float:
    """The Euclidean norm, at the least cost: of few entries a list, which needs no kernel."""
    flat = grad if grad.ndim == 1 else grad.reshape(-1)
    if len(flat) <= SMALL:
        return math.hypot(*flat.tolist())
    square = torch.dot(flat, flat).item()  # a third of what a norm costs
    return math.sqrt(square) if square >= 0 else square


def _usual(p: Tensor) -> float:
    """The squared norm that weights of this shape begin with: 1 for each row, or for each entry of a vector."""
    return float(p.shape[0] if p.ndim > 1 else p.numel())


def _sizes(tensors: Sequence[Tensor]) -> tuple[float, ...]:
    """Root mean squares."""
    return tuple(float(norm(t.detach())) / max(t.numel(), 1) ** 0.5 for t in tensors)


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    """Euclidean norms, in one call and one transfer."""
    return torch.stack([t.float() for t in torch._foreach_norm(tensors)]).tolist() if tensors else []  # type: ignore[arg-type]
