"""How much of the architectures that people run is split: by any dim, and by rows alone.

Rows are what most strategies split, so what counts is that a split of the image's rows is carried from the
input to the end, through norms, squeezes, shuffles, windows and pyramids, and never begun anew on the way.
"""

from __future__ import annotations

from typing import Any

import pytest

from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.planner.analysis import Analysis, analysis_of
from edgeflow.planner.coverage import coverage
from edgeflow.sharding.region import Interval
from edgeflow.testing import zoo_vision
from tests.numerics.test_models import loaded

#: Of a model's FLOPs: what some dim of a tensor, or a sum, splits.
_LEAST_SPLIT = 0.999
#: Of a model's FLOPs: what rows split, sums over rows included.
_LEAST_ROWS = 0.99
#: Dims that split an image or a clip of it: rows, frames, samples.
_ROWS = 2

_SMALL = ("tiny-resnet", "unet", "concat-dag", "hf-resnet-small")
_LARGE = ("resnet50", "hf-resnet50")
_MODELS: list[Any] = [
    *(name for name in (*_SMALL, *zoo_vision.VISION) if name in _SMALL or name.endswith("-small")),
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (*_LARGE, *zoo_vision.VISION)
        if not name.endswith("-small")
    ),
]


@pytest.fixture(scope="module", params=_MODELS)
def graph(request: pytest.FixtureRequest) -> ModelGraph:
    return loaded(request.param)[0]


def test_nearly_all_work_can_be_split(graph: ModelGraph) -> None:
    found = coverage(graph)
    whole = {item.target: item.num_whole for item in found.barriers}

    assert found.split_share >= _LEAST_SPLIT, whole
    assert all(item.has_rule for item in found.operators), whole


def test_rows_are_carried_from_the_image_to_the_end(graph: ModelGraph) -> None:
    found = analysis_of(graph)
    (image,) = graph.inputs

    carried = {image}
    whole = []
    for op in graph.operators:
        comes_from_rows = any(name in carried for name in graph.activation_inputs(op))
        if op.output in found.labels and comes_from_rows:
            carried.add(op.output)
        elif not (found.sums_along(op, found.labels) and comes_from_rows):
            whole.append((found.flops[op.name] / found.total_flops, op.name, graph.specs[op.output].shape))

    assert found.labels[image] == _ROWS
    assert sum(share for share, _, _ in whole) <= 1 - _LEAST_ROWS, sorted(whole, reverse=True)[:5]


def test_halves_of_the_rows_are_halves_of_the_work(graph: ModelGraph) -> None:
    """Labels that are carried but repeat the work of the other half would be worth nothing."""
    found = analysis_of(graph)

    costs = [(op, _half(graph, found, op)) for op in graph.operators if op.output in found.labels]

    total = sum(found.flops[op.name] for op, _ in costs)
    assert sum(cost for _, cost in costs) <= 0.6 * total


def _half(graph: ModelGraph, found: Analysis, op: Operator) -> int:
    """FLOPs of the upper half of an operator's labelled dim."""
    dim = found.labels[op.output]
    region = found.full(op.output)
    length = region[dim].length
    return found.cutter.cut(op, region.replace(dim, Interval(0, -(-length // 2)))).flops
