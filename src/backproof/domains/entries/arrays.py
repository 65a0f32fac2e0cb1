"""Indexing, running totals, norms, einsum and functions of a matrix entry by entry, in terms of + - * / alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ...graph import Node
from ...ops import OPS
from .general import Arithmetic, Array, _along, _by_line, _filled, _folded, _function, _total, entries

__all__: list[str] = []


# --- places ------------------------------------------------------------------------------------------------------------
@entries.rule("put")
def _put(node: Node, arithmetic: Arithmetic, x: Array, index: Array, src: Array) -> Array:
    out = x.copy()
    for place in np.ndindex(*index.shape):
        out[int(index[place])] = src[place]
    return out


@entries.rule("scatter")
def _scatter(node: Node, arithmetic: Arithmetic, x: Array, index: Array, src: Array) -> Array:
    out = x.copy()
    for here, there in _along(node.attrs["dim"], index):
        out[there] = src[here]
    return out


@entries.rule("scatter_extreme")
def _scatter_extreme(node: Node, arithmetic: Arithmetic, x: Array, index: Array, src: Array) -> Array:
    out, sign = x.copy(), 1 if node.attrs["largest"] else -1
    for here, there in _along(node.attrs["dim"], index):
        out[there] = arithmetic.largest([out[there], src[here]], sign)
    return out


def _ordered(line: list[Any], descending: bool) -> list[int]:
    return sorted(range(len(line)), key=line.__getitem__, reverse=descending)


@entries.rule("argsort")
def _argsort(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return _by_line(node, lambda line: _ordered(line, node.attrs["descending"]), x)


@entries.rule("topk_index")
def _topk_index(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    order = _by_line(node, lambda line: _ordered(line, node.attrs["largest"]), x)
    return order.take(range(node.attrs["k"]), axis=node.attrs["dim"])


@entries.rule("median_index")
def _median_index(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return _folded(node, x, lambda line: _ordered(line, False)[(len(line) - 1) // 2])


@entries.rule("bucket")
def _bucket(node: Node, arithmetic: Arithmetic, x: Array, boundaries: Array) -> Array:
    def below(v: Any, edge: Any) -> bool:
        return bool(edge <= v if node.attrs["right"] else edge < v)

    return _filled([sum(below(v, edge) for edge in boundaries) for v in x.reshape(-1)], x.shape)


# --- running totals ------------------------------------------------------------------------------------------------------
def _running(step: Callable[[Any, Any], Any], line: list[Any]) -> list[Any]:
    return list(itertools.accumulate(line, step))


@entries.rule("cumsum")
def _cumsum(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    turn = -1 if node.attrs["reverse"] else 1
    return _by_line(node, lambda line: _running(lambda a, b: a + b, line[::turn])[::turn], x)


@entries.rule("cumprod")
def _cumprod(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return _by_line(node, lambda line: _running(lambda a, b: a * b, line), x)


@entries.rule("logcumsumexp")
def _logcumsumexp(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    def totals(line: list[Any]) -> list[Any]:
        powers = [_function(arithmetic, "exp", v) for v in line]
        return [_function(arithmetic, "log", v) for v in _running(lambda a, b: a + b, powers)]

    return _by_line(node, totals, x)


@entries.rule("recurrence")
def _recurrence(node: Node, arithmetic: Arithmetic, a: Array, b: Array) -> Array:
    turn = -1 if node.attrs["reverse"] else 1

    def steps(factors: list[Any], terms: list[Any]) -> list[Any]:
        found: list[Any] = []
        for factor, term in zip(factors[::turn], terms[::turn], strict=True):
            found.append(term if not found else factor * found[-1] + term)
        return found[::turn]

    return _by_line(node, steps, a, b)


@entries.rule("cummax_index", "cummin_index")
def _cummax_index(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    sign = 1 if node.op.name == "cummax_index" else -1

    def places(line: list[Any]) -> list[int]:
        found: list[int] = []
        for i, value in enumerate(line):
            best = found[-1] if found else i
            found.append(i if arithmetic.largest([line[best], value], sign) == value else best)
        return found

    return _by_line(node, places, x)


# --- over axes -------------------------------------------------------------------------------------------------------------
def _product(values: list[Any]) -> Any:
    total = values[0]
    for value in values[1:]:
        total = total * value
    return total


@entries.rule("prod")
def _prod(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return _folded(node, x, _product)


@entries.rule("vector_norm")
def _vector_norm(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    p = node.attrs["ord"]

    def length(values: list[Any]) -> Any:
        if p == 2:
            return _function(arithmetic, "sqrt", _total([v * v for v in values]))
        order = arithmetic.number(p)
        powers = [_power(arithmetic, _function(arithmetic, "abs", v), order) for v in values]
        return _power(arithmetic, _total(powers), arithmetic.number(1) / order)

    return _folded(node, x, length)


def _power(arithmetic: Arithmetic, base: Any, exponent: Any) -> Any:
    return arithmetic.apply(OPS["pow"], (base, exponent), {})


@entries.rule("einsum")
def _einsum(node: Node, arithmetic: Arithmetic, *xs: Array) -> Array:
    terms, _, result = node.attrs["equation"].partition("->")
    letters = list(dict.fromkeys(result + terms.replace(",", "")))
    wide = [_spread(x, term, letters) for x, term in zip(xs, terms.split(","), strict=True)]
    total = np.broadcast_arrays(*wide)[0] if len(wide) == 1 else wide[0]
    for other in wide[1:]:
        total = total * other
    flat = np.asarray(total, dtype=object).reshape(*node.shape, -1)
    return _filled([_total(list(flat[place])) for place in np.ndindex(*node.shape)], node.shape)


def _spread(x: Array, term: str, letters: list[str]) -> Array:
    """The operand with an axis for every letter, of size 1 where it lacks one."""
    order = [term.index(c) for c in letters if c in term]
    turned = iter(x.transpose(order).shape)
    return x.transpose(order).reshape([next(turned) if c in term else 1 for c in letters])


# --- functions of a matrix ------------------------------------------------------------------------------------------------
def _eliminated(arithmetic: Arithmetic, a: Array, b: Array) -> tuple[Array, Any]:
    """A⁻¹ B and det A by elimination, each pivot the largest of its column."""
    a, b, det = a.copy(), b.copy(), arithmetic.number(1)
    n = len(a)
    for i in range(n):
        column = [abs(v) for v in a[i:, i]]
        pivot = i + column.index(arithmetic.largest(column, 1))
        if pivot != i:
            a[[i, pivot]], b[[i, pivot]], det = a[[pivot, i]], b[[pivot, i]], -det
        det = det * a[i, i]
        a[i], b[i] = a[i] / a[i, i], b[i] / a[i, i]
        for j in range(n):
            if j != i:
                b[j], a[j] = b[j] - a[j, i] * b[i], a[j] - a[j, i] * a[i]
    return b, det


def _are_formulas(a: Array) -> bool:
    """Whether entries have no size to compare, so that no pivot can be chosen."""
    return not hasattr(a.reshape(-1)[0], "__abs__")


def _expanded(a: Array) -> Any:
    """det A along its first row, as on paper."""
    if len(a) == 1:
        return a[0, 0]
    parts = [a[0, j] * _expanded(np.delete(a[1:], j, axis=1)) for j in range(len(a))]
    total = parts[0]
    for j, part in enumerate(parts[1:], start=1):
        total = total - part if j % 2 else total + part
    return total


def _adjugate_over(det: Any, a: Array) -> Array:
    """A⁻¹ as the transposed cofactors over the determinant."""
    n, found = len(a), np.empty(a.shape, dtype=object)
    for i in range(n):
        for j in range(n):
            minor = _expanded(np.delete(np.delete(a, i, axis=0), j, axis=1)) if n > 1 else det / det
            found[j, i] = (-minor if (i + j) % 2 else minor) / det
    return found


def _inverted(arithmetic: Arithmetic, a: Array) -> Array:
    if _are_formulas(a):
        return _adjugate_over(_expanded(a), a)
    return _eliminated(arithmetic, a, _unit(arithmetic, len(a)))[0]


def _unit(arithmetic: Arithmetic, n: int) -> Array:
    return _filled([arithmetic.number(int(i == j)) for i in range(n) for j in range(n)], (n, n))


@entries.rule("inverse")
def _inverse(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    n = x.shape[-1]
    return np.stack([_inverted(arithmetic, m) for m in x.reshape(-1, n, n)]).reshape(node.shape)


def _determinants(arithmetic: Arithmetic, x: Array) -> list[Any]:
    n = x.shape[-1]
    return [
        _expanded(m) if _are_formulas(m) else _eliminated(arithmetic, m, _unit(arithmetic, n))[1]
        for m in x.reshape(-1, n, n)
    ]


@entries.rule("det")
def _det(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    return _filled(_determinants(arithmetic, x), node.shape)


@entries.rule("logabsdet")
def _logabsdet(node: Node, arithmetic: Arithmetic, x: Array) -> Array:
    sizes = [_function(arithmetic, "abs", v) for v in _determinants(arithmetic, x)]
    return _filled([_function(arithmetic, "log", v) for v in sizes], node.shape)


@entries.rule("solve")
def _solve(node: Node, arithmetic: Arithmetic, a: Array, b: Array) -> Array:
    pairs = zip(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]), strict=True)
    return np.stack([_eliminated(arithmetic, m, rhs)[0] for m, rhs in pairs]).reshape(node.shape)
