"""The networks of the published table of receptive fields, rebuilt from their papers with one or two channels.

Padding "SAME" is TensorFlow's: as much as makes ceil(n / stride) windows, the odd one after. Each network is a chain of
``Mark``s between which layers stand; a mark is an endpoint of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["NETWORKS", "Mark", "marked"]

Sizes = tuple[int, int]


class Window(nn.Module):
    """A convolution or a pool of one channel with TensorFlow's padding."""

    def __init__(self, kernel: int | Sizes, stride: int = 1, padding: str = "SAME", pool: bool = False) -> None:
        super().__init__()
        self.kernel: Sizes = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.stride, self.padding, self.pool = stride, padding, pool
        self.weight = nn.Parameter(torch.ones(1, 1, *self.kernel), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.padding == "SAME":
            pads = [self.around(n, k) for n, k in zip(x.shape[2:], self.kernel, strict=True)]
            x = F.pad(x, [*pads[1], *pads[0]]) if any(map(any, pads)) else x
        if self.pool:
            return F.avg_pool2d(x, self.kernel, self.stride)
        return F.conv2d(x, self.weight, stride=self.stride)

    def around(self, n: int, k: int) -> Sizes:
        total = max(k - self.stride if n % self.stride == 0 else k - n % self.stride, 0)
        return total // 2, total - total // 2


class Explicit(Window):
    """(k - 1) / 2 zeros on both sides whatever the stride, as ResNets have it."""

    def around(self, n: int, k: int) -> Sizes:
        return (k - 1) // 2, k - 1 - (k - 1) // 2


class Mark(nn.Module):
    """An endpoint of the table: nothing but its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.endpoint = name

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x)


class Branches(nn.Module):
    """Ways side by side, added up (which channel a way ends in is nothing to the field)."""

    def __init__(self, *ways: Sequence[nn.Module]) -> None:
        super().__init__()
        self.ways = nn.ModuleList(nn.Sequential(*way) for way in ways)

    def forward(self, x: Tensor) -> Tensor:
        found = [way(x) for way in self.ways]
        total = found[0]
        for other in found[1:]:
            total = total + other
        return total


def c(kernel: int | Sizes, stride: int = 1, padding: str = "SAME") -> Window:
    return Window(kernel, stride, padding)


def p(kernel: int, stride: int = 1, padding: str = "SAME") -> Window:
    return Window(kernel, stride, padding, pool=True)


Chain = list[nn.Module]


# --- AlexNet and VGG -----------------------------------------------------------------------------------------------------
def alexnet() -> Chain:
    return [c(11, 4, "VALID"), Mark("conv1"), p(3, 2, "VALID"), Mark("pool1"), c(5), Mark("conv2"), p(3, 2, "VALID"), c(3),
            Mark("conv3"), c(3), Mark("conv4"), c(3), Mark("conv5"), p(3, 2, "VALID"), Mark("pool5")]  # fmt: skip


def vgg(repeats: Sequence[int]) -> Chain:
    found: Chain = []
    for stage, count in enumerate(repeats, 1):
        for layer in range(1, count + 1):
            found += [c(3), Mark(f"conv{stage}/conv{stage}_{layer}")]
        found += [p(2, 2, "VALID"), Mark(f"pool{stage}")]
    return found


# --- MobileNet and Inception v2 to v4 ----------------------------------------------------------------------------------------
def mobilenet() -> Chain:
    found: Chain = [c(3, 2), Mark("Conv2d_0")]
    for i, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), 1):
        found += [c(3, stride), c(1), Mark(f"Conv2d_{i}_pointwise")]
    return found


def inception_v2() -> Chain:
    found: Chain = [c(7, 2), Mark("Conv2d_1a_7x7"), p(3, 2), Mark("MaxPool_2a_3x3"), c(1), Mark("Conv2d_2b_1x1"), c(3),
                    Mark("Conv2d_2c_3x3"), p(3, 2), Mark("MaxPool_3a_3x3")]  # fmt: skip
    for name in ("3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b", "5c"):
        if name in ("4a", "5a"):
            block = Branches([c(1), c(3, 2)], [c(1), c(3), c(3, 2)], [p(3, 2)])
        else:
            block = Branches([c(1)], [c(1), c(3)], [c(1), c(3), c(3)], [p(3), c(1)])
        found += [block, Mark(f"Mixed_{name}")]
    return found


ROW, COLUMN = (1, 7), (7, 1)


def stem(padding: str) -> Chain:
    return [
        c(3, 2, padding),
        Mark("Conv2d_1a_3x3"),
        c(3, 1, padding),
        Mark("Conv2d_2a_3x3"),
        c(3),
        Mark("Conv2d_2b_3x3"),
    ]


def long_stem(padding: str) -> Chain:
    return [*stem(padding), p(3, 2, padding), Mark("MaxPool_3a_3x3"), c(1, 1, padding), Mark("Conv2d_3b_1x1"),
            c(3, 1, padding), Mark("Conv2d_4a_3x3"), p(3, 2, padding), Mark("MaxPool_5a_3x3")]  # fmt: skip


def inception_v3() -> Chain:
    found = long_stem("VALID")
    for name in "bcd":
        found += [Branches([c(1)], [c(1), c(5)], [c(1), c(3), c(3)], [p(3), c(1)]), Mark(f"Mixed_5{name}")]
    found += [Branches([c(3, 2, "VALID")], [c(1), c(3), c(3, 2, "VALID")], [p(3, 2, "VALID")]), Mark("Mixed_6a")]
    for name in "bcde":
        double = [c(1), c(COLUMN), c(ROW), c(COLUMN), c(ROW)]
        found += [Branches([c(1)], [c(1), c(ROW), c(COLUMN)], double, [p(3), c(1)]), Mark(f"Mixed_6{name}")]
    found += [
        Branches([c(1), c(3, 2, "VALID")], [c(1), c(ROW), c(COLUMN), c(3, 2, "VALID")], [p(3, 2, "VALID")]),
        Mark("Mixed_7a"),
    ]
    for name in "bc":
        cross = Branches([c((1, 3))], [c((3, 1))])
        again = Branches([c((1, 3))], [c((3, 1))])
        found += [Branches([c(1)], [c(1), cross], [c(1), c(3), again], [p(3), c(1)]), Mark(f"Mixed_7{name}")]
    return found


def inception_v4() -> Chain:
    found: Chain = [*stem("VALID"), Branches([p(3, 2, "VALID")], [c(3, 2, "VALID")]), Mark("Mixed_3a")]
    found += [Branches([c(1), c(3, 1, "VALID")], [c(1), c(ROW), c(COLUMN), c(3, 1, "VALID")]), Mark("Mixed_4a")]
    found += [Branches([c(3, 2, "VALID")], [p(3, 2, "VALID")]), Mark("Mixed_5a")]
    for name in "bcde":
        found += [Branches([c(1)], [c(1), c(3)], [c(1), c(3), c(3)], [p(3), c(1)]), Mark(f"Mixed_5{name}")]
    found += [Branches([c(3, 2, "VALID")], [c(1), c(3), c(3, 2, "VALID")], [p(3, 2, "VALID")]), Mark("Mixed_6a")]
    for name in "bcdefgh":
        double = [c(1), c(COLUMN), c(ROW), c(COLUMN), c(ROW)]
        found += [Branches([c(1)], [c(1), c(ROW), c(COLUMN)], double, [p(3), c(1)]), Mark(f"Mixed_6{name}")]
    found += [
        Branches([c(1), c(3, 2, "VALID")], [c(1), c(ROW), c(COLUMN), c(3, 2, "VALID")], [p(3, 2, "VALID")]),
        Mark("Mixed_7a"),
    ]
    for name in "bcd":
        cross = Branches([c((1, 3))], [c((3, 1))])
        again = [c(1), c((3, 1)), c((1, 3)), Branches([c((1, 3))], [c((3, 1))])]
        found += [Branches([c(1)], [c(1), cross], again, [p(3), c(1)]), Mark(f"Mixed_7{name}")]
    return found


def inception_resnet(padding: str) -> Chain:
    found = [*long_stem(padding), Branches([c(1)], [c(1), c(5)], [c(1), c(3), c(3)], [p(3), c(1)]), Mark("Mixed_5b")]
    found += [Branches([], [c(1)], [c(1), c(3)], [c(1), c(3), c(3)]) for _ in range(10)]
    found += [Branches([c(3, 2, padding)], [c(1), c(3), c(3, 2, padding)], [p(3, 2, padding)]), Mark("Mixed_6a")]
    found += [Branches([], [c(1)], [c(1), c(ROW), c(COLUMN)]) for _ in range(20)]
    down = [[c(1), c(3, 2, padding)], [c(1), c(3, 2, padding)], [c(1), c(3), c(3, 2, padding)], [p(3, 2, padding)]]
    found += [Mark("PreAuxLogits"), Branches(*down), Mark("Mixed_7a")]
    found += [Branches([], [c(1)], [c(1), c((1, 3)), c((3, 1))]) for _ in range(10)]
    return [*found, c(1), Mark("Conv2d_7b_1x1")]


# --- ResNets -----------------------------------------------------------------------------------------------------------------
def resnet(depths: Sequence[int]) -> Chain:
    """The stride in the last unit of each block but the last, in its 3x3 convolution, which pads on both sides alike."""
    found: Chain = [Explicit(7, 2), p(3, 2)]
    for block, depth in enumerate(depths, 1):
        for unit in range(depth):
            stride = 2 if unit == depth - 1 and block < 4 else 1
            skip = [Window(1, stride, "VALID", pool=True)] if stride > 1 else []
            found.append(Branches(skip, [c(1), Explicit(3, stride), c(1)]))
        found.append(Mark(f"block{block}"))
    return found


_RESNETS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
NETWORKS: dict[str, Callable[[], Chain]] = {
    "alexnet_v2": alexnet,
    "vgg_a": lambda: vgg((1, 1, 2, 2, 2)),
    "vgg_16": lambda: vgg((2, 2, 3, 3, 3)),
    "mobilenet_v1": mobilenet,
    "mobilenet_v1_075": mobilenet,
    "inception_v2": inception_v2,
    "inception_v2-no-separable-conv": inception_v2,
    "inception_v3": inception_v3,
    "inception_v4": inception_v4,
    "inception_resnet_v2": lambda: inception_resnet("VALID"),
    "inception_resnet_v2-same": lambda: inception_resnet("SAME"),
    **{
        f"resnet_v{version}_{depth}": lambda depths=depths: resnet(depths)  # type: ignore[misc]
        for version in (1, 2)
        for depth, depths in _RESNETS.items()
    },
}


def marked(name: str) -> tuple[nn.Sequential, dict[str, str]]:
    """A network of the table and, for each of its endpoints, the path of the module that stands there."""
    net = nn.Sequential(*NETWORKS[name]())
    return net, {m.endpoint: path for path, m in net.named_modules() if isinstance(m, Mark)}
