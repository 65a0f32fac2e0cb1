"""From ATen overloads to our operations: the losses of torch.nn, as the error of each entry, then the reduction."""

from __future__ import annotations

import math

import torch

from ..graph import Node
from .lower import Call, NotCaptured, lowering
from .lower_pairs import distance

__all__ = ["CTC"]

_ERRORS = {
    "mse_loss": "squared_error",
    "l1_loss": "absolute_error",
    "huber_loss": "huber_error",
    "smooth_l1_loss": "smooth_l1_error",
    "soft_margin_loss": "soft_margin_error",
    "hinge_embedding_loss": "hinge_embedding_error",
    "poisson_nll_loss": "poisson_error",
    "kl_div": "kl_error",
}
_SETTINGS = ("delta", "beta", "margin", "log_input", "log_target", "eps")


@lowering(*(f"{name}.default" for name in _ERRORS))
def _loss(call: Call) -> Node:
    names = list(call.args)
    y, t = call.args[names[0]], call.args[names[1]]
    known = {key: call[key] for key in _SETTINGS if key in call.args}
    errors = call.emit(_ERRORS[call.overload.split(".")[0]], y, t, **known)
    return call.reduced(call.emit("add", errors, _stirling(call, t)) if call["full"] else errors)


def _stirling(call: Call, t: Node) -> Node:
    """t ln t - t + 1/2 ln(2π t), about ln t!, where t > 1; else 0."""
    log = call.emit("log", t)
    half = call.emit("mul", 0.5, call.emit("log", call.emit("mul", 2 * math.pi, t)))
    term = call.emit("add", call.emit("sub", call.emit("mul", t, log), t), half)
    return call.emit("where", call.emit("le", t, 1), 0.0, term)


@lowering("binary_cross_entropy.default")
def _bce(call: Call) -> Node:
    return call.reduced(_weighted(call, call.emit("bernoulli_error", call["self"], call["target"])))


def _weighted(call: Call, errors: Node) -> Node:
    return errors if call["weight"] is None else call.emit("mul", errors, call["weight"])


@lowering("binary_cross_entropy_with_logits.default")
def _bce_with_logits(call: Call) -> Node:
    """(1 - y) x - (1 + (p - 1) y) ln σ(x), where p weighs the positive examples."""
    x, y, positive = call["self"], call["target"], call["pos_weight"]
    if positive is None:
        return call.reduced(_weighted(call, call.emit("logistic_error", x, y)))
    share = call.emit("add", call.emit("mul", call.emit("sub", positive, 1.0), y), 1.0)
    negative = call.emit("mul", call.emit("sub", 1.0, y), x)
    errors = call.emit("sub", negative, call.emit("mul", share, call.emit("logsigmoid", x)))
    return call.reduced(_weighted(call, errors))


# --- classes -------------------------------------------------------------------------------------------------------------
_REDUCTIONS = {0: "none", 1: "mean", 2: "sum"}


def _nll_of(call: Call, y: Node, target: Node) -> Node:
    attrs = {"reduction": _REDUCTIONS[call["reduction"]], "ignore_index": call["ignore_index"]}
    return call.emit("nll", y, target, *([] if call["weight"] is None else [call["weight"]]), **attrs)


def _as_batch(call: Call, x: Node, target: Node) -> tuple[Node, Node]:
    """One sample without a batch axis as a batch of one."""
    if len(x.shape) > 1:
        return x, target
    wide = call.emit("reshape", target, shape=(1, *target.shape))
    return call.emit("reshape", x, shape=(1, *x.shape)), wide


def _shaped(call: Call, y: Node) -> Node:
    """The result without the batch axis that was put there."""
    return y if y.shape == call.shape else call.emit("reshape", y, shape=call.shape)


@lowering("nll_loss.default", "nll_loss_nd.default", "nll_loss2d.default")
def _nll(call: Call) -> Node:
    return _shaped(call, _nll_of(call, *_as_batch(call, call["self"], call["target"])))


@lowering("cross_entropy_loss.default")
def _cross_entropy(call: Call) -> Node:
    x, target = _as_batch(call, call["self"], call["target"])
    log_p = call.emit("log_softmax", x, dim=1)
    if target.is_float:
        return _shaped(call, _soft_targets(call, log_p, target))
    hard, smooth = _nll_of(call, log_p, target), call["label_smoothing"]
    if not smooth:
        return _shaped(call, hard)
    spread = _spread(call, log_p, target)
    share = smooth / log_p.shape[1]
    return _shaped(call, call.emit("add", call.emit("mul", 1 - smooth, hard), call.emit("mul", share, spread)))


def _by_class(call: Call, log_p: Node) -> Node:
    """The class weights in the shape in which they line up with the class axis."""
    return call.emit("reshape", call["weight"], shape=(log_p.shape[1], *(1,) * (len(log_p.shape) - 2)))


def _spread(call: Call, log_p: Node, target: Node) -> Node:
    """-sum_c w_c ln p_c of each sample whose class is not ignored, reduced as the loss itself is."""
    weighed = log_p if call["weight"] is None else call.emit("mul", log_p, _by_class(call, log_p))
    ignored = call.emit("eq", target, call["ignore_index"])
    sums = call.emit("where", ignored, 0.0, call.emit("neg", call.emit("sum", weighed, dim=(1,))))
    if call["reduction"] != 1:
        return call.reduced(sums)
    return call.emit("div", call.emit("sum", sums), call.emit("sum", _shares(call, target, ignored, log_p.dtype)))


def _shares(call: Call, target: Node, ignored: Node, dtype: str) -> Node:
    """The weight of each sample's class, 0 for an ignored one."""
    if call["weight"] is None:
        return call.emit("cast", call.emit("logical_not", ignored), dtype=dtype)
    known = call.emit("where", ignored, 0, target)
    return call.emit("where", ignored, 0.0, call.emit("embedding", call["weight"], known))


def _soft_targets(call: Call, log_p: Node, target: Node) -> Node:
    """-sum_c w_c t_c ln p_c of each sample; the mean divides by the number of samples."""
    if smooth := call["label_smoothing"]:
        target = call.emit("add", call.emit("mul", target, 1 - smooth), smooth / log_p.shape[1])
    each = call.emit("mul", target, log_p)
    each = each if call["weight"] is None else call.emit("mul", each, _by_class(call, log_p))
    per_sample = call.emit("neg", call.emit("sum", each, dim=(1,)))
    if call["reduction"] != 1:
        return call.reduced(per_sample)
    samples = math.prod(log_p.shape) // log_p.shape[1]
    return call.emit("div", call.emit("sum", per_sample), samples)


# --- margins -------------------------------------------------------------------------------------------------------------
def _hinge(call: Call, x: Node) -> Node:
    """max(0, x), with slope 0 at 0."""
    return call.emit("relu", x)


def _hinge_at_zero(call: Call, x: Node) -> Node:
    """max(0, x) as torch's clamp_min has it, with slope 1 at 0."""
    return call.emit("clamp", x, min=0.0)


def _column(call: Call, t: Node) -> Node:
    """One whole number per sample beside the classes."""
    return call.emit("reshape", t, shape=(*t.shape, 1))


@lowering("multi_margin_loss.default")
def _multi_margin(call: Call) -> Node:
    """(1/C) sum over i other than t of w_t max(0, margin - x_t + x_i)^p."""
    x, t = _as_batch(call, call["self"], call["target"])
    t = call.emit("reshape", t, shape=(x.shape[0],))
    own = call.emit("gather", x, _column(call, t), dim=1)
    gaps = _hinge(call, call.emit("add", call.emit("sub", call["margin"], own), x))
    gaps = call.emit("square", gaps) if call["p"] == 2 else gaps
    if call["weight"] is not None:
        gaps = call.emit("mul", gaps, _column(call, call.emit("embedding", call["weight"], t)))
    classes = call.builder.constant(torch.arange(x.shape[1]), (x.shape[1],), "int64", name="classes")
    others = call.emit("ne", classes, _column(call, t))
    sums = call.emit("sum", call.emit("where", others, gaps, 0.0), dim=(1,))
    return _shaped(call, call.reduced(call.emit("div", sums, x.shape[1])))


@lowering("multilabel_margin_loss.default")
def _multilabel_margin(call: Call) -> Node:
    """(1/C) sum of max(0, 1 - (x_j - x_i)) over j in the targets before the first -1 and i outside of them."""
    x, t = _as_batch(call, call["self"], call["target"])
    samples, classes = x.shape
    ends = call.emit("cast", call.emit("lt", t, 0), dtype=x.dtype)
    upper = torch.ones(classes, classes, dtype=getattr(torch, x.dtype)).triu()
    passed = call.emit("matmul", ends, call.builder.constant(upper, (classes, classes), x.dtype, name="ones"))
    listed = call.emit("eq", passed, 0.0)
    places = call.emit("where", listed, t, 0)
    counted = call.emit("cast", listed, dtype=x.dtype)
    count = call.emit("scatter_add", counted, places, dim=1, shape=x.shape)
    outside = call.emit("reshape", call.emit("eq", count, 0.0), shape=(samples, 1, classes))
    own = _column(call, call.emit("gather", x, places, dim=1))
    others = call.emit("reshape", x, shape=(samples, 1, classes))
    gaps = _hinge(call, call.emit("sub", 1.0, call.emit("sub", own, others)))
    pairs = call.emit("logical_and", _column(call, listed), outside)
    sums = call.emit("sum", call.emit("where", pairs, gaps, 0.0), dim=(1, 2))
    return _shaped(call, call.reduced(call.emit("div", sums, classes)))


@lowering("margin_ranking_loss.default")
def _margin_ranking(call: Call) -> Node:
    """max(0, -t (x₁ - x₂) + margin)."""
    gap = call.emit("sub", call["input1"], call["input2"])
    raised = call.emit("add", call.emit("mul", call.emit("neg", call["target"]), gap), call["margin"])
    return call.reduced(_hinge_at_zero(call, raised))


@lowering("cosine_embedding_loss.default")
def _cosine_embedding(call: Call) -> Node:
    """1 - cos for t = 1, max(0, cos - margin) for t = -1; torch adds 1e-12 to the squares of the lengths."""
    a, b, t = call["input1"], call["input2"], call["target"]
    axis = (len(a.shape) - 1,)
    sums = [call.emit("sum", call.emit("mul", *pair), dim=axis) for pair in ((a, b), (a, a), (b, b))]
    lengths = [call.emit("add", s, 1e-12) for s in sums[1:]]
    cos = call.emit("div", sums[0], call.emit("sqrt", call.emit("mul", *lengths)))
    apart = _hinge_at_zero(call, call.emit("sub", cos, call["margin"]))
    near = call.emit("where", call.emit("eq", t, 1), call.emit("sub", 1.0, cos), 0.0)
    return call.reduced(call.emit("add", near, call.emit("where", call.emit("eq", t, -1), apart, 0.0)))


@lowering("triplet_margin_loss.default")
def _triplet(call: Call) -> Node:
    """max(0, margin + d(a, p) - d(a, n)), where swap takes d(p, n) if that is the smaller."""
    anchor, positive, negative = call["anchor"], call["positive"], call["negative"]
    near, far = (distance(call, anchor, other) for other in (positive, negative))
    if call["swap"]:
        far = call.emit("minimum", far, distance(call, positive, negative))
    return call.reduced(_hinge_at_zero(call, call.emit("add", call["margin"], call.emit("sub", near, far))))


CTC = (
    "the CTC loss, a sum over all alignments of a sequence, has no operation here; train with it in torch, and capture "
    "the network without it"
)


@lowering("ctc_loss.IntList", "ctc_loss.Tensor")
def _ctc(call: Call) -> Node:
    raise NotCaptured(CTC)
