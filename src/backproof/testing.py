"""Gradient checks for tests: :func:`gradcheck` takes the place of torch's, :func:`assert_gradients` is for pytest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .checking import Checked, check

__all__ = ["assert_gradients", "gradcheck"]


def assert_gradients(fn: Callable[..., Any], *inputs: Any, **settings: Any) -> Checked:
    """Fail with a few lines unless the gradient of ``fn`` is right.

    Args:
        fn: a function, a module or ``Function.apply``.
        *inputs: its inputs.
        **settings: those of :func:`backproof.check` (``reference=``, ``claim=``, ``surrogate=``, ``second=``, ``seed=``).

    Returns:
        The check, if the gradient is right.

    Raises:
        AssertionError: it is wrong or undecided; the message names entries, the mistake and its place.

    Example:
        >>> import torch
        >>> assert_gradients(torch.tanh, torch.linspace(-1, 1, 5)).ok
        True
    """
    __tracebackhide__ = True
    found = check(fn, inputs, **settings)
    if found.ok is not True:
        raise AssertionError(found.message())
    return found


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
    reference: Callable[..., Any] | None = None,
    surrogate: Callable[..., Any] | None = None,
) -> bool:
    """Take the place of ``torch.autograd.gradcheck``: the same arguments, checked by :func:`backproof.check`.

    Steps and tolerances are measured, so ``eps``, ``atol``, ``rtol``, ``nondet_tol`` and ``fast_mode`` change nothing. Inputs
    may be of any float dtype. What only torch's function does is left to it: with ``check_batched_grad``,
    ``check_batched_forward_grad`` or ``check_forward_ad`` it is run besides (on what it accepts, in float64).

    Args:
        fn, inputs: as for torch; if no input requires a gradient, all floats are checked.
        raise_exception: raise ``torch.autograd.gradcheck.GradcheckError`` with a few lines, instead of returning False.
        reference, surrogate: as for :func:`backproof.check`.

    Returns:
        Whether the gradient is right; what could not be decided counts as not right.

    Example:
        >>> import torch
        >>> gradcheck(torch.sin, torch.randn(3, requires_grad=True))
        True
    """
    found = check(fn, inputs, reference=reference, surrogate=surrogate)
    if found.ok is not True:
        return _refused(found.message(), raise_exception)
    if not (check_forward_ad or check_batched_grad or check_batched_forward_grad):
        return True
    import torch

    return bool(
        torch.autograd.gradcheck(
            fn, inputs, eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception, nondet_tol=nondet_tol,
            check_undefined_grad=check_undefined_grad, check_grad_dtypes=check_grad_dtypes,
            check_batched_grad=check_batched_grad, check_batched_forward_grad=check_batched_forward_grad,
            check_forward_ad=check_forward_ad, check_backward_ad=check_backward_ad, fast_mode=fast_mode, masked=masked,
        )
    )  # fmt: skip


def _refused(message: str, raise_exception: bool) -> bool:
    if not raise_exception:
        return False
    from torch.autograd.gradcheck import GradcheckError

    raise GradcheckError(message)
