"""Mark formulas: each is evaluated at random places and compared with what our own graph gives there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...domains.numbers import evaluate
from ...errors import BackproofError, FormulaError
from ...formula.read import add_formula
from ...graph import Builder, Graph, Node
from ...ops import Elementwise
from ...result import Result
from ..derivation.check import Draws, gradients_at, random_place, values_at
from ..derivation.derive import Derived
from ..derivation.functions import put_in
from ..program import Program
from ..solve import Solution
from .items import Mark

__all__ = ["mark_formulas"]

PLACES = 5
AGREES = 1e-7


@dataclass(frozen=True)
class _Place:
    """All quantities at one random place: by name, their gradients, and what stands for the arbitrary functions."""

    quantities: dict[str, Tensor]
    gradients: dict[str, Tensor]
    chosen: dict[str, Elementwise]


def mark_formulas(solved: Result, formulas: Mapping[str, str]) -> dict[str, Mark]:
    """The mark of each formula, by item id ("formula.dL/dw").

    A formula may use every named quantity of the problem, ``delta_s`` for the gradient of the loss with respect
    to s, and f' for the derivative of a function. It is right where it agrees at five random places, for which the
    gradients come from torch's autograd on the problem itself.
    """
    if isinstance(solved, Derived):
        graph, top, places = solved.work.program, solved.work.of.name, _derived_places(solved)
    elif isinstance(solved, Solution) and (loss := solved.prepared.program.graph.loss) is not None:
        program = solved.prepared.program
        graph, top = program.graph, loss.name
        places = [_place(program, seed) for seed in range(PLACES)]
    else:
        note = "this problem has no loss whose gradients a formula could be compared with"
        return {f"formula.{name}": Mark("undecided", text, None, note=note) for name, text in formulas.items()}
    return {f"formula.{name}": _marked(graph, top, name, text, places) for name, text in formulas.items()}


def _derived_places(solved: Derived) -> list[_Place]:
    """Random numbers and functions; short names of error signals (delta_2 for that of s2) are known too."""
    work, draws, found = solved.work, Draws(1), []
    for _ in range(PLACES):
        leaves, chosen = random_place(work, solved.start, solved.functions, draws)
        gradients = gradients_at(work, leaves, chosen)
        gradients |= {short: gradients[name] for name, short in work.delta_names.items() if name in gradients}
        found.append(_Place({**leaves, **values_at(work, leaves, chosen)}, gradients, dict(chosen)))
    return found


def _place(program: Program, seed: int) -> _Place:
    generator = torch.Generator().manual_seed(1000 + seed)
    graph, joint = program.graph, program.joint(program.graph)
    assert joint is not None
    start = {n: _moved(v, generator) for n, v in program.start.items()}
    leaves = {n: start[n.name] for n in joint.graph.nodes if n.is_leaf and n.role != "constant"}
    values = evaluate(joint.graph, leaves)
    named = [n for n in graph.nodes if n.role not in ("helper", "constant")]
    deltas = {n.name: values[d] for n in named if (d := joint.gradients.get(n)) is not None}
    return _Place({n.name: values[n] for n in named}, deltas, {})


def _moved(value: Tensor, generator: torch.Generator) -> Tensor:
    """A number near the given one; what counts (class indices) stays."""
    if not value.is_floating_point():
        return value
    noise = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
    return value + noise * (0.3 + 0.3 * value.abs())


def _marked(graph: Graph, top: str, name: str, text: str, places: list[_Place]) -> Mark:
    target = _target(graph, top, name, places[0])
    if target is None:
        note = f"'{name}' is no gradient of {top} and no value; write it as d{top}/dw or as the name of a value"
        return Mark("undecided", text, None, note=note)
    try:
        worst = max(_difference(text, name, place, target) for place in places)
    except FormulaError as error:
        return Mark("undecided", text, None, note=str(error)[:300])
    except (BackproofError, RuntimeError, ValueError, TypeError) as error:
        return Mark("undecided", text, None, note=f"it cannot be evaluated: {str(error)[:200]}")
    if worst <= AGREES:
        return Mark("correct", text, None, note="it agrees at five random places")
    return Mark("wrong", text, None, note=f"at random places it differs by up to {worst:.2g} of its size")


def _target(graph: Graph, loss: str, name: str, place: _Place) -> tuple[str, str] | None:
    """Which quantity a formula is for: ("gradient", "w") or ("value", "s")."""
    if name in place.gradients and name not in graph.by_name:
        return "gradient", name
    top, slash, bottom = name.replace(" ", "").partition("/")
    if slash:
        wrt = bottom if bottom in graph.by_name else bottom.removeprefix("d")
        of = top if top in graph.by_name else top.removeprefix("d")
        return ("gradient", wrt) if of in (loss, "loss", "L") and wrt in graph.by_name else None
    for prefix in ("delta_", "grad."):
        if name.startswith(prefix) and name.removeprefix(prefix) in graph.by_name:
            return "gradient", name.removeprefix(prefix)
    return ("value", name) if name in graph.by_name else None


def _difference(text: str, name: str, place: _Place, target: tuple[str, str]) -> float:
    kind, wrt = target
    true = place.gradients.get(wrt) if kind == "gradient" else place.quantities[wrt]
    if true is None:
        true = torch.zeros_like(place.quantities[wrt])
    known = {n: d for n, d in place.gradients.items() if n.startswith("delta_")}
    known |= {f"delta_{n}": d for n, d in place.gradients.items()} | place.quantities
    own = {wrt} if kind == "value" else {f"delta_{wrt}", *(n for n, d in known.items() if d is true)}
    found = _evaluated(text, name, {n: v for n, v in known.items() if n not in own}, place.chosen)
    if found.numel() != true.numel():
        raise ValueError(f"it has the shape {list(found.shape)}, and {name} has {list(true.shape)}")
    found = found.reshape(true.shape) if found.dim() < 2 or found.shape == true.shape else found.T.reshape(true.shape)
    scale = max(float(true.abs().max()), float(found.abs().max()), 1e-12)
    return float((found - true).abs().max()) / scale


def _evaluated(text: str, name: str, known: Mapping[str, Tensor], chosen: Mapping[str, Elementwise]) -> Tensor:
    builder = Builder()
    names: dict[str, Any] = {n: builder.leaf(n, "input", tuple(t.shape), _dtype(t)) for n, t in known.items()}
    out = add_formula(builder, dict(names), "answer", text, f"the formula of {name}", functions=chosen)
    graph = put_in(Graph(tuple(builder.nodes), (out,)), chosen)
    leaves: dict[Node, Tensor] = {n: known[n.name] for n in graph.nodes if n.is_leaf and n.name in known}
    return evaluate(graph, leaves)[graph.outputs[0]].double()


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
