"""Recurrent layers as their textbook equations, time step by time step.

Each step is a part of its own, ``lstm.t1``, ``lstm.t2``..., whose values have the letters of the literature, so that its
derivation is backpropagation through time as it is written by hand. What the input contributes to all steps is computed at
once, as torch's own kernels do: a = x W_ihᵀ + b_ih. Steps that repeat one another are recognised as such on the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..graph import Node
from .lower import Call, NotCaptured, lowering
from .lower_random import dropped, keeps

__all__: list[str] = []

State = tuple[Node, ...]


@dataclass(frozen=True)
class _Weights:
    """The parameters of one layer in one direction."""

    ih: Node
    hh: Node
    b_ih: Node | None = None
    b_hh: Node | None = None
    hr: Node | None = None


Step = Callable[[Call, Node, State, _Weights], State]


def _gates(call: Call, s: Node, count: int) -> list[Node]:
    """The equal parts along the last axis, one for each gate."""
    dim, size = len(s.shape) - 1, s.shape[-1] // count
    return [call.emit("slice", s, dim=dim, start=k * size, end=(k + 1) * size, step=1) for k in range(count)]


def _lstm_step(call: Call, a: Node, state: State, w: _Weights) -> State:
    """Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000).

    s = a + h W_hhᵀ + b_hh in four parts; i = σ(s_i), f = σ(s_f), g = tanh(s_g), o = σ(s_o); c' = f ⊙ c + i ⊙ g;
    h' = o ⊙ tanh(c'), projected by W_hr where there is one (Sak et al. 2014).
    """
    h, c = state
    s = call.named(call.emit("add", call.emit("linear", h, w.hh, w.b_hh), a), "s")
    parts = zip("ifgo", _gates(call, s, 4), strict=True)
    i, f, g, o = [call.named(call.emit("tanh" if letter == "g" else "sigmoid", part), letter) for letter, part in parts]
    c = call.named(call.emit("add", call.emit("mul", f, c), call.emit("mul", i, g)), "c")
    out = call.emit("mul", o, call.emit("tanh", c))
    if w.hr is not None:
        out = call.emit("linear", call.named(out, "p"), w.hr)
    return call.named(out, "h"), c


def _gru_step(call: Call, a: Node, state: State, w: _Weights) -> State:
    """Cho et al. (2014), with the reset gate after the product as in cuDNN and torch.

    u = h W_hhᵀ + b_hh, and u and a in three parts; r = σ(a_r + u_r), z = σ(a_z + u_z), n = tanh(a_n + r ⊙ u_n);
    h' = n + z ⊙ (h - n), which is (1 - z) ⊙ n + z ⊙ h.
    """
    (h,) = state
    u = call.named(call.emit("linear", h, w.hh, w.b_hh), "u")
    (u_r, u_z, u_n), (a_r, a_z, a_n) = _gates(call, u, 3), _gates(call, a, 3)
    r = call.named(call.emit("sigmoid", call.emit("add", u_r, a_r)), "r")
    z = call.named(call.emit("sigmoid", call.emit("add", u_z, a_z)), "z")
    n = call.named(call.emit("tanh", call.emit("add", a_n, call.emit("mul", u_n, r))), "n")
    moved = call.emit("mul", call.emit("sub", h, n), z)
    return (call.named(call.emit("add", moved, n), "h"),)


def _plain_step(call: Call, a: Node, state: State, w: _Weights) -> State:
    """Elman (1990): s = a + h W_hhᵀ + b_hh, h' = tanh(s) or ReLU(s)."""
    (h,) = state
    s = call.named(call.emit("add", call.emit("linear", h, w.hh, w.b_hh), a), "s")
    return (call.named(call.emit("relu" if "relu" in call.overload else "tanh", s), "h"),)


_STEPS: dict[str, Step] = {"lstm": _lstm_step, "gru": _gru_step, "rnn": _plain_step}


def _step_of(call: Call) -> Step:
    return _STEPS[call.overload.partition(".")[0].partition("_")[0]]


# --- one step: the cells -------------------------------------------------------------------------------------------------
@lowering("lstm_cell.default", "gru_cell.default", "rnn_tanh_cell.default", "rnn_relu_cell.default")
def _cell(call: Call) -> Node | State:
    weights = _Weights(call["w_ih"], call["w_hh"], call["b_ih"], call["b_hh"])
    hx = call["hx"]
    state = _started(call, hx if isinstance(hx, (list, tuple)) else [hx])
    a = call.emit("linear", call["input"], weights.ih, weights.b_ih)
    after = _step_of(call)(call, a, state, weights)
    return after if len(after) > 1 else after[0]


def _started(call: Call, hx: Sequence[Node], place: int | None = None) -> State:
    """The state before the first step, of one layer and direction; the zeros that it is by default are called h0 and c0."""
    return tuple(_initial(call, x, name, place) for x, name in zip(hx, ("h0", "c0"), strict=False))


def _initial(call: Call, x: Node, name: str, place: int | None) -> Node:
    if isinstance(x.value, torch.Tensor):
        return call.constant(x.value if place is None else x.value[place], name)
    return x if place is None else call.emit("select", x, dim=0, index=place)


# --- layers --------------------------------------------------------------------------------------------------------------
@lowering("lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input")
def _layers(call: Call) -> tuple[Node, ...]:
    hx, sides = call["hx"], 2 if call["bidirectional"] else 1
    first = hx if isinstance(hx, (list, tuple)) else [hx]
    x, axis = call["input"], 1 if call["batch_first"] else 0
    call.refuse_unless(len(x.shape) == 3, "an input without a batch axis")
    weights, last = _weights(call), call["num_layers"] - 1
    finals: list[State] = []
    for layer in range(call["num_layers"]):
        if layer and not keeps(call, call["dropout"], call["train"]):
            x = dropped(call, x, call["dropout"])
        over = axis if layer == 0 else 0
        found = [
            _direction(call, x, over, first, weights[layer * sides + side], (layer, side)) for side in range(sides)
        ]
        finals += [states[-1 if side == 0 else 0] for side, states in enumerate(found)]
        x = _joined(call, found, axis if layer == last else 0)
    names = ("h_n", "c_n")[: len(finals[0])]
    parts = zip(names, zip(*finals, strict=True), strict=True)
    ends = [call.named(call.emit("stack", *states, dim=0), name) for name, states in parts]
    return call.named(x, "output") if x.role == "helper" else x, *ends


@lowering("_pack_padded_sequence.default", "lstm.data", "gru.data", "rnn_tanh.data", "rnn_relu.data")
def _packed(call: Call) -> Node:
    raise NotCaptured(
        "packed sequences of different lengths, and a Graph has one shape: give padded sequences to the recurrent layer "
        "itself, and mask the loss where a sequence has ended"
    )


@lowering("pad_sequence.default")
def _padded(call: Call) -> Node:
    """Sequences of different lengths, made equally long."""
    call.refuse_unless(call["padding_side"] in (None, "right"), "padding on the left")
    sequences, value = call["sequences"], call["padding_value"]
    longest = max(x.shape[0] for x in sequences)
    padded = [
        call.emit("pad", x, pad=(*(0,) * (2 * (len(x.shape) - 1)), 0, longest - x.shape[0]), value=value)
        for x in sequences
    ]
    return call.emit("stack", *padded, dim=0 if call["batch_first"] else 1)


def _weights(call: Call) -> list[_Weights]:
    """The flat list of parameters, cut into layers and directions."""
    flat, biases = list(call["params"]), bool(call["has_biases"])
    count = len(flat) // (call["num_layers"] * (2 if call["bidirectional"] else 1))
    found = []
    for start in range(0, len(flat), count):
        ih, hh, *rest = flat[start : start + count]
        b_ih, b_hh = (rest.pop(0), rest.pop(0)) if biases else (None, None)
        found.append(_Weights(ih, hh, b_ih, b_hh, rest[0] if rest else None))
    return found


def _direction(
    call: Call, x: Node, axis: int, first: Sequence[Node], weights: _Weights, place: tuple[int, int]
) -> list[State]:
    """The states after each step of one layer in one direction, in the order of the sequence."""
    layer, side = place
    alone = call["num_layers"] == 1 and not call["bidirectional"]
    path = "" if alone else f"l{layer}{'_reverse' if side else ''}"
    here = call.within(path, call.overload.partition(".")[0])
    state = _started(here, first, layer * (2 if call["bidirectional"] else 1) + side)
    a = here.named(here.emit("linear", x, weights.ih, weights.b_ih), "a")
    steps, states = range(x.shape[axis]), {}
    for t in reversed(steps) if side else steps:
        at = here.within(f"t{t + 1}")
        state = _step_of(call)(at, at.emit("select", a, dim=axis, index=t), state, weights)
        states[t] = state
    return [states[t] for t in steps]


def _joined(call: Call, found: list[list[State]], axis: int) -> Node:
    """The outputs of all steps, with the two directions side by side."""
    sides = [call.emit("stack", *(state[0] for state in states), dim=axis) for states in found]
    return sides[0] if len(sides) == 1 else call.emit("cat", *sides, dim=-1)
