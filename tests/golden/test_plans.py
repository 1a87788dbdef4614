"""Plans of small models on one fixed cluster: a refactor leaves them as they are, to the last row.

When a change is meant to change plans, write them anew and look at the difference, one line a stage::

    pytest tests/golden --update-golden
    git diff tests/golden
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import pytest

import edgeflow as ef
from edgeflow.cluster.cluster import Device, Link
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Stage
from edgeflow.testing import zoo
from tests.strategies import STRATEGIES

_FOLDER = Path(__file__).parent / "plans"

#: Unequal devices, slow enough for `auto` to make use of all of them.
_CLUSTER = ef.Cluster(
    devices=tuple(
        Device(name=name, flops_per_second=speed * 1e9, memory_bytes=1 << 30, overhead_s=0.0)
        for name, speed in (("a", 1.0), ("b", 0.6), ("c", 0.3))
    ),
    network=Link(bandwidth_bytes_per_s=1e8, latency_s=1e-4),
)


@cache
def graph(name: str) -> ModelGraph:
    module, args, kwargs = zoo.build(name)
    return ef.capture(module, args, kwargs=kwargs)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("model", ["tiny-resnet", "tiny-vit"])
def test_plans_are_as_they_were(model: str, strategy: str, update_golden: bool) -> None:
    path = _FOLDER / f"{model}-{strategy}.json"
    plan = ef.plan(graph(model), _CLUSTER, strategy=strategy)

    if update_golden:
        path.write_text(text_of(plan.stages))

    assert plan.stages == msgspec.json.decode(path.read_bytes(), type=tuple[Stage, ...])
    assert text_of(plan.stages) == path.read_text()


def text_of(stages: tuple[Stage, ...]) -> str:
    """Return stages as JSON, one a line."""
    lines = ",\n".join(msgspec.json.encode(stage).decode() for stage in stages)
    return f"[\n{lines}\n]\n"
