"""Small networks of every kind that the derivations, and whoever else wants them, are tried on: (model, inputs, loss, targets)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["NETWORKS", "Network", "build"]


@dataclass(frozen=True)
class Network:
    """A model in float64 with its inputs; what the loss compares with."""

    model: nn.Module
    inputs: tuple[Tensor, ...]
    loss: Any = None
    targets: Tensor | None = None


NETWORKS: dict[str, Callable[[], Network]] = {}


def network(name: str) -> Callable[[Callable[[], Network]], Callable[[], Network]]:
    def add(make: Callable[[], Network]) -> Callable[[], Network]:
        NETWORKS[name] = make
        return make

    return add


def build(name: str, seed: int = 0) -> Network:
    """The network of this name with weights from a seed, in float64."""
    torch.manual_seed(seed)
    made = NETWORKS[name]()
    made.model.double()
    return made


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def _mlp(activation: Callable[[], nn.Module], depth: int = 3, width: int = 3) -> Network:
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), activation())]
    return Network(nn.Sequential(*layers, nn.Linear(width, 2)), (rand(4, width),), "mse", rand(4, 2))


for _activation in ("Sigmoid", "Tanh", "ReLU", "GELU", "SiLU", "Softplus", "ELU", "LeakyReLU", "Hardtanh", "Mish"):
    network(f"mlp-{_activation.lower()}")(lambda kind=_activation: _mlp(getattr(nn, kind)))  # type: ignore[misc]


@network("classifier")
def _classifier() -> Network:
    return Network(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), (rand(6, 4),), "cross_entropy",
                   torch.randint(0, 3, (6,)))  # fmt: skip


class Hinge(nn.Module):
    """A linear classifier with the multi-class hinge loss, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        o = self.fc(x)
        own = o[:, :1]
        gaps = torch.relu(o[:, 1:] - own + 1)
        return gaps.sum(1).mean()


@network("hinge")
def _hinge() -> Network:
    return Network(Hinge(), (rand(5, 4),))


class ConvNet(nn.Module):
    """Two convolutions with pooling, and a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3, padding=1)
        self.conv2 = nn.Conv2d(2, 3, 3, stride=2)
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        z1 = F.max_pool2d(torch.relu(self.conv1(x)), 2)
        z2 = torch.relu(self.conv2(z1))
        pooled = z2.mean((2, 3))
        return self.fc(pooled)


@network("convnet")
def _convnet() -> Network:
    return Network(ConvNet(), (rand(2, 1, 8, 8),), "cross_entropy", torch.tensor([0, 1]))


class ResidualBlock(nn.Module):
    """out R2(Residual(x) + Skip(x)), as in He et al. (2016)."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.skip = nn.Identity() if before == after else nn.Conv2d(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.bn1(self.conv1(x)))
        r = self.bn2(self.conv2(h))
        return torch.relu(r + self.skip(x))


@network("resnet")
def _resnet() -> Network:
    model = nn.Sequential(ResidualBlock(2, 2), ResidualBlock(2, 2), ResidualBlock(2, 3, 2), nn.AdaptiveAvgPool2d(1),
                          nn.Flatten(), nn.Linear(3, 2))  # fmt: skip
    return Network(model, (rand(2, 2, 4, 4),), "cross_entropy", torch.tensor([0, 1]))


@network("batch-norm")
def _batch_norm() -> Network:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    return Network(model, (rand(6, 3),), "mse", rand(6, 2))


@network("batch-norm-eval")
def _batch_norm_eval() -> Network:
    made = _batch_norm()
    made.model.eval()
    return made


@network("layer-norm")
def _layer_norm() -> Network:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 2))
    return Network(model, (rand(5, 3),), "mse", rand(5, 2))


class RMSNorm(nn.Module):
    """x / √(mean x² + ε) times a gain, by hand (Zhang and Sennrich, 2019)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(size) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        return x * scale * self.gain


@network("rms-norm")
def _rms_norm() -> Network:
    return Network(nn.Sequential(nn.Linear(3, 4), RMSNorm(4), nn.Linear(4, 2)), (rand(5, 3),), "mse", rand(5, 2))


@network("rms-norm-torch")
def _rms_norm_torch() -> Network:
    return Network(nn.Sequential(nn.Linear(3, 4), nn.RMSNorm(4), nn.Linear(4, 2)), (rand(5, 3),), "mse", rand(5, 2))


class Attention(nn.Module):
    """softmax(Q Kᵀ / √d) V for one sequence, by hand (Vaswani et al., 2017, equation 1)."""

    def __init__(self, d: int = 3) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(d, d, bias=False) for _ in range(3))
        self.d = d

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        scores = q @ k.transpose(-2, -1) / self.d**0.5
        p = torch.softmax(scores, -1)
        return p @ v


@network("attention")
def _attention() -> Network:
    return Network(Attention(), (rand(4, 3),), "mse", rand(4, 3))


class Fused(nn.Module):
    """Two heads of torch's own attention with a causal mask, in a residual branch."""

    def __init__(self, d: int = 4, heads: int = 2) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = (part.view(n, t, self.heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(y.transpose(1, 2).reshape(n, t, d))


@network("attention-fused")
def _fused() -> Network:
    return Network(Fused(), (rand(2, 3, 4),), "mse", rand(2, 3, 4))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, d: int = 4) -> None:
        super().__init__()
        self.ln1, self.attention, self.ln2 = nn.LayerNorm(d), Fused(d), nn.LayerNorm(d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Transformer(nn.Module):
    """Token and position embeddings, blocks, a head."""

    def __init__(self, depth: int = 2, d: int = 4, words: int = 7) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(words, d), nn.Parameter(torch.randn(3, d) / 4)
        self.blocks = nn.ModuleList(Block(d) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, words)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).flatten(0, 1)


@network("transformer")
def _transformer() -> Network:
    return Network(Transformer(), (torch.randint(0, 7, (2, 3)),), "cross_entropy", torch.randint(0, 7, (6,)))


@network("encoder-layer")
def _encoder_layer() -> Network:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    return Network(layer, (rand(2, 3, 4),), "mse", rand(2, 3, 4))


class Words(nn.Module):
    """The mean of a text's word vectors, classified."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc = nn.Embedding(6, 3), nn.Linear(3, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fc(self.embedding(ids).mean(1))


@network("embedding")
def _embedding() -> Network:
    return Network(Words(), (torch.randint(0, 6, (4, 3)),), "cross_entropy", torch.randint(0, 2, (4,)))


class UNet(nn.Module):
    """Down, up by a transposed convolution, and joined with the skip."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.up, self.last = nn.ConvTranspose2d(3, 2, 2, stride=2), nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = torch.relu(self.down1(x))
        low = torch.relu(self.down2(skip))
        up = self.up(low)
        return self.last(torch.cat([up, skip], 1))


@network("u-net")
def _unet() -> Network:
    return Network(UNet(), (rand(1, 1, 6, 6),), "mse", rand(1, 1, 6, 6))


class LSTMCell(nn.Module):
    """Two steps of a long short-term memory cell, by hand (Hochreiter and Schmidhuber, 1997, with a forget gate)."""

    def __init__(self) -> None:
        super().__init__()
        self.wx, self.wh, self.out = nn.Linear(2, 12), nn.Linear(3, 12), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.shape[0], 3, dtype=x.dtype)
        for step in range(x.shape[1]):
            gates = self.wx(x[:, step]) + self.wh(h)
            i, f, g, o = gates.chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.out(h)


@network("lstm-cell")
def _lstm_cell() -> Network:
    return Network(LSTMCell(), (rand(3, 2, 2),), "mse", rand(3, 1))


class Recurrent(nn.Module):
    """An Elman network over four steps: one weight used at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u, self.v = nn.Linear(2, 3), nn.Linear(3, 3, bias=False), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.w(x[:, 0]))
        for step in range(1, x.shape[1]):
            h = torch.tanh(self.w(x[:, step]) + self.u(h))
        return self.v(h)


@network("recurrent")
def _recurrent() -> Network:
    return Network(Recurrent(), (rand(3, 4, 2),), "mse", rand(3, 1))


class Tied(nn.Module):
    """An autoencoder whose decoder is the transposed encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(2))

    def forward(self, x: Tensor) -> Tensor:
        z = torch.sigmoid(x @ self.w + self.b)
        return ((z @ self.w.T - x) ** 2).sum(1).mean()


@network("tied-autoencoder")
def _tied() -> Network:
    return Network(Tied(), (rand(5, 4),))


class Gated(nn.Module):
    """A gated unit: SiLU(x W) ⊙ x V, projected (Shazeer, 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.v, self.out = (nn.Linear(3, 3, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.silu(self.w(x)) * self.v(x))


@network("gated")
def _gated() -> Network:
    return Network(Gated(), (rand(4, 3),), "huber", rand(4, 3))


@network("conv1d-avgpool")
def _conv1d() -> Network:
    model = nn.Sequential(nn.Conv1d(2, 3, 3, dilation=2), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(9, 1))
    return Network(model, (rand(2, 2, 10),), "mse", rand(2, 1))


@network("depthwise")
def _depthwise() -> Network:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.SiLU(), nn.Conv2d(4, 1, 1), nn.AdaptiveAvgPool2d(2))
    return Network(model, (rand(2, 2, 6, 6),), "l1", rand(2, 1, 2, 2))
