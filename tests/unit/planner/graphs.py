"""Captured graphs that the planner's tests share, each captured once."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from edgeflow.graph.capture import capture
from edgeflow.graph.ir import ModelGraph
from edgeflow.testing import zoo


@cache
def graph(name: str) -> ModelGraph:
    """A model of the zoo."""
    module, args, kwargs = zoo.build(name)
    return capture(module, args, kwargs=kwargs)


def captured(module: nn.Module, *shape: int) -> ModelGraph:
    torch.manual_seed(0)
    return capture(module.eval(), (torch.randn(shape),))


class TwoBranches(nn.Module):
    """Convolutions side by side, of 6 and 2 channels, and one that sums over both."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 6, 3, padding=1)
        self.narrow = nn.Conv2d(3, 2, 1)
        self.out = nn.Conv2d(8, 4, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NCHW: Tensor = self.out(torch.cat([self.wide(x_NCHW), self.narrow(x_NCHW)], dim=1))
        return y_NCHW


class Branches(nn.Module):
    """Two chains that begin at one map, and a grouped convolution in one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.a = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.b = nn.Conv2d(16, 16, 1)
        self.c = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NCHW = self.stem(x_NCHW).relu()
        z_NCHW: Tensor = self.b(self.a(y_NCHW).relu()) + self.c(y_NCHW)
        return z_NCHW
