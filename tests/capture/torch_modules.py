"""Every other public module of torch.nn: how it is made, what it is called with, or why it is refused."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .torch_losses import CTC, Case, made

__all__ = ["LAYERS", "NO_MODULES", "OPAQUE", "REFUSED"]

ROW, LINE, PICTURE, BODY = made(3, 4), made(2, 4, 6), made(2, 4, 6, 6), made(1, 2, 4, 4, 4)
TOKENS = torch.tensor([[0, 2, 1], [4, 2, 0]])
SEQUENCE, MEMORY = made(2, 5, 4), made(2, 3, 4, seed=1)
HIDDEN = torch.tensor([[False, False, False, True, True], [False] * 5])


class Weighted(nn.Module):
    """A module called with keywords, so that a case can name them."""

    def __init__(self, module: nn.Module, **keywords: Any) -> None:
        super().__init__()
        self.module, self.keywords = module, keywords

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*inputs, **self.keywords)


class Unpooled(nn.Module):
    """A maximum pool and its undoing."""

    def __init__(self, pool: nn.Module, undo: nn.Module) -> None:
        super().__init__()
        self.pool, self.undo = pool, undo

    def forward(self, x: Tensor) -> Tensor:
        y, places = self.pool(x)
        undone: Tensor = self.undo(y * 2, places)
        return undone


class OnImages(nn.Module):
    """A module with a name of its own in a small network."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.scale, self.module = nn.Parameter(torch.tensor(1.5)), module

    def forward(self, x: Tensor) -> Any:
        return self.module(x * self.scale)


def _attention(**settings: Any) -> nn.Module:
    return nn.MultiheadAttention(4, 2, batch_first=True, **settings)


def _transformer(part: type[nn.Module]) -> nn.Module:
    return part(4, 2, 8, dropout=0.0, batch_first=True)


_CAUSAL = torch.ones(5, 5, dtype=torch.bool).triu(1)

LAYERS: dict[str, Case] = {
    # activations
    "Threshold": Case(lambda: nn.Threshold(0.1, 20.0), (ROW,)),
    "ReLU": Case(nn.ReLU, (ROW,)),
    "ReLU in place": Case(lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)), (ROW,)),
    "RReLU": Case(nn.RReLU, (ROW,)),
    "RReLU in evaluation": Case(nn.RReLU, (ROW,), training=False),
    "Hardtanh": Case(lambda: nn.Hardtanh(-0.5, 1.5), (ROW,)),
    "ReLU6": Case(nn.ReLU6, (ROW * 5,)),
    "Sigmoid": Case(nn.Sigmoid, (ROW,)),
    "Hardsigmoid": Case(nn.Hardsigmoid, (ROW * 2,)),
    "Tanh": Case(nn.Tanh, (ROW,)),
    "SiLU": Case(nn.SiLU, (ROW,)),
    "Mish": Case(nn.Mish, (ROW,)),
    "Hardswish": Case(nn.Hardswish, (ROW * 2,)),
    "ELU": Case(lambda: nn.ELU(0.7), (ROW,)),
    "CELU": Case(lambda: nn.CELU(0.7), (ROW,)),
    "SELU": Case(nn.SELU, (ROW,)),
    "GLU": Case(nn.GLU, (ROW,)),
    "GLU along channels": Case(lambda: nn.GLU(1), (PICTURE,)),
    "GELU": Case(nn.GELU, (ROW,)),
    "GELU tanh": Case(lambda: nn.GELU("tanh"), (ROW,)),
    "Hardshrink": Case(nn.Hardshrink, (ROW,)),
    "LeakyReLU": Case(nn.LeakyReLU, (ROW,)),
    "LogSigmoid": Case(nn.LogSigmoid, (ROW,)),
    "Softplus": Case(lambda: nn.Softplus(2.0, 3.0), (ROW,)),
    "Softshrink": Case(nn.Softshrink, (ROW,)),
    "PReLU": Case(nn.PReLU, (ROW,)),
    "PReLU by channel": Case(lambda: nn.PReLU(4), (PICTURE,)),
    "Softsign": Case(nn.Softsign, (ROW,)),
    "Tanhshrink": Case(nn.Tanhshrink, (ROW,)),
    "Softmin": Case(lambda: nn.Softmin(1), (ROW,)),
    "Softmax": Case(lambda: nn.Softmax(1), (ROW,)),
    "Softmax2d": Case(nn.Softmax2d, (PICTURE,)),
    "LogSoftmax": Case(lambda: nn.LogSoftmax(1), (ROW,)),
    # attention
    "MultiheadAttention": Case(_attention, (SEQUENCE, SEQUENCE, SEQUENCE), (0, 1, 2)),
    "MultiheadAttention without weights": Case(
        lambda: Weighted(_attention(), need_weights=False), (SEQUENCE, MEMORY, MEMORY), (0, 1, 2)),
    "MultiheadAttention with every head's weights": Case(
        lambda: Weighted(_attention(), average_attn_weights=False), (SEQUENCE, MEMORY, MEMORY), (0, 1, 2)),
    "MultiheadAttention with key_padding_mask": Case(
        lambda: Weighted(_attention(), key_padding_mask=HIDDEN), (SEQUENCE, SEQUENCE, SEQUENCE), (0, 1, 2)),
    "MultiheadAttention, causal": Case(
        lambda: Weighted(_attention(bias=False), attn_mask=_CAUSAL, key_padding_mask=HIDDEN, need_weights=False),
        (SEQUENCE, SEQUENCE, SEQUENCE)),
    "MultiheadAttention, is_causal": Case(
        lambda: Weighted(_attention(), attn_mask=_CAUSAL, is_causal=True, need_weights=False), (SEQUENCE,) * 3),
    "MultiheadAttention with a float mask": Case(
        lambda: Weighted(_attention(), attn_mask=made(4, 5, 3, seed=4)), (SEQUENCE, MEMORY, MEMORY)),
    "MultiheadAttention of other sizes": Case(
        lambda: _attention(kdim=3, vdim=2, add_bias_kv=True, add_zero_attn=True), (SEQUENCE, made(2, 3, 3), made(2, 3, 2))),
    "MultiheadAttention with dropout": Case(lambda: _attention(dropout=0.3), (SEQUENCE, SEQUENCE, SEQUENCE)),
    "MultiheadAttention without a batch": Case(lambda: nn.MultiheadAttention(4, 2), (SEQUENCE[0],) * 3),
    "Transformer": Case(
        lambda: nn.Transformer(4, 2, 1, 1, 8, dropout=0.0, batch_first=True), (SEQUENCE, MEMORY), (0, 1)),
    "TransformerEncoder": Case(
        lambda: nn.TransformerEncoder(_transformer(nn.TransformerEncoderLayer), 2), (SEQUENCE,)),
    "TransformerDecoder": Case(
        lambda: nn.TransformerDecoder(_transformer(nn.TransformerDecoderLayer), 2), (SEQUENCE, MEMORY), (0, 1)),
    "TransformerEncoderLayer": Case(
        lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.2, activation="gelu", norm_first=True, batch_first=True),
        (SEQUENCE,)),
    "TransformerDecoderLayer": Case(lambda: _transformer(nn.TransformerDecoderLayer), (SEQUENCE, MEMORY), (0, 1)),
    # recurrent layers: their own tests try every setting
    "RNN": Case(lambda: nn.RNN(4, 3, 2, bidirectional=True), (SEQUENCE,)),
    "LSTM": Case(lambda: nn.LSTM(4, 3, 2, batch_first=True, proj_size=2), (SEQUENCE,)),
    "GRU": Case(lambda: nn.GRU(4, 3, bidirectional=True), (SEQUENCE,)),
    "RNNCell": Case(lambda: nn.RNNCell(4, 3), (ROW,)),
    "LSTMCell": Case(lambda: nn.LSTMCell(4, 3), (ROW,)),
    "GRUCell": Case(lambda: nn.GRUCell(4, 3), (ROW,)),
    # dropout: what is drawn has its own tests
    "Dropout": Case(nn.Dropout, (ROW,)),
    "Dropout1d": Case(nn.Dropout1d, (LINE,)),
    "Dropout2d": Case(nn.Dropout2d, (PICTURE,)),
    "Dropout3d": Case(nn.Dropout3d, (BODY,)),
    "AlphaDropout": Case(nn.AlphaDropout, (ROW,)),
    "FeatureAlphaDropout": Case(nn.FeatureAlphaDropout, (PICTURE,)),
    # linear maps
    "Linear": Case(lambda: nn.Linear(4, 2), (ROW,)),
    "Bilinear": Case(lambda: nn.Bilinear(4, 2, 3), (ROW, made(3, 2, seed=1)), (0, 1)),
    "Bilinear without bias": Case(lambda: nn.Bilinear(4, 2, 3, bias=False), (SEQUENCE, made(2, 5, 2, seed=1)), (0, 1)),
    "Conv1d": Case(lambda: nn.Conv1d(4, 2, 3, 2, padding=1), (LINE,)),
    "Conv2d": Case(lambda: nn.Conv2d(4, 2, 3, padding="same", padding_mode="circular"), (PICTURE,)),
    "Conv3d": Case(lambda: nn.Conv3d(2, 2, 2, dilation=2), (BODY,)),
    "ConvTranspose1d": Case(lambda: nn.ConvTranspose1d(4, 2, 3, 2), (LINE,)),
    "ConvTranspose2d": Case(lambda: nn.ConvTranspose2d(4, 2, 3, 2, 1, 1, groups=2), (PICTURE,)),
    "ConvTranspose3d": Case(lambda: nn.ConvTranspose3d(2, 2, 2), (BODY,)),
    "Embedding": Case(lambda: nn.Embedding(5, 3, padding_idx=0), (TOKENS,), ()),
    "EmbeddingBag": Case(lambda: nn.EmbeddingBag(5, 3), (TOKENS,), ()),
    "EmbeddingBag sum": Case(lambda: Weighted(nn.EmbeddingBag(5, 3, mode="sum"), per_sample_weights=made(2, 3)), (TOKENS,), ()),
    "EmbeddingBag with offsets": Case(
        lambda: nn.EmbeddingBag(5, 3, padding_idx=2), (TOKENS.reshape(-1), torch.tensor([0, 1, 1, 4])), ()),
    "EmbeddingBag with a last offset": Case(
        lambda: nn.EmbeddingBag(5, 3, mode="sum", include_last_offset=True), (TOKENS.reshape(-1), torch.tensor([0, 2, 6])), ()),
    "EmbeddingBag max": Case(lambda: nn.EmbeddingBag(5, 3, mode="max"), (TOKENS,), ()),
    "LazyLinear": Case(lambda: nn.LazyLinear(2), (ROW,)),
    "LazyConv1d": Case(lambda: nn.LazyConv1d(2, 3), (LINE,)),
    "LazyConv2d": Case(lambda: nn.LazyConv2d(2, 3), (PICTURE,)),
    "LazyConv3d": Case(lambda: nn.LazyConv3d(2, 2), (BODY,)),
    "LazyConvTranspose1d": Case(lambda: nn.LazyConvTranspose1d(2, 3), (LINE,)),
    "LazyConvTranspose2d": Case(lambda: nn.LazyConvTranspose2d(2, 3), (PICTURE,)),
    "LazyConvTranspose3d": Case(lambda: nn.LazyConvTranspose3d(2, 2), (BODY,)),
    # normalisation
    "BatchNorm1d": Case(lambda: nn.BatchNorm1d(4), (LINE,)),
    "BatchNorm2d": Case(lambda: nn.BatchNorm2d(4), (PICTURE,)),
    "BatchNorm2d in evaluation": Case(lambda: nn.BatchNorm2d(4), (PICTURE,), training=False),
    "BatchNorm3d": Case(lambda: nn.BatchNorm3d(2), (BODY,)),
    "SyncBatchNorm": Case(lambda: nn.SyncBatchNorm(4), (PICTURE,), training=False),
    "LazyBatchNorm1d": Case(nn.LazyBatchNorm1d, (LINE,)),
    "LazyBatchNorm2d": Case(nn.LazyBatchNorm2d, (PICTURE,)),
    "LazyBatchNorm3d": Case(nn.LazyBatchNorm3d, (BODY,)),
    "InstanceNorm1d": Case(lambda: nn.InstanceNorm1d(4, affine=True), (LINE,)),
    "InstanceNorm2d": Case(lambda: nn.InstanceNorm2d(4), (PICTURE,)),
    "InstanceNorm3d": Case(lambda: nn.InstanceNorm3d(2), (BODY,)),
    "InstanceNorm2d with running statistics": Case(lambda: nn.InstanceNorm2d(4, track_running_stats=True), (PICTURE,)),
    "InstanceNorm2d in evaluation": Case(
        lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), (PICTURE,), training=False),
    "LazyInstanceNorm1d": Case(nn.LazyInstanceNorm1d, (LINE,)),
    "LazyInstanceNorm2d": Case(nn.LazyInstanceNorm2d, (PICTURE,)),
    "LazyInstanceNorm3d": Case(nn.LazyInstanceNorm3d, (BODY,)),
    "LayerNorm": Case(lambda: nn.LayerNorm(4), (SEQUENCE,)),
    "LayerNorm without bias": Case(lambda: nn.LayerNorm((5, 4), bias=False), (SEQUENCE,)),
    "GroupNorm": Case(lambda: nn.GroupNorm(2, 4), (PICTURE,)),
    "RMSNorm": Case(lambda: nn.RMSNorm(4), (SEQUENCE,)),
    "LocalResponseNorm": Case(lambda: nn.LocalResponseNorm(3, 0.3, 0.6), (PICTURE,)),
    "weight_norm": Case(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)), (ROW,)),
    "spectral_norm": Case(lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 2)), (ROW,)),
    "spectral_norm in evaluation": Case(
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 2)), (ROW,), training=False),
    # pools
    **{f"MaxPool{d}d": Case(lambda d=d: getattr(nn, f"MaxPool{d}d")(2, ceil_mode=True), (x,))
       for d, x in ((1, LINE), (2, PICTURE), (3, BODY))},
    **{f"AvgPool{d}d": Case(lambda d=d: getattr(nn, f"AvgPool{d}d")(2, padding=1), (x,))
       for d, x in ((1, LINE), (2, PICTURE), (3, BODY))},
    "AvgPool2d with a divisor": Case(lambda: nn.AvgPool2d(2, divisor_override=3), (PICTURE,)),
    **{f"AdaptiveAvgPool{d}d": Case(lambda d=d: getattr(nn, f"AdaptiveAvgPool{d}d")(3), (x,))
       for d, x in ((1, LINE), (2, PICTURE), (3, BODY))},
    **{f"AdaptiveMaxPool{d}d": Case(lambda d=d: getattr(nn, f"AdaptiveMaxPool{d}d")(2), (x,))
       for d, x in ((1, LINE), (2, PICTURE), (3, BODY))},
    "AdaptiveMaxPool2d of unequal windows": Case(lambda: nn.AdaptiveMaxPool2d(4), (PICTURE,)),
    "LPPool1d": Case(lambda: nn.LPPool1d(2, 2), (LINE,)),
    "LPPool2d": Case(lambda: nn.LPPool2d(3, 2, 1), (PICTURE.abs(),)),
    "LPPool3d": Case(lambda: nn.LPPool3d(2, 2), (BODY,)),
    **{f"MaxUnpool{d}d": Case(
        lambda d=d: Unpooled(getattr(nn, f"MaxPool{d}d")(2, return_indices=True), getattr(nn, f"MaxUnpool{d}d")(2)), (x,))
       for d, x in ((1, LINE), (2, PICTURE), (3, BODY))},
    # padding and shapes
    **{f"{kind}Pad{d}d": Case(lambda d=d, kind=kind: getattr(nn, f"{kind}Pad{d}d")(1, *([0.5] if kind == "Constant" else [])), (x,))
       for kind in ("Constant", "Zero", "Circular", "Reflection", "Replication")
       for d, x in ((1, LINE), (2, PICTURE), (3, BODY))},
    "Flatten": Case(nn.Flatten, (PICTURE,)),
    "Unflatten": Case(lambda: nn.Unflatten(1, (2, 2)), (PICTURE,)),
    "Identity": Case(lambda: OnImages(nn.Identity()), (PICTURE,)),
    "Fold": Case(lambda: nn.Fold((4, 5), (2, 2), padding=1, dilation=2), (made(2, 8, 20),)),
    "Unfold": Case(lambda: nn.Unfold((2, 3), dilation=2, padding=1, stride=2), (PICTURE,)),
    "ChannelShuffle": Case(lambda: nn.ChannelShuffle(2), (PICTURE,)),
    "PixelShuffle": Case(lambda: nn.PixelShuffle(2), (PICTURE,)),
    "PixelUnshuffle": Case(lambda: nn.PixelUnshuffle(2), (PICTURE,)),
    "Upsample": Case(lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), (PICTURE,)),
    "Upsample bicubic": Case(lambda: nn.Upsample(size=(4, 9), mode="bicubic"), (PICTURE,)),
    "UpsamplingBilinear2d": Case(lambda: nn.UpsamplingBilinear2d(scale_factor=2), (PICTURE,)),
    "UpsamplingNearest2d": Case(lambda: nn.UpsamplingNearest2d(scale_factor=2), (PICTURE,)),
    # distances, containers
    "CosineSimilarity": Case(lambda: nn.CosineSimilarity(1), (ROW, made(3, 4, seed=1)), (0, 1)),
    "CosineSimilarity of channels": Case(lambda: nn.CosineSimilarity(1, eps=3.0), (PICTURE, made(1, 4, 6, 6, seed=1)), (0, 1)),
    "PairwiseDistance": Case(nn.PairwiseDistance, (ROW, made(3, 4, seed=1)), (0, 1)),
    "PairwiseDistance of order 3": Case(lambda: nn.PairwiseDistance(3.0, keepdim=True), (ROW, made(3, 4, seed=1)), (0, 1)),
    "PairwiseDistance of order inf": Case(lambda: nn.PairwiseDistance(float("inf")), (ROW, made(3, 4, seed=1)), (0, 1)),
    "Sequential": Case(lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh()), (ROW,)),
}  # fmt: skip

# What is refused, and what the message says instead of a Graph.
# No operation of ours: torch itself computes the one node, and its gradient.
OPAQUE: dict[str, Case] = {
    "FractionalMaxPool2d": Case(lambda: nn.FractionalMaxPool2d(2, output_size=3), (PICTURE,)),
    "FractionalMaxPool3d": Case(lambda: nn.FractionalMaxPool3d(2, output_size=2), (BODY,)),
    "CTCLoss": CTC,
    "CTCLoss with lengths as numbers": Case(
        lambda: Weighted(nn.CTCLoss(), input_lengths=(6, 5), target_lengths=(3, 2)), (CTC.inputs[0], CTC.inputs[1])),
    "CTCLoss of targets in one row": Case(
        lambda: Weighted(nn.CTCLoss(reduction="sum"), input_lengths=(6, 5), target_lengths=(3, 2)),
        (CTC.inputs[0], torch.tensor([1, 2, 2, 3, 1]))),
}  # fmt: skip
REFUSED: dict[str, tuple[Case, str]] = {
    "AdaptiveLogSoftmaxWithLoss": (
        Case(lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 6, [2, 4]), (ROW, torch.tensor([0, 3, 5]))),
        r"aten\.index\.Tensor with a mask, which picks a number of entries that only the run knows",
    ),
    "CrossMapLRN2d": (
        Case(lambda: nn.CrossMapLRN2d(3), (PICTURE,)),
        "aten.resize_as.default has no operation here yet",
    ),
}
# Not layers: bases, containers of modules or parameters, options.
NO_MODULES = frozenset(
    "Module Container ModuleDict ModuleList ParameterDict ParameterList RNNBase RNNCellBase LinearCrossEntropyOptions".split()
)
