"""A second set of operations with slips, written and frozen before ``bp.check`` had ever been run on it.

Twenty-five functions that :mod:`mutants` does not have, in the way in which layers, losses and kernels are written: fused
forward passes, backward passes from saved or recomputed values, several outputs, branches that few inputs enter.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from mutants import Family, Inputs, draw, indices
from torch import Tensor
from torch.nn import grad as NG

__all__ = ["FAMILIES"]

Gradients = tuple[Tensor | None, ...]
GROUPS, EPS = 2, 1e-5


# --- normalisations ------------------------------------------------------------------------------------------------------
def _group_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.group_norm(x, GROUPS, w, b, EPS)


def _group_norm_back(g: Tensor, x: Tensor, w: Tensor, b: Tensor, slip: str) -> Gradients:
    n, c, length = x.shape
    v = x.reshape(n, GROUPS, -1)
    m, r = v.mean(-1, keepdim=True), torch.rsqrt(v.var(-1, keepdim=True, unbiased=False) + EPS)
    h = (v - m) * r
    gw = g if slip == "weight left out of dx" else g * w[:, None]
    d = gw.reshape(n, GROUPS, -1)
    count = c * length if slip == "size of all channels for that of a group" else c * length // GROUPS
    first, second = d.sum(-1, keepdim=True) / count, (d * h).sum(-1, keepdim=True) / count
    if slip == "mean's path forgotten":
        first = torch.zeros_like(first)
    dx = (r * (d - first - (second if slip == "normalised input forgotten" else h * second))).reshape(x.shape)
    dw = (g * h.reshape(x.shape)).sum((0, 2))
    if slip == "weight gradient at the input":
        dw = (g * x).sum((0, 2))
    return dx, dw, g.sum(2).mean(0) if slip == "bias averaged over the batch" else g.sum((0, 2))


def _group_norm_in(size: int) -> Inputs:
    n, c, s = ((2, 4, 8), (5, 10, 80), (10, 20, 200))[size]
    return draw(n, c, s), draw(c), draw(c, seed=1)


def _rms(x: Tensor, w: Tensor) -> Tensor:
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * w


def _rms_back(g: Tensor, x: Tensor, w: Tensor, slip: str) -> Gradients:
    s = x.pow(2).mean(-1, keepdim=True)
    r = 1 / (s.sqrt() + EPS) if slip == "epsilon outside the root" else torch.rsqrt(s + EPS)
    d = g * w
    inner = (d * x).sum(-1, keepdim=True) if slip == "sum for the mean" else (d * x).mean(-1, keepdim=True)
    cube = r**2 if slip == "square for the cube" else r**3
    dx = d * r - x * cube * inner
    if slip == "root mean square held fixed":
        dx = d * r
    if slip == "sign of the second term":
        dx = d * r + x * cube * inner
    return dx, (g * x * (1 if slip == "not normalised for the weight" else r)).sum(0)


def _rms_in(size: int) -> Inputs:
    n, d = ((10, 10), (50, 100), (250, 200))[size]
    return draw(n, d), draw(d)


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1, eps=0.1)


def _unit_back(g: Tensor, x: Tensor, slip: str) -> Gradients:
    n = x.norm(dim=-1, keepdim=True)
    y = x / n.clamp(min=0.1)
    along = (g * y).sum(-1, keepdim=True)
    if slip == "not divided by the norm":
        return (g - y * along,)
    if slip == "projection on the input":
        return ((g - x * along) / n.clamp(min=0.1),)
    if slip == "short vectors projected too":
        return ((g - y * along) / n.clamp(min=0.1),)
    inside = (n > 0.1).to(x.dtype)
    return ((g if slip == "norm held fixed" else g - inside * y * along) / n.clamp(min=0.1),)


def _unit_in(size: int) -> Inputs:
    return (draw(*((12, 8), (100, 50), (500, 100))[size]),)


# --- gated layers and cells ----------------------------------------------------------------------------------------------------
def _phi(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def _geglu(x: Tensor, w: Tensor, u: Tensor, v: Tensor) -> Tensor:
    return (F.gelu(x @ w) * (x @ u)) @ v


def _geglu_back(g: Tensor, x: Tensor, w: Tensor, u: Tensor, v: Tensor, slip: str) -> Gradients:
    s, up = x @ w, x @ u
    gate = F.gelu(s)
    density = torch.exp(-s * s / 2) / math.sqrt(2 * math.pi)
    slope = _phi(s) + s * density
    if slip == "density term dropped":
        slope = _phi(s)
    if slip == "sigmoid form of the slope":
        t = torch.sigmoid(1.702 * s)
        slope = t + 1.702 * s * t * (1 - t)
    if slip == "density without its constant":
        slope = _phi(s) + s * torch.exp(-s * s / 2)
    dh = g @ (v if slip == "output matrix not transposed" else v.T)
    ds = dh * (gate if slip == "gate for the other half" else up) * slope
    du = dh * (s if slip == "gate before its activation" else gate)
    dx = ds @ w.T if slip == "one path to the input dropped" else ds @ w.T + du @ u.T
    dv = (gate * up).T @ g
    return dx, x.T @ ds, x.T @ du, dv / len(x) if slip == "mean over the batch" else dv


def _geglu_in(size: int) -> Inputs:
    n, d = ((3, 5), (20, 35), (80, 100))[size]
    return draw(n, d), draw(d, d) / d**0.5, draw(d, d, seed=1) / d**0.5, draw(d, d, seed=2) / d**0.5


def _lstm(x: Tensor, h: Tensor, c: Tensor, w: Tensor, u: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    i, f, k, o = (x @ w.T + h @ u.T + b).chunk(4, -1)
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(k)
    return torch.sigmoid(o) * torch.tanh(new), new


def _lstm_back(
    g: tuple[Tensor, Tensor], x: Tensor, h: Tensor, c: Tensor, w: Tensor, u: Tensor, b: Tensor, slip: str
) -> Gradients:
    gh, gc = g
    i, f, k, o = (x @ w.T + h @ u.T + b).chunk(4, -1)
    i, f, k, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(k), torch.sigmoid(o)
    new = f * c + i * k
    t = torch.tanh(new)
    dc = gh * o * (1 - new**2 if slip == "slope of tanh at the wrong place" else 1 - t**2)
    dc = dc if slip == "the cell's own gradient ignored" else dc + gc
    df = dc * (new if slip == "new cell for the old one" else c)
    do = gh * (new if slip == "tanh forgotten in the output gate" else t)
    do = do if slip == "slope of the output gate forgotten" else do * o * (1 - o)
    gates = [dc * k * i * (1 - i), df * f * (1 - f), dc * i * (1 - k**2), do]
    if slip == "gates in another order":
        gates[2], gates[3] = gates[3], gates[2]
    d = torch.cat(gates, -1)
    dh = d @ (w if slip == "input weights for the recurrent ones" else u)
    return d @ w, dh, dc if slip == "forget gate left out" else dc * f, d.T @ x, d.T @ h, d.sum(0)


def _lstm_in(size: int) -> Inputs:
    n, d = ((2, 3), (10, 22), (40, 70))[size]
    return (draw(n, d), draw(n, d, seed=1), draw(n, d, seed=2), draw(4 * d, d) / d**0.5, draw(4 * d, d, seed=1) / d**0.5,
            draw(4 * d))  # fmt: skip


def _gru(x: Tensor, h: Tensor, w: Tensor, u: Tensor) -> Tensor:
    (r, z, n), (a, b, c) = (x @ w).chunk(3, 1), (h @ u).chunk(3, 1)
    r, z = torch.sigmoid(r + a), torch.sigmoid(z + b)
    return (1 - z) * torch.tanh(n + r * c) + z * h


def _gru_back(g: Tensor, x: Tensor, h: Tensor, w: Tensor, u: Tensor, slip: str) -> Gradients:
    (r, z, n), (a, b, c) = (x @ w).chunk(3, 1), (h @ u).chunk(3, 1)
    r, z = torch.sigmoid(r + a), torch.sigmoid(z + b)
    n = torch.tanh(n + r * c)
    dn = g * (z if slip == "update gate exchanged" else 1 - z) * (1 - n**2)
    dz = g * (n - h if slip == "difference the wrong way round" else h - n) * z * (1 - z)
    dr = dn * c * r * (1 - r)
    inner = dn if slip == "reset gate left out" else dn * r
    dw, du = torch.cat([dr, dz, dn], 1), torch.cat([dr, dz, inner], 1)
    dh = du @ u.T
    dh = dh if slip == "the direct path dropped" else dh + g * z
    last = du if slip == "hidden part for the input part" else dw
    return dw @ w.T, dh, x.T @ last, h.T @ du


def _gru_in(size: int) -> Inputs:
    n, d = ((2, 4), (10, 26), (50, 85))[size]
    return draw(n, d), draw(n, d, seed=1), draw(d, 3 * d) / d**0.5, draw(d, 3 * d, seed=1) / d**0.5


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _causal_back(g: Tensor, q: Tensor, k: Tensor, v: Tensor, slip: str) -> Gradients:
    t, root = q.shape[-2], math.sqrt(q.shape[-1])
    mask = torch.ones(t, t, dtype=torch.bool).tril(1 if slip == "mask off by one" else 0)
    s = q @ k.transpose(-1, -2) / root
    p = torch.softmax(s if slip == "mask forgotten" else s.masked_fill(~mask, -math.inf), -1)
    dp = g @ v.transpose(-1, -2)
    axis = -2 if slip == "sum down the columns" else -1
    ds = p * (dp - (dp * p).sum(axis, keepdim=True))
    dq, dk = ds @ k / root, ds.transpose(-1, -2) @ q / root
    if slip == "scale forgotten for the keys":
        dk = dk * root
    if slip == "scale of the sequence":
        dq = dq * root / math.sqrt(t)
    return dq, dk, (s.softmax(-1) if slip == "scores without the mask for the values" else p).transpose(-1, -2) @ g


def _causal_in(size: int) -> Inputs:
    b, h, t, d = ((1, 2, 4, 5), (2, 4, 12, 18), (4, 8, 20, 26))[size]
    return draw(b, h, t, d), draw(b, h, t, d, seed=1), draw(b, h, t, d, seed=2)


# --- losses -----------------------------------------------------------------------------------------------------------------------
def _kl(x: Tensor, t: Tensor) -> Tensor:
    return F.kl_div(torch.log_softmax(x, 1), torch.softmax(t, 1), reduction="batchmean")


def _kl_back(g: Tensor, x: Tensor, t: Tensor, slip: str) -> Gradients:
    p, q = torch.softmax(x, 1), torch.softmax(t, 1)
    n = x.numel() if slip == "mean for batchmean" else len(x)
    ratio = q.log() if slip == "other logarithm dropped" else q.log() - p.log()
    dt = q * ratio if slip == "softmax of the target forgotten" else q * (ratio - (q * ratio).sum(1, keepdim=True))
    dx = (q - p if slip == "direction" else p if slip == "target dropped" else p - q) * g / n
    return dx, dt * g / n


def _kl_in(size: int) -> Inputs:
    n, c = ((8, 8), (50, 50), (250, 100))[size]
    return draw(n, c), draw(n, c, seed=1)


def _focal(x: Tensor, y: Tensor) -> Tensor:
    p = torch.sigmoid(x)
    pt = torch.where(y > 0, p, 1 - p)
    return -(torch.where(y > 0, 0.25, 0.75) * (1 - pt) ** 2 * pt.log()).mean()


def _focal_back(g: Tensor, x: Tensor, y: Tensor, slip: str) -> Gradients:
    p = torch.sigmoid(x)
    pt = torch.where(y > 0, p, 1 - p)
    alpha = torch.where(y > 0, 0.25, 0.25 if slip == "the same alpha for both" else 0.75)
    modulating = torch.zeros_like(pt) if slip == "modulating factor held fixed" else 2 * (1 - pt) * pt.log()
    if slip == "gamma not brought down":
        modulating = modulating / 2
    power = 1 - pt if slip == "one power too few" else (1 - pt) ** 2
    d = alpha * (modulating - power / pt) * p * (1 - p)
    d = d if slip == "sign of the negatives" else torch.where(y > 0, d, -d)
    return g * d / (len(x) if slip == "mean over the batch alone" else x.numel()), None


def _focal_in(size: int) -> Inputs:
    n, c = ((10, 8), (100, 50), (500, 100))[size]
    return draw(n, c), indices(2, n, c).double()


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a, b, dim=1)


def _cosine_back(g: Tensor, a: Tensor, b: Tensor, slip: str) -> Gradients:
    na, nb = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    s, g = (a * b).sum(1, keepdim=True) / (na * nb), g[:, None]
    square = na if slip == "norm not squared" else nb**2 if slip == "norms exchanged" else na**2
    da = g * (b / (na * nb) - (0 if slip == "second term dropped" else s * a / square))
    other = b if slip == "the same vector twice" else a
    return da, g * (other / (na * nb) - s * b / nb**2)


def _cosine_in(size: int) -> Inputs:
    n, d = ((6, 8), (50, 50), (250, 100))[size]
    return draw(n, d), draw(n, d, seed=1)


def _triplet(a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    return F.triplet_margin_loss(a, p, n, margin=1.0, eps=0.0)


def _triplet_back(g: Tensor, a: Tensor, p: Tensor, n: Tensor, slip: str) -> Gradients:
    near, far = (a - p).norm(dim=1, keepdim=True), (a - n).norm(dim=1, keepdim=True)
    on = (near - far + 1 > 0).to(a.dtype)
    on = torch.ones_like(on) if slip == "inactive triplets counted" else on
    over = on.sum() if slip == "mean over the active ones" else len(a)
    up = (a - p) / (near**2 if slip == "norm twice" else near)
    un = (a - n) / far
    da = up if slip == "negative left out" else up + un if slip == "sign of the negative" else up - un
    return g * on * da / over, -g * on * up / over, g * on * un / over


def _triplet_in(size: int) -> Inputs:
    n, d = ((8, 5), (40, 50), (200, 90))[size]
    return draw(n, d), draw(n, d, seed=1), draw(n, d, seed=2)


def _quantile(x: Tensor, t: Tensor) -> Tensor:
    e = t - x
    return torch.maximum(0.9 * e, -0.1 * e).mean()


def _quantile_back(g: Tensor, x: Tensor, t: Tensor, slip: str) -> Gradients:
    low, high = (0.9, 0.1) if slip == "the two sides exchanged" else (0.1, 0.9)
    d = torch.where(t > x, torch.full_like(x, -high), low)
    d = d * (t - x).abs() if slip == "squared" else -d.abs() if slip == "one sign" else d
    return g * d / (1 if slip == "sum for the mean" else x.numel()), None


def _quantile_in(size: int) -> Inputs:
    n = (100, 5000, 50000)[size]
    return draw(n), draw(n, seed=1)


def _tempered(x: Tensor) -> Tensor:
    return torch.log_softmax(x / 3, -1)


def _tempered_back(g: Tensor, x: Tensor, slip: str) -> Gradients:
    p = torch.softmax(x if slip == "temperature left out of the probabilities" else x / 3, -1)
    s = g.mean(-1, keepdim=True) if slip == "mean for the sum" else g.sum(-1, keepdim=True)
    d = g - p if slip == "the sum left out" else g - p * s
    d = p * (g - (p * g).sum(-1, keepdim=True)) if slip == "softmax for its logarithm" else d
    return (d * 3 if slip == "temperature multiplied" else d / 3,)


def _tempered_in(size: int) -> Inputs:
    return (draw(*((10, 10), (50, 100), (250, 200))[size]),)


# --- convolutions, pools, pictures ----------------------------------------------------------------------------------------------
def _strided(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.conv1d(x, w, b, stride=2, padding=2, dilation=2)


def _strided_back(g: Tensor, x: Tensor, w: Tensor, b: Tensor, slip: str) -> Gradients:
    kernel = w.flip(2) if slip == "kernel reversed" else w.transpose(0, 1).contiguous() if slip == "channels" else w
    dx = NG.conv1d_input(x.shape, kernel, g, stride=2, padding=2, dilation=2)
    if slip == "one sample alone for the weights":
        x, g = x[:1], g[:1]
    dw = NG.conv1d_weight(x, w.shape, g, stride=2, padding=2, dilation=2)
    if slip == "padding off by one":
        dx = dx.roll(1, 2)
    return dx, dw, g.sum(0).mean(-1) if slip == "bias averaged over the length" else g.sum((0, 2))


def _strided_in(size: int) -> Inputs:
    n, c, s = ((2, 3, 11), (4, 8, 140), (8, 16, 370))[size]
    return draw(n, c, s), draw(c, c, 3), draw(c)


def _transposed(x: Tensor, w: Tensor) -> Tensor:
    return F.conv_transpose2d(x, w, stride=2)


def _transposed_back(g: Tensor, x: Tensor, w: Tensor, slip: str) -> Gradients:
    kernel = w.flip(2, 3) if slip == "kernel flipped" else w.transpose(2, 3) if slip == "height and width" else w
    dx = F.conv2d(g, kernel, stride=2)
    dw = NG.conv2d_weight(g, w.shape, x, stride=2)
    if slip == "channels of the weights exchanged":
        dw = dw.transpose(0, 1).contiguous()
    return dx, dw.flip(2, 3) if slip == "weight gradient flipped" else dw


def _transposed_in(size: int) -> Inputs:
    n, c, s = ((2, 2, 4), (2, 8, 17), (3, 16, 32))[size]
    return draw(n, c, s, s), draw(c, c, 3, 3)


def _mean_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)


def _mean_pool_back(g: Tensor, x: Tensor, slip: str) -> Gradients:
    ones = F.avg_pool2d(torch.ones_like(x), 3, 2, 1, divisor_override=1)
    count = 9 * torch.ones_like(ones) if slip == "padding counted" else ones
    g = g if slip == "not divided" else g / count
    d = F.fold(g.reshape(-1, 1, g[0, 0].numel()).expand(-1, 9, -1), tuple(x.shape[2:]), 3, padding=1, stride=2).reshape(
        x.shape
    )
    return (d.roll(1, -1) if slip == "a column late" else d,)


def _mean_pool_in(size: int) -> Inputs:
    return (draw(*((1, 2, 7, 7), (2, 8, 17, 17), (4, 8, 39, 39))[size]),)


def _adaptive(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool1d(x, 5)


def _adaptive_back(g: Tensor, x: Tensor, slip: str) -> Gradients:
    n, d = x.shape[-1], torch.zeros_like(x)
    for k in range(5):
        low, high = k * n // 5, -(-(k + 1) * n // 5)
        part = (g[..., k] / (n / 5 if slip == "equal bins" else high - low))[..., None]
        if slip == "bins overwrite one another":
            d[..., low:high] = part
        elif slip == "last of each bin left out":
            d[..., low : high - 1] += part
        else:
            d[..., low:high] += part
    return (d,)


def _adaptive_in(size: int) -> Inputs:
    return (draw(*((2, 4, 12), (5, 25, 42), (10, 50, 103))[size]),)


def _sliding(x: Tensor) -> Tensor:
    return F.max_pool1d(x, 3, 1)


def _sliding_back(g: Tensor, x: Tensor, slip: str) -> Gradients:
    windows = x.unfold(2, 3, 1)
    best = windows.argmax(-1) + torch.arange(g.shape[2])
    d = torch.zeros_like(x)
    if slip == "windows overwrite one another":
        return (d.scatter(2, best, g),)
    if slip == "offset of the window forgotten":
        return (d.scatter_add(2, windows.argmax(-1), g),)
    if slip == "shared among the window":
        return (d.scatter_add(2, best, g / 3),)
    return (d.scatter_add(2, best, g),)


def _sliding_in(size: int) -> Inputs:
    return (draw(*((2, 4, 12), (5, 25, 42), (10, 50, 103))[size]),)


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="linear", align_corners=False)


def _upsample_back(g: Tensor, x: Tensor, slip: str) -> Gradients:
    even, odd = g[..., ::2], g[..., 1::2]
    near, far = (0.25, 0.75) if slip == "weights exchanged" else (0.5, 0.5) if slip == "equal weights" else (0.75, 0.25)
    d = near * (even + odd)
    if slip == "nearest":
        return (even + odd,)
    d[..., :-1] += far * even[..., 1:]
    d[..., 1:] += far * odd[..., :-1]
    if slip != "border":
        d[..., 0] += far * even[..., 0]
        d[..., -1] += far * odd[..., -1]
    return (d,)


def _upsample_in(size: int) -> Inputs:
    return (draw(*((2, 4, 12), (5, 25, 42), (10, 50, 103))[size]),)


# --- sums, tables, matrices ---------------------------------------------------------------------------------------------------------
def _lse(x: Tensor) -> Tensor:
    return torch.logsumexp(x, 1)


def _lse_back(g: Tensor, x: Tensor, slip: str) -> Gradients:
    e = (x - x.max(1, keepdim=True).values).exp()
    p = e if slip == "not normalised" else e / e.sum(0 if slip == "normalised over the other axis" else 1, keepdim=True)
    if slip == "the largest alone":
        p = (x == x.max(1, keepdim=True).values).to(x.dtype)
    return (p if slip == "output's gradient left out" else p * g[:, None],)


def _lse_in(size: int) -> Inputs:
    return (draw(*((10, 10), (50, 100), (250, 200))[size]),)


def _cumsum(x: Tensor) -> Tensor:
    return x.cumsum(1)


def _cumsum_back(g: Tensor, x: Tensor, slip: str) -> Gradients:
    if slip == "from the front":
        return (g.cumsum(1),)
    axis = 0 if slip == "along the other axis" else 1
    d = g.flip(axis).cumsum(axis).flip(axis)
    return (d - g if slip == "without the entry itself" else g.flip(1).cumsum(1) if slip == "not flipped back" else d,)


def _cumsum_in(size: int) -> Inputs:
    return (draw(*((10, 10), (50, 100), (250, 200))[size]),)


def _bag(table: Tensor, index: Tensor) -> Tensor:
    return F.embedding_bag(index, table, mode="mean")


def _bag_back(g: Tensor, table: Tensor, index: Tensor, slip: str) -> Gradients:
    bags, size = index.shape
    g = g.roll(1, 0) if slip == "bags shifted" else g
    part = (g / (1 if slip == "sum for the mean" else bags if slip == "number of bags" else size)).repeat_interleave(
        size, 0
    )
    d = torch.zeros_like(table)
    if slip == "repeated words overwrite":
        d[index.reshape(-1)] = part
        return d, None
    d = d.index_add(0, index.reshape(-1), part)
    return (d * (torch.arange(len(d)) > 0)[:, None] if slip == "row 0 taken for padding" else d), None


def _bag_in(size: int) -> Inputs:
    n, d, bags = ((12, 6, 8), (250, 20, 100), (1000, 50, 400))[size]
    return draw(n, d), indices(n, bags, 4)


def _bilinear(x: Tensor, a: Tensor, y: Tensor) -> Tensor:
    return torch.einsum("bi,ij,bj->b", x, a, y)


def _bilinear_back(g: Tensor, x: Tensor, a: Tensor, y: Tensor, slip: str) -> Gradients:
    dx = (g[:, None] * y) @ (a if slip == "matrix not transposed" else a.T)
    da = (g[:, None] * x).T @ y
    da = (da + da.T) / 2 if slip == "made symmetric" else da.T if slip == "outer product turned" else da
    return dx, da, (x @ a) if slip == "output's gradient left out" else g[:, None] * (x @ a)


def _bilinear_in(size: int) -> Inputs:
    n, d = ((6, 6), (30, 50), (150, 120))[size]
    return draw(n, d), draw(d, d), draw(n, d, seed=1)


def _softplus(x: Tensor) -> Tensor:
    return F.softplus(x, beta=2.0, threshold=3.0)


def _softplus_back(g: Tensor, x: Tensor, slip: str) -> Gradients:
    s = torch.sigmoid(x if slip == "beta left out" else 2 * x)
    s = 2 * s if slip == "beta multiplied" else s * (1 - s) if slip == "slope of the sigmoid" else s
    bound = 3.0 if slip == "threshold without beta" else 1.5
    return (g * torch.where(x > bound, torch.zeros_like(x) if slip == "cut off" else torch.ones_like(x), s),)


def _softplus_in(size: int) -> Inputs:
    return (draw((100, 5000, 50000)[size]),)


def _graph(x: Tensor, w: Tensor, a: Tensor) -> Tensor:
    return (a / a.sum(1, keepdim=True)) @ (x @ w)


def _graph_back(g: Tensor, x: Tensor, w: Tensor, a: Tensor, slip: str) -> Gradients:
    p = a / a.sum(1, keepdim=True)
    if slip == "degrees of the other side":
        p = a / a.sum(0, keepdim=True)
    t = a.T if slip == "degrees left out" else p if slip == "adjacency not transposed" else p.T
    d = t @ g
    dw = (p @ x).T @ d if slip == "neighbours averaged twice" else x.T @ d
    return d @ w.T, dw, None


def _graph_in(size: int) -> Inputs:
    n, d = ((8, 8), (60, 55), (250, 150))[size]
    adjacency = (draw(n, n) > 0.5).double() + torch.eye(n, dtype=torch.float64)
    return draw(n, d), draw(d, d) / d**0.5, adjacency


FAMILIES = (
    Family("GroupNorm", _group_norm, _group_norm_back, _group_norm_in, (
        "weight left out of dx", "size of all channels for that of a group", "mean's path forgotten",
        "normalised input forgotten", "weight gradient at the input", "bias averaged over the batch")),
    Family("RMSNorm", _rms, _rms_back, _rms_in, (
        "epsilon outside the root", "sum for the mean", "square for the cube", "root mean square held fixed",
        "sign of the second term", "not normalised for the weight")),
    Family("Normalize", _unit, _unit_back, _unit_in, (
        "not divided by the norm", "projection on the input", "short vectors projected too", "norm held fixed")),
    Family("GEGLU", _geglu, _geglu_back, _geglu_in, (
        "density term dropped", "sigmoid form of the slope", "density without its constant", "output matrix not transposed",
        "gate for the other half", "gate before its activation", "one path to the input dropped", "mean over the batch")),
    Family("LSTMCell", _lstm, _lstm_back, _lstm_in, (
        "slope of tanh at the wrong place", "the cell's own gradient ignored", "new cell for the old one",
        "tanh forgotten in the output gate", "slope of the output gate forgotten", "gates in another order",
        "input weights for the recurrent ones", "forget gate left out")),
    Family("GRUCell", _gru, _gru_back, _gru_in, (
        "update gate exchanged", "difference the wrong way round", "reset gate left out", "the direct path dropped",
        "hidden part for the input part")),
    Family("CausalAttention", _causal, _causal_back, _causal_in, (
        "mask off by one", "mask forgotten", "sum down the columns", "scale forgotten for the keys",
        "scale of the sequence", "scores without the mask for the values")),
    Family("KLDivergence", _kl, _kl_back, _kl_in, (
        "mean for batchmean", "other logarithm dropped", "softmax of the target forgotten", "direction", "target dropped")),
    Family("FocalLoss", _focal, _focal_back, _focal_in, (
        "the same alpha for both", "modulating factor held fixed", "gamma not brought down", "one power too few",
        "sign of the negatives", "mean over the batch alone"), (1,)),
    Family("CosineSimilarity", _cosine, _cosine_back, _cosine_in, (
        "norm not squared", "norms exchanged", "second term dropped", "the same vector twice")),
    Family("TripletMargin", _triplet, _triplet_back, _triplet_in, (
        "inactive triplets counted", "mean over the active ones", "norm twice", "negative left out", "sign of the negative")),
    Family("QuantileLoss", _quantile, _quantile_back, _quantile_in, (
        "the two sides exchanged", "squared", "one sign", "sum for the mean"), (1,)),
    Family("TemperedLogSoftmax", _tempered, _tempered_back, _tempered_in, (
        "temperature left out of the probabilities", "mean for the sum", "the sum left out", "softmax for its logarithm",
        "temperature multiplied")),
    Family("StridedConvolution", _strided, _strided_back, _strided_in, (
        "kernel reversed", "channels", "one sample alone for the weights", "padding off by one",
        "bias averaged over the length")),
    Family("TransposedConvolution", _transposed, _transposed_back, _transposed_in, (
        "kernel flipped", "height and width", "channels of the weights exchanged", "weight gradient flipped")),
    Family("AveragePool", _mean_pool, _mean_pool_back, _mean_pool_in, ("padding counted", "not divided", "a column late")),
    Family("AdaptivePool", _adaptive, _adaptive_back, _adaptive_in, (
        "equal bins", "bins overwrite one another", "last of each bin left out")),
    Family("SlidingMax", _sliding, _sliding_back, _sliding_in, (
        "windows overwrite one another", "offset of the window forgotten", "shared among the window")),
    Family("Upsample", _upsample, _upsample_back, _upsample_in, ("weights exchanged", "equal weights", "nearest", "border")),
    Family("LogSumExp", _lse, _lse_back, _lse_in, (
        "not normalised", "normalised over the other axis", "the largest alone", "output's gradient left out")),
    Family("CumulativeSum", _cumsum, _cumsum_back, _cumsum_in, (
        "from the front", "along the other axis", "without the entry itself", "not flipped back")),
    Family("EmbeddingBag", _bag, _bag_back, _bag_in, (
        "bags shifted", "sum for the mean", "number of bags", "repeated words overwrite", "row 0 taken for padding")),
    Family("BilinearForm", _bilinear, _bilinear_back, _bilinear_in, (
        "matrix not transposed", "made symmetric", "outer product turned", "output's gradient left out")),
    Family("Softplus", _softplus, _softplus_back, _softplus_in, (
        "beta left out", "beta multiplied", "slope of the sigmoid", "threshold without beta", "cut off")),
    Family("GraphConvolution", _graph, _graph_back, _graph_in, (
        "degrees of the other side", "degrees left out", "adjacency not transposed", "neighbours averaged twice"), (2,)),
)  # fmt: skip
