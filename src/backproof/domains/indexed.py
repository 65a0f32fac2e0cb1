"""One entry of a formula of whole tensors, with indices and sums: (δ W)_ni = Σ_j δ_nj W_ji, as pen and paper has it.

The rules of matrices put into indices: a product is a sum over the index in the middle, a transpose swaps two, what is
broadcast loses an index, a convolution is a sum over channels and kernel places. What has no such form keeps its name,
with the indices below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from ..document.math import (
    Add,
    BigSum,
    Call,
    Div,
    Expr,
    Function,
    Indicator,
    Mul,
    Neg,
    Num,
    Partial,
    Pow,
    Ref,
    Rel,
    Shaped,
    Sym,
    Transpose,
)  # fmt: skip
from ..ops import OPS, Elementwise
from .whole import whole_value

__all__ = ["Indexer", "Labels"]

Labels = tuple[str, ...]
"""One index per axis: a letter, a number, or a letter with something added ("p+a-1")."""

_FRESH = "jkmqruvw"


@dataclass
class Indexer:
    """Writes entries of formulas.

    Args:
        shapes: the shape of each quantity, by (name, whether it is an error signal).
        symbols: the symbol of each quantity, without indices.
        functions: the names of arbitrary functions.
    """

    shapes: Mapping[tuple[str, bool], tuple[int, ...]]
    symbols: Mapping[tuple[str, bool], Sym]
    functions: frozenset[str] = frozenset()
    used: set[str] = field(default_factory=set)

    def entry(self, expr: Expr, labels: Labels) -> Expr:
        """The entry of a formula at these indices."""
        self.used = set("".join(labels))
        return self._at(expr, labels)

    # --- shapes -------------------------------------------------------------------------------------------------------
    def _shape(self, expr: Expr) -> tuple[int, ...]:
        return tuple(whole_value(expr, self._zeros, self._stand_ins).shape)

    def _zeros(self, ref: Ref) -> torch.Tensor | None:
        shape = self.shapes.get((ref.name, ref.kind == "gradient"))
        return None if shape is None else torch.ones(shape, dtype=torch.float64)

    @cached_property
    def _stand_ins(self) -> dict[str, Elementwise]:
        tanh = OPS["tanh"]
        assert isinstance(tanh, Elementwise)
        return dict.fromkeys(self.functions, tanh)

    def _fresh(self, count: int) -> list[str]:
        found = [letter for letter in _FRESH if letter not in self.used][:count]
        self.used |= set(found)
        return found

    # --- the rules ----------------------------------------------------------------------------------------------------
    def _at(self, expr: Expr, labels: Labels) -> Expr:
        rule: Callable[[Any, Labels], Expr] | None = getattr(self, f"_{type(expr).__name__.lower()}", None)
        if rule is not None:
            return rule(expr, labels)
        fields = {f: self._inner(getattr(expr, f), labels) for f in expr.__dataclass_fields__}  # type: ignore[attr-defined]
        return replace(expr, **fields)  # type: ignore[type-var]

    def _inner(self, value: object, labels: Labels) -> object:
        """A part of an entry-by-entry formula: the same indices, without those of axes that it lacks."""
        if isinstance(value, Expr):
            return self._broadcast(value, labels)
        return tuple(self._inner(v, labels) for v in value) if isinstance(value, tuple) else value

    def _broadcast(self, expr: Expr, labels: Labels) -> Expr:
        rank = len(self._shape(expr)) if not isinstance(expr, (Num, Rel)) else len(labels)
        return self._at(expr, labels[len(labels) - rank :] if rank else ())

    def _num(self, expr: Num, labels: Labels) -> Expr:
        return expr

    def _sym(self, expr: Sym, labels: Labels) -> Expr:
        if expr.ref is None or expr.ref.index:
            return expr
        key = (expr.ref.name, expr.ref.kind == "gradient")
        plain, shape = self.symbols.get(key, expr), self.shapes.get(key, ())
        kept = tuple(label for label, n in zip(labels[len(labels) - len(shape) :], shape, strict=True) if n > 1)
        return Sym(plain.name, (*plain.sub, *kept), plain.sup, plain.accent, expr.ref)

    def _partial(self, expr: Partial, labels: Labels) -> Expr:
        return Partial(expr.top, self._at(expr.bottom, labels))

    def _transpose(self, expr: Transpose, labels: Labels) -> Expr:
        if len(self._shape(expr.arg)) == 1:
            return self._at(expr.arg, labels[-1:])
        return self._at(expr.arg, (*labels[:-2], labels[-1], labels[-2]))

    def _mul(self, expr: Mul, labels: Labels) -> Expr:
        if expr.style == "matrix":
            return self._product(expr.factors, labels)
        if expr.style in ("convolution", "correlation"):
            return self._convolution(expr, labels)
        parts = [self._broadcast(f, labels) for f in expr.factors]
        return Mul(tuple(x for p in parts for x in (p.factors if isinstance(p, Mul) and not p.style else (p,))))

    def _product(self, factors: tuple[Expr, ...], labels: Labels) -> Expr:
        """Σ over each index in the middle."""
        shapes = [self._shape(f) for f in factors]
        first_is_row = isinstance(factors[0], Transpose) and len(self._shape(factors[0].arg)) == 1
        column_last = len(shapes[-1]) == 1
        rest = list(labels)
        right = None if column_last else rest.pop()
        left = None if first_is_row else rest.pop()
        middles: list[str] = []
        sizes: list[int] = []
        found: list[Expr] = []
        before = left
        for i, (factor, shape) in enumerate(zip(factors, shapes, strict=True)):
            after = right
            if i < len(factors) - 1:
                size = 1 if len(shape) == 1 else shape[-1]
                after = self._middle(factor) if size > 1 else "1"
                middles += [after] if size > 1 else []
                sizes += [size] if size > 1 else []
            found.append(self._factor(factor, shape, tuple(rest), before, after))
            before = after
        body = Mul(tuple(found))
        return BigSum(body, ",".join(middles), shape=tuple(sizes)) if middles else body

    def _middle(self, left: Expr) -> str:
        """The index in the middle of a product: n where a transpose brings the samples there."""
        if isinstance(left, Transpose) and "n" not in self.used:
            self.used.add("n")
            return "n"
        return self._fresh(1)[0]

    def _factor(
        self, factor: Expr, shape: tuple[int, ...], batch: Labels, before: str | None, after: str | None
    ) -> Expr:
        if len(shape) == 1:
            return self._at(factor, (before or "1",))
        stack = batch[len(batch) - (len(shape) - 2) :] if len(shape) > 2 else ()
        return self._at(factor, (*stack, before or "1", after or "1"))

    def _bigsum(self, expr: BigSum, labels: Labels) -> Expr:
        if expr.axes is None:
            return expr
        rank = len(expr.shape)
        axes = {a % rank for a in expr.axes}
        letters = dict(zip(sorted(axes), self._summed(len(axes), labels), strict=True))
        rest = [label for i, label in enumerate(labels) if not (expr.keepdim and i in axes)]
        whole = tuple(letters[i] if i in axes else rest.pop(0) for i in range(rank))
        body = self._broadcast(expr.body, whole)
        summed = [(letters[a], expr.shape[a]) for a in sorted(axes) if expr.shape[a] > 1]
        if not summed:
            return body
        return BigSum(body, ",".join(n for n, _ in summed), shape=tuple(size for _, size in summed))

    def _summed(self, count: int, labels: Labels) -> list[str]:
        found = [letter for letter in ("n", "i") if letter not in self.used][: count if not labels else 1]
        self.used |= set(found)
        return [*found, *self._fresh(count - len(found))]

    def _shaped(self, expr: Shaped, labels: Labels) -> Expr:
        inner, outer = self._shape(expr.arg), expr.shape
        size = 1
        for n in inner:
            size *= n
        total = 1
        for n in outer:
            total *= n
        if size == total:
            kept = [label for label, n in zip(labels, outer, strict=True) if n > 1]
            return self._at(expr.arg, tuple(kept.pop(0) if n > 1 else "1" for n in inner))
        own = labels[len(labels) - len(inner) :] if inner else ()
        return self._at(expr.arg, tuple("1" if n == 1 else label for label, n in zip(own, inner, strict=True)))

    # --- calls --------------------------------------------------------------------------------------------------------
    def _call(self, expr: Call, labels: Labels) -> Expr:
        attrs: dict[str, Any] = dict(expr.attrs)
        rule = getattr(self, f"_call_{expr.op}", None)
        if rule is not None and (found := rule(expr, attrs, labels)) is not None:
            return found  # type: ignore[no-any-return]
        bare = expr.op.partition("'")[0]
        if isinstance(OPS.get(bare), Elementwise) or bare in self.functions:
            return replace(expr, args=tuple(self._broadcast(a, labels) for a in expr.args))
        return replace(expr, function=replace(expr.function, sub=(*expr.function.sub, *labels)))

    def _call_onehot(self, expr: Call, attrs: Mapping[str, Any], labels: Labels) -> Expr:
        return Indicator(Rel("=", self._at(expr.args[0], labels[:-1]), Sym(labels[-1])))

    def _call_softmax(self, expr: Call, attrs: Mapping[str, Any], labels: Labels) -> Expr:
        here, total = self._exponentials(expr, attrs, labels)
        return Div(here, total)

    def _call_log_softmax(self, expr: Call, attrs: Mapping[str, Any], labels: Labels) -> Expr:
        _, total = self._exponentials(expr, attrs, labels)
        log = Call(Function("log", "ln", r"\ln"), (total,), "log")
        return Add((self._at(expr.args[0], labels), Neg(log)))

    def _exponentials(self, expr: Call, attrs: Mapping[str, Any], labels: Labels) -> tuple[Expr, Expr]:
        dim, exp = attrs["dim"] % len(labels), Function("exp", "exp", r"\exp")
        letter = self._fresh(1)[0]
        moved = tuple(letter if i == dim else label for i, label in enumerate(labels))
        size = self._shape(expr.args[0])[dim]
        total = BigSum(Call(exp, (self._at(expr.args[0], moved),), "exp"), letter, shape=(size,))
        return Call(exp, (self._at(expr.args[0], labels),), "exp"), total

    def _call_mean(self, expr: Call, attrs: Mapping[str, Any], labels: Labels) -> Expr:
        shape = self._shape(expr.args[0])
        axes = tuple(a % len(shape) for a in attrs["dim"])
        total = self._bigsum(BigSum(expr.args[0], "", axes=axes, shape=shape, keepdim=bool(attrs["keepdim"])), labels)
        count = 1
        for a in axes:
            count *= shape[a]
        return total if count == 1 else Div(total, Num(count))

    def _call_var(self, expr: Call, attrs: Mapping[str, Any], labels: Labels) -> Expr | None:
        shape = self._shape(expr.args[0])
        axes, count = tuple(a % len(shape) for a in attrs["dim"] or ()), 1
        for a in axes:
            count *= shape[a]
        if not axes or count == attrs["correction"]:
            return None
        keep = (("dim", axes), ("keepdim", True))
        mean = Call(Function("mean", "mean", r"\operatorname{mean}"), expr.args, "mean", keep)
        square = Pow(Add((expr.args[0], Neg(mean))), Num(2))
        total = self._bigsum(BigSum(square, "", axes=axes, shape=shape, keepdim=bool(attrs["keepdim"])), labels)
        return Div(total, Num(count - attrs["correction"]))

    def _call_permute(self, expr: Call, attrs: Mapping[str, Any], labels: Labels) -> Expr:
        moved = dict(zip(attrs["dims"], labels, strict=True))
        return self._at(expr.args[0], tuple(moved[i] for i in range(len(labels))))

    def _call_select(self, expr: Call, attrs: Mapping[str, Any], labels: Labels) -> Expr:
        shape = self._shape(expr.args[0])
        dim = attrs["dim"] % len(shape)
        return self._at(expr.args[0], (*labels[:dim], str(attrs["index"] % shape[dim] + 1), *labels[dim:]))

    def _call_slice(self, expr: Call, attrs: Mapping[str, Any], labels: Labels) -> Expr | None:
        dim, start = attrs["dim"] % len(labels), attrs.get("start") or 0
        if attrs.get("step", 1) != 1 or start < 0:
            return None
        moved = [_plus(label, start) if i == dim else label for i, label in enumerate(labels)]
        return self._at(expr.args[0], tuple(moved))

    # --- convolutions: indices count from 1, kernels too ---------------------------------------------------------------
    def _convolution(self, expr: Mul, labels: Labels) -> Expr:
        attrs: dict[str, Any] = dict(expr.attrs)
        if attrs["groups"] != 1 or expr.op == "conv_transpose" or not self._goes_back(expr, attrs):
            name = {"convolution": "conv", "correlation": "convᵀ"}[expr.style]
            latex = r"\operatorname{conv}" + (r"^{\mathsf T}" if expr.style == "correlation" else "")
            return Call(Function(expr.op, name, latex, 0, labels), expr.factors, expr.op, expr.attrs)
        return {"conv": self._conv, "conv_input_grad": self._back, "conv_weight_grad": self._to_kernel}[expr.op](
            expr, attrs, labels
        )

    def _goes_back(self, expr: Mul, attrs: Mapping[str, Any]) -> bool:
        """Whether an error signal's way back through a convolution has a plain index."""
        if expr.op != "conv_input_grad":
            return True
        ones = (k == 1 and s > 1 for k, s in zip(self._shape(expr.factors[0])[2:], attrs["stride"], strict=True))
        return max(attrs["dilation"]) == 1 and not any(ones)

    def _running(self, sizes: tuple[int, ...]) -> list[str]:
        """An index for each axis: a letter, or 1 where there is one place alone."""
        letters = iter(self._fresh(sum(n > 1 for n in sizes)))
        return [next(letters) if n > 1 else "1" for n in sizes]

    def _conv(self, expr: Mul, attrs: Mapping[str, Any], labels: Labels) -> Expr:
        """Σ_c,k W_ock x_n,c,s(p-1)+d(k-1)+1-padding."""
        weight, x = expr.factors
        shape = self._shape(weight)
        n, o, *places = labels
        c, *kernel = self._running(shape[1:])
        seen = [_met(p, k, *z) for p, k, z in zip(places, kernel, _ways(attrs), strict=True)]
        body = Mul((self._at(weight, (o, c, *kernel)), self._at(x, (n, c, *seen))))
        return _sum(body, [c, *kernel], shape[1:])

    def _back(self, expr: Mul, attrs: Mapping[str, Any], labels: Labels) -> Expr:
        """Σ_o,q W_o,c,p+padding-s(q-1) δ_noq: outside of the kernel the weight is 0."""
        weight, delta = expr.factors
        kernel_sizes, shape = self._shape(weight)[2:], self._shape(delta)
        n, c, *places = labels
        single = [k == 1 for k in kernel_sizes]
        running = self._running((shape[1], *(1 if one else size for one, size in zip(single, shape[2:], strict=True))))
        o, *sent = [_plus(places[i - 1], _ways(attrs)[i - 1][1]) if i and single[i - 1] else label
                    for i, label in enumerate(running)]  # fmt: skip
        kernel = [
            "1" if one else _kernel_place(p, q, s, pad)
            for one, p, q, (s, pad, _) in zip(single, places, sent, _ways(attrs), strict=True)
        ]
        body = Mul((self._at(weight, (o, c, *kernel)), self._at(delta, (n, o, *sent))))
        return _sum(
            body, running, (shape[1], *(1 if one else size for one, size in zip(single, shape[2:], strict=True)))
        )

    def _to_kernel(self, expr: Mul, attrs: Mapping[str, Any], labels: Labels) -> Expr:
        """Σ_n,q δ_noq x_n,c,s(q-1)+d(k-1)+1-padding."""
        delta, x = expr.factors
        shape = self._shape(delta)
        o, c, *kernel = labels
        n, *sent = self._running((shape[0], *shape[2:]))
        seen = [_met(q, k, *z) for q, k, z in zip(sent, kernel, _ways(attrs), strict=True)]
        body = Mul((self._at(delta, (n, o, *sent)), self._at(x, (n, c, *seen))))
        return _sum(body, [n, *sent], (shape[0], *shape[2:]))


def _sum(body: Expr, letters: list[str], sizes: tuple[int, ...]) -> Expr:
    """The sum over the indices that take more than one value."""
    kept = [(letter, size) for letter, size in zip(letters, sizes, strict=True) if size > 1]
    return BigSum(body, ",".join(n for n, _ in kept), shape=tuple(s for _, s in kept)) if kept else body


def _ways(attrs: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    return list(zip(attrs["stride"], attrs["padding"], attrs["dilation"], strict=True))


def _plus(label: str, amount: int) -> str:
    return f"{label}{amount:+d}" if amount else label


def _times(factor: int, label: str) -> str:
    return label if factor == 1 else f"{factor}{label}"


def _met(place: str, kernel: str, stride: int, padding: int, dilation: int) -> str:
    """The input's place that a kernel's place meets, all counted from 1."""
    return _joined(((stride, place), (dilation, kernel)), 1 - stride - dilation - padding)


def _kernel_place(place: str, sent: str, stride: int, padding: int) -> str:
    return _joined(((1, place), (-stride, sent)), padding + stride)


def _joined(parts: tuple[tuple[int, str], ...], constant: int) -> str:
    """A sum of multiples of indices and a number; an index that is the number 1 goes into the number."""
    text = ""
    for factor, label in parts:
        if label == "1":
            constant += factor
        else:
            sign = ("-" if factor < 0 else "+") if text or factor < 0 else ""
            text += sign + _times(abs(factor), label)
    return _plus(text, constant) if text else str(constant)
