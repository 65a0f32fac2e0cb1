"""Output sizes, smallest inputs and receptive fields of convolutions; a CNN and a residual network."""

from torch import nn

import backproof as bp
from backproof.studies.fields.stacks import layers_from, network_field, stack


class Block(nn.Module):
    def __init__(self, before, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride=stride, padding=1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)
        self.skip = nn.Identity()
        if stride != 1 or before != channels:
            self.skip = nn.Sequential(
                nn.Conv2d(before, channels, 3, stride=stride, padding=1), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        r = self.norm1(self.conv1(x)).relu()
        r = self.norm2(self.conv2(r))
        return (r + self.skip(x)).relu()


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(64, 128, 5, stride=2, padding=2),
        nn.ReLU(),
    )


def resnet(depth):
    layers, before = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()], 16
    for stage, channels in enumerate((16, 32, 64)):
        for block in range((depth - 2) // 6):
            layers.append(Block(before, channels, 2 if stage > 0 and block == 0 else 1))
            before = channels
    return nn.Sequential(*layers)


def work(kernels, paddings, strides, n, n_out):
    found = stack(layers_from(kernels, paddings, strides), n, n_out)
    found += network_field("cnn", "The sheet's CNN", cnn(), (1, 1, 56, 56))
    return found + network_field("resnet20", "ResNet-20", resnet(20), (1, 1, 100, 100))


problem = bp.Exercise(
    work,
    title="Receptive fields",
    about="The output size of a convolution with kernel K, padding P and stride S; the smallest input for a given output; "
    "the receptive field of L convolutions, as a recurrence and in closed form; what padding does to it; and the fields "
    "of a CNN and of a residual network of depth 20.",
    settings={"kernels": [5, 5, 5, 5], "paddings": [2, 2, 2, 2], "strides": [1, 2, 1, 2], "n": 56, "n_out": 1},
)
