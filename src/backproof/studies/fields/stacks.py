"""Layers of windows one after another: output sizes, the smallest input, the receptive field, by formula and by number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ...document.blocks import Callout, Derivation, Equation, Paragraph, Section, Table
from ...document.math import Add, BigSum, Call, Div, Expr, Function, Mul, Neg, Num, Sym, Words
from ...errors import InputError
from ...progress import track
from ..answer import Answer
from ..verdicts import Evidence
from .page import way_blocks
from .receptive import FieldLayer, receptive_field
from .sizes import Layer, Unreachable, layer_of, minimum_input

__all__ = ["layers_from", "network_field", "stack"]

MOST_LAYERS = 200
FORMULAS = {
    "output_size": "floor((n + 2*P - K)/S) + 1",
    "minimum_input": "(n_out - 1)*S + K - 2*P",
    "receptive_field": "1 + sum_{j=1}^{L} (K_j - 1) * prod_{i=1}^{j-1} S_i",
}
N, K, P, S = Sym("n"), Sym("K"), Sym("P"), Sym("S")


def layers_from(kernels: Sequence[int], paddings: Sequence[int], strides: Sequence[int]) -> tuple[Layer, ...]:
    """Layers from three lists of equal length.

    Raises:
        InputError: the lists differ in length, are empty, or hold something that is no size.
    """
    lengths = {len(kernels), len(paddings), len(strides)}
    if len(lengths) != 1 or not kernels or len(kernels) > MOST_LAYERS:
        raise InputError(
            f"kernels, paddings and strides are lists of equal length, from 1 to {MOST_LAYERS}; they have "
            f"{len(kernels)}, {len(paddings)} and {len(strides)}"
        )
    return tuple(layer_of(row)[0] for row in zip(kernels, paddings, strides, strict=True))


def stack(layers: Sequence[Layer], n: int, n_out: int) -> Answer:
    """The sheet's questions for layers one after another, along one axis.

    Args:
        layers: from the input on.
        n: an input size whose output sizes are put in.
        n_out: an output size whose smallest input is put in.

    Returns:
        Formulas (``output_size``, ``minimum_input``, ``receptive_field``) and, under ``given``, the numbers.
    """
    for name, size in (("n", n), ("n_out", n_out)):
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 10**9:
            raise InputError(f"{name} is a size, a whole number from 1 to 10^9, not {size!r}")
    sizes = _sizes(layers, n)
    smallest = minimum_input(list(layers), n_out)
    rows = _field_rows(layers)
    field, jump, start = rows[-1][1:]
    given = {
        "output_sizes": sizes,
        "minimum_input": smallest if isinstance(smallest, int) else str(smallest),
        "receptive_field": field,
        "stride": jump,
        "padding": -start,
    }
    derivation = (*_size_equations(), *_input_equations(), *_field_equations())
    blocks = (
        _sizes_section(layers, n, sizes),
        _inputs_section(layers, n_out, smallest),
        _field_section(layers, rows),
    )
    return Answer(
        {**FORMULAS, "given": given}, blocks, _evidence(layers, n, sizes, n_out, smallest, field), (), derivation
    )


def _sizes(layers: Sequence[Layer], n: int) -> list[int | None]:
    """The size after each layer; None from where the kernel does not fit on."""
    found: list[int | None] = []
    size: int | None = n
    for layer in layers:
        out = layer.output(size) if size is not None else 0
        size = out if out > 0 else None
        found.append(size)
    return found


def _field_rows(layers: Sequence[Layer]) -> list[tuple[int, int, int, int]]:
    """After l layers: l, the field's size, the jump between neighbours, where the first one begins."""
    rows, size, jump, start = [(0, 1, 1, 0)], 1, 1, 0
    for number, layer in enumerate(layers, 1):
        size += layer.dilation * (layer.kernel - 1) * jump
        start -= layer.before * jump
        jump *= layer.stride
        rows.append((number, size, jump, start))
    return rows


# --- what is derived ----------------------------------------------------------------------------------------------------
def _floor(inner: Expr) -> Expr:
    return Call(Function("floor", "floor", r"\operatorname{floor}"), (inner,))


def _size_equations() -> tuple[Equation, ...]:
    last = Add((Sym("n"), P, Neg(K)))
    whole = Add((_floor(Div(Add((N, Mul((Num(2), P)), Neg(K))), S)), Num(1)))
    return (
        Equation(Sym("first"), (Neg(P),), "the first window begins P places before the input"),
        Equation(Sym("last"), (last,), "a window of K places that ends with the padding begins K places before n + P"),
        Equation(
            Sym("n", sub=("out",)),
            (whole,),
            "windows begin every S places from first to last: how many steps fit, plus one",
        ),
    )


def _input_equations() -> tuple[Equation, ...]:
    out = Sym("n", sub=("out",))
    return (
        Equation(
            Sym("n", sub=("min",)),
            (Add((Mul((Add((out, Neg(Num(1)))), S)), K, Neg(Mul((Num(2), P))))),),
            "the last of n_out windows ends exactly with the padding: nothing is left over",
        ),
        Equation(
            Sym("n", sub=("l-1",)),
            (Add((Mul((Add((Sym("n", sub=("l",)), Neg(Num(1)))), Sym("S", sub=("l",)))), Sym("K", sub=("l",)),
                  Neg(Mul((Num(2), Sym("P", sub=("l",))))))),),
            "for L layers the same from the last layer back to the first; where less than 1 comes out, the size is the "
            "smallest that the layer takes, and some output sizes are reached by no input",
        ),
    )  # fmt: skip


def _field_equations() -> tuple[Equation, ...]:
    before, here = ("l-1",), ("l",)
    product = Mul((Sym("S", sub=("1",)), Words("⋯"), Sym("S", sub=("j-1",))))
    terms = Mul((Add((Sym("K", sub=("j",)), Neg(Num(1)))), product))
    return (
        Equation(Sym("j", sub=("0",)), (Num(1),), "neighbouring inputs are one place apart"),
        Equation(Sym("j", sub=here), (Mul((Sym("j", sub=before), Sym("S", sub=here))),),
                 "neighbours of layer l are S_l neighbours of the layer before apart"),
        Equation(Sym("r", sub=("0",)), (Num(1),), "an input sees itself"),
        Equation(Sym("r", sub=here),
                 (Add((Sym("r", sub=before), Mul((Add((Sym("K", sub=here), Neg(Num(1)))), Sym("j", sub=before))))),),
                 "K_l neighbours, each j_(l-1) from the next: the last begins (K_l - 1) j_(l-1) after the first"),
        Equation(Sym("r", sub=("L",)), (Add((Num(1), BigSum(terms, "j", Num(1), Sym("L")))),),
                 "the recurrence added up; the jump of layer j - 1 is the product of the strides before it"),
        Equation(Sym("p", sub=here), (Add((Sym("p", sub=before), Mul((Sym("P", sub=here), Sym("j", sub=before))))),),
                 "padding moves where the field begins (p places before the input); it is in neither r nor j"),
    )  # fmt: skip


# --- with the numbers put in --------------------------------------------------------------------------------------------
def _sizes_section(layers: Sequence[Layer], n: int, sizes: Sequence[int | None]) -> Section:
    rows = []
    before: int | None = n
    for number, (layer, out) in enumerate(zip(layers, sizes, strict=True), 1):
        sum_ = f"floor(({before} + 2·{layer.before} - {layer.kernel})/{layer.stride}) + 1" if before is not None else ""
        rows.append((Num(number), sum_, Num(out) if out is not None else "does not fit"))
        before = out
    table = Table((("layer",), ("numbers put in",), ("output size",)), tuple(rows), f"From an input of size {n}")
    return Section("Output size", (Derivation(_size_equations()), table), "forward", "output-size")


def _inputs_section(layers: Sequence[Layer], n_out: int, smallest: Any) -> Section:
    if isinstance(smallest, Unreachable):
        found: Any = Callout("warning", (f"{smallest}.",), "An output size that no input has")
    else:
        words = f"For {n_out} outputs after the last layer the smallest input has the size "
        found = Paragraph((words, Num(smallest), ": ", _backwards(layers, n_out), "."))
    return Section("The smallest input", (Derivation(_input_equations()), found), "backward", "minimum-input")


def _backwards(layers: Sequence[Layer], n_out: int) -> str:
    sizes = [n_out]
    for layer in reversed(layers):
        sizes.append(max((sizes[-1] - 1) * layer.stride + layer.kernel - layer.before - layer.after, 1))
    return " ← ".join(map(str, reversed(sizes)))


def _field_section(layers: Sequence[Layer], rows: Sequence[tuple[int, int, int, int]]) -> Section:
    table_rows = [("input", None, None, None, Num(1), Num(1), Num(0))]
    for layer, (number, size, jump, start) in zip(layers, rows[1:], strict=True):
        cells = (Num(layer.kernel), Num(layer.stride), Num(layer.before), Num(size), Num(jump), Num(-start))
        table_rows.append((str(number), *cells))  # type: ignore[arg-type]
    heads = (
        ("layer",),
        (Sym("K"),),
        (Sym("S"),),
        (Sym("P"),),
        (Sym("r"), " field"),
        (Sym("j"), " jump"),
        (Sym("p"), " before the input"),
    )
    table = Table(heads, tuple(table_rows), "The recurrence with the numbers put in", (1, 2, 3, 4, 5, 6))
    words = Paragraph(
        (
            "Padding changes neither the size of the field nor the jump: it decides how many outputs there are, and near the "
            "borders a part of the field lies in the padding, where it sees zeros.",
        )
    )
    return Section("The receptive field", (Derivation(_field_equations()), table, words), "forward", "receptive-field")


# --- confirmed ----------------------------------------------------------------------------------------------------------------
def _evidence(
    layers: Sequence[Layer], n: int, sizes: Sequence[int | None], n_out: int, smallest: Any, field: int
) -> tuple[Evidence, ...]:
    found = [_torch_sizes(layers, n, sizes), _smallest_by_trying(layers, n_out, smallest)]
    if (seen := _torch_field(layers)) is not None:
        agrees = seen == field
        found.append(
            Evidence(
                "the receptive field", "autograd through torch's own layers", agrees, float(abs(seen - field)), 1, 1
            )
        )
    return tuple(found)


def _torch_layers(layers: Sequence[Layer], device: str, dtype: torch.dtype = torch.float32) -> list[nn.Conv1d]:
    return [
        nn.Conv1d(1, 1, y.kernel, y.stride, y.before, y.dilation, bias=False, device=device, dtype=dtype)
        for y in layers
    ]


def _torch_sizes(layers: Sequence[Layer], n: int, sizes: Sequence[int | None]) -> Evidence:
    """torch's own layers on the meta device, which computes shapes alone."""
    x, wrong = torch.empty(1, 1, n, device="meta"), 0
    for layer, size in zip(_torch_layers(layers, "meta"), sizes, strict=True):
        try:
            x = layer(x)
            wrong += x.shape[-1] != size
        except RuntimeError:
            wrong += size is not None
            break
    return Evidence(
        "output sizes", "torch's own layers on the meta device", wrong == 0, float(wrong), len(sizes), len(sizes)
    )


def _smallest_by_trying(layers: Sequence[Layer], n_out: int, smallest: Any) -> Evidence:
    """Every input size from 1 on through the sizes, until the wanted output is reached or passed."""
    what, oracle = "the smallest input", "every size from 1 on, tried"
    for n in range(1, 20_000):
        last = _sizes(layers, n)[-1]
        if last is not None and last >= n_out:
            agrees = smallest == n if last == n_out else isinstance(smallest, Unreachable)
            return Evidence(what, oracle, agrees, float(not agrees), 1, 1)
    return Evidence(what, oracle, None, None, 0, 1, "too many sizes to try")


def _torch_field(layers: Sequence[Layer]) -> int | None:
    """The places of the input where the gradient of one output is not zero, with all weights positive."""
    size = _field_rows(layers)[-1][1]
    if size > 5_000:
        return None
    nets = _torch_layers(layers, "cpu", torch.float64)
    for net in nets:
        net.padding = (0,)
        nn.init.constant_(net.weight, 1 / net.weight.numel())
    x = torch.ones(1, 1, 2 * size + 5, dtype=torch.float64, requires_grad=True)
    y = x
    for net in nets:
        y = net(y)
    (grad,) = torch.autograd.grad(y[0, 0, 0], x)
    places = grad[0, 0].nonzero().flatten()
    return int(places.max() - places.min()) + 1


# --- networks ---------------------------------------------------------------------------------------------------------------
def network_field(name: str, title: str, model: nn.Module, shape: Sequence[int]) -> Answer:
    """The receptive field of a network, for one key ``name`` of the answers: {size, stride}.

    Args:
        name: the key.
        title: as the section is called.
        model: the network; batch norm is read in evaluation.
        shape: of an input, [1, C, H, W].
    """
    found = None
    for _ in track([1], f"the field of {title}"):
        found = receptive_field(model.eval(), tuple(shape))
    assert found is not None
    last = _last_local(found.layers)
    answer = {"size": _one(last.size), "stride": _one(last.stride), "layer": last.name}
    text = Paragraph(
        (f"After {last.name} a unit sees {_one(last.size)} places, and neighbours are {_one(last.stride)} apart.",)
    )
    section = Section(title, (text, found.table(), *way_blocks(found, last)), "forward", name.replace("_", "-"))
    return Answer({name: answer}, (section,), found.evidence)


def _last_local(layers: Sequence[FieldLayer]) -> FieldLayer:
    local = [y for y in layers if y.output_size and None not in y.size]
    if not local:
        raise InputError("no layer of the network has a field of a known size")
    return local[-1]


def _one(values: tuple[Any, ...]) -> Any:
    """One number where all axes agree."""
    plain = [int(v) if v is not None and v == int(v) else v for v in values]
    return plain[0] if len(set(values)) == 1 else plain
