"""Convolutional networks of the kinds that people run, in plain torch: small for tests, or as large as usual.

Every function returns a module with torch's own random weights; `edgeflow.testing.zoo_vision` randomises them
so that errors show, and gives them inputs.

Shape suffixes: N batch, C channels, D, H and W frames, rows and columns, L samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflow.testing.layers import classifier
from edgeflow.testing.vision_layers import (
    DenseLayer,
    DilatedResidual,
    FactorisedInception,
    InceptionReduction,
    NormedUNet,
    PoolPyramid,
    ShuffleUnit,
    SplitBlock,
    SplitShuffle,
    VideoResidual,
    conv,
    dense_transition,
)


class Detector(nn.Module):
    """A one-stage detector: a backbone, features down and up a pyramid again, and one map of boxes per level.

    Three outputs, by name: ``p3``, ``p4``, ``p5`` of ``4 + num_classes`` channels, an 8th, a 16th and a 32nd
    of the image's rows and columns.
    """

    def __init__(self, width: int, depth: int, num_classes: int) -> None:
        super().__init__()
        w2, w3, w4, w5 = (width * factor for factor in (2, 4, 8, 16))
        self.stem = nn.Sequential(
            conv(3, width, 3, stride=2), conv(width, w2, 3, stride=2), SplitBlock(w2, w2, depth)
        )
        self.to3 = nn.Sequential(conv(w2, w3, 3, stride=2), SplitBlock(w3, w3, 2 * depth))
        self.to4 = nn.Sequential(conv(w3, w4, 3, stride=2), SplitBlock(w4, w4, 2 * depth))
        self.to5 = nn.Sequential(conv(w4, w5, 3, stride=2), SplitBlock(w5, w5, depth), PoolPyramid(w5))
        self.up4 = SplitBlock(w5 + w4, w4, depth, is_residual=False)
        self.up3 = SplitBlock(w4 + w3, w3, depth, is_residual=False)
        self.down4 = conv(w3, w3, 3, stride=2)
        self.out4 = SplitBlock(w3 + w4, w4, depth, is_residual=False)
        self.down5 = conv(w4, w4, 3, stride=2)
        self.out5 = SplitBlock(w4 + w5, w5, depth, is_residual=False)
        self.heads = nn.ModuleList(
            [nn.Sequential(conv(w, w3, 3), nn.Conv2d(w3, 4 + num_classes, 1)) for w in (w3, w4, w5)]
        )

    def forward(self, x_NCHW: Tensor) -> dict[str, Tensor]:
        p3 = self.to3(self.stem(x_NCHW))
        p4 = self.to4(p3)
        p5 = self.to5(p4)
        p4 = self.up4(torch.cat([F.interpolate(p5, scale_factor=2.0), p4], dim=1))
        p3 = self.up3(torch.cat([F.interpolate(p4, scale_factor=2.0), p3], dim=1))
        p4 = self.out4(torch.cat([self.down4(p3), p4], dim=1))
        p5 = self.out5(torch.cat([self.down5(p4), p5], dim=1))
        return {
            name: head(level)
            for name, head, level in zip(("p3", "p4", "p5"), self.heads, (p3, p4, p5), strict=True)
        }


def inception(width: int, num_blocks: int, num_classes: int) -> nn.Module:
    """Return factorised Inception blocks with unpadded reductions between them, and local response norm."""
    blocks: list[nn.Module] = []
    channels = width
    for _ in range(2):
        for _ in range(num_blocks):
            blocks.append(FactorisedInception(channels, width))
            channels = 4 * width
        blocks.append(InceptionReduction(channels, width))
        channels += width
    blocks.append(FactorisedInception(channels, width))
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2),
        nn.ReLU(),
        nn.LocalResponseNorm(5, alpha=0.1),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        *blocks,
        *classifier(4 * width, num_classes),
    )


def densenet(growth: int, depths: Sequence[int], num_classes: int) -> nn.Module:
    """Return a DenseNet: of growth 32 and depths (6, 12, 24, 16) DenseNet-121."""
    channels = 2 * growth
    parts: list[nn.Module] = [
        conv(3, channels, 7, stride=2, activation=nn.ReLU),
        nn.MaxPool2d(3, 2, padding=1),
    ]
    for index, depth in enumerate(depths):
        for _ in range(depth):
            parts.append(DenseLayer(channels, growth))
            channels += growth
        if index < len(depths) - 1:
            parts.append(dense_transition(channels))
            channels //= 2
    return nn.Sequential(*parts, nn.BatchNorm2d(channels), nn.ReLU(), *classifier(channels, num_classes))


def shufflenet(widths: Sequence[int], depths: Sequence[int], num_classes: int) -> nn.Module:
    """Return channel shuffles of both kinds: of split halves and, last in a stage, of groups."""
    channels = widths[0]
    parts: list[nn.Module] = [
        conv(3, channels, 3, stride=2, activation=nn.ReLU),
        nn.MaxPool2d(3, 2, padding=1),
    ]
    for width, depth in zip(widths[1:], depths, strict=True):
        parts.append(SplitShuffle(channels, width, 2))
        parts += [SplitShuffle(width, width, 1) for _ in range(depth)]
        parts.append(ShuffleUnit(width, 2))
        channels = width
    return nn.Sequential(*parts, *classifier(channels, num_classes))


def normed_unet(widths: Sequence[int], groups: int, out_channels: int = 3) -> nn.Module:
    """Return a U-Net with GroupNorm, transposed convolutions and reflected borders."""
    return NormedUNet(3, out_channels, widths, groups)


def audio_cnn(width: int, num_classes: int, *, in_channels: int = 1) -> nn.Module:
    """Return a network over ``x_NCL``: strided convolutions, norms over time, gated dilated residuals."""
    return nn.Sequential(
        nn.Conv1d(in_channels, width, 10, stride=5, bias=False),
        nn.GroupNorm(width, width),
        nn.GELU(),
        nn.Conv1d(width, 2 * width, 4, stride=2, padding=1),
        nn.InstanceNorm1d(2 * width, affine=True),
        nn.PReLU(2 * width),
        *[DilatedResidual(2 * width, 2**index) for index in range(4)],
        nn.AvgPool1d(4, ceil_mode=True),
        nn.Conv1d(2 * width, 4 * width, 3, padding=1),
        nn.LeakyReLU(),
        nn.MaxPool1d(2),
        nn.AdaptiveAvgPool1d(7),
        nn.Conv1d(4 * width, 4 * width, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(4 * width, num_classes),
    )


def video_cnn(width: int, num_classes: int) -> nn.Module:
    """Return a network in three dims, ``x_NCDHW``: factorised convolutions over frames, rows and columns."""
    return nn.Sequential(
        nn.Conv3d(3, width, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(),
        VideoResidual(width),
        nn.MaxPool3d((1, 2, 2)),
        nn.Conv3d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm3d(2 * width),
        nn.ReLU(),
        VideoResidual(2 * width),
        nn.AvgPool3d(2, ceil_mode=True),
        VideoResidual(2 * width),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(2 * width, num_classes),
    )
