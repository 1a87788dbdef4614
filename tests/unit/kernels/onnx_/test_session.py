"""ONNX graphs, run by onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.session import Session, SessionCache


def test_a_tensor_that_leaves_and_is_padded_further_on_is_there() -> None:
    """onnxruntime takes names away when it fuses a pad into a convolution; one that leaves must stay."""
    graph = Graph()
    x = graph.input((1, 2, 4, 4), "float32")
    made = graph.unary("Relu", graph.add(graph.unary("Neg", x), x))
    kernel = graph.weight(np.ones((2, 2, 3, 3), np.float32))
    padded = graph.pad(made, [0, 0, 1, 1], [0, 0, 1, 1], 0.0)
    graph.output(made)
    graph.output(graph.node("Conv", [padded, kernel], (1, 2, 4, 4), "float32"))
    graph.output(made)
    graph.output(x)
    image = np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)
    first, _, again, given = Session(graph, threads=1).run([image])
    assert not first.any() and np.array_equal(first, again)
    assert np.array_equal(given, image)


def test_equal_graphs_on_equal_weights_share_a_session() -> None:
    cache = SessionCache(threads=1)

    def doubled() -> Graph:
        graph = Graph()
        graph.output(graph.mul(graph.input((2,), "float32"), graph.weight(np.full(2, 2, np.float32))))
        return graph

    first = cache.get(doubled(), {"w0": "same"})
    assert cache.get(doubled(), {"w0": "same"}) is first
    assert cache.get(doubled(), {"w0": "other"}) is not first
    assert cache.get(doubled(), None) is not first
