"""Gradient checks for tests: :func:`gradcheck` and :func:`gradgradcheck` are torch's, :func:`assert_gradients` is for pytest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .checking import Checked, batched, check, forward_mode, program_of, wide

__all__ = ["assert_gradients", "gradcheck", "gradgradcheck"]


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

    Steps and tolerances are measured, so ``eps``, ``atol``, ``rtol``, ``nondet_tol`` and ``fast_mode`` change nothing; a
    result that varies from run to run is told from a wrong one. Inputs may be of any float dtype. ``check_forward_ad`` and
    ``check_batched_grad`` are checked entry by entry too; ``check_batched_forward_grad``, ``check_grad_dtypes`` and ``masked``
    are left to torch's own function, which is then run besides, in float64.

    Args:
        fn, inputs: as for torch; if no input requires a gradient, all floats are checked.
        raise_exception: raise ``torch.autograd.gradcheck.GradcheckError`` with a few lines, instead of returning False.
        check_undefined_grad: also call the backward pass with undefined output gradients.
        check_backward_ad: False leaves the backward pass out, for functions that have a ``jvp`` only.
        reference, surrogate: as for :func:`backproof.check`.

    Returns:
        Whether the gradient is right; what could not be decided counts as not right.

    Raises:
        ValueError: both ``check_forward_ad`` and ``check_backward_ad`` are False.

    Example:
        >>> import torch
        >>> gradcheck(torch.sin, torch.randn(3, requires_grad=True))
        True
    """
    if not (check_forward_ad or check_backward_ad):
        raise ValueError("at least one of check_forward_ad and check_backward_ad must be True")
    problem = None
    if check_backward_ad:
        found = check(fn, inputs, reference=reference, surrogate=surrogate, undefined=check_undefined_grad)
        problem = None if found.ok is True else found.message()
    if problem is None and check_forward_ad:
        problem = forward_mode(program_of(fn, inputs))
    if problem is None and check_batched_grad:
        problem = batched(program_of(fn, inputs))
    if problem is not None:
        return _refused(problem, raise_exception)
    if not (check_batched_forward_grad or check_grad_dtypes or masked):
        return True
    import torch

    return bool(
        torch.autograd.gradcheck(
            fn, _in_float64(inputs), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception, nondet_tol=nondet_tol,
            check_undefined_grad=check_undefined_grad, check_grad_dtypes=check_grad_dtypes,
            check_batched_grad=check_batched_grad, check_batched_forward_grad=check_batched_forward_grad,
            check_forward_ad=check_forward_ad, check_backward_ad=check_backward_ad, fast_mode=fast_mode, masked=masked,
        )
    )  # fmt: skip


def gradgradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    raise_exception: bool = True,
    **torch_arguments: Any,
) -> bool:
    """Take the place of ``torch.autograd.gradgradcheck``: the gradient of the gradient, by :func:`backproof.check`.

    Args:
        fn, inputs: as for torch.
        grad_outputs: not needed; weights of the outputs are Gaussian.
        raise_exception: as for :func:`gradcheck`.
        **torch_arguments: torch's others, which change nothing here.

    Returns:
        Whether it is right.

    Example:
        >>> import torch
        >>> gradgradcheck(torch.sin, torch.randn(3, requires_grad=True))
        True
    """
    unknown = set(torch_arguments) - _SECOND
    if unknown:
        raise TypeError(f"gradgradcheck() got an unexpected keyword argument '{min(unknown)}'")
    found = check(fn, inputs, second=True)
    return True if found.ok is True else _refused(found.message(), raise_exception)


_SECOND = {
    "eps", "atol", "rtol", "gen_non_contig_grad_outputs", "nondet_tol", "check_undefined_grad", "check_grad_dtypes",
    "check_batched_grad", "check_fwd_over_rev", "check_rev_over_rev", "fast_mode", "masked",
}  # fmt: skip


def _in_float64(inputs: Any) -> Any:
    """Inputs that torch's own function takes."""
    import torch

    several = inputs if isinstance(inputs, tuple | list) else (inputs,)
    floats = [isinstance(t, torch.Tensor) and (t.is_floating_point() or t.is_complex()) for t in several]
    any_asks = any(f and t.requires_grad for f, t in zip(floats, several, strict=True))
    return tuple(
        wide(t.detach()).requires_grad_(t.requires_grad or not any_asks) if f else t
        for f, t in zip(floats, several, strict=True)
    )


def _refused(message: str, raise_exception: bool) -> bool:
    if not raise_exception:
        return False
    from torch.autograd.gradcheck import GradcheckError

    raise GradcheckError(message)
