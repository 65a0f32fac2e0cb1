"""Read a TOML problem: parsed and checked, never evaluated; every unknown key is refused."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import FormulaError
from ..formula.parse import PRIME
from .problem import ANALYSES, Conventions, FormulaProblem
from .repeat import expanded, read_repeat

__all__ = ["read_toml"]

MAX_BYTES = 2_000_000
_CONVENTIONS = ("reduction", "batch", "layout", "index_base", "symbols", "arithmetic", "evidence", "seed")
_TOP = ("title", "about", "remarks", "given", "model", "repeat", "ask", "step", *_CONVENTIONS)
_STEP = ("parameters", "optimizer", "lr", "steps", "samples", "loss")
_NAME = re.compile(r"[A-Za-zα-ωΑ-Ω]\w*")


def read_toml(path: Path, label: str = "") -> FormulaProblem:
    """Read a problem file.

    Args:
        path: the file.
        label: how messages call it; its name by default.

    Raises:
        FormulaError: it is not TOML, has an unknown key, or lacks a model; one paragraph says which.
    """
    file = label or path.name
    text = _text(path, file)
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FormulaError(f"{file} is not TOML: {str(error)[:200]}") from None
    return _problem(table, file, path.parent, _lines(text))


def _text(path: Path, file: str) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise FormulaError(f"{file} has more than {MAX_BYTES:,} bytes; a problem file is for problems of a page")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise FormulaError(f"{file} is not text in UTF-8, so it is no TOML problem") from None


def _lines(text: str) -> dict[str, int]:
    """The line on which each key stands."""
    found: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r'\s*"?(\w+)"?\s*=', line):
            found.setdefault(match[1], number)
    return found


def _problem(table: Mapping[str, Any], file: str, folder: Path, lines: Mapping[str, int]) -> FormulaProblem:
    _only(table, _TOP, file)
    given = {
        name: _loaded(value, folder, f"'{name}' in {file}") for name, value in _table(table, "given", file).items()
    }
    model = _table(table, "model", file)
    if not model:
        raise FormulaError(f'{file} has no [model]; it needs formulas such as y = "sin(w @ x) - b"')
    for name in (*given, *model):
        if name in _CONVENTIONS:
            raise FormulaError(f"{file}: '{name}' is a setting and cannot be the name of a quantity; rename it")
        if not _NAME.fullmatch(name) or PRIME in name:
            raise FormulaError(f"{file}: '{name}' cannot be the name of a quantity; use letters, digits and _")
    ask = _ask(_table(table, "ask", file), file)
    step = dict(_table(table, "step", file))
    loss = step.pop("loss", None)
    repeat = read_repeat(_table(table, "repeat", file), f"[repeat] in {file}") if "repeat" in table else None
    problem = FormulaProblem(
        title=str(table.get("title", Path(file).stem)),
        given=given,
        model=model,
        parameters=_words(step.pop("parameters", ()), f"parameters in {file}"),
        optimizer=_optimizer(step, file),
        steps=step.pop("steps", 1),
        samples=_words(step.pop("samples", ()), f"samples in {file}"),
        hyper=step,
        loss=None if loss is None else str(loss),
        gradients=ask[0],
        also=ask[1],
        about=" ".join(str(table.get("about", "")).split()),
        remarks=tuple(" ".join(r.split()) for r in _words(table.get("remarks", ()), f"remarks in {file}")),
        conventions=Conventions().changed({k: v for k, v in table.items() if k in _CONVENTIONS}),
        file=file,
        lines=lines,
        repeat=repeat,
    )
    return expanded(problem, repeat.to) if repeat is not None and isinstance(repeat.to, int) else problem


def _optimizer(step: dict[str, Any], file: str) -> str | None:
    """The optimizer's name; what stays in ``step`` must be its hyper-parameters."""
    from ..optimizers import RULES

    name = step.pop("optimizer", "sgd" if "lr" in step else None)
    if name is None:
        for key in step:
            raise FormulaError(f"{file}: [step] has an unknown key '{key}'{_near(key, _STEP)}")
        return None
    if not isinstance(name, str) or name.lower() not in RULES:
        raise FormulaError(f"{file} asks for the optimizer {name!r}; known: {', '.join(sorted(RULES))}")
    known = (*RULES[name.lower()].hyper, "parameters", "optimizer", "steps", "samples", "loss")
    for key in step:
        if key not in known:
            raise FormulaError(f"{file}: [step] has an unknown key '{key}'{_near(key, known)}")
    return name.lower()


def _table(table: Mapping[str, Any], key: str, file: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, Mapping):
        raise FormulaError(f"{file}: {key} must be a table, [{key}], not {value!r}")
    return value


def _only(table: Mapping[str, Any], known: Iterable[str], file: str) -> None:
    for key in table:
        if key not in known:
            raise FormulaError(f"{file} has an unknown key '{key}'{_near(key, known)}")


def _near(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), 1)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


def _ask(table: Mapping[str, Any], file: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    _only(table, ("gradients", "also"), f"[ask] in {file}")
    also = _words(table.get("also", ()), f"[ask] also in {file}")
    for name in also:
        if name.partition(":")[0] not in ANALYSES:
            raise FormulaError(f"[ask] also in {file}: no analysis is called '{name}'{_near(name, ANALYSES)}")
    return _words(table.get("gradients", ()), f"[ask] gradients in {file}"), also


def _words(value: Any, place: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        raise FormulaError(f'{place} must be a list of texts, as in ["y/w"], not {value!r}')
    if len(set(value)) < len(value):
        raise FormulaError(f"{place} names something twice: {value!r}")
    return tuple(value)


def _loaded(value: Any, folder: Path, place: str) -> Any:
    """A given, a symbol with its shape, or what a table {npy = "file.npy", column = 0} points at."""
    if not isinstance(value, Mapping) or set(value) == {"symbol"}:
        return value
    if set(value) - {"npy", "column"} or "npy" not in value:
        raise FormulaError(f'{place} is a table; {{npy = "file.npy", column = 0}} or {{symbol = [3, 2]}} is read')
    import numpy as np

    try:
        array = np.load(folder / str(value["npy"]), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise FormulaError(f"{place}: {value['npy']} cannot be read as a .npy file: {str(error)[:120]}") from None
    if "column" in value:
        if array.ndim != 2 or not isinstance(value["column"], int) or not 0 <= value["column"] < array.shape[1]:
            raise FormulaError(f"{place}: {value['npy']} of shape {list(array.shape)} has no column {value['column']}")
        array = array[:, value["column"]]
    return array.astype(float).tolist()
