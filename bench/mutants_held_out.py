"""A third set of operations with slips, for the last word: nothing was changed after ``bp.check`` had been run on it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from mutants import Family, Inputs, draw, indices
from torch import Tensor

__all__ = ["FAMILIES"]

Gradients = tuple[Tensor | None, ...]


def _instance(x: Tensor) -> Tensor:
    return F.instance_norm(x, eps=1e-3)


def _instance_back(g: Tensor, x: Tensor, slip: str) -> Gradients:
    axes = (0, 2, 3) if slip == "statistics over the batch too" else (2, 3)
    m, v = x.mean(axes, keepdim=True), x.var(axes, keepdim=True, unbiased=False)
    r = (v + 1e-3).rsqrt()
    h = (x - m) * r
    inner = (g * h).mean(axes, keepdim=True)
    d = g - h * inner if slip == "mean of the gradient kept" else g - g.mean(axes, keepdim=True) - h * inner
    return (d * (v.rsqrt() if slip == "epsilon forgotten outside" else r),)


def _instance_in(size: int) -> Inputs:
    return (draw(*((2, 3, 4, 4), (4, 8, 12, 12), (8, 16, 20, 20))[size]),)


def _swiglu(a: Tensor, b: Tensor) -> Tensor:
    return F.silu(a) * b


def _swiglu_back(g: Tensor, a: Tensor, b: Tensor, slip: str) -> Gradients:
    s = torch.sigmoid(a)
    slope = {"sigmoid alone": s, "slope of the sigmoid": s * (1 - s), "input left out": s * (1 + 1 - s)}.get(
        slip, s * (1 + a * (1 - s))
    )
    return g * b * slope, g * (s if slip == "gate without its input" else a * s)


def _swiglu_in(size: int) -> Inputs:
    n = (50, 2500, 25000)[size]
    return draw(n), draw(n, seed=1)


def _contrast(a: Tensor, b: Tensor) -> Tensor:
    return F.cross_entropy(a @ b.T / 0.2, torch.arange(len(a)))


def _contrast_back(g: Tensor, a: Tensor, b: Tensor, slip: str) -> Gradients:
    z = a @ b.T / 0.2
    p = torch.softmax(z, 0 if slip == "softmax over the other side" else 1)
    d = p - (0 if slip == "positives forgotten" else torch.eye(len(a), dtype=a.dtype))
    d = g * d / len(a) / (1 if slip == "temperature forgotten" else 0.2)
    return d @ b, (d if slip == "scores not transposed" else d.T) @ a


def _contrast_in(size: int) -> Inputs:
    n, d = ((6, 8), (50, 50), (200, 125))[size]
    return draw(n, d) / 3, draw(n, d, seed=1) / 3


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b)


def _distances_back(g: Tensor, a: Tensor, b: Tensor, slip: str) -> Gradients:
    d = torch.cdist(a, b)
    w = 2 * g if slip == "squared distance" else g / (d * d if slip == "divided twice" else d)
    da = w.sum(1, keepdim=True) * a - w @ b
    axis = 1 if slip == "weights summed over the wrong side" else 0
    db = w.sum(axis)[:, None] * b - w.T @ a
    return (-da if slip == "sign for the first" else da), db


def _distances_in(size: int) -> Inputs:
    n, d = ((6, 8), (50, 50), (200, 125))[size]
    return draw(n, d), draw(n, d, seed=1)


def _rotary(x: Tensor, angle: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    c, s = angle.cos(), angle.sin()
    return torch.cat([a * c - b * s, a * s + b * c], -1)


def _rotary_back(g: Tensor, x: Tensor, angle: Tensor, slip: str) -> Gradients:
    ga, gb = g.chunk(2, -1)
    c, s = angle.cos(), -angle.sin() if slip == "rotated the same way" else angle.sin()
    if slip == "halves exchanged":
        ga, gb = gb, ga
    da, db = ga * c + gb * s, gb * c - ga * s
    if slip == "sine's part dropped in the second half":
        db = gb * c
    return torch.cat([da, db], -1), None


def _rotary_in(size: int) -> Inputs:
    t, d = ((10, 10), (50, 100), (250, 200))[size]
    return draw(t, d), draw(t, d // 2, seed=1)


def _gaussian(mean: Tensor, log_variance: Tensor, t: Tensor) -> Tensor:
    return 0.5 * (log_variance + (t - mean) ** 2 / log_variance.exp()).mean()


def _gaussian_back(g: Tensor, mean: Tensor, log_variance: Tensor, t: Tensor, slip: str) -> Gradients:
    v, e, n = log_variance.exp(), t - mean, mean.numel()
    dm = e / v if slip == "sign of the mean" else -e / (v.sqrt() if slip == "deviation for variance" else v)
    dv = 1 - e**2 / v if slip != "quadratic term forgotten" else torch.ones_like(v)
    dv = dv / v if slip == "gradient of the variance itself" else dv
    return g * dm / n, g * dv / n * (1 if slip == "half forgotten" else 0.5), None


def _gaussian_in(size: int) -> Inputs:
    n = (50, 2500, 25000)[size]
    return draw(n), draw(n, seed=1), draw(n, seed=2)


def _lora(x: Tensor, w: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return x @ w.T + 0.5 * (x @ a.T) @ b.T


def _lora_back(g: Tensor, x: Tensor, w: Tensor, a: Tensor, b: Tensor, slip: str) -> Gradients:
    k = 1.0 if slip == "scale forgotten in the first factor" else 0.5
    da = k * (g @ b).T @ x
    db = 0.5 * g.T @ (x @ a.T)
    dx = g @ w if slip == "adapter's path dropped" else g @ w + 0.5 * (g @ b) @ a
    if slip == "second factor after its update":
        dx = g @ w + 0.5 * (g @ (b - 0.1 * db)) @ a
    return dx, g.T @ x, da, db


def _lora_in(size: int) -> Inputs:
    n, d, r = ((4, 6, 2), (20, 50, 8), (100, 150, 10))[size]
    return draw(n, d), draw(d, d), draw(r, d), draw(d, r)


def _inverse(a: Tensor) -> Tensor:
    return torch.linalg.inv(a)


def _inverse_back(g: Tensor, a: Tensor, slip: str) -> Gradients:
    inverse = torch.linalg.inv(a)
    t = inverse if slip == "not transposed" else inverse.T
    if slip == "one inverse too few":
        return (-t @ g,)
    return (t @ g @ t if slip == "sign" else -t @ g @ t,)


def _inverse_in(size: int) -> Inputs:
    n = (10, 40, 120)[size]
    return (draw(n, n) / n**0.5 + 2 * torch.eye(n, dtype=torch.float64),)


def _segment(x: Tensor, group: Tensor) -> Tensor:
    total = x.new_zeros(int(group.max()) + 1, x.shape[1]).index_add(0, group, x)
    return total / torch.bincount(group).clamp(1)[:, None]


def _segment_back(g: Tensor, x: Tensor, group: Tensor, slip: str) -> Gradients:
    count = torch.bincount(group).clamp(1).to(x.dtype)
    if slip == "not divided by the count":
        return g[group], None
    if slip == "average count":
        return g[group] / count.mean(), None
    return (g / count[:, None])[group.roll(1) if slip == "groups shifted" else group], None


def _segment_in(size: int) -> Inputs:
    n, d, k = ((20, 5, 4), (500, 10, 50), (2500, 20, 200))[size]
    return draw(n, d), indices(k, n)


def _smoothed(x: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(x, labels, label_smoothing=0.2)


def _smoothed_back(g: Tensor, x: Tensor, labels: Tensor, slip: str) -> Gradients:
    c = x.shape[1]
    hot = F.one_hot(labels, c).to(x.dtype)
    t = {"smoothing forgotten": hot, "spread over the others alone": 0.8 * hot + 0.2 / (c - 1) * (1 - hot),
         "mass lost": 0.8 * hot}.get(slip, 0.8 * hot + 0.2 / c)  # fmt: skip
    return g * (torch.softmax(x, 1) - t) / len(x), None


def _smoothed_in(size: int) -> Inputs:
    n, c = ((10, 10), (100, 50), (500, 100))[size]
    return draw(n, c), indices(c, n)


def _elu(x: Tensor) -> Tensor:
    return F.elu(x, alpha=0.7)


def _elu_back(g: Tensor, x: Tensor, slip: str) -> Gradients:
    low = {
        "alpha forgotten": x.exp(),
        "value for the slope": 0.7 * (x.exp() - 1),
        "constant below": 0.7 * torch.ones_like(x),
    }
    return (g * torch.where(x > 0, torch.ones_like(x), low.get(slip, 0.7 * x.exp())),)


def _elu_in(size: int) -> Inputs:
    return (draw((100, 5000, 50000)[size]),)


def _weight_norm(v: Tensor, s: Tensor) -> Tensor:
    return v / v.norm(dim=1, keepdim=True) * s[:, None]


def _weight_norm_back(g: Tensor, v: Tensor, s: Tensor, slip: str) -> Gradients:
    n = v.norm(dim=1, keepdim=True)
    u = v / n
    along = (g * u).sum(1)
    d = g - u * along[:, None]
    if slip == "direction held fixed":
        d = g
    if slip == "scale left out":
        return d / n, along
    return s[:, None] * d / n, (g * v).sum(1) if slip == "not divided by the norm" else along


def _weight_norm_in(size: int) -> Inputs:
    n, d = ((8, 10), (50, 100), (250, 200))[size]
    return draw(n, d), draw(n)


def _log_det(a: Tensor) -> Tensor:
    return torch.logdet(a @ a.T + math.e * torch.eye(len(a), dtype=a.dtype))


def _log_det_back(g: Tensor, a: Tensor, slip: str) -> Gradients:
    m = a @ a.T + (0 if slip == "ridge forgotten" else math.e) * torch.eye(len(a), dtype=a.dtype)
    return (g * torch.linalg.inv(m) @ a * (1 if slip == "one of two paths" else 2),)


def _log_det_in(size: int) -> Inputs:
    n, d = ((8, 12), (40, 120), (120, 400))[size]
    return (draw(n, d) / d**0.5,)


FAMILIES = (
    Family("InstanceNorm", _instance, _instance_back, _instance_in, (
        "statistics over the batch too", "mean of the gradient kept", "epsilon forgotten outside")),
    Family("SwiGLU", _swiglu, _swiglu_back, _swiglu_in, (
        "sigmoid alone", "slope of the sigmoid", "input left out", "gate without its input")),
    Family("InfoNCE", _contrast, _contrast_back, _contrast_in, (
        "softmax over the other side", "positives forgotten", "temperature forgotten", "scores not transposed")),
    Family("Distances", _distances, _distances_back, _distances_in, (
        "squared distance", "divided twice", "weights summed over the wrong side", "sign for the first")),
    Family("Rotary", _rotary, _rotary_back, _rotary_in, (
        "rotated the same way", "halves exchanged", "sine's part dropped in the second half"), (1,)),
    Family("GaussianLikelihood", _gaussian, _gaussian_back, _gaussian_in, (
        "sign of the mean", "deviation for variance", "quadratic term forgotten", "gradient of the variance itself",
        "half forgotten"), (2,)),
    Family("LowRankAdapter", _lora, _lora_back, _lora_in, (
        "scale forgotten in the first factor", "adapter's path dropped", "second factor after its update")),
    Family("Inverse", _inverse, _inverse_back, _inverse_in, ("not transposed", "one inverse too few", "sign")),
    Family("SegmentMean", _segment, _segment_back, _segment_in, ("not divided by the count", "average count", "groups shifted")),
    Family("LabelSmoothing", _smoothed, _smoothed_back, _smoothed_in, (
        "smoothing forgotten", "spread over the others alone", "mass lost")),
    Family("ELU", _elu, _elu_back, _elu_in, ("alpha forgotten", "value for the slope", "constant below")),
    Family("WeightNorm", _weight_norm, _weight_norm_back, _weight_norm_in, (
        "direction held fixed", "scale left out", "not divided by the norm")),
    Family("LogDeterminant", _log_det, _log_det_back, _log_det_in, ("ridge forgotten", "one of two paths")),
)  # fmt: skip
