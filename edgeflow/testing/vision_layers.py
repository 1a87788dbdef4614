"""Further layers of the networks in `edgeflow.testing.vision`; see also `edgeflow.testing.layers`.

Shape suffixes: N batch, C channels, H and W rows and columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(
    in_channels: int,
    out_channels: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.SiLU,
) -> nn.Sequential:
    """Return a convolution of any shape of kernel, BatchNorm and an activation."""
    kernel_h, kernel_w = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    padding = (kernel_h // 2, kernel_w // 2)
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, (kernel_h, kernel_w), stride, padding, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        *([] if activation is None else [activation()]),
    )


class SplitBlock(nn.Module):
    """Half of the channels through residual bottlenecks, every step's result concatenated at the end."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, *, is_residual: bool = True) -> None:
        super().__init__()
        half = out_channels // 2
        self.is_residual = is_residual
        self.enter = conv(in_channels, 2 * half, 1)
        self.steps = nn.ModuleList(
            [nn.Sequential(conv(half, half, 3), conv(half, half, 3)) for _ in range(depth)]
        )
        self.leave = conv((2 + depth) * half, out_channels, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        parts = list(self.enter(x_NCHW).chunk(2, dim=1))
        for step in self.steps:
            made = step(parts[-1])
            parts.append(parts[-1] + made if self.is_residual else made)
        y_NCHW: Tensor = self.leave(torch.cat(parts, dim=1))
        return y_NCHW


class PoolPyramid(nn.Module):
    """The input and three maxima of it, over ever larger windows, side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = conv(channels, channels // 2, 1)
        self.leave = conv(2 * channels, channels, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        parts = [self.enter(x_NCHW)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, stride=1, padding=2))
        y_NCHW: Tensor = self.leave(torch.cat(parts, dim=1))
        return y_NCHW


class FactorisedInception(nn.Module):
    """1x1; 1x7 and 7x1; two 3x3; an average pool: four branches with halos of their own."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()

        def part(fan_in: int, *kernels: int | tuple[int, int]) -> nn.Sequential:
            convs = [
                conv(fan_in if index == 0 else width, width, kernel, activation=nn.ReLU)
                for index, kernel in enumerate(kernels)
            ]
            return nn.Sequential(*convs)

        self.branches = nn.ModuleList(
            [
                part(in_channels, 1),
                part(in_channels, 1, (1, 7), (7, 1)),
                part(in_channels, 1, 3, 3),
                nn.Sequential(
                    nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False), part(in_channels, 1)
                ),
            ]
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return torch.cat([branch(x_NCHW) for branch in self.branches], dim=1)


class InceptionReduction(nn.Module):
    """Half as many rows and columns by a strided convolution and by a pool, neither padded."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride=2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return torch.cat([self.conv(x_NCHW), F.max_pool2d(x_NCHW, 3, stride=2)], dim=1)


class DenseLayer(nn.Module):
    """Norm before convolution, twice; the result is concatenated to the input."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.make = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return torch.cat([x_NCHW, self.make(x_NCHW)], dim=1)


def dense_transition(in_channels: int) -> nn.Sequential:
    """Half the channels, rows and columns."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, in_channels // 2, 1, bias=False),
        nn.AvgPool2d(2),
    )


class ShuffleUnit(nn.Module):
    """Grouped 1x1 convolutions with a channel shuffle between them, depthwise 3x3, and a residual."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.reduce = conv(channels, channels // 2, 1, groups=groups, activation=nn.ReLU)
        self.depthwise = conv(channels // 2, channels // 2, 3, groups=channels // 2, activation=None)
        self.expand = conv(channels // 2, channels, 1, groups=groups, activation=None)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        batch, _, height, width = x_NCHW.shape
        y_NCHW = self.reduce(x_NCHW)
        shuffled = y_NCHW.view(batch, self.groups, -1, height, width).transpose(1, 2)
        y_NCHW = self.depthwise(shuffled.reshape(batch, -1, height, width))
        return F.relu(x_NCHW + self.expand(y_NCHW))


class SplitShuffle(nn.Module):
    """Half of the channels stay, half (with a stride: all) are convolved; then the halves are interleaved."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half = out_channels // 2
        fan_in = in_channels if stride > 1 else in_channels // 2
        self.stride = stride
        self.stay = (
            nn.Sequential(
                conv(fan_in, fan_in, 3, stride=stride, groups=fan_in, activation=None),
                conv(fan_in, half, 1, activation=nn.ReLU),
            )
            if stride > 1
            else nn.Identity()
        )
        self.work = nn.Sequential(
            conv(fan_in, half, 1, activation=nn.ReLU),
            conv(half, half, 3, stride=stride, groups=half, activation=None),
            conv(half, half, 1, activation=nn.ReLU),
        )
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        left, right = (x_NCHW, x_NCHW) if self.stride > 1 else x_NCHW.chunk(2, dim=1)
        y_NCHW: Tensor = self.shuffle(torch.cat([self.stay(left), self.work(right)], dim=1))
        return y_NCHW


class NormedPair(nn.Module):
    """Two 3x3 convolutions, each with GroupNorm and SiLU."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.pair = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.GroupNorm(groups, out_channels),
            nn.SiLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, padding_mode="reflect"),
            nn.GroupNorm(groups, out_channels),
            nn.SiLU(),
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NCHW: Tensor = self.pair(x_NCHW)
        return y_NCHW


class NormedUNet(nn.Module):
    """Down by strided convolutions, up by transposed ones of several kernels, GroupNorm everywhere."""

    def __init__(self, in_channels: int, out_channels: int, widths: Sequence[int], groups: int) -> None:
        super().__init__()
        self.enter = NormedPair(in_channels, widths[0], groups)
        self.downs = nn.ModuleList(
            [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(widths)]
        )
        self.pairs = nn.ModuleList([NormedPair(width, width, groups) for width in widths[1:]])
        # Kernels of 2, 3 and 4 in turn: one that tiles, one of odd length, one that overlaps on both sides.
        ups = list(zip(widths[1:], widths, strict=False))[::-1]
        self.ups = nn.ModuleList(
            [
                nn.ConvTranspose2d(
                    a, b, kernel, stride=2, padding=(kernel - 1) // 2, output_padding=kernel % 2
                )
                for (a, b), kernel in zip(ups, (2, 3, 4, 2), strict=False)
            ]
        )
        self.merges = nn.ModuleList([NormedPair(2 * b, b, groups) for _, b in ups])
        self.out = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        maps = [self.enter(x_NCHW)]
        for down, pair in zip(self.downs, self.pairs, strict=True):
            maps.append(pair(down(maps[-1])))
        y_NCHW = maps.pop()
        for up, merge in zip(self.ups, self.merges, strict=True):
            y_NCHW = merge(torch.cat([maps.pop(), up(y_NCHW)], dim=1))
        made: Tensor = self.out(y_NCHW)
        return made


class DilatedResidual(nn.Module):
    """A dilated convolution in one dim, gated by one that looks at the past only, and a residual."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.filter = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.gate = nn.Conv1d(channels, channels, 2, padding="valid", dilation=dilation)
        self.past = nn.ConstantPad1d((dilation, 0), 0.0)

    def forward(self, x_NCL: Tensor) -> Tensor:
        return x_NCL + torch.tanh(self.filter(x_NCL)) * torch.sigmoid(self.gate(self.past(x_NCL)))


class VideoResidual(nn.Module):
    """``relu(x + 3x1x1(1x3x3(x)))`` over frames, rows and columns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv3d(channels, channels, (1, 3, 3), padding=(0, 1, 1), bias=False),
            nn.BatchNorm3d(channels),
            nn.ReLU(),
            nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), bias=False),
            nn.BatchNorm3d(channels),
        )

    def forward(self, x_NCDHW: Tensor) -> Tensor:
        return F.relu(x_NCDHW + self.branch(x_NCDHW))
