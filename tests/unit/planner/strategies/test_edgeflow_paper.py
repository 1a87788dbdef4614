"""Layer by layer: each division is the best one given what came before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement, pairwise
from math import isfinite

import msgspec
import pytest
from torch import Tensor, nn

from edgeflow.cluster.cluster import Cluster, Device, Link
from edgeflow.cost import CostModel
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Piece, Shard, Stage
from edgeflow.plan.program import CLIENT
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.planner import plan
from edgeflow.planner.search.boundaries import Bounds, Layer
from edgeflow.planner.strategies.edgeflow_paper import Division
from edgeflow.planner.task import Task
from edgeflow.sharding.region import Interval
from tests.unit.planner.graphs import captured, graph


def cluster_of(
    speeds: Sequence[float],
    *,
    bandwidth: float = 1e12,
    latency_s: float = 0.0,
    links: tuple[object, ...] = (),
) -> Cluster:
    """Devices whose kernels take time by their FLOPs alone, so that seconds are linear in rows."""
    devices = tuple(
        Device(
            name=f"d{rank}",
            flops_per_second=speed * 1e9,
            memory_bytes=1 << 30,
            memory_bandwidth_bytes_per_s=1e15,
            overhead_s=0.0,
        )
        for rank, speed in enumerate(speeds)
    )
    network = Link(bandwidth_bytes_per_s=bandwidth, latency_s=latency_s)
    return Cluster(devices=devices, network=network, links=links)  # type: ignore[arg-type]


def task_of(model: ModelGraph, cluster: Cluster) -> Task:
    return Task(graph=model, cluster=cluster, cost=CostModel(cluster=cluster, message_overhead_s=0.0))


def one_layer(rows: int) -> ModelGraph:
    return captured(nn.Conv2d(2, 4, 3, padding=1), 1, 2, rows, 8)


def finish_s(task: Task, bounds: Sequence[int]) -> float:
    """When the last device is done with its rows of the only layer: from real cuts, not from strips."""
    (op,) = task.graph.operators
    full = task.analysis.full(op.output)
    times = []
    for rank, (start, stop) in enumerate(pairwise(bounds)):
        if stop > start:
            piece = Piece(full.replace(2, Interval(start, stop)))
            stage = Stage(name="", kind="", operators=(op.name,), shards=())
            work = stage_kernels(task.graph, stage, Shard(rank, ((op.output, piece),)))
            num_bytes = 4 * dict(work.needs)["input"].num_elements
            arrival = task.cluster.path(CLIENT, rank).seconds(num_bytes)
            times.append(arrival + sum(task.cost.kernel_s(rank, kernel) for kernel in work.kernels))
    return max(times)


@pytest.mark.parametrize("rows", [3, 12])
@pytest.mark.parametrize("speeds", [(1.0, 1.0), (1.0, 0.5, 0.25), (0.1, 1.0, 0.4), (0.05, 0.04, 0.03)])
@pytest.mark.parametrize(("bandwidth", "latency_s"), [(1e12, 0.0), (1e8, 1e-5), (1e7, 0.0), (1e6, 1e-3)])
def test_one_layer_is_divided_as_well_as_can_be(
    rows: int, speeds: tuple[float, ...], bandwidth: float, latency_s: float
) -> None:
    task = task_of(one_layer(rows), cluster_of(speeds, bandwidth=bandwidth, latency_s=latency_s))

    divided = Division(task, task.cluster.ranks)

    (op,) = task.graph.operators
    found = finish_s(task, divided.bounds[op.output])
    cuts = combinations_with_replacement(range(rows + 1), len(speeds) - 1)
    assert found == pytest.approx(min(finish_s(task, (0, *cut, rows)) for cut in cuts), rel=1e-6)
    assert max(end for end in divided.ready_s[op.output] if isfinite(end)) == (pytest.approx(found, rel=1e-9))


@pytest.mark.parametrize("speeds", [(1.0, 1.0), (1.0, 0.5, 0.25), (0.1, 1.0, 0.4)])
def test_the_predicted_latency_of_one_layer_is_what_was_looked_for(speeds: tuple[float, ...]) -> None:
    """On a network that takes no time."""
    task = task_of(one_layer(12), cluster_of(speeds, bandwidth=1e15))

    made = Division(task, task.cluster.ranks).plan()

    bounds = Division(task, task.cluster.ranks).bounds[task.graph.outputs[0]]
    host_s = 4 * 4 * 12 * 8 / 4e9 + 4 * 2 * 12 * 8 / 4e9 + 2 * 20e-6  # the client's, on d0's host
    assert finish_s(task, bounds) <= made.predicted_latency_s <= finish_s(task, bounds) + host_s


@pytest.mark.parametrize("speeds", [(1.0, 1.0), (0.3, 0.2, 0.05)])
@pytest.mark.parametrize("name", ["concat-dag", "tiny-resnet", "tiny-vit"])
def test_every_layer_is_divided_as_well_as_can_be_after_those_before(
    name: str, speeds: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And if it can stay in the same places without losing time, it does."""
    divide = Layer.divide
    stayed = []

    def checked(layer: Layer) -> Bounds:
        found = divide(layer)
        size = layer.size
        cuts = combinations_with_replacement(range(size + 1), len(speeds) - 1)
        times = {
            bounds: max(end for end in layer.finish_s(bounds) if isfinite(end))
            for bounds in ((0, *cut, size) for cut in cuts)
        }
        least = min(times.values())
        assert times[found] == pytest.approx(least, rel=1e-6)
        if layer.wanted is not None and times[layer.wanted] <= least:
            assert found == layer.wanted
            stayed.append(layer)
        return found

    monkeypatch.setattr(Layer, "divide", checked)
    Division(task_of(graph(name), cluster_of(speeds, bandwidth=1e8, latency_s=1e-5)), range(len(speeds)))

    assert stayed


def test_what_follows_elementwise_stays_where_it_is() -> None:
    model = graph("tiny-resnet")
    task = task_of(model, cluster_of((1.0, 0.6, 0.3), bandwidth=1e10))

    divided = Division(task, task.cluster.ranks)

    relus = [op for op in model.operators if "relu" in op.target]
    assert relus
    assert all(divided.bounds[op.output] == divided.bounds[op.inputs[0]] for op in relus)


@pytest.mark.parametrize("name", ["tiny-resnet", "concat-dag", "unet", "tiny-vit", "tiny-bert", "mlp"])
@pytest.mark.parametrize("speeds", [(0.1, 0.1), (0.1, 0.06, 0.02), (0.03,) * 5])
def test_boundaries_hold_all_positions_in_order(name: str, speeds: tuple[float, ...]) -> None:
    task = task_of(graph(name), cluster_of(speeds, bandwidth=1e8, latency_s=1e-4))

    divided = Division(task, task.cluster.ranks)

    assert set(divided.bounds) == {
        op.output for op in task.graph.operators if op.output in task.analysis.labels
    }
    for tensor, bounds in divided.bounds.items():
        size = task.graph.specs[tensor].shape[task.analysis.labels[tensor]]
        assert (bounds[0], bounds[-1]) == (0, size)
        assert list(bounds) == sorted(bounds)
    assert [op for layer in divided.layers for op in layer] == list(task.graph.operators)


def test_it_knows_no_barrier() -> None:
    """A plan's stages are the layers, so that a device sends as soon as it is done with one."""
    made = plan(
        graph("tiny-resnet"), Cluster.local([0.02] * 3, bandwidth="10 Gbit/s"), strategy="edgeflow_paper"
    )
    convolutions = [op for op in made.graph.operators if ".conv" in op.target]

    with_rows = [stage for stage in made.stages if stage.kind == "rows"]

    assert all(sum(".conv" in made.graph.by_name[n].target for n in s.operators) <= 1 for s in with_rows)
    assert len(with_rows) >= len(convolutions)


def test_a_device_without_the_memory_is_left_out() -> None:
    cluster = Cluster.local([0.02, 0.02, 0.02], bandwidth="10 Gbit/s")
    small = msgspec.structs.replace(cluster.devices[1], memory_bytes=50_000)
    cluster = msgspec.structs.replace(cluster, devices=(cluster.devices[0], small, cluster.devices[2]))

    assert plan(graph("tiny-resnet"), cluster, strategy="edgeflow_paper").devices == (0, 2)


def test_devices_without_a_link_do_not_share_layers() -> None:
    cluster = cluster_of((0.02, 0.02, 0.02), bandwidth=1e9, links=(("d1", "d2", None),))

    made = plan(graph("tiny-resnet"), cluster, strategy="edgeflow_paper")

    assert made.devices == (0, 1)


class _Ranked(nn.Module):
    """Channels in order of their values; nobody reads the values themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.after(self.before(x_NCHW).sort(dim=1).indices.float())


def test_an_operator_whose_first_output_nobody_reads_is_divided() -> None:
    model = captured(_Ranked(), 1, 3, 32, 32)
    (ranked,) = (op for op in model.operators if op.target == "aten.sort.default")
    assert ranked.outputs[0] == ""

    made = plan(model, cluster_of((0.1, 0.06, 0.04)), strategy="edgeflow_paper")

    (stage,) = (stage for stage in made.stages if ranked.name in stage.operators)
    assert stage.kind == "rows" and len(stage.shards) == 3
