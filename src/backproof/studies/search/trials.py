"""The trials of a search, kept by Optuna: proposed, recorded, resumed from a file."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...progress import task
from .space import Space

__all__ = ["Measured", "Tried", "fingerprint", "run_trials"]

SQLITE = b"SQLite format 3\x00"
MOST_TRIALS = 10_000
STARTUP = 8
"""How many trials are drawn at random before the sampler learns from them."""


@dataclass(frozen=True)
class Measured:
    """What one trial found: the value that the search minimises, and what else is kept of it."""

    value: float
    kept: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tried:
    """One trial: its number from 1, its settings, its value (None if it diverged), what it kept, and why it was tried."""

    number: int
    settings: dict[str, Any]
    value: float | None
    kept: dict[str, Any]
    why: str


class Stopped(Exception):
    """A trial that has no value; the message says why."""


def fingerprint(*parts: Any) -> str:
    """A short name for what is searched, so that a file of other trials is not mixed up with these."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def run_trials(
    measure: Callable[[dict[str, Any]], Measured],
    space: Space,
    *,
    trials: int,
    seed: int,
    first: Sequence[tuple[dict[str, Any], str]] = (),
    storage: str | None = None,
    name: str = "search",
    limit: tuple[str, float] | None = None,
) -> tuple[Tried, ...]:
    """Run a search until it has so many trials, those of an earlier call with the same storage included.

    Trials are proposed by Optuna's TPE sampler. It is seeded anew for each trial by the seed and the trial's number, so a
    search that was interrupted and resumed is the search that was not.

    Args:
        measure: settings -> what they are worth; raises ``Stopped`` for what has no value.
        first: settings to try first, each with the reason.
        limit: a figure that a trial keeps, and what it must stay below; the sampler prefers trials that do.

    Raises:
        InputError: the number of trials or the storage cannot be used.
    """
    if isinstance(trials, bool) or not isinstance(trials, int) or not 1 <= trials <= MOST_TRIALS:
        raise InputError(f"trials must be a whole number from 1 to {MOST_TRIALS:,}, not {trials!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise InputError(f"the search's seed must be a whole number from 0 to 2**31 - 1, not {seed!r}")
    with _quiet(), _study(storage, name) as study:
        _enqueue(study, first)
        done = len(_finished(study))
        with task("trials", trials) as advance:
            advance(min(done, trials))
            for number in range(done, trials):
                _one(study, space, measure, _sampler(seed, number, limit))
                advance(1, note=_note(study))
        return tuple(_tried(t, i) for i, t in enumerate(_finished(study)[:trials]))


def _sampler(seed: int, number: int, limit: tuple[str, float] | None) -> Any:
    import optuna

    def beyond(trial: Any) -> tuple[float]:
        name, most = limit or ("", 0.0)
        return (float(trial.user_attrs.get("kept", {}).get(name, most + 1.0)) - most,)

    return optuna.samplers.TPESampler(
        seed=(seed * 1_000_003 + number) % 2**32, n_startup_trials=STARTUP, constraints_func=beyond if limit else None
    )


def _one(study: Any, space: Space, measure: Any, sampler: Any) -> None:
    import optuna

    study.sampler = sampler
    trial = study.ask()
    settings = {n: choice.suggest(trial, n) for n, choice in space.items()}
    try:
        found = measure(settings)
    except Stopped as reason:
        trial.set_user_attr("why_not", str(reason))
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return
    trial.set_user_attr("kept", dict(found.kept))
    study.tell(trial, found.value)


def _finished(study: Any) -> list[Any]:
    from optuna.trial import TrialState

    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return sorted(study.get_trials(deepcopy=False, states=states), key=lambda t: t.number)


def _tried(trial: Any, place: int) -> Tried:
    kept = {**trial.user_attrs.get("kept", {})}
    if "why_not" in trial.user_attrs:
        kept["why_not"] = trial.user_attrs["why_not"]
    return Tried(place + 1, dict(trial.params), trial.value, kept, trial.user_attrs.get("why", "proposed"))


def _enqueue(study: Any, first: Sequence[tuple[dict[str, Any], str]]) -> None:
    if not study.get_trials(deepcopy=False):
        for settings, why in first:
            study.enqueue_trial(settings, user_attrs={"why": why}, skip_if_exists=True)


def _note(study: Any) -> str:
    values = [t.value for t in _finished(study) if t.value is not None]
    return f"best {min(values):.4g}" if values else ""


# --- the file ------------------------------------------------------------------------------------------------------------
@contextmanager
def _study(storage: str | None, name: str) -> Iterator[Any]:
    import optuna

    if storage is None:
        yield optuna.create_study(study_name=name)
        return
    from sqlalchemy.exc import SQLAlchemyError

    path = _checked(Path(storage))
    kept = None
    try:
        kept = optuna.storages.RDBStorage(f"sqlite:///{path}")
        yield optuna.create_study(storage=kept, study_name=name, load_if_exists=True)
    except (SQLAlchemyError, RuntimeError, AssertionError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
        raise InputError(
            f"the storage '{path}' cannot be used ({reason}); it is damaged, locked, or not a file of trials: "
            "give another path, or move it away"
        ) from None
    finally:
        if kept is not None:
            kept.remove_session()
            kept.engine.dispose()


def _checked(path: Path) -> Path:
    if not path.parent.is_dir():
        raise InputError(f"the storage '{path}' lies in a folder that does not exist; make it first")
    if path.is_dir():
        raise InputError(f"the storage '{path}' is a folder; give the path of a file, such as trials.db")
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(len(SQLITE)) != SQLITE:
                raise InputError(
                    f"the storage '{path}' is no SQLite file, or it is damaged; give the path of a new file, or of one "
                    "that an earlier search wrote"
                )
    return path.resolve()


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's log lines and experimental warnings stay out of the page and of stderr."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logger = logging.getLogger("alembic")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
        logger.setLevel(level)
