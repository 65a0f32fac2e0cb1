"""The functions for other people's tests, and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.autograd.gradcheck import GradcheckError

from backproof.testing import assert_gradients, gradcheck, gradgradcheck
from tests.docs.blocks import ROOT, blocks_of, execute

FILE = """
import torch

class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return x * g

def plain(x):
    return x * x

inputs = (torch.linspace(-1, 1, 5, dtype=torch.float64),)
"""


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: object, g: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return 3 * g


def test_gradcheck_takes_the_place_of_torchs() -> None:
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    settings = {"eps": 1e-6, "atol": 1e-4, "fast_mode": True, "nondet_tol": 0.0}
    for check in (gradcheck, torch.autograd.gradcheck):
        assert check(torch.sin, (x,), **settings) is True  # type: ignore[operator]
        assert check(Doubled.apply, (x,), raise_exception=False) is False  # type: ignore[operator]
        with pytest.raises(GradcheckError):
            check(Doubled.apply, x)  # type: ignore[operator]


def test_assert_gradients_says_it_in_a_few_lines() -> None:
    assert assert_gradients(torch.tanh, torch.randn(5)).ok
    with pytest.raises(AssertionError) as failure:
        assert_gradients(Doubled.apply, torch.randn(100, dtype=torch.float64))
    message = str(failure.value)
    assert len(message.splitlines()) < 12 and "factor 3/2" in message and "Doubled" in message


def test_the_command_line(cli: Callable[..., object], in_tmp: Path) -> None:
    (in_tmp / "layers.py").write_text(FILE)
    wrong = cli("check", "layers.py:Square", "--inputs", "layers.py:inputs", "--json")
    assert wrong.status == 1  # type: ignore[attr-defined]
    said = json.loads(wrong.out)  # type: ignore[attr-defined]
    assert said["ok"] is False and "1/2" in said["cause"] and "layers.py" in said["where"]["source"]
    right = cli("check", "layers.py:plain", "--input", "5:float64", "--out", "x.html")
    assert right.status == 0 and (in_tmp / "x.html").exists()  # type: ignore[attr-defined]
    bad = cli("check", "layers.py:inputs")
    assert bad.status == 2 and "Traceback" not in bad.err  # type: ignore[attr-defined]
    assert cli("check", "layers.py:plain").status == 2  # type: ignore[attr-defined]


def test_the_page_that_replaces_gradcheck(in_tmp: Path) -> None:
    names = dict[str, object]()
    for block in blocks_of(ROOT / "docs" / "replace-gradcheck.md"):
        execute(block, in_tmp, names)


def test_the_example_of_the_docs(cli: Callable[..., object]) -> None:
    file = ROOT / "docs" / "checks" / "custom_backward.py"
    wrong = cli("check", f"{file}:Cut", "--inputs", f"{file}:inputs")
    assert wrong.status == 1 and "branch" in wrong.out and "custom_backward.py" in wrong.out  # type: ignore[attr-defined]
    assert cli("check", f"{file}:Right", "--inputs", f"{file}:inputs").status == 0  # type: ignore[attr-defined]


class Jvp(torch.autograd.Function):
    """2x, with a forward-mode rule that says 3."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def setup_context(ctx: object, inputs: object, output: object) -> None:
        pass

    @staticmethod
    def backward(ctx: object, g: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return 2 * g

    @staticmethod
    def jvp(ctx: object, t: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return 3 * t


class NoVmap(Doubled):
    @staticmethod
    def backward(ctx: object, g: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return torch.from_numpy(2 * g.numpy())


class Undefined(Doubled):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        ctx.set_materialize_grads(False)
        return 2 * x

    @staticmethod
    def backward(ctx: object, g: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return g * 2


def test_gradcheck_has_torchs_whole_signature() -> None:
    import inspect

    theirs, ours = (inspect.signature(f).parameters for f in (torch.autograd.gradcheck, gradcheck))
    settings = {n: p.default for n, p in theirs.items() if p.kind == p.KEYWORD_ONLY}
    assert len(settings) == 13 and settings.items() <= {n: p.default for n, p in ours.items()}.items()
    assert list(ours)[1] == list(theirs)[1] == "inputs"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_other_modes_mean_what_they_mean_for_torch(dtype: torch.dtype) -> None:
    x = torch.linspace(-1, 1, 4, dtype=dtype, requires_grad=True)
    assert gradcheck(Jvp.apply, x) and gradcheck(torch.sin, x, check_forward_ad=True, check_batched_grad=True)
    with pytest.raises(GradcheckError, match="forward mode is wrong in 4 entries"):
        gradcheck(Jvp.apply, x, check_forward_ad=True)
    assert gradcheck(NoVmap.apply, x) and not gradcheck(NoVmap.apply, x, check_batched_grad=True, raise_exception=False)
    assert gradcheck(Undefined.apply, x, check_undefined_grad=False)
    with pytest.raises(GradcheckError, match="undefined"):
        gradcheck(Undefined.apply, x)
    assert gradcheck(Jvp.apply, x, check_backward_ad=False, check_forward_ad=True, raise_exception=False) is False
    assert gradcheck(torch.sin, x, check_grad_dtypes=True, check_batched_forward_grad=True, check_forward_ad=True)
    with pytest.raises(ValueError, match="at least one"):
        gradcheck(torch.sin, x, check_backward_ad=False)


def test_gradgradcheck_checks_the_second_gradient() -> None:
    x = torch.linspace(-1, 1, 4, requires_grad=True)
    assert gradgradcheck(torch.sin, x, eps=1e-6, check_fwd_over_rev=True)
    with pytest.raises(GradcheckError):
        gradgradcheck(lambda t: Detached.apply(t), x)
    with pytest.raises(TypeError, match="unexpected"):
        gradgradcheck(torch.sin, x, epsilon=1)


class Detached(torch.autograd.Function):
    """x², whose gradient stops: the second one is missing."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, g: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return g * 2 * x.detach()
