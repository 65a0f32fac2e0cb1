"""How many parameters a network has: layer by layer from the formula, and counted tensor by tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from ...document.blocks import Table
from ...document.math import Add, Expr, Mul, Num
from ..verdicts import Evidence

__all__ = ["Count", "count_table", "counted", "counting_evidence"]


@dataclass(frozen=True)
class Count:
    """The parameters of one layer: the formula with its numbers, and what it gives."""

    layer: str
    kind: str
    formula: Expr | None
    number: int


def counted(model: nn.Module) -> tuple[Count, ...]:
    """The layers that have parameters, each with the formula of its kind.

    A convolution with K x K kernels has (K K C_in / groups + 1) C_out, a linear layer (n_in + 1) n_out (without a
    bias, no + 1), a batch norm 2 C. Other layers are counted without a formula.
    """
    found, seen = [], set[int]()
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen.update(map(id, own))
        if own:
            formula, number = _formula(module)
            number = sum(p.numel() for p in own) if formula is None else number
            found.append(Count(name, type(module).__name__, formula, number))
    return tuple(found)


def _formula(module: nn.Module) -> tuple[Expr | None, int]:
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        inside = (*module.kernel_size, module.in_channels // module.groups)
        return _product(inside, module.bias is not None, module.out_channels)
    if isinstance(module, nn.Linear):
        return _product((module.in_features,), module.bias is not None, module.out_features)
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.affine:
        return Mul((Num(2), Num(module.num_features))), 2 * module.num_features
    return None, 0


def _product(inside: tuple[int, ...], bias: bool, outside: int) -> tuple[Expr, int]:
    weights: Expr = Mul(tuple(Num(n) for n in inside)) if len(inside) > 1 else Num(inside[0])
    row = Add((weights, Num(1))) if bias else weights
    return Mul((row, Num(outside))), (math.prod(inside) + bias) * outside


def count_table(name: str, counts: tuple[Count, ...]) -> Table:
    """The counts as a table with their sum; equal layers that follow one another share a row."""
    rows: list[tuple[str, str, Expr | None, int, int]] = []
    for c in counts:
        if rows and rows[-1][1:4] == (c.kind, c.formula, c.number):
            first = rows[-1][0].partition(" to ")[0]
            rows[-1] = (f"{first} to {c.layer}", c.kind, c.formula, c.number, rows[-1][4] + 1)
        else:
            rows.append((c.layer, c.kind, c.formula, c.number, 1))
    cells = tuple((a, b, f, Num(n), Num(k), Num(n * k)) for a, b, f, n, k in rows)
    total = (("all", None, None, None, None, Num(sum(c.number for c in counts))),)
    columns = (("layer",), ("kind",), ("formula",), ("each",), ("times",), ("parameters",))
    return Table(columns, cells + total, f"The parameters of {name}", (3, 4, 5))


def counting_evidence(name: str, model: nn.Module) -> Evidence:
    """The sum of the formulas against the entries of the tensors themselves."""
    ours, theirs = sum(c.number for c in counted(model)), sum(p.numel() for p in model.parameters())
    error = abs(ours - theirs) / max(theirs, 1)
    return Evidence(f"number of parameters of {name}", "entries counted tensor by tensor", error == 0, error, 1, 1)
