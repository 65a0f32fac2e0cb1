"""The laws, as functions that raise AssertionError, so that a test can also see each of them fail."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy
import torch
import torch.nn.functional as F

from backproof.differentiate import differentiate
from backproof.domains.digits import context, digits
from backproof.domains.kernels import KERNELS, SLOPES
from backproof.domains.numbers import code, evaluate, helper_source, numbers
from backproof.graph import Builder, Graph, Node
from backproof.ops import Elementwise, Example, Op, derivative

from .samples import FAR, Sample, arrays, exact_tensor, formula_value, gap, on_autograd, sample

TINY = 1e-12
STEP = context.mpf(10) ** -18

# torch's backward of hardsigmoid multiplies by a float32 1/6, which is 3e-9 off in float64; the forward pass is right.
WRONG_IN_TORCH = {"hardsigmoid"}
# torch's second derivative of binary cross-entropy adds 1e-12 to the square of y (1 - y)
SECOND_ORDER = {"bernoulli_error": 1e-8}


def value_law(op: Op, example: Example) -> None:
    """Shape and dtype follow the record; torch's value is the 50-digit value rounded."""
    s = sample(op, example)
    found = evaluate(s.graph, s.leaves)[s.y]
    assert tuple(found.shape) == s.y.shape
    assert str(found.dtype) == f"torch.{s.y.dtype}"
    given = arrays(s.leaves)
    exact = digits.run(s.graph, given)[s.y]
    assert gap(found, exact_tensor(exact, s.y.shape)) <= TINY
    if isinstance(op, Elementwise):
        for written, rule in zip(_by_formula(s, given), exact.reshape(-1), strict=True):
            assert abs(written - rule) <= 1e-45 * (1 + abs(rule)), "the domain's own rule is not the formula"


def _by_formula(s: Sample, given: dict[Node, Any]) -> list[Any]:
    """The formula entry by entry, whatever rule of its own the domain may have."""
    wide = np.broadcast_arrays(*(given[x] for x in s.y.inputs))
    points = zip(*(a.reshape(-1) for a in wide), strict=True)
    return [digits.arithmetic.apply(s.y.op, tuple(digits.arithmetic.number(v) for v in p), s.y.attrs) for p in points]


def joint_law(op: Op, example: Example) -> None:
    """Every node of the joint graph, gradients included, is its 50-digit value rounded."""
    s = sample(op, example, seed=1)
    joint = differentiate(s.graph)
    joint.graph.check()
    found, exact = evaluate(joint.graph, s.leaves), digits.run(joint.graph, arrays(s.leaves))
    for node in joint.graph.nodes:
        assert gap(found[node], exact_tensor(exact[node], node.shape)) <= TINY, node


def autograd_law(op: Op, example: Example) -> None:
    """The gradient is torch.autograd's."""
    s = sample(op, example, seed=2)
    joint = differentiate(s.graph)
    ours = evaluate(joint.graph, s.leaves)
    values = on_autograd(s.graph, s.leaves, s.moving)
    theirs = torch.autograd.grad(values[s.graph.loss], [values[n] for n in s.moving], allow_unused=True)
    for node, expected in zip(s.moving, theirs, strict=True):
        gradient = joint.gradients[node]
        zero = torch.zeros(node.shape, dtype=torch.float64)
        mine, expected = zero if gradient is None else ours[gradient], zero if expected is None else expected
        assert gap(mine, expected) <= (1e-8 if op.name in WRONG_IN_TORCH else TINY), node


def difference_law(op: Op, example: Example) -> None:
    """Along a random direction of each operand, the gradient is the central difference in 50 digits."""
    s = sample(op, example, seed=3)
    joint = differentiate(s.graph)
    base = arrays(s.leaves)
    gradients = digits.run(joint.graph, base)
    rng = torch.Generator().manual_seed(4)
    for node in s.moving:
        direction = digits.array(torch.randn(node.shape, generator=rng, dtype=torch.float64).tolist(), node.shape)
        ends = [_loss_at(s, {**base, node: _moved(base[node], sign * STEP, direction)}) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * STEP)
        gradient = joint.gradients[node]
        along = np.sum(gradients[gradient] * direction) if gradient is not None else context.mpf(0)
        assert abs(along - slope) <= 1e-25 * (1 + abs(slope)), node


def _moved(start: Any, step: Any, direction: Any) -> Any:
    # a scalar's array: numpy turns a sum of arrays without axes into a bare number
    return np.asarray(start + step * direction, dtype=object).reshape(start.shape)


def _loss_at(s: Sample, leaves: dict[Node, Any]) -> Any:
    assert s.graph.loss is not None
    return digits.run(s.graph, leaves)[s.graph.loss][()]


def second_order_law(op: Op, example: Example) -> int:
    """The gradient of a random combination of the gradients is torch's double backward; returns how many were compared."""
    s = sample(op, example, seed=5)
    twice = _gradient_as_loss(s)
    if twice is None:
        return 0
    graph, weights = twice
    joint = differentiate(graph, wrt=s.moving)
    ours = evaluate(joint.graph, s.leaves)
    values = on_autograd(s.graph, s.leaves, s.moving)
    moving = [values[n] for n in s.moving]
    first = torch.autograd.grad(values[s.graph.loss], moving, create_graph=True, allow_unused=True)
    total = sum((g * w).sum() for g, w in zip(first, weights, strict=True) if g is not None and w is not None)
    if op.name in WRONG_IN_TORCH or not isinstance(total, torch.Tensor) or not total.requires_grad:
        second: tuple[Any, ...] = (None,) * len(moving)
    else:
        second = torch.autograd.grad(total, moving, allow_unused=True)
    for node, expected in zip(s.moving, second, strict=True):
        gradient = joint.gradients[node]
        mine = torch.zeros(node.shape, dtype=torch.float64) if gradient is None else ours[gradient]
        expected = torch.zeros_like(mine) if expected is None else expected
        assert gap(mine, expected) <= SECOND_ORDER.get(op.name, 1e-11), node
    return len(moving)


def _gradient_as_loss(s: Sample) -> tuple[Graph, list[torch.Tensor | None]] | None:
    joint = differentiate(s.graph)
    builder, rng = Builder(joint.graph.nodes), torch.Generator().manual_seed(6)
    terms: list[Node] = []
    weights: list[torch.Tensor | None] = []
    for node in s.moving:
        gradient = joint.gradients[node]
        w = torch.randn(node.shape, generator=rng, dtype=torch.float64)
        weights.append(None if gradient is None else w)
        if gradient is not None:
            weighed = builder.emit("mul", gradient, builder.constant(w, node.shape, name=f"w_{node.name}"))
            terms.append(builder.emit("sum", weighed))
    if not terms:
        return None
    total = terms[0]
    for term in terms[1:]:
        total = builder.emit("add", total, term)
    return Graph(tuple(builder.nodes), (total,), total).check(), weights


# --- far from the comfortable region -------------------------------------------------------------------------------
def _points(operands: int) -> list[tuple[float, ...]]:
    return list(itertools.product((*FAR, 0.7), repeat=operands))[: 7**operands - 1]


def _anywhere(*point: float, **attrs: Any) -> bool:
    return True


# where a loss takes any number at all: probabilities lie between 0 and 1, their logarithms below 0
_INSIDE: dict[str, Any] = {
    "root": lambda x: x >= 0,
    "bernoulli_error": lambda y, t: 0 < y < 1 and 0 <= t <= 1,
    "kl_error": lambda y, t, log_target=False: t < 0 if log_target else t > 0,
}


def far_law(op: Elementwise, attrs: dict[str, Any], absolute: float = 1e-300) -> int:
    """At ±20, ±100 and ±800, wherever it is a float64 at all, the value is the formula's; returns how many were compared."""
    compared = 0
    for point in _points(len(op.operands)):
        if not _INSIDE.get(op.name.partition("'")[0], _anywhere)(*point, **attrs):
            continue
        exact = formula_value(op, point, attrs)
        if exact is None or abs(exact) > 1e300:
            continue
        node, tensors = _at_point(op, point, attrs)
        found = float(numbers.apply(node, *tensors))
        assert math.isfinite(found), (op.name, attrs, point, found, float(exact))
        error = abs(found - exact)
        assert error <= absolute or error <= 1e-9 * abs(exact), (op.name, attrs, point, found, float(exact))
        compared += 1
    return compared


def _at_point(op: Elementwise, point: tuple[float, ...], attrs: dict[str, Any]) -> tuple[Node, list[torch.Tensor]]:
    builder = Builder()
    leaves = [builder.leaf(f"x{i}", "input", (), "float64") for i in range(len(point))]
    return builder.emit(op, *leaves, **attrs), [torch.tensor(p, dtype=torch.float64) for p in point]


# --- at the kinks ----------------------------------------------------------------------------------------------------
def kink_points(op: Elementwise, attrs: dict[str, Any]) -> list[tuple[float, ...]]:
    """Points on which a declared kink lies: the first operand is solved for, the others are 0.75."""
    xs = sympy.symbols(f"x0:{len(op.operands)}", real=True)
    assert op.kinks is not None
    rest = {x: sympy.Rational(3, 4) for x in xs[1:]}
    roots = [root for kink in op.kinks(*xs, **attrs) for root in sympy.solve(sympy.nsimplify(kink).subs(rest), xs[0])]
    return [(float(root), *(0.75,) * (len(xs) - 1)) for root in roots]


NATIVE: dict[str, Any] = {
    "prelu": lambda a, b: F.prelu(a.reshape(1), b.reshape(1)).sum(),
    "absolute_error": lambda y, t: F.l1_loss(y, t),
    "hinge_embedding_error": lambda y, t, margin: F.hinge_embedding_loss(y, torch.sign(t - 2), margin),
}


def kink_law(op: Elementwise, attrs: dict[str, Any]) -> int:
    """At a kink the slope is torch.autograd's, from our kernel and from the formula; returns how many were compared."""
    compared = 0
    for point in kink_points(op, attrs):
        if op.name == "hinge_embedding_error":
            point = (point[0], -1.0)  # the kink exists for the negative class alone
        node, tensors = _at_point(op, point, attrs)
        for i in _differentiated(op):
            slope = derivative(op, i)
            theirs = _torch_slope(op, node, tensors, i)
            mine = float(numbers.apply(_at_point(slope, point, attrs)[0], *tensors))
            written = formula_value(slope, point, attrs)
            assert mine == theirs, (op.name, attrs, point, mine, theirs)
            assert written is not None and abs(float(written) - theirs) <= TINY, (
                op.name,
                attrs,
                point,
                written,
                theirs,
            )
            compared += 1
    return compared


def _differentiated(op: Elementwise) -> range:
    return range(1) if op.name == "hinge_embedding_error" else range(len(op.operands))


def _torch_slope(op: Elementwise, node: Node, tensors: list[torch.Tensor], operand: int) -> float:
    given = [t.clone().requires_grad_() for t in tensors]
    native = NATIVE.get(op.name)
    value = native(*given, **node.attrs) if native else numbers.apply(node, *given)
    (slope,) = torch.autograd.grad(value, [given[operand]], allow_unused=True)
    return 0.0 if slope is None else float(slope)


# --- the written-out code and other dtypes ----------------------------------------------------------------------------
# the functions that a written-out script begins with, as it writes them
SCOPE: dict[str, Any] = {"torch": torch, "F": F, "math": math, "itertools": itertools, "Sequence": Sequence}
exec("\n".join(helper_source([*KERNELS, *SLOPES])), SCOPE)


def code_law(op: Op, example: Example) -> None:
    """The code of every node of the joint graph runs, and gives the domain's value bit for bit."""
    s = sample(op, example, seed=7)
    graph = differentiate(s.graph).graph if s.graph.loss is not None else s.graph
    values = evaluate(graph, s.leaves)
    for node in graph.nodes:
        if not node.is_leaf:
            names = [f"v[{i}]" for i in range(len(node.inputs))]
            given = [values[x] for x in node.inputs]
            found = eval(code(node, names), {**SCOPE, "v": given})
            assert torch.equal(found.expand(node.shape), values[node]), code(node, names)


def float32_law(op: Op, example: Example) -> None:
    """float32 in, float32 out, in every node of the joint graph but truth values and indices."""
    if op.name == "cast":
        example = Example(example.shapes, {"dtype": "float32"})
    s = sample(op, example, seed=8)
    graph, leaves = _narrowed(s)
    joint = differentiate(graph).graph if graph.loss is not None else graph
    values = evaluate(joint, leaves)
    for node in joint.nodes:
        assert str(values[node].dtype) == f"torch.{node.dtype}", node
        assert node.dtype != "float64", node


def _narrowed(s: Sample) -> tuple[Graph, dict[Node, torch.Tensor]]:
    """The same example in float32."""
    builder, new = Builder(), {}
    leaves = {}
    for node in s.graph.nodes:
        if node.is_leaf and node.op.name == "leaf":
            dtype = "float32" if node.is_float else node.dtype
            new[node] = builder.leaf(node.name, node.role, node.shape, dtype)
            leaves[new[node]] = s.leaves[node].float() if node.is_float else s.leaves[node]
        elif node.is_leaf:
            new[node] = builder.constant(node.value.float(), node.shape, "float32", name=node.name)
        else:
            inputs = [new[x] for x in node.inputs]
            new[node] = builder.emit(node.op, *inputs, name=node.name, role=node.role, **node.attrs)
    loss = new[s.graph.loss] if s.graph.loss is not None else None
    return Graph(tuple(builder.nodes), (new[s.y],), loss).check(), leaves
