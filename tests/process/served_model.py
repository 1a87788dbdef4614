"""A small model with two inputs and named outputs, for ``edgeflow serve``."""

from __future__ import annotations

from typing import Any

import torch


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.fc = torch.nn.Linear(8, 5)

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        features = torch.relu(self.conv(image)).mean((2, 3))
        return {"scores": self.fc(features) * mask, "features": features}


def make() -> Any:
    torch.manual_seed(0)
    return Small().eval(), (torch.randn(1, 3, 16, 16), torch.ones(1, 5))
