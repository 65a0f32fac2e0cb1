"""Write an update out: the rule's equations for one parameter, with the numbers of each entry put in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...document.blocks import Equation
from ...document.math import Expr, Num, Partial, Ref, Sym, leaves, map_leaves
from ...domains.digits import digits
from ...domains.printed import Unreadable, value_of
from ...domains.symbols import Writer
from ...graph import Node
from ...notation import named
from ...optimizers import Optimizer
from ..verdicts import TOLERANCE
from .written import MOST_ENTRIES, MOST_LEAVES, StepWriter, number_of

__all__ = ["HYPER", "entry_updates", "known_symbols", "rule_equations"]

HYPER: dict[str, Sym] = {
    "lr": Sym("eta"),
    "momentum": Sym("mu"),
    "dampening": Sym("tau"),
    "weight_decay": Sym("lambda"),
    "beta1": Sym("beta", ("1",)),
    "beta2": Sym("beta", ("2",)),
    "eps": Sym("epsilon"),
    "alpha": Sym("alpha"),
    "rho": Sym("rho"),
    "lr_decay": Sym("gamma"),
    "lambd": Sym("lambda"),
    "momentum_decay": Sym("psi"),
    "t0": Sym("t", ("0",)),
    "etaminus": Sym("eta", ("minus",)),
    "etaplus": Sym("eta", ("plus",)),
    "step_min": Sym("s", ("min",)),
    "step_max": Sym("s", ("max",)),
    "initial_accumulator_value": Sym("S", ("0",)),
    "eps1": Sym("epsilon", ("1",)),
    "eps2": Sym("epsilon", ("2",)),
    "beta2_decay": Sym("kappa"),
    "d": Sym("d"),
    "ns_a": Sym("a"),
    "ns_b": Sym("b"),
    "ns_c": Sym("c"),
    "t": Sym("t"),
}


def _hyper(name: str) -> Sym:
    return replace(HYPER[name], ref=Ref(name))


def known_symbols(graph: Any) -> dict[str, Expr]:
    """The symbols of an update of one number, each with a reference to its node's name."""
    own = {"g": Partial(Sym("L"), Sym("w", ref=Ref("g")))}
    return _known(graph, own, ("t-1", "t"))


def _known(graph: Any, symbols: Mapping[str, Expr], times: tuple[str, str]) -> dict[str, Expr]:
    """The symbols of an update's nodes: old values at t-1, new ones at t, w and g as the parameter's own."""
    known: dict[str, Expr] = {n.name: _hyper(n.name) for n in graph.of_role("constant") if n.name in HYPER}
    last = {n.name.partition("#")[0]: n.name for n in graph.nodes if not n.is_leaf}
    for node in graph.nodes:
        base = node.name.partition("#")[0]
        if node.role not in ("parameter", "input", "buffer", "value"):
            continue
        new = not node.is_leaf
        label = times[1] if new and (last[base] == node.name) else times[0] if not new else times[0] + "'"
        own = symbols.get(base)
        symbol = own if isinstance(own, Sym) else named(base)
        time = () if base == "g" or (new and base not in ("w", "m", "v", "v_max")) else (label,)
        ref = Ref(node.name)
        known[node.name] = own if isinstance(own, Partial) else replace(symbol, sup=(*symbol.sup, *time), ref=ref)
    return known


def rule_equations(
    writer: StepWriter, parameter: Node | None = None, rule: Optimizer | None = None
) -> tuple[Equation, ...]:
    """The update rule for a whole parameter (or for w in general)."""
    rule = rule or (writer.program.rule_of(parameter.name) if parameter is not None else writer.program.optimizer)
    if rule is None:
        return ()
    t = max(writer.step.number, 1)
    graph = rule.graph(parameter.shape if parameter is not None else rule.plain_shape, t)
    own: dict[str, Expr] = {"w": named(parameter.name, symbols=writer.names)} if parameter is not None else {}
    own["g"] = Partial(writer.writer.loss_symbol(), own.get("w", Sym("w")))
    scribe = Writer(graph, known=_known(graph, own, ("t-1", "t")), base=writer.base)
    return tuple(Equation(scribe.symbol(n), (scribe.matrix(n),)) for n in graph.nodes if n.role == "value")


def entry_updates(writer: StepWriter, name: str) -> Iterable[Equation]:
    """For each entry of a parameter the update with its numbers put in."""
    rule, record = writer.program.rule_of(name), writer.step.parameters[name]
    if (
        rule is None
        or rule.rule.rounds
        or rule.rule.asks
        or record.gradient is None
        or record.before.numel() > MOST_ENTRIES
    ):
        return
    if record.before.is_complex():
        return
    t = writer.step.number
    graph = rule.graph(tuple(record.before.shape), t)
    symbol = named(name, symbols=writer.names)
    own: dict[str, Expr] = {
        "w": symbol,
        "g": Partial(writer.writer.loss_symbol(), replace(symbol, ref=Ref("g"))),
    }
    scribe = Writer(graph, writer.writer.layout, writer.base, known=_known(graph, own, (str(t - 1), str(t))))
    values = _values(writer, name, graph)
    layout = writer.writer.layout
    if name in layout.flipped:
        scribe.layout = type(layout)(frozenset(n.name for n in graph.nodes))
    for node in graph.nodes:
        if node.role == "value":
            yield from _node_equations(writer, scribe, node, values, name)


def _values(writer: StepWriter, name: str, graph: Any) -> dict[str, Any]:
    """Every quantity of the update: recorded before, gradient, state and after; the steps between in 50 digits."""
    record, before = writer.step.parameters[name], writer.step.state_before[name]
    given: dict[str, Tensor] = {"w": record.before, "g": record.gradient, **before}  # type: ignore[dict-item]
    leaves_in = {
        n: digits.array(given[n.name].tolist(), n.shape) for n in graph.nodes if n.is_leaf and n.role != "constant"
    }
    arrays = digits.run(graph, leaves_in)
    found: dict[str, Any] = {n.name: _float_array(arrays[n]) for n in graph.nodes if n.size and not n.op.name == "leaf"}
    found |= given
    rule = writer.program.rule_of(name)
    states = rule.state_of(tuple(record.before.shape)) if rule else ()
    outputs = dict(zip(("w", *states), graph.outputs, strict=True))
    found[outputs["w"].name] = record.after
    found |= {outputs[s].name: tensor for s, tensor in record.state.items() if s in outputs}
    return found


def _float_array(array: Any) -> Tensor:
    return torch.tensor([float(x) for x in array.reshape(-1)], dtype=torch.float64).reshape(array.shape)


def _node_equations(
    writer: StepWriter, scribe: Writer, node: Node, values: Mapping[str, Any], name: str
) -> Iterable[Equation]:
    formulas = scribe.entries(node)
    graph = scribe.graph
    final = node is graph.outputs[0]
    for place in np.ndindex(*node.shape):
        formula: Any = formulas[place]
        result = _result(writer, node, place, values, name, final)
        put_in = map_leaves(formula, lambda leaf: _number(leaf, values, writer, name))
        _check(writer, put_in, result, values[node.name])
        left = _with_ref(scribe.entry(node, place), result.ref)
        long = sum(1 for _ in leaves(formula)) > MOST_LEAVES
        yield Equation(left, (result,) if long else (formula, put_in, result), "", result.ref)


def _with_ref(symbol: Expr, ref: Ref | None) -> Expr:
    return map_leaves(symbol, lambda leaf: replace(leaf, ref=ref) if leaf.ref is not None else leaf)


def _result(
    writer: StepWriter, node: Node, place: tuple[int, ...], values: Mapping[str, Any], name: str, final: bool
) -> Num:
    exact = writer.step.exact.get(f"after.{name}") if final else None
    base = node.name.partition("#")[0]
    kind = (
        Ref(name, place, "after", writer.step.number) if final else Ref(name, place, "state", writer.step.number, base)
    )
    return number_of(values[node.name][place], None if exact is None else exact[place], kind)


def _number(leaf: Num | Sym, values: Mapping[str, Any], writer: StepWriter, name: str) -> Expr:
    if not isinstance(leaf, Sym) or leaf.ref is None:
        return leaf
    tensor, place = values[leaf.ref.name], leaf.ref.index
    kind = {"w": "before", "g": "gradient"}.get(leaf.ref.name)
    exact = writer.step.exact.get({"before": f"before.{name}", "gradient": f"grad.{name}"}.get(kind or "", ""))
    ref = Ref(name, place, kind, writer.step.number) if kind else None  # type: ignore[arg-type]
    if tensor.ndim == 0:
        return number_of(tensor, _spelled(writer, name, leaf.ref.name) if exact is None else exact[()], ref)
    return number_of(tensor[place], None if exact is None else exact[place], ref)


def _spelled(writer: StepWriter, parameter: str, name: str) -> Any:
    """An exact hyper-parameter as it was given ("1/3")."""
    import sympy

    rule = writer.program.rule_of(parameter)
    value = rule.hyper.get(name) if rule else None
    return value if isinstance(value, sympy.Basic) else None


def _check(writer: StepWriter, put_in: Expr, result: Num, tensor: Tensor) -> None:
    try:
        value = float(value_of(put_in))
    except (Unreadable, ZeroDivisionError):
        writer.unread += 1
        return
    size = max(float(tensor.abs().max()), 1e-300)
    error = abs(value - result.value) / size
    writer.checked += 1
    writer.worst = max(writer.worst, error)
    if not error <= (TOLERANCE if tensor.dtype == torch.float64 else 1e-4):
        writer.wrong.append("update")
