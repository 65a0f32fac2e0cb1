"""Search a problem's settings for those that predict best what they were not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...document.blocks import Document
from ...errors import BackproofError, InputError
from ...optimizers import RULES
from ...problems.problem import Exercise, FormulaProblem, Problem
from ...result import Result, plain
from ..answer import Answer
from ..load import load_problem
from ..prepare import prepare
from ..program import Program
from ..verdicts import TOLERANCE, Evidence
from .held_out import Diverged, Fits, Split, _fixed, _loss_of, fit_alone, fit_many, fit_ourselves, leave_out, rows_of
from .sharpness import largest_curvature, stable_below
from .space import LARGEST, Choices, Range, Space, space_of
from .trials import Measured, Stopped, Tried, fingerprint, run_trials

__all__ = ["Search", "search"]

FEW, PAIRS = 60, 20
"""Up to FEW samples one is left out at a time, up to PAIRS two are, for the nested figure; beyond, five parts."""
PARTS = 5
OWN_UPDATES = 300


@dataclass(frozen=True)
class Search(Result):
    """A finished search; see :func:`search`.

    Args:
        best: the settings that were chosen.
        value: their held-out loss, by which they were chosen (the training loss where nothing can be left out).
        train: the loss of a network trained with them on all samples that the search may see.
        nested: the held-out loss of the whole procedure, choosing included; None where it is not computed.
        trials: what was tried, in order.
        protocol: how the held-out loss was measured, in words.
    """

    id: str
    title: str
    settings: dict[str, Any]
    space: Space
    best: dict[str, Any]
    value: float
    train: float
    nested: float | None
    trials: tuple[Tried, ...]
    protocol: str
    evidence: tuple[Evidence, ...]
    remarks: tuple[str, ...]
    fits: Fits

    @property
    def finding(self) -> bool:  # type: ignore[override]
        """Whether two ways to a number disagree."""
        return any(e.agrees is False for e in self.evidence)

    @property
    def answers(self) -> dict[str, Any]:
        """What came out, in short."""
        return {"best": self.best, "held_out": self.value, "train": self.train, "nested": self.nested}

    def answer(self) -> Answer:
        """The search as a part of an exercise's answer."""
        from .page import blocks_of

        return Answer(self.answers, blocks_of(self), self.evidence, self.remarks)

    def document(self) -> Document:
        """The search as a page."""
        from .page import document_of

        return document_of(self)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The search as plain data."""
        tried = [
            {"number": t.number, "settings": t.settings, "value": t.value, "why": t.why, **_short(t.kept)}
            for t in self.trials
        ]
        found: dict[str, Any] = {
            "problem": self.id,
            "settings": self.settings,
            "space": {n: c.said() for n, c in self.space.items()},
            "protocol": self.protocol,
            "answers": self.answers,
            "trials": tried,
            "remarks": list(self.remarks),
            "evidence": [e.to_dict() for e in self.evidence],
        }
        return plain(found, full)  # type: ignore[no-any-return]


def _short(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in kept.items() if k in ("train", "why_not")}


def search(
    problem: Any,
    *,
    trials: int,
    storage: str | None = None,
    seed: int = 0,
    space: Mapping[str, Any] | None = None,
    train_below: float | None = None,
    **settings: Any,
) -> Search:
    """Search a problem's settings for those with the smallest loss on samples that were left out.

    Up to 60 samples, each is left out once and predicted by a network trained on the others (leave-one-out); beyond, a
    fifth is put aside, never seen by the search, and the rest is divided into five parts that are left out in turn. The
    value that a search minimises is optimistic about its winner, so a second figure is given: up to 20 samples, the
    choice is made again without each sample and judged on it (nested); beyond 60, the samples put aside judge it.

    Args:
        problem: a built-in id, a file, or a problem with a network that is trained.
        trials: how many settings to try, those in ``storage`` included.
        storage: an SQLite file that keeps the trials, so that a search can go on later.
        seed: of the proposals; the problem's own ``seed`` is a setting like any other.
        space: setting -> ``(low, high)``, ``(low, high, "log")`` or a list of choices; the problem's ``search`` by
            default, and its learning rate over five decades where it has none.
        train_below: choose only among settings with which the loss after training, on the samples trained on, is below
            this; the best of all where there are none, and the remarks say so.
        **settings: the problem's other settings, held fixed.

    Returns:
        A :class:`Search`: ``best``, ``value`` (held out), ``train``, ``nested``, ``trials``, ``evidence``.

    Raises:
        InputError: the space, the number of trials, the storage or a setting cannot be used, or every trial diverged.

    Example:
        >>> import torch, backproof as bp
        >>> x = torch.linspace(-1, 1, 8).unsqueeze(1)
        >>> line = bp.Problem(torch.nn.Linear(1, 1), x, 2 * x + 1, loss="mse", optimizer="sgd", steps=20)
        >>> found = bp.search(line, trials=3, space={"lr": (0.01, 0.5, "log")})
        >>> len(found.trials), found.value < 0.1
        (3, True)

    Source: Akiba et al. 2019 (Optuna); TPE: Bergstra et al. 2011; nested cross-validation: Varma and Simon 2006.
    """
    loaded, id = load_problem(problem)
    if isinstance(loaded, Exercise):
        raise InputError(f"'{id}' has no single network whose settings could be searched; give a bp.Problem")
    task = _Task(loaded, settings, id, seed)
    wanted = space_of(space if space is not None else _own_space(loaded, task.program))
    task.check(wanted)
    name = fingerprint(id, settings, {n: c.said() for n, c in wanted.items()}, seed, task.data())
    limit = None if train_below is None else ("train", train_below)
    tried = run_trials(
        task.measure,
        wanted,
        trials=trials,
        seed=seed,
        first=task.first(wanted),
        storage=storage,
        name=name,
        limit=limit,
    )
    done = [t for t in tried if t.value is not None]
    if not done:
        reason = tried[0].kept.get("why_not", "")
        raise InputError(f"none of the {len(tried)} trials has a loss ({reason}); search smaller learning rates")
    return _finished(task, wanted, tried, train_below)


def _own_space(problem: Problem | FormulaProblem, program: Program) -> Mapping[str, Any]:
    own = getattr(problem, "search", {})
    if own or program.optimizer is None:
        return own
    lr = float(program.optimizer.hyper["lr"]) or 1e-3
    return {"lr": (lr / 300, lr * 300, "log")}


# --- the task: one problem, its data divided -----------------------------------------------------------------------------
class _Task:
    """A problem whose settings are searched: what a trial is, and how it is measured."""

    def __init__(self, problem: Problem | FormulaProblem, settings: Mapping[str, Any], id: str, seed: int) -> None:
        self.problem, self.settings, self.id = problem, dict(settings), id
        for name, value in self.settings.items():
            if isinstance(value, int) and abs(value) > LARGEST and name != "seed":
                raise InputError(f"the setting '{name}' is {value:,}; a search takes whole numbers up to {LARGEST:,}")
        prepared = prepare(problem, self.settings, id)
        self.title, self.program, self.shown = prepared.title, prepared.program, prepared.settings
        if self.program.optimizer is None or self.program.graph.loss is None:
            raise InputError(f"'{id}' trains nothing: a search needs a loss and an optimizer")
        if drawn := self.program.graph.of_role("draw"):
            raise InputError(
                f"'{id}' draws at random in training ({drawn[0].name}), and a search measures the loss on samples that were left "
                "out; set the dropout to 0, or give the model in evaluation: model.eval()"
            )
        self._known: dict[str, Program] = {}
        self._divide(rows_of(self.program), seed)

    def _divide(self, rows: int, seed: int) -> None:
        self.aside = torch.empty(0, dtype=torch.long)
        self.seen = torch.arange(rows)
        self.pairs: Split | None = None
        if rows < 3:
            self.protocol = "the training loss: there are too few samples to leave one out"
            self.splits: list[Split] = []
        elif rows <= FEW:
            self.protocol = f"leave-one-out: {rows} trainings, each without the sample that it is measured on"
            self.splits = [leave_out(rows)]
            self.pairs = leave_out(rows, 2) if 4 <= rows <= PAIRS else None
        else:
            order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
            self.aside, self.seen = order[: rows // PARTS].sort().values, order[rows // PARTS :].sort().values
            self.protocol = f"{PARTS} parts: a fifth of the {rows} samples was put aside, and of the others each part was left out once"
            self.splits = _parts_of(self.seen, seed)

    def data(self) -> str:
        """The data and the network in short, so that trials on other data are not taken for these."""
        sums = [(n, tuple(t.shape), float(t.double().sum()), float(t.double().square().sum()))
                for n, t in sorted(self.program.start.items()) if n in self.program.samples]  # fmt: skip
        formulas = getattr(self.problem, "model", None)
        return repr((sums, formulas if isinstance(formulas, Mapping) else "", self.program.steps))

    def check(self, space: Space) -> None:
        """Try the ends of the space before anything is trained: a name or a value that cannot be used is said at once."""
        for name, part in space.items():
            ends = [part.low, part.high] if isinstance(part, Range) else list(part.values)
            for value in ends if name in ("steps", "optimizer") or isinstance(part, Choices) else ends[:1]:
                self.prepared({**self._middle(space), name: value})

    def _middle(self, space: Space) -> dict[str, Any]:
        return {n: p.near(self.shown.get(n, self._hyper().get(n))) for n, p in space.items() if isinstance(p, Choices)}

    def _hyper(self) -> dict[str, Any]:
        assert self.program.optimizer is not None
        return self.program.optimizer.hyper

    def prepared(self, tried: Mapping[str, Any]) -> Program:
        """The program of a trial; hyper-parameters that its optimizer has not are left out."""
        rule = str(tried.get("optimizer", self._rule()))
        own = set(getattr(self.problem, "settings", {}))
        hyper = {k for r in RULES.values() for k in r.hyper} - own
        known = set(RULES[rule].hyper) if rule in RULES else hyper
        kept = {k: v for k, v in tried.items() if k not in hyper or k in known}
        return prepare(self.problem, {**self.settings, **kept}, self.id).program

    def _rule(self) -> str:
        assert self.program.optimizer is not None
        return self.program.optimizer.rule.name

    def measure(self, tried: dict[str, Any]) -> Measured:
        """Train with these settings and measure on what was left out."""
        try:
            program = self.prepared(tried)
            train = float(self.whole(program).train[0])
            if not self.splits:
                return Measured(train, {"train": train})
            fits = [fit_many(program, split) for split in self.splits]
            pairs = fit_many(program, self.pairs).test.tolist() if self.pairs is not None else []
        except Diverged as reason:
            raise Stopped(str(reason)) from None
        except (BackproofError, RuntimeError, ValueError, TypeError, IndexError) as reason:
            raise Stopped(str(reason)[:200]) from None
        out = torch.cat([f.test for f in fits]).mean(1).tolist()
        sizes = torch.tensor([s.test.shape[1] for s in self.splits for _ in range(len(s.test))], dtype=torch.float64)
        value = float((torch.tensor(out, dtype=torch.float64) * sizes).sum() / sizes.sum())
        return Measured(value, {"train": train, "out": out, "pairs": pairs})

    def whole(self, program: Program) -> Fits:
        """Train on all samples that the search may see, and measure on those put aside."""
        aside = self.aside if len(self.aside) else self.seen[:1]
        return fit_alone(
            program, Split(self.seen.unsqueeze(0), aside.unsqueeze(0)) if self.splits else _everything(program)
        )

    def first(self, space: Space) -> list[tuple[dict[str, Any], str]]:
        """What is known before the search: the problem's own settings, and a rate that the curvature allows."""
        own = {n: part.near(self.shown.get(n, self._hyper().get(n))) for n, part in space.items()}
        own = {n: v for n, v in own.items() if v is not None}
        found = [(own, "the problem's own settings")] if own else []
        lr, choice = space.get("lr"), space.get("optimizer")
        if isinstance(lr, Range) and (rate := self._curved()) is not None:
            sgd = choice.near("sgd") if isinstance(choice, Choices) else None
            if self._rule() == "sgd" or sgd == "sgd":
                settings = {**own, "lr": lr.near(rate), **({"optimizer": "sgd"} if sgd == "sgd" else {})}
                found.append((settings, "half the rate that the curvature at the start allows"))
        return found

    def _curved(self) -> float | None:
        call, program = _loss_of(self.program.graph), self.program
        data = {n: program.start[n] for n in program.samples}
        start = {n: program.start[n] for n in program.trained}
        curvature = largest_curvature(lambda at: call(at, data, _fixed(program)), start)
        limit = None if curvature is None else stable_below("sgd", self._hyper(), curvature)
        return None if limit is None else limit / 2


def _everything(program: Program) -> Split:
    rows = torch.arange(max(rows_of(program), 1))
    return Split(rows.unsqueeze(0), rows[None, :1])


def _parts_of(rows: torch.Tensor, seed: int) -> list[Split]:
    """Five parts of nearly equal size, each left out once; copies of one size are trained together."""
    order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed + 1))]
    parts = [p.sort().values for p in order.tensor_split(PARTS)]
    found = []
    for size in sorted({len(p) for p in parts}):
        outs = [p for p in parts if len(p) == size]
        kept = [torch.tensor(sorted(set(rows.tolist()) - set(p.tolist()))) for p in outs]
        found.append(Split(torch.stack(kept), torch.stack(outs)))
    return found


# --- the winner ----------------------------------------------------------------------------------------------------------
def _finished(task: _Task, space: Space, tried: tuple[Tried, ...], below: float | None) -> Search:
    done = sorted((t for t in tried if t.value is not None), key=lambda t: t.value or 0.0)
    able = [t for t in done if below is None or t.kept["train"] < below]
    best = (able or done)[0]
    program = task.prepared(best.settings)
    fits = task.whole(program)
    nested, said = _judged(task, able or done, fits)
    remarks = (
        *said,
        _chosen_among(able, done, below),
        *_edges(space, best),
        f"{sum(t.value is None for t in tried)} of {len(tried)} trials diverged or could not be used, and were stopped."
        if any(t.value is None for t in tried)
        else "",
    )
    return Search(
        id=task.id,
        title=task.title,
        settings=task.shown,
        space=space,
        best=best.settings,
        value=float(best.value or 0.0),
        train=float(fits.train[0]),
        nested=nested,
        trials=tried,
        protocol=task.protocol,
        evidence=_confirmed(task, program, best, fits),
        remarks=tuple(r for r in remarks if r),
        fits=replace(fits, parameters={n: t[0] for n, t in fits.parameters.items()}),
    )


def _chosen_among(able: list[Tried], done: list[Tried], below: float | None) -> str:
    if below is None:
        return ""
    if not able:
        return (
            f"With none of the settings tried does the training loss get below {below:.6g}; the best of all is shown."
        )
    return f"Chosen among the {len(able)} of {len(done)} settings with which the training loss gets below {below:.6g}."


def _judged(task: _Task, tried: list[Tried], fits: Fits) -> tuple[float | None, tuple[str, ...]]:
    """The second figure: what the whole procedure, choosing included, is worth on samples that it has not seen."""
    if len(task.aside):
        text = f"The {len(task.aside)} samples put aside took no part in the search: their loss is the honest figure."
        return float(fits.test[0].mean()), (text,)
    if task.pairs is None:
        kind = "training loss" if not task.splits else "held-out loss"
        return None, (f"The best of several {kind}es is optimistic: it was chosen because it is the smallest.",)
    pairs = task.pairs.test
    out, rows = [], rows_of(task.program)
    done = [t for t in tried if t.value is not None and t.kept.get("pairs")]
    for i in range(rows):
        with_i = (pairs == i).any(1)
        others = [_mean_at_other(torch.tensor(t.kept["pairs"])[with_i], pairs[with_i], i) for t in done]
        chosen = min(range(len(done)), key=lambda k: others[k])
        out.append(float(done[chosen].kept["out"][i]))
    text = (
        "The held-out loss of the winner is optimistic, because it was chosen for it. Nested, the choice is made anew "
        "without each sample, from trainings that never saw it, and judged on it. One leak is left: which settings were "
        "tried at all was proposed by a search that saw all samples."
    )
    return sum(out) / rows, (text,)


def _mean_at_other(losses: torch.Tensor, pairs: torch.Tensor, i: int) -> float:
    """The mean loss at the other sample of each pair that contains i."""
    return float(losses[pairs != i].mean())


def _edges(space: Space, best: Tried) -> tuple[str, ...]:
    found = []
    for name, part in space.items():
        value = best.settings.get(name)
        if isinstance(part, Range) and isinstance(value, (int, float)):
            for end, side in ((part.low, "lower"), (part.high, "upper")):
                if abs(value - end) <= 0.02 * abs(end):
                    found.append(f"The best {name} lies at the {side} end of its range: search beyond {end:g} too.")
    return tuple(found)


def _confirmed(task: _Task, program: Program, best: Tried, fits: Fits) -> tuple[Evidence, ...]:
    """The winner's figures again: each training by itself with torch.optim, and by our own gradients and updates."""
    if not task.splits:
        return (_alike("training loss", "trained again", float(fits.train[0]), float(best.value or 0.0), 1, 1),)
    claimed = torch.tensor(best.kept["out"], dtype=torch.float64)
    alone = torch.cat([fit_alone(program, s).test.mean(1) for s in task.splits])
    found = [_close("held-out losses", "torch.optim, one training after another", claimed, alone, len(claimed))]
    share = max(1, min(len(task.splits[0].train), OWN_UPDATES // max(1, program.steps * len(program.batches()))))
    if sum(t.numel() for t in program.start.values()) * program.steps <= 2_000_000:
        cut = Split(task.splits[0].train[:share], task.splits[0].test[:share])
        oracle = "Backproof's own gradients and updates"
        ours = fit_ourselves(program, cut).test.mean(1)
        found.append(_close("held-out losses", oracle, claimed[:share], ours, len(claimed)))
        again = fit_ourselves(program, Split(task.seen.unsqueeze(0), task.seen[None, :1])).train
        found.append(_close("training loss", oracle, fits.train, again, 1))
    return tuple(found)


def _close(what: str, oracle: str, claimed: torch.Tensor, again: torch.Tensor, of: int) -> Evidence:
    scale = max(float(again.abs().max()), 1e-300)
    error = float((claimed - again).abs().max()) / scale
    return Evidence(what, oracle, error <= 1e3 * TOLERANCE, error, len(again), of)


def _alike(what: str, oracle: str, a: float, b: float, looked: int, of: int) -> Evidence:
    error = abs(a - b) / max(abs(b), 1e-300)
    return Evidence(what, oracle, error <= 1e3 * TOLERANCE, error, looked, of)
