"""Vector-Jacobian products of the layers with windows (convolutions, pools) and of normalisation."""

from __future__ import annotations

from ..graph import Node
from ..ops import Shape
from .general import Contributions, Rule, vjp

__all__: list[str] = []

_SLIDING = ("stride", "padding", "dilation", "groups")


def _sliding(r: Rule) -> dict[str, object]:
    return {key: r.attrs[key] for key in _SLIDING}


def _over_places(r: Rule, delta: Node) -> Node:
    """The sum over the samples and places of each channel."""
    return r.emit("sum", delta, dim=(0, *range(2, len(delta.shape))))


# --- convolutions: one bilinear map of three tensors, seen from each of them --------------------------------------
@vjp("conv")
def _conv(r: Rule) -> Contributions:
    """y = W * x + b: delta back through the kernel, x correlated with delta, and delta summed over samples and places."""
    x, weight, more = r.x[0], r.x[1], _sliding(r)
    to_x = r.emit("conv_input_grad", r.delta, weight, shape=x.shape, **more) if r.needs(0) else None
    to_weight = r.emit("conv_weight_grad", x, r.delta, shape=weight.shape, **more) if r.needs(1) else None
    bias = (_over_places(r, r.delta) if r.needs(2) else None,) if len(r.x) > 2 else ()
    return (to_x, to_weight, *bias)


@vjp("conv_input_grad")
def _conv_input_grad(r: Rule) -> Contributions:
    """g = W ⋆ d, with the adjoint delta of an input: W * delta to d; delta correlated with d to W."""
    d, weight, more = r.x[0], r.x[1], _sliding(r)
    to_d = r.emit("conv", r.delta, weight, **more) if r.needs(0) else None
    return to_d, (r.emit("conv_weight_grad", r.delta, d, shape=weight.shape, **more) if r.needs(1) else None)


@vjp("conv_weight_grad")
def _conv_weight_grad(r: Rule) -> Contributions:
    """G = x ⋆ d, with the adjoint delta of a kernel: d back through delta to x; delta * x to d."""
    x, d, more = r.x[0], r.x[1], _sliding(r)
    to_x = r.emit("conv_input_grad", d, r.delta, shape=x.shape, **more) if r.needs(0) else None
    return to_x, (r.emit("conv", x, r.delta, **more) if r.needs(1) else None)


@vjp("conv_transpose")
def _conv_transpose(r: Rule) -> Contributions:
    """y = W ⋆ x + b: W * delta to x; delta correlated with x to W; delta summed over samples and places to b."""
    x, weight, more = r.x[0], r.x[1], _sliding(r)
    to_x = r.emit("conv", _cropped(r), weight, **more) if r.needs(0) else None
    to_weight = r.emit("conv_weight_grad", r.delta, x, shape=weight.shape, **more) if r.needs(1) else None
    bias = (_over_places(r, r.delta) if r.needs(2) else None,) if len(r.x) > 2 else ()
    return (to_x, to_weight, *bias)


def _cropped(r: Rule) -> Node:
    """The adjoint without an output padding so large that the convolution would see one window more."""
    sizes = r.delta.shape[2:]
    axes = zip(
        r.x[0].shape[2:], r.x[1].shape[2:], r.attrs["stride"], r.attrs["padding"], r.attrs["dilation"], strict=True
    )
    needed = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in axes]
    cut = [min(0, n + s - 1 - size) for n, s, size in zip(needed, r.attrs["stride"], sizes, strict=True)]
    return r.emit("pad", r.delta, pad=tuple(v for c in reversed(cut) for v in (0, c))) if any(cut) else r.delta


@vjp("pad")
def _pad(r: Rule) -> Contributions:
    """What was put around is cut off again; what was cut off receives 0."""
    return (r.emit("pad", r.delta, pad=tuple(-p for p in r.attrs["pad"])),)


# --- pools ----------------------------------------------------------------------------------------------------------
@vjp("max_pool")
def _max_pool(r: Rule) -> Contributions:
    """y = the largest of each window: delta goes to the place of the largest."""
    return (r.emit("max_pool_grad", r.delta, r.x[0], **dict(r.attrs)),)


@vjp("max_pool_grad")
def _max_pool_grad(r: Rule) -> Contributions:
    """The adjoint of sending to the places of the largest is reading there; where they are has no slope."""
    d, x = r.x
    index = r.emit("max_pool_index", x, **dict(r.attrs))
    flat = (*x.shape[:2], -1 if x.size else 0)
    read = r.emit("gather", r.reshaped(r.delta, flat), r.reshaped(index, (*d.shape[:2], -1)), dim=2)
    return (r.reshaped(read, d.shape) if r.needs(0) else None), None


@vjp("avg_pool", "adaptive_avg_pool")
def _mean_pool(r: Rule) -> Contributions:
    """y = the mean of each window: delta is shared equally among the window's entries."""
    return (r.emit(f"{r.node.op.name}_grad", r.delta, **dict(r.attrs), shape=r.x[0].shape),)


@vjp("avg_pool_grad", "adaptive_avg_pool_grad")
def _mean_pool_grad(r: Rule) -> Contributions:
    """The adjoint of sharing out among a window's entries is taking their mean."""
    attrs = {key: value for key, value in r.attrs.items() if key != "shape"}
    return (r.emit(r.node.op.name.removesuffix("_grad"), r.delta, **attrs),)


# --- normalisation: mean and variance are operands, so that their own nodes carry the gradient on ------------------
@vjp("batch_norm", "layer_norm")
def _normalised(r: Rule) -> Contributions:
    """y = γ (x - μ) / √(σ² + ε) + β, after Ioffe and Szegedy (2015), section 3.

    With d = delta γ / √(σ² + ε): d to x, -sum d to μ, -1/2 sum d (x - μ) / (σ² + ε) to σ², sum delta x̂ to γ, sum
    delta to β; the sums run over the entries that share a μ, σ², γ or β.
    """
    x, mean, var = r.x[0], _wide(r, 1), _wide(r, 2)
    inside = r.emit("add", var, r.constant(r.attrs["eps"]))
    root, centred = r.emit("sqrt", inside), r.emit("sub", x, mean)
    weighed = r.times(r.delta, _wide(r, 3)) if len(r.x) > 3 else r.delta
    d = r.emit("div", weighed, root)
    to_mean = _narrow(r, r.emit("neg", d), 1) if r.needs(1) else None
    to_var = None
    if r.needs(2):
        each = r.emit("div", r.times(d, centred), inside)
        to_var = r.times(r.constant(-0.5), _narrow(r, each, 2))
    found: list[Node | None] = [d if r.needs(0) else None, to_mean, to_var]
    if len(r.x) > 3:
        found.append(_narrow(r, r.times(r.delta, r.emit("div", centred, root)), 3) if r.needs(3) else None)
    if len(r.x) > 4:
        found.append(_narrow(r, r.delta, 4) if r.needs(4) else None)
    return tuple(found)


def _spread_shape(r: Rule, operand: int) -> Shape:
    """The shape in which an operand broadcasts against x: for one entry per channel, [C, 1, 1...]."""
    shape = r.x[operand].shape
    return (*shape, *(1,) * (len(r.x[0].shape) - 2)) if r.node.op.name == "batch_norm" else shape


def _wide(r: Rule, operand: int) -> Node:
    return r.reshaped(r.x[operand], _spread_shape(r, operand))


def _narrow(r: Rule, grad: Node, operand: int) -> Node:
    """Sum a gradient of x's shape over the entries that share one of the operand's."""
    shape = _spread_shape(r, operand)
    return r.reshaped(grad if grad.shape == shape else r.emit("sum_to", grad, shape=shape), r.x[operand].shape)
