"""Networks of the textbooks, written out small: LeNet, VGG, U-Net, DenseNet, Inception and some more."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .published_models import Specimen

__all__ = ["OWN"]


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 5), nn.Conv2d(4, 6, 5)
        self.fc1, self.fc2 = nn.Linear(6 * 4 * 4, 12), nn.Linear(12, 10)

    def forward(self, image: Tensor) -> Tensor:
        maps = F.avg_pool2d(torch.tanh(self.conv1(image)), 2)
        deeper = F.avg_pool2d(torch.tanh(self.conv2(maps)), 2)
        hidden = torch.tanh(self.fc1(deeper.flatten(1)))
        return self.fc2(hidden)


class VGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 4), (4, 6)):
            layers += [
                nn.Conv2d(before, after, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(after, after, 3, padding=1),
            ]
            layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(6 * 4 * 4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 5))

    def forward(self, image: Tensor) -> Tensor:
        features = self.features(image)
        return self.classifier(torch.flatten(features, 1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = _double(1, 4), _double(4, 6), _double(6, 8)
        self.up2, self.up1 = nn.ConvTranspose2d(8, 6, 2, stride=2), nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.join2, self.join1, self.out = _double(12, 6), _double(8, 4), nn.Conv2d(4, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.down1(image)
        coarse = self.down2(F.max_pool2d(fine, 2))
        bottom = self.bottom(F.max_pool2d(coarse, 2))
        up = self.join2(torch.cat([coarse, self.up2(bottom)], dim=1))
        up = self.join1(torch.cat([fine, self.up1(up)], dim=1))
        return self.out(up)


def _double(before: int, after: int) -> nn.Sequential:
    conv = nn.Conv2d(before, after, 3, padding=1, bias=False), nn.Conv2d(after, after, 3, padding=1, bias=False)
    return nn.Sequential(
        conv[0], nn.BatchNorm2d(after), nn.ReLU(inplace=True), conv[1], nn.GroupNorm(2, after), nn.ReLU()
    )


class DenseNet(nn.Module):
    """Every layer sees all maps before it (Huang et al. 2017)."""

    def __init__(self, growth: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(4 + growth * i), nn.ReLU(), nn.Conv2d(4 + growth * i, growth, 3, padding=1))
            for i in range(3)
        )
        self.transition = nn.Sequential(nn.BatchNorm2d(13), nn.ReLU(), nn.Conv2d(13, 6, 1), nn.AvgPool2d(2))
        self.head = nn.Linear(6, 5)

    def forward(self, image: Tensor) -> Tensor:
        maps = [self.first(image)]
        for layer in self.layers:
            maps.append(layer(torch.cat(maps, 1)))
        pooled = F.adaptive_avg_pool2d(F.relu(self.transition(torch.cat(maps, 1))), 1)
        return self.head(torch.flatten(pooled, 1))


class Inception(nn.Module):
    """Kernels of several sizes side by side (Szegedy et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 1)
        self.three = nn.Sequential(
            nn.Conv2d(3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(2, 4, (1, 3), padding=(0, 1)),
            nn.Conv2d(4, 4, (3, 1), padding=(1, 0)),
        )
        self.five = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 5, padding="same"))
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(3, 4, 1))
        self.head = nn.Linear(16, 5)

    def forward(self, image: Tensor) -> Tensor:
        branches = [self.one(image), self.three(image), self.five(image), self.pool(image)]
        joined = F.relu(torch.cat(branches, dim=1))
        return self.head(joined.mean((2, 3)))


class MixtureOfExperts(nn.Module):
    """The two likeliest of four experts, weighed by the gate (Shazeer et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(5, 4)
        self.w1, self.w2 = nn.Parameter(torch.randn(4, 5, 6)), nn.Parameter(torch.randn(4, 6, 5))

    def forward(self, x: Tensor) -> Tensor:
        share, expert = self.gate(x).softmax(-1).topk(2, dim=-1)
        hidden = F.gelu(torch.einsum("nd,nkdh->nkh", x, self.w1[expert]))
        each = torch.einsum("nkh,nkhd->nkd", hidden, self.w2[expert])
        return (share.unsqueeze(-1) * each).sum(1)


class GraphAttention(nn.Module):
    """Messages along the edges of a graph, weighed by attention and added up where they arrive (Velickovic et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.score = nn.Linear(4, 6, bias=False), nn.Linear(12, 1)
        self.register_buffer("edges", torch.tensor([[0, 1, 1, 2, 3, 3, 0], [1, 0, 2, 3, 0, 1, 3]]))

    def forward(self, x: Tensor) -> Tensor:
        source, target = self.edges[0], self.edges[1]
        h = self.lift(x)
        scores = F.leaky_relu(self.score(torch.cat([h[source], h[target]], 1)), 0.2).squeeze(1).exp()
        total = torch.zeros(4, dtype=x.dtype).index_add(0, target, scores)
        weights = scores / total[target]
        return torch.zeros_like(h).index_add(0, target, weights.unsqueeze(1) * h[source])


class StateSpace(nn.Module):
    """A gated linear recurrence written with running sums and products, as minimal state-space models have it."""

    def __init__(self) -> None:
        super().__init__()
        self.forget, self.value, self.out = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        decay = F.logsigmoid(self.forget(x)).cumsum(1)
        log_value = F.logsigmoid(self.value(x))
        log_h = decay + torch.logcumsumexp(log_value - decay, 1)
        kept = torch.sigmoid(self.forget(x)).cumprod(1)
        return self.out(log_h.exp() * kept)


class Metric(nn.Module):
    """A triplet loss over the distances of normalised embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(5, 8), nn.SiLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        z = F.normalize(self.embed(x), dim=1)
        distance = torch.cdist(z, z + 0.1)
        hardest = distance.masked_fill(torch.eye(len(x), dtype=torch.bool), -1).amax(1)
        nearest = distance.sort(dim=1).values[:, 1]
        return torch.stack([hardest - nearest, distance.diagonal()], 1)


class VisionMixer(nn.Module):
    """Patches by unfold, mixed along both axes (Tolstikhin et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.tokens, self.channels = nn.Linear(48, 8), nn.Linear(4, 4), nn.Linear(8, 8)
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)

    def forward(self, image: Tensor) -> Tensor:
        patches = F.unfold(image, 4, stride=4).transpose(1, 2)
        x = self.embed(patches)
        x = x + F.gelu(self.tokens(self.norm1(x).mT)).mT
        return x + F.gelu(self.channels(self.norm2(x)))


def _on(module: Callable[[], nn.Module], name: str, *shape: int) -> Callable[[], Specimen]:
    return lambda: Specimen(module(), {name: torch.randn(*shape, dtype=torch.float64)}, "")


OWN: dict[str, Callable[[], Specimen]] = {
    "LeNet": _on(LeNet, "image", 2, 1, 28, 28),
    "VGG": _on(VGG, "image", 2, 3, 16, 16),
    "U-Net": _on(UNet, "image", 1, 1, 8, 8),
    "DenseNet": _on(DenseNet, "image", 2, 3, 8, 8),
    "Inception": _on(Inception, "image", 2, 3, 8, 8),
    "mixture of experts": _on(MixtureOfExperts, "x", 3, 5),
    "graph attention": _on(GraphAttention, "x", 4, 4),
    "state space": _on(StateSpace, "x", 2, 6, 3),
    "metric learning": _on(Metric, "x", 5, 5),
    "MLP-Mixer": _on(VisionMixer, "image", 2, 3, 8, 8),
}
