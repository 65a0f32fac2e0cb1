"""Claims: somebody's gradient as numbers, as a formula (in the TOML grammar or in LaTeX), or as a function of the inputs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..domains.numbers import evaluate
from ..errors import BackproofError, FormulaError, InputError
from ..formula.latex import from_latex, is_latex
from ..formula.parse import names_in, parse
from ..formula.read import add_formula
from ..graph import Builder, Graph
from .program import Program, wide

__all__ = ["Claim", "Claims", "claimed_gradients"]


@dataclass(frozen=True)
class Claim:
    """How a claimed gradient follows from a program; ``fixed`` if it is numbers, which hold at the given inputs alone."""

    read: Callable[[Program], Tensor]
    fixed: bool


Claims = dict[int, Claim]
"""The claims by the number of the input that each is about."""


def claimed_gradients(claim: Any, program: Program, inputs: Any) -> Claims:
    """Read the claims, by the number of the input that each is about.

    Raises:
        InputError: a name is unknown, or a claim is of another kind or shape.
    """
    if not isinstance(claim, Mapping):
        if len(program.names) != 1:
            raise InputError(f"say which gradient is claimed: a dict with one of {', '.join(program.names)}")
        claim = {program.names[0]: claim}
    defined = {str(k): v for k, v in claim.items() if isinstance(v, str) and _place(k, program) is None}
    found: Claims = {}
    for name, given in claim.items():
        if str(name) not in defined:
            found[_number(name, program)] = _reader(given, _number(name, program), program, defined)
    if not found:
        if defined:
            _number(next(iter(defined)), program)
        raise InputError("the dict of claims is empty")
    return found


def _place(name: Any, program: Program) -> int | None:
    """The number of the input that a claim names."""
    text = str(name)
    for prefix in ("grad.", "dL/d"):
        text = text.removeprefix(prefix)
    names = [str(n) for n in program.names]
    return names.index(text) if text in names else None


def _number(name: Any, program: Program) -> int:
    number = _place(name, program)
    if number is None:
        raise InputError(f"a gradient is claimed for {name!r}, which is none of {', '.join(program.names)}")
    return number


def _reader(given: Any, number: int, program: Program, defined: Mapping[str, str]) -> Claim:
    if isinstance(given, str):
        return Claim(_formula(given, number, program, defined), False)
    if callable(given) and not isinstance(given, Tensor):
        return Claim(lambda p: _shaped(_called(given, p), number, p), False)
    fixed = _shaped(given, number, program)
    return Claim(lambda _: fixed, True)


def _called(function: Callable[..., Any], program: Program) -> Any:
    """A claim may take the inputs, or the inputs and parameters by their names."""
    named = {str(n): v for n, v in zip(program.names, program.start, strict=True)}
    wanted = [p.name for p in inspect.signature(function).parameters.values() if p.kind != p.VAR_POSITIONAL]
    if wanted and all(w in named for w in wanted):
        return function(**{w: named[w] for w in wanted})
    flat = list(program.flat)
    for place, value in zip(program.places, program.start, strict=False):
        flat[place] = value
    return function(*flat)


def _shaped(given: Any, number: int, program: Program) -> Tensor:
    like, name = program.start[number], program.names[number]
    try:
        tensor = torch.as_tensor(given, dtype=None if isinstance(given, Tensor) else torch.float64).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the claim for {name} is no tensor, formula or function: {error}") from None
    if tuple(tensor.shape) != tuple(like.shape):
        raise InputError(
            f"the claimed gradient of {name} has shape {list(tensor.shape)}, and {name} has {list(like.shape)}"
        )
    return tensor


def _formula(text: str, number: int, program: Program, defined: Mapping[str, str]) -> Callable[[Program], Tensor]:
    """A formula in the grammar or in LaTeX, with what is defined beside it: {"delta": "(y - t) * y * (1 - y)", ...}."""
    steps = [*_needed(text, defined), (str(program.names[number]), text)]

    def read(at: Program) -> Tensor:
        known = {_spelled(str(n)): wide(v) for n, v in zip(at.names, at.start, strict=True)}
        known |= {_spelled(k): wide(v) for k, v in at.constants.items()}
        for name, formula in steps:
            known[_spelled(name)] = _evaluated(formula, known, f"the claim for {name}")
        return _shaped(known[_spelled(steps[-1][0])], number, at)

    read(program)
    return read


def _needed(text: str, defined: Mapping[str, str]) -> list[tuple[str, str]]:
    """The definitions in an order in which each uses only earlier ones; as many passes as there are definitions suffice."""
    order: list[tuple[str, str]] = []
    left = dict(defined)
    while left:
        ready = [n for n in left if not any(_mentions(left[n], other) for other in left if other != n)]
        if not ready:
            raise InputError(f"the definitions of {' and '.join(left)} need one another")
        order += [(n, left.pop(n)) for n in ready]
    return order


def _mentions(text: str, name: str) -> bool:
    if not is_latex(text):  # whole words, or "a" would be found in "softmax"
        return _bare(name) in {_bare(word) for word in re.findall(r"[^\W\d]\w*", text)}
    plain = re.sub(r"[\\{}_\s^()\[\]]", "", name)
    return plain in re.sub(r"[\\{}_\s^()\[\]]", "", text)


def _bare(name: str) -> str:
    return re.sub(r"[\\{}_\s]", "", name)


def _spelled(name: str) -> str:
    return re.sub(r"[\\{}$]", "", name).replace(".", "_").replace(" ", "_")


def _in_the_grammar(text: str, known: Mapping[str, Tensor], place: str) -> str:
    """The formula as it is, or rewritten if it is LaTeX or a product without a sign, as in W_1 x."""
    if not is_latex(text):
        try:
            parse(text, place)
            return text
        except FormulaError:
            if not re.search(r"\w\s+\w|\)\s*\w", text):
                raise
    return from_latex(text, {n: tuple(v.shape) for n, v in known.items()}, place)


def _evaluated(text: str, known: Mapping[str, Tensor], place: str) -> Tensor:
    text = _in_the_grammar(text, known, place)
    tree = parse(text, place)
    if missing := [n for n in names_in(tree) if n not in known and n not in ("pi", "e", "E")]:
        raise InputError(f"{place} uses '{missing[0]}', which is none of {sorted(known)}")
    builder, leaves, quantities = Builder(), {}, {}
    for name in dict.fromkeys(n for n in names_in(tree) if n in known):
        value = known[name]
        node = builder.leaf(name, "input", tuple(value.shape), str(value.dtype).removeprefix("torch."))
        leaves[node], quantities[name] = value, node
    try:
        node = add_formula(builder, quantities, "claim", text, place)
        return evaluate(Graph(tuple(builder.nodes), (node,)), leaves)[node]
    except (BackproofError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{place}, {text!r}, cannot be evaluated: {error}") from None
