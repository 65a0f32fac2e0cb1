"""Why a model does not run on its inputs, in the user's terms: which input, in which module, and what to do."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .names import user_line
from .origin import Wrapped, user_name

__all__ = ["first_line", "user_frame", "why_it_does_not_run"]

Call = tuple[Any, ...]


def user_frame(error: BaseException) -> str:
    """Where in the user's own code an exception came from: " at file:line (text)"."""
    trace = "".join(
        f'  File "{f.filename}", line {f.lineno}, in {f.name}\n' for f in traceback.extract_tb(error.__traceback__)
    )
    source = user_line(trace)
    return f" at {source}" + (f" ({source.text})" if source.text else "") if source else ""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, at most 300 characters."""
    text = str(error).strip()
    return (text.splitlines() or [type(error).__name__])[0][:300]


def why_it_does_not_run(error: Exception, wrapped: Wrapped, call: Call) -> str:
    """One paragraph: what went wrong, where, and what to do.

    Args:
        error: what the first run raised.
        wrapped: the model and its loss.
        call: the positional inputs, the keywords and the targets.
    """
    if isinstance(error, TypeError):
        if said := _wrong_inputs(wrapped, call):
            return said
        if said := _loss_alone(wrapped, call):
            return said
    where = _module(error, wrapped) + user_frame(error)
    what = f"{type(error).__name__}: {first_line(error).rstrip('.')}"
    return f"the model does not run on these inputs{where}: {what}. {_hint(error, wrapped, call)}"


# --- how it is called -------------------------------------------------------------------------------------------------
def _signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _called(wrapped: Wrapped) -> tuple[str, Any]:
    """The name of what is called with the inputs, and itself."""
    model: Any = wrapped.model
    if hasattr(model, "function"):
        function = model.function[0]
        return getattr(function, "__name__", "the function"), function
    return f"{type(model).__name__}.forward", model.forward


def _wrong_inputs(wrapped: Wrapped, call: Call) -> str:
    """Inputs that are missing or too many, by the signature; "" if they fit it."""
    name, function = _called(wrapped)
    signature = _signature(function)
    args, keywords = call[0], call[1]
    if signature is None or _binds(signature, args, keywords):
        return ""
    names = [p.name for p in signature.parameters.values() if p.kind is not p.VAR_POSITIONAL]
    takes = f"{name} takes {_listed(names) or 'no input'}"
    given = len(args) + len(keywords)
    count = f"{given} {'input is' if given == 1 else 'inputs are'} given"
    if unknown := [k for k in keywords if k not in signature.parameters]:
        return f"{takes}, and {_listed(unknown)} is given. Name the inputs as the model does"
    required = [p for p in signature.parameters.values() if p.default is p.empty and p.kind not in _ANY_NUMBER]
    missing = [
        p.name
        for i, p in enumerate(required)
        if (p.kind is p.KEYWORD_ONLY or i >= len(args)) and p.name not in keywords
    ]
    if missing and any(signature.parameters[m].kind is inspect.Parameter.KEYWORD_ONLY for m in missing):
        return f"{takes} by keyword alone. Give the inputs as a dict, such as {{{missing[0]!r}: tensor}}"
    if missing:
        return f"{takes}, and {count}: {_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing. Give them all, in this order"
    return f"{takes}, and {count}. Leave out what it does not take"


_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _binds(signature: inspect.Signature, args: Any, keywords: Mapping[str, Any]) -> bool:
    try:
        signature.bind(*args, **keywords)
    except TypeError:
        return False
    return True


def _listed(names: list[str]) -> str:
    quoted = [f"'{n}'" for n in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def _loss_alone(wrapped: Wrapped, call: Call) -> str:
    """A loss that needs targets and gets none."""
    loss: Callable[..., Any] | None = wrapped.loss_module or wrapped._loss[0]
    if loss is None or call[2] is not None:
        return ""
    signature = _signature(loss.forward if isinstance(loss, nn.Module) else loss)
    if signature is None or _binds(signature, (None,), {}):
        return ""
    name = getattr(loss, "__name__", type(loss).__name__)
    return f"the loss {name} compares the output with targets, and none are given: give targets"


# --- where it stops -----------------------------------------------------------------------------------------------------
def _module(error: BaseException, wrapped: Wrapped) -> str:
    """The innermost module that was running, what it is, and the shapes that it was given: " in 'fc' (Linear(...)...)"."""
    paths = {
        id(m): user_name(f"{name}.").rstrip(".")
        for name, m in wrapped.named_modules()
        if m not in (wrapped, wrapped.model)
    }
    found, trace = "", error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_locals.get("self")
        if isinstance(module, nn.Module) and id(module) in paths and trace.tb_frame.f_code.co_name.endswith("forward"):
            found = f" in '{paths[id(module)]}'{_what_it_got(module, trace)}"
        trace = trace.tb_next
    return found


def _what_it_got(module: nn.Module, trace: TracebackType) -> str:
    code = trace.tb_frame.f_code
    names = code.co_varnames[1 : code.co_argcount]
    given = [v for n in names if isinstance(v := trace.tb_frame.f_locals.get(n), Tensor)]
    what = " ".join(repr(module).split()) if not list(module.children()) else type(module).__name__
    shapes = ", ".join(f"{list(t.shape)} {_short(t.dtype)}" for t in given)
    return f" ({what[:120]}" + (f", given {shapes})" if shapes else ")")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# --- what to do ---------------------------------------------------------------------------------------------------------
def _hint(error: Exception, wrapped: Wrapped, call: Call) -> str:
    if "'dict'" in str(error) or "'tuple'" in str(error):
        return "If the model returns several tensors, say with output= which of them the loss takes"
    if isinstance(error, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
        return "Start from other numbers, or add a small multiple of the identity to the matrix"
    given = [t for t in tree_leaves(call) if isinstance(t, Tensor)]
    own = [*wrapped.parameters(), *wrapped.buffers()]
    devices = ({str(t.device) for t in own}, {str(t.device) for t in given})
    if all(devices) and devices[0] != devices[1]:
        return f"The model is on {_some(devices[0])} and the inputs are on {_some(devices[1])}: move one of them with .to(device)"
    floats = ({_short(t.dtype) for t in wrapped.parameters() if t.is_floating_point()},
              {_short(t.dtype) for t in tree_leaves(call[:2]) if isinstance(t, Tensor) and t.is_floating_point()})  # fmt: skip
    if all(floats) and floats[0] != floats[1] and "dtype" in str(error):
        return f"The model is in {_some(floats[0])} and the inputs are in {_some(floats[1])}: convert one of them with .to(dtype)"
    if "indices" in str(error) and floats[1]:
        return "What picks rows of a table must be whole numbers: give int64, in the table's range"
    return "Check the shapes and dtypes of the inputs and targets"


def _some(names: set[str]) -> str:
    return " and ".join(sorted(names))
