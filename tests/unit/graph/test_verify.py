"""What every graph must satisfy, and the views of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import CyclicGraphError, GraphError
from edgeflow.graph.ir import ModelGraph, Operator, Structure, TensorRef, TensorSpec
from edgeflow.graph.verify import verify_graph


def relu(name: str, source: str) -> Operator:
    return Operator(
        name=name, target="aten.relu.default", arguments=(("self", TensorRef(source)),), outputs=(name,)
    )


def add(name: str, first: str, second: str) -> Operator:
    arguments = (("self", TensorRef(first)), ("other", TensorRef(second)), ("alpha", 1))
    return Operator(name=name, target="aten.add.Tensor", arguments=arguments, outputs=(name,))


def diamond(**changes: Any) -> ModelGraph:
    """``y = relu(a) + w`` where ``a = relu(x)`` is read by both."""
    graph = ModelGraph(
        name="diamond",
        operators=(relu("a", "x"), relu("b", "a"), add("c", "a", "w"), add("y", "b", "c")),
        specs={name: TensorSpec(shape=(2, 3)) for name in ("x", "w", "a", "b", "c", "y")},
        inputs=("x",),
        outputs=("y",),
        weights={"w": np.zeros((2, 3), dtype=np.float32)},
        input_structure=Structure(kind="tuple"),
        output_structure=Structure(kind="tensor"),
    )
    return replace(graph, **changes)


def test_a_sound_graph_passes() -> None:
    verify_graph(diamond())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operators": (relu("a", "x"), relu("a", "x"))}, "two operators are called 'a'"),
        ({"operators": (relu("y", "z"),)}, "'y' reads 'z', which nothing makes"),
        ({"operators": (relu("y", "x"), relu("x", "y"))}, "'x' is made twice"),
        ({"operators": ()}, "output 'y' is made by nothing"),
        ({"specs": {}}, "has no shape and dtype"),
        ({"weights": {"w": np.zeros((3, 2))}}, r"shape \(3, 2\), its spec says \(2, 3\)"),
        ({"outputs": ("y", "a")}, "holds 1 tensors, the graph has 2 outputs"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        verify_graph(diamond(**changes))


def test_operators_in_a_circle() -> None:
    with pytest.raises(CyclicGraphError, match="'a' reads 'b', which is made after it"):
        verify_graph(diamond(operators=(relu("a", "b"), relu("b", "a"), relu("y", "b"))))


def test_who_makes_and_who_reads_a_tensor() -> None:
    graph = diamond()

    assert graph.producer["c"].name == "c"
    assert [op.name for op in graph.consumers["a"]] == ["b", "c"]
    assert graph.activation_inputs(graph.by_name["c"]) == ("a",)
    assert graph.weight_bytes == 2 * 3 * 4


def test_the_networkx_view_has_an_edge_a_tensor() -> None:
    dag = diamond().to_networkx()

    assert sorted(dag.edges) == [("a", "b"), ("a", "c"), ("b", "y"), ("c", "y")]
    assert dag.edges["a", "c"] == {"tensor": "a", "num_bytes": 24}
    assert dag.nodes["y"]["target"] == "aten.add.Tensor"
