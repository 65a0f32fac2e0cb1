"""A check finds each slip, says exactly which entries, and leaves what is right alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backproof as bp
from backproof.errors import InputError
from tests.docs.blocks import ROOT

sys.path.insert(0, str(ROOT / "bench"))
from mutants import FAMILIES, Family, function_of


def prepared(family: Family, size: int = 0) -> tuple[Tensor, ...]:
    return tuple(t.detach().clone() for t in family.inputs(size))


def truth(family: Family, slip: str, inputs: tuple[Tensor, ...]) -> set[tuple[int, tuple[int, ...]]]:
    """The wrong entries by autograd on the plain forward pass, with other weights than the check draws."""
    leaves = [t.clone().requires_grad_() if t.is_floating_point() else t for t in inputs]
    floats = [t for t in leaves if t.requires_grad]
    out = family.forward(*leaves)
    weights = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(99))
    right = torch.autograd.grad(out, floats, weights, allow_unused=True)
    wrong = torch.autograd.grad(function_of(family, slip)(*leaves), floats, weights, allow_unused=True)
    found = set()
    for t, a, b in zip(floats, right, wrong, strict=True):
        place = next(k for k, leaf in enumerate(leaves) if leaf is t)
        a, b = (torch.zeros_like(t) if g is None else g for g in (a, b))
        off = (a - b).abs() > 1e-12 * a.abs().max()
        found |= {(place, tuple(i)) for i in off.nonzero().tolist()}
    return found


CASES = [(f, slip) for f in FAMILIES for slip in f.slips]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_what_is_right_is_left_alone(family: Family) -> None:
    inputs = prepared(family)
    # the target of the first family and of Huber's is not differentiated by their backward passes
    if family.name in ("MLP", "Huber"):
        inputs = tuple(t.requires_grad_() for t in inputs[:-1]) + inputs[-1:]
    found = bp.check(function_of(family, ""), inputs)
    assert found.ok is True, found.message()
    assert found.wrong == () and found.cause is None and not found.finding
    assert len([o for o in found.oracles if o.agrees]) == 2


@pytest.mark.parametrize(("family", "slip"), CASES[::3], ids=lambda v: getattr(v, "name", v))
def test_a_slip_is_found_with_its_entries(family: Family, slip: str) -> None:
    inputs = prepared(family)
    if family.name in ("MLP", "Huber"):
        inputs = tuple(t.requires_grad_() for t in inputs[:-1]) + inputs[-1:]
    found = bp.check(function_of(family, slip), inputs)
    assert found.ok is False
    checked = {k for k, t in enumerate(inputs) if t.requires_grad} or set(range(len(inputs)))
    wanted = {(k, i) for k, i in truth(family, slip, tuple(t.detach() for t in inputs)) if k in checked}
    got = {(e.input.position, e.index) for e in found.wrong}
    assert got == wanted
    assert found.where is not None and family.name in found.where.operation


def one(slip: str, family: str) -> bp.Checked:
    chosen = next(f for f in FAMILIES if f.name == family)
    inputs = prepared(chosen)
    if family in ("MLP", "Huber"):
        inputs = tuple(t.requires_grad_() for t in inputs[:-1]) + inputs[-1:]
    return bp.check(function_of(chosen, slip), inputs)


@pytest.mark.parametrize(
    ("family", "slip", "words"),
    [
        ("MLP", "sign", "sign reversed"),
        ("MLP", "no mean over the batch", "factor 3"),
        ("MLP", "pre-activation", "add"),
        ("MLP", "updated weights", "after its update"),
        ("MLP", "slope of tanh", "slope of tanh"),
        ("MLP", "bias averaged", "mean where a sum belongs"),
        ("LayerNorm", "mean term dropped", "dropped"),
        ("LayerNorm", "epsilon forgotten", "computed with 0"),
        ("Convolution", "kernel flipped", "flipped in its last two axes"),
        ("Attention", "scale forgotten", "√5"),
        ("Gather", "duplicates not accumulated", "duplicates are not accumulated"),
        ("Softmax", "sum over the wrong axis", "axis 0"),
        ("BatchNorm", "statistics held fixed", "dropped"),
        ("MaxPool", "average for maximum", "average pooling"),
        ("RecurrentCell", "cut after one step", "does not arrive"),
        ("Huber", "threshold wrong", "branch"),
    ],
)
def test_the_mistake_is_named(family: str, slip: str, words: str) -> None:
    found = one(slip, family)
    assert found.cause is not None and words in found.cause


class Relu(torch.autograd.Function):
    """Right, except for what it takes the slope at 0 to be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * (x > 0)


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Opaque(torch.autograd.Function):
    """A cube through numpy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.from_numpy(x.detach().numpy() ** 3)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g


class OpaqueWrong(Opaque):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        made = 3 * x**2 * g
        made[2] *= 1.001
        return made


class Rare(Relu):
    """Wrong beyond 5 only."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * (x > 0) * torch.where(x > 5, 2.0, 1.0)


def under_autocast(x: Tensor, w: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return (x @ w).float().sin()


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


AWKWARD: dict[str, tuple[Callable[..., Any], Any]] = {
    "linear in float32": (nn.Linear(20, 10), normal(8, 20, dtype=torch.float32)),
    "convolution in float32": (nn.Conv2d(3, 4, 3), normal(2, 3, 8, 8, dtype=torch.float32)),
    "linear in bfloat16": (nn.Linear(20, 10).bfloat16(), normal(8, 20, dtype=torch.bfloat16)),
    "relu at 0": (F.relu, torch.zeros(5, dtype=torch.float64)),
    "relu near 0": (F.relu, torch.full((5,), 1e-7, dtype=torch.float64)),
    "ties in max pooling": (lambda x: F.max_pool2d(x, 2), torch.ones(1, 1, 4, 4, dtype=torch.float64)),
    "abs at 0": (torch.abs, torch.zeros(4, dtype=torch.float64)),
    "sort": (lambda x: x.sort()[0], normal(30)),
    "exp(30 x)": (lambda x: torch.exp(30 * x), normal(5)),
    "a scale of a million": (lambda x: 1e6 * x**3, normal(5)),
    "an offset of a billion": (lambda x: (x**2).sum() + 1e9, normal(5)),
    "dropout": (lambda x: F.dropout(x, 0.5), normal(20)),
    "root near 0": (torch.sqrt, torch.full((4,), 1e-7, dtype=torch.float64)),
    "logarithm near 0": (torch.log, torch.full((4,), 1e-6, dtype=torch.float64)),
    "another slope at 0": (Relu.apply, torch.zeros(5)),
    "complex": (lambda z: (z * z.conj() * z).exp(), torch.complex(normal(4), normal(4))),
    "expanded": (lambda x: x.sin(), normal(1, 4).expand(3, 4)),
    "of size zero": (lambda x: x.sin(), torch.zeros(0, 4)),
    "in place": (lambda x: x.mul_(2).sin_(), normal(4)),
    "recurrent": (nn.LSTM(3, 4), normal(5, 2, 3, dtype=torch.float32)),
    "batch norm": (nn.BatchNorm1d(4), normal(6, 4, dtype=torch.float32)),
    "autocast": (under_autocast, (normal(6, 6, dtype=torch.float32), normal(6, 6, dtype=torch.float32))),
    "through numpy": (Opaque.apply, normal(5)),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_what_is_awkward_is_not_called_wrong(name: str) -> None:
    fn, inputs = AWKWARD[name]
    found = bp.check(fn, inputs)
    assert found.ok is True, found.message()


def test_notes_say_why_a_function_is_awkward() -> None:
    assert any("not differentiable" in n for n in bp.check(*AWKWARD["relu at 0"]).notes)
    assert any("random" in n for n in bp.check(*AWKWARD["dropout"]).notes)
    assert any("lies between them" in n for n in bp.check(*AWKWARD["another slope at 0"]).notes)


def test_an_opaque_forward_pass_is_judged_by_differences() -> None:
    found = bp.check(OpaqueWrong.apply, normal(6))
    assert found.ok is False and [e.index for e in found.wrong] == [(2,)]
    assert found.wrong[0].expected == pytest.approx(found.wrong[0].claimed / 1.001, rel=1e-6)


def test_a_rare_branch_is_entered() -> None:
    found = bp.check(Rare.apply, normal(50))
    assert found.ok is False and "branch" in (found.cause or "")
    assert bp.check(Rare.apply, normal(50), elsewhere=False).ok is True


def test_a_straight_through_estimator_is_declared() -> None:
    assert bp.check(Round.apply, normal(5)).ok is False
    assert "surrogate" in (bp.check(Round.apply, normal(5)).cause or "")
    assert bp.check(Round.apply, normal(5), surrogate=lambda x: 1 * x).ok is True
    assert bp.check(Round.apply, normal(5), surrogate=lambda x: 2 * x).ok is False


def test_a_reference_judges_forward_and_backward() -> None:
    assert bp.check(Opaque.apply, normal(5), reference=lambda x: x**3).ok is True
    assert bp.check(OpaqueWrong.apply, normal(5), reference=lambda x: x**3).ok is False
    other = bp.check(lambda x: 1.01 * x**3, normal(5), reference=lambda x: x**3)
    assert other.ok is False and "forward" in (other.cause or "")


def test_claims_are_numbers_formulas_or_functions() -> None:
    def loss(x: Tensor, w: Tensor) -> Tensor:
        return torch.sin(x @ w)

    inputs = normal(4), normal(4) + 1
    right = torch.cos(inputs[0] @ inputs[1]) * inputs[0]
    for claim in (right, "cos(x @ w) * x", lambda x, w: torch.cos(x @ w) * x):
        assert bp.check(loss, inputs, claim={"w": claim}).ok is True
    for claim in (1.001 * right, "sin(x @ w) * x", lambda x, w: torch.cos(x @ w) * w):
        found = bp.check(loss, inputs, claim={"w": claim})
        assert found.ok is False and {str(e.input) for e in found.wrong} == {"w"}


def test_a_function_within_a_module_is_located() -> None:
    class Wrong(Relu):
        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return 2 * g * (x > 0)

    class Layer(nn.Module):
        def __init__(self, function: Any) -> None:
            super().__init__()
            self.function, self.linear = function, nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.function.apply(self.linear(x))  # type: ignore[no-any-return]

    model = nn.Sequential(Layer(Relu), Layer(Wrong), Layer(Relu))
    before = [p.clone() for p in model.parameters()]
    found = bp.check(model, normal(3, 4, dtype=torch.float32))
    assert found.ok is False and found.where is not None
    assert found.where.module == "1" and "Wrong" in found.where.operation and "test_check.py" in found.where.source
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_custom_operator_is_checked_by_torch_too() -> None:
    @torch.library.custom_op("backproof_tests::cube", mutates_args=())
    def cube(x: Tensor) -> Tensor:
        return x**3

    cube.register_fake(torch.empty_like)
    cube.register_autograd(
        lambda ctx, g: 3 * ctx.saved_tensors[0] ** 2 * g,
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    )
    right = bp.check(cube, normal(5))
    assert right.ok is True and any("opcheck" in o.name and o.agrees for o in right.oracles)

    @torch.library.custom_op("backproof_tests::square", mutates_args=())
    def square(x: Tensor) -> Tensor:
        return x**2

    square.register_autograd(
        lambda ctx, g: 3 * ctx.saved_tensors[0] * g,
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    )
    wrong = bp.check(square, normal(5))
    assert wrong.ok is False and len(wrong.wrong) == 5 and "factor 3/2" in (wrong.cause or "")


def test_outputs_that_nobody_used_and_other_layouts() -> None:
    class Both(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
            ctx.set_materialize_grads(False)
            return 2 * x, 3 * x

        @staticmethod
        def backward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
            return 2 * a + 3 * b

    class Layout(Relu):
        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return g * (x.as_strided(x.shape, torch.empty(x.shape).stride()) > 0)

    class Undefined(Both):
        @staticmethod
        def backward(ctx: Any, a: Tensor | None, b: Tensor | None) -> Any:
            parts = [k * g for k, g in ((2, a), (3, b)) if g is not None]
            return sum(parts) if parts else None

    assert "undefined" in (bp.check(Both.apply, normal(4)).cause or "")
    assert bp.check(Undefined.apply, normal(4)).ok is True
    assert "not contiguous" in (bp.check(Layout.apply, normal(3, 4)).cause or "")


def test_a_kernel_for_float32_alone() -> None:
    class Short(torch.autograd.Function):
        factor = 1.0

        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            assert x.dtype == torch.float32
            ctx.save_for_backward(x)
            return x.tanh()

        @classmethod
        def backward(cls, ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
            (x,) = ctx.saved_tensors
            return g * (1 - x.tanh() ** 2) * Short.factor

    x = normal(40, dtype=torch.float32)
    assert bp.check(Short.apply, x).ok is True
    Short.factor = 1.01
    found = bp.check(Short.apply, x)
    assert found.ok is False and len(found.wrong) == 40 and any("float32 only" in n for n in found.notes)


def test_double_backward() -> None:
    assert bp.check(lambda x: (x**3).sum(), normal(5), second=True).ok is True


def test_what_cannot_be_checked_is_refused() -> None:
    for arguments in ((3, normal(2)), (torch.sin, torch.tensor([1, 2])), (torch.mm, (normal(2), normal(2)))):
        with pytest.raises(InputError):
            bp.check(*arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="none of"):
        bp.check(torch.sin, normal(2), claim={"y": normal(2)})
    with pytest.raises(InputError, match="shape"):
        bp.check(torch.sin, normal(2), claim=normal(3))
    with pytest.raises(InputError, match="both"):
        bp.check(torch.sin, normal(2), reference=torch.sin, surrogate=torch.sin)


def test_a_blind_oracle_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the oracle that runs the custom backward, a slip is no longer told by it, and differences still tell it."""
    from backproof.checking import examine

    family = next(f for f in FAMILIES if f.name == "Softmax")
    monkeypatch.setattr(examine.Examination, "_raw", lambda self, p, v, w: p.gradients(v, w))
    found = bp.check(function_of(family, "sign of the sum"), prepared(family))
    assert found.ok is False and any(o.agrees is False and "differences" in o.name for o in found.oracles)
