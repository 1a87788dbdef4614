"""Properties of a small graph: who makes and reads a tensor, and what lives when."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeflow.errors import GraphError
from edgeflow.graph.ir import ModelGraph, Operator, Structure, TensorRef, TensorSpec


def operator(name: str, *read: str) -> Operator:
    arguments = tuple((key, TensorRef(value)) for key, value in zip(("self", "other"), read, strict=False))
    return Operator(name=name, target="aten.add.Tensor", arguments=arguments, outputs=(name,))


@pytest.fixture
def graph() -> ModelGraph:
    """``c = (x + w) + x + x``: three operators in a row, of which two read the input."""
    tensor = Structure(kind="tensor")
    return ModelGraph(
        name="small",
        operators=(operator("a", "x", "w"), operator("b", "a", "x"), operator("c", "b", "b")),
        specs={name: TensorSpec(shape=(2, 4)) for name in "xwabc"},
        inputs=("x",),
        outputs=("c",),
        weights={"w": np.zeros((2, 4), np.float32)},
        input_structure=Structure(kind="tuple", items=(tensor,)),
        output_structure=tensor,
    )


def test_makers_and_readers_of_tensors(graph: ModelGraph) -> None:
    a, b, c = graph.operators

    assert dict(graph.producer) == {"a": a, "b": b, "c": c}
    assert graph.consumers["x"] == (a, b)
    assert graph.consumers["b"] == (c,)
    assert graph.activation_inputs(a) == ("x",)
    assert list(graph.to_networkx().edges) == [("a", "b"), ("b", "c")]


def test_results_live_until_their_last_reader(graph: ModelGraph) -> None:
    assert graph.alive_bytes == (0, 32, 32, 32)
    assert replace(graph, outputs=("a", "c")).alive_bytes == (0, 32, 64, 64)


def test_the_fingerprint_depends_on_weights_and_not_on_the_name(graph: ModelGraph) -> None:
    other = replace(graph, weights={"w": np.ones((2, 4), np.float32)})

    assert replace(graph, name="another").fingerprint == graph.fingerprint
    assert other.fingerprint != graph.fingerprint


def test_an_argument_that_is_missing_is_named(graph: ModelGraph) -> None:
    with pytest.raises(GraphError, match="no argument 'alpha'"):
        graph.operators[0].arg("alpha")


def test_what_is_found_about_a_graph_is_found_once(graph: ModelGraph) -> None:
    calls = []

    def count(found: ModelGraph) -> int:
        calls.append(found)
        return len(found.operators)

    assert [graph.remembered(count), graph.remembered(count)] == [3, 3]
    assert calls == [graph]
