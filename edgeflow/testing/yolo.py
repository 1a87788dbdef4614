"""YOLOv2, which papers on fused tiles measure, up to the map that its boxes are read from.

Convolutions carry no BatchNorm and no bias except the last: at inference it is folded, and what is compared
with papers (bytes of maps and filters, FLOPs) does not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Filters of a convolution of 3x3, or 1x1 where negative; "M" is a pool of 2x2. The first 16 layers, the
#: layers up to the map that is passed through, and the ones after it.
_FUSED = (32, "M", 64, "M", 128, -64, 128, "M", 256, -128, 256, "M", 512, -256, 512, -256)
_MIDDLE = (512,)
_DEEP = ("M", 1024, -512, 1024, -512, 1024, 1024, 1024)


def fused_layers() -> nn.Module:
    """Return the first 16 layers: 12 convolutions and 4 pools, 13 MiB of filters."""
    return nn.Sequential(*_layers(_FUSED, 3)).eval()


class YoloV2(nn.Module):
    """The whole network: images, rows and columns multiples of 32, to 425 channels at 1/32 of their size."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(*_layers((*_FUSED, *_MIDDLE), 3))
        self.deep = nn.Sequential(*_layers(_DEEP, 512))
        self.passed = nn.Sequential(*_layers((-64,), 512))
        self.head = nn.Sequential(*_layers((1024,), 1024 + 256), nn.Conv2d(1024, 425, 1))
        self.eval()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        early_NCHW = self.early(x_NCHW)
        passed_NCHW = nn.functional.pixel_unshuffle(self.passed(early_NCHW), 2)
        y_NCHW: Tensor = self.head(torch.cat([passed_NCHW, self.deep(early_NCHW)], dim=1))
        return y_NCHW


def _layers(widths: Sequence[int | str], channels: int) -> list[nn.Module]:
    made: list[nn.Module] = []
    for width in widths:
        if isinstance(width, str):
            made.append(nn.MaxPool2d(2))
            continue
        kernel = 3 if width > 0 else 1
        made += [nn.Conv2d(channels, abs(width), kernel, padding=kernel // 2, bias=False), nn.LeakyReLU(0.1)]
        channels = abs(width)
    return made
