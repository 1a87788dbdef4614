"""Random inputs follow the graph's shapes, dtypes and nesting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgeflow as ef
from edgeflow.models.inputs import random_inputs, run_graph

torch = pytest.importorskip("torch")


class Nested(torch.nn.Module):
    def forward(self, x: Any, pair: tuple[Any, Any], *, flags: Any) -> dict[str, Any]:
        ids, table = pair
        return {"sum": x + torch.nn.functional.embedding(ids, table), "kept": torch.where(flags, x, 0.0)}


@pytest.fixture(scope="module")
def graph() -> ef.ModelGraph:
    pair = (torch.tensor([1, 0, 2]), torch.randn(3, 4))
    flags = torch.ones(3, 4, dtype=torch.bool)
    return ef.capture(Nested(), (torch.randn(3, 4), pair), kwargs={"flags": flags})


def test_floats_are_random_integers_zero_and_booleans_true(graph: ef.ModelGraph) -> None:
    (x, (ids, table)), kwargs = random_inputs(graph, seed=3)
    assert x.shape == (3, 4) and x.dtype == np.float32 and x.std() > 0.3
    assert ids.tolist() == [0, 0, 0] and ids.dtype == np.int64
    assert table.shape == (3, 4)
    assert kwargs["flags"].all() and kwargs["flags"].dtype == np.bool_


def test_the_graph_answers_them_as_the_module_does(graph: ef.ModelGraph) -> None:
    args, kwargs = random_inputs(graph, seed=3)
    (x, (ids, table)), flags = args, kwargs["flags"]
    answer = run_graph(graph, args, kwargs)
    np.testing.assert_allclose(answer["sum"], x + table[ids], rtol=1e-6)
    np.testing.assert_allclose(answer["kept"], np.where(flags, x, 0.0), rtol=1e-6)
