"""What does a unit of a causal, dilated 1D net see? Six layers of kernel 2 with dilation 1, 2, 4, ... see 64 samples."""

from torch import nn

import backproof as bp
from backproof.studies.fields.stacks import network_field


def wavenet(depth):
    layers = []
    for k in range(depth):
        layers += [nn.ConstantPad1d((2**k, 0), 0.0), nn.Conv1d(1, 1, 2, dilation=2**k), nn.ReLU()]
    return nn.Sequential(*layers)


def work(depth, length):
    return network_field("wavenet", "A causal net", wavenet(depth), (1, 1, length))


problem = bp.Exercise(work, title="What a causal net sees", settings={"depth": 6, "length": 200})
