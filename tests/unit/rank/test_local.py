"""`execute`: every device's program in this process, and the answer as the module would give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgeflow as ef
from edgeflow.errors import ConfigError, InvalidPlanError
from edgeflow.graph.ir import Array, ModelGraph
from edgeflow.kernels import Executor, Runnable, make_executor
from edgeflow.kernels.base import Weights
from edgeflow.plan.program import CLIENT, Buffer, Program, Receive, Send
from edgeflow.rank.local import execute, run_programs, weights_of
from edgeflow.sharding.region import Region
from tests.strategies import STRATEGIES
from tests.unit.plan.tiny import cut, mlp, plan, stage, whole

_X = torch.linspace(-1, 1, 8).reshape(2, 4)


def test_a_tensor_comes_back_as_a_tensor() -> None:
    made = ef.plan(mlp(), ef.Cluster.local([1.0, 0.5]), strategy="megatron")

    answer = execute(made, (_X,))

    assert isinstance(answer, Tensor)
    assert answer.shape == (2, 4)


class _Named(nn.Module):
    """Two inputs, one by keyword, and named answers that nest."""

    def forward(self, x: Tensor, *, scale: Tensor) -> dict[str, Any]:
        y = x * scale
        return {"sum": y.sum(dim=1), "parts": (y, [y.relu(), x])}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_structures_come_back_as_the_module_makes_them(strategy: str) -> None:
    graph = ef.capture(_Named(), (_X,), kwargs={"scale": torch.tensor(3.0)})
    made = ef.plan(graph, ef.Cluster.local([1.0, 0.5, 0.2]), strategy=strategy)

    answer = execute(made, (_X,), {"scale": torch.tensor(0.5)})

    torch.testing.assert_close(answer["sum"], 0.5 * _X.sum(dim=1))
    y, (positive, same) = answer["parts"]
    torch.testing.assert_close(y, 0.5 * _X)
    torch.testing.assert_close(positive, (0.5 * _X).relu())
    assert torch.equal(same, _X)


def test_inputs_are_left_as_they_were() -> None:
    before = _X.clone()

    execute(ef.plan(mlp(), ef.Cluster.local([1.0, 1.0])), (_X,))

    assert torch.equal(_X, before)


def test_torch_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        execute(ef.plan(mlp(), ef.Cluster.local()), (_X,))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_arrays_serve_as_inputs() -> None:
    made = ef.plan(mlp(), ef.Cluster.local())

    torch.testing.assert_close(execute(made, (_X.numpy(),)), execute(made, (_X,)))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((torch.zeros(3, 4),), r"captured for shape \(2, 4\), got \(3, 4\)"),
        ((torch.zeros(2, 4, dtype=torch.float64),), "captured for float32, got float64"),
        ((), "expected 1 items, got 0"),
    ],
)
def test_inputs_that_do_not_fit(args: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        execute(ef.plan(mlp(), ef.Cluster.local()), args)


class _Spy:
    """An executor that counts what it is given, and lets torch do the work."""

    name = "spy"

    def __init__(self) -> None:
        self.weights: list[Weights] = []

    def prepare(self, program: Program, weights: Weights, hashes: object = None) -> Runnable:
        self.weights.append(weights)
        return make_executor("torch").prepare(program, weights)


def test_another_back_end_may_be_given_and_gets_only_the_slices_it_needs() -> None:
    graph = mlp()
    columns = cut(graph, "relu", 1, {0: (0, 4), 1: (4, 6)})
    made = plan(
        graph,
        stage("columns", ["linear", "relu"], columns),
        stage("rest", ["linear_1", "relu_1"], whole(graph, "relu_1", 0)),
    )
    spy: Executor = _Spy()

    execute(made, (_X,), executor=spy)

    assert isinstance(spy, _Spy)
    shapes = [sorted(value.shape for value in weights.values()) for weights in spy.weights]
    assert shapes == [[], [(4,), (4,), (4, 4), (4, 6)], [(2,), (2, 4)]]  # client, device 0, device 1


def test_slices_of_weights_are_the_numbers_of_the_graph() -> None:
    graph = mlp()
    made = plan(
        graph,
        stage("all", [op.name for op in graph.operators], cut(graph, "relu_1", 1, {0: (0, 1), 1: (1, 4)})),
    )

    for (tensor, region), value in weights_of(graph, made.programs[1]).items():
        slices = tuple(slice(*interval) for interval in region.intervals)
        np.testing.assert_array_equal(value, graph.weights[tensor][slices])


@dataclass
class _Stuck:
    """Programs that wait for each other."""

    graph: ModelGraph

    @property
    def programs(self) -> Mapping[int, Program]:
        buffers = (Buffer("x", Region.full((2,)), "float32"),)

        def wait_then_send(rank: int, peer: int) -> Program:
            frame = {
                "buffer": 0,
                "tensor": "x",
                "region": Region.full((2,)),
                "dtype": "float32",
                "stage": "s",
            }
            return Program(
                rank=rank,
                instructions=(
                    Receive(**frame, peer=peer, tag=0),  # type: ignore[arg-type]
                    Send(**frame, peer=peer, tag=0),  # type: ignore[arg-type]
                ),
                buffers=buffers,
            )

        return {CLIENT: wait_then_send(CLIENT, 0), 0: wait_then_send(0, CLIENT)}


def test_programs_that_wait_for_each_other_are_an_error() -> None:
    with pytest.raises(InvalidPlanError, match="programs wait for each other"):
        execute(_Stuck(mlp()), (_X,))


def test_flat_outputs_by_name() -> None:
    made = ef.plan(mlp(), ef.Cluster.local())
    (name,) = mlp().inputs

    arrays: dict[str, Array] = run_programs(mlp(), made.programs, {name: _X.numpy()}, make_executor("torch"))

    assert list(arrays) == list(mlp().outputs)
