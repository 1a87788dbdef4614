"""The least communication of channel splits, as the script that DeeperThings publishes gives it.

Bytes between equal devices for the convolutions of four set-ups; layer sizes are those of captured graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from itertools import product

import pytest
import torch
from torch import nn

import edgeflow as ef
from edgeflow.cost import predict
from edgeflow.graph.ir import ModelGraph
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.deeperthings import Chain, chains, cheapest
from edgeflow.testing import models, yolo


def vgg16() -> ModelGraph:
    return ef.capture(models.vgg16(4, hidden=8), (torch.zeros(1, 3, 224, 224),))


def yolov2() -> ModelGraph:
    return ef.capture(yolo.YoloV2(), (torch.zeros(1, 3, 608, 608),))


def alexnet() -> ModelGraph:
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


@cache
def chains_of(model: Callable[[], ModelGraph]) -> tuple[Chain, ...]:
    return chains(analysis_of(captured(model)))


@cache
def captured(model: Callable[[], ModelGraph]) -> ModelGraph:
    return model()


@pytest.mark.parametrize(
    ("model", "num_devices", "expected"),
    [(yolov2, 6, 377_661_352), (vgg16, 6, 181_637_120), (vgg16, 2, 36_327_424), (alexnet, 6, 9_109_976)],
)
def test_least_bytes(model: Callable[[], ModelGraph], num_devices: int, expected: int) -> None:
    """The script's solver answers in floats, of which it drops what is behind the point: up to 4 bytes."""
    convolutions = [op.name for op in captured(model).operators if "conv" in op.target]

    total = sum(cheapest(chain, num_devices)[1] for chain in chains_of(model))

    assert sum(map(len, chains_of(model))) == len(convolutions)
    assert 0 <= total - expected <= 4


@pytest.mark.parametrize("num_devices", [2, 4])
def test_plans_send_what_the_objective_says(num_devices: int) -> None:
    """Where channels divide evenly, to the byte."""
    graph = captured(vgg16)
    cluster = ef.Cluster.local([1.0] * num_devices)

    plan = ef.plan(graph, cluster, strategy="deeperthings")

    least = sum(cheapest(chain, num_devices)[1] for chain in chains_of(vgg16))
    assert predict(plan, with_events=False).transferred_bytes == least


@pytest.mark.parametrize("num_devices", [2, 3, 6])
def test_no_other_choice_has_fewer_bytes(num_devices: int) -> None:
    """Against every choice for the chain of three convolutions of AlexNet."""
    chain = next(item for item in chains_of(alexnet) if len(item) == 3)
    others, part = num_devices - 1, Fraction(num_devices - 1, num_devices)

    def total(ways: Sequence[str]) -> Fraction:
        """The bytes of ``o``utput, ``i``nput, ``f``irst or ``s``econd, written as the script has them."""
        result = Fraction(0)
        for index, (way, item) in enumerate(zip(ways, chain, strict=True)):
            is_reused = way == "o" and index + 1 < len(ways) and ways[index + 1] in "of"
            reuses = way in "of" and index > 0 and ways[index - 1] == "o"
            if way in "of" and not reuses:
                result += others * item.read_bytes
            if way == "o":
                result += (others if is_reused else part) * item.made_bytes
            if way == "i":
                result += part * item.read_bytes + others * item.made_bytes
            if way == "s":
                result += others * item.made_bytes
        return result

    legal = [
        ways
        for ways in product("oifs", repeat=3)
        if ways[-1] != "f" and all((ways[i] == "s") == (i > 0 and ways[i - 1] == "f") for i in range(3))
    ]
    assert len(legal) == 12
    assert cheapest(chain, num_devices)[1] == min(map(total, legal))
