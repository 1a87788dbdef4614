"""The reference interpreter of the tests: a whole graph, one operator after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from edgeflow.graph.aten import evaluate
from edgeflow.graph.capture import capture
from edgeflow.graph.ir import ModelGraph
from edgeflow.graph.structure import flatten_inputs, unflatten_outputs


class Calls(torch.nn.Module):
    """A module that is one function, for captures that need no weights."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def run(graph: ModelGraph, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> Any:
    """Return what the graph computes, nested as the module would return it."""
    values = {**graph.weights, **flatten_inputs(graph, args, kwargs)}
    for op in graph.operators:
        results = evaluate(op, values)
        values.update({name: value for name, value in zip(op.outputs, results, strict=True) if name})
    return unflatten_outputs(graph, values)


def assert_same(actual: Any, expected: Any, *, tolerance: float = 1e-5) -> None:
    """Check that two nests hold equal tensors and constants, and are nested alike."""
    got, got_spec = pytree.tree_flatten(actual)
    want, want_spec = pytree.tree_flatten(expected)
    assert got_spec == want_spec
    for mine, true in zip(got, want, strict=True):
        if isinstance(true, torch.Tensor):
            torch.testing.assert_close(mine, true.detach(), rtol=tolerance, atol=tolerance)
        else:
            assert mine == true


def captured(module: torch.nn.Module, *args: Any, tolerance: float = 1e-5, **kwargs: Any) -> ModelGraph:
    """Return the graph of a module in evaluation mode, checked to compute what the module does."""
    module.eval()
    graph = capture(module, args, kwargs)
    with torch.no_grad():
        assert_same(run(graph, args, kwargs), module(*args, **kwargs), tolerance=tolerance)
    return graph


def targets(graph: ModelGraph) -> list[str]:
    """Names of the operators without their overloads: ``["conv2d", "relu"]``."""
    return [op.target.split(".")[1] for op in graph.operators]
