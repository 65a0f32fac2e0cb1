"""Claims: somebody's gradient as numbers, as a formula in the TOML grammar, or as a function of the inputs."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..domains.numbers import evaluate
from ..errors import BackproofError, InputError
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
    found: Claims = {}
    for name, given in claim.items():
        number = _number(name, program)
        found[number] = _reader(given, number, program)
    if not found:
        raise InputError("the dict of claims is empty")
    return found


def _number(name: Any, program: Program) -> int:
    text = str(name)
    for prefix in ("grad.", "dL/d"):
        text = text.removeprefix(prefix)
    if text not in list(map(str, program.names)):
        raise InputError(f"a gradient is claimed for {name!r}, which is none of {', '.join(program.names)}")
    return [str(n) for n in program.names].index(text)


def _reader(given: Any, number: int, program: Program) -> Claim:
    if isinstance(given, str):
        return Claim(_formula(given, number, program), False)
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


def _formula(text: str, number: int, program: Program) -> Callable[[Program], Tensor]:
    tree = parse(text, f"the claim for {program.names[number]}")
    known = {_spelled(str(n)) for n in program.names}
    known |= {_spelled(k) for k in program.constants}
    if missing := [n for n in names_in(tree) if n not in known and n not in ("pi", "e", "E")]:
        raise InputError(f"the claim for {program.names[number]} uses '{missing[0]}', which is none of {sorted(known)}")

    def read(at: Program) -> Tensor:
        return _shaped(_evaluated(text, tree, at), number, at)

    return read


def _spelled(name: str) -> str:
    return name.replace(".", "_").replace(" ", "_")


def _evaluated(text: str, tree: ast.expr, program: Program) -> Tensor:
    named = {_spelled(str(n)): wide(v) for n, v in zip(program.names, program.start, strict=True)}
    named |= {_spelled(k): wide(v) for k, v in program.constants.items()}
    builder, leaves, quantities = Builder(), {}, {}
    for name in dict.fromkeys(n for n in names_in(tree) if n in named):
        value = named[name]
        node = builder.leaf(name, "input", tuple(value.shape), str(value.dtype).removeprefix("torch."))
        leaves[node], quantities[name] = value, node
    try:
        node = add_formula(builder, quantities, "claim", text, "the claimed formula")
        return evaluate(Graph(tuple(builder.nodes), (node,)), leaves)[node]
    except (BackproofError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"the claimed formula {text!r} cannot be evaluated: {error}") from None
