"""Each law is seen to fail: every kernel, slope, formula, rule and vector-Jacobian product is broken once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from backproof import vjps
from backproof.domains import numbers as numbers_module
from backproof.domains.entries import entries
from backproof.domains.kernels import KERNELS, SLOPES
from backproof.graph import Node
from backproof.ops import OPS, Elementwise, Op

from . import laws

Law = Callable[[Op, Any], None]


@pytest.fixture
def clean() -> Iterator[None]:
    """Compiled kernels are forgotten before and after a test that changes their text."""
    numbers_module._kernel.cache_clear()
    yield
    numbers_module._kernel.cache_clear()


def _broken(value: torch.Tensor) -> torch.Tensor:
    """Another value of the same kind: a float that is off in the ninth digit, the next integer, the other truth value."""
    if value.dtype == torch.bool:
        return ~value
    return value * (1 + 1e-9) + 1e-9 if value.is_floating_point() else value + 1


def _fails(law: Law, op: Op) -> bool:
    """Whether the law fails on an example of the operation; it must have held on all of them."""
    for example in op.examples:
        try:
            law(op, example)
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("name", [name for name in KERNELS if name in OPS and OPS[name].family != "complex"])
def test_a_wrong_kernel_is_found(name: str, monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    monkeypatch.setitem(numbers_module._NAMES, "broken", _broken)
    monkeypatch.setitem(KERNELS, name, f"broken({KERNELS[name]})")
    assert _fails(laws.value_law, OPS[name])


@pytest.mark.parametrize("name", SLOPES)
def test_a_wrong_slope_is_found(name: str, monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    monkeypatch.setitem(numbers_module._NAMES, "broken", _broken)
    monkeypatch.setitem(SLOPES, name, f"broken({SLOPES[name]})")
    op = OPS[name.partition("'")[0]]
    assert _fails(laws.joint_law, op)
    assert op.name in laws.WRONG_IN_TORCH or _fails(laws.autograd_law, op)


def test_every_kernel_and_slope_is_used() -> None:
    assert set(KERNELS) <= set(OPS)
    known = {
        op.name + ("'" if len(op.operands) == 1 else f"'{i}") for op in OPS.values() for i in range(len(op.operands))
    }
    assert set(SLOPES) <= known


@pytest.mark.parametrize("name", [op.name for op in OPS.values() if isinstance(op, Elementwise)])
def test_a_wrong_formula_is_found(name: str) -> None:
    op = OPS[name]
    assert isinstance(op, Elementwise)
    right = op.formula

    def wrong(*x: Any, **attrs: Any) -> Any:
        return 1 - right(*x, **attrs) if op.dtype == "bool" else right(*x, **attrs) * (1 + 1e-9) + 1e-9

    assert _fails(laws.value_law, replace(op, formula=wrong))


def _wrong_array(value: Any) -> Any:
    flat = [v + 1 if isinstance(v, int) else v * (1 + 1e-9) + 1e-9 for v in np.asarray(value, dtype=object).reshape(-1)]
    out = np.empty(len(flat), dtype=object)
    out[:] = flat
    return out.reshape(np.shape(value))


@pytest.mark.parametrize("name", [name for name in entries.rules if name in OPS])
def test_a_wrong_entries_rule_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = entries.rules[name]
    monkeypatch.setitem(entries.rules, name, lambda *args: _wrong_array(right(*args)))
    assert _fails(laws.value_law, OPS[name])


def _wrong_vjp(right: Callable[..., Any], operand: int) -> Callable[..., Any]:
    def rule(r: Any) -> tuple[Node | None, ...]:
        parts = list(right(r))
        if parts[operand] is not None:
            parts[operand] = r.times(parts[operand], r.constant(1 + 1e-9))
        return tuple(parts)

    return rule


# class numbers and class weights take no gradient; a label's sign and the place of the largest have slope 0
UNMOVED = {("nll", 1), ("nll", 2), ("nll_grad", 1), ("nll_grad", 2), ("hinge_embedding_error", 1), ("max_pool_grad", 1)}
PASSING = [
    (op.name, i)
    for op in OPS.values()
    if op.differentiable and op.family not in ("leaf", "complex")
    for i, operand in enumerate(op.operands)
    if operand not in ("index", "c") and (op.name, i) not in UNMOVED
]


@pytest.mark.parametrize(("name", "operand"), PASSING)
def test_a_wrong_vjp_is_found(name: str, operand: int, monkeypatch: pytest.MonkeyPatch) -> None:
    right = vjps.VJPS.get(name, vjps._elementwise)
    monkeypatch.setitem(vjps.VJPS, name, _wrong_vjp(right, operand))
    op = OPS[name]
    assert _fails(laws.difference_law, op)
    assert op.name in laws.WRONG_IN_TORCH or _fails(laws.autograd_law, op)


@pytest.mark.parametrize("name", ["softmax_grad", "tanh", "matmul", "logsumexp", "var", "div"])
def test_a_wrong_vjp_is_found_at_second_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def law(op: Op, example: Any) -> None:
        laws.second_order_law(op, example)

    monkeypatch.setitem(vjps.VJPS, name, _wrong_vjp(vjps.VJPS.get(name, vjps._elementwise), 0))
    assert _fails(law, OPS[name])


def test_a_wrong_convention_at_a_kink_is_found(monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    monkeypatch.setitem(SLOPES, "relu'", "(x >= 0).to(x.dtype)")
    relu = OPS["relu"]
    assert not _fails(laws.autograd_law, relu), "random points do not see it"
    with pytest.raises(AssertionError):
        laws.kink_law(relu, {})  # type: ignore[arg-type]


def test_an_unstable_slope_is_found(monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    from backproof.ops import derivative

    monkeypatch.setitem(SLOPES, "sigmoid'", "torch.exp(-x) / (1 + torch.exp(-x)) ** 2")
    assert not _fails(laws.autograd_law, OPS["sigmoid"]), "random points do not see it"
    with pytest.raises(AssertionError):
        laws.far_law(derivative(OPS["sigmoid"], 0), {})  # type: ignore[arg-type]


def test_code_that_is_not_the_domain_s_is_found(monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    laws.code_law(OPS["tanh"], OPS["tanh"].examples[1])  # the kernel is compiled from the old text
    monkeypatch.setitem(KERNELS, "tanh", "torch.tanh(x) + 1e-9")
    assert _fails(laws.code_law, OPS["tanh"])


def test_a_kernel_that_widens_is_found(monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    monkeypatch.setitem(KERNELS, "tanh", "torch.tanh(x.double())")
    assert _fails(laws.float32_law, OPS["tanh"])
