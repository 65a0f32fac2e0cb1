"""Programs that people write and torch.export trips over, each with the treatment that it must get."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backproof.capturing.lower import LOWERINGS

from .models import Layer, doubles

__all__ = ["HAZARDS", "Hazard"]

X = doubles(4, 3)


@dataclass(frozen=True)
class Hazard:
    """A program and its treatment.

    Args:
        program: a function of tensors or a module.
        inputs: what it takes.
        treatment: "exact", "recorded" (holds for this run), "general" (recorded, and holds for other inputs too),
            or "refused".
        says: a pattern that the remark or the refusal contains.
    """

    program: Any
    inputs: tuple[Any, ...] = (X,)
    treatment: str = "exact"
    says: str = ""
    more: dict[str, Any] | None = None


HAZARDS: dict[str, Hazard] = {}


def hazard(treatment: str = "exact", says: str = "", inputs: Any = (X,), **more: Any) -> Callable[[Any], Any]:
    """Enter a program into the table."""

    def add(program: Any) -> Any:
        made = program().double() if isinstance(program, type) and issubclass(program, nn.Module) else program
        HAZARDS[program.__name__] = Hazard(made, inputs, treatment, says, more or None)
        return program

    return add


def put(name: str, program: Any, treatment: str = "exact", says: str = "", inputs: Any = (X,), **more: Any) -> None:
    """Enter a program that has no name of its own."""
    HAZARDS[name] = Hazard(program, inputs, treatment, says, more or None)


# --- where no gradient passes ------------------------------------------------------------------------------------------
@hazard()
def no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        c = x * x
    return (x * c).sum()


@hazard()
def nested_no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        a = x.sin()
        with torch.no_grad():
            b = a * x
        c = a + b
    return (a * x * b * c).sum()


@hazard()
def enabled_inside_no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        a = x.sin()
        with torch.enable_grad():
            b = x.cos() * a
        c = b * 2
    return (a * x * b * c).sum()


@hazard()
def inference_mode(x: Tensor) -> Tensor:
    with torch.inference_mode():
        a = float(x.shape[0])
    with torch.no_grad():
        b = x.exp()
    return (x * b * a).sum()


@hazard()
def decorated_no_grad(x: Tensor) -> Tensor:
    @torch.no_grad()
    def scale(v: Tensor) -> Tensor:
        return v.abs().amax(dim=1, keepdim=True)

    return (x / scale(x)).sin().sum()


@hazard()
def view_made_under_no_grad(x: Tensor) -> Tensor:
    y = x * 2
    with torch.no_grad():
        v = y[0]
    return (y * v).sum()


@hazard()
def set_grad_enabled_off_and_on(x: Tensor) -> Tensor:
    torch.set_grad_enabled(False)
    a = x.sin()
    torch.set_grad_enabled(True)
    return (a * x).sum()


@hazard()
def detach(x: Tensor) -> Tensor:
    y = x.sin()
    return (y * y.detach()).sum()


@hazard("general")
def data(x: Tensor) -> Tensor:
    y = x.sin()
    return (y * y.data).sum()


@hazard()
def detach_in_place(x: Tensor) -> Tensor:
    y = (x * 2).detach_()
    z = y * x
    return z.sum()


# --- in place ----------------------------------------------------------------------------------------------------------
@hazard()
def row_set_to_zero(x: Tensor) -> Tensor:
    y = x * 2
    y[0] = 0
    y.mul_(2)
    return (y * x).sum()


@hazard()
def slices_assigned(x: Tensor) -> Tensor:
    y = torch.zeros(5, 3, dtype=x.dtype)
    y[1:3] = x[:2] * 2
    y[3:, 1:] = x[2:, :2].sin()
    y[:, 0] += x[0, 0]
    return (y * y).sum()


@hazard()
def every_second_column(x: Tensor) -> Tensor:
    y = x.sin()
    y[:, ::2] = y[:, ::2] * 3
    y[1::2] *= x[1::2]
    return (y * x).sum()


@hazard()
def views_of_views(x: Tensor) -> Tensor:
    y = x * 1
    v = y.t()[1:].reshape(2, 2, 2)
    y.t()[1:][0].mul_(3)
    w = y[:2][1]
    w[0] = x[0, 0] ** 2
    return (y * x).sum() + v.sum()


@hazard()
def read_through_a_view_after_a_write(x: Tensor) -> Tensor:
    y = x * 2
    v, w = y[0], y.reshape(-1)[3:6]
    before = v * 1
    y.mul_(x)
    return (v * before).sum() + (w * 2).sin().sum()


@hazard()
def written_through_a_view(x: Tensor) -> Tensor:
    y = x * 2
    v = y.reshape(-1)
    v.mul_(3).add_(1)
    u = y.unsqueeze(0).transpose(1, 2)
    u.sub_(0.5)
    return (y * x).sum()


@hazard()
def pieces_written(x: Tensor) -> Tensor:
    y = x * 1
    y.narrow(0, 1, 2).mul_(x[:2] * 1)
    y.select(1, 2).copy_(x[:, 0])
    a, b = y.reshape(2, 6), y.flatten()
    y[-1, -1].sub_(x[0, 0])
    return (y * x).sum() + (a * a).sum() + (b * 3).sin().sum()


@hazard("refused", r"modified inplace")
def piece_of_a_split_changed(x: Tensor) -> Tensor:
    y = x * 1
    a, _ = y.chunk(2)
    a.mul_(2)
    return (y * x).sum()


@hazard()
def made_without_and_written_with_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        table = torch.ones(4, 3, dtype=x.dtype) * x
    table[1] = x[1]
    return (table * x).sum()


@hazard()
def filled_in_a_loop(x: Tensor) -> Tensor:
    out = x.new_zeros(4, 3)
    h = x[0]
    for i in range(4):
        h = torch.tanh(h + x[i])
        out[i] = h
    return (out * x).sum()


@hazard()
def augmented(x: Tensor) -> Tensor:
    y = x * 2
    y += x
    y -= 1
    y *= x
    y /= 3
    y **= 2
    return y.sum()


@hazard()
def list_and_dict_state(x: Tensor) -> Tensor:
    state = {"h": x, "seen": [x.sin()]}
    for i in range(2):
        state["h"] = state["h"] * (i + 2)
        state["seen"].append(state["h"])
    return torch.stack(state["seen"]).sum()


@hazard()
def masked_fill_in_place(x: Tensor) -> Tensor:
    y = x * 1
    y.masked_fill_(x > 0, 0.5)
    return (y * x).sum()


@hazard()
def whole_dtype_kept(x: Tensor) -> Tensor:
    y = torch.zeros(4, 3, dtype=torch.float32)
    y.copy_(x)
    y += x
    return (y * 2).sum().double()


@hazard("refused", r"changes in place, where no gradient is recorded \(no_grad\).*\(y\.mul_\(2\)\)")
def written_under_no_grad(x: Tensor) -> Tensor:
    y = x * x
    with torch.no_grad():
        y.mul_(2)
    return (y * x).sum()


@hazard("refused", r"changes an input in place \('x'\).*\(x \+= 1\)")
def input_changed(x: Tensor) -> Tensor:
    x += 1
    return x.sum()


@hazard("refused", r"changes an input in place.*\(x\[0\] = 0\)")
def part_of_input_changed(x: Tensor) -> Tensor:
    x[0] = 0
    return x.sum()


@hazard()
def out_argument(x: Tensor) -> Tensor:
    y = torch.zeros(4, 3, dtype=x.dtype)
    with torch.no_grad():
        torch.add(x, x, out=y)
    return (y * x).sum()


@hazard("refused", r"aten\.(max\.dim_max|sort\.values), which writes into a tensor that was given to it")
def several_out_arguments(x: Tensor) -> Tensor:
    values, places = torch.zeros(3, dtype=x.dtype), torch.zeros(3, dtype=torch.int64)
    with torch.no_grad():
        torch.max(x, 0, out=(values, places))
    return (x * values).sum()


@hazard("refused", r"a parameter in place|no gradient is recorded|does not run|leaf")
class ParameterClamped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.w.clamp_(-0.5, 0.5)
        return (x * self.w).sum()


# --- state -------------------------------------------------------------------------------------------------------------
@hazard("recorded", r"the number at .* was 1")
class Momentumless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3, momentum=None)

    def forward(self, x: Tensor) -> Tensor:
        return (self.norm(x) * x).sum()


@hazard()
class Averaging(nn.Module):
    """An exponential moving average, written without gradients, that the forward pass uses afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
            self.steps += 1
        return ((x - self.mean) ** 2).sum()


@hazard()
class WeightNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).sin().sum()


@hazard()
class OldWeightNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.fc.weight = nn.Parameter(self.fc.weight)
        self.g = nn.Parameter(torch.ones(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        w = self.g * self.fc.weight / self.fc.weight.norm(dim=1, keepdim=True)
        return F.linear(x, w, self.fc.bias).sin().sum()


@hazard()
class SpectralNorm(nn.Module):
    """Its power iteration writes into the buffers with ``out=``."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).sin().sum()


@hazard()
class SpectralNormInEvaluation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).sin().sum()


@hazard()
class GrowingParameter(nn.Module):
    """A parameter that is created in the forward pass belongs to no optimizer."""

    def forward(self, x: Tensor) -> Tensor:
        self.late = nn.Parameter(torch.ones(3, dtype=x.dtype))
        return (x * self.late).sum()


@hazard()
class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2)
        self.a.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).tanh()).sum()


# --- callables ----------------------------------------------------------------------------------------------------------
class Scaler:
    """A plain object with ``__call__`` and a method."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, x: Tensor) -> Tensor:
        y = x * self.by
        return y.sin().sum()

    def method(self, x: Tensor) -> Tensor:
        return (x * self.by).cos().sum()


def scaled(x: Tensor, by: float, *, more: float = 0.0) -> Tensor:
    return (x * by + more).sin().sum()


put("callable", Scaler(2.0))
put("method", Scaler(2.0).method)
put("partial", functools.partial(scaled, by=3.0, more=1.0))
put("lambda", lambda x: (x * 3).sin().sum())
put("builtin", torch.sum)


@hazard(inputs=(X, None, 3, "tanh", True))
def plain_arguments(x: Tensor, mask: Tensor | None, times: int, kind: str, flag: bool) -> Tensor:
    y = getattr(torch, kind)(x) * times
    return (y if flag and mask is None else x).sum()


@hazard(inputs=(X, X + 1, X * 2))
def star_args(*xs: Tensor) -> Tensor:
    return torch.stack([x * (i + 1) for i, x in enumerate(xs)]).sin().sum()


@hazard(inputs=({"a": X, "b": X + 1},))
def star_keywords(**given: Tensor) -> Tensor:
    return (given["a"] * given["b"]).sum()


Pair = collections.namedtuple("Pair", "left right")


@hazard(inputs=(Pair(X, X + 1),))
def named_tuple_in(left: Tensor, right: Tensor) -> Tensor:
    return (left * right.sin()).sum()


@hazard(inputs=(Pair(X, X + 1), [X * 2]))
def named_tuple_as_argument(pair: Any, rest: list[Tensor]) -> Tensor:
    return (pair.left * pair.right + rest[0]).sin().sum()


@hazard(loss="mse", targets=doubles(4, 3, seed=1), output="y")
def dict_out(x: Tensor) -> dict[str, Tensor]:
    return {"z": x * 3, "y": x.sin()}


@hazard(loss="mse", targets=doubles(4, 3, seed=1), output=1)
def tuple_out(x: Tensor) -> tuple[Tensor, Any]:
    return x * 3, x.sin()


@hazard(loss="mse", targets=doubles(4, 3, seed=1), output="y")
def named_tuple_out(x: Tensor) -> Any:
    return collections.namedtuple("Out", "z y")(x * 3, x.sin())


@dataclasses.dataclass
class Batch:
    """A dataclass that nobody has told torch about."""

    a: Tensor
    pair: tuple[Tensor, Tensor]
    scale: float = 2.0


class Holder:
    """A plain object that a model returns."""

    def __init__(self, y: Tensor) -> None:
        self.y, self.note = y, "note"


@hazard(inputs=(Batch(X, (X + 1, X * 2)),))
def dataclass_in(batch: Batch) -> Tensor:
    return (batch.a * batch.pair[0] * batch.scale + batch.pair[1]).sin().sum()


@hazard(loss="mse", targets=doubles(4, 3, seed=1), output="a")
def dataclass_out(x: Tensor) -> Batch:
    return Batch(x.sin(), (x, x * 2))


@hazard(loss="mse", targets=doubles(4, 3, seed=1), output="y")
def object_out(x: Tensor) -> Holder:
    return Holder(x.sin())


# --- shapes and dtypes --------------------------------------------------------------------------------------------------
put("non_leaf_input", lambda x: (x * x).sum(), inputs=((X.clone().requires_grad_() * 2),))
put("expanded_input", lambda x: (x * x).sum(), inputs=(doubles(1, 3).expand(4, 3),))
put("transposed_input", lambda x: (x.sin() * x).sum(), inputs=(doubles(3, 4).T,))
put("no_samples", lambda x: (x * x).sum(), inputs=(torch.zeros(0, 3, dtype=torch.float64),))
put("mse_broadcast", lambda x: F.mse_loss(*torch.broadcast_tensors(x, x[0].detach())))
put("padding_same", nn.Sequential(nn.Conv1d(3, 2, 3, padding="same"), nn.Flatten(0)).double(), inputs=(doubles(1, 3, 6),),
    loss=lambda y: (y * y).sum())  # fmt: skip


@hazard(inputs=(X.float(),))
def autocast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = x @ x.T
        z = y.softmax(-1)
        w = F.linear(z.float(), torch.ones(2, 4))
    return (z * y).sum() + w.sum() + (x @ x.T).sum()


@hazard("general", r"torch.export.*|captured graph does not have the model's gradient of 'x'", inputs=(X.float(),))
def autocast_off_inside(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = x @ x.T
        with torch.autocast("cpu", enabled=False):
            z = x @ x.T
        with torch.no_grad():
            c = x @ x.T
    return (y.float() * z * c.float()).mean()


# --- the program looks at its values ----------------------------------------------------------------------------------
@hazard("recorded", r"branch at .*hazards\.py:\d+ \(if h\.sum\(\) > 0:\) was not taken")
def branch(x: Tensor) -> Tensor:
    h = x * 2
    if h.sum() > 0:
        y = h.sin()
    else:
        y = h.cos()
    return (y * x).sum()


@hazard("recorded", r"\(n = int\(x\.abs\(\)\.sum\(\)\.item\(\)\)\) was 10\.2074")
def loop_over_a_value(x: Tensor) -> Tensor:
    n = int(x.abs().sum().item())
    y = x
    for _ in range(min(n, 3)):
        y = torch.tanh(y)
    return y.sum()


@hazard("recorded", r"the number at .*was -3\.14174")
def item(x: Tensor) -> Tensor:
    s = x.sum().item()
    return (x * s).sum()


@hazard(
    "recorded", r"values that left torch at .*\(n = h\.detach\(\)\.numpy\(\)\.max\(\)\) are constants, and no gradient"
)
def numpy_inside(x: Tensor) -> Tensor:
    h = x.sin()
    n = h.detach().numpy().max()
    s = torch.from_numpy(np.ones(3)) * float(n)
    return (h * s).sum()


@hazard("recorded", r"values that left torch")
def to_list(x: Tensor) -> Tensor:
    weights = torch.tensor([max(row) for row in x.tolist()], dtype=x.dtype)
    return (x.T * weights).sum()


@hazard("recorded", r"branch")
def while_it_is_large(x: Tensor) -> Tensor:
    y = x
    while y.norm() > 0.5:
        y = y / 2
    return (y * x).sum()


@hazard("recorded", r"branch")
def asserted(x: Tensor) -> Tensor:
    assert x.abs().max() < 100, "too large"
    assert not bool(torch.isnan(x).any()), torch.sort(x)
    return x.sin().sum()


@hazard("recorded", r"branch at .*torch\.cond")
def conditional(x: Tensor) -> Tensor:
    y = torch.cond(x.sum() > 0, lambda v: v.sin(), lambda v: v.cos(), (x,))
    return (y * x).sum()


@hazard("recorded", r"branch")
def while_loop(x: Tensor) -> Tensor:
    from torch._higher_order_ops.while_loop import while_loop as loop

    _, y = loop(lambda i, v: i < 3, lambda i, v: (i + 1, v.sin()), (torch.tensor(0), x))
    return (y * x).sum()


@hazard("general")
def scan(x: Tensor) -> Tensor:
    from torch._higher_order_ops.scan import scan as run

    carry, out = run(lambda c, v: ((c + v).tanh(), (c * v).clone()), torch.zeros(3, dtype=x.dtype), x)
    return (carry * out).sum()


@hazard("general")
def mapped(x: Tensor) -> Tensor:
    from torch._higher_order_ops.map import map as run

    return (run(lambda row, by: row.sin() * by, x, x[0]) * x).sum()


@hazard("general", r"torch\.vmap")
def vmap(x: Tensor) -> Tensor:
    return torch.vmap(lambda row: (row * row).sum().sin())(x).sum()


@hazard("general", r"torch\.func\.grad")
def grad_inside(x: Tensor) -> Tensor:
    slope = torch.func.grad(lambda v: (v**3).sum())(x)
    return (slope * x).sum()


@hazard("general", r"torch\.func\.jvp")
def jvp_inside(x: Tensor) -> Tensor:
    return torch.func.jvp(torch.sin, (x,), (x * 2,))[1].sum()


@hazard()
def autograd_inside(x: Tensor) -> Tensor:
    y = (x * 1).requires_grad_()
    (slope,) = torch.autograd.grad((y**3).sum(), y, create_graph=True)
    return (slope * x).sum()


# --- backward passes of one's own -------------------------------------------------------------------------------------
class Straight(torch.autograd.Function):
    """round, whose backward passes the gradient on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        return torch.round(x * scale) / scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class Square(torch.autograd.Function):
    """x², whose backward is right, with ``setup_context``."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * grad


class Both(torch.autograd.Function):
    """Two results, whose backward clips what it sends: no linear function of what it gets."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(a, b)
        return a * b, a + b

    @staticmethod
    def backward(ctx: Any, g: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return (g * b + h).clamp(-0.1, 0.1), (g * a + h) * 2


class ByNumpy(torch.autograd.Function):
    """A forward pass that torch does not see."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.from_numpy(np.sinh(x.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * x.cosh()


@hazard(says=r"Straight is a custom autograd\.Function.*hazards\.py:\d+")
def straight_through(x: Tensor) -> Tensor:
    q = Straight.apply(x, 4.0)
    return (q * x).sum()


@hazard(says="Square is a custom")
def right_backward(x: Tensor) -> Tensor:
    y = Square.apply(x.sin())
    return (y * x).sum()


@hazard(says="Both is a custom")
def two_results(x: Tensor) -> Tensor:
    u, v = Both.apply(x, x.sin())
    return (u * v + Square.apply(v)).sum()


@hazard(says="Both is a custom")
def one_result_unused(x: Tensor) -> Tensor:
    u, _ = Both.apply(x, x.sin())
    return (u * x).sum()


@hazard("recorded", "values that left torch")
def forward_in_numpy(x: Tensor) -> Tensor:
    y = ByNumpy.apply(x * 2)
    return (y * x).sum()


@hazard(says="gradient hook on a tensor at")
def tensor_hook(x: Tensor) -> Tensor:
    h = x.sin()
    h.register_hook(lambda g: g.clamp(-0.2, 0.2))
    return (h * x).sum()


@hazard("exact", r"checkpoint.*hazards\.py:\d+")
class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = Layer(3, 3), Layer(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = checkpoint(self.layer, x, use_reentrant=False)
        return (self.out(h) * x).sum()


@hazard("general", r"checkpoint.*hazards\.py:\d+")
class CheckpointedTheOldWay(nn.Module):
    """torch.export loses the gradient of a reentrant region: it runs without gradients at first."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = Layer(3, 3), Layer(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = checkpoint(self.out, self.layer(x), use_reentrant=True)
        return (h * x).sum()


# --- what is drawn at random -------------------------------------------------------------------------------------------
@hazard()
def dropout_and_writes(x: Tensor) -> Tensor:
    y = F.dropout(x.sin(), 0.5)
    y[0] = y[1] * 2
    with torch.no_grad():
        noise = torch.randn_like(x)
    return (y * x * noise).sum()


@hazard("recorded", "branch")
def dropout_behind_a_branch(x: Tensor) -> Tensor:
    y = F.dropout(x, 0.5) if x.sum() < 100 else x
    return (y * torch.rand(3, dtype=x.dtype)).sin().sum()


@hazard(says="Straight is a custom")
def dropout_and_a_function(x: Tensor) -> Tensor:
    q = Straight.apply(F.dropout(x, 0.3), 4.0)
    return (q * x).sum()


def mask_written(x: Tensor) -> Tensor:
    y = x.sin()
    y[x > 0.4] = 0.5
    y[1, torch.tensor([0, 2])] = x[2, :2]
    return (y * x).sum()


if "index_put.default" in LOWERINGS:
    put("mask_written", mask_written)


# --- what has no place in a Graph --------------------------------------------------------------------------------------
put("sparse", lambda x: torch.sparse.mm(x.to_sparse(), x.T).sum(), treatment="refused", says=r"sparse|layout")
put("nothing", lambda x: None, treatment="refused", says="returns no tensor")
put("text", lambda x: "text", treatment="refused", says="returns no tensor")
