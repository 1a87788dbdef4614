"""The cache of a graph's cuts."""

from __future__ import annotations

import pytest

from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import ModelGraph, Operator, Structure, TensorRef, TensorSpec
from edgeflow.sharding.cutter import cutter_of
from edgeflow.sharding.region import Region


def chain() -> ModelGraph:
    """Two equal operators in a row."""
    first, second = (
        Operator(
            name=made, target="aten.relu.default", arguments=(("self", TensorRef(read)),), outputs=(made,)
        )
        for read, made in (("x", "y"), ("y", "z"))
    )
    tensor = Structure(kind="tensor")
    return ModelGraph(
        name="chain",
        operators=(first, second),
        specs={name: TensorSpec(shape=(4,)) for name in "xyz"},
        inputs=("x",),
        outputs=("z",),
        weights={},
        input_structure=Structure(kind="tuple", items=(tensor,)),
        output_structure=tensor,
    )


def test_equal_operators_share_a_cut_under_their_own_names() -> None:
    graph = chain()
    cutter = cutter_of(graph)
    part = Region.of([(1, 3)])

    assert cutter_of(graph) is cutter
    assert cutter.cut(graph.operators[0], part) is cutter.cut(graph.operators[0], part)
    assert cutter.cut(graph.operators[1], part).needs == {"y": part}
    assert cutter.needs(graph.operators[1], part) == {"y": part}


def test_an_error_names_the_operator_that_was_asked_for() -> None:
    graph = chain()

    with pytest.raises(InvalidPlanError, match=r"^z:"):
        cutter_of(graph).cut(graph.operators[1], Region.of([(1, 5)]))
