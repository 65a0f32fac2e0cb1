"""Settings of the rule that are off, as if they were on, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import InputError
from ...optimizers import Optimizer
from ...optimizers import optimizer as find_optimizer
from .edits import Edit, everywhere, expression
from .program import Program, program_of
from .wrappers import UNKNOWN

__all__ = ["switches", "turned_off"]

LEFT = ("lr", "maximize", "t0")


def switches(rule: Optimizer, shape: tuple[int, ...]) -> Iterator[Edit]:
    """The rule with one more setting, whose value is open, or with one flag turned."""
    for name, value in rule.hyper.items():
        if name in LEFT:
            continue
        if isinstance(value, bool):
            new = _with(rule, name, not value)
            words = f"{name} is ignored" if value else f"it goes as if {name} were set"
        elif isinstance(value, (int, float)) and value == 0:
            new, words = _with(rule, name, 0.5), f"it goes as if {name} were {{c}} instead of 0"
        else:
            continue
        if new is None:
            continue
        program = program_of(new, shape)
        if not isinstance(value, bool):
            program = everywhere(program, name, expression(UNKNOWN))
        yield Edit(program, "wrapped", name, (), how=words)


def turned_off(rule: Optimizer, name: str, shape: tuple[int, ...]) -> Program | None:
    """The rule's program without a flag; None where the rule cannot do without it."""
    new = _with(rule, name, False)
    return None if new is None else program_of(new, shape)


def _with(rule: Optimizer, name: str, value: float | bool) -> Optimizer | None:
    settings: dict[str, Any] = {name: value}
    try:
        return find_optimizer(rule, **settings)
    except InputError:
        return None
