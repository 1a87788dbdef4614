"""Pictures for the small network that tests deploy on workers, and how near answers come to the module's."""

from __future__ import annotations

from typing import Any

import torch


def images(count: int) -> list[Any]:
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(1, 3, 32, 32, generator=generator) for _ in range(count)]


def assert_close(answer: Any, expected: Any) -> None:
    assert answer.shape == expected.shape
    assert (answer - expected).abs().max() <= 1e-4 * expected.abs().max()
