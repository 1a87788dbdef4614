"""Whole models: whatever the plan, the answer is the module's, within 1e-4 of its largest value."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

import edgeflow as ef
from edgeflow.cost import CostModel
from edgeflow.testing import zoo_vision
from edgeflow.testing.zoo_text import TEXT
from tests.numerics.loaded import loaded, tensors_of
from tests.strategies import STRATEGIES

TOLERANCE = 1e-4
SPEEDS = (1.0, 0.7, 0.4, 0.25, 0.6)

_SMALL = (
    "openworld-tiny",
    "openworld-tiny-28",
    "tiny-resnet",
    "tiny-vit",
    "tiny-vit-fused",
    "tiny-bert",
    "unet",
    "concat-dag",
    "mlp",
    "hf-resnet-small",
    *(name for name in TEXT if name.endswith("-small") or not name.startswith("hf-")),
)
_LARGE = (
    "openworld-small",
    "openworld-base",
    "resnet50",
    "hf-resnet50",
    *(name for name in TEXT if name not in _SMALL),
    *(name for name in zoo_vision.VISION if not name.endswith("-small")),
)
_VISION = tuple(name for name in zoo_vision.VISION if name.endswith("-small"))


_CORE = ("openworld-base", "hf-resnet50", "hf-vit-base", "hf-bert-base")
_KINDS = ("coedge", "megatron", "auto")


def _cases() -> Iterator[Any]:
    """Models, strategies, numbers of devices.

    Small models are run every way, of the many vision models the fast suite takes a few each. Large ones take
    seconds a case: those in `_CORE` are run every way that matters, the others once a kind of split.
    """
    for model in (*_SMALL, *_VISION, *_LARGE):
        for strategy, num_devices in itertools.product(STRATEGIES, (1, 2, 3, 5)):
            is_typical = num_devices == (1 if strategy == "single" else 3)
            if model in _LARGE and not (
                (strategy in _KINDS and is_typical) or (model in _CORE and strategy in (*_KINDS, "single"))
            ):
                continue
            is_slow = model in _LARGE or (model in _VISION and not is_typical)
            yield pytest.param(model, strategy, num_devices, marks=[pytest.mark.slow] if is_slow else [])


@pytest.mark.parametrize(("model", "strategy", "num_devices"), list(_cases()))
def test_any_number_of_unequal_devices_answers_what_the_module_does(
    model: str, strategy: str, num_devices: int
) -> None:
    graph, example, expected = loaded(model)
    # A network that costs nothing: `auto` would leave small models on one device otherwise.
    cluster = ef.Cluster.local(SPEEDS[:num_devices], bandwidth="100 Gbit/s", latency=0)
    cost = CostModel(cluster=cluster, message_overhead_s=0.0)

    plan = ef.plan(graph, cluster, strategy=strategy, cost=cost)
    found = dict(tensors_of(ef.execute(plan, example.args, example.kwargs)))

    assert found.keys() == expected.keys()
    for name, theirs in expected.items():
        largest = theirs.abs().max().item()
        assert (found[name] - theirs).abs().max().item() <= TOLERANCE * largest, name
