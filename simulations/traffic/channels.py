"""The least communication of channel splits, beside the script that DeeperThings publishes.

Bytes between equal devices for the convolutions of a network; layer sizes are those of captured graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from types import MappingProxyType
from typing import Final

import torch
from torch import nn

import edgeflow as ef
from edgeflow.graph.ir import ModelGraph
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.strategies.deeperthings import Chain, chains, cheapest
from edgeflow.testing import models, yolo

#: (network, devices) -> the bytes that the script gives, by a solver that answers in floats, of which it
#: drops what is behind the point: up to 4 bytes.
SCRIPT_BYTES: Final[Mapping[tuple[str, int], int]] = MappingProxyType(
    {
        ("yolov2", 6): 377_661_352,
        ("vgg16", 6): 181_637_120,
        ("vgg16", 2): 36_327_424,
        ("alexnet", 6): 9_109_976,
    }
)


def _vgg16() -> ModelGraph:
    return ef.capture(models.vgg16(4, hidden=8), (torch.zeros(1, 3, 224, 224),))


def _yolov2() -> ModelGraph:
    return ef.capture(yolo.YoloV2(), (torch.zeros(1, 3, 608, 608),))


def _alexnet() -> ModelGraph:
    """Its convolutions, ungrouped, for images of 227x227."""
    return ef.capture(
        nn.Sequential(
            *(nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        ),
        (torch.zeros(1, 3, 227, 227),),
    )


_NETWORKS: Final[Mapping[str, Callable[[], ModelGraph]]] = MappingProxyType(
    {"yolov2": _yolov2, "vgg16": _vgg16, "alexnet": _alexnet}
)
NETWORKS: Final = tuple(_NETWORKS)


@cache
def graph(network: str) -> ModelGraph:
    return _NETWORKS[network]()


@cache
def chains_of(network: str) -> tuple[Chain, ...]:
    return chains(analysis_of(graph(network)))


def least_bytes(network: str, num_devices: int) -> Fraction:
    """Bytes of the best choice: by output, by input, in pairs."""
    return sum((cheapest(chain, num_devices)[1] for chain in chains_of(network)), Fraction(0))


def bytes_by_output(network: str, num_devices: int) -> Fraction:
    """Bytes where all are split by output channels, which the next one reads from where they are."""
    others, part = num_devices - 1, Fraction(num_devices - 1, num_devices)
    total = Fraction(0)
    for chain in chains_of(network):
        total += others * chain[0].read_bytes + part * chain[-1].made_bytes
        total += others * sum(item.made_bytes for item in chain[:-1])
    return total
