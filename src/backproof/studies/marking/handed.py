"""What somebody hands in: numbers as people write them, each as precise as its last digit."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import FormulaError, InputError
from ...formula import read_quantity

__all__ = ["Handed", "Sheet", "close", "read_answers", "read_number"]

LARGEST_FILE = 10_000_000
_DECIMAL = re.compile(r"[+-]?(?P<whole>\d*)\.?(?P<part>\d*)(?:[eE](?P<power>[+-]?\d+))?")
FINE = 1e-6
"""What single precision may lose: nobody is marked down for float32."""


class Written(float):
    """A number that remembers how it was written."""

    text: str

    def __new__(cls, text: str) -> Written:
        """Read the text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


@dataclass(frozen=True)
class Handed:
    """A quantity as handed in.

    Args:
        numbers: its entries.
        unit: the worth of the last digit written of each entry; 0 where it was written exactly ("pi/2").
        coarse: entries written so coarsely (one digit, no decimals) that agreement says little.
    """

    numbers: Tensor
    unit: Tensor
    coarse: Tensor

    def shaped(self, shape: tuple[int, ...]) -> Handed:
        """The same entries in another shape."""
        return Handed(self.numbers.reshape(shape), self.unit.reshape(shape), self.coarse.reshape(shape))

    @property
    def transposed(self) -> Handed:
        """The transpose of a matrix."""
        return Handed(self.numbers.T, self.unit.T, self.coarse.T)


@dataclass(frozen=True)
class Sheet:
    """A sheet of answers: numbers of each step, formulas, answers to what was asked, and settings."""

    steps: dict[int, dict[str, Any]]
    formulas: dict[str, str]
    answers: dict[str, Any]
    settings: dict[str, Any]


def read_answers(answers: Mapping[Any, Any] | str | os.PathLike[str]) -> Sheet:
    """Read answers from a mapping, or from a TOML or JSON file.

    Raises:
        InputError: the file cannot be read, or has something else in it.
    """
    if isinstance(answers, Mapping):
        return _sheet(answers, "the answers")
    path = Path(answers)
    text = _text(path)
    try:
        data = (
            json.loads(text, parse_float=Written)
            if path.suffix == ".json"
            else tomllib.loads(text, parse_float=Written)
        )
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not {path.suffix[1:].upper()}: {str(error)[:200]}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path.name} must hold tables such as [step.1], not a {type(data).__name__}")
    return _sheet(data, path.name)


def _text(path: Path) -> str:
    if path.suffix not in (".toml", ".json"):
        raise InputError(f"answers are a .toml or .json file, not '{path.name[:80]}'")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path.name} has more than {LARGEST_FILE:,} bytes; answers are smaller")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"'{str(path)[:200]}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path.name} is not text in UTF-8") from None


_TABLES = ("step", "formula", "answers", "settings")


def _sheet(data: Mapping[Any, Any], where: str) -> Sheet:
    if unknown := [str(k) for k in data if k not in _TABLES]:
        raise InputError(
            f"{where} has a table '{unknown[0][:60]}'; answers go under [step.1], [step.2]..., [formula], [answers], "
            "and the settings they were worked with under [settings]"
        )
    steps = {}
    for number, table in _table(data, "step", where).items():
        if not str(number).isdecimal() or int(number) < 1:
            raise InputError(f"{where}: steps are counted from 1, as in [step.1], not [step.{str(number)[:40]}]")
        if not isinstance(table, Mapping):
            raise InputError(f'{where}: [step.{number}] holds lines such as loss = 1.97 or "grad.w" = [0.1, 0.2]')
        steps[int(number)] = {str(k): v for k, v in table.items()}
    formulas = _table(data, "formula", where)
    if bad := [k for k, v in formulas.items() if not isinstance(v, str)]:
        raise InputError(f'{where}: the formula of {bad[0]} must be a text, as in "dL/dw" = "2 * (y - t) * x"')
    rest = {k: _table(data, k, where) for k in ("answers", "settings")}
    sheet = Sheet(steps, {str(k): v for k, v in formulas.items()}, rest["answers"], rest["settings"])
    if not (sheet.steps or sheet.formulas or sheet.answers):
        raise InputError(f"{where} has no answers: they go under [step.1], [formula] or [answers]")
    return sheet


def _table(data: Mapping[Any, Any], key: str, where: str) -> dict[Any, Any]:
    table = data.get(key, {})
    if not isinstance(table, Mapping):
        raise InputError(f"{where}: [{key}] must be a table")
    return dict(table)


# --- numbers ----------------------------------------------------------------------------------------------------------------
def read_number(value: Any, what: str) -> Handed:
    """A quantity as handed in: a number, nested lists, a tensor, or exact text such as "pi/2".

    Raises:
        InputError: it is no number, or its rows differ in length.
    """
    if hasattr(value, "detach"):
        value = value.detach().tolist()
    elif hasattr(value, "tolist"):
        value = value.tolist()
    shape = _shape(value, what)
    entries = [_entry(v, what) for v in _flat(value)]
    finest = min((e.unit for e in entries if e.unit > 0), default=0.0)
    # 0.6 among 0.5983 and 0.4120 may be 0.6000 without its zeros: the finest entry says how far people went
    units = [e.unit if e.digits >= 2 or e.unit == 0 else finest for e in entries]
    coarse = [e.unit > 0 and e.digits < 2 and finest > 0.05 for e in entries]

    def column(numbers: list[Any]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float64).reshape(shape)

    return Handed(column([e.number for e in entries]), column(units), column(coarse) > 0)


def _flat(value: Any) -> list[Any]:
    return [x for v in value for x in _flat(v)] if isinstance(value, (list, tuple)) else [value]


def _shape(value: Any, what: str, depth: int = 0) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)):
        return ()
    if depth > 8 or not value:
        raise InputError(f"{what} is an empty list or nested too deeply")
    shapes = {_shape(v, what, depth + 1) for v in value}
    if len(shapes) != 1:
        raise InputError(f"the rows of {what} differ in length")
    return (len(value), *shapes.pop())


@dataclass(frozen=True)
class _Entry:
    """One number, the worth of its last digit (0: written exactly), and its significant digits."""

    number: float
    unit: float
    digits: int


def _entry(value: Any, what: str) -> _Entry:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise InputError(f"{what} must be numbers, not {value!r:.80}")
    if isinstance(value, str):
        return _Entry(_exactly(value, what), 0.0, 17)
    if abs(value) > 1e300 or not math.isfinite(value):
        raise InputError(f"{what} contains {str(value)[:40]}, which is no finite number below 1e300")
    return _Entry(float(value), *_precision(getattr(value, "text", None) or repr(value)))


def _exactly(text: str, what: str) -> float:
    try:
        return float(read_quantity(text, what).value)
    except (FormulaError, TypeError) as error:
        raise InputError(str(error)) from None


def _precision(text: str) -> tuple[float, int]:
    """The worth of the last digit of a decimal number, and its significant digits."""
    found = _DECIMAL.fullmatch(text.replace("_", ""))
    if found is None:
        return 0.0, 17
    decimals = len(found["part"]) - int(found["power"] or 0)
    digits = len((found["whole"] + found["part"]).lstrip("0"))
    return (10.0**-decimals if abs(decimals) < 300 else 0.0), digits


def close(given: Handed, *true: Tensor) -> Tensor:
    """Which entries are right as people round: rounded or cut off at their last digit.

    Of several true numbers (the record's, and what follows from numbers that were rounded before) each is right, and
    so is what lies between them.
    """
    stacked = torch.stack(true)
    target = given.numbers.clamp(stacked.amin(0), stacked.amax(0))
    error = (given.numbers - target).abs()
    size = target.abs().max() if target.numel() else torch.tensor(0.0)
    fine = FINE * torch.maximum(target.abs(), 1e-3 * size) + 1e-12
    cut = (given.numbers.abs() <= target.abs()) & (error < given.unit * (1 - 1e-9))
    return (error <= torch.maximum(fine, given.unit * (0.5 + 1e-6))) | cut
