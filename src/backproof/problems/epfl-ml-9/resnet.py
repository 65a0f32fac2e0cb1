"""Residual networks of growing depth, and the same networks without their skips."""

from torch import nn

import backproof as bp


class Block(nn.Module):
    """R2(N2(C2(R1(N1(C1(x))))) + Skip(x)); without skips, R2 of the first part alone."""

    def __init__(self, channels, out, stride, skips, published):
        super().__init__()
        self.C1 = nn.Conv2d(channels, out, 3, stride, padding=1)
        self.N1 = nn.BatchNorm2d(out)
        self.R1 = nn.ReLU()
        self.C2 = nn.Conv2d(out, out, 3, padding=1)
        self.N2 = nn.BatchNorm2d(out)
        self.R2 = nn.ReLU()
        self.skips = skips
        # The template of the sheet had `stride != 0` for two years, which is always true.
        changes = (stride != 0 if published else stride != 1) or channels != out
        if skips and changes:
            self.C3 = nn.Conv2d(channels, out, 3, stride, padding=1)
            self.N3 = nn.BatchNorm2d(out)
        else:
            self.C3 = None

    def forward(self, x):
        """From [N, channels, h, w] to [N, out, h / stride, w / stride]."""
        residual = self.N2(self.C2(self.R1(self.N1(self.C1(x)))))
        if not self.skips:
            return self.R2(residual)
        skip = x if self.C3 is None else self.N3(self.C3(x))
        return self.R2(residual + skip)


def network(depth, width, classes, skips, published):
    """Stem, three stages of (depth - 2) / 6 blocks of width, 2 width and 4 width channels, average, linear layer."""
    if depth < 8 or depth % 6 != 2:
        raise bp.InputError(
            f"the depth must be 8, 14, 20, ...: 6 n + 2 layers in three stages of n blocks, not {depth}"
        )
    layers = [nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    channels = width
    for stage in range(3):
        for block in range((depth - 2) // 6):
            out, stride = width * 2**stage, 2 if stage > 0 and block == 0 else 1
            layers.append(Block(channels, out, stride, skips, published))
            channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def work(
    depth, depths, width, blocks, data, canvas, lr, weight_decay, epochs, batch, seed, limit, checkpoint
):  # fmt: skip
    if blocks not in ("fixed", "published"):
        raise bp.InputError(f"blocks is fixed or published, not {blocks!r}")

    def build(depth, width, classes, skips):
        return network(depth, width, classes, skips, blocks == "published")

    return bp.depth_study(
        build,
        depth=depth,
        depths=depths,
        width=width,
        data=data,
        canvas=canvas,
        lr=lr,
        weight_decay=weight_decay,
        epochs=epochs,
        batch=batch,
        seed=seed,
        limit=limit,
        checkpoint=checkpoint,
    )


problem = bp.Exercise(
    work,
    title="Residual networks, and what they are without their skips",
    about="A residual network of depth 20 and its parameters; whether an identity path leads through its skips; and "
    "residual against plain blocks as the depth grows: where and why does the plain network stop training? The sheet's "
    "text gives the step size 0.003 and its code 5e-4; its pictures are FashionMNIST's: give their folder with --data, "
    "and epochs=10, batch=128.",
    settings={
        "depth": 20,
        "depths": [8, 20, 32, 44],
        "width": 16,
        "blocks": "fixed",
        "data": "",
        "canvas": 32,
        "lr": 3e-3,
        "weight_decay": 1e-3,
        "epochs": 4,
        "batch": 32,
        "seed": 0,
        "limit": 1024,
        "checkpoint": "",
    },
)
