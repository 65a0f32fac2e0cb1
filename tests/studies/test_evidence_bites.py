"""Evidence must bite: one thing is broken at a time, and the solution must say so and name it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import backproof as bp
from backproof import vjps
from backproof.cli import main
from backproof.domains import digits as digits_module
from backproof.domains import numbers as numbers_module
from backproof.domains import spelling
from backproof.domains.kernels import KERNELS, SLOPES
from backproof.ops import OPS
from backproof.optimizers import base as optimizers
from backproof.optimizers.base import RULES
from backproof.studies.verdicts import IN_OWN_DTYPE

NET = "uva-dl-1/relu-tanh-net"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Kernels, compiled formulas and update graphs are cached; a broken one must not outlive its test."""
    yield
    _forget()


def _forget() -> None:
    numbers_module._kernel.cache_clear()
    digits_module.compiled.cache_clear()
    optimizers._update_graph.cache_clear()


def disagreements(solution: bp.Solution) -> list[str]:
    return [e.what for e in solution.evidence if e.agrees is False]


def test_the_unbroken_solution_agrees() -> None:
    solution = bp.solve(NET)
    assert not solution.finding
    assert all(e.agrees for e in solution.evidence)


@pytest.mark.parametrize(("name", "operand", "says"), [("matmul", 1, "W"), ("sub", 0, "y_out"), ("outer", 1, "w")])
def test_a_wrong_vector_jacobian_product(monkeypatch: pytest.MonkeyPatch, name: str, operand: int, says: str) -> None:
    right = vjps.VJPS[name]

    def wrong(r: vjps.Rule) -> Any:
        found = list(right(r))
        part = found[operand]
        found[operand] = part and r.emit("mul", part, r.constant(1.0000001))
        return tuple(found)

    monkeypatch.setitem(vjps.VJPS, name, wrong)
    solution = bp.solve(NET, steps=1, evidence="full") if name != "outer" else bp.solve(_outer_problem())
    assert solution.finding
    assert any(says in what for what in disagreements(solution))


def _outer_problem() -> bp.Problem:
    """A gradient that goes through an outer product: the derivative of a product with one row."""

    def loss(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        square = torch.outer(x, w)
        return (square**2).sum()

    inputs = {"w": torch.tensor([0.3, -0.2]), "x": torch.tensor([1.0, 2.0, 3.0])}
    return bp.Problem(loss, inputs, parameters=("w",), optimizer="sgd")


def test_a_wrong_printed_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """tanh' printed as 1 + y^2: the numbers stay right, and the page is found to say something else."""
    monkeypatch.setitem(spelling.FROM_OUTPUT, "tanh'", lambda y: spelling.ONE + y.power(spelling.TWO))
    solution = bp.solve(NET)
    (what,) = disagreements(solution)
    assert what.startswith("printed formulas") and "s_out" in what


def test_a_wrong_line_of_an_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = RULES["adam"]

    def late(h: Any, t: int) -> Any:
        return tuple((n, text.replace("beta1**t", "beta1**(t + 1)")) for n, text in rule.equations(h, t))

    monkeypatch.setitem(RULES, "adam", replace(rule, equations=late))
    _forget()
    solution = bp.solve(NET, optimizer="adam")
    assert solution.finding
    assert {w for w in disagreements(solution) if "after the update" in w} == {
        "W after the update",
        "w after the update",
    }


def test_a_wrong_formula_of_an_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 50-digit reading comes from the formula; torch's kernel no longer agrees with it."""
    import sympy

    monkeypatch.setattr(
        OPS["tanh"], "formula", lambda x: sympy.tanh(x) * sympy.Rational(10**6 + 1, 10**6), raising=False
    ) if False else object.__setattr__(
        OPS["tanh"], "formula", lambda x: sympy.tanh(x) * sympy.Rational(10**6 + 1, 10**6)
    )
    _forget()
    try:
        solution = bp.solve(NET)
    finally:
        object.__setattr__(OPS["tanh"], "formula", sympy.tanh)
    assert solution.finding
    assert "value of y_out" in disagreements(solution)


@pytest.mark.parametrize(("table", "key", "text", "says"), [
    (KERNELS, "tanh", "torch.tanh(x) * 1.000001", "value of y_out"),
    (SLOPES, "relu'", "(x > 0.001).to(x.dtype) * 1.0000001", "gradient of s"),
])  # fmt: skip
def test_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch, table: dict[str, str], key: str, text: str, says: str) -> None:
    monkeypatch.setitem(table, key, text)
    _forget()
    solution = bp.solve(NET)
    assert says in disagreements(solution)


def test_the_command_line_exits_with_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(KERNELS, "tanh", "torch.tanh(x) * 1.000001")
    _forget()
    assert main(["solve", NET]) == 1
    assert "y_out" in capsys.readouterr().out


class _Doubled(torch.autograd.Function):
    """A custom backward that is twice too large; torch.export drops it, eager autograd does not."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 2 * grads[0] * x.cos()


def test_a_custom_backward_that_export_drops_is_seen() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return _Doubled.apply(self.lin(x)).sum()  # type: ignore[no-any-return, no-untyped-call]

    torch.manual_seed(0)
    record = bp.trace(Net().double(), torch.randn(3, 2).double(), optimizer="sgd", evidence="full")
    wrong = [e.what for e in record.evidence if e.agrees is False]
    assert any("_Doubled" in what and "sends back to lin" in what for what in wrong)


def test_a_wrong_operation_of_a_large_network_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large for 50 digits as a whole: single operations at random entries find a wrong kernel."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(200, 300), nn.GELU(), nn.Linear(300, 200), nn.Sigmoid(), nn.Linear(200, 5))
    data = torch.randn(64, 200), torch.randint(5, (64,))
    good = bp.trace(net, *data, loss="cross_entropy", evidence="sampled")
    assert not good.finding
    assert any("single operations" in e.oracle for e in good.evidence)
    monkeypatch.setitem(KERNELS, "gelu", "F.gelu(x, approximate=approximate) * 1.000001")
    _forget()
    bad = bp.trace(net, *data, loss="cross_entropy", evidence="sampled")
    assert any(e.agrees is False and e.what == "operations of the forward pass" for e in bad.evidence)


def test_a_kink_is_said_to_be_one() -> None:
    """relu at exactly 0: one-sided slopes are shown, and it is no disagreement."""
    solution = bp.solve(bp.Problem(lambda x, w: torch.relu(w * x).sum(), {"x": torch.tensor([1.0, 2.0]), "w": torch.tensor([0.0, 1.0])},
                                   parameters=("w",), optimizer="sgd"))  # fmt: skip
    kinks = [e for e in solution.evidence if e.agrees is None]
    assert kinks and "slope" in kinks[0].note
    assert not solution.finding


def test_the_evidence_of_a_large_network_is_gathered_by_kind() -> None:
    """Agreeing comparisons become one row per kind and oracle; a disagreement stays by itself, and no count is lost."""
    from backproof.studies.verdicts import Evidence, gathered

    rows = [Evidence(f"gradient of w{i}", "autograd", True, i * 1e-16, 2, 3) for i in range(5)]
    rows += [Evidence(f"w{i} after the update", "torch.optim", True, 1e-17, 1, 1) for i in range(4)]
    rows.append(Evidence("value of y", "50 digits", False, 0.5, 1, 1))
    found = gathered(rows)
    assert [e.what for e in found] == ["value of y", "gradients of 5 quantities", "updates of 4 quantities"]
    assert (found[1].error, found[1].looked_at, found[1].of) == (4e-16, 10, 15)


class _Rounds(nn.Module):
    """Computes in float32 inside, whatever comes in, as norms of language models do; or in bfloat16."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.last, self.how = nn.Linear(6, 6), nn.Linear(6, 2), how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        if self.how == "mask":
            h = torch.tril(torch.ones(4, 4, dtype=torch.long)).float() @ h
        elif self.how == "norm":
            v = h.float()
            h = (v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)
        else:
            h = (h.bfloat16() @ self.first.weight.bfloat16()).float()
        return self.last(torch.tanh(h))  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["mask", "norm", "bfloat16"])
def test_a_program_that_casts_is_compared_in_its_own_dtype(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net, data = _Rounds(how), (torch.randn(4, 6), torch.randn(4, 2))
    good = bp.trace(net, *data, loss="mse", optimizer="sgd", evidence="full")
    assert not good.finding and any(e.oracle == IN_OWN_DTYPE for e in good.evidence)
    right = _Rounds.forward
    monkeypatch.setattr(_Rounds, "forward", lambda self, x: _Doubled.apply(right(self, x)))  # type: ignore[no-untyped-call]
    wrong = bp.trace(net, *data, loss="mse", optimizer="sgd", evidence="full")
    assert any(e.agrees is False and "_Doubled" in e.what for e in wrong.evidence)
