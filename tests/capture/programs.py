"""Random torch programs and modules, for hypothesis: what a person might write, run by torch itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

__all__ = ["Program", "RandomNet", "random_nets", "random_programs"]

Draw = Callable[[Any], Any]
MAX_SIZE = 60


def inside(x: Tensor, low: float, high: float) -> Tensor:
    """The same tensor squeezed between two bounds."""
    return low + (high - low) * torch.sigmoid(x)


def _torch(*names: str) -> dict[str, Callable[[Tensor], Tensor]]:
    return {name: getattr(torch, name) for name in names}


def _squeezed(low: float, high: float, *names: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """Functions with a domain, of operands squeezed into it."""

    def of(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: function(inside(x, low, high))

    return {name: of(getattr(torch, name)) for name in names}


_ELEMENTARY = "exp sin cos tanh sigmoid relu abs erf expm1 square sinh cosh atan asinh neg floor ceil sign round"
_ACTIVATIONS = "gelu silu mish softplus softsign logsigmoid elu celu selu leaky_relu relu6 hardtanh hardswish hardshrink softshrink"

# One tensor in, one out; kinks lie where no random number does.
UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    **_torch(*_ELEMENTARY.split()),
    **{f"F.{name}": getattr(F, name) for name in _ACTIVATIONS.split()},
    **_squeezed(0.2, 3.0, "log", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "log1p"),
    **_squeezed(-0.9, 0.9, "asin", "acos", "atanh", "tan"),
    "acosh": lambda x: torch.acosh(inside(x, 1.2, 3.0)),
    "gelu-tanh": lambda x: F.gelu(x, approximate="tanh"),
    "clamp": lambda x: x.clamp(-0.51, 0.52),
    "clamp_min": lambda x: x.clamp(min=0.13),
    "threshold": lambda x: F.threshold(x, 0.11, 0.3),
    "pow": lambda x: x**3 - x**2,
    "power": lambda x: 2.0**x,
    "rsub": lambda x: 1 - x,
    "rdiv": lambda x: 1 / inside(x, 0.5, 2.0),
    "plus-int": lambda x: 2 * x + 1,
    "alpha": lambda x: torch.add(x, x.sin(), alpha=0.5).sub(x, alpha=2),
    "where": lambda x: torch.where(x > 0.123, x * x, -x),
    "masked_fill": lambda x: x.masked_fill(x > 0.123, 0.5),
    "mask": lambda x: x * (x > -0.321) + x * ((x < 1.5) & (x > 0.1)),
    "detach": lambda x: x * x.detach(),
    "ones_like": lambda x: x + torch.ones_like(x) * torch.full_like(x, 0.3),
    "mean": lambda x: x - x.mean(),
    "reshape": lambda x: x.reshape(-1),
    "flatten": lambda x: torch.flatten(x) if x.dim() else x,
    "unsqueeze": lambda x: x.unsqueeze(0),
    "unsqueeze-last": lambda x: x[..., None],
    "squeeze": lambda x: x.squeeze(),
    "transpose": lambda x: x.transpose(0, -1) if x.dim() > 1 else x,
    "T": lambda x: x.mT if x.dim() > 1 else x,
    "permute": lambda x: x.permute(tuple(reversed(range(x.dim())))),
    "first": lambda x: x[0] if x.dim() else x,
    "last": lambda x: x[..., -1] if x.dim() else x,
    "slice": lambda x: x[..., ::2] if x.dim() else x,
    "narrow": lambda x: x.narrow(0, 0, 1) if x.dim() else x,
    "expand": lambda x: x.unsqueeze(0).expand(2, *x.shape),
    "cat": lambda x: torch.cat([x, x.sin()], dim=0) if x.dim() else x,
    "stack": lambda x: torch.stack([x, x.cos()], dim=-1),
    "split": lambda x: torch.cat([p * (i + 1) for i, p in enumerate(x.split(2, dim=-1))], -1) if x.dim() else x,
    "chunk": lambda x: sum(c.sum() for c in x.chunk(2, dim=0)) if x.dim() else x,
    "unbind": lambda x: sum((i + 1) * row for i, row in enumerate(x.unbind(0))) if x.dim() else x,
    "gather": lambda x: x.gather(0, torch.zeros_like(x[:1], dtype=torch.int64)) if x.dim() else x,
    "rows": lambda x: x[torch.tensor([0, 0, x.shape[0] - 1])] if x.dim() else x,
    "sum": lambda x: x.sum(0) if x.dim() else x,
    "mean-last": lambda x: x.mean(-1, keepdim=True) if x.dim() else x,
    "sum-all": lambda x: x.sum(),
    "amax": lambda x: x.amax(-1) if x.dim() else x,
    "max": lambda x: x.max(),
    "max-dim": lambda x: x.max(dim=0).values if x.dim() else x,
    "min-dim": lambda x: torch.min(x, 0, keepdim=True)[0] if x.dim() else x,
    "logsumexp": lambda x: x.logsumexp(0) if x.dim() else x,
    "var": lambda x: torch.cat([x, x + 1]).var(0) if x.dim() else x,
    "std": lambda x: torch.cat([x, x + 1]).std(0, unbiased=False) if x.dim() else x,
    "norm": lambda x: torch.linalg.vector_norm(inside(x, 0.5, 1.0)),
    "norm1": lambda x: x.norm(p=1),
    "softmax": lambda x: x.softmax(-1) if x.dim() else x,
    "log_softmax": lambda x: F.log_softmax(x, dim=0) if x.dim() else x,
    "glu": lambda x: F.glu(torch.cat([x, x], -1), -1) if x.dim() else x,
    "prelu": lambda x: F.prelu(x, torch.tensor([0.25], dtype=x.dtype)) if x.dim() else x,
    "double": lambda x: x.to(torch.float64).double().contiguous(),
    "dropout-eval": lambda x: F.dropout(x, 0.5, training=False),
}


def _in_place(x: Tensor) -> Tensor:
    y = x * 1
    y += 0.5
    y.mul_(2).sub_(x)
    return torch.relu_(y * 1)


def _stopped(x: Tensor) -> Tensor:
    with torch.no_grad():
        c = x.sin() + 1
    return x * c


def _loop(x: Tensor) -> Tensor:
    for i in range(3):
        x = torch.tanh(x * (i + 1)) + x
    return x


UNARY |= {"in_place": _in_place, "no_grad": _stopped, "loop": _loop}

PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / inside(b, 0.5, 2.0),
    "pow": lambda a, b: inside(a, 0.5, 2.0) ** inside(b, -2.0, 2.0),
    "maximum": lambda a, b: torch.maximum(a, b + 0.0123),
    "minimum": lambda a, b: torch.minimum(a, b + 0.0123),
    "max": lambda a, b: torch.max(a, b + 0.0123),
    "atan2": lambda a, b: torch.atan2(inside(a, 0.3, 2.0), inside(b, 0.3, 2.0)),
    "where": lambda a, b: torch.where(a > b + 0.0123, a.sin(), b.cos()),
    "mse": lambda a, b: F.mse_loss(*torch.broadcast_tensors(a, b)),
    "l1": lambda a, b: F.l1_loss(*torch.broadcast_tensors(a, b + 0.0123), reduction="sum"),
    "huber": lambda a, b: F.huber_loss(*torch.broadcast_tensors(a, b), reduction="none"),
    "smooth": lambda a, b: F.smooth_l1_loss(*torch.broadcast_tensors(a, b), beta=0.5),
    "bce": lambda a, b: F.binary_cross_entropy_with_logits(*torch.broadcast_tensors(a, inside(b, 0.1, 0.9))),
    "kl": lambda a, b: F.kl_div(*torch.broadcast_tensors(a, inside(b, 0.1, 0.9)), reduction="sum"),
    "outer": lambda a, b: torch.outer(a.reshape(-1)[:4], b.reshape(-1)[:4]),
    "dot": lambda a, b: a.reshape(-1)[:1] @ b.reshape(-1)[:1],
    "matmul": lambda a, b: (
        a.reshape(-1, a.shape[-1] if a.dim() else 1) @ (a * 0 + b.mean()).reshape(-1, a.shape[-1] if a.dim() else 1).T
    ),
    "addmm": lambda a, b: torch.addmm(b.mean().reshape(1), a.reshape(1, -1), a.reshape(-1, 1)),
    "swap": lambda a, b: torch.stack([a.mean(), b.mean()]),
}


class Program:
    """A random torch function of some tensors; each step takes earlier results by their places."""

    def __init__(self, steps: list[tuple[str, int, int]]) -> None:
        self.steps = steps

    def __repr__(self) -> str:
        return f"Program({self.steps})"

    def __call__(self, *given: Tensor) -> Tensor:
        values, used = list(given), set()
        for name, i, j in self.steps:
            a, b = values[i % len(values)], values[j % len(values)]
            result = self.step(name, a, b)
            used |= {id(a), id(b)} if name not in UNARY else {id(a)}
            if result.numel() <= MAX_SIZE:
                values.append(3 * torch.tanh(result / 3))
        rest = [v for v in values if id(v) not in used]
        return torch.stack([(v * (k + 1)).mean() for k, v in enumerate(rest)]).sum()

    @staticmethod
    def step(name: str, a: Tensor, b: Tensor) -> Tensor:
        if name in UNARY:
            return UNARY[name](a)
        fits = all(m == n or 1 in (m, n) for m, n in zip(reversed(a.shape), reversed(b.shape), strict=False))
        return PAIRS[name](a, b if fits else b.mean())


@st.composite
def random_programs(draw: Draw, steps: int = 10) -> tuple[Program, list[Tensor]]:
    """A program and random tensors for it."""
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    shapes = draw(st.lists(st.lists(st.integers(1, 3), max_size=3).map(tuple), min_size=1, max_size=3))
    tensors = [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes]
    step = st.tuples(st.sampled_from([*UNARY, *PAIRS]), st.integers(0, 9), st.integers(0, 9))
    return Program(draw(st.lists(step, min_size=3, max_size=steps))), tensors


# --- modules ---------------------------------------------------------------------------------------------------------
ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus, nn.LeakyReLU, nn.Mish, nn.Hardtanh, nn.SELU,
               nn.LogSigmoid, nn.Softsign, nn.Identity, nn.PReLU, nn.Hardswish, nn.CELU, nn.ReLU6, nn.Tanhshrink]  # fmt: skip


class Block(nn.Module):
    """A layer, an activation and perhaps a way around them."""

    def __init__(self, width: int, out: int, activation: nn.Module, around: bool, bias: bool) -> None:
        super().__init__()
        self.linear, self.activation = nn.Linear(width, out, bias=bias), activation
        self.around = around and width == out

    def forward(self, x: Tensor) -> Tensor:
        s = self.linear(x)
        z = self.activation(s)
        return x + z if self.around else z


class RandomNet(nn.Module):
    """Blocks one after another, some of them twice; the input is numbers or words."""

    def __init__(
        self, widths: list[int], activations: list[int], around: bool, bias: bool, again: bool, words: bool
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(6, widths[0]) if words else None
        pairs = zip(widths[:-1], widths[1:], activations, strict=False)
        self.blocks = nn.ModuleList(Block(m, n, ACTIVATIONS[a](), around, bias) for m, n, a in pairs)
        self.scale = nn.Parameter(torch.ones(widths[-1]))
        self.again, self.out = again, nn.Linear(widths[-1], 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.table is None else self.table(x)
        for block in self.blocks:
            h = block(h)
            if self.again and block.linear.in_features == block.linear.out_features:
                h = block(h)
        h = h * self.scale
        y = self.out(h)
        return y


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": nn.MSELoss(),
    "l1": nn.L1Loss(),
    "huber": nn.HuberLoss(),
    "cross_entropy": lambda y, t: F.cross_entropy(y, t[:, 0].abs().mul(1.5).long().clamp(max=2)),
    "bce": lambda y, t: F.binary_cross_entropy(torch.sigmoid(y), torch.sigmoid(t)),
    "kl": lambda y, t: F.kl_div(F.log_softmax(y, -1), F.softmax(t, -1), reduction="batchmean"),
    "square": lambda y, t: ((y - t) ** 2).sum(dim=1).sqrt().mean(),
}


@st.composite
def random_nets(draw: Draw) -> tuple[RandomNet, Tensor, Tensor, str]:
    """A model in float64, an input, a target and the name of a loss."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    widths = draw(st.lists(st.sampled_from([2, 3, 3, 4]), min_size=2, max_size=4))
    activations = [draw(st.integers(0, len(ACTIVATIONS) - 1)) for _ in widths[1:]]
    flags = [draw(st.booleans()) for _ in range(4)]
    net, samples = RandomNet(widths, activations, *flags).double(), draw(st.integers(1, 4))
    words = torch.randint(6, (samples,))
    x = words if flags[3] else torch.randn(samples, widths[0], dtype=torch.float64)
    target = torch.randn(samples, 3, dtype=torch.float64)
    return net, x, target, draw(st.sampled_from([*LOSSES]))
